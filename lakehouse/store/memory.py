"""A store in memory: the twin of the others for tests and for throw-away lakes."""

import io
import threading
from collections.abc import Iterator
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

    def get(self, key: str) -> bytes:
        """The whole object. Raises Absent."""
        try:
            return self._objects[key]
        except KeyError:
            raise Absent(key) from None

    def read(self, key: str, first: int, last: int) -> bytes:
        """The bytes of an object from `first` up to `last`, exclusive. Raises Absent."""
        return self.get(key)[first:last]

    def open(self, key: str) -> BinaryIO:
        """The object as a seekable binary reader. Raises Absent."""
        return io.BytesIO(self.get(key))

    def put(self, key: str, data: bytes | Path) -> None:
        """Write an object, replacing one that is there."""
        self._objects[key] = data if isinstance(data, bytes) else data.read_bytes()

    def create(self, key: str, data: bytes) -> None:
        """Write an object only if there is none with that key. Raises Exists."""
        with self._lock:
            if key in self._objects:
                raise Exists(key)
            self._objects[key] = data

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key begins with the prefix, in order of key."""
        for key in sorted(k for k in self._objects if k.startswith(prefix)):
            yield Entry(key, len(self._objects[key]))

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        self._objects.pop(key, None)
