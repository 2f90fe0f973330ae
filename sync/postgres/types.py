"""From the lake's types to PostgreSQL's, and values both ways without loss. `docs/postgres.md` has the table.

Arrays are cast here to exactly the type of the column, since the driver writes bytes of the same width as they are. A
value that the type of the column cannot hold lies there as the nearest that it can, and exactly in the column
`_lake_exact` of its row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.core.types import Type, decimal
from lakehouse.parquet.arrow import JSON, arrow_type
from sync.postgres.jsonb import canonical_text, held, json_texts, parsed, same_text, same_value
from sync.postgres.moments import iso_texts, ticks_of
from sync.postgres.plain import decoded, plain

EXACT = "_lake_exact"  # the column of every table with what its other columns cannot hold
EXACT_TYPE = "jsonb"
TEXTS = "text[]"  # of a column of our own: lists of texts without NUL

_INTEGERS = {"int8", "int16", "int32", "int64", "bigint", "uint8", "uint16", "uint32"}
_TYPES = {
    "null": "text", "bool": "boolean", "string": "text", "binary": "bytea", "json": "jsonb",
    "uint64": "numeric(20,0)", "float32": "double precision", "float64": "double precision",
    "date": "date", "time": "time", "timestamp": "timestamp", "timestamptz": "timestamptz",
    "timestamp_ns": "text", "timestamptz_ns": "text", TEXTS: TEXTS,
} | dict.fromkeys(_INTEGERS, "bigint")  # fmt: skip
# The first and last value that PostgreSQL has, as Arrow counts: days, or microseconds, since 1970 (since midnight).
_FIRST_MOMENT, _LAST_MOMENT = -210_866_803_200_000_000, 2**63 - 1  # 4714-11-24 BC; all that 64 bits have
_RANGES = {
    "date": (-2_440_588, 2_145_042_905),  # 4714-11-24 BC to 5874897-12-31
    "time": (0, 86_400_000_000),
    "timestamp": (_FIRST_MOMENT, _LAST_MOMENT),
    "timestamptz": (_FIRST_MOMENT, _LAST_MOMENT),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PgColumn:
    """A column of a table in PostgreSQL.

    Attributes:
        name: Its name in the lake's rows.
        identifier: Its name in PostgreSQL.
        type: Its type of the format.
        description: What is said of it; becomes its comment.
    """

    name: str
    identifier: str
    type: Type
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """Values as PostgreSQL gets them.

    Attributes:
        array: Of the Arrow type that the driver writes as `pg_type` says; as long as what was converted.
        exact: By row, the exact value as text, where the array holds only the nearest.
    """

    array: pa.Array
    exact: Mapping[int, str] = field(default_factory=dict)


def pg_type(kind: Type) -> str:
    """The type of PostgreSQL in which values of a type of the format lie."""
    if not isinstance(kind, str):
        return "jsonb"
    shape = decimal(kind)
    return f"numeric({max(shape)},{shape[1]})" if shape else _TYPES[kind]


def to_postgres(array: pa.Array | pa.ChunkedArray, kind: Type) -> Converted:
    """Values of a column of the lake, as a column of the type `pg_type(kind)` gets them.

    Args:
        array: Values in any layout (dictionaries, slices, large offsets), of the type or of one that it holds. Text of
            a column of the type `json` is JSON text.
        kind: The type of the column over the whole history.
    """
    if not isinstance(kind, str) or kind == "json":
        texts, exact = held(json_texts(array, kind), same_text if kind == "json" else same_value)
        return Converted(array=texts, exact=exact)
    if kind == TEXTS:
        return Converted(array=decoded(array).cast(pa.list_(pa.string())))
    values = plain(array, kind)
    if kind == "null":
        return Converted(array=pa.nulls(len(values), pa.string()))
    if kind == "string":
        return _text(values)
    if kind in _RANGES:
        return _within(values, kind)
    return Converted(array=_cast(values, kind))


def from_postgres(
    array: pa.Array | pa.ChunkedArray, kind: Type, exact: Mapping[int, str] | None = None
) -> pa.Array:
    """What `to_postgres` was given: values in the Arrow type of a type of the format.

    Args:
        array: The column as the driver reads it.
        kind: The type of the column over the whole history.
        exact: By row, what lies in `_lake_exact` for this column.
    """
    values = decoded(array)
    if kind == TEXTS:
        return values
    if kind == "null":
        return pa.nulls(len(values))
    if not isinstance(kind, str) or kind == "json":
        return _from_json(values, kind, exact or {})
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), arrow_type(kind))
    if kind == "string":
        return _put(values, {row: bytes.fromhex(text).decode() for row, text in (exact or {}).items()})
    if kind in _RANGES:
        ticks = values.cast(_ticks_type(kind))
        return _put(ticks, {row: int(text) for row, text in (exact or {}).items()}).cast(arrow_type(kind))
    if kind.endswith("_ns"):
        return _from_iso(values, kind)
    return values.cast(arrow_type(kind))


def encode(batch: pa.RecordBatch, columns: Sequence[PgColumn]) -> pa.RecordBatch:
    """Rows of the lake as a table in PostgreSQL gets them: its columns in order, then `_lake_exact`.

    Args:
        batch: Rows. A column that it lacks is null.
        columns: The columns of the table.
    """
    arrays: list[pa.Array] = []
    exact: dict[int, dict[str, str]] = {}
    for column in columns:
        at = batch.schema.get_field_index(column.name)
        found = batch.column(at) if at >= 0 else pa.nulls(batch.num_rows)
        converted = to_postgres(found, column.type)
        arrays.append(converted.array)
        for row, text in converted.exact.items():
            exact.setdefault(row, {})[column.identifier] = text
    aside = pa.nulls(batch.num_rows, pa.string())
    if exact:
        found = [orjson.dumps(exact[row]).decode() if row in exact else None for row in range(batch.num_rows)]
        aside = pa.array(found, type=pa.string())
    arrays.append(pa.ExtensionArray.from_storage(JSON, aside))
    return pa.RecordBatch.from_arrays(arrays, names=[*(column.identifier for column in columns), EXACT])


def decode(batch: pa.RecordBatch, columns: Sequence[PgColumn]) -> pa.RecordBatch:
    """Rows of a table in PostgreSQL, as the lake has them: what `encode` was given.

    Args:
        batch: Rows as the driver reads them, with `_lake_exact`.
        columns: The columns that are wanted; all of them are there.
    """
    aside = decoded(batch.column(batch.schema.get_field_index(EXACT)))
    rows = pc.indices_nonzero(aside.is_valid()).to_pylist()
    exact: dict[str, dict[int, str]] = {}
    for row, text in zip(rows, aside.drop_null().to_pylist(), strict=True):
        for identifier, value in orjson.loads(text).items():
            exact.setdefault(identifier, {})[row] = value
    arrays = [
        from_postgres(
            batch.column(batch.schema.get_field_index(column.identifier)),
            column.type,
            exact.get(column.identifier),
        )
        for column in columns
    ]
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def _cast(values: pa.Array, kind: str) -> pa.Array:
    if kind in _INTEGERS:
        return values.cast(pa.int64())
    if kind in ("float32", "float64"):
        return values.cast(pa.float64())
    if kind == "uint64":
        return values.cast(pa.decimal128(20, 0))
    if kind.endswith("_ns"):
        return iso_texts(values, kind)
    return values


def _text(values: pa.Array) -> Converted:
    """Text with U+2400 in the place of NUL; exact as the hex digits of its UTF-8."""
    odd = pc.fill_null(pc.match_substring(values, "\0"), False)
    if not pc.any(odd).as_py():
        return Converted(array=values)
    rows = pc.indices_nonzero(odd).to_pylist()
    exact = [text.encode().hex() for text in values.filter(odd).to_pylist()]
    return Converted(
        array=pc.replace_substring(values, "\0", "\u2400"), exact=dict(zip(rows, exact, strict=True))
    )


def _within(values: pa.Array, kind: str) -> Converted:
    """Dates, times and instants within PostgreSQL's range; exact as the number that Arrow has."""
    low, high = _RANGES[kind]
    ticks = values.cast(_ticks_type(kind))
    odd = pc.fill_null(pc.or_(pc.less(ticks, low), pc.greater(ticks, high)), False)
    if not pc.any(odd).as_py():
        return Converted(array=values)
    rows = pc.indices_nonzero(odd).to_pylist()
    exact = dict(zip(rows, map(str, ticks.filter(odd).to_pylist()), strict=True))
    nearest = pc.min_element_wise(pc.max_element_wise(ticks, low, skip_nulls=False), high, skip_nulls=False)
    return Converted(array=nearest.cast(ticks.type).cast(arrow_type(kind)), exact=exact)


