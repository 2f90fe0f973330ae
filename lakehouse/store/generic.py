"""Objects of any fsspec file system, by its own calls: memory, and Azure with its create-if-absent.

Azure's own client repeats requests that fail, three times by default; so they are not repeated here.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from lakehouse.store.asking import Failure, Kind
from lakehouse.store.base import Entry
from lakehouse.store.hashing import checksums, differing

# What file systems answer where there is no object: some take a path below an object, or a prefix, for a fault.
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_AZURE = {"az", "abfs", "abfss"}


class Generic:
    """The objects of an fsspec file system.

    Args:
        fs: The file system.
        protocol: That of the URL.
    """

    creates = True

    def __init__(self, fs: Any, protocol: str) -> None:
        self._fs = fs
        self._create = {"overwrite": False} if protocol in _AZURE else {"mode": "create"}

    def read(self, name: str, first: int = 0, last: int | None = None) -> bytes:
        """The bytes of an object from `first` up to `last`, exclusive."""
        with _failing():
            return cast("bytes", self._fs.cat_file(name, start=first or None, end=last))

    def end(self, name: str, count: int) -> tuple[bytes, int]:
        """The last bytes of an object, and its size."""
        size = self.look(name).size_bytes
        return self.read(name, max(0, size - count), size) if size else b"", size

    def look(self, name: str) -> Entry:
        """What the file system says about an object."""
        with _failing():
            about = self._fs.info(name)
        if about["type"] != "file":
            raise Failure("absent", name)
        return _entry(name, about)

    def write(self, name: str, data: bytes | Path, *, create: bool) -> None:
        """Write an object."""
        content = data if isinstance(data, bytes) else data.read_bytes()
        with _failing("exists"):
            self._fs.pipe_file(name, content, **(self._create if create else {}))
        if self._create != {"mode": "create"}:
            reported = self.look(name).checksums
            wrong = differing(checksums(content, reported), reported)
            if wrong:
                raise Failure("corrupt", wrong)

    def remove(self, name: str) -> None:
        """Remove an object."""
        with _failing():
            self._fs.rm_file(name)

    def walk(self, prefix: str) -> Iterator[Entry]:
        """All objects whose name begins with the prefix, in order of name."""
        try:
            with _failing():
                found = self._fs.find(prefix.rstrip("/"), detail=True)
        except Failure as failure:
            if failure.kind == "absent":
                return
            raise
        for name in sorted(found):
            yield _entry(name.lstrip("/"), found[name])

    def below(self, prefix: str) -> Sequence[str]:
        """Names of the folders right below the prefix."""
        try:
            with _failing():
                found = self._fs.ls(prefix.rstrip("/"), detail=True)
        except Failure as failure:
            if failure.kind == "absent":
                return []
            raise
        return [
            str(each["name"]).rstrip("/").rsplit("/", 1)[-1] for each in found if each["type"] == "directory"
        ]


def _entry(name: str, about: dict[str, Any]) -> Entry:
    md5 = (about.get("content_settings") or {}).get("content_md5")
    return Entry(name, int(about["size"] or 0), {"md5": bytes(md5).hex()} if md5 else {})


@contextlib.contextmanager
def _failing(existing: Kind = "absent") -> Iterator[None]:
    try:
        yield
    except Failure:
        raise
    except _ABSENT as error:
        raise Failure("absent", str(error)) from None
    except FileExistsError as error:
        raise Failure(existing, str(error)) from None
    except (ConnectionError, TimeoutError) as error:
        raise Failure("passing", f"{type(error).__name__}: {error}") from None
    except Exception as error:  # noqa: BLE001 - clients raise what they like
        raise Failure(_kind(error), f"{type(error).__name__}: {error}") from None


def _kind(error: Exception) -> Kind:
    """By what Azure's errors say of themselves."""
    status = getattr(error, "status_code", None)
    if status in {401, 403}:
        return "denied"
    if "ContainerNotFound" in str(error):
        return "no bucket"
    if status == 429 or (status or 0) >= 500 or type(error).__name__.startswith("ServiceRe"):  # noqa: PLR2004
        return "passing"
    return "other"
