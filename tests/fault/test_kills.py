"""SIGKILL at every operation of a load: readers see the old or the new, and the next run is exactly-once."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_audit import History, audit, files, tidy, unfinished
from fault_injection import Disk, NthStep, SteppedBucket, SteppedFolder
from fault_processes import Child, kill_now
from fault_scenarios import LOAD_ID, SCENARIOS, Scenario

from lakehouse import Lake
from lakehouse.quarantine import listed
from lakehouse.store import LocalStore

Fresh = Callable[[Scenario], Path]


class Matrix:
    """What must hold after every kill of one scenario, compared with a run that nobody disturbed."""

    def __init__(self, scenario: Scenario, fresh: Fresh) -> None:
        self.scenario, self.fresh = scenario, fresh
        untouched = fresh(scenario)
        self.old = audit(untouched)
        scenario.run(LocalStore(untouched))
        self.new = audit(untouched)
        self.tree = files(untouched)
        assert len(self.new.load_ids) == len(self.old.load_ids) + (not scenario.refused)

    def kill(self, run: Callable[[Path], bool]) -> bool:
        """One case on a lake of its own; whether the run got to its end."""
        root = self.fresh(self.scenario)
        finished = Child(lambda: run(root)).wait()
        self._sees_whole_loads(root)
        self.scenario.run(LocalStore(root))
        self._is_exactly_once(root)
        shutil.rmtree(root.parent)
        return bool(finished)

    def _sees_whole_loads(self, root: Path) -> None:
        seen = audit(root)
        assert _same(seen, self.old) or _same(seen, self.new)

    def _is_exactly_once(self, root: Path) -> None:
        seen = audit(root)
        assert _same(seen, self.new)
        assert seen.load_ids.count(LOAD_ID) == (not self.scenario.refused)
        # The run after a kill makes the same files again, so that it leaves nothing that is not named.
        assert files(root) == self.tree
        if self.scenario.refused:
            assert [(r.load_id, r.rows) for r in listed(Lake.open(root))] == [
                (LOAD_ID, {"log": 3, "items": 0})
            ]


def _same(one: History, two: History) -> bool:
    return (one.states, one.load_ids, one.pipelines) == (two.states, two.load_ids, two.pipelines)


def _counted(case: Callable[[int], bool]) -> int:
    """Run a case for n = 1, 2, … until one gets to its end; how many were killed before."""
    for n in itertools.count(1):
        if case(n):
            return n - 1
    raise AssertionError


@pytest.mark.parametrize("phase", ["before", "middle", "after"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_any_store_operation_a_load_is_there_once_after_the_next_run(
    name: str, phase: str, fresh: Fresh
) -> None:
    matrix = Matrix(SCENARIOS[name], fresh)

    def case(n: int) -> bool:
        def run(root: Path) -> bool:
            matrix.scenario.run(SteppedFolder(root, NthStep(n, phase, kill_now)))
            return True

        return matrix.kill(run)

    assert _counted(case) >= (1 if phase != "before" else 4)


@pytest.mark.parametrize("phase", ["before", "middle", "after"])
@pytest.mark.parametrize("name", ["append", pytest.param("several", marks=pytest.mark.soak)])
def test_the_same_holds_for_a_lake_in_a_bucket(name: str, phase: str, fresh: Fresh) -> None:
    matrix = Matrix(SCENARIOS[name], fresh)

    def case(n: int) -> bool:
        def run(root: Path) -> bool:
            matrix.scenario.run(SteppedBucket(root, NthStep(n, phase, kill_now)))
            return True

        return matrix.kill(run)

    assert _counted(case) >= 2


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in ("pair", "first") else pytest.mark.soak) for name in SCENARIOS],
)
def test_killed_at_any_step_on_the_disk_a_load_is_there_once_after_the_next_run(
    name: str, fresh: Fresh
) -> None:
    matrix = Matrix(SCENARIOS[name], fresh)

    def case(n: int) -> bool:
        def run(root: Path) -> bool:
            with Disk(root, n, lambda _: kill_now()):
                matrix.scenario.run(LocalStore(root))
            return True

        return matrix.kill(run)

    assert _counted(case) >= 8


def test_a_killed_write_leaves_a_hidden_file_that_no_listing_shows(fresh: Fresh) -> None:
    root = fresh(SCENARIOS["append"])
    before = files(root)

    def run() -> None:
        with Disk(root, 1, lambda _: kill_now(), kinds=frozenset({"write"})):
            SCENARIOS["append"].run(LocalStore(root))

    assert Child(run).wait() is None
    assert len(unfinished(root)) == 1
    assert files(root) == before
    assert {entry.key for entry in LocalStore(root).list("")} == before


@pytest.mark.parametrize("name", ["several", "first"])
def test_sql_gives_every_earlier_state_after_a_kill_as_the_log_has_it(name: str, fresh: Fresh) -> None:
    scenario = SCENARIOS[name]
    root = fresh(scenario)

    def run() -> None:
        scenario.run(SteppedFolder(root, NthStep(3, "after", kill_now)))

    Child(run).wait()
    scenario.run(LocalStore(root))
    history, lake = audit(root), Lake.open(root)
    for seq, state in enumerate(history.states):
        for table in history.now:
            found = lake.query(f"SELECT * FROM shop.{table}_at({seq})")
            names = [column[0] for column in found.description]
            rows = tidy([dict(zip(names, row, strict=True)) for row in found.fetchall()])
            assert rows == state.get(table, []), (table, seq)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A lake of three tables that always say the same number, and a reader that keeps asking for it."""
    root = tmp_path / "watched" / "lake"
    lake = Lake.create(root)
    _publish(lake, 0)
    stop = tmp_path / "stop"
    reader = Child(lambda: _read_until(root, stop))

    def check() -> None:
        stop.touch()
        assert reader.wait() > 0

    yield root, check
    stop.touch()
    reader.kill()


