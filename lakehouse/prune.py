"""Pruning: the explicit deletion of files that verified packs stand for. Nothing else is ever deleted.

First every pack that is to be relied on is proven anew from its bytes, then the catalog is brought up to
date, so that no plain client opens the old parts any more; only then do they go. What is deleted is
no part of the lake by then, so a crash at any point leaves a whole one, and the next run goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse import logpack
from lakehouse.core.log import File, Log
from lakehouse.duck.session import refresh
from lakehouse.errors import DamagedPartError, NotFoundError
from lakehouse.pack import committed
from lakehouse.parquet.check import check_part
from lakehouse.parquet.contents import contents
from lakehouse.replay import replay
from lakehouse.store.local import LocalStore
from lakehouse.verify import superseded

if TYPE_CHECKING:
    from lakehouse.lake import Lake

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """What pruning deleted of one source, or would delete.

    Attributes:
        source: Its name.
        parts: Keys of parts that packs stand for.
        log_files: Keys of log files that a log pack covers.
        size_bytes: Bytes of all of them.
        packs: Packs that were verified for it.
    """

    source: str
    parts: tuple[str, ...] = ()
    log_files: tuple[str, ...] = ()
    size_bytes: int = 0
    packs: int = 0


def prune(
    lake: "Lake", source: str | None = None, *, dry_run: bool = False, progress: Progress | None = None
) -> list[PruneReport]:
    """Delete the files that packs stand for, after the packs were verified.

    Args:
        lake: The lake.
        source: Only this source; all when None.
        dry_run: Verify, and say what would be deleted, but delete nothing.
        progress: Called with files done and in all.

    Raises:
        NotFoundError: There is no such source.
        IntegrityError: A pack, or the log, is not what was committed: nothing of any source was deleted.
    """
    known = lake.sources()
    if source is not None and source not in known:
        msg = f"there is no source {source!r}"
        raise NotFoundError(msg, hint=f"Sources: {', '.join(known) or 'none yet'}.")
    found = [_found(lake, name) for name in ([source] if source else known)]
    if dry_run:
        return found
    if any(report.parts for report in found):
        refresh(lake)
    keys = [key for report in found for key in (*report.parts, *report.log_files)]
    for done, key in enumerate(keys, 1):
        lake.store.delete(key)
        if progress is not None:
            progress(done, len(keys))
    if isinstance(lake.store, LocalStore):
        lake.store.sweep(key for report in found for key in report.parts)
    return found


def _found(lake: "Lake", source: str) -> PruneReport:
    """What of a source can go. All packs that stand for it are verified here."""
    log = replay(lake.store, source, checkpoint=False)
    sizes = {entry.key: entry.size_bytes for entry in lake.store.list(f"{source}/")}
    parts: list[str] = []
    packs: dict[str, tuple[str, File]] = {}
    for path, (table, first, last) in superseded(log).items():
        if path not in sizes:
            continue
        stands = [f for f in log.tables[table].files if f.first <= first and last <= f.last]
        if stands:  # as the log makes sure: it lets go of a part only for a pack of all its loads
            parts.append(path)
            packs |= {file.path: (table, file) for file in stands}
    for table, file in packs.values():
        check_pack(lake, log, table, file)
    spare, strange = logpack.spare(lake.store, log)  # ascending: what is left of them is the end
    return PruneReport(
        source=source,
        parts=tuple(sorted(parts)),
        log_files=tuple(file.key for file in (*spare, *strange)),
        size_bytes=sum(sizes[path] for path in parts) + sum(file.size_bytes for file in (*spare, *strange)),
        packs=len(packs),
    )


def check_pack(lake: "Lake", log: Log, table: str, file: File) -> None:
    """Read a pack, and compare it with what the log says of all loads in it.

    Raises:
        MissingPartError, DamagedPartError: It is not the part that was committed.
    """
    named_by = f"a pack of {log.source}"
    check_part(lake.store, file, named_by=named_by)
    found = contents(lake.store.get(file.path), path=file.path, named_by=named_by)
    wanted = committed(log.tables[table], file.first, file.last)
    for seq in sorted({*found, *wanted}):
        if found.get(seq) != wanted.get(seq):
            raise DamagedPartError(
                f"{file.path}: the rows of load {seq} have the content digest {found.get(seq) or 'of none'}, "
                f"not {wanted.get(seq) or 'of none'}; it is named by {named_by}",
                path=file.path,
                hint="Nothing was deleted. Restore this file from a mirror or backup.",
            )
