"""Between Arrow and the format's types: what a user's data becomes before it is written.

`normalize` brings any Arrow table into the few physical types that every Parquet reader has, and
says which types of the format the columns have.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.core.types import Column, Type, decimal, unify
from lakehouse.errors import SchemaError

JSON = pa.json_()
_FLOAT_EXACT = 2**53

_TO_ARROW: dict[str, pa.DataType] = {
    "null": pa.null(), "bool": pa.bool_(), "string": pa.string(), "binary": pa.binary(), "json": JSON,
    "int8": pa.int8(), "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(), "bigint": pa.int64(),
    "uint8": pa.uint8(), "uint16": pa.uint16(), "uint32": pa.uint32(), "uint64": pa.uint64(),
    "float32": pa.float32(), "float64": pa.float64(),
    "date": pa.date32(), "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us", "UTC"),
    "timestamp_ns": pa.timestamp("ns"), "timestamptz_ns": pa.timestamp("ns", "UTC"),
}  # fmt: skip
_FROM_ARROW = {str(arrow): name for name, arrow in _TO_ARROW.items() if name not in ("bigint", "json")}


def to_table(data: Any) -> pa.Table:
    """Data of any kind that a load takes, as one Arrow table.

    Args:
        data: pyarrow Table, RecordBatch or RecordBatchReader; polars DataFrame or LazyFrame; pandas
            DataFrame; DuckDB relation; list of dicts; path (or paths) of Parquet files; or anything
            that exports an Arrow stream.

    Raises:
        SchemaError: Something else was given.
    """
    from lakehouse.parquet.infer import rows_to_table

    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, Path):
        import pyarrow.parquet as pq

        return pq.read_table(data, partitioning=None)
    if type(data).__name__ == "LazyFrame" and hasattr(data, "collect"):
        data = data.collect()
    if type(data).__name__ == "DataFrame" and type(data).__module__.startswith("pandas"):
        return pa.Table.from_pandas(data, preserve_index=False)
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes, dict)):
        items = list(data)
        if all(isinstance(item, dict) for item in items):
            try:
                return rows_to_table(items)
            except TypeError as error:
                raise SchemaError(str(error), hint="Turn such values into text or numbers first.") from error
        return stacked([to_table(item) for item in items])
    msg = f"{type(data).__name__} is not data that a load can take"
    raise SchemaError(
        msg, hint="Give an Arrow table, a Polars or pandas frame, a DuckDB relation or a list of dicts."
    )


def stacked(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables one after the other, each column in the least type that holds the values of all of them.

    pyarrow's own promotion is not for this: it takes JSON text for plain text, and bytes for text.

    Raises:
        SchemaError: A type that cannot be kept.
    """
    if all(table.schema.equals(tables[0].schema) for table in tables):
        return pa.concat_tables(tables)
    whole = [normalize(table) for table in tables]
    kinds: dict[str, Type] = {}
    for _, types in whole:
        kinds |= {name: unify(kinds.get(name, "null"), kind) for name, kind in types.items()}
    return pa.concat_tables(
        pa.table([_widened_or_nulls(table, name, kind) for name, kind in kinds.items()], names=list(kinds))
        for table, _ in whole
    )


def _widened_or_nulls(table: pa.Table, name: str, kind: Type) -> pa.ChunkedArray | pa.Array:
    return widen(table[name] if name in table.column_names else pa.nulls(table.num_rows), kind)


