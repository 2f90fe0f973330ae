"""Push and pull between a lake in a folder and a mirror in every kind of store."""

import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse import Lake, tags
from lakehouse.bulk import BulkLoad
from lakehouse.cli.mirror_reports import pulled
from lakehouse.core import layout
from lakehouse.core.commit import Commit, digest_of, lines
from lakehouse.errors import (
    DamagedPartError,
    ForkError,
    MissingPartError,
    NoLakeError,
    NotFoundError,
    QuarantinedError,
    TornCommitError,
    UserError,
)
from lakehouse.logpack import listing, pack_log
from lakehouse.pack import pack
from lakehouse.prune import prune
from lakehouse.quarantine import discard, listed
from lakehouse.store import Absent, Entry, LocalStore, MemoryStore, Store
from lakehouse.verify import verify
from sync import hints
from sync import plan as plans
from sync.bandwidth import Bandwidth
from sync.pull import copy, pull
from sync.push import Progress, push, status
from sync.settings import Mirror

START = datetime(2026, 1, 1, tzinfo=UTC)
MakeStore = Callable[[], Store]
TABLES = ("shop.products", "shop.events", "fires.areas")


def load(lake: Lake, number: int, source: str = "shop") -> None:
    """One load; the same number gives the same data, but another commit."""
    observed_at = START + timedelta(hours=number)
    with lake.load(source, load_id=f"{source}-{number}", observed_at=observed_at) as found:
        rows = [{"sku": f"p{n}", "price": n * number} for n in range(4)]
        found.write("products", rows, disposition="replace", primary_key="sku")
        found.write("events", [{"n": number}])


EVERYWHERE = ("memory", "local", "gcs", "s3")
IN_MEMORY = pytest.mark.parametrize("kind", ["memory"], indirect=True)  # what no store can make differ


@pytest.fixture(params=EVERYWHERE)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of store that the mirror is in."""
    return str(request.param)


@pytest.fixture
def lake(made: Path, tmp_path: Path) -> Lake:
    """Two sources, one of them imported as one log file; a tag; a refused load; rows that a contract discarded."""
    return Lake.open(shutil.copytree(made, tmp_path / "lake"))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake that each test gets a copy of."""
    lake = Lake.create(tmp_path_factory.mktemp("made") / "lake")
    for number in range(1, 4):
        load(lake, number)
    bulk = BulkLoad(lake, "fires", "areas", key=["name"])
    for number in range(1, 6):
        bulk.observe(
            [{"name": "north", "acres": number}],
            observed_at=START + timedelta(days=number),
            load_id=f"fires-{number}",
        )
    bulk.flush()
    tags.create(lake, "first", 2, note="the second load")
    with pytest.raises(QuarantinedError), lake.load("shop", load_id="empty") as refused:
        refused.write("products", [], disposition="replace", primary_key="sku")
    with lake.load("shop", load_id="shop-4", observed_at=START + timedelta(hours=4)) as dropped:
        dropped.write("events", [{"n": 4}])
        dropped.discard("events", [{"n": "x"}], "n is no number")
    return Path(lake.url)


