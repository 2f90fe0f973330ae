"""`lakehouse log`, `tables` and `show`: what is in the lake."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import many, open_lake, print_json, print_table, size
from lakehouse.cli.defined import about_model, definitions_in, models_in, show_view, tell_model, views_in
from lakehouse.core.definition import Definition
from lakehouse.core.layout import MODELS
from lakehouse.core.moments import render
from lakehouse.core.types import type_text

_TOLD = 2  # packs of one table that are told one by one

if TYPE_CHECKING:
    from lakehouse.core.commit import Commit
    from lakehouse.core.log import Log, TableLog
    from lakehouse.lake import Lake


@click.command("log")
@click.argument("source", required=False)
@click.option("-n", "--last", type=int, default=20, show_default=True, help="How many; 0 for all.")
@click.option("--failed", is_flag=True, help="Only observations that yielded no data.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the commits as they are recorded.")
@lake_option
@click.pass_context
def log_command(ctx: click.Context, source: str | None, last: int, failed: bool, as_json: bool) -> None:
    """List the loads of the sources, the newest last."""
    lake = open_lake(ctx)
    logs = _logs(lake, source)
    found = sorted((c for log in logs for c in log.commits), key=lambda c: (c.effective_at, c.source, c.seq))
    found = [c for c in found if not failed or c.outcome == "failed"]
    found = found[-last:] if last else found
    if as_json:
        print_json([c.record | {"digest": c.digest, "outcome": c.outcome} for c in found])
        return
    print_table(
        ["source", "load", "observed (UTC)", "outcome", "what changed"],
        [
            (c.source, c.seq, f"{c.observed_at:%Y-%m-%d %H:%M:%S}", c.outcome, story(c, _defined(logs, c)))
            for c in found
        ],
        right=("load",),
    )


@click.command("tables")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def tables_command(ctx: click.Context, as_json: bool) -> None:
    """List the tables, and the models that are views."""
    logs = _logs(open_lake(ctx), None)
    views = views_in(logs)
    found = [
        _about(log, table)
        for log in logs
        for name, table in log.tables.items()
        if log.source != MODELS or name not in views
    ]
    if as_json:
        print_json(found + [_about_view(view) for view in views.values()])
        return
    print_table(
        ["table", "rows", "loads", "disposition", "key", "size", "newest (UTC)"],
        [
            (
                t["table"],
                f"{t['rows']:,}",
                t["loads"],
                t["disposition"],
                ", ".join(t["key"]),
                size(t["size_bytes"]),
                t["effective_at"][:19].replace("T", " "),
            )
            for t in found
        ]
        + [(f"{MODELS}.{v.name}", "", "", "view", ", ".join(v.key), "", "") for v in views.values()],
        right=("rows", "loads", "size"),
    )


@click.command("show")
@click.argument("table")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def show_command(ctx: click.Context, table: str, as_json: bool) -> None:
    """Show one table (SOURCE.TABLE): columns over time, rows, files, loads; of a model, what it reads too."""
    lake = open_lake(ctx)
    models = models_in([lake.log(MODELS)]) if table.startswith(f"{MODELS}.") else {}
    model = models.get(table.removeprefix(f"{MODELS}."))
    if model is not None and model.is_view:
        show_view(lake, model, as_json=as_json)
        return
    log, name = lake.table(table)
    found = _about(log, log.tables[name]) | {"columns": _columns(log.tables[name])}
    if as_json:
        print_json(found | (about_model(model) if model else {}))
        return
    click.echo(f"{found['table']}: {many(found['rows'], 'row')}, {found['disposition']}", nl=False)
    click.echo(f", key {', '.join(found['key'])}" if found["key"] else ", no key")
    if model is not None:
        tell_model(model)
    click.echo(
        f"loads {found['first_seq']} to {found['last_seq']} ({found['loads']} touched it), "
        f"{many(found['files'], 'file')}, {size(found['size_bytes'])}\n"
    )
    print_table(
        ["column", "type", "first load", "last load", "types over time"],
        [
            (c["name"], _short(type_text(c["type"])), c["first_seq"], c["last_seq"], _changes(c["types"]))
            for c in found["columns"]
        ],
        right=("first load", "last load"),
    )


def _logs(lake: "Lake", source: str | None) -> list["Log"]:
    from lakehouse.duck.catalog import read_logs
    from lakehouse.errors import NotFoundError

    if source is not None:
        if source not in lake.sources():
            raise NotFoundError(
                f"there is no source {source!r}", hint=f"Sources: {', '.join(lake.sources()) or 'none yet'}."
            )
        return [lake.log(source)]
    logs, broken = read_logs(lake)
    for trouble in broken.values():
        click.echo(f"warning: {trouble}", err=True)
    return list(logs.values())


def story(commit: "Commit", defined: Sequence[str] = ()) -> str:
    """What a load changed, in a few words.

    Args:
        commit: The load.
        defined: What it did to definitions of models, in words.
    """
    if commit.failure is not None:
        return commit.failure
    pieces = [] if commit.reverts_to is None else [f"reverted to load {commit.reverts_to}"]
    pieces += [f"{name}: one part for loads {p.first:,} to {p.last:,} ({many(p.rows, 'row')})"
              for name, packs in commit.packs.items() for p in packs[:_TOLD]]  # fmt: skip
    pieces += [
        f"{name}: {len(packs):,} parts in all" for name, packs in commit.packs.items() if len(packs) > _TOLD
    ]
    if commit.retention:
        spans = commit.retention.get("expired", ())
        lost = sum(last - first + 1 for first, last in spans)
        return f"{commit.retention.get('policy')}: {many(lost, 'state')} let go"
    for name, change in commit.tables.items():
        signs = (
            ("+", change.counts.get("appeared", 0) + change.counts.get("appended", 0)),
            ("~", change.counts.get("changed", 0)),
            ("-", change.counts.get("disappeared", 0)),
        )
        said = " ".join(f"{sign}{n:,}" for sign, n in signs if n)
        if not said and (change.parts or change.base):
            said = "new snapshot"
        if said:
            pieces.append(f"{name} {said} ({many(change.counts.get('rows', 0), 'row')})")
    pieces += [f"{table}: {many(d['rows'], 'row')} discarded" for table, d in commit.discarded.items()]
    pieces += defined
    return "; ".join(pieces) or "nothing new"


def _defined(logs: Sequence["Log"], commit: "Commit") -> list[str]:
    log = next(log for log in logs if log.source == commit.source)
    return definitions_in(log, commit) if log.source == MODELS else []


def _about_view(view: Definition) -> dict[str, Any]:
    return {"table": f"{MODELS}.{view.name}", "disposition": "view"} | about_model(view)


def _about(log: "Log", table: "TableLog") -> dict[str, Any]:
    return {
        "table": f"{log.source}.{table.name}",
        "rows": table.last.counts.get("rows", 0),
        "disposition": table.last.disposition,
        "key": list(table.eras[-1].key),
        "loads": len(table.changes),
        "first_seq": table.first_seq,
        "last_seq": table.last_seq,
        "files": len(table.files),
        "size_bytes": sum(file.size_bytes for file in table.files),
        "effective_at": render(log.commits[table.last_seq - 1].effective_at),
    }


def _columns(table: "TableLog") -> list[dict[str, Any]]:
    """Each column with the loads it was in, and the types it had from which load on."""
    found: dict[str, dict[str, Any]] = {
        c.name: {"name": c.name, "type": c.type, "source_name": c.source_name, "types": []}
        for c in table.columns
    }
    before = None
    for seq, change in table.changes:
        if change.columns is not before:
            for column in change.columns:
                types = found[column.name]["types"]
                if not types or types[-1]["type"] != column.type:
                    types.append({"from_seq": seq, "type": column.type})
            before = change.columns
        for column in change.columns:
            found[column.name].setdefault("first_seq", seq)
            found[column.name]["last_seq"] = seq
    return list(found.values())


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _changes(types: list[dict[str, Any]]) -> str:
    return (
        ", ".join(f"{_short(type_text(t['type']))} from {t['from_seq']}" for t in types)
        if len(types) > 1
        else ""
    )
