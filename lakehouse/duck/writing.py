"""Results of SQL over a lake as Parquet files in a folder that is not the lake's."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from lakehouse.duck.files import PROTOCOL, connect
from lakehouse.duck.names import literal
from lakehouse.errors import LakehouseError
from lakehouse.store import LocalStore, open_store

if TYPE_CHECKING:
    from lakehouse.lake import Lake


class Folder:
    """Where written files go."""

    def __init__(self, place: str | Path) -> None:
        self.store = open_store(place)

    @property
    def scratch(self) -> Path | None:
        """A folder on the same disk, if it is local."""
        if not isinstance(self.store, LocalStore):
            return None
        self.store.root.mkdir(parents=True, exist_ok=True)
        return self.store.root

    def locate(self, name: str) -> str:
        """What an engine opens."""
        return f"{self.store.url}/{name}"

    def rows_in(self, name: str) -> int | None:
        """Rows of a file that was written before; None where there is none, or none that is whole."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with self.store.open(name) as file:
                return int(pq.ParquetFile(file).metadata.num_rows)
        except (LakehouseError, pa.ArrowInvalid, OSError):
            return None

    def keep(self, name: str, file: Path) -> None:
        """Put a finished file in its place."""
        self.store.put(name, file)


@contextmanager
def writer(lake: "Lake", folder: Folder) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """A connection that opens the lake's parts and writes one file, which goes away with it."""
    with tempfile.TemporaryDirectory(dir=folder.scratch, prefix=".tmp-", ignore_cleanup_errors=True) as made:
        scratch = Path(made).resolve()
        local = isinstance(lake.store, LocalStore)
        allowed = [f"{lake.url}/" if local else f"{PROTOCOL}://{lake.id}/", f"{scratch}/"]
        with connect(lake) as connection:
            connection.execute("SET temp_directory = ?", [str(scratch / "spill")])
            connection.execute("SET allowed_directories = ?", [allowed])
            connection.execute("SET enable_external_access = false")
            yield connection, scratch / "rows.parquet"


def copy(connection: duckdb.DuckDBPyConnection, sql: str, target: Path) -> int:
    """Write the result of a query to a Parquet file; how many rows it has."""
    done = connection.execute(
        f"COPY ({sql}) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd)"
    ).fetchall()
    return int(done[0][0])
