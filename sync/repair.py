"""Repair a mirror from the local lake: what verifying found wrong is written anew, from bytes that are proven.

Parts first, then log files, in order, then what lies beside them. What the local side cannot prove is not
written: it is said what is lost.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lakehouse import Lake, logpack
from lakehouse.core import layout
from lakehouse.errors import IntegrityError, LakehouseError
from lakehouse.quarantine import is_readable
from lakehouse.store import Absent, Exists, LocalStore, Store
from lakehouse.store.hashing import size_of
from sync.check import MirrorReport, Problem
from sync.lines import Lines
from sync.plan import Copy
from sync.transfer import fetch

_ORDER = ("lake", "part", "log", "tag", "quarantine")


@dataclass(slots=True, kw_only=True)
class RepairReport:
    """What a repair did.

    Attributes:
        mended: Keys that were written anew.
        size_bytes: Bytes of them.
        lost: What could not be mended, and why, as errors.
    """

    mended: list[str] = field(default_factory=list)
    size_bytes: int = 0
    lost: list[LakehouseError] = field(default_factory=list)


def repair(
    lake: Lake, mirror: Store, report: MirrorReport, *, progress: Callable[[int, int], None] | None = None
) -> RepairReport:
    """Write anew what is wrong in a mirror.

    Args:
        lake: The lake that it mirrors.
        mirror: The mirror's store.
        report: What verifying it found.
        progress: Called with problems done and in all.

    Returns:
        What was mended, and what is lost: neither side has the bytes that were committed. Of a source with
        a part that is lost, no log file is written either: a log must not name what is not there.
    """
    done = RepairReport()
    logs: dict[str, Lines] = {}
    lost: set[str] = set()
    problems = sorted(report.problems, key=lambda problem: (_ORDER.index(problem.what), problem.first))
    for number, problem in enumerate(problems, 1):
        try:
            if problem.what == "log" and problem.key.split("/", 1)[0] in lost:
                raise _lost(problem, "a part that it names is lost")
            with tempfile.TemporaryDirectory() as folder:
                data = _mended(lake, problem, logs, folder)
                size = size_of(data)
                _write(mirror, problem, data)
        except LakehouseError as error:
            done.lost.append(error)
            lost.add(problem.key.split("/", 1)[0])
        else:
            done.mended.append(problem.key)
            done.size_bytes += size
        if progress is not None:
            progress(number, len(problems))
    return done


def _write(mirror: Store, problem: Problem, data: bytes | Path) -> None:
    """Write an object anew; a log file that is missing is created, as somebody else may write it right now."""
    if problem.what != "log" or problem.fault != "missing":
        mirror.put(problem.key, data)
        return
    try:
        mirror.create(problem.key, data)
    except Exists:
        if mirror.get(problem.key) != data:
            raise _lost(problem, "somebody else wrote it meanwhile") from None


def _mended(lake: Lake, problem: Problem, logs: dict[str, Lines], folder: str) -> bytes | Path:
    """The bytes that an object has to have, proven."""
    if problem.fault in {"forked", "other"}:
        raise _lost(problem, "both sides have another one, and neither is overwritten")
    if problem.what == "part" and problem.part is not None:
        return _part(lake, problem, folder)
    if problem.what == "log":
        return _log(lake, problem, logs)
    try:
        data = lake.store.get(problem.key)
    except Absent:
        raise _lost(problem, "it is not here") from None
    if problem.what == "quarantine" and not is_readable(problem.key, data):
        raise _lost(problem, "the bytes here are damaged too")
    return data


def _part(lake: Lake, problem: Problem, folder: str) -> bytes | Path:
    assert problem.part is not None  # noqa: S101 - of a part
    copy = Copy(path=problem.part.path, sha256=problem.part.sha256, size_bytes=problem.part.size_bytes)
    try:
        return fetch(lake.store, copy, folder=None if isinstance(lake.store, LocalStore) else folder)
    except Absent:
        raise _lost(problem, "it is not here either") from None
    except IntegrityError as error:
        raise _lost(problem, f"the bytes here are damaged too ({error.message})") from error


def _log(lake: Lake, problem: Problem, logs: dict[str, Lines]) -> bytes:
    source = problem.key.split("/", 1)[0]
    if not problem.first:
        raise _lost(problem, "it was not held against the log here")
    if source not in logs:
        logs[source] = Lines(lake.store, source)
    mine = logs[source]
    if problem.last > mine.head:
        raise _lost(problem, f"it held loads up to {problem.last}; the log here ends at {mine.head}")
    content = mine.get(problem.first, problem.last)
    return logpack.packed(content) if layout.log_pack_span(problem.key) else content


def _lost(problem: Problem, why: str) -> IntegrityError:
    return IntegrityError(
        f"{problem.key}: cannot be mended: {why}; in the mirror: {problem.error}".split("\n", 1)[0],
        path=problem.key,
        hint="Restore this file from another mirror or a backup, on either side; then run it again. "
        "What does not need it can be restored: lakehouse restore --source … or --as-of …",
    )
