"""`lakehouse revert`: restore an earlier state of a source."""

from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import many, open_lake, print_json

if TYPE_CHECKING:
    from lakehouse.revert import Preview


@click.command("revert")
@click.argument("source")
@click.option("--to", metavar="WHEN", required=True, help="A load number, an instant (UTC), a date or a tag.")
@click.option("--table", "tables", multiple=True, metavar="T", help="Only this table; may be repeated.")
@click.option("--keep-cursor", is_flag=True, help="Leave the pipeline's state: it goes on where it is now.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and publish nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def revert_command(ctx: click.Context, /, source: str, to: str, tables: tuple[str, ...], **how: bool) -> None:
    """Restore an earlier state of SOURCE by a new load; nothing is erased, and it can be reverted too.

    The state of the pipeline goes back with the data, so that the next run fetches again what came
    after; not where only some tables are named.
    """
    from lakehouse.revert import preview, revert

    lake = open_lake(ctx)
    options: dict[str, Any] = {"tables": tables or None, "keep_cursor": how["keep_cursor"]}
    if how["dry_run"]:
        _tell(preview(lake, source, to, **options), as_json=how["as_json"])
        return
    commit = revert(lake, source, to, **options)
    if how["as_json"]:
        print_json(None if commit is None else commit.record | {"digest": commit.digest})
    elif commit is None:
        click.echo(f"{source}: is in the state of {to} already; nothing to do")
    else:
        from lakehouse.cli.show import story

        click.echo(f"{source}: load {commit.seq}: {story(commit)}")
    if commit is not None:
        from lakehouse.duck.session import refresh

        refresh(lake)


def _tell(found: "Preview", *, as_json: bool) -> None:
    if as_json:
        tables = {
            name: {"rows_now": now, "rows_then": then} | dict(found.counts[name])
            for name, (now, then) in found.rows.items()
        }
        print_json({"source": found.source, "to": found.to, "tables": tables, "cursor": found.cursor})
        return
    for name, (now, then) in found.rows.items():
        counts = found.counts[name]
        signs = (("+", "appeared"), ("~", "changed"), ("-", "disappeared"))
        said = " ".join(f"{sign}{counts[what]:,}" for sign, what in signs if counts.get(what))
        click.echo(
            f"{found.source}.{name}: {said or 'anew'} ({many(now, 'row')} now, {many(then, 'row')} then)"
        )
    if found.cursor:
        click.echo(f"{found.source}: the state of its pipeline would go back to load {found.to}")
    if not found.rows and not found.cursor:
        click.echo(f"{found.source}: is in the state of load {found.to} already; nothing to do")
