"""What tables a SELECT reads: found in its text, resolved to the names of the lake, each with its place.

There is no templating language. Every name in a FROM is a table of the lake, a model or a CTE; files and
functions that read behind the text are refused, as what they read would have no history.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from lakehouse.models.model import SOURCE, Reference
from lakehouse.models.names import LAKE, Named, Resolver, form_of
from lakehouse.models.place import Place
from lakehouse.models.statement import Statement, parse_statement, plain

if TYPE_CHECKING:
    from sqlglot import exp

_FILE = re.compile(
    r"[/*?\\]|://|\.(csv|tsv|txt|json|jsonl|ndjson|parquet|xlsx|gz|zst|db|duckdb|sqlite)$", re.IGNORECASE
)
_READS_FILES = re.compile(
    r"read_\w+|sniff_csv|glob|parquet_\w+|st_read\w*|\w+_scan(_pushdown)?|\w+_query|\w+_attach", re.IGNORECASE
)
_READS_UNSEEN = re.compile(r"query|query_table|histogram|histogram_values", re.IGNORECASE)
_READS_SESSION = re.compile(r"(duckdb|pragma)_\w+|which_secret", re.IGNORECASE)
_THROUGH_A_LOAD = "Data comes in through a load, so that it has a history: write a scraper, or use `lakehouse import`, and read its table."


def references(
    sql: str,
    *,
    models: Collection[str],
    tables: Callable[[], Collection[str]],
    where: Place,
    itself: str = "",
) -> tuple[Reference, ...]:
    """The tables that a SELECT reads, in order of appearance.

    Args:
        sql: The SELECT.
        models: Names of all models.
        tables: All tables of the lake as `source.table`; asked for only if one is read.
        where: Where the SELECT stands.
        itself: Name of the model that it is of.

    Raises:
        UserError: It is no SELECT, reads a table that is not there, or one that has no history; with file,
            line and column.
    """
    return references_of(parse_statement(sql, where), models=models, tables=tables, itself=itself)


def references_of(
    statement: Statement, *, models: Collection[str], tables: Callable[[], Collection[str]], itself: str = ""
) -> tuple[Reference, ...]:
    """Like `references`, for a SELECT that is parsed already."""
    resolver = Resolver(models=models, tables=tables, itself=itself)
    _check_macros(statement)
    named = list(written(statement))
    found = []
    for table in named:
        resolved = resolver.resolve(table.schema, table.name, called=table.called)
        if resolved is None and table.called and not table.schema and not form_of(table.name):
            continue  # a table function, of arguments alone
        if resolved is None or resolved.name.lower() == f"{SOURCE}.{itself}".lower():
            text = statement.sql[table.start : table.end]
            message, hint = resolver.trouble(table, text)
            raise statement.place.error_at(statement.sql, table.start, message, hint=hint)
        found.append(replace(resolved, start=table.start, end=table.end, alias=table.alias))
    _check_columns(statement, named)
    _check_aliases(statement, named)
    return tuple(found)


def written(statement: Statement) -> Iterator[Named]:
    """The names in all FROMs of a SELECT that are no CTEs, in order of appearance.

    Raises:
        UserError: One is a file, or a function that reads what its text does not say.
    """
    from sqlglot import exp

    nodes = [node for node in statement.nodes if isinstance(node, exp.Table) and not _is_cte(node)]
    named = [found for node in nodes if (found := _named(node, statement)) is not None]
    yield from sorted(named, key=lambda table: table.start)


def table_of(node: "exp.Table", resolver: Resolver) -> Reference | None:
    """What a table of a parsed SELECT is in the lake; None for a CTE, a table function, or what is not there.

    Args:
        node: The table, in its tree.
        resolver: What there is.
    """
    from sqlglot import exp

    called = not isinstance(node.this, exp.Identifier)
    if (
        node.catalog
        or (not called and _is_cte(node))
        or (called and not isinstance(node.this, exp.Anonymous))
    ):
        return None
    return resolver.resolve(node.db, node.this.name, called=called)


def _named(node: "exp.Table", statement: Statement) -> Named | None:
    """A table as it is written; None for a table function that cannot be one."""
    from sqlglot import exp

    parts = [part for part in node.parts if part is not None]
    spans = [(part.meta["start"], part.meta["end"] + 1) for part in parts if "start" in part.meta]
    called = not isinstance(node.this, exp.Identifier | exp.Dot)
    if len(spans) < len(parts):
        return None
    start, end = spans[0][0], spans[-1][1]
    name = node.this.name
    if called:  # functions that sqlglot knows have names of their own there
        first = spans[-1][0]
        name = _unquoted(statement.sql[first:end])
    table = Named(node.db, name, called, start, end, bool(node.alias))
    if isinstance(node.parent, exp.Describe | exp.Summarize):
        word = node.parent.key.upper()
        hint = f"Write {word} FROM {statement.sql[start:end]}."
        raise statement.place.error_at(statement.sql, start, f"{word} wants a FROM here", hint=hint)
    _check_source(node, table, statement)
    return table


def _unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def _check_source(node: "exp.Table", table: Named, statement: Statement) -> None:
    """Refuse what is read around the lake."""
    sql, place = statement.sql, statement.place
    text = sql[table.start : table.end]
    if text.startswith("'") or (not table.schema and not table.called and _FILE.search(table.name)):
        raise place.error_at(
            sql, table.start, f"{text} is a file, not a table of the lake", hint=_THROUGH_A_LOAD
        )
    if table.called and not table.schema:
        _check_function(table, statement)
    if node.catalog:
        short = text.split(".", 1)[1] if node.catalog.lower() == LAKE else "source.table"
        short = f"{LAKE}.{table.name}" if table.schema.lower() == "main" else short
        raise place.error_at(sql, table.start, f"{text} names a database as well", hint=f"Write {short}.")


def _check_function(table: Named, statement: Statement) -> None:
    sql, place, name = statement.sql, statement.place, table.name
    if _READS_FILES.fullmatch(name):
        raise place.error_at(sql, table.start, f"{name}(…) reads files, not the lake", hint=_THROUGH_A_LOAD)
    if _READS_UNSEEN.fullmatch(name):
        hint = "Write the table's name in FROM: what a model reads is found in its text."
        raise place.error_at(
            sql, table.start, f"{name}(…) reads a table that its text does not show", hint=hint
        )
    if _READS_SESSION.fullmatch(name):
        hint = "It would differ from session to session. About the lake: lakehouse.tables, lakehouse.columns, lakehouse.loads."
        raise place.error_at(sql, table.start, f"{name}(…) tells of a session, not of the lake", hint=hint)


def _is_cte(node: "exp.Table") -> bool:
    """Whether a name means a CTE that it can see, as DuckDB has it."""
    from sqlglot import exp

    if node.catalog or not isinstance(node.this, exp.Identifier):
        return False
    schema, name = node.db.lower(), node.name.lower()
    if schema not in ("", "recurring") or node.this.meta.get("start") is None:
        return False
    inner: exp.Expr = node
    while inner.parent is not None:
        outer = inner.parent
        ctes = outer.args.get("with_")
        if isinstance(outer, exp.With):
            # A CTE sees those before it; and itself, where it recurs.
            mine = next(at for at, cte in enumerate(outer.expressions) if cte is inner)
            before = outer.expressions[:mine]
            if not schema and _has(before, name):
                return True
            if outer.recursive and inner.alias.lower() == name and _recurs(inner.this, node):
                return True
        elif isinstance(ctes, exp.With) and inner is not ctes and not schema and _has(ctes.expressions, name):
            return True
        inner = outer
    return False


def _has(ctes: "list[exp.Expr]", name: str) -> bool:
    return any(cte.alias.lower() == name for cte in ctes)


def _recurs(body: "exp.Expr", node: "exp.Expr") -> bool:
    """Whether a name inside a recursive CTE's body means the CTE: on the right of its UNION alone."""
    from sqlglot import exp

    top = body.unnest()
    # INTERSECT binds more tightly than UNION, which sqlglot does not know.
    while isinstance(top, exp.Intersect) and isinstance(top.this, exp.SetOperation):
        top = top.this
    if not isinstance(top, exp.Union) or top.args.get("by_name"):
        return False
    inner: exp.Expr | None = node
    while inner is not None and inner is not top:
        if inner is top.this:
            return False
        inner = inner.parent
    return True


