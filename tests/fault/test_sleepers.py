"""Writers and readers that sleep while others write, pack and prune: nothing is lost, doubled, or made up.

Once small log files are pruned, a name in the middle of the log is free again. Whoever believes in an
old end of the log can take it; it must never count.
"""

import gzip
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fault_injection import SteppedFolder
from fault_processes import Child, kill_now
from fault_upkeep import assert_whole

from lakehouse import Lake, logpack
from lakehouse.bulk import BulkLoad
from lakehouse.core import layout
from lakehouse.core.gates import OPEN, Gates
from lakehouse.errors import (
    ContentionError,
    ForkError,
    FormatError,
    IntegrityError,
    QuarantinedError,
    TornCommitError,
    UserError,
)
from lakehouse.pack import pack
from lakehouse.prune import prune
from lakehouse.quarantine import approve
from lakehouse.replay import follow, replay
from lakehouse.retention import expire, parse
from lakehouse.store import LocalStore, MemoryStore
from lakehouse.verify import verify

START = datetime(2026, 1, 1, tzinfo=UTC)
SLEPT_AT = 4  # the head that a sleeper believes in
HEAD = 9  # where the log is when it wakes up, and one pack commit


@pytest.fixture(autouse=True)
def small_log_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logpack, "WORTH", 3)


def _load(lake: Lake, n: int) -> None:
    with lake.load("s", load_id=f"n-{n}", observed_at=START + timedelta(days=n), gates=OPEN) as load:
        load.write("t", [{"id": i, "n": n} for i in range(3)], disposition="replace", primary_key="id")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A lake with four loads."""
    lake = Lake.create(tmp_path / "lake")
    for n in range(1, SLEPT_AT + 1):
        _load(lake, n)
    return tmp_path / "lake"


def go_on(root: Path) -> None:
    """What happens while somebody sleeps: five more loads, then pack and prune."""
    lake = Lake.open(root)
    for n in range(SLEPT_AT + 1, HEAD + 1):
        _load(lake, n)
    pack(lake)
    _load(lake, HEAD + 1)
    prune(lake)
    assert not (root / layout.log_key("s", SLEPT_AT + 1)).exists()


class Sleepy(LocalStore):
    """A folder; right before it creates a log file for the first time, all of `go_on` happens."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.slept = False

    def create(self, key: str, data: bytes) -> None:
        if "/_log/" in key and not self.slept:
            self.slept = True
            go_on(self.root)
        super().create(key, data)


def ids(root: Path) -> list[str]:
    return [c.load_id for c in Lake.open(root).log("s").commits if c.is_load]


def assert_sound(root: Path, *more: str) -> None:
    assert ids(root) == [*(f"n-{n}" for n in range(1, HEAD + 2)), *more]
    assert_whole(root)
    assert not [key for key in verify(Lake.open(root)).orphans if "/_log/" in key]
    assert not (root / layout.log_key("s", SLEPT_AT + 1)).exists()


def test_a_load_that_slept_is_published_on_top(root: Path) -> None:
    lake = Lake.open(Sleepy(root))
    with lake.load("s", load_id="late", gates=OPEN) as load:
        load.write("t", [{"id": 0, "n": 99}], disposition="merge", primary_key="id")
    assert load.commit is not None
    assert load.commit.seq == HEAD + 3
    assert_sound(root, "late")
    assert Lake.open(root).query("SELECT n FROM s.t ORDER BY id").fetchall() == [(99,), (10,), (10,)]


def test_a_load_whose_own_success_was_lost_is_there_once(root: Path) -> None:
    """It wrote load 5, never heard of it, and tries again when that file is packed and pruned."""
    lake = Lake.open(root)
    stale = lake.log("s")
    line: list[bytes] = []

    class Deaf(LocalStore):
        def create(self, key: str, data: bytes) -> None:
            if key == layout.log_key("s", SLEPT_AT + 1) and not line:
                line.append(data)
                super().create(key, data)
                other = Lake.open(root)
                for n in range(SLEPT_AT + 1, HEAD + 1):
                    _load(other, n)
                pack(other)
                _load(other, HEAD + 1)
                prune(other)
            super().create(key, data)  # what a client does that got no answer

    with Lake.open(Deaf(root)).load("s", load_id="deaf", gates=OPEN) as load:
        load.write("t", [{"id": 7, "n": 7}], disposition="merge", primary_key="id")
    assert load.commit is not None
    assert load.commit.seq == SLEPT_AT + 1
    assert ids(root).count("deaf") == 1
    assert follow(lake.store, stale).head == Lake.open(root).log("s").head
    assert_whole(root)


