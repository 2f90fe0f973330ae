"""The state of one table at one moment as Parquet files: what engines other than DuckDB read."""

from dataclasses import dataclass

from lakehouse.core.types import Column


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of a table as files: their rows together, in the declared columns alone, are the state.

    Attributes:
        table: `source.table`.
        seq: Position in the source's log.
        digest: Digest of the commit there.
        columns: The columns, in order, in the types of the table at that position.
        files: What an engine opens: absolute paths, or URLs. Files of the lake where they hold the state as they
            lie; others were written for this snapshot.
        written: Those of `files` that were written for it.
        rows: Rows in all of them.
    """

    table: str
    seq: int
    digest: str
    columns: tuple[Column, ...]
    files: tuple[str, ...]
    written: tuple[str, ...]
    rows: int
