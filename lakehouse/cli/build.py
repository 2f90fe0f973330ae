"""`lakehouse build` and `lakehouse test`: models."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import many, open_lake, print_json, print_table, project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakehouse.lake import Lake
    from lakehouse.models.build import Built, Outcome
    from lakehouse.models.events import Events
    from lakehouse.project import Project

_SHOWN = 20  # rows of each failing test
_MARKS = {
    "built": "green",
    "defined": "green",
    "described": "green",
    "failed": "red",
    "refused": "red",
    "skipped": "yellow",
}


@click.command("build")
@click.argument("models", nargs=-1)
@click.option(
    "--select",
    "-s",
    multiple=True,
    metavar="MODEL",
    help="Only these: name, +name (and what it reads), name+ (and what reads it), with * too.",
)
@click.option("--exclude", multiple=True, metavar="MODEL", help="Not these.")
@click.option("--as-of", metavar="WHEN", help="Read everything as of this moment.")
@click.option("--full", is_flag=True, help="Compute the whole of each, out of date or not.")
@click.option("--engine", type=click.Choice(["duckdb", "spark"]), default="duckdb", show_default=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write Parquet files there instead of publishing.",
)
@click.option("--dry-run", is_flag=True, help="Say what is out of date, and why; do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def build_command(
    ctx: click.Context,
    models: tuple[str, ...],
    select: tuple[str, ...],
    exclude: tuple[str, ...],
    as_of: str | None,
    full: bool,
    engine: str,
    output: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Build what is out of date of MODELS (all of models/ by default), in order, and publish it as one commit.

    A model that fails a test is not published, nor is what reads it: readers keep the version of before.
    """
    from lakehouse.models.build import build, work
    from lakehouse.models.plan import read

    here = project()
    lake = open_lake(ctx)
    plan = read(lake, here.root, select=[*models, *select], exclude=exclude, full=full)
    if dry_run:
        found = work(lake, plan)
        if as_json:
            print_json({name: list(reasons) for name, reasons in found.items()})
        for name, reasons in found.items() if not as_json else ():
            click.echo(f"{name}: {', '.join(reasons)}")
        for name in plan.removed if not as_json else ():
            click.echo(f"{name}: its file is gone")
        if not found and not plan.removed and not as_json:
            click.echo(_up_to_date(len(plan.chosen)))
        return
    with _events(here, lake, as_of) as events:
        built = build(lake, here.root, plan, as_of=as_of, engine=engine, output=output, events=events)
    if built.commit is not None:
        from lakehouse.duck.session import refresh

        for trouble in refresh(lake).values():
            click.echo(f"warning: {trouble}", err=True)
    if as_json:
        print_json(_json(built))
    else:
        _tell(built, output)
    if built.bad:
        ctx.exit(exit_code(built))


@contextlib.contextmanager
def _events(here: "Project", lake: "Lake", as_of: str | None) -> "Iterator[Events | None]":
    """Whom to tell of the build, if the project or the environment says so."""
    if not here.openlineage and not any(name.startswith("OPENLINEAGE_") for name in os.environ):
        yield None
        return
    from datetime import UTC, datetime

    from lakehouse.duck.asof import instant_of
    from lakehouse.models.events import Events
    from lakehouse.models.openlineage import Emitter

    us = None if as_of is None else instant_of(as_of)
    at = None if us is None else datetime.fromtimestamp(us / 1e6, UTC)
    emitter = Emitter.from_settings(here.openlineage, os.environ, lake_url=lake.url, root=here.root)
    with emitter or contextlib.nullcontext():
        yield Events(emitter, at) if emitter else None


@click.command("test")
@click.argument("models", nargs=-1)
@click.option(
    "--select", "-s", multiple=True, metavar="MODEL", help="Only these; as `lakehouse build` takes it."
)
@click.option("--as-of", metavar="WHEN", help="As they were at this moment.")
@click.option("--failures", is_flag=True, help="Show the rows that the last build refused.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def test_command(
    ctx: click.Context,
    models: tuple[str, ...],
    select: tuple[str, ...],
    as_of: str | None,
    failures: bool,
    as_json: bool,
) -> None:
    """Hold MODELS, as they are published, against their tests."""
    from lakehouse.models.build import check
    from lakehouse.models.plan import read

    here = project()
    lake = open_lake(ctx)
    if failures:
        _show_failures(lake, models, as_json=as_json)
        return
    built = check(lake, here.root, read(lake, here.root, select=[*models, *select]), as_of=as_of)
    if as_json:
        print_json(_json(built))
    else:
        for outcome in built.outcomes:
            _tell_tests(outcome, passed=True)
            if outcome.error is not None:
                click.echo(click.style("error: ", fg="red", bold=True) + str(outcome.error), err=True)
        tests = [test for outcome in built.outcomes for test in outcome.tests]
        bad, warned = (
            sum(test.blocks for test in tests),
            sum(not test.passed and not test.blocks for test in tests),
        )
        click.echo(
            f"{many(len(tests), 'test')}, {bad} failed" + (f", {many(warned, 'warning')}" if warned else "")
        )
    if built.bad:
        ctx.exit(exit_code(built))


