"""The catalogue: what a lake and its models are, as one JSON value.

It is worked out from the lake alone: its logs, its tags, and the failures that tests of models left. No clock,
no machine and no file of a project has a part in it: a mirror can be told about too, and the same lake gives
the same bytes.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lakehouse.core.moments import render
from lakehouse.errors import FormatError
from lakehouse.models.model import SOURCE
from lakehouse.models.site import defined, tables

if TYPE_CHECKING:
    from datetime import datetime

    from lakehouse.core.commit import Commit
    from lakehouse.core.definition import Definition
    from lakehouse.core.log import Log
    from lakehouse.core.tag import Tag
    from lakehouse.errors import IntegrityError
    from lakehouse.lake import Lake

VERSION = 1
_RECENT, _FAILED = 60, 60  # loads of a source that are told one by one


def collect(lake: "Lake", *, title: str = "") -> dict[str, Any]:
    """The catalogue of a lake.

    Args:
        lake: The lake, or a mirror of one.
        title: What to call it.

    Returns:
        A JSON value: `sources`, each with its loads, failures and the `instants` of the loads that are
        spoken of; `tables`, with models, each with columns, drift, row counts, inputs, lineage and
        tests; `tags`; `problems`, for what cannot be read.
    """
    from lakehouse.duck.asof import read_tags
    from lakehouse.duck.catalog import read_logs

    logs, broken = read_logs(lake)
    tags, bad_tags = read_tags(lake.store)
    definitions, unread = _definitions(logs)
    gone = "source" if unread else "dropped"
    entries = _entries(logs, definitions, defined.last_failures(lake) if definitions else {}, gone)
    for name, readers in _readers(entries).items():
        if name in entries:
            entries[name]["read_by"] = readers
    ordered = sorted((*logs, *broken), key=lambda source: (source != SOURCE, source))
    return {
        "catalogue": VERSION,
        "title": title,
        "lake_id": lake.id,
        "sources": [_source(logs[s], entries) if s in logs else _broken(s, broken[s]) for s in ordered],
        "tables": list(entries.values()),
        "tags": [_tag(tag) for tag in tags.values()],
        "problems": [
            *(_problem(f"source {source}", error) for source, error in broken.items()),
            *(_problem(f"tag {tag}", error) for tag, error in bad_tags.items()),
            *(_problem("models", error) for error in unread),
        ],
    }


def _definitions(logs: "Mapping[str, Log]") -> "tuple[dict[str, Definition], list[IntegrityError]]":
    from lakehouse.core.definition import read_definitions

    try:
        return read_definitions(logs[SOURCE].pipeline if SOURCE in logs else None), []
    except FormatError as error:
        return {}, [error]


def _entries(
    logs: "Mapping[str, Log]",
    models: "Mapping[str, Definition]",
    failures: Mapping[str, Mapping[str, int]],
    gone: str,
) -> dict[str, dict[str, Any]]:
    """Every table and model by `source.table`: models first, then by source, in order of name.

    Args:
        logs: By source.
        models: Their definitions.
        failures: What their tests found.
        gone: The kind of a table of `models` that has no definition.
    """
    limits = tables.Limits.for_tables(sum(len(log.tables) for log in logs.values()))
    found = {
        f"{source}.{name}": {"kind": gone if source == SOURCE else "source"}
        | tables.described(log, table, limits)
        for source, log in logs.items()
        for name, table in log.tables.items()
    }
    for name, model in models.items():
        stored = None if model.is_view else found.get(f"{SOURCE}.{name}")
        found[f"{SOURCE}.{name}"] = defined.described(model, stored, failures.get(name, {}))
    return {name: found[name] for name in sorted(found, key=lambda n: (n.partition(".")[0] != SOURCE, n))}


def _readers(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, entry in entries.items():
        for read in entry.get("reads", ()):
            found.setdefault(read["name"], []).append(name)
    return found


def _source(log: "Log", entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    own = [entry for name, entry in entries.items() if name.partition(".")[0] == log.source]
    outcomes = [commit.outcome for commit in log.commits]
    recent = list(log.commits[max(log.head - _RECENT, 0) :])
    failed = [c for c in log.commits if c.failure is not None][-_FAILED:]
    named = {commit.seq for commit in (*recent, *failed)} | {1, log.head} & {*range(1, log.head + 1)}
    for entry in own:
        named |= tables.loads_named(entry) if "points" in entry else set()
    named |= _read_positions(log, entries.values())
    return {
        "name": log.source,
        "head": log.head,
        "digest": log.digest,
        "loads": sum(outcome in {"loaded", "unchanged"} for outcome in outcomes),
        "unchanged": outcomes.count("unchanged"),
        "failures": outcomes.count("failed"),
        "expired": sum(last - first + 1 for first, last in log.expired),
        "tables": [entry["name"] for entry in own],
        "recent": [_load(commit) for commit in reversed(recent)],
        "failed": [{"seq": c.seq, "failure": c.failure} for c in reversed(failed)],
        "instants": {str(seq): _instant(log.commits[seq - 1].effective_at) for seq in sorted(named)},
    }


def _read_positions(log: "Log", entries: Iterable[Mapping[str, Any]]) -> set[int]:
    """The positions of a source that models read it at."""
    read = [i for e in entries for i in e.get("inputs", ()) if i["name"].partition(".")[0] == log.source]
    return {i["seq"] for i in read if 0 < i.get("seq", 0) <= log.head}


def _load(commit: "Commit") -> dict[str, Any]:
    figures: dict[str, int] = {}
    for change in commit.tables.values():
        for name in ("appeared", "appended", "changed", "disappeared"):
            if change.counts.get(name):
                figures[name] = figures.get(name, 0) + change.counts[name]
    entry = {"seq": commit.seq, "outcome": commit.outcome, "tables": len(commit.tables)} | figures
    return entry | ({} if commit.reverts_to is None else {"reverts_to": commit.reverts_to})


def _broken(source: str, error: "IntegrityError") -> dict[str, Any]:
    return {"name": source, "tables": [], "instants": {}, "problem": str(error)}


def _tag(tag: "Tag") -> dict[str, Any]:
    entry: dict[str, Any] = {"name": tag.name, "created_at": _instant(tag.created_at)}
    said = {"as_of": tag.as_of, "note": tag.note}
    return entry | {n: v for n, v in said.items() if v} | {"positions": dict(sorted(tag.positions.items()))}


def _problem(about: str, error: "IntegrityError") -> dict[str, str]:
    return {"about": about, "message": error.message, "hint": error.hint}


def _instant(moment: "datetime") -> str:
    """As the format writes it, without a fraction that is 0."""
    return render(moment).replace(".000000Z", "Z")
