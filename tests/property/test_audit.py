"""Tests of models find the rows that a few lines of Python find, whatever the values are."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.models import audit, model

NUMBERS = st.none() | st.integers(-3, 3)
WORDS = st.none() | st.sampled_from(
    ["", "a", "A", "ä", "'", '"', "a b", "0", "NULL", "\\n", "true", "\x00", "🙂"]
)
ROWS = st.lists(st.tuples(NUMBERS, WORDS), max_size=8)
Row = tuple[int | None, str | None]


@pytest.fixture(scope="module")
def build() -> Iterator[duckdb.DuckDBPyConnection]:
    """A build database without models."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; CREATE SCHEMA models")
        yield connection


def found(build: duckdb.DuckDBPyConnection, rows: list[Row], kind: str, **arguments: Any) -> list[Row]:
    """The rows that a test finds of a model, in order; they are as many as it counts."""
    table = pa.table(
        {"n": pa.array([r[0] for r in rows], pa.int64()), "w": pa.array([r[1] for r in rows], pa.string())}
    )
    build.register("given", table)
    build.execute("CREATE OR REPLACE TABLE models.m AS SELECT * FROM given")
    outcome = audit.run(build, "m", model.Test(kind=kind, arguments=arguments), now=None)
    listed = [] if outcome.sample is None else [tuple(row.values()) for row in outcome.sample.to_pylist()]
    assert len(listed) == outcome.failures
    return sorted(listed, key=repr)


def same(listed: list[Row], expected: list[Row]) -> None:
    assert listed == sorted(expected, key=repr)


@settings(deadline=None)
@given(ROWS)
def test_unique(build: duckdb.DuckDBPyConnection, rows: list[Row]) -> None:
    numbers, both = Counter(n for n, _ in rows), Counter(rows)
    same(found(build, rows, "unique", columns=["n"]), [row for row in rows if numbers[row[0]] > 1])
    same(found(build, rows, "unique", columns=["w", "n"]), [row for row in rows if both[row] > 1])


@settings(deadline=None)
@given(ROWS)
def test_not_null(build: duckdb.DuckDBPyConnection, rows: list[Row]) -> None:
    same(found(build, rows, "not_null", columns=["n", "w"]), [row for row in rows if None in row])


@settings(deadline=None)
@given(ROWS, st.lists(WORDS), st.lists(NUMBERS))
def test_accepted_values(
    build: duckdb.DuckDBPyConnection, rows: list[Row], words: list[str | None], numbers: list[int | None]
) -> None:
    bad = [row for row in rows if row[1] is not None and row[1] not in words]
    same(found(build, rows, "accepted_values", column="w", values=words), bad)
    bad = [row for row in rows if row[0] is not None and row[0] not in numbers]
    same(found(build, rows, "accepted_values", column="n", values=numbers), bad)


@settings(deadline=None)
@given(ROWS, st.floats(-4, 4) | st.integers(-4, 4), st.floats(-4, 4) | st.integers(-4, 4))
def test_range(build: duckdb.DuckDBPyConnection, rows: list[Row], low: float, high: float) -> None:
    bad = [row for row in rows if row[0] is not None and not low <= row[0] <= high]
    same(found(build, rows, "range", column="n", min=low, max=high), bad)


@settings(deadline=None)
@given(ROWS, st.lists(WORDS))
def test_relationships(build: duckdb.DuckDBPyConnection, rows: list[Row], words: list[str | None]) -> None:
    build.register("known", pa.table({"w": pa.array(words, pa.string())}))
    build.execute("CREATE OR REPLACE TABLE models.other AS SELECT * FROM known")
    bad = [row for row in rows if row[1] is not None and row[1] not in words]
    same(found(build, rows, "relationships", column="w", to="models.other.w"), bad)


@settings(deadline=None)
@given(ROWS, st.integers(0, 8), st.integers(0, 8))
def test_row_count(build: duckdb.DuckDBPyConnection, rows: list[Row], low: int, high: int) -> None:
    listed = found(build, rows, "row_count", min=low, max=high)
    assert listed == ([] if low <= len(rows) <= high else [(len(rows),)])
