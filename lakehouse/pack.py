"""Packing: many small parts into few large ones, and many log files into one. Content never changes.

Every part costs a footer on disk and an open file to read, so a run of small parts is written anew as
one. A commit then says that the new part stands for the old ones; that no load changed is shown
before, from the bytes of the new file, by the content digest of every load in it. The old files stay
until `lakehouse.prune`. What is worth packing is decided here, by rules that never rewrite a row more than
a few times, however often packing runs.
"""

import hashlib
import random
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import duckdb
import numpy as np
import pyarrow as pa

from lakehouse import logpack
from lakehouse.core import commit as commits
from lakehouse.core import layout
from lakehouse.core.commit import Commit, Pack
from lakehouse.core.log import File, Log, TableLog
from lakehouse.core.types import Column, Type, merge_columns
from lakehouse.duck.sql import scan
from lakehouse.errors import ContentionError, DamagedPartError, IntegrityError, NotFoundError
from lakehouse.parquet.arrow import from_duck
from lakehouse.parquet.check import check_part, first_damage
from lakehouse.parquet.contents import contents
from lakehouse.parquet.digest import add
from lakehouse.parquet.part import DELETED, SEQ, PartBytes, write_part
from lakehouse.provenance import produced_by as provenance

if TYPE_CHECKING:
    from lakehouse.lake import Lake

Progress = Callable[[int, int], None]

MOST_ROWS = 1_000_000  # of one pack
MOST_BYTES = 64_000_000  # of the parts that go into one pack
OPENING_BYTES = 256_000  # opening a part costs about as much as reading so much of it
LEVEL = 9  # of zstd: packs are written once and read for years
AUTOMATIC = 8  # parts in a run from which packing is done unasked
_ATTEMPTS = 100
_PAUSE_S = 0.02
# Types that count differently once they are JSON text; a pack never turns them into it.
_UNLIKE_THEIR_JSON = ("date", "time", "binary")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedTable:
    """What packing did to one table.

    Attributes:
        table: Its name.
        files_before: Parts that were packed.
        files_after: Parts that stand for them.
        rows: Rows in them.
        size_before: Bytes of the parts that were packed.
        size_after: Bytes of those that stand for them.
        left: Why runs of parts that are worth it were left as they are.
    """

    table: str
    files_before: int = 0
    files_after: int = 0
    rows: int = 0
    size_before: int = 0
    size_after: int = 0
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PackReport:
    """What packing did to one source.

    Attributes:
        source: Its name.
        commit: The commit that says so; None where no parts were worth packing.
        tables: The tables of which parts were packed, or left for a reason.
        log_files: Commits that a new log pack holds; 0 where none was worth it.
    """

    source: str
    commit: Commit | None = None
    tables: tuple[PackedTable, ...] = ()
    log_files: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Consecutive parts of a table that are to become one.

    Attributes:
        files: The parts, in order.
        columns: The columns of the part to be: the least types that hold those of all of them.
        keys: Those of the eras that its loads lie in; nearly always a single one.
    """

    files: tuple[File, ...]
    columns: tuple[Column, ...]
    keys: tuple[tuple[str, ...], ...]

    @property
    def keyed(self) -> bool:
        """Whether it has a column that tells tombstones."""
        return any(self.keys)

    @property
    def key(self) -> tuple[str, ...] | None:
        """The key of its eras; None where they have several."""
        return self.keys[0] if len(self.keys) == 1 else None

    @property
    def first(self) -> int:
        """The first load that it may hold rows of."""
        return self.files[0].first

    @property
    def last(self) -> int:
        """The last load that it may hold rows of."""
        return max(file.last for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A pack that lies in the store, proven, and not yet committed.

    Attributes:
        table: The table.
        pack: What its commit will say.
        stands_for: Keys of the parts that it stands for.
    """

    table: str
    pack: Pack
    stands_for: frozenset[str]


@dataclass(slots=True)
class _Counting:
    """What is done of all that is to do, for whoever waits."""

    progress: Progress | None
    total: int
    done: int = 0

    def add(self, files: int) -> None:
        self.done += files
        if self.progress is not None:
            self.progress(self.done, self.total)


def pack(
    lake: "Lake", source: str | None = None, *, least: int = 2, progress: Progress | None = None
) -> list[PackReport]:
    """Pack what is worth it: runs of small parts, and log files.

    Safe to interrupt at any moment, and to run while others read and load. Nothing is deleted; see
    `lakehouse.prune`.

    Args:
        lake: The lake.
        source: Only this source; all when None.
        least: How many parts a run has to have.
        progress: Called with parts done and in all.

    Raises:
        NotFoundError: There is no such source.
        IntegrityError: A part is not what was committed; nothing of its source was packed.
        ContentionError: Other writers won every attempt to commit.
    """
    known = lake.sources()
    if source is not None and source not in known:
        msg = f"there is no source {source!r}"
        raise NotFoundError(msg, hint=f"Sources: {', '.join(known) or 'none yet'}.")
    plans: list[tuple[Log, dict[str, list[Run]]]] = []
    for name in [source] if source else known:
        log = lake.log(name)
        plans.append((log, {table.name: worth_packing(table, least=least) for table in log.tables.values()}))
    total = sum(len(run.files) for _, plan in plans for runs in plan.values() for run in runs)
    counting = _Counting(progress, total)
    return [_pack_source(lake, log, plan, counting) for log, plan in plans]


