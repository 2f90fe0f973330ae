"""One source in one transaction: its tables, what the mirror says of them, and its position."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.core.definition import Definition
from lakehouse.core.layout import MODELS
from lakehouse.core.log import Log, TableLog
from lakehouse.errors import LakehouseError
from sync.postgres import ledger
from sync.postgres.connecting import execute, fetch, interruptible, translated
from sync.postgres.functions import Place
from sync.postgres.history import History, reader
from sync.postgres.known import Known, drop, known
from sync.postgres.ledger import ABOUT, LAYOUT, Position
from sync.postgres.models import ViewWork, definitions_of, described, fingerprint, shown
from sync.postgres.names import (
    SYSTEM_COLUMNS,
    Names,
    identifier,
    literal,
    qualified,
    quote,
    schema_identifier,
    sendable,
)
from sync.postgres.placing import TOO_LONG, state_of
from sync.postgres.tables import Work
from sync.postgres.types import EXACT, PgColumn, pg_type

if TYPE_CHECKING:
    from lakehouse.lake import Lake


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a mirror is kept.

    Attributes:
        url: Where the server is.
        name: What it is called, for messages.
        schema_prefix: What names of schemas begin with.
        connections: How many connections fill a large table.
        repair: Whether to mirror all tables anew.
        grant_to: Roles that may read.
        told: Called with each batch that was copied: what is to do, the table, and how many rows.
    """

    url: str
    name: str
    schema_prefix: str = ""
    connections: int = 4
    repair: bool = False
    grant_to: tuple[str, ...] = ()
    told: "Callable[[Todo, Work | ViewWork, int], None] | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Todo:
    """What is to do for a source.

    Attributes:
        works: By table, those with nothing to do among them.
        dropped: What is there and is in the lake no more.
    """

    works: tuple["Work | ViewWork", ...] = ()
    dropped: tuple[Known, ...] = ()

    @property
    def needed(self) -> "list[Work | ViewWork]":
        """Those with something to do."""
        return [work for work in self.works if work.is_needed]


def plan(
    connection: Any,
    lake: "Lake",
    log: Log,
    there: Position,
    settings: Settings,
    long_keys: frozenset[str] = frozenset(),
) -> Todo:
    """What is to do to bring a source from a position to the end of its log.

    Args:
        connection: To the mirror; None where there is nothing yet.
        lake: The lake.
        log: The log.
        there: The position.
        settings: How the mirror is kept.
        long_keys: Tables whose keys do not fit into an index.
    """
    schema = schema_identifier(log.source, settings.schema_prefix)
    before = known(connection, schema) if connection is not None else {}
    anew = settings.repair or there.layout != LAYOUT
    let_go = _let_go(log, there.seq)
    definitions = definitions_of(log)
    works: list[Work | ViewWork] = []
    for history, place in _places(lake, log, schema, definitions):
        works.append(
            Work(
                place, history, before.get(place.table), there.seq,
                anew=anew or place.table in let_go, long_keys=place.table in long_keys,
                mirror=settings.name,
            )
        )  # fmt: skip
    works += _views(lake, log, schema, definitions, before, anew=anew)
    wanted = {work.name for work in works}
    return Todo(
        works=tuple(works), dropped=tuple(there for name, there in before.items() if name not in wanted)
    )


def bring(connection: Any, lake: "Lake", log: Log, settings: Settings) -> "tuple[str, Position, Todo]":
    """Bring a source up to the end of its log: all of it, or nothing.

    Returns:
        How the log stood to the mirror, where the mirror was, and what was done.
    """
    long_keys: frozenset[str] = frozenset()
    while True:
        try:
            return _bring(connection, lake, log, settings, long_keys)
        except _TooLong as error:  # which ended the transaction
            ledger.rollback(connection)
            long_keys |= {error.table}


class _TooLong(Exception):  # noqa: N818 - no error: the table is mirrored without that index
    """A key of a table does not fit into an index."""

    def __init__(self, table: str) -> None:
        super().__init__(table)
        self.table = table


@contextlib.contextmanager
def _indexed(work: "Work | ViewWork") -> Iterator[None]:
    """Tell keys that do not fit into an index from all else that may go wrong with a table."""
    try:
        yield
    except LakehouseError as error:
        if isinstance(work, Work) and work.short_keys and state_of(error) == TOO_LONG:
            raise _TooLong(work.name) from error
        raise


