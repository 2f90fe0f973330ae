"""What columns and expressions stand for: an expression over one row of the driver, or something else."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakehouse.models.follow.tree import Node, text_of

ALIAS = "_lake_d"  # what the driver is called in expressions over its columns


@dataclass(frozen=True, slots=True)
class Traced:
    """A value that is a function of columns of one row of the driver.

    Attributes:
        tree: The expression, as JSON of DuckDB's tree; equal for equal expressions.
        reads: Whether it reads a column at all.
    """

    tree: str
    reads: bool


@dataclass(frozen=True, slots=True)
class Other:
    """Any other value, and why it is none."""

    why: str


Value = Traced | Other


@dataclass(frozen=True, slots=True)
class Source:
    """A relation in a FROM.

    Attributes:
        names: What it can be called by: `("p",)`, or `("products",)` and `("shop", "products")`; lower case.
        columns: Its columns by name in lower case, in order.
    """

    names: tuple[tuple[str, ...], ...]
    columns: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Scope:
    """What names mean in a block.

    Attributes:
        sources: The relations of its FROM.
        merged: Columns that a USING made one of two.
        parent: The scope around it.
    """

    sources: tuple[Source, ...] = ()
    merged: Mapping[str, Value] = field(default_factory=dict)
    parent: "Scope | None" = None

    def find(self, parts: Sequence[str]) -> Value | None:
        """What a name stands for here; None where it stands for nothing."""
        found = list(self._meanings([part.lower() for part in parts]))
        if not found:
            return None
        if len(found) > 1:
            return Other(f"{'.'.join(parts)} may mean several columns")
        value, rest = found[0]
        return _field(value, parts[len(parts) - rest :]) if rest else value

    def _meanings(self, parts: list[str]) -> Iterator[tuple[Value, int]]:
        """Each meaning, and how many parts at the end of the name are fields of a struct."""
        if parts[0] in self.merged:
            yield self.merged[parts[0]], len(parts) - 1
        for source in self.sources:
            if parts[0] in source.columns and parts[0] not in self.merged:
                yield source.columns[parts[0]], len(parts) - 1
            for name in source.names:
                rest = parts[len(name) :]
                if rest and tuple(parts[: len(name)]) == name and rest[0] in source.columns:
                    yield source.columns[rest[0]], len(rest) - 1


def column(name: str) -> Traced:
    """A column of the driver."""
    node = {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "column_names": [ALIAS, name]}
    return Traced(text_of(node), reads=True)


def columns_of(value: Traced) -> Iterator[str]:
    """The columns of the driver that an expression reads."""
    nodes = [tree_of(value)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, list):
            nodes += node
        elif isinstance(node, dict):
            if node.get("class") == "COLUMN_REF":
                yield node["column_names"][1]
            nodes += node.values()


def tree_of(value: Value) -> Any:
    """The tree of an expression; None where it is not one."""
    return json.loads(value.tree) if isinstance(value, Traced) else None


def made(node: Node, values: Sequence[Value], **parts: Any) -> Value:
    """An expression of values that are known."""
    for value in values:
        if isinstance(value, Other):
            return value
    reads = any(isinstance(value, Traced) and value.reads for value in values)
    return Traced(text_of({**node, **parts}), reads=reads)


def _field(value: Value, fields: Sequence[str]) -> Value:
    """A field of a column that is a struct."""
    node = tree_of(value)
    if node is None or node["class"] != "COLUMN_REF":
        return Other("it is part of a struct")
    return Traced(text_of({**node, "column_names": [*node["column_names"], *fields]}), reads=True)
