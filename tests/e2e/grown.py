"""A small lake of three loads, for tests that only read."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from lakehouse import Lake

PRODUCTS: tuple[list[dict[str, Any]], ...] = (
    [
        {"sku": "a", "price": 1.5, "tags": ["x"], "size": {"w": 1}},
        {"sku": "b", "price": None, "tags": [], "size": None},
    ],
    [
        {"sku": "a", "price": 2.0, "tags": ["x", "y"], "size": {"w": 1}},
        {"sku": "c", "price": 9.0, "tags": [], "size": None},
    ],
    [{"sku": "c", "price": 9.0, "tags": [], "size": {"w": 2.5, "h": 1}}],
)


def grow(lake: Path) -> Path:
    """Three loads of `shop.products` at noon of 1, 2 and 3 March 2026, and one of `news.items`."""
    opened = Lake.create(lake)
    for n, rows in enumerate(PRODUCTS):
        noon = datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(days=n)
        with opened.load("shop", load_id=f"run-{n + 1}", observed_at=noon) as load:
            load.write("products", rows, disposition="replace", primary_key=["sku"])
    with opened.load("news", load_id="n1", observed_at=datetime(2026, 3, 2, 12, tzinfo=UTC)) as load:
        load.write("items", [{"id": 1, "seen": date(2026, 3, 2)}], disposition="append")
    return lake
