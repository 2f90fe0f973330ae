"""The lives of single rows, and diffs, are what the independent oracle says of real scraped files."""

import argparse
import contextlib
import csv
import io
import json
import random
import shutil
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ingest.importing import import_files
from lakehouse import Lake, compaction
from lakehouse.cli.query import json_rows
from lakehouse.duck.compacted import newest
from lakehouse.duck.session import Session

SHARED = Path(__file__).parents[3] / "shared" / "data"
KEY = "UniqueId"
SYSTEM = ("valid_from", "valid_to", "from_load", "to_load", "change", "changed_columns")
ORACLE_SAYS = {
    "appeared": "appeared",
    "changed": "changed",
    "disappeared": "removed",
    "reappeared": "appeared",
}

Events = dict[str, list[tuple[int, str, list[str]]]]


class Corpus:
    """A real history, as a folder, and what the oracle makes of it."""

    def __init__(self, folder: Path, rows: str | None, oracle: ModuleType) -> None:
        self.folder, self.rows, self.oracle = folder, rows, oracle
        self.versions = oracle.versions(str(folder), "data.json")
        self.times: list[datetime] = []
        self.events: Events = defaultdict(list)
        self.states: list[Counter[str]] = []
        now: dict[str, list[str]] = {}
        for n, (version, raw) in enumerate(oracle.contents(str(folder), self.versions), 1):
            self.times.append(max([version.time, *self.times[-1:]]))
            with contextlib.suppress(ValueError):  # a failed load leaves everything as it was
                now = self._next(n, oracle.parse(raw, "data.json", rows), now)
            self.states.append(Counter(line for group in now.values() for line in group))

    def _next(self, n: int, rows: list[dict[str, Any]], before: dict[str, list[str]]) -> dict[str, list[str]]:
        """As `gitoracle.py history` goes on, for all keys at once."""
        groups = defaultdict(list)
        for row in rows:
            groups[str(row[KEY])].append(self.oracle.canon(row, "loose"))
        now = {key: sorted(group) for key, group in groups.items()}
        for key in now.keys() | before.keys():
            if now.get(key) != before.get(key):
                what = "appeared" if key not in before else "changed" if key in now else "removed"
                self.events[key].append((n, what, now.get(key) or before[key]))
        return now

    def said_by_program(self, key: str) -> list[tuple[int, str]]:
        """What the oracle itself prints for one key."""
        asked = argparse.Namespace(
            source=str(self.folder),
            file="data.json",
            rows=self.rows,
            cmp="loose",
            bad="keep",
            key=KEY,
            id=key,
        )
        with contextlib.redirect_stdout(io.StringIO()) as out:
            self.oracle.cmd_history(asked)
        lines = (line.split("\t") for line in out.getvalue().splitlines())
        numbers = {version.n: at for at, version in enumerate(self.versions, 1)}  # of a window
        return [(numbers[int(n)], what) for n, _, what in lines]

    def at(self, moment: datetime) -> Counter[str]:
        """The rows as of an instant."""
        seen = sum(time <= moment for time in self.times)
        return self.states[seen - 1] if seen else Counter()

    def check(self, lake: Lake, *, pairs: int, keys: set[str] | None) -> None:
        """Hold the histories of all keys (or some), and diffs of some pairs of instants, against the oracle."""
        session = lake.session()
        self._check_events(session, self.events.keys() if keys is None else keys)
        self._check_diffs(session, pairs)

    def _check_events(self, session: Session, keys: Iterable[str]) -> None:
        found: Events = defaultdict(list)
        groups: dict[tuple[str, int, str], list[str]] = defaultdict(list)
        for row in _asked(session, "SELECT * FROM fires.incidents_history"):
            start, _, load, till, change, changed = (row.pop(name) for name in SYSTEM)
            assert datetime.fromisoformat(start) == self.times[load - 1]
            assert till is None or till > load
            assert bool(changed) <= (change == "changed")
            groups[str(row[KEY]), load, ORACLE_SAYS[change]].append(self.oracle.canon(row, "loose"))
        for (key, load, what), rows in sorted(groups.items()):
            found[key].append((load, what, sorted(rows)))
        assert found.keys() == self.events.keys()
        for key in keys:
            assert found[key] == self.events[key], key

    def _check_diffs(self, session: Session, pairs: int) -> None:
        rng = random.Random(11)
        for _ in range(pairs):
            one, two = (rng.choice(self.times) + timedelta(seconds=rng.choice([-1, 0, 60])) for _ in "12")
            found: Counter[str] = Counter()
            asked = f"SELECT * FROM fires.incidents_diff('{one.isoformat()}', '{two.isoformat()}')"
            for row in _asked(session, asked):
                change, before = row.pop("change"), row.pop("before", None)
                times, changed = row.pop("n", None), row.pop("changed_columns", [])
                if times is not None:  # keys repeat in this table
                    found[self.oracle.canon(row, "loose")] += times
                    continue
                if change != "disappeared":
                    found[self.oracle.canon(row, "loose")] += 1
                if change != "appeared":
                    found[self.oracle.canon(before, "loose")] -= 1
                assert (change == "changed") == bool(changed)
            expected = self.at(two).copy()
            expected.subtract(self.at(one))
            assert {k: n for k, n in found.items() if n} == {k: n for k, n in expected.items() if n}, (
                one,
                two,
            )


