"""`lakehouse sync`: send what the mirrors of a project lack, say how far they are, get what they have more."""

from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import open_lake
from lakehouse.errors import NoLakeError, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakehouse.cli.mirrors import Told
    from lakehouse.lake import Lake
    from lakehouse.store import Store
    from sync.postgres.push import SourceStatus as PgSourceStatus
    from sync.push import SourceStatus
    from sync.settings import Mirror


class _Sync(click.Group):
    """A group whose own arguments are names of mirrors, so that `lakehouse sync bucket` needs no other word."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_interspersed_args = False
        _, rest, _ = self.make_parser(ctx).parse_args(args=list(args))
        ctx.allow_interspersed_args = not rest or rest[0] not in self.commands
        return click.Command.parse_args(self, ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        if not ctx.args or ctx.args[0] not in self.commands:
            ctx.params["mirrors"] = tuple(ctx.args)
            return click.Command.invoke(self, ctx)
        name, *args = ctx.args
        for param in self.params:
            if ctx.params.get(param.name or "") not in (None, False, ()):
                raise click.UsageError(f"{param.opts[0]} goes after `{name}`, if that takes it", ctx)
        with self.commands[name].make_context(name, args, parent=ctx) as sub:
            return sub.command.invoke(sub)


_sources = click.option(
    "--source", "sources", multiple=True, metavar="S", help="Only this source; more than once."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("sync", cls=_Sync, invoke_without_command=True, subcommand_metavar="[MIRROR]... | status | pull")
@click.option("--dry-run", is_flag=True, help="Print the plan; change nothing.")
@click.option(
    "--repair", is_flag=True, help="Also mend what is missing or damaged there from the files here."
)
@click.option("--prune", is_flag=True, help="Also delete there what packs stand for, and what expired.")
@click.option("--as", "as_", metavar="NAME", help="Sync to the prefix beside the mirror: gs://bucket/NAME.")
@_sources
@click.option("--max-transfer", metavar="SIZE", help="End in good order before more was sent, such as 500MB.")
@click.option("--bandwidth", metavar="SIZE", help="Send at most so much a second, such as 2MB.")
@_json
@lake_option
@click.pass_context
def sync_command(
    ctx: click.Context,
    mirrors: tuple[str, ...],
    dry_run: bool,
    repair: bool,
    prune: bool,
    as_: str | None,
    sources: tuple[str, ...],
    max_transfer: str | None,
    bandwidth: str | None,
    as_json: bool,
) -> None:
    """Send to each MIRROR what it lacks; to all mirrors of the project when none is named.

    The files of a load go first, then its commit, which the store takes only if there is none of that number:
    a mirror is a whole lake at any moment. May be interrupted at any time; the next sync goes on.
    Two histories are refused, and shown; nothing there is ever overwritten.
    """
    from lakehouse.cli.mirrors import chosen, each
    from sync.settings import named, size_bytes

    if repair and dry_run:
        raise UserError("--repair has no dry run", hint="`lakehouse verify MIRROR` says what is wrong there.")
    here, names = chosen(mirrors, kind="bucket" if as_ else None, one=bool(as_))
    lake = open_lake(ctx)
    options: dict[str, Any] = {
        "sources": list(sources) or None,
        "dry_run": dry_run,
        "max_transfer": size_bytes(max_transfer, "--max-transfer") if max_transfer else None,
        "prune": prune,
    }
    rate = size_bytes(bandwidth, "--bandwidth") if bandwidth else None

    def work(mirror: "Mirror") -> "Told":
        target = mirror.beside(as_) if as_ else mirror
        with target.guarded():
            if target.kind == "postgres":
                return _to_postgres(lake, target, repair=repair, bandwidth=rate, **options)
            return _to_bucket(lake, target, repair=repair, bandwidth=rate or target.bandwidth, **options)

    each(ctx, here, names, work, as_json=as_json)
    if as_ and not as_json:
        url = named(here, names[0]).beside(as_).shown
        click.echo(f'to stay there, write in [tool.lakehouse.mirrors.{names[0]}]: url = "{url}"', err=True)


def _to_bucket(
    lake: "Lake", mirror: "Mirror", *, repair: bool, prune: bool, dry_run: bool, **options: Any
) -> "Told":
    from lakehouse.cli.mirror_reports import only_there, pushed, swept
    from lakehouse.cli.mirrors import Told, opened, warn
    from lakehouse.cli.progress import bar, transfer
    from sync import push

    store = opened(lake, mirror)
    told = _mended(lake, mirror, store, options["sources"]) if repair else Told()
    with transfer(mirror.name) as progress:
        report = push.push(
            lake, store, name=mirror.name, connections=mirror.connections, dry_run=dry_run, progress=progress,
            raising=False, **options,
        )  # fmt: skip
    warn(mirror, report.conflicts)
    told += pushed(mirror, report, dry_run=dry_run)
    if options["sources"] is None and any(push.plan.actions for push in report.sources):
        there = store.folders(holding="_log")  # a request more, which a sync with nothing to do is spared
        told += only_there(mirror, [name for name in there if name not in lake.sources()])
    if prune and not told.errors:
        from sync.sweep import sweep

        with bar(mirror.name, "files") as count:
            gone = sweep(
                lake, store, name=mirror.name, sources=options["sources"], dry_run=dry_run, progress=count
            )
        told += swept(mirror, gone, dry_run=dry_run)
    return told


def _mended(lake: "Lake", mirror: "Mirror", store: "Store", sources: list[str] | None) -> "Told":
    """Write anew what is wrong in a mirror; where the store reports no checksums, every byte is read to find it."""
    from lakehouse.cli.mirror_reports import mended
    from lakehouse.cli.mirrors import Told
    from lakehouse.cli.progress import bar
    from sync.check import verify_mirror
    from sync.repair import repair

    try:
        with bar(f"{mirror.name}: verifying", "files") as count:
            found = verify_mirror(lake, store, name=mirror.name, sources=sources, progress=count)
            if found.by_size:
                found = verify_mirror(
                    lake, store, name=mirror.name, sources=sources, deep=True, progress=count
                )
    except NoLakeError:
        return Told()
    with bar(f"{mirror.name}: mending", "files") as count:
        return mended(mirror, repair(lake, store, found, progress=count))


def _to_postgres(
    lake: "Lake",
    mirror: "Mirror",
    *,
    repair: bool,
    dry_run: bool,
    sources: list[str] | None,
    max_transfer: int | None,
    bandwidth: int | None,
    prune: bool,
) -> "Told":
    from lakehouse.cli.mirror_reports import loaded
    from lakehouse.cli.progress import transfer
    from sync.postgres import push as warehouse

    if max_transfer is not None or bandwidth is not None:
        raise UserError(
            f"{mirror.name}: --max-transfer and --bandwidth are for buckets; a database gets a source in one transaction",
            hint="Name the bucket, or leave the option out.",
        )
    del prune  # it has no files
    with transfer(mirror.name) as progress:
        report = warehouse.push(
            lake, mirror.url, name=mirror.name, schema_prefix=mirror.schema_prefix, sources=sources,
            dry_run=dry_run, connections=mirror.connections, repair=repair, grant_to=mirror.grant_to,
            raising=False, progress=progress,
        )  # fmt: skip
    return loaded(mirror, report, dry_run=dry_run)


@sync_command.command("status")
@click.argument("mirrors", nargs=-1, metavar="[MIRROR]...")
@_json
@lake_option
@click.pass_context
def status_command(ctx: click.Context, mirrors: tuple[str, ...], as_json: bool) -> None:
    """Say of each MIRROR and source how far it is, what is missing, and when it was last verified."""
    from lakehouse.cli.mirror_reports import status_records, status_table
    from lakehouse.cli.mirrors import Told, chosen, each

    here, names = chosen(mirrors)
    lake = open_lake(ctx)

    def work(mirror: "Mirror") -> "Told":
        found = _status(lake, mirror)
        errors = [s.error for s in found if s.error is not None]
        return Told(records=status_records(mirror, found), errors=errors)

    each(ctx, here, names, work, as_json=as_json, draw=status_table)


def _status(lake: "Lake", mirror: "Mirror") -> "Sequence[SourceStatus | PgSourceStatus]":
    if mirror.kind == "postgres":
        from sync.postgres import push as warehouse

        return warehouse.status(lake, mirror.url, name=mirror.name, schema_prefix=mirror.schema_prefix)
    from lakehouse.cli.mirrors import opened
    from sync import push

    return push.status(lake, opened(lake, mirror), mirror.name)


@sync_command.command("pull")
@click.argument("mirror", required=False)
@_sources
@click.option(
    "--set-aside", is_flag=True, help="Where both sides have loads: put those of this side beside the lake."
)
@_json
@lake_option
@click.pass_context
def pull_command(
    ctx: click.Context, mirror: str | None, sources: tuple[str, ...], set_aside: bool, as_json: bool
) -> None:
    """Get what a mirror has more than this lake, every byte verified; nothing here is overwritten."""
    from lakehouse.cli.mirror_reports import pulled
    from lakehouse.cli.mirrors import chosen, each, opened, warn
    from lakehouse.cli.progress import transfer
    from sync import pull

    here, names = chosen([mirror] if mirror else [], kind="bucket", one=True)
    try:
        lake = open_lake(ctx)
    except NoLakeError as error:
        error.hint = f"Get it back first: lakehouse restore {names[0]} {here.lake}"
        raise

    def work(chosen: "Mirror") -> "Told":
        with transfer(chosen.name) as progress:
            report = pull.pull(
                lake, opened(lake, chosen), name=chosen.name, sources=list(sources) or None, set_aside=set_aside,
                connections=chosen.connections, bandwidth=chosen.bandwidth, progress=progress,
            )  # fmt: skip
        warn(chosen, report.conflicts)
        return pulled(chosen, report)

    each(ctx, here, names, work, as_json=as_json)
