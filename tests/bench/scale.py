"""How the cost of a lake grows with the number of its loads: `just bench scale`.

A source with 1,000, 10,000 and 100,000 loads of 10 rows, made through the public API. Each figure is
CPU time in a fresh process, of the step alone, without the start of Python and its imports; beside
it stands its ratio to the same at 1,000 loads.

    python tests/bench/scale.py [--short]
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

START = datetime(2020, 1, 1, tzinfo=UTC)
KINDS = {
    "keyed snapshots, by BulkLoad": {"disposition": "replace", "primary_key": "id"},
    "snapshots without key, by BulkLoad": {"disposition": "replace"},
    "appends, one by one": {"disposition": "append"},
}


def main(folder: Path, *, short: bool) -> None:
    """Make the lakes and print the figures."""
    for kind, how in KINDS.items():
        one_by_one = how["disposition"] == "append"
        sizes = [1_000, 10_000] if one_by_one else [1_000, 10_000, 100_000]
        found: list[dict[str, float]] = []
        for loads in [size // 20 for size in sizes[:2]] if short else sizes:
            place = folder / "lake"
            shutil.rmtree(folder, ignore_errors=True)
            (_one_by_one if one_by_one else _bulk)(place, loads, how)
            found.append(_figures(place, how, rounds=2 if short else 5))
            _report(kind, loads, found)


def _bulk(place: Path, loads: int, how: dict[str, Any]) -> None:
    from lakehouse import Lake
    from lakehouse.bulk import BulkLoad

    key = ("id",) if "primary_key" in how else ()
    bulk = BulkLoad(Lake.create(place), "s", "t", key=key)
    rows = _rows(0)
    for n in range(loads):
        rows[n % 10] = rows[n % 10] | {"value": n / 7}
        bulk.observe(
            [dict(row) for row in rows], observed_at=START + timedelta(minutes=n), load_id=f"version {n}"
        )
    bulk.flush()


def _one_by_one(place: Path, loads: int, how: dict[str, Any]) -> None:
    from lakehouse import Lake

    lake = Lake.create(place)
    for n in range(loads):
        with lake.load("s", observed_at=START + timedelta(minutes=n)) as load:
            load.write("t", _rows(n), **how)


def _rows(n: int) -> list[dict[str, Any]]:
    return [{"id": i, "name": f"name {i}", "value": (n + i) / 7} for i in range(10)]


def _figures(place: Path, how: dict[str, Any], *, rounds: int) -> dict[str, float]:
    """Medians over fresh processes; the first round is not counted, for it fills caches."""
    runs: list[dict[str, float]] = []
    for _ in range(rounds + 1):
        command = [sys.executable, __file__, "--measure", str(place), json.dumps(how)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
        runs.append(json.loads(done.stdout))
    return {name: statistics.median(run[name] for run in runs[1:]) for name in runs[1]}


def measure(place: Path, how: dict[str, Any]) -> dict[str, float]:
    """CPU milliseconds of each step, after the same steps in a small lake have imported what they need."""
    import inspect

    from lakehouse import Lake
    from lakehouse.duck.session import refresh
    from lakehouse.verify import verify

    fast = {"fast": True} if "fast" in inspect.signature(verify).parameters else None

    def steps(place: Path) -> dict[str, Callable[[], object]]:
        opened: list[Lake] = []

        def load() -> None:
            with opened[-1].load("s") as one:
                one.write("t", _rows(random.randrange(1 << 30)), **how)

        def as_of() -> None:
            middle = opened[-1].log("s").head // 2
            Lake.open(place).query("SELECT count(*), max(value) FROM s.t", as_of=middle).fetchall()

        found: dict[str, Callable[[], object]] = {
            "opening": lambda: (opened.append(Lake.open(place)), opened[-1].log("s")),
            "one more load": load,
            "refresh of the catalog after it": lambda: refresh(opened[-1]),
            "as of the middle: session and query": as_of,
        }
        if fast:
            found["verify --fast"] = lambda: verify(Lake.open(place), **fast)
        return found

    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        small = Path(folder) / "lake"
        with Lake.create(small).load("s") as load:
            load.write("t", _rows(0), **how)
        for step in steps(small).values():
            step()
    out = {}
    for name, step in steps(place).items():
        started = time.process_time()
        step()
        out[name] = (time.process_time() - started) * 1e3
    return out


def _report(kind: str, loads: int, found: list[dict[str, float]]) -> None:
    print(f"{kind}: {loads:,} loads of 10 rows{'ms':>22} {'growth':>8}")
    for name, value in found[-1].items():
        print(f"  {name:<56} {value:>10.1f} {value / found[0][name]:>8.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="small sizes: checks that it runs")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(Path(options.measure[0]), json.loads(options.measure[1]))))
    else:
        with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as at:
            main(Path(at) / "scale", short=options.short)
