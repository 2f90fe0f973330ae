"""The shop scraper: all that is sold arrives, broken pages are told, a broken site stops it."""

import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import dlt
import duckdb
import pytest
import stamina
from dlt.common.exceptions import DltException
from stamina.instrumentation import RetryDetails

from ingest.shopsite import serve
from ingest.shopsite.assortment import Fault, Product, assortment, categories, faults
from ingest.shopsite.server import FLAKY_SHELF, Answer, Shop
from ingest.sources.shop import FIRST_RUN_DAYS, PageError, Tables, crawl, shop
from lakehouse.errors import ScraperError

DAY = date(2026, 3, 14)
STEADY_SHELF = next(shelf.slug for shelf in categories() if shelf.slug != FLAKY_SHELF)

Change = Callable[[str, Answer], Answer]


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=5, cap=True):
        yield


@pytest.fixture
def misbehave(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Have the shop's answers changed on their way out."""
    answer = Shop.answer

    def install(change: Change) -> None:
        monkeypatch.setattr(Shop, "answer", lambda self, path: change(path, answer(self, path)))

    return install


@pytest.fixture
def pipeline(tmp_path: Path) -> dlt.Pipeline:
    return dlt.pipeline(
        "shop",
        destination=dlt.destinations.duckdb(str(tmp_path / "site.duckdb")),
        dataset_name="shop",
        pipelines_dir=str(tmp_path / "dlt"),
    )


def scrape(day: date = DAY, url: str | None = None) -> Tables:
    """Scrape without a pipeline: all rows by table."""
    found: Tables = {"categories": [], "products": [], "page_errors": []}
    for shelf in crawl(day, url):
        for table, rows in shelf.items():
            found[table] += rows
    return found


def query(tmp_path: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(tmp_path / "site.duckdb"), read_only=True) as connection:
        return connection.sql(sql).fetchall()


def as_row(product: Product) -> dict[str, object]:
    return {
        "sku": product.sku,
        "title": product.title,
        "category": product.category.slug,
        "price": product.price_cents / 100,
        "currency": "EUR",
        "stock": product.stock,
        "rating": product.rating,
        "attributes": {k.lower().replace(" ", "_"): v for k, v in product.attributes.items()},
        "variants": [
            {"name": form.name, "price": form.price_cents / 100, "in_stock": form.in_stock}
            for form in product.variants
        ],
    }


@contextmanager
def stopped_by(kind: type[ScraperError], *words: str) -> Iterator[None]:
    """Expect that a run stops, and that the error inside of dlt's own says these words."""
    with pytest.raises(DltException) as failure:
        yield
    cause: BaseException | None = failure.value
    while cause is not None and not isinstance(cause, ScraperError):
        cause = cause.__cause__
    assert type(cause) is kind
    assert [word for word in words if word not in str(cause)] == []


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_all_that_the_shop_sells_arrives_value_for_value() -> None:
    found = {row.pop("sku"): row for row in scrape()["products"]}
    expected = {product.sku: as_row(product) for product in assortment(DAY)}
    assert found.keys() == expected.keys()
    for sku, row in found.items():
        url = row.pop("url")
        assert url.startswith(f"https://harbour-and-quill.example/p/{sku.lower()}-")
        if sku not in faults(DAY):
            assert {"sku": sku, **row} == expected[sku]


def test_types_are_the_same_in_every_whole_row() -> None:
    whole = [row for row in scrape()["products"] if "stock" in row]
    shapes = {tuple((name, type(value)) for name, value in sorted(row.items())) for row in whole}
    assert len(shapes) == 1


def test_every_category_arrives_with_its_number_of_products() -> None:
    found = scrape()
    assert [row["slug"] for row in found["categories"]] == [c.slug for c in categories()]
    for row in found["categories"]:
        listed = [product for product in found["products"] if product["category"] == row["slug"]]
        assert row["products"] == len(listed) > 0
        assert row["title"]
        assert row["about"]


def test_a_broken_page_keeps_its_product_and_is_told() -> None:
    found = scrape()
    reasons = {row["sku"]: row["reason"] for row in found["page_errors"]}
    assert reasons.keys() == faults(DAY).keys()
    on_sale = {product.sku: product for product in assortment(DAY)}
    rows = {row["sku"]: row for row in found["products"]}
    for sku, fault in faults(DAY).items():
        known = as_row(on_sale[sku])
        assert rows[sku].keys() == {"sku", "title", "category", "price", "currency", "url"}
        assert all(rows[sku][name] == known[name] for name in rows[sku] if name != "url")
        assert ("cut off" if fault is Fault.TRUNCATED else "data.price") in reasons[sku]
    assert all(row["day"] == DAY and row["url"] for row in found["page_errors"])


@pytest.mark.parametrize("status", [HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.INTERNAL_SERVER_ERROR])
def test_a_product_page_that_fails_for_good_does_not_stop_the_run(
    status: HTTPStatus, misbehave: Callable[[Change], None]
) -> None:
    product = next(product for product in assortment(DAY) if product.sku not in faults(DAY))
    prefix = f"/p/{product.sku.lower()}-"
    misbehave(lambda path, said: Answer(status, "") if path.startswith(prefix) else said)
    found = scrape()
    assert len(found["products"]) == len(assortment(DAY))
    reason = next(row["reason"] for row in found["page_errors"] if row["sku"] == product.sku)
    assert f"HTTP {status}" in reason


def test_a_stock_that_is_no_number_is_told(misbehave: Callable[[Change], None]) -> None:
    product = next(p for p in assortment(DAY) if p.stock and p.sku not in faults(DAY))
    prefix = f"/p/{product.sku.lower()}-"
    said_stock = f"{product.stock} in stock"
    misbehave(
        lambda path, said: (
            Answer(said.status, said.text.replace(said_stock, "a few left"))
            if path.startswith(prefix)
            else said
        )
    )
    reasons = {row["sku"]: row["reason"] for row in scrape()["page_errors"]}
    assert "a few left" in reasons[product.sku]


def test_the_flaky_shelf_is_asked_again_after_as_long_as_it_wishes(
    misbehave: Callable[[Change], None],
) -> None:
    def first_pages_only(_: str, said: Answer) -> Answer:
        text = re.sub(r"\d+ products", "6 products", said.text.replace('rel="next"', ""))
        return replace(said, text=text)

    misbehave(first_pages_only)
    waits: list[float] = []

    def hook(details: RetryDetails) -> None:
        waits.append(details.wait_for)

    hooks = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks([hook])
    try:
        with stamina.set_testing(False), serve(DAY, retry_after_s=1) as url:
            rows = next(
                shelf["products"]
                for shelf in crawl(DAY, url)
                if shelf["categories"][0]["slug"] == FLAKY_SHELF
            )
    finally:
        stamina.instrumentation.set_on_retry_hooks(hooks)
    assert rows
    assert waits == [1.0]


def test_a_site_that_wants_a_long_pause_is_left_alone() -> None:
    with (
        stamina.set_testing(False),
        serve(DAY, retry_after_s=3600) as url,
        stopped_by(ScraperError, f"{url}/c/{FLAKY_SHELF}: HTTP 503"),
    ):
        scrape(url=url)


def test_a_site_that_is_down_is_named_and_loads_nothing(pipeline: dlt.Pipeline, tmp_path: Path) -> None:
    pipeline.run(shop(DAY))
    url = f"http://127.0.0.1:{closed_port()}"
    with stopped_by(ScraperError, url, "Connection refused", "Is the site up"):
        pipeline.run(shop(DAY, url))
    assert query(tmp_path, "select count(*) from shop._dlt_loads") == [(1,)]


@pytest.mark.parametrize("damage", ["cut off", "gone"])
def test_a_category_page_that_cannot_be_read_stops_the_run(
    damage: str, misbehave: Callable[[Change], None]
) -> None:
    def change(path: str, said: Answer) -> Answer:
        if path != f"/c/{STEADY_SHELF}?page=2":
            return said
        status = HTTPStatus.NOT_FOUND if damage == "gone" else said.status
        return Answer(status, said.text[:2000])

    misbehave(change)
    with stopped_by(PageError, f"/c/{STEADY_SHELF}?page=2"):
        scrape()


def test_a_shop_with_nothing_in_it_is_an_error(misbehave: Callable[[Change], None]) -> None:
    misbehave(lambda _, said: Answer(said.status, "<html><body>Under repair</body></html>"))
    with stopped_by(ScraperError, "expected", "Nothing was loaded"):
        scrape()


def test_a_category_without_its_further_pages_is_an_error(
    misbehave: Callable[[Change], None],
) -> None:
    misbehave(lambda _, said: replace(said, text=said.text.replace('rel="next"', "")))
    with stopped_by(PageError, "6 products at /c/coffee, home page says "):
        scrape()


def test_a_new_layout_is_an_error(misbehave: Callable[[Change], None]) -> None:
    misbehave(
        lambda path, said: (
            Answer(said.status, said.text.replace('class="stock', 'class="left'))
            if path.startswith("/p/")
            else said
        )
    )
    with stopped_by(ScraperError, "'page_errors': ", "but expected"):
        scrape()


def test_a_day_scraped_twice_gives_the_same_rows_on_any_port() -> None:
    with serve(DAY) as url:
        assert scrape(url=url) == scrape()


def test_the_shop_of_today_is_the_default(caplog: pytest.LogCaptureFixture) -> None:
    before = datetime.now(UTC).date()
    with caplog.at_level(logging.INFO, logger="ingest.sources.shop"):
        skus = {row["sku"] for row in shop().resources["products"]}
    days = {before, datetime.now(UTC).date()}
    assert any(skus == {product.sku for product in assortment(day)} for day in days)
    assert any(f"shop on {day}: " in caplog.text for day in days)


def test_the_environment_names_no_shop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URL", "http://127.0.0.1:1")
    monkeypatch.setenv("DAY", "2001-01-01")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    skus = {row["sku"] for row in shop(DAY).resources["products"]}
    assert skus == {product.sku for product in assortment(DAY)}


def test_one_run_asks_for_each_page_once(pipeline: dlt.Pipeline, misbehave: Callable[[Change], None]) -> None:
    asked: list[str] = []

    def note(path: str, said: Answer) -> Answer:
        asked.append(path)
        return said

    misbehave(note)
    pipeline.run(shop(DAY))
    # The flaky shelf has to be asked twice.
    steady = [path for path in asked if not path.startswith(f"/c/{FLAKY_SHELF}")]
    assert len(steady) == len(set(steady)) > len(assortment(DAY))


def test_a_first_run_of_days_ends_with_the_last_day_and_all_page_errors(
    pipeline: dlt.Pipeline, tmp_path: Path
) -> None:
    days = [DAY - timedelta(days=n) for n in reversed(range(FIRST_RUN_DAYS))]
    for day in days:
        pipeline.run(shop(day))
    expected = [(p.sku, p.price_cents / 100, p.stock) for p in assortment(DAY)]
    found = query(tmp_path, "select sku, price, stock from shop.products order by sku")
    assert found == sorted(
        (sku, price, None if sku in faults(DAY) else stock) for sku, price, stock in expected
    )
    told = query(tmp_path, "select day, sku from shop.page_errors order by all")
    assert told == sorted((day, sku) for day in days for sku in faults(day))


def test_tables_are_declared_and_nested_values_stay_columns(pipeline: dlt.Pipeline) -> None:
    pipeline.run(shop(DAY))
    tables = {table["name"]: table for table in pipeline.default_schema.data_tables()}
    assert {name: table["write_disposition"] for name, table in tables.items()} == {
        "categories": "replace",
        "products": "replace",
        "page_errors": "append",
    }
    columns = tables["products"]["columns"]
    assert [name for name, column in columns.items() if column.get("primary_key")] == ["sku"]
    assert {name: column["data_type"] for name, column in columns.items() if not name.startswith("_dlt")} == {
        **dict.fromkeys(["sku", "title", "category", "currency", "url"], "text"),
        **dict.fromkeys(["price", "rating"], "double"),
        **dict.fromkeys(["attributes", "variants"], "json"),
        "stock": "bigint",
    }
