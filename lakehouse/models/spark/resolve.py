"""The names of a SELECT, resolved: every column with its table, no star, no position, no alias in a condition.

It is done by sqlglot. That DuckDB takes what comes of it for the same query is checked by the plans that it
makes of both; so nothing that was understood in another way goes on from here.
"""

from dataclasses import dataclass, field

from sqlglot import exp, parse
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify

from lakehouse.models.model import SOURCE
from lakehouse.models.spark import aggregates, functions, moments, operators, texts
from lakehouse.models.spark.kinds import kind
from lakehouse.models.spark.trouble import Refusal
from lakehouse.models.spark.twin import Columns, Twin
from lakehouse.models.spark.values import name_of, shown

# Its names are lower-cased here, as far as DuckDB takes no notice of case: in ASCII letters.
_DIALECT = "duckdb,normalization_strategy=case_sensitive"
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LOWERED = str.maketrans(_UPPER, _UPPER.lower())
_FORMS = "Build it with DuckDB, or read the table itself."


@dataclass(slots=True)
class Tables:
    """The tables that a SELECT may read.

    Attributes:
        columns: Their columns, by `(schema, name)` in lower case.
        views: What Spark knows them as.
    """

    columns: dict[tuple[str, str], Columns] = field(default_factory=dict)
    views: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, schema: str, name: str, columns: Columns, view: str) -> None:
        """Make a table known."""
        at = (lowered(schema), lowered(name))
        self.columns[at] = {lowered(column): of for column, of in columns.items()}
        self.views[at] = view

    def has(self, schema: str, name: str) -> bool:
        """Whether a table is known."""
        return (lowered(schema), lowered(name)) in self.columns


def lowered(name: str) -> str:
    """A name as DuckDB compares it."""
    return name.translate(_LOWERED)


def resolved(sql: str, twin: Twin, tables: Tables) -> exp.Expr:
    """A SELECT for DuckDB with its names resolved.

    Args:
        sql: The SELECT.
        twin: Knows the same tables.
        tables: What it may read.

    Raises:
        Refusal: It has something without a rule for Spark, or its names could not be resolved.
    """
    import duckdb

    tree = _parsed(sql)
    _refuse_early(tree)
    for match in list(tree.find_all(exp.RegexpFullMatch)):
        if "line" not in match.meta:  # `~`, which is no full match any more since DuckDB 2.0
            match.replace(exp.RegexpLike(this=match.this, expression=match.expression))
    for log in list(tree.find_all(exp.Log)):
        if log.expression and log.this.name in {"2", "10"}:  # not written as it was
            log.replace(exp.Anonymous(this=f"log{log.this.name}", expressions=[log.expression]))
    for name in tree.find_all(exp.Identifier):
        name.set("this", lowered(name.this))
    for node in tree.find_all(exp.Coalesce):
        node.meta["written"] = True
    try:
        tree = qualify(
            _all_named(tree),
            dialect=_DIALECT,
            schema=_schema(tables),
            db=SOURCE,
            validate_qualify_columns=False,
            identify=True,
        )
    except SqlglotError as error:
        raise Refusal(f"its names could not be resolved ({error})", None) from None
    _without_doubles(tree)
    try:
        same = twin.is_one_query(sql, tree.sql("duckdb"))
    except duckdb.Error as error:
        raise Refusal(f"its names could not be resolved ({str(error).splitlines()[0]})") from None
    if not same:
        raise Refusal(
            "its names could not be resolved as DuckDB does",
            hint="Write the table before every column (t.column), and ON in the place of USING.",
        )
    return tree


def _parsed(sql: str) -> exp.Expr:
    try:
        found = [tree for tree in parse(sql, dialect=_DIALECT) if tree is not None]
    except SqlglotError as error:
        raise Refusal(f"its SQL was not understood ({str(error).splitlines()[0]})") from None
    if len(found) != 1 or not isinstance(found[0], exp.Query):
        raise Refusal("it is not one SELECT")
    return found[0]


