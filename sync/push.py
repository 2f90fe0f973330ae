"""Push: a lake to its mirror. A lake that the mirror has already costs two requests for each source."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from lakehouse import Lake
from lakehouse.errors import IntegrityError, LakehouseError, NotFoundError
from lakehouse.store import Store
from sync import beside, where
from sync import hints as hinted
from sync.engine import Seen, Way
from sync.hints import Hints, Known
from sync.plan import End, Plan, Relation
from sync.sides import LakeSide, StoreSide, meet, ordered
from sync.transfer import LISTED, Progress, Report, Transfer
from sync.where import Where

__all__ = ["Progress", "PushReport", "SourcePush", "SourceStatus", "plans", "push", "status"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePush:
    """What a push did for one source, or would do.

    Attributes:
        plan: What was planned.
        after: Where the mirror's log ends now.
        error: Why it could not be done; None if it was.
    """

    plan: Plan
    after: End
    error: LakehouseError | None = None

    @property
    def source(self) -> str:
        """Its name."""
        return self.plan.source

    @property
    def relation(self) -> Relation:
        """How the local log stood to the mirror's."""
        return self.plan.relation

    @property
    def loads(self) -> int:
        """How many commits became visible in the mirror."""
        return max(self.after.seq - self.plan.there.seq, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushReport:
    """What a push did.

    Attributes:
        sources: By source.
        tags: Names of tags that were copied.
        quarantined: Files of refused loads that were copied.
        conflicts: What differs on both sides and was left alone, for people.
        files: Files that were written or found there, with their bytes.
        size_bytes: Bytes of them.
        stopped: Whether it ended early, at the limit that it was given.
        next_bytes: Bytes that a limit has to be at least for the next push to get further; 0 where none ended it.
    """

    sources: tuple[SourcePush, ...] = ()
    tags: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    files: int = 0
    size_bytes: int = 0
    stopped: bool = False
    next_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """How a mirror stands to the lake, for one source.

    Attributes:
        relation: `equal`; `ahead`: there is something to push; `behind`: something to pull; `diverged`;
            `unknown` where a log cannot be read, which `error` tells.
        here: Where the local log ends.
        there: Where the mirror's ends; 0 where that is not known.
        loads: Commits that the shorter log lacks.
        files: Files that are to be copied for them.
        size_bytes: Bytes of these files.
        synced_at: When the mirror was last as here.
        verified_at: When all that it names was last proven there.
        error: What is wrong; None if nothing is.
    """

    source: str
    relation: Relation | Literal["unknown"]
    here: End
    there: End
    loads: int = 0
    files: int = 0
    size_bytes: int = 0
    synced_at: datetime | None = None
    verified_at: datetime | None = None
    error: LakehouseError | None = None


def push(
    lake: Lake,
    mirror: Store,
    *,
    name: str,
    sources: Sequence[str] | None = None,
    dry_run: bool = False,
    connections: int = 16,
    bandwidth: int | None = None,
    max_transfer: int | None = None,
    prune: bool = False,
    raising: bool = True,
    progress: Report | None = None,
) -> PushReport:
    """Bring a mirror up to date. Nothing in it is overwritten, and nothing deleted unless `prune` says so.

    All sources are pushed, also if one cannot be; the first error is raised at the end.

    Args:
        lake: The lake.
        mirror: The mirror's store.
        name: Name of the mirror, under which it is remembered what is there.
        sources: Only these; all when None.
        dry_run: Plan only; nothing is written anywhere, and errors of sources are in the report, not raised.
        connections: Parts that are copied at once.
        bandwidth: Bytes a second, on average; None for no limit.
        max_transfer: Bytes that may be copied at most; the rest waits for the next time.
        prune: Delete in the mirror what packs stand for, and what a retention let go.
        raising: Raise the first error at the end; else the report has them, and nothing is pruned.
        progress: Called after every file.

    Raises:
        UserError: The mirror is of another lake.
        NotFoundError: There is no such source.
        ForkError: Both sides of a source have loads that the other lacks.
        IntegrityError: A log or a part is not what was committed, here or there.
    """
    names = _chosen(lake, sources)
    with Transfer(connections=connections, bandwidth=bandwidth, progress=progress) as transfer:
        work = _Push(lake, mirror, name, transfer, dry_run=dry_run)
        seen = work.look(names, max_transfer)
        if dry_run:
            return PushReport(
                sources=tuple(work.planned(each) for each in seen),
                stopped=any(each.plan.stopped for each in seen),
                next_bytes=_next_bytes([each.plan for each in seen]),
            )
        report = work.run(seen, max_transfer)
    failed = [each.error for each in report.sources if each.error is not None]
    if failed and raising:
        raise failed[0]
    if prune and not failed:
        from sync.sweep import sweep

        sweep(lake, mirror, name=name, sources=names)
    return report


def plans(lake: Lake, mirror: Store, *, name: str, sources: Sequence[str] | None = None) -> list[Plan]:
    """What a push would do, by source. Changes nothing."""
    report = push(lake, mirror, name=name, sources=sources, dry_run=True)
    return [each.plan for each in report.sources]


def status(lake: Lake, mirror: Store, name: str) -> list[SourceStatus]:
    """How a mirror stands to the lake, by source; sources that only the mirror has among them."""
    hints = hinted.load(lake.store, name, lake_id=lake.id, url=mirror.url)
    there = mirror.folders(holding="_log") if meet(lake.store, mirror, make=False) else ()
    names = sorted({*lake.sources(), *(source for source in there if not source.startswith(("_", ".")))})
    known = {source: about.where for source, about in hints.sources.items()}
    with Transfer() as transfer:
        up = Way(origin=LakeSide(lake), dest=StoreSide(mirror, known, name))
        return list(transfer.pool.map(lambda source: _status(up, source, hints), names))


def _status(up: Way, source: str, hints: Hints) -> SourceStatus:
    known = hints.sources.get(source)
    seen = up.tried(source)
    if seen.plan.relation == "behind":
        seen = Way(origin=up.dest, dest=up.origin, pulls=True).tried(source)
    plan, error, here = seen.plan, seen.error, seen.plan.here
    if error is not None:
        with contextlib.suppress(LakehouseError):  # it may be the log here that cannot be read
            here = up.origin.find(source).end
    elif plan.relation == "diverged":
        error = up.forked(source)
    return SourceStatus(
        source=source, relation="unknown" if seen.error else plan.relation, here=here, there=plan.there,
        loads=plan.loads, files=plan.files, size_bytes=plan.size_bytes,
        synced_at=known.synced_at if known else None, verified_at=known.verified_at if known else None,
        error=error,
    )  # fmt: skip


def _chosen(lake: Lake, sources: Sequence[str] | None) -> list[str]:
    there = lake.sources()
    for source in sources or ():
        if source not in there:
            msg = f"there is no source {source!r}"
            raise NotFoundError(msg, hint=f"Sources: {', '.join(there) or 'none yet'}.")
    return ordered(there if sources is None else list(dict.fromkeys(sources)))


def _next_bytes(made: Sequence[Plan]) -> int:
    return min((plan.next_bytes for plan in made if plan.stopped), default=0)


class _Push:
    """One push, with what is known of the mirror."""

    def __init__(self, lake: Lake, mirror: Store, name: str, transfer: Transfer, *, dry_run: bool) -> None:
        self._lake = lake
        self._mirror = mirror
        self._name = name
        self._transfer = transfer
        self._hints = hinted.load(lake.store, name, lake_id=lake.id, url=mirror.url)
        self._make = not dry_run
        self._was_lake = True
        known = {source: about.where for source, about in self._hints.sources.items()}
        self._way = Way(
            origin=LakeSide(lake), dest=StoreSide(mirror, known, name), connections=transfer.connections,
            interrupted=self._may_hold_parts,
        )  # fmt: skip

    def _may_hold_parts(self, source: str) -> bool:
        known = self._hints.sources.get(source)
        return known.unfinished if known else self._was_lake

    def look(self, names: Sequence[str], most: int | None) -> list[Seen]:
        """See how all sources stand, several at once; a limit is for all together."""
        if self._hints.fresh:
            self._meet()
        seen = list(self._transfer.pool.map(self._way.tried, names))
        if not self._hints.fresh and not all(self._is_as_known(each) for each in seen):
            self._meet()
            beside.forget_gone(self._mirror, tags=self._hints.tags, quarantine=self._hints.quarantine)
        left = most
        for at, each in enumerate(seen):
            if left is None:
                break
            if each.plan.size_bytes > left:
                seen[at] = self._way.look(each.plan.source, max_bytes=left)
            left -= seen[at].plan.size_bytes
        for each in seen:
            self._transfer.expect(each.plan.files, each.plan.size_bytes)
        return seen

    def _is_as_known(self, seen: Seen) -> bool:
        return seen.dest == self._hints.where(seen.plan.source)

    def _meet(self) -> None:
        """See that the mirror is this lake; if it is none (any more), nothing is known to be there."""
        self._was_lake = meet(self._lake.store, self._mirror, make=self._make)
        if not self._was_lake:
            self._hints.tags.clear()
            self._hints.quarantine.clear()
            self._hints.sources.clear()

    def planned(self, seen: Seen) -> SourcePush:
        """What is to be done for a source, and why it cannot be."""
        error: LakehouseError | None = seen.error
        if error is None and seen.plan.relation == "diverged":
            error = self._way.forked(seen.plan.source)
        return SourcePush(plan=seen.plan, after=seen.plan.there, error=error)

    def run(self, seen: Sequence[Seen], most: int | None) -> PushReport:
        """Push all sources, then what lies beside them."""
        try:
            done = []
            for each in seen:
                spent = self._transfer.done.size_bytes
                done.append(self._source(each, most))
                most = None if most is None else max(most - self._transfer.done.size_bytes + spent, 0)
            return self._report(done, stopped=any(each.plan.stopped for each in seen))
        finally:
            hinted.save(self._lake.store, self._name, self._hints)

    def _source(self, seen: Seen, most: int | None) -> SourcePush:
        source = seen.plan.source
        if len(seen.plan.copies) >= LISTED:
            self._remember(source, seen.dest, unfinished=True)
            hinted.save(self._lake.store, self._name, self._hints)
        try:
            at = self._way.carry(seen, self._transfer, max_bytes=most)
        except LakehouseError as error:
            at = seen.dest
            if isinstance(error, IntegrityError) and seen.plan.loads:
                with contextlib.suppress(LakehouseError):  # what comes before the damage is there
                    at = where.find(self._mirror, source)
            if seen.error is None:
                self._remember(source, at, unfinished=True)
            return SourcePush(plan=seen.plan, after=at.end, error=error)
        self._remember(source, at, unfinished=False)
        return SourcePush(plan=seen.plan, after=at.end)

    def _remember(self, source: str, at: Where, *, unfinished: bool) -> None:
        before = self._hints.sources.get(source, Known(where=at))
        whole = not unfinished and at.head >= self._lake.log(source).head
        self._hints.sources[source] = replace(
            before,
            where=at,
            unfinished=unfinished,
            synced_at=datetime.now(UTC) if whole else before.synced_at,
        )

    def _report(self, done: Sequence[SourcePush], *, stopped: bool) -> PushReport:
        names = [each.source for each in done]
        heads = {source: about.where.head for source, about in self._hints.sources.items()}
        heads |= {each.source: 0 for each in done if each.error is not None}
        here, hints = self._lake.store, self._hints
        rate = self._transfer.bandwidth
        tags = beside.push_tags(here, self._mirror, heads=heads, known=hints.tags, bandwidth=rate)
        files = beside.push_quarantine(
            here, self._mirror, sources=names, known=hints.quarantine, transfer=self._transfer
        )
        for each in done:
            if each.error is None:
                self._packs(each.source)
        if not stopped and not any(each.error for each in done) and {*self._lake.sources()} <= {*names}:
            hints.synced_at = datetime.now(UTC)
        total = self._transfer.done
        return PushReport(
            sources=tuple(done), tags=tuple(tags.copied), quarantined=tuple(files.copied),
            conflicts=(*tags.conflicts, *files.conflicts), files=total.files, size_bytes=total.size_bytes,
            stopped=stopped, next_bytes=_next_bytes([each.plan for each in done]),
        )  # fmt: skip

    def _packs(self, source: str) -> None:
        known = self._hints.sources[source]
        packed = beside.push_packs(
            self._lake, self._mirror, source, head=known.where.head, packed=known.packed,
            bandwidth=self._transfer.bandwidth,
        )  # fmt: skip
        self._hints.sources[source] = replace(known, packed=packed)
