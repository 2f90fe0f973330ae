"""Pull: from a mirror into a lake, verified part by part. Restoring a lake is the same, into an empty place."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lakehouse import Lake, tags
from lakehouse.core import layout
from lakehouse.core.commit import dump
from lakehouse.errors import LakehouseError, NotFoundError, SetupError, UserError
from lakehouse.store import LocalStore, Store
from sync import beside
from sync import hints as hinted
from sync.engine import Seen, Way
from sync.fork import parting
from sync.hints import Hints, Known
from sync.plan import End, Plan, Relation
from sync.sides import LakeSide, StoreSide, meet, ordered
from sync.transfer import Progress, Report, Transfer

if TYPE_CHECKING:
    from sync.where import Where

__all__ = ["Progress", "PullReport", "SourcePull", "copy", "pull"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePull:
    """What a pull did for one source.

    Attributes:
        plan: What was planned; `here` is the lake that was copied into.
        after: Where its log ends now.
        set_aside: Where its files of before were put; None where they stayed.
        error: Why it could not be done; None if it was.
    """

    plan: Plan
    after: End
    set_aside: str | None = None
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
        """How many commits were copied."""
        return max(self.after.seq - self.plan.here.seq, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullReport:
    """What a pull did.

    Attributes:
        sources: By source.
        tags: Names of tags that were copied.
        held: Names of tags that were not, as they name loads that are not here.
        quarantined: Files of refused loads that were copied.
        conflicts: What differs on both sides and was left alone, for people.
        files: Files that were written or found here, with their bytes.
        size_bytes: Bytes of them.
    """

    sources: tuple[SourcePull, ...] = ()
    tags: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    files: int = 0
    size_bytes: int = 0


def copy(
    there: Store,
    here: Store,
    *,
    sources: Sequence[str] | None = None,
    until: Mapping[str, int] | None = None,
    connections: int = 16,
    bandwidth: int | None = None,
    raising: bool = True,
    progress: Report | None = None,
) -> PullReport:
    """Copy a lake, or part of one, to another place; what is there already is gone on with.

    After an interruption what is there is a whole, possibly older, lake, and the same call goes on.

    Args:
        there: The lake.
        here: The place; it becomes a lake with the same id.
        sources: Only these; all when None.
        until: By source, the commit up to which its log is wanted, the whole log where it is not named; 0 for
            none of it.
        connections: Parts that are copied at once.
        bandwidth: Bytes a second, on average; None for no limit.
        raising: Raise the first error of a source when all others are done; else the report has them, and what
            lies beside the logs is not copied.
        progress: Called after every file.

    Raises:
        NoLakeError: There is no lake to copy from.
        UserError: The place is another lake.
        NotFoundError: There is no such source.
        ForkError: A log at the place is not the beginning of the one to copy.
        IntegrityError: A log or a part is not what was committed.
    """
    meet(there, here)
    names = _chosen(there, sources)
    with Transfer(connections=connections, bandwidth=bandwidth, progress=progress) as transfer:
        way = Way(
            origin=StoreSide(there),
            dest=StoreSide(here),
            pulls=True,
            until=until or {},
            connections=connections,
        )
        work = _Pull(way, transfer, Hints(lake_id="", url=there.url))
        return work.run(names, raising=raising)


def pull(
    lake: Lake,
    mirror: Store,
    *,
    name: str,
    sources: Sequence[str] | None = None,
    set_aside: bool = False,
    connections: int = 16,
    bandwidth: int | None = None,
    progress: Report | None = None,
) -> PullReport:
    """Bring a lake up to date with its mirror. Nothing in it is overwritten.

    Args:
        lake: The lake.
        mirror: The mirror's store.
        name: Name of the mirror, under which it is remembered what is there.
        sources: Only these; all when None.
        set_aside: Of a source with loads that the mirror lacks while it has others: put all files into a lake of
            their own beside the lake, `<lake>.set-aside/<UTC time>/`, and pull the source anew.
        connections: Parts that are copied at once.
        bandwidth: Bytes a second, on average; None for no limit.
        progress: Called after every file.

    Raises:
        NoLakeError: There is no lake in the mirror.
        UserError: The mirror is of another lake.
        NotFoundError: The mirror has no such source.
        ForkError: Both sides of a source have loads that the other lacks, and it is not to be set aside.
        IntegrityError: A log or a part is not what was committed.
    """
    from lakehouse.duck.session import refresh

    hints = hinted.load(lake.store, name, lake_id=lake.id, url=mirror.url)
    meet(mirror, lake.store)
    names = _chosen(mirror, sources)
    with Transfer(connections=connections, bandwidth=bandwidth, progress=progress) as transfer:
        side = StoreSide(mirror, name=name)
        way = Way(origin=side, dest=LakeSide(lake), pulls=True, connections=connections)
        try:
            report = _Pull(way, transfer, hints, set_aside=lake if set_aside else None).run(names)
        finally:
            hinted.save(lake.store, name, hints)
    refresh(lake)
    return report


def _chosen(there: Store, sources: Sequence[str] | None) -> list[str]:
    found = [name for name in there.folders(holding="_log") if not name.startswith(("_", "."))]
    for source in sources or ():
        if source not in found:
            msg = f"{there.url}: has no source {source!r}"
            raise NotFoundError(msg, hint=f"Sources: {', '.join(found) or 'none yet'}.")
    chosen = found if sources is None else list(dict.fromkeys(sources))
    return [layout.check_source_name(name) for name in ordered(chosen)]


class _Pull:
    """One pull, with what is known of the mirror."""

    def __init__(self, way: Way, transfer: Transfer, hints: Hints, *, set_aside: Lake | None = None) -> None:
        self._way = way
        self._transfer = transfer
        self._hints = hints
        self._set_aside = set_aside
        self._aside: dict[str, str] = {}

    def run(self, names: Sequence[str], *, raising: bool = True) -> PullReport:
        """Pull sources, then what lies beside them. The first error is raised when all others are done."""
        seen = list(self._transfer.pool.map(self._way.tried, names))
        if self._set_aside is not None:
            seen = self._without_forks(seen, self._set_aside)
        for each in seen:
            self._transfer.expect(each.plan.files, each.plan.size_bytes)
        done = [self._source(each) for each in seen]
        failed = [pulled.error for pulled in done if pulled.error is not None]
        if failed and raising:
            raise failed[0]
        if failed:
            total = self._transfer.done
            return PullReport(sources=tuple(done), files=total.files, size_bytes=total.size_bytes)
        return self._report(done)

    def _without_forks(self, seen: Sequence[Seen], lake: Lake) -> list[Seen]:
        there = self._way.origin.store
        forks = {
            each.plan.source: parting(lake.store, there, each.plan.source)
            for each in seen
            if each.plan.relation == "diverged" and each.error is None
        }
        if not forks:
            return list(seen)
        where = put_aside(lake, forks)
        self._aside = dict.fromkeys(forks, where)
        return [self._way.tried(e.plan.source) if e.plan.source in self._aside else e for e in seen]

    def _source(self, seen: Seen) -> SourcePull:
        aside = self._aside.get(seen.plan.source)
        try:
            at = self._way.carry(seen, self._transfer)
        except LakehouseError as error:
            return SourcePull(plan=seen.plan, after=seen.dest.end, set_aside=aside, error=error)
        if seen.origin.stat is not None and seen.plan.relation in {"equal", "behind"}:
            self._remember(seen.plan.source, seen.origin)
        return SourcePull(plan=seen.plan, after=at.end, set_aside=aside)

    def _remember(self, source: str, at: "Where") -> None:
        before = self._hints.sources.get(source)
        self._hints.sources[source] = Known(
            where=at, packed=before.packed if before else 0, unfinished=before.unfinished if before else True,
            synced_at=datetime.now(UTC), verified_at=before.verified_at if before else None,
        )  # fmt: skip

    def _report(self, done: Sequence[SourcePull]) -> PullReport:
        names, heads = [each.source for each in done], {each.source: each.after.seq for each in done}
        there, here = self._way.origin.store, self._way.dest.store
        rate = self._transfer.bandwidth
        marks = beside.pull_tags(there, here, heads=heads, known=self._hints.tags, bandwidth=rate)
        files = beside.pull_quarantine(
            there, here, sources=names, known=self._hints.quarantine, transfer=self._transfer
        )
        total = self._transfer.done
        return PullReport(
            sources=tuple(done), tags=tuple(marks.copied), held=tuple(marks.held),
            quarantined=tuple(files.copied), conflicts=(*marks.conflicts, *files.conflicts),
            files=total.files, size_bytes=total.size_bytes,
        )  # fmt: skip


def put_aside(lake: Lake, forks: Mapping[str, int]) -> str:
    """Put all files of sources into a lake of their own beside the lake; the lake is without them then.

    Tags that name their loads are copied to it; those that name one that will not be here again go. Everything
    derived of the sources is deleted.

    Args:
        lake: A lake in a folder.
        forks: By source, the number of the first load that the mirror does not have.

    Returns:
        The folder of the new lake.

    Raises:
        UserError: The lake is not in a folder.
        SetupError: The files could not be moved.
    """
    if not isinstance(lake.store, LocalStore):
        msg = f"{lake.url}: only what lies in a folder can be set aside"
        raise UserError(msg, hint="Copy the source by hand, delete it there, and pull again.")
    root = lake.store.root
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = LocalStore(root.with_name(f"{root.name}.set-aside") / moment)
    aside.create(layout.LAKE_FILE, lake.store.get(layout.LAKE_FILE))
    _tags_aside(lake, aside, forks)
    for source in forks:
        try:
            os.rename(root / source, aside.root / source)
        except OSError as error:
            msg = f"{root / source}: could not be moved to {aside.root} ({error.strerror or error})"
            raise SetupError(msg, hint="Move the folder there by hand, then pull again.") from error
        shutil.rmtree(root / layout.DERIVED / source, ignore_errors=True)
        lake.forget(source)
    return str(aside.root)


def _tags_aside(lake: Lake, aside: Store, forks: Mapping[str, int]) -> None:
    for about in tags.tags(lake).values():
        positions = {source: seq for source, seq in about.positions.items() if source in forks}
        if not any(positions.values()):
            continue
        key = layout.tag_key(about.name)
        aside.create(key, dump(replace(about, positions=positions).to_json()) + b"\n")
        if any(seq >= forks[source] for source, seq in positions.items()):
            lake.store.delete(key)