def _refuse_early(tree: exp.Expr) -> None:
    """What would not survive the resolving of names."""
    for node in tree.find_all(exp.Columns, exp.Pivot, exp.Lateral, exp.Unnest, exp.TableSample):
        raise Refusal(f"{shown(node)}: it is not known to mean the same in Spark", node)
    for join in tree.find_all(exp.Join):
        if join.args.get("method"):
            raise Refusal(f"a {join.args['method']} join", join)
    for node in tree.find_all(exp.With):
        if node.args.get("recursive"):
            raise Refusal("a recursive WITH", node)
    known = {*operators.RULES, *texts.RULES, *functions.RULES, *moments.RULES, *aggregates.RULES}
    for call in tree.find_all(exp.Func):
        if name_of(call) not in known and not isinstance(call, aggregates.WINDOWS):
            raise Refusal(f"{shown(call)}: it is not known to mean the same in Spark", call)
    for node in tree.find_all(exp.Table):
        if not isinstance(node.this, exp.Identifier):
            raise Refusal(f"the table function {shown(node.this)}", node, _FORMS)


def _all_named(tree: exp.Expr) -> exp.Expr:
    """GROUP BY ALL and ORDER BY ALL with what they stand for: positions of the SELECT's items."""
    for select in tree.find_all(exp.Select):
        group, order = select.args.get("group"), select.args.get("order")
        if group is not None and group.args.get("all") is True:
            if any(item.is_star for item in select.expressions):
                raise Refusal("GROUP BY ALL beside *", group)
            keys = [str(at) for at, item in enumerate(select.expressions, 1) if not _has_aggregate(item)]
            select.set(
                "group", exp.Group(expressions=[exp.Literal.number(key) for key in keys]) if keys else None
            )
        if order is not None and any(_is_all(item.this) for item in order.expressions):
            if len(order.expressions) > 1 or any(item.is_star for item in select.expressions):
                raise Refusal(shown(order), order)
            (only,) = order.expressions
            items = [only.copy() for _ in select.expressions]
            for at, item in enumerate(items, 1):
                item.set("this", exp.Literal.number(at))
            select.set("order", exp.Order(expressions=items))
    return tree


def _is_all(node: exp.Expr) -> bool:
    return isinstance(node, exp.Column) and not node.table and node.name == "all" and not node.this.quoted


def _has_aggregate(node: exp.Expr) -> bool:
    found = node.find_all(exp.AggFunc, exp.Anonymous)
    return any(
        not isinstance(each.parent, exp.Window)
        and each.find_ancestor(exp.Subquery) is node.find_ancestor(exp.Subquery)
        for each in found
        if isinstance(each, exp.AggFunc) or str(each.this).lower() in {"mean", "arg_max_null", "arg_min_null"}
    )


def _schema(tables: Tables) -> dict[str, object]:
    schema: dict[str, dict[str, dict[str, str]]] = {}
    for (source, name), columns in tables.columns.items():
        # Of a column's type only whether it has fields matters.
        schema.setdefault(source, {})[name] = {
            c: "STRUCT" if kind(t) == "struct" else "TEXT" for c, t in columns.items()
        }
    return dict(schema)


def _without_doubles(tree: exp.Expr) -> None:
    """`USING (a)` gives `a` of the left side, or of the right of a right join; of both only in a full join."""
    for node in list(tree.find_all(exp.Coalesce)):
        if node.meta.get("written") or not isinstance(node.this, exp.Column):
            continue
        select = node.find_ancestor(exp.Select)
        sides = {
            str(join.args.get("side") or "").upper()
            for join in (select.args.get("joins") or [] if select else [])
        }
        if sides <= {"", "LEFT"}:
            node.replace(node.this.copy())
        elif sides == {"RIGHT"}:
            node.replace(node.expressions[-1].copy())