def _publish(lake: Lake, n: int) -> None:
    with lake.load("shop", load_id=f"n-{n}") as load:
        load.write(
            "a", [{"id": i, "n": n} for i in range(5 + n % 2)], disposition="replace", primary_key="id"
        )
        load.write("b", [{"id": i, "n": n} for i in range(3)], disposition="merge", primary_key="id")
        load.write("c", [{"n": n}])


def _read_until(root: Path, stop: Path) -> int:
    """Query until told to stop; how often. Any error, and any mixture of loads, ends it."""
    lake, times, last = Lake.open(root), 0, -1
    sql = (
        "SELECT (SELECT list(DISTINCT n) FROM shop.a), (SELECT list(DISTINCT n) FROM shop.b), "
        "(SELECT max(n) FROM shop.c), (SELECT count(*) FROM shop.c), (SELECT count(*) FROM shop.a)"
    )
    while not stop.exists():
        a, b, newest, loads, size = lake.query(sql).fetchone() or ()
        assert a == b == [newest], (a, b, newest)
        assert loads == newest + 1
        assert size == 5 + newest % 2
        assert newest >= last, "time ran backwards"
        times, last = times + 1, newest
    return times


def test_a_reader_never_errs_nor_sees_half_a_load_while_writers_are_killed(
    watched: tuple[Path, Callable[[], None]],
) -> None:
    root, check = watched
    numbers = itertools.count(1)
    for phase in ("middle", "after", "before"):
        for n in itertools.count(1):
            number = next(numbers)

            def run(n: int = n, number: int = number, phase: str = phase) -> bool:
                _publish(Lake.open(SteppedFolder(root, NthStep(n, phase, kill_now))), number)
                return True

            finished = Child(run).wait()
            _publish(Lake.open(root), number)
            if finished or n == 12:  # more reads come first with every load; the writes are what counts
                break
    check()
