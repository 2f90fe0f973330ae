"""What the mirror says of the tables that are there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.core.types import Type
from sync.postgres import ddl
from sync.postgres.connecting import fetch
from sync.postgres.functions import Place
from sync.postgres.history import Form
from sync.postgres.names import literal
from sync.postgres.placing import drop_over, dropping


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the mirror says of a table that is there.

    Attributes:
        table: Its name in the lake.
        kind: `table`, or `view` for a model of which the rows of now are kept.
        view: The view of its rows as of now.
        base: The table with its rows.
        history: The view of all versions, if there is one.
        form: How its versions were told apart.
        made: Digest of the statements by which what stands over it was made.
        columns: Name, identifier and type in the lake of each column.
    """

    table: str
    kind: str
    view: str
    base: str
    history: str | None
    form: Mapping[str, Any]
    made: str
    columns: tuple[tuple[str, str, Type], ...] = ()


def known(connection: Any, schema: str) -> dict[str, Known]:
    """The tables that are mirrored in a schema, by name."""
    where = f"WHERE schema_name = {literal(schema)}"
    columns: dict[str, list[tuple[str, str, Type]]] = {}
    for row in fetch(
        connection,
        f"SELECT table_name, column_name, identifier, lake_type FROM lakehouse.columns {where} ORDER BY table_name, place",
    ).to_pylist():
        columns.setdefault(row["table_name"], []).append(
            (row["column_name"], row["identifier"], json.loads(row["lake_type"]))
        )
    asked = f"SELECT table_name, kind, view_name, base_name, history_name, form, made FROM lakehouse.tables {where}"
    return {
        row["table_name"]: Known(
            table=row["table_name"], kind=row["kind"], view=row["view_name"], base=row["base_name"],
            history=row["history_name"], form=json.loads(row["form"]), made=row["made"],
            columns=tuple(columns.get(row["table_name"], ())),
        )
        for row in fetch(connection, asked).to_pylist()
    }  # fmt: skip


def drop(connection: Any, schema: str, there: Known) -> None:
    """Drop all of a table that is mirrored."""
    place = Place(
        schema=schema, table=there.table, view=there.view, base=there.base, history=there.history, columns=(),
        form=Form(),
    )  # fmt: skip
    drop_over(connection, place)
    dropping(connection, ddl.drop_table(schema, there.base), place)
