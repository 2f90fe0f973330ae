"""Compactions killed, racing, or on a failing disk: what the lake says does not change, and the next one succeeds."""

import errno
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_audit import copied, files
from fault_injection import Disk, NthStep, SteppedFolder
from fault_processes import Child, kill_now

from lakehouse import Lake, compaction
from lakehouse.core.gates import OPEN
from lakehouse.duck.compacted import newest, prefix
from lakehouse.errors import LakehouseError
from lakehouse.store import LocalStore

LOADS = 9
ASKS = [
    *(f"SELECT * FROM shop.items_at({n}) ORDER BY ALL" for n in (1, 5, 8)),
    "SELECT * FROM shop.items ORDER BY ALL",
    "SELECT * EXCLUDE (valid_from, valid_to) FROM shop.items_history ORDER BY ALL",
    f"SELECT * FROM shop.items_diff(2, {LOADS - 1}) ORDER BY ALL",
]


def _put(lake: Lake, n: int) -> None:
    rows = [{"sku": i, "price": n if i % 3 == n % 3 else i} for i in range(6) if i % 5 != n % 5]
    with lake.load("shop", load_id=f"load-{n}", gates=OPEN) as load:
        load.write("items", rows, disposition="replace", primary_key="sku")


def _answers(lake: Lake) -> list[Any]:
    session = lake.session()
    return [session.query(sql).fetchall() for sql in ASKS]


