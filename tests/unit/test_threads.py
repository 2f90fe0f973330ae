"""Generators that use threads: one that nobody reads on is collected without a wait for what is under way."""

import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse import replay
from lakehouse.logpack import LogFile
from lakehouse.store import MemoryStore
from sync import units

if TYPE_CHECKING:
    from collections.abc import Iterator


class Slow(MemoryStore):
    """A store whose second object takes as long as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = threading.Event(), threading.Event()

    def get(self, key: str) -> bytes:
        if key.endswith("2.jsonl"):
            self.asked.set()
            self.go_on.wait()
        return super().get(key)


@pytest.mark.parametrize("reading", ["replay", "sync"])
def test_a_read_that_was_given_up_is_collected_at_once(reading: str) -> None:
    store = Slow()
    keys = [f"shop/_log/{n:020d}.jsonl" for n in range(1, 3)]
    for key in keys:
        store.put(key, b"")
    contents: Iterator[Any]
    if reading == "replay":
        contents = replay._contents(store, keys)
    else:
        files = [LogFile(first=n, last=0, key=key, size_bytes=0) for n, key in enumerate(keys, 1)]
        contents = units._contents(store, files, 2)
    given_up: list[Any] = [contents]
    given_up.append(given_up)  # a cycle, as the traceback of an error makes: only the collector ends it
    reader = threading.Thread(target=next, args=(contents,), daemon=True)
    reader.start()
    assert store.asked.wait(60)
    collector = threading.Thread(target=gc.collect, daemon=True)
    try:
        reader.join(60)
        del contents, reader, given_up
        collector.start()
        collector.join(20)
        assert not collector.is_alive(), "the garbage collector waits for a thread of ours"
    finally:
        store.go_on.set()
