"""`lakehouse docs`: a static catalogue of the lake and its models."""

from pathlib import Path

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import many, open_lake, print_json, project_or_none, size

FOLDER = "docs-site"  # in the project; git ignores it in one that `lakehouse init` made


@click.group("docs")
def docs_command() -> None:
    """Make a catalogue of the lake and its models: one page that works without a server."""


@docs_command.command("build")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help=f"Where the page goes; {FOLDER} in the project by default.",
)
@click.option("--title", default="", metavar="TEXT", help="What the catalogue is called.")
@click.option("--json", "as_json", is_flag=True, help="Print the catalogue as JSON; write no page.")
@lake_option
@click.pass_context
def build_command(ctx: click.Context, output: Path | None, title: str, as_json: bool) -> None:
    """Write the catalogue: tables, columns and types over time, row counts, models, tests, lineage.

    It is read from the logs alone, so a mirror has the same one. The same logs give the same page.
    """
    from lakehouse.models.site import write
    from lakehouse.models.site.catalogue import collect

    catalogue = collect(open_lake(ctx), title=title)
    if as_json:
        print_json(catalogue)
        return
    for problem in catalogue["problems"]:
        click.echo(f"warning: {problem['message']}", err=True)
    path = write(catalogue, output or _folder())
    models = sum(table["kind"] not in {"source", "dropped"} for table in catalogue["tables"])
    tables = many(len(catalogue["tables"]) - models, "table")
    click.echo(f"{path}: {tables}, {many(models, 'model')}, {size(path.stat().st_size)}")


def _folder() -> Path:
    project = project_or_none()
    return (project.root if project else Path.cwd()) / FOLDER
