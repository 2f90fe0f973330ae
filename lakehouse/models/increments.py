"""Which rows of a model's result can change when one of its inputs gained rows: what makes `incremental` right.

A SELECT is followed from one input, the driver, to its result, block by block. What comes out is either that rows
are only added, one by one, or which columns of the key part the result into groups that depend on nothing
but the driver's rows of the same group. Anything that is not understood is refused. `lakehouse.models.delta` has the
SQL that goes with it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from lakehouse.models import functions
from lakehouse.models.expressions import (
    Node,
    NotIncremental,
    Other,
    Reader,
    Scope,
    Source,
    Text,
    Traced,
    Value,
    column,
    columns_of,
    only,
)
from lakehouse.models.model import SOURCE

if TYPE_CHECKING:
    import duckdb

__all__ = ["Increment", "NotIncremental", "analyse", "refusal"]

_TABLE = "make it `kind: table`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Increment:
    """How a result follows one of its inputs.

    Attributes:
        driver: The input, `source.table`.
        groups: `(key column, SQL expression)`: rows of the result with some values there depend only on rows of the driver
            for which the expressions have these values. The expressions call the driver `_lake_d`. Empty
            where each new row of the driver only adds rows.
        reads: The columns of the driver that the expressions read.
    """

    driver: str
    groups: tuple[tuple[str, str], ...] = ()
    reads: tuple[str, ...] = ()


def analyse(
    sql: str,
    *,
    views: Mapping[str, str],
    driver: str,
    key: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    where: str = "",
    line: int = 1,
) -> Increment:
    """How the result of a SELECT follows one of the tables that it reads.

    Where a SELECT leaves a choice, as between rows that its ORDER BY takes for equal, any choice is the result.

    Args:
        sql: The SELECT.
        views: SQL of the models that are views, by `models.<name>`: they are looked through.
        driver: The input that gained rows, `source.table`.
        key: The model's key; empty for one that only adds rows.
        columns: Columns of all tables that the SELECT and the views read, by `source.table`, in order.
        where: The model's file, for messages.
        line: The line of it on which the SELECT begins.

    Raises:
        NotIncremental: It is not known that it could follow this input.
    """
    import duckdb

    with duckdb.connect() as connection:
        analysis = _Analysis(connection, views, driver, columns)
        text = Text(sql.encode(), where, line)
        found = analysis.query(text)
        if not found.driven:
            raise NotIncremental(
                f"{driver} is not among the tables whose rows it reads", where=where, line=line
            )
        if not key:
            for step in found.narrowings:
                raise step.text.refuse(step.node, f"{step.what}, and without a key rows are only added", f"Give the model a key, or {_TABLE}.")  # fmt: skip
            return Increment(driver=driver)
        groups: list[tuple[str, str]] = []
        reads: dict[str, None] = {}
        reasons: list[tuple[int, NotIncremental]] = []
        for name in key:
            try:
                value = _traced(found, name, text)
            except _Refused as refused:
                reasons.append((refused.rank, refused.reason))
                continue
            groups.append((name, analysis.sql(value)))
            reads |= dict.fromkeys(columns_of(value))
        if not groups:
            raise max(reasons, key=lambda reason: reason[0])[1]
        return Increment(driver=driver, groups=tuple(groups), reads=tuple(reads))


def refusal(name: str, reasons: Mapping[str, NotIncremental]) -> NotIncremental:
    """The error that a model follows none of its inputs, from the reason of each.

    Args:
        name: The model.
        reasons: By input, in order.
    """
    whats: dict[str, list[str]] = {}
    for driver, reason in reasons.items():
        whats.setdefault(reason.message, []).append(driver)
    if len(whats) == 1:
        return next(iter(reasons.values()))
    first = next(iter(reasons.values()))
    said = "; ".join(f"from {', '.join(drivers)}: {message}" for message, drivers in whats.items())
    return NotIncremental(f"{name} cannot follow any of its inputs: {said}", hint=first.hint)


@dataclass(frozen=True, slots=True)
class _Narrowing:
    """A step that puts rows together: afterwards only some expressions still say what a row depends on.

    Attributes:
        node: Where.
        what: What it does.
        fix: How a column is kept through it, after `add <column> to `.
        kept: The expressions that rows with different values of are never put together.
    """

    text: Text
    node: Node
    what: str
    fix: str
    kept: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Relation:
    """What a SELECT or a FROM gives.

    Attributes:
        columns: Names and what they stand for, in order.
        driven: Whether rows of the driver are in it, once each and never absent.
        narrowings: What put rows together on the way.
        outer: Whether it reads columns from around it.
    """

    columns: tuple[tuple[str, Value], ...] = ()
    driven: bool = False
    narrowings: tuple[_Narrowing, ...] = ()
    outer: bool = False

    @property
    def by_name(self) -> dict[str, Value]:
        """The columns by name in lower case; of several with one name none is known."""
        named: dict[str, Value] = {}
        for name, value in self.columns:
            known = named.setdefault(name.lower(), value)
            if known is not value:
                named[name.lower()] = Other(f"several columns are called {name}")
        return named


@dataclass(frozen=True, slots=True)
class _From:
    """A FROM: its relations under their names."""

    sources: tuple[tuple[Source, _Relation], ...] = ()
    merged: Mapping[str, Value] = field(default_factory=dict)
    driven: bool = False
    narrowings: tuple[_Narrowing, ...] = ()
    outer: bool = False

    def scope(self, parent: Scope | None) -> Scope:
        """What its names mean."""
        return Scope(tuple(source for source, _ in self.sources), self.merged, parent)

    def everything(self, name: str = "") -> Iterator[tuple[str, Value]]:
        """The columns of `*`, or of `name.*`."""
        given: set[str] = set()
        for source, relation in self.sources:
            if name and (name.lower(),) not in source.names:
                continue
            for called, value in relation.columns:
                if not name and called.lower() in self.merged:
                    if called.lower() not in given:
                        yield called, self.merged[called.lower()]
                    given.add(called.lower())
                else:
                    yield called, value


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """Why a column of the key parts no groups; what can be mended most easily ranks highest."""

    def __init__(self, rank: int, reason: NotIncremental) -> None:
        super().__init__(reason.message)
        self.rank, self.reason = rank, reason


def _traced(found: _Relation, name: str, text: Text) -> Traced:
    """The expression over the driver that a column of the result is, if it parts groups."""
    if name.lower() not in found.by_name:
        raise NotIncremental(
            f"the result has no column {name}, which is in the key", where=text.where, line=text.line
        )
    value = found.by_name[name.lower()]
    hint = f"Have a column of the driver in the key, or {_TABLE}."
    if isinstance(value, Other) or not value.reads:
        why = value.why if isinstance(value, Other) else "it is a constant"
        what = f"no column of the key says which rows are to be computed anew: {name} is no column of the driver, {why}"
        raise _Refused(0, NotIncremental(what, hint=hint, where=text.where, line=text.line))
    called = name if json.loads(value.tree)["class"] == "COLUMN_REF" else f"what {name} is"
    for step in found.narrowings:
        if value.tree not in step.kept:
            raise _Refused(
                1, step.text.refuse(step.node, step.what, f"{step.fix.format(called)}, or {_TABLE}.")
            )
    return value


_Tables = Mapping[str, "_Query"]


@dataclass(frozen=True, slots=True)
class _Query:
    """A SELECT by a name, as WITH gives one: it is looked at anew wherever it is read."""

    text: Text
    node: Node
    names: tuple[str, ...]
    known: _Tables
    parent: Scope | None


class _Analysis:
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
        self.driver = driver.lower()
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

    def query(self, text: Text) -> _Relation:
        """The relation that a whole SELECT gives."""
        tree = self._parse(text.sql)
        if tree["error"] or len(tree["statements"]) != 1:
            why = tree.get("error_message") or "it is not one SELECT"
            raise NotIncremental(f"it is not followed: {why}", where=text.where, line=text.line)
        return self.block(text, _statement(text, tree["statements"][0]), {}, None)

    # Queries.

    def block(self, text: Text, node: Node, known: _Tables, parent: Scope | None) -> _Relation:
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

    def _union(self, text: Text, node: Node, known: _Tables, parent: Scope | None) -> _Relation:
        only(text, node, "modifiers", "cte_map", "setop_type", "setop_all", "children")
        for modifier in node["modifiers"]:
            if modifier["type"] != "ORDER_MODIFIER":
                raise text.refuse(_first(modifier), _limit(modifier))
        branches = [self.block(text, child, known, parent) for child in node["children"]]
        driven = any(branch.driven for branch in branches)
        where = _first(node)
        if driven and node["setop_type"] != "UNION":
            raise text.refuse(where, f"{node['setop_type'].replace('_', ' ')} is not followed")
        if driven and not all(branch.driven for branch in branches):
            raise text.refuse(where, "a branch of UNION does not read the driver, so its rows would come again", f"{_TABLE.capitalize()}.")  # fmt: skip
        if len({len(branch.columns) for branch in branches}) > 1:
            raise text.refuse(where, "the branches of UNION have not the same number of columns")
        columns = [
            (several[0][0], _same([value for _, value in several]))
            for several in zip(*(branch.columns for branch in branches), strict=True)
        ]
        narrowings = tuple(chain.from_iterable(branch.narrowings for branch in branches))
        if driven and not node["setop_all"]:
            kept = frozenset(value.tree for _, value in columns if isinstance(value, Traced))
            narrowings += (
                _Narrowing(text, where, "UNION without ALL puts equal rows together", "Select {}", kept),
            )
        return _Relation(tuple(columns), driven, narrowings, any(branch.outer for branch in branches))

    def _select(self, text: Text, node: Node, known: _Tables, parent: Scope | None) -> _Relation:
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
        block = _Block(text, node, rows, reader)
        columns = block.items()
        narrowings = (*rows.narrowings, *block.narrowings())
        if not rows.driven:  # nothing says that a value is there for each row of the driver
            columns = [(name, _untraced(value)) for name, value in columns]
            narrowings = ()
        return _Relation(tuple(columns), rows.driven, narrowings, rows.outer or reader.outer)

    def _inside(self, text: Text, known: _Tables, node: Node, scope: Scope) -> None:
        """A SELECT inside an expression: it may read anything but the driver."""
        if self.block(text, _statement(text, node["subquery"]), known, scope).driven:
            what = f"{self.driver} is read in a subquery, so a row depends on other rows of it"
            raise text.refuse(node, what, f"Join it, use a window, or {_TABLE}.")

    # FROM.

    def tables(
        self, text: Text, node: Node, known: _Tables, parent: Scope | None, left: tuple[Source, ...]
    ) -> _From:
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
            return _From()
        if kind == "JOIN":
            return self._join(text, node, known, parent, left)
        if kind == "BASE_TABLE":
            only(text, node, "alias", "schema_name", "table_name", "column_name_alias")
            return self._named(text, node, self._table(text, node, known))
        if kind == "SUBQUERY":
            only(text, node, "alias", "subquery", "column_name_alias")
            found = self.block(text, _statement(text, node["subquery"]), known, around)
            if found.driven and found.outer:
                raise text.refuse(node, "a subquery reads the driver and columns from around it")
            return self._named(text, node, found)
        if kind == "EXPRESSION_LIST":
            return self._values(text, node, known, around)
        if kind == "TABLE_FUNCTION":
            return self._called(text, node, known, around)
        raise text.refuse(node, f"{kind.replace('_', ' ').lower()} is not followed")

    def _table(self, text: Text, node: Node, known: _Tables) -> _Relation:
        """What a name in a FROM stands for."""
        name = node["table_name"].lower()
        if not node["schema_name"] and name in known:
            query = known[name]
            found = self.block(query.text, query.node, query.known, query.parent)
            return replace(found, columns=_renamed(found.columns, query.names))
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
                node, f"{name} changes with every load, also where it is old", f"{_TABLE.capitalize()}."
            )
        if name not in self.columns:
            raise text.refuse(node, f"{name} is not a table whose changes can be followed")
        if name == self.driver:
            return _Relation(tuple((c, column(c)) for c in self.columns[name]), driven=True)
        return _Relation(tuple((c, Other(f"it comes from {name}")) for c in self.columns[name]))

    def _named(self, text: Text, node: Node, found: _Relation) -> _From:
        """A relation under the name that it has in a FROM."""
        del text
        found = replace(found, columns=_renamed(found.columns, node["column_name_alias"]))
        alias, table = node["alias"].lower(), node.get("table_name", "").lower()
        names: tuple[tuple[str, ...], ...] = ((alias or table,),)
        if not alias and node.get("schema_name"):
            names = ((table,), (node["schema_name"].lower(), table))
        source = Source(names, found.by_name)
        return _From(((source, found),), {}, found.driven, found.narrowings, found.outer)

    def _values(self, text: Text, node: Node, known: _Tables, around: Scope | None) -> _From:
        only(text, node, "alias", "values", "column_name_alias", "expected_names", "expected_types")
        reader = Reader(text, Scope(parent=around), partial(self._inside, text, known))
        for row in node["values"]:
            for value in row:
                reader.value(value)
        columns = tuple((f"col{at}", Other("it is a constant")) for at in range(len(node["values"][0])))
        return replace(
            self._named(text, {"column_name_alias": [], **node}, _Relation(columns)), outer=reader.outer
        )

    def _called(self, text: Text, node: Node, known: _Tables, around: Scope | None) -> _From:
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
        made = self._named(text, {**node, "alias": node["alias"] or name}, _Relation(columns))
        return replace(made, outer=reader.outer)

    def _join(
        self, text: Text, node: Node, known: _Tables, parent: Scope | None, before: tuple[Source, ...]
    ) -> _From:
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
            merged[name.lower()] = known_as or Other(f"{name} is that of either table")
        visible = left.sources if kind in ("SEMI", "ANTI") else (*left.sources, *right.sources)
        both = _From((*left.sources, *right.sources), merged)
        reader = Reader(text, both.scope(parent), partial(self._inside, text, known))
        if node["condition"] is not None:
            reader.value(node["condition"])
        if reader.aggregates or reader.windows:
            raise text.refuse(node, "the condition of a join has an aggregate or a window")
        return _From(
            visible,
            dict(left.merged) if kind in ("SEMI", "ANTI") else merged,
            left.driven or right.driven,
            left.narrowings + right.narrowings,
            left.outer or right.outer or reader.outer,
        )

    def _check_join(self, text: Text, node: Node, kind: str, left: _From, right: _From) -> None:
        """Refuse a join after which a row may depend on more than its own row of the driver."""
        if node["ref_type"] not in ("REGULAR", "CROSS", "ASOF"):
            raise text.refuse(node, f"a {node['ref_type'].lower()} join is not followed")
        if kind not in ("INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI", "ASOF"):
            raise text.refuse(node, f"a {kind.lower()} join is not followed")
        if left.driven and right.driven:
            what = f"{self.driver} is read twice, so a row depends on other rows of it"
            raise text.refuse(node, what, f"Use a window or one aggregate, or {_TABLE}.")
        if right.driven and right.outer:
            raise text.refuse(node, "a subquery reads the driver and columns from around it")
        fine = ("INNER", "LEFT", "SEMI", "ANTI", "ASOF") if left.driven else ("INNER", "RIGHT")
        joined = node["join_type"] in ("INNER", "LEFT") if kind == "ASOF" else kind in fine
        if (left.driven or right.driven) and (kind not in fine or not joined):
            what = f"rows of the {kind} join may be there because {self.driver} has no row for them"
            raise text.refuse(node, what, f"Put it on the side that keeps all its rows, or {_TABLE}.")


class _Block:
    """One SELECT … FROM … with its FROM followed already."""

    def __init__(self, text: Text, node: Node, rows: _From, reader: Reader) -> None:
        self.text, self.node, self.rows, self.reader = text, node, rows, reader
        self._items: list[tuple[str, Value, bool]] = []  # with whether there is an aggregate in it

    def items(self) -> list[tuple[str, Value]]:
        """The columns of the result, `*` written out."""
        for item in self.node["select_list"]:
            if item["class"] == "STAR":
                self._items += [(name, value, False) for name, value in self._star(item)]
                continue
            before = len(self.reader.aggregates)
            value = self.reader.value(item)
            name = item["alias"] or (item["column_names"][-1] if item["class"] == "COLUMN_REF" else "")
            self._items.append((name, value, len(self.reader.aggregates) > before))
        return [(name, value) for name, value, _ in self._items]

    def _star(self, node: Node) -> Iterator[tuple[str, Value]]:
        only(
            self.text,
            node,
            "relation_name",
            "exclude_list",
            "replace_list",
            "rename_list",
            "qualified_exclude_list",
        )
        left_out = {name.lower() for name in node["exclude_list"]}
        left_out |= {one["column"].lower() for one in node["qualified_exclude_list"]}
        replaced = {one["key"].lower(): self.reader.value(one["value"]) for one in node["replace_list"]}
        renamed = {one["key"]["column"].lower(): one["value"] for one in node["rename_list"]}
        for name, value in self.rows.everything(node["relation_name"]):
            if name.lower() not in left_out:
                yield renamed.get(name.lower(), name), replaced.get(name.lower(), value)

    def narrowings(self) -> Iterator[_Narrowing]:
        """What puts rows together here."""
        node, reader = self.node, self.reader
        for clause in ("where_clause", "having", "qualify"):
            if node[clause] is not None:
                reader.value(node[clause])
        distinct = list(self._modifiers())
        grouped = self._grouped()
        if grouped is not None:
            where = (node["group_expressions"] or reader.aggregates or [_first(node)])[0]
            yield _Narrowing(
                self.text, where, "the aggregate reads rows of other keys", "Add {} to GROUP BY", grouped
            )
        for window in reader.windows:
            what = "the window reads rows of other keys"
            yield _Narrowing(self.text, window.node, what, "Add {} to PARTITION BY", window.parted_by)
        yield from distinct

    def _grouped(self) -> frozenset[str] | None:
        """The expressions that rows are grouped by; None where they are not."""
        node = self.node
        sets, given = node["group_sets"], node["group_expressions"]
        if len(sets) > 1 or (sets and len(sets[0]) < len(given)):
            raise self.text.refuse(given[0] if given else node, "grouping sets are not followed")
        if node["aggregate_handling"] not in ("STANDARD_HANDLING", "FORCE_AGGREGATES"):
            raise self.text.refuse(node, "aggregates are not followed as they are asked for here")
        if node["aggregate_handling"] == "FORCE_AGGREGATES":
            return frozenset(
                v.tree for _, v, aggregate in self._items if isinstance(v, Traced) and not aggregate
            )
        values = [self._group(expression) for expression in given]
        if given or self.reader.aggregates or node["having"] is not None:
            return frozenset(value.tree for value in values if isinstance(value, Traced))
        return None

    def _group(self, node: Node) -> Value:
        literal = node.get("literal", {})
        if node["class"] == "CONSTANT" and literal.get("kind") == "INTEGER":
            if any(item["class"] == "STAR" for item in self.node["select_list"]):
                return Other("it is counted from a *")
            at = int(literal["text"]) - 1
            return self._items[at][1] if 0 <= at < len(self._items) else Other("it is no column")
        return self.reader.grouping(node)

    def _modifiers(self) -> Iterator[_Narrowing]:
        for modifier in self.node["modifiers"]:
            if modifier["type"] == "ORDER_MODIFIER":
                for order in modifier["orders"]:
                    if order["expression"]["class"] not in ("STAR", "CONSTANT"):
                        self.reader.value(order["expression"])
            elif modifier["type"] == "DISTINCT_MODIFIER":
                yield self._distinct(modifier)
            else:
                raise self.text.refuse(_first(modifier), _limit(modifier))

    def _distinct(self, modifier: Node) -> _Narrowing:
        targets = modifier["distinct_on_targets"]
        if not targets:
            kept = frozenset(value.tree for _, value, _ in self._items if isinstance(value, Traced))
            what = "DISTINCT puts rows of other keys together"
            return _Narrowing(self.text, _first(self.node), what, "Select {}", kept)
        if not any(other["type"] == "ORDER_MODIFIER" for other in self.node["modifiers"]):
            raise self.text.refuse(
                targets[0], "which row DISTINCT ON takes is left open", "Say it with ORDER BY."
            )
        values = [self._group(target) for target in targets]
        kept = frozenset(value.tree for value in values if isinstance(value, Traced))
        what = "DISTINCT ON puts rows of other keys together"
        return _Narrowing(self.text, targets[0], what, "Add {} to DISTINCT ON", kept)


def _statement(text: Text, statement: Node) -> Node:
    only(text, statement, "node")
    return dict(statement["node"])


def _renamed(columns: Sequence[tuple[str, Value]], names: Sequence[str]) -> tuple[tuple[str, Value], ...]:
    """Columns, the first of them under other names."""
    return tuple((names[at] if at < len(names) else name, value) for at, (name, value) in enumerate(columns))


def _untraced(value: Value) -> Value:
    return Other("it is the same for all rows") if isinstance(value, Traced) else value


def _same(values: Sequence[Value]) -> Value:
    """What a column of a UNION stands for."""
    first = values[0]
    return (
        first if all(value == first for value in values) else Other("it differs between branches of a UNION")
    )


def _first(node: Node) -> Node:
    """The first node inside one without a place of its own."""
    for child in node.values():
        for inner in child if isinstance(child, list) else [child]:
            if isinstance(inner, dict):
                return inner if "query_location" in inner else _first(inner)
    return {}


def _limit(modifier: Node) -> str:
    return f"{modifier['type'].split('_')[0]} takes rows by their place among all others"
