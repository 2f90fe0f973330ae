"""The catalog: a DuckDB database of views and macros over the parts, and of tables about the lake.

It is derived from the logs alone and may be deleted at any time. A local lake keeps it in a file
that any DuckDB client opens; a new one, made from a copy of the old one where that is of the same
logs, is renamed into place, so that nobody who has the old one open is disturbed. It needs no
extension and no Python to be read.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from lakehouse.core.layout import MODELS
from lakehouse.core.log import Log, TableLog
from lakehouse.core.moments import microseconds
from lakehouse.core.tag import Tag
from lakehouse.duck.asof import read_tags
from lakehouse.duck.compacted import Compacted
from lakehouse.duck.current import COMPACTED, LOG, TAGGED, VIEW, End, ends_of, read_about, read_ends, said_by
from lakehouse.duck.modelled import definitions_of, describe_models
from lakehouse.duck.models import Unmade, Views, forget, make
from lakehouse.duck.names import literal, quote
from lakehouse.duck.trouble import unreadable
from lakehouse.duck.views import has_free_history, statements, with_compaction
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
_DEFINITIONS = "*"  # stands for the definitions of models, where a table's name is expected
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
    connection: duckdb.DuckDBPyConnection,
    lake: "Lake",
    logs: Mapping[str, Log],
    said: Mapping[str, str],
    unread: Collection[str] = (),
) -> dict[str, IntegrityError]:
    """Fill an empty database with the catalog of a lake.

    Args:
        connection: To the database.
        lake: The lake.
        logs: The logs that can be read.
        said: What the catalog says of itself.
        unread: The sources whose log cannot be read.

    Returns:
        What is wrong with sources that have a table whose files cannot be read; it is left out.
    """
    broken: dict[tuple[str, str], IntegrityError] = {}
    raw: set[tuple[str, str]] = set()
    unmade = {source: f"the log of {source} cannot be read" for source in unread}
    while not _built(connection, lake, logs, said, broken, raw, unmade):
        connection.execute("ROLLBACK")  # such an error ends a transaction: once more, without that table
    return {source: error for (source, _), error in broken.items()}


def _built(
    connection: duckdb.DuckDBPyConnection,
    lake: "Lake",
    logs: Mapping[str, Log],
    said: Mapping[str, str],
    broken: dict[tuple[str, str], IntegrityError],
    raw: set[tuple[str, str]],
    unmade: dict[str, str],
) -> bool:
    """Whether all went well; if not, the next time one more table is read without its compaction.

    Or it is in `broken`, and is left out; or a model is in `unmade`, and its view says why.
    """
    connection.execute("BEGIN")
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    views = _views(logs, broken, unmade)
    about = dict(said) | {f"broken:{source}": "" for source, _ in broken}
    connection.executemany("INSERT INTO about VALUES (?, ?)", list(about.items()))
    tags = read_tags(lake.store)[0]
    _insert_tags(connection, tags.values())
    for source, log in logs.items():
        if (source, "") in broken:
            continue
        try:
            _describe(connection, log)
        except IntegrityError as error:  # in a part of the log that was not read until now
            broken[source, ""] = error
            return False
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(source)}")
        for table in views.tables(log):
            if (source, table.name) in broken:
                continue
            found = None if (source, table.name) in raw else with_compaction(lake, log, table.name)
            try:
                _define(connection, lake, log, table, found, tags, taken=views.names_in(source))
            except duckdb.Error as error:
                if found is None:
                    broken[source, table.name] = unreadable(error, f"{source}.{table.name}")
                raw.add((source, table.name))
                return False
    try:
        describe_models(connection, views, make(connection, views))
    except Unmade as error:
        unmade[f"{MODELS}.{error.name}"] = error.reason
        return False
    connection.execute("COMMIT")
    return True


def _views(
    logs: Mapping[str, Log], broken: dict[tuple[str, str], IntegrityError], unmade: Mapping[str, str]
) -> Views:
    """The models that are views; none, and an error in `broken`, where their definitions are nonsense."""
    try:
        definitions = definitions_of(logs)
    except IntegrityError as error:
        broken[MODELS, _DEFINITIONS] = error
        definitions = {}
    lost = {".".join(filter(None, name)): error.message for name, error in broken.items()}
    return Views(definitions=definitions, logs=logs, lost=lost | dict(unmade))


def _define(
    connection: duckdb.DuckDBPyConnection,
    lake: "Lake",
    log: Log,
    table: TableLog,
    compacted: Compacted | None,
    tags: Mapping[str, Tag],
    *,
    before: str = "",
    taken: Collection[str] = (),
) -> None:
    """Make a table's views and macros, unless their SQL is what it was, as its digest says."""
    made = statements(log, table, compacted, locate=lake.locate, tags=tags, taken=taken)
    wanted = [_again(statement) for statement in made]
    digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
    if digest == before:
        return
    history = f"{table.name}_history"  # which a table has no more once its key changed
    if before and has_free_history(log, table.name, taken):
        connection.execute(f"DROP VIEW IF EXISTS {quote(log.source)}.{quote(history)}")
        connection.execute(f"DROP MACRO TABLE IF EXISTS {quote(log.source)}.{quote(f'{history}_at')}")
    for statement in wanted:
        connection.execute(statement)
    name = f"{VIEW}{log.source}.{table.name}"
    connection.execute("DELETE FROM about WHERE name = ?", [name])
    connection.execute("INSERT INTO about VALUES (?, ?)", [name, digest])