class Asked:
    """A store that counts what it is asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.counts: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def run(*args: Any, **options: Any) -> Any:
            self.counts[name] += 1
            return found(*args, **options)

        return run


def check_same(mirror: Store, lake: Lake, *, asked: bool = False) -> None:
    """The mirror is a whole lake with the same history; `asked`, it also says of all moments what the lake says."""
    there = Lake.open(mirror)
    assert there.id == lake.id
    assert there.sources() == lake.sources()
    assert verify(there).errors == []
    for source in lake.sources():
        assert there.log(source).digest == lake.log(source).digest
    assert tags.tags(there) == tags.tags(lake)
    if not asked:
        return
    mine, theirs = lake.session(), there.session()
    for table in TABLES:
        for moment in ("null", "timestamp '2026-01-01 02:00:00'", "'first'", "1"):
            sql = f"select * from {table}_at({moment}) order by all"
            assert theirs.query(sql).fetchall() == mine.query(sql).fetchall()
    mine.connection.close()
    theirs.connection.close()


def kept(store: Store) -> dict[str, bytes]:
    return {entry.key: store.get(entry.key) for entry in store.list(f"{layout.QUARANTINE}/")}


def test_a_pushed_lake_is_a_lake_with_the_same_history(lake: Lake, make_store: MakeStore) -> None:
    steps: list[Progress] = []
    report = push(lake, make_store(), name="m", progress=steps.append)
    check_same(make_store(), lake, asked=True)
    assert kept(make_store()) == kept(lake.store)
    assert {each.source: (each.relation, each.loads) for each in report.sources} == {
        "fires": ("ahead", 5),
        "shop": ("ahead", 4),
    }
    assert report.tags == ("first",)
    assert len(report.quarantined) == len(kept(lake.store)) > 2
    assert steps[-1] == Progress(
        files=report.files, all_files=report.files, size_bytes=report.size_bytes, all_bytes=report.size_bytes
    )
    assert not list(make_store().list("_derived/"))


def test_a_push_of_what_is_there_costs_two_requests_a_source(lake: Lake, make_store: MakeStore) -> None:
    push(lake, make_store(), name="m")
    again = Asked(make_store())
    report = push(lake, again, name="m")  # type: ignore[arg-type]
    assert {each.relation for each in report.sources} == {"equal"}
    assert again.counts.total() == 2 * len(report.sources)
    assert not again.counts["list"] + again.counts["folders"]
    load(lake, 5)
    more = Asked(make_store())
    push(lake, more, name="m")  # type: ignore[arg-type]
    assert not more.counts["folders"]
    assert more.counts["create"] == 3
    assert more.counts.total() <= 2 * len(report.sources) + 3 + 2
    check_same(make_store(), lake)


@IN_MEMORY
def test_hints_that_are_gone_or_wrong_cost_a_listing_and_nothing_else(
    lake: Lake, make_store: MakeStore
) -> None:
    push(lake, make_store(), name="m")
    key = hints.key_of("m")
    said = lake.store.get(key)
    wrong = [said.replace(b'"seq": 4', b'"seq": %d' % seq) for seq in (3, 9)]
    assert said not in wrong
    for content in (None, b"{", b"[]", *wrong):
        lake.store.delete(key)
        if content is not None:
            lake.store.put(key, content)
        report = push(lake, make_store(), name="m")
        assert {each.relation for each in report.sources} == {"equal"}
        assert report.files == 0
        check_same(make_store(), lake)


@IN_MEMORY
def test_a_mirror_that_was_emptied_gets_everything_again(lake: Lake, make_store: MakeStore) -> None:
    push(lake, make_store(), name="m")
    store = make_store()
    for entry in list(store.list("")):
        store.delete(entry.key)
    push(lake, make_store(), name="m")
    check_same(make_store(), lake)
    assert kept(make_store()) == kept(lake.store)


def test_two_machines_that_push_the_same_lake_at_once_both_end_well(
    lake: Lake, make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "CUT", plans.Cut(parts=1))
    for number in range(5, 12):
        load(lake, number)
    shutil.copytree(tmp_path / "lake", tmp_path / "other")
    start = threading.Barrier(2)

    def run(folder: str) -> None:
        mine = Lake.open(tmp_path / folder)
        start.wait()
        push(mine, make_store(), name="m", connections=2)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, ["lake", "other"]))
    check_same(make_store(), lake)


def test_a_lake_of_which_another_machine_pushed_more_finds_out(
    lake: Lake, make_store: MakeStore, tmp_path: Path
) -> None:
    push(lake, make_store(), name="m")
    other = Lake.open(shutil.copytree(tmp_path / "lake", tmp_path / "other"))
    load(other, 5)
    push(other, make_store(), name="m")
    report = push(lake, make_store(), name="m")
    assert {each.source: each.relation for each in report.sources} == {"fires": "equal", "shop": "behind"}
    state = {each.source: each for each in status(lake, make_store(), "m")}
    assert (state["shop"].relation, state["shop"].loads, state["shop"].files) == ("behind", 1, 3)
    pulled = pull(lake, make_store(), name="m")
    assert {each.source: each.loads for each in pulled.sources} == {"fires": 0, "shop": 1}
    assert lake.log("shop").digest == other.log("shop").digest
    assert verify(lake).errors == []
    assert lake.query("select max(n) from shop.events").fetchall() == [(5,)]
    again = Asked(make_store())
    push(lake, again, name="m")  # type: ignore[arg-type]
    assert again.counts.total() == 2 * 2
    load(lake, 6)
    push(lake, make_store(), name="m")
    check_same(make_store(), lake)


def test_an_empty_machine_pulls_everything(lake: Lake, make_store: MakeStore, tmp_path: Path) -> None:
    push(lake, make_store(), name="m")
    here = LocalStore(tmp_path / "empty")
    report = copy(make_store(), here)
    check_same(here, lake, asked=True)
    assert kept(here) == kept(lake.store)
    assert report.tags == ("first",)
    assert {each.source: each.loads for each in report.sources} == {"fires": 5, "shop": 4}
    again = copy(make_store(), here)
    assert again.files == 0
    with pytest.raises(NotFoundError, match="no source 'shops'"):
        copy(make_store(), here, sources=["shops"])


def test_parts_too_large_for_memory_go_by_files(
    lake: Lake, make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.transfer.WHOLE", 100)
    monkeypatch.setattr("sync.transfer.IN_FLIGHT", 2000)
    push(lake, make_store(), name="m", bandwidth=10_000_000)
    left = tmp_path / "back" / "_derived" / "_sync" / ".tmp-left"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    copy(make_store(), LocalStore(tmp_path / "back"))
    check_same(LocalStore(tmp_path / "back"), lake)
    assert left.exists() == isinstance(make_store(), LocalStore)  # of a folder, files are copied as they are
    for folder in ("back/shop/_log", "back/fires/_log"):
        shutil.rmtree(tmp_path / folder)
    store = make_store()
    part = lake.log("fires").tables["areas"].files[0]
    store.put(part.path, b"x" * part.size_bytes)
    copy(make_store(), LocalStore(tmp_path / "back"))  # what is there already is not asked for again
    check_same(LocalStore(tmp_path / "back"), lake)
    with pytest.raises(DamagedPartError, match="was not copied"):
        copy(make_store(), LocalStore(tmp_path / "more"))


@IN_MEMORY
def test_all_that_is_sent_or_received_counts_against_the_bandwidth(
    lake: Lake, make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(Bandwidth, "take", lambda _, size_bytes: taken.append(size_bytes))
    push(lake, make_store(), name="m")
    every = [e.size_bytes for e in make_store().list("") if e.key != layout.LAKE_FILE]
    assert sorted(taken) == sorted(every)
    taken.clear()
    copy(make_store(), LocalStore(tmp_path / "copy"))
    assert sorted(taken) == sorted(every)


@IN_MEMORY
def test_part_of_a_lake_is_a_lake(lake: Lake, make_store: MakeStore, tmp_path: Path) -> None:
    push(lake, make_store(), name="m")
    here = LocalStore(tmp_path / "part")
    report = copy(make_store(), here, sources=["shop"], until={"shop": 3})
    there = Lake.open(here)
    assert there.sources() == ["shop"]
    assert there.log("shop").head == 3
    assert verify(there).errors == []
    assert report.held == ("first",)  # it names a load of a source that is not here
    copy(make_store(), here)
    check_same(here, lake)


@IN_MEMORY
def test_there_is_nothing_to_pull_from_a_place_without_a_lake(
    lake: Lake, make_store: MakeStore, tmp_path: Path
) -> None:
    with pytest.raises(NoLakeError):
        pull(lake, make_store(), name="m")
    with pytest.raises(NoLakeError):
        copy(make_store(), LocalStore(tmp_path / "empty"))
    assert [each.relation for each in status(lake, make_store(), "m")] == ["ahead", "ahead"]
    assert not list(make_store().list(""))


def test_histories_that_parted_are_refused_with_both_shown(
    lake: Lake, make_store: MakeStore, tmp_path: Path
) -> None:
    push(lake, make_store(), name="m")
    other = Lake.open(shutil.copytree(tmp_path / "lake", tmp_path / "other"))
    load(other, 5)
    push(other, make_store(), name="m")
    load(lake, 6)
    load(lake, 7)
    tags.create(lake, "mine")
    tags.create(lake, "common", 3)
    before = {e.key: make_store().get(e.key) for e in make_store().list("")}
    for sync in (push, pull):
        with pytest.raises(ForkError, match="different histories from load 5 on") as caught:
            sync(lake, make_store(), name="m")
        assert "'shop-6'" in caught.value.message
        assert "'shop-5'" in caught.value.message
        assert "1 more" in caught.value.message
        assert "--set-aside" in caught.value.hint
        assert "--as NAME" in caught.value.hint
        assert "If the mirror is the one that is wrong" in caught.value.hint
    assert before.items() <= {e.key: make_store().get(e.key) for e in make_store().list("")}.items()
    states = {each.source: each for each in status(lake, make_store(), "m")}
    assert (states["shop"].relation, states["fires"].relation) == ("diverged", "equal")
    assert isinstance(states["shop"].error, ForkError)


@IN_MEMORY
def test_what_parted_is_set_aside_as_a_lake_and_the_source_pulled_anew(
    lake: Lake, make_store: MakeStore, tmp_path: Path
) -> None:
    push(lake, make_store(), name="m")
    other = Lake.open(shutil.copytree(tmp_path / "lake", tmp_path / "other"))
    load(other, 5)
    push(other, make_store(), name="m")
    load(lake, 6)
    tags.create(lake, "mine")
    mine = lake.log("shop").digest
    report = pull(lake, make_store(), name="m", set_aside=True)
    assert lake.log("shop").digest == other.log("shop").digest
    check_same(make_store(), lake)
    folders = {each.source: each.set_aside for each in report.sources}
    assert folders["fires"] is None
    assert folders["shop"]
    said = pulled(Mirror(name="m", url="memory://m", kind="bucket"), report).lines
    assert (
        f"m: shop: what was here is now in {folders['shop']}: load again what only that has, then:" in said[1]
    )
    aside = Lake.open(folders["shop"])
    assert Path(folders["shop"]).parent == tmp_path / "lake.set-aside"
    assert (aside.id, aside.sources()) == (lake.id, ["shop"])
    assert aside.log("shop").digest == mine
    assert verify(aside).errors == []
    assert aside.query("select max(n) from shop.events").fetchall() == [(6,)]
    assert set(tags.tags(aside)) == {"first", "mine"}
    load(lake, 6)
    push(lake, make_store(), name="m")
    check_same(make_store(), lake)


def test_another_lake_is_not_written_to(lake: Lake, make_store: MakeStore, tmp_path: Path) -> None:
    push(lake, make_store(), name="m")
    other = Lake.create(tmp_path / "another")
    load(other, 1)
    before = sorted(entry.key for entry in make_store().list(""))
    for sync in (push, pull):
        with pytest.raises(UserError, match="another lake"):
            sync(other, make_store(), name="m")
    with pytest.raises(UserError, match="another lake"):
        copy(make_store(), other.store)
    assert before == sorted(entry.key for entry in make_store().list(""))
    assert other.log("shop").head == 1


@pytest.mark.parametrize("listed", [False, True])
def test_an_object_in_the_way_of_a_part_is_named_and_stays(
    lake: Lake, make_store: MakeStore, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.engine.LISTED", 1 if listed else 1000)
    store = make_store()
    store.create(layout.LAKE_FILE, lake.store.get(layout.LAKE_FILE))
    parts = [file for table in lake.log("shop").tables.values() for file in table.files]
    whole, damaged = parts[0], parts[-1]
    store.create(whole.path, lake.store.get(whole.path))
    content = bytearray(lake.store.get(damaged.path))
    content[7] ^= 1
    store.create(damaged.path, bytes(content))
    with pytest.raises(DamagedPartError, match="is there already") as caught:
        push(lake, make_store(), name="m")
    assert damaged.path in caught.value.message
    assert "--repair" in caught.value.hint
    assert make_store().get(damaged.path) == bytes(content)
    assert Lake.open(make_store()).sources() == ["fires"]
    assert verify(Lake.open(make_store())).errors == []
    store.delete(damaged.path)
    push(lake, make_store(), name="m")
    check_same(make_store(), lake)


@IN_MEMORY
def test_a_part_that_is_damaged_or_gone_here_is_not_pushed(lake: Lake, make_store: MakeStore) -> None:
    parts = lake.log("shop").tables["events"].files
    content = lake.store.get(parts[1].path)
    lake.store.put(parts[1].path, b"x" * len(content))
    with pytest.raises(DamagedPartError, match="was not copied"):
        push(lake, make_store(), name="m")
    lake.store.delete(parts[1].path)
    with pytest.raises(MissingPartError, match="no pack stands for it"):
        push(lake, make_store(), name="m")
    assert Lake.open(make_store()).log("shop").head == 1  # what comes before it is there
    failed = {each.source: each for each in push(lake, make_store(), name="m", raising=False).sources}
    assert isinstance(failed["shop"].error, MissingPartError)
    assert (failed["shop"].after.seq, failed["fires"].error) == (1, None)
    assert parts[1].path not in [entry.key for entry in make_store().list("shop/")]
    lake.store.put(parts[1].path, content)
    push(lake, make_store(), name="m")
    check_same(make_store(), lake)


@IN_MEMORY
def test_a_log_that_cannot_be_read_keeps_no_other_source_from_being_synced(
    lake: Lake, make_store: MakeStore, tmp_path: Path
) -> None:
    key = layout.log_key("fires", 1)
    content = lake.store.get(key)
    lake.store.put(key, content[:-9])
    shutil.rmtree(tmp_path / "lake" / "_derived", ignore_errors=True)
    with pytest.raises(TornCommitError):
        push(Lake.open(lake.store), make_store(), name="m")
    assert Lake.open(make_store()).sources() == ["shop"]
    states = {each.source: each for each in status(Lake.open(lake.store), make_store(), "m")}
    assert isinstance(states["fires"].error, TornCommitError)
    assert states["shop"].relation == "equal"
    lake.store.put(key, content)
    push(lake, make_store(), name="m")
    check_same(make_store(), lake)
    make_store().put(key, content[:-9])
    with pytest.raises(TornCommitError):
        copy(make_store(), LocalStore(tmp_path / "back"))
    assert Lake.open(tmp_path / "back").sources() == ["shop"]


@IN_MEMORY
def test_a_part_that_is_damaged_in_the_mirror_is_not_pulled(
    lake: Lake, make_store: MakeStore, tmp_path: Path
) -> None:
    push(lake, make_store(), name="m")
    store = make_store()
    part = lake.log("shop").tables["events"].files[2]
    store.put(part.path, b"x" * part.size_bytes)
    here = LocalStore(tmp_path / "empty")
    with pytest.raises(DamagedPartError, match="was not copied"):
        copy(make_store(), here)
    with pytest.raises(Absent):
        here.get(part.path)
    assert verify(Lake.open(here)).errors == []
    store.put(part.path, lake.store.get(part.path))
    copy(make_store(), here)
    check_same(here, lake)


@IN_MEMORY
def test_a_lake_that_was_packed_and_pruned_is_pushed_from_its_packs(
    lake: Lake, make_store: MakeStore, tmp_path: Path
) -> None:
    push(lake, make_store(), name="m")
    for number in range(5, 9):
        load(lake, number)
    pack(lake)
    prune(lake)
    push(lake, make_store(), name="m")
    check_same(make_store(), lake)
    fresh = MemoryStore()
    push(lake, fresh, name="fresh")
    check_same(fresh, lake, asked=True)
    assert verify(Lake.open(fresh)).superseded == []
    copy(make_store(), LocalStore(tmp_path / "back"))
    check_same(LocalStore(tmp_path / "back"), lake)


@IN_MEMORY
def test_log_packs_are_mirrored_where_the_log_files_fit(
    lake: Lake, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.logpack.WORTH", 2)
    push(lake, make_store(), name="m")
    load(lake, 5)
    push(lake, make_store(), name="m")
    made = pack_log(lake.store, lake.log("shop"))
    assert made is not None
    assert made.last == 4
    push(lake, make_store(), name="m")
    assert make_store().get(made.key) == lake.store.get(made.key)
    assert [file.first for file in listing(make_store(), "shop").files] == [1, 5]
    check_same(make_store(), lake)
    prune(lake)
    load(lake, 6)
    again = Asked(make_store())
    push(lake, again, name="m")  # type: ignore[arg-type]
    assert again.counts["create"] == 3
    check_same(make_store(), lake)


@IN_MEMORY
def test_a_limit_stops_with_a_whole_lake_and_the_next_push_goes_on(
    lake: Lake, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5, 9):
        load(lake, number)
    whole = push(lake, make_store(), name="m", dry_run=True)
    everything = sum(each.plan.size_bytes for each in whole.sources)
    assert not list(make_store().list(""))
    heads = []
    stuck = push(lake, make_store(), name="m", max_transfer=1, sources=["fires"])
    assert (stuck.stopped, stuck.sources[0].plan.next_loads, stuck.sources[0].loads) == (True, 5, 0)
    least = {"sources": ["fires"], "dry_run": True, "max_transfer": stuck.next_bytes}
    assert push(lake, make_store(), name="m", **least).sources[0].plan.loads == 5  # type: ignore[arg-type]
    for _ in range(20):
        report = push(lake, make_store(), name="m", max_transfer=everything // 3)
        assert report.size_bytes <= everything // 3
        assert verify(Lake.open(make_store())).errors == []
        heads.append(Lake.open(make_store()).log("shop").head)
        if not report.stopped:
            break
    assert heads == sorted(heads)
    assert len(heads) > 2
    check_same(make_store(), lake)


@IN_MEMORY
def test_tags_and_refused_loads_are_never_overwritten_and_not_brought_back(
    lake: Lake, make_store: MakeStore, tmp_path: Path
) -> None:
    push(lake, make_store(), name="m")
    other = Lake.open(shutil.copytree(tmp_path / "lake", tmp_path / "other"))
    tags.delete(other, "first")
    tags.create(other, "first", 1)
    tags.create(other, "FIRSTS", 1)
    report = push(other, make_store(), name="m")
    assert any("tag first" in text for text in report.conflicts)
    assert report.tags == ("FIRSTS",)
    assert tags.tags(Lake.open(make_store()))["first"] == tags.tags(lake)["first"]
    tags.create(lake, "firsts", 2)
    assert any("differs in case only" in text for text in push(lake, make_store(), name="m").conflicts)
    tags.delete(lake, "firsts")
    tags.delete(lake, "first")
    discard(lake, "empty")
    pulled = pull(lake, make_store(), name="m")
    assert pulled.tags == ("FIRSTS",)
    assert "first" not in tags.tags(lake)
    assert listed(lake) == []
    assert pulled.quarantined == ()


class AskedLocal(LocalStore):
    """A folder that notes how often it is asked, and how many bytes and names it says."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked = self.said = 0

    def get(self, key: str) -> bytes:
        content = super().get(key)
        self.asked, self.said = self.asked + 1, self.said + len(content)
        return content

    def list(self, prefix: str) -> Iterator[Entry]:
        for entry in super().list(prefix):
            self.said += 100
            yield entry


