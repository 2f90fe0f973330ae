"""What a role needs in a database, and whether it has it: asked before anything is written."""

from collections.abc import Sequence
from typing import Any

from lakehouse.errors import UserError
from sync.postgres import ledger
from sync.postgres.connecting import fetch
from sync.postgres.names import literal, quote, schema_identifier


def check_roles(connection: Any, roles: Sequence[str]) -> None:
    """Refuse roles that the database has not.

    Raises:
        UserError: There are such.
    """
    if not roles:
        return
    there = set(fetch(connection, "SELECT rolname FROM pg_roles").column(0).to_pylist()) | {"public"}
    missing = [role for role in dict.fromkeys(roles) if role not in there]
    if missing:
        one = len(missing) == 1
        raise UserError(
            f"grant_to: the database has no role{'' if one else 's'} {', '.join(missing)}",
            hint=f"Make {'it' if one else 'them'} ({'; '.join(f'CREATE ROLE {quote(role)}' for role in missing)}), "
            "or correct grant_to in the settings of the mirror.",
        )


def lacking(
    connection: Any, sources: Sequence[str], *, lake_id: str | None, schema_prefix: str = ""
) -> tuple[str, str] | None:
    """What keeps the role of a connection from mirroring sources, and what to do; None for nothing.

    Args:
        connection: To the database.
        sources: Names of the sources.
        lake_id: Of the lake; None where that is not known.
        schema_prefix: What names of schemas begin with.
    """
    role, database, may_make = _rows(
        connection,
        "SELECT current_user::text, current_database()::text AS d, has_database_privilege(current_database(), 'CREATE') AS may",
    )[0]
    begun = ledger.is_there(connection)
    if begun and (owner := _foreign(connection, ledger.ABOUT)):
        return _not_ours(ledger.ABOUT, owner, role)
    made = _mirrored(connection) if begun else {}
    missing = []
    for schema, source in {schema_identifier(one, schema_prefix): one for one in sources}.items():
        if schema not in made:
            try:
                missing += [] if ledger.is_free(connection, schema) else [schema]
            except UserError as error:
                return error.message, error.hint
        elif made[schema] != (source, lake_id or made[schema][1]):
            return (
                f"the schema {schema} mirrors the source {made[schema][0]} of the lake {made[schema][1]}",
                'Give this mirror schemas of its own: schema_prefix = "lake_" in its settings; or take another database.',
            )
        elif owner := _foreign(connection, schema):
            return _not_ours(schema, owner, role)
    try:
        missing += [] if begun or ledger.is_free(connection, ledger.ABOUT) else [ledger.ABOUT]
    except UserError as error:
        return error.message, error.hint
    if missing and not may_make:
        what = f"the role {role} may not make schemas, and needs {', '.join(missing)}"
        return (
            what,
            f"Let the owner of the database run: GRANT CREATE ON DATABASE {quote(database)} TO {quote(role)}",
        )
    return None


def _not_ours(schema: str, owner: str, role: str) -> tuple[str, str]:
    return (
        f"the schema {schema} belongs to {owner}, of which {role} is no member",
        f"Sync as {owner}, or let an administrator run: GRANT {owner} TO {quote(role)}",
    )


def _foreign(connection: Any, schema: str) -> str | None:
    """Who owns a schema, if the role of the connection may not do what its owner may."""
    asked = (
        "SELECT nspowner::regrole::text FROM pg_namespace "
        f"WHERE nspname = {literal(schema)} AND NOT pg_has_role(nspowner, 'USAGE')"
    )
    return next((owner for (owner,) in _rows(connection, asked)), None)


def _mirrored(connection: Any) -> dict[str, tuple[str, str]]:
    """Source and lake of each schema that is mirrored."""
    rows = _rows(connection, "SELECT schema_name, source, lake_id FROM lakehouse.schemas")
    return {schema: (source, lake) for schema, source, lake in rows}


def _rows(connection: Any, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in fetch(connection, query).to_pylist()]
