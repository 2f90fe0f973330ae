"""Content digests: of the rows that a load added, whatever file, order or width they lie in.

Every value has a 64-bit hash over its canonical form, so that equal values of different physical
types agree: 1 and 1.0, a value in a typed column and the same value as JSON text, null and absent.
A row's hash does not depend on the order of columns, a digest not on the order of rows. It proves
that packing changed nothing; against tampering the SHA-256 of parts and the chain stand, not this.
`docs/format.md` has the definition; `hash_json` below is its plain reading, value by value.
"""

import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.parquet.arrow import JSON

U64 = npt.NDArray[np.uint64]

_MASK = 2**64 - 1
_SEED = {
    name: int.from_bytes(hashlib.sha256(b"lakehouse/1/" + name.encode()).digest()[:8], "little")
    for name in ("bool", "int", "float", "digits", "string", "long", "binary", "moment", "time",
                 "list", "struct", "name", "row", "sum_a", "sum_b")
}  # fmt: skip
_LONG = 64  # bytes; longer texts are hashed by SHA-256 first
_BATCH = 1 << 15
_NAN = 0x7FF8000000000000


def digest_rows(table: pa.Table) -> str:
    """The content digest of a table's rows: `rows:` count in decimal, and 32 hex digits."""
    total_a = total_b = 0
    for batch in table.to_batches(max_chunksize=_BATCH):
        one, two = _sums(_batch_hashes(batch))
        total_a, total_b = (total_a + one) & _MASK, (total_b + two) & _MASK
    return _render(table.num_rows, total_a, total_b)


def combine(hashes: U64) -> str:
    """The content digest of rows whose hashes are given; their order does not count."""
    return _render(len(hashes), *_sums(hashes))


def add(digests: Iterable[str]) -> str:
    """The content digest of rows that lie in several places, from the digests of each place."""
    rows = total_a = total_b = 0
    for digest in digests:
        count, _, sums = digest.partition(":")
        rows += int(count)
        total_a = (total_a + int(sums[:16], 16)) & _MASK
        total_b = (total_b + int(sums[16:], 16)) & _MASK
    return _render(rows, total_a, total_b)


def combine_by(hashes: U64, groups: npt.NDArray[np.int64]) -> dict[int, str]:
    """The content digest of each group of rows, such as of each load.

    Args:
        hashes: A hash for each row.
        groups: The group of each row; in order, as parts are, this is one pass over the rows.
    """
    if not len(hashes):
        return {}
    if np.any(groups[1:] < groups[:-1]):
        order = np.argsort(groups, kind="stable")
        hashes, groups = hashes[order], groups[order]
    starts = np.concatenate(([0], np.flatnonzero(groups[1:] != groups[:-1]) + 1))
    counts = np.diff(np.concatenate((starts, [len(hashes)])))
    one, two = (np.add.reduceat(addends, starts) for addends in summands(hashes))
    return {
        int(group): _render(int(rows), int(a), int(b))
        for group, rows, a, b in zip(groups[starts], counts, one, two, strict=True)
    }


def _sums(hashes: U64) -> tuple[int, int]:
    one, two = summands(hashes)
    return int(one.sum(dtype=np.uint64)), int(two.sum(dtype=np.uint64))


def summands(hashes: U64) -> tuple[U64, U64]:
    """What each row adds to the two sums of a content digest."""
    return _mix(hashes + np.uint64(_SEED["sum_a"])), _mix(hashes ^ np.uint64(_SEED["sum_b"]))


def _render(rows: int, total_a: int, total_b: int) -> str:
    return f"{rows}:{total_a:016x}{total_b:016x}"


def row_hashes(table: pa.Table) -> U64:
    """A 64-bit hash for each row, of shape `(table.num_rows,)`."""
    out = [_batch_hashes(batch) for batch in table.to_batches(max_chunksize=_BATCH) if batch.num_rows]
    return np.concatenate(out) if out else np.zeros(0, dtype=np.uint64)


def _batch_hashes(batch: pa.RecordBatch) -> U64:
    total = np.zeros(batch.num_rows, dtype=np.uint64)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        total += _named(_hash_array(column), name)
    return _mix(total + np.uint64(_SEED["row"]))


def _named(hashes: U64, name: str) -> U64:
    """What a column or struct field adds to its row: nothing for a null, whose hash is 0."""
    hashes *= np.uint64(_name_hash(name))
    return hashes


def _mix(x: U64) -> U64:
    """splitmix64's finalizer, in place."""
    shifted = x >> np.uint64(30)
    x ^= shifted
    x *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(x, np.uint64(27), out=shifted)
    x ^= shifted
    x *= np.uint64(0x94D049BB133111EB)
    np.right_shift(x, np.uint64(31), out=shifted)
    x ^= shifted
    return x


