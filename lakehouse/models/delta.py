"""What one input of a model gained between two positions of its log, and what of the result that concerns.

Everything here is SQL text over the files of the lake, for a connection that can open them. Of the files only
those are read that can hold loads after the older position; and, where a group is not told by the table's key, those
with the versions that these loads replaced. What cannot be told so is told by `WholeNeededError`.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.core.log import Era, File, Log, TableLog
from lakehouse.core.types import Column
from lakehouse.duck.asof import Moment
from lakehouse.duck.names import quote
from lakehouse.duck.sql import DELETED, SEQ, scan, state
from lakehouse.duck.views import with_compaction
from lakehouse.errors import LakehouseError
from lakehouse.models.follow.values import ALIAS
from lakehouse.models.increments import Increment

if TYPE_CHECKING:
    import duckdb

    from lakehouse.lake import Lake

_DIGITS = 16  # of a digest, that a log always knows
_STORED = {  # types of which a value reads the same after it was stored, in DuckDB's words
    "BIGINT", "BLOB", "BOOLEAN", "DATE", "DOUBLE", "FLOAT", "INTEGER", "SMALLINT", "TIME", "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE", "TIMESTAMP_NS", "TINYINT", "UBIGINT", "UINTEGER", "USMALLINT", "UTINYINT", "VARCHAR",
}  # fmt: skip


class WholeNeededError(LakehouseError):
    """A result has to be computed whole; nothing is wrong. The message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A position of a table that a build read, as the build records it.

    Attributes:
        seq: Position in the log of its source.
        digest: Digest of the commit there.
        columns: Digest of the columns that the table had in SQL, with their types.
    """

    seq: int
    digest: str
    columns: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What a driver gained after one position and up to another, as SQL.

    Attributes:
        increment: How the result follows the driver.
        rows: A SELECT of the rows that were added, with the columns of the driver's view, in their types; for a result
            without groups.
        groups: A SELECT of the groups that are to be computed anew, each once, in columns `_lake_g0`, `_lake_g1`, …, one
            for each of `increment.groups`; for a result with groups.
        unchanged: Whether no load in between touched the driver: there is nothing to do.
    """

    increment: Increment
    rows: str = ""
    groups: str = ""
    unchanged: bool = False


def seen(log: Log, table: str, seq: int, *, digest: str = "") -> Seen:
    """What is known of a table at a position that a build read.

    Args:
        log: The log of its source.
        table: The table.
        seq: The position.
        digest: Digest of the commit there, as it was then; that of the log by default.
    """
    columns = log.tables[table].columns_at(seq)
    return Seen(
        seq=seq, digest=digest or (log.digest_at(seq) if seq else ""), columns=_columns_digest(columns)
    )


def delta(lake: "Lake", log: Log, increment: Increment, since: Seen, until: int) -> Delta:
    """What a driver gained since a build.

    Args:
        lake: The lake.
        log: The log of the driver's source, as the views of this build are made from it.
        increment: How the result follows the driver.
        since: What the build before recorded.
        until: The position that this build reads.

    Raises:
        WholeNeededError: What changed cannot be told from new rows alone.
        NotFoundError: The log has no position `until`.
    """
    name = increment.driver.partition(".")[2]
    table = log.tables[next(t for t in log.tables if t.lower() == name.lower())]
    log.resolve(until)
    _check(log, table, since, until, increment.driver)
    changed = [c for seq, c in table.changes_since(since.seq + 1) if seq <= until and (c.parts or c.base)]
    if not changed:
        return Delta(increment=increment, unchanged=True)
    era = table.era_at(until)
    before = table.era_at(since.seq)
    if era is None or before is None or before.first != era.first:
        raise WholeNeededError(f"{increment.driver}: its state began anew after load {since.seq}")
    read = _Read(lake, log, table, era, since.seq, until)
    if increment.groups:
        return Delta(increment=increment, groups=read.groups(increment))
    if era.key:
        raise WholeNeededError(
            f"{increment.driver}: its rows change, and without a key the model only adds rows"
        )
    return Delta(increment=increment, rows=read.rows())


def restricted(view: str, increment: Increment, groups: str) -> str:
    """A SELECT of the rows of the driver that belong to some groups.

    Args:
        view: The driver's view at the position that is built, as SQL names it.
        increment: How the result follows it.
        groups: A table with the result of `Delta.groups`, as SQL names it.
    """
    same = _same([expression for _, expression in increment.groups])
    return f"SELECT {ALIAS}.* FROM {view} AS {ALIAS} WHERE EXISTS (SELECT 1 FROM {groups} AS _lake_k WHERE {same})"


def outside(published: str, increment: Increment, groups: str) -> str:
    """A SELECT of the rows of a result that do not belong to some groups: they stay as they are.

    Args:
        published: The result of the build before, as SQL names it.
        increment: How the result follows the driver.
        groups: A table with the result of `Delta.groups`, as SQL names it.
    """
    return f"SELECT _lake_r.* FROM {published} AS _lake_r WHERE NOT {_belongs(increment, groups)}"


def inside(published: str, increment: Increment, groups: str) -> str:
    """A SELECT of the rows of a result that belong to some groups: they give way to what is computed anew."""
    return f"SELECT _lake_r.* FROM {published} AS _lake_r WHERE {_belongs(increment, groups)}"


