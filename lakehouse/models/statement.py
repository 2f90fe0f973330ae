"""One SELECT, parsed as DuckDB's SQL; what is none is refused here, with the place where it begins to be wrong."""

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.models.place import Place

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.dialects.dialect import Dialect
    from sqlglot.errors import ParseError
    from sqlglot.tokenizer_core import Token

_NO_TEMPLATES = "There is no templating language: tables are written as in any query."
_IN_HEADER = "What `config` says goes into the header: kind, key."
_MACRO = re.compile(r"""(ref|source)\s*\(\s*['"]([^'"]*)['"]\s*(?:,\s*['"]([^'"]*)['"]\s*)?\)""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A SELECT.

    Attributes:
        sql: Its text, up to its last word: without a semicolon, and without comments after it.
        tree: The same, parsed. Offsets in it are those in `sql`.
        nodes: All that is in the tree, from the top; walking it takes longer than anything else.
        place: Where it begins.
    """

    sql: str
    tree: "exp.Expr"
    nodes: "tuple[exp.Expr, ...]"
    place: Place


def parse_statement(text: str, place: Place) -> Statement:
    """Parse a text that is one SELECT.

    Raises:
        UserError: It is empty, several statements, none that reads, of a templating language, or no SQL.
    """
    from sqlglot import exp
    from sqlglot.errors import ParseError
    from sqlglot.tokenizer_core import TokenType

    tokens = _tokens(text, place)
    _check_templates(text, tokens, place)
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    if not tokens:
        raise place.error("there is no SELECT", hint="Write one below the header.")
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            hint = "A file holds one SELECT; several in a row are written as WITH a AS (…) SELECT …"
            raise place.error_at(text, token.start, "a second statement begins after this", hint=hint)
    sql = text[: tokens[-1].end + 1]
    _check_words(sql, tokens, place)
    try:
        tree = _dialect().parser().parse(tokens, sql)[0]
        nodes = tuple(tree.walk()) if tree is not None else ()
    except ParseError as error:
        raise _unparsable(sql, error, place) from None
    except RecursionError:
        raise place.error("is nested too deeply", hint="Write its inner parts as WITH … AS.") from None
    if not isinstance(tree, exp.Query | exp.Pivot | exp.Values):
        raise _not_a_select(sql, tokens[0], place)
    _check_writes(sql, nodes, place)
    return Statement(sql=sql, tree=tree, nodes=nodes, place=place)


def _dialect() -> "Dialect":
    from sqlglot.dialects.dialect import Dialect

    return Dialect.get_or_raise("duckdb")


def _tokens(text: str, place: Place) -> "list[Token]":
    from sqlglot.errors import TokenError

    try:
        tokens: list[Token] = _dialect().tokenize(text)
    except TokenError as error:
        # The cause alone says where what is not closed was opened.
        opened = re.search(r"Missing (\S+) from \d+:(\d+)", str(error.__cause__))
        if opened:
            raise place.error_at(
                text,
                int(opened[2]),
                f"what {opened[1]} opens is never closed",
                hint=f"Close it with {opened[1]}.",
            ) from None
        start = getattr(error, "end", 0)
        raise place.error_at(
            text, start, "what stands here is no SQL", hint="Is a comment not closed?"
        ) from None
    return tokens


def _check_templates(text: str, tokens: "list[Token]", place: Place) -> None:
    from sqlglot.tokenizer_core import TokenType

    for token, after in itertools.pairwise(tokens):
        braces = token.token_type == after.token_type == TokenType.L_BRACE and after.start == token.end + 1
        if not braces and token.token_type != TokenType.BLOCK_START:
            continue
        end = re.compile(r"[%}]\}").search(text, token.end)
        written = text[token.start : end.end() if end else token.end + 1]
        macro = _MACRO.search(written)
        hint = f"Write {plain(macro[2], macro[3])} in its place. " if macro else ""
        hint = _IN_HEADER if "config" in written else f"{hint}{_NO_TEMPLATES}"
        raise place.error_at(text, token.start, f"`{' '.join(written.split())}` is dbt's, not SQL", hint=hint)


def plain(first: str, second: str | None = None) -> str:
    """What is written for dbt's `ref('x')` and `source('a', 'b')`."""
    return f"`{first}.{second}`" if second else f"`{first}`"


_ONE_SELECT = (
    "A model is one SELECT; `kind` in its header says how its result is kept, and `lakehouse build` keeps it."
)
_BEGINS = re.compile(r"(?:select|with|from|values|pivot|unpivot)\b|\(", re.IGNORECASE)


def _check_words(sql: str, tokens: "list[Token]", place: Place) -> None:
    from sqlglot.tokenizer_core import TokenType

    # `TABLE t` is a SELECT that the parser does not know, and takes for something else.
    if not _BEGINS.match(sql, tokens[0].start) and tokens[0].token_type != TokenType.TABLE:
        raise _not_a_select(sql, tokens[0], place)
    for token in tokens:
        if token.token_type == TokenType.TABLE:
            raise place.error_at(sql, token.start, "TABLE is no SELECT", hint="Write FROM in place of TABLE.")
        if token.text in ("?", "$") and token.token_type in (TokenType.PLACEHOLDER, TokenType.PARAMETER):
            hint = "A model has no parameters: write the value, or read it from a table."
            raise place.error_at(sql, token.start, f"{token.text} is a parameter", hint=hint)


def _check_writes(sql: str, nodes: "tuple[exp.Expr, ...]", place: Place) -> None:
    from sqlglot import exp

    node = next((node for node in nodes if isinstance(node, exp.DML | exp.DDL | exp.Command)), None)
    if node is not None:
        first = node.find(exp.Identifier)
        start = first.meta.get("start", 0) if first is not None else 0
        raise place.error_at(
            sql, start, f"{node.key.upper()} writes, and a model only reads", hint=_ONE_SELECT
        )


def _not_a_select(sql: str, first: "Token", place: Place) -> Exception:
    return place.error_at(sql, first.start, f"{first.text.upper()} is no SELECT", hint=_ONE_SELECT)


def _unparsable(sql: str, error: "ParseError", place: Place) -> Exception:
    about = error.errors[0] if error.errors else {}
    line, column = about.get("line") or 1, about.get("col") or 1
    begin = 0
    for _ in range(line - 1):
        begin = sql.find("\n", begin) + 1
    start = max(begin + column - len(about.get("highlight") or " "), 0)
    what = re.sub(
        r" but got <Token .*", "", about.get("description") or "it cannot be parsed", flags=re.DOTALL
    )
    hint = "References are found by parsing; if DuckDB itself takes this, say it in other words."
    if re.match(r"\s*(un)?pivot\b", sql, re.IGNORECASE):
        hint = "What comes after a PIVOT goes around it: FROM (PIVOT …) ORDER BY …"
    return place.error_at(sql, min(start, len(sql)), f"this is no SQL that can be read: {what}", hint=hint)
