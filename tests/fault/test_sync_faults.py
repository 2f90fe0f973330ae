"""A sync to a bucket that is cut, refused, stalled or killed at any request: the mirror is a lake all the while.

Readers open the mirror directly; only the sync speaks through the proxy that fails.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
import stamina
from proxy import Fault, Kind, Request
from sync_scenarios import Cloud, Lakes, check_place, every_other, from_on, killed_when

import lakehouse.store.gcs
import lakehouse.store.s3
from lakehouse import Lake
from lakehouse.errors import LakehouseError, NoLakeError
from lakehouse.store import LocalStore, Store
from sync.push import push

SILENCE_S = 0.5  # in place of a minute
REQUESTS = {"nothing": 27, "early": 30}  # of the sync to the late lake, and one more

PASSING: list[tuple[Fault, list[pytest.MarkDecorator]]] = [
    (Fault(kind="answer", status=503), []),
    (Fault(kind="answer", status=429, retry_after_s=0), [pytest.mark.soak]),
    (Fault(kind="cut before"), [pytest.mark.soak]),
    (Fault(kind="cut after"), []),
    (Fault(kind="truncate"), []),
    (Fault(kind="hang before"), [pytest.mark.soak]),  # below, once each
    (Fault(kind="hang after"), [pytest.mark.soak]),
]
DEADLY: list[
    Fault | Kind
] = [  # a fault: of the network, for good; a kind: of the process, with its last request
    "cut before",
    "cut after",
    Fault(kind="cut before"),
    Fault(kind="cut after"),
    Fault(kind="answer", status=503),
    Fault(kind="hang before"),
    Fault(kind="hang after"),
]


class Mirror:
    """An empty place in a bucket, by way of a proxy and directly."""

    silence_s = 60.0

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self.cloud, self.proxy, self.folder = cloud, cloud.proxy, folder
        self.name = f"m-{uuid4().hex[:12]}"

    def direct(self) -> Store:
        return self.cloud.store(self.name, directly=True)

    def sync(self, lake: Path, *, directly: bool = False, connections: int = 1, machine: str = "") -> None:
        """Push a lake as a process does that begins."""
        store = self.cloud.store(self.name, directly=directly, silence_s=self.silence_s)
        push(Lake.open(LocalStore(lake)), store, name=self.name + machine, connections=connections)

    def fails(self, lake: Path) -> bool:
        """Push a lake over a network that fails; returns whether that was an error, as people are told."""
        try:
            with impatient():
                self.sync(lake)
        except LakehouseError as error:
            return bool(error.hint) and "testing" not in f"{error} {error.hint}"  # the secret
        return False

    def check(self, lakes: Lakes) -> dict[str, int]:
        heads = check_place(lakes, self.direct(), self.folder / f"copy-{self.name}")
        assert "models" not in heads or set(heads) == set(lakes.heads()), (
            "models are there before what they read"
        )
        return heads


@pytest.fixture
def new_mirror(cloud: Cloud, tmp_path: Path) -> Iterator[Callable[[], Mirror]]:
    """Makes mirrors that are not there yet."""
    yield lambda: Mirror(cloud, tmp_path)
    cloud.proxy.clear()


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """Requests are repeated a few times, at once."""
    stamina.set_testing(True, attempts=3, cap=True)
    yield
    stamina.set_testing(False)


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """What stays silent is given up after less than a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mirror, "silence_s", SILENCE_S)
        patch.setattr(lakehouse.store.gcs, "SILENCE_S", SILENCE_S)
        patch.setattr(lakehouse.store.s3, "SILENCE_S", SILENCE_S)
        yield


