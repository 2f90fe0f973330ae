"""Restore: a lake from a mirror into an empty folder, as it is now or as of a moment.

The copying is the engine's (`sync.pull`): each file is proven before it gets its name, commits come last and in
order. So what an interrupted restore leaves is a whole, older lake, and the same call goes on. Here it is
worked out how far each log has to go, what the folder may hold, and what is left where a mirror is damaged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from lakehouse import Lake, logpack, tags
from lakehouse.core import layout
from lakehouse.core.log import File, Log
from lakehouse.errors import IntegrityError, MissingPartError, NotFoundError, UserError
from lakehouse.replay import replay
from lakehouse.store import LocalStore, Store, open_store
from sync import pull, rest
from sync.guard import Guarded
from sync.transfer import Progress

__all__ = ["Progress", "RestoreReport", "SourceRestore", "restore"]

AsOf = datetime | str | int | None

_PRUNED = "a part of load {wanted} was packed later and pruned, and load {seq} is the first that has the pack"
_SHARED = "a part of load {wanted} holds rows of later loads too, up to load {seq}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRestore:
    """How far a source was restored.

    Attributes:
        head: Number of its newest commit; 0 for none.
        digest: Digest of that commit: it stands for the whole history up to it.
        effective_at: When its newest state holds from.
        wanted: The position that the moment means; `head` is later where `because` says why.
        because: Why the state at `wanted` needs later commits: a part of it was packed later and pruned, or holds rows
            of later loads too. Empty where `head` is `wanted`.
        loads: Commits that were copied now; the others were there.
    """

    source: str
    head: int
    digest: str
    effective_at: datetime | None
    wanted: int
    because: str = ""
    loads: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What was restored.

    Attributes:
        folder: The lake.
        lake_id: Its id, which is that of the mirror.
        as_of: The moment that was asked for.
        sources: How far each source was restored.
        tags: Names of the tags in it that were copied now.
        skipped: Names of tags that were not: they name loads that are not in it.
        quarantined: Files of refused loads that were copied.
        conflicts: What differs from the mirror and was left alone, for people.
        files: Files that were written, or found there.
        size_bytes: Bytes of them.
        broken: What the catalog says of sources whose log it cannot read.
    """

    folder: str
    lake_id: str
    as_of: AsOf
    sources: tuple[SourceRestore, ...] = ()
    tags: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    files: int = 0
    size_bytes: int = 0
    broken: Mapping[str, IntegrityError] = field(default_factory=dict)

    @property
    def later(self) -> tuple[SourceRestore, ...]:
        """The sources that had to be restored beyond the moment: ask in them as of it."""
        return tuple(source for source in self.sources if source.head > source.wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """Where a log is to end, and why."""

    wanted: int
    seq: int
    because: str = ""


def restore(
    place: str | Store,
    folder: str | Path,
    *,
    as_of: AsOf = None,
    sources: Sequence[str] | None = None,
    connections: int = 16,
    bandwidth: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> RestoreReport:
    """A lake from a mirror. Interrupted, the same call goes on.

    Args:
        place: The mirror: a URL, or its store.
        folder: Where the lake goes: a folder that is not there, is empty, or holds part of this lake.
        as_of: Restore it as of this moment: an instant, the number of a load in every log, or a tag. Each log
            ends there; beyond it only where parts of that state need later commits (`SourceRestore.because`).
        sources: Only these; all when None.
        connections: Parts that are copied at once.
        bandwidth: Bytes a second, on average; None for no limit.
        progress: Called after every file.

    Raises:
        NoLakeError: There is no lake to restore.
        UserError: The folder holds something else, or more than was asked for.
        NotFoundError: There is no such source or load, or the state was let go by a retention.
        QueryError: `as_of` is no moment.
        IntegrityError: The mirror is damaged; what could be restored is there, and the hint says what else can be.
    """
    from lakehouse.duck.session import refresh

    store = open_store(place) if isinstance(place, str) else place
    here = LocalStore(Path(folder).expanduser())
    mirror = Lake.open(Guarded(store))
    names = _names(mirror, sources)
    _check_target(here, mirror, store)
    there: Store = Guarded(store, sources=names)
    try:
        there, ends = _ends(there, names, as_of)
    except IntegrityError as error:
        raise rest.unread(error, Guarded(store), names) from None
    before = _heads(here, names, ends)
    report = pull.copy(
        there, here, sources=names, until={name: end.seq for name, end in ends.items()},
        connections=connections, bandwidth=bandwidth, raising=False, progress=progress,
    )  # fmt: skip
    failed = {each.source: each.error for each in report.sources if each.error is not None}
    if failed:
        raise rest.left(failed, Guarded(store), here, names)
    lake = Lake.open(here)
    logs = {name: lake.log(name) for name in names}
    for log in logs.values():
        _tidy(here, log)
    return RestoreReport(
        folder=here.url, lake_id=lake.id, as_of=as_of,
        sources=tuple(_done(log, ends.get(name), before.get(name, 0)) for name, log in logs.items()),
        tags=report.tags, skipped=report.held, quarantined=report.quarantined, conflicts=report.conflicts,
        files=report.files, size_bytes=report.size_bytes, broken=refresh(lake),
    )  # fmt: skip


def _names(mirror: Lake, wanted: Sequence[str] | None) -> list[str]:
    """The sources to restore: names that may become folders, side by side on any disk."""
    found = mirror.sources()
    for name in wanted or ():
        if name not in found:
            msg = f"{mirror.url}: has no source {name!r}"
            raise NotFoundError(msg, hint=f"Sources: {', '.join(found) or 'none yet'}.")
    names = [layout.check_source_name(name) for name in (found if wanted is None else dict.fromkeys(wanted))]
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(name.lower(), name)
        if other != name:
            msg = f"{mirror.url}: has the sources {other} and {name}, which differ only in case"
            raise UserError(
                msg, hint="Restore one of them: --source NAME. The mirror was not written by lakehouse."
            )
    return names


def _check_target(here: LocalStore, mirror: Lake, store: Store) -> None:
    """Refuse a place that holds anything but part of this lake."""
    root = here.root
    if isinstance(store, LocalStore) and (root == store.root or root.is_relative_to(store.root)):
        msg = f"{root}: is the mirror itself, or lies in it"
        raise UserError(msg, hint="Choose an empty folder elsewhere.")
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: is no folder", hint="Choose an empty one.")
    there = sorted(path.name for path in root.iterdir()) if root.exists() else []
    if there and layout.LAKE_FILE not in there:
        msg = f"{root}: is not empty, and holds no lake ({', '.join(there[:3])}{', …' if len(there) > 3 else ''})"  # noqa: PLR2004 - some of them
        raise UserError(msg, hint="Nothing was written. Choose an empty folder.")
    if there and (found := Lake.open(here)).id != mirror.id:
        msg = f"{root}: holds another lake (id {found.id}) than {mirror.url} (id {mirror.id})"
        raise UserError(msg, hint="Nothing was written. Choose an empty folder.")


def _ends(there: Store, names: Sequence[str], as_of: AsOf) -> tuple[Store, dict[str, _End]]:
    """Where each log is to end, and the store to copy them from; no ends where all of it is wanted."""
    if as_of is None:
        return there, {}
    lake = Lake.open(there)
    try:
        wanted = tags.resolve(lake, as_of)
    except IntegrityError:
        seq = _number(as_of)
        if seq is None:
            raise
        # A log that is damaged after that load: what is before it may still be whole.
        there = Guarded(there, until=dict.fromkeys(names, seq))
        wanted = tags.resolve(Lake.open(there), seq)
    return there, {
        name: _end(there, replay(there, name, checkpoint=False), seq) for name, seq in wanted.items()
    }


def _number(as_of: AsOf) -> int | None:
    if isinstance(as_of, str) and as_of.strip().isascii() and as_of.strip().isdigit():
        return int(as_of)
    return as_of if isinstance(as_of, int) else None


def _end(there: Store, log: Log, wanted: int) -> _End:
    """The first position from the wanted one on at which the log may end.

    All parts that hold the rows have to be there, and to hold no rows of loads after it: an import writes
    the rows of many loads into one part, and the next load would get a number that is in it already.
    """
    named = {p.path: c.seq for c in log.commits for change in c.tables.values() for p in change.parts}
    packed = any(commit.packs for commit in log.commits[wanted:])
    keys = {entry.key for entry in there.list(f"{log.source}/")} if packed else None
    seq, because = wanted, ""
    while True:
        needed, why = seq, ""
        for name, file in _files(log, seq):
            if keys is not None and file.path not in keys:
                at, reason = _packed_by(log, name, file, seq), _PRUNED
            else:
                at, reason = named.get(file.path, 0), _SHARED
            if at > needed:
                needed, why = at, reason
        if needed == seq:
            return _End(wanted=wanted, seq=seq, because=because.format(wanted=wanted, seq=seq))
        seq, because = needed, because or why


def _files(log: Log, seq: int) -> list[tuple[str, File]]:
    """The parts that hold the rows at a position, by table."""
    then = Log(log.source).extended(log.commits[:seq])
    return [(table.name, file) for table in then.tables.values() for file in table.files]


def _packed_by(log: Log, table: str, file: File, seq: int) -> int:
    """The number of the commit after a position that says which pack stands for a part."""
    for commit in log.commits[seq:]:
        if any(p.first <= file.first and file.last <= p.last for p in commit.packs.get(table, ())):
            return commit.seq
    raise MissingPartError(
        f"{file.path}: is missing; it is named by load {file.last} of {log.source}, and no pack stands for it",
        path=file.path,
    )


def _heads(here: LocalStore, names: Sequence[str], ends: Mapping[str, _End]) -> dict[str, int]:
    """Where the logs end that are there; a log that goes further than asked for is not cut."""
    lake = Lake.open(here) if (here.root / layout.LAKE_FILE).exists() else None
    heads = {name: lake.log(name).head for name in names} if lake else {}
    for name, end in ends.items():
        if heads.get(name, 0) > end.seq:
            msg = f"{here.root}: has {name} up to load {heads[name]}, which is more than load {end.seq} that was asked for"
            raise UserError(
                msg, hint="Nothing was written. Choose an empty folder, or ask in this lake with --as-of."
            )
    return heads


def _tidy(here: LocalStore, log: Log) -> None:
    """Remove log files that say what the pack says with which a log was cut; a pack covers no newest file."""
    if layout.log_pack_span(log.reach.key):
        same, _ = logpack.spare(here, log)
        for file in same:
            here.delete(file.key)


def _done(log: Log, end: _End | None, before: int) -> SourceRestore:
    return SourceRestore(
        source=log.source, head=log.head, digest=log.digest, effective_at=log.effective_at,
        wanted=end.wanted if end else log.head, because=end.because if end else "", loads=log.head - before,
    )  # fmt: skip
