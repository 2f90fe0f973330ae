"""The log of a source: its commits in order, checked as a chain, and what follows from them.

A `Log` is a value: `extended` returns a longer one. What the tables are at some position, and which
position an as-of means, are functions of the log alone.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from lakehouse.core.commit import GENESIS, Commit, Pack, TableChange
from lakehouse.core.layout import log_key
from lakehouse.core.types import Column, merge_columns
from lakehouse.errors import ForkError, GapError, NotFoundError


@dataclass(frozen=True, slots=True, kw_only=True)
class Era:
    """A stretch of a table's history, from a load that started its state anew.

    Attributes:
        first: Sequence number of the load it starts with.
        key: Columns by which the newest rows are chosen; empty where rows only add up.
    """

    first: int
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A part that holds rows of a table now, whatever part they were written in.

    Attributes:
        path: Key in the lake.
        first: First load that it may hold rows of.
        last: Last load that it may hold rows of.
        rows: Rows in it.
        columns: The columns of these loads, each in the type in which it lies there; columns that
            are `null` in all of them do not lie there.
    """

    path: str
    sha256: str
    size_bytes: int
    first: int
    last: int
    rows: int
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLog:
    """All that a log says about one table.

    Attributes:
        changes: `(seq, change)` of every load that touched it, oldest first.
        columns: The columns of the whole history, each with the one type it reads as.
        eras: At least one; the last is the current one.
        files: The parts that hold its rows, in order; a part that a pack stands for is not among them.
        revised: `(rows, content digest)` of the loads of which a retention let rows go.
    """

    name: str
    changes: tuple[tuple[int, TableChange], ...]
    columns: tuple[Column, ...]
    eras: tuple[Era, ...]
    files: tuple[File, ...] = ()
    revised: Mapping[int, tuple[int, str]] = field(default_factory=dict)

    @property
    def last(self) -> TableChange:
        """The newest change."""
        return self.changes[-1][1]

    def era_at(self, seq: int) -> Era | None:
        """The era that a position lies in; None before the table's first load."""
        at = bisect_right([era.first for era in self.eras], seq)
        return self.eras[at - 1] if at else None

    def changes_at(self, seq: int) -> tuple[tuple[int, TableChange], ...]:
        """The changes that make up the state at a position: those of its era, up to it."""
        era = self.era_at(seq)
        return tuple(c for c in self.changes if era is not None and era.first <= c[0] <= seq)


@dataclass(frozen=True, slots=True)
class Log:
    """The commits of a source, oldest first, without a gap, chained by digest."""

    source: str
    commits: tuple[Commit, ...] = ()
    _tables: dict[str, TableLog] = field(default_factory=dict, compare=False, repr=False)
    _ids: dict[str, int] = field(default_factory=dict, compare=False, repr=False)
    _expired: tuple[tuple[int, int], ...] = field(default=(), compare=False, repr=False)

    @property
    def head(self) -> int:
        """Sequence number of the newest commit; 0 for an empty log."""
        return len(self.commits)

    @property
    def digest(self) -> str:
        """Digest of the newest commit: it stands for the whole history up to it."""
        return self.commits[-1].digest if self.commits else GENESIS

    @property
    def effective_at(self) -> datetime | None:
        """When the newest state holds from; None for an empty log."""
        return self.commits[-1].effective_at if self.commits else None

    @property
    def pipeline(self) -> dict[str, Any] | None:
        """The newest pipeline state that a commit holds."""
        return next((c.pipeline for c in reversed(self.commits) if c.pipeline is not None), None)

    @property
    def tables(self) -> Mapping[str, TableLog]:
        """What the log says about each table, by name, in order of first appearance."""
        return MappingProxyType(self._tables)

    @property
    def expired(self) -> tuple[tuple[int, int], ...]:
        """The positions that are no as-ofs any more, as ranges in order: a retention let them go."""
        return self._expired

    def is_expired(self, seq: int) -> bool:
        """Whether the state at a position can no longer be told."""
        at = bisect_right(self._expired, seq, key=lambda span: span[0])
        return at > 0 and seq <= self._expired[at - 1][1]

    def find(self, load_id: str) -> Commit | None:
        """The commit of a load id, or None."""
        seq = self._ids.get(load_id)
        return self.commits[seq - 1] if seq else None

    def position(self, moment: datetime) -> int:
        """The newest sequence number that an instant (inclusive) sees; 0 before the first load."""
        return bisect_right(self.commits, moment, key=lambda c: c.effective_at)

    def resolve(self, as_of: datetime | int | None) -> int:
        """The position that an as-of means: an instant, a sequence number, or None for now.

        Raises:
            NotFoundError: The log is shorter than the sequence number, or a retention let the state go.
        """
        if as_of is None:
            return self.head
        if isinstance(as_of, datetime):
            return self._told(self.position(as_of))
        if not 0 <= as_of <= self.head:
            msg = f"{self.source}: there is no load {as_of}; the log ends at {self.head}"
            raise NotFoundError(msg, hint=f"See: lakehouse log {self.source}")
        return self._told(as_of)

    def _told(self, seq: int) -> int:
        """A position whose state can be told, or NotFoundError that names the nearest ones."""
        if not self.is_expired(seq):
            return seq
        span = next((first, last) for first, last in self._expired if first <= seq <= last)
        near = [f"{at} ({self.commits[at - 1].effective_at:%Y-%m-%d %H:%M:%S}Z)" if at else "0"
                for at in (span[0] - 1, span[1] + 1)]  # fmt: skip
        msg = f"{self.source}: the state as of load {seq} is expired: a retention let it go"
        raise NotFoundError(msg, hint=f"The nearest states that are kept: load {near[0]} and load {near[1]}.")

    def extended(self, more: Sequence[Commit], *, key: str = "") -> "Log":
        """A log with more commits at its end.

        Args:
            more: The commits that follow, oldest first.
            key: The log file they come from, for messages.

        Raises:
            GapError: The first of them is not the next one.
            ForkError: One of them does not follow from the one before it.
        """
        commits, tables, ids = list(self.commits), dict(self._tables), dict(self._ids)
        digest = self.digest
        fresh: dict[str, list[_News]] = {}
        expired = list(self._expired)
        for commit in more:
            where = key or log_key(self.source, commit.seq)
            if commit.seq != len(commits) + 1:
                missing = log_key(self.source, len(commits) + 1)
                msg = f"{where}: holds commit {commit.seq} where {len(commits) + 1} should come next"
                raise GapError(
                    msg, path=missing, hint=f"{missing} is missing: restore it from a mirror or backup."
                )
            if commit.prev != digest:
                msg = (
                    f"{where}: commit {commit.seq} follows a commit with digest {commit.prev[:12] or 'none'}…, "
                    f"but commit {commit.seq - 1} here has {digest[:12] or 'none'}…"
                )
                raise ForkError(
                    msg,
                    path=where,
                    hint="Two histories were mixed, or a commit was altered: "
                    "restore the log from a mirror or backup.",
                )
            commits.append(commit)
            digest = commit.digest
            ids.setdefault(commit.load_id, commit.seq)
            expired += [(first, last) for first, last in commit.retention.get("expired", ())]
            for name, change in commit.tables.items():
                fresh.setdefault(name, []).append((commit.seq, change))
            for name, packs in commit.packs.items():
                if name in tables or name in fresh:
                    fresh.setdefault(name, []).append((commit.seq, packs))
        for name, news in fresh.items():
            tables[name] = _table_after(tables.get(name), name, news)
        spans = self._expired if len(expired) == len(self._expired) else _joined(expired)
        return Log(self.source, tuple(commits), tables, ids, spans)


