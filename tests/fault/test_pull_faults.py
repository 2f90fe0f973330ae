"""A pull from a bucket that is cut, stalled, killed or lied to at any request: what is written is a lake, and whole."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import stamina
from proxy import Fault, Kind, Request
from sync_scenarios import Cloud, Lakes, check_place, from_on, killed_when, once

from lakehouse import Lake
from lakehouse.errors import IntegrityError, LakehouseError, NoLakeError
from lakehouse.store import LocalStore
from sync.pull import PullReport, copy
from sync.push import push

REQUESTS = 40  # of a pull of the late lake, and one or two more
WAYS: list[Fault | Kind] = [  # a fault: of the network; a kind: of the process, with its last request
    "cut before",
    Fault(kind="cut after"),
    Fault(kind="truncate"),
    Fault(kind="answer", status=503),
    Fault(kind="corrupt answer", at=0.3),
    Fault(kind="corrupt answer", at=0.7),
]


@pytest.fixture(autouse=True)
def at_once(cloud: Cloud) -> Iterator[None]:
    """Requests are repeated a few times, at once."""
    stamina.set_testing(True, attempts=6, cap=True)
    yield
    stamina.set_testing(False)
    cloud.proxy.clear()


@pytest.fixture(scope="module")
def mirror(cloud: Cloud, lakes: Lakes) -> str:
    """Name of a mirror that is whole."""
    name = f"m-{uuid4().hex[:12]}"
    push(Lake.open(LocalStore(lakes.late)), cloud.store(name, directly=True), name=name)
    return name


@pytest.fixture
def pull(cloud: Cloud, mirror: str, tmp_path: Path) -> Callable[[], PullReport]:
    """Pulls all, through the proxy, as a process does that begins."""
    return lambda: copy(cloud.store(mirror), LocalStore(tmp_path / "lake"), sources=None, connections=1)


def check(lakes: Lakes, folder: Path) -> dict[str, int]:
    """Fail unless a folder is no lake yet, or the lake at some moment."""
    try:
        return lakes.check(Lake.open(LocalStore(folder)))
    except NoLakeError:
        assert not list(folder.rglob("*.jsonl"))
        return {}


def cases(step: int) -> list[object]:
    found = []
    for at, (n, way) in enumerate((n, way) for n in range(1, REQUESTS + 1) for way in WAYS):
        name = f"{n}-{'killed' if isinstance(way, str) else f'{way.kind} {way.at}'}"
        found.append(pytest.param(n, way, id=name, marks=[pytest.mark.soak] if at % step != 28 else []))
    return found


@pytest.mark.parametrize(("n", "way"), cases(49))
def test_a_pull_that_dies_leaves_a_lake_that_the_next_one_completes(
    n: int, way: Fault | Kind, cloud: Cloud, lakes: Lakes, pull: Callable[[], PullReport], tmp_path: Path
) -> None:
    folder, error = tmp_path / "lake", None
    if isinstance(way, str):
        killed_when(lambda request: request.n == n, way, cloud.proxy, pull)
    else:
        lie = way.kind == "corrupt answer"  # of one answer: a network where all are wrong tells nothing
        cloud.proxy.clear(once(n, way) if lie else from_on(n, way))
        try:
            pull()
        except LakehouseError as caught:
            error = caught
    cloud.proxy.clear()
    heads = check(lakes, folder)
    assert error is None or error.hint
    pull()
    assert check(lakes, folder) == lakes.heads()
    assert all(head <= lakes.heads()[source] for source, head in heads.items())


@pytest.mark.parametrize("kind", ["cut after", "truncate"])
def test_what_fails_once_at_every_request_is_asked_again(
    kind: Kind, cloud: Cloud, lakes: Lakes, pull: Callable[[], PullReport], tmp_path: Path
) -> None:
    asked: set[str] = set()

    def first(request: Request) -> Fault | None:
        new = request.path not in asked
        asked.add(request.path)
        return Fault(kind=kind) if new else None

    cloud.proxy.clear(first)
    pull()
    assert len(asked) < len(cloud.proxy.seen) <= 3 * REQUESTS
    assert check(lakes, tmp_path / "lake") == lakes.heads()


def test_an_upload_that_is_corrupted_on_its_way_is_found_out(
    cloud: Cloud, lakes: Lakes, tmp_path: Path
) -> None:
    name = f"m-{uuid4().hex[:12]}"
    lake = Lake.open(LocalStore(lakes.late))
    cloud.proxy.clear(once(6, Fault(kind="corrupt upload", at=0.7)))  # of the first part
    with pytest.raises(
        IntegrityError, match="page"
    ) as told:  # these servers take what is not what was announced
        push(lake, cloud.store(name), name=name, connections=1)
    assert "--repair" in told.value.hint
    heads = check_place(lakes, cloud.store(name, directly=True), tmp_path / "copy")
    assert "news" not in heads, "a commit names the part"
