"""Tests of models as SQL: what fails, how it is counted and kept, and what is said of a test that is wrong."""

import io
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from lakehouse import Lake
from lakehouse.errors import FormatError, UserError
from lakehouse.models import audit, model
from lakehouse.models.audit import KEPT_ROWS, Outcome, label, run, sql_value, statement
from lakehouse.models.failures import forget_failures, keep_failures, kept_failures, read_failures
from lakehouse.models.model import Model
from lakehouse.store import MemoryStore

NOW = datetime(2026, 11, 20, 22, 33, tzinfo=UTC)


@pytest.fixture
def build() -> Iterator[duckdb.DuckDBPyConnection]:
    """A build database: `shop.products`, the table `models.daily`, and a view over it."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("ATTACH ':memory:' AS build; USE build; CREATE SCHEMA models; CREATE SCHEMA shop")
        connection.execute(
            "CREATE TABLE shop.products AS SELECT * FROM (VALUES ('a'), ('b'), (NULL)) AS t(sku)"
        )
        connection.execute(
            "CREATE TABLE models.daily AS SELECT * FROM (VALUES "
            "('a', 1, 1.5, DATE '2026-11-18', true), ('a', 2, -1.0, DATE '2026-11-19', true), "
            "('b', 1, NULL, NULL, false), ('c', 1, 9.0, DATE '2026-11-17', NULL), "
            "(NULL, 1, 2.0, DATE '2026-11-01', true), (NULL, 1, 3.0, DATE '2026-11-01', true)"
            ') AS t(sku, n, price, day, "in ""stock""")'
        )
        connection.execute("CREATE VIEW models.seen AS SELECT * FROM models.daily")
        yield connection


def held(build: duckdb.DuckDBPyConnection, kind: str, name: str = "daily", **arguments: Any) -> Outcome:
    return run(
        build, name, model.Test(kind=kind, arguments=arguments, line=7), now=NOW, path="models/daily.sql"
    )


CASES = [
    ("unique", {"columns": ["sku"]}, 4),  # nulls are the same value
    ("unique", {"columns": ["sku", "price"]}, 0),
    ("unique", {"columns": ["SKU", "N"]}, 2),
    ("not_null", {"columns": ["n"]}, 0),
    ("not_null", {"columns": ["sku", "price"]}, 3),
    ("accepted_values", {"column": "sku", "values": ["a", "b"]}, 1),
    ("accepted_values", {"column": "sku", "values": ["a", "b", "c", None]}, 0),
    ("accepted_values", {"column": "n", "values": [1]}, 1),
    ("accepted_values", {"column": "n", "values": ["1", 2.0]}, 0),
    ("accepted_values", {"column": "price", "values": [1.5, -1, 9, 2]}, 1),
    ("accepted_values", {"column": "day", "values": [date(2026, 11, 1), "2026-11-17"]}, 2),
    ("accepted_values", {"column": 'in "stock"', "values": [True]}, 1),
    ("accepted_values", {"column": "sku", "values": []}, 4),
    ("relationships", {"column": "sku", "to": "shop.products.sku"}, 1),
    ("relationships", {"column": "sku", "to": "models.seen.sku"}, 0),
    ("relationships", {"column": "sku", "to": "seen.sku"}, 0),
    ("relationships", {"column": "n", "to": "seen.price"}, 5),
    ("range", {"column": "price", "min": 0}, 1),
    ("range", {"column": "price", "min": -1, "max": 9.0}, 0),
    ("range", {"column": "price", "max": 2}, 2),
    ("range", {"column": "day", "min": date(2026, 11, 2)}, 2),
    ("range", {"column": "sku", "min": "b"}, 2),
    ("row_count", {"min": 6, "max": 6}, 0),
    ("row_count", {"min": 7}, 1),
    ("row_count", {"max": 5}, 1),
    ("freshness", {"column": "day", "within": "2 days"}, 0),
    ("freshness", {"column": "day", "within": "46 hours"}, 1),
    ("sql", {"sql": "select * from models.daily where n > 1 -- twice", "path": "models/tests/once.sql"}, 1),
]


@pytest.mark.parametrize(("kind", "arguments", "failures"), CASES)
def test_what_fails_is_counted_and_the_rows_are_shown(
    build: duckdb.DuckDBPyConnection, kind: str, arguments: dict[str, Any], failures: int
) -> None:
    for name in ("daily", "seen"):
        outcome = held(build, kind, name, **arguments)
        assert (outcome.failures, outcome.passed, outcome.blocks) == (failures, not failures, bool(failures))
        assert (outcome.sample.num_rows if outcome.sample else 0) == failures
        assert len(build.execute(outcome.statement).fetchall()) == failures


