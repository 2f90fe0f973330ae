"""Verify: read everything that the logs name, and compare it with what they say.

Nothing derived is used or trusted. Each finding is an error of its own kind; files that no commit
names are reported apart, as they are invisible to every reader.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lakehouse import logpack
from lakehouse.core import layout
from lakehouse.core.log import File, Log
from lakehouse.errors import (
    DamagedPartError,
    IntegrityError,
    LakehouseError,
    MissingPartError,
    NotFoundError,
)
from lakehouse.parquet.check import read_part
from lakehouse.replay import replay
from lakehouse.tags import misfits, read_tags

if TYPE_CHECKING:
    from lakehouse.core.tag import Tag
    from lakehouse.lake import Lake

Progress = Callable[[int, int], None]


@dataclass(slots=True, kw_only=True)
class Report:
    """What a verification found.

    Attributes:
        sources: Length of each log that could be read.
        files: Parts checked.
        size_bytes: Bytes read of them.
        errors: What is wrong; empty for a lake that is whole.
        orphans: Keys of files that no commit names: left by runs that died, harmless.
        superseded: Keys of files that packs stand for: not read any more; `lakehouse prune` deletes them.
    """

    sources: dict[str, int] = field(default_factory=dict)
    files: int = 0
    size_bytes: int = 0
    errors: list[LakehouseError] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Named:
    """A part, and the rows of each load that it has to hold."""

    file: File
    rows: dict[int, int]
    by: str


def verify(
    lake: "Lake",
    source: str | None = None,
    *,
    fast: bool = False,
    connections: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Check chains, tags, parts (size, SHA-256, rows, content digests) and the order of writing.

    Args:
        lake: The lake.
        source: Only this source; all when None.
        fast: Of parts, look only whether they are there and how large they are; no byte of them is read.
        connections: Parts that are read at once; several help where the lake is far away.
        progress: Called with files done and in all.

    Raises:
        NotFoundError: There is no such source.
    """
    if source is not None and source not in lake.sources():
        msg = f"there is no source {source!r}"
        raise NotFoundError(msg, hint=f"Sources: {', '.join(lake.sources()) or 'none yet'}.")
    report = Report()
    named: dict[str, _Named] = {}
    logs: list[Log] = []
    tags = read_tags(lake.store)  # before the logs: one that is made meanwhile may name a newer load
    for name in [source] if source else lake.sources():
        try:
            log = replay(lake.store, name, checkpoint=False)
        except LakehouseError as error:
            report.errors.append(error)
            continue
        report.sources[name] = log.head
        report.errors += _order(log)
        named |= _parts(log)
        logs.append(log)
    report.errors += _tags(lake, tags, logs, source)
    for log in logs:
        report.errors += _sizes(lake, log, named) if fast else ()
    if not fast:
        _read(lake, logs, named, report, progress, connections)
    for log in logs:
        _leftovers(lake, log, report)
    return report


def _read(
    lake: "Lake",
    logs: list[Log],
    named: dict[str, _Named],
    report: Report,
    progress: Progress | None,
    connections: int,
) -> None:
    """Compare all parts with what the logs say of them, byte by byte and row by row."""
    digests: dict[str, dict[int, str]] = {}

    def checked(path: str) -> dict[int, str] | LakehouseError:
        try:
            return _check(lake, path, named[path])
        except LakehouseError as error:
            return error

    with ThreadPoolExecutor(connections) as pool:
        # One after the other where there is one connection: who interrupts does not wait for all of them.
        found = map(checked, named) if connections == 1 else pool.map(checked, named)
        for done, (path, result) in enumerate(zip(named, found, strict=True), 1):
            if isinstance(result, LakehouseError):
                report.errors.append(result)
            else:
                digests[path] = result
                report.size_bytes += named[path].file.size_bytes
            report.files += 1
            if progress is not None:
                progress(done, len(named))
    for log in logs:
        report.errors += _contents(log, digests)


def _order(log: Log) -> Iterator[IntegrityError]:
    """Time never runs backwards in a log."""
    before = None
    ids: dict[str, int] = {}
    for commit in log.commits:
        first = ids.setdefault(commit.load_id, commit.seq)
        if first != commit.seq:
            yield IntegrityError(
                f"{log.source}: load {commit.seq} has the id {commit.load_id!r} of load {first}: it is there twice",
                path=layout.log_key(log.source, commit.seq),
                hint="The log was written by something else than lakehouse: restore it from a mirror.",
            )
        expected = max(commit.observed_at, before.effective_at) if before else commit.observed_at
        if commit.effective_at != expected:
            key = layout.log_key(log.source, commit.seq)
            yield IntegrityError(
                f"{log.source}: load {commit.seq} says it is effective at {commit.effective_at}, "
                f"but the running maximum of observed_at is {expected}",
                path=key,
                hint="The log was written by something else than lakehouse: restore it from a mirror.",
            )
        before = commit


