"""DuckDB's syntax tree: the nodes of a SELECT, where they stand, and how one that is not known is refused."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.errors import UserError

Node = dict[str, Any]

_PLACES = {"query_location", "query_location_length", "qualified_name"}
_EMPTY: tuple[Any, ...] = (None, "", [], {}, False)


_NOWHERE = 2**62


class NotIncremental(UserError):  # noqa: N818 - it is what the SELECT is, and no fault where the whole is computed
    """A SELECT whose result cannot be kept up to date from what one of its inputs gained.

    Args:
        what: What in the SELECT stands in the way.
        hint: What to change.
        where: The file, or the view that the SELECT reads.
        line: The line in it.
    """

    def __init__(self, what: str, *, hint: str = "", where: str = "", line: int = 0) -> None:
        self.what, self.where, self.line = what, where, line
        place = f"{where}:{line}: " if line else f"{where}: "
        super().__init__(f"{place}{what}", hint=hint or "Write it in another way, or make it `kind: table`.")


@dataclass(frozen=True, slots=True)
class Text:
    """A SELECT, where it stands, and on which line it begins."""

    sql: bytes
    where: str
    line: int

    def line_of(self, node: Mapping[str, Any]) -> int:
        """The line on which a node of its tree begins."""
        at = node.get("query_location", 0)
        return self.line + (self.sql[:at].count(b"\n") if 0 <= at < _NOWHERE else 0)

    def refuse(self, node: Mapping[str, Any], what: str, hint: str = "") -> NotIncremental:
        """The error that a node is one that cannot be followed."""
        return NotIncremental(what, hint=hint, where=self.where, line=self.line_of(node))


def only(text: Text, node: Node, *known: str, allow: set[str] | None = None) -> None:
    """Refuse a node that says more than is known here; a later DuckDB may."""
    for name, value in node.items():
        if name in _PLACES or name in ("class", "type") or name in known:
            continue
        if value not in _EMPTY and not (allow and isinstance(value, str) and value in allow):
            raise text.refuse(node, f"{called(node)} with {name.replace('_', ' ')} is not followed")


def text_of(node: Node) -> str:
    """A node as text that is equal for equal expressions: without places, and without its own name."""
    return json.dumps({**_plain(node), "alias": ""}, sort_keys=True, ensure_ascii=False)


def _plain(node: Any) -> Any:
    if isinstance(node, list):
        return [_plain(child) for child in node]
    if not isinstance(node, dict):
        return node
    plain = {name: _plain(child) for name, child in node.items() if name not in _PLACES}
    for name in ("function_name", "type_name"):
        if name in plain:
            plain[name] = plain[name].lower()
    return plain


def is_name(node: Node) -> bool:
    """Whether an expression is a name without a table's."""
    return node["class"] == "COLUMN_REF" and len(node["column_names"]) == 1


def called(node: Node) -> str:
    """A node as people call it."""
    return str(node.get("type") or node.get("class", "this")).replace("_", " ").lower()


def statement(text: Text, given: Node) -> Node:
    """The query of a statement, or of a subquery."""
    only(text, given, "node")
    return dict(given["node"])


def first(node: Node) -> Node:
    """The first node inside one without a place of its own."""
    for child in node.values():
        for inner in child if isinstance(child, list) else [child]:
            if isinstance(inner, dict):
                return inner if "query_location" in inner else first(inner)
    return {}


def limit(modifier: Node) -> str:
    """Why a LIMIT is refused."""
    return f"{modifier['type'].split('_')[0]} takes rows by their place among all others"
