"""Several processes on one lake: nothing lost, nothing doubled, nobody waits for another source."""

import itertools
import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from fault_audit import Row, State, audit, log_files, tidy
from fault_injection import Bucket, SteppedFolder
from fault_processes import Child

from lakehouse import Lake
from lakehouse.core.gates import OPEN
from lakehouse.duck.session import catalog_path
from lakehouse.errors import ContentionError
from lakehouse.loading import ATTEMPTS, Load
from lakehouse.replay import replay
from lakehouse.store import Exists, LocalStore, Store


class Work:
    """Loads of several processes, each a function of its load id, so that a model can repeat them.

    A load id is `<process>-<number>`.
    """

    table = "t"

    def write(self, load: Load, process: int, number: int) -> None:
        raise NotImplementedError

    def model(self, rows: list[Row], process: int, number: int) -> list[Row]:
        raise NotImplementedError


class Appends(Work):
    def write(self, load: Load, process: int, number: int) -> None:
        load.write(self.table, [{"by": process, "n": number, "i": i} for i in range(3)])

    def model(self, rows: list[Row], process: int, number: int) -> list[Row]:
        return [*rows, *({"by": process, "n": number, "i": i} for i in range(3))]


class Snapshots(Work):
    """Full snapshots by key: keys come and go, so each load has tombstones for what another one added."""

    def _rows(self, process: int, number: int) -> list[Row]:
        chance = random.Random(process * 1000 + number)
        return [{"id": i, "v": chance.randrange(3)} for i in range(12) if chance.random() < 0.6] or [
            {"id": 0, "v": 0}
        ]

    def write(self, load: Load, process: int, number: int) -> None:
        load.write(self.table, self._rows(process, number), disposition="replace", primary_key="id")

    def model(self, rows: list[Row], process: int, number: int) -> list[Row]:
        return self._rows(process, number)


class Merges(Work):
    """Upserts and deletions, of keys of one's own or of the same ones."""

    def __init__(self, *, same_keys: bool) -> None:
        self.same_keys = same_keys

    def _ids(self, process: int, number: int) -> list[int]:
        first = 0 if self.same_keys else 100 * process
        return [first + number % 2, first + 2, first + 3 + number]

    def write(self, load: Load, process: int, number: int) -> None:
        *upserts, _ = ids = self._ids(process, number)
        load.write(
            self.table,
            [{"id": i, "by": process, "n": number} for i in ids],
            disposition="merge",
            primary_key="id",
            deletes=pa.table({"id": [upserts[0] ^ 1]}),
        )

    def model(self, rows: list[Row], process: int, number: int) -> list[Row]:
        ids = self._ids(process, number)
        gone = {*ids, ids[0] ^ 1}
        return [r for r in rows if r["id"] not in gone] + [{"id": i, "by": process, "n": number} for i in ids]


WORK = {
    "append": Appends(),
    "replace": Snapshots(),
    "merge of disjoint keys": Merges(same_keys=False),
    "merge of the same keys": Merges(same_keys=True),
}