def _check_macros(statement: Statement) -> None:
    """Refuse dbt's `ref('x')` and `source('a', 'b')`, saying what to write."""
    from sqlglot import exp

    for call in statement.nodes:
        if not isinstance(call, exp.Anonymous):
            continue
        name = call.name.lower()
        texts = [a.name for a in call.expressions if isinstance(a, exp.Literal | exp.Column)]
        if name in ("ref", "source") and texts and len(texts) == len(call.expressions):
            first, second = (texts[-1], None) if name == "ref" else (texts[0], texts[-1])
            raise statement.place.error_at(
                statement.sql,
                call.meta.get("start", 0),
                f"{name}(…) is dbt's, not SQL",
                hint=f"Write {plain(first, second)} in its place: tables are written as in any query.",
            )


def _check_columns(statement: Statement, named: Collection[Named]) -> None:
    """Refuse columns with a schema in front: as of a moment the table has another name."""
    from sqlglot import exp

    tables = {(t.schema.lower(), t.name.lower()) for t in named if t.schema}
    hidden = {node.name.lower() for node in statement.nodes if isinstance(node, exp.TableAlias)}
    tables = {pair for pair in tables if pair[0] not in hidden}
    if not tables:
        return
    for node in statement.nodes:
        parts = _parts(node) if isinstance(node, exp.Column | exp.Dot) else []
        if len(parts) < 3 or (parts[0].name.lower(), parts[1].name.lower()) not in tables:  # noqa: PLR2004
            continue
        start, end = parts[0].meta["start"], parts[1].meta["end"] + 1
        short = statement.sql[parts[1].meta["start"] : end]
        raise statement.place.error_at(
            statement.sql,
            start,
            f"a column of {statement.sql[start:end]} is named with its schema",
            hint=f"Write {short}.{parts[2].name}, or give the table an alias: a model is also read as of other moments, "
            "when its tables have other schemas.",
        )


