"""`lakehouse schema`: how the shape of a table drifted over its history."""

from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import many, open_lake, print_json, print_table
from lakehouse.core.moments import render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakehouse.core.drift import Event
    from lakehouse.core.log import Log


@click.command("schema")
@click.argument("table")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object for each event.")
@lake_option
@click.pass_context
def schema_command(ctx: click.Context, table: str, as_json: bool) -> None:
    """Say when each column of a table (SOURCE.TABLE) came, went and changed its type, load by load.

    A column that is null in all rows of a load is there all the same. A type that is narrower than
    before is no change: the column held such values all along.
    """
    from lakehouse.core.drift import WENT, drift

    log, name = open_lake(ctx).table(table)
    found = drift(log.tables[name])
    if as_json:
        print_json([_json(log, event) for event in found])
        return
    steps = len({event.seq for event in found})
    there = {column: event.what != WENT for event in found if (column := event.column)}
    gone = len(there) - sum(there.values())
    click.echo(
        f"{log.source}.{name}: {many(sum(there.values()), 'column')}, {gone:,} gone; "
        f"{many(len(log.tables[name].changes), 'load')}, of which {steps:,} changed the shape\n"
    )
    print_table(["load", "effective (UTC)", "what", "", "columns"], list(_lines(log, found)), right=("load",))


def _json(log: "Log", event: "Event") -> dict[str, Any]:
    commit = log.commits[event.seq - 1]
    about: dict[str, Any] = {"seq": event.seq, "effective_at": render(commit.effective_at)}
    if commit.reverts_to is not None:
        about["reverts_to"] = commit.reverts_to
    return about | event.to_json()


def _lines(log: "Log", events: "list[Event]") -> "Iterator[tuple[Any, ...]]":
    """Columns to which the same happened in one load share a line."""
    from lakehouse.core.drift import detail

    for seq, of_load in groupby(events, key=lambda event: event.seq):
        commit = log.commits[seq - 1]
        first: tuple[Any, ...] = (seq, f"{commit.effective_at:%Y-%m-%d %H:%M:%S}")
        if commit.reverts_to is not None:
            yield (*first, "reverted", f"to load {commit.reverts_to}", "")
            first = ("", "")
        lines: dict[tuple[str, str], list[str]] = {}
        for event in of_load:
            lines.setdefault((event.what, detail(event)), []).append(event.column or "")
        for (what, told), columns in lines.items():
            yield (*first, what, told, ", ".join(filter(None, columns)))
            first = ("", "")