def normalize(table: pa.Table) -> tuple[pa.Table, dict[str, Type]]:
    """A table in the physical types of the format, and the format's type of each column.

    Raises:
        SchemaError: A type that cannot be kept (durations, intervals, unions).
    """
    arrays, types = [], {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        array, kind = _normalize_column(name, column)
        arrays.append(array)
        types[name] = kind
    return pa.table(arrays, names=table.column_names) if arrays else table, types


def physical(table: pa.Table) -> pa.Table:
    """The table as it is written: columns of nulls only are left out, nested nulls get a type."""
    names, arrays = [], []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not pa.types.is_null(column.type):
            target = _with_types_for_nulls(column.type)
            names.append(name)
            arrays.append(column if target == column.type else column.cast(target))
    return pa.table(arrays, names=names)


def arrow_type(kind: Type) -> pa.DataType:
    """The Arrow type in which values of a type of the format lie in a part."""
    if isinstance(kind, str):
        shape = decimal(kind)
        return pa.decimal128(*shape) if shape else _TO_ARROW[kind]
    if "list" in kind:
        return pa.list_(arrow_type(kind["list"]))
    return pa.struct([pa.field(name, arrow_type(inner)) for name, inner in kind["struct"].items()])


def format_type(arrow: pa.DataType) -> Type:
    """The format's type of a physical Arrow type (`bigint` is told from `int64` by values alone)."""
    if arrow == JSON:
        return "json"
    if pa.types.is_list(arrow):
        return {"list": format_type(arrow.value_type)}
    if pa.types.is_struct(arrow):
        return {"struct": {field.name: format_type(field.type) for field in arrow}}
    if pa.types.is_decimal(arrow):
        return f"decimal({arrow.precision},{arrow.scale})"
    return _FROM_ARROW[str(arrow)]


def is_wide(column: pa.ChunkedArray | pa.Array) -> bool:
    """Whether an int64 column holds integers that a float64 could not hold exactly."""
    if len(column) == 0:
        return False
    least = pc.min_max(column).as_py()
    return least["min"] is not None and (least["min"] < -_FLOAT_EXACT or least["max"] > _FLOAT_EXACT)


def _normalize_column(name: str, column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, Type]:
    try:
        target = _target(column.type)
    except TypeError:
        msg = f"column {name!r} has the type {column.type}, which a lake does not keep"
        raise SchemaError(msg, hint="Cast it first, for example to text or to a number.") from None
    if target == JSON and column.type != JSON:
        from lakehouse.parquet.infer import json_array

        column = pa.chunked_array([json_array([_parsed(v, column.type) for v in column.to_pylist()])])
    elif target != column.type or pa.types.is_timestamp(target):
        try:
            column = _cast(column, target)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            msg = f"column {name!r}: {error}"
            raise SchemaError(msg, hint="Cast the column before loading it.") from error
    return column, column_type(column)


def column_type(column: pa.ChunkedArray | pa.Array) -> Type:
    """The format's type of a physical column, with `bigint` where integers need it, at any depth."""
    kind = column.type
    if kind == pa.int64():
        return "bigint" if is_wide(column) else "int64"
    if not _holds_int64(kind):
        return format_type(kind)
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    if pa.types.is_list(kind):
        items = pa.chunked_array([chunk.flatten() for chunk in chunks], type=kind.value_type)
        return {"list": column_type(items)}
    flat = [chunk.flatten() for chunk in chunks]
    return {
        "struct": {
            field.name: column_type(pa.chunked_array([f[i] for f in flat], type=field.type))
            for i, field in enumerate(kind)
        }
    }


def _holds_int64(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _holds_int64(kind.value_type)
    if pa.types.is_struct(kind):
        return any(_holds_int64(field.type) for field in kind)
    return bool(kind == pa.int64())


def _parsed(value: Any, kind: pa.DataType) -> Any:
    """A nested Python value with the JSON text inside it parsed."""
    if value is None:
        return None
    if kind == JSON:
        return json.loads(value)
    if pa.types.is_struct(kind):
        return {field.name: _parsed(value[field.name], field.type) for field in kind}
    if pa.types.is_map(kind):
        return [{"key": k, "value": _parsed(v, kind.item_type)} for k, v in value]
    if hasattr(kind, "value_type") and isinstance(value, list):
        return [_parsed(item, kind.value_type) for item in value]
    return value


def _cast(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_run_end_encoded(column.type):
        return _cast(pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks]), target)
    if pa.types.is_list_view(column.type):  # casting a slice of one gives a broken array
        return pa.chunked_array([pa.array(column.to_pylist(), type=target)])
    if pa.types.is_map(column.type):
        entries = [None if v is None else [{"key": k, "value": x} for k, x in v] for v in column.to_pylist()]
        return pa.chunked_array([pa.array(entries, type=target)])
    if pa.types.is_timestamp(target) and target.unit == "ns":
        whole = pa.timestamp("us", target.tz)
        try:
            return column.cast(whole)  # nanoseconds only where some are needed
        except pa.ArrowInvalid:
            return column.cast(target)
    return column.cast(target)


def _target(arrow: pa.DataType) -> pa.DataType:  # noqa: PLR0911, PLR0912, C901 - one line a type
    """The physical type for an Arrow type; TypeError where there is none."""
    t = pa.types
    if arrow == JSON:
        return JSON
    if isinstance(arrow, pa.BaseExtensionType):
        return _target(arrow.storage_type)
    if t.is_dictionary(arrow):
        return _target(arrow.value_type)
    if t.is_run_end_encoded(arrow):
        return _target(arrow.value_type)
    if t.is_large_string(arrow) or t.is_string_view(arrow):
        return pa.string()
    if t.is_large_binary(arrow) or t.is_fixed_size_binary(arrow) or t.is_binary_view(arrow):
        return pa.binary()
    if t.is_float16(arrow):
        return pa.float32()
    if t.is_date64(arrow):
        return pa.date32()
    if t.is_time(arrow):
        return pa.time64("us")
    if t.is_timestamp(arrow):
        return pa.timestamp("ns" if arrow.unit == "ns" else "us", "UTC" if arrow.tz else None)
    if t.is_map(arrow):
        return pa.list_(pa.struct([("key", _target(arrow.key_type)), ("value", _target(arrow.item_type))]))
    if t.is_list(arrow) or t.is_large_list(arrow) or t.is_fixed_size_list(arrow) or t.is_list_view(arrow):
        inner = _target(arrow.value_type)
        return JSON if inner == JSON else pa.list_(inner)
    if t.is_struct(arrow):
        return _target_struct(arrow)
    if t.is_decimal(arrow):
        if arrow.precision > 38 or arrow.scale < 0:  # noqa: PLR2004 - the widest that DuckDB has
            raise TypeError
        return pa.decimal128(arrow.precision, arrow.scale)
    if str(arrow) in _FROM_ARROW:
        return arrow
    raise TypeError


def _target_struct(arrow: pa.StructType) -> pa.DataType:
    fields = [pa.field(field.name, _target(field.type)) for field in arrow]
    names = {field.name.lower() for field in arrow}
    if not fields or "" in names or len(names) < len(fields) or any(f.type == JSON for f in fields):
        return JSON
    return pa.struct(fields)


def _with_types_for_nulls(arrow: pa.DataType) -> pa.DataType:
    if pa.types.is_null(arrow):
        return pa.string()
    if pa.types.is_list(arrow):
        return pa.list_(_with_types_for_nulls(arrow.value_type))
    if pa.types.is_struct(arrow):
        return pa.struct([pa.field(f.name, _with_types_for_nulls(f.type)) for f in arrow])
    return arrow


def widen(column: pa.ChunkedArray | pa.Array, kind: Type) -> pa.ChunkedArray | pa.Array:
    """A column in a wider type of the format."""
    want = arrow_type(kind)
    if column.type == want:
        return column
    if want == JSON:
        from lakehouse.parquet.infer import json_array

        return json_array(column.to_pylist())
    try:
        return column.cast(want)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return pa.array(column.to_pylist(), type=want)


def from_duck(table: pa.Table, columns: Iterable[Column]) -> pa.Table:
    """A DuckDB result in the physical types of the format: DuckDB hands JSON out as plain text."""
    arrays, names = [], []
    for column in columns:
        want = arrow_type(column.type)
        have = table[column.name].combine_chunks()
        if isinstance(have, pa.ChunkedArray):
            have = pa.concat_arrays(have.chunks) if have.num_chunks else pa.array([], have.type)
        if pa.types.is_null(want):
            arrays.append(pa.nulls(len(have)))
        elif want == JSON:
            arrays.append(pa.ExtensionArray.from_storage(JSON, have.cast(pa.string())))
        else:
            want = _with_types_for_nulls(want)
            arrays.append(have if have.type == want else have.cast(want))
        names.append(column.name)
    return pa.table(arrays, names=names)
