"""The workspace of a build: a DuckDB database in memory that looks like the lake, at one position in each log.

It has the lake's schemas under their own names, so that the SQL of a model runs as it was written. What a
model yields is a candidate there; nothing of it is in the lake until the build publishes.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import duckdb

from lakehouse import tags
from lakehouse.core.definition import ABOUT, Definition
from lakehouse.core.types import Type
from lakehouse.duck.current import is_behind
from lakehouse.duck.modelcheck import forbidden
from lakehouse.duck.modelsql import view_sql
from lakehouse.duck.names import AS_OF, literal, quote
from lakehouse.duck.session import Session
from lakehouse.duck.trouble import explained
from lakehouse.errors import (
    ContentionError,
    MissingPartError,
    ModelError,
    NotFoundError,
    QueryError,
    SchemaError,
)
from lakehouse.models.model import SOURCE, Model, Reference

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.lake import Lake

DATABASE = "build"
_ARRAY = re.compile(r"(.*)\[\d+\]")  # of a fixed length
_LINE = re.compile(r"\n\s*LINE (\d+): .*", re.DOTALL)


class Workspace:
    """The lake as a build sees it, with the candidates for what its models are to be.

    Attributes:
        positions: The position in each log that everything is read at, by source.
    """

    def __init__(
        self,
        lake: "Lake",
        models: Mapping[str, Model],
        *,
        as_of: datetime | str | int | None = None,
        scratch: Path,
    ) -> None:
        """Open one.

        Args:
            lake: The lake.
            models: The models as they are to be, by name; those that are only read, too.
            as_of: Turn it to this moment; now by default.
            scratch: A folder that is there, and nobody else's.
        """
        self._lake = lake
        self._models = models
        self._lock = threading.RLock()
        self._provided: set[str] = set()
        self._candidates: set[str] = set()
        self._cursors: list[duckdb.DuckDBPyConnection] = []
        self._session = Session.over(lake, as_of=as_of, scratch=scratch)
        self._moment = as_of.isoformat() if isinstance(as_of, datetime) else as_of
        self._connection = self._session.connection
        ends = "SELECT source, max(seq) FROM lakehouse.main.loads GROUP BY source"
        heads = {str(source): int(seq) for source, seq in self._connection.execute(ends).fetchall()}
        meant = heads if as_of is None else tags.resolve(lake, as_of)
        # A log may have gone on since the catalog was made; as-of an instant, later loads come last.
        self.positions = {source: min(meant.get(source, 0), head) for source, head in heads.items()}
        self._connection.execute(f"ATTACH ':memory:' AS {DATABASE}")
        for schema in sorted({SOURCE, *heads}):
            self._connection.execute(f"CREATE SCHEMA {DATABASE}.{quote(schema)}")
        _add_about(self._connection, DATABASE)
        self._enter(self._connection)

    def _enter(self, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(f"USE {DATABASE}.{quote(SOURCE)}")
        if self._moment is not None:
            connection.execute(f"SET VARIABLE {AS_OF} = ?", [str(self._moment)])

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection to the workspace for one thread; to be closed."""
        with self._lock:
            cursor = self._connection.cursor()
            self._cursors.append(cursor)
        self._enter(cursor)
        return cursor

    def interrupt(self) -> None:
        """Stop what runs."""
        for cursor in self._cursors:
            with contextlib.suppress(duckdb.Error):  # it is closed
                cursor.interrupt()

    def close(self) -> None:
        """Let go of all that is in it."""
        self._connection.close()

    # What models read.

    def provide(self, references: Sequence[Reference]) -> None:
        """Have everything there that a model reads, under its own name."""
        with self._lock:
            for reference in references:
                if reference.source == ABOUT:
                    continue
                if reference.source == SOURCE and reference.table in self._models:
                    self.provide_model(reference.table)
                else:
                    self._provide_table(reference.source, reference.table)
                if reference.form:
                    self._provide_form(reference)

    def provide_model(self, name: str) -> None:
        """Have a model there under its name: a view as it is to be, a table as it was unless it is a candidate."""
        model = self._models[name]
        if model.kind != "view":
            self._provide_table(SOURCE, name)
            return
        with self._lock:
            if f"{SOURCE}.{name}" in self._provided:
                return
            self.provide(model.references)
            self._check_reads(model)
            self._make(f"{SOURCE}.{name}", f"CREATE VIEW {relation(name)} AS {model.sql}")

    def _check_reads(self, model: Model) -> None:
        """Refuse a view that the catalog would not make; its SQL may be from a log. Raises ModelError."""
        reads = {(r.source if r.source != ABOUT else "main", r.read) for r in model.references}
        paths = {(source.lower(), f"{table}{end}".lower()) for source, table in reads for end in ("", "_at")}
        definition = Definition(name=model.name, sql=model.sql, references=model.references)
        wrong = forbidden(self._connection, view_sql(definition), paths, paths)
        if wrong:
            raise ModelError(f"{model.path}: {wrong}", hint="Write it another way, or make it a table.")

    def _provide_table(self, source: str, table: str) -> None:
        name = f"{quote(source)}.{quote(table)}"
        made = f"CREATE VIEW {DATABASE}.{name} AS SELECT * FROM lakehouse.{name}"
        self._make(f"{source}.{table}", made)

    def _provide_form(self, reference: Reference) -> None:
        name = f"{quote(reference.source)}.{quote(f'{reference.table}_{reference.form}')}"
        made, there = f"{DATABASE}.{name}", f"lakehouse.{name}"
        given = "t1, t2" if reference.form == "diff" else "t"
        if reference.form == "history" and self._moment is not None:  # what came after it is not known
            self._provide_known(reference, made, there)
        elif reference.form == "history":
            self._make(f"{reference.name}_history", f"CREATE VIEW {made} AS SELECT * FROM {there}")
        else:
            statement = f"CREATE MACRO {made}({given}) AS TABLE SELECT * FROM {there}({given})"
            self._make(f"{reference.name}_{reference.form}", statement)

    def _provide_known(self, reference: Reference, made: str, there: str) -> None:
        """A row history as it was known at the moment; stored, as the macro looks for the history in the database in use."""
        name = f"{reference.name}_history"
        if name in self._provided:
            return
        with self._lock:
            known = f'{there[:-1]}_at"(getvariable({literal(AS_OF)}))'
            try:
                self._connection.execute("USE lakehouse")
                self._connection.execute(f"CREATE TABLE {made} AS SELECT * FROM {known}")
            finally:
                self._enter(self._connection)
            self._provided.add(name)

    def _make(self, name: str, statement: str) -> None:
        with self._lock:
            if name not in self._provided:
                self._connection.execute(statement)
                self._provided.add(name)

    # What models yield.

    def candidate(self, name: str, make: Callable[[str], object]) -> None:
        """The candidate of a table, in the place of what the lake has under its name.

        Args:
            name: Name of the model.
            make: Makes a table or view of the name that it is given.
        """
        with self._lock:
            self._provided.add(f"{SOURCE}.{name}")
            self._candidates.add(name)
        make(relation(name))

    def is_candidate(self, reference: Reference) -> bool:
        """Whether a table is of this build, and not what the lake has."""
        return reference.source == SOURCE and reference.table in self._candidates

    def compute_over(
        self, cursor: duckdb.DuckDBPyConnection, model: Model, driver: Reference, rows: str, *, to: str
    ) -> None:
        """Run a model as if a table that it reads had other rows.

        Args:
            cursor: A connection to the workspace, which has what the model reads.
            model: The model.
            driver: The table.
            rows: A SELECT of its rows.
            to: Name of the table to make.
        """
        database = quote(f"{DATABASE}_{model.name}")
        cursor.execute(f"ATTACH ':memory:' AS {database}")
        try:
            made: set[str] = set()
            cursor.execute(f"CREATE SCHEMA {database}.{quote(SOURCE)}")
            _add_about(cursor, database)
            self._mirror(cursor, database, model, {driver.name: rows}, made)
            cursor.execute(f"USE {database}.{quote(SOURCE)}")
            cursor.execute(f"CREATE TABLE {to} AS {model.sql}")
        finally:
            self._enter(cursor)
            cursor.execute(f"DETACH {database}")

    def _mirror(
        self,
        cursor: duckdb.DuckDBPyConnection,
        database: str,
        model: Model,
        given: Mapping[str, str],
        made: set[str],
    ) -> None:
        """Have in another database what a model reads: what is given for it, or what is here."""
        for reference in model.references:
            name = f"{quote(reference.source)}.{quote(reference.read)}"
            if reference.source == ABOUT or name in made:
                continue
            made.add(name)
            plain = reference.source == SOURCE and not reference.form
            read = self._models.get(reference.table) if plain else None
            sql = given.get(reference.name, f"SELECT * FROM {DATABASE}.{name}")
            if read is not None and read.kind == "view":
                self._mirror(cursor, database, read, given, made)
                sql = read.sql
            cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {database}.{quote(reference.source)}")
            cursor.execute(f"USE {database}.{quote(SOURCE)}")
            if reference.form in {"at", "diff"}:
                given_to = "t1, t2" if reference.form == "diff" else "t"
                cursor.execute(f"CREATE MACRO {database}.{name}({given_to}) AS TABLE {sql}({given_to})")
            else:
                cursor.execute(f"CREATE VIEW {database}.{name} AS {sql}")

    def differs(self, cursor: duckdb.DuckDBPyConnection, name: str) -> bool:
        """Whether a candidate has other rows or columns than what the lake has under its name."""
        there = f"lakehouse.{quote(SOURCE)}.{quote(name)}"
        try:
            before = cursor.execute(f"SELECT column_name, column_type FROM (DESCRIBE {there})").fetchall()
        except duckdb.CatalogException:
            return True
        if sorted(before) != sorted(self.columns(cursor, Reference(source=SOURCE, table=name))):
            return True  # EXCEPT would take 1 for 1.0
        columns = ", ".join(quote(column) for column, _ in before)
        new, old = f"SELECT {columns} FROM {relation(name)}", f"SELECT {columns} FROM {there}"
        sql = f"SELECT EXISTS ({new} EXCEPT ALL {old}) OR EXISTS ({old} EXCEPT ALL {new})"
        return bool(cursor.execute(sql).fetchall()[0][0])

    @contextlib.contextmanager
    def explained(self, model: Model) -> Iterator[None]:
        """What DuckDB says of a model inside the block, as an error that names the model's file and line."""
        try:
            with explained(self._session.broken):
                yield
        except MissingPartError as error:
            with self._lock:
                if not is_behind(self._connection, self._lake):
                    raise
            said = "a file that the build reads was packed and pruned while it ran"
            raise ContentionError(said, hint="Run it again.") from error
        except (QueryError, NotFoundError) as error:
            raise _of_model(model, error) from error
        except SchemaError as error:
            raise ModelError(f"{model.path}: {error.message}", hint=error.hint) from error

    def columns(self, cursor: duckdb.DuckDBPyConnection, reference: Reference) -> tuple[tuple[str, str], ...]:
        """Names and DuckDB types of the columns of a table that is there, in order."""
        table = f"{DATABASE}.{quote(reference.source)}.{quote(reference.table)}"
        found = cursor.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()
        return tuple((str(row[0]), str(row[1])) for row in found)

    def settle(
        self, cursor: duckdb.DuckDBPyConnection, table: str, stored: Mapping[str, Type] = MappingProxyType({})
    ) -> None:
        """Bring a result's columns to the types that they are stored in, so that what reads it now and later sees the same.

        Args:
            cursor: A connection to the workspace.
            table: Name of the table, in SQL.
            stored: Types of the columns that the lake has of it, by name.

        Raises:
            SchemaError: A number is too large for any of them, or the lake has no such type.
        """
        from lakehouse.core.types import unify
        from lakehouse.duck.sql import duck_type, widened
        from lakehouse.parquet.arrow import normalize

        for name, kind in cursor.execute(
            f"SELECT column_name, column_type FROM (DESCRIBE {table})"
        ).fetchall():
            if kind.startswith("MAP("):
                entries = f"map_entries({quote(name)})"
                listed = cursor.execute(f"DESCRIBE SELECT {entries} FROM {table}").fetchall()[0][1]
                cursor.execute(f"ALTER TABLE {table} ALTER {quote(name)} TYPE {listed} USING {entries}")
            if kind == "TIME WITH TIME ZONE":
                msg = f"column {name!r} is a time with a zone, which a lake does not keep"
                raise SchemaError(msg, hint="Cast it, for example to TIME or to text.")
            narrower = _stored(kind)
            for type_ in narrower:
                with contextlib.suppress(duckdb.ConversionException):  # too large for it
                    cursor.execute(f"ALTER TABLE {table} ALTER {quote(name)} TYPE {type_}")
                    break
            else:
                if narrower:
                    msg = f"column {name!r} has numbers of more than 38 digits, which a lake does not keep"
                    raise SchemaError(msg, hint="Cast it, for example to text or to DOUBLE.")

        have = normalize(self.rows(cursor, f"SELECT * FROM {table} LIMIT 0"))[1]
        for name, kind in have.items():
            want = unify(stored.get(name, "null"), kind)
            if want != "json" and duck_type(want) != duck_type(kind):
                wider = widened(quote(name), kind, want)
                cursor.execute(
                    f"ALTER TABLE {table} ALTER {quote(name)} TYPE {duck_type(want)} USING {wider}"
                )
        self._canonical(cursor, table)

    def _canonical(self, cursor: duckdb.DuckDBPyConnection, table: str) -> None:
        """Bring JSON to the text that it is stored as."""
        kinds = dict(cursor.execute(f"SELECT column_name, column_type FROM (DESCRIBE {table})").fetchall())
        if "JSON" not in kinds.values():
            return
        cursor.register("_lake_rows", self.rows(cursor, f"SELECT * FROM {table}"))
        try:
            columns = ", ".join(
                f"CAST({quote(name)} AS {kind}) AS {quote(name)}" for name, kind in kinds.items()
            )
            cursor.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT {columns} FROM _lake_rows")
        finally:
            cursor.unregister("_lake_rows")

    def rows(self, cursor: duckdb.DuckDBPyConnection, sql: str) -> "pa.Table":
        """A result in Arrow, with JSON as JSON: DuckDB hands it out as text."""
        import pyarrow as pa

        from lakehouse.parquet.infer import json_array

        types = [str(row[1]) for row in cursor.execute(f"DESCRIBE {sql}").fetchall()]
        table = cursor.sql(sql).to_arrow_table()
        for at, kind in enumerate(types):
            if kind == "JSON":
                texts = [_parsed(text) for text in table.column(at).to_pylist()]
                table = table.set_column(at, table.schema.names[at], pa.chunked_array([json_array(texts)]))
        return table


