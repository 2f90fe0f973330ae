"""Units: the smallest stretches of a log that can be copied, and reading them from a store.

A unit is what one log file was when it was written: one line, or several of which the first says how
many they are. Lines are never written anew: the digests are over them as they lie.
"""

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from lakehouse import logpack
from lakehouse.core import commit as commits
from lakehouse.core import layout
from lakehouse.core.commit import GENESIS, Commit, Pack, Part
from lakehouse.errors import ContentionError, ForkError, GapError, IntegrityError
from lakehouse.logpack import LogFile
from lakehouse.store import Absent, LocalStore, Store
from lakehouse.store.threads import threads

if TYPE_CHECKING:
    from concurrent.futures import Future

_ATTEMPTS = 10  # files that were listed and then packed and pruned, this often in a row
_AHEAD = 16  # log files that are asked for at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A part that commits name.

    Attributes:
        table: Its table.
        path: Its key.
        sha256: Hex digest of its bytes.
        size_bytes: Its size.
        first: First load that it holds rows of.
        last: Last load that it holds rows of.
        pack: Whether it stands for all parts of these loads.
    """

    table: str
    path: str
    sha256: str
    size_bytes: int
    first: int
    last: int
    pack: bool = False

    def within(self, pack: "Need") -> bool:
        """Whether a pack stands for it."""
        return self.table == pack.table and pack.first <= self.first and self.last <= pack.last

    def until(self, last: int) -> "Need":
        """The same, of which a later load says more."""
        return replace(self, last=max(self.last, last))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A stretch of a log that is copied as a whole.

    Attributes:
        first: Number of its first commit.
        last: Number of its last commit.
        prev: Digest of the commit before it.
        digest: Digest of its last commit.
        content: Its lines, as they lie.
        needs: The parts that it names, in order; of a part that packs of the unit stand for as well.
        whole: Whether its lines may be a log file; not if they are a piece of one.
    """

    source: str
    first: int
    last: int
    prev: str
    digest: str
    content: bytes
    needs: tuple[Need, ...]
    whole: bool = True


class DivergedError(ForkError):
    """The units do not follow from the commit that they should follow."""


def units_of(content: bytes, *, key: str, source: str) -> list[Unit]:
    """The units of a log file, or of log files laid one after the other.

    One that was cut is a unit together with the next one, and not whole where it is the last.

    Args:
        content: The lines.
        key: Key of the file; a log pack may end with a file that was cut.
        source: The source whose log it belongs to.

    Raises:
        TornCommitError, FormatError, UnsafePathError: The file is not what it should be.
        GapError, ForkError: Its commits do not follow one another.
    """
    found = commits.parse_file(content, key=key, source=source, cut=layout.log_pack_span(key) is not None)
    lines = content[:-1].split(b"\n")
    for before, commit in pairwise(found):
        _check_follows(commit, before.seq, before.digest, key)
    units, at = [], 0
    while at < len(found):
        end, whole = _end(found, lines, at)
        units.append(_unit(found[at:end], lines[at:end], whole=whole))
        at = end
    return units


def _end(found: Sequence[Commit], lines: Sequence[bytes], at: int) -> tuple[int, bool]:
    """Where the unit ends that begins at a line, and whether it is whole there."""
    end = at + _said(found[at])
    for next_at in range(at + 1, len(found)):
        if next_at == end:
            break
        if commits.begins_file(lines[next_at]):  # the file before it was cut
            end = next_at + _said(found[next_at])
    return min(end, len(found)), end <= len(found)


def _said(commit: Commit) -> int:
    """How many lines the file has that begins with a commit."""
    said = commit.record.get("lines")
    return said if isinstance(said, int) and said > 1 else 1


def _unit(found: Sequence[Commit], lines: Sequence[bytes], *, whole: bool) -> Unit:
    return Unit(
        source=found[0].source, first=found[0].seq, last=found[-1].seq, prev=found[0].prev, whole=whole,
        digest=found[-1].digest, content=b"\n".join(lines) + b"\n", needs=tuple(_needs(found)),
    )  # fmt: skip


def _piece(unit: Unit, first: int, last: int) -> Unit:
    """The commits of a unit from one number to another."""
    if (first <= unit.first and unit.last <= last) or last < unit.first:
        return unit
    found = commits.parse_file(
        unit.content, key=layout.log_key(unit.source, unit.first), source=unit.source, cut=True
    )
    at = slice(max(first - unit.first, 0), last - unit.first + 1)
    return _unit(found[at], unit.content[:-1].split(b"\n")[at], whole=False)


def lines_until(store: Store, source: str, last: int) -> bytes:
    """All lines of a log up to a commit."""
    return b"".join(unit.content for unit in read(store, source, seq=0, digest=GENESIS, until=last))


def _needs(found: Sequence[Commit]) -> list[Need]:
    """The parts that commits name, each once; what comes after a pack is not put before it."""
    needs: list[Need] = []
    at: dict[str, int] = {}
    for commit in found:
        for table, change in commit.tables.items():
            for part in change.parts:
                index = at.setdefault(part.path, len(needs))
                if index < len(needs):
                    needs[index] = needs[index].until(commit.seq)
                else:
                    needs.append(_need(table, part, commit.seq, commit.seq))
        for table, packs in commit.packs.items():
            at = {}
            needs += [_need(table, pack, pack.first, pack.last, pack=True) for pack in packs]
    return needs


