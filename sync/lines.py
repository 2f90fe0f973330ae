"""The log files of a mirror against the lines of a log: which of them are not what they should be.

A log file of a mirror is a stretch of the local lines, byte for byte. So each of them can be told, and mended,
from the local log alone.
"""

from dataclasses import dataclass
from typing import Literal

from lakehouse import logpack
from lakehouse.core import commit as commits
from lakehouse.core import layout
from lakehouse.core.commit import GENESIS
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
        following = files[number + 1].first - 1 if number + 1 < len(files) else None
        if file.first > at + 1:
            found.append(_gap(mine, at + 1, min(file.first - 1, mine.head)))
            at = min(file.first - 1, mine.head)
        if file.first <= at or at >= mine.head:
            continue  # beside the one before it, or beyond what is here
        last, finding = _file(mine, there, file, following, known)
        found += [finding] if finding else []
        at = max(last, at)
    if known is not None and at < known.head <= mine.head and mine.digest(known.head) == known.digest:
        found.append(_gap(mine, at + 1, known.head))
        at = known.head
    return at, found


def _gap(mine: Lines, first: int, last: int) -> Finding:
    key = layout.log_key(mine.source, first)
    return Finding(key=key, fault="missing", found="is missing", first=first, last=last)


def _file(
    mine: Lines, there: Store, file: LogFile, following: int | None, known: Where | None
) -> tuple[int, Finding | None]:
    """The last commit of a file, and what is wrong with it."""
    if not file.last and following and _is_proven(mine, there, file, following):
        return following, None
    try:
        content = logpack.raw_lines(there, file)
        last = mine.last_in(file.first, content)
        if last and known is not None and known.key == file.key and last < known.head <= mine.head:
            last, found = known.head, f"ends with load {last}, not {known.head}"
            return last, Finding(key=file.key, fault="truncated", found=found, first=file.first, last=last)
        if last and (not file.last or last == file.last):
            return last, None
        if file.last and content == mine.get(file.first, min(file.last, mine.head)):
            return min(file.last, mine.head), None  # a log that was cut ends there
        wrong = f"has other lines than the log here ({len(content)} bytes)"
        ours = (
            known is not None
            and known.head >= file.first
            and known.digest == mine.digest(min(known.head, mine.head))
        )
        forked = not file.last and following is None and not ours and _is_another(mine, file, content)
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


def _is_another(mine: Lines, file: LogFile, content: bytes) -> bool:
    """Whether a file holds commits that follow from those before it, but not the ones here: another history."""
    found = commits.parse_file(content, key=file.key, source=mine.source)
    return found[0].seq == file.first and found[0].prev == mine.digest(file.first - 1)


def _end(mine: Lines, file: LogFile, known: Where | None) -> int:
    """Where the newest file of a log most likely ended."""
    if known is not None and known.key == file.key and file.first <= known.head <= mine.head:
        return known.head
    return mine.last_at(file.first, file.size_bytes) or mine.head
