"""Expressions of DuckDB, written for Spark: operators, comparisons, conditions, and what is around them.

A construct that is not written down here, in `functions.py`, `moments.py` or `aggregates.py` is refused.
Types are DuckDB's own, asked of the twin; casts that DuckDB makes on its own are written out.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from lakehouse.models.spark.casts import cast
from lakehouse.models.spark.kinds import MOMENT, NUMBER, WHOLE, kind, spark_name, spark_text, spark_type
from lakehouse.models.spark.trouble import Refusal
from lakehouse.models.spark.twin import Columns, Twin

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

_COMPARED = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.NullSafeEQ: "<=>",
}  # fmt: skip
_SIGNS = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.IntDiv: "div", exp.Mod: "%"}
# What the parser says of a node that changes nothing of its meaning.
_IDLE = frozenset({"safe", "coalesce", "big_int", "typed", "ignore_nulls", "scalar_only", "offset_is_one"})
_NESTED = frozenset({"list", "struct"})


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
                inner.replace(_null(self._column(inner)))
            elif isinstance(inner, exp.Window):
                for key in ("alias", "partition_by", "order", "spec"):  # no part of its type
                    inner.set(key, None)
            elif isinstance(inner, exp.Identifier) and _stands_alone(inner):
                known = self.names.param(inner.name)
                if known is not None and not _is_bound(inner):
                    inner.replace(_null(known))
        return str(root.this.sql("duckdb"))

    def _column(self, node: exp.Column) -> "DuckDBPyType":
        found = self.names.column(node.table, node.name)
        if found is None:
            raise Refusal(f"the column {shown(node)}: it is not clear which one is meant", node)
        return found

    # Text.

    def text(self, node: exp.Expr) -> str:
        """An expression in Spark's SQL. Raises Refusal."""
        from lakehouse.models.spark import aggregates, functions, moments

        try:
            for rules in (RULES, functions.RULES, moments.RULES, aggregates.RULES):
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
            return self._constant(node, want)
        return cast(self.text(node), self.type(node), want)

    def _constant(self, node: exp.Literal, want: "DuckDBPyType", *, tries: bool = False) -> str:
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


# Rules: leaves.


def _text_of_column(values: Values, node: exp.Column) -> str:
    if spark_type(values._column(node)) is None:  # noqa: SLF001  (rules are its other half)
        raise Refusal(
            f"the column {shown(node)}, of type {values._column(node)}: Spark has none like it", node
        )
    return (
        f"{values.names.alias(node.table)}.{spark_name(node.name)}" if node.table else spark_name(node.name)
    )


def _param(values: Values, node: exp.Identifier) -> str:
    if values.names.param(node.name) is None:
        raise Refusal(f"the name {node.name}", node)
    return spark_name(node.name)


def _literal(values: Values, node: exp.Literal) -> str:
    if node.is_string:
        return spark_text(node.this)
    found = kind(values.type(node))
    if found in WHOLE:
        return str(node.this)
    return f"{node.this}{'BD' if found == 'decimal' else 'D'}"


def _dot(values: Values, node: exp.Expr) -> str:
    this, name = take(node, "this", "expression")
    if kind(values.type(this)) != "struct" or not isinstance(name, (exp.Identifier, exp.Literal)):
        raise Refusal(shown(node), node)
    return f"{values.text(this)}.{spark_name(name.name)}"


# Rules: operators.


def _arithmetic(values: Values, node: exp.Binary) -> str:
    from lakehouse.models.spark import moments

    left, right = take(node, "this", "expression")
    result, sign = values.type(node), _SIGNS[type(node)]
    if kind(result) in MOMENT or {kind(values.type(left)), kind(values.type(right))} & MOMENT:
        return moments.shifted(values, node, left, right)
    if kind(result) not in NUMBER or (sign == "div" and kind(result) not in WHOLE):
        raise Refusal(f"{shown(node)}, which is of type {result}", node)
    if kind(result) == "decimal":
        one, two = (_as_decimal(values, side) for side in (left, right))
        return f"CAST(({one} {sign} {two}) AS {spark_type(result)})"
    one, two = (values.to(side, result) for side in (left, right))
    if kind(result) in WHOLE:
        return f"CAST(({one} {sign} {two}) AS {spark_type(result)})"
    if kind(result) == "float":  # of two floats, a double holds all that rounding needs
        one, two = f"CAST({one} AS DOUBLE)", f"CAST({two} AS DOUBLE)"
    text = _real(one, sign, two)
    return f"CAST({text} AS FLOAT)" if kind(result) == "float" else text


