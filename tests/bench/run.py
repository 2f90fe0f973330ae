"""`just bench`: ratios against peers, measured side by side in one run on one machine.

Absolute times mean nothing across machines; each line gives ours, the peer's, and ours divided by
the peer's (below 1 is faster or smaller). Rounds alternate between the two, and medians are shown.

    python tests/bench/run.py [import|bulk|commit|start|scale|travel|models|sync …] [--short]
"""

import argparse
import csv
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
BIN = Path(sys.executable).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all by default")
    parser.add_argument("--short", action="store_true", help="small sizes: checks that it runs, not how fast")
    options = parser.parse_args()
    print(f"{'what':<58} {'ours':>10} {'peer':>10} {'ratio':>7}")
    for name in options.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
            PARTS[name](Path(folder), short=options.short)


def bench_import(folder: Path, *, short: bool) -> None:
    """A git history of one scraped file, against git-history on the same versions."""
    archive = DATA / ("quick-ca-fires-v330-430.tar.xz" if short else "ca-fires-incidents.tar.xz")
    if not archive.exists():
        print(f"import: skipped, {archive} is not there")
        return
    repo = _git_repository(archive, folder)
    convert = 'json.loads(content)["Incidents"] if content.strip() else []'
    peer, ours = folder / "peer.db", folder / "lake"
    theirs = [BIN / "git-history", "file", peer, "incidents.json", "--repo", repo, "--id", "UniqueId",
              "--convert", convert, "--silent"]  # fmt: skip
    mine = [BIN / "lakehouse", "import", "git", repo, "incidents.json", "--source", "ca_fires",
            "--table", "incidents", "--rows", "Incidents", "--key", "UniqueId", "--lake", ours]  # fmt: skip
    figures = _alternate(
        3 if not short else 1, lambda: _command(mine, forget=ours), lambda: _command(theirs, forget=peer)
    )
    _report("import of ca-fires by git: seconds", [f[0] for f in figures[0]], [f[0] for f in figures[1]])
    _report("  CPU seconds", [f[1] for f in figures[0]], [f[1] for f in figures[1]])
    _report("  bytes on disk, MB", [_size(ours) / 1e6], [_size(peer) / 1e6])
    views = folder / "lake.duckdb"
    print(
        f"  (and {_size(views if views.exists() else folder / 'lakehouse.duckdb') / 1e6:.2f} MB of derived views)"
    )


def bench_bulk(folder: Path, *, short: bool) -> None:
    """An Arrow table of 8 columns through the dlt source into a commit, against one Parquet write."""
    import dlt
    import pyarrow.parquet as pq

    from ingest.run import run_source
    from lakehouse import Lake

    table = _arrow_table(50_000 if short else 5_000_000)
    lake = Lake.create(folder / "lake")

    def ours() -> float:
        resource_ = dlt.resource(iter([table]), name="numbers", write_disposition="append")
        started = time.perf_counter()
        run_source(lake, resource_, name="bench", pipelines_dir=folder / "work")
        return time.perf_counter() - started

    def theirs() -> float:
        started = time.perf_counter()
        with (folder / "peer.parquet").open("wb") as sink:
            pq.write_table(table, sink)
            os.fsync(sink.fileno())  # a commit is durable, so is this
        return time.perf_counter() - started

    ours(), theirs()  # imports and the first allocation are not what is asked
    figures = _alternate(1 if short else 5, ours, theirs)
    _report(f"{table.num_rows:,} x 8 Arrow rows into a commit: seconds", *figures)


def bench_commit(folder: Path, *, short: bool) -> None:
    """A commit of 10 rows, early and late in a log, against deltalake's append of the same."""
    import pyarrow as pa
    from deltalake import DeltaTable, write_deltalake

    from lakehouse import Lake

    late = 50 if short else 5_000
    rows = pa.table(
        {"id": list(range(10)), "name": [f"name {i}" for i in range(10)], "value": [i / 7 for i in range(10)]}
    )
    lake, peer = Lake.create(folder / "lake"), folder / "delta"

    def ours() -> float:
        started = time.perf_counter()
        with lake.load("bench") as load:
            load.write("rows", rows)
        return time.perf_counter() - started

    def theirs() -> float:
        started = time.perf_counter()
        write_deltalake(peer, rows, mode="append")
        return time.perf_counter() - started

    figures = []
    for earlier in (10, late):
        while lake.log("bench").head < earlier:
            ours()
            theirs()
            if lake.log("bench").head % 100 == 0:
                DeltaTable(peer).create_checkpoint()
        figures.append(_alternate(15, lambda: ours() * 1e3, lambda: theirs() * 1e3))
        _report(f"commit of 10 rows after {earlier:,} loads: ms", *figures[-1])
    grown = statistics.median(figures[1][0]) / statistics.median(figures[0][0])
    print(f"  (ours late against ours early: {grown:.2f})")
    opened = _alternate(5, lambda: _timed(lambda: _open_and_commit(folder, rows)), lambda: _timed(theirs))
    _report(
        f"open, then commit, after {late:,} loads: ms",
        [x * 1e3 for x in opened[0]],
        [x * 1e3 for x in opened[1]],
    )


