"""The catalog: a DuckDB database of views and macros over the parts, and of tables about the lake.

It is derived from the logs alone and may be deleted at any time. A local lake keeps it in a file
that any DuckDB client opens; it is always written anew and renamed into place, so that nobody who
has the old one open is disturbed. It needs no extension and no Python to be read.
"""

import contextlib
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from lakehouse.core.log import Log
from lakehouse.core.moments import microseconds
from lakehouse.core.tag import Tag
from lakehouse.duck.asof import read_tags
from lakehouse.duck.current import said_by
from lakehouse.duck.names import literal, quote
from lakehouse.duck.trouble import unreadable
from lakehouse.duck.views import statements, with_compaction
from lakehouse.errors import IntegrityError, SetupError

if TYPE_CHECKING:
    from lakehouse.lake import Lake

STORAGE = "STORAGE_VERSION 'v1.0.0', BLOCK_SIZE 16384"  # DuckDB opens it from 1.1 on; views over nested columns want 1.3

_TABLES = """
CREATE TABLE about (name VARCHAR, value VARCHAR);
CREATE TABLE loads (
    source VARCHAR, seq BIGINT, load_id VARCHAR, outcome VARCHAR,
    observed_at TIMESTAMPTZ, effective_at TIMESTAMPTZ, committed_at TIMESTAMPTZ,
    failure VARCHAR, discarded BIGINT, digest VARCHAR
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
"""

_INSERTS = {
    "loads": "VARCHAR BIGINT VARCHAR VARCHAR BIGINT BIGINT BIGINT VARCHAR BIGINT VARCHAR",
    "table_loads": "VARCHAR VARCHAR BIGINT VARCHAR BOOLEAN BIGINT BIGINT BIGINT BIGINT BIGINT BIGINT",
    "files": "VARCHAR VARCHAR BIGINT BIGINT VARCHAR BIGINT BIGINT VARCHAR",
    "columns": "VARCHAR VARCHAR VARCHAR VARCHAR VARCHAR",
}
_INSTANTS = {"loads": (4, 5, 6), "tags": (3,)}  # columns that come as microseconds since 1970
_TAGS = "VARCHAR VARCHAR BIGINT BIGINT VARCHAR"


def read_logs(lake: "Lake") -> tuple[dict[str, Log], dict[str, IntegrityError]]:
    """The logs of all sources that can be read, and what is wrong with the others."""
    logs, broken = {}, {}
    for source in lake.sources():
        try:
            logs[source] = lake.log(source)
        except IntegrityError as error:
            broken[source] = error
    return logs, broken


def build(
    connection: duckdb.DuckDBPyConnection, lake: "Lake", logs: Mapping[str, Log], said: Mapping[str, str]
) -> dict[str, IntegrityError]:
    """Fill an empty database with the catalog of a lake.

    Returns:
        What is wrong with sources that have a table whose files cannot be read; it is left out.
    """
    broken: dict[tuple[str, str], IntegrityError] = {}
    raw: set[tuple[str, str]] = set()
    while not _built(connection, lake, logs, said, broken, raw):
        connection.execute("ROLLBACK")  # such an error ends a transaction: once more, without that table
    return {source: error for (source, _), error in broken.items()}


def _built(
    connection: duckdb.DuckDBPyConnection,
    lake: "Lake",
    logs: Mapping[str, Log],
    said: Mapping[str, str],
    broken: dict[tuple[str, str], IntegrityError],
    raw: set[tuple[str, str]],
) -> bool:
    """Whether all went well; if not, the next time one more table is read without its compaction.

    Or it is in `broken`, and is left out.
    """
    connection.execute("BEGIN")
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    about = dict(said) | {f"broken:{source}": "" for source, _ in broken}
    connection.executemany("INSERT INTO about VALUES (?, ?)", list(about.items()))
    tags = read_tags(lake.store)[0]
    insert_tags(connection, tags.values())
    for source, log in logs.items():
        _describe(connection, log)
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(source)}")
        for table in log.tables.values():
            if (source, table.name) in broken:
                continue
            try:
                found = None if (source, table.name) in raw else with_compaction(lake, log, table.name)
                for statement in statements(log, table, found, locate=lake.locate, tags=tags):
                    connection.execute(statement)
            except duckdb.Error as error:
                if (source, table.name) in raw or found is None:
                    broken[source, table.name] = unreadable(error, f"{source}.{table.name}")
                raw.add((source, table.name))
                return False
    connection.execute("COMMIT")
    return True


def write_file(path: Path, lake: "Lake") -> dict[str, IntegrityError]:
    """Write the catalog of a local lake to a file, in the place of the one before.

    Returns:
        What is wrong with sources whose log or files cannot be read; they are left out.

    Raises:
        SetupError: The file cannot be written.
    """
    said = said_by(lake)  # before the logs are read: a commit in between makes the catalog out of date
    logs, broken = read_logs(lake)
    said |= {f"broken:{source}": "" for source in broken}  # never current, so that it is said again
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        connection = duckdb.connect()
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"ATTACH {literal(str(temporary))} AS lakehouse ({STORAGE}); USE lakehouse")
            broken |= build(connection, lake, logs, said)
            # Closing would swallow an error of the disk, and the file would be no catalog.
            connection.execute("CHECKPOINT lakehouse; USE memory; DETACH lakehouse")
        finally:
            connection.close()
        # A write-ahead log that a client left beside the old file would be taken for the new one's.
        Path(f"{path}.wal").unlink(missing_ok=True)
        os.replace(temporary, path)
    except (duckdb.Error, OSError) as error:
        raise SetupError(
            f"{path}: could not be written ({error})",
            hint="The one before is still there. Free space or mend the disk, then run: lakehouse refresh",
        ) from error
    finally:
        with contextlib.suppress(OSError):  # what stays of it is hidden, and nobody's catalog
            temporary.unlink(missing_ok=True)
            Path(f"{temporary}.wal").unlink(missing_ok=True)
    return broken


def insert_tags(connection: duckdb.DuckDBPyConnection, tags: Iterable[Tag]) -> None:
    """Fill the table of tags; one whose file cannot be read is named by no query, and left to `verify`."""
    rows = [
        (tag.name, source, seq, microseconds(tag.created_at), tag.note)
        for tag in tags
        for source, seq in tag.positions.items()
    ]
    _insert(connection, "tags", _TAGS.split(), rows)


def _describe(connection: duckdb.DuckDBPyConnection, log: Log) -> None:
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _INSERTS}
    for c in log.commits:
        discarded = sum(int(d.get("rows", 0)) for d in c.discarded.values())
        rows["loads"].append((
            log.source, c.seq, c.load_id, c.outcome, microseconds(c.observed_at), microseconds(c.effective_at),
            microseconds(c.committed_at), c.failure, discarded, c.digest,
        ))  # fmt: skip
    for table in log.tables.values():
        for seq, change in table.changes:
            n = change.counts
            rows["table_loads"].append((
                log.source, table.name, seq, change.disposition, change.base or seq == table.eras[0].first,
                n.get("rows", 0), n.get("appeared", 0), n.get("changed", 0), n.get("disappeared", 0),
                n.get("unchanged", 0), n.get("appended", 0),
            ))  # fmt: skip
        rows["files"] += [
            (log.source, table.name, f.first, f.last, f.path, f.rows, f.size_bytes, f.sha256)
            for f in table.files
        ]
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
                table.changes[0][0], table.changes[-1][0], len(table.files), sum(f.size_bytes for f in table.files),
                [c.name for c in table.columns],
            ],
        )  # fmt: skip
    for name, types in _INSERTS.items():
        _insert(connection, name, types.split(), rows[name])


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
