"""Runs of one source at the same time, from machines that share nothing but the lake."""

import subprocess
import sys
from pathlib import Path

import pytest

from ingest.memory import StaleStateError
from ingest.run import run_source
from lakehouse import Lake

sys.path.insert(0, str(Path(__file__).parent))
import crashing


def elsewhere(lake: Path, working: Path) -> subprocess.Popen[bytes]:
    """Another machine that runs the source of these tests twice."""
    command = [sys.executable, crashing.__file__, lake, "race", working]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def test_concurrent_runs_of_an_incremental_source_load_each_row_once(tmp_path: Path) -> None:
    for process in [elsewhere(tmp_path / "lake", tmp_path / f"dlt{n}") for n in range(4)]:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
    events = Lake.open(tmp_path / "lake").query("select id from shop.events order by id").fetchall()
    assert events == [(n,) for n in range(1, 2 * crashing.PER_RUN + 1)]


def test_an_overtaken_run_publishes_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake")
    crashing.run(lake, tmp_path / "here", 1)

    def overtake(row: dict[str, int]) -> dict[str, int]:
        if row["id"] == crashing.PER_RUN + 1:
            _, said = elsewhere(tmp_path / "lake", tmp_path / "there").communicate(timeout=120)
            assert lake.log("shop").head > 1, said.decode()
        return row

    late = crashing.shop(2)
    late.resources["events"].add_map(overtake)
    with pytest.raises(StaleStateError, match="another run was faster"):
        run_source(lake, late, name="shop", pipelines_dir=tmp_path / "here")
    crashing.run(lake, tmp_path / "here", 3)
    assert lake.query("select count(*), count(distinct id) from shop.events").fetchall() == [(9, 9)]
