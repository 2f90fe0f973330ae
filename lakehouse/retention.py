"""Retention: letting old states go, by an explicit policy, and never in silence.

A policy says which old positions of a log stay as-ofs. Rows that no such position sees are left out of
new packs; a commit records the policy and the positions whose state can no longer be told, and from
then on asking for one of these is an error. Every state that stays is proven before the commit, by its
content digest. The old bytes go with the next prune.
"""

import io
import re
import secrets
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from lakehouse import pack
from lakehouse.core import commit as commits
from lakehouse.core.commit import Commit
from lakehouse.core.log import Log, TableLog
from lakehouse.core.types import Column
from lakehouse.duck.files import PROTOCOL, connect
from lakehouse.duck.names import quote
from lakehouse.duck.sql import scan, widened
from lakehouse.errors import ContentionError, IntegrityError, NotFoundError, UserError
from lakehouse.parquet.contents import contents
from lakehouse.parquet.digest import row_hashes, summands
from lakehouse.parquet.part import DELETED, SEQ, PartBytes, write_part
from lakehouse.store import Entry
from lakehouse.tags import tags

if TYPE_CHECKING:
    import duckdb

    from lakehouse.lake import Lake

KEEP_ALL = "keep all"
_UNITS = ("hourly", "daily", "weekly", "monthly", "yearly")
_AGES = {"hour": 1 / 24, "day": 1, "week": 7, "month": 30, "year": 365}
_STEP = re.compile(r"(hourly|daily|weekly|monthly|yearly) after (\d+) (hour|day|week|month|year)s?")
_FOREVER = 2**62
_UNTIL = "_lake_until"
_U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One clause of a policy.

    Attributes:
        unit: Of each of these the newest state is kept: `hourly`, `daily`, `weekly`, `monthly`, `yearly`.
        after: Age from which this holds.
    """

    unit: str
    after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is kept of the past.

    Attributes:
        text: The policy as it was given.
        steps: Its clauses, by age; none where everything is kept.
    """

    text: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireReport:
    """What a retention let go of one source, or would.

    Attributes:
        source: Its name.
        policy: The policy.
        expired: Ranges of positions that are (or would be) no as-ofs any more, in order.
        spans: For each of these from when until when it was the state: first and last instant of a load.
        kept: Positions that stay.
        rows: Rows that are let go.
        size_before: Bytes of the parts that hold them, among others.
        size_after: Bytes of the parts that stand for those.
        commit: The commit that says so; None for a dry run, and where there is nothing to let go.
    """

    source: str
    policy: str
    expired: tuple[tuple[int, int], ...] = ()
    spans: tuple[tuple[datetime, datetime], ...] = ()
    kept: int = 0
    rows: int = 0
    size_before: int = 0
    size_after: int = 0
    commit: Commit | None = None

    @property
    def lost(self) -> int:
        """How many positions are no as-ofs any more."""
        return sum(last - first + 1 for first, last in self.expired)


def parse(text: str) -> Policy:
    """The policy that a text says: `keep all`, or `keep daily after 90 days, monthly after 2 years`.

    Months count 30 days, years 365.

    Raises:
        UserError: The text is no policy.
    """
    plain = " ".join(text.lower().split())
    if plain == KEEP_ALL:
        return Policy(text=plain, steps=())
    steps: list[Step] = []
    for piece in plain.removeprefix("keep ").split(","):
        found = _STEP.fullmatch(piece.strip())
        step = found and Step(unit=found[1], after=timedelta(days=int(found[2]) * _AGES[found[3]]))
        coarser = not steps or (
            step and step.after > steps[-1].after and _UNITS.index(step.unit) > _UNITS.index(steps[-1].unit)
        )
        if not step or not coarser or not plain.startswith("keep "):
            raise UserError(
                f"{text!r} is no retention policy" + ("" if coarser else ": later steps have to keep less"),
                hint="Such as: keep all; keep daily after 90 days; "
                "keep daily after 90 days, monthly after 2 years.",
            )
        steps.append(step)
    return Policy(text=plain, steps=tuple(steps))


def kept_positions(log: Log, policy: Policy, *, now: datetime, pinned: Iterable[int] = ()) -> list[int]:
    """The positions of a log that stay as-ofs, in order.

    The newest always stays, and so do those younger than the policy's first step and those that are
    pinned. Of each hour, day, … in UTC the last position stays that is there still.

    Args:
        log: The log.
        policy: The policy.
        now: From when ages count.
        pinned: Positions that tags name.
    """
    there = [seq for seq in range(1, log.head + 1) if not log.is_expired(seq)]
    last_of: dict[tuple[str, str], int] = {}
    for seq in there:
        for step in policy.steps:
            last_of[step.unit, _bucket(step.unit, log.commits[seq - 1].effective_at)] = seq
    kept = {seq for seq in pinned if 0 < seq <= log.head} | {log.head}
    for seq in there:
        moment = log.commits[seq - 1].effective_at
        due = next((step for step in reversed(policy.steps) if now - moment > step.after), None)
        if due is None or last_of[due.unit, _bucket(due.unit, moment)] == seq:
            kept.add(seq)
    return sorted(kept - {0})


