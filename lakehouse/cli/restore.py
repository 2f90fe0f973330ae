"""`lakehouse restore`: a lake back from a mirror."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli.context import many, print_json, project_or_none, quiet_retries, size
from lakehouse.core.moments import render
from lakehouse.errors import LakehouseError, NoLakeError, UserError

if TYPE_CHECKING:
    from sync.restore import RestoreReport, SourceRestore
    from sync.settings import Mirror


@click.command("restore")
@click.argument("place", metavar="URL|MIRROR")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--as-of",
    metavar="WHEN",
    help="The lake as of an instant (UTC), date, load number or tag; all of it by default.",
)
@click.option("--source", "sources", multiple=True, metavar="S", help="Only this source; more than once.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def restore_command(
    place: str, folder: Path, as_of: str | None, sources: tuple[str, ...], as_json: bool
) -> None:
    """Get a lake back from a mirror into DIR, a new folder; every byte is verified before it is written.

    Needs no project: the URL and the credentials are enough. Interrupted, the same command goes on.
    """
    from lakehouse.cli.mirrors import error_record, warn

    quiet_retries()
    try:
        mirror, report = _restored(place, folder, as_of, sources)
    except LakehouseError as error:
        if as_json:
            print_json({"folder": str(folder), "error": error_record(error)})
        raise
    warn(mirror, [*report.conflicts, *(error.message for error in report.broken.values())])
    if as_json:
        print_json(_record(mirror, report))
        return
    for line in _lines(report):
        click.echo(line)
    click.echo(f"Next: lakehouse verify --lake {folder} ; to go on from here, make it the lake of a project")


def _restored(
    place: str, folder: Path, as_of: str | None, sources: tuple[str, ...]
) -> "tuple[Mirror, RestoreReport]":
    from lakehouse.cli.progress import transfer
    from sync import restore, settings

    mirror = settings.at(place, project_or_none())
    if mirror.kind == "postgres":
        raise UserError(
            f"{mirror.name or mirror.shown}: is a database, which holds tables and no lake",
            hint="Restore from a mirror in a bucket or a folder.",
        )
    with mirror.guarded(), transfer("restoring") as progress:
        store = mirror.open()
        try:
            report = restore.restore(
                store, folder, as_of=as_of, sources=list(sources) or None,
                connections=mirror.connections, progress=progress,
            )  # fmt: skip
        except NoLakeError as error:
            store.folders(holding="_log")  # tells a bucket that is not there
            error.hint = _instead(place)
            raise
    return mirror, report


def _instead(place: str) -> str:
    """What else may be meant, where no lake was found at a place."""
    here = project_or_none()
    names = ", ".join(here.mirrors) if here else ""
    if "://" not in place and names:
        return f"Give a URL, a path or the name of a mirror: {names}."
    return (
        "Nothing was restored. Check the URL: it is the one that `lakehouse sync` wrote to, prefix and all."
    )


def _lines(report: "RestoreReport") -> list[str]:
    lines = [f"{source.source}: {_source(source, report.as_of)}" for source in report.sources]
    if report.tags:
        lines.append(f"tags: {', '.join(report.tags)}")
    if report.skipped:
        lines.append(f"tags left out, as they name loads that are not in it: {', '.join(report.skipped)}")
    loads = sum(source.loads for source in report.sources)
    lines.append(
        f"{report.folder}: {many(loads, 'load')}, {many(report.files, 'file')}, {size(report.size_bytes)} restored"
    )
    return lines


def _source(source: "SourceRestore", as_of: object) -> str:
    if not source.head:
        return "nothing as of then"
    moment = f" ({source.effective_at:%Y-%m-%d %H:%M:%S}Z)" if source.effective_at else ""
    if source.head <= source.wanted:
        return f"up to load {source.head:,}{moment}"
    said = f"restored up to load {source.head:,}{moment}, not {source.wanted:,}: {source.because}"
    return f"{said}; for the state of then ask --as-of {shlex.quote(str(as_of))}"


def _record(mirror: "Mirror", report: "RestoreReport") -> dict[str, Any]:
    return {
        "url": mirror.shown,
        "folder": report.folder,
        "lake_id": report.lake_id,
        "as_of": report.as_of,
        "sources": [
            {
                "source": s.source, "head": s.head, "digest": s.digest, "wanted": s.wanted, "because": s.because,
                "effective_at": render(s.effective_at) if s.effective_at else None, "loads": s.loads,
            }
            for s in report.sources
        ],
        "tags": list(report.tags),
        "tags_left_out": list(report.skipped),
        "quarantined": list(report.quarantined),
        "files": report.files,
        "size_bytes": report.size_bytes,
    }  # fmt: skip
