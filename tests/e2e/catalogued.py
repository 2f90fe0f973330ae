"""A small lake whose catalogue has something of everything, hostile names among it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from lakehouse import Lake
from lakehouse.core.definition import Definition, Input, Reference, to_json

DAY = datetime(2026, 9, 1, 6, 13, tzinfo=UTC)
HOSTILE = "</script><img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
TURNED = "safe\u202egpj.exe"

# Models by name: their kind and what they read. Together with the tables: nine boxes and ten arrows.
MODELS = {
    "named": ("view", ["shop.products", "shop.categories"]),
    "daily": ("table", ["shop.products"]),
    "changes": ("view", ["models.daily"]),
    "report": ("table", ["models.named"]),
    "hot": ("incremental", ["weather.readings"]),
    "both": ("view", ["models.hot", "models.changes", "gone.away"]),
}
BOXES = {*(f"models.{name}" for name in MODELS), *(read for _, reads in MODELS.values() for read in reads)}
ARROWS = {(read, f"models.{name}") for name, (_, reads) in MODELS.items() for read in reads}


def definition(name: str, kind: str, reads: list[str], **more: Any) -> Definition:
    """A model that reads tables, whose SQL names them."""
    sql, references = "select *\nfrom ", []
    for read in reads:
        source, table = read.split(".")
        sql += ", " if references else ""
        references.append(Reference(source=source, table=table, start=len(sql), end=len(sql) + len(read)))
        sql += read
    sql += " -- all of it"
    return Definition(
        name=name, kind=kind, sql=sql, references=tuple(references), path=f"models/{name}.sql", **more
    )


def told_models() -> Iterator[Definition]:
    more: dict[str, dict[str, Any]] = {
        "daily": {
            "description": "What every product cost, in `euro`.", "grain": "one product on one day", "key": ("sku",),
            "columns": (("sku", "VARCHAR"), ("price", "DOUBLE")), "about": {"price": "the median of the day"},
            "lineage": {"price": ("shop.products.price",)}, "inputs": {"shop.products": Input(seq=3, digest="ab12")},
            "tests": ({"kind": "range", "arguments": {"column": "price", "min": 0}, "severity": "warn"},),
        },
        "report": {"description": HOSTILE, "columns": ((HOSTILE, "BIGINT"), (TURNED, "BIGINT"))},
    }  # fmt: skip
    for name, (kind, reads) in MODELS.items():
        yield definition(name, kind, reads, **more.get(name, {}))


def make(lake: Lake) -> None:
    """A shop whose table drifts, a weather station, and models of both."""
    for n in range(12):
        with lake.load("shop", load_id=f"{n}", observed_at=DAY + timedelta(days=n)) as one:
            rows = [
                {"sku": f"s{i}", "price": i + n % 3, **({"late": n} if n > 4 else {"early": n})}
                for i in range(20 + n)
            ]
            one.write("products", rows, disposition="replace", primary_key="sku")
            one.write("categories", [{"id": 1, HOSTILE: n}], disposition="replace")
    with lake.load("weather", load_id="w", observed_at=DAY) as one:
        one.write("readings", [{"station": 1, "celsius": 12.5}])
        one.write("unread", [{"x": 1}])
    with lake.load("models", load_id="m", observed_at=DAY + timedelta(days=12)) as one:
        for name in ("daily", "report", "hot"):
            one.write(name, [{"sku": "s1", "price": 2.5}], disposition="replace", primary_key="sku")
        one.pipeline = to_json(told_models())