def _real(one: str, sign: str, two: str) -> str:
    """Floats as IEEE 754 has them: ANSI SQL would stop at a division by zero."""
    if sign == "/":
        return f"CASE WHEN {two} = 0 THEN {one} * power({two}, -1) ELSE {one} / {two} END"
    if sign == "%":
        return f"CASE WHEN {two} = 0 THEN {one} * CAST('NaN' AS DOUBLE) ELSE {one} % {two} END"
    return f"({one} {sign} {two})"


def _as_decimal(values: Values, node: exp.Expr) -> str:
    found = values.type(node)
    if kind(found) not in WHOLE | {"decimal", "null"}:
        raise Refusal(f"{shown(node)}, of type {found}, beside a decimal", node)
    return f"CAST({values.text(node)} AS DECIMAL(38,0))" if kind(found) == "hugeint" else values.text(node)


def _negative(values: Values, node: exp.Neg) -> str:
    (inner,) = take(node, "this")
    return f"(-{values.of_kind(inner, *NUMBER)})"


def _compared(values: Values, node: exp.Binary) -> str:
    left, right = take(node, "this", "expression")
    one, two = _alike(values, left, right)
    return f"({one} {_COMPARED[type(node)]} {two})"


def _alike(values: Values, *nodes: exp.Expr) -> list[str]:
    """Expressions, brought to the one type in which DuckDB compares them."""
    shared = values.one_type(*nodes)
    if kind(shared) in _NESTED or spark_type(shared) is None:
        raise Refusal(f"a comparison of values of type {shared}", nodes[0])
    if kind(shared) == "null":
        shared = values.twin.type_of("NULL::INTEGER")
    return [values.to(node, shared) for node in nodes]


def _unequal(values: Values, node: exp.NullSafeNEQ) -> str:
    one, two = _alike(values, *take(node, "this", "expression"))
    return f"(NOT ({one} <=> {two}))"


def _is(values: Values, node: exp.Is) -> str:
    this, what = take(node, "this", "expression")
    if isinstance(what, exp.Null):
        return f"({values.text(this)} IS NULL)"
    if isinstance(what, exp.Boolean):
        return f"({values.of_kind(this, 'boolean')} IS {'TRUE' if what.this else 'FALSE'})"
    raise Refusal(shown(node), node)


def _joined(word: str) -> Callable[[Values, Any], str]:
    def rule(values: Values, node: exp.Binary) -> str:
        left, right = take(node, "this", "expression")
        return f"({values.of_kind(left, 'boolean')} {word} {values.of_kind(right, 'boolean')})"

    return rule


def _between(values: Values, node: exp.Between) -> str:
    this, low, high = _alike(values, *take(node, "this", "low", "high"))
    return f"({this} BETWEEN {low} AND {high})"


def _in(values: Values, node: exp.In) -> str:
    this, listed, query = take(node, "this", "expressions", "query")
    if query is None:
        head, *tail = _alike(values, this, *listed)
        return f"({head} IN ({', '.join(tail)}))"
    if not _is_condition(node):
        raise Refusal(
            f"{shown(node)} anywhere but in WHERE, beside AND", node, "Write it with EXISTS, or a join."
        )
    select, columns = values.query(query.this if isinstance(query, exp.Subquery) else query, values.names)
    if len(columns) != 1 or str(next(iter(columns.values()))) != str(values.type(this)):
        raise Refusal(
            f"{shown(node)}, as the two sides are not of one type", node, "Write the cast that is meant."
        )
    return f"({values.text(this)} IN ({select}))"


def _is_condition(node: exp.Expr) -> bool:
    """Whether null and false are the same of it: Spark says false of `x IN (SELECT …)` where null is right."""
    parent = node.parent
    while isinstance(parent, exp.Paren):
        parent = parent.parent
    if isinstance(parent, exp.Not):
        parent = parent.parent
    while isinstance(parent, (exp.And, exp.Paren)):
        parent = parent.parent
    return isinstance(parent, exp.Where)


