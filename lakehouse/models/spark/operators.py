"""Operators of DuckDB, comparisons, conditions and the leaves of expressions, written for Spark."""

from collections.abc import Callable
from typing import Any

from sqlglot import exp

from lakehouse.models.spark.casts import cast
from lakehouse.models.spark.kinds import MOMENT, NUMBER, WHOLE, kind, spark_name, spark_text, spark_type
from lakehouse.models.spark.trouble import Refusal
from lakehouse.models.spark.values import Values, shown, take

_COMPARED = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.NullSafeEQ: "<=>",
}  # fmt: skip
_SIGNS = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.IntDiv: "div", exp.Mod: "%"}
_NESTED = frozenset({"list", "struct"})


# Rules: leaves.


def _text_of_column(values: Values, node: exp.Column) -> str:
    if spark_type(values.column(node)) is None:
        raise Refusal(
            f"the column {shown(node)}, of type {values.column(node)}: Spark has none like it", node
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
        return values.constant(inner, want, tries=tries)
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
