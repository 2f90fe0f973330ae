"""Dates, times and instants as text, and back to the numbers that Arrow has for them."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# What ISO 8601 has text for, in the unit of each type: the years 1 to 9999, and the times of a day.
_WITH_TEXT = {
    "date": (-719162, 2932896),
    "time": (0, 86_399_999_999),
    "timestamp": (-62_135_596_800_000_000, 253_402_300_799_999_999),
    "timestamp_ns": (-(2**63), 2**63 - 1),
}
_DAY_US = 86_400_000_000


def iso_texts(values: pa.Array, kind: str) -> pa.Array:
    """ISO 8601 text of each instant: all digits of its unit, `T`, and `+00:00` where it has a zone."""
    texts = pc.replace_substring(values.cast(pa.string()), " ", "T")
    return pc.replace_substring(texts, "Z", "+00:00") if kind.startswith("timestamptz") else texts


def moment_texts(values: pa.Array, kind: str) -> pa.Array:
    """The canonical JSON text of dates, times and instants.

    A midnight without a zone is its date. What ISO 8601 has no text for (years before 1 or after 9999, infinities)
    is the number by which Arrow has it: days or microseconds since 1970.
    """
    ticks = _ticks(values)
    low, high = _WITH_TEXT[kind.replace("tz", "")]
    told = (ticks >= low) & (ticks <= high)
    texts = iso_texts(values, kind)
    if kind == "timestamp":
        texts = pc.if_else(pa.array(ticks % _DAY_US == 0), pc.utf8_slice_codeunits(texts, 0, 10), texts)
    texts = pc.binary_join_element_wise('"', texts, '"', "")
    if told.all():
        return texts
    return pc.if_else(pa.array(told), texts, pa.array(ticks).cast(pa.string()))


def ticks_of(kind: str) -> Callable[[Any], int]:
    """What turns a value of the JSON text of a type into the number by which Arrow has it."""
    unit = kind.replace("tz", "")

    def ticks(value: Any) -> int:
        if isinstance(value, int):
            return value
        if unit == "date":
            return date.fromisoformat(value).toordinal() - 719163
        if unit == "time":
            of_day = datetime.combine(date(1970, 1, 1), time.fromisoformat(value), UTC)
            return _microseconds(of_day)
        nanoseconds = unit == "timestamp_ns"
        digits = value[:26] if nanoseconds else value
        moment = _microseconds(datetime.fromisoformat(digits).replace(tzinfo=UTC))
        return moment * 1000 + int(value[26:29] or 0) if nanoseconds else moment

    return ticks


def _microseconds(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds


def _ticks(values: pa.Array) -> Any:
    """Arrow's numbers, as int64; those of nulls are 0."""
    width = pa.int32() if pa.types.is_date(values.type) else pa.int64()
    return values.cast(width).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
