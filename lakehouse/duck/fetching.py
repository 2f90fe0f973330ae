"""Fetching the parts of a lake that is not local: whole where most is needed, ahead of who asks, checked.

Nothing here knows DuckDB: a thread that still fetches when the process ends must not hold on to it.
"""

import contextlib
import copy
import hashlib
import os
import queue
import re
import secrets
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from lakehouse.core import layout
from lakehouse.duck.cache import Cache, cache
from lakehouse.errors import DamagedPartError, LakehouseError, MissingPartError
from lakehouse.store.base import Absent, Store
from lakehouse.store.remote import FsspecStore

if TYPE_CHECKING:
    from lakehouse.core.files import File
    from lakehouse.core.log import TableLog
    from lakehouse.lake import Lake

WHOLE = 2 * 2**20  # bytes up to which a part is fetched at once: its end alone would take as long
SHARE = 4  # a larger one is fetched whole once a quarter of it was asked for
AHEAD = 128 * 2**20  # bytes of the parts that a query names next which are fetched meanwhile,
AHEAD_FILES = 64  # at most so many parts,
AT_ONCE = 16  # so many at a time
_REMEMBERED = 100  # errors
_NAME = re.compile(r"lake-error-[0-9a-f]{16}")
_VERIFY = "Run `lakehouse verify` to see what is missing or damaged; restore it from a mirror or backup."
_DERIVED = "It is derived: delete the folder _derived of the lake, then run: lakehouse refresh"
_DIGEST = re.compile(r"/([0-9a-f]{24})\.parquet$")

Known = Mapping[str, tuple[str, int]]  # SHA-256 and size by key


class Parts:
    """The parts of a lake as one connection reads them."""

    def __init__(self, lake: "Lake", known: Known) -> None:
        self.store: Store = lake.store
        self.cache: Cache | None = cache() if is_far(lake.store) else None
        self.eager: set[str] = set()  # tables of which a large part was needed whole
        self._lake = weakref.ref(lake)  # which may hold the connection that holds this
        self._known = known
        self._of_logs: dict[str, tuple[TableLog, Mapping[str, File]]] = {}
        self._parts: dict[str, Part] = {}
        self._next: dict[str, str] = {}
        self._last = ""

    def part(self, key: str) -> "Part":
        """A part of the lake. Raises LakehouseError where it is not known, and the store cannot tell."""
        found = self._parts.get(key)
        if found is None:
            sha256, size_bytes = self._known.get(key) or self._said(key) or self._looked_up(key)
            found = self._parts.setdefault(key, Part(self, key, sha256, size_bytes))
        return found

    def listed(self, key: str) -> None:
        """Hear that a query names a part, after the one before."""
        self._next.pop(key, None)
        if self._last:
            self._next[self._last] = key
        self._last = key

    def opened(self, key: str) -> "Part":
        """A part that is to be read: what is named from now on is another list."""
        self._last = ""
        return self.part(key)

    def ahead(self, key: str) -> None:
        """Begin to fetch the parts that are named after one that was needed whole."""
        size, count = 0, 0
        while (key := self._next.get(key, "")) and count < AHEAD_FILES and size < AHEAD:
            try:
                part = self.part(key)
            except LakehouseError:  # whoever opens it is told
                return
            size, count = size + part.size_bytes, count + 1
            if part.is_wanted_whole and not part.queued:
                part.queued = True
                _queue(os.getpid()).put(weakref.ref(part))

    def _said(self, key: str) -> tuple[str, int] | None:
        """What the logs that were read say of a part."""
        name = table_of(key)
        source, _, table = name.partition("/")
        log = getattr(self._lake(), "known", lambda _: None)(source)
        about = log.tables.get(table) if log else None
        if about is None:
            return None
        before, files = self._of_logs.get(name, (None, {}))
        if before is not about:
            files = about.parts.known().files
            self._of_logs[name] = about, files
        return (files[key].sha256, files[key].size_bytes) if key in files else None

    def _looked_up(self, key: str) -> tuple[str, int]:
        """What the name of a derived file says, and what is kept of it, or the store."""
        named = _DIGEST.search(key)
        digest = named[1] if named else ""
        size = self.cache.size_of(digest) if self.cache and digest else None
        try:
            return digest, self.store.stat(key).size_bytes if size is None else size
        except Absent:
            raise _missing(key) from None


