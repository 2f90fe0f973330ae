"""Real histories as Delta and Iceberg tables: other engines read the same rows at every moment."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import exported
import pytest

from ingest.importing import import_files
from lakehouse import Lake
from lakehouse.core.gates import OPEN
from lakehouse.export.delta import export_delta
from lakehouse.export.files import Exported
from lakehouse.export.iceberg import export_iceberg

Export = Callable[..., Exported]
EXPORTS: dict[str, Export] = {"delta": export_delta, "iceberg": export_iceberg}
TABLES = ("keyed.incidents", "whole.incidents", "feed.added", "feed.nested")


@pytest.fixture(scope="module")
def real_lake(real_window: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """One history in every form: with a key, without, appended to, and as nested values."""
    lake = Lake.create(tmp_path_factory.mktemp("real") / "lake")
    import_files(lake, real_window, source="keyed", table="incidents", rows="Incidents", key=["UniqueId"])
    import_files(lake, real_window, source="whole", table="incidents", rows="Incidents")
    for n, file in enumerate(sorted(real_window.glob("*.json"))[::8]):
        rows = json.loads(file.read_bytes())["Incidents"] if file.stat().st_size else []
        at = datetime(2021, 1, 1, tzinfo=UTC) + timedelta(days=n)
        with lake.load("feed", observed_at=at, gates=OPEN) as load:
            load.write("added", rows, disposition="append")
            nested = [{"n": n, "incidents": rows[:3], "first": rows[0], "seen_at": at}] if rows else []
            load.write("nested", nested, disposition="append")
    return lake


def positions(lake: Lake, table: str) -> list[int]:
    """Some loads of a table, oldest first."""
    seqs = [seq for seq, _ in lake.log(table.split(".", maxsplit=1)[0]).tables[table.split(".")[1]].changes]
    return sorted({seqs[len(seqs) // 4], seqs[len(seqs) * 3 // 4], seqs[-1]})


@pytest.mark.parametrize("kind", EXPORTS)
@pytest.mark.parametrize("table", TABLES)
def test_engines_read_what_the_lake_says(real_lake: Lake, tmp_path: Path, table: str, kind: str) -> None:
    seqs = positions(real_lake, table)
    for seq in seqs:
        done = EXPORTS[kind](real_lake, table, as_of=seq, out=tmp_path)
        assert done.snapshot.seq == seq
        for read in exported.READERS[kind]:
            rows = read(done.location)
            assert exported.told(real_lake, table, seq, rows) == exported.wanted(real_lake, table, seq)
        again = EXPORTS[kind](real_lake, table, as_of=seq, out=tmp_path)
        assert (again.changed, again.version) == (False, done.version)
    then: dict[int, Any] = (exported.versions if kind == "delta" else exported.snapshots)(done.location)
    for seq in seqs:  # the engines' own time travel
        if seq in then:
            rows = exported.READERS[kind][0](done.location, then[seq])
            assert exported.told(real_lake, table, seq, rows) == exported.wanted(real_lake, table, seq)
    assert len(then) > 1


@pytest.mark.parametrize("kind", EXPORTS)
def test_what_is_appended_is_linked_and_not_copied(real_lake: Lake, tmp_path: Path, kind: str) -> None:
    done = EXPORTS[kind](real_lake, "feed.added", out=tmp_path)
    files = list(Path(done.location).rglob("*.parquet"))
    assert len(files) == len(done.snapshot.files) == done.added
    linked = [file for file in files if exported.is_linked(file, real_lake)]
    assert len(linked) == len(files) - done.written
    assert linked
