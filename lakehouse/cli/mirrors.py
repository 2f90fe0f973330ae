"""What commands about mirrors share: which are meant, going on after one failed, and what is told of each."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli.context import print_json, project, quiet_retries
from lakehouse.errors import LakehouseError, UserError

if TYPE_CHECKING:
    from lakehouse.lake import Lake
    from lakehouse.project import Project
    from lakehouse.store import Store
    from sync.settings import Mirror

_WORST = (4, 1, 2, 6, 5)  # exit codes: damage needs somebody first; who only lost a race may try again


@dataclass(slots=True, kw_only=True)
class Told:
    """What there is to say of one mirror.

    Attributes:
        records: For programs.
        lines: For people.
        errors: What could not be done.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    errors: list[LakehouseError] = field(default_factory=list)

    def __add__(self, more: "Told") -> "Told":
        return Told(
            records=self.records + more.records,
            lines=self.lines + more.lines,
            errors=self.errors + more.errors,
        )


def chosen(
    names: Sequence[str], *, kind: str | None = None, one: bool = False
) -> "tuple[Project, list[str]]":
    """The project, and the names of the mirrors that are meant.

    Args:
        names: As they were typed; all of the project when none.
        kind: Only mirrors of this kind are meant when none is named.
        one: It has to be a single one.

    Raises:
        UserError: There are none, or several where one has to be named.
    """
    from sync.settings import check

    here = project()
    if not here.mirrors:
        raise UserError(
            f"{here.root / 'pyproject.toml'}: there are no mirrors",
            hint='Add one:\n  [tool.lakehouse.mirrors.bucket]\n  url = "gs://my-bucket/lake"',
        )
    for name in names:
        check(here, name)
    found = list(dict.fromkeys(names)) or [
        name for name in here.mirrors if not kind or _may_be(here, name, kind)
    ]
    if one and len(found) != 1:
        raise UserError(
            f"{len(found)} mirrors could be meant" if found else f"there is no mirror that is a {kind}",
            hint=f"Name one of: {', '.join(found)}." if found else f"Mirrors: {', '.join(here.mirrors)}.",
        )
    return here, found


def _may_be(here: "Project", name: str, kind: str) -> bool:
    from sync.settings import named

    try:
        return named(here, name).kind == kind
    except UserError:  # told when it is used
        return True


def each(
    ctx: click.Context,
    here: "Project",
    names: Iterable[str],
    work: "Callable[[Mirror], Told]",
    *,
    as_json: bool,
    draw: Callable[[list[dict[str, Any]]], None] | None = None,
) -> None:
    """Do something for each mirror; one that fails does not keep the others from it.

    Ends the command with the code of the worst error, if there were any.

    Args:
        ctx: The command.
        here: The project.
        names: Names of the mirrors.
        work: What to do; secrets are taken out of its errors.
        as_json: Print the records of all of them as JSON, no lines.
        draw: Prints the records of all of them for people.
    """
    from sync.settings import named

    quiet_retries()
    records, codes = list[dict[str, Any]](), set[int]()
    for name in names:
        try:
            mirror = named(here, name)
            with mirror.guarded():
                told = work(mirror)
        except LakehouseError as error:
            told = Told(records=[{"mirror": name, "error": error_record(error)}], errors=[error])
        records += told.records
        for line in () if as_json else told.lines:
            click.echo(line)
        for text in dict.fromkeys(str(trouble).removeprefix(f"{name}: ") for trouble in told.errors):
            click.echo(click.style("error: ", fg="red", bold=True) + f"{name}: {text}", err=True)
        codes |= {trouble.exit_code for trouble in told.errors}
    if as_json:
        print_json(records)
    elif draw is not None:
        draw([record for record in records if "source" in record])
    if codes:
        ctx.exit(next((code for code in _WORST if code in codes), max(codes)))


def opened(lake: "Lake", mirror: "Mirror") -> "Store":
    """The store of a mirror that is a lake of its own.

    Raises:
        UserError: It is the lake itself, or one lies in the other; or it is a database.
    """
    from pathlib import PurePath

    store = mirror.open()
    one, two = PurePath(lake.url), PurePath(store.url)
    if one.is_relative_to(two) or two.is_relative_to(one):
        raise UserError(
            f"{mirror.name}: is at {store.url}, and the lake at {lake.url}: they have to be apart",
            hint="Change the url of the mirror: another disk, another bucket.",
        )
    return store


def error_record(error: LakehouseError) -> dict[str, str]:
    """An error for programs."""
    return {"kind": type(error).__name__, "message": error.message, "hint": error.hint}


def warn(mirror: "Mirror", texts: Iterable[str]) -> None:
    """Tell what was left alone, for people to decide."""
    for text in texts:
        click.echo(f"warning: {mirror.name}: {mirror.scrubbed(text)}", err=True)
