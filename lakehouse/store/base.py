"""What every store can do. A store knows nothing of lakes, logs or Parquet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
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
    """What a store says about an object.

    Attributes:
        key: Its key.
        size_bytes: Its size.
        checksums: What the store reports, in lower-case hex: `md5`, `crc32c`, `sha256`, `etag32m` (S3's ETag of
            an object sent in pieces of 32 MiB: the MD5 of their MD5s, and their number), or `etag`, which only
            tells whether the object is still the same. Folders and memory report none.
    """

    key: str
    size_bytes: int
    checksums: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class Store(Protocol):
    """Bytes by key. Keys are relative, use `/`, and never begin or end with it.

    A write is whole or not there: no reader ever sees part of an object. Once a write returned, it
    survives a crash of the process and, where the store can, of the machine; where the store reports a
    checksum, it is that of what was sent. Stores may be used by many threads at once.
    """

    @property
    def url(self) -> str:
        """Where the store is, for people: a folder's path or a URL, without secrets."""

    @property
    def creates(self) -> bool:
        """Whether `create` is create-if-absent, which a lake that is written needs as its lock."""

    def get(self, key: str) -> bytes:
        """The whole object. Raises Absent."""

    def open(self, key: str) -> BinaryIO:
        """The object as a seekable binary reader. Raises Absent."""

    def stat(self, key: str) -> Entry:
        """Size and checksums of an object. Raises Absent."""

    def put(self, key: str, data: bytes | Path) -> None:
        """Write an object, replacing one that is there. A Path is a local file to take the bytes from.

        Raises:
            IntegrityError: The store holds other bytes than were sent.
        """

    def create(self, key: str, data: bytes | Path) -> None:
        """Write an object only if there is none with that key: of several callers one wins.

        Over a network the answer to a write may be lost. It is then tried again and finds its own object:
        whoever gets Exists has to compare what is there with what it wrote.

        Raises:
            Exists: There is one; nothing was written, or by this very call.
            IntegrityError: The store holds other bytes than were sent.
        """

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key begins with the prefix, which is empty or ends with `/`, in order of key."""

    def folders(self, *, holding: str) -> Sequence[str]:
        """Names of the folders at the top that hold objects in a folder of a name, sorted.

        Not by a listing of everything: one look at the top, and one into each folder there.
        """

    def delete(self, key: str) -> None:
        """Remove an object; removing one that is not there is not an error."""