def _need(table: str, part: Part | Pack, first: int, last: int, *, pack: bool = False) -> Need:
    return Need(
        table=table, path=part.path, sha256=part.sha256, size_bytes=part.size_bytes,
        first=first, last=last, pack=pack,
    )  # fmt: skip


def _check_follows(commit: Commit, seq: int, digest: str, key: str) -> None:
    if commit.seq != seq + 1:
        msg = f"{key}: holds commit {commit.seq} where {seq + 1} should come next"
        raise GapError(msg, path=key, hint="A log file is missing: restore it from a mirror or backup.")
    if commit.prev != digest:
        msg = f"{key}: commit {commit.seq} does not follow from commit {seq} before it"
        raise ForkError(
            msg, path=key, hint="A commit was altered: restore the log file from a mirror or backup."
        )


def read(
    store: Store, source: str, *, seq: int, digest: str, until: int | None = None, connections: int = _AHEAD
) -> list[Unit]:
    """The units of a log that come after a commit, in order.

    Args:
        store: The lake's store.
        source: The source.
        seq: Number of that commit; 0 for all units.
        digest: Its digest.
        until: Number of the last commit that is wanted; all when None.
        connections: Log files that are read at once.

    Raises:
        DivergedError: They follow from another commit than that one.
        IntegrityError: A log file is torn, missing or altered.
    """
    units: list[Unit] = []
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(Absent):  # a file was packed and pruned since the listing
            for found in _after(store, source, seq, connections):
                unit = _piece(found, seq + 1, found.last if until is None else until)
                _check_joins(unit, units, seq, digest)
                units.append(unit)
                seq, digest = unit.last, unit.digest
                if until is not None and seq >= until:
                    break
            return units
    msg = f"{source}: its log files went away while they were read, {_ATTEMPTS} times"
    raise ContentionError(msg, hint="Run it again when no `lakehouse prune` runs.")


def _check_joins(unit: Unit, before: Sequence[Unit], seq: int, digest: str) -> None:
    """Refuse a unit that is not what comes next."""
    key = layout.log_key(unit.source, unit.first)
    if unit.first > seq + 1:
        msg = f"{key}: holds commit {unit.first} where {seq + 1} should come next"
        raise GapError(
            msg,
            path=layout.log_key(unit.source, seq + 1),
            hint="A log file is missing: restore it from a mirror or backup.",
        )
    if unit.first == seq + 1 and unit.prev == digest:
        return
    kind = ForkError if before else DivergedError
    msg = f"{key}: commit {unit.first} does not follow from commit {seq} with the digest {digest[:12] or 'none'}…"
    raise kind(msg, path=key, hint="Two histories were mixed: restore the log from a mirror or backup.")


def _after(store: Store, source: str, seq: int, connections: int) -> Iterator[Unit]:
    """The units that hold commits after a number. Raises Absent if files were packed and pruned."""
    if isinstance(store, LocalStore):  # opening the next file costs less than a look at all names
        found = list(_numbered(store, source, seq))
        if found and logpack.packed_until(store, source) <= seq:
            yield from found
            return
    files = logpack.listing(store, source).files
    at = max((n for n, file in enumerate(files) if file.first <= seq + 1), default=0)
    for file, content in _contents(store, files[at:], connections):
        for unit in units_of(content, key=file.key, source=source):
            if unit.last > seq:
                yield unit


def _numbered(store: Store, source: str, seq: int) -> Iterator[Unit]:
    """The units in the numbered files that follow one another."""
    while True:
        key = layout.log_key(source, seq + 1)
        try:
            content = store.get(key)
        except Absent:
            return
        for unit in units_of(content, key=key, source=source):
            yield unit
            seq = unit.last


def _contents(store: Store, files: Sequence[LogFile], connections: int) -> Iterator[tuple[LogFile, bytes]]:
    """What log files hold, in order; some are asked for ahead."""
    with threads(max(1, min(connections, len(files)))) as pool:
        asked: deque[tuple[LogFile, Future[bytes]]] = deque()
        for file in files:
            asked.append((file, pool.submit(logpack.raw_lines, store, file)))
            if len(asked) > 2 * connections:
                first, content = asked.popleft()
                yield first, content.result()
        while asked:
            first, content = asked.popleft()
            yield first, content.result()


def digest_at(store: Store, source: str, seq: int) -> str:
    """The digest of a commit that is not the newest, from the log file that holds the next one.

    Raises:
        IntegrityError: The log does not have these commits.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(Absent):
            for unit in _after(store, source, seq, 1):
                key = layout.log_key(source, unit.first)
                found = commits.parse_file(unit.content, key=key, source=source, cut=not unit.whole)
                return next(commit.prev for commit in found if commit.seq == seq + 1)
            break
    raise IntegrityError(
        f"{source}: commit {seq + 1} is not in the log of {store.url}",
        path=layout.log_key(source, seq + 1),
        hint="Run `lakehouse verify`.",
    )
