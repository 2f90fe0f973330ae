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
        place: Where it begins.
    """

    sql: str
    tree: "exp.Expr"
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
    _check_begins(sql, tokens[0], place)
    try:
        tree = _dialect().parser().parse(tokens, sql)[0]
    except ParseError as error:
        raise _unparsable(sql, error, place) from None
    if not isinstance(tree, exp.Query | exp.Pivot | exp.Values):
        raise _not_a_select(sql, tokens[0], place)
    return Statement(sql=sql, tree=tree, place=place)


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


_BEGINS = re.compile(r"(?:select|with|from|values|pivot|unpivot)\b|\(", re.IGNORECASE)


def _check_begins(sql: str, first: "Token", place: Place) -> None:
    if not _BEGINS.match(sql, first.start):
        raise _not_a_select(sql, first, place)


def _not_a_select(sql: str, first: "Token", place: Place) -> Exception:
    word = first.text.upper()
    hint = "A model is one SELECT; `kind` in its header says how its result is kept, and `lakehouse build` keeps it."
    if word == "TABLE":
        hint = f"Write FROM in place of {word}."
    return place.error_at(sql, first.start, f"{word} is no SELECT", hint=hint)


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
    return place.error_at(
        sql,
        min(start, len(sql)),
        f"this is no SQL that can be read: {what}",
        hint="References are found by parsing; if DuckDB itself takes this, say it in other words.",
    )
