"""`lakehouse ingest`: run scrapers, publish what they bring."""

import os
from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import open_lake, print_json, project
from lakehouse.errors import LakehouseError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.run import RunResult
    from lakehouse.lake import Lake
    from lakehouse.project import Project


@click.command("ingest")
@click.argument("sources", nargs=-1)
@click.option("--days", type=click.IntRange(min=0), metavar="N", help="Also load the N days before today.")
@click.option("-v", "--verbose", is_flag=True, help="Say what scrapers log, retries too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def ingest_command(
    ctx: click.Context, sources: tuple[str, ...], days: int | None, verbose: bool, as_json: bool
) -> None:
    """Scrape SOURCES (all of ingest/sources/ by default); each run becomes one load.

    A source that can look back loads a few past days on its first run, so that there is some
    history to travel in. A source that fails does not keep the others from running.
    """
    from ingest.discover import scraper_names
    from lakehouse.duck.session import refresh

    _set_up_logging(verbose=verbose)
    here = project()
    names = list(sources) or scraper_names(here.root)
    if not names:
        raise UserError(
            f"{here.sources}: no scrapers", hint="Put one there: a file NAME.py with a dlt source NAME."
        )
    lake = open_lake(ctx, create=True)
    failures: list[LakehouseError] = []
    said = []
    for name in names:
        try:
            for result in _run(lake, here, name, days):
                said.append(_json(result))
                if not as_json:
                    _tell(result)
        except LakehouseError as error:
            failures.append(error)
            if verbose:
                import traceback

                traceback.print_exception(error)
            click.echo(click.style("error: ", fg="red", bold=True) + str(error), err=True)
    if failures and len(names) > 1:
        click.echo(f"{len(failures)} of {len(names)} sources failed", err=True)
    refresh(lake)
    if as_json:
        print_json(said)
    if failures:
        ctx.exit(failures[0].exit_code)


def _set_up_logging(*, verbose: bool) -> None:
    import logging

    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    if not verbose:
        logging.getLogger("stamina").setLevel(logging.ERROR)  # a retry that helps is no news


def _run(lake: "Lake", here: "Project", name: str, days: int | None) -> "Iterator[RunResult]":
    os.environ.setdefault("DLT_PROJECT_DIR", str(here.root))  # where dlt looks for .dlt/config.toml
    from ingest.discover import load_scraper
    from ingest.run import run_days
    from lakehouse.core.layout import safe_id

    scraper = load_scraper(here.root, name)
    if days and lake.log(name).head:
        click.echo(f"{name}: only days after its newest load can be added", err=True)
    if days is None:
        first = lake.log(name).head == 0
        days = scraper.first_run_days if first else 0
        if days:
            click.echo(f"{name}: first run, loading the {days} days before today too", err=True)
    return run_days(
        lake, scraper, days=days, pipelines_dir=here.work / safe_id(lake.id), gates=here.gates_of(name)
    )


def _tell(result: "RunResult") -> None:
    from lakehouse.cli.show import story

    for commit in result.commits:
        click.echo(
            f"{result.source}: load {commit.seq}, {commit.observed_at:%Y-%m-%d %H:%M}Z: {story(commit)}"
        )


def _json(result: "RunResult") -> dict[str, Any]:
    from lakehouse.core.moments import render

    return {
        "source": result.source,
        "loads": [
            {"seq": c.seq, "load_id": c.load_id, "observed_at": render(c.observed_at), "outcome": c.outcome}
            for c in result.commits
        ],
        "rows": result.rows,
        "discarded": result.discarded,
    }
