"""The views and macros of one table: now, as of a moment, its row history, and what changed between two moments."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from lakehouse.core.log import Log, TableLog
from lakehouse.core.moments import microseconds
from lakehouse.core.tag import Tag
from lakehouse.core.types import Column
from lakehouse.duck.asof import TURNED, Moment
from lakehouse.duck.compacted import MOST_STEPS, Compacted, Compactions, compacted, shape
from lakehouse.duck.names import literal, quote
from lakehouse.duck.sql import SEQ, scan, state_at
from lakehouse.duck.versions import HISTORY, Shape, diff, history, inside, known_at, versions

if TYPE_CHECKING:
    from lakehouse.lake import Lake


def with_compaction(
    lake: "Lake", log: Log, table: str, compactions: Compactions | None = None
) -> Compacted | None:
    """A table with its compaction, if it has one that a view can be made of.

    Args:
        lake: The lake.
        log: The log of its source.
        table: The table.
        compactions: Those that were looked up, if not the newest one is to be.
    """
    found = (compactions or Compactions(lake.store)).of(log, table)
    if found is None:
        return None
    about = compacted(lake, log, table, found)
    return about if about.usable and len(about.newer) <= MOST_STEPS else None


def statements(
    log: Log,
    table: TableLog,
    compacted: Compacted | None = None,
    *,
    locate: Callable[[str], str],
    tags: Mapping[str, Tag] = MappingProxyType({}),
    taken: Collection[str] = (),
    shown: Sequence[str] = (),
) -> list[str]:
    """The views and macros of one table.

    Args:
        log: The log of its source.
        table: The table.
        compacted: The same with its compaction, if it has one.
        locate: From the key of a part to what DuckDB opens.
        tags: All tags, by name.
        taken: Names of other views in its schema, beside those of the log's tables.
        shown: What is shown of its rows, which are called `_lake_o`; all of them by default. The history and what
            changed are always shown whole.
    """
    positions = {name: tag.positions.get(log.source, 0) for name, tag in tags.items()}
    about = _Readable(log, table, compacted, locate, positions)
    name = about.named("")
    now, then = (about.state(moment, table.columns) for moment in (TURNED, "t"))
    if shown:
        now, then = (f"SELECT {', '.join(shown)} FROM ({state}) AS _lake_o" for state in (now, then))
    made = [
        f"CREATE VIEW {name} AS {now}",
        f"CREATE MACRO {about.named('_at')}(t) AS TABLE {then}",
        f"CREATE MACRO {about.named('_diff')}(t1, t2) AS TABLE {about.diff('t1', 't2')}",
    ]
    history = about.history()
    if history and has_free_history(log, table.name, taken):
        made += [
            f"CREATE VIEW {about.named('_history')} AS {history}",
            f"CREATE MACRO {about.named('_history_at')}(t) AS TABLE {about.history_at('t')}",
        ]
    return made


def has_free_history(log: Log, table: str, taken: Collection[str] = ()) -> bool:
    """Whether the name of a table's history is free: a table or model that is called so keeps its name."""
    return f"{table}_history".lower() not in {name.lower() for name in (*log.tables, *taken)}


@dataclass(frozen=True, slots=True)
class _Readable:
    """A table, as SQL text reads it."""

    log: Log
    table: TableLog
    compacted: Compacted | None
    locate: Callable[[str], str]
    tags: Mapping[str, int]

    def named(self, suffix: str) -> str:
        """The name of what stands beside the table's view."""
        return f"{quote(self.log.source)}.{quote(self.table.name + suffix)}"

    @property
    def expired(self) -> list[tuple[int, int, int, int]]:
        """What a retention let go, as `Moment` takes it."""

        def at(seq: int) -> int:
            return microseconds(self.log.commits[seq - 1].effective_at)

        return [(first, last, at(first), at(last + 1)) for first, last in self.log.expired]

    def state(self, moment: str, columns: Sequence[Column]) -> str:
        """A SELECT of the table's rows at a moment."""
        when = Moment(moment, self.log.source, self.log.head, self.tags, self.expired)
        return self._guarded(self._state(when, columns), max(len(columns), 1), when)

    def _guarded(self, sql: str, columns: int, when: Moment) -> str:
        """A SELECT of so many columns that refuses a moment that is expired."""
        if not self.log.expired:
            return sql
        # A filter over no rows would refuse nothing.
        nulls = ", ".join(["NULL"] * columns)
        refused = (
            f"SELECT {nulls} FROM (SELECT {when.guard} AS _lake_lost) AS _lake_g WHERE _lake_g._lake_lost"
        )
        return f"SELECT * FROM ({sql}) AS _lake_s\nUNION ALL\n{refused}"

    def _state(self, when: Moment, columns: Sequence[Column]) -> str:
        if self.compacted is not None:
            return self.compacted.state(columns, when)
        base = (
            f"(SELECT max(seq) FROM main.table_loads WHERE source = {literal(self.log.source)} "
            f'AND "table" = {literal(self.table.name)} AND base AND seq <= {when.position})'
        )
        return state_at(self.table, columns, locate=self.locate, reached=when.reached(SEQ), base=base)

    def diff(self, one: str, two: str) -> str:
        """A SELECT of what changed between two moments."""
        columns = self.table.columns
        form = shape(self.table) or Shape(columns=columns, key=(), volatile=self.table.last.volatile)
        if form.key and not form.grouped:
            columns = (Column(name=SEQ, type="int64"), *columns)
        return diff(self.state(one, columns), self.state(two, columns), form)

    def history_at(self, moment: str) -> str:
        """A SELECT of the versions that were known at a moment; of a table that has a history."""
        when = Moment(moment, self.log.source, self.log.head, self.tags, self.expired, passed_on=True)
        columns = self.table.columns
        known = known_at(self.named("_history"), columns, when.position)
        return self._guarded(known, len(columns) + len(HISTORY), when)

    def history(self) -> str | None:
        """A SELECT of all versions of all rows; None where rows have no key, or had several."""
        form = shape(self.table)
        if form is None:
            return None
        times = f"(SELECT seq, epoch_us(effective_at) AS us FROM main.loads WHERE source = {literal(self.log.source)})"
        if self.compacted is not None:
            return history(self.compacted.versions(form, times=times), form)
        rows = scan(self.table.columns, self.table.files, locate=self.locate, keyed=True)
        return history(versions(inside(rows, self.table.columns, times=times), form, times=times), form)
