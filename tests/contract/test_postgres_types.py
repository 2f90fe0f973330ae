"""Every type of the lake in PostgreSQL: what lies there, as psql shows it, and what is read back."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.core.types import Type, type_text
from lakehouse.parquet.arrow import JSON, arrow_type
from lakehouse.parquet.digest import digest_rows
from lakehouse.parquet.infer import json_text
from sync.postgres import ddl
from sync.postgres.copying import connect, copy_rows, execute, fetch, parallel_copy, read_rows
from sync.postgres.names import qualified
from sync.postgres.types import PgColumn, pg_type

pytest.importorskip("adbc_driver_postgresql", reason="install it: uv sync")

INT64 = [-(2**63), -1, 0, 2**63 - 1]
NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Values of a type and what psql shows of them."""

    kind: Type
    array: pa.Array
    shown: list[str | None]


def case(kind: Type, values: list[Any], shown: list[str | None], *, ticks: pa.DataType | None = None) -> Case:
    """Values, or the numbers by which Arrow has them, and what psql shows; a null comes on top."""
    if kind == "json":
        array = pa.ExtensionArray.from_storage(JSON, pa.array([*values, None], pa.string()))
    else:
        array = pa.array([*values, None], type=ticks or arrow_type(kind)).cast(arrow_type(kind))
    return Case(kind=kind, array=array, shown=[*shown, None])


def integers(kind: str, least: int, most: int) -> Case:
    return case(kind, [least, 0, most], [str(least), "0", str(most)])


DAY, US = pa.int32(), pa.int64()
STRUCT = {"struct": {"b": "int64", "a": {"list": {"struct": {"x": "string"}}}}}
LEAVES = {
    "int64": "bigint", "wide": "uint64", "price": "decimal(9,3)", "ratio": "float64", "small": "float32", "raw": "binary",
    "day": "date", "clock": "time", "local": "timestamp", "at": "timestamptz", "fine": "timestamp_ns",
    "fine_at": "timestamptz_ns", "yes": "bool", "text": "string", "none": "null",
}  # fmt: skip
COUNTED = pa.struct([
    (name, {"date": DAY, "time": US, "timestamp": US, "timestamptz": US, "timestamp_ns": US, "timestamptz_ns": US}.get(
        kind, arrow_type(kind))) for name, kind in LEAVES.items()
])  # fmt: skip

FILLED = (
    '{"at": "1970-01-01T00:00:00.000000+00:00", "day": "1970-01-02", "raw": "ff00", "yes": true, "fine": '
    '"1970-01-01T00:00:00.000000001", "text": "ü", "wide": 18446744073709551615, "clock": '
    '"00:00:00.000001", "int64": 9223372036854775807, "local": "1970-01-01", "price": 1.5, "ratio": 0.1, "small": '
    '0.5, "fine_at": "1969-12-31T23:59:59.999999999+00:00"}'
)
STRANGE = '{"at": 9223372036854775807, "day": 2147483647, "clock": -1, "local": -9223372036854775808, "price": -0.001}'

