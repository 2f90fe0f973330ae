"""Fixtures of the ingest tests: real dlt, real lakes in temporary folders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dlt
import pytest

from ingest.run import RunResult, run_source
from lakehouse import Lake

Row = dict[str, Any]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake.create(tmp_path / "lake")


@pytest.fixture
def pipelines_dir(tmp_path: Path) -> Path:
    """Where dlt works."""
    return tmp_path / "dlt"


@pytest.fixture
def run(lake: Lake, pipelines_dir: Path) -> Callable[..., RunResult]:
    """Runs rows, frames or dlt sources as the source `shop`; rows go to the table `items`."""

    def _run(data: Any, *, name: str = "shop", table: str = "items", **hints: Any) -> RunResult:
        options = {key: hints.pop(key) for key in ("gates", "observed_at", "refresh") if key in hints}
        if isinstance(data, list):
            data = dlt.resource(data, name=table, **hints)
        return run_source(lake, data, name=name, pipelines_dir=pipelines_dir, **options)

    return _run


@pytest.fixture
def rows(lake: Lake) -> Callable[..., list[Row]]:
    """The rows of a table as dicts, without the columns that link parents and children."""

    def _rows(table: str, order: str = "1") -> list[Row]:
        cursor = lake.query(f"select * from {table} order by {order}")
        names = [column[0] for column in cursor.description]
        found = (dict(zip(names, row, strict=True)) for row in cursor.fetchall())
        return [{k: v for k, v in row.items() if not k.startswith("_dlt")} for row in found]

    return _rows