def pins(lake: "Lake", source: str) -> set[int]:
    """The positions of a source that tags name.

    Raises:
        FormatError: A tag cannot be read; nobody knows then what it pins.
    """
    return {tag.positions[source] for tag in tags(lake).values() if source in tag.positions}


def expire(
    lake: "Lake", source: str, policy: Policy, *, dry_run: bool = False, now: datetime | None = None
) -> ExpireReport:
    """Let go what a policy does not keep, in one commit.

    A position is expired only where the state of some table cannot be told any more; one at which
    everything that was true then still lies in the lake stays an as-of, whatever the policy says.

    Args:
        lake: The lake.
        source: The source.
        policy: What to keep.
        dry_run: Work everything out, the packs too, but write nothing.
        now: From when ages count; the present moment by default.

    Raises:
        NotFoundError: There is no such source.
        IntegrityError: A part or a tag is damaged, or a state that is to stay would not: nothing was changed.
        ContentionError: Others packed the same parts meanwhile; nothing was changed.
    """
    if source not in lake.sources():
        msg = f"there is no source {source!r}"
        raise NotFoundError(msg, hint=f"Sources: {', '.join(lake.sources()) or 'none yet'}.")
    log = lake.log(source)
    pinned = pins(lake, source)
    kept = kept_positions(log, policy, now=now or datetime.now(UTC), pinned=pinned)
    nothing = ExpireReport(source=source, policy=policy.text, kept=len(kept))
    if len(kept) == log.head:
        return nothing
    work = _Work(lake, log, kept)
    try:
        for table in log.tables.values():
            work.let_go(table)
        expired = work.expired
        if not expired:
            return nothing
        work.prove()
    finally:
        work.close()
    report = ExpireReport(
        source=source,
        policy=policy.text,
        expired=tuple(expired),
        spans=tuple((log.commits[a - 1].effective_at, log.commits[b - 1].effective_at) for a, b in expired),
        kept=len(kept),
        rows=work.rows,
        size_before=work.size_before,
        size_after=sum(len(part.data) for _, _, part, _ in work.made),
    )
    if dry_run:
        return report
    written = [pack.store_pack(lake, source, *made) for made in work.made]
    if pins(lake, source) - pinned:
        raise ContentionError(f"{source}: was tagged meanwhile; nothing was expired", hint="Run it again.")
    retention = {"policy": policy.text, "expired": [list(span) for span in expired]}
    commit, _ = pack.publish(lake, source, written, load_id=pack.new_id("expire"), retention=retention)
    if commit is None:
        msg = f"{source}: another process packed or expired the same loads; nothing was expired"
        raise ContentionError(msg, hint="Run it again.")
    return replace(report, commit=commit)


_Made = tuple[str, pack.Run, PartBytes, tuple[tuple[int, int, str], ...]]


