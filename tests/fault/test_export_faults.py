"""Exports that are killed, raced, or meet damage: what engines read is always some whole state."""

import errno
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import exported
import pyarrow as pa
import pytest
from fault_processes import Child, kill_now
from pyiceberg.table import StaticTable

from lakehouse import Lake
from lakehouse.core.gates import OPEN
from lakehouse.errors import MissingPartError, UserError
from lakehouse.export.delta import export_delta
from lakehouse.export.iceberg import export_iceberg
from lakehouse.pack import everything, pack
from lakehouse.prune import prune
from lakehouse.store import LocalStore

EXPORTS: dict[str, Callable[..., Any]] = {"delta": export_delta, "iceberg": export_iceberg}
START = datetime(2026, 1, 1, tzinfo=UTC)
LOADS = 6
both = pytest.mark.parametrize("kind", EXPORTS)


@pytest.fixture(scope="module")
def six_loads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six loads, of a table that is added to and of one with a key."""
    lake = Lake.create(tmp_path_factory.mktemp("six") / "lake")
    for n in range(LOADS):
        with lake.load("s", observed_at=START + timedelta(days=n), gates=OPEN) as load:
            load.write("added", [{"n": n, "text": f"row {n}"}])
            load.write(
                "keyed",
                [{"id": i, "v": n * i % 5} for i in range(10 - n)],
                disposition="replace",
                primary_key="id",
            )
    return Path(lake.url)


@pytest.fixture
def lake(six_loads: Path, tmp_path: Path) -> Lake:
    """A copy of that lake."""
    return Lake.open(shutil.copytree(six_loads, tmp_path / "lake"))


def check(lake: Lake, table: str, kind: str, location: str, seq: int) -> None:
    for read in exported.READERS[kind]:
        assert exported.told(lake, table, seq, read(location)) == exported.wanted(lake, table, seq)


@both
@pytest.mark.parametrize("table", ["s.added", "s.keyed"])
@pytest.mark.parametrize("point", ["before the files", "before the metadata", "after the metadata"])
def test_a_kill_leaves_the_version_before(
    lake: Lake, tmp_path: Path, kind: str, table: str, point: str
) -> None:
    done = EXPORTS[kind](lake, table, as_of=3)

    def killed() -> None:
        create, put, link = LocalStore.create, LocalStore.put, os.link

        def creating(store: LocalStore, key: str, data: bytes) -> None:
            if point == "after the metadata":
                create(store, key, data)
            if "metadata" in key or "_delta_log" in key:
                kill_now()
            create(store, key, data)

        def putting(store: LocalStore, key: str, data: Any) -> None:
            if point == "before the files":
                kill_now()
            put(store, key, data)

        def linking(*args: Any) -> None:
            if point == "before the files":
                kill_now()
            link(*args)

        LocalStore.create, LocalStore.put, os.link = creating, putting, linking  # type: ignore[method-assign]
        EXPORTS[kind](Lake.open(lake.url), table, as_of=5)

    assert Child(killed).wait() is None
    # A Delta version is there with its file; Iceberg's file-system readers go by the hint, which comes last.
    new = point == "after the metadata" and kind == "delta"
    check(lake, table, kind, done.location, 5 if new else 3)
    again = EXPORTS[kind](lake, table, as_of=5)
    assert again.version == done.version + 1
    check(lake, table, kind, done.location, 5)


@both
def test_exports_at_once_become_one_version_each(lake: Lake, kind: str) -> None:
    children = [
        Child(lambda seq=seq: EXPORTS[kind](Lake.open(lake.url), "s.keyed", as_of=seq).location)
        for seq in range(1, LOADS + 1)
    ]
    (location,) = {child.wait() for child in children}
    then = (exported.versions if kind == "delta" else exported.snapshots)(location)
    assert then.keys() <= set(range(1, LOADS + 1))
    assert len(then) >= LOADS - 1  # two of them have the same rows where one comes right after the other
    for seq, version in then.items():
        rows = exported.READERS[kind][0](location, version)
        assert exported.told(lake, "s.keyed", seq, rows) == exported.wanted(lake, "s.keyed", seq)


@both
def test_packing_and_pruning_break_no_export(lake: Lake, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    done = EXPORTS[kind](lake, "s.added")
    assert done.written == 0
    monkeypatch.setattr("lakehouse.pack.worth_packing", lambda table, **_: everything(table))
    pack(lake, "s")
    pruned = prune(lake, "s")
    assert sum(len(report.parts) for report in pruned) >= LOADS
    check(lake, "s.added", kind, done.location, LOADS)
    again = EXPORTS[kind](lake, "s.added")
    assert (again.added, again.removed, again.written) == (1, LOADS, 0)
    check(lake, "s.added", kind, again.location, LOADS)


@both
def test_a_part_that_is_missing_stops_the_export(lake: Lake, kind: str) -> None:
    done = EXPORTS[kind](lake, "s.added", as_of=2)
    before = exported.READERS[kind][0](done.location)
    part = Path(lake.url) / lake.log("s").tables["added"].files[3].path
    part.unlink()
    with pytest.raises(MissingPartError, match=part.name):
        EXPORTS[kind](lake, "s.added")
    assert exported.READERS[kind][0](done.location) == before


@both
def test_links_that_went_are_made_again(lake: Lake, kind: str) -> None:
    done = EXPORTS[kind](lake, "s.added")
    for file in Path(done.location).rglob("*.parquet"):
        file.unlink()
    EXPORTS[kind](lake, "s.added")
    check(lake, "s.added", kind, done.location, LOADS)


@both
def test_a_copy_of_a_project_is_linked_to_its_own_lake(lake: Lake, tmp_path: Path, kind: str) -> None:
    EXPORTS[kind](lake, "s.added")
    shutil.copytree(tmp_path, tmp_path / "copy", ignore=lambda *_: ["copy"])
    copy = Lake.open(tmp_path / "copy" / "lake")
    if kind == "iceberg":  # it names everything by absolute paths
        with pytest.raises(UserError, match="moved"):
            EXPORTS[kind](copy, "s.added")
        shutil.rmtree(tmp_path / "copy" / "exports")
    done = EXPORTS[kind](copy, "s.added")
    check(copy, "s.added", kind, done.location, LOADS)
    assert all(exported.is_linked(file, copy) for file in Path(done.location).rglob("*.parquet"))


@both
def test_where_nothing_can_be_linked_parts_are_named(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def no_link(*_: Any) -> None:
        raise OSError(errno.EXDEV, "another disk")

    link = os.link
    monkeypatch.setattr(
        "lakehouse.export.files.os.link",
        lambda one, two: (no_link if "exports" in str(two) and ".parquet" in str(two) else link)(one, two),
    )
    done = EXPORTS[kind](lake, "s.added")
    assert done.elsewhere == LOADS
    assert not EXPORTS[kind](lake, "s.added").changed
    if kind == "iceberg":
        rows = exported.iceberg(done.location)
    else:  # of deltalake's own readers, one takes absolute URIs
        table = deltalake.DeltaTable(done.location)
        read = deltalake.QueryBuilder().register("t", table).execute("SELECT * FROM t").read_all()
        rows = pa.table(read).to_pylist()
    assert exported.told(lake, "s.added", LOADS, rows) == exported.wanted(lake, "s.added", LOADS)


@both
def test_what_is_no_export_of_the_table_is_left_alone(lake: Lake, tmp_path: Path, kind: str) -> None:
    other = Lake.create(tmp_path / "other")
    with other.load("s") as load:
        load.write("added", [{"n": 1}])
    EXPORTS[kind](other, "s.added")  # to the same place: beside both
    with pytest.raises(UserError, match="is not an export of"):
        EXPORTS[kind](lake, "s.added")


def test_a_delta_table_that_others_made_or_broke_is_left_alone(lake: Lake, tmp_path: Path) -> None:
    place = tmp_path / "exports" / "delta" / "s" / "added"
    deltalake.write_deltalake(str(place), pa.table({"a": [1]}))
    with pytest.raises(UserError, match="not an export"):
        export_delta(lake, "s.added")
    shutil.rmtree(place)
    export_delta(lake, "s.added", as_of=1)
    export_delta(lake, "s.added", as_of=2)
    (place / "_delta_log" / f"{0:020}.json").unlink()
    with pytest.raises(UserError, match="no version 0"):
        export_delta(lake, "s.added")


def test_what_others_do_to_an_export_stays_with_it(lake: Lake) -> None:
    """Vacuum and optimize, as the owner of a Delta table may: the lake keeps its parts, the next export is right."""
    for seq in (2, 4, 6):
        done = export_delta(lake, "s.added", as_of=seq)
    table = deltalake.DeltaTable(done.location)
    table.optimize.compact()
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    check(lake, "s.added", "delta", done.location, LOADS)
    assert exported.wanted(lake, "s.added", LOADS).total() == LOADS
    again = export_delta(lake, "s.added", as_of=6)
    assert again.added == LOADS
    check(lake, "s.added", "delta", done.location, LOADS)


def test_an_iceberg_table_without_its_hint_gets_it_back(lake: Lake) -> None:
    done = export_iceberg(lake, "s.keyed", as_of=3)
    (Path(done.location) / "metadata" / "version-hint.text").unlink()
    assert not export_iceberg(lake, "s.keyed", as_of=3).changed
    assert StaticTable.from_metadata(done.location).current_snapshot() is not None
