"""How DuckDB opens the parts of a lake that is not a local folder: the store as a file system."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import duckdb

from lakehouse.store.base import Absent, Store
from lakehouse.store.local import LocalStore

if TYPE_CHECKING:
    from lakehouse.lake import Lake

PROTOCOL = "lake"


def connect(lake: "Lake", database: str = ":memory:", **settings: Any) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that can open a lake's parts at the places that `lake.locate` gives."""
    connection = duckdb.connect(database, **settings)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")  # of cursors, too
    if not isinstance(lake.store, LocalStore):
        connection.register_filesystem(_filesystem(lake.store))
    return connection


def _filesystem(store: Store) -> Any:
    from fsspec import AbstractFileSystem

    class LakeFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
        """Keys of a store as read-only files `lake://<lake id>/<key>`."""

        protocol = PROTOCOL
        cachable = False

        def _open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
            if mode != "rb":
                msg = f"{path}: the lake is read-only here"
                raise PermissionError(msg)
            try:
                return cast("BinaryIO", _Handle(store.open(_key(path))))
            except Absent:
                raise FileNotFoundError(path) from None

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            handle = self._open(path)
            size = handle.seek(0, 2)
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
    """An open part. DuckDB drops its handles without closing them, so that is done here."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __del__(self) -> None:
        self._file.close()


def _key(path: str) -> str:
    return path.removeprefix(f"{PROTOCOL}://").split("/", 1)[1]
