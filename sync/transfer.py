"""Copying parts from a store to a store: in parallel, within bounds, each proven before it is written.

What is read is compared with the SHA-256 that was committed, so damaged bytes are never copied. What is
there already is compared with it too, and never overwritten.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from lakehouse.core import layout
from lakehouse.errors import DamagedPartError
from lakehouse.store import Absent, Entry, Exists, LocalStore, Store, checksums
from sync.bandwidth import Bandwidth
from sync.plan import Copy

IN_FLIGHT = 256 << 20  # bytes that are on their way at once; a larger part goes alone
WHOLE = 32 << 20  # bytes of a part up to which it is held in memory
LISTED = 32  # parts from which on one listing costs less than asking for each
_BLOCK = 1 << 20
_TEMPORARY = ".tmp-"
_STALE_S = 24 * 3600  # whoever made a folder of this age is dead


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a sync is.

    Attributes:
        files: Files done.
        all_files: Files that there are to do.
        size_bytes: Bytes of those that are done.
        all_bytes: Bytes of all.
    """

    files: int
    all_files: int
    size_bytes: int
    all_bytes: int


Report = Callable[[Progress], None]


class Transfer:
    """Copies parts; a context manager.

    Args:
        connections: How many at once.
        bandwidth: Bytes a second, on average; None for no limit.
        progress: Called after every file, in the thread that asked for it.
    """

    def __init__(
        self, *, connections: int = 16, bandwidth: int | None = None, progress: Report | None = None
    ) -> None:
        self.connections = max(connections, 1)
        self.bandwidth = Bandwidth(bandwidth)
        self.pool = ThreadPoolExecutor(self.connections, thread_name_prefix="sync")
        self._progress = progress
        self._done = Progress(files=0, all_files=0, size_bytes=0, all_bytes=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.bandwidth.interrupted():
            self.pool.shutdown(cancel_futures=True)

    @property
    def done(self) -> Progress:
        """How far it is."""
        return self._done

    def expect(self, files: int, size_bytes: int) -> None:
        """There is more to do, or less where it is negative."""
        done = self._done
        self._done = Progress(
            files=done.files, all_files=max(done.all_files + files, done.files), size_bytes=done.size_bytes,
            all_bytes=max(done.all_bytes + size_bytes, done.size_bytes),
        )  # fmt: skip

    def count(self, size_bytes: int) -> None:
        """A file is done."""
        done = self._done
        self._done = Progress(
            files=done.files + 1, all_files=max(done.all_files, done.files + 1),
            size_bytes=done.size_bytes + size_bytes, all_bytes=max(done.all_bytes, done.size_bytes + size_bytes),
        )  # fmt: skip
        if self._progress is not None:
            self._progress(self._done)

    def copy(
        self, origin: Store, dest: Store, copies: Iterable[Copy], *, there: Mapping[str, Entry] | None = None
    ) -> frozenset[str]:
        """Copy parts, each proven.

        Args:
            origin: Where they are.
            dest: Where they shall be.
            copies: The parts.
            there: What a listing of the other place found; None where nobody looked.

        Returns:
            The paths of those that are not there to be copied.

        Raises:
            DamagedPartError: One is not what was committed, here or there.
        """
        work = _Copying(origin, dest, there or {}, self.bandwidth)
        pending: dict[Future[bool], Copy] = {}
        gone: set[str] = set()
        flying = 0
        try:
            for one in copies:
                while pending and (
                    len(pending) >= 2 * self.connections or flying + one.size_bytes > IN_FLIGHT
                ):
                    flying -= self._settle(pending, gone)
                pending[self.pool.submit(work.one, one)] = one
                flying += one.size_bytes
            while pending:
                self._settle(pending, gone)
        finally:
            if pending:  # it failed, or was interrupted
                with self.bandwidth.interrupted():
                    for future in pending:
                        future.cancel()
                    wait(pending)
        return frozenset(gone)

    def _settle(self, pending: dict[Future[bool], Copy], gone: set[str]) -> int:
        """Wait for at least one of them; returns the bytes that are no longer on their way."""
        landed = 0
        for future in wait(pending, return_when=FIRST_COMPLETED).done:
            one = pending.pop(future)
            landed += one.size_bytes
            if future.result():
                self.count(one.size_bytes)
            else:
                gone.add(one.path)
        return landed


class _Copying:
    """One part after the other, in any thread."""

    def __init__(self, origin: Store, dest: Store, there: Mapping[str, Entry], bandwidth: Bandwidth) -> None:
        self._origin = origin
        self._dest = dest
        self._there = there
        self._bandwidth = bandwidth
        self._asks = isinstance(dest, LocalStore)  # a look at a disk costs less than a part that comes twice

    def one(self, copy: Copy) -> bool:
        """Copy a part, or prove that it is there. Returns False if it is not there to be copied."""
        try:
            entry = self._known(copy)
            if entry is None:
                self._send(copy)
            else:
                self._prove(copy, entry)
        except Absent as absent:
            if absent.key != copy.path:
                raise
            return False
        return True

    def _known(self, copy: Copy) -> Entry | None:
        if not self._asks:
            return self._there.get(copy.path)
        try:
            return self._dest.stat(copy.path)
        except Absent:
            return None

    def _send(self, copy: Copy) -> None:
        with self._room(copy) as folder:
            self._bandwidth.take(copy.size_bytes)
            data = fetch(self._origin, copy, folder=folder)
            try:
                self._dest.create(copy.path, data)
            except Exists:
                self._prove(copy, self._dest.stat(copy.path), data)

    def _prove(self, copy: Copy, entry: Entry, data: bytes | Path | None = None) -> None:
        """Refuse an object that is in the way and is not this part."""
        if entry.size_bytes != copy.size_bytes:
            raise in_the_way(self._dest, copy, f"{entry.size_bytes} bytes, not {copy.size_bytes}")
        mine: Mapping[str, str] = {}
        if entry.checksums:
            with self._room(copy) as folder:
                mine = checksums(data or fetch(self._origin, copy, folder=folder), entry.checksums)
        if not mine:  # the store says none that could be compared
            fetch_digest(self._dest, copy)
        for name, value in mine.items():
            if entry.checksums[name] != value:
                raise in_the_way(self._dest, copy, f"the {name} {entry.checksums[name]}, not {value}")

    def _room(self, copy: Copy) -> contextlib.AbstractContextManager[str | None]:
        """A folder for a part that is too large for memory and is no file that can be sent as it is."""
        if copy.size_bytes <= WHOLE or isinstance(self._origin, LocalStore):
            return contextlib.nullcontext()
        parent = None
        if isinstance(self._dest, LocalStore):  # on the same disk, where the next one finds what a kill left
            parent = self._dest.root / layout.DERIVED / "_sync"
            parent.mkdir(parents=True, exist_ok=True)
            _forget_stale(parent)
        return tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=parent)