def written(root: Path, source: str, loads: int) -> None:
    """A log of so many loads without data, each in a file of its own."""
    (root / source / "_log").mkdir(parents=True)
    prev = ""
    for seq in range(1, loads + 1):
        at = START + timedelta(minutes=seq)
        commit = Commit(
            source=source, seq=seq, load_id=f"n-{seq}", prev=prev, observed_at=at, effective_at=at,
            committed_at=at, produced_by={"host": "x" * 200},
        )  # fmt: skip
        line = lines([commit], prev=prev)
        prev = digest_of(line[:-1])
        (root / layout.log_key(source, seq)).write_bytes(line)


def test_what_a_push_of_nothing_or_of_one_load_costs_does_not_grow_with_the_log(tmp_path: Path) -> None:
    cost = {}
    for loads in (600, 1800):
        root = tmp_path / f"lake{loads}"
        Lake.create(root)
        mirror = LocalStore(tmp_path / f"mirror{loads}")
        written(root, "s", loads)
        push(Lake.open(root), mirror, name="m")
        found = []
        for more in (False, True):
            if more:
                with Lake.open(root).load("s", observed_at=START + timedelta(days=9)) as one:
                    one.write("t", [{"n": 1}])
            store = AskedLocal(root)
            asked = Asked(mirror)
            push(Lake.open(store), asked, name="m")  # type: ignore[arg-type]
            assert asked.counts["list"] == (1 if more else 0)  # of log packs, when the log file was written
            found.append((asked.counts.total(), store.asked, store.said))
        assert found[0][0] == 2
        cost[loads] = found
    for few, many in zip(cost[600], cost[1800], strict=True):
        assert many[0] == few[0]
        assert many[1] <= few[1] + 20
        assert many[2] <= 2 * few[2]