def test_an_import_that_slept_publishes_nothing_and_says_so(root: Path) -> None:
    lake = Lake.create(Sleepy(root))
    bulk = BulkLoad(lake, "s", "u", key=["id"])
    bulk.observe([{"id": 1}], observed_at=START + timedelta(days=50), load_id="v1")
    with pytest.raises(ContentionError, match="load 5"):
        bulk.flush()
    assert_sound(root)


def test_an_approval_that_slept_is_published_on_top_or_refused(root: Path) -> None:
    lake = Lake.open(root)
    load = lake.load("s", load_id="refused", gates=Gates(), observed_at=START + timedelta(days=90))
    load.write("t", [], disposition="replace", primary_key="id")
    with pytest.raises(QuarantinedError):
        load.publish()
    approve(Lake.open(Sleepy(root)), "refused")
    assert_sound(root, "refused")
    assert Lake.open(root).query("SELECT * FROM s.t").fetchall() == []


def test_packing_is_no_newer_load_that_stands_in_the_way_of_an_approval(root: Path) -> None:
    lake = Lake.open(root)
    load = lake.load("s", load_id="refused", observed_at=START + timedelta(days=90))
    load.write("t", [], disposition="replace", primary_key="id")
    with pytest.raises(QuarantinedError):
        load.publish()
    pack(lake)
    assert approve(lake, "refused").load_id == "refused"
    with pytest.raises(UserError):
        approve(lake, "refused")


def test_a_pack_that_slept_commits_nothing_that_is_not_right_any_more(root: Path) -> None:
    pack(Lake.open(Sleepy(root)))
    assert_sound(root)


def test_an_expiry_that_slept_changes_nothing_and_says_so(root: Path) -> None:
    with pytest.raises(ContentionError, match="nothing was expired"):
        expire(Lake.open(Sleepy(root)), "s", parse("keep yearly after 1 day"), now=START + timedelta(days=99))
    assert Lake.open(root).log("s").expired == ()
    assert_sound(root)


@pytest.mark.parametrize("phase", ["before", "after"])
def test_a_sleeper_that_is_killed_when_it_wakes_leaves_nothing_that_counts(phase: str, root: Path) -> None:
    """Its log file may stay, under a number that is taken; readers never see it, and prune removes it."""
    stale = Lake.open(root).log("s")

    class KilledSleeper(SteppedFolder):
        def create(self, key: str, data: bytes) -> None:
            go_on(self.folder)
            super().create(key, data)

    def run() -> None:
        store = KilledSleeper(root, lambda at, op, key: kill_now() if (at, op) == (phase, "create") else None)
        with Lake.open(store).load("s", load_id="late", gates=OPEN) as load:
            load.write("t", [{"id": 0, "n": 99}], disposition="merge", primary_key="id")

    assert Child(run).wait() is None
    left = (root / layout.log_key("s", SLEPT_AT + 1)).exists()
    assert left == (phase == "after")
    for log in (Lake.open(root).log("s"), follow(LocalStore(root), stale), replay(LocalStore(root), "s")):
        assert [c.load_id for c in log.commits if c.is_load] == [f"n-{n}" for n in range(1, HEAD + 2)]
    strange = [key for key in verify(Lake.open(root)).orphans if "/_log/" in key]
    assert strange == [layout.log_key("s", SLEPT_AT + 1)] * left
    prune(Lake.open(root))
    with Lake.open(root).load("s", load_id="late", gates=OPEN) as load:
        load.write("t", [{"id": 0, "n": 99}], disposition="merge", primary_key="id")
    assert ids(root)[-1] == "late"
    assert_sound(root, "late")


def test_a_reader_that_holds_an_old_log_sees_what_came_since(root: Path) -> None:
    lake = Lake.open(root)
    session = lake.session()
    assert lake.log("s").head == SLEPT_AT
    go_on(root)
    assert lake.log("s").head == HEAD + 2
    assert lake.query("SELECT DISTINCT n FROM s.t").fetchall() == [(HEAD + 1,)]
    with pytest.raises(ContentionError, match="packed and pruned"):
        session.query("SELECT DISTINCT n FROM s.t")


def test_a_catalog_is_neither_stale_nor_fresh_by_mistake_after_a_prune(root: Path) -> None:
    from lakehouse.duck.session import catalog_path, is_current, refresh

    lake = Lake.open(root)
    path = catalog_path(lake)
    assert path is not None
    refresh(lake)
    before = path.read_bytes()
    go_on(root)
    assert is_current(lake, path)  # prune wrote it anew
    assert path.read_bytes() != before
    prune(lake)
    assert is_current(lake, path)
    path.write_bytes(before)
    assert not is_current(lake, path)
    newest = sorted(p.name for p in (root / "s" / "_log").glob("*.jsonl"))
    assert newest[-1] == f"{HEAD + 2:020d}.jsonl"


