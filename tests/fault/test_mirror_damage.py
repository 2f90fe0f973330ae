"""Mirrors that lost or changed what they hold: verifying names each object, repair mends from here, restore refuses."""

import hashlib
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from clouds import bucket_options

from lakehouse import Lake
from lakehouse.core import layout
from lakehouse.core.gates import OPEN
from lakehouse.errors import (
    DamagedPartError,
    ForkError,
    IntegrityError,
    LakehouseError,
    NoLakeError,
    QuarantinedError,
    UserError,
)
from lakehouse.logpack import listing, raw_lines
from lakehouse.logpack import packed as pack_lines
from lakehouse.pack import pack
from lakehouse.prune import prune
from lakehouse.retention import expire, parse
from lakehouse.store import LocalStore, MemoryStore, Store
from lakehouse.store.remote import FsspecStore
from lakehouse.tags import create, delete
from lakehouse.verify import verify
from sync import hints, pull
from sync.check import MirrorReport, verify_mirror
from sync.push import push
from sync.repair import repair
from sync.restore import restore
from sync.sweep import sweep

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")

START = datetime(2026, 1, 1, tzinfo=UTC)


def load(lake: Lake, n: int, source: str = "shop") -> None:
    with lake.load(source, load_id=f"{source}-{n}", observed_at=START + timedelta(days=n), gates=OPEN) as one:
        rows = [{"sku": f"s{i}", "price": i * n % 7} for i in range(n % 3, 6)]
        one.write("products", rows, disposition="replace", primary_key="sku")


def grown(place: Path) -> Lake:
    """Two sources, four loads of `shop` that were synced as they came, a tag, a refused load."""
    lake = Lake.create(place)
    for n in range(1, 5):
        load(lake, n)
    load(lake, 1, "news")
    create(lake, "first", 1)
    with pytest.raises(QuarantinedError), lake.load("shop", load_id="refused") as one:
        one.write("products", [], disposition="replace", primary_key="sku")
    return lake


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "lake"
    grown(folder)
    return folder


@pytest.fixture
def lake(template: Path, tmp_path: Path) -> Lake:
    return Lake.open(shutil.copytree(template, tmp_path / "lake"))


def synced(lake: Lake, mirror: Store) -> None:
    """Synced load by load, so that each has a log file of its own in the mirror."""
    heads = {source: lake.log(source).head for source in lake.sources()}
    for n in range(1, max(heads.values()) + 1):
        pull.copy(lake.store, mirror, until={source: min(n, head) for source, head in heads.items()})
    push(lake, mirror, name="m")


@pytest.fixture
def mirror(lake: Lake) -> Store:
    store = MemoryStore()
    synced(lake, store)
    return store


@pytest.fixture
def bucket(gcs_server: str, lake: Lake) -> Store:
    """A mirror that reports checksums."""
    store = FsspecStore(f"gs://lakes/damage-{uuid4().hex[:12]}", **bucket_options("gcs", gcs_server))
    synced(lake, store)
    return store


def content(store: Store) -> dict[str, str]:
    return {e.key: hashlib.sha256(store.get(e.key)).hexdigest() for e in store.list("")}


def seen(report: MirrorReport) -> set[tuple[str, str]]:
    return {(problem.key, problem.fault) for problem in report.problems}


def part(lake: Lake, seq: int = 2) -> str:
    return lake.log("shop").commits[seq - 1].tables["products"].parts[0].path


Damage = Callable[[Store, str], None]


