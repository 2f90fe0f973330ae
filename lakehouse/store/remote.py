"""A store behind a URL that fsspec knows: Google Cloud Storage first, S3, Azure, and memory.

Objects are created whole by the service itself, so there is no temporary name. Listing caches are
switched off: a stale one would hide other writers' commits.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast
from urllib.parse import urlsplit

from lakehouse.errors import SetupError, UserError
from lakehouse.store.asking import CONNECT_S, SILENCE_S, answered, plain
from lakehouse.store.base import Absent, Entry
from lakehouse.store.ranged import END, RangedFile

_EXTRAS = {
    "gs": "gcs",
    "gcs": "gcs",
    "s3": "s3",
    "s3a": "s3",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
}
PROTOCOLS = {*_EXTRAS, "memory"}  # protocols with create-if-absent
_LOOKS = 16  # into folders, at once
_CONNECTIONS = 64  # at once to one service


class _Service(Protocol):
    """The objects of one bucket, by their full names; failures are `Failure`s."""

    creates: bool

    def read(self, name: str, first: int = 0, last: int | None = None) -> bytes: ...

    def end(self, name: str, count: int) -> tuple[bytes, int]: ...

    def look(self, name: str) -> Entry: ...

    def write(self, name: str, data: bytes | Path, *, create: bool) -> None: ...

    def remove(self, name: str) -> None: ...

    def walk(self, prefix: str) -> Iterator[Entry]: ...

    def below(self, prefix: str) -> Sequence[str]: ...


class FsspecStore:
    """Objects below a URL.

    Args:
        url: `gs://bucket/prefix`, `s3://bucket/prefix`, `az://container/prefix`, `memory://prefix`.
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
        self._url = _without_secrets(url)
        if self.protocol not in PROTOCOLS:
            msg = f"{self._url}: {self.protocol}:// has no create-if-absent, which a lake needs to keep writers apart"
            raise UserError(msg, hint=f"Use a folder, or one of: {', '.join(sorted(PROTOCOLS))}.")
        try:
            self.fs, root = fsspec.core.url_to_fs(url, **_settings(self.protocol, options))
        except ImportError as error:
            extra = _EXTRAS.get(self.protocol, "")
            msg = f"{self._url}: needs a package that is not installed ({error})"
            raise SetupError(msg, hint=f"Install it: uv add 'lakehouse[{extra}]'") from error
        except Exception as error:  # noqa: BLE001 - clients raise what they like
            msg = f"{self._url}: cannot be opened ({type(error).__name__}: {plain(str(error))})"
            raise SetupError(msg, hint="Check the URL, the options and the credentials.") from None
        self._service, self._root = _service(self.fs, self.protocol, str(root).rstrip("/"))

    @property
    def url(self) -> str:
        """The URL, without the options."""
        return self._url

    @property
    def creates(self) -> bool:
        """Whether `create` is create-if-absent."""
        return self._service.creates

    def path(self, key: str) -> str:
        """The object's full name, as the service wants it."""
        return f"{self._root}{key}"

    def get(self, key: str) -> bytes:
        """The whole object. Raises Absent."""
        with answered(self._url, key):
            return self._service.read(self.path(key))

    def open(self, key: str) -> BinaryIO:
        """The object as a seekable binary reader. Raises Absent."""
        with answered(self._url, key):
            end, size = self._service.end(self.path(key), END)
        return cast("BinaryIO", RangedFile(lambda first, last: self.read(key, first, last), end, size))

    def read(self, key: str, first: int, last: int) -> bytes:
        """The bytes of an object from `first` up to `last`, exclusive. Raises Absent."""
        if last <= first:
            return b""
        with answered(self._url, key):
            return self._service.read(self.path(key), first, last)

    def stat(self, key: str) -> Entry:
        """Size and checksums of an object. Raises Absent."""
        with answered(self._url, key):
            about = self._service.look(self.path(key))
        return Entry(key, about.size_bytes, about.checksums)

    def put(self, key: str, data: bytes | Path) -> None:
        """Write an object, replacing one that is there."""
        with answered(self._url, key):
            self._service.write(self.path(key), data, create=False)

    def create(self, key: str, data: bytes | Path) -> None:
        """Write an object only if there is none with that key. Raises Exists."""
        with answered(self._url, key):
            self._service.write(self.path(key), data, create=True)

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key begins with the prefix, in order of key; page by page."""
        with answered(self._url, prefix):
            for about in self._service.walk(self.path(prefix)):
                key = about.key.removeprefix(self._root.lstrip("/"))
                if key.startswith(prefix):  # an object of the folder's very name is found too
                    yield Entry(key, about.size_bytes, about.checksums)

    def folders(self, *, holding: str) -> Sequence[str]:
        """Names of the folders at the top that hold objects in a folder of a name, sorted."""
        with answered(self._url, ""):
            names = sorted(self._service.below(self._root))
            with ThreadPoolExecutor(_LOOKS) as pool:  # each asks only for the names of folders
                inside = pool.map(lambda name: self._service.below(f"{self._root}{name}/"), names)
                return [name for name, found in zip(names, inside, strict=True) if holding in found]

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        with contextlib.suppress(Absent), answered(self._url, key):
            self._service.remove(self.path(key))


def _settings(protocol: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options of a filesystem: no caches, limits on time, no repetitions of its own."""
    if protocol == "memory":
        return options
    options = {"use_listings_cache": False, **options}
    if _EXTRAS[protocol] == "s3":
        ours = {
            "connect_timeout": CONNECT_S,
            "read_timeout": SILENCE_S,
            "max_pool_connections": _CONNECTIONS,
            "retries": {"mode": "standard", "total_max_attempts": 1},
            "request_checksum_calculation": "when_required",  # md5 goes along, which every service knows
        }
        options["config_kwargs"] = {**ours, **options.get("config_kwargs", {})}
    return options


def _service(fs: Any, protocol: str, root: str) -> tuple[_Service, str]:
    """What asks the service, and what the names of all objects begin with."""
    kind = _EXTRAS.get(protocol)
    if kind in {"gcs", "s3"}:
        bucket, prefix, _ = fs.split_path(root)
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        if kind == "gcs":
            from lakehouse.store.gcs import Gcs

            return Gcs(fs, bucket), start
        from lakehouse.store.s3 import S3

        return S3(fs, bucket), start
    from lakehouse.store.generic import Generic

    return Generic(fs, protocol), f"{root}/"


def _without_secrets(url: str) -> str:
    """A URL without user, password and query."""
    parts = urlsplit(url)
    place = parts.netloc.rsplit("@", 1)[-1]
    return f"{parts.scheme}://{place}{parts.path}".rstrip("/") if parts.scheme else url