def _from_iso(texts: pa.Array, kind: str) -> pa.Array:
    try:
        return texts.cast(arrow_type(kind))
    except pa.ArrowInvalid:  # Arrow does not read the texts that it writes of the first second of its range
        ticks = _unless_null(ticks_of(kind))
        return pa.array(map(ticks, texts.to_pylist()), type=pa.int64()).cast(arrow_type(kind))


def _ticks_type(kind: str) -> pa.DataType:
    return pa.int32() if kind == "date" else pa.int64()


def _put(values: pa.Array, exact: Mapping[int, Any]) -> pa.Array:
    """An array with other values in some rows."""
    if not exact:
        return values
    items = values.to_pylist()
    for row, value in exact.items():
        items[row] = value
    return pa.array(items, type=values.type)


def _from_json(texts: pa.Array, kind: Type, exact: Mapping[int, str]) -> pa.Array:
    found = texts.to_pylist()
    if kind == "json":
        read: list[Any] = [None if text is None else canonical_text(text) for text in found]
        for row, text in exact.items():
            read[row] = text
        return pa.ExtensionArray.from_storage(JSON, pa.array(read, type=pa.string()))
    value = _typed(kind)
    for row, text in exact.items():
        found[row] = text
    values = [None if text is None else value(parsed(text)) for text in found]
    return pa.array(values, type=_counted(kind)).cast(arrow_type(kind))