CASES = [
    Case(kind="null", array=pa.nulls(3), shown=[None] * 3),
    case("bool", [True, False], ["true", "false"]),
    integers("int8", -(2**7), 2**7 - 1),
    integers("int16", -(2**15), 2**15 - 1),
    integers("int32", -(2**31), 2**31 - 1),
    integers("int64", -(2**63), 2**63 - 1),
    integers("bigint", -(2**63), 2**63 - 1),
    integers("uint8", 0, 2**8 - 1),
    integers("uint16", 0, 2**16 - 1),
    integers("uint32", 0, 2**32 - 1),
    integers("uint64", 0, 2**64 - 1),
    case("uint64", [2**63 - 1, 2**63, 10**19], [str(2**63 - 1), str(2**63), str(10**19)]),
    case("float64", [0.1, -0.0, 5e-324, 1.7976931348623157e308, NAN, INF, -INF, 2.0**53],
         ["0.1", "-0", "5e-324", "1.7976931348623157e+308", "NaN", "Infinity", "-Infinity", "9.007199254740992e+15"]),
    case("float32", [0.5, -0.0, 1.401298464324817e-45, 3.4028234663852886e38, NAN, -INF],
         ["0.5", "-0", "1.401298464324817e-45", "3.4028234663852886e+38", "NaN", "-Infinity"]),
    case("decimal(5,2)", [Decimal("-999.99"), Decimal("0.00"), Decimal("10.50")], ["-999.99", "0.00", "10.50"]),
    case("decimal(38,0)", [Decimal("9" * 38), Decimal("-" + "9" * 38)], ["9" * 38, "-" + "9" * 38]),
    case("decimal(38,38)", [Decimal("0." + "9" * 38), Decimal("0." + "0" * 37 + "1")],
         ["0." + "9" * 38, "0." + "0" * 37 + "1"]),
    case("decimal(20,4)", [Decimal("10000.0000"), Decimal("-0.0001"), Decimal("9999999999999999.9999")],
         ["10000.0000", "-0.0001", "9999999999999999.9999"]),
    case("string", ["", "ü😀", "a\0b", "\0", "\u2400", " \t\n\\N", "\ufdd0\uffff", "x" * 70_000],
         ["", "ü😀", "a\u2400b", "\u2400", "\u2400", " \t\n\\N", "\ufdd0\uffff", "x" * 70_000]),
    case("binary", [b"", b"\0", bytes(range(256))], ["\\x", "\\x00", "\\x" + bytes(range(256)).hex()]),
    case("date", [0, -719162, 2932896, -2440588, 2145042905, -2440589, 2145042906, 2**31 - 1, -(2**31)],
         ["1970-01-01", "0001-01-01", "9999-12-31", "4714-11-24 BC", "5874897-12-31", "4714-11-24 BC", "5874897-12-31",
          "5874897-12-31", "4714-11-24 BC"], ticks=DAY),
    case("time", [0, 86_399_999_999, 86_400_000_000, 86_400_000_001, -1, 1],
         ["00:00:00", "23:59:59.999999", "24:00:00", "24:00:00", "00:00:00", "00:00:00.000001"], ticks=US),
    case("timestamp", [0, -1, 1, -210_866_803_200_000_000, 2**63 - 1, -210_866_803_200_000_001, -(2**63), -(2**63) + 1],
         ["1970-01-01 00:00:00", "1969-12-31 23:59:59.999999", "1970-01-01 00:00:00.000001", "4714-11-24 00:00:00 BC",
          "294247-01-10 04:00:54.775807", *["4714-11-24 00:00:00 BC"] * 3], ticks=US),
    case("timestamptz", [0, -1, 951_782_400_000_001, -210_866_803_200_000_000, 2**63 - 1, -(2**63)],
         ["1970-01-01 00:00:00+00", "1969-12-31 23:59:59.999999+00", "2000-02-29 00:00:00.000001+00",
          "4714-11-24 00:00:00+00 BC", "294247-01-10 04:00:54.775807+00", "4714-11-24 00:00:00+00 BC"], ticks=US),
    case("timestamp_ns", [0, -1, 1, 2**63 - 1, -(2**63)],
         ["1970-01-01T00:00:00.000000000", "1969-12-31T23:59:59.999999999", "1970-01-01T00:00:00.000000001",
          "2262-04-11T23:47:16.854775807", "1677-09-21T00:12:43.145224192"], ticks=US),
    case("timestamptz_ns", [1, 2**63 - 1],
         ["1970-01-01T00:00:00.000000001+00:00", "2262-04-11T23:47:16.854775807+00:00"], ticks=US),
    case("json", ["1", '"1"', "null", '{"a":1.0,"b":[1,null,true]}', '"nan"', "1e+22", "[1e22]", "[-0.0]", "[0.1,1e-7]",
                  '"\\u0000"', '"\\uD800"', '{"a\\u0000":1,"a\u2400":2}', "1e400", "[1e-20000]",
                  "[NaN,-Infinity]", '"5e3,-0"'],
         ["1", '"1"', "null", '{"a": 1.0, "b": [1, null, true]}', '"nan"', "1" + "0" * 22, "[1" + "0" * 22 + "]", "[0.0]",
          "[0.1, 0.0000001]", '"\u2400"', '"\ufffd"', '{"a\u2400": 2}', "1" + "0" * 400,
          '["1e-20000"]', '["nan", "-inf"]', '"5e3,-0"']),
    case({"list": "int32"}, [[], [1, None, -(2**31)]], ["[]", "[1, null, -2147483648]"]),
    case({"list": {"list": "float64"}}, [[[NAN, -0.0, 1.0], None, []], [[1e22, 0.1]]],
         ['[["nan", 0.0, 1.0], null, []]', "[[1" + "0" * 22 + ", 0.1]]"]),
    case(STRUCT, [{"b": 1, "a": [{"x": 'q"\\\n\0'}, None]}, {"b": None, "a": None}],
         ['{"a": [{"x": "q\\"\\\\\\n\u2400"}, null], "b": 1}', "{}"]),
    case({"struct": LEAVES}, [
        {"int64": 2**63 - 1, "wide": 2**64 - 1, "price": Decimal("1.500"), "ratio": 0.1, "small": 0.5, "raw": b"\xff\0",
         "day": 1, "clock": 1, "local": 0, "at": 0, "fine": 1, "fine_at": -1, "yes": True, "text": "ü"},
        {"day": 2**31 - 1, "clock": -1, "local": -(2**63), "at": 2**63 - 1, "price": Decimal("-0.001")},
    ], [FILLED, STRANGE], ticks=COUNTED),
]  # fmt: skip
IDS = [f"{i}-{type_text(one.kind)[:30]}" for i, one in enumerate(CASES)]


