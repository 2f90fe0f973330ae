"""What a mirror in Postgres takes from a lake: all versions of a table's rows, or those since a position.

They are what the lake's own `<table>_history` says, by the same SQL. Tables of which the lake keeps no history
(rows without a key, or with another one than before) are told era by era. Nothing here knows Postgres.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.core.log import Era, Log, TableLog
from lakehouse.core.moments import microseconds
from lakehouse.core.types import Column

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from lakehouse.duck.versions import Shape
    from lakehouse.lake import Lake

SYSTEM = ("valid_from", "valid_to", "from_load", "to_load", "change", "changed_columns")
_TIMES = "_lake_times"
_EVERY = "SELECT * FROM"
_ROWS = 50_000  # in a batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How the versions of a table's rows are told apart; where it changes, all of them are told anew.

    Attributes:
        key: The columns that identify a row over the whole history; none where it is told era by era.
        volatile: Columns that do not make a row count as changed.
        grouped: Whether several rows may have one key, and change together.
    """

    key: tuple[str, ...] = ()
    volatile: tuple[str, ...] = ()
    grouped: bool = False

    def to_json(self) -> dict[str, Any]:
        """As it is kept beside the mirrored table."""
        return {"key": list(self.key), "volatile": list(self.volatile), "grouped": self.grouped}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Versions to be read: a SELECT of `SYSTEM` and the columns c0, c1, …, and the key by which rows are found.

    Attributes:
        sql: The SELECT.
        key: Columns whose values are hashed; none where rows have no key.
    """

    sql: str
    key: tuple[str, ...]


class History:
    """The versions of one table's rows.

    Args:
        lake: The lake.
        log: The log of its source; versions are told as this log knows them.
        name: The table.
    """

    def __init__(self, lake: "Lake", log: Log, name: str) -> None:
        from lakehouse.duck.compacted import shape

        self.lake, self.log = lake, log
        self.table: TableLog = log.tables[name]
        self.columns: tuple[Column, ...] = self.table.columns
        self._shape = shape(self.table)

    @property
    def form(self) -> Form:
        """How its versions are told apart."""
        found = self._shape
        volatile = tuple(self.table.last.volatile)
        if found is None:
            return Form(volatile=volatile)
        return Form(key=tuple(found.key), volatile=volatile, grouped=found.grouped)

    @property
    def rows(self) -> int:
        """Rows in its parts: about as many versions as there are."""
        return sum(file.rows for file in self.table.files)

    def all(self) -> Iterator[Stretch]:
        """All versions."""
        if self._shape is not None:
            yield Stretch(sql=self._history(self._shape), key=self.form.key)
            return
        for era, end in self._eras(0):
            yield Stretch(sql=self._of_era(era, end), key=era.key)

    def changed(self, seq: int) -> Iterator[Stretch]:
        """Versions that begin after a position, and those that end after it, but for those that `closed_at` tells."""
        if self._shape is not None:
            one = Stretch(sql=self._history_of_touched(self._shape, seq), key=self.form.key)
            yield Stretch(sql=f"{_EVERY} ({one.sql}) WHERE from_load > {seq} OR to_load > {seq}", key=one.key)
            return
        for era, end in self._eras(seq):
            ends = f" OR to_load > {seq}" if era.key else ""
            yield Stretch(
                sql=f"{_EVERY} ({self._of_era(era, end)}) WHERE from_load > {seq}{ends}", key=era.key
            )

    def closed_at(self, seq: int) -> int | None:
        """The load after a position with which all rows ended that held until then; None where none did."""
        if self._shape is not None:
            return None
        return next((era.first for era in self.table.eras if era.first > seq), None)

    def _eras(self, seq: int) -> Iterator[tuple[Era, int | None]]:
        """The eras that reach beyond a position, each with the load with which the next one begins."""
        eras = list(self.table.eras)
        ends = [*(era.first for era in eras[1:]), None]
        for era, end in zip(eras, ends, strict=True):
            if end is None or end > seq:
                yield era, end

    def _history(self, form: "Shape") -> str:
        from lakehouse.duck.compacted import is_whole
        from lakehouse.duck.sql import scan
        from lakehouse.duck.versions import history, inside, versions
        from lakehouse.duck.views import with_compaction

        compacted = with_compaction(self.lake, self.log, self.table.name)
        if compacted is not None and is_whole(self.lake.store, compacted.compaction):
            return self._named(history(compacted.versions(form, times=_TIMES), form))
        rows = scan(self.columns, self.table.files, locate=self.lake.locate, keyed=True)
        return self._named(
            history(versions(inside(rows, self.columns, times=_TIMES), form, times=_TIMES), form)
        )

    def _history_of_touched(self, form: "Shape", seq: int) -> str:
        """The versions of the rows whose keys loads after a position touched; of all where one began the state anew."""
        from lakehouse.duck.sql import scan
        from lakehouse.duck.versions import history, inside, versions

        if any(base > seq for base in form.bases):
            return self._history(form)
        rows = scan(self.columns, self.table.files, locate=self.lake.locate, keyed=True)
        key = [column for column in self.columns if column.name in form.key]
        recent = scan(key, self.table.files_since(seq + 1), locate=self.lake.locate, keyed=True)
        same = " AND ".join(
            f"_lake_t.{_quoted(k.name)} IS NOT DISTINCT FROM _lake_k.{_quoted(k.name)}" for k in key
        )
        touched = (
            f"SELECT * FROM ({rows}) AS _lake_k WHERE EXISTS "
            f"(SELECT 1 FROM ({recent}) AS _lake_t WHERE _lake_t._lake_seq > {seq} AND {same})"
        )
        return self._named(
            history(versions(inside(touched, self.columns, times=_TIMES), form, times=_TIMES), form)
        )

    def _of_era(self, era: Era, end: int | None) -> str:
        """The versions of one era; what still held when the next one began ended then."""
        from lakehouse.duck.sql import scan
        from lakehouse.duck.versions import Shape, history, inside, versions

        last = self.log.head if end is None else end - 1
        files = [file for file in self.table.files if file.first <= last and file.last >= era.first]
        scanned = scan(self.columns, files, locate=self.lake.locate, keyed=bool(era.key))
        rows = f"SELECT * FROM ({scanned}) WHERE _lake_seq BETWEEN {era.first} AND {last}"
        if era.key:
            form = Shape(columns=self.columns, key=era.key, volatile=self.form.volatile, grouped=True)
            told = history(versions(inside(rows, self.columns, times=_TIMES), form, times=_TIMES), form)
            return self._until(self._named(told), end)
        data = "".join(f", _lake_r.{_quoted(c.name)} AS c{at}" for at, c in enumerate(self.columns))
        told = (
            "SELECT make_timestamptz(_lake_t.us) AS valid_from, NULL::TIMESTAMPTZ AS valid_to, _lake_r._lake_seq AS from_load, "
            f"NULL::BIGINT AS to_load, 'appeared' AS change, []::VARCHAR[] AS changed_columns{data} "
            f"FROM ({rows}) AS _lake_r JOIN {_TIMES} AS _lake_t ON _lake_t.seq = _lake_r._lake_seq"
        )
        return self._until(told, end)

    def _until(self, told: str, end: int | None) -> str:
        if end is None:
            return told
        at = f"make_timestamptz({microseconds(self.log.commits[end - 1].effective_at)})"
        return f"SELECT * REPLACE (coalesce(valid_to, {at}) AS valid_to, coalesce(to_load, {end}) AS to_load) FROM ({told})"

    def _named(self, told: str) -> str:
        """A history with its columns called as they are in all stretches: what a scraped one is called is in no way."""
        names = ", ".join([*SYSTEM, *(f"c{at}" for at in range(len(self.columns)))])
        return f"SELECT * FROM ({told}) AS _lake_h({names})"


@contextlib.contextmanager
def reader(lake: "Lake", log: Log) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A DuckDB connection that can run the SELECTs of the histories of a log's tables, and open nothing but the lake."""
    from lakehouse.duck.files import PROTOCOL, connect
    from lakehouse.store import LocalStore

    with (
        tempfile.TemporaryDirectory(prefix="lakehouse-", ignore_cleanup_errors=True) as scratch,
        connect(lake) as connection,
    ):
        spill = Path(scratch).resolve()
        local = isinstance(lake.store, LocalStore)
        connection.execute("SET temp_directory = ?", [str(spill)])
        connection.execute(
            "SET allowed_directories = ?",
            [[f"{lake.url}/" if local else f"{PROTOCOL}://{lake.id}/", f"{spill}/"]],
        )
        connection.execute("SET enable_external_access = false")
        connection.execute(f"CREATE TABLE {_TIMES} (seq BIGINT, us BIGINT)")
        steps = [(c.seq, microseconds(c.effective_at)) for c in log.commits]
        connection.execute(
            f"INSERT INTO {_TIMES} SELECT unnest($1::BIGINT[]), unnest($2::BIGINT[])",
            [[seq for seq, _ in steps], [us for _, us in steps]],
        )
        yield connection


