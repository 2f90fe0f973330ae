"""SQL over a compaction: a table's row versions in a few large derived files, and the newest loads on top.

An epoch is one file with all versions that hold at some position of a stretch of the log, so that a
state within it is one scan with a filter. One more file holds the state at the end. See `lakehouse.compaction`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lakehouse.core import layout
from lakehouse.core.log import File, Log, TableLog
from lakehouse.core.moments import microseconds
from lakehouse.core.types import Column, column_from_json
from lakehouse.duck.asof import Moment
from lakehouse.duck.names import literal, quote
from lakehouse.duck.sql import DELETED, SEQ, newest_of, scan, widened
from lakehouse.duck.versions import FOREVER, SYSTEM, Shape, inside, versions
from lakehouse.errors import LakehouseError
from lakehouse.store.base import Absent

if TYPE_CHECKING:
    from lakehouse.lake import Lake
    from lakehouse.store.base import Store

VERSION = 1  # of what `lakehouse.compaction` writes
MOST_STEPS = 2_000  # loads since a compaction whose times stand in the text of a view


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """A file with all versions that hold at one position at least, from `first` on and before `end`.

    Attributes:
        first_at: When `first` took effect, in microseconds since 1970.
        rows: Versions in it.
        carried: Those of them that hold at `first`.
    """

    path: str
    size_bytes: int
    first: int
    first_at: int
    end: int
    rows: int
    carried: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """A keyed table's whole history up to a load, in derived files.

    Attributes:
        seq: The load.
        at: When it took effect, in microseconds since 1970.
        columns: The columns in the files, in the types that the history had until then.
        epochs: In order, without gaps, the last one until `seq`.
        now: The file with the state at `seq`.
        now_sha256: Its digest: it is what loads are compared with.
        now_rows: Rows in it.
    """

    seq: int
    at: int
    columns: tuple[Column, ...]
    epochs: tuple[Epoch, ...]
    now: str
    now_size: int
    now_sha256: str
    now_rows: int

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of its files by key."""
        return {epoch.path: epoch.size_bytes for epoch in self.epochs} | {self.now: self.now_size}

    @property
    def paths(self) -> list[str]:
        """Keys of all its files."""
        return [*(epoch.path for epoch in self.epochs), self.now]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """A table with its compaction, to be read as SQL.

    Attributes:
        newer: `(seq, microseconds)` of the loads since the compaction that added rows to the table.
    """

    table: TableLog
    compaction: Compaction
    newer: Sequence[tuple[int, int]]
    locate: Callable[[str], str]

    @property
    def tail(self) -> list[File]:
        """The parts with rows of loads since the compaction."""
        return list(self.table.files_since(self.compaction.seq + 1))

    @property
    def key(self) -> tuple[str, ...]:
        """The key of the table."""
        return self.table.eras[-1].key

    @property
    def usable(self) -> bool:
        """Whether a state at any position can be read from the compaction and what is newer."""
        return self.table.eras[-1].first <= self.compaction.seq

    def state(self, columns: Sequence[Column], moment: Moment | None) -> str:
        """A SELECT of the table's rows at a moment; of now, if there is none.

        Args:
            columns: The columns to return; `_lake_seq` may be among them.
            moment: The moment.
        """
        listed = ", ".join(f"_lake_v.{quote(column.name)}" for column in columns)
        old = self._old(columns, moment)
        if not self.tail:
            return f"SELECT {listed} FROM ({old}) AS _lake_v"
        names = list(dict.fromkeys((*self.key, *(c.name for c in columns))))
        wanted = [c for c in (_SEQ, *self.table.columns) if c.name in names and c.name != SEQ]
        old = self._old(wanted, moment) if wanted else old
        picked, same = newest_of("_lake_t", self.key)
        return (
            f"WITH _lake_t AS NOT MATERIALIZED ({self._newest(wanted, moment)}),\n"
            f"_lake_n AS NOT MATERIALIZED (SELECT {picked} FROM _lake_t GROUP BY ALL)\n"
            f"SELECT {listed} FROM ({old}) AS _lake_v WHERE NOT EXISTS (SELECT 1 FROM _lake_n WHERE {same})\n"
            f"UNION ALL\nSELECT {listed} FROM _lake_t AS _lake_v JOIN _lake_n ON _lake_v.{SEQ} = _lake_n.newest AND {same} "
            f"WHERE NOT coalesce(_lake_v.{DELETED}, false)"
        )

    def _old(self, columns: Sequence[Column], moment: Moment | None) -> str:
        """A SELECT from the one file of the compaction that has the state at the moment."""
        now = self.compaction
        paths = [literal(self.locate(path)) for path in now.paths]
        items = ", ".join([f"_lake_p.{SEQ}", *self._items([c for c in columns if c.name != SEQ])])
        if moment is None:
            return f"SELECT {items} FROM read_parquet({paths[-1]}, hive_partitioning = false) AS _lake_p"
        starts = [*now.epochs[1:], None] if now.epochs else []
        seqs = [epoch.first if epoch else now.seq for epoch in starts]
        instants = [epoch.first_at if epoch else now.at for epoch in starts]
        # Before the first epoch there was nothing, which its own filter says.
        file = f"[{', '.join(paths)}][{moment.step(seqs, instants)}]" if now.epochs else paths[-1]
        number = f"least({moment.number}, {FOREVER - 1})"
        where = moment.choose(
            now="true",
            number=f"_lake_p.{SEQ} <= {number} AND _lake_p._lake_end > {number}",
            instant=f"_lake_p._lake_at <= {moment.instant} AND _lake_p._lake_end_at > {moment.instant}",
        )
        return f"SELECT {items} FROM read_parquet({file}, hive_partitioning = false) AS _lake_p WHERE {where}"

    def _items(self, columns: Sequence[Column]) -> list[str]:
        """The columns of the data, read from a file of the compaction."""
        have = {
            column.name: (f"_lake_p.c{at}", column.type) for at, column in enumerate(self.compaction.columns)
        }
        items = []
        for column in columns:
            expression, kind = have.get(column.name, ("NULL", "null"))
            items.append(f"{widened(expression, kind, column.type)} AS {quote(column.name)}")
        return items

    def _newest(self, columns: Sequence[Column], moment: Moment | None) -> str:
        """A SELECT of the rows that loads since the compaction added, up to the moment."""
        where = f"{SEQ} > {self.compaction.seq}"
        if moment is None:
            return self._since(columns, where, None)
        seqs, instants = [seq for seq, _ in self.newer], [at for _, at in self.newer]
        steps = ", ".join(str(seq) for seq in (self.compaction.seq, *seqs))
        last = f"[{steps}][{moment.step(seqs, instants)}]"
        return self._since(
            columns, f"{where} AND {SEQ} <= {last}", f"{moment.step(seqs[:1], instants[:1])} = 1"
        )

    def _since(self, columns: Sequence[Column], where: str, none: str | None) -> str:
        rows = scan(columns, self.tail, locate=self.locate, keyed=True, none=none)
        return f"SELECT * FROM ({rows}) WHERE {where}"

    # Versions.

    def versions(self, shape: Shape, *, times: str, gone_in: Sequence[Epoch] | None = None) -> str:
        """A SELECT of all versions of all rows, up to the newest load.

        Args:
            shape: Of the table.
            times: A relation `seq, us` that has the loads since the compaction.
            gone_in: Where to look for rows that had disappeared, if not in the compaction's own epochs.
        """
        now = self.compaction
        gone_in = now.epochs if gone_in is None else gone_in
        epochs, all_epochs = (
            ", ".join(literal(self.locate(epoch.path)) for epoch in several)
            for several in (now.epochs, gone_in)
        )
        system = ", ".join(f"_lake_p.{name}" for name, _ in SYSTEM)
        data = [f"{item.rsplit(' AS ', 1)[0]} AS c{at}" for at, item in enumerate(self._items(shape.columns))]
        items = ", ".join([system, *data])
        read = "SELECT {} FROM read_parquet([{}], hive_partitioning = false) AS _lake_p"
        ended = f"{read.format(items, epochs)} WHERE _lake_p._lake_end < {FOREVER}" if epochs else ""
        current = read.format(items, literal(self.locate(now.now)))
        if not self.tail:
            return "\nUNION ALL\n".join(filter(None, (ended, current)))
        raw = inside(self._since(shape.columns, f"{SEQ} > {now.seq}", None), shape.columns, times=times)
        known = (
            "SELECT _lake_seq, false AS _lake_deleted, _lake_at, _lake_change, _lake_changed, _lake_absent"
        )
        every = "".join(f", c{at}" for at in range(len(shape.columns)))
        touched = f"EXISTS (SELECT 1 FROM _lake_touched AS t WHERE {shape.same('t', '_lake_k')})"
        keys = ", ".join(shape.keys)
        blank = "".join(
            f", c{at}" if f"c{at}" in shape.keys else f", NULL AS c{at}" for at in range(len(shape.columns))
        )
        gone = (
            f"UNION ALL\nSELECT max(_lake_end), true, max(_lake_end_at), NULL, NULL, NULL{blank} "
            f"FROM ({read.format(items, all_epochs)}) AS _lake_k WHERE _lake_gone AND {touched} GROUP BY {keys}\n"
            if all_epochs
            else ""
        )
        rows = f"SELECT * FROM _lake_raw\nUNION ALL\n{known}{every} FROM ({current}) AS _lake_k WHERE {touched}\n{gone}"
        parts = [
            ended,
            f"SELECT * FROM ({current}) AS _lake_k WHERE NOT {touched}",
            f"SELECT * FROM ({versions(rows, replace(shape, bases=()), times=times)})",
        ]
        return (
            f"WITH _lake_raw AS NOT MATERIALIZED ({raw}),\n_lake_touched AS NOT MATERIALIZED (SELECT DISTINCT {keys} FROM _lake_raw)\n"
            + "\nUNION ALL\n".join(filter(None, parts))
        )


