"""SQL for moments: what `t` in `table_at(t)` means, as expressions that DuckDB folds to constants.

A moment is a timestamp (UTC if it has no zone), a date (its first instant), text of either, the
number of a load, the name of a tag, or NULL for now. Which file holds the answer is decided while a query
is planned, so these expressions hold no subqueries: the boundaries stand in them as literals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lakehouse.duck.names import literal

_MOST = 4_000_000_000_000_000_000  # half of what a BIGINT holds: the end of time comes before it is doubled


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment, for one source.

    Attributes:
        given: SQL expression of what was given: a macro's parameter, or the session variable.
        tags: Positions in this source of the tags, by name.
    """

    given: str
    tags: Mapping[str, int] = field(default_factory=dict)

    @property
    def number(self) -> str:
        """The number of the load that is meant; NULL where the moment is an instant or now."""
        text = f"{self.given}::VARCHAR"
        digits = f"CASE WHEN regexp_full_match({text}, '\\s*[0-9]+\\s*') THEN TRY_CAST({text} AS BIGINT) END"
        if not self.tags:
            return digits
        named = " ".join(f"WHEN {literal(name)} THEN {seq}" for name, seq in self.tags.items())
        return f"(CASE {text} {named} ELSE {digits} END)"

    @property
    def instant(self) -> str:
        """Microseconds since 1970 of the instant that is meant; NULL where it is none."""
        text = f"{self.given}::VARCHAR"
        # DuckDB 2 leaves a zone out of account where text becomes a TIMESTAMP; DuckDB 1 did not.
        zoned = f"regexp_matches({text}, ':[0-9][0-9].*([A-Za-z_]|[+-][0-9][0-9:]*)\\s*$')"
        return (
            f"CASE WHEN {zoned} THEN epoch_us(TRY_CAST({text} AS TIMESTAMPTZ)) "
            f"ELSE epoch_us(TRY_CAST({text} AS TIMESTAMP)) END"
        )

    @property
    def wrong(self) -> str:
        """An error that says that the moment is none."""
        return (
            f"error('as of ' || {self.given}::VARCHAR || ': is neither an instant (2026-11-01T12:00:00Z), "
            "nor the number of a load, nor a tag')"
        )

    def choose(self, *, now: str, number: str, instant: str) -> str:
        """One of three expressions, by the kind of moment."""
        return (
            f"CASE WHEN {self.given} IS NULL THEN {now} WHEN {self.number} IS NOT NULL THEN {number} "
            f"WHEN {self.instant} IS NULL THEN {self.wrong} ELSE {instant} END"
        )

    def step(self, seqs: Sequence[int], instants: Sequence[int]) -> str:
        """How many of some ascending loads had happened, plus one; one more than all for now.

        Args:
            seqs: Their numbers.
            instants: When they took effect, in microseconds since 1970.
        """
        last = len(seqs) + 1
        # Not `choose`, whose error could not be told from a list position; the filter beside it complains.
        return (
            f"CASE WHEN {self.given} IS NULL THEN {last} WHEN {self.number} IS NOT NULL "
            f"THEN {_step(self.number, seqs)} ELSE {_step(self.instant, instants)} END"
        )


def _step(value: str, bounds: Sequence[int]) -> str:
    # Doubled and made odd, so that a value that equals a bound comes after it.
    mine = f"(2 * least(greatest({value}, -{_MOST}), {_MOST}) + 1)"
    listed = ", ".join(f"{2 * bound}::BIGINT" for bound in bounds)
    return f"coalesce(list_position(list_sort(list_append([{listed}]::BIGINT[], {mine})), {mine}), 1)"
