"""`lakehouse diff` and `history`: what changed, as people and programs read it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from command import run

from lakehouse import Lake
from lakehouse.compaction import compact

DAYS = [datetime(2026, 11, day, 12, tzinfo=UTC) for day in (1, 2, 3, 4)]
SNAPSHOTS: list[list[dict[str, Any]]] = [
    [{"sku": "a", "price": 1.5, "name": "Axe"}, {"sku": "b", "price": 2.0, "name": "Bow"}],
    [{"sku": "a", "price": 1.75, "name": "Axe"}, {"sku": "c", "price": 3.0, "name": "Cap"}],
    [{"sku": "a", "price": 1.75, "name": "Axe"}, {"sku": "c", "price": 3.0, "name": "Cape"}],
    [
        {"sku": "a", "price": 1.75, "name": "Axe"},
        {"sku": "b", "price": 2.5, "name": "Bow"},
        {"sku": "c", "price": 3.0, "name": "Cape"},
    ],
]


@pytest.fixture(params=["from parts", "compacted", "partly compacted"])
def lake(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    lake = Lake.create(tmp_path / "lake")
    for number, (day, rows) in enumerate(zip(DAYS, SNAPSHOTS, strict=True)):
        with lake.load("shop", observed_at=day) as load:
            load.write("products", rows, disposition="replace", primary_key="sku")
            load.write("visits", [{"page": f"p{number % 2}"}] * (number + 1))
        if request.param == "partly compacted" and number == 1:
            compact(lake, "shop")
    if request.param == "compacted":
        compact(lake, "shop")
    return tmp_path / "lake"


def test_a_diff_tells_old_and_new(lake: Path) -> None:
    said = run("diff", "shop.products", "--from", "2026-11-02", "--to", "2026-11-04", "--lake", lake).ok().out
    assert said.splitlines() == [
        "~ a  price: 1.5 -> 1.75",
        "- b  price: 2.0, name: Bow",
        "+ c  price: 3.0, name: Cape",
        "shop.products, 2026-11-02 to 2026-11-04: 1 appeared, 1 changed, 1 disappeared",
    ]


def test_a_diff_ends_now_if_it_does_not_say_where(lake: Path) -> None:
    said = run("diff", "shop.products", "--from", "3", "--lake", lake).ok().out
    assert said.splitlines() == [
        "+ b  price: 2.5, name: Bow",
        "shop.products, 3 to now: 1 appeared",
    ]
    said = run("diff", "shop.products", "--from", "4", "--lake", lake).ok().out
    assert said == "shop.products, 4 to now: nothing changed\n"


def test_a_diff_backwards_undoes_a_diff(lake: Path) -> None:
    rows = run("diff", "shop.products", "--from", "4", "--to", "1", "--json", "--lake", lake).ok().jsonl
    assert [
        (r["change"], r["sku"], r["changed_columns"], r["before"] and r["before"]["price"]) for r in rows
    ] == [
        ("changed", "a", ["price"], 1.75),
        ("changed", "b", ["price"], 2.5),
        ("disappeared", "c", [], 3.0),
    ]


def test_a_diff_of_rows_without_a_key_counts_them(lake: Path) -> None:
    said = run("diff", "shop.visits", "--from", "1", "--to", "3", "--lake", lake).ok().out
    assert said.splitlines() == [
        "+ 3 x  page: p0",
        "+ 2 x  page: p1",
        "shop.visits, 1 to 3: 5 appeared",
    ]


def test_a_long_diff_is_cut_and_says_so(lake: Path) -> None:
    said = run("diff", "shop.products", "--from", "1", "--limit", "1", "--lake", lake).ok().out
    assert said.splitlines() == [
        "~ a  price: 1.5 -> 1.75",
        "… and 2 more (-n 0 for all)",
        "shop.products, 1 to now: 1 appeared, 2 changed",
    ]


def test_a_diff_of_what_is_not_there_is_an_error(lake: Path) -> None:
    run("diff", "shop.nothing", "--from", "1", "--lake", lake).failed(2, "no table 'nothing'")
    run("diff", "shop.products", "--from", "soon", "--lake", lake).failed(2, "as of soon")
    run("diff", "shop.products", "--lake", lake).failed(2, "--from")


def test_the_life_of_a_row(lake: Path) -> None:
    said = run("history", "shop.products", "--key", "b", "--lake", lake).ok().out
    lines = [line.split() for line in said.splitlines() if line]
    assert lines[1:] == [
        ["2026-11-01", "12:00:00", "1", "appeared"],
        ["2026-11-02", "12:00:00", "2", "disappeared"],
        ["2026-11-04", "12:00:00", "4", "reappeared"],
        ["3", "changes;", "the", "newest", "values:"],
        ["sku:", "b"],
        ["price:", "2.5"],
        ["name:", "Bow"],
    ]
    said = run("history", "shop.products", "--key", "sku=c", "--lake", lake).ok().out
    assert ["2026-11-03", "12:00:00", "3", "changed", "name", "Cap", "Cape"] in [
        line.split() for line in said.splitlines()
    ]


def test_the_life_of_a_row_for_programs(lake: Path) -> None:
    rows = run("history", "shop.products", "--key", "a", "--json", "--lake", lake).ok().json
    assert [
        (
            r["valid_from"],
            r["valid_to"],
            r["from_load"],
            r["to_load"],
            r["change"],
            r["changed_columns"],
            r["price"],
        )
        for r in rows
    ] == [
        ("2026-11-01T12:00:00.000000Z", "2026-11-02T12:00:00.000000Z", 1, 2, "appeared", [], 1.5),
        ("2026-11-02T12:00:00.000000Z", None, 2, None, "changed", ["price"], 1.75),
    ]


def test_a_row_that_never_was_is_an_error(lake: Path) -> None:
    run("history", "shop.products", "--key", "z", "--lake", lake).failed(2, "never was a row")
    run("history", "shop.visits", "--key", "p0", "--lake", lake).failed(2, "no key")
    run("history", "shop.products", "--lake", lake).failed(2, "--key")


def test_the_history_is_a_table_for_queries(lake: Path) -> None:
    rows = (
        run(
            "query",
            "select sku, name, from_load, to_load from shop.products_history where change = 'disappeared'",
            "--format",
            "jsonl",
            "--lake",
            lake,
        )
        .ok()
        .jsonl
    )
    assert rows == [{"sku": "b", "name": "Bow", "from_load": 2, "to_load": 4}]
    rows = (
        run(
            "query",
            "select change, count(*) as n from shop.products_diff('2026-11-02', null) group by all order by all",
            "--format",
            "jsonl",
            "--lake",
            lake,
        )
        .ok()
        .jsonl
    )
    assert rows == [{"change": "appeared", "n": 1}, {"change": "changed", "n": 2}]