def shape(table: TableLog) -> Shape | None:
    """What tells versions of a table's rows apart; None where its rows had no key, or several."""
    if len(table.keys) > 1 or () in table.keys:
        return None
    several = len(table.eras) > 1
    return Shape(
        columns=table.columns,
        key=table.eras[-1].key,
        volatile=table.last.volatile,
        bases=tuple(era.first for era in table.eras[1:]) if several else (),
        grouped=table.met_groups if several else table.may_repeat,
    )


class Compactions:
    """The newest compactions of a lake's tables as they were when first asked for: one listing a source."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._there: dict[str, dict[str, int]] = {}
        self._found: dict[tuple[str, str], Compaction | None] = {}

    def of(self, log: Log, table: str) -> Compaction | None:
        """The newest compaction of a table that belongs to this log."""
        name = (log.source, table)
        if name not in self._found:
            if log.source not in self._there:
                self._there[log.source] = _listed(self._store, layout.compactions(log.source))
            there, start = self._there[log.source], prefix(log.source, table)
            mine = {key: size for key, size in there.items() if key.startswith(start)}
            self._found[name] = newest(self._store, log, table, there=mine)
        return self._found[name]


def newest(
    store: "Store", log: Log, table: str, *, there: Mapping[str, int] | None = None
) -> Compaction | None:
    """The newest compaction of a table that belongs to this log.

    Args:
        store: The lake's store.
        log: The log.
        table: The table.
        there: Sizes of the files of its compactions by key, if they were listed.
    """
    about = log.tables.get(table)
    if about is None or not about.eras[-1].key:
        return None
    there = _listed(store, prefix(log.source, table)) if there is None else there
    for key in sorted((key for key in there if key.endswith(".json")), reverse=True):
        try:
            content = store.get(key)
            found = json.loads(content)
            if (
                found["version"] == VERSION
                and key.endswith(f"-{digest(content)}.json")
                and found["seq"] <= log.head
                and found["commit"] == log.digest_at(found["seq"])[:16]
                and found["expired"] == log.expired_by  # one from before it has rows that are gone
            ):
                compaction = Compaction(
                    seq=found["seq"],
                    at=found["at"],
                    columns=tuple(column_from_json(column) for column in found["columns"]),
                    epochs=tuple(Epoch(**epoch) for epoch in found["epochs"]),
                    now=found["now"],
                    now_size=found["now_size"],
                    now_sha256=found["now_sha256"],
                    now_rows=found["now_rows"],
                )
                if compaction.sizes.items() <= there.items():  # no file is missing, or cut off
                    return compaction
        except (Absent, ValueError, KeyError, TypeError):  # of another version, damaged, or just replaced
            continue
    return None


def _listed(store: "Store", start: str) -> dict[str, int]:
    return {entry.key: entry.size_bytes for entry in store.list(start)}


def digest(content: bytes) -> str:
    """What the name of a file of a compaction says of its bytes."""
    return hashlib.sha256(content).hexdigest()[:24]


def is_sound(store: "Store", compaction: Compaction) -> bool:
    """Whether the state at its end has the bytes that were written: a flipped bit must not reach a commit."""
    try:
        return hashlib.sha256(store.get(compaction.now)).hexdigest() == compaction.now_sha256
    except LakehouseError:
        return False


def is_whole(store: "Store", compaction: Compaction) -> bool:
    """Whether all its files have the bytes that were written, as the next compaction goes on from them."""
    try:
        return all(digest(store.get(path)) == path[-32:-8] for path in compaction.paths)
    except LakehouseError:
        return False


def compacted(lake: "Lake", log: Log, table: str, compaction: Compaction) -> Compacted:
    """A table with its compaction, as SQL reads it."""
    about = log.tables[table]
    newer = [
        (seq, microseconds(log.commits[seq - 1].effective_at))
        for seq, change in about.changes_since(compaction.seq + 1)
        if change.parts or change.base
    ]
    return Compacted(table=about, compaction=compaction, newer=newer, locate=lake.locate)


def prefix(source: str, table: str) -> str:
    """Key prefix of the files of a table's compactions."""
    return f"{layout.compactions(source)}{table}/"


_SEQ = Column(name=SEQ, type="int64")
