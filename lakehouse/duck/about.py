"""The tables about the lake in a catalog: loads, files, tables, columns and tags, filled from the logs."""

from collections.abc import Iterable
from typing import Any

import duckdb

from lakehouse.core.log import Log
from lakehouse.core.moments import microseconds
from lakehouse.core.tag import Tag

TABLES = """
CREATE TABLE about (name VARCHAR, value VARCHAR);
CREATE TABLE loads (
    source VARCHAR, seq BIGINT, load_id VARCHAR, outcome VARCHAR,
    observed_at TIMESTAMPTZ, effective_at TIMESTAMPTZ, committed_at TIMESTAMPTZ,
    failure VARCHAR, discarded BIGINT, digest VARCHAR, expired BOOLEAN
);
CREATE TABLE table_loads (
    source VARCHAR, "table" VARCHAR, seq BIGINT, disposition VARCHAR, base BOOLEAN, rows BIGINT,
    appeared BIGINT, changed BIGINT, disappeared BIGINT, unchanged BIGINT, appended BIGINT
);
CREATE TABLE files (
    source VARCHAR, "table" VARCHAR, first_seq BIGINT, last_seq BIGINT, path VARCHAR,
    rows BIGINT, size_bytes BIGINT, sha256 VARCHAR
);
CREATE TABLE tables (
    source VARCHAR, "table" VARCHAR, disposition VARCHAR, primary_key VARCHAR[], rows BIGINT, loads BIGINT,
    first_seq BIGINT, last_seq BIGINT, files BIGINT, size_bytes BIGINT, columns VARCHAR[]
);
CREATE TABLE columns (
    source VARCHAR, "table" VARCHAR, "column" VARCHAR, type VARCHAR, source_name VARCHAR
);
CREATE TABLE tags (name VARCHAR, source VARCHAR, seq BIGINT, created_at TIMESTAMPTZ, note VARCHAR);
CREATE TABLE models (
    name VARCHAR, kind VARCHAR, language VARCHAR, path VARCHAR, sql VARCHAR, description VARCHAR, grain VARCHAR,
    key VARCHAR[], inputs STRUCT(source VARCHAR, "table" VARCHAR, seq BIGINT)[],
    columns STRUCT(name VARCHAR, type VARCHAR, description VARCHAR)[], tests BIGINT, fingerprint VARCHAR,
    built_seq BIGINT, trouble VARCHAR
);
"""

_INSERTS = {
    "loads": "VARCHAR BIGINT VARCHAR VARCHAR BIGINT BIGINT BIGINT VARCHAR BIGINT VARCHAR BOOLEAN",
    "table_loads": "VARCHAR VARCHAR BIGINT VARCHAR BOOLEAN BIGINT BIGINT BIGINT BIGINT BIGINT BIGINT",
    "files": "VARCHAR VARCHAR BIGINT BIGINT VARCHAR BIGINT BIGINT VARCHAR",
    "columns": "VARCHAR VARCHAR VARCHAR VARCHAR VARCHAR",
}

_INSTANTS = {"loads": (4, 5, 6), "tags": (3,)}  # columns that come as microseconds since 1970
_TAGS = "VARCHAR VARCHAR BIGINT BIGINT VARCHAR"


def insert_tags(connection: duckdb.DuckDBPyConnection, tags: Iterable[Tag]) -> None:
    """Fill the table of tags; one whose file cannot be read is named by no query, and left to `verify`."""
    rows = [
        (tag.name, source, seq, microseconds(tag.created_at), tag.note)
        for tag in tags
        for source, seq in tag.positions.items()
    ]
    _insert(connection, "tags", _TAGS.split(), rows)


def describe(connection: duckdb.DuckDBPyConnection, log: Log, known: int = 0) -> None:
    """Fill the tables about the lake; if the first so many commits are known, with what they lack."""
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _INSERTS}
    files = _known_files(connection, log) if known else {}
    for name in ("tables", "columns") if known else ():
        connection.execute(f"DELETE FROM {name} WHERE source = ?", [log.source])
    for c in log.commits[known:]:
        discarded = sum(int(d.get("rows", 0)) for d in c.discarded.values())
        rows["loads"].append((
            log.source, c.seq, c.load_id, c.outcome, microseconds(c.observed_at), microseconds(c.effective_at),
            microseconds(c.committed_at), c.failure, discarded, c.digest,
            log.is_expired(c.seq),
        ))  # fmt: skip
    for table in log.tables.values():
        for seq, change in table.changes_since(known + 1):
            n = change.counts
            rows["table_loads"].append((
                log.source, table.name, seq, change.disposition, change.base or seq == table.first_seq,
                n.get("rows", 0), n.get("appeared", 0), n.get("changed", 0), n.get("disappeared", 0),
                n.get("unchanged", 0), n.get("appended", 0),
            ))  # fmt: skip
        held = table.files
        for f in held:
            row = (log.source, table.name, f.first, f.last, f.path, f.rows, f.size_bytes, f.sha256)
            if files.pop(f.path, None) != row:
                rows["files"].append(row)
        rows["columns"] += [
            (
                log.source,
                table.name,
                c.name,
                c.type if isinstance(c.type, str) else str(c.type),
                c.source_name,
            )
            for c in table.columns
        ]
        last, keys = table.last, list(table.eras[-1].key)
        connection.execute(
            "INSERT INTO tables VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                log.source, table.name, last.disposition, keys, last.counts.get("rows", 0), len(table.changes),
                table.first_seq, table.last_seq, len(held), sum(f.size_bytes for f in held),
                [c.name for c in table.columns],
            ],
        )  # fmt: skip
    gone = [*files, *(row[4] for row in rows["files"])] if known else []
    if gone:
        connection.execute(
            "DELETE FROM files WHERE source = ? AND path IN (SELECT unnest(?))", [log.source, gone]
        )
    for name, types in _INSERTS.items():
        _insert(connection, name, types.split(), rows[name])


def _known_files(connection: duckdb.DuckDBPyConnection, log: Log) -> dict[str, tuple[Any, ...]]:
    rows = connection.execute("SELECT * FROM files WHERE source = ?", [log.source]).fetchall()
    return {row[4]: row for row in rows}


def _insert(
    connection: duckdb.DuckDBPyConnection, table: str, types: list[str], rows: list[tuple[Any, ...]]
) -> None:
    """Many rows at once, as lists of columns: no Arrow needed, and fast."""
    if not rows:
        return
    columns = [list(column) for column in zip(*rows, strict=True)]
    items = [f"unnest(${i}::{kind}[])" for i, kind in enumerate(types, 1)]
    for at in _INSTANTS.get(table, ()):
        items[at] = f"make_timestamptz({items[at]})"
    connection.execute(f"INSERT INTO {table} SELECT {', '.join(items)}", columns)
