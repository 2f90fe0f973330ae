"""The log of a source: its commits in order, checked as a chain, and what follows from them.

A `Log` is a value: `extended` returns a longer one. What the tables are at some position, and which
position an as-of means, are functions of the log alone. One that was opened from a summary reads the
commits that the summary stands for when it is asked for them; nothing else tells the two apart.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol

from lakehouse.core.commit import GENESIS, Commit, TableChange
from lakehouse.core.files import Entry, File, News, Parts
from lakehouse.core.layout import log_key
from lakehouse.core.past import Chronicle, Mark, Reach
from lakehouse.core.types import Column, merge_columns
from lakehouse.errors import ForkError, GapError, NotFoundError

__all__ = ["Entry", "Era", "File", "Log", "Past", "TableLog", "news_of"]


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
class TableLog:
    """All that a log says about one table.

    Attributes:
        changes: `(seq, change)` of every load that touched it, oldest first.
        columns: The columns of the whole history, each with the one type it reads as.
        eras: At least one; the last is the current one.
        keys: The keys of all eras, each once, in order of first appearance.
        first_seq: The first load that touched it.
        widths: `(seq, columns)`: from which load on the columns of the history until then were these.
        met_rows: Whether there ever were rows in it.
        met_groups: Whether a load ever came without a primary key.
        stored: How many loads of the current era added rows.
        content: Content digest of what the first of these added.
        may_repeat: Whether several rows may have one key now: groups of a merge key, or rows from
            before the key.
        parts: Which parts hold its rows; see `files`.
    """

    name: str
    changes: Chronicle[tuple[int, TableChange]]
    columns: tuple[Column, ...]
    eras: Chronicle[Era]
    keys: tuple[tuple[str, ...], ...]
    first_seq: int
    widths: tuple[tuple[int, tuple[Column, ...]], ...]
    met_rows: bool = False
    met_groups: bool = False
    stored: int = 0
    content: str = ""
    may_repeat: bool = False
    parts: Parts = field(default_factory=Parts, compare=False)

    @property
    def last(self) -> TableChange:
        """The newest change."""
        return self.changes[-1][1]

    @property
    def last_seq(self) -> int:
        """The newest load that touched it."""
        return self.changes[-1][0]

    @property
    def files(self) -> tuple[File, ...]:
        """The parts that hold its rows, in order; a part that a pack stands for is not among them."""
        return tuple(self.parts.whole().files.values())

    @property
    def revised(self) -> Mapping[int, tuple[int, str]]:
        """`(rows, content digest)` of the loads of which a retention let rows go."""
        return self.parts.whole().revised or {}

    def files_since(self, seq: int) -> tuple[File, ...]:
        """The parts that may hold rows of this load or later ones; of new loads without reading old ones."""
        held = self.parts.known()
        held = held if seq >= held.since else self.parts.whole()
        return tuple(file for file in held.files.values() if file.last >= seq)

    def columns_at(self, seq: int) -> tuple[Column, ...]:
        """The columns of the history up to a load, each in the type that it had until then."""
        at = bisect_right(self.widths, seq, key=lambda width: width[0])
        return self.widths[at - 1][1] if at else ()

    def era_at(self, seq: int) -> Era | None:
        """The era that a position lies in; None before the table's first load."""
        if seq >= self.eras[-1].first:
            return self.eras[-1]
        at = bisect_right(self.eras, seq, key=lambda era: era.first)
        return self.eras[at - 1] if at else None

    def changes_since(self, seq: int) -> tuple[tuple[int, TableChange], ...]:
        """The changes by this load and later ones; of new loads without reading old ones."""
        return tuple(reversed(list(_until(reversed(self.changes), seq))))

    def changes_at(self, seq: int) -> tuple[tuple[int, TableChange], ...]:
        """The changes that make up the state at a position: those of its era, up to it."""
        era = self.era_at(seq)
        return () if era is None else tuple(c for c in self.changes_since(era.first) if c[0] <= seq)


