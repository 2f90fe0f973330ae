"""Log packs: many log files in one, laid one after the other byte for byte as they lie, and compressed.

A pack is a container only: the lines are the same, so the chain and all digests are. Readers take the
packs first and numbered files after them; a numbered file whose numbers a pack covers is never looked
at, whatever it says. That is why whoever creates a log file has to look for packs afterwards (`claim`):
once the small files are pruned, a name in the middle of the log is free again. See
`docs/adr/0005-log-packs.md`.
"""

import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.core import commit as commits
from lakehouse.core import layout
from lakehouse.core.log import Log
from lakehouse.errors import (
    ForkError,
    FormatError,
    IntegrityError,
    LakehouseError,
    SetupError,
    TornCommitError,
    UserError,
)
from lakehouse.store.base import Absent, Exists, Store

WORTH = 64  # numbered log files that are worth a pack
MOST_BYTES = 256 << 20  # of the lines in a pack: a small file may unpack to more than any memory holds
_HINT = (
    "Restore it from a mirror or backup. Where all log files that it stands for are still there, "
    "it may be deleted."
)


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file of a log as it was listed.

    Attributes:
        first: Number of its first commit.
        last: Number of its last commit; 0 for a numbered file, whose name does not tell.
        key: Its key.
        size_bytes: Its size.
    """

    first: int
    last: int
    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a log.

    Attributes:
        files: What the log consists of, in order: packs, then numbered files.
        covered: Numbered files, and packs, that a larger pack covers: no part of the log any more.
    """

    files: tuple[LogFile, ...]
    covered: tuple[LogFile, ...]

    @property
    def packs(self) -> tuple[LogFile, ...]:
        """The packs that the log begins with."""
        return tuple(file for file in self.files if file.last)

    @property
    def numbered(self) -> tuple[LogFile, ...]:
        """The numbered files that no pack covers."""
        return tuple(file for file in self.files if not file.last)

    @property
    def packed(self) -> int:
        """The last number that a pack covers; 0 without packs."""
        return max((file.last for file in self.files), default=0)


def listing(store: Store, source: str) -> Listing:
    """The files of a log, from one look at the store."""
    numbered: list[LogFile] = []
    packs: list[LogFile] = []
    for entry in store.list(layout.log_prefix(source)):
        span = layout.log_pack_span(entry.key)
        seq = layout.log_file_seq(entry.key)
        if span:
            packs.append(LogFile(*span, entry.key, entry.size_bytes))
        elif seq:
            numbered.append(LogFile(seq, 0, entry.key, entry.size_bytes))
    used, spare = _chosen(packs)
    packed = used[-1].last if used else 0
    numbered.sort(key=lambda file: file.first)
    return Listing(
        files=(*used, *(file for file in numbered if file.first > packed)),
        covered=(*(file for file in numbered if file.first <= packed), *spare),
    )


def packed_until(store: Store, source: str) -> int:
    """The last number that log packs cover; 0 without any."""
    spans = (layout.log_pack_span(entry.key) for entry in store.list(layout.log_pack_prefix(source)))
    packs = [LogFile(*span, "", 0) for span in spans if span]
    used, _ = _chosen(packs)
    return used[-1].last if used else 0


def _chosen(packs: Sequence[LogFile]) -> tuple[list[LogFile], list[LogFile]]:
    """The packs that cover the log from its first commit on, the longest ones, and the others."""
    used: list[LogFile] = []
    by_first: dict[int, LogFile] = {}
    for pack in packs:
        if pack.first not in by_first or by_first[pack.first].last < pack.last:
            by_first[pack.first] = pack
    at = 1
    while at in by_first:
        used.append(by_first[at])
        at = by_first[at].last + 1
    return used, [pack for pack in packs if pack not in used]


def read(store: Store, source: str, file: LogFile) -> list[commits.Commit]:
    """The commits of a log file. Raises IntegrityError where a pack is not what its name says."""
    lines = raw_lines(store, file)
    if not file.last:
        return commits.parse_file(lines, key=file.key, source=source)
    try:
        found = commits.parse_file(lines, key=file.key, source=source, cut=True)
    except TornCommitError as error:
        raise TornCommitError(error.message, path=file.key, hint=_HINT) from error
    except FormatError as error:
        raise FormatError(error.message, path=file.key, hint=_HINT) from error
    said = [commit.seq for commit in found]
    if said != list(range(file.first, file.last + 1)):
        raise FormatError(
            f"{file.key}: holds the commits {said[0]} to {said[-1]} ({len(said)} of them), "
            f"its name says {file.first} to {file.last}",
            path=file.key,
            hint=_HINT,
        )
    return found


def raw_lines(store: Store, file: LogFile) -> bytes:
    """What a log file holds, whether it is compressed or not.

    Raises:
        FormatError: It cannot be unpacked, or holds more than `MOST_BYTES`.
    """
    content = store.get(file.key)
    return unpacked(content, key=file.key) if file.last else content


def unpacked(content: bytes, *, key: str) -> bytes:
    """What a log pack holds, byte for byte; `key` is for messages.

    Raises:
        FormatError: It cannot be unpacked, or holds more than `MOST_BYTES`.
    """
    try:
        with gzip.open(io.BytesIO(content)) as file:
            lines = file.read(MOST_BYTES + 1)
    except EOFError as error:
        msg = f"{key}: ends too early ({len(content)} bytes)"
        raise TornCommitError(msg, path=key, hint=_HINT) from error
    except (OSError, zlib.error) as error:
        raise FormatError(f"{key}: cannot be unpacked ({error})", path=key, hint=_HINT) from error
    if len(lines) > MOST_BYTES:
        msg = f"{key}: holds more than {MOST_BYTES:,} bytes, which no log pack does"
        raise FormatError(msg, path=key, hint=_HINT)
    return lines


