"""The drill: a real history, mirrored in a bucket, comes back on an empty machine and goes on where it stopped."""

import csv
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from clouds import bucket_options

from ingest.importing import import_files
from lakehouse import Lake
from lakehouse.cli.query import json_rows
from lakehouse.pack import pack
from lakehouse.prune import prune
from lakehouse.store import Store
from lakehouse.store.remote import FsspecStore
from lakehouse.tags import create
from lakehouse.verify import verify
from sync import pull
from sync.check import verify_mirror
from sync.push import push, status
from sync.restore import restore

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")

SHARED = Path(__file__).parents[3] / "shared" / "data"
TABLE = "fires.incidents_at"


class History:
    """Versions of one scraped file, and what the oracle makes of them."""

    def __init__(self, folder: Path, rows: str | None, oracle: ModuleType) -> None:
        self.folder, self.rows, self.oracle = folder, rows, oracle
        self.times: list[datetime] = []
        self.states: list[Counter[str]] = [Counter()]
        for version, raw in oracle.contents(str(folder), oracle.versions(str(folder), "data.json")):
            self.times.append(version.time)
            try:
                state = Counter(oracle.canon(row, "loose") for row in oracle.parse(raw, "data.json", rows))
            except ValueError:  # a failed load leaves everything as it was
                state = self.states[-1]
            self.states.append(state)

    def first(self, n: int, folder: Path) -> Path:
        """A folder of the first versions."""
        shutil.copytree(self.folder, folder)
        with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
            entries = list(csv.reader(file))
        with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(entries[: n + 1])
        return folder

    def load(self, lake: Lake, folder: Path) -> None:
        import_files(lake, folder, source="fires", table="incidents", rows=self.rows, key=["UniqueId"])

    def told(self, lake: Lake, moments: Sequence[int | str]) -> list[Counter[str]]:
        """The rows that a lake tells as of some moments."""
        session = lake.session()
        asked = [f"SELECT * FROM {TABLE}({m if isinstance(m, int) else repr(m)})" for m in moments]
        return [
            Counter(self.oracle.canon(json.loads(row), "loose") for row in json_rows(session, sql))
            for sql in asked
        ]

    def loads(self, lake: Lake) -> list[int]:
        """The number of each version's load, after 0 for what was before all of them."""
        return [0, *(commit.seq for commit in lake.log("fires").commits if commit.is_load)]

    def check(self, lake: Lake, *, every: int = 1) -> None:
        """Hold a lake against the oracle, as of versions and as of instants."""
        assert verify(lake).errors == []
        loads = self.loads(lake)
        assert self.told(lake, loads[::every]) == self.states[: len(loads)][::every]
        instants, expected = [], []
        for n in range(1, len(loads), 17):
            for at in (self.times[n - 1], self.times[n - 1] - timedelta(seconds=1)):
                instants.append(at.isoformat())
                expected.append(self.states[sum(time <= at for time in self.times[: len(loads) - 1])])
        assert self.told(lake, instants) == expected


def unpacked(name: str, folder: Path) -> Path:
    archive = SHARED / f"{name}.tar.xz"
    if not archive.is_file():
        pytest.skip(f"real data is missing: ../shared/data/{archive.name}, beside the repository")
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):  # not in Python 3.11.2, which Debian 12 has
            tar.extractall(folder, filter="data")
        else:
            tar.extractall(folder)  # noqa: S202  (our own archive)
    return folder / name


@pytest.fixture
def bucket(gcs_server: str) -> Callable[[], Store]:
    """Opens the mirror as a new process would."""
    name = uuid4().hex[:12]
    return lambda: FsspecStore(f"gs://lakes/drill-{name}", **bucket_options("gcs", gcs_server))


def drill(
    history: History, bucket: Callable[[], Store], folder: Path, *, packed: bool, every: int = 1
) -> None:
    """Import two thirds, mirror, lose the machine, restore, go on; the first machine then follows."""
    versions = len(history.times)
    lake = Lake.create(folder / "laptop" / "lake")
    for n in (versions // 3, versions // 2, versions * 2 // 3):
        history.load(lake, history.first(n, folder / f"first-{n}"))
        push(lake, bucket(), name="m")
    create(lake, "middle", history.loads(lake)[versions // 2])
    if packed:
        pack(lake)
        prune(lake)
    push(lake, bucket(), name="m", prune=packed)
    report = verify_mirror(lake, bucket(), name="m")
    assert (report.problems, report.superseded, report.by_size) == ([], [], 0)

    done = restore(bucket(), folder / "machine" / "lake")
    restored = Lake.open(folder / "machine" / "lake")
    assert done.tags == ("middle",)
    assert (folder / "machine" / "lakehouse.duckdb").exists()
    assert restored.log("fires").digest == lake.log("fires").digest
    history.check(restored, every=every)
    some = history.loads(lake)[:: 9 * every]
    assert history.told(restored, some) == history.told(lake, some)
    assert restored.query("SELECT count(*) FROM fires.incidents", as_of="middle").fetchall() == [
        (history.states[versions // 2].total(),)
    ]

    history.load(restored, history.folder)  # it knows what was imported: only the rest is
    assert len(history.loads(restored)) == versions + 1
    history.check(restored, every=9 * every)
    push(restored, bucket(), name="m")
    pull.pull(lake, bucket(), name="m")
    assert [about.relation for about in status(lake, bucket(), "m")] == ["equal"]
    history.check(lake, every=9 * every)


@pytest.mark.parametrize("packed", [False, True], ids=["as it came", "packed and pruned"])
def test_a_real_history_comes_back_from_a_bucket(
    packed: bool, bucket: Callable[[], Store], oracle: ModuleType, tmp_path: Path
) -> None:
    folder = unpacked("quick-ca-fires-v330-430", tmp_path / "data")
    drill(History(folder, "Incidents", oracle), bucket, tmp_path, packed=packed, every=4 if packed else 1)


def test_a_real_history_comes_back_as_of_any_moment(
    bucket: Callable[[], Store], oracle: ModuleType, tmp_path: Path
) -> None:
    history = History(unpacked("quick-ca-fires-v330-430", tmp_path / "data"), "Incidents", oracle)
    lake = Lake.create(tmp_path / "laptop" / "lake")
    for n in (10, 40, 101):
        history.load(lake, history.first(n, tmp_path / f"first-{n}"))
    push(lake, bucket(), name="m")
    for number, at in enumerate((40, 25)):
        moment: Any = history.times[at - 1] if number % 2 else at
        done = restore(bucket(), tmp_path / f"then-{at}", as_of=moment)
        (source,) = done.sources
        assert source.wanted == at
        assert source.head >= at
        assert bool(source.because) == (source.head > at)
        then = Lake.open(tmp_path / f"then-{at}")
        history.check(then, every=9)
        assert history.told(then, [at]) == [history.states[at]]
        history.load(then, history.folder)
        assert history.told(then, [101]) == [history.states[101]]
        assert verify(then).errors == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "rows"), [("ca-fires-june2023", None), ("ca-fires-incidents", "Incidents")])
@pytest.mark.parametrize("packed", [False, True])
def test_a_whole_history_comes_back_from_a_bucket(
    name: str, rows: str | None, packed: bool, bucket: Callable[[], Store], oracle: ModuleType, tmp_path: Path
) -> None:
    drill(History(unpacked(name, tmp_path / "data"), rows, oracle), bucket, tmp_path, packed=packed, every=11)
