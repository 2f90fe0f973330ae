"""Views of models in a catalog: now, and as of a moment, from the definitions in the log alone.

A view is made anew only where its SQL changed, or the columns or types of anything that it reads. One that
cannot be read is made all the same, as a view that says so in any client. What DuckDB may read in a
definition's name is looked at first: SQL from a log reaches the tables of the lake and nothing else.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from lakehouse.core.definition import ABOUT, Definition, Reference
from lakehouse.core.layout import MODELS
from lakehouse.core.log import Log, TableLog
from lakehouse.duck.asof import TURNED
from lakehouse.duck.compacted import shape
from lakehouse.duck.current import VIEW
from lakehouse.duck.names import literal, quote
from lakehouse.duck.sql import duck_type
from lakehouse.duck.trouble import told
from lakehouse.duck.views import has_free_history

ABOUT_TABLES = ("loads", "table_loads", "files", "tables", "columns", "tags", "models")
# Functions that make tables of their arguments, and of nothing on the machine that runs them.
_PURE = {
    "range", "generate_series", "generate_subscripts", "unnest", "repeat", "repeat_row", "json_each", "json_tree", "regexp_split_to_table",
}  # fmt: skip
_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[A-Za-z_]\w*)'
_QUALIFIED = re.compile(  # texts and comments are met first, and left as they are
    r"(?P<skip>'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)"
    rf"|(?<![\w.\"])(?P<source>{_IDENTIFIER})\s*\.\s*(?P<table>{_IDENTIFIER})(?=\s*\.)",
    re.DOTALL,
)
_VERSION = 1  # of what is made of a definition: goes up when that changes


class Unmade(Exception):  # noqa: N818 - it ends an attempt, and is no error of its own
    """A view whose SQL ended the transaction when it was made."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """The models of a lake that are views, and all that they may read.

    Attributes:
        definitions: All definitions, in an order in which each comes after those that it reads.
        logs: The logs that can be read.
        lost: What is wrong with tables that cannot, as `source.table`, and with whole sources.
    """

    definitions: Mapping[str, Definition]
    logs: Mapping[str, Log]
    lost: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the models that are views."""
        return [name for name, definition in self.definitions.items() if definition.is_view]

    def names_in(self, source: str) -> list[str]:
        """Names of the views of models in the schema of a source."""
        return self.names if source == MODELS else []

    def tables(self, log: Log) -> list[TableLog]:
        """The tables of a log, but for those that are views now."""
        views = {name.lower() for name in self.names_in(log.source)}
        return [table for name, table in log.tables.items() if name.lower() not in views]

    def is_view(self, reference: Reference) -> bool:
        """Whether a reference is to a model that is a view."""
        model = self.definitions.get(reference.table) if reference.source == MODELS else None
        return model is not None and model.is_view

    def table(self, reference: Reference) -> TableLog | None:
        """The table that a reference is to, if there is one in the log."""
        log = self.logs.get(reference.source)
        return log.tables.get(reference.table) if log else None

    def missing(self, reference: Reference) -> str:
        """Why what a reference is to cannot be read; empty where nothing is known against it."""
        if reference.source == ABOUT:
            known = reference.table in ABOUT_TABLES and not reference.form
            return "" if known else f"there is no {ABOUT}.{reference.read}"
        if self.is_view(reference):
            said = f"{reference.name} is a view and has no {reference.read}"
            return said if reference.form in ("history", "diff") else ""
        wrong = self.lost.get(reference.name) or self.lost.get(reference.source)
        if wrong or reference.source not in self.logs:
            return wrong or f"there is no source {reference.source}"
        table = self.table(reference)
        if table is None:
            return f"{reference.source} has no table {reference.table}"
        if reference.form == "history":
            log, taken = self.logs[reference.source], self.names_in(reference.source)
            if shape(table) is None or not has_free_history(log, table.name, taken):
                return f"{reference.name} has no {reference.read}"
        return ""

    def shape_of(self, reference: Reference) -> list[Any]:
        """What views over a table depend on: its columns and their types, and what tells its rows apart."""
        table = self.table(reference)
        if table is None:
            return []
        about = shape(table) if reference.form in ("history", "diff") else None
        told_apart = [list(about.key), about.grouped] if about else []
        return [[c.name, duck_type(c.type)] for c in table.columns] + [told_apart]

    def known(self) -> set[tuple[str, str]]:
        """Schema and name, in lower case, of all tables and views that SQL of a view may read."""
        found = {("main", name) for name in ABOUT_TABLES} | {(MODELS, name.lower()) for name in self.names}
        for source, log in self.logs.items():
            found |= {(source.lower(), f"{t}{end}".lower()) for t in log.tables for end in ("", "_history")}
        return found

    def known_macros(self) -> set[tuple[str, str]]:
        """Schema and name, in lower case, of all macros that SQL of a view may read."""
        found = {(MODELS, f"{name}_at".lower()) for name in self.names}
        for source, log in self.logs.items():
            ends = ("_at", "_diff", "_history_at")
            found |= {(source.lower(), f"{table}{end}".lower()) for table in log.tables for end in ends}
        return found


