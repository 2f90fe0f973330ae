"""Functions of DuckDB over numbers, lists and structs, written for Spark."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from lakehouse.models.spark.casts import cast
from lakehouse.models.spark.kinds import (
    NUMBER,
    REAL,
    WHOLE,
    item_type,
    kind,
    spark_name,
    spark_text,
    spark_type,
)
from lakehouse.models.spark.trouble import Refusal
from lakehouse.models.spark.values import shown, take

if TYPE_CHECKING:
    from lakehouse.models.spark.values import Values

Rule = Callable[["Values", Any], str]

_TEXT = ("varchar",)
_WHOLE = tuple(sorted(WHOLE))
_NUMBER = tuple(sorted(NUMBER))
_BIG = 9007199254740992  # floats from here on are whole


def plain(template: str, *kinds: tuple[str, ...]) -> Rule:
    """A function of arguments of certain kinds that has another name in Spark, or the same."""

    def rule(values: "Values", node: exp.Func) -> str:
        given = arguments(node, len(kinds))
        texts = [values.of_kind(one, *allowed) for one, allowed in zip(given, kinds, strict=True)]
        return template.format(*texts)

    return rule


def arguments(node: exp.Expr, count: int) -> list[exp.Expr]:
    """The arguments of a function, in order, if there are so many."""
    if isinstance(node, exp.Anonymous):
        found = list(node.expressions)
    else:
        names = [name for name, value in node.args.items() if isinstance(value, exp.Expr)]
        take(node, *names)
        found = [node.args[name] for name in names]
    if len(found) != count:
        raise Refusal(shown(node), node)
    return found


def constant(node: Any, *, empty: bool = False) -> str:
    """The text of a literal."""
    if not isinstance(node, exp.Literal) or not node.is_string or not (empty or node.this):
        raise Refusal(
            f"{shown(node) if node is not None else 'nothing'} where a text written out is needed", node
        )
    return str(node.this)


def count(node: Any, *, least: int = 0) -> int:
    """The value of a literal that is a whole number."""
    if (
        isinstance(node, exp.Literal)
        and not node.is_string
        and node.this.isdigit()
        and int(node.this) >= least
    ):
        return int(node.this)
    raise Refusal(f"{shown(node)} where a number from {least} on, written out, is needed", node)


# Numbers.


def _round(values: "Values", node: exp.Round) -> str:
    this, digits = take(node, "this", "decimals")
    found, places = kind(values.type(this)), 0 if digits is None else count(digits)
    text = values.of_kind(this, *_NUMBER)
    if found in WHOLE:
        return text
    if found == "decimal":
        return f"CAST(round({text}, {places}) AS {spark_type(values.type(node))})"
    power = f"1e{places}D"
    whole = f"round(CAST({text} AS DOUBLE) * {power})"  # Spark's own rounds the digits that are shown
    result = f"({whole} / {power})" if places else whole
    return f"CAST({result} AS FLOAT)" if found == "float" else result


def _cut(word: str) -> Rule:
    def rule(values: "Values", node: exp.Func) -> str:
        (this,) = take(node, "this")
        found, text = kind(values.type(this)), values.of_kind(this, *_NUMBER)
        if found in WHOLE:
            return text
        toward = (
            f"CASE WHEN {text} < 0 THEN ceil({text}) ELSE floor({text}) END"
            if word == "trunc"
            else f"{word}({text})"
        )
        if found == "decimal":
            return f"CAST({toward} AS {spark_type(values.type(node))})"
        target = spark_type(values.type(node))
        return f"CASE WHEN abs({text}) < {_BIG} THEN CAST({toward} AS {target}) ELSE {text} END"

    return rule


def _within(condition: str, template: str) -> Rule:
    """A function of one float that DuckDB refuses outside of a range, where Spark has an answer."""

    def rule(values: "Values", node: exp.Func) -> str:
        (this,) = arguments(node, 1)
        text = values.to(this, values.twin.type_of("1::DOUBLE"))
        stop = f"raise_error({spark_text(f'{shown(node)}: out of range')})"
        return f"CASE WHEN {condition.format(text)} THEN {stop} ELSE {template.format(text)} END"

    return rule


def _real(template: str, parameters: int = 1) -> Rule:
    def rule(values: "Values", node: exp.Func) -> str:
        double = values.twin.type_of("1::DOUBLE")
        return template.format(*(values.to(one, double) for one in arguments(node, parameters)))

    return rule


# Lists and structs.


def _array(values: "Values", node: exp.Array) -> str:
    (items,) = take(node, "expressions")
    result = values.type(node)
    if not items or kind(result) != "list" or any(isinstance(item, exp.Comprehension) for item in items):
        raise Refusal(shown(node), node)
    inner = item_type(result)
    return f"array({', '.join(values.to(item, inner) for item in items)})"


def _struct(values: "Values", node: exp.Struct) -> str:
    (items,) = take(node, "expressions")
    if not items or not all(isinstance(item, exp.PropertyEQ) for item in items):
        raise Refusal(shown(node), node)
    fields = (f"{spark_text(item.this.name)}, {values.text(item.expression)}" for item in items)
    return f"named_struct({', '.join(fields)})"


def _bracket(values: "Values", node: exp.Bracket) -> str:
    this, (index, *more) = take(node, "this", "expressions")
    found = kind(values.type(this))
    if more or isinstance(index, exp.Slice):
        raise Refusal(shown(node), node)
    if found == "struct" and isinstance(index, exp.Literal) and index.is_string:
        return f"{values.text(this)}.{spark_name(index.this)}"
    if found != "list":
        raise Refusal(shown(node), node)
    # The parser counts from 0 where a literal counts from 1.
    position = str(count(index) + 1) if isinstance(index, exp.Literal) else None
    if position is None:
        raise Refusal(shown(node), node, "Write the position out: list[1].")
    return f"try_element_at({values.text(this)}, {position})"


def _each(word: str) -> Rule:
    def rule(values: "Values", node: exp.Func) -> str:
        this, function = take(node, "this", "expression")
        items = values.type(this)
        if not isinstance(function, exp.Lambda) or len(function.expressions) != 1 or kind(items) != "list":
            raise Refusal(shown(node), node)
        name = function.expressions[0].name
        inner = values.within({name: item_type(items)})
        body = inner.of_kind(function.this, "boolean") if word == "filter" else inner.text(function.this)
        return f"{word}({values.text(this)}, {spark_name(name)} -> {body})"

    return rule


def _contains(values: "Values", node: exp.Func) -> str:
    this, item = take(node, "this", "expression")
    items = values.type(this)
    if kind(items) == "varchar":
        return f"contains({values.text(this)}, {values.of_kind(item, *_TEXT)})"
    if kind(items) != "list":
        raise Refusal(shown(node), node)
    inner = item_type(items)
    one = (
        cast(values.text(item), values.type(item), inner)
        if str(values.type(item)) != str(inner)
        else values.text(item)
    )
    return f"CASE WHEN {one} IS NULL THEN NULL ELSE exists({values.text(this)}, lake_item -> lake_item <=> {one}) END"


def _list_text(values: "Values", node: exp.ArrayToString) -> str:
    this, by = take(node, "this", "expression")
    if str(values.type(this)) != "VARCHAR[]":
        raise Refusal(f"{shown(node)} of a list of {values.type(this)}", node)
    return f"array_join({values.text(this)}, {spark_text(constant(by, empty=True))})"


def _explode(values: "Values", node: exp.Explode) -> str:
    (this,) = take(node, "this")
    if not isinstance(node.parent, exp.Alias) or kind(values.type(this)) != "list":
        raise Refusal(f"{shown(node)} inside of an expression", node)
    return f"explode({values.text(this)})"


_SIGNED = "CAST(sign({0}) AS TINYINT)"

RULES: dict[str, Rule] = {
    "Abs": plain("abs({0})", _NUMBER),
    "Sign": plain(_SIGNED, _NUMBER),
    "Round": _round,
    "Ceil": _cut("ceil"),
    "Floor": _cut("floor"),
    "Trunc": _cut("trunc"),
    "Sqrt": _within("{0} < 0", "sqrt({0})"),
    "Ln": _within("{0} <= 0", "ln({0})"),
    "Log": _within("{0} <= 0", "log10({0})"),
    "log10": _within("{0} <= 0", "log10({0})"),
    "log2": _within("{0} <= 0", "log2({0})"),
    "Exp": _real("exp({0})"),
    "Pow": _real("power({0}, {1})", 2),
    "Sin": _real("sin({0})"),
    "Cos": _real("cos({0})"),
    "Tan": _real("tan({0})"),
    "Asin": _within("abs({0}) > 1", "asin({0})"),
    "Acos": _within("abs({0}) > 1", "acos({0})"),
    "Atan": _real("atan({0})"),
    "Atan2": _real("atan2({0}, {1})", 2),
    "Radians": _real("radians({0})"),
    "Degrees": _real("degrees({0})"),
    "Pi": lambda _values, _node: "pi()",
    "IsNan": plain("({0} = CAST('NaN' AS DOUBLE))", tuple(REAL)),
    "IsInf": plain("(abs({0}) = CAST('Infinity' AS DOUBLE))", tuple(REAL)),
    "isfinite": plain("(abs({0}) < CAST('Infinity' AS DOUBLE))", tuple(REAL)),
    "Contains": _contains,
    "Array": _array,
    "Struct": _struct,
    "Bracket": _bracket,
    "Transform": _each("transform"),
    "ArrayFilter": _each("filter"),
    "ArrayContains": _contains,
    "ArrayToString": _list_text,
    "Explode": _explode,
}