def _bring(
    connection: Any, lake: "Lake", log: Log, settings: Settings, long_keys: frozenset[str]
) -> "tuple[str, Position, Todo]":
    schema = schema_identifier(log.source, settings.schema_prefix)
    there = ledger.locked(connection, schema, log, lake.id)
    relation = ledger.relation(connection, schema, log, there)
    if relation == "behind":
        ledger.rollback(connection)
        return relation, there, Todo()
    if settings.repair:
        ledger.make_functions(connection)
    todo = plan(connection, lake, log, there, settings, long_keys)
    if relation == "equal" and not (todo.needed or todo.dropped) and there.layout == LAYOUT and log.head:
        if _grant(connection, schema, settings.grant_to):
            ledger.commit(connection)
        else:
            ledger.rollback(connection)
        return relation, there, todo
    with reader(lake, log) as duck:
        for work in todo.needed:
            told = functools.partial(settings.told or _silent, todo, work)
            with _indexed(work):
                work.prepare(connection, settings.url, duck, settings.connections, told)
    _install(connection, schema, todo)
    _describe(connection, schema, log, todo)
    _add_loads(connection, schema, log, 0 if settings.repair else there.seq)
    ledger.move(connection, schema, log)
    _grant(connection, schema, settings.grant_to)
    ledger.commit(connection)
    return relation, there, todo


def _silent(todo: Todo, work: "Work | ViewWork", rows: int) -> None:
    """Say nothing."""


def _install(connection: Any, schema: str, todo: Todo) -> None:
    """Put what was prepared in place. What frees names comes first."""
    for gone in todo.dropped:
        drop(connection, schema, gone)
    for work in todo.works:
        before = work.before
        if work.action == "failed":  # and was left as it was
            continue
        if before is not None and before.history and before.history != work.place.history:
            execute(connection, f"DROP VIEW IF EXISTS {quote(schema)}.{quote(before.history)}")
    for work in todo.needed:
        with _indexed(work):
            work.install(connection)


def _let_go(log: Log, since: int) -> set[str]:
    """The tables of which retentions after a position let rows go."""
    if log.expired_by <= since:
        return set()
    return {name for commit in log.commits[since:] if commit.retention for name in commit.packs}


def _places(
    lake: "Lake", log: Log, schema: str, definitions: Mapping[str, Definition]
) -> Iterator[tuple[History, Place]]:
    """The tables of a log that are mirrored as versions, with what they are called."""
    views = {name.lower() for name, definition in definitions.items() if definition.is_view}
    called = Names()
    for table in log.tables.values():
        if table.name.lower() in views:
            continue
        called = called.extended([table.name])
        history = History(lake, log, table.name)
        yield history, _place(schema, table, called[table.name], history, log, definitions)


def _place(
    schema: str, table: TableLog, view: str, history: History, log: Log, definitions: Mapping[str, Definition]
) -> Place:
    from lakehouse.duck.views import has_free_history

    names = Names(reserved=SYSTEM_COLUMNS | {EXACT}).extended(c.name for c in table.columns)
    columns = tuple(PgColumn(name=c.name, identifier=names[c.name], type=c.type) for c in table.columns)
    definition = definitions.get(table.name)
    words, about = described(definition, {c.source_name or c.name: names[c.name] for c in table.columns})
    free = has_free_history(log, table.name, list(definitions))
    return Place(
        schema=schema, table=table.name, view=view, base=identifier(f"_{table.name}"),
        history=identifier(table.name, "_history") if free else None, columns=columns, form=history.form,
        shown=shown(definition, table, columns), description=words, about=about,
    )  # fmt: skip


def _views(
    lake: "Lake",
    log: Log,
    schema: str,
    definitions: Mapping[str, Definition],
    before: Mapping[str, Known],
    *,
    anew: bool,
) -> "Iterator[ViewWork]":
    """The models that are views."""
    named = [definition for definition in definitions.values() if definition.is_view]
    if not named:
        return
    logs = {source: log if source == MODELS else lake.log(source) for source in lake.sources()}
    for definition in named:
        made = fingerprint(definition.name, definitions, logs)
        there = before.get(definition.name)
        yield ViewWork(lake, schema, definition, identifier(definition.name), made, there, anew=anew)


# What the mirror says of itself.


def _describe(connection: Any, schema: str, log: Log, todo: Todo) -> None:
    """Say what is mirrored: for each table a row, and one for each column."""
    named = literal(schema)
    gone = [
        *(known.table for known in todo.dropped),
        *(work.name for work in todo.needed if work.action != "failed"),
    ]
    for table in ("columns", "tables"):
        if gone:
            listed = ", ".join(literal(name) for name in gone)
            execute(
                connection,
                f"DELETE FROM lakehouse.{table} WHERE schema_name = {named} AND table_name IN ({listed})",
            )
    done = [work for work in todo.needed if work.action != "failed"]
    columns = [row for work in done for row in _columns(schema, log, work)]
    _copy(connection, "tables", [_row(schema, log, work) for work in done])
    _copy(connection, "columns", columns)


