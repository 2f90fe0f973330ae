"""Content digests: of values, whatever file, order, width or spelling they lie in."""

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lakehouse.parquet.arrow import JSON, normalize
from lakehouse.parquet.digest import digest_rows, hash_json, row_hashes
from lakehouse.parquet.infer import canonical, column_to_array, json_array
from lakehouse.parquet.part import write_part

TEXT = st.one_of(
    st.text(max_size=10), st.sampled_from(["", "x" * 63, "x" * 64, "x" * 65, "é" * 40, "\0", "\0\0"])
)
INTEGERS = st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))
FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 0.1, 2.0**63, -(2.0**63), 1e300]),
    st.floats(allow_nan=False, allow_infinity=False),
)
KINDS = [
    st.booleans(),
    INTEGERS,
    FLOATS,
    TEXT,
    st.lists(st.one_of(st.none(), INTEGERS), max_size=3),
    st.lists(TEXT, max_size=3),
    st.lists(st.lists(FLOATS, max_size=2), max_size=2),
    st.fixed_dictionaries({"a": st.one_of(st.none(), INTEGERS), "b": st.one_of(st.none(), TEXT)}),
    st.lists(st.fixed_dictionaries({"x": st.lists(TEXT, max_size=2)}), max_size=2),
    st.one_of(INTEGERS, TEXT, st.booleans(), st.lists(FLOATS, max_size=2)),
]
COLUMNS = st.sampled_from(KINDS).flatmap(
    lambda kind: st.lists(st.one_of(st.none(), kind), min_size=1, max_size=8)
)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 6))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    columns = {
        f"c{i}": column_to_array(draw(st.lists(st.one_of(st.none(), kind), min_size=rows, max_size=rows)))
        for i, kind in enumerate(kinds)
    }
    return pa.table(columns)


def hashes(array: pa.Array) -> list[int]:
    return [int(h) for h in row_hashes(pa.table({"x": array}))]


@given(COLUMNS)
@settings(deadline=None)
def test_columns_hash_as_values_do_one_by_one(values: list[Any]) -> None:
    """A typed column, the same as JSON text, and the plain reading of the definition agree."""
    from lakehouse.parquet import digest as d

    one_by_one = [d._mix_one((hash_json(v) * d._name_hash("x") + d._SEED["row"]) & d._MASK) for v in values]
    assert hashes(column_to_array(values)) == one_by_one
    assert hashes(json_array(values)) == one_by_one


