"""Verify a mirror: each object that it needs, held against what was committed and what is here.

Fast: one listing of each source, with the checksums that the store reports; they are compared with those of the
local bytes, which are themselves held against their SHA-256. What has no such checksum, or no local bytes, is
compared by size and counted so: it is never called proven. Deep: every byte is read from the mirror.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from lakehouse import Lake
from lakehouse.core import layout, tag
from lakehouse.core.log import File, Log
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
from lakehouse.replay import replay
from lakehouse.store import Absent, Entry, LocalStore, Store
from lakehouse.tags import misfits
from lakehouse.verify import superseded, verify
from sync import hints as hinted
from sync import lines, proof, where
from sync.guard import Guarded
from sync.hints import Hints
from sync.lines import Lines

What = Literal["lake", "log", "part", "tag", "quarantine"]
Fault = Literal["missing", "truncated", "damaged", "forked", "other"]
Report = Callable[[int, int], None]

_MEND = "It can be mended from a lake that has it: lakehouse sync --repair"
_READERS = 16  # parts that are read from a mirror at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An object of a mirror that is not what it should be.

    Attributes:
        what: What it is.
        key: Its key.
        fault: What is wrong with it.
        error: The same as an error, with what to do next.
        part: The part that it should be.
        first: Of a log file, number of its first commit.
        last: Of a log file, number of its last commit.
    """

    what: What
    key: str
    fault: Fault
    error: LakehouseError
    part: File | None = None
    first: int = 0
    last: int = 0


@dataclass(slots=True, kw_only=True)
class MirrorReport:
    """What a look at a mirror found.

    Attributes:
        url: Where it is.
        deep: Whether its bytes were read.
        sources: How long each log is.
        proven: Parts whose bytes are those that were committed, by a checksum of all of them.
        by_size: Parts of which only the size was compared.
        why: Why only the size, and of how many parts.
        size_bytes: Bytes of all parts.
        problems: What is wrong.
        orphans: Keys that nothing names: left by uploads that were interrupted, or by something else. Harmless.
        superseded: Keys of files that packs stand for: `lakehouse sync --prune` deletes them.
    """

    url: str
    deep: bool = False
    sources: dict[str, int] = field(default_factory=dict)
    proven: int = 0
    by_size: int = 0
    why: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)

    @property
    def errors(self) -> list[LakehouseError]:
        """What is wrong, as errors."""
        return [problem.error for problem in self.problems]


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
    report = MirrorReport(url=mirror.url, deep=deep)
    there = Guarded(mirror)
    _check_lake(lake, there, report)
    hints = (
        hinted.load(lake.store, name, lake_id=lake.id, url=mirror.url) if lake else Hints(lake_id="", url="")
    )
    names = _names(lake, there, hints, sources)
    looks = [_Look(lake, there, source, hints, report, deep=deep) for source in names]
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
        _remember(lake, there, name, hints, looks, report)
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
        trouble = kind(f"{there.url}/{layout.LAKE_FILE}: {said}", path=layout.LAKE_FILE, hint=_MEND)
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


