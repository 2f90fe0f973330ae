"""A DuckDB without rows beside Spark: the same tables, so that DuckDB itself says what is what.

It is asked for names and types of results, for types of parts of an expression, and whether two texts are
one query to it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakehouse.duck.names import literal, quote

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

Columns = dict[str, "DuckDBPyType"]  # by name, in order

_PLACES = frozenset({"alias", "is_operator", "query_location", "query_location_length"})
_SAME = {"position": "instr", "strpos": "instr"}  # beside those that DuckDB itself calls aliases


class Twin:
    """Tables and views without rows."""

    def __init__(self) -> None:
        import duckdb

        self._connection: duckdb.DuckDBPyConnection = duckdb.connect()
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("CREATE SCHEMA models; USE memory.models")
        self._types: dict[str, DuckDBPyType] = {}
        self._same: dict[str, str] = {}
        self._letters: dict[str, tuple[str, str]] = {}

    def close(self) -> None:
        """Let it go."""
        self._connection.close()

    def table(self, schema: str, name: str, types: Mapping[str, str]) -> Columns:
        """Make a table of these columns; returns them."""
        listed = ", ".join(f"{quote(column)} {kind}" for column, kind in types.items())
        place = f"{quote(schema)}.{quote(name)}"
        self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
        self._connection.execute(f"CREATE OR REPLACE TABLE {place} ({listed or '_lake_no_columns VARCHAR'})")
        return self._columns(place)

    def view(self, name: str, sql: str) -> Columns:
        """Make `models.<name>` of a SELECT; returns its columns. Raises duckdb.Error."""
        place = f"models.{quote(name)}"
        self._connection.execute(f"CREATE OR REPLACE VIEW {place} AS {sql}\n")
        return self._columns(place)

    def files(self, schema: str, name: str, files: Sequence[str]) -> Columns:
        """Make a table of the columns that Parquet files have; returns them."""
        found = self._connection.sql(
            f"SELECT * FROM read_parquet({_listed(files)}, hive_partitioning = false)"
        )
        types = zip(found.columns, found.types, strict=True)
        return self.table(schema, name, {column: str(kind) for column, kind in types})

    def type_of(self, expression: str) -> "DuckDBPyType":
        """The type of an expression without columns. Raises duckdb.Error."""
        if expression not in self._types:
            self._types[expression] = self._connection.sql(f"SELECT {expression}").types[0]
        return self._types[expression]

    def value_of(self, expression: str) -> str | None:
        """The value of an expression without columns that is text. Raises duckdb.Error."""
        found: str | None = self._connection.execute(f"SELECT {expression}").fetchall()[0][0]
        return found

    def letters(self, function: str) -> tuple[str, str]:
        """All characters that `lower` or `upper` changes, and what each of them becomes."""
        if function not in self._letters:
            made = f"{function}(chr(n::INTEGER))"
            codes = "SELECT n FROM range(1, 131072) AS codes(n) WHERE n NOT BETWEEN 55296 AND 57343"
            self._letters[function] = self._connection.execute(
                f"SELECT string_agg(chr(n::INTEGER), '' ORDER BY n), string_agg({made}, '' ORDER BY n) "
                f"FROM ({codes}) WHERE {made} <> chr(n::INTEGER)"
            ).fetchall()[0]
        return self._letters[function]

    def is_one_query(self, sql: str, other: str) -> bool:
        """Whether DuckDB makes the same plan of both, names apart. Raises duckdb.Error."""
        return bool(self._plan(sql) == self._plan(other))

    def _plan(self, sql: str) -> Any:
        import duckdb

        text = self._connection.execute(
            "SELECT json_serialize_plan(?::VARCHAR, skip_empty := true, optimize := false)", [sql]
        ).fetchall()[0][0]
        plan = json.loads(text)
        if plan.get("error"):
            raise duckdb.BinderException(str(plan.get("error_message")))
        if not self._same:
            aliases = (
                "SELECT DISTINCT function_name, alias_of FROM duckdb_functions() WHERE alias_of IS NOT NULL"
            )
            self._same = dict(self._connection.execute(aliases).fetchall()) | _SAME
        return _plain(plan, self._same)

    def _columns(self, place: str) -> Columns:
        found = self._connection.sql(f"SELECT * FROM {place}")
        return dict(zip(found.columns, found.types, strict=True))


def _listed(files: Sequence[str]) -> str:
    return f"[{', '.join(literal(str(file)) for file in files)}]"


def _plain(value: Any, same: Mapping[str, str]) -> Any:
    """A plan without what only says where and how something was written."""
    if isinstance(value, list):
        return [_plain(inner, same) for inner in value]
    if isinstance(value, str):  # names and units in any case
        return value.lower()
    if not isinstance(value, dict):
        return value
    out = {key: _plain(inner, same) for key, inner in value.items() if key not in _PLACES}
    path = out.get("path")
    if isinstance(path, list) and path:  # the qualified name of a function or a table
        out["path"] = [*path[:-1], same.get(path[-1], path[-1])]
    negated = out["children"][0] if out.get("type") == "operator_not" else {}
    if negated.get("type") == "compare_not_distinct_from":
        return negated | {"type": "compare_distinct_from", "qname": {"path": ["is distinct from"]}}
    if negated.get("type") == "operator_is_null":
        return negated | {"type": "operator_is_not_null"}
    return out
