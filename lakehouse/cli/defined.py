"""Models as `lakehouse log`, `tables` and `show` tell them: from their definitions in the log."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli.context import print_json, print_table
from lakehouse.core.definition import Definition, changed, read_definitions
from lakehouse.core.layout import MODELS
from lakehouse.errors import FormatError

if TYPE_CHECKING:
    from lakehouse.core.commit import Commit
    from lakehouse.core.log import Log
    from lakehouse.lake import Lake

_TOLD = 5  # names that are told one by one


def models_in(logs: "Iterable[Log]") -> dict[str, Definition]:
    """The models, by name; none, and a warning, where the log of `models` says what cannot be."""
    log = next((log for log in logs if log.source == MODELS), None)
    try:
        return read_definitions(log.pipeline) if log else {}
    except FormatError as error:
        click.echo(f"warning: {error}", err=True)
        return {}


def views_in(logs: "Iterable[Log]") -> dict[str, Definition]:
    """Those of them that are views, in order of name."""
    return {name: model for name, model in sorted(models_in(logs).items()) if model.is_view}


def definitions_in(log: "Log", commit: "Commit") -> list[str]:
    """What a commit of `models` did to definitions, in words, one kind of change each."""
    if commit.pipeline is None:
        return []
    at = bisect_left(log.piped, commit.seq)
    before = log.commits[log.piped[at - 1] - 1].pipeline if at else None
    try:
        after = read_definitions(commit.pipeline)
        news = changed(read_definitions(before), after)
    except FormatError as error:
        return [error.message]
    views = sorted(name for name in news.made if after[name].is_view)
    others = sorted(name for name in news.made if not after[name].is_view and name not in commit.tables)
    told = {"views": views, "models": others, "no more": sorted(news.dropped)}
    return [f"{what}: {_listed(names)}" for what, names in told.items() if names]


def about_model(model: Definition) -> dict[str, Any]:
    """What a definition says, for a program."""
    said = {
        "kind": model.kind,
        "path": model.path,
        "description": model.description,
        "grain": model.grain,
        "key": list(model.key),
        "reads": list(model.reads),
    }
    return {name: value for name, value in said.items() if value}


def tell_model(model: Definition) -> None:
    """What a definition says, for people."""
    lines = (
        model.description,
        f"one row is {model.grain}" if model.grain else "",
        f"reads {', '.join(model.reads)}" if model.reads else "",
        f"built from {model.path}" if model.path else "",
    )
    for line in filter(None, lines):
        click.echo(line)


def show_view(lake: "Lake", model: Definition, *, as_json: bool) -> None:
    """Show a model that is a view, with the columns that it has now."""
    session = lake.session()
    asked = "SELECT trouble, columns, sql, built_seq FROM lakehouse.models WHERE name = $1"
    trouble, columns, sql, built_seq = session.connection.execute(asked, [model.name]).fetchall()[0]
    name = f"{MODELS}.{model.name}"
    if as_json:
        print_json(
            {"table": name, "disposition": "view"}
            | about_model(model)
            | {"columns": columns, "sql": sql, "built_seq": built_seq, "trouble": trouble}
        )
        return
    if trouble:
        click.echo(f"warning: {name} cannot be read: {trouble}", err=True)
    key = f"key {', '.join(model.key)}" if model.key else "no key"
    click.echo(f"{name}: view, {key}")
    tell_model(model)
    click.echo("")
    print_table(
        ["column", "type", "description"], [(c["name"], c["type"], c["description"]) for c in columns]
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _TOLD:,} more" if len(names) > _TOLD else ""
    return ", ".join(names[:_TOLD]) + more