def _again(statement: str) -> str:
    """A statement that makes something whether or not it is there."""
    return statement.replace("CREATE ", "CREATE OR REPLACE ", 1)


def write_file(path: Path, lake: "Lake", *, anew: bool = False) -> dict[str, IntegrityError]:
    """Write the catalog of a local lake to a file, in the place of the one before.

    Args:
        path: The file.
        lake: The lake.
        anew: Take nothing over from the one before.

    Returns:
        What is wrong with sources whose log or files cannot be read; they are left out.

    Raises:
        SetupError: The file cannot be written.
    """
    logs, broken = read_logs(lake)
    # Never current with what is broken, so that it is said again.
    said = said_by(lake, ends_of(logs)) | {f"broken:{source}": "" for source in broken}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        if anew or not _brought_up_to_date(path, temporary, lake, logs, said):
            _forget(temporary)
            with _filling(temporary) as connection:
                broken |= build(connection, lake, logs, said, unread=broken)
        # A write-ahead log that a client left beside the old file would be taken for the new one's.
        Path(f"{path}.wal").unlink(missing_ok=True)
        os.replace(temporary, path)
    except (duckdb.Error, OSError) as error:
        raise SetupError(
            f"{path}: could not be written ({error})",
            hint="The one before is still there. Free space or mend the disk, then run: lakehouse refresh",
        ) from error
    finally:
        _forget(temporary)
    return broken


