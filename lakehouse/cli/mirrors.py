"""What commands about mirrors share: which are meant, going on after one failed, and what is told of each."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli.context import many, print_json, print_table, project, quiet_retries, size
from lakehouse.core.moments import render
from lakehouse.errors import LakehouseError, UserError

if TYPE_CHECKING:
    from datetime import datetime

    from lakehouse.project import Project
    from sync.plan import Plan
    from sync.postgres.push import PgReport
    from sync.postgres.push import SourcePush as PgSourcePush
    from sync.postgres.push import SourceStatus as PgSourceStatus
    from sync.pull import PullReport
    from sync.push import PushReport, SourcePush, SourceStatus
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
            hint=f"Name one of: {', '.join(here.mirrors)}.",
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
        for trouble in told.errors:
            click.echo(click.style("error: ", fg="red", bold=True) + f"{name}: {trouble}", err=True)
            codes.add(trouble.exit_code)
    if as_json:
        print_json(records)
    elif draw is not None:
        draw([record for record in records if "source" in record])
    if codes:
        ctx.exit(next((code for code in _WORST if code in codes), max(codes)))


def error_record(error: LakehouseError) -> dict[str, str]:
    """An error for programs."""
    return {"kind": type(error).__name__, "message": error.message, "hint": error.hint}


def warn(mirror: "Mirror", texts: Iterable[str]) -> None:
    """Tell what was left alone, for people to decide."""
    for text in texts:
        click.echo(f"warning: {mirror.name}: {mirror.scrubbed(text)}", err=True)


def _instant(moment: "datetime | None") -> str | None:
    return render(moment) if moment else None


# What was done, or would be.


def pushed(mirror: "Mirror", report: "PushReport", *, dry_run: bool) -> Told:
    """What a push did, or would do."""
    told = Told()
    for push in report.sources:
        told.errors += [push.error] if push.error is not None else []
        told.records.append(_pushed_record(mirror, push, dry_run=dry_run))
        lines = _pushed_lines(push, dry_run=dry_run)
        told.lines += [f"{mirror.name}: {push.source}: {line}" for line in lines[:1]] + lines[1:]
    if report.tags or report.quarantined:
        told.records.append({"mirror": mirror.name, "tags": report.tags, "quarantined": report.quarantined})
        told.lines.append(f"{mirror.name}: {_beside(report)} sent")
    return told


def _pushed_record(mirror: "Mirror", push: "SourcePush", *, dry_run: bool) -> dict[str, Any]:
    plan = push.plan
    record = {
        "mirror": mirror.name,
        "url": mirror.shown,
        "source": push.source,
        "relation": push.relation,
        "here": plan.here.seq,
        "before": plan.there.seq,
        "after": push.after.seq,
        "loads": plan.loads if dry_run else push.loads,
        "files": plan.files,
        "size_bytes": plan.size_bytes,
        "stopped": plan.stopped,
        "error": error_record(push.error) if push.error else None,
    }
    return record | ({"dry_run": True, "actions": _actions(plan)} if dry_run else {})


def _actions(plan: "Plan") -> list[dict[str, Any]]:
    from sync.plan import Copy

    return [
        {"copy": action.path, "size_bytes": action.size_bytes, "sha256": action.sha256}
        if isinstance(action, Copy)
        else {"publish": [action.first, action.last], "size_bytes": action.size_bytes}
        for action in plan.actions
    ]


def _pushed_lines(push: "SourcePush", *, dry_run: bool) -> list[str]:
    plan = push.plan
    if push.error is not None or push.relation == "diverged":
        return []
    if push.relation == "behind":
        more = plan.there.seq - plan.here.seq
        return [
            f"behind: {many(more, 'load')} there {'is' if more == 1 else 'are'} not here: lakehouse sync pull"
        ]
    if not plan.actions:
        return [
            "nothing sent: --max-transfer is less than the next load"
            if plan.stopped
            else f"nothing to do (load {plan.there.seq})"
        ]
    amount = f"{many(plan.files, 'file')}, {size(plan.size_bytes)}"
    end = f" of {plan.here.seq:,}: --max-transfer was reached" if plan.stopped else ""
    if not dry_run:
        return [f"{many(push.loads, 'load')}, {amount} sent; now at load {push.after.seq:,}{end}"]
    lines = [f"would send {many(plan.loads, 'load')}, {amount}; to load {plan.publishes[-1].last:,}{end}"]
    for action in _actions(plan):
        first, last = action.get("publish", (0, 0))
        what = action.get("copy") or (f"commit {first}" if first == last else f"commits {first} to {last}")
        lines.append(f"  {what}, {size(action['size_bytes'])}")
    return lines


def pulled(mirror: "Mirror", report: "PullReport") -> Told:
    """What a pull did."""
    told = Told()
    for pull in report.sources:
        plan = pull.plan
        told.records.append(
            {
                "mirror": mirror.name, "url": mirror.shown, "source": pull.source, "relation": pull.relation,
                "before": plan.here.seq, "after": pull.after.seq, "there": plan.there.seq, "loads": pull.loads,
                "files": plan.files, "size_bytes": plan.size_bytes, "set_aside": pull.set_aside,
            }
        )  # fmt: skip
        start = f"{mirror.name}: {pull.source}: "
        if pull.set_aside:
            told.lines.append(f"{start}what was here is now in {pull.set_aside}")
        if plan.actions:
            amount = f"{many(plan.files, 'file')}, {size(plan.size_bytes)}"
            told.lines.append(
                f"{start}{many(pull.loads, 'load')}, {amount} received; now at load {pull.after.seq:,}"
            )
        elif pull.relation == "ahead":
            more = plan.here.seq - plan.there.seq
            told.lines.append(
                f"{start}ahead: {many(more, 'load')} here {'is' if more == 1 else 'are'} not there: lakehouse sync"
            )
        else:
            told.lines.append(f"{start}nothing to get (load {pull.after.seq:,})")
    if report.tags or report.quarantined:
        told.records.append({"mirror": mirror.name, "tags": report.tags, "quarantined": report.quarantined})
        told.lines.append(f"{mirror.name}: {_beside(report)} received")
    return told


def _beside(report: "PushReport | PullReport") -> str:
    files = many(len(report.quarantined), "file") + " of refused loads" if report.quarantined else ""
    return ", ".join(filter(None, (many(len(report.tags), "tag") if report.tags else "", files)))


def loaded(mirror: "Mirror", report: "PgReport", *, dry_run: bool) -> Told:
    """What a push into a database did, or would do."""
    told = Told(errors=[s.error for s in report.sources if s.error is not None])
    for push in report.sources:
        told.errors += [table.error for table in push.tables if table.error is not None]
        told.records.append(_loaded_record(mirror, push) | ({"dry_run": True} if dry_run else {}))
        if push.error is None:
            told.lines.append(f"{mirror.name}: {push.source}: {_loaded_line(push, dry_run=dry_run)}")
    return told


def _loaded_record(mirror: "Mirror", push: "PgSourcePush") -> dict[str, Any]:
    return {
        "mirror": mirror.name,
        "url": mirror.shown,
        "source": push.source,
        "schema": push.schema,
        "relation": push.relation,
        "before": push.there.seq,
        "after": push.after.seq,
        "loads": push.loads,
        "tables": [
            {
                "table": t.table, "action": t.action, "inserted": t.inserted, "closed": t.closed,
                "error": error_record(t.error) if t.error else None,
            }
            for t in push.tables
        ],
        "error": error_record(push.error) if push.error else None,
    }  # fmt: skip


def _loaded_line(push: "PgSourcePush", *, dry_run: bool) -> str:
    if push.relation == "behind":
        return "behind: the database has loads that are not here"
    if not push.tables and not push.loads:
        return f"nothing to do (load {push.there.seq:,})"
    amount = f"{many(push.loads, 'load')}, {many(len(push.tables), 'table')}"
    if dry_run:
        done = ", ".join(f"{t.table} {t.action}" for t in push.tables)
        return f"would bring {amount}; to load {push.after.seq:,}" + (f": {done}" if done else "")
    rows = sum(t.inserted for t in push.tables)
    return f"{amount}, {many(rows, 'row version')} written; now at load {push.after.seq:,}"


def status_records(
    mirror: "Mirror", found: "Iterable[SourceStatus | PgSourceStatus]"
) -> list[dict[str, Any]]:
    """How a mirror stands, for programs."""
    return [
        {
            "mirror": mirror.name, "url": mirror.shown, "kind": mirror.kind, "source": s.source,
            "relation": s.relation, "here": s.here.seq, "there": s.there.seq, "loads": s.loads,
            "files": getattr(s, "files", None), "size_bytes": getattr(s, "size_bytes", None),
            "synced_at": _instant(s.synced_at), "verified_at": _instant(getattr(s, "verified_at", None)),
            "error": error_record(s.error) if s.error else None,
        }
        for s in found
    ]  # fmt: skip


def status_table(records: list[dict[str, Any]]) -> None:
    """The same for people."""
    columns = ["mirror", "source", "here", "there", "missing", "synced", "verified"]
    print_table(columns, [_status_row(record) for record in records], right=("here", "there"))


def _status_row(record: dict[str, Any]) -> tuple[Any, ...]:
    lacks = many(record["loads"], "load")
    if record["files"]:
        lacks += f", {many(record['files'], 'file')}, {size(record['size_bytes'])}"
    missing = {"ahead": f"{lacks} to send", "behind": f"{lacks} to pull", "diverged": "two histories"}
    return (
        record["mirror"],
        record["source"],
        f"{record['here']:,}",
        f"{record['there']:,}",
        missing.get(record["relation"], "nothing"),
        *(_minute(record[name]) for name in ("synced_at", "verified_at")),
    )


def _minute(instant: str | None) -> str:
    return instant[:16].replace("T", " ") + "Z" if instant else "never"