def batches(
    connection: "duckdb.DuckDBPyConnection", stretch: Stretch, columns: Sequence[Column], source: str
) -> "Iterator[tuple[pa.Table, pa.Table, pa.Array]]":
    """The versions of a stretch, piece by piece.

    Yields:
        The columns `SYSTEM`; the columns of the data in the physical types of the format; the hash of each row's key
        as int64, null where rows have no key.

    Raises:
        IntegrityError: A part is missing or damaged.
    """
    import duckdb
    import pyarrow as pa

    from lakehouse.duck.trouble import unreadable

    try:
        for batch in connection.cursor().sql(stretch.sql).to_arrow_reader(_ROWS):
            whole = pa.Table.from_batches([batch])
            yield _split(whole, columns, stretch.key)
    except duckdb.Error as error:
        raise unreadable(error, source) from error


def _split(
    whole: "pa.Table", columns: Sequence[Column], key: Sequence[str]
) -> "tuple[pa.Table, pa.Table, pa.Array]":
    import pyarrow as pa

    from lakehouse.parquet.arrow import from_duck

    system = whole.select(list(SYSTEM))
    data = whole.select(list(range(len(SYSTEM), whole.num_columns))).rename_columns([c.name for c in columns])
    physical = from_duck(data, columns)
    return system, physical, key_hashes(physical, key) if key else pa.nulls(whole.num_rows, pa.int64())


def key_hashes(rows: "pa.Table", key: Sequence[str]) -> "pa.Array":
    """A 64-bit hash of each row's key, as int64: equal keys have the same, however wide their types are."""
    import numpy as np
    import pyarrow as pa

    from lakehouse.parquet.digest import row_hashes

    return pa.array(row_hashes(rows.select(list(key))).view(np.int64))


def _quoted(name: str) -> str:
    from lakehouse.duck.names import quote

    return quote(name)