@contextlib.contextmanager
def _filling(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose database is a file, which is whole when this ends without an error."""
    connection = duckdb.connect()
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"ATTACH {literal(str(path))} AS lakehouse ({STORAGE}); USE lakehouse")
        yield connection
        # Closing would swallow an error of the disk, and the file would be no catalog.
        connection.execute("CHECKPOINT lakehouse; USE memory; DETACH lakehouse")
    finally:
        connection.close()


def _forget(temporary: Path) -> None:
    with contextlib.suppress(OSError):  # what stays of it is hidden, and nobody's catalog
        temporary.unlink(missing_ok=True)
        Path(f"{temporary}.wal").unlink(missing_ok=True)


def _brought_up_to_date(
    path: Path, temporary: Path, lake: "Lake", logs: Mapping[str, Log], said: Mapping[str, str]
) -> bool:
    """Write a copy of a catalog with what the logs have beyond it; False if it has to be built anew.

    It has to where the one before is not of this lake and of the beginning of these logs, and where
    anything goes wrong: what it was is then said by building anew.
    """
    try:
        if not path.exists():
            return False
        shutil.copyfile(path, temporary)
        with _filling(temporary) as connection:
            ends = _ends_if_same(connection, logs, said)
            connection.execute("BEGIN")
            tags = read_tags(lake.store)[0]
            connection.execute("DELETE FROM tags")
            _insert_tags(connection, tags.values())
            views = Views(definitions=definitions_of(logs), logs=logs)
            forget(connection, views)
            for source, log in logs.items():
                _add(connection, lake, log, ends[source][0] if source in ends else 0, tags, views)
            known = ends[MODELS][0] if MODELS in ends else 0
            describe_models(connection, views, make(connection, views), known)
            connection.execute(f"DELETE FROM about WHERE NOT starts_with(name, {literal(VIEW)})")
            connection.executemany("INSERT INTO about VALUES (?, ?)", list(said.items()))
            _check_sum(connection, logs)
            connection.execute("COMMIT")
    except (duckdb.Error, OSError, IntegrityError, ValueError, TypeError, IndexError, Unmade):
        return False
    return True


def _ends_if_same(
    connection: duckdb.DuckDBPyConnection, logs: Mapping[str, Log], said: Mapping[str, str]
) -> dict[str, End]:
    """How the logs ended that a catalog was made from. Raises ValueError if they were others."""
    about = read_about(connection)
    ends = read_ends(about)
    change = {TAGGED, *(f"{kind}{source}" for source in logs for kind in (LOG, COMPACTED))}
    if any(about.get(name) != value for name, value in said.items() if name not in change):
        raise ValueError("of another lake, or of another version")
    if not ends.keys() <= logs.keys() or not all(_begins(logs[name], end) for name, end in ends.items()):
        raise ValueError("of other logs")
    return ends


def _begins(log: Log, end: End) -> bool:
    """Whether a log begins with all that ends there."""
    seq, digest, _ = end
    return seq <= log.head and (not seq or digest.startswith(log.digest_at(seq)))


def _add(
    connection: duckdb.DuckDBPyConnection,
    lake: "Lake",
    log: Log,
    known: int,
    tags: Mapping[str, Tag],
    views: Views,
) -> None:
    """Add to a catalog what a log says beyond a commit. Raises ValueError if it changes what was said before."""
    if log.expired_by > known:
        raise ValueError("states that were there are gone")
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(log.source)}")
    _describe(connection, log, known)
    begin = f"{VIEW}{log.source}."
    digests = "SELECT substr(name, ?), value FROM about WHERE starts_with(name, ?)"
    before = dict(connection.execute(digests, [len(begin) + 1, begin]).fetchall())
    taken = views.names_in(log.source)
    for table in views.tables(log):
        found = with_compaction(lake, log, table.name)
        _define(connection, lake, log, table, found, tags, before=before.get(table.name, ""), taken=taken)


def _check_sum(connection: duckdb.DuckDBPyConnection, logs: Mapping[str, Log]) -> None:
    """Refuse a catalog that has not as many rows as the logs make: a client may have changed it."""
    loads, changes = connection.execute(
        "SELECT (SELECT count(*) FROM loads), (SELECT count(*) FROM table_loads)"
    ).fetchall()[0]
    tables = [table for log in logs.values() for table in log.tables.values()]
    expected = sum(log.head for log in logs.values()), sum(len(table.changes) for table in tables)
    if (loads, changes) != expected:
        raise ValueError("has other rows")


def _insert_tags(connection: duckdb.DuckDBPyConnection, tags: Iterable[Tag]) -> None:
    """Fill the table of tags; one whose file cannot be read is named by no query, and left to `verify`."""
    rows = [
        (tag.name, source, seq, microseconds(tag.created_at), tag.note)
        for tag in tags
        for source, seq in tag.positions.items()
    ]
    _insert(connection, "tags", _TAGS.split(), rows)


def _describe(connection: duckdb.DuckDBPyConnection, log: Log, known: int = 0) -> None:
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