class Part:
    """A part, or a derived file, that does not lie in a local folder.

    Attributes:
        key: Its key.
        size_bytes: Its size.
        queued: Whether it is being fetched before somebody asks for it.
    """

    def __init__(self, parts: Parts, key: str, sha256: str, size_bytes: int) -> None:
        self.key = key
        self.size_bytes = size_bytes
        self.queued = False
        self._parts = parts
        self._sha256 = sha256
        self._asked = 0
        self._data: bytes | None = None  # where it could not be kept
        self._lock = threading.Lock()

    @property
    def is_wanted_whole(self) -> bool:
        """Whether it is worth fetching all of it, as far as is known before it is read."""
        cache = self._parts.cache
        if cache is None or not self._sha256 or self.size_bytes > cache.size_bytes // SHARE:
            return False
        return self.size_bytes <= WHOLE or table_of(self.key) in self._parts.eager

    def open(self, wanted: int) -> "int | bytes | None":
        """What to read it from, if so many bytes are wanted: a descriptor, all its bytes, or None for the store."""
        cache = self._parts.cache
        if cache is None or not self._sha256:
            return None
        with self._lock:
            if self._data is not None:
                return self._data
            found = cache.open(self._sha256, self.size_bytes)
            if found is not None:
                return found
            self._asked += wanted
            if self._asked * SHARE > self.size_bytes:
                self._parts.eager.add(table_of(self.key))
            if not self.is_wanted_whole:
                return None
            self._parts.ahead(self.key)
            return self._fetched(cache)

    def read(self, first: int, last: int) -> bytes:
        """Some of its bytes, from the store."""
        store = self._parts.store
        try:
            if isinstance(store, FsspecStore):
                return store.read(self.key, first, last)
            with store.open(self.key) as file:
                file.seek(first)
                return file.read(last - first)
        except Absent:
            raise _missing(self.key) from None

    def fetch_early(self) -> None:
        """Fetch it, if it is not there; whoever opens it is told what went wrong."""
        cache = self._parts.cache
        with self._lock, contextlib.suppress(OSError, LakehouseError):
            found = cache.open(self._sha256, self.size_bytes) if cache else None
            if found is not None:
                os.close(found)
            elif cache and self._data is None:
                fetched = self._fetched(cache)
                if isinstance(fetched, int):
                    os.close(fetched)

    def _fetched(self, cache: Cache) -> "int | bytes":
        """Fetch all of it and compare it with its digest."""
        try:
            data = self._parts.store.get(self.key)
        except Absent:
            raise _missing(self.key) from None
        found = hashlib.sha256(data).hexdigest()
        if not found.startswith(self._sha256) or len(data) != self.size_bytes:
            msg = (
                f"{self.key}: is damaged: it has {len(data):,} bytes and the SHA-256 {found[: len(self._sha256)]}, "
                f"not {self.size_bytes:,} and {self._sha256}"
            )
            raise DamagedPartError(msg, path=self.key, hint=_DERIVED if _is_derived(self.key) else _VERIFY)
        try:
            cache.keep(self._sha256, data)
        except OSError:  # the disk is full
            self._data = data
            return data
        kept = cache.open(self._sha256, self.size_bytes)
        return data if kept is None else kept


def _missing(key: str) -> MissingPartError:
    return MissingPartError(f"{key}: is not there", path=key, hint=_DERIVED if _is_derived(key) else _VERIFY)


def _is_derived(key: str) -> bool:
    return key.startswith(f"{layout.DERIVED}/")


# DuckDB passes errors of a file system on as text. So that it can be told what they were, the text names them.
_met: OrderedDict[str, LakehouseError] = OrderedDict()


def named(error: LakehouseError) -> OSError:
    """An error for DuckDB to pass on, of which `behind` gives what it stands for."""
    name = f"lake-error-{secrets.token_hex(8)}"
    _met[name] = copy.copy(error)  # what is raised is tied to frames, and so to connections, which have to go
    while len(_met) > _REMEMBERED:
        _met.popitem(last=False)
    return OSError(f"{error.message} [{name}]")


def behind(text: str) -> LakehouseError | None:
    """The error that a text of DuckDB names, anew; None if it names none."""
    found = _NAME.search(text)
    return copy.copy(_met.get(found[0])) if found else None


@lru_cache(maxsize=1)
def _queue(process: int) -> "queue.SimpleQueue[weakref.ref[Part]]":
    """Where parts wait to be fetched early; nobody waits for them when the process ends."""
    del process  # one that was forked has no threads
    waiting: queue.SimpleQueue[weakref.ref[Part]] = queue.SimpleQueue()
    for _ in range(AT_ONCE):
        threading.Thread(target=_fetch_all, args=(waiting,), daemon=True).start()
    return waiting


def _fetch_all(waiting: "queue.SimpleQueue[weakref.ref[Part]]") -> None:
    while True:
        part = waiting.get()()
        if part is not None:
            part.fetch_early()
            del part


def is_far(store: Store) -> bool:
    """Whether what is in a store is worth keeping on this machine."""
    return isinstance(store, FsspecStore) and store.protocol != "memory"


def table_of(key: str) -> str:
    """The source and the table of a part; the folder of a derived file."""
    return key.rsplit("/", 1)[0] if _is_derived(key) else "/".join(key.split("/", 2)[:2])
