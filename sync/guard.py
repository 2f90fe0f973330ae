"""A mirror as somebody else may have left it: read only, and only as much of it as a lake may hold.

A store that is asked for an object gives all of it, however large. Here its size is looked up first, by one
listing for each source; what is derived is not there, as it is not trusted; and what is not a file is not opened.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, NoReturn

from lakehouse.core import layout
from lakehouse.errors import FormatError, UnsafePathError, UserError
from lakehouse.logpack import MOST_BYTES
from lakehouse.store import Absent, Entry, LocalStore, Store

MOST = MappingProxyType(
    {
        layout.LAKE_FILE: 1 << 16,
        layout.TAGS: 1 << 20,
        layout.QUARANTINE: 1 << 30,
        "load.json": 16 << 20,
        "log": MOST_BYTES,
        "part": 64 << 20,  # larger ones are read in blocks
    }
)


class Guarded:
    """Another store, read only and within bounds.

    Args:
        store: The store.
        sources: Only these sources are there; all when None.
        until: By source, the number of a commit: log files that begin after it are not there.
    """

    def __init__(
        self,
        store: Store,
        *,
        sources: Sequence[str] | None = None,
        until: Mapping[str, int] | None = None,
    ) -> None:
        self._store = store
        self._sources = sources
        self._until = until or {}
        self._entries: dict[str, Entry] = {}
        self._listed: set[str] = set()

    @property
    def url(self) -> str:
        """Where the store is."""
        return self._store.url

    @property
    def creates(self) -> bool:
        """Whether it may be written: it may not."""
        return False

    def get(self, key: str) -> bytes:
        """The whole object, if it is not larger than such a one may be.

        Raises:
            Absent: There is none.
            FormatError: It is larger.
        """
        most = _most(key)
        if self.stat(key).size_bytes <= most:
            content = self._store.get(key)
            if len(content) <= most:  # whatever the store said before
                return content
        msg = f"{self.url}/{key}: has {self.stat(key).size_bytes:,} bytes; such a file has {most:,} at most"
        raise FormatError(msg, path=key, hint="It was not read. Something else than lakehouse wrote it.")

    def open(self, key: str) -> BinaryIO:
        """The object as a seekable binary reader. Raises Absent."""
        self.stat(key)
        return self._store.open(key)

    def stat(self, key: str) -> Entry:
        """Size and checksums of an object, from a listing where there is one. Raises Absent."""
        top = key.partition("/")[0]
        if not _is_plain(key) or self._is_hidden(key):
            raise Absent(key)
        if top != key and top not in self._listed:
            self._listed.add(top)
            for _ in self.list(f"{top}/"):
                pass
        if key not in self._entries:
            self._entries[key] = self._store.stat(key)
        elif isinstance(self._store, LocalStore):  # a name there tells nothing of what is behind it
            return _file(self._store, key)
        return self._entries[key]

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key begins with the prefix, in order of key."""
        for entry in self._store.list(prefix):
            if _is_plain(entry.key) and not self._is_hidden(entry.key):
                self._entries[entry.key] = entry
                yield entry

    def folders(self, *, holding: str) -> Sequence[str]:
        """Names of the folders at the top that hold objects in a folder of a name, sorted."""
        found = self._store.folders(holding=holding)
        return [name for name in found if self._sources is None or name in self._sources]

    def put(self, key: str, data: bytes | Path) -> NoReturn:
        """Refuse."""
        raise UserError(f"{self.url}/{key}: is only read here; {data!r:.20} was not written")

    create = put

    def delete(self, key: str) -> NoReturn:
        """Refuse."""
        self.put(key, b"")

    def _is_hidden(self, key: str) -> bool:
        source, _, rest = key.partition("/")
        if source not in self._until or not rest.startswith("_log/"):
            return False
        span = layout.log_pack_span(key)
        return (span[0] if span else layout.log_file_seq(key) or 0) > self._until[source]


def _is_plain(key: str) -> bool:
    """Whether a lake may have such a key; a bucket may have any."""
    pieces = key.split("/")
    if pieces[0] == layout.DERIVED or any(
        p in {"", ".", ".."} or not p.isprintable() or "\\" in p for p in pieces
    ):
        return False
    if pieces[1:2] == ["_log"]:
        seq, span = layout.log_file_seq(key), layout.log_pack_span(key)
        names = {layout.log_key(pieces[0], seq or 0), layout.log_pack_key(pieces[0], *(span or (0, 0)))}
        return key in names
    return True


def _file(store: LocalStore, key: str) -> Entry:
    """Size of a file, or an error where it is no file."""
    try:
        return store.stat(key)
    except Absent:
        path = store.path(key)
        if not path.exists():
            raise
    msg = f"{path}: is no file; it was not opened"
    raise UnsafePathError(msg, path=key, hint="Put the real file in its place.")


def _most(key: str) -> int:
    """Bytes that an object of such a key has at most."""
    pieces = key.split("/")
    with contextlib.suppress(KeyError):
        return MOST[pieces[-1]]
    with contextlib.suppress(KeyError):
        return MOST[pieces[0]]
    return MOST["log" if pieces[1:2] == ["_log"] else "part"]
