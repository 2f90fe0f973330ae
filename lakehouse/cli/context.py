"""What commands share: which lake they work on, and how they print."""

import json
from typing import TYPE_CHECKING, Any

import click

from lakehouse.errors import NoLakeError, NoProjectError

if TYPE_CHECKING:
    from lakehouse.lake import Lake
    from lakehouse.project import Project


def open_lake(ctx: click.Context, *, create: bool = False) -> "Lake":
    """The lake that the command line names, or the project's."""
    from lakehouse.lake import Lake

    place = ctx.obj or project().place
    if "://" in place:
        quiet_retries()
    if ctx.obj:
        return Lake.create(place) if create else _named(place)
    if create:
        return _open_or_make(place)
    try:
        return Lake.open(place)
    except NoLakeError as error:
        raise NoLakeError(
            error.message, hint="Nothing was loaded yet: run `lakehouse ingest` or `lakehouse import` first."
        ) from None


def _named(place: str) -> "Lake":
    """The lake at a path or URL; the name of a mirror is neither, and is told so."""
    from lakehouse.lake import Lake

    try:
        return Lake.open(place)
    except NoLakeError as error:
        here = project_or_none()
        if here is not None and place in here.mirrors:
            from sync.settings import named

            error.hint = (
                f"--lake takes a path or a URL. The mirror {place!r} is at {named(here, place).shown}"
            )
        raise


def _open_or_make(place: str) -> "Lake":
    """The lake; a new one where there never was one. A disk that is not there is no empty lake."""
    from lakehouse.duck.session import catalog_path
    from lakehouse.lake import Lake

    try:
        return Lake.open(place)
    except NoLakeError as error:
        catalog = catalog_path(place)
        if catalog is not None and catalog.exists():
            raise NoLakeError(
                f"{error.message}, but {catalog} shows that there was one",
                hint=f"Mount or restore it. To begin a new lake instead, delete {catalog.name} first.",
            ) from None
    lake = Lake.create(place)
    click.echo(f"{lake.url}: made a new lake", err=True)
    return lake


def quiet_retries() -> None:
    """Keep off the terminal what is logged of single attempts: one that helps is no news, and the last one is told."""
    import logging

    if logging.getLogger().level > logging.INFO:  # else somebody asked for more
        logging.getLogger("stamina").setLevel(logging.ERROR)


def project() -> "Project":
    """The project that the current folder lies in."""
    from lakehouse.project import find_project

    return find_project()


def project_or_none() -> "Project | None":
    """The project that the current folder lies in, if it does."""
    try:
        return project()
    except NoProjectError:
        return None


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def print_table(columns: list[str], rows: list[tuple[Any, ...]], *, right: tuple[str, ...] = ()) -> None:
    """A plain table on stdout; columns named in `right` are numbers."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:  # as Text: scraped values may hold what rich takes for markup
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe has no width: nothing is folded
        console = Console(highlight=False, width=1_000)
    console.print(table)


def many(n: int, noun: str) -> str:
    """A number and its noun: `1 load`, `2,581 loads`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def size(size_bytes: int) -> str:
    """A size for people."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:  # noqa: PLR2004 - decimal units
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