def test_a_freshness_without_any_value_fails_and_counts_in_utc(build: duckdb.DuckDBPyConnection) -> None:
    build.execute("CREATE TABLE models.none AS SELECT * FROM models.daily WHERE false")
    assert held(build, "freshness", "none", column="day", within="9 years").failures == 1
    later = NOW.astimezone(timezone(timedelta(hours=9)))
    build.execute("CREATE TABLE models.at AS SELECT TIMESTAMP '2026-11-20 21:33:00' AS at")
    exactly = model.Test(kind="freshness", arguments={"column": "at", "within": "1 hour"})
    assert run(build, "at", exactly, now=later).passed
    assert not run(build, "at", exactly, now=later + timedelta(microseconds=1)).passed
    with pytest.raises(UserError, match="reads no load"):
        run(build, "at", exactly, now=None)


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (True, "true"), (False, "false"), (None, "NULL"), (7, "7"), (-3, "-3"), (2**64, "18446744073709551616"),
        (0.1, "0.1::DOUBLE"), (1e-7, "1e-7::DOUBLE"), (float("inf"), "'inf'::DOUBLE"), (float("nan"), "'nan'::DOUBLE"),
        (Decimal("1.10"), "1.10"), ("o'brien", "'o''brien'"), ("", "''"), ("\\x", "'\\x'"),
        (date(1, 1, 1), "DATE '0001-01-01'"), (datetime(2026, 1, 2, 3, 4, 5, 6), "TIMESTAMP '2026-01-02 03:04:05.000006'"),  # noqa: DTZ001
        (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1))), "TIMESTAMPTZ '2026-01-01 23:00:00+00'"),
        (b"\x00'", "'\\x00\\x27'::BLOB"),
    ],
)  # fmt: skip
def test_a_yaml_value_is_the_sql_value(build: duckdb.DuckDBPyConnection, value: Any, same: str) -> None:
    asked = f"SELECT ({sql_value(value)}) IS NOT DISTINCT FROM ({same})"
    assert build.execute(asked).fetchall() == [(True,)]


def test_a_value_that_sql_does_not_have_is_an_error(build: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(UserError, match="is no value"):
        held(build, "range", column="n", min=[1])


def test_hostile_names_are_names(build: duckdb.DuckDBPyConnection) -> None:
    build.execute('CREATE TABLE models."select" ("a""b; drop" INT, "_lake_m" INT, n INT)')
    build.execute('INSERT INTO models."select" VALUES (1, 1, 1), (1, 1, 2)')
    for column in ('a"b; drop', "_lake_m"):
        assert held(build, "unique", "select", columns=[column]).failures == 2
        assert held(build, "not_null", "select", columns=[column]).passed
        assert held(build, "range", "select", column=column, max=0).failures == 2


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ("not_null", {"columns": ["n", "pric"]}, ["models/daily.sql:7: test not_null(n, pric) of models.daily", "no column 'pric'", "Did you mean price?"]),
        ("unique", {"columns": ["zzz"]}, ["no column 'zzz'", "There is: sku, n, price, day"]),
        ("relationships", {"column": "sku", "to": "shop.products.ski"}, ["shop.products has no column 'ski'", "Did you mean sku?"]),
        ("relationships", {"column": "sku", "to": "shop.product.sku"}, ["models/daily.sql:7", "product", "products"]),
        ("accepted_values", {"column": "n", "values": ["x"]}, ["cannot be computed", "'x'", "quotes"]),
        ("range", {"column": "sku", "min": 0}, ["cannot be computed", "VARCHAR", "quotes"]),
        ("freshness", {"column": "price", "within": "2 days"}, ["cannot be computed", "dates or timestamps"]),
        ("freshness", {"column": "day", "within": "soon"}, ["cannot be computed", "36 hours"]),
        ("sql", {"sql": "select * from models.dayly", "path": "models/tests/x.sql"}, ["models/tests/x.sql: test sql(x)", "dayly"]),
    ],
)  # fmt: skip
def test_a_test_that_is_wrong_is_told_with_its_place(
    build: duckdb.DuckDBPyConnection, kind: str, arguments: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UserError) as raised:
        held(build, kind, **arguments)
    for word in words:
        assert word in str(raised.value)


def test_a_key_is_a_test_unless_the_header_has_it() -> None:
    own = model.Test(kind="unique", arguments={"columns": ["B", "a"]}, severity="warn")
    other = model.Test(kind="unique", arguments={"columns": ["a"]})
    assert audit.tests_of(Model(name="m", path="m.sql")) == ()
    (implied,) = audit.tests_of(Model(name="m", path="m.sql", key=("a", "b")))
    assert (implied.kind, implied.arguments, implied.severity) == ("unique", {"columns": ["a", "b"]}, "error")
    assert audit.tests_of(Model(name="m", path="m.sql", key=("a", "b"), tests=(own,))) == (own,)
    assert [label(t) for t in audit.tests_of(Model(name="m", path="m.sql", key=("a", "b"), tests=(other,)))] == [
        "unique(a, b)", "unique(a)",
    ]  # fmt: skip


def test_a_warning_does_not_block(build: duckdb.DuckDBPyConnection) -> None:
    outcome = run(
        build, "daily", model.Test(kind="not_null", arguments={"columns": ["sku"]}, severity="warn"), now=NOW
    )
    assert (outcome.failures, outcome.blocks, outcome.place) == (2, False, "")


