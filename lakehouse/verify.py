"""Verify: read everything that the logs name, and compare it with what they say.

Nothing derived is used or trusted. Each finding is an error of its own kind; files that no commit
names are reported apart, as they are invisible to every reader.
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lakehouse.core import layout
from lakehouse.core.commit import Commit
from lakehouse.core.log import Log
from lakehouse.errors import DamagedPartError, IntegrityError, LakehouseError, MissingPartError, NotFoundError
from lakehouse.parquet.part import SEQ
from lakehouse.replay import replay
from lakehouse.store.base import Absent

if TYPE_CHECKING:
    from lakehouse.lake import Lake

Progress = Callable[[int, int], None]
_BLOCK = 1 << 20


@dataclass(slots=True, kw_only=True)
class Report:
    """What a verification found.

    Attributes:
        sources: Length of each log that could be read.
        files: Parts checked.
        size_bytes: Bytes read of them.
        errors: What is wrong; empty for a lake that is whole.
        orphans: Keys of files that no commit names: left by runs that died, harmless.
    """

    sources: dict[str, int] = field(default_factory=dict)
    files: int = 0
    size_bytes: int = 0
    errors: list[LakehouseError] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Named:
    """A part as all commits together describe it."""

    sha256: str
    size_bytes: int
    rows: dict[int, int]
    commit: Commit


def verify(lake: "Lake", source: str | None = None, *, progress: Progress | None = None) -> Report:
    """Check chains, parts (size, SHA-256, rows of each load, content digests) and the order of writing.

    Args:
        lake: The lake.
        source: Only this source; all when None.
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
    digests: dict[str, dict[int, str]] = {}
    for done, (path, part) in enumerate(named.items(), 1):
        try:
            digests[path] = _check(lake, path, part)
            report.size_bytes += part.size_bytes
        except LakehouseError as error:
            report.errors.append(error)
        report.files += 1
        if progress is not None:
            progress(done, len(named))
    for log in logs:
        report.errors += _contents(log, digests)
    report.orphans = sorted(_orphans(lake, report.sources, named))
    return report


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


def _parts(log: Log) -> dict[str, _Named]:
    found: dict[str, _Named] = {}
    for commit in log.commits:
        for change in commit.tables.values():
            for part in change.parts:
                about = found.setdefault(
                    part.path,
                    _Named(sha256=part.sha256, size_bytes=part.size_bytes, rows={}, commit=commit),
                )
                about.rows[commit.seq] = part.rows
    return found


def _check(lake: "Lake", path: str, named: _Named) -> dict[int, str]:
    by = f"named by load {named.commit.seq} of {named.commit.source}"
    try:
        with lake.store.open(path) as file:
            digest, size = hashlib.sha256(), 0
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
    except Absent:
        raise MissingPartError(
            f"{path}: is missing; it is {by}",
            path=path,
            hint="Restore this file from a mirror or backup; loads since then stay readable meanwhile.",
        ) from None
    if size != named.size_bytes or digest.hexdigest() != named.sha256:
        what = f"{size} bytes instead of {named.size_bytes}" if size != named.size_bytes else "other bytes"
        raise DamagedPartError(
            f"{path}: has {what} than was committed (SHA-256 {digest.hexdigest()[:12]}… instead of "
            f"{named.sha256[:12]}…); it is {by}",
            path=path,
            hint="Restore this file from a mirror or backup.",
        )
    return _digests(lake, path, named, by)


def _digests(lake: "Lake", path: str, named: _Named, by: str) -> dict[int, str]:
    """The content digests of the rows of each load that a part holds, as they lie there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lakehouse.parquet.digest import combine, row_hashes

    try:
        table = pq.read_table(io.BytesIO(lake.store.get(path)))
        seqs = table[SEQ].to_numpy()
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise DamagedPartError(
            f"{path}: is no part of a lake ({error}); it is {by}",
            path=path,
            hint="It was committed so, by something else than lakehouse.",
        ) from error
    hashes = row_hashes(table.drop_columns([SEQ]))
    found = {}
    for seq, rows in named.rows.items():
        mine = hashes[seqs == seq]
        if len(mine) != rows:
            raise DamagedPartError(
                f"{path}: holds {len(mine)} rows of load {seq}, not the {rows} that were committed; it is {by}",
                path=path,
                hint="Restore this file from a mirror or backup.",
            )
        found[seq] = combine(mine)
    return found


def _contents(log: Log, digests: dict[str, dict[int, str]]) -> Iterator[IntegrityError]:
    """The content digest of each load, over all its parts; loads with a part that failed are left out."""
    from lakehouse.parquet.digest import add

    for table in log.tables.values():
        for seq, change in table.changes:
            if change.parts and all(part.path in digests for part in change.parts):
                found = add(digests[part.path][seq] for part in change.parts)
                if found != change.content:
                    yield DamagedPartError(
                        f"{log.source}.{table.name}: the rows of load {seq} have the content digest {found}, "
                        f"not {change.content}",
                        path=change.parts[0].path,
                        hint="The commit or its parts were written by something else than lakehouse.",
                    )


def _orphans(lake: "Lake", sources: dict[str, int], named: dict[str, _Named]) -> Iterator[str]:
    for source in sources:
        for entry in lake.store.list(f"{source}/"):
            if entry.key not in named and entry.key.endswith(".parquet"):
                yield entry.key
