"""A store in a folder. Writes are durable: temporary name, fsync of file and folder, rename or link."""

import contextlib
import itertools
import os
import random
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from lakehouse.errors import LakehouseError, SetupError, UnsafePathError
from lakehouse.store.base import Absent, Entry, Exists

_TEMPORARY = ".tmp-"  # names of unfinished files; listings leave them out
_LOOK_AT, _LOOK_WHOLE = 512, 1 / 64  # names of a folder that are looked at for such, and how often all are
_STALE_S = 24 * 3600  # whoever wrote an unfinished file of this age is dead


class LocalStore:
    """Objects as files below one folder.

    Args:
        root: The folder; made on the first write.

    Files are never opened through a link that leads out of the folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).resolve()
        self._known_folders: set[Path] = set()  # they are there, and their names are on the disk

    @property
    def url(self) -> str:
        """The folder's path."""
        return str(self.root)

    @property
    def creates(self) -> bool:
        """It is create-if-absent."""
        return True

    def path(self, key: str) -> Path:
        """The file of a key.

        Raises:
            UnsafePathError: The key, or a link on the way, leads out of the folder.
        """
        return Path(self._file(key))

    def _file(self, key: str) -> str:
        """The same as text. Only what lies below the folder is looked at: the folder itself is no link."""
        path = at = str(self.root)
        plain = True
        for piece in key.split("/"):
            at = f"{at}{os.sep}{piece}"
            plain = plain and piece not in ("", ".", "..") and not os.path.islink(at)
        path = os.path.join(path, key)
        if not plain:
            msg = f"{path}: a link, or a path that leads elsewhere; the lake holds plain files only"
            raise UnsafePathError(
                msg, path=key, hint="The file was not opened. Put the real file in the place of the link."
            )
        return path

    def get(self, key: str) -> bytes:
        """The whole object. Raises Absent."""
        path = self._file(key)
        with _reading(path, key), open(path, "rb") as file:
            return file.read()

    def open(self, key: str) -> BinaryIO:
        """The object as a seekable binary reader. Raises Absent."""
        path = self.path(key)
        with _reading(path, key):
            return path.open("rb")

    def stat(self, key: str) -> Entry:
        """Size of an object. Raises Absent."""
        path = self._file(key)
        with _reading(path, key):
            about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            raise Absent(key)
        return Entry(key, about.st_size)

    def put(self, key: str, data: bytes | Path) -> None:
        """Write an object, replacing one that is there. A Path is linked to where it can be."""
        target, temporary = self._prepare(key)
        try:
            self._fill(temporary, data)
            os.replace(temporary, target)
        except OSError as error:
            raise _failed(target, error) from error
        finally:
            _forget(temporary)
        _confirm(target)

    def create(self, key: str, data: bytes | Path) -> None:
        """Write an object only if there is none with that key. A Path is copied.

        Raises:
            Exists: There is one.
        """
        target, temporary = self._prepare(key)
        if os.path.lexists(target):  # before a large file is copied for nothing
            raise Exists(key)
        try:
            self._fill(temporary, data, link=False)
            # A hard link is create-if-absent and atomic on every local file system that has them.
            os.link(temporary, target)
        except FileExistsError:
            raise Exists(key) from None
        except OSError as error:
            raise _failed(target, error) from error
        finally:
            _forget(temporary)
        _confirm(target)

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key begins with the prefix, in order of key."""
        folder = self.root / prefix
        with _reading(folder, prefix):
            found = sorted(_files_below(os.path.join(self.root, prefix), prefix))
        for key, size_bytes in found:
            yield Entry(key, size_bytes)

    def stamp(self, key: str) -> str:
        """Size and time of a file: they change when it does. Empty text where there is none."""
        path = self.root / key
        try:
            with _reading(path, key):
                about = os.lstat(path)
        except Absent:
            return ""
        return f"{about.st_size}:{about.st_mtime_ns}"

    def marks(self, prefix: str) -> str:
        """Names, sizes and times of the files of a folder: they change when one of them does."""
        found = []
        for name in sorted(n for n in self._names(prefix) if not n.startswith(_TEMPORARY)):
            with contextlib.suppress(Absent), _reading(self.root / prefix / name, prefix + name):
                about = os.lstat(self.root / prefix / name)
                found.append(f"{name}:{about.st_size}:{about.st_mtime_ns}")
        return "/".join(found)

    def folders(self, *, holding: str) -> Sequence[str]:
        """Names of the folders at the top that hold a folder of a name, sorted."""
        return [name for name in sorted(self._names("")) if os.path.isdir(self.root / name / holding)]

    def _names(self, prefix: str) -> Sequence[str]:
        try:
            with _reading(self.root / prefix, prefix):
                return os.listdir(self.root / prefix)
        except Absent:
            return []

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        target = self.path(key)
        try:
            target.unlink(missing_ok=True)
        except OSError as error:
            raise _failed(target, error) from error

    def sweep(self, keys: Iterable[str]) -> None:
        """Remove the folders of deleted files where they are empty: each takes a block on the disk."""
        for folder in {self.path(key).parent for key in keys}:
            with contextlib.suppress(OSError):  # it is not empty, or gone
                folder.rmdir()

    def _prepare(self, key: str) -> tuple[Path, Path]:
        target = self.path(key)
        folder = target.parent
        try:
            if folder not in self._known_folders or not folder.is_dir():
                self._make_folder(folder)
        except OSError as error:
            raise _failed(target, error) from error
        return target, folder / f"{_TEMPORARY}{secrets.token_hex(8)}"

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and its parents, and make their names durable.

        Also the names of those that are there already, once: who made them may have died before that.
        """
        unsure = []
        for at in (folder, *folder.parents):
            if at.is_dir() and (
                at in self._known_folders or not at.is_relative_to(self.root) or at == self.root
            ):
                break
            unsure.append(at)
        folder.mkdir(parents=True, exist_ok=True)
        for at in unsure:
            _sync_folder(at.parent)
        self._known_folders.update(unsure)
        _forget_stale(folder)

    def _fill(self, temporary: Path, data: bytes | Path, *, link: bool = True) -> None:
        if isinstance(data, Path):
            try:
                if link:
                    os.link(data, temporary)
                else:  # what is created from a lake's part is to have bytes of its own: it may be a backup
                    shutil.copyfile(data, temporary)
            except OSError:  # another file system, or one without links: copy
                shutil.copyfile(data, temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            return
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def _reading(path: str | Path, key: str) -> Iterator[None]:
    """Turn the system's errors into Absent, or into one that says what to do.

    A folder that cannot be read must never pass for an empty one.
    """
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise Absent(key) from None
    except OSError as error:
        msg = f"{path}: could not be read ({error.strerror or error})"
        raise SetupError(
            msg, hint="Mend the disk or the permissions, then run the same command again."
        ) from error


def _failed(target: Path, error: OSError) -> LakehouseError:
    msg = f"{target}: could not be written ({error.strerror or error})"
    return SetupError(
        msg, hint="Nothing was published. Free space or mend the disk, then run the same command again."
    )


def _confirm(target: Path) -> None:
    """Make the name of a written file durable."""
    try:
        _sync_folder(target.parent)
    except OSError as error:
        msg = f"{target}: was written, but was not confirmed by the disk ({error.strerror or error})"
        raise SetupError(
            msg,
            hint="Others see it already, but a power cut may undo it. Mend the disk, and look at "
            "`lakehouse log` before you run the same command again.",
        ) from error


def _files_below(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Key and size of every finished file below a folder; none if there is no such folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if not entry.is_symlink():
                    yield from _files_below(entry.path, f"{prefix}{entry.name}/")
            elif not entry.name.startswith(_TEMPORARY):
                with contextlib.suppress(FileNotFoundError):  # it went while we looked
                    yield f"{prefix}{entry.name}", entry.stat(follow_symlinks=False).st_size


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


def _forget_stale(folder: Path) -> None:
    """Remove unfinished files that writers left who were killed long ago.

    A large folder is looked through now and then only: that would cost more than all of a write.
    """
    oldest = time.time() - _STALE_S
    most = None if random.random() < _LOOK_WHOLE else _LOOK_AT  # noqa: S311
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in itertools.islice(entries, most):
            if entry.name.startswith(_TEMPORARY) and entry.stat().st_mtime < oldest:
                os.unlink(entry.path)
