"""Arrow data of any type: kept, converted exactly, or refused. Never changed."""

import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.core.types import Type, check, unify
from lakehouse.errors import SchemaError
from lakehouse.parquet.arrow import (
    JSON,
    arrow_type,
    format_type,
    normalize,
    physical,
    stacked,
    to_table,
    widen,
)
from lakehouse.parquet.digest import digest_rows

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901)  # noqa: DTZ001 - without a zone on purpose
AWARE = MOMENT.replace(tzinfo=UTC)
D = Decimal

# Type, values in it, the format's type, and the values as they are afterwards where Python shows them otherwise.
KEPT: list[tuple[pa.DataType, list[Any], Type, list[Any] | None]] = [
    (pa.null(), [None], "null", None),
    (pa.bool_(), [True, None], "bool", None),
    *((t, [0, 100, None], str(t), None) for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *((t, [0, 200, None], str(t), None) for t in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    (pa.int64(), [2**53 + 1, None], "bigint", None),
    (pa.int64(), [-(2**63)], "bigint", None),
    (pa.uint64(), [2**64 - 1, 0], "uint64", None),
    (pa.float16(), [0.5, 65504.0, None], "float32", None),
    (pa.float32(), [0.1, None, math.inf], "float32", [0.10000000149011612, None, math.inf]),
    (pa.float64(), [0.1, 1e300, -0.0], "float64", None),
    (pa.string(), ["", "é", None], "string", None),
    (pa.large_string(), ["a", None], "string", None),
    (pa.string_view(), ["a", "a longer text than twelve bytes", None], "string", None),
    (pa.binary(), [b"", b"\xff", None], "binary", None),
    (pa.large_binary(), [b"\xff", None], "binary", None),
    (pa.binary_view(), [b"\xff", None], "binary", None),
    (pa.binary(3), [b"abc", None], "binary", None),
    (pa.date32(), [date(1, 1, 1), date(9999, 12, 31), None], "date", None),
    (pa.date64(), [date(2026, 1, 1), None], "date", None),
    (pa.time32("s"), [time(1, 2, 3), None], "time", None),
    (pa.time32("ms"), [time(1, 2, 3, 4000)], "time", None),
    (pa.time64("us"), [time(1, 2, 3, 4)], "time", None),
    (pa.time64("ns"), [time(1, 2, 3, 4)], "time", None),
    (pa.timestamp("s"), [MOMENT.replace(microsecond=0), None], "timestamp", None),
    (pa.timestamp("ms"), [MOMENT.replace(microsecond=678000)], "timestamp", None),
    (pa.timestamp("us"), [MOMENT], "timestamp", None),
    (pa.timestamp("ns"), [MOMENT], "timestamp", None),
    (pa.timestamp("us", "UTC"), [AWARE, None], "timestamptz", None),
    (pa.timestamp("ns", "Asia/Kolkata"), [AWARE], "timestamptz", None),
    (pa.decimal128(5, 2), [D("1.50"), D("-999.99"), None], "decimal(5,2)", None),
    (pa.decimal128(38, 38), [D("0." + "1" * 38)], "decimal(38,38)", None),
    (pa.decimal256(38, 2), [D("1" * 36 + ".25")], "decimal(38,2)", None),
    (pa.decimal32(5, 2), [D("1.50"), None], "decimal(5,2)", None),
    (pa.decimal64(18, 2), [D("1.50"), None], "decimal(18,2)", None),
    (pa.dictionary(pa.int8(), pa.string()), ["a", "b", "a", None], "string", None),
    (pa.dictionary(pa.int32(), pa.int64()), [2**53 + 1, None], "bigint", None),
    (pa.dictionary(pa.int8(), pa.large_string()), ["a", None], "string", None),
    (pa.list_(pa.int32()), [[1, None], [], None], {"list": "int32"}, None),
    (pa.large_list(pa.large_string()), [["a"], None], {"list": "string"}, None),
    (pa.list_(pa.int8(), 2), [[1, 2], None], {"list": "int8"}, None),
    (pa.list_view(pa.int64()), [[1], [], None], {"list": "int64"}, None),
    (pa.list_(pa.int64()), [[2**60]], {"list": "bigint"}, None),
    (pa.list_(pa.list_(pa.float16())), [[[0.5], None]], {"list": {"list": "float32"}}, None),
    (pa.list_(pa.null()), [[None], []], {"list": "null"}, None),
    (pa.struct([("a", pa.int8()), ("b", pa.large_string())]), [{"a": 1, "b": "x"}, None],
     {"struct": {"a": "int8", "b": "string"}}, None),
    (pa.struct([("t", pa.timestamp("s", "Europe/Paris"))]), [{"t": AWARE.replace(microsecond=0)}],
     {"struct": {"t": "timestamptz"}}, None),
    (pa.struct([("a", pa.int64()), ("A", pa.int64())]), [{"a": 1, "A": 2}], "json", ['{"A":2,"a":1}']),
    (pa.struct([]), [{}, None], "json", ["{}", None]),
    (pa.map_(pa.string(), pa.int64()), [[("a", 1)], [], None],
     {"list": {"struct": {"key": "string", "value": "int64"}}}, [[{"key": "a", "value": 1}], [], None]),
    (pa.list_(pa.dictionary(pa.int8(), pa.string())), [["a", None]], {"list": "string"}, None),
    (pa.struct([("d", pa.dictionary(pa.int8(), pa.string()))]), [{"d": "a"}], {"struct": {"d": "string"}}, None),
    (pa.struct([("m", pa.map_(pa.string(), pa.int64()))]), [{"m": [("a", 1)]}, None],
     {"struct": {"m": {"list": {"struct": {"key": "string", "value": "int64"}}}}},
     [{"m": [{"key": "a", "value": 1}]}, None]),
    (pa.list_(pa.map_(pa.string(), pa.map_(pa.string(), pa.int8()))), [[[("a", [("b", 1)])]]],
     {"list": {"list": {"struct": {"key": "string", "value": {"list": {"struct": {"key": "string", "value": "int8"}}}}}}},
     [[[{"key": "a", "value": [{"key": "b", "value": 1}]}]]]),
]  # fmt: skip


def normalized(array: pa.Array | pa.ChunkedArray) -> tuple[pa.ChunkedArray, Type]:
    table, types = normalize(pa.table({"x": array}))
    return table["x"], types["x"]


@pytest.mark.parametrize(("arrow", "values", "kind", "shown"), KEPT, ids=lambda v: str(v)[:40])
def test_a_type_is_kept_or_converted_exactly(
    arrow: pa.DataType, values: list[Any], kind: Type, shown: list[Any] | None
) -> None:
    array = pa.array(values, arrow)
    found, found_kind = normalized(array)
    assert found_kind == kind
    assert check(found_kind) == kind
    assert found.to_pylist() == (values if shown is None else shown)
    pieces = pa.chunked_array([array, array.slice(1), array.slice(0, 0)], arrow)
    assert normalized(pieces)[0].to_pylist() == found.to_pylist() + found.to_pylist()[1:]
    empty, empty_kind = normalized(array.slice(0, 0))
    assert len(empty) == 0
    assert unify(empty_kind, kind) == kind


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1], pa.duration("s")), pa.array([1], pa.duration("ns")),
        pa.array([pa.MonthDayNano([1, 2, 3])], pa.month_day_nano_interval()),
        pa.array([Decimal("1" * 50)], pa.decimal256(50, 0)), pa.array([[1]], pa.list_(pa.duration("s"))),
        pa.array([{"a": 1}], pa.struct([("a", pa.duration("s"))])),
        pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]),
        pa.array([1], pa.time64("ns")), pa.array([2**62], pa.timestamp("s")), pa.array([1], pa.date64()),
    ],
    ids=lambda a: str(a.type),
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(array: pa.Array) -> None:
    with pytest.raises(SchemaError, match="column 'x'"):
        normalized(array)


