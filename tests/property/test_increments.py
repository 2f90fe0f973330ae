"""Whatever SELECT is accepted as incremental, what it gives step by step is what it gives computed anew.

SELECTs are generated, right ones and wrong ones. For each that is accepted, rows of the driver are added, changed and
removed, only the groups that these belong to are computed again, and the result has to be that of the whole.
"""

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from selects import COLUMNS, V_SQL, VIEWS, selects

from lakehouse.models.delta import outside, restricted
from lakehouse.models.increments import Increment, NotIncremental, analyse

Row = tuple[Any, ...]
TAGS = st.none() | st.lists(st.sampled_from(["a", "b"]), max_size=2)
NUMBERS = st.none() | st.integers(0, 3)
ROWS = st.lists(
    st.tuples(NUMBERS, st.sampled_from([None, "a", "A", "b", "1"]), NUMBERS, st.sampled_from([None, 0.5, 1.0, 1.5]), TAGS),
    max_size=10,
)  # fmt: skip
OTHERS = st.lists(st.tuples(st.sampled_from([None, "a", "b", "1"]), NUMBERS, NUMBERS), max_size=4)
TYPES = {
    "d": "k INTEGER, g VARCHAR, n INTEGER, x DOUBLE, tags VARCHAR[]",
    "o": "g VARCHAR, w INTEGER, n INTEGER",
}


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.execute("CREATE SCHEMA s; CREATE SCHEMA models; SET search_path = 'main,models'")
        for name, columns in TYPES.items():
            connection.execute(f"CREATE TABLE {name}_rows ({columns}); CREATE TABLE {name}_old ({columns})")
        connection.execute("CREATE VIEW s.o AS SELECT * FROM o_rows; CREATE VIEW s.d AS SELECT * FROM d_rows")
        connection.execute(f"CREATE VIEW models.v AS {V_SQL}")
        yield connection


def fill(duck: duckdb.DuckDBPyConnection, table: str, rows: list[Row]) -> None:
    duck.execute(f"DELETE FROM {table}")
    if rows:
        marks = ", ".join("?" for _ in rows[0])
        duck.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)


def read(duck: duckdb.DuckDBPyConnection, sql: str, driver: str, rows: str) -> list[str]:
    """The result with the driver's rows coming from elsewhere, in an order of its own."""
    duck.execute(f"CREATE OR REPLACE VIEW s.{driver} AS {rows}")
    return sorted(map(repr, duck.execute(sql).fetchall()))


def followed(
    duck: duckdb.DuckDBPyConnection, sql: str, increment: Increment, old: str, new: str
) -> list[str]:
    """What the result becomes when rows of `old` became rows of `new`, computed from the groups in question alone."""
    driver = increment.driver.partition(".")[2]
    duck.execute(f"CREATE OR REPLACE VIEW s.{driver} AS SELECT * FROM {old}")
    duck.execute(f"CREATE OR REPLACE TEMP TABLE published AS {sql}")
    if not increment.groups:
        duck.execute(
            f"CREATE OR REPLACE VIEW s.{driver} AS SELECT * FROM {new} EXCEPT ALL SELECT * FROM {old}"
        )
        duck.execute(f"INSERT INTO published {sql}")
        return sorted(map(repr, duck.execute("SELECT * FROM published").fetchall()))
    picked = ", ".join(f"{e} AS _lake_g{at}" for at, (_, e) in enumerate(increment.groups))
    changed = f"(FROM {new} EXCEPT ALL FROM {old}) UNION ALL (FROM {old} EXCEPT ALL FROM {new})"
    duck.execute(f"CREATE OR REPLACE TEMP TABLE k AS SELECT DISTINCT {picked} FROM ({changed}) AS _lake_d")
    duck.execute(f"CREATE OR REPLACE VIEW s.{driver} AS {restricted(new, increment, 'k')}")
    duck.execute(f"CREATE OR REPLACE TEMP TABLE result AS {outside('published', increment, 'k')}")
    duck.execute(f"INSERT INTO result {sql}")
    return sorted(map(repr, duck.execute("SELECT * FROM result").fetchall()))


def check(
    duck: duckdb.DuckDBPyConnection, sql: str, increment: Increment, old: list[Row], new: list[Row]
) -> None:
    driver = increment.driver.partition(".")[2]
    fill(duck, f"{driver}_old", old)
    fill(duck, f"{driver}_rows", new)
    try:
        whole = read(duck, sql, driver, f"SELECT * FROM {driver}_rows")
        assert followed(duck, sql, increment, f"{driver}_old", f"{driver}_rows") == whole, (sql, increment)
    finally:
        duck.execute(f"CREATE OR REPLACE VIEW s.{driver} AS SELECT * FROM {driver}_rows")


