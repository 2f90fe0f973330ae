"""JSON text of nested values, as `docs/format.md` has it, and what of JSON text a `jsonb` can hold.

Encoding is done a column at a time; decoding, which only verification needs, value by value.
"""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.core.types import Type, decimal
from lakehouse.parquet.arrow import JSON
from lakehouse.parquet.infer import json_text
from sync.postgres.moments import moment_texts
from sync.postgres.names import sendable
from sync.postgres.plain import decoded, listed, plain

# Of a number in PostgreSQL, before and after the point.
_MOST_DIGITS, _MOST_SCALE = 131072, 16383
_INT_DIGITS = 4000  # Python refuses to make integers of much longer text

# Where jsonb may not give back what it got: NUL, halves of surrogate pairs, exponents, -0, very long numbers,
# and NaN, which Python's parser takes. Text without these needs no closer look.
_NUMBER_AT = r"(?:^|[:\[,\s])-?"
_DOUBTFUL = (
    r"\\u0000|\\u[dD][89a-fA-F]|[0-9]{1000}|"
    rf"{_NUMBER_AT}(?:[0-9][0-9.]*[eE]|NaN|Inf)|(?:^|[:\[,\s])-0(?:\.0+)?(?:[,\]}}\s]|$)"
)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?(?:Infinity|NaN|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)', re.DOTALL)
_LONG_NUMBER = re.compile(r"[0-9]{16}|[0-9]\.[0-9]{15}")
_ESCAPED = r'["\\\x00-\x1f]'


def json_texts(array: pa.Array | pa.ChunkedArray, kind: Type) -> pa.Array:
    """The JSON text of each value of a column; null stays null.

    Args:
        array: Values of any type of the format, in its Arrow type or a narrower one.
        kind: The type.

    Returns:
        An array of `string`, of the same length.
    """
    if isinstance(kind, str):
        values = plain(array, kind)
        texts = _scalars(values, kind)
    else:
        values = decoded(array)
        if pa.types.is_null(values.type):
            return pa.nulls(len(values), pa.string())
        texts = _lists(listed(values), kind["list"]) if "list" in kind else _structs(values, kind["struct"])
    return pc.if_else(values.is_valid(), texts, pa.scalar(None, pa.string())) if values.null_count else texts


def _scalars(values: pa.Array, kind: str) -> pa.Array:
    if kind in ("json", "null"):
        return values.cast(pa.string())
    if kind == "string":
        return _quoted_texts(values)
    if kind in ("float32", "float64"):
        return _floats(values)
    if kind == "binary":
        hexed = [None if value is None else f'"{value.hex()}"' for value in values.to_pylist()]
        return pa.array(hexed, type=pa.string())
    if decimal(kind):
        return _each_distinct(values, json_text)
    if kind.startswith(("date", "time")):
        return moment_texts(values, kind)
    return values.cast(pa.string())


def _quoted_texts(values: pa.Array) -> pa.Array:
    quoted = pc.binary_join_element_wise('"', values, '"', "")
    odd = pc.fill_null(pc.match_substring_regex(values, _ESCAPED), False)
    if not pc.any(odd).as_py():
        return quoted
    return pc.replace_with_mask(quoted, odd, pa.array(map(json_text, values.filter(odd).to_pylist())))


def _floats(values: pa.Array) -> pa.Array:
    numbers = np.ascontiguousarray(values.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False))
    if not len(numbers):
        return pa.array([], type=pa.string())
    finite = np.isfinite(numbers)
    dumped = orjson.dumps(np.where(finite, numbers, 0.0), option=orjson.OPT_SERIALIZE_NUMPY)
    texts = pa.array(dumped[1:-1].decode().split(","))
    if finite.all():
        return texts
    named = [f'"{value}"' for value in numbers[~finite].tolist()]
    return pc.replace_with_mask(texts, pa.array(~finite), pa.array(named))


def _each_distinct(values: pa.Array, text: Callable[[Any], str]) -> pa.Array:
    encoded = values.dictionary_encode()
    texts = pa.array([text(value) for value in encoded.dictionary.to_pylist()], type=pa.string())
    return texts.take(encoded.indices)