@pytest.mark.parametrize("start", [pytest.param("nothing", marks=pytest.mark.soak), "early"])
def test_before_every_request_of_a_sync_the_mirror_is_a_lake(
    start: str, lakes: Lakes, new_mirror: Callable[[], Mirror]
) -> None:
    mirror = new_mirror()
    if start == "early":
        mirror.sync(lakes.early, directly=True)
    found: list[dict[str, int]] = []
    troubles: list[BaseException] = []

    def look(request: Request) -> None:
        if request.method in {"GET", "HEAD"}:
            return
        try:
            found.append(mirror.check(lakes))
        except BaseException as error:  # noqa: BLE001 - of a thread of the proxy
            troubles.append(error)

    mirror.proxy.clear(look)
    mirror.sync(lakes.late)
    assert not troubles, troubles[0]
    assert len({tuple(heads.items()) for heads in found}) >= len(lakes.heads())
    assert mirror.check(lakes) == lakes.heads()


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, id=f"{fault.kind} {fault.status}", marks=marks) for fault, marks in PASSING],
)
def test_what_fails_once_at_every_request_is_repeated_and_not_more(
    fault: Fault, lakes: Lakes, new_mirror: Callable[[], Mirror]
) -> None:
    plain, mirror = new_mirror(), new_mirror()
    plain.proxy.clear()
    plain.sync(lakes.late)
    needed = len(plain.proxy.seen)
    mirror.proxy.clear(every_other(fault))
    with impatient() if fault.kind.startswith("hang") else contextlib.nullcontext():
        mirror.sync(lakes.late)
    sent = len(mirror.proxy.seen)
    assert 2 * needed <= sent <= 4 * needed, f"{sent} requests where {needed} do"
    mirror.proxy.clear()
    assert mirror.check(lakes) == lakes.heads()


def cases(step: int) -> list[object]:
    """Each request with each deadly fault; all but every `step`-th are for the long run."""
    found = []
    every = [
        (start, n, how) for start, last in REQUESTS.items() for n in range(1, last + 1) for how in DEADLY
    ]
    for at, (start, n, how) in enumerate(every):
        name = f"killed, {how}" if isinstance(how, str) else f"{how.kind} for good"
        marks = [pytest.mark.soak] if at % step else []
        found.append(pytest.param(start, n, how, id=f"{start}-{n}-{name}", marks=marks))
    return found


@pytest.mark.parametrize(("start", "n", "how"), cases(57))
def test_a_sync_that_dies_at_a_request_leaves_a_lake_that_the_next_one_completes(
    start: str, n: int, how: Fault | Kind, lakes: Lakes, new_mirror: Callable[[], Mirror]
) -> None:
    mirror = new_mirror()
    proxy = mirror.proxy
    if start == "early":
        mirror.sync(lakes.early, directly=True)
    if isinstance(how, str):
        died = killed_when(lambda request: request.n == n, how, proxy, lambda: mirror.sync(lakes.late))
    else:
        proxy.clear(from_on(n, how))
        died = mirror.fails(lakes.late)
    proxy.clear()
    heads = mirror.check(lakes)
    assert died or heads == lakes.heads()
    mirror.sync(lakes.late)
    assert len(proxy.seen) <= 2 * REQUESTS[start], "it sends all again, and more"
    assert mirror.check(lakes) == lakes.heads()
    proxy.clear()
    mirror.sync(lakes.late)
    assert len(proxy.seen) <= 2 * len(lakes.heads()), "it does not know that all is there"


def test_a_reader_who_asks_all_the_while_sees_whole_lakes(
    lakes: Lakes, new_mirror: Callable[[], Mirror]
) -> None:
    mirror = new_mirror()
    mirror.proxy.clear(lambda _: Fault(kind="delay", seconds=0.1))
    over = threading.Event()
    seen: list[int] = []

    def ask() -> None:
        while not over.is_set():
            try:
                seen.append(sum(lakes.ask(Lake.open(mirror.direct())).values()))
            except NoLakeError:
                continue

    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask)
        try:
            for lake in (lakes.early, lakes.late):
                mirror.sync(lake, connections=4)
        finally:
            over.set()
        asking.result()
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert mirror.check(lakes) == lakes.heads()


def test_two_machines_sync_the_same_lake_at_once(lakes: Lakes, new_mirror: Callable[[], Mirror]) -> None:
    mirror = new_mirror()
    fault = Fault(kind="cut after")
    with ThreadPoolExecutor() as pool:
        for lake in (lakes.early, lakes.late):
            # Fewer than a request is repeated: they might all meet the same one.
            mirror.proxy.clear(lambda request: fault if request.n in {4, 9} else None)
            for done in [
                pool.submit(mirror.sync, lake, connections=2, machine=machine) for machine in ("-a", "-b")
            ]:
                done.result()
    mirror.proxy.clear()
    assert mirror.check(lakes) == lakes.heads()
