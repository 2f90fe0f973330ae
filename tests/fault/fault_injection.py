"""Stores and a file system that fail at the n-th step: by SIGKILL, by an error, half-way through a write."""

import builtins
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from lakehouse.store import Entry, LocalStore

Hook = Callable[[str, str, str], None]  # phase (`before`, `middle`, `after`), operation, key
WRITES = ("put", "create", "delete")


class NthStep:
    """A hook that strikes at the n-th step of one phase, and knows afterwards whether it did.

    Phase `before` counts all operations; `middle` and `after` count writes only, since between the
    end of a read and the next operation nothing happens that others could see.
    """

    def __init__(self, n: int, phase: str, strike: Callable[[], None]) -> None:
        self.n, self.phase, self.strike = n, phase, strike
        self.seen = 0
        self.struck = ""

    def __call__(self, phase: str, operation: str, key: str) -> None:
        if phase != self.phase or (phase != "before" and operation not in WRITES):
            return
        self.seen += 1
        if self.seen == self.n:
            self.struck = f"{phase} {operation} {key}"
            self.strike()


class _Stepped:
    """A store that tells a hook about every operation. The middle of a write leaves half a file."""

    hook: Hook
    folder: Path

    def get(self, key: str) -> bytes:
        return self._reading("get", key, lambda: super(_Stepped, self).get(key))

    def open(self, key: str) -> BinaryIO:
        return self._reading("open", key, lambda: super(_Stepped, self).open(key))

    def list(self, prefix: str) -> Iterator[Entry]:
        self.hook("before", "list", prefix)
        yield from super().list(prefix)

    def stat(self, key: str) -> Entry:
        return self._reading("stat", key, lambda: super(_Stepped, self).stat(key))

    def put(self, key: str, data: bytes | Path) -> None:
        self._writing("put", key, data, lambda: super(_Stepped, self).put(key, data))

    def create(self, key: str, data: bytes | Path) -> None:
        self._writing("create", key, data, lambda: super(_Stepped, self).create(key, data))

    def delete(self, key: str) -> None:
        self._writing("delete", key, None, lambda: super(_Stepped, self).delete(key))

    def _reading(self, name: str, key: str, read: Callable[[], Any]) -> Any:
        self.hook("before", name, key)
        return read()

    def _writing(self, name: str, key: str, data: bytes | Path | None, write: Callable[[], None]) -> None:
        self.hook("before", name, key)
        if isinstance(data, bytes):
            torn = (self.folder / key).with_name(".tmp-torn")
            torn.parent.mkdir(parents=True, exist_ok=True)
            torn.write_bytes(data[: len(data) // 2])
            self.hook("middle", name, key)
            torn.unlink()
        write()
        self.hook("after", name, key)


class SteppedFolder(_Stepped, LocalStore):
    """A local lake, step by step."""

    def __init__(self, folder: Path, hook: Hook) -> None:
        super().__init__(folder)
        self.folder, self.hook = folder, hook


class Bucket:
    """A store that is no local folder to the code, though it keeps its objects in one."""

    def __init__(self, folder: Path) -> None:
        self._inner = LocalStore(folder)
        self.url = "bucket://test"
        self.creates = True

    def get(self, key: str) -> bytes:
        return self._inner.get(key)

    def open(self, key: str) -> BinaryIO:
        return self._inner.open(key)

    def put(self, key: str, data: bytes | Path) -> None:
        self._inner.put(key, data)

    def create(self, key: str, data: bytes | Path) -> None:
        self._inner.create(key, data)

    def stat(self, key: str) -> Entry:
        return self._inner.stat(key)

    def list(self, prefix: str) -> Iterator[Entry]:
        return self._inner.list(prefix)

    def folders(self, *, holding: str) -> Sequence[str]:
        return self._inner.folders(holding=holding)

    def delete(self, key: str) -> None:
        self._inner.delete(key)


class SteppedBucket(_Stepped, Bucket):
    """A remote lake, step by step."""

    def __init__(self, folder: Path, hook: Hook) -> None:
        super().__init__(folder)
        self.folder, self.hook = folder, hook


class Disk:
    """The file system as Python sees it, while entered: every step below a folder is counted.

    Args:
        folder: Steps elsewhere are not counted.
        n: The step to fail at; 0 only counts.
        strike: Called instead of the step with its name, such as `fsync`; raises or kills. For a
            write it is called after half of the bytes were written.

    Attributes:
        steps: What was done, such as `replace /…/lake/shop/…`.
    """

    def __init__(
        self, folder: Path, n: int, strike: Callable[[str], None], *, kinds: frozenset[str] = frozenset()
    ) -> None:
        self.folder, self.n, self.strike, self.kinds = str(folder), n, strike, kinds
        self.steps: list[str] = []
        self._open_files: dict[int, str] = {}
        self._real: list[tuple[Any, str, Any]] = []

    @property
    def struck(self) -> str:
        """The step that failed; empty if there were fewer steps."""
        return self.steps[self.n - 1] if 0 < self.n <= len(self.steps) else ""

    def __enter__(self) -> Self:
        for name in ("mkdir", "link", "replace", "rename", "unlink", "remove", "scandir", "listdir"):
            self._patch(os, name, self._stepping(name, getattr(os, name)))
        self._patch(os, "open", self._opening_descriptor(os.open))
        self._patch(os, "fsync", self._syncing(os.fsync))
        opening = self._opening_file(io.open)
        self._patch(io, "open", opening)
        self._patch(builtins, "open", opening)
        return self

    def __exit__(self, *_: object) -> None:
        for module, name, real in reversed(self._real):
            setattr(module, name, real)
        self._real.clear()

    def step(self, name: str, path: Any, tear: Callable[[], None] | None = None) -> None:
        """Count a step, and strike if it is its turn."""
        where = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
        if not str(where).startswith(self.folder) or (self.kinds and name not in self.kinds):
            return
        self.steps.append(f"{name} {where}")
        if len(self.steps) == self.n:
            if tear is not None:
                tear()
            self.strike(name)

    def _patch(self, module: Any, name: str, replacement: Any) -> None:
        self._real.append((module, name, getattr(module, name)))
        setattr(module, name, replacement)

    def _stepping(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*args: Any, **kwargs: Any) -> Any:
            self.step(name, args[0] if args else ".")
            return real(*args, **kwargs)

        return stepping

    def _opening_descriptor(self, real: Callable[..., int]) -> Callable[..., int]:
        def opening(path: Any, *args: Any, **kwargs: Any) -> int:
            self.step("open", path)
            descriptor = real(path, *args, **kwargs)
            self._open_files[descriptor] = str(path)
            return descriptor

        return opening

    def _syncing(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def syncing(descriptor: int) -> None:
            self.step("fsync", self._open_files.get(descriptor, ""))
            real(descriptor)

        return syncing

    def _opening_file(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opening(file: Any, *args: Any, **kwargs: Any) -> Any:
            mode = str(args[0] if args else kwargs.get("mode", "r"))
            self.step("open" if mode.startswith("r") else "make", file)
            opened = real(file, *args, **kwargs)
            if not isinstance(file, (str, os.PathLike)) or not str(file).startswith(self.folder):
                return opened
            self._open_files[opened.fileno()] = str(file)
            return _File(opened, self, str(file))

        return opening


class _File:
    """An open file whose reads and writes are steps."""

    def __init__(self, file: Any, disk: Disk, path: str) -> None:
        self._file, self._disk, self._path = file, disk, path

    def write(self, data: bytes) -> int:
        def tear() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._disk.step("write", self._path, tear)
        return int(self._file.write(data))

    def read(self, *size: int) -> Any:
        self._disk.step("read", self._path)
        return self._file.read(*size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
