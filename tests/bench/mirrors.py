"""Mirrors against peers: uploads and syncs with nothing to do against rclone, Postgres against `\\copy`, reading.

The servers are real ones on loopback, the same for both sides, each figure on a new one: what is measured is what a
client costs. Ours is a function called in this process, as a program that keeps running calls it; `rclone` is the
program, whose start takes a few hundredths of a second. The files are the same. Not called `sync.py`,
which would hide the package of that name.

- Uploads: a lake with so many parts of random bytes into an empty bucket.
- Nothing to do: the same sync again, with the requests that it makes, which a proxy counts in a run of its own.
- Postgres: a table of 8 columns, one of them JSON, of one load, into an empty database, with its history and all that
  belongs to it; `psql` copies a CSV file that is ready into a table without anything; `adbc_ingest`
  writes the Arrow table.
- Reading: a query as of a moment over parts of 100 MB in all, in a session of its own, with the cache empty and filled,
  against the same lake in a folder.
"""

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import numpy as np
import pyarrow as pa

sys.path.append(str(Path(__file__).resolve().parents[1] / "servers"))

from clouds import bucket_options, gcs_server, s3_server
from cluster import Cluster, postgres_server
from proxy_http import HttpProxy

from lakehouse import Lake
from lakehouse.core import commit as commits
from lakehouse.core import layout
from lakehouse.core.commit import Commit, Part, TableChange
from lakehouse.core.types import Column
from lakehouse.logpack import claim
from lakehouse.parquet.digest import digest_rows
from lakehouse.parquet.part import stamp, write_part
from lakehouse.store.remote import FsspecStore

Report = Callable[[str, list[float], list[float]], None]