def check_comparable(
    connection: "duckdb.DuckDBPyConnection", published: str, increment: Increment, groups: str
) -> None:
    """Refuse groups whose values may not be found again in a result that was stored.

    Args:
        connection: Where both are.
        published: The result of the build before, as SQL names it.
        increment: How the result follows the driver.
        groups: A table with the result of `Delta.groups`, as SQL names it.

    Raises:
        WholeNeededError: A column of the key has another type in the two.
    """
    types = [{row[0].lower(): str(row[1]) for row in connection.execute(f"DESCRIBE {relation}").fetchall()}
             for relation in (f"SELECT * FROM {published}", f"SELECT * FROM {groups}")]  # fmt: skip
    for at, (name, _) in enumerate(increment.groups):
        stored, computed = types[0].get(name.lower()), types[1][f"_lake_g{at}"]
        if stored != computed or not (computed in _STORED or computed.startswith("DECIMAL(")):
            raise WholeNeededError(
                f"{name}, which is in the key, is {computed} but stored as {stored or 'nothing'}"
            )


def _check(log: Log, table: TableLog, since: Seen, until: int, driver: str) -> None:
    """Refuse where the log does not tell what happened since."""
    if not 0 < since.seq <= until:
        raise WholeNeededError(f"{driver}: load {since.seq} is not before load {until}")
    if log.digest_at(since.seq)[:_DIGITS] != since.digest[:_DIGITS]:
        raise WholeNeededError(f"{driver}: load {since.seq} is not the one that was read")
    if log.is_expired(since.seq):
        raise WholeNeededError(f"{driver}: load {since.seq}, which was read, is expired")
    if since.columns != _columns_digest(table.columns):
        raise WholeNeededError(f"{driver}: its columns, or their types, are others than at load {since.seq}")


def _columns_digest(columns: tuple[Column, ...]) -> str:
    said = json.dumps([column.to_json() for column in columns], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:_DIGITS]


def _same(expressions: list[str]) -> str:
    """A condition: a group in `_lake_k` has these values."""
    pairs = (f"_lake_k._lake_g{at} IS NOT DISTINCT FROM {one}" for at, one in enumerate(expressions))
    return " AND ".join(pairs)


def _belongs(increment: Increment, groups: str) -> str:
    same = _same([f"_lake_r.{quote(name)}" for name, _ in increment.groups])
    return f"EXISTS (SELECT 1 FROM {groups} AS _lake_k WHERE {same})"


@dataclass(frozen=True, slots=True)
class _Read:
    """A table within one era, and the positions between which it changed."""

    lake: "Lake"
    log: Log
    table: TableLog
    era: Era
    since: int
    until: int

    @property
    def _new_files(self) -> list[File]:
        return [file for file in self.table.files_since(self.since + 1) if file.first <= self.until]

    def _new(self, rows: str) -> str:
        """A condition: a row came in between. A file may hold older and newer ones too."""
        return f"{rows}.{SEQ} > {self.since} AND {rows}.{SEQ} <= {self.until}"

    def rows(self) -> str:
        """A SELECT of the rows that came, of a table whose rows only add up."""
        found = scan(self.table.columns, self._new_files, locate=self.lake.locate, keyed=False)
        return state(found, self.table.columns, (), self._new("_lake_v"))

    def groups(self, increment: Increment) -> str:
        """A SELECT of the groups of rows that came, were replaced or went."""
        picked = ", ".join(
            f"{expression} AS _lake_g{at}" for at, (_, expression) in enumerate(increment.groups)
        )
        keyed = bool(self.era.key)
        found = scan(self.table.columns, self._new_files, locate=self.lake.locate, keyed=keyed)
        new = f"SELECT {picked} FROM ({found}) AS {ALIAS} WHERE {self._new(ALIAS)}"
        if not keyed or set(increment.reads) <= set(self.era.key):  # a tombstone has the key
            return f"SELECT DISTINCT * FROM ({new})"
        new += f" AND NOT coalesce({ALIAS}.{DELETED}, false)"
        old = f"SELECT {picked} FROM ({self._replaced()}) AS {ALIAS}"
        return f"SELECT * FROM ({new})\nUNION\nSELECT * FROM ({old})"

    def _replaced(self) -> str:
        """A SELECT of the rows at the older position whose key came since."""
        columns = self.table.columns
        key = [column for column in columns if column.name in self.era.key]
        touched = scan(key, self._new_files, locate=self.lake.locate, keyed=True)
        same = " AND ".join(
            f"_lake_t.{quote(k)} IS NOT DISTINCT FROM _lake_o.{quote(k)}" for k in self.era.key
        )
        came = f"EXISTS (SELECT 1 FROM ({touched}) AS _lake_t WHERE {self._new('_lake_t')} AND {same})"
        compacted = with_compaction(self.lake, self.log, self.table.name)
        if compacted is not None:
            moment = Moment(str(self.since), self.log.source, self.log.head)
            return f"SELECT * FROM ({compacted.state(columns, moment)}) AS _lake_o WHERE {came}"
        files = [file for file in self.table.files_since(self.era.first) if file.first <= self.since]
        rows = scan(columns, files, locate=self.lake.locate, keyed=True)
        where = f"{SEQ} >= {self.era.first} AND {SEQ} <= {self.since}"
        return state(f"SELECT * FROM ({rows}) AS _lake_o WHERE {came}", columns, self.era.key, where)