def _hash_array(array: pa.Array) -> U64:
    """A hash for each value; 0 for null."""
    kind = array.type
    if pa.types.is_null(kind):
        return np.zeros(len(array), dtype=np.uint64)
    if kind == JSON or pa.types.is_decimal(kind):
        return _hash_distinct(array)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        hashes = _hash_bytes(array, "string" if pa.types.is_string(kind) else "binary")
    elif pa.types.is_list(kind):
        hashes = _hash_list(array)
    elif pa.types.is_struct(kind):
        hashes = _hash_struct(array)
    else:
        hashes = _hash_fixed(array)
    if array.null_count:
        hashes[np.asarray(array.is_null())] = 0
    return hashes


def _hash_fixed(array: pa.Array) -> U64:
    kind = array.type
    if pa.types.is_floating(kind):
        return _hash_floats(_numbers(array, np.float64))
    if pa.types.is_boolean(kind):
        return _seeded(_numbers(array.cast(pa.int8()), np.int64), "bool")
    if pa.types.is_time(kind):
        return _seeded(_numbers(array.cast(pa.int64()), np.int64), "time")
    if pa.types.is_date(kind):
        return _seeded(_numbers(array.cast(pa.int32()), np.int64) * 86_400_000_000, "moment")
    if pa.types.is_timestamp(kind):
        return _hash_moments(array)
    if pa.types.is_uint64(kind):
        return _hash_uint64(array)
    return _seeded(_numbers(array, np.int64), "int")


def _numbers(array: pa.Array, dtype: type) -> Any:
    """The values as numpy; a null reads as 0."""
    if array.null_count:
        array = array.fill_null(0)
    return array.to_numpy(zero_copy_only=False).astype(dtype, copy=False)


def _seeded(values: Any, seed: str) -> U64:
    return _mix(np.ascontiguousarray(values).view(np.uint64) ^ np.uint64(_SEED[seed]))


def _hash_floats(values: Any) -> U64:
    bits = np.ascontiguousarray(values).view(np.uint64)
    whole = np.trunc(values) == values
    odd = np.isnan(values)
    if odd.any():
        bits = np.where(odd, np.uint64(_NAN), bits)
    hashes = _seeded(bits, "float")
    if whole.any():  # 1.0 is 1
        whole &= np.abs(values) < 2.0**63
        hashes[whole] = _seeded(values[whole].astype(np.int64), "int")
    return hashes


def _hash_moments(array: pa.Array) -> U64:
    nanos = array.type.unit == "ns"
    ticks = _numbers(array.cast(pa.int64()), np.int64)
    if not nanos:
        return _seeded(ticks, "moment")
    hashes = _seeded(ticks // 1000, "moment")
    rest = (ticks % 1000).astype(np.uint64)
    return np.where(rest == 0, hashes, _mix(hashes ^ rest))


def _hash_uint64(array: pa.Array) -> U64:
    values = _numbers(array, np.uint64)
    hashes = _seeded(values, "int")
    for at in np.flatnonzero(values >= np.uint64(2**63)):
        hashes[at] = _hash_text(str(values[at]).encode(), "digits")
    return hashes


def _hash_bytes(array: pa.Array, seed: str) -> U64:
    """Hashes of texts: words of 8 bytes, little-endian, zero-padded, mixed one after the other."""
    if not len(array):
        return np.zeros(0, dtype=np.uint64)
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int32)[
        array.offset : array.offset + len(array) + 1
    ].astype(np.int64)
    data = array.buffers()[2]
    start, length = offsets[:-1], np.diff(offsets)
    if array.null_count:
        length = np.where(np.asarray(array.is_null()), 0, length)
    hashes = _mix(length.astype(np.uint64) ^ np.uint64(_SEED[seed]))
    if data is None or not length.any():
        return hashes
    first, last = int(offsets[0]), int(offsets[-1])
    padded = np.zeros(last - first + 8, dtype=np.uint8)
    padded[:-8] = np.frombuffer(data, dtype=np.uint8)[first:last]
    words = np.lib.stride_tricks.as_strided(padded[:8].view("<u8"), shape=(last - first + 1,), strides=(1,))
    start = start - first
    for at in np.flatnonzero(length > _LONG):
        raw = padded[start[at] : start[at] + length[at]].tobytes()
        hashes[at] = _hash_text(raw, seed)
    whole = 0
    shortest = int(length.min()) if int(length.max()) <= _LONG else 0
    while whole + 8 <= shortest:  # words that every text has whole
        hashes ^= words[start + whole]
        _mix(hashes)
        whole += 8
    live = np.flatnonzero((length > whole) & (length <= _LONG))
    for done in range(whole, _LONG, 8):
        live = live[length[live] > done]
        if not len(live):
            break
        word = words[start[live] + done]
        beyond = np.maximum(8 - (length[live] - done), 0).astype(np.uint64) * np.uint64(8)
        word = (word << beyond) >> beyond
        hashes[live] = _mix(hashes[live] ^ word)
    return hashes


