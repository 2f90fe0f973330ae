"""Prune a mirror: delete what packs in its log stand for, after these packs were proven to be there.

Only what its own log says goes, and only where that log is the beginning of the one here. So what is left is
the same lake; whoever reads it with an older log reads the log again.
"""

import hashlib
from collections.abc import Callable, Sequence

from lakehouse import Lake, logpack
from lakehouse.core.log import File, Log
from lakehouse.errors import DamagedPartError, ForkError, UserError
from lakehouse.prune import PruneReport
from lakehouse.replay import replay
from lakehouse.store import Absent, Entry, Store
from lakehouse.tags import read_tags
from lakehouse.verify import superseded
from sync import proof
from sync.guard import Guarded
from sync.plan import same

_BLOCK = 1 << 20


def sweep(
    lake: Lake,
    mirror: Store,
    *,
    name: str,
    sources: Sequence[str] | None = None,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[PruneReport]:
    """Delete in a mirror what its packs stand for, and what a retention let go.

    Args:
        lake: The lake that it mirrors.
        mirror: The mirror's store.
        name: Its name, for messages.
        sources: Only these; all when None.
        dry_run: Prove the packs, and say what would be deleted, but delete nothing.
        progress: Called with files done and in all.

    Raises:
        ForkError: The mirror has commits that are not here: pull first. Nothing of any source was deleted.
        UserError: A tag there names a state that expired. Nothing of any source was deleted.
        IntegrityError: A pack is not there as it was committed. Nothing of any source was deleted.
    """
    there = Guarded(mirror)
    known = set(there.folders(holding="_log"))
    names = [source for source in (sources or lake.sources()) if source in known]
    found = [_found(lake, there, source, name) for source in names]
    if dry_run:
        return found
    keys = [key for report in found for key in (*report.parts, *report.log_files)]
    for done, key in enumerate(keys, 1):
        mirror.delete(key)
        if progress is not None:
            progress(done, len(keys))
    return found


def _found(lake: Lake, there: Guarded, source: str, name: str) -> PruneReport:
    """What of a source can go. All packs that stand for it are proven here."""
    log = replay(there, source, checkpoint=False)
    mine = lake.log(source)
    if log.head > mine.head or (log.head and not same(mine.digest_at(log.head), log.digest)):
        msg = f"{source}: mirror {name} has commits that are not here (load {log.head}); nothing was deleted there"
        raise ForkError(msg, path=log.reach.key, hint="Run `lakehouse sync pull` first.")
    _check_tags(there, log, name)
    entries = {entry.key: entry for entry in there.list(f"{source}/")}
    parts: list[str] = []
    packs: dict[str, File] = {}
    for path, (table, first, last) in superseded(log).items():
        stands = [f for f in log.tables[table].files if f.first <= first and last <= f.last]
        if path in entries and stands:
            parts.append(path)
            packs |= {file.path: file for file in stands}
    for file in packs.values():
        _prove(lake, there, file, entries.get(file.path))
    spare, strange = _log_files(there, log)
    return PruneReport(
        source=source,
        parts=tuple(sorted(parts)),
        log_files=(*spare, *strange),
        size_bytes=sum(entries[key].size_bytes for key in (*parts, *spare, *strange) if key in entries),
        packs=len(packs),
    )


def _check_tags(there: Guarded, log: Log, name: str) -> None:
    """Refuse where a tag in the mirror names a state that an expiry let go, which knew nothing of that tag."""
    for tag in read_tags(there)[0].values():
        seq = tag.positions.get(log.source, 0)
        if not seq or not log.is_expired(seq):
            continue
        by = next(c.seq for c in log.commits if any(a <= seq <= b for a, b in c.retention.get("expired", ())))
        raise UserError(
            f"{log.source}: the tag {tag.name} in mirror {name} names load {seq}, which expired with load {by}; "
            "nothing was deleted there",
            hint=f"What it names is still there: lakehouse restore {there.url} DIR --as-of {by - 1}. "
            f"To let it go: lakehouse tag delete {tag.name} --lake {there.url}",
        )


def _log_files(there: Guarded, log: Log) -> tuple[list[str], list[str]]:
    """The log files that packs cover: the log was read from these packs, and every line was checked."""
    spare, strange = logpack.spare(there, log)
    return [file.key for file in spare], [file.key for file in strange]


def _prove(lake: Lake, there: Store, file: File, entry: Entry | None) -> None:
    """Refuse to rely on a pack that is not proven to be there: by its checksum, else by its bytes."""
    proved = proof.of_part(lake.store, file, entry)
    found = proved.found
    if not proved.wrong and not proved.proven:
        found = _read(there, file)
    if found:
        raise DamagedPartError(
            f"{there.url}/{file.path}: {found}; other parts were to be deleted in its favour, and were not",
            path=file.path,
            hint="Mend the mirror first: lakehouse sync NAME --repair",
        )


def _read(there: Store, file: File) -> str:
    """What is wrong with the bytes of a part; empty if nothing is."""
    digest, size = hashlib.sha256(), 0
    try:
        with there.open(file.path) as source:
            while (block := source.read(_BLOCK)) and size <= file.size_bytes:
                digest.update(block)
                size += len(block)
    except Absent:
        return "is missing"
    return "" if digest.hexdigest() == file.sha256 else "has other bytes than were committed"