def _forget_stale(parent: Path) -> None:
    """Remove what those left who were killed long ago."""
    oldest = time.time() - _STALE_S
    for folder in parent.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder)


def fetch(store: Store, copy: Copy, *, folder: str | None = None) -> bytes | Path:
    """The bytes of a part, proven to be those that were committed.

    Args:
        store: Where it is.
        copy: The part.
        folder: Where to put it if it is too large for memory; if not given, it is a file that stays where it is.

    Returns:
        The bytes, or the file that has them.

    Raises:
        Absent: It is not there.
        DamagedPartError: It has other bytes.
    """
    if copy.size_bytes <= WHOLE:
        data = store.get(copy.path)
        if len(data) != copy.size_bytes or hashlib.sha256(data).hexdigest() != copy.sha256:
            raise damaged(store, copy, len(data))
        return data
    if folder is None and isinstance(store, LocalStore):
        fetch_digest(store, copy, kind=damaged)
        return store.path(copy.path)
    target = Path(folder or tempfile.gettempdir()) / os.path.basename(copy.path)
    digest, size = hashlib.sha256(), 0
    with store.open(copy.path) as source, target.open("wb") as file:
        while (block := source.read(_BLOCK)) and size <= copy.size_bytes:
            digest.update(block)
            size += len(block)
            file.write(block)
    if size != copy.size_bytes or digest.hexdigest() != copy.sha256:
        raise damaged(store, copy, size)
    return target


def fetch_digest(
    store: Store, copy: Copy, *, kind: Callable[[Store, Copy, int], DamagedPartError] | None = None
) -> None:
    """Read a part and compare it with what was committed; nothing of it is kept.

    Raises:
        Absent: It is not there.
        DamagedPartError: It has other bytes.
    """
    digest, size = hashlib.sha256(), 0
    with store.open(copy.path) as file:
        while (block := file.read(_BLOCK)) and size <= copy.size_bytes:
            digest.update(block)
            size += len(block)
    if size != copy.size_bytes or digest.hexdigest() != copy.sha256:
        raise kind(store, copy, size) if kind else in_the_way(store, copy, "other bytes")


def damaged(store: Store, copy: Copy, size_bytes: int) -> DamagedPartError:
    """The error of a part that is not what was committed, where it is to be copied from."""
    what = (
        f"{size_bytes} bytes, not the {copy.size_bytes}"
        if size_bytes != copy.size_bytes
        else "other bytes than those"
    )
    return DamagedPartError(
        f"{store.url}/{copy.path}: has {what} that were committed; it was not copied",
        path=copy.path,
        hint="See what else is damaged with `lakehouse verify`, here and of the mirror; a side that is whole mends "
        "the other: `lakehouse sync NAME --repair` from a whole lake, or restore the file from the mirror.",
    )


def in_the_way(store: Store, copy: Copy, found: str) -> DamagedPartError:
    """The error of an object that is where a part has to go, and is not that part."""
    return DamagedPartError(
        f"{store.url}/{copy.path}: is there already, and has {found}: it is not the part that was committed",
        path=copy.path,
        hint="Nothing was overwritten. In a mirror, `lakehouse sync NAME --repair` replaces it by the part from here.",
    )
