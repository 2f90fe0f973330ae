"""Packing a log that others go on with meanwhile."""

from datetime import UTC, datetime, timedelta

import pytest

from lakehouse import Lake, logpack
from lakehouse.store import MemoryStore
from lakehouse.verify import verify


def test_what_came_since_the_log_was_read_stays_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logpack, "WORTH", 3)
    lake = Lake.create(MemoryStore())

    def load(n: int) -> None:
        with lake.load(
            "s", load_id=str(n), observed_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(n)
        ) as one:
            one.write("t", [{"n": n}])

    for n in range(6):
        load(n)
    log = lake.log("s")
    for n in range(6, 10):
        load(n)
    made = logpack.pack_log(lake.store, log)
    assert made is not None
    assert (made.first, made.last) == (1, 5)
    assert verify(lake).errors == []