class _Work:
    """What one retention works out: which rows go, the packs without them, and the proof."""

    def __init__(self, lake: "Lake", log: Log, kept: Sequence[int]) -> None:
        self.log, self.kept = log, kept
        self.made: list[_Made] = []
        self.rows = self.size_before = 0
        self._staged = _Staged(lake)
        self._lake = cast("Lake", self._staged)  # of a lake it has all that reading its parts takes
        self._gone: set[tuple[int, int]] = set()
        self._before: dict[str, list[_U64]] = {}
        self._duck = connect(self._lake)
        self._duck.execute("CREATE TABLE kept (p BIGINT)")
        self._duck.execute("INSERT INTO kept SELECT unnest(?::BIGINT[])", [list(kept)])

    def close(self) -> None:
        """Let the connection go."""
        self._duck.close()

    @property
    def expired(self) -> list[tuple[int, int]]:
        """The ranges of positions at which a row is missing now, without those that were expired before."""
        missing = np.zeros(self.log.head + 2, dtype=np.int64)
        for first, last in self._gone:
            missing[first] += 1
            missing[last + 1] -= 1
        spans: list[tuple[int, int]] = []
        for seq in np.flatnonzero(np.cumsum(missing) > 0).tolist():
            if self.log.is_expired(seq):
                continue
            if spans and spans[-1][1] == seq - 1:
                spans[-1] = (spans[-1][0], seq)
            else:
                spans.append((seq, seq))
        return spans

    def let_go(self, table: TableLog) -> None:
        """Make packs without the rows of a table that no kept position sees."""
        runs = pack.everything(table)
        if any(run.key is None for run in runs):
            return  # parts of eras with different keys in one: not made by lakehouse, and left alone
        versions = _Versions(self._duck, self._lake, table, runs)
        gone = versions.gone()
        if not gone:
            return
        self._gone |= gone
        self._before[table.name] = self._states(self.log, table, runs, versions)
        touched = sorted({first for first, _ in gone})
        for run in runs:
            at = bisect_left(touched, run.first)
            if at < len(touched) and touched[at] <= run.last:
                self._make_without(table, run, versions)

    def prove(self) -> None:
        """Compare every state that is to stay, of every table, before and after.

        The parts that are to come are read from their bytes, and what each position sees of them is
        worked out anew from these rows alone, as any reader will.

        Raises:
            IntegrityError: One differs.
        """
        about = pack.commit_of(
            self.log,
            [pack.proposed(self.log.source, *made) for made in self.made],
            load_id="expire",
            retention={"expired": [list(span) for span in self.expired]},
        )
        line = commits.lines([about], prev=self.log.digest)
        after = self.log.extended(
            commits.parse_file(line, key="the new commit", source=self.log.source), key="the new commit"
        )
        for name, before in self._before.items():
            table = after.tables[name]
            runs = pack.everything(table)
            now = self._states(after, table, runs, _Versions(self._duck, self._lake, table, runs))
            for seq in self.kept:
                if any(one[seq] != two[seq] for one, two in zip(before, now, strict=True)):
                    raise IntegrityError(
                        f"{self.log.source}.{name}: its state as of load {seq} would not stay the same",
                        hint="Nothing was changed. Run `lakehouse verify` to see whether a part is damaged.",
                    )

    def _make_without(self, table: TableLog, run: pack.Run, versions: "_Versions") -> None:
        rows = pack.rows_of(
            self._lake, self.log, table, run, duck=self._duck, wrap=lambda sql: versions.staying(sql, run)
        )
        before = pack.committed(table, run.first, run.last)
        part = write_part(rows, level=pack.LEVEL)
        found = contents(part.data, path="a new pack", named_by="nobody yet")
        loads = tuple(
            (seq, int(found.get(seq, "0:").partition(":")[0]), found.get(seq, ""))
            for seq in sorted({*before, *found})
            if before.get(seq) != found.get(seq)
        )
        self.rows += sum(file.rows for file in run.files) - part.rows
        self.size_before += sum(file.size_bytes for file in run.files)
        made = (table.name, run, part, loads)
        self.made.append(made)
        self._staged.data[pack.proposed(self.log.source, *made).pack.path] = part.data

    def _states(
        self, log: Log, table: TableLog, runs: Sequence[pack.Run], versions: "_Versions"
    ) -> list[_U64]:
        """Rows and both sums of the content digest of a table's state at every position."""
        sums = [np.zeros(self.log.head + 2, dtype=np.uint64) for _ in range(3)]
        for run in runs:
            rows = pack.rows_of(
                self._lake, log, table, run,
                duck=self._duck, wrap=versions.told(run), more=[Column(name=_UNTIL, type="int64")],
            )  # fmt: skip
            if run.keyed:
                rows = rows.filter(pc.invert(pc.fill_null(rows[DELETED], fill_value=False)))
            seqs = rows[SEQ].to_numpy()
            ends = np.minimum(rows[_UNTIL].to_numpy(), self.log.head) + 1
            one, two = summands(row_hashes(rows.drop_columns([SEQ, _UNTIL])))
            for total, addends in zip(sums, (np.ones_like(one), one, two), strict=True):
                np.add.at(total, seqs, addends)
                np.subtract.at(total, ends, addends)
        return [np.cumsum(total, dtype=np.uint64) for total in sums]


class _Staged:
    """A lake with parts in memory beside those that it has: what it will be, before anything is written."""

    def __init__(self, lake: "Lake") -> None:
        self.id = lake.id
        self.data: dict[str, bytes] = {}
        self.store = self
        self._lake = lake

    def locate(self, key: str) -> str:
        """What DuckDB opens for the key of a part."""
        return f"{PROTOCOL}://{self.id}/{key}" if key in self.data else self._lake.locate(key)

    def get(self, key: str) -> bytes:
        """The whole part. Raises Absent."""
        return self.data[key] if key in self.data else self._lake.store.get(key)

    def open(self, key: str) -> BinaryIO:
        """The part as a seekable binary reader. Raises Absent."""
        return io.BytesIO(self.data[key]) if key in self.data else self._lake.store.open(key)

    def stat(self, key: str) -> Entry:
        """Size of the part. Raises Absent."""
        return Entry(key, len(self.data[key])) if key in self.data else self._lake.store.stat(key)


