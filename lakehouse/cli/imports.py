"""`lakehouse import`: scraped histories, from git or from folders of dated files."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import many, open_lake
from lakehouse.core.layout import MODELS
from lakehouse.errors import UserError

if TYPE_CHECKING:
    from ingest.importing import ImportResult
    from lakehouse.lake import Lake

KINDS = ("json", "jsonl", "csv", "tsv")


@click.group("import")
def import_command() -> None:
    """Bring a scraped history in: every version becomes a load, observed at its own time."""


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option("--source", required=True, metavar="S", help="Source to import into: one history each."),
        click.option("--table", required=True, metavar="T", help="Table to import into."),
        click.option(
            "--key", multiple=True, metavar="COL", help="Column that identifies a row; may be repeated."
        ),
        click.option(
            "--rows", metavar="PATH", help="Where the rows are in a JSON document, such as data.items."
        ),
        click.option(
            "--kind", type=click.Choice(KINDS), help="How to parse; by the file's ending if not given."
        ),
        click.option(
            "--volatile", multiple=True, metavar="COL", help="Column that does not make a row changed."
        ),
        lake_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


@import_command.command("git")
@click.argument("repo", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("file")
@click.option("--ref", default="HEAD", show_default=True, help="Branch, tag or commit.")
@_common
@click.pass_context
def git_command(
    ctx: click.Context, /, repo: Path, file: str, ref: str, key: tuple[str, ...], **options: Any
) -> None:
    """Import every version of FILE in the git history of REPO (a work tree or bare).

    FILE counts from the repository's root; "new.json,old.json" follows a rename. First-parent
    order, author time. Running it again imports what is new.
    """
    from ingest.importing import import_git

    lake = open_lake(ctx, create=True)
    _run(
        lake,
        options["source"],
        lambda bar: import_git(lake, repo, file, ref=ref, key=key, progress=bar, **options),
    )


@import_command.command("files")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--time-from",
    type=click.Choice(("auto", "name", "index", "mtime")),
    default="auto",
    show_default=True,
    help="Where each file's time is: in its name, in index.csv, or its modification time.",
)
@click.option("--pattern", metavar="GLOB", help="Take only files that fit, such as '*.json'.")
@_common
@click.pass_context
def files_command(
    ctx: click.Context,
    /,
    folder: Path,
    time_from: Any,
    pattern: str | None,
    key: tuple[str, ...],
    **options: Any,
) -> None:
    """Import a FOLDER of dated snapshots of one file, oldest first."""
    from ingest.importing import import_files

    lake = open_lake(ctx, create=True)
    _run(
        lake,
        options["source"],
        lambda bar: import_files(
            lake, folder, time_from=time_from, pattern=pattern, key=key, progress=bar, **options
        ),
    )


def _run(lake: "Lake", source: str, work: "Callable[[Any], ImportResult]") -> None:
    if source.lower() == MODELS:
        raise UserError(
            f"the source {source!r} is that of models, which `lakehouse build` publishes",
            hint="Choose another name.",
        )
    from lakehouse.cli.progress import bar
    from lakehouse.duck.session import refresh

    with bar(f"importing {source}", "versions") as progress:
        result = work(progress)
    refresh(lake)
    new = sum(result.outcomes.values())
    said = ", ".join(f"{n:,} {outcome}" for outcome, n in sorted(result.outcomes.items(), reverse=True))
    click.echo(
        f"{source}: {many(new, 'new load')}"
        + (f" ({said})" if said else "")
        + f" of {many(result.versions, 'version')}"
    )
    for seq, reason in result.failures[:5]:
        click.echo(f"  load {seq} failed: {reason}", err=True)
    if len(result.failures) > 5:  # noqa: PLR2004 - a handful is enough to see what is going on
        click.echo(f"  … all of them: lakehouse log {source} --failed --last 0", err=True)
    if result.earlier_name:
        click.echo(
            f"  note: before its first version here the file was {result.earlier_name}; "
            f'to have that history too, import "FILE,{result.earlier_name}" into a new source',
            err=True,
        )
    if result.repeated_keys:
        click.echo(
            f"  warning: in {many(result.repeated_keys, 'version')} several rows have the same key; they are kept, "
            "and change together",
            err=True,
        )