def _hash_list(array: pa.Array) -> U64:
    """Elements count with their place; the length counts too."""
    items = _hash_array(array.flatten())
    length = _numbers(pc.list_value_length(array), np.int64)
    starts = np.concatenate(([0], np.cumsum(length)))
    place = (np.arange(len(items)) - np.repeat(starts[:-1], length) + 1).astype(np.uint64)
    placed = _mix(items + place * np.uint64(0x9E3779B97F4A7C15))
    sums = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(placed, dtype=np.uint64)))
    total = sums[starts[1:]] - sums[starts[:-1]]
    return _mix((total + length.astype(np.uint64)) ^ np.uint64(_SEED["list"]))


def _hash_struct(array: pa.StructArray) -> U64:
    total = np.zeros(len(array), dtype=np.uint64)
    for field, column in zip(array.type, array.flatten(), strict=True):
        total += _named(_hash_array(column), field.name)
    return _mix(total + np.uint64(_SEED["struct"]))


def _hash_distinct(array: pa.Array) -> U64:
    """Value by value, each distinct one once: JSON text and decimals."""
    if isinstance(array, pa.ExtensionArray):
        encoded = array.storage.dictionary_encode()
        distinct = [
            hash_json(json.loads(text, parse_float=_parse_float)) for text in encoded.dictionary.to_pylist()
        ]
    else:
        encoded = array.dictionary_encode()
        distinct = [hash_json(number) for number in encoded.dictionary.to_pylist()]
    table: U64 = np.array([*distinct, 0], dtype=np.uint64)
    places: npt.NDArray[np.int64] = _numbers(encoded.indices.fill_null(len(distinct)), np.int64)
    return table[places]


# The same, value by value.


def hash_json(value: Any) -> int:
    """The hash of one JSON value (or Decimal); 0 for null."""
    if value is None:
        return 0
    if isinstance(value, bool):
        return _one(int(value), "bool")
    if isinstance(value, int):
        in_range = -(2**63) <= value < 2**63
        return _one(value, "int") if in_range else _hash_text(str(value).encode(), "digits")
    if isinstance(value, float):
        return int(_hash_floats(np.array([value]))[0])
    if isinstance(value, Decimal):
        return _hash_decimal(value)
    if isinstance(value, str):
        return _hash_text(value.encode("utf-8", "surrogatepass"), "string")
    if isinstance(value, list):
        return _hash_sequence(value)
    return _hash_object(value)


def _hash_decimal(value: Decimal) -> int:
    if value == int(value):
        return hash_json(int(value))
    near = float(value)  # 0.1 is one value, whether a decimal or a float has it
    return hash_json(near) if Decimal(repr(near)) == value else _hash_text(_digits(value), "digits")


def _parse_float(text: str) -> float | Decimal:
    """A number of JSON text: a float where that is what its digits say, else a Decimal."""
    near = float(text)
    return near if np.isfinite(near) and Decimal(repr(near)) == Decimal(text) else Decimal(text)


def _hash_sequence(values: list[Any]) -> int:
    total = sum(_mix_one((hash_json(v) + i * 0x9E3779B97F4A7C15) & _MASK) for i, v in enumerate(values, 1))
    return _mix_one(((total + len(values)) & _MASK) ^ _SEED["list"])


def _hash_object(value: dict[str, Any]) -> int:
    total = 0
    for name, inner in value.items():
        total += hash_json(inner) * _name_hash(name)
    return _mix_one((total + _SEED["struct"]) & _MASK)


def _hash_text(raw: bytes, seed: str) -> int:
    hashed = _mix_one(len(raw) ^ _SEED[seed])
    if len(raw) > _LONG:
        hashed ^= _SEED["long"]
        raw = hashlib.sha256(raw).digest()
    for at in range(0, len(raw), 8):
        hashed = _mix_one(hashed ^ int.from_bytes(raw[at : at + 8], "little"))
    return hashed


_NAMES: dict[str, int] = {}


def _name_hash(name: str) -> int:
    if name not in _NAMES:
        _NAMES[name] = _hash_text(name.encode("utf-8", "surrogatepass"), "name") | 1  # odd: loses no bit
    return _NAMES[name]


def _one(value: int, seed: str) -> int:
    return _mix_one((value & _MASK) ^ _SEED[seed])


def _mix_one(x: int) -> int:
    x ^= x >> 30
    x = (x * 0xBF58476D1CE4E5B9) & _MASK
    x ^= x >> 27
    x = (x * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _digits(value: Decimal) -> bytes:
    return format(value.normalize(), "f").encode()
