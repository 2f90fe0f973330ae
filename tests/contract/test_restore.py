"""A lake from a mirror in any store: as it is now, as of any moment, one source of it, in several goes."""

import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse import Lake, logpack
from lakehouse.bulk import BulkLoad
from lakehouse.core import layout
from lakehouse.errors import NotFoundError, UserError
from lakehouse.pack import pack
from lakehouse.prune import prune
from lakehouse.retention import expire, parse
from lakehouse.store import LocalStore, MemoryStore, Store
from lakehouse.tags import create
from lakehouse.verify import verify
from sync import pull
from sync.push import push
from sync.restore import restore

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")

START = datetime(2026, 1, 1, tzinfo=UTC)
State = list[tuple[Any, ...]]


def day(n: int) -> datetime:
    return START + timedelta(days=n)


def shop_load(lake: Lake, n: int) -> None:
    with lake.load("shop", load_id=f"shop-{n}", observed_at=day(n)) as load:
        rows = [{"sku": f"s{i}", "price": i * n % 7} for i in range(n % 5, 8)]
        load.write("products", rows, disposition="replace", primary_key="sku")
        load.write("log", [{"n": n}], disposition="append")


def imported(lake: Lake, source: str = "fires", days: range = range(1, 6), still: int = 6) -> None:
    """Loads in one log file: some with rows, all in one part, then some that found nothing new."""
    load = BulkLoad(lake, source, "fires", key=["id"])
    for n in days:
        rows = [{"id": i, "acres": i * n} for i in range(n % 3, 6)]
        load.observe(rows, observed_at=day(n), load_id=f"import-{n}")
    for n in range(days.stop, days.stop + still):
        load.unchanged(observed_at=day(n), load_id=f"import-{n}")
    load.flush()


def grown(place: Path | Store) -> Lake:
    lake = Lake.create(place)
    for n in range(1, 7):
        shop_load(lake, n)
    imported(lake)
    create(lake, "third", day(3))
    return lake


def states(lake: Lake, table: str, positions: Iterable[int]) -> State:
    """A table as of some positions of its log."""
    each = [f"select {n} as n, * from {table}_at({n})" for n in positions]
    return lake.query(f"{' union all '.join(each)} order by all").fetchall()


def assert_same(one: Lake, two: Lake, heads: dict[str, int], *, told: Iterable[int] | None = None) -> None:
    """Both tell the same at every position up to the heads, and the second is whole."""
    for source, head in heads.items():
        assert two.log(source).head == head
        assert two.log(source).digest == one.log(source).digest_at(head)
        for table in two.log(source).tables:
            positions = range(head + 1) if told is None else told
            assert states(two, f"{source}.{table}", positions) == states(one, f"{source}.{table}", positions)
    report = verify(two)
    assert (report.errors, report.orphans) == ([], [])


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "lake"
    grown(folder)
    return folder


@pytest.fixture
def lake(template: Path, tmp_path: Path) -> Lake:
    return Lake.open(shutil.copytree(template, tmp_path / "origin" / "lake"))


@pytest.fixture
def mirror(store: Store, lake: Lake) -> Store:
    push(lake, store, name="m")
    return store


@pytest.fixture
def beside(lake: Lake, tmp_path: Path) -> Store:
    """A mirror in a folder."""
    mirror = LocalStore(tmp_path / "mirror")
    push(lake, mirror, name="m")
    return mirror


def test_an_empty_folder_becomes_the_lake(mirror: Store, lake: Lake, tmp_path: Path) -> None:
    seen: list[int] = []
    report = restore(mirror, tmp_path / "new" / "lake", progress=lambda p: seen.append(p.files))
    restored = Lake.open(tmp_path / "new" / "lake")
    assert restored.id == lake.id == report.lake_id
    assert {s.source: (s.head, s.wanted, s.because) for s in report.sources} == {
        "fires": (11, 11, ""),
        "shop": (6, 6, ""),
    }
    assert seen == sorted(seen)
    assert len(seen) == report.files > 6
    assert_same(lake, restored, {"shop": 6, "fires": 11})
    assert restored.query("select count(*) from fires.fires", as_of="third").fetchall() == [(6,)]
    assert (report.tags, report.skipped, report.conflicts) == (("third",), (), ())
    assert (tmp_path / "new" / "lakehouse.duckdb").exists()
    assert not report.broken


