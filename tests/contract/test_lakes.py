"""One small lake from first load to reopening, over every store."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse import Lake
from lakehouse.core.gates import OPEN
from lakehouse.duck.session import Session
from lakehouse.errors import NoLakeError, QuarantinedError
from lakehouse.store import Store

START = datetime(2026, 3, 1, tzinfo=UTC)


def test_opening_what_is_no_lake_says_so(store: Store) -> None:
    with pytest.raises(NoLakeError):
        Lake.open(store)


def test_a_lake_end_to_end(make_store: Callable[[], Store]) -> None:
    lake = Lake.create(make_store())
    assert Lake.create(make_store()).id == lake.id

    with lake.load("shop", load_id="one", observed_at=START) as load:
        load.write(
            "products",
            [{"sku": "a", "price": 1.5}, {"sku": "b", "price": 2}],
            disposition="replace",
            primary_key="sku",
        )
        load.write("events", [{"n": 1, "tags": ["x"]}])
        load.write("orders", [{"id": 1, "state": "new"}], disposition="merge", primary_key="id")
        load.write("rates", [{"day": 1}], disposition="replace")
        load.pipeline = {"cursor": 1}
    with lake.load("shop", load_id="two", observed_at=START + timedelta(days=1)) as load:
        load.write(
            "products",
            [{"sku": "a", "price": 1.75}, {"sku": "c", "price": 3}],
            disposition="replace",
            primary_key="sku",
        )
        load.write("events", [{"n": 2, "tags": []}, {"n": 2, "tags": None}])
        load.write(
            "orders",
            [{"id": 2, "state": {"was": "new"}}],
            disposition="merge",
            primary_key="id",
            deletes=[{"id": 1}],
        )
        load.write("rates", [{"day": 2}], disposition="replace")

    def check(lake: Lake) -> None:
        answer = {
            "products": "select sku, price from shop.products order by sku",
            "events": "select n, tags from shop.events order by all",
            "orders": "select id, state from shop.orders",
            "rates": "select day from shop.rates",
        }

        def answers(session: Session) -> dict[str, list[tuple[object, ...]]]:
            return {name: session.query(sql).fetchall() for name, sql in answer.items()}

        now = answers(lake.session())
        assert now["products"] == [("a", 1.75), ("c", 3)]
        assert now["events"] == [(1, ["x"]), (2, []), (2, None)]
        assert now["orders"] == [(2, '{"was":"new"}')]
        assert now["rates"] == [(2,)]
        for moment in (START, START + timedelta(hours=5), 1, "2026-03-01T00:00:00Z"):
            then = answers(lake.session(as_of=moment))
            assert then["products"] == [("a", 1.5), ("b", 2)]
            assert then["events"] == [(1, ["x"])]
            assert then["orders"] == [(1, '"new"')]
            assert then["rates"] == [(1,)]
        assert lake.query(answer["events"], as_of=START - timedelta(seconds=1)).fetchall() == []
        assert lake.query("select count(*) from shop.products_at(1)").fetchall() == [(2,)]
        assert [c.load_id for c in lake.log("shop").commits] == ["one", "two"]
        assert lake.log("shop").pipeline == {"cursor": 1}
        assert lake.sources() == ["shop"]

    check(lake)
    with lake.load("shop", load_id="two") as load:
        load.write("events", [{"n": 99}])
    assert load.commit is not None
    assert load.commit.seq == 2
    with pytest.raises(QuarantinedError), lake.load("shop") as load:
        load.write("products", [], disposition="replace", primary_key="sku")
    check(Lake.open(make_store()))


def test_two_lakes_that_write_one_source_lose_nothing(make_store: Callable[[], Store]) -> None:
    Lake.create(make_store())
    start = threading.Barrier(4)

    def write(number: int) -> None:
        lake = Lake.open(make_store())
        start.wait()
        for n in range(3):
            with lake.load("s", load_id=f"{number}-{n}") as load:
                load.write("log", [{"writer": number, "n": n}])
                load.write("newest", [{"id": 1, "x": f"{number}-{n}"}], disposition="merge", primary_key="id")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    lake = Lake.open(make_store())
    log = lake.log("s")
    assert log.head == 12
    assert sorted(lake.query("select writer, n from s.log").fetchall()) == [
        (w, n) for w in range(4) for n in range(3)
    ]
    for seq, commit in enumerate(log.commits, 1):
        assert lake.query(f"select x from s.newest_at({seq})").fetchall() == [(commit.load_id,)]


def test_one_lake_used_from_several_threads_keeps_their_data_apart(make_store: Callable[[], Store]) -> None:
    lake = Lake.create(make_store())

    def write(number: int) -> None:
        for n in range(4):
            rows = [{"id": i, "x": number * 1000 + max(i, n)} for i in range(20)]
            with lake.load(f"source{number}", gates=OPEN) as load:
                load.write("t", rows, disposition="replace", primary_key="id")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    for number in range(4):
        for seq in range(1, 5):
            found = lake.query(f"select id, x from source{number}.t_at({seq}) order by id").fetchall()
            assert found == [(i, number * 1000 + max(i, seq - 1)) for i in range(20)]