class Race:
    """Processes that start together, and one reader for each way to read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._context = get_context("fork")
        self._stop = self._context.Event()
        self._readers: list[Child] = []

    def run(self, processes: int, loads: int, work: Work) -> list[list[str]]:
        """The load ids that each process says it published."""
        barrier = self._context.Barrier(processes)

        def publish(process: int) -> list[str]:
            lake, published = Lake.open(self.root), []
            barrier.wait(60)
            for number in range(loads):
                try:
                    with lake.load("shop", load_id=f"{process}-{number}", gates=OPEN) as load:
                        work.write(load, process, number)
                except ContentionError:
                    continue
                assert load.commit is not None
                published.append(load.commit.load_id)
            return published

        children = [Child(lambda p=p: publish(p)) for p in range(processes)]
        return [child.wait(120) for child in children]

    def read_with(self, read: Callable[[Path], Iterator[Any]]) -> None:
        """Start a process that reads without pause."""

        def reading() -> int:
            times = 0
            for _ in read(self.root):
                times += 1
                if self._stop.is_set():
                    break
            return times

        self._readers.append(Child(reading))

    def stop_readers(self) -> None:
        self._stop.set()
        for reader in self._readers:
            assert reader.wait() > 0
        self._readers = []

    def close(self) -> None:
        for reader in self._readers:
            reader.kill()


@pytest.fixture
def race(tmp_path: Path) -> Iterator[Race]:
    lake = Lake.create(tmp_path / "race" / "lake")
    with lake.load("other") as load:
        load.write("t", [{"n": 1}])
    lake.query("SELECT 1")  # so that there is a catalog file for foreign clients from the start
    made = Race(tmp_path / "race" / "lake")
    yield made
    made.close()


def _modelled(load_ids: list[str], work: Work) -> list[State]:
    """The states after 0, 1, 2, … loads, if they ran one after the other in this order."""
    rows: list[Row] = []
    states: list[State] = [{}]
    for load_id in load_ids:
        process, number = map(int, load_id.split("-"))
        rows = tidy(work.model(rows, process, number))
        states.append({work.table: rows})
    return states


def _through_the_lake(root: Path) -> Iterator[None]:
    """As `lakehouse query` reads: the catalog is brought up to date first."""
    lake, last = Lake.open(root), 0
    while True:
        loads, seen = lake.query(
            "SELECT (SELECT count(*) FROM lakehouse.loads WHERE source = 'shop'), (SELECT count(*) FROM other.t)"
        ).fetchone() or (0, 0)
        assert seen == 1
        assert loads >= last, "a later reader saw fewer loads"
        last = loads
        if loads:
            lake.query("SELECT count(*) FROM shop.t").fetchone()
        yield


def _through_the_catalog(root: Path) -> Iterator[None]:
    """As any DuckDB client reads: it opens the file as it lies, knowing nothing of lakes."""
    path = str(catalog_path(Lake.open(root)))
    while True:
        with duckdb.connect(path, read_only=True) as connection:
            assert connection.execute("SELECT count(*) FROM other.t").fetchall() == [(1,)]
            if connection.execute("SELECT count(*) FROM main.tables WHERE source = 'shop'").fetchall() != [
                (0,)
            ]:
                connection.execute("SELECT * FROM shop.t").fetchall()
        yield


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize(
    ("processes", "loads"), [(2, 5), (8, 2), pytest.param(8, 40, marks=pytest.mark.soak)]
)
def test_loads_of_one_source_at_once_end_as_if_one_after_the_other(
    processes: int, loads: int, name: str, race: Race
) -> None:
    work = WORK[name]
    race.read_with(_through_the_lake)
    race.read_with(_through_the_catalog)
    published = race.run(processes, loads, work)
    race.stop_readers()

    history = audit(race.root)
    assert sorted(history.load_ids) == sorted(itertools.chain(*published))
    assert len(history.load_ids) == processes * loads  # nobody lost every race
    for mine in published:
        assert [i for i in history.load_ids if i in mine] == mine, "the loads of one process keep their order"
    assert history.states == _modelled(history.load_ids, work)
    found = Lake.open(race.root).query("SELECT * FROM shop.t")
    names = [column[0] for column in found.description]
    assert tidy([dict(zip(names, r, strict=True)) for r in found.fetchall()]) == history.now["t"]


def test_the_same_load_run_by_several_processes_at_once_is_published_once(race: Race) -> None:
    barrier = get_context("fork").Barrier(4)

    def publish() -> int:
        lake = Lake.open(race.root)
        barrier.wait(60)
        with lake.load("shop", load_id="the-one") as load:
            load.write("t", [{"n": 1}])
        assert load.commit is not None
        return load.commit.seq

    assert [child.wait() for child in [Child(publish) for _ in range(4)]] == [1, 1, 1, 1]
    assert audit(race.root).now == {"t": [{"n": 1}]}


def test_several_processes_may_create_the_same_lake_at_once(tmp_path: Path) -> None:
    barrier = get_context("fork").Barrier(4)

    def create() -> str:
        barrier.wait(60)
        return Lake.create(tmp_path / "new" / "lake").id

    assert len({child.wait() for child in [Child(create) for _ in range(4)]}) == 1


def _load(place: Path | Store, source: str, load_id: str) -> None:
    with Lake.open(place).load(source, load_id=load_id) as load:
        load.write("t", [{"id": load_id}], disposition="merge", primary_key="id")


@pytest.mark.parametrize("operation", ["get", "list", "put", "create"])
def test_a_source_does_not_wait_for_a_load_of_another_one(operation: str, tmp_path: Path) -> None:
    """While one load is held at some operation, another source publishes: were there a lock, this would hang."""
    root = tmp_path / "lake"
    Lake.create(root)
    _load(root, "slow", "0")
    done = []

    def meanwhile(phase: str, found: str, key: str) -> None:
        if not done and phase == "before" and found == operation and key.startswith("slow/"):
            done.append(key)
            Child(lambda: _load(root, "fast", "1")).wait(20)

    _load(SteppedFolder(root, meanwhile), "slow", "1")
    assert done
    assert audit(root, "fast").load_ids == ["1"]
    assert audit(root, "slow").load_ids == ["0", "1"]


def test_a_load_that_lost_the_race_is_worked_out_again_on_top_of_the_winner(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    with Lake.create(root).load("shop", load_id="0") as load:
        load.write("t", [{"id": i, "v": 0} for i in range(3)], disposition="replace", primary_key="id")
    winners = iter("abc")

    def overtaken(phase: str, operation: str, key: str) -> None:
        if phase == "before" and operation == "create" and (winner := next(winners, None)):
            with Lake.open(root).load("shop", load_id=winner) as load:
                load.write("t", [{"id": winner.encode()[0], "v": 1}], disposition="merge", primary_key="id")

    with Lake.open(SteppedFolder(root, overtaken)).load("shop", load_id="loser") as load:
        load.write("t", [{"id": 0, "v": 0}, {"id": 2, "v": 2}], disposition="replace", primary_key="id")
    history = audit(root)
    assert history.load_ids == ["0", "a", "b", "c", "loser"]
    assert history.now["t"] == [{"id": 0, "v": 0}, {"id": 2, "v": 2}]
    # Worked out on the old state, the winners' rows would have had no tombstones.
    assert load.commit is not None
    counts = {name: n for name, n in load.commit.tables["t"].counts.items() if n}
    assert counts == {"rows": 2, "changed": 1, "disappeared": 4, "unchanged": 1}


def test_losing_every_race_is_a_contention_error_that_published_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.loading._PAUSE_S", 0)
    root = tmp_path / "lake"
    Lake.create(root)
    rivals = itertools.count()

    def overtaken(phase: str, operation: str, key: str) -> None:
        if phase == "before" and operation == "create":
            with Lake.open(root).load("shop", load_id=f"rival-{next(rivals)}"):
                pass

    with (
        pytest.raises(ContentionError, match="nothing was published") as caught,
        Lake.open(SteppedFolder(root, overtaken)).load("shop", load_id="loser") as load,
    ):
        load.write("t", [{"n": 1}])
    assert caught.value.exit_code == 5
    assert caught.value.hint
    assert audit(root).load_ids == [f"rival-{n}" for n in range(ATTEMPTS)]


def test_a_commit_whose_answer_was_lost_is_recognised_and_not_written_twice(tmp_path: Path) -> None:
    """Bucket clients retry a write whose answer was lost, and then report that the object exists."""

    class Forgetful(Bucket):
        def create(self, key: str, data: bytes) -> None:
            super().create(key, data)
            raise Exists(key)

    bucket = Forgetful(tmp_path)
    with Lake.create(bucket).load("shop", load_id="mine") as load:
        load.write("t", [{"n": 1}])
    assert load.commit is not None
    assert load.commit.seq == 1
    assert audit(tmp_path).load_ids == ["mine"]


@pytest.mark.parametrize("pieces", [0, 1, 5])
def test_a_listing_that_misses_a_file_written_meanwhile_is_no_gap(pieces: int, tmp_path: Path) -> None:
    """A folder read while others add to it may show a later file and not an earlier one."""
    lake = Lake.create(tmp_path)
    for n in range(8):
        _load(tmp_path, "shop", str(n))

    class Racing(LocalStore):
        def list(self, prefix: str) -> Iterator[Any]:
            entries = list(super().list(prefix))
            return iter(entries[:pieces] + entries[-1:])

    assert [c.load_id for c in replay(Racing(tmp_path), "shop").commits] == list("01234567")
    assert lake.log("shop").head == 8


def test_readers_that_replace_the_checkpoint_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each new checkpoint removes the one before; a reader may have just listed that one."""
    lake = Lake.create(tmp_path)
    for n in range(130):
        with lake.load("shop", load_id=str(n)):
            pass

    class Overtaken(LocalStore):
        def list(self, prefix: str) -> Iterator[Any]:
            entries = list(super().list(prefix))
            for entry in entries:
                if entry.key.startswith("_derived/"):
                    self.delete(entry.key)
            return iter(entries)

    replay(LocalStore(tmp_path), "shop")
    assert list(LocalStore(tmp_path).list("_derived/shop/log/"))
    assert replay(Overtaken(tmp_path), "shop").head == 130


