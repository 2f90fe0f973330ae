"""A full or failing disk at every step of a load: a clear error, a whole log, and a next run that succeeds."""

import errno
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_audit import audit, files, unfinished
from fault_injection import Disk, NthStep, SteppedFolder
from fault_scenarios import LOAD_ID, SCENARIOS, Scenario

from lakehouse import Lake
from lakehouse.errors import LakehouseError, SetupError
from lakehouse.store import LocalStore

Fresh = Callable[[Scenario], Path]
# What can run out of space; reads and removals cannot.
GROWING = frozenset({"make", "write", "fsync", "mkdir", "link", "replace"})
CONSUMED = {errno.ENOSPC: GROWING, errno.EIO: frozenset()}


def _raise(code: int) -> None:
    raise OSError(code, os.strerror(code))


def _fails_clearly(action: Callable[[], None]) -> LakehouseError | None:
    """Run something that meets a failing disk; the error it ended with, which has to be a useful one."""
    found = None
    try:
        action()
    except LakehouseError as error:
        found = error
    if found is not None:
        assert found.exit_code == SetupError.exit_code, repr(found)
        assert "again" in found.hint
    return found


@pytest.mark.parametrize("code", CONSUMED, ids=errno.errorcode.get)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "pair" else pytest.mark.soak) for name in SCENARIOS],
)
def test_an_error_at_any_step_on_the_disk_leaves_a_whole_log_and_the_next_run_succeeds(
    name: str, code: int, fresh: Fresh
) -> None:
    scenario = SCENARIOS[name]
    clean = fresh(scenario)
    old = audit(clean)
    scenario.run(LocalStore(clean))
    new, tree = audit(clean), files(clean)
    failed = 0
    for n in itertools.count(1):
        root = fresh(scenario)
        with Disk(root, n, lambda _: _raise(code), kinds=CONSUMED[code]) as disk:
            error = _fails_clearly(lambda root=root: scenario.run(LocalStore(root)))
        if not disk.struck:
            break
        failed += error is not None
        seen = audit(root)
        assert seen.states in (old.states, new.states), disk.struck
        if "was not confirmed" not in str(error):
            assert error is None or seen.states == old.states, disk.struck
        assert not unfinished(root) or disk.struck.startswith("unlink"), disk.struck
        scenario.run(LocalStore(root))
        again = audit(root)
        assert (again.states, again.load_ids, again.pipelines) == (new.states, new.load_ids, new.pipelines)
        assert files(root) == tree, disk.struck
        shutil.rmtree(root.parent)
    assert failed >= 5


@pytest.mark.parametrize("name", ["pair", "first"])
def test_a_lake_that_met_an_error_can_be_used_on(name: str, fresh: Fresh) -> None:
    """The same `Lake` object, not a new process: nothing it remembers may be wrong."""
    scenario = SCENARIOS[name]
    for phase in ("before", "after"):
        for n in itertools.count(1):
            root = fresh(scenario)
            hook = NthStep(n, phase, _raise_store_error)
            store = SteppedFolder(root, hook)
            error = _fails_clearly(lambda store=store: scenario.run(store))
            if not hook.struck:
                break
            # Once the load is published, derived files may fail in silence; nothing else may.
            assert error or LOAD_ID in audit(root).load_ids, hook.struck
            scenario.run(store)
            assert audit(root).load_ids.count(LOAD_ID) == 1, hook.struck
            shutil.rmtree(root.parent)


def _raise_store_error() -> None:
    raise SetupError("the disk is full", hint="Free space, then run it again.")


@pytest.mark.parametrize("kind", ["scandir", "open", "read"])
def test_a_log_that_cannot_be_read_is_an_error_not_an_empty_lake(kind: str, three_loads: Path) -> None:
    """An unreadable folder taken for an empty one would show a lake without data."""
    lake = Lake.open(three_loads)
    with (
        Disk(three_loads, 1, lambda _: _raise(errno.EIO), kinds=frozenset({kind})),
        pytest.raises(SetupError, match=r"(shop/_log|_derived/shop/log).*Input/output error"),
    ):
        lake.log("shop")
    assert lake.log("shop").head == 3


def test_a_disk_that_does_not_confirm_a_commit_is_not_said_to_have_published_nothing(fresh: Fresh) -> None:
    """The commit is visible by then, so the message must not deny it; the next run finds it."""
    scenario = SCENARIOS["append"]
    root = fresh(scenario)
    with Disk(root, 0, lambda _: None) as counted:
        scenario.run(LocalStore(root))
    last_sync = max(i for i, step in enumerate(counted.steps, 1) if step.startswith("fsync"))
    root = fresh(scenario)
    with (
        Disk(root, last_sync, lambda _: _raise(errno.EIO)) as disk,
        pytest.raises(SetupError, match="was not confirmed") as caught,
    ):
        scenario.run(LocalStore(root))
    assert disk.struck.endswith("_log")
    assert "Nothing was published" not in str(caught.value)
    scenario.run(LocalStore(root))
    assert audit(root).load_ids.count(LOAD_ID) == 1


def test_putting_a_file_that_cannot_be_linked_copies_it_whole_or_not_at_all(tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    staged.write_bytes(b"x" * 100_000)
    for n in itertools.count(1):
        store = LocalStore(tmp_path / f"store-{n}")
        with Disk(store.root, n, lambda _: _raise(errno.ENOSPC)) as disk:
            error = _fails_clearly(lambda store=store: store.put("a/b", staged))
        seen = {entry.key: entry.size_bytes for entry in store.list("")}
        assert seen in ({}, {"a/b": 100_000})
        assert error or seen
        store.put("a/b", staged)
        assert store.get("a/b") == staged.read_bytes()
        if not disk.struck:
            break


def test_a_full_disk_does_not_stop_readers(three_loads: Path) -> None:
    """Checkpoints are derived: a reader that cannot write one reads without."""
    lake = Lake.open(three_loads)
    for n in range(70):
        with lake.load("many", load_id=str(n)) as load:
            load.pipeline = {"cursor": n}
    shutil.rmtree(three_loads / "_derived", ignore_errors=True)
    for code in CONSUMED:
        with Disk(
            three_loads, 1, lambda _, code=code: _raise(code), kinds=frozenset({"write", "mkdir"})
        ) as disk:
            assert Lake.open(three_loads).log("many").head == 70
        assert disk.struck
    assert Lake.open(three_loads).log("many").pipeline == {"cursor": 69}
