"""The lineage of models: which tables and columns they are made of, from the definitions in the log.

A graph is a value made from definitions alone, so it needs neither project nor data: a mirror will do.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from lakehouse.core.moments import render
from lakehouse.errors import NotFoundError
from lakehouse.models.audit import meant
from lakehouse.models.model import SOURCE, Reference

if TYPE_CHECKING:
    from lakehouse.lake import Lake

BASE = "source"  # the kind of a table that no model makes

Column = tuple[str, str]  # table, and column of it
K = TypeVar("K")
V = TypeVar("V")


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
    """

    name: str
    kind: str = BASE
    language: str = ""
    path: str = ""
    description: str = ""
    columns: tuple[str, ...] = ()
    traced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A model reads a table.

    Attributes:
        upstream: Name of the table.
        downstream: Name of the model.
        forms: What is read of it: `""` itself, `at`, `history`, `diff`.
        seq: Position in the log of the table's source that was read; None if it is not recorded.
        digest: Digest of the commit there.
        at: When the state there holds from, if the log says so.
    """

    upstream: str
    downstream: str
    forms: tuple[str, ...] = ("",)
    seq: int | None = None
    digest: str = ""
    at: datetime | None = None


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
        raise NotFoundError(f"{name}: is no model, and no table that a model reads", hint=meant(name, short))

    def _column(self, table: str, column: str) -> str:
        folded = {known.lower(): known for known in self.columns[table]}
        if column in folded:
            return folded[column]
        raise NotFoundError(
            f"{table} has no column {column!r} that models know", hint=meant(column, folded.values())
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Input:
    seq: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What is needed here of a definition in the log."""

    name: str
    kind: str = "view"
    language: str = "sql"
    path: str = ""
    description: str = ""
    references: tuple[Reference, ...] = ()
    inputs: Mapping[str, _Input] = field(default_factory=dict)
    columns: tuple[tuple[str, str], ...] = ()
    lineage: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


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
    for name in dict.fromkeys((*forms, *about.inputs)):
        known = about.inputs.get(name)
        yield Edge(
            upstream=name,
            downstream=mine,
            forms=tuple(dict.fromkeys(forms.get(name, [""]))),
            seq=known.seq if known else None,
            digest=known.digest if known else "",
        )


def _split(text: str) -> Column:
    """`source.table.column`; names of sources and tables have no dots, names of columns may."""
    source, table, column = text.split(".", 2)
    return f"{source}.{table}", column


def read(lake: "Lake") -> Graph:
    """The graph of the models of a lake, with the moments of the positions that they read.

    Raises:
        NotFoundError: No model was ever built there.
    """
    pipeline = lake.log(SOURCE).pipeline if SOURCE in lake.sources() else None
    definitions = _read_definitions(pipeline)
    if not definitions:
        raise NotFoundError(
            f"{lake.url}: there are no models in this lake yet",
            hint="Write a SELECT in models/NAME.sql, then run: lakehouse build",
        )
    found = graph(definitions)
    sources = set(lake.sources())
    return replace(found, edges=tuple(_dated(lake, edge, sources) for edge in found.edges))


def _dated(lake: "Lake", edge: Edge, sources: set[str]) -> Edge:
    source = edge.upstream.partition(".")[0]
    if not edge.seq or source not in sources:  # a mirror need not have every source
        return edge
    log = lake.log(source)
    if edge.seq > log.head or log.digest_at(edge.seq)[:16] != edge.digest[:16]:
        return edge
    return replace(edge, at=log.commits[edge.seq - 1].effective_at)


def _read_definitions(pipeline: Mapping[str, Any] | None) -> dict[str, Definition]:
    models: Mapping[str, Any] = (pipeline or {}).get("models", {})
    return {
        name: Definition(
            name=name,
            kind=about.get("kind", "view"),
            language=about.get("language", "sql"),
            path=about.get("path", ""),
            description=about.get("description", ""),
            references=tuple(
                Reference(source=r[0], table=r[1], form=r[2]) for r in about.get("references", ())
            ),
            inputs={n: _Input(seq=i["seq"], digest=i["digest"]) for n, i in about.get("inputs", {}).items()},
            columns=tuple((c[0], c[1]) for c in about.get("columns", ())),
            lineage={c: tuple(origins) for c, origins in about.get("lineage", {}).items()},
        )
        for name, about in models.items()
    }


# The graph for programs.


def to_json(found: Graph) -> dict[str, Any]:
    """The graph as a JSON value: `nodes`, `edges` and `column_edges`, all from upstream to downstream."""
    return {
        "nodes": [_without_empty({
            "name": n.name, "kind": n.kind, "language": n.language, "path": n.path, "description": n.description,
            "columns": list(n.columns),
        }) for n in found.nodes.values()],
        "edges": [_without_empty({
            "from": e.upstream, "to": e.downstream, "forms": [f or "table" for f in e.forms], "seq": e.seq,
            "digest": e.digest, "effective_at": render(e.at) if e.at else None,
        }) for e in found.edges],
        "column_edges": [
            {"from": a[0], "from_column": a[1], "to": b[0], "to_column": b[1]} for a, b in found.column_edges
        ],
    }  # fmt: skip


def _without_empty(about: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if value not in (None, "", [])}


# The graph as a drawing.

_SHAPES = {BASE: ('[("', '")]'), "view": ('(["', '"])'), "table": ('["', '"]'), "incremental": ('[["', '"]]')}
_SPECIAL = re.compile(r"[^\w .,:/@()]|\.(?= )")  # also what begins a list: `- `, `1. `


def to_mermaid(found: Graph, *, columns: bool = False) -> str:
    """The graph as a Mermaid flowchart.

    Args:
        found: The graph.
        columns: Draw columns, grouped by table, in the place of tables.
    """
    lines = ["flowchart LR"]
    ids = {name: f"t{at}" for at, name in enumerate(found.nodes)}
    if columns:
        return "\n".join([*lines, *_column_lines(found, ids)]) + "\n"
    for name, node in found.nodes.items():
        begin, end = _SHAPES.get(node.kind, _SHAPES["table"])
        lines.append(f"  {ids[name]}{begin}{_label(name)}{end}")
    for edge in found.edges:
        forms = ", ".join(form for form in edge.forms if form)
        arrow = f'-- "{_label(forms)}" -->' if forms else "-->"
        lines.append(f"  {ids[edge.upstream]} {arrow} {ids[edge.downstream]}")
    return "\n".join(lines) + "\n"


def _column_lines(found: Graph, tables: Mapping[str, str]) -> Iterator[str]:
    ids: dict[Column, str] = {}
    for at, (table, columns) in enumerate(found.columns.items()):
        group = tables.get(table, f"x{at}")
        yield f'  subgraph {group}["{_label(table)}"]'
        for number, column in enumerate(columns):
            ids[table, column] = f"{group}c{number}"
            yield f'    {group}c{number}["{_label(column)}"]'
        yield "  end"
    for origin, end in found.column_edges:
        yield f"  {ids[origin]} --> {ids[end]}"


def _label(text: str) -> str:
    """A text that Mermaid shows as it is: whatever may mean something to it, as the number of its character."""
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};", text) or " "
