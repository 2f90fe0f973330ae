"""Whether a catalog file says what the logs say: the little that every query has to know first."""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb

from lakehouse.core.layout import TAGS, compactions, log_key, log_pack_prefix, log_pack_span
from lakehouse.duck.fetching import is_far
from lakehouse.duck.names import CATALOG_VERSION, literal
from lakehouse.errors import LakehouseError
from lakehouse.store.base import Absent, Entry, Store
from lakehouse.store.local import LocalStore

if TYPE_CHECKING:
    from lakehouse.core.log import Log
    from lakehouse.lake import Lake

LOG, VIEW = "log:", "view:"  # what names in `about` begin with: the end of a log; digest of a table's SQL
TAGGED, COMPACTED = "tags", "compactions:"  # the same for what is there beside the logs

T = TypeVar("T")
_LOOKS = 16  # at a store that is far away, at once

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
    if not has_file(lake):
        return said
    said[TAGGED] = _marks(lake.store, f"{TAGS}/")

    def look(source: str) -> tuple[str, str]:
        # Views name the files of compactions: one that came or went makes them out of date.
        derived = (e.key for e in lake.store.list(compactions(source)) if e.key.endswith(".json"))
        end = ends.get(source)
        stamp = json.dumps([*end, _end_stamp(lake.store, source, end[0], end[2])] if end else None)
        return ",".join(key.removeprefix(compactions(source)) for key in derived), stamp

    for source, (derived, stamp) in each(lake, lake.sources(), look).items():
        said[COMPACTED + source] = derived
        said[LOG + source] = stamp
    return said


def has_file(lake: "Lake") -> bool:
    """Whether a lake has its catalog in a file: a local one beside it, one that is far away in the cache."""
    return isinstance(lake.store, LocalStore) or is_far(lake.store)


def each(lake: "Lake", sources: Iterable[str], look: Callable[[str], T]) -> dict[str, T]:
    """What a look at each of some sources gives; at several at once where each takes its time."""
    names = list(sources)
    if not is_far(lake.store):
        return {name: look(name) for name in names}
    with ThreadPoolExecutor(_LOOKS) as pool:
        return dict(zip(names, pool.map(look, names), strict=True))


def _end_stamp(store: Store, source: str, head: int, key: str) -> str:
    """What changes when the end of a log does; a log that is cut elsewhere comes as a longer pack, and no file follows.

    A bucket is asked for packs only where the log ends with one.
    """
    stamp = _stamp(store, key) if key else ""
    if not isinstance(store, LocalStore) and not log_pack_span(key):
        return stamp
    packed = 0
    for first, last in sorted(s for e in store.list(log_pack_prefix(source)) if (s := log_pack_span(e.key))):
        packed = max(packed, last if first <= packed + 1 else 0)
    return f"{stamp}/{packed}" if packed > head else stamp


def _stamp(store: Store, key: str) -> str:
    """What tells that an object is still the same; empty if there is none."""
    if isinstance(store, LocalStore):
        return store.stamp(key)
    try:
        return _told(store.stat(key))
    except Absent:
        return ""


def _marks(store: Store, prefix: str) -> str:
    """What tells that the objects below a prefix are still the same."""
    if isinstance(store, LocalStore):
        return store.marks(prefix)
    return ",".join(f"{entry.key.removeprefix(prefix)}:{_told(entry)}" for entry in store.list(prefix))


def _told(entry: Entry) -> str:
    return ";".join([str(entry.size_bytes), *(f"{k}={v}" for k, v in sorted(entry.checksums.items()))])


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
    if not about or not has_file(lake):
        return False
    try:
        ends = read_ends(about)
    except (ValueError, TypeError, IndexError):
        return False
    newer = each(lake, ends, lambda source: _stamp(lake.store, log_key(source, ends[source][0] + 1)))
    return not any(newer.values()) and about == said_by(lake, ends)


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