def test_nanoseconds_are_kept_where_there_are_some() -> None:
    for zone, kind in ((None, "timestamp_ns"), ("UTC", "timestamptz_ns"), ("Asia/Tokyo", "timestamptz_ns")):
        found, found_kind = normalized(pa.array([1, 1_000, None], pa.timestamp("ns", zone)))
        assert found_kind == kind
        assert found.cast(pa.int64()).to_pylist() == [1, 1_000, None]


def test_extension_types_are_kept_by_what_they_hold() -> None:
    assert normalized(pa.array([b"0" * 16, None], pa.uuid()))[1] == "binary"
    text, kind = normalized(pa.array(['{"a":1}', None], JSON))
    assert kind == "json"
    assert text.to_pylist() == ['{"a":1}', None]


def test_json_inside_nested_values_stays_json() -> None:
    inner = pa.ExtensionArray.from_storage(JSON, pa.array(['{"a":1}', None]))
    for array, text in [
        (pa.ListArray.from_arrays([0, 2, 2], inner, mask=pa.array([False, True])), '[{"a":1},null]'),
        (pa.StructArray.from_arrays([inner], ["j"], mask=pa.array([False, True])), '{"j":{"a":1}}'),
    ]:
        found, kind = normalized(array)
        assert kind == "json"
        assert found.to_pylist() == [text, None]


