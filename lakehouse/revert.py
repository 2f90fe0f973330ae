"""Revert: a new load that restores an earlier state of a source. Nothing is erased, and it can be reverted.

Each table is compared with what it was, and what differs is stored: by key where it has one, else
the whole of it as a new base. The pipeline's state goes back with the data, so that the next run
fetches from where the restored state ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from lakehouse.change import Change, Write, restore
from lakehouse.core.commit import Commit
from lakehouse.core.gates import OPEN
from lakehouse.core.log import Log, TableLog
from lakehouse.core.types import Column
from lakehouse.duck.sql import SEQ, state_at
from lakehouse.errors import IntegrityError, NotFoundError
from lakehouse.loading import Load
from lakehouse.parquet.check import first_damage
from lakehouse.state import State
from lakehouse.tags import AsOf, position

if TYPE_CHECKING:
    from lakehouse.lake import Lake


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a revert would do.

    Attributes:
        source: The source.
        to: The load whose state would be restored; 0 for that before the first.
        rows: By table that would change, the rows it has now and those it would have.
        counts: By table that would change, the figures that the commit would record.
        cursor: Whether the state of the pipeline would go back too.
    """

    source: str
    to: int
    rows: Mapping[str, tuple[int, int]]
    counts: Mapping[str, Mapping[str, int]]
    cursor: bool


def revert(
    lake: "Lake", source: str, to: AsOf, *, tables: Sequence[str] | None = None, keep_cursor: bool = False
) -> Commit | None:
    """Restore an earlier state of a source by a new load.

    Args:
        lake: The lake.
        source: The source.
        to: The load whose state to restore, an instant, or a tag.
        tables: Only these tables; the state of the pipeline then stays, as it belongs to all of them.
        keep_cursor: Leave the state of the pipeline as it is.

    Returns:
        The new commit; None where the source is in that state already, so that nothing was published.

    Raises:
        NotFoundError: There is no such source, load or table.
        IntegrityError: The state of then, or that of now, cannot be read.
        ContentionError: Other writers won every attempt.
    """
    try:
        return _Revert(lake, source, to, tables, keep_cursor=keep_cursor).publish()
    except _NothingToDoError:
        return None


def preview(
    lake: "Lake", source: str, to: AsOf, *, tables: Sequence[str] | None = None, keep_cursor: bool = False
) -> Preview:
    """What `revert` with the same arguments would do; nothing is written."""
    return _Revert(lake, source, to, tables, keep_cursor=keep_cursor).preview()


class _NothingToDoError(Exception):
    """The source is in that state already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Then:
    """A table as it was: its rows, and how they were kept."""

    write: Write
    columns: tuple[Column, ...]


class _Revert(Load):
    """A load whose data is the state at an earlier position."""

    def __init__(
        self, lake: "Lake", source: str, to: AsOf, tables: Sequence[str] | None, *, keep_cursor: bool
    ) -> None:
        super().__init__(lake, source, load_id=None, observed_at=None, produced_by=None, gates=OPEN)
        self.to = position(lake, source, to)
        self._only = tables
        self._keep_cursor = keep_cursor or tables is not None
        self._then: dict[str, _Then] = {}
        known = lake.log(source).tables
        for name in tables or ():
            if name not in known:
                msg = f"{source} has no table {name!r}"
                raise NotFoundError(msg, hint=f"Tables: {', '.join(known) or 'none yet'}.")

    def preview(self) -> Preview:
        """What would be published, worked out against the newest state."""
        log = self.lake.log(self.source)
        try:
            changes = self._changes(log)
        except duckdb.Error as error:
            raise self._unreadable(log, error) from error
        return Preview(
            source=self.source,
            to=self.to,
            rows={n: (self._state(log, n).rows, c.counts.get("rows", 0)) for n, c in changes.items()},
            counts={name: change.counts for name, change in changes.items()},
            cursor=self._cursor(log) is not None,
        )

    def _next(self, log: Log) -> Commit:
        self.pipeline = self._cursor(log)
        commit = super()._next(log)
        if not commit.tables and commit.pipeline is None:
            raise _NothingToDoError
        return replace(commit, reverts_to=self.to)

    def _changes(self, log: Log) -> dict[str, Change]:
        changes = {}
        self._writes = {}
        for name in log.tables if self._only is None else self._only:
            if name not in self._then:  # what was does not change, however often the race is lost
                self._then[name] = self._at(log.tables[name])
            then = self._then[name]
            change = restore(then.write, then.columns, self._state(log, name))
            if change is not None:
                changes[name] = change
                self._writes[name] = _under_source_names(then.write, change.columns)
        return changes

    def _at(self, table: TableLog) -> _Then:
        """A table as it was; one that was not there yet is empty, and kept as it is now."""
        era, changes = table.era_at(self.to), table.changes_at(self.to)
        last = changes[-1][1] if changes else table.last
        # Rows of one key that cannot be told apart have to be known as a group to those who come after.
        repeats = any(not c.primary_key or (c.base and c.disposition == "merge") for _, c in changes)
        # In the types of the whole history: a part may hold later loads too, and so wider types.
        then = {column.name for _, change in changes for column in change.columns}
        columns = tuple(column for column in table.columns if column.name in then)
        rows = pa.table({})
        if era is not None:
            sql = state_at(
                table, columns, locate=self.lake.locate, reached=f"{SEQ} <= {self.to}", base=str(era.first)
            )
            rows = State(table, self.lake.reader, self.lake.locate).fetch(sql, columns)
        write = Write(
            table=table.name,
            disposition=last.disposition,
            primary_key=() if repeats else last.primary_key,
            merge_key=last.key if repeats else last.merge_key,
            volatile=(),
            rows=rows,
        )
        return _Then(write=write, columns=columns)

    def _cursor(self, log: Log) -> dict[str, Any] | None:
        """The state of the pipeline to go back to; None where it stays as it is."""
        if self._keep_cursor:
            return None
        then = next((c.pipeline for c in reversed(log.commits[: self.to]) if c.pipeline is not None), {})
        return None if then == (log.pipeline or {}) else then

    def _unreadable(self, log: Log, error: duckdb.Error) -> IntegrityError:
        """The file that cannot be read may be one of then, too."""
        names = log.tables if self._only is None else self._only
        files = [(f"load {f.last} of {self.source}", f) for name in names for f in log.tables[name].files]
        return first_damage(self.lake.store, files) or super()._unreadable(log, error)


def _under_source_names(write: Write, columns: Sequence[Column]) -> Write:
    """The write with its keys under the names that they came by, as loads have them."""
    came = {c.name: c.name if c.source_name is None else c.source_name for c in columns}
    return replace(
        write,
        primary_key=tuple(came.get(name, name) for name in write.primary_key),
        merge_key=tuple(came.get(name, name) for name in write.merge_key),
    )
