"""The loads that the fault tests break: each with what must be there before it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from lakehouse import Lake
from lakehouse.errors import QuarantinedError
from lakehouse.loading import Load
from lakehouse.store import LocalStore, Store

DAY_ONE = datetime(2026, 1, 1, tzinfo=UTC)
LOAD_ID = "the-load"


@dataclass(frozen=True)
class Scenario:
    """A load to be interrupted.

    Attributes:
        write: Fills the load.
        before: How many loads of `everything` are in the lake; None: not even the lake is there.
        refused: Whether a gate refuses it.
    """

    name: str
    write: Callable[[Load], None]
    before: int | None = 2
    refused: bool = False

    def run(self, store: Store) -> None:
        """Do the load, as a fresh process would."""
        lake = Lake.create(store) if self.before is None else Lake.open(store)
        load = lake.load("shop", load_id=LOAD_ID, observed_at=DAY_ONE + timedelta(days=9))
        try:
            with load:
                self.write(load)
        except QuarantinedError:
            if not self.refused:
                raise


def append(load: Load) -> None:
    load.write("log", [{"line": f"new {i}"} for i in range(3)])


def replace(load: Load) -> None:
    """Of the items 0 to 5 after two loads: 0 goes, 1 changes, 2 to 5 stay, 9 is new."""
    rows = [{"sku": i, "price": 100 if i == 1 else 1, "tags": ["x"]} for i in (1, 2, 3, 4, 5, 9)]
    load.write("items", rows, disposition="replace", primary_key="sku")


def merge(load: Load) -> None:
    load.write(
        "orders",
        [{"id": 1, "state": "paid"}, {"id": 7, "state": "new"}],
        disposition="merge",
        primary_key="id",
        deletes=pa.table({"id": [0]}),
    )


def groups(load: Load) -> None:
    load.write(
        "lines",
        [{"order": 1, "item": "b"}, {"order": 1, "item": "c"}, {"order": 7, "item": "a"}],
        disposition="merge",
        merge_key="order",
        deletes=pa.table({"order": [0]}),
    )


def snapshot(load: Load) -> None:
    load.write("page", [{"text": "new"}, {"text": "new"}], disposition="replace")


def pair(load: Load) -> None:
    """Two tables of different dispositions."""
    append(load)
    replace(load)


def several(load: Load) -> None:
    """All dispositions, and all that goes into quarantine or the commit beside them."""
    for write in (pair, merge, groups, snapshot):
        write(load)
    load.discard("items", [{"sku": "?"}], "contract: column sku is int64, got text")
    load.pipeline = {"cursor": 9}


def empty_items(load: Load) -> None:
    append(load)
    load.write("items", [], disposition="replace", primary_key="sku")


def everything(load: Load, n: int) -> None:
    """The n-th earlier load: it touches all tables, and has tombstones from the second on."""
    load.write("log", [{"line": f"{n}.{i}"} for i in range(2)])
    rows = [{"sku": i, "price": n if i == 0 else 1, "tags": ["x"]} for i in range(8 - n)]
    load.write("items", rows, disposition="replace", primary_key="sku")
    load.write(
        "orders", [{"id": i, "state": f"{n}"} for i in range(3)], disposition="merge", primary_key="id"
    )
    lines = [{"order": i, "item": letter} for i in range(3) for letter in "ab"[:n]]
    load.write("lines", lines, disposition="merge", merge_key="order")
    load.write("page", [{"text": f"old {n}"}], disposition="replace")
    load.pipeline = {"cursor": n}


def grown(root: Path, scenario: Scenario, *, loads: int | None = None) -> Path:
    """A lake as it is before a scenario's load, with two loads of a second source, `news`."""
    if scenario.before is None:
        root.mkdir(parents=True)
        return root
    lake = Lake.create(LocalStore(root))
    for n in range(1, (loads or scenario.before) + 1):
        with lake.load("shop", load_id=f"load-{n}", observed_at=DAY_ONE + timedelta(days=n)) as load:
            everything(load, n)
    for n in (1, 2):
        with lake.load("news", load_id=f"news-{n}") as load:
            load.write("stories", [{"title": f"story {n}"}])
    return root


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("append", append),
        Scenario("replace", replace),
        Scenario("merge", merge),
        Scenario("groups", groups),
        Scenario("pair", pair),
        Scenario("several", several),
        Scenario("nothing", lambda load: None),
        Scenario("first", append, before=None),
        Scenario("refused", empty_items, refused=True),
    )
}