@given(tables(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_chunks_and_slices_do_not_count(table: pa.Table, random: Any) -> None:
    digest = digest_rows(table)
    order = list(range(table.num_rows))
    random.shuffle(order)
    assert digest_rows(table.take(pa.array(order))) == digest
    names = list(table.column_names)
    random.shuffle(names)
    assert digest_rows(table.select(names)) == digest
    cut = random.randint(0, table.num_rows)
    pieces = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    assert digest_rows(pieces) == digest
    padded = pa.concat_tables([table, table, table]).combine_chunks()
    assert digest_rows(padded.slice(table.num_rows, table.num_rows)) == digest
    assert digest_rows(table.append_column("nulls", pa.nulls(table.num_rows))) == digest


@given(tables())
@settings(deadline=None)
def test_it_is_the_same_after_parquet(table: pa.Table) -> None:
    digest = digest_rows(table)
    read = pq.read_table(io.BytesIO(write_part(table).data))
    back = [
        pa.ExtensionArray.from_storage(JSON, read[n].combine_chunks().cast(pa.string()))
        if table[n].type == JSON
        else read[n]
        for n in read.column_names
    ]
    again = pa.table(back, names=read.column_names) if back else pa.table({"none": pa.nulls(table.num_rows)})
    assert digest_rows(again) == digest


@given(COLUMNS, COLUMNS)
@settings(deadline=None)
def test_it_differs_where_any_value_differs(one: list[Any], two: list[Any]) -> None:
    size = min(len(one), len(two))
    one, two = one[:size], two[:size]
    assume([canonical(v) for v in one] != [canonical(v) for v in two])
    assert hashes(column_to_array(one)) != hashes(column_to_array(two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ([1], ["1"]), ([True], [1]), ([None], [0]), ([None], [""]), ([""], ["\0"]), ([[]], [None]), ([[None]], [[]]),
        ([[1, 2]], [[2, 1]]), ([[1, None]], [[None, 1]]), ([[[1], [2]]], [[[1, 2], []]]), ([{"a": 1}], [{"b": 1}]),
        ([{"a": None}], [None]), ([b"a"], ["a"]), ([2**53], [2**53 + 1]), ([0.1], [0.1 + 2**-56]), (["x" * 65], ["x" * 66]),
        ([[None, None]], [[None]]), ([[{"a": None}]], [[None]]),
    ],
)  # fmt: skip
def test_values_that_look_alike_differ(one: list[Any], two: list[Any]) -> None:
    assert hashes(column_to_array(one)) != hashes(column_to_array(two))


def test_the_width_does_not_count() -> None:
    values = [1, 0, 100, None]
    kinds = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
             pa.float32(), pa.float64()]  # fmt: skip
    whole = [Decimal(v) if v is not None else None for v in values]
    found = {tuple(hashes(pa.array(values, kind))) for kind in kinds}
    found |= {tuple(hashes(pa.array(whole, pa.decimal128(20, s)))) for s in (0, 3)}
    found.add(tuple(hashes(json_array(values))))
    found.add(tuple(hashes(json_array([1.0, -0.0, 100.0, None]))))
    assert len(found) == 1


def test_large_numbers_agree_in_all_types_that_hold_them() -> None:
    values = [2**63, 2**64 - 1]
    found = {tuple(hashes(pa.array(values, pa.uint64()))), tuple(hashes(json_array(values)))}
    found.add(tuple(hashes(pa.array([Decimal(v) for v in values], pa.decimal128(20, 0)))))
    assert len(found) == 1
    for number in (0.1, 1e300, 2.0**63, 1.5, 1e22, -2.5e-7):
        text = pa.ExtensionArray.from_storage(
            JSON, pa.array([json.dumps(number), json_array([number]).to_pylist()[0]])
        )
        assert set(hashes(text)) == set(hashes(pa.array([number])))
    assert (
        hashes(pa.array([Decimal("1.50")])) == hashes(pa.array([1.5])) == hashes(json_array([Decimal("1.5")]))
    )
    long = Decimal("1.23456789012345678901234567890")
    assert hashes(pa.array([long])) == hashes(json_array([long])) != hashes(pa.array([float(long)]))


def test_moments_agree_whatever_their_unit() -> None:
    midnight = datetime(2026, 1, 1)  # noqa: DTZ001 - without a zone on purpose
    arrays = [pa.array([midnight], pa.timestamp(unit)) for unit in ("us", "ns")]
    arrays += [
        pa.array([date(2026, 1, 1)]),
        pa.array([midnight.replace(tzinfo=UTC)], pa.timestamp("us", "UTC")),
    ]
    assert len({hashes(array)[0] for array in arrays}) == 1
    assert len({hashes(pa.array([n], pa.timestamp("ns")))[0] for n in (0, 1, 999, 1000)}) == 4


def test_nans_are_one_value_and_nulls_under_it_do_not_show() -> None:
    assert len(set(hashes(pa.array([float("nan"), -float("nan")])))) == 1
    garbage = pa.Array.from_buffers(pa.int64(), 2, [pa.py_buffer(b"\x01"), pa.array([5, 7]).buffers()[1]])
    assert hashes(garbage) == hashes(pa.array([5, None]))
    words = pa.array(["ab", "cd"])
    hidden = pa.Array.from_buffers(pa.string(), 2, [pa.py_buffer(b"\x02"), *words.buffers()[1:]])
    assert hashes(hidden) == hashes(pa.array([None, "cd"]))


def test_nulls_of_structs_and_lists_hide_what_lies_under_them() -> None:
    inner = pa.array([1, 2], pa.int64())
    struct = pa.StructArray.from_arrays([inner], ["a"], mask=pa.array([True, False]))
    assert hashes(struct) == hashes(pa.array([None, {"a": 2}], struct.type))
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), inner, mask=pa.array([True, False]))
    assert hashes(lists) == hashes(pa.array([None, [2]], lists.type))
    assert hashes(lists.slice(1)) == hashes(pa.array([[2]], lists.type))
    assert hashes(pa.array([[], []], pa.list_(pa.string()))) == hashes(
        normalize(pa.table({"x": [[], []]}))[0]["x"].combine_chunks()
    )


def test_rows_that_repeat_count_each_time() -> None:
    one, two = pa.table({"x": [1]}), pa.table({"x": [1, 1]})
    assert digest_rows(one) != digest_rows(two)
    assert digest_rows(one.slice(0, 0)).startswith("0:")
