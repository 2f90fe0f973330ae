"""Types of DuckDB, and what holds their values in Spark."""

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

_SPARK = {
    "boolean": "BOOLEAN", "varchar": "STRING", "blob": "BINARY", "date": "DATE", "null": "INT",
    "tinyint": "TINYINT", "smallint": "SMALLINT", "integer": "INT", "bigint": "BIGINT",
    "utinyint": "SMALLINT", "usmallint": "INT", "uinteger": "BIGINT", "ubigint": "DECIMAL(20,0)",
    "hugeint": "DECIMAL(38,0)", "float": "FLOAT", "double": "DOUBLE",
    "timestamp": "TIMESTAMP_NTZ", "timestamp with time zone": "TIMESTAMP_LTZ",
}  # fmt: skip

_DIGITS = {
    "tinyint": 3, "smallint": 5, "integer": 10, "bigint": 19, "utinyint": 3, "usmallint": 5, "uinteger": 10,
    "ubigint": 20, "hugeint": 38,
}  # fmt: skip

WHOLE = frozenset(_DIGITS)
REAL = frozenset({"float", "double"})
NUMBER = WHOLE | REAL | {"decimal"}
MOMENT = frozenset({"date", "timestamp", "timestamp with time zone"})


def kind(of: "DuckDBPyType") -> str:
    """The kind of a type: `decimal`, `varchar`, `json`, `list` and so on."""
    return "json" if str(of) == "JSON" else of.id


def spark_type(of: "DuckDBPyType") -> str | None:
    """The type of Spark that holds the values of a type of DuckDB; None where there is none."""
    name = of.id
    if name == "decimal":
        precision, scale = shape(of)
        return f"DECIMAL({precision},{scale})"
    if name == "list":
        inner = spark_type(item_type(of))
        return inner and f"ARRAY<{inner}>"
    if name == "struct":
        fields = [(field, spark_type(cast("DuckDBPyType", inner))) for field, inner in of.children]
        if any(inner is None for _, inner in fields):
            return None
        return f"STRUCT<{', '.join(f'{spark_name(field)}: {inner}' for field, inner in fields)}>"
    return _SPARK.get(name)


def shape(of: "DuckDBPyType") -> tuple[int, int]:
    """Precision and scale of a decimal, or of the decimal that holds a whole number."""
    if of.id in _DIGITS:
        return _DIGITS[of.id], 0
    found = dict(of.children)
    return cast("int", found["precision"]), cast("int", found["scale"])


def item_type(of: "DuckDBPyType") -> "DuckDBPyType":
    """The type of a list's items."""
    return cast("DuckDBPyType", dict(of.children)["child"])


def spark_name(name: str) -> str:
    """An identifier for Spark."""
    return "`" + name.replace("`", "``") + "`"


def spark_text(text: str) -> str:
    """A string literal for Spark."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
