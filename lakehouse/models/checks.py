"""Tests as a header has them: what each is called, what it takes, and what is wrong with it."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from lakehouse.models.model import Test
from lakehouse.models.place import Place, meant

EXAMPLES = {
    "unique": "unique: [a, b]",
    "not_null": "not_null: [a, b]",
    "accepted_values": "accepted_values: {column: c, values: [x, y]}",
    "relationships": "relationships: {column: c, to: shop.products.sku}",
    "range": "range: {column: c, min: 0, max: 9}",
    "row_count": "row_count: {min: 1, max: 1000}",
    "freshness": "freshness: {column: c, within: 2 days}",
}
SEVERITIES = ("error", "warn")

_WANTED = {
    "unique": ("columns",),
    "not_null": ("columns",),
    "accepted_values": ("column", "values"),
    "relationships": ("column", "to"),
    "range": ("column",),
    "row_count": (),
    "freshness": ("column", "within"),
}
_BOUNDS = ("range", "row_count")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_DURATION = re.compile(r"(\d{1,9})\s*(second|minute|hour|day|week)s?")
_MOST = 10**12  # seconds: longer than there are timestamps


def read_test(said: Any, place: Place) -> Test:
    """Read one test of a header.

    Args:
        said: The item of the list, such as `{"not_null": ["a", "b"]}`.
        place: Where it stands.

    Returns:
        The test. Its arguments are JSON: `columns` (a list, of `unique` and `not_null`), `column`, `values`, `to`
        (`source.table.column`), `min`, `max`, and `within` as it was written with `within_seconds`.

    Raises:
        UserError: There is no such test, or it does not take that.
    """
    kind, value = _kind(said, place)
    given = _given(kind, value, place)
    severity = given.pop("severity", "error")
    if severity not in SEVERITIES:
        raise _wrong(kind, f"severity is {severity!r}", place, "It is `error` (as if not said) or `warn`.")
    if kind in ("unique", "not_null") and "column" in given and "columns" not in given:
        given["columns"] = given.pop("column")
    _check_names(kind, given, place)
    arguments: dict[str, Any] = {}
    for name, argument in given.items():
        arguments |= _READ[name](kind, name, argument, place)
    _check_bounds(kind, arguments, place)
    return Test(kind=kind, arguments=arguments, severity=severity, line=place.line)


def _kind(said: Any, place: Place) -> tuple[str, Any]:
    """What a test is called, and what it says."""
    if isinstance(said, str) and said in EXAMPLES:
        raise place.error(f"the test `{said}` does not say of what", hint=f"Write: {EXAMPLES[said]}")
    if not isinstance(said, Mapping) or not said:
        raise place.error(f"{said!r} is no test", hint=f"Such as: {EXAMPLES['not_null']}")
    kind = str(next(iter(said)))
    if kind not in EXAMPLES:
        hint = (
            meant(kind, EXAMPLES)
            or f"Tests are {', '.join(EXAMPLES)}; any other is a SELECT in models/tests/."
        )
        raise place.error(f"there is no test `{kind}`", hint=hint)
    if len(said) > 1:
        other = list(said)[1]
        raise place.error(
            f"`{other}` stands beside the test `{kind}`",
            hint=f"What a test takes goes into its braces, such as: {_braces(kind)}",
        )
    return kind, said[kind]


def _given(kind: str, value: Any, place: Place) -> dict[str, Any]:
    """The arguments by name, as they were written."""
    if isinstance(value, Mapping):
        return {str(name): argument for name, argument in value.items()}
    if kind in ("unique", "not_null") and isinstance(value, str | list):
        return {"columns": value}
    raise _wrong(kind, f"{value!r} is not what it takes", place)


def _check_names(kind: str, given: Mapping[str, Any], place: Place) -> None:
    wanted = _WANTED[kind]
    known = (*wanted, *(("min", "max") if kind in _BOUNDS else ()))
    for name in given:
        if name not in known:
            raise _wrong(kind, f"it takes no `{name}`", place, meant(name, (*known, "severity")))
    missing = [name for name in wanted if name not in given]
    if missing:
        raise _wrong(kind, f"`{missing[0]}` is missing", place)


def _check_bounds(kind: str, arguments: Mapping[str, Any], place: Place) -> None:
    if kind not in _BOUNDS:
        return
    if not {"min", "max"} & set(arguments):
        raise _wrong(kind, "it has neither `min` nor `max`", place)
    low, high = arguments.get("min"), arguments.get("max")
    if low is None or high is None:
        return
    if isinstance(low, str) != isinstance(high, str):
        raise _wrong(kind, f"`min` {low!r} and `max` {high!r} are not of one kind", place)
    if not isinstance(low, str) and low > high:
        raise _wrong(kind, f"`min` {low} is greater than `max` {high}", place)


def names(value: Any) -> list[str] | None:
    """Names of columns, from one name or a list of them; None where that is not what it is, or one is said twice."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed:
        return None
    if not all(isinstance(name, str) and name for name in listed):
        return None
    return listed if len({name.lower() for name in listed}) == len(listed) else None


