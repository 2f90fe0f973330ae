"""The lineage of models as a Mermaid flowchart, for pages and readmes that draw such."""

import re
from collections.abc import Iterator, Mapping

from lakehouse.models.lineage import BASE, Column, Graph

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
