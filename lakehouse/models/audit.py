"""Tests of models: from what a header says to SQL that finds the rows that should not be, and its run.

A test is held against a relation `models.<name>` of the connection, a candidate or what is published. The rows
that it finds are counted exactly. Where they are kept to be looked at is in `failures.py`.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from lakehouse.core.moments import to_utc
from lakehouse.duck.names import literal, quote
from lakehouse.errors import UserError
from lakehouse.models.model import SOURCE, Model, Test
from lakehouse.models.place import near

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

KEPT_ROWS = 10_000  # failing rows that are read and kept; all are counted
_ROW = "_lake_m"  # the model, in the SQL of a test


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a test found.

    Attributes:
        model: Name of the model.
        test: The test as people read it, such as `not_null(price)`.
        kind: Kind of the test, as `Test.kind` has it.
        columns: The columns that it looks at; empty where it looks at whole rows.
        severity: `error` or `warn`.
        failures: How many rows should not be there; 0 where it passed.
        sample: The first `KEPT_ROWS` of them; None where it passed.
        statement: The SELECT that finds them.
        place: The file and line that say so, `models/daily.sql:7`; empty if not known.
    """

    model: str
    test: str
    kind: str
    columns: tuple[str, ...]
    severity: str
    failures: int
    sample: "pa.Table | None"
    statement: str
    place: str = ""

    @property
    def passed(self) -> bool:
        """Whether it found nothing."""
        return self.failures == 0

    @property
    def blocks(self) -> bool:
        """Whether it keeps the model from being published."""
        return self.failures > 0 and self.severity == "error"


def tests_of(model: Model) -> tuple[Test, ...]:
    """The tests of a model: that its key is unique, unless it says so itself, and those of its header."""
    key = {column.lower() for column in model.key}
    says_so = any(
        test.kind == "unique" and {c.lower() for c in test.arguments["columns"]} == key
        for test in model.tests
    )
    if not key or says_so:
        return model.tests
    return (Test(kind="unique", arguments={"columns": list(model.key)}), *model.tests)


def label(test: Test) -> str:
    """A test as people read it: `not_null(sku, day)`, `relationships(sku -> shop.products.sku)`."""
    if test.kind == "sql":
        return f"sql({PurePosixPath(test.arguments['path']).stem})"
    if test.kind == "relationships":
        return f"relationships({test.arguments['column']} -> {test.arguments['to']})"
    columns = columns_of(test)
    return f"{test.kind}({', '.join(columns)})" if columns else test.kind


def columns_of(test: Test) -> tuple[str, ...]:
    """The columns of the model that a test looks at."""
    named = test.arguments.get("columns", test.arguments.get("column", ()))
    return (str(named),) if isinstance(named, str) else tuple(map(str, named))


def run(
    connection: "duckdb.DuckDBPyConnection",
    model_name: str,
    test: Test,
    *,
    now: datetime | None,
    path: str = "",
) -> Outcome:
    """Hold a test against the relation `models.<model_name>` of a connection.

    Args:
        connection: Where the relation is, and those that the test names; its zone is UTC.
        model_name: Name of the model.
        test: The test.
        now: The newest load that the model read, for `freshness`; None if it reads none.
        path: The file that says so, for messages.

    Raises:
        UserError: The test names a column or table that is not there, or cannot be computed.
    """
    where = _place(test, path)
    told = f"{where + ': ' if where else ''}test {label(test)} of {SOURCE}.{model_name}"
    with _explained(told, test):
        _check_columns(connection, f"{quote(SOURCE)}.{quote(model_name)}", columns_of(test), told)
        if test.kind == "relationships":
            *table, column = target(test)
            _check_columns(connection, ".".join(map(quote, table)), [column], told)
        if test.kind == "freshness" and now is None:
            raise UserError(f"{told}: the model reads no load to compare with", hint="Take the test out.")
        failing = statement(model_name, test, now=now)
        failures = connection.execute(count_statement(model_name, test, now=now)).fetchall()[0][0]
        sample = _sample(connection, failing) if failures else None
    return Outcome(
        model=model_name, test=label(test), kind=test.kind, columns=columns_of(test), severity=test.severity,
        failures=failures, sample=sample, statement=failing, place=where,
    )  # fmt: skip


def statement(model_name: str, test: Test, *, now: datetime | None = None) -> str:
    """The SELECT that finds the failing rows of `models.<model_name>`; see `run`."""
    if test.kind == "sql":
        return str(test.arguments["sql"])
    return _STATEMENTS[test.kind](f"{quote(SOURCE)}.{quote(model_name)} AS {_ROW}", test.arguments, now)


def count_statement(model_name: str, test: Test, *, now: datetime | None = None) -> str:
    """A SELECT of their number that is as cheap as can be: most tests pass."""
    if test.kind == "unique":
        keys = _columns(test.arguments["columns"])
        groups = f"SELECT count(*) AS n FROM {quote(SOURCE)}.{quote(model_name)} AS {_ROW} GROUP BY {keys} HAVING count(*) > 1"
        return f"SELECT coalesce(sum(n), 0)::BIGINT FROM ({groups})"
    return f"SELECT count(*) FROM (\n{statement(model_name, test, now=now)}\n)"


def _sample(connection: "duckdb.DuckDBPyConnection", failing: str) -> "pa.Table":
    # Not a LIMIT: DuckDB 2.0 waits for ever for rows that are read twice in a text when one stops early.
    first = f"SELECT * FROM (\n{failing}\n) QUALIFY row_number() OVER () <= {KEPT_ROWS}"
    return connection.sql(first).to_arrow_table()


# The statements. Columns are qualified; nulls pass, except where a test is about them.