def test_a_run_end_encoded_column_is_kept() -> None:
    array = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", None]))
    assert normalized(array)[0].to_pylist() == ["a", "a", None]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))))
@settings(deadline=None)
def test_wide_integers_are_known(values: list[int | None]) -> None:
    kind = "bigint" if any(v is not None and abs(v) > 2**53 for v in values) else "int64"
    assert normalized(pa.array(values, pa.int64()))[1] == kind


def test_types_of_the_format_and_of_arrow_match() -> None:
    for arrow, values, kind, _ in KEPT:
        column, _ = normalized(pa.array(values, arrow))
        assert arrow_type(kind) == column.type
        assert format_type(column.type) in (
            kind,
            *(["int64"] if kind == "bigint" else []),
        ) or "bigint" in str(kind)


def test_columns_of_nulls_do_not_lie_in_a_part() -> None:
    table = physical(pa.table({"a": [1], "n": pa.nulls(1), "l": pa.array([[None]], pa.list_(pa.null()))}))
    assert table.schema == pa.schema([("a", pa.int64()), ("l", pa.list_(pa.string()))])


def test_widening_keeps_values() -> None:
    for array, kind, values in [
        (pa.array([1, None], pa.int8()), "int64", [1, None]),
        (pa.array([1, None], pa.int32()), "float64", [1.0, None]),
        (pa.array([2**64 - 1], pa.uint64()), "decimal(20,0)", [Decimal(2**64 - 1)]),
        (pa.array([1, "a"][:1]), "json", ["1"]),
        (pa.nulls(2), {"list": "int8"}, [None, None]),
        (pa.array([{"a": 1}]), {"struct": {"a": "float64", "b": "string"}}, [{"a": 1.0, "b": None}]),
        (pa.array([[1]]), {"list": "bigint"}, [[1]]),
    ]:
        assert widen(array, kind).to_pylist() == values


# What a load takes.


def test_data_of_every_kind_becomes_the_same_table(tmp_path: Path) -> None:
    rows = [{"id": 1, "name": "a"}, {"id": 2, "name": None}]
    table = pa.table({"id": [1, 2], "name": pa.array(["a", None])})
    pq.write_table(table, tmp_path / "x=1.parquet")
    with duckdb.connect() as connection:
        for data in [
            rows, (row for row in rows), table, table.to_batches()[0], table.to_reader(), pl.DataFrame(rows),
            pl.DataFrame(rows).lazy(), pd.DataFrame(rows), connection.sql("FROM (VALUES (1, 'a'), (2, NULL)) t(id, name)"),
            tmp_path / "x=1.parquet", [tmp_path / "x=1.parquet"], [table.slice(0, 1), table.slice(1)], [rows[:1], rows[1:]],
        ]:  # fmt: skip
            assert normalize(to_table(data))[0].to_pylist() == rows
    assert to_table([]).num_rows == 0


@pytest.mark.parametrize("data", [1, "text", b"bytes", {"a": 1}, None, [1, 2]])
def test_what_is_no_data_is_refused(data: object) -> None:
    with pytest.raises(SchemaError):
        to_table(data)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ([1, "b"], ["a"]),
        ([1, "b"], [5]),
        ([2**53 + 1], [0.5]),
        ([1], [0.5]),
        ([{"a": 1}], [{"a": "x"}]),
        ([{"a": 1}], [{"b": None}]),
        ([True], [2]),
        ([[1]], [["a"]]),
        ([None], [[{"x": 1}]]),
        ([b"\xff"], ["a"]),
        ([2**64], [1]),
    ],
)
def test_tables_stacked_keep_each_value(one: list[Any], two: list[Any]) -> None:
    """As if the rows had come at once."""
    apart = stacked([to_table([{"x": v} for v in one]), to_table([{"x": v, "y": 1} for v in two])])
    at_once = to_table([{"x": v} for v in one] + [{"x": v, "y": 1} for v in two])
    assert digest_rows(apart) == digest_rows(at_once)
    assert normalize(apart)[1] == normalize(at_once)[1]


def test_tables_of_one_schema_are_stacked_without_a_copy() -> None:
    table = pa.table({"x": [1, 2]})
    assert stacked([table, table]).column("x").num_chunks == 2
