"""What the log of a source says about one of its tables, as JSON values for the catalogue."""

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lakehouse.core.drift import BEGAN, CAME, CAME_BACK, WENT, Event, detail, drift
from lakehouse.core.types import type_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakehouse.core.commit import TableChange
    from lakehouse.core.log import Log, TableLog

_MOST_POINTS, _LEAST_POINTS, _POINTS_IN_ALL = 200, 24, 60_000
_MOST_LOADS, _LEAST_LOADS, _LOADS_IN_ALL = 30, 5, 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is told of one table, so that a catalogue of many stays small.

    Attributes:
        points: Of its row counts over time.
        loads: Of its newest loads.
    """

    points: int = _MOST_POINTS
    loads: int = _MOST_LOADS

    @classmethod
    def for_tables(cls, count: int) -> "Limits":
        """The limits for a lake of so many tables."""
        each = max(count, 1)
        return cls(
            points=min(_MOST_POINTS, max(_LEAST_POINTS, _POINTS_IN_ALL // each)),
            loads=min(_MOST_LOADS, max(_LEAST_LOADS, _LOADS_IN_ALL // each)),
        )


def described(log: "Log", table: "TableLog", limits: Limits) -> dict[str, Any]:
    """A table of a source.

    Args:
        log: The log of the source.
        table: What it says about the table.
        limits: How much to tell.

    Returns:
        `rows`, `key`, `disposition`, `columns`, `drift`, `points` (`[load, rows]`), `loads`, …; loads are
        numbers, whose instants the source has.
    """
    events = drift(table)
    newest = list(table.changes[max(len(table.changes) - limits.loads, 0) :])
    return {
        "name": f"{log.source}.{table.name}",
        "rows": table.last.counts.get("rows", 0),
        "disposition": table.last.disposition,
        "key": list(table.eras[-1].key),
        "load_count": len(table.changes),
        "first_seq": table.first_seq,
        "last_seq": table.last_seq,
        "files": len(table.files),
        "size_bytes": sum(file.size_bytes for file in table.files),
        "columns": _columns(table, events),
        "drift": _drift(events),
        "points": points(table.changes, limits.points),
        "loads": [_load(seq, change) for seq, change in reversed(newest)],
    }


def loads_named(table: "Mapping[str, Any]") -> set[int]:
    """The loads that a table speaks of, as numbers."""
    of_columns = {c[name] for c in table["columns"] for name in ("first_seq", "gone_seq") if name in c}
    told = {entry["seq"] for name in ("drift", "loads") for entry in table[name]}
    return of_columns | told | {seq for seq, _ in table["points"]} | {table["first_seq"], table["last_seq"]}


def points(changes: "Sequence[tuple[int, TableChange]]", most: int) -> list[list[int]]:
    """Row counts over time as steps, `[load, rows]`: the first and the newest, and where the count changed.

    Of more than `most` the least and the greatest of each stretch are kept, so that no spike is lost.
    """
    steps: list[list[int]] = []
    for seq, change in changes:
        rows = change.counts.get("rows", 0)
        if not steps or steps[-1][1] != rows:
            steps.append([seq, rows])
    if steps and steps[-1][0] != changes[-1][0]:
        steps.append([changes[-1][0], steps[-1][1]])
    return steps if len(steps) <= most else _thinned(steps, most)


def _thinned(steps: list[list[int]], most: int) -> list[list[int]]:
    inner, stretches = steps[1:-1], (most - 2) // 2
    kept = [steps[0]]
    for n in range(stretches):
        stretch = inner[n * len(inner) // stretches : (n + 1) * len(inner) // stretches]
        ends = {min(stretch, key=lambda p: p[1])[0], max(stretch, key=lambda p: p[1])[0]}
        kept += [step for step in stretch if step[0] in ends]
    return [*kept, steps[-1]]


def _columns(table: "TableLog", events: list[Event]) -> list[dict[str, Any]]:
    """Each column of the history: its type, since when it is there, and since when it is gone."""
    there: dict[str, dict[str, Any]] = {
        column.name: {"name": column.name, "type": type_text(column.type)}
        | ({} if column.source_name is None else {"source_name": column.source_name})
        for column in table.columns
    }
    for event in events:
        if event.column is None:
            continue
        about = there[event.column]
        if event.what == CAME:
            about["first_seq"] = event.seq
        elif event.what == WENT:
            about["gone_seq"] = event.seq
        elif event.what == CAME_BACK:
            del about["gone_seq"]
    return list(there.values())


def _drift(events: list[Event]) -> list[dict[str, Any]]:
    """Events by load, those of a kind together; columns that came with the table are counted, not named."""
    told: list[dict[str, Any]] = []
    first = events[0].seq if events else 0
    for seq, of_load in groupby(events, key=lambda event: event.seq):
        alike: dict[tuple[str, str], list[str]] = {}
        for event in of_load:
            if seq == first and event.what == CAME:
                continue
            alike.setdefault((event.what, detail(event)), []).append(event.column or "")
        for (what, text), columns in alike.items():
            entry: dict[str, Any] = {"seq": seq, "what": what, "detail": text}
            if what == BEGAN:
                entry["column_count"] = sum(e.seq == seq and e.what == CAME for e in events)
            told.append(entry | ({"columns": named} if (named := [c for c in columns if c]) else {}))
    return told


def _load(seq: int, change: "TableChange") -> dict[str, Any]:
    """What a load did to the table; figures that are 0 are left out, as in a commit."""
    figures = {name: n for name, n in change.counts.items() if n and name != "unchanged"}
    return {"seq": seq} | figures | ({"anew": True} if change.base else {})
