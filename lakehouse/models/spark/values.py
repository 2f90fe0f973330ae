"""Expressions of DuckDB, written for Spark, by rules: one for each construct that is known to mean the same.

The rules are in `operators.py`, `functions.py`, `texts.py`, `moments.py` and `aggregates.py`; what has none is refused.
Types are DuckDB's own, asked of the twin; casts that DuckDB makes on its own are written out.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from lakehouse.models.spark.casts import cast
from lakehouse.models.spark.kinds import MOMENT, NUMBER, kind, spark_text, spark_type
from lakehouse.models.spark.trouble import Refusal
from lakehouse.models.spark.twin import Columns, Twin

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

# What the parser says of a node that changes nothing of its meaning.
_IDLE = frozenset({"safe", "coalesce", "big_int", "typed", "ignore_nulls", "scalar_only", "offset_is_one"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What names mean at some place of a query.

    Attributes:
        tables: Columns of what FROM names, by alias.
        aliases: What these are called in Spark, where a column may not have the name of a table.
        outputs: Columns of the SELECT itself, where ORDER BY may name them.
        params: Parameters of a lambda.
        outer: The query around it.
    """

    tables: Mapping[str, Columns] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, "DuckDBPyType"] = field(default_factory=dict)
    params: Mapping[str, "DuckDBPyType"] = field(default_factory=dict)
    outer: "Names | None" = None

    def column(self, table: str, name: str) -> "DuckDBPyType | None":
        """The type of a column, here or in a query around; None if there is none."""
        if table:
            found = self.tables.get(table, {})
        else:
            found = dict(self.params) if name in self.params else dict(self.outputs)
        if name in found:
            return found[name]
        return self.outer.column(table, name) if self.outer else None

    def alias(self, table: str) -> str:
        """What a table is called in Spark."""
        return self.aliases[table] if table in self.aliases or self.outer is None else self.outer.alias(table)

    def param(self, name: str) -> "DuckDBPyType | None":
        """The type of a lambda's parameter; None if there is none."""
        if name in self.params:
            return self.params[name]
        return self.outer.param(name) if self.outer else None


Query = Callable[[exp.Expr, Names], tuple[str, Columns]]