def _columns(kind: str, name: str, value: Any, place: Place) -> dict[str, Any]:
    found = names(value)
    if found is None:
        raise _wrong(kind, f"{value!r} is no list of columns, each once", place)
    return {name: found}


def _column(kind: str, name: str, value: Any, place: Place) -> dict[str, Any]:
    if not isinstance(value, str) or not value:
        raise _wrong(kind, f"`{name}` is {value!r}, which is no name of a column", place)
    return {name: value}


def _values(kind: str, name: str, value: Any, place: Place) -> dict[str, Any]:
    plain = isinstance(value, list) and all(isinstance(v, str | int | float) for v in value)
    if not plain or not value:
        raise _wrong(kind, f"`{name}` is {value!r}, which is no list of text and numbers", place)
    return {name: value}


def _to(kind: str, name: str, value: Any, place: Place) -> dict[str, Any]:
    pieces = value.split(".", 2) if isinstance(value, str) else []
    if len(pieces) < 2 or not all(pieces):  # noqa: PLR2004, model.column or source.table.column
        raise _wrong(kind, f"`{name}` is {value!r}, which is no source.table.column", place)
    return {name: value}


def _bound(kind: str, name: str, value: Any, place: Place) -> dict[str, Any]:
    count = isinstance(value, int) and value >= 0
    fits = count if kind == "row_count" else isinstance(value, str | int | float)
    if isinstance(value, bool) or not fits:
        raise _wrong(kind, f"`{name}` is {value!r}, which is no bound", place)
    return {name: value}


def _within(kind: str, name: str, value: Any, place: Place) -> dict[str, Any]:
    found = seconds(value) if isinstance(value, str) else None
    if not found:
        raise _wrong(
            kind,
            f"`{name}` is {value!r}, which is no duration",
            place,
            "Such as 2 days, 12 hours, 1 day 6 hours.",
        )
    return {name: value, "within_seconds": found}


_READ: dict[str, Callable[[str, str, Any, Place], dict[str, Any]]] = {
    "columns": _columns,
    "column": _column,
    "values": _values,
    "to": _to,
    "min": _bound,
    "max": _bound,
    "within": _within,
}


def seconds(text: str) -> int | None:
    """Seconds of a duration such as `2 days` or `1 day 6 hours`; None if it is none.

    >>> seconds("1 day 6 hours")
    108000
    """
    if not re.fullmatch(rf"(?:{_DURATION.pattern}\s*)+", text.strip().lower()):
        return None
    total = sum(int(many) * _SECONDS[unit] for many, unit in _DURATION.findall(text.lower()))
    return total if total < _MOST else None


def _wrong(kind: str, what: str, place: Place, hint: str = "") -> Exception:
    return place.error(
        f"the test `{kind}`: {what}", hint=f"{hint}{' ' if hint else ''}Write: {EXAMPLES[kind]}"
    )


def _braces(kind: str) -> str:
    return f"{kind}: {{{'columns: [a, b]' if 'columns' in _WANTED[kind] else '…'}, severity: warn}}"
