"""What SQL from a log may read, and views that say why they cannot be read.

SQL in a definition reaches the tables of the lake and nothing else on the machine that makes or reads views.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import duckdb

from lakehouse.core.layout import MODELS
from lakehouse.duck.names import literal, quote
from lakehouse.duck.readonly import nodes, serialized, written
from lakehouse.duck.trouble import told

Path = tuple[str, ...]  # of a name in SQL, such as ("shop", "products"), in lower case
# Functions that make tables of their arguments, and of nothing on the machine that runs them.
_PURE = {
    (name,)
    for name in (
        "range", "generate_series", "generate_subscripts", "unnest", "repeat", "repeat_row", "json_each", "json_tree",
        "summary", "icu_calendar_names", "pg_timezone_names",
    )
}  # fmt: skip


def forbidden(
    connection: duckdb.DuckDBPyConnection, sql: str, tables: Collection[Path], macros: Collection[Path]
) -> str:
    """Why SQL is not one SELECT over tables of the lake; empty where it is.

    Args:
        connection: Any connection: nothing of the SQL is run.
        sql: The SQL.
        tables: What may be read as a table.
        macros: What may be read as a function, beside those that make tables of their arguments.
    """
    try:
        kinds = [statement.type for statement in connection.extract_statements(sql)]
    except duckdb.Error as error:
        return told(error)
    if kinds != [duckdb.StatementType.SELECT]:
        return "its SQL is not one SELECT"
    tree = serialized(connection, sql)
    if tree.get("error"):
        return f"its SQL is not understood ({tree.get('error_message')})"
    found = list(nodes(tree))
    named = {(name,) for node in found for name in _with_names(node) if "." not in name}  # no name of a file
    known = {"BASE_TABLE": {*tables, *named}, "TABLE_FUNCTION": {*macros, *_PURE}}
    for node in found:
        if statement := written(node):
            return f"{statement} in it writes"
        kind = str(node.get("type"))  # of what is cast, that is an object
        if kind == "SHOW_REF":
            return "it describes tables, where rows are expected"
        path = _path(node.get("function", node)) if kind in known else ()
        if path and path not in known[kind]:
            return f"it reads {'.'.join(path)}, which is no table of the lake"
    return ""


def _with_names(node: Mapping[str, Any]) -> list[str]:
    return [entry["key"].lower() for entry in (node.get("cte_map") or {}).get("map", ())]


def _path(node: Mapping[str, Any]) -> Path:
    return tuple(str(piece).lower() for piece in node["qualified_name"]["path"])


def refusal(
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


def checked_types(columns: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Columns with types that are types and nothing more; text in the place of the others."""
    checked = []
    for column, kind in columns:
        try:
            checked.append((column, str(duckdb.type(kind))))
        except duckdb.Error:
            checked.append((column, "VARCHAR"))
    return checked
