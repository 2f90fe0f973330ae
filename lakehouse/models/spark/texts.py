"""Functions of DuckDB over text, and its patterns, written for Spark."""

import re
from typing import TYPE_CHECKING

from sqlglot import exp

from lakehouse.duck.names import literal
from lakehouse.models.spark.functions import Rule, arguments, constant, count, plain
from lakehouse.models.spark.kinds import kind, spark_text
from lakehouse.models.spark.patterns import java_pattern, java_replacement, like
from lakehouse.models.spark.trouble import Refusal
from lakehouse.models.spark.values import shown, take

if TYPE_CHECKING:
    from lakehouse.models.spark.values import Values

_TEXT = ("varchar",)
# What DuckDB trims: the space separators of Unicode, and not the tab.
_SPACES = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"


# Text.


def _cased(values: "Values", this: exp.Expr, function: str) -> str:
    """Letter by letter as DuckDB has it: Java makes two of one (`ß`), looks at what is around, knows newer letters."""
    before, after = values.twin.letters(function)
    return f"translate({values.of_kind(this, *_TEXT)}, {spark_text(before)}, {spark_text(after)})"


def _trim(values: "Values", node: exp.Trim) -> str:
    this, chars, position = take(node, "this", "expression", "position")
    side = str(position or "BOTH").upper()
    what = spark_text(constant(chars) if chars is not None else _SPACES)
    return f"trim({side} {what} FROM {values.of_kind(this, *_TEXT)})"


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
    text = values.of_kind(this, *_TEXT)
    if isinstance(node, exp.ILike):
        text, meant = _cased(values, this, "lower"), values.twin.value_of(f"lower({literal(meant)})") or ""
    return f"({text} {'NOT ' if negate else ''}LIKE {spark_text(meant)} ESCAPE {spark_text(mark)})"


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


def _md5(values: "Values", node: exp.MD5) -> str:
    return f"md5(CAST({values.of_kind(take(node, 'this')[0], *_TEXT)} AS BINARY))"


def _sha256(values: "Values", node: exp.SHA2) -> str:
    this, length = take(node, "this", "length")
    return f"sha2(CAST({values.of_kind(this, *_TEXT)} AS BINARY), {count(length)})"


RULES: dict[str, Rule] = {
    "Lower": lambda values, node: _cased(values, take(node, "this")[0], "lower"),
    "Upper": lambda values, node: _cased(values, take(node, "this")[0], "upper"),
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
}
