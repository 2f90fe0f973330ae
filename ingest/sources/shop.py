"""Harbour & Quill: what a small shop for coffee, tea and stories sells, at which price.

* **Source**: the demonstration shop of this project, `ingest.shopsite`.
* **URL**: none; it is up while it is scraped (or looked at: `python -m ingest.shopsite`).
* **Licence**: Apache-2.0, like the project; every product is made up.
* **Cadence**: once a day; assortment, prices and stock change at midnight UTC.

`categories` and `products` are the whole shop each time; `page_errors` grows. A product page that
cannot be read (gone, cut off, no price) neither stops the run nor loses the product: half a page is
not trusted, so the row holds what the category page says (title, price) and null for the rest, and
`page_errors` says why. A category page that cannot be read stops the run and nothing is loaded:
else its products would seem to have left the shop.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

import dlt
import httpx
import stamina
from dlt.common.configuration.specs import BaseConfiguration
from dlt.extract import DltResource
from selectolax.lexbor import LexborHTMLParser, LexborNode

from ingest.shopsite import serve
from lakehouse.errors import ScraperError

FIRST_RUN_DAYS = 7  # A first run also loads the days before: time travel needs somewhere to go.
PUBLIC_URL = "https://harbour-and-quill.example"  # On loopback the port is another one every time.
HEADERS = {"User-Agent": "lakehouse-shop/1.0 (say here who runs this and how to reach them)"}
NO_PROXY = {"all://127.0.0.1": None}  # A proxy of the environment cannot see our loopback.
SITE_IS_BUSY = {429, 503}  # These speak for the whole site, other answers for one page.
LONGEST_WAIT_S = 30
# Rows of one run. Outside of these the scraper is broken, or the site is.
EXPECTED = {"categories": range(6, 7), "products": range(60, 150), "page_errors": range(11)}

Row: TypeAlias = dict[str, Any]
Tables: TypeAlias = dict[str, list[Row]]
Part: TypeAlias = LexborHTMLParser | LexborNode
_log = logging.getLogger(__name__)


class PageError(ScraperError):
    """One page cannot be read."""


# An empty spec: else dlt fills arguments that are not given from the environment, even from $URL.
@dlt.source(spec=BaseConfiguration, max_table_nesting=0)
def shop(day: date | None = None, url: str | None = None) -> tuple[DltResource, ...]:
    """Scrape the shop.

    Args:
        day: The day to see the demonstration shop on; today (UTC) when not given.
        url: A shop that is up already; when not given, it is served while it is scraped.

    Raises:
        ScraperError: The shop is down, or held too little (as the cause of dlt's own error).
    """
    shelves = crawl(day or datetime.now(UTC).date(), url)
    return shelves | categories, shelves | products, shelves | page_errors


@dlt.transformer(write_disposition="replace", primary_key="slug")
def categories(shelf: Tables) -> list[Row]:
    """One row per category: slug, title, about, products (how many), url."""
    return shelf["categories"]


@dlt.transformer(write_disposition="replace", primary_key="sku")
def products(shelf: Tables) -> list[Row]:
    """One row per product; `attributes` is a struct, `variants` a list of structs."""
    return shelf["products"]


@dlt.transformer(write_disposition="append")
def page_errors(shelf: Tables) -> list[Row]:
    """One row per product page that could not be read: day, sku, url, reason."""
    return shelf["page_errors"]


@dlt.resource(selected=False, spec=BaseConfiguration)
def crawl(day: date, url: str | None) -> Iterator[Tables]:
    """Walk through the shop once, shelf by shelf: the three tables are fed from this."""
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        url = url or stack.enter_context(serve(day))
        client = httpx.Client(base_url=url, timeout=20, headers=HEADERS, mounts=NO_PROXY)
        stack.enter_context(client)
        for card in _fetch(client, "/").css("ul.categories > li"):
            shelf = _read_shelf(client, card, day)
            counts.update({table: len(rows) for table, rows in shelf.items()})
            yield shelf
    _log.info("shop on %s: %s", day, dict(counts))
    if any(counts[table] not in expected for table, expected in EXPECTED.items()):
        raise ScraperError(
            f"shop on {day}: found {dict(counts)}, but expected {EXPECTED}",
            hint="Has the site changed its pages? Nothing was loaded.",
        )


def _read_shelf(client: httpx.Client, card: LexborNode, day: date) -> Tables:
    slug, path = _read(card, "a", "data-slug"), _read(card, "a", "href")
    about, count = _read(card, ".about"), int(_read(card, ".count").removesuffix(" products"))
    category = {"slug": slug, "title": _read(card, "h2"), "about": about, "products": count}
    shelf: Tables = {"categories": [category | {"url": PUBLIC_URL + path}]}
    shelf |= {"products": [], "page_errors": []}
    for product_path, listed in _listed(client, path):
        row = listed | {"category": slug, "url": PUBLIC_URL + product_path}
        try:
            row |= _read_product(_fetch(client, product_path))
        except (PageError, ValueError) as error:
            problem = {"day": day, "sku": row["sku"], "url": row["url"], "reason": str(error)}
            shelf["page_errors"].append(problem)
            _log.info("shop: %(url)s: %(reason)s", problem)
        shelf["products"].append(row)
    if len(shelf["products"]) != count:
        raise PageError(f"{len(shelf['products'])} products at {path}, home page says {count}")
    return shelf


def _listed(client: httpx.Client, path: str) -> Iterator[tuple[str, Row]]:
    """Leaf through a category: the path of each product's page, and what its card says."""
    while True:
        page = _fetch(client, path)
        for card in page.css("ul.products > li"):
            sku, title = _read(card, "a", "data-sku"), _read(card, "h2")
            yield _read(card, "a", "href"), {"sku": sku, "title": title} | _read_price(card)
        if not page.css_matches("a[rel=next]"):
            return
        path = _read(page, "a[rel=next]", "href")


def _read_product(page: LexborHTMLParser) -> Row:
    stock = _read(page, "p.stock")
    facts = [(_read(tr, "th"), _read(tr, "td")) for tr in page.css("table.attributes tr")]
    return _read_price(page) | {
        "stock": 0 if stock == "Sold out" else int(stock.removesuffix(" in stock")),
        "rating": float(_read(page, ".rating data", "value")),
        "attributes": {label.lower().replace(" ", "_"): value for label, value in facts},
        "variants": [_read_variant(item) for item in page.css("ul.variants > li")],
    }


def _read_variant(item: LexborNode) -> Row:
    price, in_stock = float(_read(item, "data", "value")), item.attributes.get("class") != "gone"
    return {"name": _read(item, "span"), "price": price, "in_stock": in_stock}


def _read_price(part: Part) -> Row:
    price = float(_read(part, "data.price", "value"))
    return {"price": price, "currency": _read(part, "data.price", "data-currency")}


def _read(part: Part, selector: str, attribute: str = "") -> str:
    """Return the text or an attribute of the first match; a page without it is not what we know."""
    node = part.css_first(selector)
    if node and (found := node.attributes.get(attribute) if attribute else node.text(strip=True)):
        return found
    raise PageError(f"no {attribute or 'text'} at {selector}")


def _fetch(client: httpx.Client, path: str) -> LexborHTMLParser:
    try:
        response = _get(client, path)
    except httpx.HTTPError as error:
        status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None
        if status and status not in SITE_IS_BUSY:
            raise PageError(f"HTTP {status} at {path}") from error
        reason = f"HTTP {status}" if status else error
        raise ScraperError(
            f"shop: no answer from {client.base_url.join(path)}: {reason}",
            hint="Is the site up, and the address right? Nothing was loaded; run again later.",
        ) from error
    # Parsers mend a page that was cut off without a word, and half a table looks like a whole one.
    if not response.text.rstrip().endswith("</html>"):
        raise PageError(f"cut off after {len(response.content)} bytes at {path}")
    return LexborHTMLParser(response.text)


def _may_retry(error: Exception) -> bool | float:
    """Ask again when it can help, after the seconds that the site wishes if those are not many."""
    if not isinstance(error, httpx.HTTPStatusError):
        return isinstance(error, httpx.TransportError)
    wish = error.response.headers.get("Retry-After", "")
    if error.response.status_code in SITE_IS_BUSY and wish.isdigit():
        return int(wish) <= LONGEST_WAIT_S and float(wish)
    return error.response.is_server_error or error.response.status_code in SITE_IS_BUSY


@stamina.retry(on=_may_retry, attempts=5, timeout=90)
def _get(client: httpx.Client, path: str) -> httpx.Response:
    return client.get(path).raise_for_status()
