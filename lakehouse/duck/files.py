"""How DuckDB opens the parts of a lake that is not a local folder: the store as a file system.

Parts never change, so they are fetched whole where most of them is needed, compared with the digest
that their commit names, and kept (`lakehouse.duck.cache`). Of a large part of which a query reads a few
columns only those are fetched. See `docs/adr/0013-reading-from-buckets.md`.
"""

import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb

from lakehouse.duck.fetching import Known, Part, Parts, named
from lakehouse.errors import LakehouseError
from lakehouse.store.local import LocalStore

if TYPE_CHECKING:
    from lakehouse.lake import Lake

PROTOCOL = "lake"

StandIn = Callable[[str], bytes]  # what to read in the place of the part with a key


def connect(
    lake: "Lake",
    database: str = ":memory:",
    *,
    known: Known | None = None,
    stand_in: StandIn | None = None,
    **settings: Any,
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that can open a lake's parts at the places that `lake.locate` gives.

    Args:
        lake: The lake.
        database: What DuckDB opens.
        known: Digests and sizes of parts by key, beside what the logs say that the lake has read.
        stand_in: Gives what is read of a part that is not local; without it, the part.
        settings: Passed on to DuckDB.
    """
    connection = duckdb.connect(database, **settings)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")  # of cursors, too
    if not isinstance(lake.store, LocalStore):
        connection.register_filesystem(_filesystem(Parts(lake, {} if known is None else known), stand_in))
        connection.execute("SET GLOBAL parquet_metadata_cache = true")  # parts never change
    return connection


def _filesystem(parts: "Parts", stand_in: StandIn | None) -> Any:
    from fsspec import AbstractFileSystem

    class LakeFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
        """Keys of a store as read-only files `lake://<lake id>/<key>`."""

        protocol = PROTOCOL
        cachable = False

        def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
            if mode != "rb":
                msg = f"{path}: the lake is read-only here"
                raise PermissionError(msg)
            if stand_in is not None:
                return io.BytesIO(stand_in(_key(path)))
            with _named():
                return _Handle(parts.opened(_key(path)))

        def glob(self, path: str, **_: Any) -> list[str]:
            """DuckDB asks so for each file of a list, in order, before it opens the first one."""
            parts.listed(_key(path))
            return [path]

        def exists(self, path: str, **_: Any) -> bool:
            del path
            return True

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            key = _key(path)
            with _named():
                size = len(stand_in(key)) if stand_in is not None else parts.part(key).size_bytes
            return {"name": path, "size": size, "type": "file"}

        def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
            found = self.info(path)
            return [found if detail else found["name"]]

        def modified(self, path: str) -> datetime:
            """Parts never change."""
            del path
            return datetime(1970, 1, 1, tzinfo=UTC)

    return LakeFiles()


class _Handle:
    """An open part. DuckDB reads one handle from several threads, each of which seeks before it reads."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._local: int | bytes | None = None
        self._at = threading.local()
        self._lock = threading.Lock()
        self.closed = False

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, in this thread."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._part.size_bytes}[whence]
        self._at.offset = base + offset
        return base + offset

    def tell(self) -> int:
        """The place of this thread."""
        return int(getattr(self._at, "offset", 0))

    def read(self, size: int = -1) -> bytes:
        """Bytes from the place of this thread on."""
        first = self.tell()
        last = self._part.size_bytes if size < 0 else min(first + size, self._part.size_bytes)
        with _named():
            data = self._between(first, last) if first < last else b""
        self._at.offset = first + len(data)
        return data

    def _between(self, first: int, last: int) -> bytes:
        with self._lock:
            if self._local is None:
                self._local = self._part.open(last - first)
        if self._local is None:
            return self._part.read(first, last)
        if isinstance(self._local, bytes):
            return self._local[first:last]
        return os.pread(self._local, last - first, first)

    def seekable(self) -> bool:
        """It is."""
        return True

    def readable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is not."""
        return False

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            if isinstance(self._local, int):
                os.close(self._local)
            self._local, self.closed = b"", True

    def __del__(self) -> None:  # DuckDB drops its handles without closing them
        self.close()


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except LakehouseError as error:
        raise named(error) from None


def _key(path: str) -> str:
    return path.removeprefix(f"{PROTOCOL}://").split("/", 1)[1]
