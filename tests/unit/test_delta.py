"""What a table gained between two positions: which rows, which groups, from which files; and where that cannot be told."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from lakehouse import Lake
from lakehouse.compaction import compact
from lakehouse.core.gates import OPEN
from lakehouse.duck.files import connect
from lakehouse.errors import NotFoundError
from lakehouse.models.delta import (
    Delta,
    Seen,
    WholeNeededError,
    check_comparable,
    delta,
    inside,
    outside,
    restricted,
    seen,
)
from lakehouse.models.increments import Increment, analyse
from lakehouse.pack import pack
from lakehouse.retention import expire, parse
from lakehouse.revert import revert
from lakehouse.store.memory import MemoryStore

START = datetime(2026, 1, 1, tzinfo=UTC)
KEYED = {"disposition": "merge", "primary_key": "sku"}
ADDED = Increment(driver="shop.products")


def by(*expressions: str, reads: tuple[str, ...], driver: str = "shop.products") -> Increment:
    return Increment(
        driver=driver, groups=tuple((f"c{at}", e) for at, e in enumerate(expressions)), reads=reads
    )


SKU = by("_lake_d.sku", reads=("sku",))
KIND = by("_lake_d.kind", reads=("kind",))


@pytest.fixture
def lake() -> Lake:
    return Lake.create(MemoryStore())


@pytest.fixture
def duck(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(lake) as connection:
        yield connection


def load(
    lake: Lake, rows: list[dict[str, Any]], *, source: str = "shop", table: str = "products", **how: Any
) -> None:
    with lake.load(source, observed_at=START + timedelta(hours=7 * lake.log(source).head), gates=OPEN) as one:
        one.write(table, rows, **(how or {"disposition": "append"}))


def product(sku: str | None, kind: str | None, price: int = 1) -> dict[str, Any]:
    return {"sku": sku, "kind": kind, "price": price}


def since(lake: Lake, seq: int, source: str = "shop", table: str = "products") -> Seen:
    return seen(lake.log(source), table, seq)


def gained(lake: Lake, increment: Increment, first: int, last: int | None = None) -> Delta:
    source, _, table = increment.driver.partition(".")
    log = lake.log(source)
    return delta(lake, log, increment, since(lake, first, source, table), log.head if last is None else last)


def rows(duck: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return sorted(duck.execute(sql).fetchall(), key=repr)


def why_whole(lake: Lake, increment: Increment, first: int, last: int | None = None) -> str:
    with pytest.raises(WholeNeededError) as why:
        gained(lake, increment, first, last)
    return why.value.message


def path_of(lake: Lake, seq: int) -> str:
    return lake.log("shop").commits[seq - 1].tables["products"].parts[0].path


def test_rows_that_were_added_are_read_from_their_files_alone(
    lake: Lake, duck: duckdb.DuckDBPyConnection
) -> None:
    for number in range(4):
        load(lake, [product("a", "x", number)])
    found = gained(lake, ADDED, 2)
    assert rows(duck, found.rows) == [("a", "x", 2), ("a", "x", 3)]
    assert rows(duck, gained(lake, ADDED, 1, 3).rows) == [("a", "x", 1), ("a", "x", 2)]
    assert path_of(lake, 1) not in found.rows
    assert path_of(lake, 2) not in found.rows
    assert path_of(lake, 4) not in gained(lake, ADDED, 1, 3).rows
    assert rows(duck, gained(lake, KIND, 2).groups) == [("x",)]


def test_a_pack_over_the_position_is_filtered(lake: Lake, duck: duckdb.DuckDBPyConnection) -> None:
    for number in range(4):
        load(lake, [product("a", "x", number)])
    recorded = since(lake, 2)
    pack(lake, "shop")
    log = lake.log("shop")
    assert len(log.tables["products"].files) == 1
    assert rows(duck, delta(lake, log, ADDED, recorded, log.head).rows) == [("a", "x", 2), ("a", "x", 3)]
    assert delta(lake, log, ADDED, since(lake, 4), log.head).unchanged


def test_groups_of_the_key_are_told_by_new_files(lake: Lake, duck: duckdb.DuckDBPyConnection) -> None:
    load(lake, [product("a", "x"), product("b", "y"), product(None, "z"), product("same", "s")], **KEYED)
    load(
        lake,
        [product("a", "q"), product("new", None), product("same", "s")],
        **KEYED,
        deletes=[{"sku": "b"}, {"sku": None}],
    )
    found = gained(lake, SKU, 1)
    assert rows(duck, found.groups) == [("a",), ("b",), ("new",), (None,)]
    assert path_of(lake, 1) not in found.groups


@pytest.mark.parametrize("compacted", [False, True])
def test_other_groups_are_those_of_old_and_new_versions(
    lake: Lake, duck: duckdb.DuckDBPyConnection, compacted: bool
) -> None:
    load(
        lake,
        [product("a", "x"), product("b", "y"), product(None, "z"), product("c", "w"), product("gone", "old")],
        **KEYED,
    )
    load(lake, [], **KEYED, deletes=[{"sku": "gone"}])
    load(
        lake,
        [product("a", "q"), product("new", None), product("gone", "back")],
        **KEYED,
        deletes=[{"sku": "b"}, {"sku": None}],
    )
    if compacted:
        assert compact(lake, "shop") == ["products"]
    assert rows(duck, gained(lake, KIND, 2).groups) == [("back",), ("q",), ("x",), ("y",), ("z",), (None,)]
    assert ("old",) in rows(duck, gained(lake, KIND, 1).groups)
    assert rows(
        duck, gained(lake, by("upper(_lake_d.sku)", "_lake_d.kind", reads=("sku", "kind")), 2).groups
    )[0] == ("A", "q")


def test_groups_of_a_merge_key_follow_too(lake: Lake, duck: duckdb.DuckDBPyConnection) -> None:
    how = {"disposition": "merge", "merge_key": "kind"}
    load(lake, [product("a", "x"), product("b", "x"), product("c", "y")], **how)
    load(lake, [product("a", "x"), product("d", "x")], **how)
    assert rows(duck, gained(lake, KIND, 1).groups) == [("x",)]
    assert rows(duck, gained(lake, SKU, 1).groups) == [("a",), ("b",), ("d",)]


def test_tables_of_models_are_followed_as_any_other(lake: Lake, duck: duckdb.DuckDBPyConnection) -> None:
    for number in range(2):
        load(
            lake,
            [{"day": number, "n": 1}],
            source="models",
            table="daily",
            disposition="merge",
            primary_key="day",
        )
    sql = "select day, max(n) as n from daily group by day"
    increment = analyse(
        sql, views={}, driver="models.daily", key=["day"], columns={"models.daily": ["day", "n"]}
    )
    assert rows(duck, gained(lake, increment, 1).groups) == [(1,)]


def test_nothing_between_is_nothing_to_do(lake: Lake) -> None:
    load(lake, [product("a", "x")], **KEYED)
    load(lake, [product("a", "x")], **KEYED)
    load(lake, [{"n": 1}], table="others")
    assert gained(lake, SKU, 1).unchanged
    assert gained(lake, SKU, 3).unchanged


def test_names_of_columns_may_be_any_text(lake: Lake, duck: duckdb.DuckDBPyConnection) -> None:
    names = ['a "b".c', "_lake_g0", "_lake_k", "select"]
    for number in range(2):
        load(lake, [dict.fromkeys(names, number)], disposition="replace", primary_key=names[0])
    sql = 'select "a ""b"".c" as k, "_lake_g0", count(*) from shop.products group by all'
    increment = analyse(
        sql, views={}, driver="shop.products", key=["k", "_lake_g0"], columns={"shop.products": names}
    )
    assert len(increment.groups) == 2
    duck.execute(f"CREATE TABLE groups AS {gained(lake, increment, 1).groups}")
    assert rows(duck, "FROM groups") == [(0, 0), (1, 1)]
    duck.execute(
        'CREATE TABLE now AS SELECT 1 AS "a ""b"".c", 1 AS _lake_g0, 3 AS _lake_k, 4 AS "select" UNION ALL SELECT 1, 2, 3, 4'
    )
    assert rows(duck, restricted("now", increment, "groups")) == [(1, 1, 3, 4)]


def test_rows_of_groups_are_found_also_by_null(duck: duckdb.DuckDBPyConnection) -> None:
    duck.execute(
        "CREATE TABLE groups AS SELECT * FROM (VALUES (NULL, 1), ('a', NULL)) AS t(_lake_g0, _lake_g1)"
    )
    duck.execute(
        "CREATE TABLE now AS SELECT * FROM (VALUES (NULL, 1), (NULL, NULL), ('a', NULL), ('a', 1)) AS t(c0, c1)"
    )
    increment = by("_lake_d.c0", "_lake_d.c1", reads=("c0", "c1"))
    in_groups, others = [("a", None), (None, 1)], [("a", 1), (None, None)]
    assert rows(duck, restricted("now", increment, "groups")) == in_groups
    assert rows(duck, inside("now", increment, "groups")) == in_groups
    assert rows(duck, outside("now", increment, "groups")) == others


def test_an_expression_that_fails_on_a_row_is_no_group(lake: Lake, duck: duckdb.DuckDBPyConnection) -> None:
    sql = "select sku::int as n, count(*) as c from shop.products where kind = 'number' group by all"
    increment = analyse(
        sql, views={}, driver="shop.products", key=["n"], columns={"shop.products": ["sku", "kind"]}
    )
    load(lake, [product("1", "number")])
    load(lake, [product("abc", "text"), product("2", "number")])
    assert rows(duck, gained(lake, increment, 1).groups) == [(2,), (None,)]


def test_groups_have_to_be_comparable_with_what_was_stored(duck: duckdb.DuckDBPyConnection) -> None:
    increment = by("_lake_d.k", reads=("k",))
    duck.execute("CREATE TABLE published AS SELECT 1::INTEGER AS c0, [1] AS more")
    duck.execute(
        "CREATE TABLE same AS SELECT 1::INTEGER AS _lake_g0; CREATE TABLE wider AS SELECT 1::BIGINT AS _lake_g0"
    )
    check_comparable(duck, "published", increment, "same")
    with pytest.raises(WholeNeededError, match="c0, which is in the key, is BIGINT but stored as INTEGER"):
        check_comparable(duck, "published", increment, "wider")
    duck.execute("CREATE TABLE listed AS SELECT [1] AS c0; CREATE TABLE lists AS SELECT [1] AS _lake_g0")
    with pytest.raises(WholeNeededError, match="INTEGER"):
        check_comparable(duck, "listed", increment, "lists")


def test_a_state_that_began_anew_is_computed_whole(lake: Lake) -> None:
    load(lake, [product("a", "x")], disposition="replace")
    load(lake, [product("b", "x")], disposition="replace")
    assert "its state began anew after load 1" in why_whole(lake, SKU, 1)
    load(lake, [product("b", "y")], disposition="replace", primary_key="sku")
    assert "began anew" in why_whole(lake, SKU, 2)
    load(lake, [product("b", "z")], disposition="replace", primary_key="sku")
    assert gained(lake, SKU, 3).groups


def test_a_revert_of_added_rows_is_computed_whole_and_one_by_key_is_not(
    lake: Lake, duck: duckdb.DuckDBPyConnection
) -> None:
    for number in range(2):
        load(lake, [product("a", "x", number)])
        load(lake, [product("a", str(number))], table="kept", **KEYED)
    revert(lake, "shop", 2)
    assert "began anew" in why_whole(lake, ADDED, 4)
    kept = by("_lake_d.kind", reads=("kind",), driver="shop.kept")
    assert rows(duck, gained(lake, kept, 4).groups) == [("0",), ("1",)]


def test_rows_that_change_cannot_only_be_added(lake: Lake) -> None:
    for number in range(2):
        load(lake, [product("a", "x", number)], **KEYED)
    assert "its rows change, and without a key the model only adds rows" in why_whole(lake, ADDED, 1)


def test_other_columns_or_types_are_computed_whole(lake: Lake) -> None:
    load(lake, [{"sku": "a", "kind": 1}])
    before = since(lake, 1)
    load(lake, [{"sku": "a", "kind": 1.5}])
    log = lake.log("shop")
    with pytest.raises(WholeNeededError, match="its columns, or their types, are others"):
        delta(lake, log, KIND, before, log.head)
    before = since(lake, 2)
    load(lake, [{"sku": "a", "kind": 2, "more": 1}])
    log = lake.log("shop")
    with pytest.raises(WholeNeededError, match="its columns"):
        delta(lake, log, KIND, before, log.head)


def test_another_log_or_position_is_computed_whole(lake: Lake) -> None:
    for number in range(3):
        load(lake, [product("a", "x", number)])
    log, known = lake.log("shop"), since(lake, 2)
    with pytest.raises(WholeNeededError, match="load 2 is not the one that was read"):
        delta(lake, log, SKU, Seen(seq=2, digest="0" * 64, columns=known.columns), 3)
    with pytest.raises(WholeNeededError, match="load 0 is not before load 3"):
        delta(lake, log, SKU, Seen(seq=0, digest="", columns=known.columns), 3)
    with pytest.raises(WholeNeededError, match="load 2 is not before load 1"):
        delta(lake, log, SKU, known, 1)
    with pytest.raises(NotFoundError, match="there is no load 9"):
        delta(lake, log, SKU, known, 9)


def test_an_expired_position_is_computed_whole(lake: Lake) -> None:
    for number in range(4):
        load(lake, [product("a", "x", number)], **KEYED)
    before = since(lake, 2)
    expire(lake, "shop", parse("keep weekly after 1 hours"), now=START + timedelta(hours=40))
    log = lake.log("shop")
    assert log.is_expired(2)
    with pytest.raises(WholeNeededError, match="load 2, which was read, is expired"):
        delta(lake, log, SKU, before, log.head)
