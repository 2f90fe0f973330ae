"""Stores of every kind, each empty."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from clouds import bucket_options

from lakehouse.store import LocalStore, MemoryStore, Store
from lakehouse.store.remote import FsspecStore

KINDS = ("memory", "local", "fsspec-memory", "gcs", "s3")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of store."""
    return str(request.param)


@pytest.fixture
def make_store(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Opens the store of this test, empty at first; each call gives another object over the same place."""
    name = f"lake-{uuid4().hex[:12]}"
    if kind == "memory":
        store = MemoryStore()
        return lambda: store
    if kind == "local":
        return lambda: LocalStore(tmp_path / name)
    if kind == "fsspec-memory":
        return lambda: FsspecStore(f"memory://{name}")
    url = request.getfixturevalue(f"{kind}_server")
    protocol = {"gcs": "gs", "s3": "s3"}[kind]
    return lambda: FsspecStore(f"{protocol}://lakes/{name}", **bucket_options(kind, url))


@pytest.fixture
def store(make_store: Callable[[], Store]) -> Store:
    """An empty store."""
    return make_store()
