"""What is told of mirrors, to people and to programs: of what was done, or would be, and of what was found."""

from typing import TYPE_CHECKING, Any

from lakehouse.cli.context import many, print_table, size
from lakehouse.cli.mirrors import Told, error_record
from lakehouse.core.moments import render
from lakehouse.errors import ForkError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from lakehouse.prune import PruneReport
    from sync.check import MirrorReport
    from sync.plan import Plan
    from sync.postgres.check import PgCheck
    from sync.postgres.push import PgReport
    from sync.postgres.push import SourcePush as PgSourcePush
    from sync.postgres.push import SourceStatus as PgSourceStatus
    from sync.pull import PullReport
    from sync.push import PushReport, SourcePush, SourceStatus
    from sync.repair import RepairReport
    from sync.settings import Mirror


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
        "relation": "unknown" if _is_unread(push) else push.relation,
        "here": plan.here.seq,
        "before": plan.there.seq,
        "after": push.after.seq,
        "loads": plan.loads if dry_run else push.loads,
        "files": plan.files,
        "size_bytes": plan.size_bytes,
        "stopped": plan.stopped,
        "next_loads": plan.next_loads,
        "next_bytes": plan.next_bytes,
        "error": error_record(push.error) if push.error else None,
    }
    return record | ({"dry_run": True, "actions": _actions(plan)} if dry_run else {})


def _is_unread(push: "SourcePush") -> bool:
    """Whether a log could not be read, so that nobody knows how it stands to the other."""
    return push.relation == "diverged" and not isinstance(push.error, ForkError | None)


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
            f"nothing sent: {_next(plan)}, which is more than --max-transfer leaves"
            if plan.stopped
            else f"nothing to do (load {plan.there.seq:,})"
        ]
    amount = f"{many(plan.files, 'file')}, {size(plan.size_bytes)}"
    end = f" of {plan.here.seq:,}: --max-transfer was reached; {_next(plan)}" if plan.stopped else ""
    if not dry_run:
        return [f"{many(push.loads, 'load')}, {amount} sent; now at load {push.after.seq:,}{end}"]
    lines = [f"would send {many(plan.loads, 'load')}, {amount}; to load {plan.publishes[-1].last:,}{end}"]
    for action in _actions(plan):
        first, last = action.get("publish", (0, 0))
        what = action.get("copy") or (f"commit {first}" if first == last else f"commits {first} to {last}")
        lines.append(f"  {what}, {size(action['size_bytes'])}")
    return lines


def only_there(mirror: "Mirror", sources: "Iterable[str]") -> Told:
    """Sources that a mirror has and the lake has not."""
    told = Told()
    for source in (name for name in sources if not name.startswith(("_", "."))):
        told.records.append(
            {"mirror": mirror.name, "url": mirror.shown, "source": source, "relation": "behind", "here": 0,
             "loads": 0, "files": 0, "error": None}
        )  # fmt: skip
        told.lines.append(f"{mirror.name}: {source}: behind: it is not here at all: lakehouse sync pull")
    return told


def _next(plan: "Plan") -> str:
    """What a push that a limit ended would send next."""
    if plan.next_loads == 1:
        return f"the next load needs {size(plan.next_bytes)}"
    return f"the next {many(plan.next_loads, 'load')} go together and need {size(plan.next_bytes)}"


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
            told.lines.append(
                f"{start}what was here is now in {pull.set_aside}: load again what only that has, then: lakehouse sync"
            )
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


def mended(mirror: "Mirror", report: "RepairReport") -> Told:
    """What a repair did."""
    record = {
        "mirror": mirror.name, "mended": report.mended, "size_bytes": report.size_bytes,
        "lost": [error_record(error) for error in report.lost],
    }  # fmt: skip
    done = f"{many(len(report.mended), 'file')}, {size(report.size_bytes)} mended" if report.mended else ""
    return Told(
        records=[record],
        lines=[f"{mirror.name}: {done or 'nothing to mend'}", *(f"  {key}" for key in report.mended)],
        errors=list(report.lost),
    )


def swept(mirror: "Mirror", reports: "Sequence[PruneReport]", *, dry_run: bool) -> Told:
    """What was deleted in a mirror, or would be."""
    told = Told()
    for report in reports:
        told.records.append(
            {
                "mirror": mirror.name, "source": report.source, "dry_run": dry_run, "parts": list(report.parts),
                "log_files": list(report.log_files), "size_bytes": report.size_bytes, "packs_verified": report.packs,
            }
        )  # fmt: skip
        if not (report.parts or report.log_files):
            continue
        files = f"{many(len(report.parts), 'part')} and {many(len(report.log_files), 'log file')}"
        told.lines.append(
            f"{mirror.name}: {report.source}: {'would delete' if dry_run else 'deleted'} {files}, "
            f"{size(report.size_bytes)}; {many(report.packs, 'pack')} proven there"
        )
    if not told.lines:
        told.lines.append(f"{mirror.name}: nothing to delete")
    return told


