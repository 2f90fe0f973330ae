"""The table `lakehouse.models`: what the log says about models, and what became of them in the catalog."""

from collections.abc import Mapping
from typing import Any

import duckdb

from lakehouse.core.definition import Definition, read_definitions
from lakehouse.core.layout import MODELS
from lakehouse.core.log import Log
from lakehouse.duck.models import Made, Views
from lakehouse.duck.sql import duck_type

_TYPES = (
    "VARCHAR", "VARCHAR", "VARCHAR", "VARCHAR", "VARCHAR", "VARCHAR", "VARCHAR", "VARCHAR[]",
    'STRUCT(source VARCHAR, "table" VARCHAR, seq BIGINT)[]',
    "STRUCT(name VARCHAR, type VARCHAR, description VARCHAR)[]", "BIGINT", "VARCHAR", "BIGINT", "VARCHAR",
)  # fmt: skip
_SAID = ("kind", "sql", "digest")  # of a definition: what a view is


def definitions_of(logs: Mapping[str, Log]) -> dict[str, Definition]:
    """The definitions in force, in an order in which each comes after those that it reads.

    Raises:
        FormatError: The log of `models` says something that cannot be.
    """
    return read_definitions(logs[MODELS].pipeline) if MODELS in logs else {}


def describe_models(connection: duckdb.DuckDBPyConnection, views: Views, made: Made, known: int = 0) -> None:
    """Fill the table of models; if the first so many commits are known, where anything is new.

    Args:
        connection: To the catalog.
        views: The models.
        made: What came of making their views.
        known: How many commits of the log of `models` the catalog was made from before.
    """
    log = views.logs.get(MODELS)
    if log is None or (log.head == known and not made.anew):
        return
    asked = "SELECT name, columns, built_seq, kind = 'view' AS is_view FROM models"
    before = {row[0]: row[1:] for row in connection.execute(asked).fetchall()}
    connection.execute("DELETE FROM models")
    built = _built(log, views, {n: row[1] for n, row in before.items() if row[2] and row[1]}, known)
    rows = []
    for name, definition in views.definitions.items():
        columns = [(c["name"], c["type"]) for c in before[name][0]] if name in before else []
        columns = made.columns.get(name, columns) if definition.is_view else _columns(log, definition)
        rows.append(_row(definition, columns, built.get(name), made.wrong.get(name)))
    if rows:
        items = ", ".join(f"unnest(${at}::{kind}[])" for at, kind in enumerate(_TYPES, 1))
        connection.execute(f"INSERT INTO models SELECT {items}", [list(c) for c in zip(*rows, strict=True)])


def _columns(log: Log, definition: Definition) -> list[tuple[str, str]]:
    """The columns of a model that is stored: as the lake has them."""
    table = log.tables.get(definition.name)
    return [(c.name, duck_type(c.type)) for c in table.columns] if table else list(definition.columns)


def _row(
    definition: Definition, columns: list[tuple[str, str]], built_seq: int | None, wrong: str | None
) -> list[Any]:
    inputs = [(*name.partition(".")[::2], read.seq) for name, read in definition.inputs.items()]
    return [
        definition.name, definition.kind, definition.language, definition.path, definition.sql,
        definition.description, definition.grain, list(definition.key),
        [{"source": source, "table": table, "seq": seq} for source, table, seq in inputs],
        [{"name": n, "type": kind, "description": definition.about.get(n)} for n, kind in columns],
        len(definition.tests), definition.fingerprint, built_seq, wrong,
    ]  # fmt: skip


def _built(log: Log, views: Views, before: Mapping[str, int], known: int) -> dict[str, int]:
    """The load that made the present data of each model, and of a view its present definition."""
    found = {
        name: definition.built or log.tables[name].last_seq
        for name, definition in views.definitions.items()
        if not definition.is_view and name in log.tables
    }
    records: dict[str, Any] = (log.pipeline or {}).get("models", {})
    open_names = {name for name in views.definitions if name not in found}
    newest = dict[str, int]()
    for seq in reversed(log.piped):
        if not open_names:
            break
        then = (log.commits[seq - 1].pipeline or {}).get("models", {})
        open_names = {name for name in open_names if _same(then.get(name), records[name])}
        newest |= dict.fromkeys(open_names, seq)
        if seq <= known:
            newest |= {name: before[name] for name in open_names if name in before}
            open_names -= before.keys()
    return found | newest


def _same(one: Any, two: Any) -> bool:
    return isinstance(one, dict) and all(one.get(name) == two.get(name) for name in _SAID)
