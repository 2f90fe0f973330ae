"""`lakehouse pack`, `prune` and `expire`: fewer files, and less of the past where one says so."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import many, open_lake, print_json, project_or_none, size
from lakehouse.core.moments import render
from lakehouse.errors import UserError

if TYPE_CHECKING:
    from lakehouse.lake import Lake
    from lakehouse.pack import PackReport
    from lakehouse.prune import PruneReport
    from lakehouse.retention import ExpireReport

_TOLD = 10  # ranges of lost states that are listed unless all are asked for, with --json


@click.command("pack")
@click.argument("source", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def pack_command(ctx: click.Context, source: str | None, as_json: bool) -> None:
    """Make few large files of many small ones, where that pays, and bring compactions up to date.

    No load changes: its rows are proven by their content digest before the commit. Nothing is deleted
    either: `lakehouse prune` does that. May be interrupted, and run beside loads, at any time.
    """
    from lakehouse.cli.progress import bar
    from lakehouse.compaction import compact
    from lakehouse.duck.session import refresh
    from lakehouse.pack import pack

    lake = open_lake(ctx)
    with bar("packing", "files") as progress:
        reports = pack(lake, source, progress=progress)
    compacted = {report.source: compact(lake, report.source) for report in reports}
    refresh(lake)
    if as_json:
        print_json([_packed_json(r) | {"compacted": compacted[r.source]} for r in reports])
        return
    for report in reports:
        done = [f"compacted {table}" for table in compacted[report.source]]
        for line in _packed_lines(report) + done or ["nothing to pack"]:
            click.echo(f"{report.source}: {line}")


@click.command("prune")
@click.argument("source", required=False)
@click.option("--dry-run", is_flag=True, help="Verify, and say what would be deleted; delete nothing.")
@click.option("--not-mirrored", is_flag=True, help="Go on where a mirror does not have the packs yet.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def prune_command(
    ctx: click.Context, source: str | None, dry_run: bool, not_mirrored: bool, as_json: bool
) -> None:
    """Delete the files that packs stand for, after every such pack was verified; and nothing else.

    Where the project has mirrors that do not have all packs yet, sync first: it refuses until then.
    """
    from lakehouse.cli.progress import bar
    from lakehouse.prune import prune

    lake = open_lake(ctx)
    if not (dry_run or not_mirrored):
        _refuse_before_sync(lake, source)
    with bar("pruning", "files") as progress:
        reports = prune(lake, source, dry_run=dry_run, progress=progress)
    if as_json:
        print_json([_pruned_json(report, dry_run=dry_run) for report in reports])
        return
    lines = [
        f"{report.source}: {'would delete' if dry_run else 'deleted'} {many(len(report.parts), 'part')} and "
        f"{many(len(report.log_files), 'log file')}, {size(report.size_bytes)}; {many(report.packs, 'pack')} verified"
        for report in reports
        if report.parts or report.log_files
    ]
    click.echo("\n".join(lines) or "nothing to prune")


def _refuse_before_sync(lake: "Lake", source: str | None) -> None:
    """Keep files as long as a mirror does not have the packs that stand for them, as far as is known here."""
    here = project_or_none()
    if here is None or not here.mirrors or lake.url != str(Path(here.place).resolve()):
        return
    from sync import hints, settings

    lacking = dict[str, list[str]]()
    for mirror in (settings.named(here, name) for name in here.mirrors):
        if mirror.kind == "postgres":
            continue
        known = hints.load(lake.store, mirror.name, lake_id=lake.id, url=mirror.place)
        for name in [source] if source else lake.sources():
            where = known.where(name)
            there = where.head if where else 0
            packs = sum(bool(commit.packs) for commit in lake.log(name).commits[there:])
            if packs:
                lacks = f"{many(packs, 'commit')} with packs of {name}, known to be at load {there:,}"
                lacking.setdefault(mirror.name, []).append(lacks)
    if lacking:
        told = "; ".join(f"{name!r} lacks {', '.join(lacks)}" for name, lacks in lacking.items())
        raise UserError(
            f"not all mirrors have the packs yet, nothing was deleted: {told}",
            hint=f"Run `lakehouse sync {' '.join(lacking)}` first, or prune with --not-mirrored.",
        )


@click.command("expire")
@click.argument("source", required=False)
@click.option("--policy", metavar="TEXT", help='Such as "keep daily after 90 days"; else the project\'s.')
@click.option("--dry-run", is_flag=True, help="Say which states would be lost; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def expire_command(
    ctx: click.Context, source: str | None, policy: str | None, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Let old states go, by an explicit policy; every other state stays exactly as it was.

    A policy is "keep all", the default, or one such as "keep daily after 90 days, monthly after 2 years"
    (hourly, daily, weekly, monthly, yearly; of each the last state, in UTC). It is given here or as
    `retention` in [tool.lakehouse] or [tool.lakehouse.sources.NAME] of pyproject.toml. The newest state
    and those that tags name always stay. The old bytes go with the next `lakehouse prune`.
    """
    from lakehouse.duck.session import refresh

    lake = open_lake(ctx)
    reports = []
    for name, text in _policies(lake, source, policy).items():
        report = _expired(lake, name, text, dry_run=dry_run, yes=yes, quiet=as_json)
        reports.append(report)
    refresh(lake)
    if as_json:
        print_json([_expired_json(report) for report in reports])


