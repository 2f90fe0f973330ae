"""`lakehouse diff` and `history`: what changed between two moments, and the life of one row."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import many, open_lake, print_json, print_table
from lakehouse.cli.query import json_rows
from lakehouse.duck.names import literal, quote
from lakehouse.errors import NotFoundError, UserError

if TYPE_CHECKING:
    from lakehouse.core.log import TableLog
    from lakehouse.duck.session import Session
    from lakehouse.lake import Lake

_WIDEST = 60  # characters of a value on a line
_SIGNS = {"appeared": "+", "changed": "~", "disappeared": "-", "reappeared": "+"}
_COLOURS = {"appeared": "green", "changed": "yellow", "disappeared": "red", "reappeared": "green"}


@click.command("diff")
@click.argument("table")
@click.option(
    "--from", "start", required=True, metavar="WHEN", help="Instant (UTC), date, load number or tag."
)
@click.option("--to", "end", metavar="WHEN", help="The same; now if not given.")
@click.option(
    "-n", "--limit", type=int, default=50, show_default=True, help="How many rows to print; 0 for all."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
@lake_option
@click.pass_context
def diff_command(
    ctx: click.Context, table: str, start: str, end: str | None, limit: int, as_json: bool
) -> None:
    """Show what changed in a table (SOURCE.TABLE) between two moments.

    Rows with a key appeared, changed (old -> new) or disappeared; rows without one are counted.
    The same in SQL: select * from SOURCE.TABLE_diff('2026-11-01', '2026-11-08')
    """
    lake = open_lake(ctx)
    about = _table(lake, table)
    session = lake.session()
    source, _, name = table.partition(".")
    till = "NULL" if end is None else literal(end)
    macro = f"{quote(source)}.{quote(name + '_diff')}({literal(start)}, {till})"
    by = _key(about) or tuple(c.name for c in about.columns)
    order = ", ".join(f"d.{quote(name)}" for name in by) or "ALL"
    sql = f"SELECT * FROM {macro} AS d ORDER BY {order}"
    if as_json:
        with session.explained():
            for text in json_rows(session, sql):
                click.echo(text)
        return
    counts: dict[str, int] = {}
    shown = 0
    what, n = _system(about, "change"), _system(about, "n")
    for row in _rows(session, sql):
        counts[row[what]] = counts.get(row[what], 0) + (1 if _system(about, "before") in row else abs(row[n]))
        shown += 1
        if not limit or shown <= limit:
            click.echo(_changed(row, about))
    if limit and shown > limit:
        click.echo(f"… and {shown - limit:,} more (-n 0 for all)")
    story = ", ".join(f"{n:,} {change}" for change, n in sorted(counts.items())) or "nothing changed"
    click.echo(f"{table}, {start} to {end or 'now'}: {story}")


@click.command("history")
@click.argument("table")
@click.option(
    "--key",
    "keys",
    required=True,
    multiple=True,
    metavar="[COLUMN=]VALUE",
    help="Which row; once for each column of its key.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def history_command(ctx: click.Context, table: str, keys: tuple[str, ...], as_json: bool) -> None:
    """Tell the life of one row of a table (SOURCE.TABLE), value by value.

    The same in SQL: select * from SOURCE.TABLE_history where KEY = VALUE
    """
    lake = open_lake(ctx)
    about = _table(lake, table)
    if not _key(about):
        raise UserError(
            f"{table}: its rows have no key, so none of them has a history",
            hint=f"See: lakehouse diff {table} --from WHEN",
        )
    source, _, name = table.partition(".")
    where = " AND ".join(
        f"h.{quote(column)}::VARCHAR {'IS NULL' if value is None else '= ' + literal(value)}"
        for column, value in _wanted(about, keys).items()
    )
    by = quote(_system(about, "from_load"))
    sql = f"SELECT * FROM {quote(source)}.{quote(name + '_history')} AS h WHERE {where} ORDER BY h.{by}"
    rows = list(_rows(lake.session(), sql))
    if not rows:
        raise NotFoundError(
            f"{table}: there never was a row with the key {' '.join(keys)}",
            hint=f"See its keys: lakehouse query 'select * from {table}_history'",
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        ["from (UTC)", "load", "what", "column", "old", "new"], list(_life(rows, about)), right=("load",)
    )
    values = {c.name: rows[-1][c.name] for c in about.columns}
    click.echo(f"\n{many(len(rows), 'change')}; the newest values:")
    for column, value in values.items():
        if value is not None:
            click.echo(f"  {column}: {_short(value)}")
    empty = [column for column, value in values.items() if value is None]
    if empty:
        click.echo(f"  null: {', '.join(empty)}")


def _table(lake: "Lake", table: str) -> "TableLog":
    log, name = lake.table(table)
    return log.tables[name]


def _key(table: "TableLog") -> tuple[str, ...]:
    return table.eras[-1].key


def _system(table: "TableLog", name: str) -> str:
    """A column of a history as it is called in this table."""
    from lakehouse.duck.versions import outside

    return outside([name], table.columns)[0][1:-1]


def _wanted(table: "TableLog", given: Sequence[str]) -> dict[str, str | None]:
    """The value asked for in each column of the key."""
    key = _key(table)
    found: dict[str, str | None] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if equals and name in key:
            found[name] = value
        elif len(key) == 1:
            found[key[0]] = text
        else:
            raise UserError(
                f"--key {text}: the key has {len(key)} columns",
                hint=f"Say: {' '.join(f'--key {k}=…' for k in key)}",
            )
    missing = [name for name in key if name not in found]
    if missing:
        raise UserError(
            f"the key lacks {', '.join(missing)}", hint=f"Say: {' '.join(f'--key {k}=…' for k in key)}"
        )
    return found


def _rows(session: "Session", sql: str) -> Iterator[dict[str, Any]]:
    with session.explained():
        yield from map(json.loads, json_rows(session, sql))


def _changed(row: dict[str, Any], table: "TableLog") -> str:
    """One line of a diff: what happened to which row, and old -> new."""
    change, n = row[_system(table, "change")], row.get(_system(table, "n"))
    key = _key(table) if _system(table, "before") in row else ()
    values = {c.name: row[c.name] for c in table.columns}
    if change == "changed":
        before = row[_system(table, "before")]
        columns = row[_system(table, "changed_columns")]
        told = "; ".join(f"{c}: {_short(before[c])} -> {_short(values[c])}" for c in columns)
    else:
        told = ", ".join(f"{c}: {_short(v)}" for c, v in values.items() if c not in key and v is not None)
    which = " ".join(_short(values[k]) for k in key) or (f"{abs(n)} x" if n is not None and not key else "")
    sign = click.style(f"{_SIGNS[change]} {which}", fg=_COLOURS[change])
    return f"{sign}  {told}".rstrip()


def _life(rows: Sequence[dict[str, Any]], table: "TableLog") -> Iterator[tuple[Any, ...]]:
    """The lines of a row's life: one for each value that changed."""
    at, load, what, changed = (
        _system(table, n) for n in ("valid_from", "from_load", "change", "changed_columns")
    )
    before: dict[str, Any] = {}
    for row in rows:
        columns = row[changed] if row[what] == "changed" else []
        lead: tuple[Any, ...] = (row[at][:19].replace("T", " "), row[load], row[what])
        if not columns:
            yield (*lead, "", "", "")
        for column in columns:
            yield (*lead, column, _short(before.get(column)), _short(row[column]))
            lead = ("", "", "")
        before = row


def _short(value: Any) -> str:
    """A value on part of a line."""
    text = (
        "null"
        if value is None
        else value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False)
    )
    text = " ".join(text.split())
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
