"""What an as-of means in SQL: text of an instant or a date, the number of a load, or the name of a tag.

The rules are written once, as SQL, and are the same in a view, in a macro and in Python.
"""

import difflib
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


def position_sql(source: str, moment: str) -> str:
    """SQL for the newest sequence number of a source that a moment sees.

    The moment may be a timestamp (without a zone it is UTC), a date (its first instant), text of
    either, the number of a load, the name of a tag, or NULL for now. Anything else is an error that
    says so. So is a number beyond the log, unless all views are turned at once: then it sees all.

    Each way to say a moment is a branch of its own, which DuckDB leaves out of the plan where the
    moment is a constant that says otherwise.
    """
    text = f"({moment})::VARCHAR"
    digits, number, instant = _digits(text), _number(text), _instant(text)
    named = f"({instant} IS NULL AND NOT {digits})"
    mine = f"source = {literal(source)}"
    beyond = (
        "max(seq)"
        if moment == TURNED
        else f"error('as of load ' || {text} || ': {source} ends at load ' || max(seq))"
    )
    return (
        "(SELECT max(seq) FROM ("
        f"SELECT coalesce(max(seq), 0) AS seq FROM main.loads WHERE {mine} AND "
        f"CASE WHEN {moment} IS NULL THEN true ELSE epoch_us(effective_at) <= {instant} END "
        "UNION ALL "
        f"SELECT CASE WHEN max(seq) < {number} THEN {beyond} ELSE {number} END "
        f"FROM main.loads WHERE {mine} HAVING {digits} "
        "UNION ALL "
        f"SELECT CASE WHEN count(*) > 0 THEN coalesce(max(seq) FILTER (WHERE {mine}), 0) "
        f"WHEN {named} THEN error('as of ' || {text} || ': {_NEITHER}') END "
        f"FROM main.tags WHERE name = {text} HAVING {named}))"
    )


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