def _stored(kind: str) -> tuple[str, ...]:
    """The types, narrowest first, in which a lake may keep a column of a DuckDB type; none if it is one of them."""
    if kind in {"HUGEINT", "UHUGEINT"}:
        return "BIGINT", "DECIMAL(38,0)"
    if kind in {"UUID", "BIT"} or kind.startswith("ENUM("):
        return ("VARCHAR",)
    array = _ARRAY.fullmatch(kind)
    return (f"{array[1]}[]",) if array else ()


def _add_about(connection: duckdb.DuckDBPyConnection, database: str) -> None:
    """Have what the macros of the catalog read, where they look for it: in the database that is in use."""
    for table in ("loads", "table_loads"):
        connection.execute(f"CREATE VIEW {database}.main.{table} AS SELECT * FROM lakehouse.main.{table}")


def relation(name: str) -> str:
    """A model's candidate, as SQL names it."""
    return f"{DATABASE}.{quote(SOURCE)}.{quote(name)}"


def _parsed(text: str | None) -> Any:
    import json

    return None if text is None else json.loads(text)


def _of_model(model: Model, error: QueryError | NotFoundError) -> ModelError:
    """An error of DuckDB as one of a model: its file, and the line there."""
    found = _LINE.search(error.message)
    line = model.line + int(found[1]) - 1 if found else model.line
    said = _LINE.sub("", error.message).strip()
    return ModelError(f"{model.path}:{line}: {said}", hint=error.hint)