def _pack_source(
    lake: "Lake", log: Log, plan: Mapping[str, Sequence[Run]], counting: _Counting
) -> PackReport:
    written: list[Written] = []
    left: dict[str, list[str]] = {}
    for table, runs in plan.items():
        for run in runs:
            found = _packed(lake, log, log.tables[table], run)
            if isinstance(found, str):
                left.setdefault(table, []).append(found)
            else:
                written.append(found)
            counting.add(len(run.files))
    commit, written = publish(lake, log.source, written, load_id=new_id("pack")) if written else (None, [])
    log = lake.log(log.source)
    log_pack = logpack.pack_log(lake.store, log)
    sizes = {f.path: f for table, runs in plan.items() for run in runs for f in run.files}
    return PackReport(
        source=log.source,
        commit=commit,
        tables=tuple(
            _told(table, [w for w in written if w.table == table], sizes, left.get(table, []))
            for table in plan
            if table in left or any(w.table == table for w in written)
        ),
        log_files=log_pack.last - log_pack.first + 1 if log_pack else 0,
    )


def _told(
    table: str, written: Sequence[Written], files: Mapping[str, File], left: Sequence[str]
) -> PackedTable:
    before = [files[path] for w in written for path in w.stands_for]
    return PackedTable(
        table=table,
        files_before=len(before),
        files_after=len(written),
        rows=sum(w.pack.rows for w in written),
        size_before=sum(file.size_bytes for file in before),
        size_after=sum(w.pack.size_bytes for w in written),
        left=tuple(left),
    )


# What is worth packing.


def worth_packing(table: TableLog, *, least: int = 2) -> list[Run]:
    """The runs of a table's parts that are to become one part each.

    From the newest part back, a run takes up the part before it as long as that is at most twice as
    large as the run is already; parts below `OPENING_BYTES` count as so large. So a row is written anew
    only when its neighbourhood has grown by half, and few parts are left. Parts of half the largest size
    are left alone for ever. Runs end where the key changes, and where types meet that only JSON text
    holds and that would count differently in it.

    Args:
        table: The table.
        least: How many parts a run has to have.
    """
    found: list[Run] = []
    group: list[_Unit] = []
    size = 0
    for unit in reversed(_units(table)):
        if unit.full or (group and (unit.key != group[-1].key or unit.cost > 2 * size)):
            found = [*_cut(group[::-1], least), *found]
            group, size = [], 0
        if not unit.full:
            group.append(unit)
            size += unit.cost
    return [*_cut(group[::-1], least), *found]


def everything(table: TableLog) -> list[Run]:
    """All parts of a table, in runs of a size that fits into memory; for reading them piece by piece."""
    groups: list[list[_Unit]] = []
    for unit in _units(table):
        if groups and groups[-1][-1].key == unit.key:
            groups[-1].append(unit)
        else:
            groups.append([unit])
    return [run for group in groups for run in _cut(group, 1)]


@dataclass(frozen=True, slots=True)
class _Unit:
    """Parts that share loads, so that they stay together; nearly always a single one."""

    files: tuple[File, ...]
    key: tuple[tuple[str, ...], ...]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def cost(self) -> int:
        return max(self.size_bytes, OPENING_BYTES)

    @property
    def full(self) -> bool:
        """Whether it stays as it is: large enough, or of eras whose rows are read in different ways."""
        return self.rows * 2 >= MOST_ROWS or self.size_bytes * 2 >= MOST_BYTES or len(self.key) > 1


def _units(table: TableLog) -> list[_Unit]:
    groups: list[list[File]] = []
    last = 0
    for file in sorted(table.files, key=lambda file: file.first):
        if groups and file.first <= last:
            groups[-1].append(file)
        else:
            groups.append([file])
        last = max(last, file.last)
    firsts = [era.first for era in table.eras]

    def keys(files: Sequence[File]) -> tuple[tuple[str, ...], ...]:
        start = bisect_right(firsts, files[0].first) - 1
        end = bisect_right(firsts, max(file.last for file in files))
        return tuple(dict.fromkeys(era.key for era in table.eras[start:end]))

    return [_Unit(tuple(files), keys(files)) for files in groups]


