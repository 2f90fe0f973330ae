"""The demonstration shop: the same on the same day, alive over days, broken in known ways."""

import re
import subprocess
import sys
from collections import Counter
from datetime import date, timedelta
from html.parser import HTMLParser
from itertools import pairwise

import httpx
import pytest
from selectolax.lexbor import LexborHTMLParser

from ingest.shopsite import pages, serve
from ingest.shopsite.assortment import Fault, Product, assortment, categories, faults
from ingest.shopsite.server import FLAKY_SHELF

DAY = date(2026, 3, 14)
FORTNIGHT = [DAY + timedelta(days=n) for n in range(14)]
STEADY_SHELF = next(shelf.slug for shelf in categories() if shelf.slug != FLAKY_SHELF)


def on_sale(day: date) -> dict[str, Product]:
    return {product.sku: product for product in assortment(day)}


def walk(client: httpx.Client) -> dict[str, str]:
    """Fetch every page of a shop, each shelf to its end; flaky pages are asked again."""
    found: dict[str, str] = {}
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        response = client.get(path)
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            response = client.get(path)
        found[path] = response.raise_for_status().text
        links = LexborHTMLParser(response.text).css("a[href^='/']")
        paths = {link.attributes["href"] or "" for link in links}
        waiting += sorted(paths - found.keys() - set(waiting))
    return found


def test_the_same_day_shows_the_same_shop() -> None:
    with (
        serve(DAY) as one,
        serve(DAY) as other,
        httpx.Client(base_url=one) as here,
        httpx.Client(base_url=other) as there,
    ):
        assert one != other
        assert walk(here) == walk(there)


def test_another_day_shows_another_shop() -> None:
    assert assortment(DAY) != assortment(DAY + timedelta(days=1))


@pytest.mark.parametrize("year", range(2020, 2032))
def test_the_shop_is_never_empty_nor_huge(year: int) -> None:
    for month in range(1, 13):
        shelves = Counter(product.category.slug for product in assortment(date(year, month, 17)))
        assert 60 <= shelves.total() <= 120
        assert len(shelves) == 6
        assert min(shelves.values()) >= 6


def test_products_appear_disappear_and_come_back_within_a_fortnight() -> None:
    days = [set(on_sale(day)) for day in FORTNIGHT]
    appeared = [later - earlier for earlier, later in pairwise(days)]
    disappeared = [earlier - later for earlier, later in pairwise(days)]
    gone_before = [set().union(*disappeared[:n]) for n in range(len(appeared))]
    came_back = [new & gone for new, gone in zip(appeared, gone_before, strict=True)]
    assert sum(map(len, appeared)) >= 5
    assert sum(map(len, disappeared)) >= 5
    assert sum(map(len, came_back)) >= 3
    assert len(set.intersection(*days)) >= 40


def test_some_prices_and_stocks_move_every_day_but_most_stay() -> None:
    for earlier, later in pairwise(map(on_sale, FORTNIGHT)):
        both = earlier.keys() & later.keys()
        prices = sum(earlier[sku].price_cents != later[sku].price_cents for sku in both)
        stocks = sum(earlier[sku].stock != later[sku].stock for sku in both)
        assert 1 <= prices <= len(both) / 3
        assert 1 <= stocks <= len(both) / 2


def test_prices_are_plausible() -> None:
    for product in assortment(DAY):
        assert 100 < product.price_cents <= product.full_price_cents < 20_000
        assert 1 <= product.rating <= 5
        assert 0 <= product.stock < 30
        assert any(variant.in_stock for variant in product.variants) == (product.stock > 0)


def test_every_product_is_on_one_page_of_its_shelf() -> None:
    with serve(DAY) as url, httpx.Client(base_url=url) as client:
        found = walk(client)
    listed = Counter(
        card.attributes["data-sku"]
        for path, text in found.items()
        if path.startswith("/c/") and not path.endswith("?page=1")
        for card in LexborHTMLParser(text).css("ul.products a")
    )
    assert listed == Counter(on_sale(DAY).keys())
    assert {path for path in found if path.startswith("/p/")} == set(map(pages.path_of, assortment(DAY)))