_News = tuple[int, TableChange | tuple[Pack, ...]]


def _table_after(before: TableLog | None, name: str, more: Sequence[_News]) -> TableLog:
    columns = before.columns if before else ()
    eras = list(before.eras) if before else []
    last = before.last if before else None
    files = {file.path: file for file in before.files} if before else {}
    revised = dict(before.revised) if before else {}
    changes: list[tuple[int, TableChange]] = []
    for seq, news in more:
        if not isinstance(news, TableChange):
            for pack in news:
                files = _packed(files, pack)
                revised |= {load: (rows, content) for load, rows, content in pack.loads}
            continue
        if last is None or news.base:
            eras.append(Era(first=seq, key=news.key))
        if last is None or (news.columns is not last.columns and news.columns != last.columns):
            columns = merge_columns(columns, news.columns)
        for part in news.parts:
            known = files.get(part.path)
            files[part.path] = (
                File(
                    path=part.path, sha256=part.sha256, size_bytes=part.size_bytes, first=seq, last=seq,
                    rows=part.rows, columns=news.columns,
                )
                if known is None
                else replace(
                    known, last=seq, rows=known.rows + part.rows,
                    columns=_merged(known.columns, news.columns),
                )
            )  # fmt: skip
        last = news
        changes.append((seq, news))
    return TableLog(
        name=name,
        changes=(*before.changes, *changes) if before else tuple(changes),
        columns=columns,
        eras=tuple(eras),
        files=tuple(files.values()),
        revised=revised,
    )


def _joined(spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Ranges in order; those that touch become one."""
    out: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return tuple(out)


def _merged(one: tuple[Column, ...], two: tuple[Column, ...]) -> tuple[Column, ...]:
    return one if one is two or one == two else merge_columns(one, two)


def _packed(files: Mapping[str, File], pack: Pack) -> dict[str, File]:
    """The files of a table once a pack stands for those whose loads lie within its own."""
    inside = [f for f in files.values() if pack.first <= f.first and f.last <= pack.last]
    columns: tuple[Column, ...] = ()
    for file in inside:
        columns = _merged(columns, file.columns) if columns else file.columns
    stands = File(
        path=pack.path, sha256=pack.sha256, size_bytes=pack.size_bytes, first=pack.first, last=pack.last,
        rows=pack.rows, columns=columns,
    )  # fmt: skip
    gone = {file.path for file in inside}
    stays = [file for path, file in files.items() if path not in gone]
    return {f.path: f for f in sorted((*stays, stands), key=lambda f: f.first)}