class Past(Protocol):
    """The beginning of a log that was opened from a summary: read when somebody asks for it."""

    @property
    def commits(self) -> Sequence[Commit]:
        """The commits."""

    def find(self, load_id: str) -> Commit | None:
        """The commit of a load id, or None."""

    def digest(self, seq: int) -> str:
        """The digest of a commit; its first 16 hex digits at least."""


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """The commits of a source, oldest first, without a gap, chained by digest.

    Attributes:
        digest: Digest of the newest commit: it stands for the whole history up to it.
        effective_at: When the newest state holds from; None for an empty log.
        pipeline: The newest pipeline state that a commit holds.
        piped: Numbers of the commits that hold a pipeline state.
        expired: The positions that are no as-ofs any more, as ranges in order: a retention let them go.
        expired_by: The newest commit with which one did; 0 without any.
        reach: The log files that it was read from.
        mark: The newest summary of it that is kept.
    """

    source: str
    commits: Chronicle[Commit] = field(default_factory=Chronicle)
    digest: str = GENESIS
    effective_at: datetime | None = None
    pipeline: dict[str, Any] | None = None
    piped: Chronicle[int] = field(default_factory=Chronicle)
    expired: tuple[tuple[int, int], ...] = ()
    expired_by: int = 0
    reach: Reach = field(default_factory=Reach)
    mark: Mark = field(default_factory=Mark)
    _tables: dict[str, TableLog] = field(default_factory=dict, repr=False)
    _ids: dict[str, int] = field(default_factory=dict, repr=False)
    _past: Past | None = field(default=None, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Log):
            return NotImplemented
        return (self.source, self.head, self.digest) == (other.source, other.head, other.digest)

    def __hash__(self) -> int:
        return hash((self.source, self.head, self.digest))

    @property
    def head(self) -> int:
        """Sequence number of the newest commit; 0 for an empty log."""
        return len(self.commits)

    @property
    def tables(self) -> Mapping[str, TableLog]:
        """What the log says about each table, by name, in order of first appearance."""
        return MappingProxyType(self._tables)

    def is_expired(self, seq: int) -> bool:
        """Whether the state at a position can no longer be told."""
        at = bisect_right(self.expired, seq, key=lambda span: span[0])
        return at > 0 and seq <= self.expired[at - 1][1]

    def find(self, load_id: str) -> Commit | None:
        """The commit of a load id, or None."""
        known = self._past.find(load_id) if self._past else None
        if known is not None:
            return known
        seq = self._ids.get(load_id, self.head + 1)
        return self.commits[seq - 1] if seq <= self.head else None

    def digest_at(self, seq: int) -> str:
        """The digest of a commit; its first 16 hex digits at least."""
        if self._past and seq <= self.commits.skip:
            return self._past.digest(seq)
        return self.commits[seq - 1].digest

    def position(self, moment: datetime) -> int:
        """The newest sequence number that an instant (inclusive) sees; 0 before the first load."""
        if self.effective_at is not None and moment >= self.effective_at:
            return self.head
        low = self.commits.skip  # most ask for something new: the old is looked at only if it has to be
        if low < self.head and moment < self.commits[low].effective_at:
            return bisect_right(self.commits, moment, hi=low, key=lambda c: c.effective_at)
        return bisect_right(
            self.commits, moment, lo=low if low < self.head else 0, key=lambda c: c.effective_at
        )

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
        span = next((first, last) for first, last in self.expired if first <= seq <= last)
        near = [f"{at} ({self.commits[at - 1].effective_at:%Y-%m-%d %H:%M:%S}Z)" if at else "0"
                for at in (span[0] - 1, span[1] + 1)]  # fmt: skip
        msg = f"{self.source}: the state as of load {seq} is expired: a retention let it go"
        raise NotFoundError(msg, hint=f"The nearest states that are kept: load {near[0]} and load {near[1]}.")

    def extended(self, more: Sequence[Commit], *, key: str = "", size_bytes: int = 0) -> "Log":
        """A log with more commits at its end.

        Args:
            more: The commits that follow, oldest first.
            key: The log file they come from.
            size_bytes: Size of that file.

        Raises:
            GapError: The first of them is not the next one.
            ForkError: One of them does not follow from the one before it.
        """
        if not more:
            return self
        self._check(more, key)
        commits = self.commits.extended(more)
        ids = self._ids
        if not commits.shares(self.commits):
            ids = {load_id: seq for load_id, seq in dict(ids).items() if seq <= self.head}
        tables = dict(self._tables)
        for name, news in news_of(more, known=tables).items():
            tables[name] = _table_after(tables.get(name), name, news)
        gone = [(first, last) for commit in more for first, last in commit.retention.get("expired", ())]
        for commit in more:
            ids.setdefault(commit.load_id, commit.seq)
        return replace(
            self,
            commits=commits,
            digest=more[-1].digest,
            effective_at=more[-1].effective_at,
            pipeline=next((c.pipeline for c in reversed(more) if c.pipeline is not None), self.pipeline),
            piped=self.piped.extended(c.seq for c in more if c.pipeline is not None),
            expired=_joined([*self.expired, *gone]) if gone else self.expired,
            expired_by=next((c.seq for c in reversed(more) if c.retention), self.expired_by),
            reach=self.reach.further(key, size_bytes),
            _tables=tables,
            _ids=ids,
        )

    def _check(self, more: Sequence[Commit], key: str) -> None:
        """Refuse commits that do not follow."""
        digest = self.digest
        for number, commit in enumerate(more, self.head + 1):
            where = key or log_key(self.source, commit.seq)
            if commit.seq != number:
                missing = log_key(self.source, number)
                msg = f"{where}: holds commit {commit.seq} where {number} should come next"
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
            digest = commit.digest


