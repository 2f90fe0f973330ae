"""`lakehouse quarantine`: loads that a gate refused."""

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import many, open_lake, print_json, print_table


@click.group("quarantine")
def quarantine_command() -> None:
    """Look at loads that a gate refused; approve or discard them."""


@quarantine_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def list_command(ctx: click.Context, as_json: bool) -> None:
    """List them, oldest first."""
    from lakehouse.quarantine import listed

    found = listed(open_lake(ctx))
    if as_json:
        print_json([_json(refused) for refused in found])
        return
    print_table(
        ["load", "source", "refused (UTC)", "rows", "reasons"],
        [
            (
                r.load_id,
                r.source,
                f"{r.refused_at:%Y-%m-%d %H:%M:%S}",
                sum(r.rows.values()),
                "; ".join(r.reasons),
            )
            for r in found
        ],
        right=("rows",),
    )


@quarantine_command.command("show")
@click.argument("load_id")
@click.option("-n", "--rows", type=int, default=10, show_default=True, help="How many rows of each table.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: all rows.")
@lake_option
@click.pass_context
def show_command(ctx: click.Context, load_id: str, rows: int, as_json: bool) -> None:
    """Show the reasons and the rows of one."""
    from lakehouse.quarantine import find, rows_of

    lake = open_lake(ctx)
    refused = find(lake, load_id)
    tables = {name: rows_of(lake, refused, name) for name in refused.rows}
    if as_json:
        print_json(_json(refused) | {"data": {name: table.to_pylist() for name, table in tables.items()}})
        return
    click.echo(
        f"{refused.source}: load {refused.load_id}, observed {refused.observed_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    for reason in refused.reasons:
        click.echo(f"  refused: {reason}")
    for name, table in tables.items():
        first = f", the first {rows} of them" if table.num_rows > rows else ""
        click.echo(f"\n{name}: {many(table.num_rows, 'row')}{first}")
        shown = table.slice(0, rows).to_pylist()
        print_table(table.column_names, [tuple(row.values()) for row in shown])


@quarantine_command.command("approve")
@click.argument("load_id")
@lake_option
@click.pass_context
def approve_command(ctx: click.Context, load_id: str) -> None:
    """Publish one after all, as it was observed."""
    from lakehouse.duck.session import refresh
    from lakehouse.quarantine import approve

    lake = open_lake(ctx)
    commit = approve(lake, load_id)
    refresh(lake)
    click.echo(f"{commit.source}: published as load {commit.seq}")


@quarantine_command.command("discard")
@click.argument("load_id")
@lake_option
@click.pass_context
def discard_command(ctx: click.Context, load_id: str) -> None:
    """Delete one for good."""
    from lakehouse.quarantine import discard

    refused = discard(open_lake(ctx), load_id)
    click.echo(f"{refused.source}: load {refused.load_id} is discarded")


def _json(refused: "object") -> dict[str, object]:
    from dataclasses import asdict

    return asdict(refused)  # type: ignore[call-overload, no-any-return]
