"""Gates: what a load has to pass before it is published. Functions of figures alone.

A gate that refuses sends the whole load to quarantine; it never repairs anything.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lakehouse.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """The limits that a load of a source is held to.

    Attributes:
        allow_empty: Accept a snapshot without rows after one that had some.
        max_drop: The largest share of rows (0 to 1) that a snapshot may have fewer than the one
            before; 1 switches the gate off.
        min_rows_for_drop: Smaller tables than this are not held to `max_drop`.
    """

    allow_empty: bool = False
    max_drop: float = 0.5
    min_rows_for_drop: int = 10

    def __post_init__(self) -> None:
        kinds = {"allow_empty": (bool,), "max_drop": (int, float), "min_rows_for_drop": (int,)}
        for name, allowed in kinds.items():
            value = getattr(self, name)
            if type(value) not in allowed:
                raise UserError(
                    f"the gate {name} is {value!r}", hint="Such as: max_drop = 0.5, allow_empty = true"
                )
        if not 0 <= self.max_drop <= 1:
            msg = f"max_drop is {self.max_drop}; it is a share, from 0 to 1"
            raise UserError(msg)

    def to_json(self) -> dict[str, Any]:
        """The limits as a commit records them."""
        return asdict(self)


OPEN = Gates(allow_empty=True, max_drop=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFigures:
    """What the gates need to know about one table's full snapshot.

    Attributes:
        rows: Rows in the snapshot.
        rows_before: Rows in the table now; None before its first load.
        duplicate_keys: Keys that more than one row has.
        example: One of these keys, rendered; empty for none.
    """

    rows: int
    rows_before: int | None
    duplicate_keys: int = 0
    example: str = ""


def refusals(gates: Gates, tables: Mapping[str, SnapshotFigures]) -> list[str]:
    """The reasons to refuse a load; empty when it may be published.

    Args:
        gates: The limits.
        tables: Figures of each table that the load brings a full snapshot of, by name.
    """
    reasons = []
    for table, seen in tables.items():
        if seen.duplicate_keys:
            reasons.append(
                f"{table}: {seen.duplicate_keys} duplicate primary keys in one snapshot, such as {seen.example}"
            )
        before = seen.rows_before or 0
        if before and not seen.rows:
            if not gates.allow_empty:
                reasons.append(f"{table}: the snapshot is empty, the one before has {before} rows")
        elif before >= gates.min_rows_for_drop and seen.rows < before * (1 - gates.max_drop):
            reasons.append(
                f"{table}: {seen.rows} rows, {1 - seen.rows / before:.0%} fewer than the {before} before "
                f"(at most {gates.max_drop:.0%} may go at once)"
            )
    return reasons