def news_of(more: Iterable[Commit], *, known: Iterable[str]) -> dict[str, list[News]]:
    """What commits did to each table, oldest first.

    Args:
        more: The commits.
        known: Tables that were there before them: a pack is of a table that is there.
    """
    there, news = set(known), dict[str, list[News]]()
    for commit in more:
        for name, change in commit.tables.items():
            there.add(name)
            news.setdefault(name, []).append((commit.seq, change))
        for name, packs in commit.packs.items():
            if name in there:
                news.setdefault(name, []).append((commit.seq, packs))
    return news


def _table_after(before: TableLog | None, name: str, more: Sequence[News]) -> TableLog:
    columns = before.columns if before else ()
    last = before.last if before else None
    keys = list(before.keys) if before else []
    widths = list(before.widths) if before else []
    met_rows, met_groups = (before.met_rows, before.met_groups) if before else (False, False)
    stored, content = (before.stored, before.content) if before else (0, "")
    may_repeat = before.may_repeat if before else False
    eras: list[Era] = []
    changes: list[tuple[int, TableChange]] = []
    for seq, news in more:
        if not isinstance(news, TableChange):
            continue
        if last is None or news.base:
            eras.append(Era(first=seq, key=news.key))
            keys += [news.key] if news.key not in keys else []
            stored, content, may_repeat = 0, "", False
        if last is None or (news.columns is not last.columns and news.columns != last.columns):
            wider = merge_columns(columns, news.columns)
            if wider != columns or not widths:
                columns = wider
                widths.append((seq, columns))
        if news.content:
            stored, content = stored + 1, content or news.content
        met_rows = met_rows or bool(news.counts.get("rows"))
        met_groups = met_groups or not news.primary_key
        may_repeat |= not news.primary_key or (news.base and news.disposition == "merge")
        last = news
        changes.append((seq, news))
    return TableLog(
        name=name,
        changes=(before.changes if before else Chronicle()).extended(changes),
        columns=columns,
        eras=(before.eras if before else Chronicle()).extended(eras),
        keys=tuple(keys),
        first_seq=before.first_seq if before else changes[0][0],
        widths=tuple(widths),
        met_rows=met_rows,
        met_groups=met_groups,
        stored=stored,
        content=content,
        may_repeat=may_repeat,
        parts=(before.parts if before else Parts()).extended(more),
    )


def _until(changes: Iterable[tuple[int, TableChange]], seq: int) -> Iterator[tuple[int, TableChange]]:
    """Changes, newest first, down to a load."""
    for change in changes:
        if change[0] < seq:
            return
        yield change


def _joined(spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Ranges in order; those that touch become one."""
    out: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return tuple(out)