@pytest.mark.parametrize("path", ["?page=0", "?page=99", "?page=-1", "?page=two", "?page=", "/x"])
def test_pages_that_do_not_exist_are_not_found(path: str) -> None:
    with serve(DAY) as url:
        response = httpx.get(f"{url}/c/{STEADY_SHELF}{path}")
        # An empty value is no value: that is the first page.
        assert response.status_code == (200 if path == "?page=" else 404)
        assert httpx.get(f"{url}/p/xx-99-nothing").status_code == 404


def test_a_product_that_is_not_on_sale_has_no_page() -> None:
    gone = (on_sale(DAY).keys() - on_sale(FORTNIGHT[-1]).keys()).pop()
    with serve(FORTNIGHT[-1]) as url:
        assert httpx.get(url + pages.path_of(on_sale(DAY)[gone])).status_code == 404


def test_broken_pages_are_of_each_kind_and_other_ones_each_day() -> None:
    per_day = [faults(day) for day in FORTNIGHT]
    assert all(set(day.values()) == set(Fault) for day in per_day)
    assert len({frozenset(day) for day in per_day}) == len(per_day)


def test_broken_pages_lack_their_price_or_their_end() -> None:
    with serve(DAY) as url:
        for sku, fault in faults(DAY).items():
            text = httpx.get(url + pages.path_of(on_sale(DAY)[sku])).raise_for_status().text
            assert text.rstrip().endswith("</html>") == (fault is not Fault.TRUNCATED)
            assert ('class="price" value' in text) == (fault is not Fault.NO_PRICE)


def test_each_page_of_the_flaky_shelf_is_refused_once() -> None:
    with serve(DAY, retry_after_s=7) as url, httpx.Client(base_url=url) as client:
        for path in (f"/c/{FLAKY_SHELF}", f"/c/{FLAKY_SHELF}?page=2"):
            refusal = client.get(path)
            assert refusal.status_code == httpx.codes.SERVICE_UNAVAILABLE
            assert refusal.headers["Retry-After"] == "7"
            assert [client.get(path).status_code for _ in range(3)] == [200, 200, 200]
        assert client.get(f"/c/{STEADY_SHELF}").status_code == httpx.codes.OK


class Nesting(HTMLParser):
    """Fails on tags that are not closed in the order in which they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a tag that closes itself, as in SVG."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_pages_are_well_formed_and_ask_nobody_else() -> None:
    cut_off = {
        pages.path_of(on_sale(DAY)[sku]) for sku, fault in faults(DAY).items() if fault is Fault.TRUNCATED
    }
    with serve(DAY) as url, httpx.Client(base_url=url) as client:
        found = walk(client)
    for path, text in found.items():
        assert not re.search(r"https?://|@import|<script|<img|url\(", text), path
        # An ampersand that begins no character reference.
        assert not re.search(r"&(?!#?\w+;)", text), path
        nesting = Nesting()
        nesting.feed(text)
        assert bool(nesting.open) == (path in cut_off), path


def test_a_connection_is_kept_and_head_answers_without_a_body() -> None:
    with serve(DAY) as url, httpx.Client(base_url=url) as client:
        head = client.head("/")
        assert head.content == b""
        assert int(head.headers["Content-Length"]) == len(client.get("/").content)
        assert "close" not in client.get("/robots.txt").headers.get("Connection", "")


def test_nothing_listens_after_the_block() -> None:
    with serve(DAY) as url:
        assert url.startswith("http://127.0.0.1:")
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_python_m_serves_the_shop_for_a_browser() -> None:
    command = [sys.executable, "-m", "ingest.shopsite", "--day", str(DAY), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = re.findall(r"http://[\d.:]+", process.stdout.readline())[0]
            assert "14 March 2026" in httpx.get(url).raise_for_status().text
        finally:
            process.terminate()
