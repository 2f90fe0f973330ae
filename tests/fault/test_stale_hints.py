"""What is known of a mirror, and no longer so: an older copy of it, and logs that got longer by a log pack alone."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse import Lake, tags
from lakehouse.bulk import BulkLoad
from lakehouse.core.gates import OPEN
from lakehouse.errors import ForkError, QuarantinedError
from lakehouse.store import Entry, MemoryStore, Store
from sync.pull import pull
from sync.push import push, status
from sync.restore import restore

START = datetime(2026, 1, 1, tzinfo=UTC)
LAST = 10  # load of the lake that the logs are cut from


class Summed(MemoryStore):
    """A store that reports checksums, as those do of which hints are believed."""

    def stat(self, key: str) -> Entry:
        return Entry(key, super().stat(key).size_bytes, {"md5": hashlib.md5(self.get(key)).hexdigest()})  # noqa: S324

    def list(self, prefix: str) -> Iterator[Entry]:
        for entry in super().list(prefix):
            yield self.stat(entry.key)


def load(lake: Lake, n: int) -> None:
    with lake.load("shop", load_id=f"one-{n}", observed_at=START + timedelta(days=n), gates=OPEN) as one:
        one.write("products", [{"sku": "a", "price": n}], disposition="replace", primary_key="sku")


@pytest.fixture
def whole(tmp_path: Path) -> Store:
    """A mirror with two loads, and an import of eight as one log file, the last six of which changed nothing."""
    lake = Lake.create(tmp_path / "whole" / "lake")
    for n in (1, 2):
        load(lake, n)
    bulk = BulkLoad(lake, "shop", "products", key=["sku"])
    for n in range(3, LAST + 1):
        rows = [{"sku": "a", "price": min(n, 4) * 10}]
        bulk.observe(rows, observed_at=START + timedelta(days=n), load_id=f"bulk-{n}")
    bulk.flush()
    mirror = Summed()
    push(lake, mirror, name="whole")
    return mirror


def cut(whole: Store, place: Path, seq: int) -> Lake:
    restore(whole, place / "lake", as_of=seq)
    return Lake.open(place / "lake")


@pytest.mark.parametrize("mine", [2, 5], ids=["at the end of a file", "within a file"])
def test_a_mirror_that_got_a_longer_pack_is_pulled(mine: int, whole: Store, tmp_path: Path) -> None:
    here, other, mirror = cut(whole, tmp_path / "here", mine), cut(whole, tmp_path / "other", 7), Summed()
    push(here, mirror, name="m")
    push(other, mirror, name="m")
    assert here.query("select max(seq) from lakehouse.loads").fetchall() == [(mine,)]
    assert [source.after.seq for source in pull(here, mirror, name="m").sources] == [7]
    again = Lake.open(here.url)
    assert again.query("select price from shop.products").fetchall() == [(40,)]
    assert again.query("select max(seq) from lakehouse.loads").fetchall() == [(7,)]
    assert [found.relation for found in status(again, mirror, "m")] == ["equal"]


@pytest.mark.parametrize("mine", [2, 5], ids=["at the end of a file", "within a file"])
def test_a_push_to_a_mirror_that_got_a_longer_pack_finds_the_fork(
    mine: int, whole: Store, tmp_path: Path
) -> None:
    here, other, mirror = cut(whole, tmp_path / "here", mine), cut(whole, tmp_path / "other", 7), Summed()
    push(here, mirror, name="m")
    push(other, mirror, name="m")
    load(here, 20)
    with pytest.raises(ForkError):
        push(here, mirror, name="m")


def test_tags_and_refused_loads_that_an_older_copy_of_the_mirror_lacks_are_copied_again(
    tmp_path: Path,
) -> None:
    lake, mirror = Lake.create(tmp_path / "lake"), MemoryStore()
    for n in (1, 2):
        load(lake, n)
    push(lake, mirror, name="m")
    older = {entry.key: mirror.get(entry.key) for entry in mirror.list("")}
    load(lake, 3)
    tags.create(lake, "third", 3)
    with pytest.raises(QuarantinedError), lake.load("shop", load_id="refused") as one:
        one.write("products", [], disposition="replace", primary_key="sku")
    push(lake, mirror, name="m")
    newer = {entry.key for entry in mirror.list("")}
    for entry in list(mirror.list("")):
        mirror.delete(entry.key)
    for key, data in older.items():
        mirror.put(key, data)
    report = push(lake, mirror, name="m")
    assert report.tags == ("third",)
    assert {entry.key for entry in mirror.list("")} == newer
