"""Bulk imports, broken anywhere: whole flushes are there or not, and the same import goes on where it stopped."""

import errno
import itertools
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fault_injection import Disk, NthStep, SteppedFolder
from fault_processes import Child, kill_now

from lakehouse import Lake
from lakehouse.bulk import BulkLoad
from lakehouse.errors import ContentionError, LakehouseError
from lakehouse.store import LocalStore, Store
from lakehouse.verify import verify

VERSIONS = [
    [{"id": 1, "v": "a"}, {"id": 2, "v": "a"}],
    [{"id": 1, "v": "b"}],
    [],
    [{"id": 2, "v": "c"}, {"id": 3, "v": None}],
    [{"id": 2, "v": "c"}, {"id": 3, "v": 1.5}],
]
FLUSHED_AFTER = (1, 3)


def import_all(store: Store) -> None:
    """Import the versions that are not in the lake yet, as `lakehouse import` does, in three flushes."""
    lake = Lake.create(store)
    bulk = BulkLoad(lake, "old", "items", key=["id"])
    for n in range(bulk.log.head, len(VERSIONS)):
        moment = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=n)
        bulk.observe(VERSIONS[n], observed_at=moment, load_id=f"v{n}")
        if n in FLUSHED_AFTER:
            bulk.flush()
    bulk.flush()


def states(root: Path) -> list[list[tuple[Any, ...]]]:
    """The table after each load, as SQL has it."""
    lake = Lake.open(root)
    loads = lake.log("old").head
    session = lake.session()
    return [
        session.query(f"SELECT id, v::VARCHAR FROM old.items_at({n}) ORDER BY 1").fetchall()
        for n in range(1, loads + 1)
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[list[tuple[Any, ...]]]:
    root = tmp_path_factory.mktemp("bulk") / "lake"
    import_all(LocalStore(root))
    found = states(root)
    assert [len(rows) for rows in found] == [2, 1, 0, 2, 2]
    return found


def assert_resumes(root: Path, undisturbed: list[list[tuple[Any, ...]]]) -> None:
    if (root / "lakehouse.json").exists():
        loads = Lake.open(root).log("old").head
        assert loads in (0, 2, 4, 5), "part of a flush is visible"
    import_all(LocalStore(root))
    assert states(root) == undisturbed
    assert [c.load_id for c in Lake.open(root).log("old").commits] == [f"v{n}" for n in range(5)]
    assert not verify(Lake.open(root)).errors


@pytest.mark.parametrize("phase", ["before", "middle", "after"])
def test_an_import_killed_at_any_operation_is_resumed(
    phase: str, tmp_path: Path, undisturbed: list[list[tuple[Any, ...]]]
) -> None:
    for n in itertools.count(1):
        root = tmp_path / str(n) / "lake"

        def run(n: int = n, root: Path = root) -> bool:
            import_all(SteppedFolder(root, NthStep(n, phase, kill_now)))
            return True

        finished = Child(run).wait()
        assert_resumes(root, undisturbed)
        if finished:
            break
    assert n > 6


@pytest.mark.parametrize("code", [errno.ENOSPC, pytest.param(errno.EIO, marks=pytest.mark.soak)])
def test_an_import_that_meets_a_bad_disk_fails_clearly_and_is_resumed(
    code: int, tmp_path: Path, undisturbed: list[list[tuple[Any, ...]]]
) -> None:
    def strike(_: str) -> None:
        raise OSError(code, os.strerror(code))

    for n in itertools.count(1):
        root = tmp_path / str(n) / "lake"
        with Disk(root, n, strike, kinds=frozenset({"write", "link", "replace"})) as disk:
            failed = []
            try:
                import_all(LocalStore(root))
            except LakehouseError as error:
                failed.append((error.exit_code, bool(error.hint)))
        assert failed == ([(6, True)] if disk.struck else [])
        assert_resumes(root, undisturbed)
        if not disk.struck:
            break


def test_two_imports_of_one_source_at_once_do_not_mix(
    tmp_path: Path, undisturbed: list[list[tuple[Any, ...]]]
) -> None:
    """The loser of a flush stops with a clear error; nothing of it is there, and it can be run again."""
    root = tmp_path / "lake"
    Lake.create(root)

    def overtaken(phase: str, operation: str, key: str) -> None:
        if phase == "before" and operation == "create" and "/_log/" in key:
            import_all(LocalStore(root))

    with pytest.raises(ContentionError, match="old") as caught:
        import_all(SteppedFolder(root, overtaken))
    assert "again" in caught.value.hint
    assert_resumes(root, undisturbed)
