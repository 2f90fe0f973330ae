"""`lakehouse tag`: names for moments of the whole lake."""

from typing import TYPE_CHECKING

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import many, open_lake, print_json, print_table, project_or_none

if TYPE_CHECKING:
    from lakehouse.core.tag import Tag


@click.group("tag")
def tag_command() -> None:
    """Name a moment of the whole lake; look at such names, delete them.

    A tag is a position in the log of every source. It is used like an instant:
    lakehouse query --as-of NAME, shop.products_at('NAME').
    """


@tag_command.command("create")
@click.argument("name")
@click.option("--as-of", metavar="WHEN", help="An instant (UTC), date, load number or tag; now by default.")
@click.option("--note", metavar="TEXT", help="What it is for.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def create_command(ctx: click.Context, name: str, as_of: str | None, note: str | None, as_json: bool) -> None:
    """Give a moment a name: now, or an earlier one. A name is never moved to another moment."""
    from lakehouse.duck.session import refresh
    from lakehouse.tags import create

    lake = open_lake(ctx)
    tag = create(lake, name, as_of, note=note)
    refresh(lake)
    if as_json:
        print_json(tag.to_json())
    else:
        click.echo(f"{tag.name}: {_where(tag)}")


@tag_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def list_command(ctx: click.Context, as_json: bool) -> None:
    """List them by name."""
    from lakehouse.tags import read_tags

    found, broken = read_tags(open_lake(ctx).store)
    for trouble in broken.values():
        click.echo(f"warning: {trouble}", err=True)
    if as_json:
        print_json([tag.to_json() for tag in found.values()])
        return
    print_table(
        ["tag", "as of", "created (UTC)", "loads", "note"],
        [
            (t.name, t.as_of or "then", f"{t.created_at:%Y-%m-%d %H:%M:%S}", _where(t), t.note)
            for t in found.values()
        ],
    )


@tag_command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def show_command(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show one: which load of each source it names."""
    from lakehouse.tags import find

    tag = find(open_lake(ctx), name)
    if as_json:
        print_json(tag.to_json())
        return
    asked = f", as of {tag.as_of}" if tag.as_of else ""
    click.echo(f"{tag.name}: created {tag.created_at:%Y-%m-%d %H:%M:%S} UTC{asked}")
    if tag.note:
        click.echo(tag.note)
    print_table(
        ["source", "load", "digest of its commit"],
        [(source, seq, tag.digests[source]) for source, seq in tag.positions.items()],
        right=("load",),
    )


@tag_command.command("delete")
@click.argument("name")
@lake_option
@click.pass_context
def delete_command(ctx: click.Context, name: str) -> None:
    """Delete one: the name, and nothing of what it names."""
    from lakehouse.duck.session import refresh
    from lakehouse.tags import delete

    lake = open_lake(ctx)
    delete(lake, name)
    refresh(lake)
    click.echo(f"{name}: deleted; what it named is still there")
    here = project_or_none()
    if here is not None and here.mirrors and not ctx.obj:
        click.echo(f"A mirror that has it keeps it: lakehouse tag delete {name} --lake URL")


def _where(tag: "Tag", most: int = 3) -> str:
    seen = [f"{source} load {seq}" for source, seq in tag.positions.items() if seq]
    more = f" and {many(len(seen) - most, 'source')} more" if len(seen) > most else ""
    return ", ".join(seen[:most]) + more
