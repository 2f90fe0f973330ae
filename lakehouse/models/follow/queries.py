"""Whole queries: blocks within blocks, WITH, UNION, joins, views. See `lakehouse.models.increments` for what it is for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from lakehouse.models.follow import functions
from lakehouse.models.follow.block import Block
from lakehouse.models.follow.expressions import Reader
from lakehouse.models.follow.relations import From, Narrowing, Relation, renamed, same, untraced
from lakehouse.models.follow.tree import Node, NotIncremental, Text, first, limit, only, statement
from lakehouse.models.follow.values import Other, Scope, Source, Traced, column
from lakehouse.models.model import SOURCE

if TYPE_CHECKING:
    import duckdb

TABLE = "make it `kind: table`"  # what helps always

_Tables = Mapping[str, "_Query"]


@dataclass(frozen=True, slots=True)
class _Query:
    """A SELECT by a name, as WITH gives one: it is looked at anew wherever it is read."""

    text: Text
    node: Node
    names: tuple[str, ...]
    known: _Tables
    parent: Scope | None


class Queries:
    """Follows a driver through a SELECT."""

    def __init__(
        self,
        connection: "duckdb.DuckDBPyConnection",
        views: Mapping[str, str],
        driver: str,
        columns: Mapping[str, Sequence[str]],
    ) -> None:
        self.duck = connection
        self.views = {name.lower(): sql for name, sql in views.items()}
        self.name, self.driver = driver, driver.lower()
        self.columns = {name.lower(): names for name, names in columns.items()}
        self._viewed: list[str] = []

    def sql(self, value: Traced) -> str:
        """An expression as SQL; one that fails on a row gives null there, as no row of the result comes of it."""
        node = json.loads(value.tree)
        select = self._parse(b"SELECT 1")
        select["statements"][0]["node"]["select_list"] = [node]
        text = self.duck.execute("SELECT json_deserialize_sql(?)", [json.dumps(select)]).fetchall()[0][0]
        expression = str(text).removeprefix("SELECT ")
        return expression if node["class"] == "COLUMN_REF" else f"TRY({expression})"

    def _parse(self, sql: bytes) -> Node:
        text = self.duck.execute("SELECT json_serialize_sql(?)", [sql.decode()]).fetchall()[0][0]
        return dict(json.loads(text))

    def query(self, text: Text) -> Relation:
        """The relation that a whole SELECT gives."""
        tree = self._parse(text.sql)
        if tree["error"] or len(tree["statements"]) != 1:
            why = tree.get("error_message") or "it is not one SELECT"
            raise NotIncremental(f"it is not followed: {why}", where=text.where, line=text.line)
        return self.block(text, statement(text, tree["statements"][0]), {}, None)

    # Queries.

    def block(self, text: Text, node: Node, known: _Tables, parent: Scope | None) -> Relation:
        """The relation that a SELECT, or several in a UNION, gives."""
        known = dict(known)
        for entry in node["cte_map"]["map"]:
            cte = entry["value"]
            only(text, cte, "aliases", "query_node", "materialized")
            known[entry["key"].lower()] = _Query(
                text, cte["query_node"], tuple(cte["aliases"]), dict(known), parent
            )
        if node["type"] == "SELECT_NODE":
            return self._select(text, node, known, parent)
        if node["type"] == "SET_OPERATION_NODE":
            return self._union(text, node, known, parent)
        raise text.refuse(
            node, f"a {node['type'].replace('_NODE', '').replace('_', ' ').lower()} is not followed"
        )

    def _union(self, text: Text, node: Node, known: _Tables, parent: Scope | None) -> Relation:
        only(text, node, "modifiers", "cte_map", "setop_type", "setop_all", "children")
        for modifier in node["modifiers"]:
            if modifier["type"] != "ORDER_MODIFIER":
                raise text.refuse(first(modifier), limit(modifier))
        branches = [self.block(text, child, known, parent) for child in node["children"]]
        driven = any(branch.driven for branch in branches)
        where = first(node)
        if driven and node["setop_type"] != "UNION":
            raise text.refuse(where, f"{node['setop_type'].replace('_', ' ')} is not followed")
        if driven and not all(branch.driven for branch in branches):
            raise text.refuse(where, "a branch of UNION does not read the driver, so its rows would come again", f"{TABLE.capitalize()}.")  # fmt: skip
        if len({len(branch.columns) for branch in branches}) > 1:
            raise text.refuse(where, "the branches of UNION have not the same number of columns")
        columns = [
            (several[0][0], same([value for _, value in several]))
            for several in zip(*(branch.columns for branch in branches), strict=True)
        ]
        narrowings = tuple(chain.from_iterable(branch.narrowings for branch in branches))
        if driven and not node["setop_all"]:
            kept = frozenset(value.tree for _, value in columns if isinstance(value, Traced))
            narrowings += (
                Narrowing(text, where, "UNION without ALL puts equal rows together", "Select {}", kept),
            )
        return Relation(tuple(columns), driven, narrowings, any(branch.outer for branch in branches))

    def _select(self, text: Text, node: Node, known: _Tables, parent: Scope | None) -> Relation:
        only(text, node, "modifiers", "cte_map", "select_list", "from_table", "where_clause", "group_expressions",
             "group_sets", "aggregate_handling", "having", "qualify")  # fmt: skip
        rows = self.tables(text, node["from_table"], known, parent, ())
        called = [item["alias"].lower() for item in node["select_list"]]
        names = {
            name: item
            for name, item in zip(called, node["select_list"], strict=True)
            if name and called.count(name) == 1
        }
        reader = Reader(text, rows.scope(parent), partial(self._inside, text, known), names)
        block = Block(text, node, rows, reader)
        columns = block.items()
        narrowings = (*rows.narrowings, *block.narrowings())
        if not rows.driven:  # nothing says that a value is there for each row of the driver
            columns = [(name, untraced(value)) for name, value in columns]
            narrowings = ()
        return Relation(tuple(columns), rows.driven, narrowings, rows.outer or reader.outer)

    def _inside(self, text: Text, known: _Tables, node: Node, scope: Scope) -> None:
        """A SELECT inside an expression: it may read anything but the driver."""
        if self.block(text, statement(text, node["subquery"]), known, scope).driven:
            what = f"{self.driver} is read in a subquery, so a row depends on other rows of it"
            raise text.refuse(node, what, f"Join it, use a window, or {TABLE}.")

    # FROM.

    def tables(
        self, text: Text, node: Node, known: _Tables, parent: Scope | None, left: tuple[Source, ...]
    ) -> From:
        """What a FROM gives.

        Args:
            text: The SELECT.
            node: Its FROM, or a part of it.
            known: Queries by name.
            parent: The scope around the SELECT.
            left: Relations on the left of this part: a subquery may read their columns.
        """
        kind = node["type"]
        around = Scope(left, {}, parent) if left else parent
        if kind == "EMPTY":
            return From()
        if kind == "JOIN":
            return self._join(text, node, known, parent, left)
        if kind == "BASE_TABLE":
            only(text, node, "alias", "schema_name", "table_name", "column_name_alias")
            return self._named(text, node, self._table(text, node, known))
        if kind == "SUBQUERY":
            only(text, node, "alias", "subquery", "column_name_alias")
            found = self.block(text, statement(text, node["subquery"]), known, around)
            if found.driven and found.outer:
                raise text.refuse(node, "a subquery reads the driver and columns from around it")
            return self._named(text, node, found)
        if kind == "EXPRESSION_LIST":
            return self._values(text, node, known, around)
        if kind == "TABLE_FUNCTION":
            return self._called(text, node, known, around)
        raise text.refuse(node, f"{kind.replace('_', ' ').lower()} is not followed")

    def _table(self, text: Text, node: Node, known: _Tables) -> Relation:
        """What a name in a FROM stands for."""
        name = node["table_name"].lower()
        if not node["schema_name"] and name in known:
            query = known[name]
            found = self.block(query.text, query.node, query.known, query.parent)
            return replace(found, columns=renamed(found.columns, query.names))
        name = f"{node['schema_name'].lower() or SOURCE}.{name}"
        if name in self.views:
            if name in self._viewed:
                raise text.refuse(node, f"{name} reads itself")
            self._viewed.append(name)
            found = self.query(Text(self.views[name].encode(), f"view {name}", 1))
            self._viewed.pop()
            return found
        if name == f"{self.driver}_history":
            raise text.refuse(
                node, f"{name} changes with every load, also where it is old", f"{TABLE.capitalize()}."
            )
        if name not in self.columns:
            raise text.refuse(node, f"{name} is not a table whose changes can be followed")
        if name == self.driver:
            return Relation(tuple((c, column(c)) for c in self.columns[name]), driven=True)
        return Relation(tuple((c, Other(f"it comes from {name}")) for c in self.columns[name]))

    def _named(self, text: Text, node: Node, found: Relation) -> From:
        """A relation under the name that it has in a FROM."""
        del text
        found = replace(found, columns=renamed(found.columns, node["column_name_alias"]))
        alias, table = node["alias"].lower(), node.get("table_name", "").lower()
        names: tuple[tuple[str, ...], ...] = ((alias or table,),)
        if not alias and node.get("schema_name"):
            names = ((table,), (node["schema_name"].lower(), table))
        source = Source(names, found.by_name)
        return From(((source, found),), {}, found.driven, found.narrowings, found.outer)

    def _values(self, text: Text, node: Node, known: _Tables, around: Scope | None) -> From:
        only(text, node, "alias", "values", "column_name_alias", "expected_names", "expected_types")
        reader = Reader(text, Scope(parent=around), partial(self._inside, text, known))
        for row in node["values"]:
            for value in row:
                reader.value(value)
        columns = tuple((f"col{at}", Other("it is a constant")) for at in range(len(node["values"][0])))
        return replace(
            self._named(text, {"column_name_alias": [], **node}, Relation(columns)), outer=reader.outer
        )

    def _called(self, text: Text, node: Node, known: _Tables, around: Scope | None) -> From:
        only(
            text,
            node,
            "alias",
            "function",
            "column_name_alias",
            "with_ordinality",
            allow={"WITHOUT_ORDINALITY"},
        )
        call = node["function"]
        name = call["function_name"].lower()
        if node.get("with_ordinality", "WITHOUT_ORDINALITY") != "WITHOUT_ORDINALITY":
            raise text.refuse(node, "WITH ORDINALITY is not followed")
        if name not in functions.TABLES or call["schema"] or call["catalog"]:
            raise text.refuse(node, f"{name}(…) in a FROM is not followed")
        reader = Reader(text, Scope(parent=around), partial(self._inside, text, known))
        for argument in call["arguments"]:
            if argument["name"]:
                raise text.refuse(node, f"{name}(…) with {argument['name']} is not followed")
            reader.value(argument["expression"])
        # DuckDB knows its one column by the function's name and by the alias.
        columns = ((node["alias"] or name, Other(f"it comes from {name}")),)
        made = self._named(text, {**node, "alias": node["alias"] or name}, Relation(columns))
        return replace(made, outer=reader.outer)

    def _join(
        self, text: Text, node: Node, known: _Tables, parent: Scope | None, before: tuple[Source, ...]
    ) -> From:
        only(text, node, "left", "right", "condition", "join_type", "ref_type", "using_columns", "is_implicit", "nearest_count",
             "nearest_order_type", "alias")  # fmt: skip
        left = self.tables(text, node["left"], known, parent, before)
        sources = tuple(source for source, _ in left.sources)
        right = self.tables(text, node["right"], known, parent, (*before, *sources))
        kind = "ASOF" if node["ref_type"] == "ASOF" else node["join_type"]
        self._check_join(text, node, kind, left, right)
        merged = dict(left.merged) | dict(right.merged)
        for name in node["using_columns"]:
            values = Scope(sources, left.merged).find([name])
            known_as = values if node["join_type"] in ("INNER", "LEFT") and kind != "ASOF" else None
            merged[name.lower()] = known_as or Other(f"it is the {name} of either table, not that of one")
        visible = left.sources if kind in ("SEMI", "ANTI") else (*left.sources, *right.sources)
        both = From((*left.sources, *right.sources), merged)
        reader = Reader(text, both.scope(parent), partial(self._inside, text, known))
        if node["condition"] is not None:
            reader.value(node["condition"])
        if reader.aggregates or reader.windows:
            raise text.refuse(node, "the condition of a join has an aggregate or a window")
        return From(
            visible,
            dict(left.merged) if kind in ("SEMI", "ANTI") else merged,
            left.driven or right.driven,
            left.narrowings + right.narrowings,
            left.outer or right.outer or reader.outer,
        )

    def _check_join(self, text: Text, node: Node, kind: str, left: From, right: From) -> None:
        """Refuse a join after which a row may depend on more than its own row of the driver."""
        if node["ref_type"] not in ("REGULAR", "CROSS", "ASOF"):
            raise text.refuse(node, f"a {node['ref_type'].lower()} join is not followed")
        if kind not in ("INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI", "ASOF"):
            raise text.refuse(node, f"a {kind.lower()} join is not followed")
        if left.driven and right.driven:
            what = f"{self.driver} is read twice, so a row depends on other rows of it"
            raise text.refuse(node, what, f"Use a window or one aggregate, or {TABLE}.")
        if right.driven and right.outer:
            raise text.refuse(node, "a subquery reads the driver and columns from around it")
        fine = ("INNER", "LEFT", "SEMI", "ANTI", "ASOF") if left.driven else ("INNER", "RIGHT")
        joined = node["join_type"] in ("INNER", "LEFT") if kind == "ASOF" else kind in fine
        if (left.driven or right.driven) and (kind not in fine or not joined):
            what = f"rows of the {kind} join may be there because {self.driver} has no row for them"
            raise text.refuse(node, what, f"Put it on the side that keeps all its rows, or {TABLE}.")
