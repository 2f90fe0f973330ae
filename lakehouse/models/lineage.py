"""The lineage of models: which tables and columns they are made of, from the definitions in the log.

A graph is a value made from definitions alone, so it needs neither project nor data: a mirror will do.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from lakehouse.core.definition import ABOUT, Definition, read_definitions
from lakehouse.core.moments import render
from lakehouse.errors import NotFoundError
from lakehouse.models.model import SOURCE
from lakehouse.models.place import near

if TYPE_CHECKING:
    from lakehouse.lake import Lake

BASE = "source"  # the kind of a table that no model makes

Column = tuple[str, str]  # table, and column of it
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in the log of a source, up to which a table was read.

    Attributes:
        seq: Number of the load.
        digest: Digest of its commit.
        at: When the state there holds from, if the log is there to say so.
    """

    seq: int
    digest: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A table of the graph.

    Attributes:
        name: `source.table`.
        kind: `view`, `table` or `incremental`; `source` for a table that is no model.
        language: `sql` or `python`; empty for a table that is no model.
        path: The model's file.
        description: What it is for, in words.
        columns: Names of its columns, as far as they are known.
        traced: Whether it is known which columns its own are made of.
        inputs: Of a stored model: what was read of each table, with what its views read in their place.
        built: Of a stored model: the load of `models` that has its rows; 0 if it is not recorded.
    """

    name: str
    kind: str = BASE
    language: str = ""
    path: str = ""
    description: str = ""
    columns: tuple[str, ...] = ()
    traced: bool = False
    inputs: Mapping[str, Position] = field(default_factory=dict)
    built: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A model reads a table.

    Attributes:
        upstream: Name of the table.
        downstream: Name of the model.
        forms: What is read of it: `""` itself, `at`, `history`, `diff`.
    """

    upstream: str
    downstream: str
    forms: tuple[str, ...] = ("",)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Tables, who reads them, and which columns are made of which.

    Attributes:
        nodes: By name.
        edges: In order of the models that read, and of appearance there.
        column_edges: From a column to one that is made of it.
    """

    nodes: Mapping[str, Node] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()
    column_edges: tuple[tuple[Column, Column], ...] = ()

    def upstream(self, name: str) -> Sequence[Edge]:
        """What a table is made of: the edges that end there."""
        return self._upstream.get(name, ())

    def downstream(self, name: str) -> Sequence[Edge]:
        """Who reads a table: the edges that begin there."""
        return self._downstream.get(name, ())

    def made_of(self, column: Column) -> Sequence[Column]:
        """The columns that a column is made of, one step up."""
        return self._made_of.get(column, ())

    def makes(self, column: Column) -> Sequence[Column]:
        """The columns that are made of a column, one step down."""
        return self._makes.get(column, ())

    @cached_property
    def _upstream(self) -> Mapping[str, list[Edge]]:
        return _grouped((edge.downstream, edge) for edge in self.edges)

    @cached_property
    def _downstream(self) -> Mapping[str, list[Edge]]:
        return _grouped((edge.upstream, edge) for edge in self.edges)

    @cached_property
    def _made_of(self) -> Mapping[Column, list[Column]]:
        return _grouped((end, origin) for origin, end in self.column_edges)

    @cached_property
    def _makes(self) -> Mapping[Column, list[Column]]:
        return _grouped(self.column_edges)

    @cached_property
    def columns(self) -> Mapping[str, Sequence[str]]:
        """The columns of each table: those that its definition has, then those that others name."""
        found = {name: dict.fromkeys(node.columns) for name, node in self.nodes.items()}
        for edge in self.column_edges:
            for table, column in edge:
                found.setdefault(table, {})[column] = None
        return {name: list(names) for name, names in found.items()}

    def find(self, name: str) -> tuple[str, str | None]:
        """The table, and the column if it names one, that people mean by `daily`, `shop.products` or `models.daily.price`.

        Raises:
            NotFoundError: The graph has no such table or column.
        """
        folded = {known.lower(): known for known in self.nodes}
        source, _, rest = name.lower().partition(".")
        table, _, column = rest.partition(".")
        for text, of_it in ((f"{source}.{table}", column), (f"{SOURCE}.{source}", rest)):
            if text in folded:
                return folded[text], self._column(folded[text], of_it) if of_it else None
        short = [known.removeprefix(f"{SOURCE}.") for known in self.nodes] if "." not in name else self.nodes
        raise NotFoundError(f"{name}: is no model, and no table that a model reads", hint=_meant(name, short))

    def _column(self, table: str, column: str) -> str:
        folded = {known.lower(): known for known in self.columns[table]}
        if column in folded:
            return folded[column]
        raise NotFoundError(
            f"{table} has no column {column!r} that models know", hint=_meant(column, folded.values())
        )

    def around(self, name: str, *, upstream: bool = True, downstream: bool = True) -> "Graph":
        """The part of the graph that a table is made of, and that is made of it; with itself."""
        names = {name}
        if upstream:
            names |= reached(name, lambda at: [edge.upstream for edge in self.upstream(at)])
        if downstream:
            names |= reached(name, lambda at: [edge.downstream for edge in self.downstream(at)])
        return Graph(
            nodes={known: node for known, node in self.nodes.items() if known in names},
            edges=tuple(e for e in self.edges if e.upstream in names and e.downstream in names),
            column_edges=tuple((a, b) for a, b in self.column_edges if a[0] in names and b[0] in names),
        )


def _meant(name: str, there: Iterable[str]) -> str:
    found = near(name, there)
    return (
        f"Did you mean {' or '.join(found)}?"
        if found
        else f"There is: {', '.join(sorted(there)) or 'nothing'}."
    )


def _grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    groups: dict[K, list[V]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def reached(start: Any, step: Callable[[Any], Iterable[Any]]) -> set[Any]:
    """What can be reached from a start by steps, without the start."""
    found: set[Any] = set()
    todo = [start]
    while todo:
        for there in step(todo.pop()):
            if there not in found and there != start:
                found.add(there)
                todo.append(there)
    return found


def graph(definitions: Mapping[str, Definition]) -> Graph:
    """The graph of models.

    Args:
        definitions: What the log says of each, by name.
    """
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    columns: list[tuple[Column, Column]] = []
    for name, about in definitions.items():
        mine = f"{SOURCE}.{name}"
        nodes[mine] = Node(
            name=mine, kind=about.kind, language=about.language, path=about.path, description=about.description,
            columns=tuple(column for column, _ in about.columns), traced=bool(about.lineage),
            inputs={} if about.is_view else _positions(about), built=about.built,
        )  # fmt: skip
        edges += _edges(mine, about)
        for column, origins in about.lineage.items():
            columns += [(_split(origin), (mine, column)) for origin in dict.fromkeys(origins)]
    for edge in edges:
        nodes.setdefault(edge.upstream, Node(name=edge.upstream))
    ordered = sorted(nodes.values(), key=lambda node: (node.kind != BASE, node.name))
    return Graph(nodes={node.name: node for node in ordered}, edges=tuple(edges), column_edges=tuple(columns))


def _edges(mine: str, about: Definition) -> Iterator[Edge]:
    forms = _grouped((reference.name, reference.form) for reference in about.references)
    for name, read_as in forms.items():
        yield Edge(upstream=name, downstream=mine, forms=tuple(dict.fromkeys(read_as)))


def _positions(about: Definition) -> dict[str, Position]:
    """What a build read; what it records of tables about the lake is no position in a log."""
    return {
        name: Position(seq=known.seq, digest=known.digest)
        for name, known in about.inputs.items()
        if not name.startswith(f"{ABOUT}.")
    }


def _split(text: str) -> Column:
    """`source.table.column`; names of sources and tables have no dots, names of columns may."""
    source, table, column = text.split(".", 2)
    return f"{source}.{table}", column


def read(lake: "Lake") -> Graph:
    """The graph of the models of a lake, with the moments of the positions that they read.

    Raises:
        NotFoundError: No model was ever built there.
    """
    definitions = read_definitions(lake.log(SOURCE).pipeline if SOURCE in lake.sources() else None)
    if not definitions:
        raise NotFoundError(
            f"{lake.url}: there are no models in this lake yet",
            hint="Write a SELECT in models/NAME.sql, then run: lakehouse build",
        )
    found = graph(definitions)
    sources = set(lake.sources())
    dated = {
        name: replace(
            node, inputs={table: _dated(lake, table, at, sources) for table, at in node.inputs.items()}
        )
        for name, node in found.nodes.items()
    }
    return replace(found, nodes=dated)


def _dated(lake: "Lake", table: str, position: Position, sources: set[str]) -> Position:
    source = table.partition(".")[0]
    if not position.seq or source not in sources:  # a mirror need not have every source
        return position
    log = lake.log(source)
    if position.seq > log.head or (
        position.digest and log.digest_at(position.seq)[:16] != position.digest[:16]
    ):
        return position
    return replace(position, at=log.commits[position.seq - 1].effective_at)


# The graph for programs.


def to_json(found: Graph) -> dict[str, Any]:
    """The graph as a JSON value: `nodes`, `edges` and `column_edges`, all from upstream to downstream."""
    return {
        "nodes": [_without_empty({
            "name": n.name, "kind": n.kind, "language": n.language, "path": n.path, "description": n.description,
            "columns": list(n.columns), "built": n.built or None,
            "inputs": [{"name": name} | _position(at) for name, at in n.inputs.items()],
        }) for n in found.nodes.values()],
        "edges": [
            {"from": e.upstream, "to": e.downstream, "forms": [f or "table" for f in e.forms]}
            | _position(found.nodes[e.downstream].inputs.get(e.upstream))
            for e in found.edges
        ],
        "column_edges": [
            {"from": a[0], "from_column": a[1], "to": b[0], "to_column": b[1]} for a, b in found.column_edges
        ],
    }  # fmt: skip


def _position(at: Position | None) -> dict[str, Any]:
    if at is None:
        return {}
    about = {"seq": at.seq, "digest": at.digest, "effective_at": render(at.at) if at.at else None}
    return _without_empty(about)


def _without_empty(about: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if value not in (None, "", [])}