def _unique(rows: str, arguments: Mapping[str, Any], _: datetime | None) -> str:
    keys = _columns(arguments["columns"])
    return f"SELECT * FROM {rows} QUALIFY count(*) OVER (PARTITION BY {keys}) > 1"


def _not_null(rows: str, arguments: Mapping[str, Any], _: datetime | None) -> str:
    nulls = " OR ".join(f"{_column(name)} IS NULL" for name in arguments["columns"])
    return f"SELECT * FROM {rows} WHERE {nulls}"


def _accepted_values(rows: str, arguments: Mapping[str, Any], _: datetime | None) -> str:
    column = _column(arguments["column"])
    # One by one, not IN, which would bring values of several types to one first.
    same = [f"{column} = {sql_value(value)}" for value in arguments["values"] if value is not None]
    return f"SELECT * FROM {rows} WHERE {column} IS NOT NULL AND NOT ({' OR '.join(same) or 'false'})"


def _relationships(rows: str, arguments: Mapping[str, Any], _: datetime | None) -> str:
    source, table, column = _split(arguments["to"])
    target = f"{quote(source)}.{quote(table)} AS _lake_t"
    mine = _column(arguments["column"])
    return f"SELECT * FROM {rows} ANTI JOIN {target} ON {mine} = _lake_t.{quote(column)} WHERE {mine} IS NOT NULL"


def _range(rows: str, arguments: Mapping[str, Any], _: datetime | None) -> str:
    return f"SELECT * FROM {rows} WHERE {_outside(_column(arguments['column']), arguments)}"


def _row_count(rows: str, arguments: Mapping[str, Any], _: datetime | None) -> str:
    return f"SELECT count(*) AS row_count FROM {rows} HAVING {_outside('count(*)', arguments)}"


def _freshness(rows: str, arguments: Mapping[str, Any], now: datetime | None) -> str:
    assert now is not None  # noqa: S101 - `run` says so to people
    newest, load = f"max({_column(arguments['column'])}::TIMESTAMPTZ)", sql_value(now)
    late = f"{newest} < {load} - CAST({literal(str(arguments['within']))} AS INTERVAL)"
    return f"SELECT {newest} AS newest, {load} AS newest_load FROM {rows} HAVING coalesce({late}, true)"


_STATEMENTS: Mapping[str, Callable[[str, Mapping[str, Any], datetime | None], str]] = {
    "unique": _unique,
    "not_null": _not_null,
    "accepted_values": _accepted_values,
    "relationships": _relationships,
    "range": _range,
    "row_count": _row_count,
    "freshness": _freshness,
}


def _outside(expression: str, arguments: Mapping[str, Any]) -> str:
    low, high = arguments.get("min"), arguments.get("max")
    bounds = [f"{expression} < {sql_value(low)}"] if low is not None else []
    bounds += [f"{expression} > {sql_value(high)}"] if high is not None else []
    return " OR ".join(bounds) or "false"


def _column(name: str) -> str:
    return f"{_ROW}.{quote(name)}"


def _columns(names: list[str]) -> str:
    return ", ".join(map(_column, names))


def target(test: Test) -> tuple[str, str, str]:
    """Source, table and column that a `relationships` looks into; `daily.sku` is a column of a model."""
    return _split(test.arguments["to"])


def _split(text: str) -> tuple[str, str, str]:
    source, table, *column = text.split(".", 2)
    return (source, table, column[0]) if column else (SOURCE, source, table)


def sql_value(value: Any) -> str:
    """A value of YAML as an SQL literal of its type.

    Raises:
        UserError: SQL has no such value.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"'{value}'::DOUBLE"
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
        return f"TIMESTAMPTZ '{to_utc(value).isoformat(sep=' ')}'"
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, bytes):
        return f"from_hex('{value.hex()}')"
    raise UserError(
        f"{value!r} is no value that a column can have", hint="Give a number, a text, a date or a boolean."
    )


# What people got wrong.


def _place(test: Test, path: str) -> str:
    if test.kind == "sql":
        return str(test.arguments["path"])
    return f"{path}:{test.line}" if path else ""


def _check_columns(
    connection: "duckdb.DuckDBPyConnection", relation: str, wanted: "tuple[str, ...] | list[str]", told: str
) -> None:
    if not wanted:
        return
    there = {
        str(row[0]).lower(): str(row[0]) for row in connection.execute(f"DESCRIBE {relation}").fetchall()
    }
    for name in wanted:
        if name.lower() not in there:
            raise UserError(
                f"{told}: {relation.replace(chr(34), '')} has no column {name!r}",
                hint=_meant(name, there.values()),
            )


def _meant(name: str, there: Collection[str]) -> str:
    """A hint that says what a wrong name may have meant, or else what there is."""
    found = near(name, there)
    return f"Did you mean {' or '.join(found)}?" if found else f"There is: {', '.join(there)}."


@contextmanager
def _explained(told: str, test: Test) -> Iterator[None]:
    """Turn DuckDB's errors into ours, which name the test."""
    import duckdb

    from lakehouse.duck.trouble import plain

    try:
        yield
    except duckdb.CatalogException as error:
        raise UserError(f"{told}: {plain(error)}", hint="See what there is: lakehouse tables") from None
    except duckdb.Error as error:
        raise UserError(f"{told} cannot be computed: {plain(error)}", hint=_hint(test)) from None


def _hint(test: Test) -> str:
    if test.kind in {"accepted_values", "range"}:
        return "Values are compared as in SQL: write a text in quotes, a number or a date without."
    if test.kind == "freshness":
        return "It takes a column of dates or timestamps, and a time such as 2 days or 36 hours."
    if test.kind == "relationships":
        return "The two columns have to be of types that SQL compares."
    return "The SQL of the model, or of the test, fails on these rows."
