"""Histories into loads: every version of a scraped file, from git or a folder, becomes a commit.

The readers in `ingest.history` say what the versions are, `lakehouse.bulk` publishes them. A
version that is empty or does not parse becomes a failed observation in the log.
"""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from ingest.history import (
    Kind,
    ParseFailure,
    TimeFrom,
    Version,
    earlier_name,
    file_contents,
    file_versions,
    git_contents,
    git_versions,
    kind_of,
    parse,
)
from lakehouse import Lake
from lakehouse.bulk import BulkLoad
from lakehouse.compaction import WORTH_AT_ONCE, keep_up
from lakehouse.core.log import Log
from lakehouse.errors import LakehouseError, UserError
from lakehouse.pack import AUTOMATIC, pack

Progress = Callable[[int, int], None]
EMPTY = "empty file"  # as `parse` says it: a download that failed, and no sign of wrong options

_REWRITTEN = "The history was rewritten. Import it whole into a new source: --source NAME."


@dataclass(slots=True, kw_only=True)
class ImportResult:
    """What an import did.

    Attributes:
        versions: Versions that the history has.
        known: Of these, how many the log had already.
        outcomes: New commits by outcome: `loaded`, `unchanged`, `failed`.
        failures: `(sequence number, reason)` of each new failed observation.
        repeated_keys: New snapshots in which a key occurs more than once.
        earlier_name: What the file was called before the first version, if git sees a rename there.
    """

    versions: int
    known: int
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)
    repeated_keys: int = 0
    earlier_name: str | None = None


def import_git(
    lake: Lake,
    repo: str | Path,
    paths: str | Sequence[str],
    *,
    source: str,
    table: str,
    key: Sequence[str] = (),
    rows: str | None = None,
    ref: str = "HEAD",
    kind: Kind | None = None,
    volatile: Sequence[str] = (),
    progress: Progress | None = None,
) -> ImportResult:
    """Import every version of a file in a git history, observed at its author time.

    Args:
        lake: Where to.
        repo: Work tree or bare repository.
        paths: Path from the repository's root; `new.json,old.json` follows a rename.
        source: Source to import into; one history has one source.
        table: Table to import into.
        key: Columns that identify a row: only changes are then stored.
        rows: Dotted path to the list of rows within a JSON document.
        ref: Branch, tag or commit whose first-parent history is read.
        kind: How the file is parsed; by its ending when None.
        volatile: Columns that do not make a row count as changed.
        progress: Called with versions done and in all.

    Raises:
        UserError: The history, the file or the key is not there, or the source holds something else.
    """
    versions = git_versions(repo, paths, ref)
    load = BulkLoad(lake, source, table, key=key, volatile=volatile)
    new = _new_versions(load.log, versions, table)
    result = _import(
        versions,
        git_contents(repo, new),
        new=new,
        kind=kind,
        rows=rows,
        progress=progress,
        load=load,
    )
    if versions and not result.known:
        result.earlier_name = earlier_name(repo, versions[0])
    return result


def import_files(
    lake: Lake,
    folder: str | Path,
    *,
    source: str,
    table: str,
    key: Sequence[str] = (),
    rows: str | None = None,
    time_from: TimeFrom = "auto",
    pattern: str | None = None,
    kind: Kind | None = None,
    volatile: Sequence[str] = (),
    progress: Progress | None = None,
) -> ImportResult:
    """Import a folder of dated snapshots of one file; like `import_git` but for where times are from.

    Args:
        lake: Where to.
        folder: The folder.
        source: Source to import into.
        table: Table to import into.
        key: Columns that identify a row.
        rows: Dotted path to the list of rows within a JSON document.
        time_from: `name`, `index` (an `index.csv`), `mtime`, or `auto`: index, else name.
        pattern: Glob of the files to take; all when None.
        kind: How the files are parsed; by their ending when None.
        volatile: Columns that do not make a row count as changed.
        progress: Called with versions done and in all.

    Raises:
        UserError: A time cannot be read, the key is not there, or the source holds something else.
    """
    versions = file_versions(folder, time_from, pattern)
    load = BulkLoad(lake, source, table, key=key, volatile=volatile)
    new = _new_versions(load.log, versions, table)
    return _import(
        versions,
        file_contents(folder, new),
        new=new,
        kind=kind,
        rows=rows,
        progress=progress,
        load=load,
    )


