"""`lakehouse query`. It starts at once: nothing but DuckDB is imported on the usual way."""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import open_lake
from lakehouse.errors import QueryError, SetupError, UserError

if TYPE_CHECKING:
    import duckdb

    from lakehouse.duck.session import Session

FORMATS = ("table", "csv", "json", "jsonl", "parquet")

_EXPLAIN = re.compile(r"\s*explain\b", re.IGNORECASE)
_NESTED = ("list", "array", "struct", "map", "union")
_ZONED = "TIMESTAMP WITH TIME ZONE"
_INSTANT = "strftime({} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"  # whatever the zone of the machine
_NOT_FINITE = re.compile(r'"(?:[^"\\]|\\.)*"|\bNaN\b|-?\bInfinity\b')
_CSV_SPECIAL = re.compile(r'[",\r\n]')


@click.command("query")
@click.argument("sql", required=False)
@click.option("-f", "--file", "file", type=click.File(), help="Read the SQL from a file; - is stdin.")
@click.option(
    "--as-of", metavar="WHEN", help="Turn the whole query to an instant (UTC), date, load number or tag."
)
@click.option("--format", "format_", type=click.Choice(FORMATS), help="How to print; table by default.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file.")
@lake_option
@click.pass_context
def query_command(
    ctx: click.Context,
    sql: str | None,
    file: IO[str] | None,
    as_of: str | None,
    format_: str | None,
    output: Path | None,
) -> None:
    """Ask the lake in SQL, now or as of any moment.

    Tables are SOURCE.TABLE (now), SOURCE.TABLE_at(WHEN), and lakehouse.loads, lakehouse.tables,
    lakehouse.files about the lake itself. The query is read-only.
    """
    text = _sql(sql, file)
    session = open_lake(ctx).session(as_of=as_of)
    for trouble in session.broken.values():
        click.echo(f"warning: {trouble.message}", err=True)
    format_ = format_ or (output.suffix.lstrip(".").lower() if output else "table")
    if format_ not in FORMATS:
        raise QueryError(f"{output}: no format for this ending", hint=f"Use --format {'|'.join(FORMATS)}.")
    with session.explained():
        _write(session, session.checked(text), format_, output)


def _sql(sql: str | None, file: IO[str] | None) -> str:
    if file is not None:
        return file.read()
    if sql == "-" or (sql is None and not sys.stdin.isatty()):
        return sys.stdin.read()
    if sql is None:
        raise QueryError("no SQL given", hint='Type: lakehouse query "select ...", or -f FILE.')
    return sql


def _write(session: "Session", sql: str, format_: str, output: Path | None) -> None:
    if output is None:
        if format_ == "parquet":
            raise QueryError("Parquet goes to a file", hint="Say where to: -o FILE.parquet.")
        _print(session, sql, format_, sys.stdout)
        return
    if not output.absolute().parent.is_dir():
        raise UserError(f"{output}: there is no such folder", hint="Make it first.")
    temporary = output.with_name(f".{output.name}.tmp")
    try:
        if format_ == "parquet":
            import pyarrow.parquet as pq

            pq.write_table(session.connection.sql(sql).to_arrow_table(), temporary, compression="zstd")
        else:
            with temporary.open("w", encoding="utf-8", newline="") as sink:
                _print(session, sql, format_, sink)
        temporary.replace(output)
    except OSError as error:
        raise SetupError(f"{output}: cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _print(session: "Session", sql: str, format_: str, sink: IO[str]) -> None:
    if format_ == "table":
        sink.write(_box(session.connection.sql(sql)))
    elif _EXPLAIN.match(sql):
        raise QueryError("EXPLAIN draws a plan, there are no values to print", hint="Leave out --format.")
    elif format_ == "csv":
        _print_csv(session, sql, sink)
    else:
        _print_json(session, sql, sink, lines=format_ == "jsonl")


def _print_csv(session: "Session", sql: str, sink: IO[str]) -> None:
    """Values as text; NULL is nothing at all, an empty text is `""`, nested values are JSON."""
    relation = session.connection.sql(sql)
    texts = [
        _INSTANT.format(f"c{at}")
        if str(kind) == _ZONED
        else f"to_json(c{at})"
        if kind.id in _NESTED
        else f"c{at}"
        for at, kind in enumerate(relation.types)
    ]
    sink.write(_csv_line(relation.columns))
    items = ", ".join(f"{text}::VARCHAR" for text in texts)
    for rows in _batches(
        session.connection.execute(f"SELECT {items} FROM (\n{sql}\n) AS q({_numbered(relation)})")
    ):
        sink.writelines(_csv_line(row) for row in rows)


def _csv_line(fields: Sequence[str | None]) -> str:
    if fields == (None,):
        return '""\n'  # an empty line would be read as no row
    return ",".join("" if f is None else _csv_quoted(f) for f in fields) + "\n"


def _csv_quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if not text or _CSV_SPECIAL.search(text) else text


def _print_json(session: "Session", sql: str, sink: IO[str], *, lines: bool) -> None:
    """Objects as DuckDB renders them: values keep their JSON types, JSON columns stay JSON."""
    before = "" if lines else "["
    for text in json_rows(session, sql):
        sink.write(f"{before}{text}\n")
        before = "" if lines else ","
    if not lines:
        sink.write("[]\n" if before == "[" else "]\n")


def json_rows(session: "Session", sql: str) -> Iterator[str]:
    """The rows of a query, each as a JSON object."""
    for rows in _batches(session.connection.execute(_as_json(session, sql))):
        for (text,) in rows:
            yield _finite(text)


def _as_json(session: "Session", sql: str) -> str:
    relation = session.connection.sql(sql)
    fields = []
    for at, (name, kind) in enumerate(zip(relation.columns, relation.types, strict=True)):
        value = _INSTANT.format(f"c{at}") if str(kind) == _ZONED else f"c{at}"
        fields.append("'" + name.replace("'", "''") + f"', {value}")
    return f"SELECT json_object({', '.join(fields)})::VARCHAR FROM (\n{sql}\n) AS q({_numbered(relation)})"


def _numbered(relation: "duckdb.DuckDBPyRelation") -> str:
    return ", ".join(f"c{at}" for at in range(len(relation.columns)))


def _finite(text: str) -> str:
    """JSON without NaN and infinities, which DuckDB writes and JSON does not have: null stands for them."""
    if "NaN" not in text and "Infinity" not in text:
        return text
    return _NOT_FINITE.sub(lambda found: found[0] if found[0].startswith('"') else "null", text)


def _batches(result: "duckdb.DuckDBPyConnection") -> Iterator[list[tuple[Any, ...]]]:
    while rows := result.fetchmany(10_000):
        yield rows


def _box(relation: "duckdb.DuckDBPyRelation") -> str:
    """DuckDB's own drawing of a result, as wide as the terminal."""
    import contextlib
    import io
    import shutil

    sink = io.StringIO()
    with contextlib.redirect_stdout(sink):
        relation.show(max_width=shutil.get_terminal_size((120, 40)).columns, max_rows=100)
    return sink.getvalue().rstrip("\n") + "\n"
