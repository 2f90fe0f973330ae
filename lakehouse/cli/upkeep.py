"""`lakehouse refresh`, `verify` and `doctor`: keeping a lake well."""

from typing import TYPE_CHECKING

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import (
    many,
    open_lake,
    print_json,
    print_table,
    project_or_none,
    quiet_retries,
    size,
)
from lakehouse.errors import NotFoundError, UserError
from lakehouse.project import CONFIG

if TYPE_CHECKING:
    from lakehouse.cli.mirrors import Told
    from lakehouse.lake import Lake
    from sync.settings import Mirror


@click.command("refresh")
@lake_option
@click.pass_context
def refresh_command(ctx: click.Context) -> None:
    """Write lakehouse.duckdb anew from the logs. It is derived: it may be deleted at any time."""
    from lakehouse.duck.session import catalog_path, refresh

    lake = open_lake(ctx)
    broken = refresh(lake, force=True)
    for trouble in broken.values():
        click.echo(f"warning: {trouble}", err=True)
    click.echo(
        f"{catalog_path(lake) or lake.url}: views over {many(len(lake.sources()) - len(broken), 'source')}"
    )


@click.command("verify")
@click.argument("source", required=False, metavar="[SOURCE|MIRROR]")
@click.option("--fast", is_flag=True, help="Read no parts: only whether they are there, and their sizes.")
@click.option(
    "--deep", is_flag=True, help="Of a mirror: read every byte, not only what the store says of it."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def verify_command(ctx: click.Context, source: str | None, fast: bool, deep: bool, as_json: bool) -> None:
    """Check every digest, every chain and the order of writing. Exits with 4 if anything is wrong.

    Of the lake, of one SOURCE, or of a MIRROR of the project: that is held against the lake, by the checksums
    that the store reports.
    """
    from lakehouse.cli.progress import bar
    from lakehouse.verify import verify

    lake = open_lake(ctx)
    if source is not None and _is_mirror(source, lake, fast=fast):
        _verify_mirror(ctx, lake, source, deep=deep, as_json=as_json)
        return
    if deep:
        raise UserError("--deep is for mirrors", hint="Without it, every byte of the lake is read already.")
    with bar("verifying", "files") as progress:
        report = verify(lake, source, fast=fast, progress=progress)
    if as_json:
        print_json(
            {
                "ok": not report.errors,
                "sources": report.sources,
                "files": report.files,
                "size_bytes": report.size_bytes,
                "errors": [
                    {"kind": type(e).__name__, "message": e.message, "hint": e.hint} for e in report.errors
                ],
                "orphans": report.orphans,
                "superseded": report.superseded,
            }
        )
    else:
        for error in report.errors:
            click.echo(click.style(f"{type(error).__name__}: ", fg="red") + str(error))
        commits = sum(report.sources.values())
        click.echo(
            f"{many(commits, 'commit')} of {many(len(report.sources), 'source')}, "
            + (
                "chains and sizes only: "
                if fast
                else f"{many(report.files, 'file')}, {size(report.size_bytes)}: "
            )
            + (many(len(report.errors), "error") if report.errors else "all as committed")
        )
        if report.superseded:
            click.echo(
                f"{many(len(report.superseded), 'file')} that packs stand for: `lakehouse prune` deletes them"
            )
        if report.orphans:
            click.echo(f"{len(report.orphans)} files that no commit names (left by runs that died; harmless)")
    if report.errors:
        ctx.exit(4)


def _is_mirror(name: str, lake: "Lake", *, fast: bool) -> bool:
    here = project_or_none()
    if here is None or name not in here.mirrors:
        if here is not None and here.mirrors and name not in lake.sources():
            raise NotFoundError(
                f"there is no source {name!r}, and no mirror of that name",
                hint=f"Sources: {', '.join(lake.sources()) or 'none yet'}. Mirrors: {', '.join(here.mirrors)}.",
            )
        return False
    if name in lake.sources():
        raise UserError(
            f"{name!r} is a source and a mirror",
            hint=f"Give the mirror another name in {here.root / CONFIG}.",
        )
    if fast:
        raise UserError("--fast is for lakes", hint="A mirror is not read unless --deep says so.")
    return True


def _verify_mirror(ctx: click.Context, lake: "Lake", name: str, *, deep: bool, as_json: bool) -> None:
    from lakehouse.cli.mirror_reports import verified, verified_tables
    from lakehouse.cli.mirrors import chosen, each, opened
    from lakehouse.cli.progress import bar

    def work(mirror: "Mirror") -> "Told":
        if mirror.kind == "postgres":
            from sync.postgres import check

            found = check.verify(lake, mirror.url, name=name, schema_prefix=mirror.schema_prefix, deep=deep)
            return verified_tables(mirror, found, deep=deep)
        from sync.check import verify_mirror

        with bar("verifying", "files") as progress:
            return verified(
                mirror, verify_mirror(lake, opened(lake, mirror), name=name, deep=deep, progress=progress)
            )

    here, names = chosen([name])
    each(ctx, here, names, work, as_json=as_json)


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def doctor_command(ctx: click.Context, as_json: bool) -> None:
    """Say what is installed, what is reachable, and what to do."""
    from lakehouse.doctor import examine

    quiet_retries()
    findings = examine(ctx.obj)
    if as_json:
        print_json([{"what": f.what, "ok": f.ok, "found": f.found, "do": f.do} for f in findings])
    else:
        marks = {True: "ok", False: "NO", None: "-"}
        print_table(
            ["", "what", "found", "what to do"], [(marks[f.ok], f.what, f.found, f.do) for f in findings]
        )
    if any(f.ok is False for f in findings):
        ctx.exit(6)