START = datetime(2026, 1, 1, tzinfo=UTC)
SERVERS = {"gs": ("gcs", gcs_server), "s3": ("s3", s3_server)}
AIMS = {"small gs": 0.35, "large gs": 0.9, "small s3": 0.6, "large s3": 0.8}
RCLONE = Path(sys.executable).parent / "rclone"
CONNECTIONS = 16


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a lake is: sources, loads of each, parts of each load, and bytes of a part."""

    sources: int = 1
    loads: int
    parts: int
    part_bytes: int


def bench_mirrors(folder: Path, *, short: bool, report: Report) -> None:
    """All figures, one after the other."""
    sizes = {
        "small": Size(loads=20, parts=5 if short else 100, part_bytes=100_000),
        "large": Size(loads=2 if short else 20, parts=1, part_bytes=1_000_000 if short else 50_000_000),
        "many": Size(sources=2 if short else 10, loads=20, parts=5 if short else 100, part_bytes=0),
    }
    for name, size in sizes.items():
        lake = made(folder / name / "lake", size)
        for protocol in SERVERS:
            if name == "many":
                _nothing_to_do(lake, size, protocol, rounds=1 if short else 5, report=report)
            else:
                _upload(lake, name, size, protocol, rounds=1 if short else 3, report=report)
        shutil.rmtree(folder / name)
    _postgres(folder, rows=20_000 if short else 5_000_000, rounds=1 if short else 3, report=report)
    _reading(folder, rows=50_000 if short else 3_400_000, rounds=1 if short else 5, report=report)


def made(place: Path, size: Size) -> Lake:
    """A lake of that size."""
    lake = Lake.create(place)
    chance = np.random.default_rng(1)
    for number in range(size.sources):
        digest, source = "", f"source{number}"
        for seq in range(1, size.loads + 1):
            rows = max(size.part_bytes // 8, 1)
            tables = [pa.table({"value": chance.random(rows)}) for _ in range(size.parts)]
            parts = [_part(lake, source, seq, table) for table in tables]
            change = TableChange(
                disposition="append", columns=(Column(name="value", type="float64"),), parts=tuple(parts),
                counts={"rows": seq * size.parts * rows, "appended": size.parts * rows},
                content=digest_rows(pa.concat_tables(tables)),
            )  # fmt: skip
            at = START + timedelta(hours=seq)
            commit = Commit(
                source=source, seq=seq, load_id=f"{source}-{seq}", prev=digest, observed_at=at, effective_at=at,
                committed_at=at, tables={"numbers": change},
            )  # fmt: skip
            line = commits.lines([commit], prev=digest)
            assert claim(lake.store, source, seq, line)
            digest = commits.digest_of(line[:-1])
    return lake


def _part(lake: Lake, source: str, seq: int, table: pa.Table) -> Part:
    part = write_part(stamp(table, seq), level=1)
    key = layout.part_key(source, "numbers", seq, seq, part.name)
    path = Path(lake.url) / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(part.data)
    return Part(path=key, sha256=part.sha256, size_bytes=len(part.data), rows=part.rows)


# Buckets.


@contextlib.contextmanager
def _server(protocol: str) -> Iterator[str]:
    """A new server with an empty bucket."""
    with contextlib.contextmanager(SERVERS[protocol][1].__wrapped__)() as url:
        yield url


def _store(protocol: str, url: str, name: str) -> FsspecStore:
    options = bucket_options(SERVERS[protocol][0], url)
    return FsspecStore(f"{protocol}://lakes/{name}", **options, skip_instance_cache=True)


def _rclone(protocol: str, url: str, folder: str, name: str) -> float:
    """Seconds of a copy with the program."""
    settings = {
        "gs": {"TYPE": "google cloud storage", "ANONYMOUS": "true", "ENDPOINT": f"{url}/storage/v1/", "BUCKET_POLICY_ONLY": "true"},
        "s3": {
            "TYPE": "s3", "PROVIDER": "Other", "ACCESS_KEY_ID": "testing", "SECRET_ACCESS_KEY": "testing",
            "ENDPOINT": url, "REGION": "us-east-1", "FORCE_PATH_STYLE": "true",
        },
    }[protocol] | {"NO_CHECK_BUCKET": "true"}  # fmt: skip
    variables = {f"RCLONE_CONFIG_PEER_{key}": value for key, value in settings.items()}
    many = ["--transfers", str(CONNECTIONS), "--checkers", str(CONNECTIONS)]
    command = [RCLONE, "copy", folder, f"peer:lakes/{name}", "--exclude", "/_derived/**", *many]
    return _timed(
        lambda: subprocess.run(command, check=True, env=os.environ | variables, capture_output=True)
    )


def _push(lake: Lake, store: FsspecStore) -> float:
    from sync.push import push

    fresh = Lake.open(lake.url)
    return _timed(lambda: push(fresh, store, name="bench", connections=CONNECTIONS))


def _upload(lake: Lake, name: str, size: Size, protocol: str, *, rounds: int, report: Report) -> None:
    ours, theirs = [], []
    for _ in range(rounds):
        shutil.rmtree(Path(lake.url) / "_derived", ignore_errors=True)
        with _server(protocol) as url:
            store = _store(protocol, url, "ours")
            list(store.list(""))  # imports and the session are not what is asked
            ours.append(_push(lake, store))
        with _server(protocol) as url:
            theirs.append(_rclone(protocol, url, lake.url, "theirs"))
    what = f"{size.loads * size.parts:,} x {size.part_bytes / 1e6:g} MB to {protocol}"
    _told(report, f"{what}: seconds", ours, theirs, AIMS[f"{name} {protocol}"])


def _nothing_to_do(lake: Lake, size: Size, protocol: str, *, rounds: int, report: Report) -> None:
    shutil.rmtree(Path(lake.url) / "_derived", ignore_errors=True)
    with _server(protocol) as url:
        store = _store(protocol, url, "ours")
        _push(lake, store)
        _rclone(
            protocol, url, lake.url, "theirs"
        )  # of its own: it would write over log files that hold several
        pairs = [(_push(lake, store), _rclone(protocol, url, lake.url, "theirs")) for _ in range(rounds)]
        with HttpProxy(url) as proxy:
            counted = _store(protocol, proxy.url, "ours")
            _push(lake, counted)
            requests = len(proxy.seen)
    objects = size.sources * size.loads * (size.parts + 1)
    ours, theirs = zip(*pairs, strict=True)
    report(f"nothing to sync, {objects:,} objects in {protocol}: seconds", list(ours), list(theirs))
    print(f"  ({requests / size.sources:.1f} requests a source; aims: 2, and half a second)")


# Postgres.


def _postgres(folder: Path, *, rows: int, rounds: int, report: Report) -> None:
    from sync.postgres.push import push

    table = _wide(rows)
    lake = Lake.create(folder / "pg" / "lake")
    with lake.load("shop") as load:
        load.write("products", table)
    csv = folder / "rows.csv"
    lake.query("select 1").fetchall()  # the catalog is there
    with duckdb.connect(str(folder / "pg" / "lakehouse.duckdb"), read_only=True) as views:
        views.execute(f"COPY (FROM shop.products) TO '{csv}' (HEADER false)")
    columns = ", ".join(f"{name} {kind}" for name, kind in PG_TYPES.items())
    ours: list[float] = []
    copied: list[float] = []
    bare: list[float] = []
    with contextlib.contextmanager(postgres_server.__wrapped__)() as cluster:
        for _ in range(rounds):
            url = cluster.dsn(cluster.new_database())
            fresh = Lake.open(lake.url)
            ours.append(_timed(lambda url=url, fresh=fresh: push(fresh, url, name="bench")))
            copied.append(_copy(cluster, columns, csv))
            bare.append(_ingest(cluster, columns, table))
    _told(report, f"{rows:,} x 8 with jsonb into Postgres / \\copy: seconds", ours, copied, 1.2)
    _told(report, "  / bare adbc_ingest", ours, bare, 1.2)


PG_TYPES = {
    "id": "bigint", "price": "float8", "stock": "bigint", "category": "text", "sku": "text", "active": "boolean",
    "seen_at": "timestamptz", "about": "jsonb",
}  # fmt: skip


def _wide(rows: int) -> pa.Table:
    chance = np.random.default_rng(1)
    about = [f'{{"size":{i % 40},"tags":["a","b{i % 7}"]}}' for i in range(1000)]
    return pa.table({
        "id": np.arange(rows),
        "price": chance.random(rows),
        "stock": chance.integers(0, 1_000, rows),
        "category": pa.array([f"category {i % 100}" for i in range(rows)]),
        "sku": pa.array([f"sku-{i:012d}" for i in range(rows)]),
        "active": chance.integers(0, 2, rows).astype(bool),
        "seen_at": pa.array(np.arange(rows) * 1_000_000, pa.timestamp("us", "UTC")),
        "about": pa.ExtensionArray.from_storage(pa.json_(), pa.array([about[i % 1000] for i in range(rows)])),
    })  # fmt: skip


def _copy(cluster: Cluster, columns: str, csv: Path) -> float:
    database = cluster.new_database()
    cluster.psql(f"create table products ({columns})", database=database)
    csv.chmod(0o644)
    psql = cluster._binaries / "psql"
    command = [
        psql,
        "-Xq",
        "-v",
        "ON_ERROR_STOP=1",
        cluster.dsn(database),
        "-c",
        f"\\copy products from '{csv}' csv",
    ]
    return _timed(lambda: subprocess.run(command, check=True, capture_output=True))


def _ingest(cluster: Cluster, columns: str, table: pa.Table) -> float:
    from adbc_driver_postgresql import dbapi

    database = cluster.new_database()
    cluster.psql(f"create table products ({columns})", database=database)

    def ingest() -> None:
        with dbapi.connect(cluster.dsn(database)) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest("products", table, mode="append")
            connection.commit()

    return _timed(ingest)


# Reading.


def _reading(folder: Path, *, rows: int, rounds: int, report: Report) -> None:
    local = Lake.create(folder / "reading" / "lake")
    table = _wide(rows).drop_columns(["about"])
    for name in ("score", "weight"):
        table = table.append_column(name, pa.array(np.random.default_rng(len(name)).random(rows)))
    for n, piece in enumerate((table, table.slice(0, 10))):
        with local.load("shop", observed_at=START + timedelta(days=n)) as load:
            load.write("products", piece)
    size = sum(file.size_bytes for file in local.log("shop").tables["products"].files)
    questions = {
        "all rows": "select * from shop.products",
        "sums of all": "select count(*), sum(price), sum(score), sum(weight), sum(stock), max(category), max(sku), sum(active::int), max(seen_at), sum(id) from shop.products",
        "one column": "select sum(price) from shop.products",
    }
    for protocol in SERVERS:
        with _server(protocol) as url:
            name = uuid4().hex
            store = _store(protocol, url, name)
            for entry in local.store.list(""):
                if not entry.key.startswith("_derived/"):
                    store.put(entry.key, Path(local.url) / entry.key)
            for question, sql in questions.items():
                cold: list[float] = []
                warm: list[float] = []
                here: list[float] = []
                for n in range(rounds):
                    os.environ["LAKEHOUSE_CACHE"] = str(folder / "cache" / f"{protocol}-{question}-{n}")
                    here.append(_asked(Lake.open(local.url), sql))
                    cold.append(_asked(Lake.open(store), sql))
                    here.append(_asked(Lake.open(local.url), sql))
                    warm.append(_asked(Lake.open(store), sql))
                what = f"as-of, {size / 1e6:.0f} MB in {protocol}, {question}"
                _told(report, f"{what}, first: seconds", cold, here, 2)
                _told(report, f"{what}, again", warm, here, 2)
                shutil.rmtree(folder / "cache", ignore_errors=True)


def _asked(lake: Lake, sql: str) -> float:
    return _timed(lambda: lake.session(as_of=START + timedelta(hours=1)).connection.sql(sql).to_arrow_table())


def _told(report: Report, what: str, ours: list[float], theirs: list[float], aim: float) -> None:
    report(what, ours, theirs)
    ratio = statistics.median(ours) / statistics.median(theirs)
    if ratio > aim:
        print(f"  (the aim is {aim})")


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
