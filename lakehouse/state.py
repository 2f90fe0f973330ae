"""A table's current state, read with DuckDB from the parts that its log names."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.core.log import TableLog
from lakehouse.core.types import Column
from lakehouse.duck.compacted import Compacted
from lakehouse.duck.names import quote
from lakehouse.duck.sql import duck_type, state_now
from lakehouse.parquet.arrow import from_duck, physical

if TYPE_CHECKING:
    import duckdb


class State:
    """A table's current state, for comparison with what comes in.

    Args:
        table: The table's log; None before its first load.
        connection: Gives a DuckDB connection that can open the table's parts.
        locate: From the key of a part to what DuckDB opens.
        compacted: The table with its compaction, to start from instead of from the first part.
    """

    def __init__(
        self,
        table: TableLog | None,
        connection: "Callable[[], duckdb.DuckDBPyConnection]",
        locate: Callable[[str], str],
        compacted: Compacted | None = None,
    ) -> None:
        self.table = table
        self.compacted = compacted
        self._connection = connection
        self._locate = locate

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the table's whole history."""
        return self.table.columns if self.table else ()

    @property
    def rows(self) -> int:
        """Rows in the table now."""
        return int(self.table.last.counts.get("rows", 0)) if self.table else 0

    @property
    def key(self) -> tuple[str, ...] | None:
        """The key of the current era; None before the first load."""
        return self.table.eras[-1].key if self.table else None

    @property
    def content(self) -> str | None:
        """Content digest of all rows, where the log knows it without reading them."""
        if self.table is None:
            return None
        return self.table.content if self.table.stored == 1 else None

    @property
    def may_repeat(self) -> bool:
        """Whether several rows may have one key: groups of a merge key, or rows from before the key."""
        return self.table is not None and self.table.may_repeat

    def sql(self, columns: Sequence[Column]) -> str:
        """A SELECT of the current rows, with the given columns in the given types."""
        if self.table is None:
            names = ", ".join(f"NULL::{duck_type(c.type)} AS {quote(c.name)}" for c in columns)
            return f"SELECT {names} WHERE false"
        if self.compacted is not None:
            return self.compacted.state(columns, None)
        return state_now(self.table, columns, locate=self._locate)

    def fetch(self, sql: str, columns: Sequence[Column], **frames: pa.Table) -> pa.Table:
        """The result of a query over the state and some Arrow tables, in the format's types."""
        # A cursor of its own: loads in other threads register frames of the same names.
        with self._connection().cursor() as duck:
            duck.execute("SET TimeZone = 'UTC'")
            for name, frame in frames.items():
                duck.register(name, physical(frame))
            return from_duck(duck.sql(sql).to_arrow_table(), columns)