@pytest.fixture(scope="module")
def url(postgres_server: Any) -> str:
    return str(postgres_server.dsn(postgres_server.new_database()))


@pytest.fixture(scope="module")
def open_connection(url: str) -> Iterator[Any]:
    with connect(url) as connection:
        execute(connection, ddl.create_schema("shop"))
        connection.commit()
        yield connection


@pytest.fixture
def connection(open_connection: Any) -> Iterator[Any]:
    yield open_connection
    open_connection.rollback()


def column(kind: Type, name: str = "v") -> PgColumn:
    return PgColumn(name=name, identifier=name, type=kind)


def batch(array: pa.Array) -> pa.RecordBatch:
    return pa.record_batch([array], names=["v"])


def brought(connection: Any, kind: Type, *arrays: pa.Array) -> pa.ChunkedArray:
    """What is read back of arrays that were copied into a column of a new table, `shop.t`."""
    columns = [column(kind)]
    execute(connection, [ddl.drop_table("shop", "t"), *ddl.create_table("shop", "t", columns)])
    assert copy_rows(connection, "shop", "t", map(batch, arrays), columns) == sum(map(len, arrays))
    found = list(read_rows(connection, 'SELECT * FROM shop."t"', columns))
    return pa.chunked_array([one.column(0) for one in found], type=arrow_type(kind))