def _lists(values: pa.Array, kind: Type) -> pa.Array:
    items = json_texts(values.flatten(), kind).fill_null("null")
    lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))).astype(np.int32)
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), items), ",")
    return pc.binary_join_element_wise("[", joined, "]", "")


def _structs(values: pa.Array, fields: dict[str, Type]) -> pa.Array:
    """Objects without their nulls: one reads the same before and after its struct gained a field, as in the lake."""
    if not len(values):
        return pa.array([], type=pa.string())
    have = dict(zip((field.name for field in values.type), values.flatten(), strict=True))
    members = [
        pc.binary_join_element_wise(
            f",{json_text(name)}:", json_texts(have[name], fields[name]), ""
        ).fill_null("")
        for name in sorted(fields)
        if name in have
    ]
    if not members:
        return pa.array(["{}"] * len(values), type=pa.string())
    # Not joined by commas: pyarrow, told to skip nulls, leaves out rows that have nothing else.
    joined = pc.utf8_slice_codeunits(pc.binary_join_element_wise(*members, ""), 1)
    return pc.binary_join_element_wise("{", joined, "}", "")


def held(texts: pa.Array, same: Callable[[str, str], bool]) -> tuple[pa.Array, dict[int, str]]:
    r"""JSON texts as `jsonb` takes them, and by row those that it cannot give back exactly.

    What jsonb does not have is replaced: `\u0000` by U+2400, half a surrogate pair by U+FFFD, a number beyond
    131,072 digits (16,383 after the point) by its text, NaN and infinities by theirs.

    Args:
        texts: JSON text, an array of `string`.
        same: Whether what comes back (first) says what went in (second); where it does not, the row is told.

    Returns:
        An array of `pa.json_()`, and the exact text of each row that is told.
    """
    doubtful = pc.fill_null(pc.match_substring_regex(texts, _DOUBTFUL), False)
    exact: dict[int, str] = {}
    if pc.any(doubtful).as_py():
        rows = np.flatnonzero(np.asarray(doubtful))
        kept = []
        for row, text in zip(rows.tolist(), texts.filter(doubtful).to_pylist(), strict=True):
            kept.append(_TOKEN.sub(_held_token, text))
            if not same(kept[-1], text):
                exact[row] = text
        texts = pc.replace_with_mask(texts, doubtful, pa.array(kept, type=pa.string()))
    return pa.ExtensionArray.from_storage(JSON, texts), exact


def _held_token(match: re.Match[str]) -> str:
    token = match[0]
    if token[0] != '"':
        return _held_number(token)
    if "\\u" not in token:
        return token
    return json.dumps(sendable(json.loads(token, strict=False)), ensure_ascii=False)


def _held_number(token: str) -> str:
    """A number as PostgreSQL writes it, or its text where it has no such number."""
    if token.endswith(("N", "y")):
        return f'"{json_text(float(token)).strip(chr(34))}"'
    number = Decimal(token)
    exponent = number.as_tuple().exponent
    if number.adjusted() >= _MOST_DIGITS or -int(exponent) > _MOST_SCALE:
        return f'"{token}"'
    text = format(number, "f")
    return text if number else text.lstrip("-")


def parsed(text: str) -> Any:
    """The value of JSON text: whole numbers of any size, other numbers as float where that is what they say."""
    if _LONG_NUMBER.search(text):
        return json.loads(text, parse_float=_parse_float, parse_int=_parse_int)
    return json.loads(text)


def canonical_text(text: str) -> str:
    """JSON text with sorted keys and without spaces; numbers have the digits that they had."""
    return json_text(json.loads(text, parse_float=orjson.Fragment, parse_int=orjson.Fragment))


def same_text(back: str, text: str) -> bool:
    """Whether JSON text that comes back is what went in, as text."""
    return canonical_text(back) == text


def same_value(back: str, text: str) -> bool:
    """Whether JSON text that comes back has the value that went in, and floats where they were."""
    return json_text(parsed(back)) == json_text(parsed(text))


def _parse_float(text: str) -> float | Decimal:
    near = float(text)
    return near if np.isfinite(near) and Decimal(repr(near)) == Decimal(text) else Decimal(text)


def _parse_int(text: str) -> int | Decimal:
    return int(text) if len(text) < _INT_DIGITS else Decimal(text)
