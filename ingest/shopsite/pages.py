"""The HTML of the demonstration shop: the home page, shelves with their pages, and product pages.

Pure functions from values to text. What is on sale is decided in `assortment`, who asks for which
page in `server`. Pages are whole in themselves: style and pictures inline, no outside requests.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import date
from functools import cache
from html import escape
from importlib.resources import files

from ingest.shopsite.assortment import Category, Fault, Product, Variant, categories

NAME = "Harbour & Quill"
MARK = ' aria-current="page"'

_HUES = {"coffee": 24, "tea": 95, "stories": 350, "maps": 200, "paper": 265, "pots": 165}
_DRAWINGS = {
    "coffee": "M60 62h70v28a28 28 0 0 1-28 28H88a28 28 0 0 1-28-28zM130 70h8a12 12 0 0 1 0 24h-9"
    "M80 50q-7-9 0-18t0-16M104 50q-7-9 0-18t0-16",
    "tea": "M100 122C60 104 54 62 100 22c46 40 40 82 0 100zM100 134V52M100 84l-18-14M100 98l18-14",
    "stories": "M100 42C84 30 62 28 44 32v78c18-4 40-2 56 10 16-12 38-14 56-10V32"
    "c-18-4-40-2-56 10zM100 42v78",
    "maps": "M44 40l36-12 40 12 36-12v82l-36 12-40-12-36 12zM80 28v82M120 40v82M92 66l10 10M102 66l-10 10",
    "paper": "M62 120l10-34 62-62 24 24-62 62zM72 86l24 24M122 36l24 24M62 120l34-10M52 132h90",
    "pots": "M66 62h68l8 42a20 20 0 0 1-20 20H78a20 20 0 0 1-20-20zM142 76l20-14"
    "M58 80c-22-8-26 26 0 26M74 62q26-22 52 0M100 50v-8",
}


def path_of(product: Product) -> str:
    """Return where a product's page is: `/p/cf-01-lantern-keeper`."""
    ascii_title = unicodedata.normalize("NFKD", product.title).encode("ascii", "ignore").decode()
    words = re.findall(r"[a-z0-9]+", ascii_title.replace("'", "").lower())
    return f"/p/{'-'.join([product.sku.lower(), *words])}"


def home(day: date, products: Sequence[Product]) -> str:
    """Return the home page: a card for each shelf, with the number of products on it."""
    cards = _lines(
        _shelf_card(shelf, sum(product.category == shelf for product in products)) for shelf in categories()
    )
    return _document(
        day,
        title=NAME,
        body=f"""<h1>Coffee, tea, and something to read with it</h1>
<p class="blurb">A small shop by the water. {len(products)} things on the shelves today.</p>
<ul class="grid categories">
{cards}
</ul>""",
    )


def shelf(day: date, category: Category, products: Sequence[Product], *, page: int, pages: int) -> str:
    """Return one page of a shelf.

    Args:
        day: The day that the page shows.
        category: The shelf.
        products: The products of this page only.
        page: Number of this page, from 1.
        pages: How many pages the shelf has.
    """
    cards = _lines(map(_product_card, products))
    return _document(
        day,
        title=f"{category.title} · {NAME}",
        current=category,
        body=f"""<h1>{escape(category.title)}</h1>
<p class="blurb">{escape(category.blurb)}</p>
<ul class="grid products">
{cards}
</ul>
{_pager(category, page, pages)}""",
    )


def product(day: date, shown: Product, fault: Fault | None = None) -> str:
    """Return the page of a product; a fault breaks it in the way that real shops break."""
    text = _document(
        day,
        title=f"{shown.title} · {NAME}",
        current=shown.category,
        body=f"""<p class="crumbs"><a href="/">{escape(NAME)}</a> / \
<a href="/c/{shown.category.slug}">{escape(shown.category.title)}</a></p>
<article class="product" data-sku="{shown.sku}">
{_picture(shown.category, shown.sku)}
<div>
<h1>{escape(shown.title)}</h1>
<p class="rating">{_stars(shown.rating)} <data value="{shown.rating}">{shown.rating} of 5</data></p>
<p class="price">{"Price on its way" if fault is Fault.NO_PRICE else _price(shown)}</p>
{_stock(shown.stock)}
<h2>Comes as</h2>
<ul class="variants">
{_lines(_variant(variant) for variant in shown.variants)}
</ul>
<h2>Details</h2>
<table class="attributes">
{_lines(_attribute(label, value) for label, value in shown.attributes.items())}
</table>
</div>
</article>""",
    )
    # Cut in the middle of the table: what a shop sends when its template engine dies halfway.
    return text[: text.rindex("<tr>") + 12] if fault is Fault.TRUNCATED else text