def _typed(kind: Type) -> Callable[[Any], Any]:
    """What turns a value of JSON text into one that Arrow takes for the type."""
    if not isinstance(kind, str):
        return _typed_list(kind["list"]) if "list" in kind else _typed_struct(kind["struct"])
    if kind.startswith(("date", "time")):
        return _unless_null(ticks_of(kind))
    if kind == "binary":
        return _unless_null(bytes.fromhex)
    if kind in ("float32", "float64"):
        return _unless_null(float)
    if decimal(kind):
        return _unless_null(lambda number: Decimal(str(number)))
    return lambda value: value


def _typed_list(kind: Type) -> Callable[[Any], Any]:
    item = _typed(kind)
    return _unless_null(lambda values: [item(value) for value in values])


def _typed_struct(fields: Mapping[str, Type]) -> Callable[[Any], Any]:
    inner = {name: _typed(kind) for name, kind in fields.items()}
    return _unless_null(lambda found: {name: value(found.get(name)) for name, value in inner.items()})


def _unless_null(value: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda found: None if found is None else value(found)


def _counted(kind: Type) -> pa.DataType:
    """The Arrow type of a type of the format, with numbers in the place of dates, times and instants."""
    if not isinstance(kind, str):
        if "list" in kind:
            return pa.list_(_counted(kind["list"]))
        return pa.struct([pa.field(name, _counted(inner)) for name, inner in kind["struct"].items()])
    if kind.startswith(("date", "time")):
        return _ticks_type(kind)
    return arrow_type(kind)