class _Look:
    """One source of a mirror."""

    def __init__(
        self,
        lake: Lake | None,
        there: Guarded,
        source: str,
        hints: Hints,
        report: MirrorReport,
        *,
        deep: bool,
    ) -> None:
        self.source = source
        self.log: Log | None = None
        self.before = len(report.problems)
        self.unsure = 0
        self._there = there
        self._deep = deep
        self._report = report
        self._local = lake.store if lake and source in lake.sources() else None
        known = hints.sources.get(source)
        try:
            self.log = replay(there, source, checkpoint=False)
        except LakehouseError as error:
            trouble: LakehouseError | None = error
        else:
            trouble = None
        mine = self._local_log()
        if mine is not None and self._local is not None:
            self._hold(Lines(self._local, source), mine, known.where if known else None, trouble)
        elif trouble is not None:
            self._add(
                "log", trouble, "damaged", key=getattr(trouble, "path", "") or layout.log_prefix(source)
            )
        head = self.log.head if self.log else 0
        report.sources[source] = head
        tables = self.log.tables.values() if self.log else ()
        self.files: list[File] = [file for table in tables for file in table.files]

    @property
    def clean(self) -> bool:
        """Whether all that it names is proven to be there."""
        mine = [p for p in self._report.problems if p.key.startswith(f"{self.source}/")]
        return not mine and self.log is not None and (self._deep or not self.unsure)

    def parts(self) -> Iterator[File]:
        """Hold each part against what the mirror says of it."""
        entries = {entry.key: entry for entry in self._there.list(f"{self.source}/")}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(
                lambda file: proof.of_part(self._local, file, entries.get(file.path)), self.files
            )
            for file, proved in zip(self.files, found, strict=True):
                self._part(file, proved)
                yield file
        self._leftovers(entries)

    def _part(self, file: File, proved: proof.Proof) -> None:
        self._report.size_bytes += file.size_bytes
        if proved.wrong:
            kind = MissingPartError if proved.wrong == "missing" else DamagedPartError
            error = kind(
                f"{self._there.url}/{file.path}: {proved.found}; load {file.last} of {self.source} names it",
                path=file.path,
                hint="It can be mended from a lake that has the file: lakehouse sync --repair",
            )
            self._add("part", error, proved.wrong, key=file.path, part=file)
        elif proved.proven:
            self._report.proven += 1
        elif not self._deep:
            self.unsure += 1
            self._report.by_size += 1
            self._report.why[proved.unsure] = self._report.why.get(proved.unsure, 0) + 1

    def _leftovers(self, entries: Mapping[str, Entry]) -> None:
        """Files beside those that hold the rows: such that a pack stands for, and such that nothing names."""
        if self.log is None:
            return
        named, gone, mine = {file.path for file in self.files}, superseded(self.log), self._local_log()
        later = {file.path for table in mine.tables.values() for file in table.files} if mine else set()
        for key in entries:
            if key in named or "/_log/" in key:
                continue
            if key in gone:
                self._report.superseded.append(key)
            elif key not in later:  # an interrupted upload, which the next one takes up, is none
                self._report.orphans.append(key)
        self._log_leftovers()

    def _log_leftovers(self) -> None:
        from lakehouse import logpack

        if self.log is not None:
            spare, strange = logpack.spare(self._there, self.log)
            self._report.superseded += [file.key for file in spare]
            self._report.orphans += [file.key for file in strange]

    def _local_log(self) -> Log | None:
        if self._local is None:
            return None
        with suppress(LakehouseError):
            return replay(self._local, self.source, checkpoint=False)
        return None

    def _hold(self, mine: Lines, log: Log, known: where.Where | None, trouble: LakehouseError | None) -> None:
        """Hold the log files against the local log."""
        head, found = lines.compare(mine, self._there, known)
        for each in found:
            where_ = f"{self._there.url}/{each.key}"
            kind = ForkError if each.fault == "forked" else IntegrityError
            error = kind(
                f"{where_}: {each.found}; it should hold load {each.first} to {each.last} of {self.source}",
                path=each.key,
                hint="Both sides have loads that the other lacks: lakehouse sync says what to do."
                if each.fault == "forked"
                else "It can be mended from here: lakehouse sync --repair",
            )
            self._add("log", error, each.fault, key=each.key, first=each.first, last=each.last)
        if found or trouble is not None:  # what is expected there is what the log here says
            if trouble is not None and not found:
                self._add(
                    "log",
                    trouble,
                    "damaged",
                    key=getattr(trouble, "path", "") or layout.log_prefix(self.source),
                )
            ours = min([head, log.head, *(each.first - 1 for each in found if each.fault == "forked")])
            self.log = Log(self.source).extended(log.commits[:ours])

    def _add(
        self,
        what: What,
        error: LakehouseError,
        fault: Fault,
        *,
        key: str,
        part: File | None = None,
        first: int = 0,
        last: int = 0,
    ) -> None:
        self._report.problems.append(
            Problem(what=what, key=key, fault=fault, error=error, part=part, first=first, last=last)
        )


def _deep(there: Guarded, looks: Iterable[_Look], report: MirrorReport) -> None:
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
    looks: Sequence["_Look"],
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
                _tag_problem(report, key, "missing", MissingPartError(msg, path=key, hint=_MEND))
            continue
        except IntegrityError as error:
            error.hint = _MEND
            _tag_problem(report, key, "damaged", error)
            continue
        logs = [look.log for look in looks if look.log is not None]
        wrong = [error for log in logs for error in misfits(about, log)]
        if wrong and content is not None and content != found:
            msg = f"{there.url}/{key}: {wrong[0].message}"
            _tag_problem(report, key, "damaged", DamagedPartError(msg, path=key, hint=_MEND))
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
        if proved.wrong:
            kind = MissingPartError if proved.wrong == "missing" else DamagedPartError
            error = kind(f"{there.url}/{key}: {proved.found}", path=key, hint=_MEND)
            report.problems.append(Problem(what="quarantine", key=key, fault=proved.wrong, error=error))


def _local(lake: Lake | None, key: str) -> bytes | None:
    """The bytes of an object here; None if there is none."""
    try:
        return lake.store.get(key) if lake else None
    except LakehouseError:
        return None


def _remember(
    lake: Lake, there: Guarded, name: str, hints: Hints, looks: Iterable[_Look], report: MirrorReport
) -> None:
    """Keep that sources were proven to be there, where all of them is."""
    if any(problem.what == "lake" for problem in report.problems) or not isinstance(lake.store, LocalStore):
        return
    wheres = {look.source: where.find(there, look.source) for look in looks if look.clean}
    if wheres:
        hinted.verified(lake.store, name, hints, wheres)
