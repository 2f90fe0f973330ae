"""Loads straight into a lake in a bucket, over a network that fails: each is there once, or not at all."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import stamina
from fault_processes import Child
from proxy import Fault, Kind, Request
from sync_scenarios import Cloud, every_other, killed_when

from lakehouse import Lake
from lakehouse.core.gates import OPEN
from lakehouse.errors import ContentionError, LakehouseError
from lakehouse.store import Store
from lakehouse.verify import verify

START = datetime(2026, 2, 1, tzinfo=UTC)
LOADS = 4
REQUESTS = 12  # of one load, and some more
FAULTS = (Fault(kind="answer", status=503), Fault(kind="cut before"), Fault(kind="cut after"))


@pytest.fixture(autouse=True)
def at_once(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Requests are repeated at once; what is kept of buckets is this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    stamina.set_testing(True, attempts=6, cap=True)
    yield
    stamina.set_testing(False)
    cloud.proxy.clear()


@pytest.fixture
def name(cloud: Cloud) -> str:
    """Name of a lake with one load."""
    name = f"d-{uuid4().hex[:12]}"
    add(Lake.create(cloud.store(name, directly=True)), "shop", "first", 0)
    return name


def add(lake: Lake, source: str, load_id: str, day: int) -> None:
    """Load what is a function of the load's id."""
    with lake.load(source, load_id=load_id, observed_at=START + timedelta(days=day), gates=OPEN) as load:
        load.write("events", [{"by": load_id, "i": i} for i in range(3)])
        load.write("state", [{"key": load_id, "day": day}], disposition="merge", primary_key="key")


def check(store: Store, source: str, load_ids: set[str]) -> None:
    """Fail unless these loads are there, each once, and nothing else."""
    lake = Lake.open(store)
    report = verify(lake)
    assert not report.errors, [str(error) for error in report.errors]
    assert sorted(commit.load_id for commit in lake.log(source).commits) == sorted(load_ids)
    rows = lake.query(f'select "by", i from {source}.events order by all').fetchall()
    assert rows == sorted((load_id, i) for load_id in load_ids for i in range(3))
    keys = lake.query(f"select key from {source}.state order by all").fetchall()
    assert keys == sorted((load_id,) for load_id in load_ids)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.kind)
def test_a_load_of_which_every_request_fails_once_is_there_once(
    fault: Fault, cloud: Cloud, name: str
) -> None:
    cloud.proxy.clear(every_other(fault))
    add(Lake.open(cloud.store(name)), "shop", "second", 1)
    assert len(cloud.proxy.seen) <= 6 * REQUESTS
    check(cloud.store(name, directly=True), "shop", {"first", "second"})


def deaths() -> list[object]:
    every = [(n, kind) for n in range(1, REQUESTS + 1) for kind in ("cut before", "cut after")]
    return [
        pytest.param(n, kind, marks=[] if at % 6 == 4 else [pytest.mark.soak])
        for at, (n, kind) in enumerate(every)
    ]


@pytest.mark.parametrize(("n", "kind"), deaths())
def test_a_load_that_is_killed_at_a_request_is_there_once_when_it_is_run_again(
    n: int, kind: Kind, cloud: Cloud, name: str
) -> None:
    killed_when(
        lambda request: request.n == n,
        kind,
        cloud.proxy,
        lambda: add(Lake.open(cloud.store(name)), "shop", "second", 1),
    )
    cloud.proxy.clear()
    direct = cloud.store(name, directly=True)
    after = {commit.load_id for commit in Lake.open(direct).log("shop").commits}
    assert after in ({"first"}, {"first", "second"})
    check(direct, "shop", after)
    add(Lake.open(cloud.store(name)), "shop", "second", 1)
    check(direct, "shop", {"first", "second"})


@pytest.mark.parametrize("same", [False, True], ids=["different sources", "the same source"])
def test_two_machines_load_into_one_lake_over_a_network_that_fails(
    cloud: Cloud, name: str, *, same: bool
) -> None:
    def failing(request: Request) -> Fault | None:
        return FAULTS[request.n // 5 % len(FAULTS)] if request.n % 5 == 0 else None

    def machine(which: int) -> int:
        lake, lost = Lake.open(cloud.store(name)), 0
        source = "shop" if same else f"shop_{which}"
        for n in range(LOADS):
            while True:
                try:
                    add(lake, source, f"{which}-{n}", n)
                except ContentionError:  # told clearly; whoever runs it runs it again
                    lost += 1
                else:
                    break
        return lost

    cloud.proxy.clear(failing)
    children = [Child(lambda which=which: machine(which)) for which in range(2)]
    for child in children:
        assert child.wait(120) <= LOADS
    store = cloud.store(name, directly=True)
    mine = [{f"{which}-{n}" for n in range(LOADS)} for which in range(2)]
    if same:
        check(store, "shop", {"first"} | mine[0] | mine[1])
    else:
        check(store, "shop", {"first"})
        for which in range(2):
            check(store, f"shop_{which}", mine[which])


def test_a_network_that_is_gone_is_told_and_leaves_nothing_of_the_load(cloud: Cloud, name: str) -> None:
    lake = Lake.open(cloud.store(name))
    lake.log("shop")
    cloud.proxy.clear(lambda request: Fault(kind="cut before") if request.method in {"PUT", "POST"} else None)
    with pytest.raises(LakehouseError, match="no answer") as told:
        add(lake, "shop", "second", 1)
    assert told.value.hint
    cloud.proxy.clear()
    check(cloud.store(name, directly=True), "shop", {"first"})