class Values:
    """Writes the expressions of one place of a query.

    Args:
        twin: Tells types.
        names: What names mean there.
        query: Writes a query inside of an expression.
    """

    def __init__(self, twin: Twin, names: Names, query: Query) -> None:
        self.twin = twin
        self.names = names
        self.query = query

    def within(self, params: Mapping[str, "DuckDBPyType"]) -> "Values":
        """The same inside of a lambda with these parameters."""
        return Values(self.twin, Names(params=params, outer=self.names), self.query)

    # Types.

    def type(self, node: exp.Expr) -> "DuckDBPyType":
        """The type that DuckDB gives an expression."""
        import duckdb

        if isinstance(node, exp.Subquery):
            return next(iter(self.query(node.this, self.names)[1].values()))
        try:
            return self.twin.type_of(self._bare(node))
        except duckdb.Error as error:
            raise Refusal(f"{shown(node)} ({_first_line(error)})", node) from None

    def _bare(self, node: exp.Expr) -> str:
        """An expression in DuckDB's SQL with nulls of the same types in the place of columns."""
        root = exp.Paren(this=node.copy())
        for inner in list(root.walk(prune=lambda n: isinstance(n, (exp.Column, exp.Query)))):
            if isinstance(inner, exp.Exists) or (isinstance(inner, exp.In) and inner.args.get("query")):
                inner.replace(exp.true())
            elif isinstance(inner, exp.Subquery):
                _, columns = self.query(inner.this, self.names)
                inner.replace(_null(next(iter(columns.values()))))
            elif isinstance(inner, exp.Column):
                inner.replace(_null(self.column(inner)))
            elif isinstance(inner, exp.Window):
                for key in ("alias", "partition_by", "order", "spec"):  # no part of its type
                    inner.set(key, None)
            elif isinstance(inner, exp.Identifier) and _stands_alone(inner):
                known = self.names.param(inner.name)
                if known is not None and not _is_bound(inner):
                    inner.replace(_null(known))
        return str(root.this.sql("duckdb"))

    def column(self, node: exp.Column) -> "DuckDBPyType":
        """The type of a column."""
        found = self.names.column(node.table, node.name)
        if found is None:
            raise Refusal(f"the column {shown(node)}: it is not clear which one is meant", node)
        return found

    # Text.

    def text(self, node: exp.Expr) -> str:
        """An expression in Spark's SQL. Raises Refusal."""
        from lakehouse.models.spark import aggregates, functions, moments, operators, texts

        try:
            for rules in (operators.RULES, functions.RULES, texts.RULES, moments.RULES, aggregates.RULES):
                rule = rules.get(name_of(node))
                if rule is not None:
                    return rule(self, node)
        except Refusal as refusal:
            refusal.node = refusal.node or node
            raise
        raise Refusal(f"{shown(node)}: it is not known to mean the same in Spark", node)

    def to(self, node: exp.Expr, want: "DuckDBPyType") -> str:
        """An expression as another type, as DuckDB would cast it."""
        if isinstance(node, exp.Paren):
            return self.to(node.this, want)
        if isinstance(node, exp.Literal) and node.is_string and kind(want) not in {"varchar", "json"}:
            return self.constant(node, want)
        return cast(self.text(node), self.type(node), want)

    def constant(self, node: exp.Literal, want: "DuckDBPyType", *, tries: bool = False) -> str:
        """A text literal that DuckDB reads as another type: what it reads."""
        import duckdb

        target = spark_type(want)
        if target is None or kind(want) not in NUMBER | MOMENT | {"boolean"}:
            raise Refusal(f"a text as {want}", node)
        how = "TRY_CAST" if tries else "CAST"
        try:
            value = self.twin.value_of(f"{how}({how}({node.sql('duckdb')} AS {want}) AS VARCHAR)")
        except duckdb.Error as error:
            raise Refusal(_first_line(error), node) from None
        return f"CAST({'NULL' if value is None else spark_text(value)} AS {target})"

    def one_type(self, *nodes: exp.Expr) -> "DuckDBPyType":
        """The type to which DuckDB brings several expressions to compare them."""
        kinds = {kind(self.type(node)) for node in nodes}
        others = kinds - {"varchar", "null"}
        if "varchar" in kinds and others:  # text is compared as what it is compared with
            nodes = tuple(node for node in nodes if kind(self.type(node)) != "varchar")
        return self.type(exp.Coalesce(this=nodes[0].copy(), expressions=[n.copy() for n in nodes[1:]]))

    def of_kind(self, node: exp.Expr, *kinds: str) -> str:
        """An expression that has to be of one of some kinds."""
        found = self.type(node)
        if kind(found) not in {*kinds, "null"}:
            raise Refusal(
                f"{shown(node)}, of type {found}, in this place", node, "Write the cast that is meant."
            )
        return self.text(node)


def take(node: exp.Expr, *names: str) -> tuple[Any, ...]:
    """Some arguments of a node, all others being absent: nothing of it is left out without a word."""
    for name, value in node.args.items():
        if name not in names and name not in _IDLE and value not in (None, False, [], ""):
            raise Refusal(f"{shown(node)}, because of its {name.replace('_', ' ')}", node)
    return tuple(node.args.get(name) for name in names)


def name_of(node: exp.Expr) -> str:
    """Under which name rules know a node: its class, or the function in lower case."""
    return str(node.this).lower() if isinstance(node, exp.Anonymous) else type(node).__name__


def shown(node: exp.Expr) -> str:
    """A node as a person would write it, not too long."""
    text = " ".join(node.sql("duckdb", identify=False).replace('"', "").split())
    return f"{text[:60]}…" if len(text) > 60 else text  # noqa: PLR2004


def _null(of: "DuckDBPyType") -> exp.Expr:
    """A value of a type of which DuckDB cannot see, while it works types out, that it is null."""
    typed = "NULL" if of.id == "null" else f"CAST(NULL AS {of})"
    return exp.Var(this=f"(CASE WHEN random() < 2 THEN {typed} END)")


def _stands_alone(node: exp.Identifier) -> bool:
    """Whether an identifier is a value of its own, as parameters of lambdas are, not part of a name."""
    parent = node.parent
    if isinstance(parent, (exp.Column, exp.Alias, exp.TableAlias, exp.Table, exp.PropertyEQ, exp.Window)):
        return False
    if isinstance(parent, exp.Dot) and node.arg_key == "expression":
        return False
    return not (isinstance(parent, exp.Lambda) and node.arg_key == "expressions")


def _is_bound(node: exp.Identifier) -> bool:
    """Whether a lambda that is part of the same expression has this parameter."""
    around: Iterator[exp.Lambda] = iter(())
    found, up = [], node.parent
    while up is not None:
        if isinstance(up, exp.Lambda):
            found.append(up)
        up = up.parent
    around = iter(found)
    return any(node.name == param.name for known in around for param in known.expressions)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