def _tags(
    lake: "Lake",
    tags: tuple[Mapping[str, "Tag"], Mapping[str, IntegrityError]],
    logs: list[Log],
    source: str | None,
) -> Iterator[IntegrityError]:
    """Tags name commits that are there, with the digests that they had."""
    found, broken = tags
    yield from broken.values()
    for tag in found.values():
        for log in logs:
            yield from misfits(tag, log)
        for gone in () if source else sorted(set(tag.positions) - set(lake.sources())):
            yield from misfits(tag, Log(gone))


def _parts(log: Log) -> dict[str, _Named]:
    """The parts that hold the rows now, and what else the log names as far as it is still there."""
    found: dict[str, _Named] = {}
    for table in log.tables.values():
        said: dict[str, dict[int, int]] = {}
        stored: dict[int, int] = {}
        for seq, change in table.changes:
            for part in change.parts:
                said.setdefault(part.path, {})[seq] = part.rows
                stored[seq] = stored.get(seq, 0) + part.rows
        stored |= {seq: rows for seq, (rows, _) in table.revised.items()}
        for file in table.files:
            rows = said.get(file.path)
            if rows is None:  # a pack: all rows of its loads
                rows = {seq: n for seq, n in stored.items() if file.first <= seq <= file.last and n}
            found[file.path] = _Named(file=file, rows=rows, by=f"load {file.last} of {log.source}")
    return found


def _sizes(lake: "Lake", log: Log, named: dict[str, _Named]) -> Iterator[IntegrityError]:
    """Parts that are not there, or not as large as committed, from one listing."""
    sizes = {entry.key: entry.size_bytes for entry in lake.store.list(f"{log.source}/")}
    for table in log.tables.values():
        for file in table.files:
            by = named[file.path].by
            if file.path not in sizes:
                yield MissingPartError(
                    f"{file.path}: is missing; it is named by {by}",
                    path=file.path,
                    hint="Restore this file from a mirror or backup, then run it again.",
                )
            elif sizes[file.path] != file.size_bytes:
                yield DamagedPartError(
                    f"{file.path}: has {sizes[file.path]} bytes, not the {file.size_bytes} that were committed; "
                    f"it is named by {by}",
                    path=file.path,
                    hint="Restore this file from a mirror or backup, then run it again.",
                )


def _check(lake: "Lake", path: str, named: _Named) -> dict[int, str]:
    return _digests(read_part(lake.store, named.file, named_by=named.by), path, named)


def _digests(data: bytes, path: str, named: _Named) -> dict[int, str]:
    """The content digests of the rows of each load that a part holds, as they lie there."""
    from lakehouse.parquet.contents import contents

    found = contents(data, path=path, named_by=named.by)
    for seq in {**named.rows, **found}:
        have, want = int(found.get(seq, "0:").partition(":")[0]), named.rows.get(seq, 0)
        if have != want:
            raise DamagedPartError(
                f"{path}: holds {have} rows of load {seq}, not the {want} that were committed; "
                f"it is named by {named.by}",
                path=path,
                hint="Restore this file from a mirror or backup.",
            )
    return found


def _contents(log: Log, digests: dict[str, dict[int, str]]) -> Iterator[IntegrityError]:
    """The content digest of each load, over all its parts; loads with a part that failed are left out."""
    from lakehouse.parquet.digest import add

    for table in log.tables.values():
        found: dict[int, list[str]] = {}
        unread: set[int] = set()
        for file in table.files:
            for seq, digest in digests.get(file.path, {}).items():
                found.setdefault(seq, []).append(digest)
            if file.path not in digests:
                unread.update(range(file.first, file.last + 1))
        for seq, change in table.changes:
            _, content = table.revised.get(seq, (0, change.content))
            mine = add(found[seq]) if seq in found else ""
            if seq not in unread and mine != content:
                yield DamagedPartError(
                    f"{log.source}.{table.name}: the rows of load {seq} have the content digest "
                    f"{mine or 'of none'}, not {content or 'of none'}",
                    path=next((part.path for part in change.parts), ""),
                    hint="The commit or its parts were written by something else than lakehouse.",
                )


def _leftovers(lake: "Lake", log: Log, report: Report) -> None:
    """Files beside those that hold the source now: packed ones, and such that nothing names."""
    named = {file.path for table in log.tables.values() for file in table.files}
    gone = superseded(log)
    for entry in lake.store.list(f"{log.source}/"):
        if entry.key.endswith(".parquet") and entry.key not in named:
            (report.superseded if entry.key in gone else report.orphans).append(entry.key)
    spare, strange = logpack.spare(lake.store, log)
    report.superseded += [file.key for file in spare]
    report.orphans += [file.key for file in strange]


def superseded(log: Log) -> dict[str, tuple[str, int, int]]:
    """The parts that the log names and packs stand for: table, first and last load of each, by key."""
    found: dict[str, tuple[str, int, int]] = {}
    for table in log.tables.values():
        for seq, change in table.changes:
            for part in change.parts:
                first = found[part.path][1] if part.path in found else seq
                found[part.path] = (table.name, first, seq)
    for commit in log.commits:
        for name, packs in commit.packs.items():
            found |= {pack.path: (name, pack.first, pack.last) for pack in packs}
    for table in log.tables.values():
        for file in table.files:
            found.pop(file.path, None)
    return found
