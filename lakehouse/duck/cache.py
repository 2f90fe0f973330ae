"""Parts of lakes that are far away, kept on this machine: bytes that never change, by their digest.

What lies here was compared with its digest when it was fetched, may be deleted at any time, and may
be used by many processes at once. `LAKEHOUSE_CACHE` says where it lies, or `off`; `LAKEHOUSE_CACHE_SIZE`
how large it may become.
"""

import contextlib
import hashlib
import os
import re
import secrets
import tempfile
import threading
import time
from functools import lru_cache
from pathlib import Path

from lakehouse.errors import UserError

PLACE, SIZE = "LAKEHOUSE_CACHE", "LAKEHOUSE_CACHE_SIZE"
OFF = "off"
DEFAULT_SIZE = "10GB"

_AMOUNT = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kKMGT]?)B?")
_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_LOOK_AFTER = 20  # when a 20th of what may be there is new, it is looked how much is there
_STAYS = 0.9  # of what may be there, once some had to go
_TORN_AFTER_S = 86_400  # a temporary file that old is of a process that died


class Cache:
    """A folder of files named by their digests, the least used of which go when it is full.

    Args:
        folder: Where; made when something is kept.
        size_bytes: How large all files together may become.
    """

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.folder = folder
        self.size_bytes = size_bytes
        self._parts = folder / "parts"
        self._new_bytes = size_bytes  # so that the first one kept looks
        self._lock = threading.Lock()

    def open(self, name: str, size_bytes: int) -> int | None:
        """A descriptor of what was kept under a name; None if there is nothing of that size.

        It stays readable when the file goes.
        """
        path = self._path(name, size_bytes)
        try:
            found = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except OSError:
            return None
        if os.fstat(found).st_size != size_bytes:  # cut off by a crash of the machine
            os.close(found)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return found

    def size_of(self, name: str) -> int | None:
        """How many bytes were kept under a name; None if there is nothing."""
        sizes = (
            e.name.removeprefix(f"{name}-")
            for e in _entries(f"{self._parts}/{name[:2]}")
            if e.name.startswith(f"{name}-")
        )
        return next((int(size) for size in sizes if size.isdecimal()), None)

    def keep(self, name: str, data: bytes) -> None:
        """Keep bytes under a name. Raises OSError where the disk is full or may not be written."""
        path = self._path(name, len(data))
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        temporary = f"{path}.{secrets.token_hex(6)}.tmp"
        try:
            with open(temporary, "xb") as sink:
                sink.write(data)
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        with self._lock:
            self._new_bytes += len(data)
            look = self._new_bytes * _LOOK_AFTER > self.size_bytes
            if look:
                self._new_bytes = 0
        if look:
            self._shrink()

    def catalog(self, lake_id: str, url: str) -> Path:
        """Where the catalog of a lake is kept."""
        named = hashlib.sha256(f"{lake_id} {url}".encode()).hexdigest()[:24]
        return self.folder / "lakes" / named / "lakehouse.duckdb"

    def _path(self, name: str, size_bytes: int) -> str:
        return f"{self._parts}/{name[:2]}/{name}-{size_bytes}"

    def _shrink(self) -> None:
        """Delete the files that were not used for longest, until the others are few enough."""
        found = []
        for folder in _entries(self._parts):
            for entry in _entries(folder.path):
                with contextlib.suppress(OSError):  # another process deleted it
                    about = entry.stat(follow_symlinks=False)
                    torn = entry.name.endswith(".tmp") and about.st_mtime < time.time() - _TORN_AFTER_S
                    found.append((0.0 if torn else about.st_mtime, about.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        limit = self.size_bytes if total <= self.size_bytes else int(self.size_bytes * _STAYS)
        for used_at, size, path in sorted(found):
            if total <= limit and used_at:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
                total -= size


def _entries(folder: str | Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def cache() -> Cache:
    """The cache of this machine as the environment says; one of this process where there is to be none.

    Raises:
        UserError: `LAKEHOUSE_CACHE_SIZE` is no size.
    """
    return _cache(os.environ.get(PLACE, ""), os.environ.get(SIZE, "") or DEFAULT_SIZE)


@lru_cache
def _cache(place: str, size: str) -> Cache:
    amount = _AMOUNT.fullmatch(size.strip())
    if amount is None:
        raise UserError(f"{SIZE}={size}: is no size", hint=f"Such as {DEFAULT_SIZE} or 500MB.")
    size_bytes = int(float(amount["number"]) * _UNITS[amount["unit"]])
    folder = None if place == OFF else _folder(place)
    return Cache(folder or _of_this_process(), size_bytes)


def _folder(place: str) -> Path | None:
    """The folder, if it can be written."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(place or f"{home}/lakehouse").expanduser().absolute()
    try:
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


@lru_cache
def _of_this_process() -> Path:
    import atexit
    import shutil

    folder = tempfile.mkdtemp(prefix="lakehouse-cache-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