def test_the_threads_of_one_process_may_load_different_sources_through_one_lake(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake")

    def work(source: str) -> None:
        for n in range(4):
            with lake.load(source, load_id=str(n), gates=OPEN) as load:
                rows = [{"id": i, "of": source, "n": n if i % 2 else 0} for i in range(20 + n)]
                load.write("t", rows, disposition="replace", primary_key="id")

    sources = ["a", "b", "c", "d"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, sources))
    for source in sources:
        now = audit(tmp_path / "lake", source).now["t"]
        assert now == tidy([{"id": i, "of": source, "n": 3 if i % 2 else 0} for i in range(23)])
        lines = [json.loads(path.read_bytes()) for path in log_files(tmp_path / "lake", source)]
        assert [line["tables"]["t"]["counts"].get("appeared", 0) for line in lines] == [20, 1, 1, 1]


def test_loading_and_querying_go_on_while_a_client_holds_the_catalog_open(race: Race) -> None:
    """A client in this very process, too: DuckDB keeps one database for each path it has open."""
    path = str(catalog_path(Lake.open(race.root)))
    with duckdb.connect(path, read_only=True) as client:
        assert client.execute("SELECT n FROM other.t").fetchall() == [(1,)]
        lake = Lake.open(race.root)
        for n in (2, 3):
            with lake.load("other", load_id=str(n)) as load:
                load.write("t", [{"n": n}])
            assert lake.query("SELECT max(n) FROM other.t").fetchall() == [(n,)]
        assert client.execute("SELECT n FROM other.t").fetchall() == [(1,)]
