"""Casts of DuckDB, written for Spark: what they round, what text they take for a number or a moment.

Text that only one of the two would take, or that they might take for something else, stops the run at the
row: `raise_error` says which text it was.
"""

from typing import TYPE_CHECKING

from lakehouse.models.spark.kinds import MOMENT, NUMBER, REAL, WHOLE, kind, shape, spark_text, spark_type
from lakehouse.models.spark.trouble import Refusal

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

# Texts that both engines read, and read alike.
_INTEGER = r"^ *[+-]?[0-9]+ *$"
_ROUNDED = r"^ *[+-]?([0-9]{1,18}[.]?[0-9]{0,18}|[.][0-9]{1,18}) *$"
_DECIMAL = r"^ *[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+) *$"
_FLOAT = r"^ *[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)? *$"
_BOOL = r"^(?i:true|false|t|f|yes|no|y|n|1|0)$"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,6})?"
_AWARE = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}([T ]{_CLOCK}(Z|[+-][0-9]{{2}}:[0-9]{{2}})?)?$"
_ZONE = "(Z|[+-][0-9]{2}:[0-9]{2})$"
# Texts that DuckDB cannot read as that: no digit, a character that no number has, a sign or a point too many.
_NO_NUMBER = r"^[^0-9]*$|[^0-9A-FXa-fxOo+._ \t\n\r\f\x0B-]|[0-9][+-]|[.].*[.]"
_NOT_BOOL = r"^(?! *(?i:on|off|true|false|t|f|yes|no|y|n|1|0) *$)"
_NO_DIGIT = r"^[^0-9]*$"
_SPECIAL = r"(?i)nan|inf|epoch"


def cast(text: str, have: "DuckDBPyType", want: "DuckDBPyType", *, tries: bool = False) -> str:
    """An expression of Spark, cast as DuckDB would.

    Args:
        text: The expression; its value is that of DuckDB.
        have: Its type in DuckDB.
        want: The type that it is to have.
        tries: Whether what cannot be cast is null: TRY_CAST.

    Raises:
        Refusal: Spark has no such cast, or one with other results.
    """
    target, source = spark_type(want), spark_type(have)
    if target is None:
        raise Refusal(f"the type {want}, which Spark has nothing for")
    if kind(have) == "null":
        return f"CAST(NULL AS {target})"
    if str(have) == str(want):
        return text
    one, two = kind(have), kind(want)
    plain = _cast(text, one, two, want, f"{'TRY_' if tries else ''}CAST", tries=tries)
    if plain is None or source is None:
        raise Refusal(f"a cast of {have} to {want}", hint=_hint(one, two))
    return plain


def _cast(text: str, one: str, two: str, want: "DuckDBPyType", how: str, *, tries: bool) -> str | None:
    target = spark_type(want)
    if one == "varchar":
        return _from_text(text, two, want, tries=tries)
    if two == "varchar":
        return f"CAST({text} AS STRING)" if one in WHOLE | {"decimal", "boolean", "date", "timestamp"} else (
            text if one == "json" else None
        )  # fmt: skip
    if one in REAL and two in WHOLE:
        return f"{how}(rint({text}) AS {target})"
    if one == "decimal" and two in WHOLE:
        return f"{how}(round({text}) AS {target})"
    if one in REAL and two == "decimal":
        power = f"1e{shape(want)[1]}D"
        return f"{how}(round(CAST({text} AS DOUBLE) * {power}) / {power} AS {target})"
    numbers = one in NUMBER and two in NUMBER
    whole = (one, two) in {(w, "boolean") for w in WHOLE} | {("boolean", w) for w in WHOLE}
    moments = one in MOMENT and two in MOMENT
    return f"{how}({text} AS {target})" if numbers or whole or moments else None


def _from_text(text: str, two: str, want: "DuckDBPyType", *, tries: bool) -> str | None:
    target = spark_type(want)
    if two in WHOLE:
        rounded = f"TRY_CAST(round(TRY_CAST(trim({text}) AS DECIMAL(38,18))) AS {target})"
        read = f"CASE WHEN {text} RLIKE {spark_text(_INTEGER)} THEN TRY_CAST(trim({text}) AS {target}) ELSE {rounded} END"
        return _read(text, f"{_INTEGER}|{_ROUNDED}", read, _NO_NUMBER, want, tries=tries)
    if two == "decimal":
        return _read(text, _DECIMAL, f"TRY_CAST(trim({text}) AS {target})", _NO_NUMBER, want, tries=tries)
    if two in REAL:
        read = f"TRY_CAST(trim({text}) AS {target})"
        return _read(text, _FLOAT, read, _NO_NUMBER, want, tries=tries, odd=_SPECIAL)
    if two == "boolean":
        return _read(text, _BOOL, f"TRY_CAST({text} AS BOOLEAN)", _NOT_BOOL, want, tries=tries)
    if two == "date":
        read = f"TRY_CAST(substr({text}, 1, 10) AS DATE)"
        return _read(text, _AWARE, read, _NO_DIGIT, want, tries=tries, odd=_SPECIAL)
    if two == "timestamp":  # DuckDB takes what the clock says, and drops the zone
        read = f"TRY_CAST(regexp_replace({text}, {spark_text(_ZONE)}, '') AS TIMESTAMP_NTZ)"
        return _read(text, _AWARE, read, _NO_DIGIT, want, tries=tries, odd=_SPECIAL)
    if two == "timestamp with time zone":
        read = f"TRY_CAST({text} AS TIMESTAMP_LTZ)"
        return _read(text, _AWARE, read, _NO_DIGIT, want, tries=tries, odd=_SPECIAL)
    return None


def _read(
    text: str, good: str, read: str, never: str, want: "DuckDBPyType", *, tries: bool, odd: str = ""
) -> str:
    """Text read as something else: where both read it alike; null or an error where neither can; else an error."""
    words = spark_text(f" is text that DuckDB and Spark may not read alike as {want}")
    stop = f"raise_error(concat({text}, {words}))"
    out = f"CASE WHEN {text} IS NULL THEN NULL WHEN {text} RLIKE {spark_text(good)} THEN "
    if not tries:
        return f"{out}coalesce({read}, {stop}) ELSE {stop} END"
    strange = f"WHEN {text} RLIKE {spark_text(odd)} THEN {stop} " if odd else ""
    return f"{out}{read} {strange}WHEN {text} RLIKE {spark_text(never)} THEN NULL ELSE {stop} END"


def _hint(one: str, two: str) -> str:
    if two == "varchar" and one in REAL:
        return "Floats are written as text in another way: cast to a DECIMAL first, or leave it a number."
    return ""
