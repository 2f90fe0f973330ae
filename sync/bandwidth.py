"""A limit of bytes a second."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError

_BURST_S = 1.0  # what goes before anything was waited for, in seconds of the rate


class Bandwidth:
    """A token bucket: bytes a second, on average, of which those of one second may go at once.

    Args:
        rate: Bytes a second; None for no limit.
        clock: Seconds, as `time.monotonic`.
        sleep: Waits so many seconds, or less if it was interrupted, and says then that it was.
    """

    def __init__(
        self,
        rate: int | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], bool] | None = None,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._over = threading.Event()
        self._sleep = sleep or self._over.wait
        self._lock = threading.Lock()
        self._free_at = clock()

    def take(self, size_bytes: int) -> None:
        """Wait until so many bytes may go.

        Raises:
            CancelledError: There is nothing to wait for any more.
        """
        if not self._rate:
            return
        with self._lock:
            now = self._clock()
            begin = max(self._free_at, now)
            self._free_at = begin + size_bytes / self._rate
            ahead = self._free_at - now - _BURST_S
        if ahead > 0 and self._sleep(ahead):
            raise CancelledError

    @contextlib.contextmanager
    def interrupted(self) -> Iterator[None]:
        """Inside the block nobody waits: those who do are told that it is over."""
        self._over.set()
        try:
            yield
        finally:
            self._over.clear()
