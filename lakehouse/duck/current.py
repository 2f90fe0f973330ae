"""Whether a catalog file says what the logs say: the little that every query has to know first."""

from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from lakehouse.core.layout import TAGS, compactions, log_file_seq, log_prefix
from lakehouse.duck.names import CATALOG_VERSION, literal
from lakehouse.store.local import LocalStore

if TYPE_CHECKING:
    from lakehouse.lake import Lake


def said_by(lake: "Lake") -> dict[str, str]:
    """What a catalog of a local lake says of itself: it is current while this is so.

    Only the end of each log is looked at, and the folder of tags: names, sizes and times of files.
    """
    said = {"lake_id": lake.id, "lake_url": lake.url, "catalog_version": CATALOG_VERSION}
    if isinstance(lake.store, LocalStore):
        said["tags"] = lake.store.marks(f"{TAGS}/")
        for source in lake.sources():
            said[f"log:{source}"] = lake.store.newest(log_prefix(source), log_file_seq)
            # Views name the files of compactions: one that came or went makes them out of date.
            derived = (e.key for e in lake.store.list(compactions(source)) if e.key.endswith(".json"))
            said[f"compactions:{source}"] = ",".join(key.removeprefix(compactions(source)) for key in derived)
    return said


def attach(connection: duckdb.DuckDBPyConnection, path: Path) -> bool:
    """Attach a catalog as `lakehouse`; False where there is none, or none that can be read."""
    if not path.exists():
        return False
    try:
        connection.execute(f"ATTACH {literal(str(path))} AS lakehouse (READ_ONLY)")
    except duckdb.Error:
        return False
    return True


def is_current(connection: duckdb.DuckDBPyConnection, lake: "Lake") -> bool:
    """Whether the attached catalog is of this lake, as it is now."""
    try:
        said = dict(connection.execute("SELECT name, value FROM lakehouse.main.about").fetchall())
    except duckdb.Error:
        return False
    return said == said_by(lake)