@dataclass(slots=True, kw_only=True)
class Made:
    """What came of making views.

    Attributes:
        anew: Names of the views that were made anew.
        columns: Of these, `(name, type)` of their columns.
        wrong: Why views, new or not, cannot be read.
    """

    anew: list[str] = field(default_factory=list)
    columns: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)


def forget(connection: duckdb.DuckDBPyConnection, views: Views) -> None:
    """Drop what is there of models that are views no more, and of tables that became views."""
    kept = {name.lower() for name in views.names}
    tables = {name.lower() for name in views.logs[MODELS].tables} if MODELS in views.logs else set()
    for name in known_digests(connection):
        if name.lower() not in kept | tables:
            _drop(connection, name, kept | tables)
            connection.execute("DELETE FROM about WHERE name = ?", [f"{VIEW}{MODELS}.{name}"])


def known_digests(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """What stands in the catalog of each view of the schema `models`: its digest, and what is wrong with it."""
    begin = f"{VIEW}{MODELS}."
    found = "SELECT substr(name, ?), value FROM about WHERE starts_with(name, ?)"
    return dict(connection.execute(found, [len(begin) + 1, begin]).fetchall())


def make(connection: duckdb.DuckDBPyConnection, views: Views) -> Made:
    """Make the views and macros of models that are not what they were.

    Raises:
        Unmade: The SQL of one ended the transaction.
    """
    if not views.names:
        return Made()
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(MODELS)}")
    maker = _Maker(connection, views)
    maker.run()
    return maker.made


