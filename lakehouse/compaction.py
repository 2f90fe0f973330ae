"""Compaction: the versions of a keyed table's rows, in a few large derived files.

The history up to some load is cut into epochs. Each epoch's file has the versions that hold at its start
and those that begin within it, so that the state at any moment is one file and one filter, however long
the log. One more file has the state at the end: what queries of now read, and what loads compare with.
Loads since then are laid over both. It is derived: nothing needs it, and it may be deleted at any time.

What it costs: a compaction is renewed when reading what is newer has become dear, counting `OPENING` rows
for each part to open: as much as `WORTH` rows, or as a quarter of what would be written anew. An epoch ends
when it has three quarters as many new versions as it began with, so that all epochs together are about two
and a half times the rows of the history, and a state within one reads less than twice its own rows.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from lakehouse.core import layout
from lakehouse.core.log import Log, TableLog
from lakehouse.core.moments import microseconds
from lakehouse.core.types import Column
from lakehouse.duck.compacted import (
    VERSION,
    Compacted,
    Compaction,
    Epoch,
    compacted,
    digest,
    is_whole,
    newest,
    prefix,
    shape,
)
from lakehouse.duck.sql import scan
from lakehouse.duck.versions import FOREVER, SYSTEM, Shape, inside, versions
from lakehouse.parquet.arrow import from_duck
from lakehouse.parquet.part import PartBytes, write_sections
from lakehouse.store.base import Absent

if TYPE_CHECKING:
    from lakehouse.lake import Lake
    from lakehouse.store.base import Store

OPENING = 10_000  # rows that can be read in the time that opening one part takes
WORTH = 320_000
WORTH_AT_ONCE = 2 * OPENING  # after an import: its one part is read by every query from then on
EPOCH_SHARE = 0.75  # new versions in an epoch, for each that it began with
EPOCH_LEAST = 10_000  # new versions in an epoch, however small the table


def keep_up(lake: "Lake", log: Log, table: str, *, worth: int | None = None) -> bool:
    """Renew the compaction of a table if that has become worth it; whether it was."""
    about = log.tables[table]
    if shape(about) is None:
        return False
    before = newest(lake.store, log, table)
    since = before.seq if before else 0
    tail = about.files_since(since + 1)
    cost = sum(OPENING + file.rows for file in tail)
    anew = (before.now_rows + (before.epochs[-1].rows if before.epochs else 0)) if before else 0
    if cost < max(WORTH if worth is None else worth, anew / 4):
        return False
    return compact_table(lake, log, table)


def compact(lake: "Lake", source: str) -> list[str]:
    """Bring the compactions of all keyed tables of a source up to date; the tables that it was done for."""
    log = lake.log(source)
    return [table for table in log.tables if compact_table(lake, log, table)]


def compact_table(lake: "Lake", log: Log, table: str) -> bool:
    """Bring the compaction of a table up to the end of the log; whether there was anything to do.

    Raises:
        duckdb.Error: A part cannot be read.
    """
    about = log.tables[table]
    form = shape(about)
    if form is None:
        return False
    before = newest(lake.store, log, table)
    reading = compacted(lake, log, table, before) if before else None
    if reading is not None and reading.usable and not reading.tail:
        return False
    usable = (
        reading is not None
        and reading.usable
        and reading.compaction.columns == about.columns
        and is_whole(lake.store, reading.compaction)
    )
    with lake.reader().cursor() as duck:
        duck.execute("SET TimeZone = 'UTC'")
        writer = _Writer(lake, log, about, form, duck)
        found = writer.write(before if usable else None)
        _publish(lake.store, log, table, found)
    return True


def forget(store: "Store", source: str) -> bool:
    """Delete all compactions of a source; whether there were any."""
    found = [entry.key for entry in store.list(layout.compactions(source))]
    for key in found:
        store.delete(key)
    return bool(found)


class _Writer:
    """Writes the files of one compaction."""

    def __init__(
        self, lake: "Lake", log: Log, table: TableLog, form: Shape, duck: duckdb.DuckDBPyConnection
    ) -> None:
        self.lake = lake
        self.log = log
        self.table = table
        self.form = form
        self.duck = duck
        self.seq = table.last_seq
        self.at = self._at(self.seq)

    def write(self, before: Compaction | None) -> Compaction:
        """A compaction up to the newest load; from the one before on, if there is one."""
        self._times(before.seq if before else 0)
        kept: tuple[Epoch, ...] = ()
        if before is None:
            first, first_at = self.table.first_seq, self._at(self.table.first_seq)
            raw = inside(
                scan(self.table.columns, self.table.files, locate=self.lake.locate, keyed=True),
                self.table.columns,
                times="_lake_times",
            )
            found = versions(raw, self.form, times="_lake_times")
        else:
            kept, first, first_at = _closed(before)
            open_ = before if len(kept) < len(before.epochs) else None
            found = self._since(before, open_)
        names = ", ".join(
            [*(name for name, _ in SYSTEM), *(f"c{at}" for at in range(len(self.table.columns)))]
        )
        self.duck.execute(f"CREATE OR REPLACE TEMP TABLE _lake_found AS SELECT {names} FROM ({found})")
        epochs = [self._epoch(a, at, b) for a, at, b in self._bounds(first, first_at)]
        now = self._file([f"_lake_end = {FOREVER}"])
        self.duck.execute("DROP TABLE _lake_found")
        return Compaction(
            seq=self.seq, at=self.at, columns=self.table.columns, epochs=(*kept, *epochs),
            now=self._key(now), now_size=len(now.data), now_sha256=now.sha256, now_rows=now.rows,
        )  # fmt: skip

    def _since(self, before: Compaction, open_: Compaction | None) -> str:
        """Versions that hold at or after the end of the epochs that stay as they are."""
        reading = compacted(self.lake, self.log, self.table.name, before)
        last = [open_.epochs[-1]] if open_ else []
        only = Compaction(**(_fields(before) | {"epochs": tuple(last)}))
        # Rows that disappeared before the last epoch have to be known for those that come back.
        return Compacted(
            table=self.table, compaction=only, newer=reading.newer, locate=self.lake.locate
        ).versions(self.form, times="_lake_times", gone_in=before.epochs)

    def _times(self, since: int) -> None:
        seqs = sorted({seq for seq, _ in self.table.changes_since(since + 1)})
        times = pa.table({"seq": pa.array(seqs, pa.int64()), "us": pa.array(map(self._at, seqs), pa.int64())})
        self.duck.register("_lake_times", times)

    def _at(self, seq: int) -> int:
        return microseconds(self.log.commits[seq - 1].effective_at)

    def _bounds(self, first: int, first_at: int) -> list[tuple[int, int, int]]:
        """Where the epochs from `first` on begin and end."""
        counts = self.duck.execute(
            "SELECT seq, max(us), sum(begun)::BIGINT, sum(ended)::BIGINT FROM ("
            "SELECT _lake_seq AS seq, _lake_at AS us, 1 AS begun, 0 AS ended FROM _lake_found UNION ALL "
            f"SELECT _lake_end, _lake_end_at, 0, 1 FROM _lake_found WHERE _lake_end < {FOREVER}) GROUP BY seq ORDER BY seq"
        ).fetchall()
        bounds = []
        begin, begin_at, alive, carried, fresh = first, first_at, 0, 0, 0
        for seq, at, begun, ended in counts:
            alive += begun - ended
            if seq <= first:
                carried = alive
                continue
            if seq < self.seq and fresh + begun >= max(carried * EPOCH_SHARE, EPOCH_LEAST):
                bounds.append((begin, begin_at, seq))
                begin, begin_at, carried, fresh = seq, at, alive, 0
            else:
                fresh += begun
        return [*bounds, (begin, begin_at, self.seq)] if begin < self.seq else bounds

    def _epoch(self, first: int, first_at: int, end: int) -> Epoch:
        # Rows that hold all the while lie first, so that no filter has to look at them.
        holds = f"_lake_seq < {end} AND _lake_end > {first}"
        whole = f"_lake_seq <= {first} AND _lake_end >= {end}"
        part = self._file([f"{holds} AND {whole}", f"{holds} AND NOT ({whole})"], end=end)
        carried = self._count(f"_lake_seq <= {first} AND _lake_end > {first}")
        return Epoch(
            path=self._key(part), size_bytes=len(part.data), first=first, first_at=first_at, end=end,
            rows=part.rows, carried=carried,
        )  # fmt: skip

    def _key(self, part: PartBytes) -> str:
        return f"{prefix(self.log.source, self.table.name)}{part.name}.parquet"

    def _file(self, conditions: Sequence[str], *, end: int = FOREVER) -> PartBytes:
        """Write the versions that meet the conditions, each in a section of its own."""
        data = [f"c{at}" for at in range(len(self.table.columns))]
        known = f"_lake_end <= {end}"
        items = [
            "_lake_seq", f"CASE WHEN {known} THEN _lake_end ELSE {FOREVER} END AS _lake_end", "_lake_at",
            f"CASE WHEN {known} THEN _lake_end_at ELSE {FOREVER} END AS _lake_end_at",
            f"({known} AND _lake_gone) AS _lake_gone", "_lake_change", "_lake_changed", "_lake_absent", *data,
        ]  # fmt: skip
        order = ", ".join([*self.form.keys, "_lake_seq"])
        kinds: dict[str, Any] = {
            "BIGINT": "int64",
            "BOOLEAN": "bool",
            "VARCHAR": "string",
            "VARCHAR[]": {"list": "string"},
        }
        columns = [Column(name=name, type=kinds[kind]) for name, kind in SYSTEM]
        columns += [
            Column(name=name, type=column.type) for name, column in zip(data, self.table.columns, strict=True)
        ]
        sections = [
            from_duck(
                self.duck.sql(
                    f"SELECT {', '.join(items)} FROM _lake_found WHERE {where} ORDER BY {order}"
                ).to_arrow_table(),
                columns,
            )
            for where in conditions
        ]
        part = write_sections(sections)
        self.lake.store.put(self._key(part), part.data)
        return part

    def _count(self, where: str) -> int:
        return int(self.duck.execute(f"SELECT count(*) FROM _lake_found WHERE {where}").fetchall()[0][0])


def _closed(before: Compaction) -> tuple[tuple[Epoch, ...], int, int]:
    """The epochs that stay as they are; and from where on epochs are written, and when that was."""
    if before.epochs:
        last = before.epochs[-1]
        if last.rows - last.carried < max(last.carried * EPOCH_SHARE, EPOCH_LEAST):
            return before.epochs[:-1], last.first, last.first_at
    return before.epochs, before.seq, before.at


def _publish(store: "Store", log: Log, table: str, found: Compaction) -> None:
    """Write what names the files of a compaction; those from before the one before may go.

    A file that nothing names may be one that another process is about to name, so it goes only if
    it was there without a name when the compaction before was published.
    """
    folder = prefix(log.source, table)
    there = [entry.key for entry in store.list(folder)]
    older = [key for key in sorted(there) if key.endswith(".json")]
    said = {key: _said(store, key) for key in older}
    named = {path for names, _ in said.values() for path in names} | {*found.paths}
    strays = [key for key in there if key not in named and key not in older]
    about = _fields(found) | {
        "version": VERSION,
        "commit": log.digest_at(found.seq)[:16],
        "expired": log.expired_by,
        "columns": [column.to_json() for column in found.columns],
        "epochs": [asdict(epoch) for epoch in found.epochs],
        "strays": strays,
    }
    content = json.dumps(about, indent=1).encode()
    mine = f"{folder}{found.seq:020d}-{digest(content)}.json"
    store.put(mine, content)
    # The one before stays for those who read it right now; and what another process made meanwhile.
    before = [key for key in older if key < f"{folder}{found.seq:020d}"]
    stay = {mine, *before[-1:], *(key for key in older if key not in before)}
    kept = {*found.paths, *(path for key in stay - {mine} for path in said[key][0])}
    known = {path for _, seen in said.values() for path in seen}
    gone = [path for path in there if path in known.union(named) and path not in kept and path not in older]
    for key in [*(key for key in older if key not in stay), *gone]:
        store.delete(key)


def _said(store: "Store", key: str) -> tuple[list[str], list[str]]:
    """The files that a compaction names, and those that nothing named when it was published."""
    try:
        said = json.loads(store.get(key))
        return [said["now"], *(epoch["path"] for epoch in said["epochs"])], list(said["strays"])
    except (Absent, ValueError, KeyError, TypeError):
        return [], []


def _fields(compaction: Compaction) -> dict[str, Any]:
    return {name: getattr(compaction, name) for name in Compaction.__slots__}