def _new_versions(log: Log, versions: Sequence[Version], table: str) -> list[Version]:
    """The versions that the log lacks; all of them come after those that it has."""
    known = [log.find(_load_id(version, table)) is not None for version in versions]
    new = [version for version, there in zip(versions, known, strict=True) if not there]
    if not new or not log.head:
        return new
    latest = log.effective_at
    newest = next((c.load_id for c in reversed(log.commits) if c.is_load), "")
    others = not newest.startswith(f"{table}@")
    if (others or not any(known)) and latest is not None and new[0].time < latest:
        raise UserError(
            f"source {log.source} already has loads up to {latest:%Y-%m-%d %H:%M}Z; "
            f"this history begins {new[0].time:%Y-%m-%d %H:%M}Z and would not be seen at its own times",
            hint="Import each history into a source of its own: --source NAME.",
        )
    if True in known[known.index(False) :]:
        at = known.index(False) + 1
        trouble = f"version {at} of the history is new, but later ones were imported already"
        raise UserError(f"source {log.source}: {trouble}", hint=_REWRITTEN)
    _refuse_other_end(log, versions, table, any_known=any(known))
    return new


def _refuse_other_end(log: Log, versions: Sequence[Version], table: str, *, any_known: bool) -> None:
    """New versions go on top of the newest one that was imported; it has to be in the history still."""
    imported = [c for c in log.commits if c.load_id.startswith(f"{table}@")]
    if any_known and imported[-1].load_id not in {_load_id(version, table) for version in versions}:
        newest = f"load {imported[-1].seq} ({imported[-1].load_id.partition('@')[2][:40]})"
        trouble = f"{newest} was imported, but is not in this history, which goes on in another way"
        raise UserError(f"source {log.source}: {trouble}", hint=_REWRITTEN)


def _load_id(version: Version, table: str) -> str:
    return f"{table}@{version.revision}"


def _import(
    versions: Sequence[Version],
    contents: Iterator[tuple[Version, bytes]],
    *,
    new: Sequence[Version],
    kind: Kind | None,
    rows: str | None,
    progress: Progress | None,
    load: BulkLoad,
) -> ImportResult:
    result = ImportResult(versions=len(versions), known=len(versions) - len(new))
    before: bytes | None = None
    failure: str | None = None
    head = load.log.head
    for done, (version, raw) in enumerate(contents, 1):
        about: dict[str, Any] = {
            "observed_at": version.time,
            "load_id": _load_id(version, load.table),
            "responses": [_response(version, raw)],
        }
        if raw is not before:
            failure = _observe(load, version, raw, kind=kind, rows=rows, about=about)
        elif failure is None:
            load.unchanged(**about)
        else:
            load.fail(failure, **about)
        before = raw
        if failure is not None:
            result.failures.append((head + done, failure))
        if progress is not None:
            progress(done, len(new))
    reasons = [reason for _, reason in result.failures if reason != EMPTY]
    if reasons and head == 0 and len(result.failures) == len(new):
        raise UserError(
            f"{load.source}.{load.table}: none of {len(new)} versions can be read: {reasons[0]}",
            hint="Nothing was imported. Check --rows and --kind, then run it again.",
        )
    load.flush()
    with contextlib.suppress(
        LakehouseError, duckdb.Error
    ):  # all is published; `lakehouse pack` says what is wrong
        pack(load.lake, load.source, least=AUTOMATIC)
        log = load.lake.log(load.source)
        if load.table in log.tables:
            keep_up(load.lake, log, load.table, worth=WORTH_AT_ONCE)
    result.outcomes = Counter(commit.outcome for commit in load.log.commits[head:])
    result.repeated_keys = load.repeated_keys
    return result


def _observe(
    load: BulkLoad,
    version: Version,
    raw: bytes,
    *,
    kind: Kind | None,
    rows: str | None,
    about: dict[str, Any],
) -> str | None:
    """One version as a snapshot, or as a failed observation whose reason is returned."""
    try:
        found = parse(raw, kind or kind_of(version.path), rows)
    except ParseFailure as error:
        load.fail(error.reason, **about)
        return error.reason
    load.observe(found, **about)
    return None


def _response(version: Version, raw: bytes) -> dict[str, Any]:
    """Where the bytes came from, and by which digest they are found again."""
    content = version.blob or f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return {"path": version.path, "content": content if ":" in content else f"git-blob:{content}"}