@pytest.mark.parametrize(
    "as_of", [day(4), "2026-01-05T12:00:00Z", 4, "4"], ids=["instant", "text", "number", "digits"]
)
def test_as_of_a_moment_each_log_ends_there(as_of: Any, beside: Store, lake: Lake, tmp_path: Path) -> None:
    report = restore(beside, tmp_path / "then", as_of=as_of, sources=["shop"])
    assert [(s.source, s.head, s.wanted) for s in report.sources] == [("shop", 4, 4)]
    then = Lake.open(tmp_path / "then")
    assert then.sources() == ["shop"]
    assert_same(lake, then, {"shop": 4})
    assert report.skipped == ("third",)  # it names loads of a source that is not there
    shop_load(then, 7)
    assert then.log("shop").head == 5
    assert verify(then).errors == []


def test_as_of_a_tag(beside: Store, lake: Lake, tmp_path: Path) -> None:
    report = restore(beside, tmp_path / "then", as_of="third")
    # the import wrote the rows of five loads into one part: its log may not end before the fifth
    assert {s.source: (s.head, s.wanted) for s in report.sources} == {"fires": (5, 3), "shop": (3, 3)}
    assert [s.source for s in report.later] == ["fires"]
    assert "holds rows of later loads too" in report.later[0].because
    then = Lake.open(tmp_path / "then")
    assert_same(lake, then, {"shop": 3, "fires": 5})
    assert report.tags == ("third",)
    assert then.query("select count(*) from shop.log", as_of="third").fetchall() == [(3,)]


def test_a_file_of_many_loads_is_cut_byte_for_byte(beside: Store, lake: Lake, tmp_path: Path) -> None:
    report = restore(beside, tmp_path / "then", as_of=8, sources=["fires"])
    assert [(s.head, s.wanted, s.because) for s in report.sources] == [(8, 8, "")]
    here = LocalStore(tmp_path / "then")
    files = logpack.listing(here, "fires")
    assert [file.key for file in files.files] == [layout.log_pack_key("fires", 1, 8)]
    assert not files.covered
    whole = lake.store.get(layout.log_key("fires", 1))
    assert whole.startswith(logpack.raw_lines(here, files.files[0]))
    assert_same(lake, Lake.open(here), {"fires": 8})


@pytest.fixture
def cut(lake: Lake, tmp_path: Path) -> Lake:
    """A lake whose source `fires` is one pack and no numbered file."""
    restore(lake.store, tmp_path / "cut" / "lake", as_of=8)
    return Lake.open(tmp_path / "cut" / "lake")


def test_a_log_that_was_cut_takes_loads_and_is_packed_and_pruned(cut: Lake, lake: Lake) -> None:
    old = states(lake, "fires.fires", range(9))
    for n in range(12, 12 + 2 * logpack.WORTH):
        with cut.load("fires", load_id=f"more-{n}", observed_at=day(n)) as load:
            if n % 4 == 0:
                rows = [{"id": i, "acres": i * n} for i in range(6)]
                load.write("fires", rows, disposition="replace", primary_key="id")
    head = cut.log("fires").head
    now = cut.query("select * from fires.fires order by all").fetchall()
    assert pack(cut)
    assert logpack.packed_until(cut.store, "fires") > 8
    prune(cut)
    again = Lake.open(cut.url)
    assert again.log("fires").head == head + 1
    assert states(again, "fires.fires", range(9)) == old
    assert again.query("select * from fires.fires order by all").fetchall() == now
    report = verify(again)
    assert (report.errors, report.orphans, report.superseded) == ([], [], [])


def test_a_log_that_was_cut_is_mirrored(cut: Lake, lake: Lake, make_store: Callable[[], Store]) -> None:
    push(cut, make_store(), name="m")
    assert_same(lake, Lake.open(make_store()), {"shop": 6, "fires": 8})
    imported(cut, days=range(12, 14))
    push(cut, make_store(), name="m")
    assert_same(cut, Lake.open(make_store()), {"shop": 6, "fires": 16})


def test_a_log_that_was_cut_is_mirrored_with_what_came_after(cut: Lake) -> None:
    store = MemoryStore()
    imported(cut, days=range(12, 14))
    push(cut, store, name="m")
    assert_same(cut, Lake.open(store), {"shop": 6, "fires": 16})


def test_a_lake_that_was_cut_follows_its_mirror(cut: Lake, beside: Store, lake: Lake) -> None:
    pull.pull(cut, beside, name="m")
    assert_same(lake, cut, {"shop": 6, "fires": 11})


