"""What an as-of means in SQL: text of an instant or a date, the number of a load, or the name of a tag.

The rules are written once, as SQL, and are the same in a view, in a macro and in Python.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import duckdb

from lakehouse.core import layout
from lakehouse.core import tag as tags
from lakehouse.core.tag import Tag
from lakehouse.duck.names import AS_OF, literal
from lakehouse.errors import IntegrityError, QueryError
from lakehouse.store.base import Absent, Store

if TYPE_CHECKING:
    from collections.abc import Iterable

TURNED = f"getvariable({literal(AS_OF)})"  # the moment of all views of a session
SUCH_AS = "Such as 2026-11-01, 2026-11-01T12:00:00Z (UTC if it has no zone), 42, or a tag."
_NEITHER = "is neither an instant (2026-11-01T12:00:00Z), nor the number of a load, nor a tag"
_MOST = 2**63 - 1


def read_tags(store: Store) -> tuple[dict[str, Tag], dict[str, IntegrityError]]:
    """The tags of a lake by name, in order of name, and what is wrong with files that are none."""
    found: dict[str, Tag] = {}
    broken: dict[str, IntegrityError] = {}
    for entry in list(store.list(f"{layout.TAGS}/")):
        name = entry.key.removeprefix(f"{layout.TAGS}/").removesuffix(".json")
        if layout.tag_key(name) != entry.key:
            continue
        try:
            found[name] = tags.parse(store.get(entry.key), key=entry.key)
        except Absent:  # deleted since it was listed
            continue
        except IntegrityError as error:
            broken[name] = error
    return found, broken


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment in the log of a source, as expressions that DuckDB folds to constants while it plans.

    So the file with the answer is chosen before anything is read. It may be a timestamp (without a zone it
    is UTC), a date (its first instant), text of either, the number of a load, the name of a tag, or NULL for
    now. Anything else is an error that says so. So is a number beyond the log, unless all views are turned at
    once: then it sees all.

    Attributes:
        given: SQL expression of what was given: a macro's parameter, or the session variable.
        source: Name of the source.
        head: Number of its newest load.
        tags: Positions in the source by name of the tag.
        expired: Positions that a retention let go, as `(first, last)`, with when the first took effect
            and when the one after the last did.
        passed_on: Whether it may be the moment that all views are turned to, passed to a macro.
    """

    given: str
    source: str
    head: int
    tags: Mapping[str, int] = field(default_factory=dict)
    expired: Sequence[tuple[int, int, int, int]] = ()
    passed_on: bool = False

    @property
    def text(self) -> str:
        """What was given, as text."""
        return f"({self.given})::VARCHAR"

    @property
    def number(self) -> str:
        """The number of the load that is meant; NULL where the moment is an instant or now."""
        number = _number(self.text)
        if self.given != TURNED:
            beyond = f"error('as of load ' || {self.text} || ': {self.source} ends at load {self.head}')"
            others = f" AND {self.text} IS DISTINCT FROM {TURNED}::VARCHAR" if self.passed_on else ""
            number = f"CASE WHEN {number} > {self.head}{others} THEN {beyond} ELSE {number} END"
        digits = f"CASE WHEN {_digits(self.text)} THEN {number} END"
        if not self.tags:
            return f"({digits})"
        named = " ".join(f"WHEN {literal(name)} THEN {seq}" for name, seq in self.tags.items())
        return f"(CASE {self.text} {named} ELSE {digits} END)"

    @property
    def instant(self) -> str:
        """Microseconds since 1970 of the instant that is meant; NULL where it is none."""
        return f"({_instant(self.text)})"

    @property
    def position(self) -> str:
        """The newest load that the moment sees. Unlike all else here it may look into the table of loads."""
        return self.choose(now=str(self.head), number=self.number, instant=self._seen)

    @property
    def _seen(self) -> str:
        return (
            f"(SELECT coalesce(max(seq), 0) FROM main.loads WHERE source = {literal(self.source)} "
            f"AND epoch_us(effective_at) <= {self.instant})"
        )

    def reached(self, column: str) -> str:
        """A condition: the load in a column is one that the moment sees."""
        return self.choose(
            now="true", number=f"{column} <= {self.number}", instant=f"{column} <= {self._seen}"
        )

    def choose(self, *, now: str, number: str, instant: str) -> str:
        """One of three expressions, by the kind of moment."""
        wrong = f"error('as of ' || {self.text} || ': {_NEITHER}')"
        return (
            f"CASE WHEN {self.given} IS NULL THEN {now} {self._lost}WHEN {self.number} IS NOT NULL THEN {number} "
            f"WHEN {self.instant} IS NULL THEN {wrong} ELSE {instant} END"
        )

    @property
    def guard(self) -> str:
        """A condition that is false, or the error of a state that a retention let go."""
        return f"CASE WHEN {self.given} IS NULL THEN false {self._lost}ELSE false END"

    @property
    def _lost(self) -> str:
        """The branch for a state that a retention let go: it is refused, never answered by what is left."""
        if not self.expired:
            return ""
        first, last, first_at, next_at = zip(*self.expired, strict=True)
        inside = (
            f"([-1, {', '.join(map(str, last))}]::BIGINT[])[{_step(self.number, first)}] >= {self.number}"
        )
        during = f"([NULL, {', '.join(map(str, next_at))}]::BIGINT[])[{_step(self.instant, first_at)}] > {self.instant}"
        said = f"{self.source}: as of "
        return (
            f"WHEN CASE WHEN {self.number} IS NOT NULL THEN {inside} ELSE {during} END THEN error("
            f"{literal(said)} || {self.text} || ' is expired; see lakehouse.loads for what is kept') "
        )

    def step(self, seqs: Sequence[int], instants: Sequence[int]) -> str:
        """How many of some ascending loads had happened, plus one; one more than all for now.

        Args:
            seqs: Their numbers.
            instants: When they took effect, in microseconds since 1970.
        """
        # Not `choose`: what is no moment is refused by the filter, and a position in a list has to be one.
        return (
            f"CASE WHEN {self.given} IS NULL THEN {len(seqs) + 1} WHEN {self.number} IS NOT NULL "
            f"THEN {_step(self.number, seqs)} ELSE {_step(self.instant, instants)} END"
        )


