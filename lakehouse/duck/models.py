"""Views of models in a catalog: now, and as of a moment, from the definitions in the log alone.

A view is made anew only where its SQL changed, or the columns or types of anything that it reads. One that
cannot be read is made all the same, as a view that says so in any client. What DuckDB may read in a
definition's name is looked at first: SQL from a log reaches the tables of the lake and nothing else.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from lakehouse.core.definition import ABOUT, Definition, Reference
from lakehouse.core.layout import MODELS
from lakehouse.core.log import Log, TableLog
from lakehouse.core.types import Column
from lakehouse.duck.compacted import shape
from lakehouse.duck.current import VIEW
from lakehouse.duck.modelcheck import checked_types, forbidden, refusal
from lakehouse.duck.modelsql import create_macro, create_view, free_parameter, named, spliced, view_sql
from lakehouse.duck.names import quote
from lakehouse.duck.sql import duck_type
from lakehouse.duck.trouble import told
from lakehouse.duck.views import has_free_history

ABOUT_TABLES = ("about", "loads", "table_loads", "files", "tables", "columns", "tags", "models")
_VERSION = 1  # of what is made of a definition: goes up when that changes


class Unmade(duckdb.Error):
    """A view that could be bound and could not be made, which ended the transaction.

    Attributes:
        name: `models.<name>`.
        reason: What DuckDB says.
    """

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

    def shown(self, log: Log, table: TableLog) -> list[str]:
        """What is shown of a stored model's rows: its columns as it defines them now, in their order; else nothing.

        Its table has the columns and types of all that it ever was.
        """
        model = self.definitions.get(table.name) if log.source == MODELS else None
        stored = {column.source_name or column.name: column for column in table.columns}
        if (
            model is None
            or model.is_view
            or not model.columns
            or any(n not in stored for n, _ in model.columns)
        ):
            return []
        return [_shown(name, stored[name], kind) for name, kind in checked_types(model.columns)]

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
        shown = self.shown(self.logs[reference.source], table)
        return [[c.name, duck_type(c.type)] for c in table.columns] + [told_apart, *shown]

    def known(self) -> set[tuple[str, ...]]:
        """Schema and name, in lower case, of all tables and views that SQL of a view may read."""
        found: set[tuple[str, ...]] = {("main", name) for name in ABOUT_TABLES} | {
            (MODELS, name.lower()) for name in self.names
        }
        for source, log in self.logs.items():
            found |= {(source.lower(), f"{t}{end}".lower()) for t in log.tables for end in ("", "_history")}
        return found

    def known_macros(self) -> set[tuple[str, ...]]:
        """Schema and name, in lower case, of all macros that SQL of a view may read."""
        found: set[tuple[str, ...]] = {(MODELS, f"{name}_at".lower()) for name in self.names}
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
        self.tables, self.macros = views.known(), views.known_macros()
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
            # Now, as DuckDB looks at everything behind a view to tell its columns.
            self.made.columns[definition.name] = _columns(self.connection, definition.name)
        for definition in reversed(later):
            self._create(definition)
        self._remember()

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
        wrong = self._known_wrong(definition) or forbidden(
            self.connection, view_sql(definition), self.tables, self.macros
        )
        if not wrong:
            try:
                # Bound as a relation, which does not end the transaction if there is something wrong.
                relation = self.connection.sql(view_sql(definition))
                return list(zip(relation.columns, map(str, relation.types), strict=True))
            except duckdb.Error as error:
                wrong = told(error)
        self.wrong[definition.name] = wrong
        columns = checked_types(definition.columns)
        for end, create in (("", create_view), ("_at", create_macro)):
            name = f"{definition.name}{end}"
            self._run(definition.name, create(name, refusal(self.connection, name, columns, wrong)))
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
        self._run(name, create_view(name, view_sql(definition)))
        wrong = self._wrong_when_turned(definition)
        if wrong:
            columns = self.made.columns.get(name) or _columns(self.connection, name)
            said = refusal(self.connection, f"{name}_at", columns, wrong)
            self._run(name, create_macro(f"{name}_at", said))
        else:
            parameter = free_parameter(definition)
            self._run(name, create_macro(f"{name}_at", spliced(definition, parameter), parameter))

    def _wrong_when_turned(self, definition: Definition) -> str:
        """Why a view cannot be turned to a moment; empty where it can."""
        try:
            self.connection.sql(spliced(definition, "NULL"))
        except duckdb.Error as error:
            return told(error)
        return ""

    def _stand_in(self, name: str, columns: Sequence[tuple[str, str]]) -> None:
        """Put an empty view and macro with its columns in the place of a view."""
        items = ", ".join(f"NULL::{kind} AS {quote(column)}" for column, kind in columns)
        self._run(name, create_view(name, f"SELECT {items} WHERE false"))
        self._run(name, create_macro(f"{name}_at", f"SELECT {items} WHERE false"))

    def _run(self, name: str, statement: str) -> None:
        try:
            self.connection.execute(statement)
        except duckdb.Error as error:
            raise Unmade(f"{MODELS}.{name}", told(error)) from error

    def _drop_old(self, name: str) -> None:
        """Drop what stands beside a table that is a view now."""
        if name in self.before:
            tables = self.views.logs[MODELS].tables if MODELS in self.views.logs else ()
            _drop(self.connection, name, {n.lower() for n in (*self.views.names, *tables)})

    def _remember(self) -> None:
        """Keep the digests of what was made, and what is wrong with it."""
        names = [f"{VIEW}{MODELS}.{name}" for name in self.anew]
        values = [f"{self.digests[name]} {self.wrong.get(name, '')}".strip() for name in self.anew]
        self.connection.execute("DELETE FROM about WHERE name IN (SELECT unnest($1::VARCHAR[]))", [names])
        remembered = "INSERT INTO about SELECT unnest($1::VARCHAR[]), unnest($2::VARCHAR[])"
        self.connection.execute(remembered, [names, values])


def _columns(connection: duckdb.DuckDBPyConnection, name: str) -> list[tuple[str, str]]:
    """The columns of a view, with their types."""
    rows = connection.execute(f"DESCRIBE {named(name)}").fetchall()
    return [(row[0], row[1]) for row in rows]


def _drop(connection: duckdb.DuckDBPyConnection, name: str, kept: Collection[str]) -> None:
    """Drop a view and what stands beside it, apart from views with names, in lower case, that are kept."""
    macros = [f"{name}_at", f"{name}_diff"]
    for view in (v for v in (name, f"{name}_history") if v.lower() not in kept):
        connection.execute(f"DROP VIEW IF EXISTS {named(view)}")
        macros.append(f"{view}_at")
    for macro in macros:
        connection.execute(f"DROP MACRO TABLE IF EXISTS {named(macro)}")


def _shown(name: str, stored: Column, kind: str) -> str:
    """A column of a stored model, as a name and type of today; kept as JSON where it had types that do not go together."""
    column = f"_lake_o.{quote(stored.name)}"
    if stored.type == "json" and kind != "JSON":
        text = f"({column} ->> '$')"
        of_text = {"VARCHAR": text, "BLOB": f"unhex({text})"}
        column = of_text.get(kind, f"CAST({column} AS {kind})")
    return f"{column} AS {quote(name)}"
