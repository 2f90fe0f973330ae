"""A log opened from a summary is the log that reading every commit gives, whatever is asked of it, and when."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakehouse import Lake, checkpoint
from lakehouse.core import commit as commits
from lakehouse.core import layout, summary
from lakehouse.core.commit import Commit, Pack, Part, TableChange
from lakehouse.core.log import Log
from lakehouse.core.types import Column
from lakehouse.errors import ForkError, GapError, IntegrityError
from lakehouse.replay import follow, replay
from lakehouse.store import Entry, MemoryStore
from lakehouse.verify import verify

START = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = ("alpha", "Beta")
TYPES = ("null", "int8", "int64", "float64", "string", {"list": "int64"}, "json")
KEYS = ((), ("id",), ("id", "G"))


@pytest.fixture(autouse=True)
def small_summaries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Summaries and segments of a few commits: what happens at thousands happens at dozens."""
    monkeypatch.setattr(checkpoint, "AFTER_FILES", 5)
    monkeypatch.setattr(checkpoint, "AFTER_LOADS", 9)
    monkeypatch.setattr(checkpoint, "_READ_ONE_BY_ONE", 3)
    monkeypatch.setattr(checkpoint, "_WHOLE_BELOW", 600)
    monkeypatch.setattr(summary, "RECENT", 3)


class Writer:
    """Writes random commits to a log, some in files of several; parts exist in name only."""

    def __init__(self, store: MemoryStore, seed: int) -> None:
        self.store = store
        self.rng = random.Random(seed)
        self.log = Log("s")
        self.observed = START
        self.live: dict[str, list[tuple[int, int]]] = {name: [] for name in TABLES}
        self.bases: set[str] = set()
        self.keys = dict.fromkeys(TABLES, ())

    def write(self) -> None:
        """One log file."""
        many = self.rng.choice([1, 1, 1, 1, 2, 7, 12])
        first = self.log.head + 1
        shared = {name: f"{self.rng.randbytes(12).hex()}" for name in TABLES} if many > 1 else {}
        made = [self._commit(seq, first, shared) for seq in range(first, first + many)]
        content = commits.lines(made, prev=self.log.digest)
        self.store.create(layout.log_key("s", first), content)
        self.log = replay(self.store, "s", checkpoint=False)

    def _commit(self, seq: int, first: int, shared: dict[str, str]) -> Commit:
        rng = self.rng
        self.observed += timedelta(minutes=rng.choice([-3, 0, 1, 5]))
        before = self.log.effective_at or START
        plain = Commit(
            source="s",
            seq=seq,
            load_id=f"load {seq}" if rng.random() < 0.9 else f"löad/{seq}",
            prev="",
            observed_at=self.observed,
            effective_at=max(self.observed, before, getattr(self, "effective", before)),
            committed_at=START,
            pipeline={"cursor": seq} if rng.random() < 0.1 else None,
        )
        self.effective = plain.effective_at
        what = rng.random()
        if what < 0.1:
            return replace(plain, failure="404")
        if what < 0.12:
            return replace(plain, retention={"policy": {}, "expired": [[max(seq - 9, 1), max(seq - 3, 1)]]})
        if what < 0.22 and not shared:
            return replace(plain, packs=self._packs())
        names = [name for name in TABLES if rng.random() < 0.6]
        return replace(plain, tables={name: self._change(name, seq, first, shared) for name in names})

    def _packs(self) -> dict[str, tuple[Pack, ...]]:
        out = {}
        for name, spans in self.live.items():
            if len(spans) < 2 or self.rng.random() < 0.3:
                continue
            at = self.rng.randrange(len(spans) - 1)
            end = self.rng.randrange(at + 1, len(spans))
            first, last = spans[at][0], max(last for _, last in spans[at : end + 1])
            spans[at : end + 1] = [(first, last)]
            digest = self.rng.randbytes(32).hex()
            out[name] = (
                Pack(
                    path=layout.part_key("s", name, first, last, digest[:24]), sha256=digest, size_bytes=9,
                    first=first, last=last, rows=5, loads=((first, 0, ""),) if self.rng.random() < 0.3 else (),
                ),
            )  # fmt: skip
        return out

    def _change(self, name: str, seq: int, first: int, shared: dict[str, str]) -> TableChange:
        rng = self.rng
        base = rng.random() < 0.2
        if base or name not in self.bases:
            self.keys[name] = rng.choice(KEYS)
            self.bases.add(name)
        columns = tuple(
            Column(name=n, type=rng.choice(TYPES)) for n in ("id", "G", "x", "y") if rng.random() < 0.8
        )
        rows = rng.randrange(3)
        parts: tuple[Part, ...] = ()
        if rows:
            digest = (shared.get(name) or rng.randbytes(12).hex()) + "0" * 40
            span = (first, first + 11) if shared else (seq, seq)
            path = layout.part_key("s", name, *span, digest[:24])
            parts = (Part(path=path, sha256=digest, size_bytes=7, rows=rows),)
            if self.live[name] and shared and self.live[name][-1][0] >= first:
                self.live[name][-1] = (self.live[name][-1][0], seq)
            else:
                self.live[name].append((seq, seq))
        return TableChange(
            disposition=rng.choice(["append", "replace", "merge"]),
            primary_key=self.keys[name],
            columns=columns,
            parts=parts,
            base=base,
            counts={"rows": rows} if rows else {},
            content=f"{rows}:{seq:032x}" if rows else "",
        )


