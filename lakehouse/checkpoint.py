"""Summaries of logs in a store: opening a log from one, and keeping one.

A summary and its segments lie under `_derived/<source>/log/`, may be deleted at any time, and are
never trusted blindly: each has to have the bytes that its name says, and the log has to end, at the
commit that the summary names, with the line of the digest that it names; the chain of digests makes
that line stand for all before it. Where anything differs, the log is read commit by commit instead.
"""

import contextlib
import hashlib
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import overload

from lakehouse import logpack
from lakehouse.core import commit as commits
from lakehouse.core import layout, summary
from lakehouse.core.commit import Commit
from lakehouse.core.files import Held, put_together
from lakehouse.core.log import Log
from lakehouse.core.past import Mark, Segment
from lakehouse.errors import ForkError, LakehouseError
from lakehouse.logpack import LogFile
from lakehouse.store.base import Absent, Store

AFTER_FILES = 64  # log files since the last summary that make a new one worth its while,
AFTER_LOADS = 256  # or as many loads in fewer files
LISTED = 512  # log files up to which all are looked for when a log is opened: more would cost too much
_READ_ONE_BY_ONE = 64  # log files of the beginning; whoever asks for more gets all
_WHOLE_BELOW = 1 << 16  # bytes of a log file up to which it is read whole to look at its end
_NAME = re.compile(
    r"/(?:\d{20}-)?(?P<last>\d{20})-(?P<content>[0-9a-f]{24})\.(?P<kind>json|ids|digests|parts)$"
)

ReadUpTo = Callable[[int], Log]
_BROKEN = (
    LakehouseError,
    KeyError,
    TypeError,
    ValueError,
    IndexError,
    AttributeError,
)  # of what is no summary


def opened(store: Store, source: str, read: ReadUpTo) -> Log | None:
    """The log up to the newest summary that agrees with how the log ends there; None without one.

    Args:
        store: The lake's store.
        source: Name of the source.
        read: Reads the log commit by commit, up to a number.
    """
    found = [entry.key for entry in store.list(_prefix(source))]
    for key in sorted((key for key in found if key.endswith(".json")), reverse=True):
        with contextlib.suppress(*_BROKEN):  # it is derived: whatever is wrong with it, the log is there
            log = summary.log_of(
                _content(store, key),
                key=key,
                source=source,
                past=lambda mark, digest: _Beginning(store, source, mark, digest, read),
            )
            if log is not None and _ends_with(store, log):
                return log
    return None


def agrees(log: Log, files: Sequence[LogFile]) -> bool:
    """Whether the log files that a summary stands for are all there, as far as their sizes tell."""
    return sum(file.size_bytes for file in files if file.first <= log.head) == log.reach.size_bytes


def keep(store: Store, log: Log) -> Log:
    """Keep a summary of a log if that has become worth it; the log, knowing what is kept."""
    if log.reach.files - log.mark.files < AFTER_FILES and log.head - log.mark.loads < AFTER_LOADS:
        return log
    mark = replace(log.mark, loads=log.head, files=log.reach.files)  # if it fails: not again at once
    with contextlib.suppress(*_BROKEN, OSError):
        mark = _kept(store, log)
    return replace(log, mark=mark)


def _kept(store: Store, log: Log) -> Mark:
    """Write a summary, with a segment for what is new; segments grow together like digits carry."""
    segments, first, content = _newest_segment(store, log)
    keys = []
    for kind in summary.KINDS:
        keys.append((kind, _key(log.source, f"{first:020d}-{log.head:020d}", content[kind], kind)))
        store.put(keys[-1][1], content[kind])
    segments.append(Segment(first=first, last=log.head, keys=tuple(keys)))
    about = summary.summary_of(log, segments)
    key = _key(log.source, f"{log.head:020d}", about, "json")
    store.put(key, about)
    mark = Mark(key=key, segments=tuple(segments), loads=log.head, files=log.reach.files)
    _clean(store, log.source, log.mark, mark)
    return mark


def _newest_segment(store: Store, log: Log) -> tuple[list[Segment], int, dict[str, bytes]]:
    """The segments that stay, and the first commit and the content of the one to come after them."""
    there = {entry.key for entry in store.list(_prefix(log.source))}
    segments = list(log.mark.segments)
    if not all(key in there for segment in segments for _, key in segment.keys):
        return [], 1, summary.segment_of(log, 1)
    first = log.mark.head + 1
    content = summary.segment_of(log, first)
    while segments and segments[-1].loads < 2 * (log.head - first + 1):
        before = segments.pop()
        try:
            content = summary.merged({kind: _content(store, key) for kind, key in before.keys}, content)
        except _BROKEN:
            return [], 1, summary.segment_of(log, 1)
        first = before.first
    return segments, first, content


def _clean(store: Store, source: str, before: Mark, now: Mark) -> None:
    """Delete what nobody reads; the summary before stays for those who read it right now."""
    named = {key for mark in (before, now) for segment in mark.segments for _, key in segment.keys}
    named |= {before.key, now.key}
    for key in [entry.key for entry in store.list(_prefix(source))]:
        match = _NAME.search(key)
        # What reaches further than the one before, another writer may just be writing.
        if key not in named and (match is None or int(match["last"]) <= before.head):
            store.delete(key)


def _prefix(source: str) -> str:
    return f"{layout.DERIVED}/{source}/log/"


def _key(source: str, span: str, content: bytes, kind: str) -> str:
    return f"{_prefix(source)}{span}-{hashlib.sha256(content).hexdigest()[:24]}.{kind}"


def _content(store: Store, key: str) -> bytes:
    """A derived file, if it has the bytes that its name says. Raises ValueError if not."""
    match = _NAME.search(key)
    content = store.get(key)
    if match is None or hashlib.sha256(content).hexdigest()[:24] != match["content"]:
        raise ValueError(key)
    return content