def verified(mirror: "Mirror", report: "MirrorReport") -> Told:
    """What a look at a mirror found."""
    record = {
        "mirror": mirror.name,
        "url": mirror.shown,
        "ok": not report.problems,
        "deep": report.deep,
        "sources": report.sources,
        "proven": report.proven,
        "by_size": report.by_size,
        "why": report.why,
        "size_bytes": report.size_bytes,
        "problems": [
            {"what": p.what, "key": p.key, "fault": p.fault, **error_record(p.error)} for p in report.problems
        ],
        "orphans": report.orphans,
        "superseded": report.superseded,
    }
    commits = f"{many(sum(report.sources.values()), 'commit')} of {many(len(report.sources), 'source')}"
    files = f"{many(report.proven + report.by_size, 'file')}, {size(report.size_bytes)}"
    lines = [f"{mirror.name}: {commits}, {files}, {_outcome(report)}"]
    lines += [
        f"{mirror.name}: only the size of {many(n, 'file')} was compared: {why}; --deep reads them"
        for why, n in report.why.items()
    ]
    if report.superseded:
        lines.append(
            f"{mirror.name}: {many(len(report.superseded), 'file')} that packs stand for: "
            "`lakehouse sync --prune` deletes them"
        )
    forked = {problem.key.split("/")[0] for problem in report.problems if problem.fault == "forked"}
    others = [key for key in report.orphans if key.split("/")[0] in forked]
    if others:
        lines.append(
            f"{mirror.name}: {many(len(others), 'file')} that no commit here names: of the other history"
        )
    if len(others) < len(report.orphans):
        orphans = many(len(report.orphans) - len(others), "file")
        lines.append(f"{mirror.name}: {orphans} that no commit names (harmless)")
    return Told(records=[record], lines=lines, errors=report.errors)


def _outcome(report: "MirrorReport") -> str:
    """How a mirror was looked at, and with what result."""
    if report.deep:
        how, good = "every byte read", "all as committed"
    elif not report.by_size:
        how, good = "checksums as the store reports them", "all as committed"
    elif not report.proven:
        how, good = "sizes", "all there"
    else:
        how, good = "checksums as the store reports them, or sizes", "all there"
    return f"{how}: {many(len(report.problems), 'error') if report.problems else good}"


def verified_tables(mirror: "Mirror", found: "PgCheck", *, deep: bool) -> Told:
    """What a look at a database found."""
    told = Told(errors=found.errors)
    for s in found.sources:
        told.records.append(
            {
                "mirror": mirror.name, "url": mirror.shown, "source": s.source, "schema": s.schema, "deep": deep,
                "ok": not s.errors, "seq": s.seq, "behind": s.loads, "tables": s.tables, "versions": s.versions,
                "skipped": s.skipped, "errors": [error_record(error) for error in s.errors],
            }
        )  # fmt: skip
        what = f"{many(s.tables, 'table')}, {many(s.versions, 'row version')}"
        ok = many(len(s.errors), "error") if s.errors else "as in the lake"
        late = f"; {many(s.loads, 'load')} to send" if s.loads else ""
        told.lines.append(f"{mirror.name}: {s.source}: {what} up to load {s.seq:,}: {ok}{late}")
        told.lines += [
            f"{mirror.name}: {s.source}: {table} is to be made anew: lakehouse sync" for table in s.skipped
        ]
    return told


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
        more = push.there.seq - push.here
        return (
            f"behind: the database has {many(more, 'load')} that {'is' if more == 1 else 'are'} not here: get "
            f"{'it' if more == 1 else 'them'} from a mirror in a bucket (lakehouse sync pull MIRROR), "
            "or let the machine sync that has them"
        )
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
            "relation": s.relation, "here": s.here.seq, "there": _there(s), "loads": s.loads,
            "files": getattr(s, "files", None), "size_bytes": getattr(s, "size_bytes", None),
            "synced_at": _instant(s.synced_at), "verified_at": _instant(s.verified_at),
            "error": error_record(s.error) if s.error else None,
        }
        for s in found
    ]  # fmt: skip


def _there(status: "SourceStatus | PgSourceStatus") -> int | None:
    """Where a mirror's log ends, if that could be read."""
    return None if status.relation == "unknown" else status.there.seq


def status_table(records: list[dict[str, Any]]) -> None:
    """The same for people; nothing where nothing is known."""
    if not records:
        return
    columns = ["mirror", "source", "here", "there", "missing", "synced", "verified"]
    print_table(columns, [_status_row(record) for record in records], right=("here", "there"))


def _status_row(record: dict[str, Any]) -> tuple[Any, ...]:
    lacks = many(record["loads"], "load")
    if record["files"]:
        lacks += f", {many(record['files'], 'file')}, {size(record['size_bytes'])}"
    missing = {
        "ahead": f"{lacks} to send",
        "behind": f"{lacks} to pull" if record["kind"] == "bucket" else f"{lacks} more than here",
        "diverged": "two histories",
        "unknown": "cannot be read",
    }
    return (
        record["mirror"],
        record["source"],
        f"{record['here']:,}",
        "?" if record["there"] is None else f"{record['there']:,}",
        missing.get(record["relation"], "nothing"),
        *(_minute(record[name]) for name in ("synced_at", "verified_at")),
    )


def _minute(instant: str | None) -> str:
    return instant[:16].replace("T", " ") + "Z" if instant else "never"


def _instant(moment: "datetime | None") -> str | None:
    return render(moment) if moment else None
