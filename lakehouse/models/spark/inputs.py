"""Tables of the lake for Spark: the state at a position, read from the lake's own parts.

Where Spark cannot read the parts as they lie (a lake that is no local folder, columns that changed their type in a
way that only DuckDB knows, what is derived from the log), DuckDB writes what it says to a Parquet file first.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.core.log import File, TableLog
from lakehouse.core.types import Column, Type, decimal
from lakehouse.duck.names import quote
from lakehouse.duck.sql import DELETED, SEQ, duck_type
from lakehouse.models.spark.kinds import spark_name, spark_type
from lakehouse.store import LocalStore

if TYPE_CHECKING:
    from lakehouse.lake import Lake

_WIDER = ("int8", "int16", "int32", "int64", "bigint")
_GLOB = re.compile(r"[\\*?\[\]{}]")
_UNREAD = frozenset({"time", "timestamp_ns", "timestamptz_ns"})


def state(session: Any, lake: "Lake", table: TableLog, seq: int) -> Any | None:
    """The state of a table at a position as a DataFrame; None where Spark cannot read it from the parts.

    Args:
        session: A SparkSession.
        lake: The lake.
        table: The table's log.
        seq: Position in it.
    """
    era = table.era_at(seq)
    columns = [column for column in table.columns if not _unread(column.type)]
    if era is None or not isinstance(lake.store, LocalStore) or not set(era.key) <= {c.name for c in columns}:
        return None
    files = [file for file in table.files_since(era.first) if file.first <= seq]
    readable = all(_readable(column, file) for file in files for column in columns)
    if not files or not columns or not readable:
        return None
    rows = None
    for group in _alike(files):
        part = _scan(session, lake, columns, group, keyed=bool(era.key))
        rows = part if rows is None else rows.unionByName(part)
    assert rows is not None  # noqa: S101  (there are files)
    rows = rows.where(f"{spark_name(SEQ)} BETWEEN {era.first} AND {seq}")
    return _newest(rows, columns, era.key)


def opened(session: Any, files: Sequence[str], schema: str) -> Any:
    """Parquet files as a DataFrame of some columns; what the names of folders say is no part of them."""
    reader = session.read.schema(schema).option("recursiveFileLookup", "true")
    return reader.parquet(*(_GLOB.sub(r"\\\g<0>", file) for file in files))


def _newest(rows: Any, columns: Sequence[Column], key: Sequence[str]) -> Any:
    """Of each key the rows of its newest load, without tombstones."""
    kept = [spark_name(column.name) for column in columns]
    if not key:
        return rows.selectExpr(*kept)
    newest = f"max({SEQ}) OVER (PARTITION BY {', '.join(spark_name(k) for k in key)}) AS lake_newest"
    found = rows.selectExpr("*", newest).where(f"{SEQ} = lake_newest AND NOT coalesce({DELETED}, false)")
    return found.selectExpr(*kept)


def _scan(
    session: Any, lake: "Lake", columns: Sequence[Column], files: Sequence[File], *, keyed: bool
) -> Any:
    """Rows of parts that have the same columns, in the types of the table."""
    have = {column.name: column.type for column in files[0].columns if column.type != "null"}
    system = [f"{SEQ} BIGINT"] + ([f"{DELETED} BOOLEAN"] if keyed else [])
    fields = [
        f"{spark_name(name)} {_spark(kind)}"
        for name, kind in have.items()
        if any(c.name == name for c in columns)
    ]
    frame = opened(session, [lake.locate(file.path) for file in files], ", ".join(system + fields))
    items = [SEQ] + ([DELETED] if keyed else [])
    for column in columns:
        name, target = spark_name(column.name), _spark(column.type)
        items.append(f"CAST({name if column.name in have else 'NULL'} AS {target}) AS {name}")
    return frame.selectExpr(*items)


def _spark(kind: Type) -> str:
    import duckdb

    found = spark_type(duckdb.sqltype(duck_type(kind)))
    assert found is not None  # noqa: S101  (checked by _readable)
    return found


def _readable(column: Column, file: File) -> bool:
    """Whether Spark reads a column of a part as what the table says, without a value changing."""
    have = next((c.type for c in file.columns if c.name == column.name), "null")
    if have in ("null", column.type):
        return True
    one, two = have, column.type
    if one in _WIDER and two in _WIDER:
        return _WIDER.index(str(one)) <= _WIDER.index(str(two))
    exact = one in _WIDER[:-1] and (two == "float64" or decimal(two) is not None)
    return exact or (one, two) in {("float32", "float64"), ("date", "timestamp")}


def _unread(kind: Type) -> bool:
    if isinstance(kind, str):
        return kind in _UNREAD
    return (
        _unread(kind["list"]) if "list" in kind else any(_unread(inner) for inner in kind["struct"].values())
    )


def _alike(files: Sequence[File]) -> Iterator[list[File]]:
    """Parts by the columns that lie in them."""
    groups: dict[str, list[File]] = {}
    for file in files:
        groups.setdefault(repr(file.columns), []).append(file)
    yield from groups.values()


def written(lake: "Lake", seq: int, source: str, table: str, folder: Path) -> tuple[Path, dict[str, str]]:
    """A table of the lake, or a view of its catalog, as DuckDB says it is at a position: a Parquet file.

    Args:
        lake: The lake.
        seq: Position in the log of the source.
        source: Name of the source.
        table: Name of the table or view.
        folder: Where the file goes.

    Returns:
        The file, and the types of DuckDB of all columns; those that Spark has nothing for are not in the file.
    """
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{source}.{table}@{seq}.parquet"
    place = f"{quote(source)}.{quote(table)}"
    session = lake.session(as_of=seq)
    with session.explained():
        found = session.connection.sql(session.checked(f"SELECT * FROM {place}"))
        types = dict(zip(found.columns, found.types, strict=True))
        kept = [quote(name) for name, of in types.items() if spark_type(of) is not None]
        rows = session.connection.sql(f"SELECT {', '.join(kept) or '1 AS lake_nothing'} FROM {place}")
        batches = rows.to_arrow_reader(100_000)
        with pq.ParquetWriter(file, batches.schema, version="2.6", store_schema=False) as writer:
            for batch in batches:
                writer.write_batch(batch)
    return file, {name: str(of) for name, of in types.items()}
