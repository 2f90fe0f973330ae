"""Bulk loads: thousands of past snapshots of one table, published many commits at a time.

Each observation becomes a commit of its own, observed at its own time, exactly as a `Load` would
have made it; but rows are compared in memory, and one part and one log file hold many loads.
History is taken as it was: snapshots without rows and keys that repeat are kept, not refused.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from lakehouse import logpack
from lakehouse.core import commit as commits
from lakehouse.core import layout, moments
from lakehouse.core.commit import Commit, Part, TableChange
from lakehouse.core.log import Log, TableLog
from lakehouse.core.types import Column, Type, distinct_names, unify
from lakehouse.errors import ContentionError, UserError
from lakehouse.loading import check_new_names, state_of
from lakehouse.parquet.arrow import widen
from lakehouse.parquet.digest import combine, row_hashes
from lakehouse.parquet.infer import canonical, column_to_array, infer_type, json_array
from lakehouse.parquet.part import DELETED, RESERVED, SEQ, write_part
from lakehouse.provenance import produced_by as provenance

if TYPE_CHECKING:
    from lakehouse.lake import Lake

FLUSH_ROWS = 200_000
FLUSH_COMMITS = 4_096
_UNKNOWN = b"\0"  # in the place of the bytes of rows that were read back; no rows have these

Row = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class _Kept:
    """What the current state has under one key: its rows, as they came and in canonical form."""

    raw: bytes
    canon: bytes
    rows: int


@dataclass(slots=True, kw_only=True)
class _Pending:
    """A commit to be, and where its rows lie in the buffer."""

    commit: Commit
    change: TableChange | None
    first: int
    last: int


class BulkLoad:
    """Publishes a sequence of snapshots of one table, oldest first.

    Args:
        lake: The lake.
        source: Name of the source; nobody else may write to it meanwhile.
        table: Name of the table.
        key: Columns that identify a row; without any, each differing snapshot is stored whole.
        volatile: Columns that do not make a row count as changed.
        produced_by: What to record about the producer.

    Call `observe` or `fail` for each observation, and `flush` at the end; what was not flushed is
    lost with the process, and the next run takes it up from there.
    """

    def __init__(
        self,
        lake: "Lake",
        source: str,
        table: str,
        *,
        key: Sequence[str] = (),
        volatile: Sequence[str] = (),
        produced_by: Mapping[str, Any] | None = None,
    ) -> None:
        self.lake = lake
        self.source = layout.check_source_name(source)
        self.table = layout.check_table_name(table)
        self.key = tuple(key)
        self.volatile = frozenset(volatile)
        self.produced_by = provenance() | dict(produced_by or {})
        self._log = lake.log(source)
        check_new_names(lake, self._log, [table])
        self._seq = self._log.head
        self._effective = self._log.effective_at
        self._buffer: list[Row] = []
        self._seqs: list[int] = []
        self._gone: list[bool] = []
        self._pending: list[_Pending] = []
        self._ids: set[str] = set()
        self._types: dict[str, Type] = {}  # by source name, in the newest snapshot
        self._stored: dict[str, str] = {}  # source name -> name of the column
        self._names: tuple[str, ...] | None = None  # of the newest snapshot, with
        self._last_columns: tuple[Column, ...] = ()
        self._shapes: set[tuple[tuple[str, ...], tuple[type, ...]]] = set()
        self._state: dict[Any, _Kept] = {}
        self._started = False
        self._met_keys = False  # whether there ever were rows, and with the key columns
        self.repeated_keys = 0
        self._resume()

    @property
    def log(self) -> Log:
        """The log as it was last published."""
        return self._log

    def observe(
        self,
        rows: list[Row],
        *,
        observed_at: datetime,
        load_id: str,
        responses: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Add one snapshot. Rows without the key are kept too, and change together.

        Args:
            rows: All rows at that time.
            observed_at: When they were seen.
            load_id: Identifies the observation.
            responses: What was fetched for it.

        Raises:
            UserError: The very first rows lack a key column, or one holds lists or objects.
        """
        if rows and not self._met_keys:
            self._meet_keys(rows)
        self._seq += 1
        first = len(self._buffer)
        counts, base, repeated = self._keyed(rows) if self.key else self._whole(rows)
        columns = self._columns(rows, first)
        change = TableChange(
            disposition="replace",
            primary_key=() if repeated else self._named(self.key),
            merge_key=self._named(self.key) if repeated else (),
            volatile=self._named(sorted(self.volatile)),
            columns=columns,
            base=base and self._started,
            counts=counts,
        )
        self._started = True
        self._append(change, first, observed_at=observed_at, load_id=load_id, responses=responses)

    def unchanged(
        self, *, observed_at: datetime, load_id: str, responses: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        """Add an observation whose bytes equal the snapshot before: nothing new."""
        self._seq += 1
        self._append(None, len(self._buffer), observed_at=observed_at, load_id=load_id, responses=responses)

    def fail(
        self, reason: str, *, observed_at: datetime, load_id: str, responses: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        """Add an observation that yielded no data: it is visible in the log and changes nothing."""
        self._seq += 1
        self._append(
            None,
            len(self._buffer),
            observed_at=observed_at,
            load_id=load_id,
            responses=responses,
            failure=reason,
        )

    def flush(self) -> None:
        """Publish all that was added since the last time: one part, then one log file.

        Raises:
            ContentionError: Somebody else wrote to this source meanwhile; nothing was published.
        """
        if not self._pending:
            return
        content = commits.lines(self._with_part(), prev=self._log.digest)
        if not logpack.claim(self.lake.store, self.source, self._log.head + 1, content):
            msg = f"{self.source}: another process wrote load {self._log.head + 1} while this import ran"
            raise ContentionError(msg, hint="Nothing was lost: run the same import again.")
        self._log = self.lake.log(self.source)
        self._buffer, self._seqs, self._gone, self._pending = [], [], [], []

    # Comparing.

    def _keyed(self, rows: list[Row]) -> tuple[dict[str, int], bool, bool]:
        """Buffer what differs from the state; counts, no new base, and whether keys repeat."""
        groups: dict[Any, list[Row]] = {}
        keys = self._keys(rows)
        raws = self._raws(rows)
        now: dict[Any, bytes] = dict(zip(keys, raws, strict=True))
        repeated = len(now) < len(rows)
        if repeated:
            self.repeated_keys += 1
            for key, row in zip(keys, rows, strict=True):
                groups.setdefault(key, []).append(row)
            now = {key: _joined(self._raws(group)) for key, group in groups.items()}
        else:
            groups = {}
            single = dict(zip(keys, rows, strict=True))
        state = self._state
        appeared = changed = differing = disappeared = 0
        for key, raw in now.items():
            kept = state.get(key)
            if kept is not None and kept.raw == raw:
                continue
            group = groups[key] if repeated else [single[key]]
            canon = self._canon(group)
            if kept is not None and kept.canon == canon:
                kept.raw = raw
                continue
            self._add(group, gone=False)
            differing += len(group)
            before = kept.rows if kept else 0
            changed += min(len(group), before)
            appeared += max(len(group) - before, 0)
            disappeared += max(before - len(group), 0)
            state[key] = _Kept(raw=raw, canon=canon, rows=len(group))
        if len(state) > len(now):
            for key in [k for k in state if k not in now]:
                disappeared += state.pop(key).rows
                self._add([self._key_row(key)], gone=True)
        counts = {
            "rows": len(rows), "appeared": appeared, "changed": changed, "disappeared": disappeared,
            "unchanged": len(rows) - differing,
        }  # fmt: skip
        return counts, False, repeated

    def _whole(self, rows: list[Row]) -> tuple[dict[str, int], bool, bool]:
        """Buffer the snapshot whole, unless it equals the one before."""
        raw = _joined(self._raws(rows))
        kept = self._state.get(None)
        if kept is not None and (kept.raw == raw or kept.canon == self._canon(rows)):
            kept.raw = raw
            return {"rows": len(rows), "unchanged": len(rows)}, False, False
        self._state[None] = _Kept(raw=raw, canon=self._canon(rows), rows=len(rows))
        self._add(rows, gone=False)
        return {"rows": len(rows)}, True, False

    def _keys(self, rows: list[Row]) -> list[Any]:
        """A hashable key for each row: text as it is, anything else in canonical JSON."""
        if len(self.key) == 1:
            values = [row.get(self.key[0]) for row in rows]
            return [value if type(value) is str else canonical(self._scalar(value)) for value in values]
        return [canonical([self._scalar(row.get(name)) for name in self.key]) for row in rows]

    def _scalar(self, value: Any) -> Any:
        """A value of a key column. What is nested has many forms that are equal, so it is no key."""
        if isinstance(value, (dict, list)):
            what = "a list" if isinstance(value, list) else "an object"
            msg = f"{self.source}.{self.table}: a key column ({', '.join(self.key)}) holds {what}: {value!r:.80}"
            raise UserError(
                msg, hint="Name other columns, or none: each snapshot that differs is then stored whole."
            )
        return value

    def _key_row(self, key: Any) -> Row:
        """The key columns of a key as `_keys` made it."""
        if isinstance(key, str):
            return {self.key[0]: key}
        values = json.loads(key)
        return dict(zip(self.key, values if len(self.key) > 1 else [values], strict=True))

    def _raws(self, rows: list[Row]) -> list[bytes]:
        if self.volatile:
            rows = [{k: v for k, v in row.items() if k not in self.volatile} for row in rows]
        try:
            return [orjson.dumps(row, option=orjson.OPT_SORT_KEYS) for row in rows]
        except TypeError:  # an integer beyond 64 bits
            return [canonical(row) for row in rows]

    def _canon(self, rows: list[Row]) -> bytes:
        if self.volatile:
            rows = [{k: v for k, v in row.items() if k not in self.volatile} for row in rows]
        return _joined([canonical(row) for row in rows])

    # Buffering.

    def _add(self, rows: list[Row], *, gone: bool) -> None:
        self._buffer += rows
        self._seqs += [self._seq] * len(rows)
        self._gone += [gone] * len(rows)

    def _columns(self, rows: list[Row], first: int) -> tuple[Column, ...]:
        """The columns of a snapshot: types from the rows that differ, else as they were."""
        added = self._buffer[first:]
        fresh = [row for row, gone in zip(added, self._gone[first:], strict=True) if not gone]
        names = tuple(dict.fromkeys(chain.from_iterable((*rows, *added, self.key))))
        shapes = {(tuple(row), tuple(map(type, row.values()))) for row in added}
        if names != self._names or not shapes <= self._shapes:
            whole = len(fresh) == len(added) == len(rows)
            changed = self._retype(names, added, fresh, keep=not whole) or names != self._names
            self._shapes = shapes if whole else self._shapes | shapes
        else:  # rows of known shapes: only integers and nested values can still need a wider type
            deep = [n for n in names if self._types[n] == "int64" or not isinstance(self._types[n], str)]
            changed = self._retype(deep, added, fresh, keep=True)
        if changed:
            self._names = names
            self._name_columns(names)
            self._last_columns = tuple(self._column(name) for name in names)
        return self._last_columns

    def _retype(self, names: Sequence[str], added: list[Row], fresh: list[Row], *, keep: bool) -> bool:
        """Bring types up to date with rows that were added; whether one changed."""
        changed = False
        for name in names:
            before = self._types.get(name, "null")
            found = infer_type([row.get(name) for row in (added if name in self.key else fresh)])
            if keep or found == "null":
                found = unify(before, found)
            changed |= found != before
            self._types[name] = found
        return changed

    def _name_columns(self, names: Sequence[str]) -> None:
        new = [name for name in names if name not in self._stored]
        if new:
            known = [Column(name=s, type="null", source_name=n) for n, s in self._stored.items()]
            self._stored |= dict(zip(new, distinct_names(new, known, RESERVED), strict=True))

    def _named(self, names: Iterable[str]) -> tuple[str, ...]:
        """Source names as the names by which their columns are stored."""
        return tuple(self._stored.get(name, name) for name in names)

    def _column(self, name: str) -> Column:
        stored = self._stored[name]
        return Column(name=stored, type=self._types[name], source_name=None if stored == name else name)

    def _append(
        self,
        change: TableChange | None,
        first: int,
        *,
        observed_at: datetime,
        load_id: str,
        responses: Iterable[Mapping[str, Any]],
        failure: str | None = None,
    ) -> None:
        observed = moments.to_utc(observed_at)
        self._effective = max(observed, self._effective or observed)
        commit = Commit(
            source=self.source,
            seq=self._seq,
            load_id=load_id,
            prev="",
            observed_at=observed,
            effective_at=self._effective,
            committed_at=observed,
            failure=failure,
            responses=tuple(dict(r) for r in responses),
            produced_by=self.produced_by,
        )
        if load_id in self._ids or self._log.find(load_id) is not None:
            raise UserError(f"{self.source}: load {load_id} is in the log already", hint="Import it once.")
        self._ids.add(load_id)
        self._pending.append(_Pending(commit=commit, change=change, first=first, last=len(self._buffer)))
        if len(self._buffer) >= FLUSH_ROWS or len(self._pending) >= FLUSH_COMMITS:
            self.flush()

    # Writing.

    def _with_part(self) -> list[Commit]:
        """The pending commits, naming the part that was written for them all."""
        now = datetime.now(UTC)
        types = self._part_types()
        if not self._buffer:
            return [self._commit(p, now, None, "") for p in self._pending]
        table = self._table(types)
        hashes = row_hashes(table.drop_columns([SEQ]))
        written = write_part(table)
        path = layout.part_key(self.source, self.table, self._seqs[0], self._seqs[-1], written.name)
        self.lake.store.put(path, written.data)
        part = Part(path=path, sha256=written.sha256, size_bytes=len(written.data), rows=0)
        ready = [self._commit(p, now, part, combine(hashes[p.first : p.last])) for p in self._pending]
        at = next(i for i, p in enumerate(self._pending) if p.last > p.first)
        ready[at] = _retyped(ready[at], self.table, types)
        return ready

    def _commit(self, pending: _Pending, now: datetime, part: Part | None, content: str) -> Commit:
        change = pending.change
        rows = pending.last - pending.first
        if change is None:
            return replace(pending.commit, committed_at=now)
        if part is not None and rows:
            change = replace(change, parts=(replace(part, rows=rows),), content=content)
        return replace(pending.commit, committed_at=now, tables={self.table: change})

    def _part_types(self) -> dict[str, Type]:
        """The type of each column of the part: the least that all its loads' types have in common."""
        schemas = {
            id(p.change.columns): p.change.columns
            for p in self._pending
            if p.change is not None and p.last > p.first
        }
        types: dict[str, Type] = {}
        for columns in schemas.values():
            for column in columns:
                types[column.name] = unify(types.get(column.name, "null"), column.type)
        return types

    def _table(self, types: dict[str, Type]) -> pa.Table:
        columns: dict[str, Any] = {SEQ: pa.array(self._seqs, pa.int64())}
        if self.key:
            columns[DELETED] = pa.array(self._gone, pa.bool_())
        source_names = {stored: name for name, stored in self._stored.items()}
        for stored, declared in list(types.items()):
            name = source_names[stored]
            values = [row.get(name) for row in self._buffer]
            # All values together may need a wider type than each load by itself, such as JSON
            # text for objects whose fields add up to too many.
            types[stored] = unify(declared, infer_type(values))
            columns[stored] = (
                json_array(values)
                if types[stored] == "json"
                else widen(column_to_array(values), types[stored])
            )
        return pa.table(columns)

    # Beginning.

    def _resume(self) -> None:
        """Take up the state in which the log is."""
        table = self._log.tables.get(self.table)
        if table is None:
            return
        self._stored = {_source_name(c): c.name for c in table.columns}
        if table.eras[-1].key != self._named(self.key):
            had = ", ".join(table.eras[-1].key) or "no key"
            msg = f"{self.source}.{self.table}: was imported with {had}, not with {', '.join(self.key) or 'no key'}"
            raise UserError(msg, hint="Use the same key, or import into another source.")
        self._started = True
        self._met_keys = table.met_rows
        self._types = {_source_name(c): c.type for c in table.last.columns}
        rows = self._current(table)
        if self.key:
            groups: dict[Any, list[Row]] = {}
            for key, row in zip(self._keys(rows), rows, strict=True):
                groups.setdefault(key, []).append(row)
        else:
            groups = {None: rows}
        self._state = {k: _Kept(raw=_UNKNOWN, canon=self._canon(g), rows=len(g)) for k, g in groups.items()}

    def _current(self, table: TableLog) -> list[Row]:
        state = state_of(self.lake, self._log, table.name)
        rows = state.fetch(state.sql(table.columns), table.columns)
        texts = {c.name for c in table.columns if c.type == "json"}
        names = {c.name: _source_name(c) for c in table.columns}
        return [
            {
                names[name]: json.loads(value) if name in texts and value is not None else value
                for name, value in row.items()
            }
            for row in rows.to_pylist()
        ]

    def _meet_keys(self, rows: list[Row]) -> None:
        """Refuse a key that the first rows do not have: it would be a mistake in the command."""
        for name in self.key:
            if not any(name in row for row in rows):
                have = ", ".join(map(repr, dict.fromkeys(chain.from_iterable(rows[:10]))))
                msg = f"{self.source}.{self.table}: no row has the key column {name!r}"
                raise UserError(msg, hint=f"Columns that are there: {have}.")
        self._met_keys = True


def _retyped(commit: Commit, table: str, types: Mapping[str, Type]) -> Commit:
    """A commit whose schema says the types in which its columns lie in the part.

    A part's type is the least that all its loads' types have in common, so one has to say it.
    """
    change = commit.tables[table]
    if all(types[c.name] == c.type for c in change.columns):
        return commit
    columns = tuple(replace(c, type=types[c.name]) for c in change.columns)
    return replace(commit, tables={table: replace(change, columns=columns)})


def _source_name(column: Column) -> str:
    return column.name if column.source_name is None else column.source_name  # which may be empty


def _joined(pieces: list[bytes]) -> bytes:
    return pieces[0] if len(pieces) == 1 else b"\n".join(sorted(pieces))
