"""Which columns of its tables a column of a model is made of: its lineage, told from the SELECT's text.

Only what a value is computed from counts, windows among it; filters, joins and groups choose rows, and do not. Where
the text cannot tell, nothing is said: an answer is never a guess, and never an error.
"""

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lakehouse.models.model import SOURCE, Reference
from lakehouse.models.names import Resolver
from lakehouse.models.place import Place
from lakehouse.models.references import table_of
from lakehouse.models.statement import parse_statement

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.lineage import Node
    from sqlglot.optimizer.scope import Scope
    from sqlglot.schema import Schema

Schemas = Mapping[str, Mapping[str, str]]

_SCHEMA = "_lake"  # of the tables, as they are called while columns are traced
_LAST = re.compile(r'(?:"((?:[^"]|"")*)"|([^".]+))$')  # the column in `t.column`
# What a form of a table has besides its columns; see `lakehouse/duck/versions.py`.
_BESIDES = {
    "history": ("valid_from", "valid_to", "from_load", "to_load", "change", "changed_columns"),
    "diff": ("change", "changed_columns", "before"),
}


def lineage(sql: str, *, schemas: Schemas, columns: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """The columns that each column of a SELECT is computed from.

    Args:
        sql: The SELECT, as `Model.sql` has it.
        schemas: Columns with their types, by `source.table`, of the tables that it reads (`models.x` among them).
        columns: Names of the columns that it yields, in order, if they are known. They are then the keys of what
            is returned; else its keys are the names that the text gives, in lower case, and columns without a name
            are left out.

    Returns:
        `source.table.column` for each column that it is made of, sorted; none where it is made of none, or the text
        does not tell. Columns that a form adds (`valid_from` of `_history`) are none of the table's.
    """
    with _quiet():
        try:
            traced = _traced(sql, schemas, open_stars=bool(columns))
        except Exception:  # noqa: BLE001, any failure of the library means that it cannot tell
            traced = []
    if not columns:
        return {one.name: one.sources for one in traced if one.name and not one.unnamed}
    return _matched(traced, columns)


class _Traced(NamedTuple):
    """A column that a SELECT yields, as the text has it."""

    name: str
    sources: tuple[str, ...]

    @property
    def unnamed(self) -> bool:
        return not self.name or self.name == "*" or bool(re.fullmatch(r"_col_\d+", self.name))

    def may_be(self, column: str) -> bool:
        """Whether a column of the result can be this one; of columns with one name, later ones get a number."""
        return self.unnamed or bool(re.fullmatch(rf"{re.escape(self.name)}(_\d+)?", column, re.IGNORECASE))


def _matched(traced: Sequence[_Traced], columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What is known of each column of a result: by position if all names agree, else by name."""
    # Stars do not always come out in DuckDB's order, so a position alone says nothing.
    if len(traced) == len(columns) and all(map(_Traced.may_be, traced, columns)):
        return {column: one.sources for column, one in zip(columns, traced, strict=True)}
    named: dict[str, list[_Traced]] = {}
    for one in traced:
        named.setdefault(one.name.lower(), []).append(one)
    found = {column: named.get(column.lower(), []) for column in columns}
    return {column: ones[0].sources if len(ones) == 1 else () for column, ones in found.items()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The library warns of what it cannot tell; here that is an answer."""

    def refuse(_: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger("sqlglot")
    logger.addFilter(refuse)
    try:
        yield
    finally:
        logger.removeFilter(refuse)


def _traced(sql: str, schemas: Schemas, *, open_stars: bool) -> list[_Traced]:
    from sqlglot import exp
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope
    from sqlglot.schema import MappingSchema

    tree = parse_statement(sql, Place(path="model")).tree
    if isinstance(tree, exp.Subquery) and not tree.ctes:
        tree = tree.unnest()
    tables = _Tables(schemas)
    tables.rename(tree)
    _name_columns(tree)
    _widen_stars(tree, patterns=open_stars)
    schema = MappingSchema({_SCHEMA: tables.shapes} if tables.shapes else {}, dialect="duckdb")
    qualified = qualify(
        tree, dialect="duckdb", schema=schema, validate_qualify_columns=False, quote_identifiers=False
    )
    _align_by_name(qualified)
    scope = build_scope(qualified)
    if scope is None or not isinstance(scope.expression, exp.Selectable):
        return []
    trace = _Trace(scope, schema, tables)
    return [_Traced(one.alias_or_name, trace.sources(at)) for at, one in enumerate(scope.expression.selects)]


@dataclass
class _Tables:
    """The tables that a SELECT reads, each called `t0`, `t1`, … while columns are traced.

    Attributes:
        schemas: Columns by `source.table`.
        read: What each stands for.
        shapes: The columns of each, for the library.
        aliases: What each alias stands for, by alias; None where several things are called so.
    """

    schemas: Schemas
    read: dict[str, Reference] = field(default_factory=dict)
    shapes: dict[str, dict[str, str]] = field(default_factory=dict)
    aliases: dict[str, str | None] = field(default_factory=dict)

    def rename(self, tree: "exp.Expr") -> None:
        """Put these names into a tree, where tables of the lake are read."""
        from sqlglot import exp

        names = [name.split(".", 1) for name in self.schemas]
        resolver = Resolver(
            models=[table for source, table in names if source == SOURCE], tables=lambda: self.schemas
        )
        others = {alias.name.lower() for alias in tree.find_all(exp.TableAlias)}
        for node in list(tree.find_all(exp.Table)):
            found = table_of(node, resolver)
            if found is None:
                continue
            alias = node.alias or node.name or node.this.name
            name = self._add(found)
            if not node.alias:
                node.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
                again = alias.lower() in self.aliases or alias.lower() in others
            else:
                again = alias.lower() in self.aliases
            self.aliases[alias.lower()] = None if again else name
            node.set("this", exp.to_identifier(name))
            node.set("db", exp.to_identifier(_SCHEMA))

    def _add(self, found: Reference) -> str:
        name = f"t{len(self.read)}"
        self.read[name] = found
        columns = self.schemas.get(found.name, {})
        besides = {column: "VARCHAR" for column in _BESIDES.get(found.form, ()) if column not in columns}
        if columns:  # the library takes a table without columns for no table at all
            self.shapes[name] = {**besides, **columns}
        return name

    def column(self, name: str, column: str) -> str | None:
        """`source.table.column` in the lake's spelling; None if that is no column of the table."""
        found = self.read[name]
        spelled = {own.lower(): own for own in self.schemas.get(found.name, {})}
        return f"{found.name}.{spelled[column.lower()]}" if column.lower() in spelled else None


class _Trace:
    """Columns of a qualified SELECT, followed to the tables."""

    def __init__(self, scope: "Scope", schema: "Schema", tables: _Tables) -> None:
        self.scope, self.schema, self.tables = scope, schema, tables
        self._known: dict[tuple[object, ...], Node] = {}

    def sources(self, at: int) -> tuple[str, ...]:
        """The columns of tables that the column at a position is made of, sorted."""
        from sqlglot.lineage import to_node

        try:
            node = to_node(
                at, self.scope, "duckdb", trim_selects=False, schema=self.schema, _cache=self._known
            )
        except Exception:  # noqa: BLE001, as above: this column cannot be told, others may
            return ()
        found = {self._column(leaf) for leaf in node.walk() if not leaf.downstream}
        return tuple(sorted(column for column in found if column))

    def _column(self, leaf: "Node") -> str | None:
        from sqlglot import exp

        table, dot, _ = leaf.name.rpartition(".")
        match = _LAST.search(leaf.name)
        if not dot or not match:
            return None
        name = match[1].replace('""', '"') if match[1] is not None else match[2]
        if isinstance(leaf.source, exp.Table):
            own = leaf.source.name if leaf.source.db == _SCHEMA else None
        else:
            own = self.tables.aliases.get(table.strip('"').lower())
        return self.tables.column(own, name) if own else None


def _name_columns(tree: "exp.Expr") -> None:
    """Make columns of the bare names that the library leaves before a method: `name.upper()`."""
    from sqlglot import exp

    for dot in list(tree.find_all(exp.Dot)):
        if not isinstance(dot.expression, exp.Func):
            continue
        for name in list(dot.this.find_all(exp.Identifier)):
            if not isinstance(name.parent, exp.Column | exp.Alias | exp.TableAlias | exp.Table | exp.Lambda):
                _name_column(name)


def _name_column(name: "exp.Identifier") -> None:
    from sqlglot import exp

    dot = name.parent
    if not isinstance(dot, exp.Dot) or isinstance(dot.expression, exp.Func):
        name.replace(exp.column(name.copy()))
    elif dot.this is name:  # table.column, or a column and a field of it
        dot.replace(exp.column(dot.expression.copy(), table=name.copy()))


def _widen_stars(tree: "exp.Expr", *, patterns: bool) -> None:
    """Put a star where one is written in other words, which the library does not follow.

    Args:
        tree: A SELECT.
        patterns: Also where a pattern chooses among the columns: there are then too many.
    """
    from sqlglot import exp

    for select in list(tree.find_all(exp.Select)):
        for one in list(select.expressions):
            inside = one.this if isinstance(one, exp.Columns | exp.Predicate) else None
            star = inside if isinstance(inside, exp.Star | exp.Column) and inside.is_star else None
            if isinstance(one, exp.Columns) and star is not None:
                one.replace(star.copy())
            elif patterns and (star is not None or isinstance(one, exp.Columns)):
                one.replace(star.copy() if star is not None else exp.Star())


def _align_by_name(tree: "exp.Expr") -> None:
    """Bring both sides of each UNION BY NAME into one order, as the library goes by position alone."""
    from sqlglot import exp

    for union in reversed(list(tree.find_all(exp.SetOperation))):  # the inner ones first
        if union.args.get("by_name"):
            left, right = union.this.named_selects, union.expression.named_selects
            names = list(dict.fromkeys([*left, *right]))
            _select_in_order(union.this, [left.index(n) if n in left else -1 for n in names], names)
            _select_in_order(union.expression, [right.index(n) if n in right else -1 for n in names], names)
            union.set("by_name", None)


def _select_in_order(query: "exp.Expr", places: Sequence[int], names: Sequence[str]) -> None:
    """Make a query yield its columns in another order; null where the place is -1."""
    from sqlglot import exp

    if isinstance(query, exp.SetOperation):
        _select_in_order(query.this, places, names)
        _select_in_order(query.expression, places, names)
    elif isinstance(query, exp.Select):
        nulls = [exp.alias_(exp.Null(), name, quoted=True) for name in names]
        have = [query.expressions[at] if at >= 0 else null for at, null in zip(places, nulls, strict=True)]
        query.set("expressions", have)
    else:
        _select_in_order(query.this, places, names)
