"""Kept states: the rows of a keyed table as of some load, in one derived file.

Working out what changed needs the current state; without this it would be read from the parts of
every load since the first. A kept state saves all but the newest parts. It is written every so
many loads, names the commit it belongs to, and may be deleted at any time.
"""

import hashlib
import re
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from lakehouse.core import layout
from lakehouse.core.log import Log
from lakehouse.core.types import Column
from lakehouse.duck.sql import DELETED, SEQ, KeptState
from lakehouse.errors import LakehouseError
from lakehouse.parquet.part import write_part

if TYPE_CHECKING:
    from lakehouse.state import State
    from lakehouse.store.base import Store

_NAME = re.compile(r"/(?P<seq>\d{20})-(?P<commit>[0-9a-f]{16})-(?P<content>[0-9a-f]{64})\.parquet$")
EVERY = 32  # parts after which the state is worth keeping anew: their footers cost as much as a scan


def newest(store: "Store", log: Log, table: str) -> KeptState | None:
    """The newest kept state that belongs to this log and to the table's current era."""
    about = log.tables.get(table)
    if about is None or not about.eras[-1].key or len(about.changes) <= EVERY:
        return None
    found = sorted((entry.key for entry in store.list(_prefix(log.source, table))), reverse=True)
    for key in found:
        match = _NAME.search(key)
        at = int(match["seq"]) if match else 0
        if (
            match
            and about.eras[-1].first <= at <= log.head
            and log.digest_at(at).startswith(match["commit"])
            and _is_sound(store, key, match["content"])
        ):
            return KeptState(seq=at, path=key, columns=about.columns_at(at))
    return None


def keep(store: "Store", log: Log, table: str, state: "State") -> None:
    """Keep the state at the end of the log, if that has become worth it."""
    about = log.tables[table]
    since = state.kept.seq if state.kept else about.eras[-1].first
    parts = len(about.files_since(since + 1))
    if not about.eras[-1].key or parts < EVERY:
        return
    columns = [Column(name=SEQ, type="int64"), *about.columns]
    try:
        rows = state.fetch(state.sql(columns), columns)
        flags = pa.repeat(pa.scalar(value=False), rows.num_rows)
        part = write_part(rows.add_column(1, DELETED, flags))
        before = sorted(entry.key for entry in store.list(_prefix(log.source, table)))
        name = f"{log.head:020d}-{log.digest[:16]}-{part.sha256}.parquet"
        store.put(f"{_prefix(log.source, table)}{name}", part.data)
        for key in before[:-1]:  # the last one stays for those who read it right now
            store.delete(key)
    except (LakehouseError, duckdb.Error):
        return  # derived, and tried again after the next load: the load itself is published


def _is_sound(store: "Store", key: str, content: str) -> bool:
    """Whether the file has the bytes that its name says: a flipped bit must not reach a commit."""
    try:
        return hashlib.sha256(store.get(key)).hexdigest() == content
    except LakehouseError:
        return False


def forget(store: "Store", source: str) -> bool:
    """Delete all kept states of a source; whether there were any."""
    found = [entry.key for entry in store.list(f"{layout.DERIVED}/{source}/state/")]
    for key in found:
        store.delete(key)
    return bool(found)


def _prefix(source: str, table: str) -> str:
    return f"{layout.DERIVED}/{source}/state/{table}/"