def one(data: st.DataObject, duck: duckdb.DuckDBPyConnection) -> None:
    sql, key = data.draw(selects())
    driver = data.draw(st.sampled_from(["d", "d", "d", "o"])) if "s.o" in sql else "d"
    try:
        increment = analyse(sql, views=VIEWS, driver=f"s.{driver}", key=key, columns=COLUMNS, duck=duck)
        duck.execute(f"EXPLAIN {sql}")
    except NotIncremental as refused:
        event(f"refused: {refused.what[:60]}" if "key" not in refused.what else "refused: key")
        return
    except duckdb.BinderException:  # the SELECT is wrong, whatever is in the tables
        event("no SELECT")
        return
    event(f"accepted, {len(increment.groups)} groups")
    fill(duck, *(("o_rows", data.draw(OTHERS)) if driver == "d" else ("d_rows", data.draw(ROWS))))
    rows = ROWS if driver == "d" else OTHERS
    old = data.draw(rows)
    for _ in range(4):
        added = data.draw(rows)
        kept = data.draw(st.lists(st.booleans(), min_size=len(old), max_size=len(old)))
        stay = [row for row, stays in zip(old, kept, strict=True) if stays or not increment.groups]
        check(duck, sql, increment, old, stay + added)
        old = (stay + added)[:12]


QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(st.data())
def test_what_is_accepted_is_right(duck: duckdb.DuckDBPyConnection, data: st.DataObject) -> None:
    one(data, duck)


@pytest.mark.soak
@settings(QUICK, max_examples=20_000)
@given(st.data())
def test_what_is_accepted_is_right_at_length(duck: duckdb.DuckDBPyConnection, data: st.DataObject) -> None:
    one(data, duck)


K = Increment(driver="s.d", groups=(("k", "_lake_d.k"),), reads=("k",))
G = Increment(driver="s.d", groups=(("g", "_lake_d.g"),), reads=("g",))
ONLY_ADDED = Increment(driver="s.d")
OLD: list[Row] = [(1, "a", 1, 0.5, ["a"]), (2, "a", 2, 1.0, None), (3, "b", 0, 1.5, ["b"])]
NEW: list[Row] = [*OLD[:2], (3, "a", 3, 0.5, ["b"]), (4, "b", 3, None, [])]
MORE: list[Row] = [*OLD, *NEW[2:]]


@pytest.mark.parametrize(
    ("sql", "increment"),
    [
        ("select k, row_number() over (order by n desc, k) as r from s.d", K),
        ("select k, max(n) over (partition by g) as m from s.d", K),
        ("select g, k from s.d qualify n = max(n) over (partition by g)", K),
        ("select max(k) as k, g, count(*) as c from s.d group by g", K),
        ("select distinct on (g) g, k from s.d order by g, n desc", K),
        ("select k, n from s.d order by n desc limit 2", K),
        ("select o.k, d.n from s.d as o left join s.d as d on o.g = d.g", K),
        ("select k from s.d where n = (select max(n) from s.d)", K),
        ("select k from s.d union all select w as k from s.o", K),
        ("select k from s.d union all select n as k from s.d", K),
        ("select o.g, d.k from s.o left join s.d on o.g = d.g and d.n < 2", K),
        ("select w as k from s.o anti join s.d on o.w = d.k", Increment(driver="s.d", groups=(("k", "_lake_d.n"),))),
        ("select coalesce(o.one, d.k) as k, d.n from s.d left join (select 9 as one, g from s.o) as o on o.g = d.g and d.n > 2",
         Increment(driver="s.d", groups=(("k", "coalesce(9, _lake_d.k)"),))),
        ("select distinct g from s.d", ONLY_ADDED),
        ("select g, count(*) as c from s.d group by g", ONLY_ADDED),
        ("select k, lag(k) over (order by k) as before from s.d", ONLY_ADDED),
        ("select g from s.d union select g from s.d", ONLY_ADDED),
        ("select k from s.d union all select w from s.o", ONLY_ADDED),
        ("select n from s.d where n < (select avg(n) from s.d)", ONLY_ADDED),
    ],
)  # fmt: skip
def test_what_is_refused_would_be_wrong(
    duck: duckdb.DuckDBPyConnection, sql: str, increment: Increment
) -> None:
    fill(duck, "o_rows", [("a", 1, 1), ("b", 4, 0)])
    fill(duck, "d_rows", OLD)
    key = [name for name, _ in increment.groups]
    with pytest.raises(NotIncremental):
        analyse(sql, views=VIEWS, driver="s.d", key=key, columns=COLUMNS, duck=duck)
    with pytest.raises(AssertionError):
        check(duck, sql, increment, OLD, NEW if increment.groups else MORE)
