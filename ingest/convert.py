"""From the Parquet files of a dlt load package to what the Lake API takes.

JSON text becomes native lists and structs; columns that are dlt's own are left out. Which tables are
written how is decided in `ingest.plan`.
"""

import json
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.parquet import infer

_LONG_INTEGER = re.compile(r"\d{19}")  # orjson reads integers beyond 64 bits as floats


def table_of(paths: Iterable[Path], columns: Mapping[str, Any], *, leave_out: AbstractSet[str]) -> pa.Table:
    """The rows of a table in a load package.

    Args:
        paths: Its files, in the order in which they were written. At least one.
        columns: dlt's schema of the columns.
        leave_out: Columns not to read.
    """
    tables = []
    for path in paths:
        with pq.ParquetFile(path, memory_map=True) as file:
            names = [name for name in file.schema_arrow.names if name not in leave_out]
            tables.append(file.read(columns=names))
    table = _joined(tables)
    for name in _json_texts(table.schema, columns):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, _native(table.column(name)))
    table = _folded(table, columns)
    return pa.Table.from_arrays(
        table.columns, schema=pa.schema([field.with_nullable(True) for field in table.schema])
    )


def empty_table(columns: Mapping[str, Any], *, leave_out: AbstractSet[str]) -> pa.Table:
    """A table without rows: the columns dlt knows, their types left open."""
    names = [name for name in columns if name not in leave_out and _variant_of(name, columns) is None]
    return pa.table({name: pa.nulls(0) for name in names})


def _folded(table: pa.Table, columns: Mapping[str, Any]) -> pa.Table:
    """The table with values that dlt put beside their column, because they have another type, back in it.

    The lake has a type for all of them together; a column `price__v_double` would leave nulls in `price`.
    """
    for variant in table.column_names:
        base = _variant_of(variant, columns)
        if base is None:
            continue
        values = _values(table.column(variant))
        if base in table.column_names:
            own = _values(table.column(base))
            values = [mine if mine is not None else other for mine, other in zip(own, values, strict=True)]
            table = table.drop_columns([variant])
            at = table.schema.get_field_index(base)
            table = table.set_column(at, base, infer.column_to_array(values))
        else:
            at = table.schema.get_field_index(variant)
            table = table.set_column(at, base, infer.column_to_array(values))
    return table


def _variant_of(name: str, columns: Mapping[str, Any]) -> str | None:
    """The column whose values of another type this one holds, as dlt marks it; None for any other."""
    base = name.rpartition("__v_")[0]
    return base if columns.get(name, {}).get("variant") and base in columns else None


def _values(column: pa.ChunkedArray) -> list[Any]:
    if isinstance(column.type, pa.BaseExtensionType):  # JSON text
        return [_parse(text) for text in column.to_pylist()]
    values: list[Any] = column.to_pylist()
    return values


def _joined(tables: list[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(tables, promote_options="default")
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # one type for a column; arrow's own choice can lose values
        return infer.rows_to_table([row for table in tables for row in table.to_pylist()])


def _json_texts(schema: pa.Schema, columns: Mapping[str, Any]) -> list[str]:
    """Columns that dlt holds for JSON and that arrive as text."""
    return [
        field.name
        for field in schema
        if columns.get(field.name, {}).get("data_type") == "json"
        and (pa.types.is_string(field.type) or pa.types.is_large_string(field.type))
    ]


def _native(texts: pa.ChunkedArray) -> pa.Array:
    return infer.column_to_array([_parse(text) for text in texts.to_pylist()])


def _parse(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text) if _LONG_INTEGER.search(text) else orjson.loads(text)
    except ValueError:
        return text  # dlt writes a bare string as it is, without quotes
