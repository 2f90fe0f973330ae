"""Schema drift: when each column of a table came, went and changed its type, from which load on.

Worked out from the log alone. A load speaks of columns only where it brings some: one without rows
says nothing, and a column that is null in all rows of a load is there all the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lakehouse.core.commit import TableChange
from lakehouse.core.log import TableLog
from lakehouse.core.types import Column, Type, type_text, unify

BEGAN, CAME, WENT, CAME_BACK, TYPE, KEY, DISPOSITION, ANEW = (
    "began", "came", "went", "came back", "type", "key", "disposition", "anew",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that changed with one load.

    Attributes:
        seq: The load.
        what: `began` (the table), `came`, `went`, `came back`, `type`, `key`, `disposition`, or
            `anew`: the state begins anew, where loads usually add to it.
        column: The column it is about; None where it is about the table.
        before: What it was: a type, the columns of a key, a disposition.
        after: What it is from this load on.
        last_seq: Of a column that went or came back, the last load that had it.
        reads_as: The type in which the column reads over the whole history, where it is another.
    """

    seq: int
    what: str
    column: str | None = None
    before: Type | tuple[str, ...] | None = None
    after: Type | tuple[str, ...] | None = None
    last_seq: int | None = None
    reads_as: Type | None = None

    def to_json(self) -> dict[str, Any]:
        """The event as a JSON object, without what does not apply."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in found.items() if v is not None}


@dataclass(slots=True, kw_only=True)
class _Seen:
    """A column so far: the least type that holds all its values, and since when it is gone."""

    type: Type
    gone_since: int | None = None


def drift(table: TableLog) -> list[Event]:
    """Everything that changed in the shape of a table, in the order of the loads."""
    reads = {column.name: column.type for column in table.columns}
    seen: dict[str, _Seen] = {}
    events: list[Event] = []
    before: TableChange | None = None
    columns: Sequence[Column] | None = None
    spoke = 0
    for seq, change in table.changes:
        events += _of_table(seq, change, before)
        if change.columns is not columns and (not seen or _speaks(change)):
            events += _of_columns(seq, spoke, change.columns, seen, reads)
            columns = change.columns
        if change.columns is columns:
            spoke = seq
        before = change
    return events


def detail(event: Event) -> str:
    """What an event says beside its load and its column, for people: `int64 -> string; reads as json …`."""
    last = "" if event.last_seq is None else f"last in load {event.last_seq}"
    if event.column is None:
        return " -> ".join(_plain(v) for v in (event.before, event.after) if v is not None)
    if event.after is None:
        return last
    kind: Any = event.after
    text = type_text(kind) if event.before is None else _change(event.before, kind)
    reads = "" if event.reads_as is None else f"reads as {type_text(event.reads_as)} over the whole history"
    return "; ".join(filter(None, (text, last, reads)))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else ", ".join(value) or "none"


def _change(before: Any, after: Type) -> str:
    """From one type to another; of nested ones only the fields that differ."""
    fields = [_fields(before), _fields(after)]
    if None in fields:
        return f"{type_text(before)} -> {type_text(after)}"
    old, new = fields
    came = [f"+{name} {type_text(kind)}" for name, kind in new.items() if name not in old]
    went = [f"-{name}" for name in old if name not in new]
    other = [f"{n} {_change(old[n], new[n])}" for n in new if n in old and old[n] != new[n]]
    return f"fields {', '.join((*came, *went, *other))}"


def _fields(kind: Any) -> Any:
    while isinstance(kind, dict) and "list" in kind:
        kind = kind["list"]
    return kind["struct"] if isinstance(kind, dict) else None


def _speaks(change: TableChange) -> bool:
    """Whether a load says which columns there are: keys alone are tombstones, or a snapshot without rows."""
    whole = change.disposition == "replace" and change.counts.get("rows", 0) > 0
    return whole or any(column.name not in change.key for column in change.columns)


def _of_table(seq: int, change: TableChange, before: TableChange | None) -> Iterator[Event]:
    if before is None:
        yield Event(seq=seq, what=BEGAN, after=change.disposition)
        if change.key:
            yield Event(seq=seq, what=KEY, after=change.key)
        return
    if change.disposition != before.disposition:
        yield Event(seq=seq, what=DISPOSITION, before=before.disposition, after=change.disposition)
    if change.key != before.key:
        yield Event(seq=seq, what=KEY, before=before.key, after=change.key)
    elif change.base and (change.key or change.disposition != "replace"):
        yield Event(seq=seq, what=ANEW)


def _of_columns(
    seq: int, spoke: int, columns: Sequence[Column], seen: dict[str, _Seen], reads: Mapping[str, Type]
) -> Iterator[Event]:
    names = {column.name for column in columns}
    for name, known in seen.items():
        if known.gone_since is None and name not in names:
            known.gone_since = spoke
            yield Event(seq=seq, what=WENT, column=name, last_seq=spoke)
    for column in columns:
        yield from _of_column(seq, column, seen, reads[column.name])


def _of_column(seq: int, column: Column, seen: dict[str, _Seen], reads: Type) -> Iterator[Event]:
    name, kind = column.name, column.type
    reads_as = None if reads == kind else reads
    known = seen.get(name)
    if known is None:
        seen[name] = _Seen(type=kind)
        yield Event(seq=seq, what=CAME, column=name, after=kind, reads_as=reads_as)
        return
    if known.gone_since is not None:
        yield Event(
            seq=seq, what=CAME_BACK, column=name, after=kind, last_seq=known.gone_since, reads_as=reads_as
        )
        known.gone_since = None
    wider = unify(known.type, kind)
    if wider != known.type:  # a narrower type is no news: its values always were possible
        yield Event(seq=seq, what=TYPE, column=name, before=known.type, after=kind, reads_as=reads_as)
        known.type = wider
