"""`lakehouse lineage`: what models are made of, from the log alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import open_lake, print_json

if TYPE_CHECKING:
    from rich.tree import Tree

    from lakehouse.models.lineage import Column, Edge, Graph, Position

FORMATS = ("text", "json", "mermaid")


@click.command("lineage")
@click.argument("name", metavar="[MODEL|TABLE]", required=False)
@click.option("--columns", is_flag=True, help="Follow columns in the place of tables.")
@click.option("--upstream", "up", is_flag=True, help="Only what it is made of.")
@click.option("--downstream", "down", is_flag=True, help="Only what is made of it.")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
@lake_option
@click.pass_context
def lineage_command(
    ctx: click.Context, name: str | None, columns: bool, up: bool, down: bool, format_: str
) -> None:
    """Show what models are made of: tables with the loads that were read, or columns.

    MODEL is a name such as daily, TABLE is SOURCE.TABLE; SOURCE.TABLE.COLUMN follows one column. Without a
    name it shows all, of columns one step each. It reads the log alone, so it works on a mirror too.
    """
    from lakehouse.models import lineage

    found = lineage.read(open_lake(ctx))
    table, column = found.find(name) if name else (None, None)
    up, down = up or not down, down or not up
    part = found.around(table, upstream=up, downstream=down) if table else found
    if format_ == "json":
        print_json(lineage.to_json(part))
    elif format_ == "mermaid":
        from lakehouse.models.mermaid import to_mermaid

        click.echo(to_mermaid(part, columns=columns or column is not None), nl=False)
    elif columns or column:
        lines = _column_lines(part, table, column, up=up, down=down) if table else _steps(part)
        for line in lines:
            click.echo(line)
    else:
        for tree in _trees(part, table, up=up, down=down):
            _print(tree)


def _print(tree: "Tree") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe has no width: nothing is folded
        console = Console(highlight=False, width=100_000)
    console.print(tree)


# Tables, as trees.


def _trees(found: "Graph", table: str | None, *, up: bool, down: bool) -> "Iterator[Tree]":
    """What a table is made of, and what is made of it; without one, each model that nobody reads."""
    if table is None:
        for name in found.nodes:
            if found.upstream(name) and not found.downstream(name):
                yield _tree(found, name, up=True)
        yield from (
            _tree(found, n, up=True) for n in found.nodes if not (found.upstream(n) or found.downstream(n))
        )
        return
    above, below = up and bool(found.upstream(table)), down and bool(found.downstream(table))
    if above or not below:
        yield _tree(found, table, up=True)
    if below:
        yield _tree(found, table, up=False)


def _tree(found: "Graph", root: str, *, up: bool) -> "Tree":
    from rich.text import Text
    from rich.tree import Tree

    title = _named(found, root) + ("" if up else ", read by")
    tree = Tree(Text(title + (f", load {built:,}" if up and (built := found.nodes[root].built) else "")))
    seen: set[tuple[str, str]] = set()

    def grow(at: "Tree", name: str, stored: str) -> None:
        """Add what is beside a table; `stored` is the nearest one above that is no view."""
        for edge in found.upstream(name) if up else found.downstream(name):
            there = edge.upstream if up else edge.downstream
            is_view = found.nodes[there].kind == "view"
            key = (there, stored if is_view else "")
            again = key in seen and bool(found.upstream(there) if up else found.downstream(there))
            read = found.nodes[stored].inputs.get(there) if up else found.nodes[there].inputs.get(stored)
            line = at.add(Text(_named(found, there) + _read_at(edge, read) + (", as above" if again else "")))
            if not again:  # each once: a graph of many ways would be endless as a tree
                seen.add(key)
                grow(line, there, stored if is_view else there)

    grow(tree, root, root)
    return tree


def _named(found: "Graph", name: str) -> str:
    node = found.nodes[name]
    if not node.language:
        return name
    return f"{name} ({node.kind}{', Python' if node.language == 'python' else ''})"


def _read_at(edge: "Edge", read: "Position | None") -> str:
    """What is read of a table, and the load up to which; a view reads what there is when it is asked."""
    forms = ", ".join(f"_{form}" for form in edge.forms if form)
    said = f" [{forms}]" if forms else ""
    if read is None:
        return said
    return f"{said} @ load {read.seq:,}" + (f", {read.at:%Y-%m-%d %H:%MZ}" if read.at else "")


# Columns, a line for each way.


def _steps(found: "Graph") -> "Iterator[str]":
    """Every column of every model with those that it is made of, one step up."""
    for name, node in found.nodes.items():
        for column in found.columns[name] if node.language else ():
            origins = [".".join(origin) for origin in found.made_of((name, column))]
            yield f"{name}.{column} <- {', '.join(origins) or _end(found)((name, column))}"


def _column_lines(found: "Graph", table: str, column: str | None, *, up: bool, down: bool) -> "Iterator[str]":
    """The ways from the columns of a table, or from one of them, down to those that none is made of."""
    for wanted in [column] if column else found.columns[table]:
        if up and (found.nodes[table].language or found.made_of((table, wanted))):
            yield from _ways((table, wanted), found.made_of, " <- ", _end(found))
        if down and found.makes((table, wanted)):
            yield from _ways((table, wanted), found.makes, " -> ", lambda _: "")


def _ways(
    start: "Column", step: "Callable[[Column], Sequence[Column]]", arrow: str, end: "Callable[[Column], str]"
) -> Iterator[str]:
    """The ways from a column, each a line; what was followed in a line before is not followed again."""
    seen: set[Column] = set()
    todo: list[tuple[str, Column]] = [(".".join(start), start)]
    while todo:
        line, at = todo.pop()
        further = step(at)
        if not further:
            yield line + (f"{arrow}{said}" if (said := end(at)) else "")
        elif at in seen:
            yield f"{line}{arrow}… as above"
        else:
            seen.add(at)
            todo += [(f"{line}{arrow}{'.'.join(there)}", there) for there in reversed(further)]


def _end(found: "Graph") -> "Callable[[Column], str]":
    """What to say of a column that is made of none: nothing of a table of a source."""

    def said(column: "Column") -> str:
        node = found.nodes.get(column[0])
        if node is None or not node.language:
            return ""
        return "(no column)" if node.traced else "(not known)"

    return said
