"""A mirror in Postgres held against the lake that it mirrors: every state, history and difference."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lakehouse import Lake
from lakehouse.core.types import Column
from lakehouse.duck.names import quote as duck_quote
from lakehouse.errors import LakehouseError
from lakehouse.parquet.arrow import from_duck
from sync.postgres import ddl
from sync.postgres.connecting import connect, execute, fetch
from sync.postgres.copying import copy_rows
from sync.postgres.names import identifier, literal, qualified, quote, schema_identifier
from sync.postgres.types import PgColumn

SYSTEM = ("valid_from", "valid_to", "from_load", "to_load", "change")
KINDS = {"valid_from": "timestamptz", "valid_to": "timestamptz", "change": "string"}


class Warehouse:
    """A mirror, and the lake.

    Args:
        lake: The lake, mirrored up to the end of its logs.
        url: Where the mirror is.
        prefix: What names of its schemas begin with.
    """

    def __init__(self, lake: Lake, url: str, prefix: str = "") -> None:
        self.lake, self.url, self.prefix = lake, url, prefix
        self.session = lake.session()

    def check(self, source: str) -> None:
        """Every state of every table, by load and by instant; histories; some differences."""
        log = self.lake.log(source)
        with connect(self.url) as connection:
            for row in self._tables(connection, source):
                if row["kind"] == "table":
                    self._table(connection, log, row)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a query gives."""
        with connect(self.url) as connection:
            return [tuple(row.values()) for row in fetch(connection, sql).to_pylist()]

    def _tables(self, connection: Any, source: str) -> list[dict[str, Any]]:
        schema = literal(schema_identifier(source, self.prefix))
        return fetch(connection, f"SELECT * FROM lakehouse.tables WHERE schema_name = {schema}").to_pylist()

    def _table(self, connection: Any, log: Any, row: dict[str, Any]) -> None:
        name, source = row["table_name"], log.source
        columns = self._columns(connection, log, row)
        kept = [seq for seq in range(log.head + 1) if not log.is_expired(seq)]
        at, at_load, diff = (identifier(row["view_name"], end) for end in ("_at", "_at_load", "_diff"))
        schema = row["schema_name"]
        here = f"{duck_quote(source)}.{duck_quote(name + '_at')}"
        states = [f"SELECT {seq}::BIGINT AS _n, * FROM {here}({seq})" for seq in kept]
        self._same(
            connection, " UNION ALL ".join(states),
            f"SELECT at.seq, x.* FROM unnest(ARRAY[{', '.join(map(str, kept))}]::bigint[]) AS at(seq), {qualified(schema, at_load)}(at.seq) AS x",
            [_column("_n", "int64"), *columns], f"{name}_at_load",
        )  # fmt: skip
        moments = [
            c.effective_at.isoformat()
            for c in log.commits
            if not log.is_expired(log.position(c.effective_at))
        ]
        instants = [f"SELECT TIMESTAMPTZ '{moment}' AS _n, * FROM {here}('{moment}')" for moment in moments]
        if instants:
            listed = ", ".join(f"'{moment}'" for moment in moments)
            self._same(
                connection, " UNION ALL ".join(instants),
                f"SELECT at.seq, x.* FROM unnest(ARRAY[{listed}]::timestamptz[]) AS at(seq), {qualified(schema, at)}(at.seq) AS x",
                [_column("_n", "timestamptz"), *columns], f"{name}_at",
            )  # fmt: skip
        self._same(
            connection, f"SELECT * FROM {duck_quote(source)}.{duck_quote(name)}",
            f"SELECT * FROM {qualified(schema, row['view_name'])}", columns, name,
        )  # fmt: skip
        self._history(connection, log, row, columns)
        self._diff(connection, log, row, columns, qualified(schema, diff), kept)
        for seq in set(range(log.head + 1)) - set(kept):
            self._refuses(connection, f"SELECT * FROM {qualified(schema, at_load)}({seq})", "is expired")
        self._refuses(
            connection,
            f"SELECT * FROM {qualified(schema, at_load)}({log.head + 1})",
            "the mirror ends at load",
        )

    def _columns(self, connection: Any, log: Any, row: dict[str, Any]) -> list[tuple[Column, PgColumn]]:
        where = f"schema_name = {literal(row['schema_name'])} AND table_name = {literal(row['table_name'])}"
        called = (
            fetch(connection, f"SELECT identifier FROM lakehouse.columns WHERE {where} ORDER BY place")
            .column(0)
            .to_pylist()
        )
        columns = log.tables[row["table_name"]].columns
        if not columns:
            return [_column("_lake_no_columns", "null")]
        return [
            (c, PgColumn(name=c.name, identifier=one, type=c.type))
            for c, one in zip(columns, called, strict=True)
        ]

    def _history(
        self, connection: Any, log: Any, row: dict[str, Any], columns: Sequence[tuple[Column, PgColumn]]
    ) -> None:
        from lakehouse.duck.compacted import shape
        from lakehouse.duck.versions import HISTORY, outside

        table = log.tables[row["table_name"]]
        if shape(table) is None or row["history_name"] is None:
            return
        named = dict(zip(HISTORY, outside(HISTORY, table.columns), strict=True))
        own = [_column(named[name][1:-1], KINDS.get(name, "int64")) for name in SYSTEM]
        data = ", ".join([*(named[name] for name in SYSTEM), *(duck_quote(c.name) for c, _ in columns)])
        theirs = ", ".join(quote(pg.identifier) for _, pg in [*own, *columns])
        self._same(
            connection, f"SELECT {data} FROM {duck_quote(log.source)}.{duck_quote(table.name + '_history')}",
            f"SELECT {theirs} FROM {qualified(row['schema_name'], row['history_name'])}", [*own, *columns], row["history_name"],
        )  # fmt: skip

    def _diff(
        self,
        connection: Any,
        log: Any,
        row: dict[str, Any],
        columns: Sequence[tuple[Column, PgColumn]],
        function: str,
        kept: Sequence[int],
    ) -> None:
        from lakehouse.duck.compacted import shape
        from lakehouse.duck.versions import outside

        table = log.tables[row["table_name"]]
        if not table.columns or any(not isinstance(c.type, str) or c.type == "json" for c in table.columns):
            return  # JSON may be spelled anew where it did not change
        moments = [log.commits[seq - 1].effective_at.isoformat() for seq in kept if seq]
        change = outside(["change"], table.columns)[0]
        told_by_key = shape(table) is not None and not shape(table).grouped
        # Of rows that differ in nothing that counts, either may be the one that is shown.
        columns = [(c, pg) for c, pg in columns if told_by_key or c.name not in table.last.volatile]
        own = [_column(change[1:-1], "string")]
        names = ", ".join([change, *(duck_quote(c.name) for c, _ in columns)])
        theirs = ", ".join(quote(pg.identifier) for _, pg in [*own, *columns])
        for one, two in (
            {(moments[0], moments[-1]), (moments[-1], moments[0]), (moments[len(moments) // 2], moments[-1])}
            if moments
            else ()
        ):
            if any(
                log.is_expired(log.position(c.effective_at))
                for c in log.commits
                if c.effective_at.isoformat() in (one, two)
            ):
                continue
            here = f"{duck_quote(log.source)}.{duck_quote(table.name + '_diff')}('{one}', '{two}')"
            self._same(
                connection, f"SELECT {names} FROM {here}", f"SELECT {theirs} FROM {function}('{one}', '{two}')",
                [*own, *columns], f"{table.name}_diff",
            )  # fmt: skip

    def _same(
        self, connection: Any, ours: str, theirs: str, columns: Sequence[tuple[Column, PgColumn]], what: str
    ) -> None:
        """Whether a query of DuckDB and one of Postgres give the same rows."""
        found = self.session.connection.sql(ours).to_arrow_table()
        renamed = [Column(name=f"k{at}", type=c.type) for at, (c, _) in enumerate(columns)]
        rows = from_duck(found.rename_columns([c.name for c in renamed]), renamed)
        held = [
            PgColumn(name=f"k{at}", identifier=f"k{at}", type=pg.type) for at, (_, pg) in enumerate(columns)
        ]
        execute(connection, "CREATE SCHEMA expected")
        execute(connection, ddl.create_table("expected", "rows", held))
        copy_rows(connection, "expected", "rows", rows.to_batches() or [pa.record_batch([], names=[])], held)
        execute(connection, "ALTER TABLE expected.rows DROP COLUMN _lake_exact")
        differ = []
        for side, one, two in (
            ("lacks", "TABLE expected.rows", theirs),
            ("has", theirs, "TABLE expected.rows"),
        ):
            differ += [
                (side, *row.values()) for row in fetch(connection, f"({one}) EXCEPT ALL ({two})").to_pylist()
            ]
        connection.rollback()
        assert not differ, (what, differ[:5], theirs[:2000])

    def _refuses(self, connection: Any, sql: str, said: str) -> None:
        try:
            fetch(connection, sql)
        except LakehouseError as error:
            assert said in error.message  # noqa: PT017 - of any kind
        else:
            raise AssertionError(sql)
        finally:
            connection.rollback()


def _column(name: str, kind: str) -> tuple[Column, PgColumn]:
    return Column(name=name, type=kind), PgColumn(name=name, identifier=name, type=kind)
