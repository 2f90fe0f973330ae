"""A store behind a URL that fsspec knows: Google Cloud Storage first, S3, memory, and others.

Objects are created whole by the service itself, so there is no temporary name. Listing caches are
switched off: a stale one would hide other writers' commits.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from lakehouse.errors import LakehouseError, SetupError, UserError
from lakehouse.store.base import Absent, Entry, Exists

_EXTRAS = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3"}
_CREATES = {"gs", "gcs", "s3", "s3a", "memory"}  # protocols whose `mode="create"` is create-if-absent

# What filesystems answer where there is no object: some take a path below an object, or a prefix, for a fault.
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError, FileExistsError)


class FsspecStore:
    """Objects below a URL.

    Args:
        url: `gs://bucket/prefix`, `s3://bucket/prefix`, `memory://prefix`, …
        options: Passed on to fsspec's filesystem, such as `endpoint_url` or `token`.

    Raises:
        SetupError: The filesystem's package is not installed.
        UserError: The filesystem has no create-if-absent, which a lake needs as its lock.
    """

    def __init__(self, url: str, **options: Any) -> None:
        # gcsfs asks a slow API on every call unless told not to, and reads this when imported.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        import fsspec

        self.protocol = url.split("://", 1)[0]
        if self.protocol not in _CREATES:
            msg = (
                f"{url}: {self.protocol}:// has no create-if-absent, which a lake needs to keep writers apart"
            )
            raise UserError(msg, hint=f"Use a folder, or one of: {', '.join(sorted(_CREATES))}.")
        if self.protocol != "memory":
            options.setdefault("use_listings_cache", False)
        try:
            self.fs, root = fsspec.core.url_to_fs(url, **options)
        except ImportError as error:
            extra = _EXTRAS.get(self.protocol, "")
            msg = f"{url}: needs a package that is not installed ({error})"
            raise SetupError(msg, hint=f"Install it: pip install 'lakehouse[{extra}]'") from error
        self._root = str(root).rstrip("/")
        self._url = url.rstrip("/")

    @property
    def url(self) -> str:
        """The URL, without the options."""
        return self._url

    def path(self, key: str) -> str:
        """The object's full path, as the filesystem wants it."""
        return f"{self._root}/{key}"

    def get(self, key: str) -> bytes:
        """The whole object. Raises Absent."""
        with self._asking(key):
            return cast("bytes", self.fs.cat_file(self.path(key)))

    def read(self, key: str, first: int, last: int) -> bytes:
        """The bytes of an object from `first` up to `last`, exclusive. Raises Absent."""
        with self._asking(key):
            return cast("bytes", self.fs.cat_file(self.path(key), start=first, end=last))

    def open(self, key: str) -> BinaryIO:
        """The object as a seekable binary reader. Raises Absent."""
        with self._asking(key):
            file = self.fs.open(self.path(key), "rb")
        if (getattr(file, "details", None) or {}).get("type") == "directory":
            file.close()
            raise Absent(key)
        return cast("BinaryIO", file)

    def put(self, key: str, data: bytes | Path) -> None:
        """Write an object, replacing one that is there."""
        with self._asking(key):
            if isinstance(data, Path):
                self.fs.put_file(str(data), self.path(key))
            else:
                self.fs.pipe_file(self.path(key), data)

    def create(self, key: str, data: bytes) -> None:
        """Write an object only if there is none with that key. Raises Exists."""
        with self._asking(key):
            try:
                self.fs.pipe_file(self.path(key), data, mode="create")
            except FileExistsError:
                raise Exists(key) from None

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key begins with the prefix, in order of key."""
        try:
            with self._asking(prefix):
                found = self.fs.find(self.path(prefix).rstrip("/"), detail=True)
        except Absent:
            return
        root = self._root.lstrip("/")
        for path in sorted(found):
            key = path.lstrip("/").removeprefix(root).lstrip("/")
            if key.startswith(prefix):  # an object of the folder's very name is found too
                yield Entry(key, int(found[path]["size"] or 0))

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        with contextlib.suppress(Absent), self._asking(key):
            self.fs.rm_file(self.path(key))

    @contextlib.contextmanager
    def _asking(self, key: str) -> Iterator[None]:
        """Turn what the many clients raise into the three answers that a caller can act on."""
        try:
            yield
        except LakehouseError:
            raise
        except _ABSENT:
            raise Absent(key) from None
        except Exception as error:
            raise SetupError(
                f"{self._url}/{key}: the store gave no answer ({type(error).__name__}: {error})",
                hint="Check the URL, the credentials and the network, then run the same command again.",
            ) from error
