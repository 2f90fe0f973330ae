"""The log files of a mirror against the lines of a log: which of them are not what they should be.

A log file of a mirror is a stretch of the local lines, byte for byte. So each of them can be told, and mended,
from the local log alone.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from lakehouse import logpack
from lakehouse.core import commit as commits
from lakehouse.core import layout
from lakehouse.core.commit import GENESIS, Commit
from lakehouse.errors import IntegrityError
from lakehouse.logpack import LogFile
from lakehouse.store import Absent, Store
from sync import proof, units
from sync.where import Where

Fault = Literal["missing", "truncated", "damaged", "forked"]


class Lines:
    """The lines of a local log.

    Args:
        store: The lake's store.
        source: The source.
    """

    def __init__(self, store: Store, source: str) -> None:
        self.source = source
        found = units.read(store, source, seq=0, digest=GENESIS)
        self._content = b"".join(unit.content for unit in found)
        ends = [0]
        while (at := self._content.find(b"\n", ends[-1])) >= 0:
            ends.append(at + 1)
        self._ends = ends  # of each line; the first is where all begins
        self._stops = [unit.last for unit in found]  # after which a log file may end

    @property
    def head(self) -> int:
        """Number of the newest commit."""
        return len(self._ends) - 1

    def get(self, first: int, last: int) -> bytes:
        """The lines of some commits."""
        return self._content[self._ends[first - 1] : self._ends[last]]

    def digest(self, seq: int) -> str:
        """The digest of a commit."""
        return commits.digest_of(self.get(seq, seq)[:-1]) if seq else GENESIS

    def last_in(self, first: int, content: bytes) -> int:
        """The last commit of a file that holds these lines from a number on, or begins so; 0 if it does not."""
        end = self._ends[first - 1] + len(content)
        if first > self.head or self._content[self._ends[first - 1] : end] != content:
            return 0
        return next((seq for seq in self._stops if self._ends[seq] == end and seq >= first), 0)

    def last_at(self, first: int, size_bytes: int) -> int:
        """The last commit of a file of this size that begins at a number; 0 where no file is of this size."""
        end = self._ends[first - 1] + size_bytes
        return next((seq for seq in self._stops if self._ends[seq] == end and seq >= first), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A log file of a mirror that is not what it should be.

    Attributes:
        key: Its key.
        fault: What is wrong with it.
        found: What was found, for people.
        first: Number of its first commit.
        last: Number of its last commit; what mends it are these lines.
    """

    key: str
    fault: Fault
    found: str
    first: int
    last: int


def compare(mine: Lines, there: Store, known: Where | None = None) -> tuple[int, list[Finding]]:
    """Hold the log files of a mirror against the local log.

    Args:
        mine: The local log.
        there: The mirror.
        known: Where its log ended when somebody looked last.

    Returns:
        Where its log ends, once it is mended, and what is wrong with it. Beyond the local log nothing is told.
    """
    files = list(logpack.listing(there, mine.source).files)
    found: list[Finding] = []
    at = 0
    for number, file in enumerate(files):
        if at >= mine.head:
            break
        if file.first > at + 1:
            found.append(_gap(mine, at + 1, min(file.first - 1, mine.head)))
            at = min(file.first - 1, mine.head)
        if file.first <= at or at >= mine.head:
            continue  # beside the one before it, or beyond what is here
        last, finding = _file(mine, there, file, files[number + 1 :], known)
        found += [finding] if finding else []
        at = max(last, at)
        if finding and finding.fault == "forked":
            return at, found  # what follows is of that history too
    if known is not None and at < known.head <= mine.head and mine.digest(known.head) == known.digest:
        found.append(_gap(mine, at + 1, known.head))
        at = known.head
    return at, found


def _gap(mine: Lines, first: int, last: int) -> Finding:
    key = layout.log_key(mine.source, first)
    return Finding(key=key, fault="missing", found="is missing", first=first, last=last)


