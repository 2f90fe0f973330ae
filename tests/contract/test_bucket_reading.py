"""Reading a lake that is far away: what is asked of the bucket, what is kept here, and that it is never wrong."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from clouds import bucket_options
from proxy_http import HttpProxy

from lakehouse import Lake
from lakehouse.compaction import compact
from lakehouse.duck import cache, fetching
from lakehouse.duck.session import catalog_path
from lakehouse.errors import DamagedPartError, MissingPartError
from lakehouse.store import LocalStore, Store
from lakehouse.store.remote import FsspecStore

FAR = pytest.mark.parametrize("kind", ["gcs", "s3"], indirect=True)


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for this test alone."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(cache.PLACE, str(folder))
    return folder


@pytest.fixture
def proxied(
    kind: str, store: FsspecStore, request: pytest.FixtureRequest
) -> Iterator[tuple[HttpProxy, Callable[[], Lake]]]:
    """A proxy that counts requests, and the way to open the test's lake through it."""
    with HttpProxy(request.getfixturevalue(f"{kind}_server")) as proxy:
        yield (
            proxy,
            lambda: Lake.open(
                FsspecStore(store.url, **bucket_options(kind, proxy.url), skip_instance_cache=True)
            ),
        )


def numbers(rows: int, columns: int, seed: int) -> pa.Table:
    chance = np.random.default_rng(seed)
    return pa.table({"id": np.arange(rows), **{f"c{n}": chance.random(rows) for n in range(columns)}})


def kept(folder: Path) -> list[Path]:
    return [path for path in (folder / "parts").rglob("*") if path.is_file()]


def copied(folder: Path, into: Store) -> Lake:
    for entry in list(LocalStore(folder).list("")):
        into.put(entry.key, folder / entry.key)
    return Lake.open(into)


@FAR
def test_a_query_asks_for_its_own_parts_alone_and_never_lists_the_bucket(
    store: Store, proxied: tuple[HttpProxy, Callable[[], Lake]], own_folder: Path
) -> None:
    proxy, opened = proxied
    lake = Lake.create(store)
    for source in ("one", "two"):
        for n in range(3):
            with lake.load(source) as load:
                for table in "abcdef":
                    load.write(table, [{"id": n, "x": table}])

    def asked(sql: str) -> tuple[list[tuple[Any, ...]], list[str]]:
        proxy.clear()
        rows = opened().query(sql).fetchall()
        return rows, [request.path for request in proxy.seen]

    cold, paths = asked("select count(*) from one.b")
    assert cold == [(3,)]
    parts = [path for path in paths if ".parquet" in path]
    assert len(parts) == 3
    assert all(
        "b" in path and "/one%2Fb%2F".replace("%2F", "/") in path.replace("%2F", "/") for path in parts
    )
    assert len(paths) - len(parts) <= 60  # the logs of both sources, once: no table costs anything

    warm, paths = asked("select count(*) from one.b")
    assert warm == cold
    assert not [path for path in paths if ".parquet" in path or "pack" in path]
    assert len(paths) <= 3 + 6 * 2
    whole = [
        p
        for p in paths
        if "prefix" in p
        and "delimiter" not in p
        and "_log" not in p
        and "_tags" not in p
        and "_derived" not in p
    ]
    assert not whole, whole

    with Lake.open(store).load("one") as load:
        load.write("b", [{"id": 9, "x": "b"}])
    newer, paths = asked("select count(*) from one.b")
    assert newer == [(4,)]
    assert len([path for path in paths if ".parquet" in path]) == 1


@FAR
def test_a_bucket_lake_reads_as_the_same_lake_in_a_folder(
    store: Store, tmp_path: Path, own_folder: Path
) -> None:
    row = {
        "key": "a", "flag": True, "small": 1, "wide": 2**60, "real": 1.5, "text": "ä\nb", "raw": b"\x00\xff",
        "day": date(2026, 1, 2), "clock": time(3, 4, 5), "local": datetime(2026, 1, 2, 3),  # noqa: DTZ001
        "instant": datetime(2026, 1, 2, 3, tzinfo=UTC), "money": Decimal("1.50"), "mixed": 1,
        "list": [1, 2], "deep": [{"a": 1, "b": None}], "struct": {"x": 1.5, "y": ["z"]}, "nothing": None,
    }  # fmt: skip
    local = Lake.create(tmp_path / "folder" / "lake")
    for n in range(6):
        rows = [
            row | {"real": row["real"] + n, "mixed": 1 if n % 2 else {"a": n}},
            row | {"key": f"b{n}", "list": []},
        ]
        with local.load("s", observed_at=datetime(2026, 1, n + 1, tzinfo=UTC)) as load:
            load.write("kept", rows, disposition="replace", primary_key="key")
            load.write("added", rows)
            load.write("empty", [], disposition="append")
    compact(local, "s")
    lake = copied(tmp_path / "folder" / "lake", store)
    far, near = lake.session(), local.session()
    for name in [
        "kept",
        "added",
        "kept_history",
        "kept_at(3)",
        "added_at('2026-01-03')",
        "kept_diff(2, 5)",
        "kept_history_at(4)",
    ]:
        sql = f"select * from s.{name} order by all"
        assert far.query(sql).fetchall() == near.query(sql).fetchall(), name
        assert far.connection.description == near.connection.description, name


