"""One SELECT … FROM …, whose FROM has been followed already: its columns, and where it puts rows together."""

from collections.abc import Iterator

from lakehouse.models.follow.expressions import Reader
from lakehouse.models.follow.relations import From, Narrowing
from lakehouse.models.follow.tree import Node, Text, first, limit, only
from lakehouse.models.follow.values import Other, Traced, Value


class Block:
    """One SELECT … FROM … with its FROM followed already."""

    def __init__(self, text: Text, node: Node, rows: From, reader: Reader) -> None:
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

    def narrowings(self) -> Iterator[Narrowing]:
        """What puts rows together here."""
        node, reader = self.node, self.reader
        for clause in ("where_clause", "having", "qualify"):
            if node[clause] is not None:
                reader.value(node[clause])
        distinct = list(self._modifiers())
        grouped = self._grouped()
        if grouped is not None:
            where = (node["group_expressions"] or reader.aggregates or [first(node)])[0]
            yield Narrowing(
                self.text, where, "the aggregate reads rows of other keys", "Add {} to GROUP BY", grouped
            )
        for window in reader.windows:
            what = "the window reads rows of other keys"
            yield Narrowing(self.text, window.node, what, "Add {} to PARTITION BY", window.parted_by)
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

    def _modifiers(self) -> Iterator[Narrowing]:
        for modifier in self.node["modifiers"]:
            if modifier["type"] == "ORDER_MODIFIER":
                for order in modifier["orders"]:
                    if order["expression"]["class"] not in ("STAR", "CONSTANT"):
                        self.reader.value(order["expression"])
            elif modifier["type"] == "DISTINCT_MODIFIER":
                yield self._distinct(modifier)
            else:
                raise self.text.refuse(first(modifier), limit(modifier))

    def _distinct(self, modifier: Node) -> Narrowing:
        targets = modifier["distinct_on_targets"]
        if not targets:
            kept = frozenset(value.tree for _, value, _ in self._items if isinstance(value, Traced))
            what = "DISTINCT puts rows of other keys together"
            return Narrowing(self.text, first(self.node), what, "Select {}", kept)
        if not any(other["type"] == "ORDER_MODIFIER" for other in self.node["modifiers"]):
            raise self.text.refuse(
                targets[0], "which row DISTINCT ON takes is left open", "Say it with ORDER BY."
            )
        values = [self._group(target) for target in targets]
        kept = frozenset(value.tree for value in values if isinstance(value, Traced))
        what = "DISTINCT ON puts rows of other keys together"
        return Narrowing(self.text, targets[0], what, "Add {} to DISTINCT ON", kept)