def _file(
    mine: Lines, there: Store, file: LogFile, later: Sequence[LogFile], known: Where | None
) -> tuple[int, Finding | None]:
    """The last commit of a file, and what is wrong with it."""
    following = later[0].first - 1 if later else None
    if not file.last and following and _is_proven(mine, there, file, following):
        return following, None
    try:
        content = logpack.raw_lines(there, file)
        last = mine.last_in(file.first, content)
        shorter = known is not None and known.key == file.key and last < known.head <= mine.head
        if last and known is not None and shorter and last != following:
            last, found = known.head, f"ends with load {last}, not {known.head}"
            return last, Finding(key=file.key, fault="truncated", found=found, first=file.first, last=last)
        if last and (not file.last or last == file.last):
            return last, None
        if file.last and content == mine.get(file.first, min(file.last, mine.head)):
            return min(file.last, mine.head), None  # a log that was cut ends there
        wrong = f"has other lines than the log here ({len(content)} bytes)"
        after = _first_prev(there, mine.source, later[0]) if later else ""
        forked = _is_another(mine, file, content, after, known)
        if file.first + content.count(b"\n") - 1 > mine.head and content.startswith(
            mine.get(file.first, mine.head)
        ):
            return mine.head, None  # it goes on beyond what is here
    except Absent:
        return file.first - 1, None  # packed and pruned since the listing
    except IntegrityError as error:
        wrong, forked = error.message.removeprefix(f"{file.key}: "), False
    at = file.last or following or _end(mine, file, known)
    size = len(mine.get(file.first, at)) if at <= mine.head else 0
    fault: Fault = "truncated" if not file.last and file.size_bytes < size else "damaged"
    return at, Finding(
        key=file.key, fault="forked" if forked else fault, found=wrong, first=file.first, last=at
    )


def _is_proven(mine: Lines, there: Store, file: LogFile, last: int) -> bool:
    """Whether the checksum of a file is that of the lines up to where the next file begins."""
    if last > mine.head:
        return False
    return proof.of_bytes(mine.get(file.first, last), there.stat(file.key)).proven


def _is_another(mine: Lines, file: LogFile, content: bytes, after: str | None, known: Where | None) -> bool:
    """Whether a file holds commits that follow from those here, but are others: another history.

    Damage breaks the chain within the file, or to the commit after it, of which `after` is what it follows: None
    where that cannot be told, empty where there is none. Then, in a file that was seen to be ours, it is another
    load that tells another history.
    """
    found = commits.parse_file(content, key=file.key, source=mine.source, cut=bool(file.last))
    chained = all(two.prev == one.digest for one, two in pairwise(found))
    if not chained or found[0].seq != file.first or found[0].prev != mine.digest(file.first - 1):
        return False
    if after != "":
        return after == found[-1].digest
    ours = (
        known is not None
        and file.first <= known.head <= mine.head
        and known.digest == mine.digest(known.head)
    )
    return not ours or _is_another_load(mine, file.first, found)


def _first_prev(there: Store, source: str, file: LogFile) -> str | None:
    """What the first commit of a file follows; None where that cannot be read."""
    with contextlib.suppress(IntegrityError, Absent):
        return logpack.read(there, source, file)[0].prev
    return None


def _is_another_load(mine: Lines, first: int, found: Sequence[Commit]) -> bool:
    """Whether the first commit that differs from the one here was made by another run."""
    theirs = next((c for c in found if c.seq > mine.head or mine.digest(c.seq) != c.digest), None)
    if theirs is None or theirs.seq > mine.head:
        return False
    here = commits.parse_file(
        mine.get(first, theirs.seq), key=layout.log_key(mine.source, first), source=mine.source, cut=True
    )[-1]
    return here.load_id != theirs.load_id and here.committed_at != theirs.committed_at


def _end(mine: Lines, file: LogFile, known: Where | None) -> int:
    """Where the newest file of a log most likely ended."""
    if known is not None and known.key == file.key and file.first <= known.head <= mine.head:
        return known.head
    return mine.last_at(file.first, file.size_bytes) or mine.head