def _policies(lake: "Lake", source: str | None, policy: str | None) -> dict[str, str]:
    """The policy of each source that is meant."""
    here = project_or_none()
    default = here.retention_of if here else (lambda _: "keep all")
    return {name: policy or default(name) for name in ([source] if source else lake.sources())}


def _expired(
    lake: "Lake", source: str, text: str, *, dry_run: bool, yes: bool, quiet: bool
) -> "ExpireReport":
    from lakehouse.retention import expire, parse

    policy, now = parse(text), datetime.now(UTC)
    planned = expire(lake, source, policy, dry_run=True, now=now)
    if not quiet:
        for line in _expired_lines(planned):
            click.echo(line)
    if dry_run or not planned.expired:
        return planned
    if not yes:
        _ask(f"{source}: let {many(planned.lost, 'state')} go for ever?")
    done = expire(lake, source, policy, now=now)
    if not quiet:
        click.echo(f"{source}: done; the bytes go with `lakehouse prune`")
    return done


def _ask(question: str) -> None:
    """Go on if the answer is yes."""
    try:
        yes = click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        click.echo(err=True)  # the question has no line of its own yet
        raise UserError("nobody is there to answer", hint="Add --yes.") from None
    if not yes:
        raise click.Abort


def _expired_lines(report: "ExpireReport") -> list[str]:
    if not report.expired:
        return [f"{report.source}: {report.policy}: nothing to let go"]
    gone = f"{many(report.lost, 'state')} and {many(report.rows, 'row')} go"
    sizes = f"{size(report.size_before)} become {size(report.size_after)}"
    lines = [f"{report.source}: {report.policy}: {gone}, all others stay; {sizes}"]
    for (first, last), (start, end) in list(zip(report.expired, report.spans, strict=True))[:_TOLD]:
        what = f"load {first}" if first == last else f"loads {first} to {last}"
        lines.append(
            f"  as of {what}, {start:%Y-%m-%d %H:%M:%S}Z"
            + ("" if first == last else f" to {end:%Y-%m-%d %H:%M:%S}Z")
        )
    if len(report.expired) > _TOLD:
        lines.append(f"  … {many(len(report.expired), 'range')} in all; list them with --dry-run --json")
    return lines


def _packed_lines(report: "PackReport") -> list[str]:
    lines = []
    for t in report.tables:
        if t.files_after:
            lines.append(
                f"packed {many(t.files_before, 'part')} of {t.table} into {t.files_after:,}, "
                f"{size(t.size_before)} into {size(t.size_after)}"
            )
        lines += [f"{t.table}: left {reason}" for reason in t.left]
    if report.log_files:
        lines.append(f"packed the log of {many(report.log_files, 'commit')} into one file")
    return lines


def _packed_json(report: "PackReport") -> dict[str, Any]:
    return {
        "source": report.source,
        "seq": report.commit.seq if report.commit else None,
        "log_files": report.log_files,
        "tables": [
            {name: getattr(table, name) for name in table.__dataclass_fields__} for table in report.tables
        ],
    }


def _pruned_json(report: "PruneReport", *, dry_run: bool) -> dict[str, Any]:
    return {
        "source": report.source,
        "dry_run": dry_run,
        "parts": list(report.parts),
        "log_files": list(report.log_files),
        "size_bytes": report.size_bytes,
        "packs_verified": report.packs,
    }


def _expired_json(report: "ExpireReport") -> dict[str, Any]:
    return {
        "source": report.source,
        "policy": report.policy,
        "seq": report.commit.seq if report.commit else None,
        "lost": report.lost,
        "kept": report.kept,
        "rows": report.rows,
        "size_before": report.size_before,
        "size_after": report.size_after,
        "expired": [
            {"first": first, "last": last, "from": render(start), "to": render(end)}
            for (first, last), (start, end) in zip(report.expired, report.spans, strict=True)
        ],
    }
