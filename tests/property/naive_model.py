"""A naive lake: every table is a list of rows, every load makes a new copy of all of them.

It knows nothing of parts, eras, Arrow or SQL. What it says is what the lake has to say.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Row = dict[str, Any]


def canon(value: Any) -> Any:
    """A value in a hashable form in which 1 is 1.0, and an object's nulls are absent."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return ("list", *map(canon, value))
    if isinstance(value, dict):
        return ("object", canon_row(value))
    return value


def canon_row(row: Mapping[str, Any], *, without: Sequence[str] = ()) -> frozenset[Any]:
    return frozenset((k, canon(v)) for k, v in row.items() if v is not None and k not in without)


@dataclass(kw_only=True)
class Op:
    """One write to one table."""

    table: str
    rows: list[Row]
    disposition: str
    primary_key: tuple[str, ...] = ()
    merge_key: tuple[str, ...] = ()
    volatile: tuple[str, ...] = ()
    deletes: list[Row] | None = None
    insert_only: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "disposition": self.disposition,
            "primary_key": self.primary_key,
            "merge_key": self.merge_key,
            "volatile": self.volatile,
            "deletes": self.deletes,
            "insert_only": self.insert_only,
        }


def key_of(row: Row, key: Sequence[str]) -> tuple[Any, ...]:
    return tuple(canon(row.get(name)) for name in key)


def after(op: Op, before: list[Row]) -> list[Row]:
    """The rows of a table after a write."""
    if op.disposition == "append":
        return before + op.rows
    if op.disposition == "replace":
        return list(op.rows)
    key = op.primary_key or op.merge_key
    rows = op.rows
    if op.primary_key:
        rows = list({key_of(row, key): row for row in rows}.values())
    named = {key_of(row, key) for row in op.deletes or []}
    incoming = {key_of(row, key) for row in rows}
    groups = {key_of(row, op.merge_key) for row in rows} if op.merge_key else set()
    if op.insert_only:
        there = {key_of(row, key) for row in before}
        rows = [row for row in rows if key_of(row, key) not in there]
        kept = [row for row in before if key_of(row, key) not in named - incoming]
        return kept + rows
    gone = named | incoming
    kept = [
        row
        for row in before
        if key_of(row, key) not in gone and key_of(row, op.merge_key or ("",)) not in groups
    ]
    return kept + rows


def counted(op: Op, before: list[Row]) -> dict[str, int]:
    """Appeared, changed and disappeared rows, for a table whose keys do not repeat."""
    now = after(op, before)
    old, new = ({key_of(row, op.primary_key): row for row in rows} for rows in (before, now))
    changed = [
        k for k in old.keys() & new.keys()
        if canon_row(old[k], without=op.volatile) != canon_row(new[k], without=op.volatile)
    ]  # fmt: skip
    return {
        "appeared": len(new.keys() - old.keys()),
        "changed": len(changed),
        "disappeared": len(old.keys() - new.keys()),
    }


def repeats(op: Op) -> bool:
    """Whether a full snapshot has a key twice."""
    keys = Counter(key_of(row, op.primary_key) for row in op.rows)
    return op.disposition == "replace" and bool(op.primary_key) and max(keys.values(), default=0) > 1


@dataclass(kw_only=True)
class Model:
    """The whole history of one source."""

    states: list[dict[str, list[Row]]] = field(default_factory=lambda: [{}])
    effective: list[datetime] = field(default_factory=list)
    load_ids: list[str] = field(default_factory=list)

    @property
    def now(self) -> dict[str, list[Row]]:
        return self.states[-1]

    def load(self, load_id: str, observed_at: datetime, ops: Sequence[Op]) -> None:
        state = dict(self.now)
        for op in ops:
            state[op.table] = after(op, state.get(op.table, []))
        self.states.append(state)
        self.effective.append(max([observed_at, *self.effective[-1:]]))
        self.load_ids.append(load_id)

    def seen_at(self, moment: datetime) -> dict[str, list[Row]]:
        return self.states[sum(at <= moment for at in self.effective)]