def _ends_with(store: Store, log: Log) -> bool:
    """Whether the log file that the summary ends with is as long as it was, and ends with that commit."""
    key, size = log.reach.key, log.reach.last_bytes
    packed = layout.log_pack_span(key) is not None  # of a log that was cut and has no numbered file
    if not key.startswith(layout.log_prefix(log.source)) or not (packed or layout.log_file_seq(key)):
        return False
    if packed or size <= _WHOLE_BELOW:
        content = store.get(key)
        found = len(content)
        content = logpack.unpacked(content, key=key) if packed else content
    else:
        with store.open(key) as file:
            found = file.seek(0, os.SEEK_END)
            at, content = found, b""
            while at > 0 and content.count(b"\n") < 2:  # noqa: PLR2004 - the end of the last line, and of the one before
                at = max(at - _WHOLE_BELOW // 4, 0)
                file.seek(at)
                content = file.read(found - at)
    line = content[:-1].rsplit(b"\n", 1)[-1]
    return found == size and content.endswith(b"\n") and commits.digest_of(line) == log.digest


class _Beginning(Sequence[Commit]):
    """The commits that a summary stands for, and what else was left out of it; read when asked for."""

    def __init__(self, store: Store, source: str, mark: Mark, digest: str, read: ReadUpTo) -> None:
        self._store = store
        self._source = source
        self._mark = mark
        self._digest = digest
        self._read = read
        self._whole: Log | None = None
        self._files: Sequence[LogFile] | None = None
        self._parsed: dict[str, dict[int, Commit]] = {}
        self._contents: dict[str, bytes] = {}

    @property
    def commits(self) -> Sequence[Commit]:
        """The commits."""
        return self

    def __len__(self) -> int:
        return self._mark.head

    @overload
    def __getitem__(self, at: int) -> Commit: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Commit]: ...
    def __getitem__(self, at: int | slice) -> Commit | Sequence[Commit]:
        if isinstance(at, slice):
            wanted = range(len(self))[at]
            few = len(wanted) <= _READ_ONE_BY_ONE
            return tuple(self._one(n + 1) for n in wanted) if few else self.whole().commits[at]
        return self._one(range(len(self))[at] + 1)

    def __iter__(self) -> Iterator[Commit]:
        return iter(self.whole().commits)

    def find(self, load_id: str) -> Commit | None:
        """The commit of a load id, or None."""
        for segment in self._mark.segments:
            content = self._segment(segment, "ids")
            if content is None:
                return self.whole().find(load_id)
            for seq in summary.candidates(content, load_id):
                commit = self._one(seq)
                if commit.load_id == load_id:
                    return commit
        return None

    def digest(self, seq: int) -> str:
        """The digest of a commit; its first 16 hex digits at least."""
        for segment in self._mark.segments:
            if segment.first <= seq <= segment.last:
                content = self._segment(segment, "digests")
                if content is not None:
                    return summary.digest_in(content, seq - segment.first)
        return self.whole().commits[seq - 1].digest

    def held(self, table: str) -> Held:
        """All parts of a table up to there."""
        held = Held()
        for segment in self._mark.segments:
            content = self._segment(segment, "parts")
            if content is None:
                return self.whole().tables[table].parts.whole()
            held = put_together(
                held, summary.entries_in(content, table, key=self._mark.key, source=self._source)
            )
        return held

    def whole(self) -> Log:
        """The log up to there, read commit by commit."""
        if self._whole is None:
            log = self._read(len(self))
            if log.head > len(self):
                log = Log(self._source).extended(log.commits[: len(self)])
            if (log.head, log.digest) != (len(self), self._digest):
                raise ForkError(
                    f"{layout.log_prefix(self._source)}: holds another history than when it was opened",
                    path=layout.log_key(self._source, len(self)),
                    hint="Something else than lakehouse changed the log meanwhile: open the lake again.",
                )
            self._whole, self._parsed = log, {}
        return self._whole

    def _one(self, seq: int) -> Commit:
        """One commit, from the log file that holds it."""
        if self._whole is None:
            for known in list(self._parsed.values()):
                if seq in known:
                    return known[seq]
            with contextlib.suppress(LakehouseError):  # read whole, the log says what is wrong with it
                if len(self._parsed) < _READ_ONE_BY_ONE:
                    found = self._holding(seq).get(seq)
                    if found is not None and found.digest.startswith(self.digest(seq)):
                        return found
        return self.whole().commits[seq - 1]

    def _holding(self, seq: int) -> dict[int, Commit]:
        """The commits of the log file that holds one."""
        key = layout.log_key(self._source, seq)
        try:
            found = commits.parse_file(self._store.get(key), key=key, source=self._source)
        except Absent:
            if self._files is None:
                self._files = logpack.listing(self._store, self._source).files
            at = bisect_right(self._files, seq, key=lambda file: file.first)
            if not at:
                return {}
            key = self._files[at - 1].key
            found = logpack.read(self._store, self._source, self._files[at - 1])
        self._parsed[key] = {commit.seq: commit for commit in found if commit.seq <= len(self)}
        return self._parsed[key]

    def _segment(self, segment: Segment, kind: str) -> bytes | None:
        """A segment's content of one kind; None if it is gone or damaged, and with it the summary."""
        key = dict(segment.keys).get(kind, "")
        try:
            if key not in self._contents:
                self._contents[key] = _content(self._store, key)
        except (LakehouseError, ValueError):
            with contextlib.suppress(LakehouseError):  # so that all are made anew the next time
                self._store.delete(self._mark.key)
                self._store.delete(key)
            return None
        return self._contents[key]