def _cut(units: Sequence[_Unit], least: int) -> Iterator[Run]:
    """A group of units as runs that are no larger than a pack may be, each of types that go together."""
    if sum(len(unit.files) for unit in units) < least:
        return
    files: list[File] = []
    columns: tuple[Column, ...] = ()
    rows = size = 0

    def run() -> Iterator[Run]:
        if len(files) >= min(least, 2):
            yield Run(files=tuple(files), columns=columns, keys=units[0].key)

    for unit in units:
        wider = _columns(unit.files, columns)
        if files and (
            rows + unit.rows > MOST_ROWS
            or size + unit.size_bytes > MOST_BYTES
            or (wider is not columns and _loses(columns, unit, wider))
        ):
            yield from run()
            files, rows, size = [], 0, 0
            wider = _columns(unit.files, ())
        files += unit.files
        columns, rows, size = wider, rows + unit.rows, size + unit.size_bytes
    yield from run()


def _columns(files: Sequence[File], columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns of a part for these files beside others, exactly as the log will work them out."""
    for file in files:
        if file.columns is not columns and file.columns != columns:
            columns = merge_columns(columns, file.columns) if columns else file.columns
    return columns


def _loses(columns: Sequence[Column], unit: _Unit, merged: Sequence[Column]) -> bool:
    """Whether a column would become JSON text in which its values count differently."""
    json = {column.name for column in merged if column.type == "json"}
    every = [*columns, *(column for file in unit.files for column in file.columns)]
    return any(column.name in json and _is_unlike_json(column.type) for column in every)


def _is_unlike_json(kind: Type) -> bool:
    if isinstance(kind, str):
        return kind.startswith(_UNLIKE_THEIR_JSON)
    inner = [kind["list"]] if "list" in kind else kind["struct"].values()
    return any(_is_unlike_json(k) for k in inner)


# Writing packs.


def _packed(lake: "Lake", log: Log, table: TableLog, run: Run) -> Written | str:
    """A pack for a run, in the store; or why the run is left as it is."""
    rows = rows_of(lake, log, table, run)
    part = write_part(rows, level=LEVEL)
    found = contents(part.data, path="a new pack", named_by="nobody yet")
    wanted = committed(table, run.first, run.last)
    if found != wanted:
        _check_sources(lake, log, table, run, wanted)
        load = next(seq for seq in sorted({*found, *wanted}) if found.get(seq) != wanted.get(seq))
        return (
            f"{len(run.files)} parts of the loads {run.first} to {run.last}: "
            f"the rows of load {load} would not be the same in one part"
        )
    return store_pack(lake, log.source, table.name, run, part)


def rows_of(
    lake: "Lake",
    log: Log,
    table: TableLog,
    run: Run,
    *,
    duck: duckdb.DuckDBPyConnection | None = None,
    wrap: Callable[[str], str] = str,
    more: Sequence[Column] = (),
) -> pa.Table:
    """The rows of a run of parts, with the system columns, in the order of their loads.

    Read just as a query reads them, so that no value can come out of a pack in another way.

    Args:
        lake: The lake.
        log: The log that names the parts.
        table: The table.
        run: The parts.
        duck: A connection to use instead of the lake's own.
        wrap: Makes another SELECT of the one over the parts.
        more: Columns that this one has besides.

    Raises:
        IntegrityError: A part cannot be read.
    """
    system = [Column(name=SEQ, type="int64")] + ([Column(name=DELETED, type="bool")] if run.keyed else [])
    sql = wrap(scan(run.columns, run.files, locate=lake.locate, keyed=run.keyed))
    try:
        with (duck or lake.reader()).cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            found = from_duck(cursor.sql(sql).to_arrow_table(), [*system, *run.columns, *more])
    except duckdb.Error as error:
        named = ((f"load {file.last} of {log.source}", file) for file in run.files)
        raise first_damage(lake.store, named) or IntegrityError(
            f"{log.source}.{table.name}: the loads {run.first} to {run.last} cannot be read ({error})",
            hint="Nothing was packed. Run `lakehouse verify` to see what is missing or damaged.",
        ) from error
    seqs = found[SEQ].to_numpy()
    if np.any(seqs[1:] < seqs[:-1]):
        found = found.take(pa.array(np.argsort(seqs, kind="stable")))
    return found


def store_pack(
    lake: "Lake",
    source: str,
    table: str,
    run: Run,
    part: PartBytes,
    loads: tuple[tuple[int, int, str], ...] = (),
) -> Written:
    """Write a pack into the store, and make sure that it lies there as it was proven."""
    written = proposed(source, table, run, part, loads)
    key = written.pack.path
    lake.store.put(key, part.data)
    if hashlib.sha256(lake.store.get(key)).hexdigest() != part.sha256:
        raise DamagedPartError(
            f"{key}: reads back with other bytes than were written",
            path=key,
            hint="Nothing was committed. Mend the disk, then run it again.",
        )
    return written


def proposed(
    source: str, table: str, run: Run, part: PartBytes, loads: tuple[tuple[int, int, str], ...] = ()
) -> Written:
    """What a commit will say of a pack for a run.

    Args:
        source: The source.
        table: The table.
        run: The parts that it stands for.
        part: Its bytes.
        loads: The loads of which it holds other rows than before, as in `Pack`.
    """
    return Written(
        table=table,
        pack=Pack(
            path=layout.part_key(source, table, run.first, run.last, part.name),
            sha256=part.sha256,
            size_bytes=len(part.data),
            first=run.first,
            last=run.last,
            rows=part.rows,
            loads=loads,
        ),
        stands_for=frozenset(file.path for file in run.files),
    )


def committed(table: TableLog, first: int, last: int) -> dict[int, str]:
    """The content digests that a table's loads of a range have to have; none of those without rows."""
    found = {seq: change.content for seq, change in table.changes if first <= seq <= last}
    found |= {seq: content for seq, (_, content) in table.revised.items() if first <= seq <= last}
    return {seq: content for seq, content in found.items() if content}


def _check_sources(lake: "Lake", log: Log, table: TableLog, run: Run, wanted: Mapping[int, str]) -> None:
    """Raise IntegrityError where it is the old parts that do not hold what was committed."""
    found: dict[int, list[str]] = {}
    for file in run.files:
        named_by = f"load {file.last} of {log.source}"
        check_part(lake.store, file, named_by=named_by)
        for seq, digest in contents(lake.store.get(file.path), path=file.path, named_by=named_by).items():
            found.setdefault(seq, []).append(digest)
    have = {seq: add(digests) for seq, digests in found.items()}
    for seq in sorted({*have, *wanted}):
        if have.get(seq) != wanted.get(seq):
            raise DamagedPartError(
                f"{log.source}.{table.name}: the rows of load {seq} have the content digest "
                f"{have.get(seq) or 'of none'}, not {wanted.get(seq) or 'of none'}",
                path=next(file.path for file in run.files if file.first <= seq <= file.last),
                hint="Nothing was packed. The commit or its parts were written by something else than lakehouse.",
            )


# Committing.


def new_id(kind: str) -> str:
    """A load id for a commit that is no load."""
    return f"{kind}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:12]}"


def publish(
    lake: "Lake",
    source: str,
    written: Sequence[Written],
    *,
    load_id: str,
    retention: Mapping[str, Any] | None = None,
) -> tuple[Commit | None, list[Written]]:
    """Commit packs. Whoever loses the race for the next number looks which of them are still right.

    Args:
        lake: The lake.
        source: The source.
        written: Packs that lie in the store.
        load_id: Identifies the commit.
        retention: What to record of a retention; then it is all packs or none.

    Returns:
        The commit, and the packs in it; None and none where somebody else packed these parts.

    Raises:
        ContentionError: Other writers won every attempt.
    """
    for attempt in range(_ATTEMPTS):
        log = lake.log(source)
        known = log.find(load_id)
        if known is not None:
            return known, list(written)
        right = [w for w in written if _still_right(log, w)]
        if not right or (retention and len(right) < len(written)):
            return None, []
        about = commit_of(log, right, load_id=load_id, retention=retention or {})
        line = commits.lines([about], prev=log.digest)
        if logpack.claim(lake.store, source, about.seq, line):
            key = layout.log_key(source, about.seq)
            return commits.parse_file(line, key=key, source=source)[0], right
        time.sleep(_PAUSE_S * random.random() * min(attempt + 1, 10))  # noqa: S311
    msg = f"{source}: lost {_ATTEMPTS} races for the next commit; nothing was packed"
    raise ContentionError(msg, hint="Stop the other writers of this source, then run it again.")


def commit_of(log: Log, written: Sequence[Written], *, load_id: str, retention: Mapping[str, Any]) -> Commit:
    """The commit of some packs that is to come next in a log."""
    at = log.commits[-1].effective_at  # nothing was observed: what is loaded next keeps its own time
    return Commit(
        source=log.source,
        seq=log.head + 1,
        load_id=load_id,
        prev=log.digest,
        observed_at=at,
        effective_at=at,
        committed_at=datetime.now(UTC),
        produced_by=provenance(),
        packs={
            table: tuple(sorted((w.pack for w in written if w.table == table), key=lambda p: p.first))
            for table in dict.fromkeys(w.table for w in written)
        },
        retention=dict(retention),
    )


def _still_right(log: Log, written: Written) -> bool:
    """Whether the parts that a pack stands for are those that hold these loads now."""
    files = log.tables[written.table].files
    inside = {f.path for f in files if written.pack.first <= f.first and f.last <= written.pack.last}
    return inside == written.stands_for
