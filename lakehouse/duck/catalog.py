"""The catalog: a DuckDB database of views and macros over the parts, and of tables about the lake.

It is derived from the logs alone and may be deleted at any time. A local lake keeps it in a file
that any DuckDB client opens; it is always written anew and renamed into place, so that nobody who
has the old one open is disturbed. It needs no extension and no Python to be read.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from lakehouse.core.log import Log, TableLog
from lakehouse.duck.current import said_by
from lakehouse.duck.names import AS_OF, literal, quote
from lakehouse.duck.sql import state_at
from lakehouse.duck.trouble import unreadable
from lakehouse.errors import IntegrityError, SetupError

if TYPE_CHECKING:
    from lakehouse.lake import Lake

STORAGE = "STORAGE_VERSION 'v1.0.0', BLOCK_SIZE 16384"  # DuckDB opens it from 1.1 on; views over nested columns want 1.3

_TABLES = """
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
"""

_INSERTS = {
    "loads": "VARCHAR BIGINT VARCHAR VARCHAR BIGINT BIGINT BIGINT VARCHAR BIGINT VARCHAR BOOLEAN",
    "table_loads": "VARCHAR VARCHAR BIGINT VARCHAR BOOLEAN BIGINT BIGINT BIGINT BIGINT BIGINT BIGINT",
    "files": "VARCHAR VARCHAR BIGINT BIGINT VARCHAR BIGINT BIGINT VARCHAR",
    "columns": "VARCHAR VARCHAR VARCHAR VARCHAR VARCHAR",
}


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
    while not _built(connection, lake, logs, said, broken):
        connection.execute("ROLLBACK")  # such an error ends a transaction: once more, without that table
    return {source: error for (source, _), error in broken.items()}


def _built(
    connection: duckdb.DuckDBPyConnection,
    lake: "Lake",
    logs: Mapping[str, Log],
    said: Mapping[str, str],
    broken: dict[tuple[str, str], IntegrityError],
) -> bool:
    """Whether all went well; if not, `broken` has one more table, which is left out the next time."""
    connection.execute("BEGIN")
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    about = dict(said) | {f"broken:{source}": "" for source, _ in broken}
    connection.executemany("INSERT INTO about VALUES (?, ?)", list(about.items()))
    for source, log in logs.items():
        _describe(connection, log)
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(source)}")
        for table in log.tables.values():
            if (source, table.name) in broken:
                continue
            try:
                for statement in statements(source, table, locate=lake.locate):
                    connection.execute(statement)
            except duckdb.Error as error:
                broken[source, table.name] = unreadable(error, f"{source}.{table.name}")
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


def statements(source: str, table: TableLog, *, locate: Callable[[str], str]) -> list[str]:
    """The view and the macro of one table."""
    name = f"{quote(source)}.{quote(table.name)}"
    macro = f"{quote(source)}.{quote(table.name + '_at')}"
    variable = f"getvariable({literal(AS_OF)})"
    return [
        f"CREATE VIEW {name} AS {_state(source, table, variable, locate=locate)}",
        f"CREATE MACRO {macro}(t) AS TABLE {_state(source, table, 't', locate=locate)}",
    ]


def _state(source: str, table: TableLog, moment: str, *, locate: Callable[[str], str]) -> str:
    position = position_sql(source, moment)
    base = (
        f"(SELECT max(seq) FROM main.table_loads WHERE source = {literal(source)} "
        f'AND "table" = {literal(table.name)} AND base AND seq <= {position})'
    )
    return state_at(table, table.columns, locate=locate, position=position, base=base)


def position_sql(source: str, moment: str) -> str:
    """SQL for the newest sequence number that a moment sees.

    The moment may be a timestamp (without a zone it is UTC), a date (its first instant), text of
    either, the number of a load, or NULL for now. Anything else is an error that says so.
    """
    text = f"{moment}::VARCHAR"
    # DuckDB 2 leaves a zone out of account where text becomes a TIMESTAMP; DuckDB 1 did not.
    zoned = f"regexp_matches({text}, ':[0-9][0-9].*([A-Za-z_]|[+-][0-9][0-9:]*)\\s*$')"
    instant = (
        f"CASE WHEN {zoned} THEN epoch_us(TRY_CAST({text} AS TIMESTAMPTZ)) "
        f"ELSE epoch_us(TRY_CAST({text} AS TIMESTAMP)) END"
    )
    digits = f"regexp_full_match({text}, '\\s*[0-9]+\\s*')"
    number = f"CASE WHEN {digits} THEN TRY_CAST({text} AS BIGINT) END"
    # Of a state that a retention let go, only a part is there: it is refused, never answered.
    gone = (
        f"error('{source}: as of load ' || max(seq) || ' is expired; see lakehouse.loads for what is kept')"
    )
    return (
        f"(SELECT CASE WHEN max(seq) = max(CASE WHEN expired THEN seq END) THEN {gone} "
        f"ELSE coalesce(max(seq), 0) END FROM main.loads WHERE source = {literal(source)} AND CASE "
        f"WHEN {moment} IS NULL THEN true "
        f"WHEN {number} IS NOT NULL THEN seq <= {number} "
        f"WHEN {instant} IS NOT NULL THEN epoch_us(effective_at) <= {instant} "
        f"ELSE error('as of ' || {text} || ': is neither an instant (2026-11-01T12:00:00Z) "
        f"nor the number of a load') END)"
    )


def _describe(connection: duckdb.DuckDBPyConnection, log: Log) -> None:
    from lakehouse.core.moments import microseconds

    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _INSERTS}
    for c in log.commits:
        discarded = sum(int(d.get("rows", 0)) for d in c.discarded.values())
        rows["loads"].append((
            log.source, c.seq, c.load_id, c.outcome, microseconds(c.observed_at), microseconds(c.effective_at),
            microseconds(c.committed_at), c.failure, discarded, c.digest,
            log.is_expired(c.seq),
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
    if table == "loads":
        for at in (4, 5, 6):  # microseconds since 1970, to instants
            items[at] = f"make_timestamptz({items[at]})"
    connection.execute(f"INSERT INTO {table} SELECT {', '.join(items)}", columns)