def _compact(store: LocalStore) -> list[str]:
    compaction.EPOCH_LEAST = 3
    try:
        return compaction.compact(Lake.open(store), "shop")
    finally:
        compaction.EPOCH_LEAST = 10_000


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A lake with a compaction and loads since, and what it says; not to be written to."""
    root = tmp_path_factory.mktemp("compacted") / "lake"
    lake = Lake.create(root)
    for n in range(1, LOADS + 1):
        _put(lake, n)
        if n in (4, 6):
            assert _compact(LocalStore(root)) == ["items"]
    plain = copied(root, tmp_path_factory.mktemp("plain") / "lake")
    shutil.rmtree(plain / "_derived")
    return root, _answers(Lake.open(plain))


@pytest.fixture
def fresh(template: tuple[Path, list[Any]], tmp_path: Path) -> Callable[[], Path]:
    numbers = itertools.count(1)
    return lambda: copied(template[0], tmp_path / f"{next(numbers)}" / "lake")


def _recovers(root: Path, truth: list[Any]) -> None:
    """The next compaction is whole; what the last one left goes with later ones."""
    _compact(LocalStore(root))
    lake = Lake.open(root)
    found = newest(lake.store, lake.log("shop"), "items")
    assert found is not None
    assert found.seq == LOADS
    assert _answers(lake) == truth
    for n in (LOADS + 1, LOADS + 2):
        _put(lake, n)
        assert _compact(LocalStore(root)) == ["items"]
    assert len([key for key in files(root) if key.startswith(prefix("shop", "items"))]) <= 14
    assert _answers(Lake.open(root))[:3] == truth[:3]


@pytest.mark.parametrize("phase", [pytest.param("before", marks=pytest.mark.soak), "middle", "after"])
def test_killed_at_any_store_operation_a_compaction_changes_no_answer(
    phase: str, fresh: Callable[[], Path], template: tuple[Path, list[Any]]
) -> None:
    for n in itertools.count(1):
        root = fresh()

        def run(root: Path = root, n: int = n) -> bool:
            return bool(_compact(SteppedFolder(root, NthStep(n, phase, kill_now))))

        done = Child(run).wait()
        assert _answers(Lake.open(root)) == template[1]
        if n % 4 == 0:
            _recovers(root, template[1])
        shutil.rmtree(root.parent)
        if done:
            break
    assert n > 3


# What can run out of space; reads and removals cannot.
GROWING = frozenset({"make", "write", "fsync", "mkdir", "link", "replace"})


@pytest.mark.parametrize(
    ("code", "kinds"),
    [(errno.ENOSPC, GROWING), pytest.param(errno.EIO, frozenset(), marks=pytest.mark.soak)],
    ids=["ENOSPC", "EIO"],
)
def test_an_error_at_any_step_on_the_disk_of_a_compaction_changes_no_answer(
    code: int, kinds: frozenset[str], fresh: Callable[[], Path], template: tuple[Path, list[Any]]
) -> None:
    def strike(_: str) -> None:
        raise OSError(code, os.strerror(code))

    failed = 0
    for n in itertools.count(1):
        root = fresh()
        with Disk(root, n, strike, kinds=kinds) as disk:
            try:
                _compact(LocalStore(root))
            except LakehouseError:  # no other error may come out
                failed += 1
        if n % 3 == 0:  # the more, the longer: it is the same few files
            assert _answers(Lake.open(root)) == template[1], disk.struck
        if not disk.struck:
            break
        if n % 15 == 0:
            _recovers(root, template[1])
        shutil.rmtree(root.parent)
    assert failed > 5


def test_a_load_is_published_though_the_compaction_after_it_meets_a_full_disk(
    fresh: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "WORTH", 1)
    root = fresh()

    def strike() -> None:
        raise LakehouseError("the disk is full")

    struck = NthStep(1, "middle", lambda: None)

    def hook(phase: str, operation: str, key: str) -> None:
        if "/versions/" in key and operation == "put" and phase == "middle":
            struck(phase, operation, key)
            strike()

    _put(Lake.open(SteppedFolder(root, hook)), LOADS + 1)
    assert struck.struck
    assert Lake.open(root).log("shop").head == LOADS + 1
    found = newest(LocalStore(root), Lake.open(root).log("shop"), "items")
    assert found is not None
    assert found.seq == 6


def test_compactions_of_several_processes_at_once_leave_a_whole_one(
    fresh: Callable[[], Path], template: tuple[Path, list[Any]]
) -> None:
    for _ in range(2):
        root = fresh()
        children = [Child(lambda root=root: bool(_compact(LocalStore(root)) or True)) for _ in range(3)]
        assert all(child.wait() for child in children)
        lake = Lake.open(root)
        found = newest(lake.store, lake.log("shop"), "items")
        assert found is not None
        assert found.seq == LOADS
        _recovers(root, template[1])


def test_a_file_that_another_process_is_about_to_name_is_left(fresh: Callable[[], Path]) -> None:
    """One has written its files and not yet what names them, when the other publishes and clears up."""
    root = fresh()
    folder = root / prefix("shop", "items")

    def hook(phase: str, operation: str, key: str) -> None:
        if phase == "before" and operation == "put" and key.endswith(".json"):
            _put(Lake.open(root), LOADS + 1)
            assert _compact(LocalStore(root)) == ["items"]

    before = Lake.open(root).session()
    assert _compact(SteppedFolder(root, hook)) == ["items"]
    assert before.query("SELECT count(*) FROM shop.items_at(2)").fetchall() == [(5,)]
    names = sorted(path.name for path in folder.glob("*.json"))
    assert [int(name.split("-")[0]) for name in names] == [6, LOADS, LOADS + 1]
    for seq in (LOADS + 1, LOADS):  # of which no file is missing
        found = newest(LocalStore(root), Lake.open(root).log("shop"), "items")
        assert found is not None
        assert found.seq == seq
        (folder / names.pop()).unlink()


def test_a_session_from_before_a_compaction_goes_on_during_the_next_one(
    fresh: Callable[[], Path], template: tuple[Path, list[Any]]
) -> None:
    root = fresh()
    session = Lake.open(root).session()

    def said() -> list[Any]:
        return [session.query(sql).fetchall() for sql in ASKS]

    assert said() == template[1]
    assert _compact(LocalStore(root)) == ["items"]
    assert said() == template[1]


def test_readers_never_err_nor_go_wrong_while_compactions_are_made(
    fresh: Callable[[], Path], tmp_path: Path
) -> None:
    root, stop = fresh(), tmp_path / "stop"

    def read() -> int:
        lake, times = Lake.open(root), 0
        past = lake.query(ASKS[1]).fetchall()
        while not stop.exists():
            assert lake.query(ASKS[1]).fetchall() == past
            history = (
                "SELECT count(*) FROM shop.items_history WHERE to_load IS NULL AND change <> 'disappeared'"
            )
            both = f"SELECT (SELECT count(*) FROM shop.items) = ({history})"
            assert lake.query(both).fetchall() == [(True,)]
            times += 1
        return times

    reader = Child(read)
    for n in range(LOADS + 1, LOADS + 9):
        _put(Lake.open(root), n)
        _compact(LocalStore(root))
    stop.touch()
    assert reader.wait() > 0