def trouble(day: date, title: str, text: str) -> str:
    """Return a page that says what went wrong."""
    body = f"""<h1>{escape(title)}</h1>
<p class="blurb">{escape(text)} <a href="/">Back to the shop.</a></p>"""
    return _document(day, title=f"{title} · {NAME}", body=body)


def _document(day: date, *, title: str, body: str, current: Category | None = None) -> str:
    links = " ".join(
        f'<a href="/c/{link.slug}"{MARK if link == current else ""}>{escape(link.title)}</a>'
        for link in categories()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{_style()}</style>
</head>
<body>
<header>
<a class="name" href="/">{escape(NAME)}</a>
<nav>{links}</nav>
</header>
<main>
{body}
</main>
<footer>The shelves as of <time datetime="{day}">{day.day} {day:%B %Y}</time>. \
A demonstration shop: nothing here can be bought.</footer>
</body>
</html>
"""


def _lines(fragments: Iterable[str]) -> str:
    return "\n".join(fragments)


def _shelf_card(category: Category, count: int) -> str:
    return f"""<li class="card">
<a href="/c/{category.slug}" data-slug="{category.slug}">{_picture(category, category.slug)}
<h2>{escape(category.title)}</h2></a>
<p class="about">{escape(category.blurb)}</p>
<p class="count">{count} products</p>
</li>"""


def _product_card(shown: Product) -> str:
    return f"""<li class="card">
<a href="{path_of(shown)}" data-sku="{shown.sku}">{_picture(shown.category, shown.sku)}
<h2>{escape(shown.title)}</h2></a>
<p>{_price(shown)}</p>
</li>"""


def _pager(category: Category, page: int, pages: int) -> str:
    here = f"/c/{category.slug}"
    back = f'<a rel="prev" href="{here}?page={page - 1}">← Earlier</a>' if page > 1 else ""
    onward = f'<a rel="next" href="{here}?page={page + 1}">More →</a>' if page < pages else ""
    return f'<p class="pages">{back} <span>Page {page} of {pages}</span> {onward}</p>'


def _price(shown: Product) -> str:
    price = _money(shown.price_cents)
    if shown.price_cents == shown.full_price_cents:
        return f'<data class="price" value="{price}" data-currency="EUR">€{price}</data>'
    return (
        f'<data class="price offer" value="{price}" data-currency="EUR">€{price}</data>'
        f"<s>€{_money(shown.full_price_cents)}</s>"
    )


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def _stock(stock: int) -> str:
    if stock == 0:
        return '<p class="stock none">Sold out</p>'
    return f'<p class="stock">{stock} in stock</p>'


def _variant(variant: Variant) -> str:
    name, price = escape(variant.name), _money(variant.price_cents)
    state = "" if variant.in_stock else ' class="gone"'
    return f'<li{state}><span>{name}</span> <data value="{price}">€{price}</data></li>'


def _attribute(label: str, value: str) -> str:
    return f"<tr><th>{escape(label)}</th><td>{escape(value)}</td></tr>"


def _stars(rating: float) -> str:
    return "★" * round(rating) + "☆" * (5 - round(rating))


def _picture(category: Category, seed: str) -> str:
    """Draw the shelf's line drawing on a tint of its own, a little different for each product."""
    hue = (_HUES[category.slug] + sum(map(ord, seed)) * 7 % 37 - 18) % 360
    return (
        '<svg class="picture" viewBox="0 0 200 150" role="img" aria-hidden="true">'
        f'<rect width="200" height="150" fill="hsl({hue} 38% 88%)"/>'
        f'<circle cx="100" cy="76" r="58" fill="hsl({hue} 40% 80%)"/>'
        f'<path d="{_DRAWINGS[category.slug]}" fill="none" stroke="hsl({hue} 35% 30%)" '
        'stroke-width="4" stroke-linecap="round" stroke-linejoin="round"/></svg>'
    )


@cache
def _style() -> str:
    return files("ingest.shopsite").joinpath("style.css").read_text(encoding="utf-8")