def test_all_failing_rows_are_counted_and_the_first_are_kept(build: duckdb.DuckDBPyConnection) -> None:
    many = KEPT_ROWS + 2_345
    build.execute(f"CREATE VIEW models.many AS SELECT i % 7 AS k, i FROM range({many}) AS t(i)")
    for test in (
        model.Test(kind="unique", arguments={"columns": ["k"]}),
        model.Test(kind="range", arguments={"column": "i", "max": -1}),
    ):
        outcome = run(build, "many", test, now=NOW)
        assert outcome.failures == many
        assert outcome.sample is not None
        assert outcome.sample.num_rows == KEPT_ROWS


# Keeping.


def failing(build: duckdb.DuckDBPyConnection) -> list[Outcome]:
    return [
        held(build, "unique", columns=["sku"]),
        held(build, "not_null", columns=["n"]),
        held(build, "relationships", column="sku", to="shop.products.sku"),
    ]


def test_failing_rows_are_kept_until_the_test_passes(build: duckdb.DuckDBPyConnection) -> None:
    lake = Lake.create(MemoryStore())
    found = failing(build)
    keys = keep_failures(lake, "daily", found)
    folder = "_derived/models/failures/daily/"
    assert keys == [f"{folder}1-unique_sku.parquet", f"{folder}3-relationships_sku_shop_products_sku.parquet"]
    keep_failures(lake, "seen", [held(build, "range", "seen", column="price", min=0)])
    first, second, other = kept_failures(lake)
    assert (first.model, first.test, first.failures, first.rows, first.severity) == (
        "daily",
        "unique(sku)",
        4,
        4,
        "error",
    )
    assert (second.test, second.place) == ("relationships(sku -> shop.products.sku)", "models/daily.sql:7")
    assert first.statement == found[0].statement
    assert kept_failures(lake, "seen") == [other]
    assert read_failures(lake, second).to_pylist()[0]["sku"] == "c"
    build.execute("DELETE FROM models.daily WHERE sku = 'c'")
    keep_failures(lake, "daily", failing(build))
    assert [kept.test for kept in kept_failures(lake, "daily")] == ["unique(sku)"]
    forget_failures(lake, "daily")
    assert kept_failures(lake) == [other]
    assert lake.sources() == []


def test_kept_rows_are_asked_like_any_file_wherever_the_lake_is(build: duckdb.DuckDBPyConnection) -> None:
    lake = Lake.create(MemoryStore())
    keep_failures(lake, "daily", failing(build))
    (first, _) = kept_failures(lake)
    assert lake.query(f"select count(*), min(sku) from '{first.path}'").fetchall() == [(4, "a")]


def test_files_of_many_tests_come_in_their_order(build: duckdb.DuckDBPyConnection) -> None:
    lake = Lake.create(MemoryStore())
    bad = held(build, "unique", columns=["sku"])
    keep_failures(lake, "daily", [bad] * 11)
    assert [kept.key.split("/")[-1].split("-")[0] for kept in kept_failures(lake)] == [
        str(n) for n in range(1, 12)
    ]


def test_values_of_any_type_can_be_kept(build: duckdb.DuckDBPyConnection) -> None:
    build.execute(
        "CREATE VIEW models.odd AS SELECT NULL AS nothing, INTERVAL 2 DAY AS span, uuid() AS id, 1::HUGEINT AS huge, '101'::BIT AS bits, "
        "MAP {'a': 1} AS pairs, union_value(num := 2) AS either, 'x'::ENUM('x', 'y') AS word, TIME '01:02:03' AS clock, "
        "[{'a': 1}] AS nested, 'b'::BLOB AS bytes, TIMESTAMPTZ '2026-01-01 00:00:00+00' AS at, '{}'::JSON AS doc"
    )  # fmt: skip
    lake = Lake.create(MemoryStore())
    (key,) = keep_failures(lake, "odd", [held(build, "not_null", "odd", columns=["nothing"])])
    assert pq.read_table(io.BytesIO(lake.store.get(key))).num_rows == 1
    (row,) = read_failures(lake, kept_failures(lake)[0]).to_pylist()
    assert (row["word"], row["at"]) == ("x", datetime(2026, 1, 1, tzinfo=UTC))
    assert all(row[name] is not None for name in row if name != "nothing")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all"])
def test_a_damaged_file_is_told(build: duckdb.DuckDBPyConnection, content: bytes) -> None:
    lake = Lake.create(MemoryStore())
    (key,) = keep_failures(lake, "daily", [held(build, "unique", columns=["sku"])])
    (kept,) = kept_failures(lake)
    lake.store.put(key, content)
    with pytest.raises(FormatError, match="is not what a test left"):
        kept_failures(lake)
    with pytest.raises(FormatError, match="derived: delete it"):
        read_failures(lake, kept)


def test_a_statement_of_ones_own_stays_as_it_is() -> None:
    test = model.Test(kind="sql", arguments={"sql": "select 1 where false", "path": "models/tests/t.sql"})
    assert statement("daily", test) == "select 1 where false"