def questions(whole: Log) -> Iterator[tuple[str, Callable[[Log], Any]]]:
    """All that a log can be asked."""
    for name in (
        "source",
        "head",
        "digest",
        "effective_at",
        "pipeline",
        "piped",
        "expired",
        "expired_by",
        "reach",
    ):
        yield name, lambda log, name=name: getattr(log, name)
    yield "commits", lambda log: tuple(log.commits)
    yield "commits backwards", lambda log: tuple(reversed(log.commits))
    yield "tables", lambda log: list(log.tables)
    yield "ids", lambda log: [getattr(log.find(c.load_id), "seq", None) for c in whole.commits]
    yield "no such id", lambda log: (log.find("load 0"), log.find(""), log.find("\ud800"))
    yield "digests", lambda log: [log.digest_at(seq)[:16] for seq in range(1, whole.head + 1)]
    moments = [START + timedelta(minutes=n) for n in range(-50, 200, 7)]
    yield "positions", lambda log: [log.position(moment) for moment in moments]
    for seq in (1, whole.head // 2, whole.head):
        yield f"commit {seq}", lambda log, seq=seq: (log.commits[seq - 1], log.commits[seq - 1 :])
    for name in whole.tables:
        for about in (
            "name", "changes", "columns", "eras", "keys", "first_seq", "last_seq", "widths", "met_rows", "met_groups", "stored",
            "content", "may_repeat", "last", "files", "revised",
        ):  # fmt: skip
            yield f"{name}.{about}", lambda log, name=name, about=about: getattr(log.tables[name], about)
        for seq in range(0, whole.head + 2, 3):
            yield (
                f"{name} at {seq}",
                lambda log, name=name, seq=seq: (
                    log.tables[name].files_since(seq),
                    log.tables[name].columns_at(seq),
                    log.tables[name].era_at(seq),
                    log.tables[name].changes_at(seq),
                    log.tables[name].changes_since(seq),
                ),
            )


def assert_says_the_same(opened: Log, whole: Log, rng: random.Random) -> None:
    asked = list(questions(whole))
    rng.shuffle(asked)
    for name, ask in asked:
        assert ask(opened) == ask(whole), name


@pytest.mark.parametrize("listed", [0, 512], ids=["ends only", "all files"])
@pytest.mark.parametrize("seed", range(8))
def test_a_log_from_a_summary_is_the_log(seed: int, listed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.replay.LISTED", listed)
    store = MemoryStore()
    writer = Writer(store, seed)
    rng = random.Random(-seed)
    followed = Log("s")
    for _ in range(40):
        writer.write()
        if rng.random() < 0.4:
            followed = follow(store, followed)
        if rng.random() < 0.15:
            assert_says_the_same(replay(store, "s"), writer.log, rng)
    opened = replay(store, "s")
    assert opened.commits.skip, "it was opened from a summary"
    assert_says_the_same(opened, writer.log, rng)
    assert_says_the_same(follow(store, followed), writer.log, rng)
    for _, ask in rng.sample(list(questions(writer.log)), 20):  # each asked first of all
        fresh = replay(store, "s")
        assert ask(fresh) == ask(writer.log)


def test_what_a_log_said_it_says_for_ever() -> None:
    """Logs that share what they hold do not see each other's ends."""
    store = MemoryStore()
    writer = Writer(store, 5)
    seen: list[tuple[Log, Log]] = []
    log = replay(store, "s")
    for _ in range(20):
        writer.write()
        log = follow(store, log)
        seen.append((log, writer.log))
    for old, whole in seen:
        assert_says_the_same(old, whole, random.Random(1))
    old, _ = seen[3]
    again = old.extended(log.commits[old.head : old.head + 1])
    other = old.extended(log.commits[old.head :])
    assert (again.head, other.head, log.head) == (old.head + 1, log.head, log.head)
    assert again.find(log.commits[-1].load_id) is None
    assert other == log
    assert list(other.commits) == list(log.commits)


# What a summary may not hide.


class Counting(MemoryStore):
    """Counts what is read of it."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__()
        self._objects = store._objects
        self.read: list[tuple[str, int]] = []

    def get(self, key: str) -> bytes:
        content = super().get(key)
        self.read.append((key, len(content)))
        return content

    def list(self, prefix: str) -> Iterator[Entry]:
        for entry in super().list(prefix):
            self.read.append((entry.key, 0))
            yield entry


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake of one table with many small loads, and two that no summary has."""
    monkeypatch.setattr("lakehouse.replay.LISTED", 0)
    lake = Lake.create(MemoryStore())
    load(lake, range(22))
    return lake


def load(lake: Lake, numbers: Any) -> None:
    for n in numbers:
        with lake.load("s", load_id=str(n)) as one:
            one.write("t", [{"id": n % 7, "x": n}], disposition="merge", primary_key="id")


def derived(lake: Lake, kind: str = "") -> list[str]:
    return [entry.key for entry in lake.store.list("_derived/s/log/") if entry.key.endswith(kind)]


def test_opening_reads_no_more_of_a_log_that_is_ten_times_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.replay.LISTED", 0)
    read = []
    for loads in (60, 600):
        store = MemoryStore()
        head = ""
        for n in range(1, loads + 1):
            change = TableChange(disposition="append", columns=(Column(name="x", type="int8"),))
            one = Commit(
                source="s", seq=n, load_id=str(n), prev="", tables={"t": change},
                observed_at=START, effective_at=START, committed_at=START,
            )  # fmt: skip
            line = commits.lines([one], prev=head)
            head = commits.digest_of(line[:-1])
            store.create(layout.log_key("s", n), line)
            if n % 4 == 0:
                replay(store, "s")
        counting = Counting(store)
        log = replay(counting, "s")
        assert log.head == loads
        assert log.tables["t"].last_seq == loads
        read.append((len(counting.read), sum(size for _, size in counting.read)))
    (few, small), (many, large) = read
    assert many <= few + 12  # a listing of segments, of which there are as many as digits
    assert large <= small + 2_000


def test_a_load_id_is_known_again_after_opening_from_a_summary(lake: Lake) -> None:
    opened = Lake.open(lake.store)
    assert opened.log("s").commits.skip >= 15
    load(opened, range(22))
    assert opened.log("s").head == 22
    load(opened, [99])
    assert Lake.open(lake.store).log("s").head == 23


def damaged(lake: Lake, key: str, how: str) -> None:
    content = lake.store.get(key)
    middle = len(content) // 2
    if how == "gone":
        lake.store.delete(key)
    elif how == "swapped":
        others = [k for k in derived(lake, key[-5:]) if k != key]
        lake.store.put(key, lake.store.get(others[0]) if others else b"")
    else:
        lake.store.put(
            key,
            {
                "torn": content[:middle],
                "flipped": content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :],
                "empty": b"",
                "junk": b"\xff{]" * 20,
            }[how],
        )


@pytest.mark.parametrize("how", ["gone", "torn", "flipped", "empty", "junk", "swapped"])
@pytest.mark.parametrize("kind", [".json", ".ids", ".digests", ".parts"])
def test_damage_to_what_is_derived_changes_nothing(how: str, kind: str, lake: Lake) -> None:
    whole = replay(lake.store, "s", checkpoint=False)
    for key in derived(lake, kind):
        damaged(lake, key, how)
    assert_says_the_same(replay(lake.store, "s"), whole, random.Random(3))
    opened = Lake.open(lake.store)
    load(opened, range(22))
    assert opened.log("s").head == 22
    load(opened, range(22, 44))  # summaries are made again, and are good
    assert Lake.open(lake.store).log("s").commits.skip >= 35
    assert_says_the_same(replay(lake.store, "s"), replay(lake.store, "s", checkpoint=False), random.Random(4))
    assert opened.query("select count(*), sum(x) from s.t").fetchall() == [(7, sum(range(37, 44)))]


def test_a_summary_of_another_version_is_not_used(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "VERSION", 99)
    assert replay(lake.store, "s").commits.skip == 0
    assert replay(lake.store, "s").commits.skip > 0, "one of this version took its place"


def test_a_log_that_lost_its_newest_loads_is_read_whole(lake: Lake) -> None:
    """As after restoring a backup: the newest summary is ahead of the log, an older one may do."""
    for seq in range(13, 23):
        lake.store.delete(layout.log_key("s", seq))
    log = replay(lake.store, "s")
    assert log.head == 12
    assert_says_the_same(log, replay(lake.store, "s", checkpoint=False), random.Random(2))


def test_a_summary_of_another_history_is_not_used(lake: Lake) -> None:
    """Of a log that was written anew, of the same length and with other loads."""
    other = Lake.create(MemoryStore())
    for n in range(22):
        with other.load("s", load_id=f"other {n}") as one:
            one.write("t", [{"id": n}])
    for entry in list(lake.store.list("s/")):
        lake.store.delete(entry.key)
    for entry in list(other.store.list("s/")):
        lake.store.put(entry.key, other.store.get(entry.key))
    log = replay(lake.store, "s")
    assert log.find("3") is None
    assert log.find("other 3") is not None
    assert_says_the_same(log, replay(other.store, "s", checkpoint=False), random.Random(2))


def test_a_commit_that_is_gone_is_said_by_whoever_reads_it(lake: Lake) -> None:
    """Past many log files, only the end of a log is looked at; what lies before cannot be lost unsaid."""
    lake.store.delete(layout.log_key("s", 4))
    opened = Lake.open(lake.store)
    load(opened, [100])
    with pytest.raises(GapError):
        list(opened.log("s").commits)
    with pytest.raises(GapError):
        opened.log("s").find("3")
    assert opened.log("s").find("9") is not None
    assert [type(error) for error in verify(opened).errors] == [GapError]
    assert [type(error) for error in opened.session().broken.values()] == [GapError]


def test_a_fork_behind_a_summary_is_said_by_whoever_reads_it(lake: Lake) -> None:
    key = layout.log_key("s", 4)
    content = lake.store.get(key)
    lake.store.put(key, content.replace(b'"load_id":"3"', b'"load_id":"7"'))
    opened = Lake.open(lake.store)
    with pytest.raises(ForkError):
        list(opened.log("s").commits)
    with pytest.raises(IntegrityError):
        opened.log("s").find("3")


def test_few_files_stay_however_long_the_log(lake: Lake) -> None:
    load(lake, range(100, 200))
    assert len(derived(lake)) <= 40
    assert {key.rsplit(".", 1)[-1] for key in derived(lake)} == {"json", "ids", "digests", "parts"}
    assert len(derived(lake, ".json")) == 2
