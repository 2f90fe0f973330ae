"""A model's SELECT, written for DuckDB, as one for Spark.

What the parts of a SELECT become is written here, after `resolve.py` resolved its names; for expressions see `values.py`.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from lakehouse.models.model import SOURCE
from lakehouse.models.spark.aggregates import ordered
from lakehouse.models.spark.functions import count
from lakehouse.models.spark.kinds import spark_name
from lakehouse.models.spark.resolve import Tables, resolved
from lakehouse.models.spark.trouble import Refusal
from lakehouse.models.spark.twin import Columns, Twin
from lakehouse.models.spark.values import Names, Values, shown, take

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

_JOINS = {
    "": "INNER",
    "INNER": "INNER",
    "CROSS": "CROSS",
    "SEMI": "LEFT SEMI",
    "ANTI": "LEFT ANTI",
    "OUTER": "",
}


def translated(sql: str, twin: Twin, tables: Tables) -> tuple[str, Columns]:
    """A SELECT for Spark, and the columns that it gives.

    Args:
        sql: The SELECT for DuckDB.
        twin: Knows the same tables.
        tables: What it may read.

    Raises:
        Refusal: Something in it is not known to mean the same in Spark.
    """
    return _Queries(twin, tables).query(resolved(sql, twin, tables), Names())


class _Queries:
    """Writes queries."""

    def __init__(self, twin: Twin, tables: Tables) -> None:
        self._twin = twin
        self._tables = tables
        self._ctes: list[Mapping[str, tuple[str, Columns]]] = []
        self._numbers = itertools.count(1)

    def query(self, node: exp.Expr, outer: Names) -> tuple[str, Columns]:
        """A query's text and columns."""
        if isinstance(node, exp.Subquery):
            take(node, "this")
            return self.query(node.this, outer)
        named, text = self._with(node, outer)
        self._ctes.append(named)
        try:
            if isinstance(node, exp.SetOperation):
                body, columns = self._set(node, outer)
            elif isinstance(node, exp.Select):
                body, columns = self._select(node, outer)
            else:
                raise Refusal(shown(node), node)
        finally:
            self._ctes.pop()
        return text + body, columns

    def _with(self, node: exp.Expr, outer: Names) -> tuple[Mapping[str, tuple[str, Columns]], str]:
        found = node.args.get("with_") or node.args.get("with")
        named: dict[str, tuple[str, Columns]] = {}
        if found is None:
            return named, ""
        texts = []
        self._ctes.append(named)
        for cte in found.expressions:
            this, alias, _ = take(cte, "this", "alias", "materialized")
            text, columns = self.query(this, outer)
            name = f"lake_with_{next(self._numbers)}"
            named[alias.name] = (name, columns)
            texts.append(f"{name} AS ({text})")
        self._ctes.pop()
        return named, f"WITH {', '.join(texts)} "

    def _set(self, node: exp.SetOperation, outer: Names) -> tuple[str, Columns]:
        left, right, distinct, order, *rest = take(
            node, "this", "expression", "distinct", "order", "limit", "offset", "with_", "with"
        )
        limit, offset = rest[:2]
        one, first = self.query(left, outer)
        two, second = self.query(right, outer)
        if len(first) != len(second):
            raise Refusal(shown(node), node)
        columns = {
            name: self._shared(a, b) for (name, a), b in zip(first.items(), second.values(), strict=True)
        }
        word = type(node).__name__.upper() + ("" if distinct else " ALL")
        sides = (self._cast_all(text, have, columns) for text, have in ((one, first), (two, second)))
        text = f" {word} ".join(f"({side})" for side in sides)
        writer = Values(self._twin, Names(outputs=columns, outer=outer), self.query)
        return text + self._tail(writer, order, limit, offset), columns

    def _shared(self, one: "DuckDBPyType", two: "DuckDBPyType") -> "DuckDBPyType":
        return self._twin.type_of(f"(SELECT CAST(NULL AS {one}) UNION ALL SELECT CAST(NULL AS {two}))")

    def _cast_all(self, text: str, have: Columns, want: Columns) -> str:
        from lakehouse.models.spark.casts import cast

        if [str(t) for t in have.values()] == [str(t) for t in want.values()]:
            return text
        items = [
            f"{cast(spark_name(name), of, new)} AS {spark_name(name)}"
            for (name, of), new in zip(have.items(), want.values(), strict=True)
        ]
        return f"SELECT {', '.join(items)} FROM ({text}) AS lake_side"

    def _select(self, node: exp.Select, outer: Names) -> tuple[str, Columns]:
        parts = take(
            node, "expressions", "from_", "from", "joins", "where", "group", "having", "qualify", "windows", "distinct",
            "order", "limit", "offset", "with_", "with",
        )  # fmt: skip
        items, joins, where, group, having, qualify_by = parts[0], parts[3] or [], *parts[4:8]
        windows, distinct, order, limit, offset = parts[8:13]
        if windows:
            _spread_windows(node)
        names = Names(tables={}, aliases={}, outer=outer)
        source = self._from(parts[1] or parts[2], joins, names)
        writer = Values(self._twin, names, self.query)
        columns = {item.alias_or_name: writer.type(item.unalias()) for item in items}
        if len(columns) < len(items):
            raise Refusal("two columns of one name", node, "Give each a name of its own.")
        listed = [f"{writer.text(item.unalias())} AS {spark_name(item.alias_or_name)}" for item in items]
        body = self._where(writer, where, group, having)
        inner = Values(
            self._twin,
            Names(tables=names.tables, aliases=names.aliases, outputs=columns, outer=outer),
            self.query,
        )
        if distinct is not None and distinct.args.get("on") is not None:
            raise Refusal(
                "DISTINCT ON", distinct, "Write QUALIFY row_number() OVER (PARTITION BY … ORDER BY …) = 1."
            )
        word = "SELECT DISTINCT" if distinct is not None else "SELECT"
        if qualify_by is None:
            return (
                f"{word} {', '.join(listed)}{source}{body}{self._tail(inner, order, limit, offset)}",
                columns,
            )
        listed.append(f"{writer.of_kind(qualify_by.this, 'boolean')} AS lake_qualifies")
        hidden: Columns = {}
        if limit is not None and order is not None:
            order = self._hidden(writer, order, columns, listed, hidden)
            if hidden and distinct is not None:
                raise Refusal(f"{shown(order)} beside DISTINCT and QUALIFY", order)
        kept = ", ".join(spark_name(name) for name in columns)
        outside = Values(self._twin, Names(outputs={**columns, **hidden}, outer=outer), self.query)
        tail = self._tail(outside, order, limit, offset)
        return (
            f"{word} {kept} FROM (SELECT {', '.join(listed)}{source}{body}) AS lake_all WHERE lake_qualifies{tail}",
            columns,
        )

    def _hidden(
        self, writer: Values, order: exp.Order, columns: Columns, listed: list[str], hidden: Columns
    ) -> exp.Order:
        """ORDER BY for outside of a query that is filtered once more: what it orders by gets names in there."""
        order = order.copy()
        for at, item in enumerate(order.expressions):
            if isinstance(item.this, exp.Column) and not item.this.table and item.this.name in columns:
                continue
            name = f"lake_order_{at}"
            hidden[name] = writer.type(item.this)
            listed.append(f"{writer.text(item.this)} AS {name}")
            item.set("this", exp.column(name))
        return order

    def _where(self, writer: Values, where: Any, group: Any, having: Any) -> str:
        text = f" WHERE {writer.of_kind(where.this, 'boolean')}" if where is not None else ""
        if group is not None:
            (keys,) = take(group, "expressions")
            text += f" GROUP BY {', '.join(writer.text(key) for key in keys)}"
        return text + (f" HAVING {writer.of_kind(having.this, 'boolean')}" if having is not None else "")

    def _tail(self, writer: Values, order: Any, limit: Any, offset: Any) -> str:
        """ORDER BY where LIMIT needs it; results have no order of their own."""
        if limit is None and offset is None:
            return ""
        if order is None:
            raise Refusal(
                "LIMIT without ORDER BY: which rows it keeps depends on how they happen to lie",
                limit or offset,
            )
        items = ", ".join(ordered(writer, item) for item in order.expressions)
        text = f" ORDER BY {items}"
        if limit is not None:
            (rows,) = take(limit, "expression")
            text += f" LIMIT {count(rows)}"
        return text + (f" OFFSET {count(take(offset, 'expression')[0])}" if offset is not None else "")

    def _from(self, node: Any, joins: Iterable[exp.Join], names: Names) -> str:
        if node is None:
            return ""
        text = f" FROM {self._source(take(node, 'this')[0], names)}"
        for join in joins:
            this, side, how, on = take(join, "this", "side", "kind", "on")
            source = self._source(this, names)
            word = f"{side} OUTER" if side else _JOINS.get(str(how or "").upper())
            if word is None or (side and str(how or "").upper() not in {"", "OUTER"}):
                raise Refusal(f"a join of the kind {how or side}", join)
            word = word or "INNER"
            if on is None:
                word = "CROSS" if word == "INNER" else word
            writer = Values(self._twin, names, self.query)
            text += f" {word} JOIN {source}" + (
                f" ON {writer.of_kind(on, 'boolean')}" if on is not None else ""
            )
        return text

    def _source(self, node: exp.Expr, names: Names) -> str:
        alias = node.alias_or_name
        if isinstance(node, exp.Table):
            take(node, "this", "db", "catalog", "alias")
            text, columns = self._table(node)
        elif isinstance(node, exp.Subquery):
            this, _ = take(node, "this", "alias")
            inner, columns = self.query(this, names.outer or Names())
            text = f"({inner})"
        else:
            raise Refusal(f"{shown(node)} in FROM", node)
        if alias in names.tables:
            raise Refusal(f"two tables of the name {alias}", node)
        names.tables[alias] = columns  # type: ignore[index]  # ours, and being filled
        names.aliases[alias] = name = f"lake_{next(self._numbers)}"  # type: ignore[index]
        return f"{text} AS {name}"

    def _table(self, node: exp.Table) -> tuple[str, Columns]:
        if not node.db or node.db == SOURCE:
            for named in reversed(self._ctes):
                if node.name in named and not node.db:
                    return named[node.name]
        at = (node.db or SOURCE, node.name)
        if at not in self._tables.columns:
            raise Refusal(f"the table {at[0]}.{at[1]}", node)
        return spark_name(self._tables.views[at]), self._tables.columns[at]


def _spread_windows(node: exp.Select) -> None:
    """Windows that have a name, written out where they are used."""
    named = {window.this.name: window for window in node.args.get("windows") or []}
    for used in node.find_all(exp.Window):
        alias = used.args.get("alias")
        if alias is None or (used.parent is node and used.arg_key == "windows"):
            continue
        window = named.get(alias.name)
        if window is None or used.args.get("partition_by") or used.args.get("order") or used.args.get("spec"):
            raise Refusal(shown(used), used)
        if window.args.get("alias") is not None:
            raise Refusal(shown(window), window)
        used.set("alias", None)
        for key in ("partition_by", "order", "spec"):
            value = window.args.get(key)
            used.set(
                key, [item.copy() for item in value] if isinstance(value, list) else value and value.copy()
            )
