"""Spark reads exported tables as the lake says they were, at several moments.

Spark and Iceberg's runtime come from PyPI into an environment of their own, as the runtime is for Spark 3.5.
"""

import os
import pickle
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import exported
import pytest
from test_export_history import EXPORTS, TABLES, positions, real_lake  # noqa: F401 - a fixture

from lakehouse import Lake

PACKAGES = ("pyspark==3.5.*", "snowpark-connect-deps-iceberg==1.0.1")
PYTHON = f"{sys.version_info.major}.{min(sys.version_info.minor, 12)}"


@pytest.fixture(scope="module")
def spark_command() -> list[str]:
    """What runs a script with Spark."""
    uv = shutil.which("uv")
    if uv is None or shutil.which("java") is None:
        pytest.skip("Spark needs uv and Java 17: pip install uv; apt install openjdk-17-jre-headless")
    with_packages = [piece for package in PACKAGES for piece in ("--with", package)]
    command = [uv, "run", "--no-project", "--isolated", "--python", PYTHON, *with_packages, "python"]
    tried = subprocess.run([*command, "-c", "import pyspark"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"Spark cannot be installed here: {tried.stderr.strip().splitlines()[-1]}")
    return command


def naive(value: Any) -> Any:
    """Spark hands instants out without their zone, and bytes as a bytearray."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, list):
        return [naive(item) for item in value]
    if isinstance(value, dict):
        return {name: naive(inner) for name, inner in value.items()}
    return bytes(value) if isinstance(value, bytearray) else value


@pytest.mark.soak
def test_spark_reads_what_the_lake_says(
    real_lake: Lake,  # noqa: F811
    tmp_path: Path,
    spark_command: list[str],
) -> None:
    asked, wanted = [], []
    for kind, export in EXPORTS.items():
        for table in TABLES:
            for seq in positions(real_lake, table):
                done = export(real_lake, table, as_of=seq, out=tmp_path / kind)
            then = (exported.versions if kind == "delta" else exported.snapshots)(done.location)
            for seq, version in then.items():
                asked.append(f"{kind}:{done.location}@{version}")
                wanted.append((table, seq))
    assert len(asked) >= 3 * len(TABLES)
    script = Path(__file__).with_name("spark_reading.py")
    out = tmp_path / "rows.pickle"
    subprocess.run(
        [*spark_command, str(script), str(out), *asked],
        check=True,
        env=os.environ | {"TZ": "UTC"},
        timeout=280,
    )
    for (table, seq), rows in zip(wanted, pickle.loads(out.read_bytes()), strict=True):  # noqa: S301 - our own
        lake_rows = exported.wanted(real_lake, table, seq, change=naive)
        assert exported.told(real_lake, table, seq, naive(rows)) == lake_rows, (table, seq)
