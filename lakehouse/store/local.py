"""A store in a folder. Writes are durable: temporary name, fsync of file and folder, rename or link."""

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lakehouse.errors import LakehouseError, SetupError, UnsafePathError
from lakehouse.store.base import Absent, Entry, Exists

_TEMPORARY = ".tmp-"  # names of unfinished files; listings leave them out


class LocalStore:
    """Objects as files below one folder.

    Args:
        root: The folder; made on the first write.

    Files are never opened through a link that leads out of the folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).resolve()
        self._known_folders: set[str] = set()

    @property
    def url(self) -> str:
        """The folder's path."""
        return str(self.root)

    def path(self, key: str) -> Path:
        """The file of a key.

        Raises:
            UnsafePathError: The key, or a link on the way, leads out of the folder.
        """
        path = os.path.join(self.root, key)
        if os.path.realpath(path) != path:
            msg = f"{path}: a link, or a path that leads elsewhere; the lake holds plain files only"
            raise UnsafePathError(
                msg, path=key, hint="The file was not opened. Put the real file in the place of the link."
            )
        return Path(path)

    def get(self, key: str) -> bytes:
        """The whole object. Raises Absent."""
        with self.open(key) as file:
            return file.read()

    def open(self, key: str) -> BinaryIO:
        """The object as a seekable binary reader. Raises Absent."""
        try:
            return self.path(key).open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise Absent(key) from None

    def put(self, key: str, data: bytes | Path) -> None:
        """Write an object, replacing one that is there. A Path is moved from where it can be."""
        target, temporary = self._prepare(key)
        try:
            self._fill(temporary, data)
            os.replace(temporary, target)
            _sync_folder(target.parent)
        except OSError as error:
            raise self._failed(target, error) from error
        finally:
            _forget(temporary)

    def create(self, key: str, data: bytes) -> None:
        """Write an object only if there is none with that key. Raises Exists."""
        target, temporary = self._prepare(key)
        try:
            self._fill(temporary, data)
            # A hard link is create-if-absent and atomic on every local file system that has them.
            os.link(temporary, target)
            _sync_folder(target.parent)
        except FileExistsError:
            raise Exists(key) from None
        except OSError as error:
            raise self._failed(target, error) from error
        finally:
            _forget(temporary)

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key begins with the prefix, in order of key."""
        folder = self.root / prefix
        found = []
        for parent, folders, names in os.walk(folder):
            folders.sort()
            for name in names:
                if not name.startswith(_TEMPORARY):
                    path = os.path.join(parent, name)
                    found.append((os.path.relpath(path, self.root).replace(os.sep, "/"), path))
        for key, path in sorted(found):
            try:
                yield Entry(key, os.lstat(path).st_size)
            except FileNotFoundError:
                continue

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        target = self.path(key)
        target.unlink(missing_ok=True)

    def _prepare(self, key: str) -> tuple[Path, Path]:
        target = self.path(key)
        folder = target.parent
        if str(folder) not in self._known_folders or not folder.is_dir():
            try:
                _make_folder(folder, self.root)
            except OSError as error:
                raise self._failed(target, error) from error
            self._known_folders.add(str(folder))
        return target, folder / f"{_TEMPORARY}{secrets.token_hex(8)}"

    def _fill(self, temporary: Path, data: bytes | Path) -> None:
        if isinstance(data, Path):
            try:
                os.link(data, temporary)
            except OSError:  # another file system, or one without links: copy
                shutil.copyfile(data, temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            return
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def _failed(target: Path, error: OSError) -> LakehouseError:
        msg = f"{target}: could not be written ({error.strerror or error})"
        return SetupError(
            msg, hint="Nothing was published. Free space or mend the disk, then run the same command again."
        )


def _make_folder(folder: Path, root: Path) -> None:
    """Make a folder and its parents, and make their names durable."""
    missing = []
    at = folder
    while not at.is_dir():
        missing.append(at)
        if at == root:
            break
        at = at.parent
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _forget(temporary: Path) -> None:
    """Remove what a write left; a file that stays is invisible and cleaned later."""
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return