def _asked(session: Session, sql: str) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in json_rows(session, sql))


def _first(folder: Path, into: Path, versions: int) -> Path:
    """A folder with the first versions of a history."""
    into.mkdir()
    with (folder / "index.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        entries = [entry for entry, _ in zip(reader, range(versions), strict=False)]
        with (into / "index.csv").open("w", newline="") as out:
            writer = csv.DictWriter(out, reader.fieldnames or [])
            writer.writeheader()
            writer.writerows(entries)
    for entry in entries:
        shutil.copy(folder / entry["file"], into)
    return into


def _imported(root: Path, corpus: Corpus, folder: Path) -> Lake:
    lake = Lake.create(root / "lake")
    import_files(lake, folder, source="fires", table="incidents", key=[KEY], rows=corpus.rows)
    return lake


def _checked(corpus: Corpus, root: Path, *, least: int, pairs: int, keys: set[str] | None = None) -> None:
    """Without a compaction; with one and loads on top of it; and with one of everything, made in two steps."""
    lake = _imported(root / "plain", corpus, corpus.folder)
    corpus.check(lake, pairs=pairs, keys=keys)
    some = _first(corpus.folder, root / "some", len(corpus.times) * 2 // 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "EPOCH_LEAST", least)
        lake = _imported(root / "compacted", corpus, some)
        assert compaction.compact(lake, "fires") == ["incidents"]
        lake = _imported(root / "compacted", corpus, corpus.folder)
        corpus.check(lake, pairs=pairs, keys=keys)
        assert compaction.compact(lake, "fires") == ["incidents"]
    found = newest(lake.store, lake.log("fires"), "incidents")
    assert found is not None
    assert len(found.epochs) >= 3
    corpus.check(lake, pairs=pairs, keys=keys)


@pytest.fixture(scope="session")
def corpus(oracle: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Corpus]:
    """Unpacks a real history, and reads it with the oracle."""

    def unpack(name: str, rows: str | None) -> Corpus:
        archive = SHARED / f"{name}.tar.xz"
        if not archive.is_file():
            pytest.skip(f"real data is missing: ../shared/data/{archive.name}, beside the repository")
        into = tmp_path_factory.mktemp("real")
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):  # not in Python 3.11.2, which Debian 12 has
                tar.extractall(into, filter="data")
            else:
                tar.extractall(into)  # noqa: S202  (our own archive)
        return Corpus(into / name, rows, oracle)

    return unpack


def test_the_lives_of_all_rows_of_a_whole_history_are_as_the_oracle_says(
    corpus: Callable[..., Corpus], tmp_path: Path
) -> None:
    june = corpus("ca-fires-june2023", None)
    for key in random.Random(5).sample(
        sorted(june.events), 3
    ):  # the oracle itself agrees with how it is used here
        assert june.said_by_program(key) == [(n, what) for n, what, _ in june.events[key]]
    _checked(june, tmp_path, least=100, pairs=10)


@pytest.mark.parametrize("name", ["quick-ca-fires-v330-430", "quick-ca-fires-drift"])
def test_the_lives_of_all_rows_of_a_real_window_are_as_the_oracle_says(
    name: str, corpus: Callable[..., Corpus], tmp_path: Path
) -> None:
    _checked(corpus(name, "Incidents"), tmp_path, least=10, pairs=5)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_lives_of_rows_of_a_long_history_are_as_the_oracle_says(
    corpus: Callable[..., Corpus], tmp_path: Path
) -> None:
    fires = corpus("ca-fires-incidents", "Incidents")
    keys = set(random.Random(3).sample(sorted(fires.events), 100))
    key = min(keys)
    assert fires.said_by_program(key) == [(n, what) for n, what, _ in fires.events[key]]
    _checked(fires, tmp_path, least=300, pairs=40, keys=keys)