def _case(values: Values, node: exp.Case) -> str:
    this, ifs, default = take(node, "this", "ifs", "default")
    result = values.type(node)
    parts = []
    for branch in ifs:
        if this is None:
            when = values.of_kind(branch.this, "boolean")
        else:
            one, two = _alike(values, this, branch.this)
            when = f"{one} = {two}"
        parts.append(f"WHEN {when} THEN {values.to(branch.args['true'], result)}")
    other = f" ELSE {values.to(default, result)}" if default is not None else ""
    return f"CASE {' '.join(parts)}{other} END"


def _if(values: Values, node: exp.If) -> str:
    when, yes, no = take(node, "this", "true", "false")
    result = values.type(node)
    other = f" ELSE {values.to(no, result)}" if no is not None else ""
    return f"CASE WHEN {values.of_kind(when, 'boolean')} THEN {values.to(yes, result)}{other} END"


def _first_of(word: str) -> Callable[[Values, Any], str]:
    def rule(values: Values, node: exp.Func) -> str:
        this, more = take(node, "this", "expressions")
        result = values.type(node)
        if word != "coalesce" and kind(result) in _NESTED:
            raise Refusal(shown(node), node)
        items = [values.to(item, result) for item in (this, *(more or []))]
        return f"{word}({', '.join(items)})" if len(items) > 1 else items[0]

    return rule


def _nullif(values: Values, node: exp.Nullif) -> str:
    left, right = take(node, "this", "expression")
    one, two = _alike(values, left, right)
    return f"CASE WHEN {one} = {two} THEN NULL ELSE {values.text(left)} END"


def _cast(values: Values, node: exp.Cast) -> str:
    (this, _) = take(node, "this", "to")
    tries, want = isinstance(node, exp.TryCast), values.type(node)
    inner = this.unnest()
    if isinstance(inner, exp.Literal) and inner.is_string and kind(want) in NUMBER | MOMENT | {"boolean"}:
        return values._constant(inner, want, tries=tries)  # noqa: SLF001
    return cast(values.text(this), values.type(this), want, tries=tries)


def _glued(values: Values, node: exp.DPipe) -> str:
    sides = [values.to(side, values.twin.type_of("''")) for side in take(node, "this", "expression")]
    if kind(values.type(node)) != "varchar":
        raise Refusal(f"{shown(node)}, which is of type {values.type(node)}", node)
    return f"({' || '.join(sides)})"


def _exists(values: Values, node: exp.Exists) -> str:
    (query,) = take(node, "this")
    return (
        f"EXISTS ({values.query(query.this if isinstance(query, exp.Subquery) else query, values.names)[0]})"
    )


def _subquery(values: Values, node: exp.Subquery) -> str:
    (query,) = take(node, "this")
    text, columns = values.query(query, values.names)
    if len(columns) != 1:
        raise Refusal(shown(node), node)
    return f"({text})"


RULES: dict[str, Callable[[Values, Any], str]] = {
    "Column": _text_of_column,
    "Identifier": _param,
    "Literal": _literal,
    "Null": lambda _values, _node: "CAST(NULL AS INT)",
    "Boolean": lambda _values, node: "TRUE" if node.this else "FALSE",
    "Paren": lambda values, node: f"({values.text(node.this)})",
    "Dot": _dot,
    "StructExtract": _dot,
    **{kind_of.__name__: _arithmetic for kind_of in _SIGNS},
    **{kind_of.__name__: _compared for kind_of in _COMPARED},
    "NullSafeNEQ": _unequal,
    "Neg": _negative,
    "Not": lambda values, node: f"(NOT {values.of_kind(node.this, 'boolean')})",
    "And": _joined("AND"),
    "Or": _joined("OR"),
    "Is": _is,
    "Between": _between,
    "In": _in,
    "Case": _case,
    "If": _if,
    "Coalesce": _first_of("coalesce"),
    "Greatest": _first_of("greatest"),
    "Least": _first_of("least"),
    "Nullif": _nullif,
    "Cast": _cast,
    "TryCast": _cast,
    "DPipe": _glued,
    "Exists": _exists,
    "Subquery": _subquery,
}
