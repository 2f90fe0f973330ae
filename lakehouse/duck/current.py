"""Whether a catalog file says what the logs say: the little that every query has to know first."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from lakehouse.core.layout import TAGS, compactions, log_key, log_pack_prefix, log_pack_span
from lakehouse.duck.names import CATALOG_VERSION, literal
from lakehouse.errors import LakehouseError
from lakehouse.store.local import LocalStore

if TYPE_CHECKING:
    from lakehouse.core.log import Log
    from lakehouse.lake import Lake

LOG, VIEW = "log:", "view:"  # what names in `about` begin with: the end of a log; digest of a table's SQL
TAGGED, COMPACTED = "tags", "compactions:"  # the same for what is there beside the logs

End = tuple[int, str, str]  # of a log: its last commit, the digest of that, and the file that holds it


def ends_of(logs: "Mapping[str, Log]") -> dict[str, End]:
    """How logs end."""
    return {source: (log.head, log.digest, log.reach.key) for source, log in logs.items()}


def said_by(lake: "Lake", ends: Mapping[str, End]) -> dict[str, str]:
    """What a catalog of a lake says of itself: it is current while this is so, and no log has more.

    Of each log only the file with its last commit is looked at. Whatever else a catalog is made from
    is to be said here too, such as a listing of a folder whose files change without a commit.

    Args:
        lake: The lake.
        ends: How its logs end, as far as the catalog knows.
    """
    said = {"lake_id": lake.id, "lake_url": lake.url, "catalog_version": CATALOG_VERSION}
    if isinstance(lake.store, LocalStore):
        said[TAGGED] = lake.store.marks(f"{TAGS}/")
        for source in lake.sources():
            # Views name the files of compactions: one that came or went makes them out of date.
            derived = (e.key for e in lake.store.list(compactions(source)) if e.key.endswith(".json"))
            said[COMPACTED + source] = ",".join(key.removeprefix(compactions(source)) for key in derived)
            end = ends.get(source)
            said[LOG + source] = json.dumps([*end, _stamp(lake.store, source, end[2])] if end else None)
    return said


def _stamp(store: LocalStore, source: str, key: str) -> str:
    """What changes when the end of a log does; of one that was cut and ends with a pack, also when it gets a longer one."""
    return store.marks(log_pack_prefix(source)) if log_pack_span(key) else store.stamp(key) if key else ""


def read_about(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """What the attached catalog says of itself; nothing if it is none. Digests of SQL are left out."""
    about = f"SELECT name, value FROM lakehouse.main.about WHERE NOT starts_with(name, {literal(VIEW)})"
    try:
        return dict(connection.execute(about).fetchall())
    except duckdb.Error:
        return {}


def read_ends(about: Mapping[str, str]) -> dict[str, End]:
    """How logs end, as far as a catalog knows."""
    found: dict[str, Any] = {
        n.removeprefix(LOG): json.loads(v) for n, v in about.items() if n.startswith(LOG)
    }
    return {source: (end[0], end[1], end[2]) for source, end in found.items() if end}


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
    about = read_about(connection)
    if not about or not isinstance(lake.store, LocalStore):
        return False
    try:
        ends = read_ends(about)
    except (ValueError, TypeError, IndexError):
        return False
    return about == said_by(lake, ends) and not any(
        lake.store.stamp(log_key(source, end[0] + 1)) for source, end in ends.items()
    )


def is_behind(connection: duckdb.DuckDBPyConnection, lake: "Lake") -> bool:
    """Whether the lake went on since the attached catalog was made: files that it names may be pruned."""
    loads = "SELECT source, max(seq) FROM lakehouse.main.loads GROUP BY source"
    try:
        if any(lake.log(source).head > head for source, head in connection.execute(loads).fetchall()):
            return True
        about = read_about(connection)
        said = said_by(lake, read_ends(about))
    except (duckdb.Error, LakehouseError, ValueError, TypeError, IndexError):
        return False
    return any(about.get(name) != value for name, value in said.items() if name.startswith(COMPACTED))
