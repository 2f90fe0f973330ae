"""From Python and JSON values to Arrow, without changing a value.

Null is the bottom type, integers widen to floats only where every one of them is exact, and what
has no common type becomes JSON text (`pa.json_()`) that keeps each original value.
"""

import json
import math
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa

from lakehouse.core.types import Type
from lakehouse.parquet.arrow import format_type

MAX_STRUCT_FIELDS = 200  # an object with more fields, over all rows, is a map in disguise: JSON text
MAX_DEPTH = 20
_MAX_DIGITS = 38  # of a decimal in DuckDB
_FLOAT_EXACT = 2**53
_JSON = pa.json_()
_ORJSON = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS
_ESCAPE = re.compile(r"\\(?:u[0-9a-f]{4}|.)")
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
    """A value as canonical JSON text: sorted keys, no spaces, integers of any size.

    A number that stands alone is written as DuckDB writes it, and 1.0 as 1, so that values that are
    equal in a typed column are equal as JSON text too. NaN and infinities, which JSON does not have,
    become text, as do dates, times and bytes (in hex).
    """
    if type(value) is float:
        return _number_text(value)
    try:
        text = orjson.dumps(value, option=_ORJSON, default=_plain).decode()
    except (TypeError, ValueError):
        return _slow_text(value)
    if "null" in text and _has_nonfinite(value):  # orjson writes null for NaN
        return _slow_text(value)
    return _ESCAPE.sub(_upper, text) if "\\u00" in text else text


def canonical(value: Any) -> bytes:
    """A JSON value in the form in which equal values are equal bytes.

    Object fields that are null are left out, keys are sorted, and 1.0 is written as 1.
    """
    return json_text(_canon(value)).encode()


def infer_type(values: list[Any]) -> Type:
    """The least type of the format that holds all values unchanged."""
    found = infer(values)
    if found == pa.int64():
        numbers = [v for v in values if v is not None]
        return "int64" if min(numbers) >= -_FLOAT_EXACT and max(numbers) <= _FLOAT_EXACT else "bigint"
    kind = format_type(found)
    return kind if isinstance(kind, str) else _with_bigints(kind, values)


def _with_bigints(kind: Type, values: list[Any]) -> Type:
    """A nested type with `bigint` for `int64` where the values need it."""
    if kind == "int64":
        return "bigint" if any(v is not None and abs(v) > _FLOAT_EXACT for v in values) else kind
    if isinstance(kind, str):
        return kind
    if "list" in kind:
        return {"list": _with_bigints(kind["list"], [x for v in values if v is not None for x in v])}
    objects = [v for v in values if v is not None]
    return {"struct": {n: _with_bigints(k, [v.get(n) for v in objects]) for n, k in kind["struct"].items()}}


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
    if kind is time and any(v.tzinfo is not None for v in values if v is not None):
        return _JSON
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
        return _decimal(values)
    return _JSON


def _struct(objects: list[dict[str, Any]], depth: int) -> pa.DataType:
    names: dict[str, None] = {}
    for value in objects:
        names.update(dict.fromkeys(value))
    if any(type(name) is not str or not _is_unicode(name) for name in names):
        return _JSON
    folded = {name.lower() for name in names}
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


def _decimal(values: list[Any]) -> pa.DataType:
    try:
        found = pa.array([v for v in values if v is not None]).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # NaN, infinities
        return _JSON
    return found if found.precision <= _MAX_DIGITS and found.scale >= 0 else _JSON


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


def _canon(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _canon(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_canon(v) for v in value]
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 2**63:
            return int(value)
        if not math.isfinite(value):
            return f"\0{value}"  # JSON has none, and no text begins so
    return value


def _plain(value: Any) -> Any:
    """What JSON text holds in the place of a value that JSON does not have."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (date, time)):
        return _moment_text(value)
    if isinstance(value, Decimal):
        return orjson.Fragment(_decimal_text(value)) if value.is_finite() else str(value).lower()
    if isinstance(value, (set, tuple)):
        return list(value)
    msg = f"{type(value).__name__} is not a value that a table can hold"
    raise TypeError(msg)


def _number_text(value: float) -> str:
    if not math.isfinite(value):
        return f'"{value}"'
    return str(int(value)) if value.is_integer() and abs(value) < 2**63 else repr(value)


def _decimal_text(value: Decimal) -> str:
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _moment_text(value: date | time) -> str:
    """ISO text, in UTC where there is a zone; a midnight without a zone is the date, as 1.0 is 1."""
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            return value.astimezone(UTC).isoformat(timespec="microseconds")
        if value.time() != time(0):
            return value.isoformat(timespec="microseconds")
        return value.date().isoformat()
    return value.isoformat(timespec="microseconds") if isinstance(value, time) else value.isoformat()


def _slow_text(value: Any) -> str:
    """What `json_text` gives, for values that orjson does not take."""
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f'"{value}"'
    if value is None or isinstance(value, (bool, int)):
        return json.dumps(value)
    if isinstance(value, str):
        return _ESCAPE.sub(_upper, json.dumps(value, ensure_ascii=not _is_unicode(value)))
    if isinstance(value, dict):
        pairs = sorted((str(name), inner) for name, inner in value.items())
        return "{" + ",".join(f"{_slow_text(name)}:{_slow_text(inner)}" for name, inner in pairs) + "}"
    if isinstance(value, (list, tuple, set)):
        return "[" + ",".join(map(_slow_text, value)) + "]"
    plain = _plain(value)
    return _decimal_text(value) if isinstance(plain, orjson.Fragment) else _slow_text(plain)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: kept as an escape
        return False
    return True


def _has_nonfinite(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_nonfinite, value.values()))
    return isinstance(value, (list, tuple, set)) and any(map(_has_nonfinite, value))


def _upper(escape: re.Match[str]) -> str:
    """DuckDB writes the digits of escapes in capitals."""
    text = escape[0]
    return text if text[1] != "u" else "\\u" + text[2:].upper()


def _no_columns(rows: int) -> pa.Table:
    return pa.table({"_": pa.nulls(rows)}).select([])
