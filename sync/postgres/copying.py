"""Rows of the lake into tables of PostgreSQL and back, by COPY in its binary form.

Everything happens in the caller's transaction, but for large first loads: these fill, over several connections, a table
that nobody looks for, which the caller's transaction then puts in its place.
"""

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakehouse.errors import LakehouseError
from sync.postgres.connecting import Connection, connect, execute, fetch, interruptible, translated
from sync.postgres.ddl import create_table, drop_table
from sync.postgres.names import identifier, literal, quote
from sync.postgres.types import PgColumn, decode, encode

__all__ = [
    "Connection",
    "Loaded",
    "connect",
    "copy_rows",
    "drop_abandoned",
    "execute",
    "fetch",
    "parallel_copy",
    "read_rows",
]

LOADING = "_lake_loading_"  # what names of tables begin with that are being filled
ROWS_AT_A_TIME = 65_536  # of a batch that is converted


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A table that was filled and is not in its place yet.

    Attributes:
        schema: The schema that it lies in.
        table: Its name.
        rows: How many rows it has.
    """

    schema: str
    table: str
    rows: int


def copy_rows(
    connection: Connection,
    schema: str,
    table: str,
    batches: Iterable[pa.RecordBatch],
    columns: Sequence[PgColumn],
) -> int:
    """Copy rows into a table, in the transaction of the connection. Nobody sees them before its commit.

    Args:
        connection: As `connect` gives it.
        schema: The schema of the table, as it is called in PostgreSQL.
        table: The table, made with `ddl.create_table` of the same columns (and others that stay null).
        batches: Rows as the lake has them; a column that a batch lacks is null.
        columns: The columns that are copied.

    Returns:
        How many rows there were.

    Raises:
        LakehouseError: As `translated` says; the transaction can only be rolled back.
        Exception: What `batches` raised.
    """
    source = _Source(batches)
    with connection.cursor() as cursor:
        return _ingest(cursor, schema, table, source, columns)


def read_rows(connection: Connection, query: str, columns: Sequence[PgColumn]) -> Iterator[pa.RecordBatch]:
    """The rows that a query gives, as the lake has them.

    Args:
        connection: As `connect` gives it; its transaction is used until the last batch was taken.
        query: A SELECT that gives the identifiers of the columns and `_lake_exact`.
        columns: The columns that are read.

    Raises:
        LakehouseError: As `translated` says.
    """
    with translated("reading rows"), connection.cursor() as cursor:
        cursor.execute(query)
        for batch in cursor.fetch_record_batch():
            yield decode(batch, columns)


def parallel_copy(
    connection: Connection,
    url: str,
    schema: str,
    table: str,
    batches: Iterable[pa.RecordBatch],
    columns: Sequence[PgColumn],
    *,
    connections: int = 4,
    required: Iterable[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Loaded:
    """Copy rows over several connections into a new table whose name begins with `_lake_loading_`.

    The table is durable, and committed before this returns; the caller's transaction moves it to its place
    (`ddl.move_table`). Until that transaction ends it holds a lock that tells `drop_abandoned` that the table is in use.

    Args:
        connection: The caller's, with the transaction that will move the table.
        url: Where the others connect to.
        schema: A schema that is there and committed.
        table: What the table will be called; part of its name until then.
        batches: Rows as the lake has them; taken by one thread at a time.
        columns: The columns of the table.
        connections: How many connections copy.
        required: Identifiers of columns that are never null.
        progress: Called with the number of rows of each batch that was handed over, by any thread.

    Raises:
        LakehouseError: As `translated` says; the table is dropped if the server still answers.
        Exception: What `batches` raised.
    """
    name = identifier(f"{LOADING}{uuid.uuid4().hex[:12]}_{table}")
    fetch(connection, f"SELECT pg_advisory_xact_lock({_lock(schema, name)}) IS NULL")  # read: so it is held
    source = _Source(batches, progress)
    with connect(url) as maker:
        execute(maker, create_table(schema, name, columns, required=required))
        maker.commit()
        try:
            rows = _copy_all(url, schema, name, source, columns, connections)
        except BaseException:
            with suppress(LakehouseError):
                execute(maker, drop_table(schema, name))
                maker.commit()
            raise
    return Loaded(schema=schema, table=name, rows=rows)


def drop_abandoned(connection: Connection, schema: str) -> list[str]:
    """Drop the tables of first loads that did not come to their end, and tell which.

    What others are filling now stays. The caller commits.

    Raises:
        LakehouseError: As `translated` says.
    """
    query = (
        "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE c.relkind = 'r' AND n.nspname = {literal(schema)} AND starts_with(c.relname, {literal(LOADING)}) "
        "ORDER BY 1"
    )
    dropped = []
    for name in fetch(connection, query).column(0).to_pylist():
        free = (
            fetch(connection, f"SELECT pg_try_advisory_xact_lock({_lock(schema, name)})").column(0)[0].as_py()
        )
        if free:
            execute(connection, drop_table(schema, name))
            dropped.append(name)
    return dropped


class _Stopped(Exception):  # noqa: N818 - no error: another thread has the one that counts
    """Another thread failed."""


class _Source:
    """Batches that several threads take from, cut to a size at which converting stays in the cache."""

    def __init__(
        self, batches: Iterable[pa.RecordBatch], progress: Callable[[int], None] | None = None
    ) -> None:
        self._batches = _cut(batches)
        self._lock = threading.Lock()
        self._progress = progress
        self.stopped = threading.Event()

    def take(self) -> pa.RecordBatch | None:
        """The next batch; None after the last one."""
        with self._lock:
            if self.stopped.is_set():
                raise _Stopped
            return next(self._batches, None)

    def told(self, rows: int) -> None:
        """Say that rows were handed over."""
        if self._progress:
            self._progress(rows)


def _cut(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS_AT_A_TIME):
            yield batch.slice(start, ROWS_AT_A_TIME)


def _copy_all(
    url: str, schema: str, table: str, source: _Source, columns: Sequence[PgColumn], connections: int
) -> int:
    def copy() -> int:
        try:
            with connect(url) as connection, connection.cursor() as cursor:
                rows = _ingest(cursor, schema, table, source, columns)
                with translated(f"committing rows of {quote(table)}"):
                    connection.commit()
                return rows
        except BaseException:
            source.stopped.set()
            raise

    with ThreadPoolExecutor(max(connections, 1)) as pool:
        running = [pool.submit(copy) for _ in range(max(connections, 1))]
        try:
            failures = [found for found in (one.exception() for one in running) if found is not None]
        except BaseException:
            source.stopped.set()
            raise
    for failure in sorted(failures, key=lambda found: isinstance(found, _Stopped)):
        raise failure
    return sum(one.result() for one in running)


def _ingest(cursor: Any, schema: str, table: str, source: _Source, columns: Sequence[PgColumn]) -> int:
    """COPY what the source gives. Its errors pass the driver as text, so they are kept and raised as they are."""
    failed: list[BaseException] = []
    rows = 0

    def converted() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        try:
            while (batch := source.take()) is not None:
                yield encode(batch, columns)
                rows += batch.num_rows
                source.told(batch.num_rows)
        except BaseException as error:
            failed.append(error)
            raise

    schema_of_rows = encode(pa.record_batch([], names=[]), columns).schema
    reader = pa.RecordBatchReader.from_batches(schema_of_rows, converted())
    with translated(f"copying rows into {quote(schema)}.{quote(table)}"):
        try:
            # A COPY that the server gave up is noticed at its end alone: the rows have to end, too.
            interruptible(
                cursor,
                lambda: cursor.adbc_ingest(table, reader, mode="append", db_schema_name=schema),
                source.stopped.set,
            )
        except Exception:
            if failed:
                raise failed[0] from None
            raise
    return rows


def _lock(schema: str, table: str) -> int:
    """The number of the advisory lock of a table that is being filled."""
    digest = hashlib.sha256(f"lakehouse/{schema}/{table}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
