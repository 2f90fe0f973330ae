"""Verify a mirror: each object that it needs, held against what was committed and what is here.

Fast: one listing of each source, with the checksums that the store reports; they are compared with those of the
local bytes, which are themselves held against their SHA-256. What has no such checksum, or no local bytes, is
compared by size and counted so: it is never called proven. Deep: every byte is read from the mirror.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from lakehouse import Lake
from lakehouse.core import layout, tag
from lakehouse.errors import (
    DamagedPartError,
    ForkError,
    FormatError,
    IntegrityError,
    LakehouseError,
    MissingPartError,
    NoLakeError,
    NotFoundError,
    UserError,
)
from lakehouse.store import Absent, LocalStore, Store
from lakehouse.tags import misfits
from lakehouse.verify import verify
from sync import hints as hinted
from sync import proof, where
from sync.found import Fault, MirrorReport, Problem, mend
from sync.guard import Guarded
from sync.hints import Hints
from sync.look import Look

__all__ = ["MirrorReport", "Problem", "verify_mirror"]

Report = Callable[[int, int], None]

_READERS = 16  # parts that are read from a mirror at once


def verify_mirror(
    lake: Lake | None,
    mirror: Store,
    *,
    name: str,
    deep: bool = False,
    sources: Sequence[str] | None = None,
    progress: Report | None = None,
) -> MirrorReport:
    """Check a mirror. Nothing is written but when it was verified, in the local lake.

    Args:
        lake: The lake that it mirrors; without it, what the mirror says of itself is all that there is.
        mirror: The mirror's store.
        name: Its name.
        deep: Read every byte. If not, checksums as the store reports them.
        sources: Only these; all when None.
        progress: Called with parts done and in all.

    Raises:
        NoLakeError: There is no mirror.
        UserError: It is a mirror of another lake.
        NotFoundError: It has no such source.
    """
    report = MirrorReport(url=mirror.url, name=name, deep=deep)
    there = Guarded(mirror)
    hints = (
        hinted.load(lake.store, name, lake_id=lake.id, url=mirror.url) if lake else Hints(lake_id="", url="")
    )
    try:
        _check_lake(lake, there, report)
    except NoLakeError:
        if lake is not None and hints.sources:
            hinted.verified(lake.store, name, hints, {}, damaged=list(hints.sources))
        raise
    names = _names(lake, there, hints, sources)
    looks = [Look(lake, there, source, hints, report, deep=deep) for source in names]
    total = sum(len(look.files) for look in looks)
    done = 0
    for look in looks:
        for _ in look.parts():
            done += 1
            if progress is not None:
                progress(done, total)
    if deep:
        _deep(there, looks, report)
    _tags(lake, there, hints, report, looks, whole=sources is None)
    _quarantine(lake, there, hints, report, names)
    if lake is not None:
        _remember(lake, there, name, hints, looks)
    return report


def _check_lake(lake: Lake | None, there: Store, report: MirrorReport) -> None:
    """Whether the mirror says which lake it is."""
    try:
        found = Lake.open(there)
    except (NoLakeError, FormatError) as error:
        gone = isinstance(error, NoLakeError)
        if lake is None or (gone and not there.folders(holding="_log")):
            raise
        said = "is missing" if gone else f"cannot be read ({error.message})"
        kind = MissingPartError if gone else FormatError
        trouble = kind(
            f"{there.url}/{layout.LAKE_FILE}: {said}", path=layout.LAKE_FILE, hint=mend(report.name)
        )
        report.problems.append(
            Problem(what="lake", key=layout.LAKE_FILE, fault="missing" if gone else "damaged", error=trouble)
        )
        return
    if lake is not None and found.id != lake.id:
        msg = f"{there.url}: is a mirror of another lake (id {found.id}) than {lake.url} (id {lake.id})"
        raise UserError(msg, hint="Name the right mirror, or the right lake with --lake.")


def _names(lake: Lake | None, there: Store, hints: Hints, wanted: Sequence[str] | None) -> list[str]:
    found = {name for name in there.folders(holding="_log") if not name.startswith(("_", "."))}
    if lake is not None:  # of a log of which all files are gone
        found |= {name for name, known in hints.sources.items() if known.where.head} & set(lake.sources())
    for name in wanted or ():
        if name not in found:
            msg = f"{there.url}: has no source {name!r}"
            raise NotFoundError(msg, hint=f"Sources: {', '.join(sorted(found)) or 'none yet'}.")
    return sorted(found if wanted is None else set(wanted))


def _deep(there: Guarded, looks: Iterable[Look], report: MirrorReport) -> None:
    """Read every part of the mirror; what is found beyond what the listing told."""
    lake = Lake.open(there) if not any(p.what == "lake" for p in report.problems) else Lake(there, "")
    known = {problem.key for problem in report.problems}
    report.proven = 0
    for look in looks:
        found = verify(lake, look.source, connections=_READERS)
        report.proven += found.files
        for error in found.errors:
            path = getattr(error, "path", "")
            at_fault = {file.path: file for file in look.files}.get(path)
            if at_fault is not None:
                report.proven -= 1
            if path in known or path.startswith(f"{layout.TAGS}/"):
                continue
            known.add(path)
            error.hint = mend(report.name)
            fault: Fault = "missing" if isinstance(error, MissingPartError) else "damaged"
            report.problems.append(
                Problem(
                    what="part" if at_fault else "log",
                    key=path or look.source,
                    fault=fault,
                    error=error,
                    part=at_fault,
                )
            )


def _tags(
    lake: Lake | None,
    there: Guarded,
    hints: Hints,
    report: MirrorReport,
    looks: Sequence[Look],
    *,
    whole: bool,
) -> None:
    """Tags of the mirror against those here; of those only here, only such that were there."""
    names = {
        entry.key.removeprefix(f"{layout.TAGS}/").removesuffix(".json"): entry
        for entry in there.list(f"{layout.TAGS}/")
    }
    mine = {name: _local(lake, layout.tag_key(name)) for name in {*names, *hints.tags}}
    for name in sorted(mine):
        key, content = layout.tag_key(name), mine[name]
        try:
            found = there.get(key)
            about = tag.parse(found, key=key)
        except Absent:
            if content is not None and whole:
                msg = f"{there.url}/{key}: is missing; it was there when it was synced"
                _tag_problem(report, key, "missing", MissingPartError(msg, path=key, hint=mend(report.name)))
            continue
        except IntegrityError as error:
            error.hint = mend(report.name)
            _tag_problem(report, key, "damaged", error)
            continue
        logs = [look.log for look in looks if look.log is not None]
        wrong = [error for log in logs for error in misfits(about, log)]
        if wrong and content is not None and content != found:
            msg = f"{there.url}/{key}: {wrong[0].message}"
            _tag_problem(report, key, "damaged", DamagedPartError(msg, path=key, hint=mend(report.name)))
        elif content is not None and content != found:
            msg = f"{there.url}/{key}: is another tag than the one of this name here"
            _tag_problem(report, key, "other", ForkError(msg, path=key, hint="Delete the one that is wrong."))


def _tag_problem(report: MirrorReport, key: str, fault: Fault, error: LakehouseError) -> None:
    report.problems.append(Problem(what="tag", key=key, fault=fault, error=error))


def _quarantine(
    lake: Lake | None, there: Guarded, hints: Hints, report: MirrorReport, names: Sequence[str]
) -> None:
    """Refused loads of the mirror against those here; of those only here, only such that were there."""
    prefix = f"{layout.QUARANTINE}/"
    found = {entry.key: entry for entry in there.list(prefix)}
    others = {key.removesuffix("load.json") for key in found if _is_another_load(lake, there, key)}
    for key in sorted({*found, *hints.quarantine}):
        if key.split("/")[1] not in names:
            continue
        content = _local(lake, key)
        if content is None:
            continue  # approved or discarded here, or never here: nothing to hold it against
        entry = found.get(key)
        proved = proof.of_bytes(content, entry) if entry else proof.Proof(wrong="missing", found="is missing")
        if proved.unsure and entry is not None and there.get(key) != content:
            proved = proof.Proof(wrong="damaged", found="has other bytes than here")
        if proved.wrong and key.startswith(tuple(others)):
            msg = f"{there.url}/{key}: {proved.found}; another load of this id was refused there"
            error: LakehouseError = ForkError(
                msg, path=key, hint="Approve or discard one of them, there or here."
            )
            report.problems.append(Problem(what="quarantine", key=key, fault="other", error=error))
        elif proved.wrong:
            kind = MissingPartError if proved.wrong == "missing" else DamagedPartError
            error = kind(f"{there.url}/{key}: {proved.found}", path=key, hint=mend(report.name))
            report.problems.append(Problem(what="quarantine", key=key, fault=proved.wrong, error=error))


def _is_another_load(lake: Lake | None, there: Guarded, key: str) -> bool:
    """Whether the file about a refused load tells of another one than that here, refused at another time."""
    content = _local(lake, key) if key.endswith("/load.json") else None
    with suppress(LakehouseError, ValueError, TypeError, KeyError, RecursionError):
        if content is not None:
            return bool(json.loads(content)["refused_at"] != json.loads(there.get(key))["refused_at"])
    return False


def _local(lake: Lake | None, key: str) -> bytes | None:
    """The bytes of an object here; None if there is none."""
    try:
        return lake.store.get(key) if lake else None
    except LakehouseError:
        return None


def _remember(lake: Lake, there: Guarded, name: str, hints: Hints, looks: Sequence[Look]) -> None:
    """Keep which sources were proven to be there, all of them, and forget it of those of which something is wrong."""
    if not isinstance(lake.store, LocalStore):
        return
    damaged = [look.source for look in looks if look.damaged]
    wheres = {look.source: where.find(there, look.source) for look in looks if look.clean}
    if wheres or damaged:
        hinted.verified(lake.store, name, hints, wheres, damaged=damaged)
