"""One source of a mirror, held against what was committed: its log files, its parts, and what lies beside them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress

from lakehouse import Lake, logpack
from lakehouse.core import layout
from lakehouse.core.log import File, Log
from lakehouse.errors import DamagedPartError, ForkError, IntegrityError, LakehouseError, MissingPartError
from lakehouse.replay import replay
from lakehouse.store import Entry
from lakehouse.store.threads import threads
from lakehouse.verify import superseded
from sync import lines, proof, where
from sync.found import Fault, MirrorReport, Problem, What, mend
from sync.guard import Guarded
from sync.hints import Hints
from sync.lines import Lines


class Look:
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
            error.hint = mend(report.name)
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
        return not self.damaged and self.log is not None and (self._deep or not self.unsure)

    @property
    def damaged(self) -> bool:
        """Whether something of it is wrong, or of what lies beside it and belongs to no source."""
        return any(self.source == _source_of(p, self.source) for p in self._report.problems)

    def parts(self) -> Iterator[File]:
        """Hold each part against what the mirror says of it."""
        entries = {entry.key: entry for entry in self._there.list(f"{self.source}/")}
        with threads(os.cpu_count() or 1) as pool:
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
                hint=mend(self._report.name),
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
                else mend(self._report.name),
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


def _source_of(problem: Problem, source: str) -> str:
    """The source that a problem is of; any where it may be of each, as that of a tag."""
    if problem.what in {"lake", "tag"}:
        return source
    return problem.key.removeprefix(f"{layout.QUARANTINE}/").split("/", 1)[0]
