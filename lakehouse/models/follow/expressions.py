"""Reading the expressions of a block: each kind of node, each field of it and each function is known here, or refused."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lakehouse.models.follow import functions
from lakehouse.models.follow.tree import Node, Text, called, is_name, only, text_of
from lakehouse.models.follow.values import Other, Scope, Traced, Value, made, tree_of

_NO_ORDER = {"type": "ORDER_MODIFIER", "orders": []}
_LAMBDAS = {
    "apply", "array_apply", "array_filter", "array_reduce", "array_transform", "filter", "list_apply", "list_filter",
    "list_reduce", "list_transform", "reduce",
}  # fmt: skip
_CHILDREN = {  # of expressions that are a function of their parts alone
    "BETWEEN": ("input", "lower", "upper"),
    "CAST": ("child",),
    "COMPARISON": ("left", "right"),
    "CONJUNCTION": ("children",),
    "OPERATOR": ("children",),
}
_WHOLE = {
    "UNBOUNDED_PRECEDING",
    "UNBOUNDED_FOLLOWING",
    "CURRENT_ROW_RANGE",
}  # bounds that no order of peers moves
_FIXED = "Leave it out, or make it `kind: table`."


@dataclass(frozen=True, slots=True)
class Window:
    """A window function, and the expressions that its rows are parted by."""

    node: Node
    parted_by: frozenset[str]


class Reader:
    """Reads the expressions of one block, and remembers what it met.

    Args:
        text: The SELECT that it is part of.
        scope: What names mean.
        subquery: Looks at a SELECT inside an expression.
        aliases: The block's own names for its columns.

    Attributes:
        aggregates: The aggregates that it met.
        windows: The windows that it met.
        outer: Whether it met a column from around the block.
    """

    def __init__(
        self,
        text: Text,
        scope: Scope,
        subquery: Callable[[Node, Scope], None],
        aliases: Mapping[str, Node] | None = None,
    ) -> None:
        self.text = text
        self.scope = scope
        self.aliases = aliases or {}
        self.aggregates: list[Node] = []
        self.windows: list[Window] = []
        self.outer = False
        self._subquery = subquery
        self._inside = 0  # how many aggregates are around what is read
        self._open: list[str] = []  # aliases that are being read
        self._locals: list[set[str]] = []  # parameters of lambdas

    def value(self, node: Node) -> Value:
        """What an expression stands for.

        Raises:
            NotIncremental: Something in it is not known to give the same answer for the same rows.
        """
        kind = node["class"]
        if kind in _CHILDREN:
            return self._function_of_parts(node, _CHILDREN[kind])
        reads = {
            "CASE": self._case, "COLUMN_REF": self._column, "CONSTANT": self._constant, "FUNCTION": self._function,
            "LAMBDA": self._arrow, "SUBQUERY": self._select, "WINDOW": self._window,
        }  # fmt: skip
        if kind not in reads:
            raise self.text.refuse(node, f"{called(node)} is not followed")
        return reads[kind](node)

    def grouping(self, node: Node) -> Value:
        """The same where DuckDB may take a name for the block's own name, before the column or after it."""
        value = self.value(node)
        name = node["column_names"][0].lower() if is_name(node) else ""
        if name in self.aliases and self.aliases[name] is not node and self.scope.find([name]) is not None:
            own = self.value(self.aliases[name])
            if own != value:
                return Other(f"{name} is both a column and a name that the SELECT gives to another one")
        return value

    # Kinds of expressions.

    def _constant(self, node: Node) -> Value:
        only(self.text, node, "literal", "value", "alias")
        return Traced(text_of(node), reads=False)

    def _column(self, node: Node) -> Value:
        only(self.text, node, "column_names", "alias")
        parts = node["column_names"]
        if any(parts[0] in names for names in self._locals):
            return Other("it is part of a lambda")
        found = self.scope.find(parts)
        if found is not None:
            return found
        if is_name(node) and parts[0].lower() in self.aliases:
            return self._alias(node, parts[0].lower())
        scope = self.scope.parent
        while scope is not None:
            found = scope.find(parts)
            if found is not None:
                self.outer = True
                return found
            scope = scope.parent
        name = ".".join(parts)
        if name.lower() in functions.VOLATILE_NAMES:
            raise self.text.refuse(node, f"{name} is another one at every build", _FIXED)
        raise self.text.refuse(node, f"{name} is not known to be a column of what is read here")

    def _alias(self, node: Node, name: str) -> Value:
        if name in self._open:
            raise self.text.refuse(node, f"{name} stands for itself")
        self._open.append(name)
        value = self.value(self.aliases[name])
        self._open.pop()
        return value

    def _case(self, node: Node) -> Value:
        only(self.text, node, "case_checks", "else_expr", "alias")
        checks = []
        values: list[Value] = []
        for check in node["case_checks"]:
            both = {name: self.value(check[name]) for name in ("when_expr", "then_expr")}
            values += both.values()
            checks.append({name: tree_of(value) for name, value in both.items()})
        values.append(self.value(node["else_expr"]))
        return made(node, values, case_checks=checks, else_expr=tree_of(values[-1]))

    def _function_of_parts(self, node: Node, fields: Sequence[str]) -> Value:
        only(self.text, node, *fields, "alias", "type_expr", "try_cast")
        if node["class"] == "OPERATOR" and node["type"] not in functions.OPERATORS:
            raise self.text.refuse(node, f"{called(node)} is not followed")
        values: list[Value] = []
        parts: dict[str, Any] = {}
        for name in fields:
            if isinstance(node[name], list):
                several = [self.value(child) for child in node[name]]
                values += several
                parts[name] = [tree_of(value) for value in several]
            elif node[name] is not None:
                values.append(self.value(node[name]))
                parts[name] = tree_of(values[-1])
        return made(node, values, **parts)

    def _function(self, node: Node) -> Value:
        name = node["function_name"].lower()
        if node["schema"] or node["catalog"]:
            raise self.text.refuse(
                node, f"{node['schema']}.{name}(…) is not followed", f"Write it as {name}(…)."
            )
        only(
            self.text,
            node,
            "function_name",
            "arguments",
            "filter",
            "order_bys",
            "distinct",
            "is_operator",
            "alias",
        )
        if name in functions.AGGREGATES or name in functions.IN_ORDER:
            return self._aggregate(node, name)
        if name == "unnest":
            self._arguments(node, name)
            return Other("it is unnested")
        self._check(node, name, functions.SCALAR)
        if node["filter"] is not None or node["distinct"] or node["order_bys"] != _NO_ORDER:
            raise self.text.refuse(node, f"{name} is not followed as it is written here")
        values = self._arguments(node, name)
        arguments = [
            {**argument, "expression": tree_of(value)}
            for argument, value in zip(node["arguments"], values, strict=True)
        ]
        return made(node, values, arguments=arguments)

    def _aggregate(self, node: Node, name: str) -> Value:
        ordered = node["order_bys"]["orders"]
        if name in functions.IN_ORDER and not ordered:
            raise self.text.refuse(
                node, f"which row {name} takes first is left open", f"Say it: {name}(x ORDER BY y); or use min, max or arg_max."
            )  # fmt: skip
        before, self.outer = self.outer, False
        self._inside += 1
        self._arguments(node, name)
        for inner in (node["filter"], *(order["expression"] for order in ordered)):
            if inner is not None:
                self.value(inner)
        self._inside -= 1
        if self.outer:  # it may be an aggregate of the block around this one
            raise self.text.refuse(node, f"{name} in a subquery reads columns from around it")
        self.outer = before
        self.aggregates.append(node)
        return Other(f"it is made of several rows, by {name}")

    def _arguments(self, node: Node, name: str) -> list[Value]:
        values = []
        for argument in node["arguments"]:
            inner = argument["expression"]
            if inner["class"] == "LAMBDA" and name in _LAMBDAS:
                values.append(self._lambda(inner))
            else:
                values.append(self.value(inner))
        return values

    def _lambda(self, node: Node) -> Value:
        only(self.text, node, "lhs", "expr", "syntax_type", "alias")
        given = node["lhs"]
        names = (
            [given]
            if given["class"] == "COLUMN_REF"
            else [a["expression"] for a in given.get("arguments", ())]
        )
        if not names or not all(is_name(name) for name in names):
            raise self.text.refuse(node, "a lambda is not followed as it is written here")
        self._locals.append({name["column_names"][0] for name in names})
        self.value(node["expr"])
        self._locals.pop()
        return Other("it is part of a lambda")

    def _arrow(self, node: Node) -> Value:
        """`x -> '$.path'`, which looks like a lambda until the types are known."""
        only(self.text, node, "lhs", "expr", "syntax_type", "alias")
        if node["syntax_type"] != "SINGLE_ARROW":
            raise self.text.refuse(node, "a lambda is not followed here")
        values = [self.value(node["lhs"]), self.value(node["expr"])]
        return made(node, values, lhs=tree_of(values[0]), expr=tree_of(values[1]))

    def _select(self, node: Node) -> Value:
        only(
            self.text,
            node,
            "subquery_type",
            "subquery",
            "child",
            "comparison_type",
            "alias",
            allow={"INVALID"},
        )
        if self._inside and self.scope.parent is not None:
            raise self.text.refuse(node, "a subquery in an aggregate in a subquery is not followed")
        if node["child"] is not None:
            self.value(node["child"])
        self._subquery(node, self.scope)
        return Other("it comes from a subquery")

    def _window(self, node: Node) -> Value:
        known = (
            "function_name", "partitions", "orders", "start", "end", "start_expr", "end_expr", "offset_expr", "default_expr",
            "ignore_nulls", "has_ignore_nulls", "filter_expr", "exclude_clause", "distinct", "arg_orders", "arguments", "alias",
        )  # fmt: skip
        only(self.text, node, *known)
        name = node["function_name"].lower()
        names = functions.AGGREGATES | functions.IN_ORDER | functions.PEERS | functions.PLACES
        self._check(node, name, names)
        moves = {node["start"], node["end"]} - _WHOLE or node["exclude_clause"] != "NO_OTHER"
        if not node["orders"] and not node["arg_orders"] and (
            name in functions.PLACES or name in functions.IN_ORDER or moves
        ):  # fmt: skip
            raise self.text.refuse(
                node, f"the window of {name} has no order", "Add an ORDER BY to the window."
            )
        parted_by = {
            value.tree for value in map(self.grouping, node["partitions"]) if isinstance(value, Traced)
        }
        inner = [order["expression"] for order in (*node["orders"], *node["arg_orders"])]
        inner += [
            node[one] for one in ("start_expr", "end_expr", "offset_expr", "default_expr", "filter_expr")
        ]
        for part in inner:
            if part is not None:
                self.value(part)
        self._arguments(node, name)
        self.windows.append(Window(node, frozenset(parted_by)))
        return Other("it is made by a window function")

    def _check(self, node: Node, name: str, known: frozenset[str]) -> None:
        if name not in known:
            what = f"{name}(…) is not known to give the same answer for the same rows"
            raise self.text.refuse(node, what, _FIXED)
