"""Tables and what stands over them in Postgres: made, moved, named and dropped. What they hold is not known here."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakehouse.errors import LakehouseError, UserError
from sync.postgres import ddl, functions
from sync.postgres.connecting import execute, fetch, interruptible, translated
from sync.postgres.copying import LOADING, Loaded, copy_rows
from sync.postgres.functions import Place
from sync.postgres.ledger import ABOUT
from sync.postgres.names import identifier, literal, qualified, quote
from sync.postgres.types import PgColumn

if TYPE_CHECKING:
    import pyarrow as pa

TOO_LONG = "54000"  # SQLSTATE: a value does not fit into an index
_DEPENDED_ON = "2BP01"  # SQLSTATE: something else stands on what is dropped
_SPELLED = {  # as `format_type` spells types
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "time": "time without time zone",
}


def load(
    connection: Any,
    rows: "Iterator[pa.RecordBatch] | Sequence[pa.RecordBatch]",
    columns: Sequence[PgColumn],
    required: Sequence[str],
) -> Loaded:
    """A new table with rows, which nobody sees before the commit."""
    name = new_name()
    execute(connection, ddl.create_table(ABOUT, name, columns, required=required))
    return Loaded(schema=ABOUT, table=name, rows=copy_rows(connection, ABOUT, name, rows, columns))


def new_name() -> str:
    """A name for a table that nobody looks for."""
    return f"{LOADING}{uuid.uuid4().hex[:12]}"


def spelled(kind: str) -> str:
    """A type as the server spells it."""
    return _SPELLED.get(kind, kind)


def readers(connection: Any, place: Place) -> dict[str, set[str]]:
    """Which roles may read what is there of a table: by relation, quoted."""
    names = [qualified(place.schema, name) for name in (place.base, place.view, place.history) if name]
    oids = ", ".join(f"to_regclass({literal(name)})" for name in names)
    rows = fetch(
        connection,
        "SELECT c.relname, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END AS role FROM pg_class AS c "
        "LEFT JOIN LATERAL aclexplode(c.relacl) AS a ON a.privilege_type = 'SELECT' AND a.grantee <> c.relowner "
        f"LEFT JOIN pg_roles AS r ON r.oid = a.grantee WHERE c.oid IN ({oids})",
    ).to_pylist()
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["relname"], set()).update([row["role"]] if row["role"] else [])
    return found


def give_again(connection: Any, place: Place, before: Mapping[str, set[str]]) -> None:
    """Give what was made anew to the roles that could read it, and to no other: new tables have default rights."""
    now = readers(connection, place)
    for name in before.keys() & now.keys():
        target = qualified(place.schema, name)
        for role in sorted(before[name] - now[name]):
            execute(connection, f"GRANT SELECT ON {target} TO {role}")
        for role in sorted(now[name] - before[name]):
            execute(connection, f"REVOKE ALL ON {target} FROM {role}")


def name_indexes(connection: Any, schema: str, table: str) -> None:
    """Give the indexes of a table names that say whose they are."""
    found = fetch(
        connection,
        "SELECT i.relname FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid "
        f"WHERE x.indrelid = to_regclass({literal(qualified(schema, table))}) ORDER BY i.oid",
    )
    for at, name in enumerate(found.column(0).to_pylist(), 1):
        to = identifier(f"_{table}", f"_{at}")
        execute(connection, f"ALTER INDEX {qualified(schema, name)} RENAME TO {quote(to)}")


def columns_of(connection: Any, schema: str, name: str) -> list[tuple[str, str]]:
    """Identifier and type of each column of a relation; none where there is no such."""
    rows = fetch(
        connection,
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS kind FROM pg_attribute AS a "
        f"WHERE a.attrelid = to_regclass({literal(qualified(schema, name))}) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    ).to_pylist()
    return [(row["attname"], row["kind"]) for row in rows]


def drop_over(connection: Any, place: Place) -> None:
    """Drop what stands over a table of versions."""
    for statement in functions.dropped(place):
        dropping(connection, statement, place)


def dropping(connection: Any, statement: str, place: Place) -> None:
    """Drop something of ours.

    Raises:
        UserError: Something that is not ours stands on it.
    """
    try:
        execute(connection, statement)
    except LakehouseError as error:
        if state_of(error) != _DEPENDED_ON:
            raise
        raise UserError(
            f"{place.schema}.{place.table} has to be made anew in the mirror, and something that is not ours stands on it: {error.message}",
            hint="Drop it, sync, and make it again; or let it read from a copy. Nothing was changed.",
        ) from error


def changed(connection: Any, statement: str) -> int:
    """Run an UPDATE; how many rows it changed."""
    with translated("closing versions"), connection.cursor() as cursor:
        interruptible(cursor, lambda: cursor.execute(statement))
        return int(cursor.rowcount)


def state_of(error: LakehouseError) -> str:
    """What the server calls an error."""
    return str(getattr(error.__cause__, "sqlstate", "") or "")
