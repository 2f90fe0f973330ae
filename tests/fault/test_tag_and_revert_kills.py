"""SIGKILL at every operation of a tag and of a revert: whole or not there, and the next run completes it."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_audit import audit, copied
from fault_injection import NthStep, SteppedBucket, SteppedFolder
from fault_processes import Child, kill_now

from lakehouse import Lake
from lakehouse.errors import DamagedPartError
from lakehouse.revert import revert
from lakehouse.store import Store
from lakehouse.tags import create, delete, tags
from lakehouse.verify import verify

STORES = {"folder": SteppedFolder, "bucket": SteppedBucket}


def killed_at_every_step(
    template: Path,
    tmp_path: Path,
    kind: str,
    phase: str,
    act: Callable[[Store], object],
    check: Callable[[Path], None],
) -> int:
    """Kill an action at its first, second, … step, each on a lake of its own; how many steps there were."""
    for n in itertools.count(1):
        root = copied(template, tmp_path / f"{n}" / "lake")

        def run(root: Path = root, n: int = n) -> bool:
            act(STORES[kind](root, NthStep(n, phase, kill_now)))
            return True

        finished = bool(Child(run).wait())
        check(root)
        shutil.rmtree(root.parent)
        if finished:
            return n - 1
    raise AssertionError


@pytest.mark.parametrize("phase", ["before", "middle", "after"])
@pytest.mark.parametrize("kind", STORES)
def test_a_killed_tag_is_whole_or_not_there_and_can_be_made_again(
    kind: str, phase: str, three_loads: Path, tmp_path: Path
) -> None:
    def check(root: Path) -> None:
        lake = Lake.open(root)
        there = tags(lake)
        assert set(there) <= {"then"}
        made = create(lake, "then", 2)
        assert made.positions == {"news": 2, "shop": 2}
        assert there.get("then", made) == made
        assert verify(lake).errors == []

    act = lambda store: create(Lake.open(store), "then", 2)  # noqa: E731
    assert killed_at_every_step(three_loads, tmp_path, kind, phase, act, check) >= 1


def test_a_killed_deletion_leaves_the_tag_whole_or_gone(three_loads: Path, tmp_path: Path) -> None:
    made = create(Lake.open(three_loads), "then", 2)

    def check(root: Path) -> None:
        assert tags(Lake.open(root)) in ({}, {"then": made})

    act = lambda store: delete(Lake.open(store), "then")  # noqa: E731
    for phase in ("before", "after"):
        assert killed_at_every_step(three_loads, tmp_path, "folder", phase, act, check) >= 1


@pytest.mark.parametrize(
    ("kind", "phase", "to"),
    [
        ("folder", "before", 1), ("folder", "middle", 1), ("folder", "after", 1), ("folder", "after", 0),
        ("bucket", "middle", 1), pytest.param("bucket", "before", 1, marks=pytest.mark.soak),
    ],
)  # fmt: skip
def test_a_killed_revert_is_there_whole_or_not_at_all_and_once_after_the_next_run(
    kind: str, phase: str, to: int, three_loads: Path, tmp_path: Path
) -> None:
    old = audit(three_loads)
    wanted = {table: old.states[to].get(table, []) for table in old.now}

    def check(root: Path) -> None:
        seen = audit(root)
        assert seen.now in (old.now, wanted)
        lake = Lake.open(root)
        commit = revert(lake, "shop", to)
        assert (commit is None) == (seen.now == wanted)
        after = audit(root)
        assert after.now == wanted
        assert after.states[:4] == old.states
        assert len(after.load_ids) == 4
        assert after.pipelines[3] == (old.pipelines[to - 1] if to else {})

    act = lambda store: revert(Lake.open(store), "shop", to)  # noqa: E731
    assert killed_at_every_step(three_loads, tmp_path, kind, phase, act, check) >= 1


def test_a_revert_and_loads_that_race_are_all_published_once(three_loads: Path) -> None:
    def load(n: int) -> None:
        with Lake.open(three_loads).load("shop", load_id=f"race-{n}") as one:
            one.write("log", [{"line": f"race {n}"}])

    children = [Child(lambda n=n: load(n)) for n in range(6)]
    children.append(Child(lambda: revert(Lake.open(three_loads), "shop", 1, tables=["items"]).seq))
    for child in children:
        child.wait()
    found = audit(three_loads)
    assert len(found.load_ids) == 3 + 6 + 1
    assert found.now["items"] == found.states[1]["items"]
    assert len([row for row in found.now["log"] if row["line"].startswith("race")]) == 6
    assert verify(Lake.open(three_loads)).errors == []


def test_a_revert_to_a_state_whose_part_is_damaged_names_it_and_publishes_nothing(three_loads: Path) -> None:
    part = next((three_loads / "shop" / "page").glob("lake_load=00000001/*.parquet"))
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(DamagedPartError, match="page"):
        revert(Lake.open(three_loads), "shop", 1)
    assert Lake.open(three_loads).log("shop").head == 3