# --- Log packs that are not what they should be --------------------------------------------------


def _pack_file(root: Path) -> Path:
    go_on(root)
    (found,) = (root / "s" / "_log" / "pack").iterdir()
    return found


def _damages() -> dict[str, tuple[Callable[[bytes], bytes], type[IntegrityError]]]:
    def without_first(raw: bytes) -> bytes:
        return raw.split(b"\n", 1)[1]

    def without_last(raw: bytes) -> bytes:
        return b"\n".join(raw.split(b"\n")[:-2]) + b"\n"

    return {
        "torn": (lambda raw: raw[:-20], TornCommitError),
        "no JSON": (lambda raw: raw.replace(b'{"format"', b'{"format', 1), FormatError),
        "empty": (lambda _: b"", TornCommitError),
        "first line gone": (without_first, FormatError),
        "last line gone": (without_last, FormatError),
        "altered": (lambda raw: raw.replace(b'"n-3"', b'"n-X"'), ForkError),
    }


@pytest.mark.parametrize("what", _damages())
def test_a_damaged_log_pack_is_an_error_of_its_kind(what: str, root: Path) -> None:
    path = _pack_file(root)
    damage, kind = _damages()[what]
    raw = gzip.compress(damage(gzip.decompress(path.read_bytes())))
    _assert_damaged(root, path, raw, kind)


@pytest.mark.parametrize(("cut", "kind"), [(lambda raw: raw[:-9], TornCommitError), (lambda _: b"", TornCommitError),
    (lambda raw: raw[:40] + b"???" + raw[43:], FormatError), (lambda _: b"{}\n", FormatError)])  # fmt: skip
def test_a_log_pack_whose_bytes_are_damaged_is_an_error_of_its_kind(
    cut: Callable[[bytes], bytes], kind: type[IntegrityError], root: Path
) -> None:
    path = _pack_file(root)
    _assert_damaged(root, path, cut(path.read_bytes()), kind)


def _assert_damaged(root: Path, path: Path, raw: bytes, kind: type[IntegrityError]) -> None:
    path.unlink()
    path.write_bytes(raw)
    with pytest.raises(kind) as caught:
        Lake.open(root).log("s")
    assert "_log/" in str(caught.value)
    assert caught.value.hint
    assert [type(e) for e in verify(Lake.open(root)).errors] == [kind]
    with pytest.raises(kind):
        prune(Lake.open(root))


def test_a_log_pack_that_is_gone_is_a_gap(root: Path) -> None:
    _pack_file(root).unlink()
    with pytest.raises(IntegrityError, match=r"missing|holds commit"):
        Lake.open(root).log("s")


def test_a_wrong_log_pack_does_not_harm_while_the_small_files_are_there(root: Path) -> None:
    lake = Lake.open(root)
    pack(lake)
    path = next((root / "s" / "_log" / "pack").iterdir())
    path.unlink()
    path.write_bytes(b"{}\n")
    with pytest.raises(FormatError) as caught:
        Lake.open(root).log("s")
    assert "may be deleted" in caught.value.hint
    path.unlink()
    assert Lake.open(root).log("s").head == SLEPT_AT + 1


def test_log_packs_grow_without_being_written_anew_each_time(tmp_path: Path) -> None:
    store = MemoryStore()
    lake, written = Lake.create(store), 0
    for n in range(120):
        with lake.load("s", load_id=f"n-{n}") as load:
            load.pipeline = {"cursor": n}
        found = logpack.pack_log(store, lake.log("s"))
        written += len(store.get(found.key)) if found else 0
        if n % 7 == 0:
            prune(lake)
            assert Lake.open(store).log("s").head == n + 1
    total = sum(e.size_bytes for e in store.list("s/_log/") if "/pack/" in e.key)
    assert len(logpack.listing(store, "s").packs) < 6
    assert written < 6 * total


def test_readers_follow_while_log_files_are_packed_and_pruned(tmp_path: Path) -> None:
    root, stop = tmp_path / "lake", tmp_path / "stop"
    lake = Lake.create(root)
    _load(lake, 0)

    def read() -> int:
        held, times = Lake.open(root), 0
        while not stop.exists():
            one, two = held.log("s"), Lake.open(root).log("s")
            assert [c.digest for c in one.commits] == [c.digest for c in two.commits[: one.head]]
            times += 1
        return times

    child = Child(read)
    try:
        for n in itertools.count(1):
            _load(lake, n)
            if n % 5 == 0:
                pack(lake)
                prune(lake)
            if n == 40:
                break
    finally:
        stop.touch()
        assert child.wait(60)
    assert [c.load_id for c in Lake.open(root).log("s").commits if c.is_load] == [f"n-{n}" for n in range(41)]
