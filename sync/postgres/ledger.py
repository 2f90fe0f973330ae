"""What a mirror in Postgres says of itself: the schema `lakehouse`, and how far each source is mirrored.

The row of a source in `lakehouse.positions` is the one lock there is: whoever mirrors a source holds it until the
rows and the new position are committed together.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse.core.log import Log
from lakehouse.errors import ForkError, IntegrityError, LakehouseError, SetupError, UserError
from sync.postgres.connecting import execute, fetch, translated
from sync.postgres.names import literal, quote, sendable

ABOUT = "lakehouse"  # the schema
LAYOUT = 1  # of what a mirror consists of: it is made anew where this is another
_LOCK = int.from_bytes(hashlib.sha256(b"lakehouse/postgres").digest()[:8], "little", signed=True)
PATIENCE_MS = 10_000  # for readers of a table that is swapped: those who come later wait behind us
_MARK = "lakehouse: what is mirrored here, and how far"

RELATIONS = ("schemas", "positions", "loads", "tables", "columns", "mirror")
_TABLES = """
CREATE TABLE lakehouse.schemas (
    schema_name text PRIMARY KEY, source text NOT NULL, lake_id text NOT NULL, layout integer NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE lakehouse.positions (
    schema_name text PRIMARY KEY REFERENCES lakehouse.schemas ON DELETE CASCADE, source text NOT NULL, lake_id text NOT NULL,
    seq bigint NOT NULL, digest text NOT NULL, synced_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE lakehouse.loads (
    schema_name text NOT NULL REFERENCES lakehouse.schemas ON DELETE CASCADE, source text NOT NULL, seq bigint NOT NULL,
    load_id text NOT NULL, outcome text NOT NULL, observed_at timestamptz NOT NULL, effective_at timestamptz NOT NULL,
    committed_at timestamptz NOT NULL, failure text, digest text NOT NULL, expired boolean NOT NULL,
    PRIMARY KEY (schema_name, seq));
CREATE INDEX ON lakehouse.loads (schema_name, effective_at, seq);
CREATE TABLE lakehouse.tables (
    schema_name text NOT NULL REFERENCES lakehouse.schemas ON DELETE CASCADE, source text NOT NULL, table_name text NOT NULL,
    view_name text NOT NULL, base_name text, history_name text, kind text NOT NULL, primary_key text[] NOT NULL,
    rows bigint, last_load bigint NOT NULL, form jsonb NOT NULL, made text NOT NULL,
    PRIMARY KEY (schema_name, table_name));
CREATE TABLE lakehouse.columns (
    schema_name text NOT NULL REFERENCES lakehouse.schemas ON DELETE CASCADE, source text NOT NULL, table_name text NOT NULL,
    place bigint NOT NULL, column_name text NOT NULL, identifier text NOT NULL, type text NOT NULL,
    lake_type jsonb NOT NULL, source_name text, description text,
    PRIMARY KEY (schema_name, table_name, place));
CREATE VIEW lakehouse.mirror AS SELECT s.schema_name, s.source, s.lake_id, p.seq, p.digest, p.synced_at, s.layout
    FROM lakehouse.schemas AS s JOIN lakehouse.positions AS p USING (schema_name);
COMMENT ON TABLE lakehouse.schemas IS 'The schemas that belong to the mirror: nothing else is touched';
COMMENT ON TABLE lakehouse.positions IS 'The newest load of each source that is mirrored, and the digest of its commit';
COMMENT ON TABLE lakehouse.loads IS 'The loads that are mirrored';
COMMENT ON TABLE lakehouse.tables IS 'The tables that are mirrored';
COMMENT ON TABLE lakehouse.columns IS 'Which column of the lake is which identifier, and of which type'
"""

_NEAREST = """
        SELECT max(l.seq) INTO below FROM lakehouse.loads AS l WHERE l.schema_name = of_schema AND l.seq < at AND NOT l.expired;
        SELECT min(l.seq) INTO above FROM lakehouse.loads AS l WHERE l.schema_name = of_schema AND l.seq > at AND NOT l.expired;
        RAISE EXCEPTION '%: the state as of load % is expired: a retention let it go', of_schema, at USING ERRCODE = '22023',
            HINT = format('The nearest states that are kept: load %s and load %s.', coalesce(below, 0), above);
"""

_FUNCTIONS = [
    f"""
CREATE OR REPLACE FUNCTION lakehouse.told(of_schema text, at bigint) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $told$
DECLARE head bigint; below bigint; above bigint;
BEGIN
    IF at IS NULL THEN RETURN true; END IF;
    SELECT p.seq INTO head FROM lakehouse.positions AS p WHERE p.schema_name = of_schema;
    IF at < 0 OR at > head THEN
        RAISE EXCEPTION '%: there is no load % here; the mirror ends at load %', of_schema, at, head USING ERRCODE = '22023',
            HINT = 'See: select * from lakehouse.loads';
    END IF;
    IF EXISTS (SELECT FROM lakehouse.loads AS l WHERE l.schema_name = of_schema AND l.seq = at AND l.expired) THEN
        {_NEAREST}
    END IF;
    RETURN true;
END $told$""",
    """
CREATE OR REPLACE FUNCTION lakehouse.position(of_schema text, at timestamptz) RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp AS $position$
    SELECT coalesce((SELECT l.seq FROM lakehouse.loads AS l WHERE l.schema_name = of_schema AND (at IS NULL OR l.effective_at <= at)
        ORDER BY l.effective_at DESC, l.seq DESC LIMIT 1), 0) $position$""",
    """
CREATE OR REPLACE FUNCTION lakehouse.told(of_schema text, at timestamptz) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp AS $told$
    SELECT lakehouse.told(of_schema, lakehouse.position(of_schema, at)) $told$""",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a source is mirrored.

    Attributes:
        seq: The newest load; 0 before the first.
        digest: Digest of its commit.
        layout: Of what the mirror consists of.
        synced_at: When it was last pushed.
    """

    seq: int = 0
    digest: str = ""
    layout: int = LAYOUT
    synced_at: datetime | None = None


def prepare(connection: Any) -> None:
    """Make the schema `lakehouse` if it is not there, in a transaction of its own.

    Raises:
        UserError: There is a schema of that name that is not ours.
    """
    if is_there(connection):
        rollback(connection)
        return
    fetch(connection, f"SELECT pg_advisory_xact_lock({_LOCK}) IS NULL")  # read: so it is held
    if not is_there(connection):
        create_schema(connection, ABOUT)
        for statement in _TABLES.split(";\n"):
            execute(connection, statement)
        make_functions(connection)
        execute(connection, f"COMMENT ON VIEW lakehouse.mirror IS {literal(_MARK)}")
    commit(connection)


def make_functions(connection: Any) -> None:
    """Make the functions that say whether a moment can be told; those that are there are replaced."""
    execute(connection, _FUNCTIONS)


def create_schema(connection: Any, schema: str) -> None:
    """Make a schema; one that is there is taken if it is empty and ours.

    Raises:
        UserError: It is not.
    """
    if not is_free(connection, schema):
        execute(connection, f"CREATE SCHEMA {quote(schema)}")


def is_free(connection: Any, schema: str) -> bool:
    """Whether there is a schema that is empty and ours; False where there is none of that name.

    Raises:
        UserError: There is one that is not.
    """
    found = _rows(
        connection,
        "SELECT pg_catalog.pg_has_role(n.nspowner, 'USAGE'), "
        "EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.relnamespace = n.oid) "
        "OR EXISTS (SELECT FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = n.oid), n.nspowner::regrole::text "
        f"FROM pg_catalog.pg_namespace AS n WHERE n.nspname = {literal(schema)}",
    )
    if not found:
        return False
    mine, used, owner = found[0]
    if used or not mine:
        what = "has tables or functions" if used else f"belongs to {owner}"
        others = 'Give the mirror schemas of its own: schema_prefix = "lake_" in its settings; or drop or rename that one.'
        raise UserError(
            f"the schema {schema} of the database is there, is no mirror of this lake, and {what}; it was not touched",
            hint="Drop or rename that one, or take another database." if schema == ABOUT else others,
        )
    return True


def is_there(connection: Any) -> bool:
    """Whether the database has a mirror."""
    # Not `to_regclass`: it may say what was so before we waited for a lock.
    asked = (
        "SELECT d.description FROM pg_description AS d JOIN pg_class AS c ON c.oid = d.objoid AND d.objsubid = 0 "
        "JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'lakehouse' AND c.relname = 'mirror' "
        "AND d.classoid = 'pg_class'::regclass"
    )
    return _rows(connection, asked) == [(_MARK,)]


def locked(connection: Any, schema: str, log: Log, lake_id: str) -> Position:
    """The position of a source, which nobody else moves until the transaction ends.

    A schema that is not there is made. Who comes second waits here, and then sees the new position.

    Raises:
        UserError: The schema is that of another lake or source, or not ours.
        ForkError: The log is not the one that was mirrored.
    """
    execute(connection, "SET LOCAL lock_timeout = 0")  # a first load takes its time
    mine = f"{literal(schema)}, {literal(log.source)}, {literal(lake_id)}"
    made = _rows(
        connection,
        f"INSERT INTO lakehouse.schemas (schema_name, source, lake_id, layout) VALUES ({mine}, {LAYOUT}) "
        "ON CONFLICT DO NOTHING RETURNING schema_name",
    )
    if made:
        create_schema(connection, schema)
        execute(connection, f"SET LOCAL lock_timeout = {PATIENCE_MS}")
        execute(
            connection,
            f"INSERT INTO lakehouse.positions (schema_name, source, lake_id, seq, digest) VALUES ({mine}, 0, '')",
        )
        return Position()
    found = read(connection, schema, lake_id, log, lock=True)
    if found is None:
        raise IntegrityError(
            f"the mirror says that the schema {schema} is its own, but not how far it is",
            hint=f"Somebody changed lakehouse.positions. To mirror it anew: {_anew(schema)}; then sync.",
        )
    execute(connection, f"SET LOCAL lock_timeout = {PATIENCE_MS}")
    return found


def read(connection: Any, schema: str, lake_id: str, log: Log, *, lock: bool = False) -> Position | None:
    """The position of a source; None if it is not mirrored yet.

    Raises:
        UserError: The schema is that of another lake or source.
    """
    rows = _rows(
        connection,
        "SELECT p.seq, p.digest, p.lake_id, p.source, s.layout, p.synced_at FROM lakehouse.positions AS p "
        f"JOIN lakehouse.schemas AS s USING (schema_name) WHERE p.schema_name = {literal(schema)}"
        + (" FOR UPDATE OF p" if lock else ""),
    )
    if not rows:
        return None
    seq, digest, lake, source, layout, synced_at = rows[0]
    if (lake, source) != (lake_id, log.source):
        raise UserError(
            f"the schema {schema} mirrors the source {source} of the lake {lake}; this is {log.source} of the lake {lake_id}",
            hint='Give this mirror schemas of its own: schema_prefix = "lake_" in its settings; or take another database.',
        )
    return Position(seq=seq, digest=digest, layout=layout, synced_at=synced_at)


def relation(connection: Any, schema: str, log: Log, there: Position) -> str:
    """How a mirror stands to a log: `equal`, `ahead` (the log has more) or `behind` (the mirror has).

    Raises:
        ForkError: Neither begins with the other.
    """
    at = min(there.seq, log.head)
    digest = there.digest
    if at < there.seq:
        asked = f"SELECT digest FROM lakehouse.loads WHERE schema_name = {literal(schema)} AND seq = {at}"
        rows = _rows(connection, asked)
        digest = rows[0][0] if at and rows else ""
    mine = log.commits[at - 1].digest if at else ""
    if mine != digest:
        raise forked(connection, schema, log, at, digest)
    return "equal" if there.seq == log.head else "ahead" if there.seq < log.head else "behind"


def forked(connection: Any, schema: str, log: Log, at: int, digest: str) -> ForkError:
    """The error for two histories, with both shown."""
    rows = _rows(
        connection,
        f"SELECT load_id, to_char(observed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM lakehouse.loads "
        f"WHERE schema_name = {literal(schema)} AND seq = {at}",
    )
    theirs = f"load {rows[0][0]}, observed {rows[0][1]}Z, " if rows else ""
    commit = log.commits[at - 1]
    return ForkError(
        f"{log.source}: commit {at} here is load {commit.load_id}, observed {commit.observed_at:%Y-%m-%d %H:%M:%S}Z, "
        f"digest {commit.digest[:12]}…; in the mirror it is {theirs}digest {digest[:12] or 'none'}…: two histories",
        hint="The mirror was made from another copy of this lake. Load from the right one; or mirror this one: "
        f"{_anew(schema)}; then sync again.",
    )


def _anew(schema: str) -> str:
    """The statements with which an administrator forgets what is mirrored in a schema."""
    return f"drop schema {quote(schema)} cascade; delete from lakehouse.schemas where schema_name = {literal(schema).strip()}"


def move(connection: Any, schema: str, log: Log) -> None:
    """Say that a source is mirrored up to the end of a log."""
    execute(
        connection,
        f"UPDATE lakehouse.positions SET seq = {log.head}, digest = {literal(log.digest)}, synced_at = now() "
        f"WHERE schema_name = {literal(schema)}",
    )
    execute(
        connection, f"UPDATE lakehouse.schemas SET layout = {LAYOUT} WHERE schema_name = {literal(schema)}"
    )


def commit(connection: Any) -> None:
    """Make all of it visible.

    Raises:
        SetupError: The connection was lost: the server may have done it or not.
    """
    try:
        with translated("committing"):
            connection.commit()
    except SetupError as error:
        hint = "Whether it is in place is not known. Run it again: it looks first, and nothing comes twice."
        raise SetupError(error.message, hint=hint) from error


def rollback(connection: Any) -> None:
    """Forget what was begun; a connection that is lost has forgotten it."""
    with contextlib.suppress(LakehouseError), translated("rolling back"):
        connection.rollback()


def loads(schema: str, log: Log, since: int) -> Iterator[dict[str, Any]]:
    """Rows of `lakehouse.loads` for the loads after a position."""
    for commit in log.commits[since:]:
        yield {
            "schema_name": schema, "source": log.source, "seq": commit.seq, "load_id": sendable(commit.load_id),
            "outcome": commit.outcome, "observed_at": commit.observed_at, "effective_at": commit.effective_at,
            "committed_at": commit.committed_at, "failure": None if commit.failure is None else sendable(commit.failure),
            "digest": commit.digest, "expired": log.is_expired(commit.seq),
        }  # fmt: skip


def expire(connection: Any, schema: str, spans: Sequence[tuple[int, int]]) -> None:
    """Say which states a retention let go."""
    for first, last in spans:
        execute(
            connection,
            f"UPDATE lakehouse.loads SET expired = true WHERE schema_name = {literal(schema)} "
            f"AND seq BETWEEN {first} AND {last} AND NOT expired",
        )


def _rows(connection: Any, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in fetch(connection, query).to_pylist()]