class _Maker:
    """One run over the views of models.

    DuckDB binds a view with everything behind it when it is made, so that many over many would take time
    without end. So each is bound over stand-ins that have the columns of what it reads, and these are
    then replaced, from the last to the first.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, views: Views) -> None:
        self.connection = connection
        self.views = views
        self.before = known_digests(connection)
        self.digests: dict[str, str] = {}
        self.made = Made()
        self.anew, self.wrong = self.made.anew, self.made.wrong

    def run(self) -> None:
        """Make what has to be made anew."""
        for name in self.views.names:
            self._look(self.views.definitions[name])
        definitions = [self.views.definitions[name] for name in self.anew]
        read = {upstream for definition in definitions for upstream in definition.upstream}
        later = []
        for definition in definitions:
            self._drop_old(definition.name)
            columns = self._bound(definition)
            if columns is not None and definition.name in read:
                self._stand_in(definition.name, columns)
                later.append(definition)
            elif columns is not None:
                self._create(definition)
        for definition in reversed(later):
            self._create(definition)
        for definition in definitions:
            self._remember(definition.name)

    def _look(self, definition: Definition) -> None:
        """Find out whether a view is what it was."""
        name = definition.name
        missing = next(filter(None, map(self.views.missing, definition.references)), "")
        inputs = [
            self.digests[r.table] if self.views.is_view(r) else self.views.shape_of(r)
            for r in definition.references
        ]
        stated = [
            _VERSION, duckdb.__version__, definition.sql, view_sql(definition), definition.columns, inputs, missing,
            self.views.lost.get(f"{MODELS}.{name}", ""),
        ]  # fmt: skip
        self.digests[name] = hashlib.sha256(json.dumps(stated).encode()).hexdigest()
        digest, _, wrong = self.before.get(name, "").partition(" ")
        if digest == self.digests[name]:
            if wrong:
                self.wrong[name] = wrong
            return
        self.anew.append(name)

    def _bound(self, definition: Definition) -> list[tuple[str, str]] | None:
        """The columns of a view, with their types; None for one that cannot be read, which then says so."""
        wrong = self._known_wrong(definition) or _forbidden(self.connection, self.views, definition)
        if not wrong:
            try:
                # Bound as a relation, which does not end the transaction if there is something wrong.
                relation = self.connection.sql(view_sql(definition))
                return list(zip(relation.columns, map(str, relation.types), strict=True))
            except duckdb.Error as error:
                wrong = told(error)
        self.wrong[definition.name] = wrong
        columns = _checked_types(definition.columns)
        for end, create in (("", _create_view), ("_at", _create_macro)):
            name = f"{definition.name}{end}"
            self._run(definition.name, create(name, _refusal(self.connection, name, columns, wrong)))
        return None

    def _known_wrong(self, definition: Definition) -> str:
        """Why a view cannot be read, as far as can be told without DuckDB."""
        behind = (
            f"{r.name} cannot be read: {self.wrong[r.table]}"
            for r in definition.references
            if self.views.is_view(r) and r.table in self.wrong
        )
        own = self.views.lost.get(f"{MODELS}.{definition.name}", "")
        return next(filter(None, (own, *map(self.views.missing, definition.references), *behind)), "")

    def _create(self, definition: Definition) -> None:
        """Make a view and its macro, over what there is now of that which they read."""
        name = definition.name
        self._run(name, _create_view(name, view_sql(definition)))
        try:
            self.connection.sql(_spliced(definition, "NULL"))
            parameter = free_parameter(definition)
            self._run(name, _create_macro(f"{name}_at", _spliced(definition, parameter), parameter))
        except duckdb.Error as error:
            refusal = _refusal(self.connection, f"{name}_at", _columns(self.connection, name), told(error))
            self._run(name, _create_macro(f"{name}_at", refusal))

    def _stand_in(self, name: str, columns: Sequence[tuple[str, str]]) -> None:
        """Put an empty view and macro with its columns in the place of a view."""
        items = ", ".join(f"NULL::{kind} AS {quote(column)}" for column, kind in columns)
        self._run(name, _create_view(name, f"SELECT {items} WHERE false"))
        self._run(name, _create_macro(f"{name}_at", f"SELECT {items} WHERE false"))

    def _run(self, name: str, statement: str) -> None:
        try:
            self.connection.execute(statement)
        except duckdb.Error as error:
            raise Unmade(name, told(error)) from error

    def _drop_old(self, name: str) -> None:
        """Drop what stands beside a table that is a view now."""
        if name in self.before:
            tables = self.views.logs[MODELS].tables if MODELS in self.views.logs else ()
            _drop(self.connection, name, {n.lower() for n in (*self.views.names, *tables)})

    def _remember(self, name: str) -> None:
        about = f"{VIEW}{MODELS}.{name}"
        self.connection.execute("DELETE FROM about WHERE name = ?", [about])
        value = f"{self.digests[name]} {self.wrong.get(name, '')}".strip()
        self.connection.execute("INSERT INTO about VALUES (?, ?)", [about, value])
        self.made.columns[name] = _columns(self.connection, name)


def view_sql(definition: Definition) -> str:
    """The body of a model's view: its SELECT with every name in full, turned by the session variable."""
    return _spliced(definition, None)


def free_parameter(definition: Definition) -> str:
    """A name that is nowhere in the SELECT: a bare column of that name would mean the macro's parameter."""
    parameter, text = "_lake_t", definition.sql.lower()
    while parameter in text:
        parameter += "_"
    return parameter


def _spliced(definition: Definition, moment: str | None) -> str:
    """The SELECT of a definition with every table that it reads turned to a moment; None for the session's."""
    unqualified = _unqualifying(definition.references, turned=moment is not None)
    pieces, at = [], 0
    for reference in definition.references:
        pieces += [unqualified(definition.sql[at : reference.start]), _read(reference, moment)]
        at = reference.end
    return "".join((*pieces, unqualified(definition.sql[at:])))


def _read(reference: Reference, moment: str | None) -> str:
    """What stands in the place of a table's name."""
    if reference.source == ABOUT:  # which says what is so now
        return f'"main".{quote(reference.read)}'
    plain = f"{quote(reference.source)}.{quote(reference.read)}"
    alias = "" if reference.alias else f" AS {quote(reference.read)}"
    if reference.form == "history":
        return f"{quote(reference.source)}.{quote(f'{reference.read}_at')}({moment or TURNED}){alias}"
    if reference.form or moment is None:
        return plain
    return f"{quote(reference.source)}.{quote(f'{reference.table}_at')}({moment}){alias}"


def _unqualifying(references: Sequence[Reference], *, turned: bool) -> Callable[[str], str]:
    """What takes the source from the names of columns, where a macro stands in the place of a table.

    `shop.products.price` is a column of the table `shop.products`, but not of what a macro gives.
    """
    named = {
        (r.source.lower(), r.read.lower()): quote(r.read)
        for r in references
        if not r.alias and r.source != ABOUT and (r.form == "history" or (turned and not r.form))
    }

    def replaced(found: re.Match[str]) -> str:
        if found["skip"]:
            return found[0]
        return named.get((_plain(found["source"]), _plain(found["table"])), found[0])

    return lambda text: _QUALIFIED.sub(replaced, text) if named else text


