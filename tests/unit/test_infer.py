"""From Python and JSON values to Arrow and Parquet and back: no value is lost on the way."""

import io
import json
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.parquet.arrow import JSON, normalize
from lakehouse.parquet.infer import canonical, column_to_array, infer_type, json_text, rows_to_table
from lakehouse.parquet.part import write_part

NAMES = st.sampled_from(["a", "A", "b c", "", "é", "<5", 'q"', "a.b"])
TEXT = st.text(max_size=6)
INTEGERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64 + 1]),
    st.integers(),
)
FLOATS = st.one_of(
    st.sampled_from([0.0, 1.0, 0.1, 1e16, 1e300, 5e-324]), st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), INTEGERS, FLOATS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
ONE_KIND = st.sampled_from(
    [
        st.booleans(),
        INTEGERS,
        FLOATS,
        TEXT,
        st.lists(INTEGERS, max_size=2),
        st.lists(st.one_of(st.none(), TEXT)),
    ]
)
SHAPES = st.dictionaries(NAMES, INTEGERS, max_size=3)
COLUMNS = st.one_of(
    st.lists(VALUES, max_size=5),
    ONE_KIND.flatmap(lambda kind: st.lists(st.one_of(st.none(), kind), max_size=5)),
    st.lists(st.one_of(INTEGERS, FLOATS), max_size=4),
    st.lists(SHAPES, max_size=4),
)


def canon(value: Any) -> Any:
    """1 is 1.0, true is not 1, and an object's nulls are absent."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [canon(v) for v in value]
    if isinstance(value, dict):
        return {k: canon(v) for k, v in value.items() if v is not None}
    return value


def read_back(table: pa.Table) -> list[dict[str, Any]]:
    """Through the bytes of a part, as any Parquet reader gives them."""
    read = pq.read_table(io.BytesIO(write_part(normalize(table)[0]).data))
    json_columns = {name for name in table.column_names if table[name].type == JSON}
    return [
        {k: json.loads(v) if k in json_columns and v is not None else v for k, v in row.items()}
        for row in read.to_pylist()
    ]


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "id"]), VALUES, max_size=3), max_size=5))
@settings(deadline=None)
def test_rows_come_back_from_parquet_as_they_were(rows: list[dict[str, Any]]) -> None:
    rows = [{"n": i, **row} for i, row in enumerate(rows)]
    assert [canon(row) for row in read_back(rows_to_table(rows))] == [canon(row) for row in rows]


@given(COLUMNS)
@settings(deadline=None)
def test_a_column_comes_back_as_it_was(values: list[Any]) -> None:
    rows = [{"n": i, "x": value} for i, value in enumerate(values)]
    assert [canon(row.get("x")) for row in read_back(rows_to_table(rows))] == [canon(v) for v in values]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([], pa.null()), ([None], pa.null()), ([1, None], pa.int64()), ([1, 2.5], pa.float64()),
        ([2**53, 0.5], pa.float64()), ([2**53 + 1, 0.5], JSON), ([2**63 - 1], pa.int64()), ([2**63], JSON),
        ([True, 1], JSON), ([1, "1"], JSON), (["a", None], pa.string()), ([[1], []], pa.list_(pa.int64())),
        ([[1], [2.5]], pa.list_(pa.float64())), ([[1], ["a"]], JSON), ([{}], JSON), ([{"a": 1}, {}], JSON),
        ([{"a": 1}, {"b": "x"}], pa.struct([("a", pa.int64()), ("b", pa.string())])),
        ([{"a": 1}, {"a": "x"}], JSON), ([{"a": 1, "A": 2}], JSON), ([{"": 1}], JSON), ([{1: 2}], JSON),
        ([[]], pa.list_(pa.null())), ([{"a": None}], pa.struct([("a", pa.null())])),
        ([date(2026, 1, 1)], pa.date32()), ([date(2026, 1, 1), datetime(2026, 1, 1)], JSON),  # noqa: DTZ001
        ([b"x"], pa.binary()), ([Decimal("1.50")], pa.decimal128(3, 2)), ([Decimal("NaN")], JSON),
        ([Decimal(10) ** 45], JSON), ([time(1, tzinfo=UTC)], JSON), ([{f"f{i}": 1 for i in range(201)}], JSON),
    ],
)  # fmt: skip
def test_the_least_type_that_holds_all_values(values: list[Any], kind: pa.DataType) -> None:
    assert column_to_array(values).type == kind


def test_integers_that_a_float_cannot_hold_are_marked_at_any_depth() -> None:
    wide = 2**53 + 1
    for values, kind in [
        ([1], "int64"), ([wide], "bigint"), ([[1, wide]], {"list": "bigint"}), ([[[wide]]], {"list": {"list": "bigint"}}),
        ([{"a": wide, "b": 1}], {"struct": {"a": "bigint", "b": "int64"}}), ([None, [None]], {"list": "null"}),
        ([[{"a": -wide}]], {"list": {"struct": {"a": "bigint"}}}),
    ]:  # fmt: skip
        assert infer_type(values) == kind
        assert normalize(pa.table({"x": column_to_array(values)}))[1] == {"x": kind}


def test_what_json_does_not_have_is_kept_as_text() -> None:
    zone = timezone(timedelta(hours=2))
    for value, text in [
        (math.nan, '"nan"'), (math.inf, '"inf"'), (-math.inf, '"-inf"'), ([math.nan, None], '["nan",null]'),
        ({"a": math.inf, "b": None}, '{"a":"inf","b":null}'), (b"\x00\xff", '"00ff"'), (2**70, str(2**70)),
        (Decimal("1.50"), "1.5"), (Decimal("-0.00"), "0"), ([Decimal("1e3")], "[1000]"), (1.0, "1"), (1e16, "10000000000000000"),
        (1e300, "1e+300"), (datetime(2026, 1, 1, 2, tzinfo=zone), '"2026-01-01T00:00:00.000000+00:00"'),
        (datetime(2026, 1, 1), '"2026-01-01"'), (datetime(2026, 1, 1, 1), '"2026-01-01T01:00:00.000000"'),  # noqa: DTZ001
        (time(1, 2, 3, 4), '"01:02:03.000004"'), ("\x1b\\u001b", '"\\u001B\\\\u001b"'), ({2: 1, "b": 2}, '{"2":1,"b":2}'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'), ((1, 2), "[1,2]"), ("\ud800", '"\\uD800"'),
        ({"b": 2**64, "a": "\x1f"}, '{"a":"\\u001F","b":18446744073709551616}'),
    ]:  # fmt: skip
        assert json_text(value) == text


def test_a_value_that_no_table_can_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="object is not a value"):
        column_to_array([object(), 1])


def test_half_a_surrogate_pair_is_kept_as_an_escape() -> None:
    """Only Python strings can hold one: no UTF-8 text can."""
    array = column_to_array(["\ud800", "é"])
    assert [json.loads(text) for text in array.to_pylist()] == ["\ud800", "é"]


@given(VALUES)
def test_the_canonical_form_is_the_same_for_equal_values(value: Any) -> None:
    assert canonical(value) == canonical(json.loads(json_text(value)))
    assert canonical({"a": value, "b": None}) == canonical({"a": value})


def test_rows_without_any_column_are_still_rows() -> None:
    assert rows_to_table([]).num_rows == 0
    assert rows_to_table([{}, {}]).num_rows == 2
