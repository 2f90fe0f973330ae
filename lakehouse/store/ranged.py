"""An object of a store as a seekable file, read in pieces: its end comes first, with its size.

Parquet is read from its end. A small object is read whole by the one request that opens it.
"""

import io
import os
from collections.abc import Callable
from typing import Any

END = 2**20  # bytes of the end that opening reads
_AHEAD = 2**18  # least bytes of a piece


class RangedFile(io.RawIOBase):
    """A reader over an object.

    Args:
        read: The bytes of the object from a first up to a last position, exclusive.
        end: The last bytes of the object.
        size: Bytes of the whole object.

    One thread at a time may use it.
    """

    def __init__(self, read: Callable[[int, int], bytes], end: bytes, size: int) -> None:
        super().__init__()
        self._read, self._size, self._at = read, size, 0
        self._end = (size - len(end), end)
        self._piece = (0, b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place, and say where that is."""
        at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if at < 0:
            msg = f"cannot seek to {at}"
            raise ValueError(msg)
        self._at = at
        return at

    def readinto(self, into: Any) -> int:
        """Fill a buffer, as far as the object goes."""
        found = self.read(len(into))
        into[: len(found)] = found
        return len(found)

    def readall(self) -> bytes:
        """All from here on."""
        return self.read(-1)

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes from here on, all of them by default; less only at the end of the object."""
        last = self._size if size is None or size < 0 else min(self._at + size, self._size)
        found = b""
        while self._at < last:
            block = self._block(last)
            found = found + block if found else block
            self._at += len(block)
        return found

    def _block(self, last: int) -> bytes:
        """What is at hand of the bytes from here on, or else a new piece."""
        for start, held in (self._end, self._piece):
            if start <= self._at < start + len(held):
                return held[self._at - start : last - start]
        until = min(max(last, self._at + _AHEAD), self._end[0])  # the end is at hand
        self._piece = (self._at, self._read(self._at, until))
        if not self._piece[1]:
            msg = f"the object ends at {self._at}, not at {self._size}"
            raise OSError(msg)
        return self._piece[1][: last - self._at]