def bits(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Values that are equal only if they are the same, NaN, -0.0 and instants that Python does not have among them."""
    chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    return [one for chunk in chunks for one in _bits(chunk)]


def _bits(array: pa.Array) -> list[Any]:
    kind = array.type
    if pa.types.is_floating(kind):
        width = np.uint32 if kind == pa.float32() else np.uint64
        read = array.fill_null(0).to_numpy(zero_copy_only=False).view(width).tolist()
        return [value if ok else None for value, ok in zip(read, array.is_valid().to_pylist(), strict=True)]
    if pa.types.is_temporal(kind):
        return array.cast(pa.int32() if pa.types.is_date(kind) else pa.int64()).to_pylist()
    if pa.types.is_list(kind):
        return [None if not one.is_valid else _bits(one.values) for one in array]
    if pa.types.is_struct(kind):
        inner = [_bits(field) for field in array.flatten()]
        rows = zip(*inner, strict=True)
        return [row if ok else None for row, ok in zip(rows, array.is_valid().to_pylist(), strict=True)]
    return array.to_pylist()


@pytest.mark.parametrize("one", CASES, ids=IDS)
def test_values_of_every_type_are_read_back_exactly_and_shown_by_sql(one: Case, connection: Any) -> None:
    found = brought(connection, one.kind, one.array)
    assert found.type == one.array.type
    assert bits(found) == bits(one.array)
    assert digest_rows(pa.table({"v": found})) == digest_rows(pa.table({"v": one.array}))
    assert fetch(connection, "SELECT v::text FROM shop.t").column(0).to_pylist() == one.shown


@pytest.mark.parametrize("one", CASES, ids=IDS)
def test_columns_have_the_type_that_is_said(one: Case, connection: Any) -> None:
    brought(connection, one.kind)
    query = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'shop.t'::regclass AND attnum = 1"
    long = {"time": "time without time zone", "timestamp": "timestamp without time zone"}
    said = pg_type(one.kind)
    expected = long.get(said, said.replace("timestamptz", "timestamp with time zone"))
    assert fetch(connection, query).column(0).to_pylist() == [expected]


@pytest.mark.parametrize("one", CASES, ids=IDS)
def test_the_layout_of_an_array_does_not_matter(one: Case, connection: Any) -> None:
    """Slices, empty arrays, nothing but nulls, dictionaries, large offsets, run ends."""
    nulls = pa.nulls(2, pa.string() if one.kind == "json" else one.array.type)
    layouts = [
        one.array.slice(1, 1),
        one.array.slice(0, 0),
        one.array.slice(len(one.array) - 1),
        nulls,
        pa.nulls(2),
    ]
    storage = one.array.storage if one.kind == "json" else one.array
    if not pa.types.is_nested(storage.type) and not pa.types.is_null(storage.type):
        layouts += [storage.dictionary_encode(), storage.dictionary_encode().slice(1, 2)]
    larger = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
    if storage.type in larger:
        layouts.append(storage.cast(larger[storage.type]).slice(1))
    if pa.types.is_list(storage.type):
        layouts.append(storage.cast(pa.large_list(storage.type.value_type)).slice(1))
    expected: list[Any] = []
    for layout in layouts:
        plain = layout.dictionary_decode() if pa.types.is_dictionary(layout.type) else layout
        plain = plain.cast(one.array.type) if pa.types.is_large_list(plain.type) else plain
        expected += [None] * len(plain) if plain.null_count == len(plain) else bits(plain)
    found = bits(brought(connection, one.kind, *layouts))
    assert found == expected


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("int64", pa.array([-1, None], pa.int8())),
        ("float64", pa.array([2**31 - 1, None], pa.int32())),
        ("float64", pa.array([0.1, None], pa.float32())),
        ("decimal(20,0)", pa.array([2**64 - 1, None], pa.uint64())),
        ("decimal(21,2)", pa.array([-(2**63), None], pa.int64())),
        ("timestamp", pa.array([1, None], pa.int32()).cast(pa.date32())),
        ("json", pa.array([1.5, None, 1.0])),
        ("json", pa.array([[1], None], pa.list_(pa.int64()))),
        (
            {"struct": {"a": "float64", "b": "string"}},
            pa.array([{"a": 1}, None], pa.struct([("a", pa.int8())])),
        ),
        ({"list": "decimal(20,0)"}, pa.array([[2**64 - 1]], pa.list_(pa.uint64()))),
    ],
    ids=str,
)
def test_a_narrower_type_is_read_back_in_the_type_of_the_column(
    kind: Type, array: pa.Array, connection: Any
) -> None:
    found = brought(connection, kind, array)
    assert found.type == arrow_type(kind)
    assert digest_rows(pa.table({"v": found})) == digest_rows(pa.table({"v": array}))


slow = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text("a\0\u2400\\'\"", max_size=6)
any_text = texts | st.text("a\0\ud800\udc00\u2400", max_size=4)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text
    | st.decimals(allow_nan=False, allow_infinity=False, places=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
written = st.recursive(
    numbers | st.just(r'"\u0000\ud800\ud83d\ude00\/"') | st.just(" null "),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[ {' , '.join(items)}\t]"),
    max_leaves=6,
)


@slow
@given(st.lists(st.none() | texts, max_size=20))
def test_any_text_is_read_back(connection: Any, values: list[str | None]) -> None:
    assert brought(connection, "string", pa.array(values, pa.string())).to_pylist() == values
    shown = [None if value is None else value.replace("\0", "\u2400") for value in values]
    assert fetch(connection, "SELECT v FROM shop.t").column(0).to_pylist() == shown


@slow
@given(st.lists(json_values, max_size=10))
def test_any_json_is_read_back(connection: Any, values: list[Any]) -> None:
    told = [json_text(value) for value in values]
    array = pa.ExtensionArray.from_storage(JSON, pa.array(told, pa.string()))
    assert brought(connection, "json", array).to_pylist() == told


@slow
@given(st.lists(written, max_size=10))
def test_json_that_is_not_canonical_keeps_its_value(connection: Any, values: list[str]) -> None:
    array = pa.ExtensionArray.from_storage(JSON, pa.array(values, pa.string()))
    found = brought(connection, "json", array)
    assert digest_rows(pa.table({"v": found})) == digest_rows(pa.table({"v": array}))


def test_json_of_any_length_of_number_is_read_back(connection: Any) -> None:
    """Also of numbers that Python does not turn into integers."""
    values = [
        "[" + "7" * 5000 + "]",
        "[1e200000]",
        "-" + "1" * 131072,
        "[0." + "3" * 16383 + ",0." + "3" * 16384 + "]",
    ]
    array = pa.ExtensionArray.from_storage(JSON, pa.array(values))
    assert brought(connection, "json", array).to_pylist() == values
    kinds = "SELECT jsonb_typeof(CASE jsonb_typeof(v) WHEN 'array' THEN v -> -1 ELSE v END) FROM shop.t"
    assert fetch(connection, kinds).column(0).to_pylist() == ["number", "string", "number", "string"]


@slow
@given(st.lists(st.none() | st.lists(st.none() | texts, max_size=3), max_size=10))
def test_any_list_of_texts_is_read_back(connection: Any, values: list[Any]) -> None:
    array = pa.array(values, pa.list_(pa.string()))
    assert brought(connection, {"list": "string"}, array).to_pylist() == values


TABLE = "Ta\"b'le"
HOSTILE = ['a"b', "a'; DROP SCHEMA shop; --", "A", "a", "%s $1 {}", "ü" * 31, "\\", " ", "select", "\ufdd0"]


def test_all_types_in_one_table_with_names_of_all_kinds(connection: Any, url: str) -> None:
    rows = max(len(one.array) for one in CASES)
    arrays = [one.array.take(pa.array([i % len(one.array) for i in range(rows)])) for one in CASES]
    names = [*HOSTILE, *(f"c{i}" for i in range(len(CASES) - len(HOSTILE)))]
    columns = [column(one.kind, name) for name, one in zip(names, CASES, strict=True)]
    whole = pa.record_batch(arrays, names=names)
    expected = digest_rows(pa.Table.from_batches([whole]))
    execute(connection, ddl.create_table("shop", TABLE, columns))
    copy_rows(connection, "shop", TABLE, [whole], columns)
    everything = f"SELECT * FROM {qualified('shop', TABLE)}"
    found = pa.Table.from_batches(read_rows(connection, everything, columns))
    assert found.schema.equals(whole.schema)
    assert digest_rows(found) == expected
    loaded = parallel_copy(
        connection, url, "shop", "big", [whole.slice(i) for i in range(rows)], columns, connections=3
    )
    assert loaded.rows == rows * (rows + 1) // 2
    execute(connection, ddl.move_table("shop", loaded.table, to="shop", name="big"))
    back = pa.Table.from_batches(read_rows(connection, "SELECT * FROM shop.big", columns))
    twice = pa.Table.from_batches([whole.slice(i) for i in range(rows)])
    assert digest_rows(back) == digest_rows(twice)
