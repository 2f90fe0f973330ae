"""What every store can do. A store knows nothing of lakes, logs or Parquet."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from lakehouse.errors import LakehouseError


class Absent(LakehouseError):  # noqa: N818 - an answer that callers act on, not a fault
    """There is no object with that key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key}: is not there")
        self.key = key


class Exists(LakehouseError):  # noqa: N818 - an answer that callers act on, not a fault
    """There is an object with that key already; nothing was written."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key}: is there already")
        self.key = key


@dataclass(frozen=True, slots=True)
class Entry:
    """An object of a listing."""

    key: str
    size_bytes: int


class Store(Protocol):
    """Bytes by key. Keys are relative, use `/`, and never begin or end with it.

    A write is whole or not there: no reader ever sees part of an object. Once a write returned, it
    survives a crash of the process and, where the store can, of the machine.
    """

    @property
    def url(self) -> str:
        """Where the store is, for people: a folder's path or a URL, without secrets."""

    def get(self, key: str) -> bytes:
        """The whole object. Raises Absent."""

    def open(self, key: str) -> BinaryIO:
        """The object as a seekable binary reader. Raises Absent."""

    def read(self, key: str, first: int, last: int) -> bytes:
        """The bytes of an object from `first` up to `last`, exclusive. Raises Absent."""

    def put(self, key: str, data: bytes | Path) -> None:
        """Write an object, replacing one that is there. A Path is a local file to take the bytes from."""

    def create(self, key: str, data: bytes) -> None:
        """Write an object only if there is none with that key: of several callers one wins.

        Raises Exists for all others; nothing of theirs is written.
        """

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key begins with the prefix, which is empty or ends with `/`, in order of key."""

    def delete(self, key: str) -> None:
        """Remove an object; removing one that is not there is not an error."""
