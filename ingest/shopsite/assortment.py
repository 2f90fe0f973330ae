"""What the demonstration shop sells on a day: products, prices, stock, and which pages are broken.

Everything here is a pure function of the day, so that a day can be scraped again, in any order
and on any machine, with the same answer. There is no HTML here (`pages`) and no network (`server`).
"""

import tomllib
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Any

ALWAYS_OF_SIX = 4
OFFER_SHARE = 0.06


class Fault(StrEnum):
    """What is wrong with a broken product page."""

    NO_PRICE = "no price"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """One shelf of the shop."""

    slug: str
    title: str
    blurb: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One form in which a product is sold; prices are in euro cents."""

    name: str
    price_cents: int
    in_stock: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A product as it stands in the shop on one day; prices are in euro cents."""

    sku: str
    title: str
    category: Category
    price_cents: int
    full_price_cents: int
    stock: int
    rating: float
    attributes: dict[str, str]
    variants: tuple[Variant, ...]


def categories() -> tuple[Category, ...]:
    """Return the shelves of the shop; they never change."""
    return tuple(
        Category(slug=shelf["slug"], title=shelf["title"], blurb=shelf["blurb"]) for shelf in _goods()
    )


def assortment(day: date) -> tuple[Product, ...]:
    """Return the products on sale on a day, shelf by shelf."""
    return tuple(
        _product(shelf, place, day)
        for shelf in _goods()
        for place in range(len(shelf["products"]))
        if _is_on_sale(_sku(shelf, place), day)
    )


def faults(day: date) -> dict[str, Fault]:
    """Return a day's broken product pages by SKU: one of each kind, different ones every day."""
    drawn = sorted(assortment(day), key=lambda product: _roll(product.sku, "fault", day))
    return {product.sku: fault for product, fault in zip(drawn, Fault, strict=False)}


@cache
def _goods() -> list[dict[str, Any]]:
    text = files(__package__).joinpath("goods.toml").read_text(encoding="utf-8")
    shelves: list[dict[str, Any]] = tomllib.loads(text)["category"]
    return shelves


def _sku(shelf: dict[str, Any], place: int) -> str:
    return f"{shelf['prefix']}-{place + 1:02}"


def _product(shelf: dict[str, Any], place: int, day: date) -> Product:
    title, base_price, *values = shelf["products"][place]
    sku = _sku(shelf, place)
    full_price = _full_price_cents(sku, base_price, day)
    price = _rounded(full_price * 0.8) if _is_on_offer(sku, day) else full_price
    stock = _stock(sku, day)
    return Product(
        sku=sku,
        title=title,
        category=Category(slug=shelf["slug"], title=shelf["title"], blurb=shelf["blurb"]),
        price_cents=price,
        full_price_cents=full_price,
        stock=stock,
        rating=_rating(sku, day),
        attributes=dict(zip(shelf["attributes"], values, strict=True)),
        variants=tuple(
            # The rarer forms sell out first.
            Variant(name=name, price_cents=_rounded(price * share), in_stock=stock > 2 * rarity)
            for rarity, (name, share) in enumerate(shelf["variants"])
        ),
    )


def _is_on_sale(sku: str, day: date) -> bool:
    # Two thirds are always there, a sixth comes and goes within days, a sixth within weeks.
    temper = _whole(sku, "temper", 0, 6)
    if temper < ALWAYS_OF_SIX:
        return True
    shortest, longest = (6, 10) if temper == ALWAYS_OF_SIX else (24, 40)
    cycle_days = _whole(sku, "cycle", shortest, longest)
    return _phase(sku, day, cycle_days) < cycle_days * 2 // 3


def _full_price_cents(sku: str, base_price: float, day: date) -> int:
    # A price holds for some days, then moves: at most an eighth away from its base.
    step = _step(sku, day, _whole(sku, "price holds", 6, 20))
    return _rounded(base_price * 100 * (0.875 + 0.25 * _roll(sku, "price", step)))


def _is_on_offer(sku: str, day: date) -> bool:
    return _roll(sku, "offer", _step(sku, day, 4)) < OFFER_SHARE


def _stock(sku: str, day: date) -> int:
    # Stock sinks by one every few days, is gone for a while, and is filled up again.
    full, pace_days = _whole(sku, "full", 5, 25), _whole(sku, "pace", 2, 8)
    gone_days = _whole(sku, "gone", 0, 5)
    phase = _phase(sku, day, full * pace_days + gone_days)
    return max(0, full - phase // pace_days)


def _rating(sku: str, day: date) -> float:
    wobble = _roll(sku, "wobble", _step(sku, day, 21)) * 0.4
    return round(3.3 + 1.3 * _roll(sku, "rating") + wobble, 1)


def _rounded(cents: float) -> int:
    return round(cents / 10) * 10


def _phase(sku: str, day: date, cycle_days: int) -> int:
    # Days since the current cycle began; each product begins its cycles on days of its own.
    return (day.toordinal() + _whole(sku, "offset", 0, 997)) % cycle_days


def _step(sku: str, day: date, cycle_days: int) -> int:
    return (day.toordinal() + _whole(sku, "offset", 0, 997)) // cycle_days


def _whole(sku: str, what: str, lowest: int, beyond: int) -> int:
    return lowest + int(_roll(sku, what) * (beyond - lowest))


def _roll(*of: object) -> float:
    # A number in [0, 1) that depends on nothing but the arguments, on every version of Python.
    digest = blake2b("|".join(map(str, of)).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
