"""A query that stops early comes to an end, also over many parts: DuckDB 2.0 can wait for ever for a CTE
that is read twice, when more than one thread runs and nobody wants the rest of it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from lakehouse import Lake
from lakehouse.bulk import BulkLoad
from lakehouse.compaction import compact

LOADS = 100
ASKED = ("s.t", "s.t_at(50)", "s.t_at('2026-01-02')", "s.t_history", "s.t_diff(30, 60)", "s.t_diff(90, NULL)")


@pytest.fixture(
    scope="module", params=["parts", "compaction", "tail", "long tail", "groups", "groups with a tail"]
)
def lake(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake.create(tmp_path_factory.mktemp("many") / "lake")
    load = BulkLoad(lake, "s", "t", key=["id"])
    twice = request.param.startswith("groups")
    for n in range(LOADS):
        rows = [{"id": i, "v": n if i == n % 5 else 0} for i in range(5)] * (2 if twice and n % 7 == 0 else 1)
        load.observe(rows, observed_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n), load_id=f"v{n}")
        load.flush()
        if n == (15 if request.param == "long tail" else 75) and request.param.endswith("tail"):
            compact(lake, "s")
    if request.param == "compaction":
        compact(lake, "s")
    return lake


@pytest.mark.timeout(60)
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_query_that_stops_early_comes_to_an_end(lake: Lake, threads: int) -> None:
    lake.session()
    path = Path(lake.url).with_name("lakehouse.duckdb")
    with duckdb.connect(path, read_only=True, config={"threads": threads}) as connection:
        for table in ASKED:
            rows = len(connection.execute(f"SELECT * FROM {table}").fetchall())
            for limit in (1, 2, 7):
                found = connection.execute(f"SELECT * FROM {table} LIMIT {limit}").fetchall()
                assert len(found) == min(limit, rows)