def flipped(store: Store, key: str) -> None:
    data = bytearray(store.get(key))
    data[len(data) // 2] ^= 1
    store.put(key, bytes(data))


def cut_off(store: Store, key: str) -> None:
    store.put(key, store.get(key)[:-9])


def deleted(store: Store, key: str) -> None:
    store.delete(key)


def longer(store: Store, key: str) -> None:
    store.put(key, store.get(key) + b"more")


DAMAGES: list[tuple[Damage, str]] = [
    (flipped, "damaged"),
    (cut_off, "truncated"),
    (deleted, "missing"),
    (longer, "damaged"),
]
OBJECTS: dict[str, Callable[[Lake], str]] = {
    "part": part,
    "first log file": lambda _: layout.log_key("shop", 1),
    "log file": lambda _: layout.log_key("shop", 2),
    "newest log file": lambda _: layout.log_key("shop", 4),
    "tag": lambda _: layout.tag_key("first"),
    "refused load": lambda _: f"{layout.quarantine_prefix('shop', 'refused')}load.json",
    "lake": lambda _: layout.LAKE_FILE,
}


@pytest.mark.parametrize(
    ("what", "damage", "fault"),
    [(what, *each) for what in OBJECTS for each in DAMAGES if (what, each[0]) != ("lake", flipped)],
)
def test_each_object_is_named_and_mended(
    what: str, damage: Damage, fault: str, lake: Lake, bucket: Store
) -> None:
    whole, key = content(bucket), OBJECTS[what](lake)
    damage(bucket, key)
    if what == "lake" and damage is longer:
        bucket.put(key, b"[" * 60_000)
    report = verify_mirror(lake, bucket, name="m")
    ((named, found),) = seen(report)
    assert named == key
    assert found == fault or (what in {"tag", "lake"} and found in {"damaged", "other"})
    assert key in report.errors[0].message
    assert report.errors[0].hint
    done = repair(lake, bucket, report)
    if found == "other":  # it reads as a tag: nobody can say which of the two is right
        assert (done.mended, len(done.lost)) == ([], 1)
        return
    assert (done.mended, done.lost) == ([key], [])
    assert content(bucket) == whole
    assert verify_mirror(lake, bucket, name="m").problems == []


def test_all_at_once_is_mended_and_restored(lake: Lake, bucket: Store, tmp_path: Path) -> None:
    whole = content(bucket)
    for number, key in enumerate(whole):
        damage = deleted if number % 2 or key == layout.LAKE_FILE else flipped
        damage(bucket, key)
    report = verify_mirror(lake, bucket, name="m")
    gone = [problem.key for problem in report.problems]
    assert set(gone) >= {key for key in whole if "/products/" in key or "_quarantine" in key}
    assert (
        sum("/_log/" in key for key in gone) >= 4
    )  # a file that is gone may be held to be the end of another
    assert repair(lake, bucket, report).lost == []
    assert verify_mirror(lake, bucket, name="m").problems == []
    assert verify_mirror(None, bucket, name="m", deep=True).problems == []
    restore(bucket, tmp_path / "new" / "lake")
    assert verify(Lake.open(tmp_path / "new" / "lake")).errors == []


def test_a_whole_mirror_is_proven_by_the_checksums_of_its_store(lake: Lake, bucket: Store) -> None:
    report = verify_mirror(lake, bucket, name="m")
    assert (report.problems, report.orphans, report.superseded) == ([], [], [])
    assert (report.proven, report.by_size) == (5, 0)
    known = hints.load(lake.store, "m", lake_id=lake.id, url=bucket.url)
    assert all(known.sources[source].verified_at for source in ("shop", "news"))


def test_what_only_its_size_speaks_for_is_not_called_proven(lake: Lake, mirror: Store) -> None:
    report = verify_mirror(lake, mirror, name="m")
    assert (report.problems, report.proven, report.by_size) == ([], 0, 5)
    assert report.why == {"the store reports no checksums": 5}
    known = hints.load(lake.store, "m", lake_id=lake.id, url=mirror.url)
    assert not any(about.verified_at for about in known.sources.values())
    flipped(mirror, part(lake))
    assert verify_mirror(lake, mirror, name="m").problems == []  # as large as it was
    deep = verify_mirror(lake, mirror, name="m", deep=True)
    assert seen(deep) == {(part(lake), "damaged")}
    assert (deep.proven, deep.by_size) == (4, 0)
    assert repair(lake, mirror, deep).mended == [part(lake)]
    assert verify_mirror(lake, mirror, name="m", deep=True).problems == []
    known = hints.load(lake.store, "m", lake_id=lake.id, url=mirror.url)
    assert all(about.verified_at for about in known.sources.values())


@pytest.mark.parametrize("what", ["part", "log file", "tag", "refused load", "lake"])
def test_what_was_verified_is_forgotten_where_it_is_damaged(what: str, lake: Lake, mirror: Store) -> None:
    def verified() -> set[str]:
        known = hints.load(lake.store, "m", lake_id=lake.id, url=mirror.url)
        return {source for source, about in known.sources.items() if about.verified_at}

    verify_mirror(lake, mirror, name="m", deep=True)
    verify_mirror(lake, mirror, name="m")  # by size only: neither proves nor refutes
    assert verified() == {"news", "shop"}
    key = OBJECTS[what](lake)
    (deleted if what == "lake" else cut_off)(mirror, key)
    assert seen(verify_mirror(lake, mirror, name="m"))
    assert verified() == (set() if what in {"tag", "lake"} else {"news"})
    for entry in list(mirror.list("")):
        mirror.delete(entry.key)
    with pytest.raises(NoLakeError):
        verify_mirror(lake, mirror, name="m")
    assert not verified()


@pytest.mark.parametrize("what", ["part", "first log file", "newest log file"])
def test_what_is_damaged_in_the_mirror_is_to_be_mended_there(what: str, lake: Lake, mirror: Store) -> None:
    flipped(mirror, OBJECTS[what](lake))
    for name in ("m", ""):
        errors = verify_mirror(lake, mirror, name=name, deep=True).errors
        assert errors
        for error in errors:
            assert error.hint.endswith(f"lakehouse sync {name or 'NAME'} --repair")
    if what == "newest log file":
        for sync in (push, pull.pull):
            with pytest.raises(IntegrityError) as caught:
                sync(lake, mirror, name="m")
            assert caught.value.hint.endswith("lakehouse sync m --repair")


def test_a_folder_of_which_only_sizes_were_compared_is_not_called_verified(
    lake: Lake, tmp_path: Path
) -> None:
    folder = LocalStore(tmp_path / "mirror")
    push(lake, folder, name="m")
    for deep in (False, True):
        verify_mirror(lake, folder, name="m", deep=deep)
        known = hints.load(lake.store, "m", lake_id=lake.id, url=folder.url)
        assert all(bool(about.verified_at) == deep for about in known.sources.values())


def test_what_is_not_here_is_not_called_proven(lake: Lake, bucket: Store) -> None:
    (Path(lake.url) / part(lake)).unlink()
    flipped(LocalStore(lake.url), part(lake, 3))
    report = verify_mirror(lake, bucket, name="m")
    assert (report.problems, report.proven, report.by_size) == ([], 3, 2)
    assert report.why == {"the bytes are not here": 1, "the bytes here are damaged": 1}


def test_a_mirror_speaks_for_itself_without_a_lake(lake: Lake, bucket: Store) -> None:
    assert verify_mirror(None, bucket, name="m").by_size == 5
    assert verify_mirror(None, bucket, name="m", deep=True).proven == 5
    flipped(bucket, part(lake))
    assert seen(verify_mirror(None, bucket, name="m", deep=True)) == {(part(lake), "damaged")}
    with pytest.raises(NoLakeError):
        verify_mirror(None, MemoryStore(), name="m")


def test_one_too_many_is_named_and_left_alone(lake: Lake, mirror: Store) -> None:
    mirror.put("shop/products/lake_load=00000009/0123.parquet", b"what is this")
    report = verify_mirror(lake, mirror, name="m")
    assert (report.problems, report.orphans) == ([], ["shop/products/lake_load=00000009/0123.parquet"])


def test_a_mirror_of_another_lake_is_refused(mirror: Store, tmp_path: Path) -> None:
    other = Lake.create(tmp_path / "other")
    with pytest.raises(UserError, match="another lake"):
        verify_mirror(other, mirror, name="m")


def test_another_history_is_not_mended_over(lake: Lake, mirror: Store, tmp_path: Path) -> None:
    other = Lake.open(shutil.copytree(lake.url, tmp_path / "laptop"))
    load(lake, 7)
    load(other, 8)
    push(other, mirror, name="m")
    whole = content(mirror)
    report = verify_mirror(lake, mirror, name="m")
    assert [(p.key, p.fault) for p in report.problems] == [(layout.log_key("shop", 5), "forked")]
    assert isinstance(report.errors[0], ForkError)
    done = repair(lake, mirror, report)
    assert done.mended == []
    assert "both sides" in str(done.lost[0])
    assert content(mirror) == whole


@pytest.mark.parametrize("more", [1, 2, 3])
@pytest.mark.parametrize("synced_here", [False, True], ids=["unknown", "ours before"])
@pytest.mark.parametrize("packed", [False, True], ids=["files", "pack"])
def test_what_others_loaded_on_top_of_an_older_log_is_not_mended_over(
    more: int, synced_here: bool, packed: bool, lake: Lake, mirror: Store
) -> None:
    """Several log files of another history, also where a copy of before took the place of the mirror."""
    for n in (5, 6):
        load(lake, n)
    if synced_here:  # as files of one load each, or of both
        before = {entry.key: mirror.get(entry.key) for entry in mirror.list("")}
        push(lake, mirror, name="m")
        for entry in list(mirror.list("")):
            mirror.delete(entry.key)
        for key, data in before.items():
            mirror.put(key, data)
    worker = Lake.open(mirror)
    for n in range(1, more + 1):
        with worker.load(
            "shop", load_id=f"worker-{n}", observed_at=START + timedelta(days=9 + n), gates=OPEN
        ) as one:
            one.write("products", [{"sku": "s1", "price": n}], disposition="replace", primary_key="sku")
    if packed:
        files = listing(mirror, "shop").files
        text = b"".join(raw_lines(mirror, file) for file in files[:-1])
        last = files[-1].first - 1
        mirror.put(layout.log_pack_key("shop", 1, last), pack_lines(text))
        for file in files[:-1]:
            mirror.delete(file.key)
    whole = content(mirror)
    report = verify_mirror(lake, mirror, name="m")
    assert [(p.what, p.fault) for p in report.problems] == [("log", "forked")]
    assert repair(lake, mirror, report).mended == []
    assert content(mirror) == whole
    with pytest.raises(ForkError):
        push(lake, mirror, name="m")


def test_a_log_file_that_others_write_while_it_is_mended_stays(lake: Lake, mirror: Store) -> None:
    mirror.delete(layout.log_key("shop", 4))
    report = verify_mirror(lake, mirror, name="m")
    assert seen(report) == {(layout.log_key("shop", 4), "missing")}
    load(Lake.open(mirror), 9)
    whole = content(mirror)
    assert "meanwhile" in str(repair(lake, mirror, report).lost[0])
    assert content(mirror) == whole


def test_an_older_generation_of_the_newest_log_file_is_named(lake: Lake, mirror: Store) -> None:
    """A bucket gave an object of before back: lines are gone that were there."""
    key = layout.log_key("shop", 5)
    for n in (5, 6):
        load(lake, n)
    push(lake, mirror, name="m")
    lines = mirror.get(key)
    assert lines.count(b"\n") == 2
    mirror.put(key, lines[: lines.index(b"\n") + 1])
    report = verify_mirror(lake, mirror, name="m")
    assert seen(report) == {(key, "truncated")}
    assert repair(lake, mirror, report).lost == []
    assert mirror.get(key) == lines


@pytest.mark.parametrize("name", ["load.json", "products.parquet"])
def test_a_refused_load_is_not_mended_with_bytes_that_are_damaged_here(
    name: str, lake: Lake, mirror: Store
) -> None:
    whole = content(mirror)
    key = f"{layout.quarantine_prefix('shop', 'refused')}{name}"
    cut_off(lake.store, key)
    report = verify_mirror(lake, mirror, name="m")
    assert [problem.key for problem in report.problems] == [key]
    done = repair(lake, mirror, report)
    assert (done.mended, content(mirror)) == ([], whole)
    assert "damaged" in str(done.lost[0])


def test_another_refused_load_of_the_same_id_is_not_mended_over(lake: Lake, mirror: Store) -> None:
    whole = content(mirror)
    with pytest.raises(QuarantinedError), lake.load("shop", load_id="refused") as one:
        one.write("products", [], disposition="replace", primary_key="sku")
    report = verify_mirror(lake, mirror, name="m")
    assert {problem.fault for problem in report.problems} == {"other"}
    assert repair(lake, mirror, report).mended == []
    assert content(mirror) == whole


def test_what_neither_side_has_is_lost_and_said(lake: Lake, mirror: Store, tmp_path: Path) -> None:
    lost = part(lake, 3)
    deleted(mirror, lost)
    (Path(lake.url) / lost).unlink()
    report = verify_mirror(lake, mirror, name="m")
    assert seen(report) == {(lost, "missing")}
    done = repair(lake, mirror, report)
    assert done.mended == []
    assert "not here either" in str(done.lost[0])
    assert lost in str(done.lost[0])


@pytest.mark.parametrize("damage", [flipped, cut_off, deleted, longer])
@pytest.mark.parametrize("what", ["part", "log file"])
def test_restore_refuses_and_says_what_is_lost_and_what_is_not(
    what: str, damage: Damage, lake: Lake, mirror: Store, tmp_path: Path
) -> None:
    key = {"part": part(lake, 3), "log file": layout.log_key("shop", 3)}[what]
    damage(mirror, key)
    with pytest.raises(IntegrityError) as caught:
        restore(mirror, tmp_path / "new")
    assert key in str(caught.value)
    assert "--source news" in caught.value.hint
    assert "--source shop --as-of 2" in caught.value.hint
    half = Lake.open(tmp_path / "new")
    assert verify(half).errors == []
    assert half.log("news").head == 1
    assert half.log("shop").head < 3
    restore(mirror, tmp_path / "news", sources=["news"])
    assert verify(Lake.open(tmp_path / "news")).errors == []
    report = restore(mirror, tmp_path / "shop", sources=["shop"], as_of=2)
    assert [source.head for source in report.sources] == [2]
    assert verify(Lake.open(tmp_path / "shop")).errors == []
    repair(lake, mirror, verify_mirror(lake, mirror, name="m", deep=True))
    restore(mirror, tmp_path / "new")
    assert Lake.open(tmp_path / "new").log("shop").digest == lake.log("shop").digest


@pytest.mark.parametrize("as_of", [None, START + timedelta(days=9)], ids=["all", "a moment"])
def test_restore_names_each_damaged_source_and_calls_none_of_them_whole(
    as_of: datetime | None, lake: Lake, mirror: Store, tmp_path: Path
) -> None:
    load(lake, 1, "june")
    push(lake, mirror, name="m")
    damaged = {"news": layout.log_key("news", 1), "shop": part(lake, 3)}
    if as_of:
        damaged["shop"] = layout.log_key("shop", 3)
    cut_off(mirror, damaged["news"])
    deleted(mirror, damaged["shop"])
    with pytest.raises(IntegrityError) as caught:
        restore(mirror, tmp_path / "new", as_of=as_of)
    for key in damaged.values():
        assert key in str(caught.value)
    assert "--source june" in caught.value.hint
    assert "--source news" not in caught.value.hint
    assert caught.value.hint.count("--source shop") == 1
    assert "--source shop --as-of 2" in caught.value.hint
    assert ("whole: june" in caught.value.hint) == (as_of is None)


def test_a_pull_from_a_damaged_mirror_leaves_an_older_lake(lake: Lake, mirror: Store, tmp_path: Path) -> None:
    restore(mirror, tmp_path / "b" / "lake", as_of=1)
    follower = Lake.open(tmp_path / "b" / "lake")
    flipped(mirror, part(lake, 3))
    with pytest.raises(DamagedPartError, match=part(lake, 3).rsplit("/", 1)[1]):
        pull.pull(follower, mirror, name="m")
    assert verify(follower).errors == []
    assert follower.log("news").head == 1


# Pruning there.


def packed(lake: Lake) -> None:
    pack(lake)
    prune(lake)


def test_a_swept_mirror_holds_what_packs_stand_for_no_more(lake: Lake, bucket: Store, tmp_path: Path) -> None:
    packed(lake)
    push(lake, bucket, name="m")
    old = [part(lake, seq) for seq in range(1, 5)]
    assert set(verify_mirror(lake, bucket, name="m").superseded) == set(old)
    dry = sweep(lake, bucket, name="m", dry_run=True)
    assert {key for report in dry for key in report.parts} == set(old)
    assert bucket.get(old[0])
    assert sweep(lake, bucket, name="m") == dry
    report = verify_mirror(lake, bucket, name="m")
    assert (report.problems, report.superseded, report.orphans) == ([], [], [])
    restore(bucket, tmp_path / "new")
    assert verify(Lake.open(tmp_path / "new")).errors == []
    assert sweep(lake, bucket, name="m")[1].parts == ()


@pytest.mark.parametrize("damage", [flipped, cut_off, deleted])
@pytest.mark.parametrize("place", ["bucket", "mirror"])
def test_nothing_is_swept_in_favour_of_a_pack_that_is_damaged(
    place: str, damage: Damage, lake: Lake, request: pytest.FixtureRequest
) -> None:
    store: Store = request.getfixturevalue(place)
    packed(lake)
    push(lake, store, name="m")
    (file,) = lake.log("shop").tables["products"].files
    damage(store, file.path)
    whole = content(store)
    with pytest.raises(DamagedPartError, match="were not"):
        sweep(lake, store, name="m")
    assert content(store) == whole


def test_a_mirror_that_is_ahead_is_not_swept(lake: Lake, mirror: Store, tmp_path: Path) -> None:
    other = Lake.open(shutil.copytree(lake.url, tmp_path / "laptop"))
    pack(other)
    push(other, mirror, name="m")
    whole = content(mirror)
    with pytest.raises(LakehouseError, match="commits that are not here"):
        sweep(lake, mirror, name="m")
    assert content(mirror) == whole


def test_what_a_tag_of_another_machine_names_is_not_swept(lake: Lake, mirror: Store, tmp_path: Path) -> None:
    for n in (5, 6, 7):
        load(lake, n)
    push(lake, mirror, name="m")
    restore(mirror, tmp_path / "other" / "lake")
    other = Lake.open(tmp_path / "other" / "lake")
    create(other, "theirs", 6)
    push(other, mirror, name="m")
    then = other.query("select * from shop.products order by sku", as_of="theirs").fetchall()
    expire(lake, "shop", parse("keep weekly after 0 days"), now=START + timedelta(days=30))
    assert lake.log("shop").is_expired(6)
    push(lake, mirror, name="m")
    whole = content(mirror)
    with pytest.raises(UserError, match="theirs") as caught:
        sweep(lake, mirror, name="m")
    assert content(mirror) == whole
    assert "--as-of 7" in (caught.value.hint or "")
    restore(mirror, tmp_path / "back" / "lake", as_of=7, sources=["shop"])
    back = Lake.open(tmp_path / "back" / "lake")
    assert back.query("select * from shop.products order by sku", as_of=6).fetchall() == then
    delete(Lake.open(mirror), "theirs")
    assert sweep(lake, mirror, name="m")[-1].parts
