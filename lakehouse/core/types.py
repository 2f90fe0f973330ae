"""The type system of the format, and how a column may change its type.

A type is a JSON value: a name such as `int64`, `{"list": T}`, or `{"struct": {name: T, …}}`.
`unify` is the least type that holds the values of two types without changing one of them; where
there is none, the answer is `json`, whose values keep the original scalar as JSON text.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lakehouse.errors import FormatError

Type = str | Mapping[str, Any]

_SIGNED = {"int8": 8, "int16": 16, "int32": 32, "int64": 64, "bigint": 65}
_UNSIGNED = {"uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64}
# Beside a decimal all integers count as the widest: the order in which types meet must not matter.
_DIGITS = dict.fromkeys(_SIGNED, 19) | dict.fromkeys(_UNSIGNED, 19) | {"uint64": 20}
_EXACT_IN_FLOAT = set(_DIGITS) - {"bigint", "uint64"}
_OTHER = {
    "null", "bool", "float32", "float64", "string", "binary", "json",
    "date", "time", "timestamp", "timestamp_ns", "timestamptz", "timestamptz_ns",
}  # fmt: skip
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_MAX_DIGITS = 38


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table as one load, or the whole history, has it.

    Attributes:
        name: The name in the lake's files and views.
        type: A type of the format.
        source_name: The name as it came, where it could not be kept; else None.
    """

    name: str
    type: Type
    source_name: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The column as a commit records it."""
        out: dict[str, Any] = {"name": self.name, "type": self.type}
        if self.source_name is not None:
            out["source_name"] = self.source_name
        return out


def column_from_json(value: Mapping[str, Any]) -> Column:
    """The column that a commit records.

    Raises:
        FormatError: A type that this version does not know.
    """
    return Column(name=value["name"], type=check(value["type"]), source_name=value.get("source_name"))


def type_text(kind: Type) -> str:
    """A type of the format, for people."""
    if isinstance(kind, str):
        return kind
    if "list" in kind:
        return f"list<{type_text(kind['list'])}>"
    return f"struct<{', '.join(f'{n}: {type_text(t)}' for n, t in kind['struct'].items())}>"


def decimal(text: Type) -> tuple[int, int] | None:
    """Precision and scale of a decimal type; None for any other type."""
    match = _DECIMAL.fullmatch(text) if isinstance(text, str) else None
    return (int(match[1]), int(match[2])) if match else None


def check(found: Any) -> Type:
    """Return a type as found in a commit, or raise FormatError if it is not one of the format."""
    if isinstance(found, str):
        if found in _OTHER or found in _DIGITS or decimal(found):
            return found
    elif isinstance(found, Mapping) and len(found) == 1:
        kind, inner = next(iter(found.items()))
        if kind == "list":
            check(inner)
            return found
        if kind == "struct" and isinstance(inner, Mapping):
            for field in inner.values():
                check(field)
            return found
    msg = f"{found!r} is not a type of this version of the format"
    raise FormatError(msg, hint="The lake was written by a newer lakehouse: upgrade this one.")


def unify(one: Type, two: Type) -> Type:
    """The least type that holds all values of both, unchanged.

    Null is the bottom; `json` is the top. The function is commutative, associative and idempotent
    up to the order of struct fields.
    """
    if two in (one, "null"):
        return one
    if one == "null":
        return two
    if isinstance(one, str) and isinstance(two, str):
        return _unify_scalars(one, two)
    if isinstance(one, str) or isinstance(two, str):
        return "json"
    if "list" in one and "list" in two:
        inner = unify(one["list"], two["list"])
        return "json" if inner == "json" else {"list": inner}
    if "struct" in one and "struct" in two:
        return _unify_structs(one["struct"], two["struct"])
    return "json"


def merge_columns(one: Sequence[Column], two: Sequence[Column]) -> tuple[Column, ...]:
    """The columns of both, in order of first appearance, each with the unified type."""
    merged = {column.name: column for column in one}
    for column in two:
        before = merged.get(column.name)
        if before is None:
            merged[column.name] = column
        elif before.type != column.type:
            merged[column.name] = Column(
                name=column.name, type=unify(before.type, column.type), source_name=before.source_name
            )
    return tuple(merged.values())


def distinct_names(incoming: Sequence[str], known: Sequence[Column], reserved: Iterable[str]) -> list[str]:
    """Names under which incoming columns are stored: as they came wherever that is possible.

    DuckDB cannot hold names apart that differ only in case, and has no empty name. The first comer
    keeps its name; a later one gets the suffix `_2`, `_3`, … The choice is remembered as
    `source_name` in the schema, so that it is the same in every later load.

    Args:
        incoming: Names as they came, without repetition.
        known: Columns of the history so far.
        reserved: Names that the format itself uses.
    """
    stored = {c.name if c.source_name is None else c.source_name: c.name for c in known}
    taken = {column.name.lower() for column in known} | {name.lower() for name in reserved}
    out = []
    for name in incoming:
        if name not in stored:
            chosen, n = name or "unnamed", 1
            while chosen.lower() in taken:
                n += 1
                chosen = f"{name or 'unnamed'}_{n}"
            taken.add(chosen.lower())
            stored[name] = chosen
        out.append(stored[name])
    return out


def _unify_scalars(one: str, two: str) -> Type:
    kinds = {one, two}
    if one in _DIGITS and two in _DIGITS:
        return _unify_integers(one, two)
    if kinds == {"float32", "float64"}:
        return "float64"
    if kinds & {"float32", "float64"} and kinds & _EXACT_IN_FLOAT:
        return "float64"
    if kinds == {"date", "timestamp"}:
        return "timestamp"
    return _unify_decimals(one, two)


def _unify_integers(one: str, two: str) -> Type:
    if one in _UNSIGNED and two in _UNSIGNED:
        return max(one, two, key=lambda t: _UNSIGNED[t])
    if "uint64" in (one, two):
        return "decimal(20,0)"
    bits = max(_SIGNED[t] if t in _SIGNED else 2 * _UNSIGNED[t] for t in (one, two))
    return next(t for t, n in _SIGNED.items() if n >= bits)


def _unify_decimals(one: str, two: str) -> Type:
    if not (decimal(one) or decimal(two)):
        return "json"
    shapes = [decimal(t) or ((_DIGITS[t], 0) if t in _DIGITS else None) for t in (one, two)]
    if None in shapes:
        return "json"
    (p1, s1), (p2, s2) = (s for s in shapes if s)
    scale = max(s1, s2)
    digits = max(p1 - s1, p2 - s2) + scale
    return f"decimal({digits},{scale})" if digits <= _MAX_DIGITS else "json"


def _unify_structs(one: Mapping[str, Type], two: Mapping[str, Type]) -> Type:
    fields = dict(one)
    for name, inner in two.items():
        fields[name] = unify(fields.get(name, "null"), inner)
        if fields[name] == "json":  # JSON text lies in columns of its own, never inside nested ones
            return "json"
    if len({name.lower() for name in fields}) < len(fields):  # DuckDB cannot hold such fields apart
        return "json"
    return {"struct": fields}