def _plain(identifier: str) -> str:
    unquoted = identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier
    return unquoted.lower()


def _forbidden(connection: duckdb.DuckDBPyConnection, views: Views, definition: Definition) -> str:
    """Why SQL is not one SELECT over tables of the lake; empty where it is."""
    sql = view_sql(definition)
    try:
        kinds = [statement.type for statement in connection.extract_statements(sql)]
    except duckdb.Error as error:
        return told(error)
    if kinds != [duckdb.StatementType.SELECT]:
        return "its SQL is not one SELECT"
    tree = json.loads(connection.execute("SELECT json_serialize_sql($1::VARCHAR)", [sql]).fetchall()[0][0])
    if tree.get("error"):
        return f"its SQL is not understood ({tree.get('error_message')})"
    nodes = list(_nodes(tree))
    with_names = {
        entry["key"].lower() for node in nodes for entry in (node.get("cte_map") or {}).get("map", ())
    }
    tables, macros = views.known(), views.known_macros()
    for node in nodes:
        if node.get("type") == "SHOW_REF":
            return "it describes tables, where rows are expected"
        if node.get("type") == "BASE_TABLE":
            path = _path(node)
            known = path[0] in with_names if len(path) == 1 else path in tables
        elif node.get("type") == "TABLE_FUNCTION":
            path = _path(node["function"])
            known = path[0] in _PURE if len(path) == 1 else path in macros
        else:
            continue
        if not known:
            return f"it reads {'.'.join(path)}, which is no table of the lake"
    return ""


def _path(node: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(piece).lower() for piece in node["qualified_name"]["path"])


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All objects in a JSON value."""
    todo = [tree]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            yield value
            todo += value.values()
        elif isinstance(value, list):
            todo += value


def _named(name: str) -> str:
    return f"{quote(MODELS)}.{quote(name)}"


def _create_view(name: str, sql: str) -> str:
    return f"CREATE OR REPLACE VIEW {_named(name)} AS {sql}"


def _create_macro(name: str, sql: str, parameter: str = "t") -> str:
    return f"CREATE OR REPLACE MACRO {_named(name)}({quote(parameter)}) AS TABLE {sql}"


def _refusal(
    connection: duckdb.DuckDBPyConnection, name: str, columns: Sequence[tuple[str, str]], reason: str
) -> str:
    """A SELECT that is an error whatever is asked of it."""
    said = f"{MODELS}.{name} cannot be read: {reason}; run lakehouse build"
    begin = f"FROM (SELECT error({literal(said)}) AS _lake_lost) AS _lake_g WHERE _lake_g._lake_lost"
    # In every column as well as in the filter: no optimizer may find that there are no rows.
    lost = "_lake_g._lake_lost::VARCHAR"
    items = ", ".join(f"{lost}::{kind} AS {quote(column)}" for column, kind in columns)
    try:
        connection.sql(f"SELECT {items or lost} {begin}")
    except duckdb.Error:  # no text becomes such a type
        items = ", ".join(f"{lost} AS {quote(column)}" for column, _ in columns)
    return f"SELECT {items or f'{lost} AS _lake_no_columns'} {begin}"


def _checked_types(columns: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Columns with types that are types and nothing more; text in the place of the others."""
    checked = []
    for column, kind in columns:
        try:
            checked.append((column, str(duckdb.type(kind))))
        except duckdb.Error:
            checked.append((column, "VARCHAR"))
    return checked


def _columns(connection: duckdb.DuckDBPyConnection, name: str) -> list[tuple[str, str]]:
    """The columns of a view, with their types."""
    rows = connection.execute(f"DESCRIBE {_named(name)}").fetchall()
    return [(row[0], row[1]) for row in rows]


def _drop(connection: duckdb.DuckDBPyConnection, name: str, kept: Collection[str]) -> None:
    """Drop a view and what stands beside it, apart from views with names, in lower case, that are kept."""
    macros = [f"{name}_at", f"{name}_diff"]
    for view in (v for v in (name, f"{name}_history") if v.lower() not in kept):
        connection.execute(f"DROP VIEW IF EXISTS {_named(view)}")
        macros.append(f"{view}_at")
    for macro in macros:
        connection.execute(f"DROP MACRO TABLE IF EXISTS {_named(macro)}")