def _row(schema: str, log: Log, work: "Work | ViewWork") -> dict[str, Any]:
    table = log.tables.get(work.name) if work.kind == "table" else None
    place = work.place
    return {
        "schema_name": schema, "source": log.source, "table_name": work.name, "view_name": place.view, "base_name": place.base,
        "history_name": place.history, "kind": work.kind, "primary_key": [sendable(n) for n in table.eras[-1].key] if table else [],
        "rows": int(table.last.counts.get("rows", 0)) if table else work.inserted,
        "last_load": table.last_seq if table else log.head, "form": json.dumps(work.form), "made": work.made,
    }  # fmt: skip


def _columns(schema: str, log: Log, work: "Work | ViewWork") -> Iterator[dict[str, Any]]:
    about = work.place.about
    for at, column in enumerate(work.place.columns):
        yield {
            "schema_name": schema, "source": log.source, "table_name": work.name, "place": at + 1,
            "column_name": sendable(column.name), "identifier": column.identifier, "type": pg_type(column.type),
            "lake_type": json.dumps(column.type), "description": about.get(column.identifier),
        }  # fmt: skip


def _add_loads(connection: Any, schema: str, log: Log, since: int) -> None:
    execute(
        connection, f"DELETE FROM lakehouse.loads WHERE schema_name = {literal(schema)} AND seq > {since}"
    )
    _copy(connection, "loads", list(ledger.loads(schema, log, since)))
    if log.expired_by > since:
        ledger.expire(connection, schema, log.expired)


def _copy(connection: Any, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Copy rows into a table of the mirror about itself."""
    import pyarrow as pa

    if not rows:
        return
    others: dict[str, pa.DataType] = {
        "primary_key": pa.list_(pa.string()), "form": pa.json_(), "lake_type": pa.json_(), "expired": pa.bool_(),
        **dict.fromkeys(("rows", "last_load", "seq", "place"), pa.int64()),
        **dict.fromkeys(("observed_at", "effective_at", "committed_at"), pa.timestamp("us", "UTC")),
    }  # fmt: skip
    arrays = []
    for name in rows[0]:
        kind = others.get(name, pa.string())
        values = [row[name] for row in rows]
        json_text = kind == pa.json_()
        array = pa.array(values, pa.string() if json_text else kind)
        arrays.append(pa.ExtensionArray.from_storage(kind, array) if json_text else array)
    with translated(f"writing lakehouse.{table}"), connection.cursor() as cursor:
        whole = pa.table(arrays, names=list(rows[0]))
        interruptible(cursor, lambda: cursor.adbc_ingest(table, whole, mode="append", db_schema_name=ABOUT))


def _grant(connection: Any, schema: str, roles: Sequence[str]) -> bool:
    """Let roles read what is mirrored, and nothing else that lies there; whether any of them could not."""
    rights = [right for role in roles for right in _lacking(connection, schema, role)]
    execute(connection, rights)
    return bool(rights)


def _lacking(connection: Any, schema: str, role: str) -> Iterator[str]:
    """The statements that give a role the rights that it lacks."""
    who, both = f"{literal(role)}::name", f"{literal(schema)}, {literal(ABOUT)}"
    schemas = fetch(
        connection,
        f"SELECT n.nspname FROM pg_namespace AS n WHERE n.nspname IN ({both}) AND NOT has_schema_privilege({who}, n.oid, 'USAGE')",
    )
    for name in schemas.column(0).to_pylist():
        yield f"GRANT USAGE ON SCHEMA {quote(name)} TO {quote(role)}"
    relations = fetch(
        connection,
        "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        f"WHERE c.relkind IN ('r', 'v') AND NOT has_table_privilege({who}, c.oid, 'SELECT') AND (n.nspname, c.relname) IN "
        f"(SELECT {literal(ABOUT)}, unnest(ARRAY[{', '.join(map(literal, ledger.RELATIONS))}]) UNION ALL "
        "SELECT schema_name, unnest(ARRAY[view_name, base_name, history_name]) FROM lakehouse.tables "
        f"WHERE schema_name = {literal(schema)})",
    ).to_pylist()
    for row in relations:
        yield f"GRANT SELECT ON {qualified(row['nspname'], row['relname'])} TO {quote(role)}"
