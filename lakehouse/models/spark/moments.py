"""Dates and moments of DuckDB, written for Spark: parts, truncation, differences, text."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from lakehouse.models.spark.casts import cast
from lakehouse.models.spark.functions import arguments, constant, plain
from lakehouse.models.spark.kinds import MOMENT, WHOLE, kind, spark_text
from lakehouse.models.spark.trouble import Refusal
from lakehouse.models.spark.values import shown, take

if TYPE_CHECKING:
    from lakehouse.models.spark.values import Values

_MOMENT = tuple(sorted(MOMENT))
_UNITS = ("year", "quarter", "month", "week", "day", "hour", "minute", "second")
_INTERVALS = {
    "year": "make_ym_interval({0}, 0)", "quarter": "make_ym_interval(0, 3 * {0})", "month": "make_ym_interval(0, {0})",
    "week": "make_dt_interval(7 * {0}, 0, 0, 0)", "day": "make_dt_interval({0}, 0, 0, 0)",
    "hour": "make_dt_interval(0, {0}, 0, 0)", "minute": "make_dt_interval(0, 0, {0}, 0)",
    "second": "make_dt_interval(0, 0, 0, {0})",
}  # fmt: skip
_PARTS = {
    "year": "year({0})", "quarter": "quarter({0})", "month": "month({0})", "day": "day({0})",
    "dayofmonth": "day({0})", "hour": "hour({0})", "minute": "minute({0})", "second": "second({0})",
    "week": "weekofyear({0})", "weekofyear": "weekofyear({0})", "isoyear": "extract(YEAROFWEEK FROM {0})",
    "dow": "(dayofweek({0}) - 1)", "dayofweek": "(dayofweek({0}) - 1)", "weekday": "(dayofweek({0}) - 1)",
    "isodow": "(weekday({0}) + 1)", "doy": "dayofyear({0})", "dayofyear": "dayofyear({0})",
}  # fmt: skip
_CLOCK = frozenset({"hour", "minute", "second"})
_CODES = {
    "Y": "yyyy", "m": "MM", "d": "dd", "H": "HH", "M": "mm", "S": "ss", "f": "SSSSSS", "j": "DDD", "y": "yy",
    "b": "MMM", "B": "MMMM", "a": "EEE", "A": "EEEE", "I": "hh", "p": "a", "-d": "d", "-m": "M", "-H": "H", "-M": "m",
    "-S": "s",
}  # fmt: skip
_CODE = re.compile(r"%(-?[A-Za-z])|%%|([^%]+)")


def shifted(values: "Values", node: exp.Binary, left: exp.Expr, right: exp.Expr) -> str:
    """A moment plus or minus something, or a date minus a date."""
    result = values.type(node)
    if isinstance(node, exp.Add) and (isinstance(left, exp.Interval) or kind(values.type(left)) in WHOLE):
        left, right = right, left
    one = values.type(left)
    if not isinstance(node, (exp.Add, exp.Sub)) or kind(one) not in MOMENT:
        raise Refusal(shown(node), node)
    sign = "+" if isinstance(node, exp.Add) else "-"
    if isinstance(right, exp.Interval):
        return f"({cast(values.text(left), one, result)} {sign} {_interval(values, right)})"
    two = kind(values.type(right))
    if kind(one) == "date" and two in WHOLE:
        word = "date_add" if sign == "+" else "date_sub"
        return f"{word}({values.text(left)}, CAST({values.text(right)} AS INT))"
    if kind(one) == "date" and two == "date" and sign == "-":
        return f"CAST(datediff({values.text(left)}, {values.text(right)}) AS BIGINT)"
    raise Refusal(
        f"{shown(node)}, which is of type {result}",
        node,
        "Use date_diff('second', a, b), or days as a number.",
    )


def _interval(values: "Values", node: exp.Interval) -> str:
    this, unit = take(node, "this", "unit")
    name = _unit(unit)
    inner = this.unnest()
    if isinstance(inner, exp.Literal) and re.fullmatch(r"-?[0-9]{1,6}", inner.this):
        return _INTERVALS[name].format(f"({inner.this})")
    if isinstance(inner, exp.Literal) or kind(values.type(inner)) not in WHOLE:
        raise Refusal(shown(node), node, "Write it as INTERVAL 3 DAY, with a whole number.")
    return _INTERVALS[name].format(f"CAST({values.text(inner)} AS INT)")


def _unit(node: Any) -> str:
    name = str(node.this if isinstance(node, exp.Expr) else node).lower().removesuffix("s")
    if name not in _UNITS:
        raise Refusal(f"the unit {name}", node if isinstance(node, exp.Expr) else None)
    return name


def _truncated(values: "Values", node: exp.Func) -> str:
    this, unit = take(node, "this", "unit")
    return _trunc(values, this, _unit(unit), values.type(node))


def _trunc(values: "Values", this: exp.Expr, unit: str, result: Any) -> str:
    found = values.type(this)
    if kind(found) not in MOMENT:
        raise Refusal(f"{shown(this)}, of type {found}, as a moment", this, "Write the cast that is meant.")
    cut = f"date_trunc('{unit.upper()}', {values.text(this)})"
    return cast(f"CAST({cut} AS TIMESTAMP_NTZ)", values.twin.type_of("NULL::TIMESTAMP"), result)


def _difference(values: "Values", node: exp.DateDiff) -> str:
    """How many borders of a unit lie between two moments."""
    this, expression, unit = take(node, "this", "expression", "unit")
    name = _unit(unit) if unit is not None else "day"
    naive = values.twin.type_of("NULL::TIMESTAMP")
    late, early = (_trunc(values, side, name, naive) for side in (this, expression))
    if name in _CLOCK or name == "day":
        return f"timestampdiff({name.upper()}, {early}, {late})"
    if name == "week":
        raise Refusal(shown(node), node, "Write date_diff('day', …) // 7, or truncate both to weeks first.")
    months = f"((year({late}) - year({early})) * 12 + month({late}) - month({early}))"
    each = {"month": 1, "quarter": 3, "year": 12}[name]
    return f"CAST({months} AS BIGINT)" if each == 1 else f"CAST({months} div {each} AS BIGINT)"


def _part(values: "Values", this: exp.Expr, name: str, node: exp.Expr) -> str:
    name = name.lower()
    name = name if name in _PARTS else name.removesuffix("s")
    found = kind(values.type(this))
    if name == "epoch" and found in MOMENT:
        moment = cast(values.text(this), values.type(this), values.twin.type_of("NULL::TIMESTAMPTZ"))
        return f"(CAST(unix_micros({moment}) AS DOUBLE) / 1e6D)"
    if name not in _PARTS or found not in MOMENT:
        raise Refusal(shown(node), node)
    if found == "date" and name in _CLOCK:
        return f"CASE WHEN {values.text(this)} IS NULL THEN NULL ELSE 0L END"
    return f"CAST({_PARTS[name].format(values.text(this))} AS BIGINT)"


def _extract(values: "Values", node: exp.Extract) -> str:
    name, this = take(node, "this", "expression")
    return _part(values, this, name.name, node)


def _date_part(values: "Values", node: exp.Anonymous) -> str:
    name, this = arguments(node, 2)
    return _part(values, this, constant(name), node)


def _named(name: str) -> Callable[["Values", Any], str]:
    return lambda values, node: _part(values, arguments(node, 1)[0], name, node)


def _written(values: "Values", node: exp.TimeToStr) -> str:
    this, pattern = take(node, "this", "format")
    found = values.type(this)
    if kind(found) not in MOMENT:
        this, pattern = pattern, this  # DuckDB takes them in either order
        found = values.type(this)
    if kind(found) not in {"date", "timestamp"}:
        raise Refusal(f"{shown(node)} of {found}", node)
    out = []
    given, at = constant(pattern), 0
    while at < len(given):
        code = _CODE.match(given, at)
        if code is None or (code[1] and code[1] not in _CODES):
            raise Refusal(f"the format {given!r}", node)
        # Java's pattern letters are those of the ASCII alphabet; quoted text has its quotes doubled.
        out.append(_CODES[code[1]] if code[1] else "'" + (code[2] or "%").replace("'", "''") + "'")
        at = code.end()
    return f"date_format({values.text(this)}, {spark_text(''.join(out))})"


RULES: dict[str, Callable[["Values", Any], str]] = {
    "TimestampTrunc": _truncated,
    "DateTrunc": _truncated,
    "DateDiff": _difference,
    "Extract": _extract,
    "date_part": _date_part,
    "datepart": _date_part,
    "Year": _named("year"),
    "Quarter": _named("quarter"),
    "Month": _named("month"),
    "Day": _named("day"),
    "Week": _named("week"),
    "WeekOfYear": _named("week"),
    "DayOfWeek": _named("dow"),
    "DayOfWeekIso": _named("isodow"),
    "isodow": _named("isodow"),
    "DayOfMonth": _named("day"),
    "DayOfYear": _named("doy"),
    "Hour": _named("hour"),
    "Minute": _named("minute"),
    "Second": _named("second"),
    "TimeToUnix": _named("epoch"),
    "epoch": _named("epoch"),
    "TimeToStr": _written,
    "LastDay": plain("last_day({0})", _MOMENT),
    "Dayname": plain("date_format({0}, 'EEEE')", _MOMENT),
    "Monthname": plain("date_format({0}, 'MMMM')", _MOMENT),
    "DateFromParts": plain("make_date({0}, {1}, {2})", *[tuple(sorted(WHOLE))] * 3),
}
