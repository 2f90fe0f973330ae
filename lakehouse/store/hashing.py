"""Checksums that stores report of their objects, computed from local bytes."""

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PIECE = 32 * 2**20  # bytes of a piece of our multipart uploads to S3, which its ETag depends on
_BLOCK = 2**20
_COMPARED = 8 * 2**20  # bytes up to which an object is compared when it is read as well


class _Sum(Protocol):
    def update(self, data: Any, /) -> None: ...

    def hexdigest(self) -> str: ...


class _Crc32c:
    """CRC-32C, with the interface of `hashlib`."""

    def __init__(self) -> None:
        import google_crc32c

        make: Any = google_crc32c.Checksum
        self._sum = make()

    def update(self, data: bytes, /) -> None:
        self._sum.update(data)

    def hexdigest(self) -> str:
        return str(self._sum.digest().hex())


class _Pieces:
    """MD5 of the MD5s of pieces, with their number: S3's ETag of an object that was sent in pieces."""

    def __init__(self) -> None:
        self._done: list[bytes] = []
        self._piece, self._held = _md5(), 0

    def update(self, data: bytes, /) -> None:
        rest = memoryview(data)
        while rest:
            fits = rest[: PIECE - self._held]
            self._piece.update(fits)
            self._held += len(fits)
            rest = rest[len(fits) :]
            if self._held == PIECE:
                self._done.append(self._piece.digest())
                self._piece, self._held = _md5(), 0

    def hexdigest(self) -> str:
        pieces = [*self._done, self._piece.digest()] if self._held or not self._done else self._done
        return f"{_md5(b''.join(pieces)).hexdigest()}-{len(pieces)}"


def _md5(data: bytes = b"") -> Any:
    return hashlib.md5(data, usedforsecurity=False)


_KINDS: Mapping[str, Callable[[], _Sum]] = {
    "md5": _md5,
    "sha256": hashlib.sha256,
    "crc32c": _Crc32c,
    "etag32m": _Pieces,
}


@dataclass(frozen=True, slots=True)
class Span:
    """Some of the bytes that are to be sent, read when they are.

    Attributes:
        data: The bytes, or the file that holds them.
        first: Where they begin.
        last: Where they end, exclusive.
    """

    data: bytes | Path
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first

    def blocks(self) -> Iterator[bytes]:
        """One block after the other."""
        if not isinstance(self.data, Path):
            for at in range(self.first, self.last, _BLOCK):
                yield self.data[at : min(at + _BLOCK, self.last)]
            return
        with self.data.open("rb") as file:
            file.seek(self.first)
            left = len(self)
            while left > 0 and (block := file.read(min(_BLOCK, left))):
                left -= len(block)
                yield block


def whole(data: bytes | Path) -> Span:
    """All of them."""
    return Span(data, 0, size_of(data))


@functools.cache
def has_crc32c() -> bool:
    """Whether CRC-32C can be computed quickly: by the compiled google-crc32c."""
    try:
        import google_crc32c
    except ImportError:
        return False
    return bool(google_crc32c.implementation == "c")


def checksums(data: bytes | Path | Span, names: Iterable[str]) -> dict[str, str]:
    """Checksums of bytes, or of a local file, in lower-case hex.

    Args:
        data: The bytes, or the file that holds them, or some of them; read once, in blocks.
        names: Names as in `Entry.checksums`: `md5`, `crc32c`, `sha256`, `etag32m`. Those that cannot be
            computed here (`etag`, `crc32c` without google-crc32c) are left out.

    Returns:
        Checksum by name.
    """
    sums: dict[str, _Sum] = {}
    for name in names:
        if name in _KINDS and (name != "crc32c" or has_crc32c()):
            sums[name] = _KINDS[name]()
    if sums:
        for block in (data if isinstance(data, Span) else whole(data)).blocks():
            for each in sums.values():
                each.update(block)
    return {name: each.hexdigest() for name, each in sums.items()}


def size_of(data: bytes | Path) -> int:
    """How many bytes there are."""
    return data.stat().st_size if isinstance(data, Path) else len(data)


def differing(sent: Mapping[str, str], reported: Mapping[str, str]) -> str:
    """Which checksums differ, for people; empty where all that both have are equal."""
    return "; ".join(
        f"{name} is {reported[name]}, of what was sent {sent[name]}"
        for name in sent
        if name in reported and reported[name] != sent[name]
    )


def arrived(content: bytes, reported: Mapping[str, str]) -> str:
    """How an object that was read differs from the checksums that came with it, for people; empty where it does not.

    Large objects are parts, whose SHA-256 a commit has: they are not compared here as well.
    """
    if len(content) > _COMPARED:
        return ""
    mine = first_of(content, [name for name in ("crc32c", "md5") if name in reported])
    wrong = [name for name in mine if mine[name] != reported[name]]
    return f"what arrived has not the {wrong[0]} of what is there" if wrong else ""


def first_of(data: bytes | Path, names: Iterable[str]) -> dict[str, str]:
    """The first of several checksums that can be computed here."""
    chosen = itertools.islice((name for name in names if name != "crc32c" or has_crc32c()), 1)
    return checksums(data, chosen)