def _show_failures(lake: "Lake", models: tuple[str, ...], *, as_json: bool) -> None:
    from lakehouse.models.failures import kept_failures, read_failures

    found = [kept for name in models or (None,) for kept in kept_failures(lake, name)]
    if as_json:
        fields = ("model", "test", "severity", "failures", "statement", "place", "path")
        print_json([
            {name: getattr(kept, name) for name in fields} | {"rows": read_failures(lake, kept).to_pylist()}
            for kept in found
        ])  # fmt: skip
        return
    for kept in found:
        click.echo(f"{kept.model}: {kept.test}: {many(kept.failures, 'row')}, in {kept.path}")
        rows = read_failures(lake, kept).slice(0, _SHOWN)
        print_table(rows.column_names, [tuple(row.values()) for row in rows.to_pylist()])
    if not found:
        click.echo("no rows are kept: the last tests found none")


def exit_code(built: "Built") -> int:
    """3 where a test refused something; else that of the first error."""
    if any(outcome.status == "refused" for outcome in built.bad):
        return 3
    return next((outcome.error.exit_code for outcome in built.bad if outcome.error), 1)


def _tell(built: "Built", output: Path | None) -> None:
    told = [outcome for outcome in built.outcomes if outcome.status != "kept"]
    wide = max((len(outcome.name) for outcome in told), default=0)
    for outcome in told:
        mark = click.style(f"{outcome.status:<9}", fg=_MARKS[outcome.status])
        click.echo(f"{mark}  {outcome.name:<{wide}}  {_about(built, outcome)}".rstrip())
        _tell_tests(outcome, passed=False)
        if outcome.error is not None and outcome.status == "failed":
            click.echo(click.style("error: ", fg="red", bold=True) + str(outcome.error), err=True)
    for name in built.removed:
        click.echo(f"removed    {name}  its file is gone; what was stored of it stays in the history")
    if output is not None:
        click.echo(f"{many(sum(o.good for o in built.outcomes), 'model')} written to {output}")
    elif built.commit is not None:
        kept = sum(outcome.status == "kept" for outcome in built.outcomes)
        also = f"; {kept:,} up to date" if kept else ""
        click.echo(
            f"models: load {built.commit.seq}, as of {built.commit.effective_at:%Y-%m-%d %H:%M}Z{also}"
        )
    elif not told:
        click.echo(_up_to_date(len(built.outcomes)))
    if built.bad:
        click.echo(
            f"{many(len(built.bad), 'model')} not published; readers keep the version of before", err=True
        )


def _up_to_date(n: int) -> str:
    return f"{many(n, 'model')} up to date" if n else "no models: put a SELECT into models/NAME.sql"


def _about(built: "Built", outcome: "Outcome") -> str:
    """What became of a model, in a few words."""
    if outcome.status == "skipped":
        return "; ".join(filter(None, (outcome.error.message, outcome.error.hint))) if outcome.error else ""
    words = [", ".join(outcome.reasons)]
    if outcome.whole and outcome.whole not in outcome.reasons:
        words.append(f"computed whole: {outcome.whole}")
    change = built.commit.tables.get(outcome.name) if built.commit and outcome.status == "built" else None
    if change is not None:
        n = change.counts
        signs = (
            ("+", n.get("appeared", 0) + n.get("appended", 0)),
            ("~", n.get("changed", 0)),
            ("-", n.get("disappeared", 0)),
        )
        said = " ".join(f"{sign}{count:,}" for sign, count in signs if count) or "same rows"
        if not any(count for _, count in signs) and (change.parts or change.base):
            said = "new rows"
        words.insert(0, f"{said} ({many(n.get('rows', 0), 'row')})")
    return "; ".join(word for word in words if word)


def _tell_tests(outcome: "Outcome", *, passed: bool) -> None:
    for test in outcome.tests:
        if test.passed:
            if passed:
                click.echo(f"{click.style('pass', fg='green')}  {outcome.name}: {test.test}")
            continue
        fails = test.severity == "error"
        word = click.style("FAIL" if fails else "warn", fg="red" if fails else "yellow")
        click.echo(
            f"{word}  {outcome.name}: {test.test}: {many(test.failures, 'row')}", err=fails and not passed
        )
        if fails and not passed:
            click.echo(f"      look at them: lakehouse test --failures {outcome.name}", err=True)


def _json(built: "Built") -> dict[str, Any]:
    return {
        "load": built.commit.seq if built.commit else None,
        "removed": list(built.removed),
        "models": [
            {
                "name": o.name,
                "kind": o.kind,
                "status": o.status,
                "reasons": list(o.reasons),
                "increment": o.increment,
                "error": str(o.error) if o.error else None,
                "tests": [{"test": t.test, "severity": t.severity, "failures": t.failures} for t in o.tests],
            }
            for o in built.outcomes
        ],
    }
