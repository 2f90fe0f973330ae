"""Threads for generators."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def threads(most: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads to be used inside a generator; leaving the block waits for nothing that is under way.

    A generator that was not read to its end is closed by the garbage collector, in whatever thread that
    runs, also in one that is just starting. To wait there for other threads to end may never end.

    Args:
        most: How many threads there may be.
    """
    pool = ThreadPoolExecutor(most)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
