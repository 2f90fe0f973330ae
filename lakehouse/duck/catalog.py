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
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from lakehouse.core.layout import MODELS
from lakehouse.core.log import Log, TableLog
from lakehouse.core.tag import Tag
from lakehouse.duck.about import TABLES, describe, insert_tags
from lakehouse.duck.asof import read_tags
from lakehouse.duck.compacted import Compacted, Compactions
from lakehouse.duck.current import (
    COMPACTED,
    LOG,
    TAGGED,
    VIEW,
    End,
    each,
    ends_of,
    read_about,
    read_ends,
    said_by,
)
from lakehouse.duck.files import connect
from lakehouse.duck.modelled import definitions_of, describe_models
from lakehouse.duck.models import Unmade, Views, forget, make
from lakehouse.duck.names import literal, quote
from lakehouse.duck.standins import StandIns
from lakehouse.duck.trouble import unreadable
from lakehouse.duck.views import has_free_history, statements, with_compaction
from lakehouse.errors import IntegrityError, SetupError

if TYPE_CHECKING:
    from lakehouse.lake import Lake

_DIGITS = 32  # of the digest of a statement
STORAGE = "STORAGE_VERSION 'v1.0.0', BLOCK_SIZE 16384"  # DuckDB opens it from 1.1 on; views over nested columns want 1.3

_DEFINITIONS = "*"  # stands for the definitions of models, where a table's name is expected


def read_logs(lake: "Lake") -> tuple[dict[str, Log], dict[str, IntegrityError]]:
    """The logs of all sources that can be read, and what is wrong with the others."""

    def read(source: str) -> Log | IntegrityError:
        try:
            return lake.log(source)
        except IntegrityError as error:
            return error

    found = each(lake, lake.sources(), read)
    logs = {source: log for source, log in found.items() if isinstance(log, Log)}
    return logs, {source: error for source, error in found.items() if isinstance(error, IntegrityError)}


def build(
    connection: duckdb.DuckDBPyConnection,
    lake: "Lake",
    logs: Mapping[str, Log],
    said: Mapping[str, str],
    unread: Collection[str] = (),
    compactions: Compactions | None = None,
) -> dict[str, IntegrityError]:
    """Fill an empty database with the catalog of a lake.

    Args:
        connection: To the database.
        lake: The lake.
        logs: The logs that can be read.
        said: What the catalog says of itself.
        unread: The sources whose log cannot be read.
        compactions: Those of the lake, if some were looked up already.

    Returns:
        What is wrong with sources that have a table whose files cannot be read; it is left out.
    """
    met = _Met(
        compactions=compactions or Compactions(lake.store),
        unmade={source: f"the log of {source} cannot be read" for source in unread},
    )
    while not _built(connection, lake, logs, said, met):
        connection.execute("ROLLBACK")  # such an error ends a transaction: once more, without that table
    return {source: error for (source, _), error in met.broken.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Met:
    """What attempts to build a catalog met so far.

    Attributes:
        broken: What is wrong with tables, and with sources as `(source, "")`; they are left out.
        compactions: Those of the lake.
        raw: Tables that are read without their compaction.
        unmade: Why views of models, by name, and what they read cannot be read: they say so.
    """

    broken: dict[tuple[str, str], IntegrityError] = field(default_factory=dict)
    compactions: Compactions
    raw: set[tuple[str, str]] = field(default_factory=set)
    unmade: dict[str, str] = field(default_factory=dict)


def _built(
    connection: duckdb.DuckDBPyConnection,
    lake: "Lake",
    logs: Mapping[str, Log],
    said: Mapping[str, str],
    met: _Met,
) -> bool:
    """Whether all went well; if not, `met` says what to do without the next time."""
    connection.execute("BEGIN")
    for statement in TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    views = _views(logs, met)
    about = dict(said) | {f"broken:{source}": "" for source, _ in met.broken}
    connection.executemany("INSERT INTO about VALUES (?, ?)", list(about.items()))
    tags = read_tags(lake.store)[0]
    insert_tags(connection, tags.values())
    whole = [log for source, log in logs.items() if (source, "") not in met.broken]
    if not all(_defined(connection, lake, log, views, tags, met) for log in whole):
        return False
    try:
        describe_models(connection, views, make(connection, views))
    except Unmade as error:
        if error.name in met.unmade:
            raise
        met.unmade[error.name] = error.reason
        return False
    connection.execute("COMMIT")
    return True


def _defined(
    connection: duckdb.DuckDBPyConnection,
    lake: "Lake",
    log: Log,
    views: Views,
    tags: Mapping[str, Tag],
    met: _Met,
) -> bool:
    """Whether all views of a source could be made, and its rows in the tables about the lake."""
    source = log.source
    try:
        describe(connection, log)
    except IntegrityError as error:  # in a part of the log that was not read until now
        met.broken[source, ""] = error
        return False
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(source)}")
    for table in views.tables(log):
        if (source, table.name) in met.broken:
            continue
        raw = (source, table.name) in met.raw
        found = None if raw else with_compaction(lake, log, table.name, met.compactions)
        try:
            _define(connection, lake, log, table, found, tags, views)
        except duckdb.Error as error:
            if found is None:
                met.broken[source, table.name] = unreadable(error, f"{source}.{table.name}")
            met.raw.add((source, table.name))
            return False
    return True


