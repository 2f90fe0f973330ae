"""SQL texts that make and change tables of the mirror. Nothing here talks to a server."""

from collections.abc import Iterable, Sequence
from typing import Literal

from lakehouse.core.types import Type
from sync.postgres.names import literal, qualified, quote
from sync.postgres.types import EXACT, EXACT_TYPE, PgColumn, pg_type

Change = Literal["same", "alter", "rebuild"]
_SORTABLE = ("bigint", "boolean", "date", "double precision", "numeric", "time")  # of a few bytes each


def create_schema(schema: str, *, comment: str = "") -> list[str]:
    """Statements that make a schema unless it is there. Where it is, the right to make schemas is not needed."""
    there = f"SELECT FROM pg_catalog.pg_namespace WHERE nspname = {literal(schema)}"
    body = f"BEGIN IF NOT EXISTS ({there}) THEN CREATE SCHEMA {quote(schema)}; END IF; END"
    made = [f"DO {literal(body)}"]
    return [*made, f"COMMENT ON SCHEMA {quote(schema)} IS {literal(comment)}"] if comment else made


def create_table(
    schema: str, table: str, columns: Sequence[PgColumn], *, required: Iterable[str] = (), comment: str = ""
) -> list[str]:
    """Statements that make a table with its comments, and `_lake_exact` as the last column.

    Args:
        schema: Its schema.
        table: Its name.
        columns: Its columns in order.
        required: Identifiers of columns that are never null.
        comment: What is said of the table.
    """
    needed = set(required)
    defined = [_defined(column) + (" NOT NULL" if column.identifier in needed else "") for column in columns]
    body = ", ".join([*defined, f"{quote(EXACT)} {EXACT_TYPE}"])
    return [f"CREATE TABLE {qualified(schema, table)} ({body})", *comments(schema, table, columns, comment)]


def add_columns(schema: str, table: str, columns: Sequence[PgColumn]) -> list[str]:
    """Statements that add columns, with their comments. Rows that are there are not written anew."""
    if not columns:
        return []
    added = ", ".join(f"ADD COLUMN {_defined(column)}" for column in columns)
    return [f"ALTER TABLE {qualified(schema, table)} {added}", *comments(schema, table, columns)]


def type_change(before: Type, after: Type) -> Change:
    """What a column needs whose type becomes a wider one.

    Returns:
        `same` where its values lie in PostgreSQL as before, `alter` where `change_type` does it, `rebuild` where its
        rows have to be copied anew.
    """
    one, two = pg_type(before), pg_type(after)
    if before == "null":
        return "alter"
    if one == two:  # text of one type is not text of another: an instant is no string
        same = before == after or (_same_json(before, after) if one == "jsonb" else one != "text")
        return "same" if same else "rebuild"
    to_float = one == "bigint" and two == "double precision"
    to_decimal = one.startswith(("bigint", "numeric")) and two.startswith("numeric")
    return "alter" if to_float or to_decimal else "rebuild"


def change_type(schema: str, table: str, before: Type, column: PgColumn) -> list[str]:
    """Statements that give a column a wider type, where `type_change` says `alter`.

    A column of nulls is replaced, which writes no row; any other type writes the whole table anew.
    """
    target, name = qualified(schema, table), quote(column.identifier)
    if before == "null":
        if pg_type(column.type) == pg_type("null"):
            return []
        return [
            f"ALTER TABLE {target} DROP COLUMN {name}, ADD COLUMN {_defined(column)}",
            *comments(schema, table, [column]),
        ]
    kind = pg_type(column.type)
    return [f"ALTER TABLE {target} ALTER COLUMN {name} TYPE {kind} USING {name}::{kind}"]


def comments(schema: str, table: str, columns: Iterable[PgColumn], comment: str = "") -> list[str]:
    """Statements that say what is known of a table and its columns."""
    target = qualified(schema, table)
    made = [f"COMMENT ON TABLE {target} IS {literal(comment)}"] if comment else []
    return made + [
        f"COMMENT ON COLUMN {target}.{quote(column.identifier)} IS {literal(column.description)}"
        for column in columns
        if column.description
    ]


def indexes(schema: str, table: str, key: Sequence[PgColumn], *, then: Sequence[PgColumn] = ()) -> list[str]:
    """Statements that index a table by key.

    Text, bytes and JSON may be longer than a B-tree holds (2,704 bytes), so each such column has a hash index of its
    own; the others share a B-tree.

    Args:
        schema: The schema of the table.
        table: The table.
        key: The columns of the key.
        then: What is sorted within one key, such as `valid_from`; of sortable types.
    """
    target = qualified(schema, table)
    sortable = [column for column in key if pg_type(column.type).startswith(_SORTABLE)]
    made = [
        f"CREATE INDEX ON {target} USING hash ({quote(column.identifier)})"
        for column in key
        if column not in sortable
    ]
    if sortable:
        inside = ", ".join(quote(column.identifier) for column in (*sortable, *then))
        made.insert(0, f"CREATE INDEX ON {target} ({inside})")
    return made


def index(schema: str, table: str, columns: Sequence[str], *, method: str = "btree") -> str:
    """A statement that indexes columns of short values, by their identifiers."""
    return f"CREATE INDEX ON {qualified(schema, table)} USING {method} ({', '.join(map(quote, columns))})"


def move_table(schema: str, table: str, *, to: str, name: str) -> list[str]:
    """Statements that bring a table into another schema under another name."""
    moved = [f"ALTER TABLE {qualified(schema, table)} SET SCHEMA {quote(to)}"] if to != schema else []
    return [*moved, f"ALTER TABLE {qualified(to, table)} RENAME TO {quote(name)}"]


def drop_table(schema: str, table: str) -> str:
    """A statement that drops a table if it is there, and nothing that stands on it."""
    return f"DROP TABLE IF EXISTS {qualified(schema, table)}"


def grants(role: str, database: str, schemas: Sequence[str] = ()) -> list[str]:
    """The least rights that a role needs to keep the mirror, for whoever administers the server.

    Without schemas the role may make its own; with them, they have been made for it, and it owns them.
    """
    if not schemas:
        return [f"GRANT CONNECT, CREATE ON DATABASE {quote(database)} TO {quote(role)}"]
    connect = f"GRANT CONNECT ON DATABASE {quote(database)} TO {quote(role)}"
    return [
        connect,
        *(f"CREATE SCHEMA IF NOT EXISTS {quote(name)} AUTHORIZATION {quote(role)}" for name in schemas),
    ]


def _defined(column: PgColumn) -> str:
    return f"{quote(column.identifier)} {pg_type(column.type)}"


def _same_json(before: Type, after: Type) -> bool:
    """Whether the JSON text of values of a type is also that of a wider type: text of instants and bytes may not be."""
    if before in (after, "null"):
        return True
    if isinstance(before, str):
        return not before.startswith(("date", "time", "binary"))
    if "list" in before:
        return _same_json(before["list"], after if isinstance(after, str) else after["list"])
    fields = dict.fromkeys(before["struct"], after) if isinstance(after, str) else after["struct"]
    return all(_same_json(inner, fields[name]) for name, inner in before["struct"].items())
