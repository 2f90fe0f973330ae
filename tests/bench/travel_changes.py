"""What the loads of a scenario bring, as peers are given it: one table, a slice of it for each load.

It needs pyarrow alone, so that a peer with an environment of its own can read the same file.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LOAD, GONE = "_load", "_gone"  # the load that a row belongs to, and whether it says that its key is gone


@dataclass(frozen=True, kw_only=True)
class Changes:
    """All rows that the loads bring, in the order of the loads.

    Attributes:
        table: Rows with the columns of the data, `_load`, and in a keyed table `_gone`.
        loads: How many loads there are; some may bring nothing.
        middle: The load in the middle of the history that is asked about.
        key: The column that identifies a row; None where loads append.
    """

    table: pa.Table
    loads: int
    middle: int
    key: str | None

    @property
    def columns(self) -> list[str]:
        """The columns of the data."""
        return [name for name in self.table.column_names if name not in {LOAD, GONE}]

    @cached_property
    def _numbers(self) -> np.ndarray:
        return self.table[LOAD].to_numpy()

    def of(self, first: int, last: int) -> pa.Table:
        """What loads `first` to `last` bring; of a key, what the last of them says."""
        start, stop = np.searchsorted(self._numbers, [first, last + 1])
        rows = self.table.slice(start, stop - start).drop_columns(LOAD)
        if self.key is None or first == last:
            return rows
        numbered = pa.table({"key": rows[self.key], "row": np.arange(rows.num_rows)})
        newest = numbered.group_by("key").aggregate([("row", "max")])["row_max"]
        return rows.take(np.sort(newest.to_numpy()))

    def save(self, path: Path) -> None:
        """Write them where `open` reads them."""
        about = {"loads": str(self.loads), "middle": str(self.middle), "key": self.key or ""}
        pq.write_table(self.table.replace_schema_metadata(about), path)

    @classmethod
    def open(cls, path: Path) -> "Changes":
        """What `save` wrote."""
        table = pq.read_table(path).combine_chunks()  # slices of one piece cost nothing
        about = {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
        return cls(
            table=table.replace_schema_metadata(),
            loads=int(about["loads"]),
            middle=int(about["middle"]),
            key=about["key"] or None,
        )


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What became of the loads.

    Attributes:
        versions: The peer's name for the state after the middle load and after the last one.
        single: Loads that were committed one by one.
        seconds: How long it took.
    """

    versions: dict[int, object]
    single: int
    seconds: float


def replay(
    changes: Changes, budget: float, apply: Callable[[pa.Table], None], version: Callable[[], object]
) -> Replayed:
    """Commit the loads one by one; whoever runs out of time gets the others of that half at once.

    So every peer ends with the same rows in the middle and at the end, however many loads it reached.

    Args:
        changes: What to commit.
        budget: Seconds, half of them for each half of the history.
        apply: Commits the rows that it is given.
        version: Names the state that the last commit made.
    """
    versions: dict[int, object] = {}
    single = 0
    started = time.perf_counter()
    for first, last in ((1, changes.middle), (changes.middle + 1, changes.loads)):
        until = time.perf_counter() + budget / 2
        for load in range(first, last + 1):
            late = time.perf_counter() > until
            rows = changes.of(load, last if late else load)
            if rows.num_rows:
                apply(rows)
            if late:
                break
            single += 1
        versions[last] = version()
    return Replayed(versions=versions, single=single, seconds=time.perf_counter() - started)
