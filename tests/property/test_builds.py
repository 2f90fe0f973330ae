"""After every load, and builds that were killed, an incremental model is what its SELECT says of the whole."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from fault_injection import NthStep, SteppedFolder
from fault_processes import Child, kill_now

from lakehouse import Lake
from lakehouse.core.gates import OPEN
from lakehouse.models.build import build
from lakehouse.models.plan import read
from lakehouse.pack import pack
from lakehouse.revert import revert
from lakehouse.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = ["x", "y", "z", None]

MODELS = {
    # Straight from what a source appends, and from what it replaces, merges and deletes.
    "long": ("", "select n, kind, amount * 2 as twice from shop.events where amount > 2"),
    "by_kind": (
        "kind",
        "select kind, count(*) as events, sum(amount) as amount from shop.events group by kind",
    ),
    "dear": ("id", "select id, kind, price from shop.items where price >= 3"),
    "items_by_kind": (
        "kind",
        "select kind, count(*) as items, max(price) as price from shop.items group by all",
    ),
    "ranked": (
        "kind, id",
        "select kind, id, rank() over (partition by kind order by price) as place from shop.items",
    ),
    "orders_by_state": ("state", "select state, list(id order by id) as ids from shop.orders group by state"),
    # Through a view, a join, and another incremental model.
    "named": ("id", "select i.id, i.price, k.name from cheap i left join shop.kinds k on k.kind = i.kind"),
    "totals": ("name", "select name, sum(price) as price from named group by name"),
    "doubled": ("", "select n, twice * 2 as four from long"),
}
VIEWS = {"cheap": "select * from shop.items where price < 8"}


class Shop:
    """A source that does what sources do."""

    def __init__(self, lake: Lake, seed: int) -> None:
        self.lake, self.random, self.n = lake, random.Random(seed), 0

    def step(self) -> str:
        acts: list[tuple[Callable[[], object], int]] = [
            (self.events, 6), (self.items, 5), (self.orders, 5), (self.kinds, 1), (self.all, 2),
            (self.nothing, 1), (self.back, 1), (lambda: pack(self.lake, "shop"), 1),
        ]  # fmt: skip
        act = self.random.choices([a for a, _ in acts], [w for _, w in acts])[0]
        self.n += 1
        if not self.lake.log("shop").head:
            act = self.all
        act()
        return getattr(act, "__name__", "pack")

    def load(self, *tables: str) -> None:
        r = self.random
        with self.lake.load("shop", observed_at=DAY + timedelta(hours=self.n), gates=OPEN) as load:
            if "events" in tables:
                rows = [
                    {"n": self.n * 10 + i, "kind": r.choice(KINDS), "amount": r.randrange(6)}
                    for i in range(r.randrange(4))
                ]
                load.write("events", rows or [{"n": self.n * 10, "kind": None, "amount": 0}])
            if "items" in tables:
                ids = r.sample(range(12), r.randrange(5, 12))
                load.write(
                    "items",
                    [{"id": i, "kind": r.choice(KINDS), "price": r.randrange(10)} for i in ids],
                    disposition="replace", primary_key="id",
                )  # fmt: skip
            if "orders" in tables:
                ids = r.sample(range(20), 4)
                load.write(
                    "orders",
                    [{"id": i, "state": r.choice("abc")} for i in ids[:3]],
                    disposition="merge", primary_key="id", deletes=pa.table({"id": ids[3:]}),
                )  # fmt: skip
            if "kinds" in tables:
                load.write(
                    "kinds",
                    [{"kind": k, "name": f"{k}{r.randrange(3)}"} for k in "xyz"],
                    disposition="replace",
                )

    def events(self) -> None:
        self.load("events")

    def items(self) -> None:
        self.load("items")

    def orders(self) -> None:
        self.load("orders")

    def kinds(self) -> None:
        self.load("kinds")

    def all(self) -> None:
        self.load("events", "items", "orders", "kinds")

    def nothing(self) -> None:
        self.load()

    def back(self) -> None:
        head = self.lake.log("shop").head
        revert(self.lake, "shop", self.random.randrange(max(1, head - 5), head + 1))


def whole(lake: Lake, name: str) -> list[tuple[object, ...]]:
    """What a model's SELECT says of the lake as it is, computed from tables of the source alone."""
    given = {**VIEWS, **{other: sql for other, (_, sql) in MODELS.items()}}
    ctes = ", ".join(f"{other} AS NOT MATERIALIZED ({given[other]})" for other in [*VIEWS, *MODELS])
    return _sorted(lake.query(f"WITH {ctes} SELECT * FROM {name}").fetchall())


def _sorted(rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return sorted(rows, key=repr)


def killed(root: Path, chance: random.Random) -> None:
    """A build that SIGKILL ends at some step of its writing, if it has that many."""
    step, phase = chance.randrange(1, 25), chance.choice(["before", "middle", "after"])

    def act() -> None:
        lake = Lake.open(SteppedFolder(root / "lake", NthStep(step, phase, kill_now)))
        build(lake, root, read(lake, root))

    Child(act).wait()


def follow(root: Path, *, seed: int, loads: int, skip: float = 0.2, kills: float = 0.2) -> dict[str, int]:
    """Builds after most of some random loads; how many increments there were of each model."""
    (root / "models").mkdir()
    for name, (key, sql) in MODELS.items():
        text = "-- kind: incremental\n" + (f"-- key: [{key}]\n" if key else "") + f"{sql}\n"
        (root / "models" / f"{name}.sql").write_text(text)
    for name, sql in VIEWS.items():
        (root / "models" / f"{name}.sql").write_text(sql)
    lake = Lake.create(root / "lake")
    shop = Shop(lake, seed)
    increments = dict.fromkeys(MODELS, 0)
    shop.step()
    for _ in range(loads):
        did = shop.step()
        if shop.random.random() < skip:
            continue
        if shop.random.random() < kills:
            killed(root, shop.random)
        built = build(lake, root, read(lake, root))
        assert not built.bad, [(o.name, o.error) for o in built.bad]
        for outcome in built.outcomes:
            if outcome.name in increments:
                increments[outcome.name] += outcome.increment
        for name in MODELS:
            found = _sorted(lake.query(f"select * from models.{name}").fetchall())
            assert found == whole(lake, name), (name, did, shop.n)
    assert verify(lake).errors == []
    return increments


def test_incremental_models_equal_the_whole_after_every_load(tmp_path: Path) -> None:
    increments = follow(tmp_path, seed=1, loads=25)
    assert all(count >= 1 for count in increments.values()), increments


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("seed", [2, 3])
def test_incremental_models_equal_the_whole_after_each_of_200_loads(seed: int, tmp_path: Path) -> None:
    increments = follow(tmp_path, seed=seed, loads=200, skip=0)
    assert all(count >= 10 for count in increments.values()), increments
