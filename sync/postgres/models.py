"""Models in the mirror: stored ones show what their definitions name, views are kept as the rows of now.

A model that is a view has no versions: its rows are what it gives at the end of the logs, and are replaced as a whole
when its SQL or anything behind it changes. There is no state of it as of a moment in Postgres.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakehouse.core.definition import ABOUT as LAKE
from lakehouse.core.definition import Definition, read_definitions, tables_behind
from lakehouse.core.layout import MODELS
from lakehouse.core.log import Log
from lakehouse.errors import LakehouseError
from sync.postgres import ddl, functions
from sync.postgres.connecting import execute
from sync.postgres.functions import Place, Shown
from sync.postgres.history import Form
from sync.postgres.known import Known, drop
from sync.postgres.ledger import ABOUT, LAYOUT
from sync.postgres.names import SYSTEM_COLUMNS, Names, identifier, literal, qualified, quote
from sync.postgres.placing import (
    columns_of,
    drop_over,
    dropping,
    give_again,
    load,
    new_name,
    readers,
    spelled,
)
from sync.postgres.types import EXACT, PgColumn, pg_type

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from lakehouse.core.log import TableLog
    from lakehouse.lake import Lake
    from sync.postgres.copying import Loaded
    from sync.postgres.tables import Action

_ROWS = 50_000  # in a batch
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_OF_JSON = {  # types of DuckDB in which a definition may name what the table keeps as JSON
    "BOOLEAN": "boolean", "TINYINT": "bigint", "SMALLINT": "bigint", "INTEGER": "bigint", "BIGINT": "bigint",
    "UTINYINT": "bigint", "USMALLINT": "bigint", "UINTEGER": "bigint", "UBIGINT": "numeric(20,0)",
    "FLOAT": "double precision", "DOUBLE": "double precision", "VARCHAR": "text", "DATE": "date", "TIME": "time",
    "TIMESTAMP": "timestamp", "TIMESTAMP WITH TIME ZONE": "timestamptz",
}  # fmt: skip


def definitions_of(log: Log) -> dict[str, Definition]:
    """The definitions in force; none for other sources, and where the log says what cannot be.

    Raises:
        FormatError: It does.
    """
    return read_definitions(log.pipeline) if log.source == MODELS else {}


def shown(definition: Definition | None, table: "TableLog", columns: Sequence[PgColumn]) -> tuple[Shown, ...]:
    """What a stored model shows: its columns as it defines them now, in their order; nothing for other tables."""
    stored = {c.source_name or c.name: (c, pg) for c, pg in zip(table.columns, columns, strict=True)}
    if definition is None or definition.is_view or not definition.columns:
        return ()
    if any(name not in stored for name, _ in definition.columns):
        return ()
    return tuple(_shown(*stored[name], kind) for name, kind in definition.columns)


def _shown(column: Any, held: PgColumn, kind: str) -> Shown:
    """A column; what the table keeps as JSON, because its types do not go together, in the type of today."""
    name = quote(held.identifier)
    scalar = _DECIMAL.fullmatch(kind)
    to = f"numeric({scalar[1]},{scalar[2]})" if scalar else _OF_JSON.get(kind)
    if column.type != "json" or to is None:
        return Shown(identifier=held.identifier, type=pg_type(held.type), sql=f"v.{name}")
    text = f"(v.{name} OPERATOR(pg_catalog.#>>) '{{}}')"
    return Shown(identifier=held.identifier, type=to, sql=text if to == "text" else f"{text}::{to}")


def described(definition: Definition | None, shows: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """What a definition says of the model, and of its columns by identifier.

    Args:
        definition: The definition, if there is one.
        shows: Identifiers by name.
    """
    if definition is None:
        return "", {}
    words = [definition.description, f"One row: {definition.grain}" if definition.grain else ""]
    about = {shows[name]: text for name, text in definition.about.items() if name in shows and text}
    return "\n".join(filter(None, words)), about


def fingerprint(name: str, definitions: Mapping[str, Definition], logs: Mapping[str, Log]) -> str:
    """A digest of all that decides the rows of a view: its SQL, that of views behind it, and the data."""
    behind = tables_behind(definitions, name)
    views, todo = dict[str, str](), [name]
    while todo:
        each = definitions.get(todo.pop())
        if each is not None and each.is_view and each.name not in views:
            views[each.name] = each.sql
            todo += each.upstream
    data: list[list[Any]] = []
    for table in behind:
        source, _, short = table.partition(".")
        if source == LAKE:
            data.append([table, {other: log.digest for other, log in logs.items()}])
        elif source in logs and short in logs[source].tables:
            log = logs[source]
            seq = log.tables[short].last_seq
            data.append([table, seq, log.commits[seq - 1].digest, log.expired_by])
        else:
            data.append([table])
    stated = [LAYOUT, views, data, definitions[name].description, dict(definitions[name].about)]
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()


class ViewWork:
    """What one sync does to a model that is a view.

    Args:
        lake: The lake.
        schema: The schema of models.
        definition: The model.
        made: `fingerprint` of it.
        before: What is there of it.
        anew: Whether its rows are to be replaced whatever is there.
    """

    kind = "view"

    def __init__(
        self,
        lake: "Lake",
        schema: str,
        definition: Definition,
        view: str,
        made: str,
        before: Known | None,
        *,
        anew: bool,
    ) -> None:
        self.lake, self.schema, self.definition, self.view, self.made = lake, schema, definition, view, made
        self.before = before
        self.inserted = self.closed = 0
        self.trouble: LakehouseError | None = None
        self.form: dict[str, Any] = {}
        self.place = self.placed(())
        there = before is not None and before.kind == self.kind
        self.action: Action = "rebuilt" if there else "new"
        if before is not None and there and before.made == made and not anew:
            self.action = "same"
        self._loaded: Loaded | None = None

    @property
    def name(self) -> str:
        """The model."""
        return self.definition.name

    @property
    def size_bytes(self) -> int:
        """Nothing of it is stored."""
        return 0

    rows = 1  # of its parts: there are none

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do."""
        return self.action != "same"

    def placed(self, columns: tuple[PgColumn, ...]) -> Place:
        """What it is called and has in Postgres."""
        words, about = described(self.definition, {c.name: c.identifier for c in columns})
        return Place(
            schema=self.schema, table=self.definition.name, view=self.view, base=identifier(f"_{self.definition.name}"),
            history=None, columns=columns, form=Form(), description=words, about=about,
        )  # fmt: skip

    def prepare(
        self,
        connection: Any,
        url: str,
        duck: "duckdb.DuckDBPyConnection",
        connections: int,
        told: Callable[[int], None],
    ) -> None:
        """Bring the rows of now to Postgres. A view that cannot be read is left as it was there."""
        del url, duck, connections
        try:
            columns, rows = self.rows_of_now()
        except LakehouseError as error:
            self.trouble, self.action = error, "failed"
            return
        self.place = self.placed(columns)
        copied = [
            PgColumn(name=f"c{at}", identifier=c.identifier, type=c.type) for at, c in enumerate(columns)
        ]
        self._loaded = load(connection, self._counted(rows, told), copied, ())
        execute(connection, f"ANALYZE {qualified(self._loaded.schema, self._loaded.table)}")

    def _counted(
        self, rows: "Iterator[pa.RecordBatch]", told: Callable[[int], None]
    ) -> "Iterator[pa.RecordBatch]":
        for batch in rows:
            self.inserted += batch.num_rows
            yield batch
            told(batch.num_rows)

    def rows_of_now(self) -> "tuple[tuple[PgColumn, ...], Iterator[pa.RecordBatch]]":
        """The columns of the view, and its rows with these called c0, c1 and so on."""
        import pyarrow as pa

        from lakehouse.parquet.arrow import normalize

        session = self.lake.session()
        with session.explained():
            relation = session.connection.sql(f"SELECT * FROM {quote(MODELS)}.{quote(self.name)}")
            names, kinds = relation.columns, list(map(str, relation.types))
            table = normalize(
                pa.table(relation.to_arrow_table()).rename_columns([f"c{at}" for at in range(len(names))])
            )
        types = ["json" if kind == "JSON" else table[1][f"c{at}"] for at, kind in enumerate(kinds)]
        called = Names(reserved=SYSTEM_COLUMNS | {EXACT}).extended(names)
        columns = tuple(
            PgColumn(name=n, identifier=called[n], type=t) for n, t in zip(names, types, strict=True)
        )
        return columns, iter(table[0].to_batches(_ROWS))

    def install(self, connection: Any) -> None:
        """Put the rows in the place of those that were there."""
        if self._loaded is None:
            return
        place, old = self.place, None
        view, base = qualified(self.schema, place.view), qualified(self.schema, place.base)
        seen = readers(connection, place)
        loaded, kept = self._loaded, False
        if self.before is not None and self.before.kind != self.kind:
            drop(connection, self.schema, self.before)
        else:
            kept = self.before is not None
        columns = columns_of(connection, loaded.schema, loaded.table)
        if kept and columns == columns_of(connection, self.schema, place.base):
            # Whoever reads since before finds nothing in another table, but finds rows that are deleted here.
            rows = f"SELECT * FROM {qualified(loaded.schema, loaded.table)}"
            execute(connection, [f"DELETE FROM {base}", f"INSERT INTO {base} {rows}"])
            execute(connection, ddl.drop_table(loaded.schema, loaded.table))
        else:
            if kept and columns_of(connection, self.schema, place.base):
                old = new_name()
                execute(connection, ddl.move_table(self.schema, place.base, to=self.schema, name=old))
            execute(connection, ddl.move_table(ABOUT, loaded.table, to=self.schema, name=place.base))
        have = columns_of(connection, self.schema, place.view)
        if have and have != [(one.identifier, spelled(one.type)) for one in place.visible][: len(have)]:
            drop_over(connection, place)
        items = ", ".join(f"{one.sql} AS {quote(one.identifier)}" for one in place.visible)
        execute(connection, f"CREATE OR REPLACE VIEW {view} AS SELECT {items} FROM {base} AS v")
        execute(connection, functions.comments(place))
        execute(
            connection,
            f"COMMENT ON TABLE {base} IS {literal(f'The rows of the model {self.name} as of the last sync')}",
        )
        if old is not None:
            dropping(connection, ddl.drop_table(self.schema, old), place)
        give_again(connection, place, seen)
