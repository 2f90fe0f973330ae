"""Which SQL only reads: what a session lets through.

A catalog opened read-only, and folders that may be read, keep nothing from being written: DuckDB writes files in
any folder that it may read. So statements are looked at before they run.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb

from lakehouse.duck.trouble import plain
from lakehouse.errors import QueryError

_EXPLAIN = re.compile(r"\s*explain\s+(?:analyze\s+)?(?:\([^)]*\)\s*)?", re.IGNORECASE)
_QUERY = re.compile(r"(?:un)?pivot(?:_wider|_longer)?\b|with\b|from\b|select\b|\(", re.IGNORECASE)
_WRITES = {"copy", "delete", "insert", "update"}  # what may stand in WITH instead of a query
_RUNS = {"query", "json_execute_serialized_sql"}  # functions that run SQL that only they have seen


def check_is_query(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Let one SELECT (or EXPLAIN of one) through that reads and nothing else; returns its text alone.

    Args:
        connection: Any connection: nothing of the SQL is run.
        sql: The SQL.

    Raises:
        QueryError: It is not one query, or something in it writes.
    """
    try:
        found = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(plain(error)) from None
    if len(found) != 1:
        raise QueryError(f"{len(found)} statements where one query is expected", hint="Give one SELECT.")
    kind, text = found[0].type, _without_end(found[0].query.strip())
    explains = kind in {duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI}
    if explains and _EXPLAIN.match(text):
        check_is_query(connection, _EXPLAIN.sub("", text, count=1))
        return text
    pivot = kind == duckdb.StatementType.MULTI and _QUERY.match(text)  # MULTI is also a COPY of a PIVOT
    if kind != duckdb.StatementType.SELECT and not pivot:
        raise QueryError(
            f"{kind.name} is not a query; the lake is read-only here",
            hint="Give one SELECT. To keep a result: lakehouse query -o FILE. To add data: a load.",
        )
    tree = serialized(connection, text)
    if tree.get("error"):  # a PIVOT, for one, has no tree
        _check_tokens(text)
    else:
        _check_tree(connection, tree)
    return text


def serialized(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    """What DuckDB understands a SELECT to be, as a tree; one with a true `error` where it makes none."""
    found = connection.execute("SELECT json_serialize_sql($1::VARCHAR)", [sql]).fetchall()
    tree: dict[str, Any] = json.loads(found[0][0])
    return tree


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All objects in a JSON value."""
    todo = [tree]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            yield value
            todo += value.values()
        elif isinstance(value, list):
            todo += value


def written(node: Mapping[str, Any]) -> str:
    """The statement that a node of a tree is if it writes, such as `COPY`; else empty."""
    kind = str(node.get("type"))  # of what is cast, that is an object
    return kind.removesuffix("_QUERY_NODE") if kind.endswith("_QUERY_NODE") else ""


def _check_tree(connection: duckdb.DuckDBPyConnection, tree: dict[str, Any]) -> None:
    for node in nodes(tree):
        if statement := written(node):
            raise _refused(statement)
        if node.get("type") == "TABLE_FUNCTION":
            name = str(node["function"]["qualified_name"]["path"][-1]).lower()
            given = [_text(argument["expression"]) for argument in node["function"]["arguments"]]
            if name == "query" and len(given) == 1 and given[0]:
                check_is_query(connection, given[0])
            elif name in _RUNS:
                raise _opaque(name)


def _text(expression: Mapping[str, Any]) -> str:
    """A text that is written out; empty for any other expression."""
    value = expression.get("literal") or {}
    return str(value.get("text") or "") if value.get("kind") == "STRING" else ""


def _check_tokens(text: str) -> None:
    """The same by the words alone: stricter, since a column may have the name of a statement."""
    # DuckDB's parser takes any space of Unicode for one and its tokenizer does not; nor are bytes letters.
    text = "".join(char if char.isascii() else "x" if char.isalnum() else " " for char in text)
    starts = [(at, kind) for at, kind in duckdb.tokenize(text) if kind != duckdb.token_type.comment]
    ends = [at for at, _ in starts[1:]] + [len(text)]
    words = [_word(text[at:end]) for (at, _), end in zip(starts, ends, strict=True)]
    plain_word = [kind != duckdb.token_type.string_const for _, kind in starts]
    for before, word, is_plain in zip(words, words[1:], plain_word[1:], strict=False):
        if is_plain and word in _WRITES and before in {"(", ")"}:
            raise _refused(word.upper(), hint=f'Is it a column? Write it in quotes: "{word}".')
    for word, after in itertools.pairwise(words):
        if word.strip('"') in _RUNS and after == "(":
            raise _opaque(word)


def _word(token: str) -> str:
    """A token without what follows it: its end is not told, only where the next one begins."""
    return re.split(r"\s|--|/\*", token, maxsplit=1)[0].lower()


def _refused(statement: str, hint: str = "") -> QueryError:
    hint = hint or "Give one SELECT. To keep a result: lakehouse query -o FILE. To add data: a load."
    return QueryError(f"{statement} inside a query writes; the lake is read-only here", hint=hint)


def _opaque(function: str) -> QueryError:
    return QueryError(
        f"{function}() runs SQL that cannot be looked at first; the lake is read-only here",
        hint="Give the SQL itself.",
    )


def _without_end(text: str) -> str:
    """A statement without the semicolon that ends it, and without comments after that."""
    raw = text.encode()
    offsets = [at for at, kind in duckdb.tokenize(text) if kind != duckdb.token_type.comment]
    return raw[: offsets[-1]].decode() if raw[offsets[-1] :].startswith(b";") else text