def _step(value: str, bounds: Sequence[int]) -> str:
    # Doubled and made odd, so that a value that equals a bound comes after it.
    mine = f"(2 * least(greatest({value}, -{_MOST // 4}), {_MOST // 4}) + 1)"
    listed = ", ".join(str(2 * bound) for bound in bounds)
    return f"coalesce(list_position(list_sort(list_append([{listed}]::BIGINT[], {mine})), {mine}), 1)"


def instant_of(text: str) -> int | None:
    """Microseconds since 1970-01-01 UTC of the instant or date that a text says; None if it says none."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        row = connection.execute(f"SELECT {_instant('$1::VARCHAR')}", [text]).fetchone()
    return row[0] if row else None


def check_as_of(connection: duckdb.DuckDBPyConnection, store: Store, moment: str) -> None:
    """Refuse a moment that no query over the attached catalog could be turned to.

    Raises:
        QueryError: It is no moment, or a load that no log has.
        FormatError: It is a tag whose file cannot be read.
    """
    text = "$1::VARCHAR"
    newest, digits, number, instant, tagged = connection.execute(
        f"SELECT (SELECT max(seq) FROM lakehouse.main.loads), {_digits(text)}, {_number(text)}, "
        f"{_instant(text)} IS NOT NULL, EXISTS (SELECT 1 FROM lakehouse.main.tags WHERE name = {text})",
        [moment],
    ).fetchall()[0]
    if digits:
        if newest is not None and number > newest:
            raise QueryError(
                f"as of load {moment}: the longest log ends at {newest}", hint="See: lakehouse log"
            )
    elif not instant and not tagged:
        known, broken = read_tags(store)
        if moment in broken:
            raise broken[moment]
        raise no_moment(moment, known)


def no_moment(text: str, known: "Iterable[str]") -> QueryError:
    """The error for text that is no moment, with the tags that may have been meant."""
    folded = {name.lower(): name for name in known}
    near = [folded[name] for name in difflib.get_close_matches(text.lower(), folded, n=3)]
    hint = f"Did you mean {' or '.join(near)}? See: lakehouse tag list" if near else SUCH_AS
    return QueryError(f"as of {text}: {_NEITHER}", hint=hint)


def _digits(text: str) -> str:
    return f"regexp_full_match({text}, '\\s*[0-9]+\\s*')"


def _number(text: str) -> str:
    return f"coalesce(TRY_CAST({text} AS BIGINT), {_MOST})"


def _instant(text: str) -> str:
    """SQL for the microseconds since 1970 of text that is an instant or a date; NULL for any other."""
    # DuckDB 2 leaves a zone out of account where text becomes a TIMESTAMP; DuckDB 1 did not.
    zoned = f"regexp_matches({text}, ':[0-9][0-9].*([A-Za-z_]|[+-][0-9][0-9:]*)\\s*$')"
    return (
        f"CASE WHEN {_digits(text)} THEN NULL "
        f"WHEN {zoned} THEN epoch_us(TRY_CAST({text} AS TIMESTAMPTZ)) "
        f"ELSE epoch_us(TRY_CAST({text} AS TIMESTAMP)) END"
    )
