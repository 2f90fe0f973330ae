"""From Python and JSON values to Arrow, without changing a value.

Null is the bottom type, integers widen to floats only where every one of them is exact, and what
has no common type becomes JSON text (`pa.json_()`) that keeps each original value.
"""

import json
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa

MAX_STRUCT_FIELDS = 200  # an object with more fields, over all rows, is a map in disguise: JSON text
MAX_DEPTH = 20
_FLOAT_EXACT = 2**53
_JSON = pa.json_()
_NONE = type(None)
_SCALARS = {
    str: pa.string(),
    bool: pa.bool_(),
    float: pa.float64(),
    bytes: pa.binary(),
    date: pa.date32(),
    time: pa.time64("us"),
}


def rows_to_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """An Arrow table with a column for every key that occurs in any row, in order of appearance.

    Args:
        rows: Objects with text keys. A key that a row lacks reads as null.

    Returns:
        A table of `len(rows)` rows. Objects become structs, lists become lists; where values of a
        column (or of a nested field) have no common type, it holds JSON text.
    """
    names: dict[str, None] = {}
    for row in rows:
        if not row.keys() <= names.keys():
            names.update(dict.fromkeys(row))
    columns = [column_to_array([row.get(name) for row in rows]) for name in names]
    if not names:
        return pa.table({}).select([]) if not rows else _no_columns(len(rows))
    return pa.table(columns, names=list(names))


def column_to_array(values: list[Any]) -> pa.Array:
    """One column of values as an Arrow array of the least type that holds them all unchanged."""
    found = infer(values)
    if found == _JSON:
        return json_array(values)
    try:
        return pa.array(_to_storage(values, found), type=found)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeError):
        return json_array(values)


def json_array(values: list[Any]) -> pa.Array:
    """Values as JSON text with sorted keys; None stays null."""
    texts = [None if value is None else json_text(value) for value in values]
    return pa.ExtensionArray.from_storage(_JSON, pa.array(texts, type=pa.string()))


def json_text(value: Any) -> str:
    """A value as canonical JSON text: sorted keys, no spaces, integers of any size."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=_plain).decode()
    except (TypeError, ValueError):
        return json.dumps(
            value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain, allow_nan=False
        )


def infer(values: list[Any], depth: int = 0) -> pa.DataType:
    """The least Arrow type that holds all values unchanged; `pa.json_()` where there is none."""
    kinds = set(map(type, values))
    kinds.discard(_NONE)
    if not kinds:
        return pa.null()
    if len(kinds) == 1:
        return _one_kind(next(iter(kinds)), values, depth)
    if kinds == {int, float}:
        exact = all(-_FLOAT_EXACT <= v <= _FLOAT_EXACT for v in values if type(v) is int)
        return pa.float64() if exact else _JSON
    return _JSON


def _one_kind(kind: type, values: list[Any], depth: int) -> pa.DataType:
    if kind is int:
        numbers = [v for v in values if v is not None]
        return pa.int64() if min(numbers) >= -(2**63) and max(numbers) < 2**63 else _JSON
    if kind in _SCALARS:
        return _SCALARS[kind]
    if depth >= MAX_DEPTH:
        return _JSON
    if kind is dict:
        return _struct([v for v in values if v is not None], depth)
    if kind is list:
        return _list([x for v in values if v is not None for x in v], depth)
    if kind is datetime:
        zones = {v.tzinfo is not None for v in values if v is not None}
        return pa.timestamp("us", "UTC" if True in zones else None) if len(zones) == 1 else _JSON
    if kind is Decimal:
        return pa.array([v for v in values if v is not None]).type
    return _JSON


def _struct(objects: list[dict[str, Any]], depth: int) -> pa.DataType:
    names: dict[str, None] = {}
    for value in objects:
        names.update(dict.fromkeys(value))
    folded = {str(name).lower() for name in names}
    # Parquet has no empty struct, DuckDB no empty name and no names that differ only in case.
    if not names or "" in folded or len(folded) < len(names) or len(names) > MAX_STRUCT_FIELDS:
        return _JSON
    if any(not value for value in objects) and len(objects) > 1:
        return _JSON  # `{}` beside `{"a": 1}`: a struct of nulls would read as {"a": null}
    fields = []
    for name in names:
        inner = infer([value.get(name) for value in objects], depth + 1)
        if inner == _JSON:  # extension types inside nested ones do not survive Parquet everywhere
            return _JSON
        fields.append(pa.field(name, inner))
    return pa.struct(fields)


def _list(items: list[Any], depth: int) -> pa.DataType:
    inner = infer(items, depth + 1)
    if inner == _JSON:
        return _JSON
    return pa.list_(inner)


def _to_storage(values: list[Any], found: pa.DataType) -> list[Any]:
    """Values that pyarrow takes for that type; integers among floats made floats on purpose."""
    if pa.types.is_floating(found) and int in set(map(type, values)):
        return [None if v is None else float(v) for v in values]
    return values


def _plain(value: Any) -> Any:
    """What JSON text holds in the place of a value that JSON does not have."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (set, tuple)):
        return list(value)
    msg = f"{type(value).__name__} is not a value that a table can hold"
    raise TypeError(msg)


def _no_columns(rows: int) -> pa.Table:
    return pa.table({"_": pa.nulls(rows)}).select([])