def _check_aliases(statement: Statement, named: Collection[Named]) -> None:
    """Refuse two tables of one name in one FROM: they differ by their schemas alone, which other moments lack."""
    from sqlglot import exp

    plain_at = {table.start: table for table in named if not table.alias}
    seen: dict[tuple[int, str], exp.Expr] = {}
    for node in statement.nodes:
        if not isinstance(node, exp.Table | exp.Subquery):
            continue
        name = (node.alias or (node.name or node.this.name if isinstance(node, exp.Table) else "")).lower()
        key = (id(node.find_ancestor(exp.Select)), name)
        first = seen.setdefault(key, node)
        if first is node or not name:
            continue
        starts = [start for one in (node, first) if (start := _start(one)) in plain_at]
        if starts:
            table = plain_at[max(starts)]
            text = statement.sql[table.start : table.end]
            hint = f"Give one an alias: {text} AS …"
            raise statement.place.error_at(
                statement.sql, table.start, f"two tables are called {table.name} here", hint=hint
            )


def _start(node: "exp.Expr") -> int:
    """Where the name of a table begins; -1 for what has none."""
    from sqlglot import exp

    first = next(iter(node.parts), None) if isinstance(node, exp.Table) else None
    return int(first.meta.get("start", -1)) if first is not None else -1


def _parts(node: "exp.Expr") -> "list[exp.Expr]":
    """The names of `a.b.c`, with what may be called on them."""
    from sqlglot import exp

    if isinstance(node, exp.Dot):
        return [*_parts(node.this), node.expression]
    return list(node.parts) if isinstance(node, exp.Column) else [node]
