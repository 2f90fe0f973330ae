"""Instants as the format writes them: UTC, microseconds, `2026-11-22T10:00:00.000000Z`."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_utc(moment: datetime) -> datetime:
    """The same instant in UTC; a datetime without a zone is taken to be UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def render(moment: datetime) -> str:
    """An instant as the format writes it."""
    return to_utc(moment).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse(text: str) -> datetime:
    """An aware UTC datetime from ISO 8601 text; text without a zone is UTC.

    Raises:
        ValueError: The text is not an instant.
    """
    return to_utc(datetime.fromisoformat(text.strip()))


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC."""
    return (to_utc(moment) - _EPOCH) // _MICROSECOND
