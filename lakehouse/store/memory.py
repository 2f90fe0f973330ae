"""A store in memory: the twin of the others for tests and for throw-away lakes."""

import io
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from lakehouse.store.base import Absent, Entry, Exists


class MemoryStore:
    """Objects in a dictionary; safe to use from several threads."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """A name for people."""
        return "memory:"

    @property
    def creates(self) -> bool:
        """It is create-if-absent."""
        return True

    def get(self, key: str) -> bytes:
        """The whole object. Raises Absent."""
        try:
            return self._objects[key]
        except KeyError:
            raise Absent(key) from None

    def open(self, key: str) -> BinaryIO:
        """The object as a seekable binary reader. Raises Absent."""
        return io.BytesIO(self.get(key))

    def stat(self, key: str) -> Entry:
        """Size of an object. Raises Absent."""
        return Entry(key, len(self.get(key)))

    def put(self, key: str, data: bytes | Path) -> None:
        """Write an object, replacing one that is there."""
        self._objects[key] = data if isinstance(data, bytes) else data.read_bytes()

    def create(self, key: str, data: bytes | Path) -> None:
        """Write an object only if there is none with that key. Raises Exists."""
        content = data if isinstance(data, bytes) else data.read_bytes()
        with self._lock:
            if key in self._objects:
                raise Exists(key)
            self._objects[key] = content

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key begins with the prefix, in order of key."""
        with self._lock:
            found = sorted((k, len(v)) for k, v in list(self._objects.items()) if k.startswith(prefix))
        for key, size_bytes in found:
            yield Entry(key, size_bytes)

    def folders(self, *, holding: str) -> Sequence[str]:
        """Names of the folders at the top that hold objects in a folder of a name, sorted."""
        paths = (key.split("/", 2) for key in list(self._objects))
        return sorted({path[0] for path in paths if len(path) > 2 and path[1] == holding})  # noqa: PLR2004

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        self._objects.pop(key, None)
