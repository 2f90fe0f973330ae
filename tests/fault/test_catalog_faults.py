"""The derived catalog, written by DuckDB itself: interrupted anywhere, the old file stays as it was."""

import contextlib
import errno
import itertools
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from fault_injection import Disk
from fault_processes import Child, kill_now

from lakehouse import Lake
from lakehouse.duck.session import catalog_path, refresh
from lakehouse.errors import LakehouseError


@pytest.fixture
def outdated(three_loads: Path) -> Path:
    """A lake whose catalog knows all loads but the newest."""
    lake = Lake.open(three_loads)
    lake.query("SELECT 1")
    with lake.load("shop", load_id="newest") as load:
        load.write("log", [{"line": "newest"}])
    return three_loads


def catalog_of(lake: Path) -> Path:
    path = catalog_path(Lake.open(lake))
    assert path
    return path


def loads_in(path: Path) -> int:
    """What a client that knows nothing of lakes reads from the catalog file; it has to be whole."""
    with duckdb.connect(str(path), read_only=True) as client:
        (loads,) = client.execute("SELECT count(*) FROM main.loads WHERE source = 'shop'").fetchone() or (0,)
        assert client.execute("SELECT count(*) FROM shop.log").fetchone() == (
            2 * min(loads, 3) + (loads == 4),
        )
        assert client.execute("SELECT count(*) FROM shop.log_at(1)").fetchone() == (2,)
    return int(loads)


def assert_recovers(lake: Path) -> None:
    assert loads_in(catalog_of(lake)) in (3, 4)
    assert Lake.open(lake).query("SELECT count(*) FROM shop.log").fetchone() == (7,)
    assert loads_in(catalog_of(lake)) == 4


def test_killed_at_any_step_of_a_refresh_the_catalog_is_the_old_or_the_new_one(outdated: Path) -> None:
    old = catalog_of(outdated).read_bytes()

    def killed(n: int) -> bool:
        catalog_of(outdated).write_bytes(old)

        def run() -> bool:
            with Disk(outdated.parent, n, lambda _: kill_now()):
                refresh(Lake.open(outdated))
            return True

        done = bool(Child(run).wait())
        assert_recovers(outdated)
        return done

    assert next(n for n in itertools.count(1) if killed(n)) > 5


@pytest.mark.parametrize("delay_ms", [1, 10, 25, 50, pytest.param(120, marks=pytest.mark.soak)])
def test_killed_at_any_time_while_duckdb_writes_the_catalog_stays_whole(
    delay_ms: int, outdated: Path
) -> None:
    def refreshing() -> None:
        lake = Lake.open(outdated)
        while True:
            refresh(lake, force=True)

    child = Child(refreshing)
    time.sleep(delay_ms / 1000)
    child.kill()
    assert child.wait() is None
    assert_recovers(outdated)


def _room_for(size_bytes: int, action: Callable[[], None]) -> Callable[[], str]:
    """The action in a process whose files cannot grow beyond a size: DuckDB meets it like a full disk."""

    def run() -> str:
        lake_error = ""
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))
        try:
            action()
        except LakehouseError as error:
            lake_error = str(error)
        return lake_error

    return run


@pytest.mark.parametrize("size_kb", [0, 4, 12, 13, 64, 128, 268])
def test_a_disk_that_fills_while_the_catalog_is_written_leaves_the_old_one(
    size_kb: int, outdated: Path
) -> None:
    path = catalog_of(outdated)
    old, size = path.read_bytes(), path.stat().st_size
    assert size_kb * 1024 < size, "the catalog would have room enough"
    error = Child(_room_for(size_kb * 1024, lambda: refresh(Lake.open(outdated)) and None)).wait()
    assert path.read_bytes() == old
    assert error, "a refresh that could not write has to say so"
    assert [p.name for p in path.parent.iterdir() if p.name.endswith((".tmp", ".wal"))] == []
    assert_recovers(outdated)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_an_error_at_any_step_of_a_refresh_leaves_a_whole_catalog(code: int, outdated: Path) -> None:
    old = catalog_of(outdated).read_bytes()

    def strike(_: str) -> None:
        raise OSError(code, os.strerror(code))

    for n in itertools.count(1):
        catalog_of(outdated).write_bytes(old)
        disk = Disk(outdated.parent, n, strike)
        with contextlib.suppress(LakehouseError), disk:  # no other error may come out
            refresh(Lake.open(outdated))
        assert_recovers(outdated)
        if not disk.struck:
            break


@pytest.mark.parametrize("damage", ["torn", "empty", "text", "flipped", "stray wal"])
def test_a_damaged_catalog_is_built_anew(damage: str, outdated: Path) -> None:
    path = catalog_of(outdated)
    content = path.read_bytes()
    middle = len(content) // 2
    if damage == "stray wal":
        Path(f"{path}.wal").write_bytes(b"left by a client")
    else:
        path.write_bytes(
            {
                "torn": content[:middle],
                "empty": b"",
                "text": b"not a database",
                "flipped": content[:4096] + bytes(b ^ 255 for b in content[4096:8192]) + content[8192:],
            }[damage]
        )
    assert Lake.open(outdated).query("SELECT count(*) FROM shop.log").fetchone() == (7,)
    assert loads_in(path) == 4