def test_restored_again_with_a_later_moment_it_goes_on(beside: Store, lake: Lake, tmp_path: Path) -> None:
    for as_of, head in ((7, 7), (9, 9), (None, 11)):
        report = restore(beside, tmp_path / "then", as_of=as_of)
        assert {s.source: s.head for s in report.sources} == {"fires": head, "shop": 6}
        assert_same(lake, Lake.open(tmp_path / "then"), {"fires": head, "shop": 6})
    with pytest.raises(UserError, match="more than load 9 that was asked for"):
        restore(beside, tmp_path / "then", as_of=9)


def test_what_was_packed_and_pruned_there_needs_the_log_up_to_its_pack(lake: Lake, tmp_path: Path) -> None:
    store = MemoryStore()
    before = states(lake, "shop.log", range(7))
    pack(lake)
    prune(lake)
    shop_load(lake, 8)
    push(lake, store, name="m")
    report = restore(store, tmp_path / "then", as_of=4, sources=["shop"])
    (shop,) = report.sources
    assert (shop.head, shop.wanted) == (7, 4)
    assert shop.because == (
        "a part of load 4 was packed later and pruned, and load 7 is the first that has the pack"
    )
    then = Lake.open(tmp_path / "then")
    assert states(then, "shop.log", range(7)) == before
    assert verify(then).errors == []


class LineCutError(Exception):
    """The line went dead."""


class Failing:
    """The line goes dead after the n-th file."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, progress: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise LineCutError


def test_interrupted_at_any_file_it_is_an_older_lake_and_goes_on(lake: Lake, tmp_path: Path) -> None:
    mirror = MemoryStore()
    push(lake, mirror, name="m")
    for as_of, heads in ((None, {"shop": 6, "fires": 11}), (8, {"shop": 6, "fires": 8})):
        files = restore(mirror, tmp_path / f"whole-{as_of}", as_of=as_of).files
        assert files > 10
        for at in range(2, files + 1, 6):
            folder = tmp_path / f"cut-{as_of}-{at}"
            with pytest.raises(LineCutError):
                restore(mirror, folder, as_of=as_of, progress=Failing(at))
            half = Lake.open(folder)
            assert verify(half).errors == []
            for source in half.sources():
                head = half.log(source).head
                assert half.log(source).digest == lake.log(source).digest_at(head)
            restore(mirror, folder, as_of=as_of)
            assert_same(lake, Lake.open(folder), heads)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def other_lake(folder: Path) -> None:
    grown(folder)


def letters(folder: Path) -> None:
    (folder / "letters").mkdir(parents=True)
    (folder / "letters" / "a.txt").write_text("dear")


def a_file(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("not a folder")


@pytest.mark.parametrize("there", [other_lake, letters, a_file])
def test_a_place_that_holds_something_else_is_refused_and_left_alone(
    there: Callable[[Path], None], lake: Lake, tmp_path: Path
) -> None:
    folder = tmp_path / "taken" / "lake"
    there(folder)
    before = files_in(folder.parent)
    with pytest.raises(UserError) as caught:
        restore(lake.store, folder)
    assert "empty" in caught.value.hint
    assert files_in(folder.parent) == before


def test_the_mirror_itself_is_no_place(lake: Lake) -> None:
    for folder in (lake.url, f"{lake.url}/shop/within"):
        with pytest.raises(UserError, match="is the mirror itself"):
            restore(lake.url, folder)
    assert not Path(lake.url, "shop/within").exists()


def test_what_is_not_there_is_said(beside: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no source 'news'"):
        restore(beside, tmp_path / "new", sources=["news"])
    with pytest.raises(NotFoundError, match="the longest log ends at 11"):
        restore(beside, tmp_path / "new", as_of=12)
    assert not (tmp_path / "new").exists() or not files_in(tmp_path / "new")


def test_an_expired_state_is_not_restored(tmp_path: Path) -> None:
    store = MemoryStore()
    lake = Lake.create(tmp_path / "origin")
    for n in range(1, 7):
        shop_load(lake, n)
    expire(lake, "shop", parse("keep yearly after 1 hour"), now=day(9999))
    prune(lake)
    push(lake, store, name="m")
    with pytest.raises(NotFoundError, match="as of load 3 is expired"):
        restore(store, tmp_path / "then", as_of=3)
    restore(store, tmp_path / "now")
    assert_same(lake, Lake.open(tmp_path / "now"), {"shop": 7}, told=[7])