@FAR
def test_a_damaged_part_is_told_and_never_kept(store: Store, own_folder: Path) -> None:
    lake = Lake.create(store)
    with lake.load("s") as load:
        load.write("t", [{"a": 1}])
    part = lake.log("s").tables["t"].files[0].path
    content = store.get(part)
    store.put(part, content[:40] + bytes([content[40] ^ 1]) + content[41:])
    with pytest.raises(DamagedPartError, match=part):
        lake.query("select * from s.t").fetchall()
    assert not kept(own_folder)
    store.delete(part)
    with pytest.raises(MissingPartError, match="lake_load"):
        lake.query("select * from s.t").fetchall()
    store.put(part, content)
    assert lake.query("select * from s.t").fetchall() == [(1,)]
    (cached,) = kept(own_folder)
    cached.write_bytes(content[:-1])  # a crash of the machine may leave it so
    assert Lake.open(store).query("select * from s.t").fetchall() == [(1,)]
    assert cached.read_bytes() == content


@FAR
def test_of_a_large_part_a_few_columns_are_fetched_and_all_of_it_once(
    store: Store, proxied: tuple[HttpProxy, Callable[[], Lake]], own_folder: Path
) -> None:
    proxy, opened = proxied
    rows = numbers(400_000, 12, 1)
    with Lake.create(store).load("s") as load:
        load.write("t", rows)
    size = opened().log("s").tables["t"].files[0].size_bytes
    assert size > 8 * fetching.WHOLE
    expected = (rows.num_rows, float(np.sort(rows["c3"].to_numpy())[0]))
    for _ in range(2):
        assert opened().query("select count(*), min(c3) from s.t").fetchall() == [expected]
    assert not kept(own_folder)
    found = opened().session().connection.sql("select * exclude (id) from s.t order by id").to_arrow_table()
    assert found.equals(rows.drop_columns(["id"]))
    assert [path.stat().st_size for path in kept(own_folder)] == [size]
    proxy.clear()
    assert opened().query("select count(*), min(c3) from s.t").fetchall() == [expected]
    assert not [request.path for request in proxy.seen if ".parquet" in request.path]


@FAR
def test_threads_that_read_one_part_at_once_read_what_is_there(store: Store, own_folder: Path) -> None:
    rows = numbers(500_000, 3, 2)
    lake = Lake.create(store)
    with lake.load("s") as load:
        load.write("t", rows)
    start = threading.Barrier(4)

    def ask(n: int) -> pa.Table:
        session = Lake.open(store).session() if n % 2 else lake.session()
        start.wait()
        return session.connection.sql("select * from s.t order by id").to_arrow_table()

    with ThreadPoolExecutor(4) as pool:
        assert all(found.equals(rows) for found in pool.map(ask, range(4)))


@FAR
def test_the_cache_stays_within_its_size(
    store: Store, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.create(store)
    for n in range(12):
        with lake.load("s") as load:
            load.write("t", numbers(5_000, 4, n))
    sizes = [file.size_bytes for file in lake.log("s").tables["t"].files]
    monkeypatch.setenv(cache.SIZE, str(4 * max(sizes)))
    assert lake.query("select count(*) from s.t").fetchall() == [(60_000,)]
    assert 0 < sum(path.stat().st_size for path in kept(own_folder)) <= 4 * max(sizes)


@FAR
def test_without_a_cache_nothing_stays(
    store: Store, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.PLACE, cache.OFF)
    lake = Lake.create(store)
    with lake.load("s") as load:
        load.write("t", [{"a": 1}])
    assert lake.query("select * from s.t").fetchall() == [(1,)]
    path = catalog_path(lake)
    assert path is not None
    assert path.exists()  # of this process: it goes with it
    assert not own_folder.exists()


@FAR
def test_a_cache_that_may_not_be_written_costs_time_only(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv(cache.PLACE, str(blocked))
    lake = Lake.create(store)
    with lake.load("s") as load:
        load.write("t", [{"a": 1}])
    assert lake.query("select * from s.t").fetchall() == [(1,)]
    assert os.environ[cache.PLACE] == str(blocked)
    assert blocked.read_text() == "no folder"
