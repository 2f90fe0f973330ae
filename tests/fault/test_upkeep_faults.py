"""Pack, prune and expire, broken at every operation: the lake stays whole, and the next run finishes the job."""

import errno
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_injection import Disk, NthStep, SteppedBucket, SteppedFolder
from fault_processes import Child, kill_now
from fault_upkeep import LOADS, UPKEEP, States, Upkeep, assert_whole, copied, grown, states

from lakehouse import Lake, logpack
from lakehouse.core.gates import OPEN
from lakehouse.errors import LakehouseError
from lakehouse.pack import pack
from lakehouse.prune import prune
from lakehouse.store import LocalStore


@pytest.fixture(autouse=True)
def small_log_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of log files is worth a pack."""
    monkeypatch.setattr(logpack, "WORTH", 3)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, States]:
    root = grown(tmp_path_factory.mktemp("upkeep") / "lake")
    return root, states(root)


@pytest.fixture
def fresh(template: tuple[Path, States], tmp_path: Path) -> Callable[[Upkeep], Path]:
    made = itertools.count()

    def make(upkeep: Upkeep) -> Path:
        root = copied(template[0], tmp_path / str(next(made)) / "lake")
        upkeep.before(root)
        return root

    return make


def _same(now: States, before: States) -> bool:
    """Whether all that is told is what was told before; what is expired is not told."""
    return all(before[at] == rows for at, rows in now.items()) and ("log", LOADS) in now


CASES = [
    pytest.param(name, store, phase, id=f"{name}-{store.__name__}-{phase}",
                 marks=[] if store is SteppedFolder and phase == "after" else [pytest.mark.soak, pytest.mark.timeout(1800)])
    for name in UPKEEP
    for store in (SteppedFolder, SteppedBucket)
    for phase in ("before", "middle", "after")
]  # fmt: skip


@pytest.mark.parametrize(("name", "store", "phase"), CASES)
def test_killed_at_any_store_operation_a_lake_is_whole_and_the_next_run_finishes(
    name: str,
    store: type[SteppedFolder | SteppedBucket],
    phase: str,
    fresh: Callable[[Upkeep], Path],
    template: tuple[Path, States],
) -> None:
    upkeep = UPKEEP[name]
    for n in itertools.count(1):
        root = fresh(upkeep)

        def run(root: Path = root, n: int = n) -> bool:
            upkeep.run(store(root, NthStep(n, phase, kill_now)))
            return True

        finished = Child(run).wait()
        assert_whole(root)
        assert _same(states(root), template[1])
        upkeep.run(LocalStore(root))
        assert upkeep.done(root)
        assert_whole(root, orphans=name == "expire")
        assert _same(states(root), template[1])
        shutil.rmtree(root.parent)
        if finished:
            break
    assert n > (1 if (name, phase) == ("prune", "middle") else 3) - 1


@pytest.mark.parametrize("name", UPKEEP)
def test_a_full_disk_at_any_write_leaves_a_whole_lake(
    name: str, fresh: Callable[[Upkeep], Path], template: tuple[Path, States]
) -> None:
    def strike(_: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    upkeep = UPKEEP[name]
    for n in itertools.count(1):
        root = fresh(upkeep)
        failed = None
        with Disk(root, n, strike, kinds=frozenset({"make", "write", "link", "replace"})) as disk:
            try:
                upkeep.run(LocalStore(root))
            except LakehouseError as error:
                failed = error
        assert failed is None or (failed.exit_code == 6 and failed.hint), failed
        assert_whole(root)
        assert _same(states(root), template[1])
        upkeep.run(LocalStore(root))
        assert upkeep.done(root)
        shutil.rmtree(root.parent)
        if not disk.struck:
            break


def test_loads_and_queries_go_on_while_another_process_packs_and_prunes(tmp_path: Path) -> None:
    """Every load is there once, no query errs, and nothing is seen by halves."""
    root, stop = tmp_path / "busy" / "lake", tmp_path / "stop"
    lake = Lake.create(root)
    _publish(lake, 0)

    def keep_well() -> int:
        times = 0
        while not stop.exists():
            other = Lake.open(root)
            pack(other)
            prune(other)
            times += 1
        return times

    def read() -> int:
        times = 0
        while not stop.exists():
            a, newest, loads = (
                Lake.open(root)
                .query(
                    "SELECT (SELECT list(DISTINCT n) FROM s.a), (SELECT max(n) FROM s.c), (SELECT count(*) FROM s.c)"
                )
                .fetchone()
                or ()
            )
            assert a == [newest]
            assert loads == newest + 1
            times += 1
        return times

    children = [Child(keep_well), Child(read)]
    try:
        for n in range(1, 31):
            _publish(lake if n % 2 else Lake.open(root), n)
    finally:
        stop.touch()
        ran = [child.wait(120) for child in children]
    assert all(ran), ran
    assert_whole(root)
    log = Lake.open(root).log("s")
    assert [c.load_id for c in log.commits if c.is_load] == [f"n-{n}" for n in range(31)]
    session = Lake.open(root).session()
    for commit in log.commits:
        if commit.is_load:
            n = int(commit.load_id.removeprefix("n-"))
            assert session.query(f"SELECT max(n), count(*) FROM s.c_at({commit.seq})").fetchone() == (
                n,
                n + 1,
            )


def _publish(lake: Lake, n: int) -> None:
    with lake.load("s", load_id=f"n-{n}", gates=OPEN) as load:
        load.write("a", [{"id": i, "n": n} for i in range(3)], disposition="replace", primary_key="id")
        load.write("c", [{"n": n}])