class _Versions:
    """From which load until which position each row of a table counts: tables in DuckDB, one for each key.

    A row counts until the next load with a row of its key, or until the state of the table begins anew.
    It may go if no kept position lies in between.
    """

    def __init__(
        self, duck: "duckdb.DuckDBPyConnection", lake: "Lake", table: TableLog, runs: Sequence[pack.Run]
    ) -> None:
        self._duck = duck
        self._types = {column.name: column.type for column in table.columns}
        self._names: dict[tuple[str, ...], str] = {}
        stops = [*(era.first for era in table.eras[1:]), _FOREVER]
        for key in dict.fromkeys(run.key or () for run in runs):
            eras = [(e.first, stop) for e, stop in zip(table.eras, stops, strict=True) if e.key == key]
            name = self._names[key] = f"versions_{secrets.token_hex(8)}"
            duck.execute(f"CREATE TABLE {name}_eras (first BIGINT, stop BIGINT)")
            duck.execute(
                f"INSERT INTO {name}_eras SELECT unnest($1::BIGINT[]), unnest($2::BIGINT[])",
                [[first for first, _ in eras], [stop for _, stop in eras]],
            )
            columns = [Column(name=k, type=self._types.get(k, "null")) for k in key]
            files = [file for run in runs if run.key == key for file in run.files]
            rows = scan(columns, files, locate=lake.locate, keyed=False)
            ks = "".join(f", {quote(k)} AS k{n}" for n, k in enumerate(key))
            by = "".join(f", k{n}" for n in range(len(key)))
            lead = f"lead(seq, 1, stop) OVER (PARTITION BY first{by} ORDER BY seq)" if key else "stop"
            duck.execute(
                f"CREATE TABLE {name} AS "
                f"WITH v AS (SELECT DISTINCT {SEQ} AS seq{ks} FROM ({rows})), "
                f"e AS (SELECT v.*, first, stop FROM v ASOF JOIN {name}_eras AS eras ON v.seq >= eras.first), "
                f"u AS (SELECT *, {lead} - 1 AS until FROM e) "
                "SELECT u.*, kept.p > until AS gone FROM u ASOF JOIN kept ON u.seq <= kept.p"
            )

    def gone(self) -> set[tuple[int, int]]:
        """The loads of which rows may go, each with the position until which such a row counts."""
        found: set[tuple[int, int]] = set()
        for name in self._names.values():
            found.update(self._duck.execute(f"SELECT DISTINCT seq, until FROM {name} WHERE gone").fetchall())
        return found

    def staying(self, rows: str, run: pack.Run) -> str:
        """Of a SELECT over a run's rows, those that stay."""
        versions = f"(SELECT * FROM {self._names[run.key or ()]} WHERE gone)"
        return (
            f"SELECT _lake_r.* FROM ({rows}) AS _lake_r ANTI JOIN {versions} AS _lake_d ON {self._same(run)}"
        )

    def told(self, run: pack.Run) -> Callable[[str], str]:
        """Makes, of a SELECT over a run's rows, one that also says until when each counts."""
        name, same = self._names[run.key or ()], self._same(run)
        return lambda rows: (
            f"SELECT _lake_r.*, _lake_d.until AS {_UNTIL} FROM ({rows}) AS _lake_r JOIN {name} AS _lake_d ON {same}"
        )

    def _same(self, run: pack.Run) -> str:
        have = {column.name: column.type for column in run.columns}
        pieces = [f"_lake_d.seq = _lake_r.{SEQ}"]
        for n, k in enumerate(run.key or ()):
            value = widened(f"_lake_r.{quote(k)}", have.get(k, "null"), self._types.get(k, "null"))
            pieces.append(f"_lake_d.k{n} IS NOT DISTINCT FROM {value}")
        return " AND ".join(pieces)


def _bucket(unit: str, moment: datetime) -> str:
    """The hour, day, week, month or year of an instant, in UTC."""
    if unit == "weekly":
        year, week, _ = moment.isocalendar()
        return f"{year}-{week}"
    forms = {"hourly": "%Y-%m-%dT%H", "daily": "%Y-%m-%d", "monthly": "%Y-%m", "yearly": "%Y"}
    return moment.strftime(forms[unit])