def _views(logs: Mapping[str, Log], met: _Met) -> Views:
    """The models that are views; none where their definitions are nonsense."""
    try:
        definitions = definitions_of(logs)
    except IntegrityError as error:
        met.broken[MODELS, _DEFINITIONS] = error
        definitions = {}
    lost = {".".join(filter(None, name)): error.message for name, error in met.broken.items()}
    return Views(definitions=definitions, logs=logs, lost=lost | met.unmade)


def _define(
    connection: duckdb.DuckDBPyConnection,
    lake: "Lake",
    log: Log,
    table: TableLog,
    compacted: Compacted | None,
    tags: Mapping[str, Tag],
    views: Views,
    *,
    before: str = "",
) -> None:
    """Make a table's views and macros, of each only if its SQL is not what it was, as its digest says.

    DuckDB opens a file to make a view: most loads leave most views of their source as they are.
    """
    taken, shown = views.names_in(log.source), views.shown(log, table)
    made = statements(log, table, compacted, locate=lake.locate, tags=tags, taken=taken, shown=shown)
    wanted = {hashlib.sha256(statement.encode()).hexdigest()[:_DIGITS]: statement for statement in made}
    said = " ".join(wanted)
    if said == before:
        return
    there = before.split()
    if len(there) != len(wanted):
        there = []
        history = f"{table.name}_history"  # which a table has no more once its key changed
        if before and has_free_history(log, table.name, taken):
            connection.execute(f"DROP VIEW IF EXISTS {quote(log.source)}.{quote(history)}")
            connection.execute(f"DROP MACRO TABLE IF EXISTS {quote(log.source)}.{quote(f'{history}_at')}")
    for digest, statement in wanted.items():
        if digest not in there:
            connection.execute(_again(statement))
    name = f"{VIEW}{log.source}.{table.name}"
    connection.execute("DELETE FROM about WHERE name = ?", [name])
    connection.execute("INSERT INTO about VALUES (?, ?)", [name, said])


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
    compactions = Compactions(lake.store)
    # Never current with what is broken, so that it is said again.
    said = said_by(lake, ends_of(logs)) | {f"broken:{source}": "" for source in broken}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        if anew or not _brought_up_to_date(path, temporary, lake, logs, said, compactions):
            _forget(temporary)
            with _filling(temporary, lake, logs, compactions) as connection:
                broken |= build(connection, lake, logs, said, unread=broken, compactions=compactions)
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
def _filling(
    path: Path, lake: "Lake", logs: Mapping[str, Log], compactions: Compactions
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose database is a file, which is whole when this ends without an error."""
    connection = connect(lake, stand_in=StandIns(logs, compactions))
    try:
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
    path: Path,
    temporary: Path,
    lake: "Lake",
    logs: Mapping[str, Log],
    said: Mapping[str, str],
    compactions: Compactions,
) -> bool:
    """Write a copy of a catalog with what the logs have beyond it; False if it has to be built anew.

    It has to where the one before is not of this lake and of the beginning of these logs, and where
    anything goes wrong: what it was is then said by building anew.
    """
    try:
        if not path.exists():
            return False
        shutil.copyfile(path, temporary)
        with _filling(temporary, lake, logs, compactions) as connection:
            ends = _ends_if_same(connection, logs, said)
            connection.execute("BEGIN")
            tags = read_tags(lake.store)[0]
            connection.execute("DELETE FROM tags")
            insert_tags(connection, tags.values())
            views = Views(definitions=definitions_of(logs), logs=logs)
            forget(connection, views)
            for source, log in logs.items():
                known = ends[source][0] if source in ends else 0
                _add(connection, lake, log, known, tags, views, compactions)
            known = ends[MODELS][0] if MODELS in ends else 0
            describe_models(connection, views, make(connection, views), known)
            connection.execute(f"DELETE FROM about WHERE NOT starts_with(name, {literal(VIEW)})")
            connection.executemany("INSERT INTO about VALUES (?, ?)", list(said.items()))
            _check_sum(connection, logs)
            connection.execute("COMMIT")
    except (duckdb.Error, OSError, IntegrityError, ValueError, TypeError, IndexError):
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
    compactions: Compactions,
) -> None:
    """Add to a catalog what a log says beyond a commit. Raises ValueError if it changes what was said before."""
    if log.expired_by > known:
        raise ValueError("states that were there are gone")
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(log.source)}")
    describe(connection, log, known)
    begin = f"{VIEW}{log.source}."
    digests = "SELECT substr(name, ?), value FROM about WHERE starts_with(name, ?)"
    before = dict(connection.execute(digests, [len(begin) + 1, begin]).fetchall())
    for table in views.tables(log):
        found = with_compaction(lake, log, table.name, compactions)
        _define(connection, lake, log, table, found, tags, views, before=before.get(table.name, ""))


def _check_sum(connection: duckdb.DuckDBPyConnection, logs: Mapping[str, Log]) -> None:
    """Refuse a catalog that has not as many rows as the logs make: a client may have changed it."""
    loads, changes = connection.execute(
        "SELECT (SELECT count(*) FROM loads), (SELECT count(*) FROM table_loads)"
    ).fetchall()[0]
    tables = [table for log in logs.values() for table in log.tables.values()]
    expected = sum(log.head for log in logs.values()), sum(len(table.changes) for table in tables)
    if (loads, changes) != expected:
        raise ValueError("has other rows")