def packed(lines: bytes) -> bytes:
    """The content of a log pack that holds the lines."""
    return gzip.compress(lines, mtime=0)


def spare(store: Store, log: Log) -> tuple[list[LogFile], list[LogFile]]:
    """The files beside a log that packs cover: those that say the same, and those that do not.

    The latter were left by writers that slept, and noticed nothing any more (`claim`).
    """
    same: list[LogFile] = []
    strange: list[LogFile] = []
    for file in listing(store, log.source).covered:
        try:
            found = commits.parse_file(
                raw_lines(store, file), key=file.key, source=log.source, cut=bool(file.last)
            )
            known = log.commits[file.first - 1 : file.first - 1 + len(found)]
            equal = [c.digest for c in found] == [c.digest for c in known]
        except Absent:
            continue
        except IntegrityError:
            equal = False
        (same if equal else strange).append(file)
    return same, strange


def claim(store: Store, source: str, seq: int, content: bytes) -> bool:
    """Make commits part of the log, if nobody else has their numbers. The only way to write to a log.

    Args:
        store: The lake's store.
        source: The source.
        seq: Number of the first of the commits.
        content: Their lines.

    Returns:
        Whether they are in the log under these numbers, for certain. If not, look into the log again:
        another has the numbers, or they are there already and were packed at once.
    """
    key = layout.log_key(source, seq)
    try:
        store.create(key, content)
    except Exists:
        try:  # the answer to our own write may have been lost
            if store.get(key) != content:
                return False
        except Absent:
            return False
    try:
        packed = packed_until(store, source)
    except LakehouseError as error:
        raise SetupError(
            f"{key}: was written, but was not confirmed: log packs could not be looked for ({error.message})",
            hint="Mend what is wrong, and look at `lakehouse log` before you run the same command again.",
        ) from error
    if packed >= seq:
        # Of a writer that slept while others wrote, packed and pruned: the name was free again, but
        # the number is taken. Where it is not ours that is in the pack, this was never in the log.
        store.delete(key)
        return False
    return True


def claim_pack(store: Store, source: str, *, after: int, last: int, lines: bytes) -> bool:
    """Make commits part of the log that are no log file by themselves, by a pack from the first commit on.

    For logs that end, or are gone on with, in the middle of what was written as one file. Others who claim a
    number at the same time see the pack (`claim`), or are seen here.

    Args:
        store: The lake's store.
        source: The source.
        after: Where its log ends now.
        last: Number of the last of the commits.
        lines: All lines from the first commit to that one.

    Returns:
        Whether they are in the log. If not, look into the log again.

    Raises:
        UserError: There are more lines than a pack may hold.
    """
    if len(lines) > MOST_BYTES:
        msg = f"{source}: its log up to commit {last} has {len(lines):,} bytes; one that is cut has {MOST_BYTES:,} at most"
        raise UserError(msg, hint="Choose a moment between two runs of an import, or none.")
    made = LogFile(1, last, layout.log_pack_key(source, 1, last), 0)
    mine = True
    try:
        store.create(made.key, packed(lines))
    except Exists:
        mine = False
        if raw_lines(store, made) != lines:
            return False
    seqs = (layout.log_file_seq(entry.key) or 0 for entry in store.list(layout.log_prefix(source)))
    if not any(after < seq <= last for seq in seqs):
        return True
    if mine:
        store.delete(made.key)
    return False


def pack_log(store: Store, log: Log) -> LogFile | None:
    """Lay numbered log files together in a pack, if there are enough of them.

    The newest numbered file stays outside: its name and size are how a catalog knows that it is
    current. A pack that is no larger than the new files is taken up into the new one, so that a line is
    written only so many times.

    Returns:
        The pack, or None where it was not worth one.

    Raises:
        IntegrityError: The files are not what the log says.
    """
    found = listing(store, log.source)
    known = [
        file for file in found.numbered if file.first <= log.head
    ]  # others may have gone on since it was read
    small = known[:-1]
    if len(small) < WORTH:
        return None
    last = known[-1].first - 1
    try:
        lines = b"".join(raw_lines(store, file) for file in small)
        first = small[0].first
        for pack in reversed(found.packs):
            before = raw_lines(store, pack) if pack.last - pack.first <= 2 * (last - pack.last) else b""
            if not before or len(before) + len(lines) > MOST_BYTES:
                break
            first, lines = pack.first, before + lines
    except Absent:
        return None  # pruned just now: somebody else packs this log
    if len(lines) > MOST_BYTES:
        return None
    key = layout.log_pack_key(log.source, first, last)
    read_back = commits.parse_file(lines, key=key, source=log.source, cut=True)
    if [c.digest for c in read_back] != [c.digest for c in log.commits[first - 1 : last]]:
        raise ForkError(
            f"{log.source}: its log files {first} to {last} are not what was read of them before",
            path=small[0].key,
            hint="Run `lakehouse verify`; restore the log from a mirror or backup.",
        )
    content = packed(lines)
    made = LogFile(first, last, key, len(content))
    try:
        store.create(key, content)
    except Exists:  # of a run that died right after it, or of another one
        if raw_lines(store, made) != lines:
            raise IntegrityError(
                f"{key}: is there, but is not the log files that it should be", path=key, hint=_HINT
            ) from None
    return made
