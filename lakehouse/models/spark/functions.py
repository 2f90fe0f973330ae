"""Functions of DuckDB over numbers, text, lists and structs, written for Spark."""

import re
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
from lakehouse.models.spark.patterns import java_pattern, java_replacement, like
from lakehouse.models.spark.trouble import Refusal
from lakehouse.models.spark.values import name_of, shown, take

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


# Text.


def _trim(values: "Values", node: exp.Trim) -> str:
    this, chars, position = take(node, "this", "expression", "position")
    side = str(position or "BOTH").upper()
    what = f"{spark_text(constant(chars))} " if chars is not None else ""
    return f"trim({side} {what}FROM {values.of_kind(this, *_TEXT)})"


def _length(values: "Values", node: exp.Func) -> str:
    (this,) = arguments(node, 1)
    text = values.of_kind(this, "varchar", "list")
    return f"CAST({'size' if kind(values.type(this)) == 'list' else 'char_length'}({text}) AS BIGINT)"


def _substring(values: "Values", node: exp.Substring) -> str:
    this, start, length = take(node, "this", "start", "length")
    items = [values.of_kind(this, *_TEXT), str(count(start, least=1))]
    return f"substr({', '.join(items + ([str(count(length))] if length is not None else []))})"


def _side(word: str) -> Rule:
    def rule(values: "Values", node: exp.Func) -> str:
        this, length = take(node, "this", "expression")
        return f"{word}({values.of_kind(this, *_TEXT)}, {count(length)})"

    return rule


def _replace(values: "Values", node: exp.Replace) -> str:
    this, old, new = take(node, "this", "expression", "replacement")
    return (
        f"replace({values.of_kind(this, *_TEXT)}, {spark_text(constant(old))}, {values.of_kind(new, *_TEXT)})"
    )


def _split(values: "Values", node: exp.Split) -> str:
    this, by = take(node, "this", "expression")
    return f"split({values.of_kind(this, *_TEXT)}, {spark_text(re.escape(constant(by)))})"


def _split_part(values: "Values", node: exp.SplitPart) -> str:
    this, by, part = take(node, "this", "delimiter", "part_index")
    return f"split_part({values.of_kind(this, *_TEXT)}, {spark_text(constant(by))}, {count(part, least=1)})"


def _position(values: "Values", node: exp.StrPosition) -> str:
    this, part = take(node, "this", "substr")
    return f"CAST(instr({values.of_kind(this, *_TEXT)}, {spark_text(constant(part))}) AS BIGINT)"


def _pad(values: "Values", node: exp.Pad) -> str:
    this, length, fill, left = take(node, "this", "expression", "fill_pattern", "is_left")
    word = "lpad" if left else "rpad"
    return f"{word}({values.of_kind(this, *_TEXT)}, {count(length)}, {spark_text(constant(fill))})"


def _concat(values: "Values", node: exp.Concat) -> str:
    text = values.twin.type_of("''")
    items = [f"coalesce({values.to(item, text)}, '')" for item in take(node, "expressions")[0]]
    if kind(values.type(node)) != "varchar":
        raise Refusal(shown(node), node)
    return f"concat({', '.join(items)})"


def _concat_ws(values: "Values", node: exp.ConcatWs) -> str:
    (by, *items) = take(node, "expressions")[0]
    text = values.twin.type_of("''")
    return f"concat_ws({spark_text(constant(by, empty=True))}, {', '.join(values.to(item, text) for item in items)})"


def _like(values: "Values", node: exp.Expr, escape: str = "") -> str:
    this, pattern, negate = take(node, "this", "expression", "negate")
    meant, mark = like(constant(pattern, empty=True), escape)
    word = "ILIKE" if isinstance(node, exp.ILike) else "LIKE"
    text = values.of_kind(this, *_TEXT)
    return f"({text} {'NOT ' if negate else ''}{word} {spark_text(meant)} ESCAPE {spark_text(mark)})"


def _escape(values: "Values", node: exp.Escape) -> str:
    inner, escape = take(node, "this", "expression")
    if not isinstance(inner, (exp.Like, exp.ILike)):
        raise Refusal(shown(node), node)
    return _like(values, inner, constant(escape))


# Regular expressions.


def _matches(whole: str) -> Rule:
    def rule(values: "Values", node: exp.Func) -> str:
        this, pattern, flag = take(node, "this", "expression", "flag")
        meant = java_pattern(constant(pattern, empty=True), constant(flag) if flag is not None else "")
        return f"({values.of_kind(this, *_TEXT)} RLIKE {spark_text(whole.format(meant))})"

    return rule


def _extract(values: "Values", node: exp.RegexpExtract) -> str:
    this, pattern, group, _ = take(node, "this", "expression", "group", "null_if_pos_overflow")
    meant = java_pattern(constant(pattern, empty=True))
    return f"regexp_extract({values.of_kind(this, *_TEXT)}, {spark_text(meant)}, {count(group) if group is not None else 0})"


def _exchanged(values: "Values", node: exp.RegexpReplace) -> str:
    this, pattern, new, flags, _ = take(
        node, "this", "expression", "replacement", "modifiers", "single_replace"
    )
    given = constant(flags) if flags is not None else ""
    meant = java_pattern(constant(pattern, empty=True), given.replace("g", ""))
    text, by = values.of_kind(this, *_TEXT), constant(new, empty=True)
    if "g" in given:
        return f"regexp_replace({text}, {spark_text(meant)}, {spark_text(java_replacement(by))})"
    first = rf"\A((?s:.*?))(?:{meant})"  # Spark knows no "the first only": all before it is put back
    return f"regexp_replace({text}, {spark_text(first)}, {spark_text('$1' + java_replacement(by, shift=1))})"


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


def _md5(values: "Values", node: exp.MD5) -> str:
    return f"md5(CAST({values.of_kind(take(node, 'this')[0], *_TEXT)} AS BINARY))"


def _sha256(values: "Values", node: exp.SHA2) -> str:
    this, length = take(node, "this", "length")
    return f"sha2(CAST({values.of_kind(this, *_TEXT)} AS BINARY), {count(length)})"


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
    "Lower": plain("lower({0})", _TEXT),
    "Upper": plain("upper({0})", _TEXT),
    "Length": _length,
    "ArraySize": _length,
    "Trim": _trim,
    "Substring": _substring,
    "Left": _side("left"),
    "Right": _side("right"),
    "Replace": _replace,
    "Split": _split,
    "SplitPart": _split_part,
    "StartsWith": plain("startswith({0}, {1})", _TEXT, _TEXT),
    "EndsWith": plain("endswith({0}, {1})", _TEXT, _TEXT),
    "prefix": plain("startswith({0}, {1})", _TEXT, _TEXT),
    "suffix": plain("endswith({0}, {1})", _TEXT, _TEXT),
    "Contains": _contains,
    "StrPosition": _position,
    "Pad": _pad,
    "Concat": _concat,
    "ConcatWs": _concat_ws,
    "MD5": _md5,
    "SHA2": _sha256,
    "Like": _like,
    "ILike": _like,
    "Escape": _escape,
    "RegexpLike": _matches("{}"),
    "RegexpFullMatch": _matches(r"\A(?:{})\z"),
    "RegexpExtract": _extract,
    "RegexpReplace": _exchanged,
    "Array": _array,
    "Struct": _struct,
    "Bracket": _bracket,
    "Transform": _each("transform"),
    "ArrayFilter": _each("filter"),
    "ArrayContains": _contains,
    "ArrayToString": _list_text,
    "Explode": _explode,
}
__all__ = ["RULES", "arguments", "constant", "count", "name_of", "plain"]