def bench_start(folder: Path, *, short: bool) -> None:
    """The start of a query, against importing DuckDB."""
    from lakehouse import Lake

    lake = Lake.create(folder / "lake")
    with lake.load("bench") as load:
        load.write("rows", [{"id": 1}])
    mine = [BIN / "lakehouse", "query", "--lake", folder / "lake", "select 1"]
    theirs = [sys.executable, "-c", "import duckdb"]
    _command(mine), _command(theirs)  # warm caches, and the catalog is there
    figures = _alternate(3 if short else 25, lambda: _command(mine), lambda: _command(theirs))
    _report(
        "lakehouse query 'select 1' / import duckdb: seconds",
        [f[0] for f in figures[0]],
        [f[0] for f in figures[1]],
    )
    _report("  CPU seconds", [f[1] for f in figures[0]], [f[1] for f in figures[1]])


def bench_scale(folder: Path, *, short: bool) -> None:
    """What opening, loading and asking cost as the log grows: no peer, growth against 1,000 loads."""
    import scale

    scale.main(folder / "scale", short=short)


def bench_time_travel(folder: Path, *, short: bool) -> None:
    """As-of and now, on three histories, against the limit and against peers."""
    from travel import bench_travel

    bench_travel(folder, short=short)


def bench_build(folder: Path, *, short: bool) -> None:
    """Building 300 models, against dbt and SQLMesh."""
    from models import bench_models

    bench_models(folder, short=short, report=_report)


def bench_sync(folder: Path, *, short: bool) -> None:
    """Mirrors: uploads and syncs with nothing to do, Postgres, queries straight on a bucket."""
    from mirrors import bench_mirrors

    bench_mirrors(folder, short=short, report=_report)


PARTS = {
    "import": bench_import, "bulk": bench_bulk, "commit": bench_commit, "start": bench_start,
    "travel": bench_time_travel, "models": bench_build, "scale": bench_scale, "sync": bench_sync,
}  # fmt: skip


def _open_and_commit(folder: Path, rows: object) -> None:
    from lakehouse import Lake

    with Lake.open(folder / "lake").load("bench") as load:
        load.write("rows", rows)


def _alternate(
    rounds: int, ours: Callable[[], Any], theirs: Callable[[], Any]
) -> tuple[list[Any], list[Any]]:
    one, two = [], []
    for _ in range(rounds):
        one.append(ours())
        two.append(theirs())
    return one, two


def _report(what: str, ours: list[float], theirs: list[float]) -> None:
    mine, peer = statistics.median(ours), statistics.median(theirs)
    print(f"{what:<58} {mine:>10.3f} {peer:>10.3f} {mine / peer:>7.2f}", flush=True)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _command(command: list[object], forget: Path | None = None) -> tuple[float, float]:
    """Wall and CPU seconds of a command, started anew."""
    if forget is not None:
        shutil.rmtree(forget, ignore_errors=True)
        forget.unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = _timed(
        lambda: subprocess.run(
            [str(c) for c in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)


def _arrow_table(rows: int):
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(1)
    return pa.table({
        "id": np.arange(rows),
        "price": rng.random(rows),
        "stock": rng.integers(0, 1_000, rows),
        "score": rng.normal(size=rows),
        "category": pa.array([f"category {i % 100}" for i in range(rows)]),
        "sku": pa.array([f"sku-{i:012d}" for i in range(rows)]),
        "active": rng.integers(0, 2, rows).astype(bool),
        "seen_at": pa.array(np.arange(rows) * 1_000_000, pa.timestamp("us", "UTC")),
    })  # fmt: skip


def _git_repository(archive: Path, folder: Path) -> Path:
    """A repository with one commit for each version in the archive, at its own time."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "versions", filter="data")
    snapshots = next((folder / "versions").iterdir())
    repo = folder / "repo"
    git = ["git", "-C", str(repo)]
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(repo)], check=True)
    with _piped([*git, "fast-import", "--quiet"]) as sink:
        for version in csv.DictReader((snapshots / "index.csv").open(newline="")):
            raw = (snapshots / version["file"]).read_bytes()
            at = int(datetime.fromisoformat(version["author_time_utc"]).timestamp())
            who = f"scraper <scraper@example.org> {at} +0000"
            head = f"commit refs/heads/main\nauthor {who}\ncommitter {who}\ndata 1\n.\nM 644 inline incidents.json\n"
            sink.write(head.encode() + b"data %d\n" % len(raw) + raw + b"\n")
    for words in (["gc", "--quiet"], ["reset", "--quiet", "--hard"]):
        subprocess.run([*git, *words], check=True)
    return repo


@contextmanager
def _piped(command: list[str]) -> Iterator:
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    yield process.stdin
    process.stdin.close()
    if process.wait():
        sys.exit(f"{command[0]} failed")


if __name__ == "__main__":
    main()
