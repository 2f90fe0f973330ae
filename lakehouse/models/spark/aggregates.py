"""Aggregates and window functions of DuckDB, written for Spark.

Sums and means of floats depend on the order of the rows in their last digits, in either engine; the last digit of
a mean of decimals depends on how DuckDB plans it. What depends on the order as a whole (`first`, `list` without
ORDER BY, `row_number() OVER ()`) is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from lakehouse.models.spark.functions import arguments, constant, count
from lakehouse.models.spark.kinds import NUMBER, REAL, WHOLE, kind, shape, spark_type
from lakehouse.models.spark.trouble import Refusal
from lakehouse.models.spark.values import shown, take

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

    from lakehouse.models.spark.values import Values

_COMPARABLE = frozenset(
    {*NUMBER, "varchar", "boolean", "date", "timestamp", "timestamp with time zone", "null"}
)
WINDOWS = (
    exp.RowNumber, exp.Rank, exp.DenseRank, exp.Ntile, exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue,
    exp.PercentRank, exp.CumeDist,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """What stands around an aggregate.

    Attributes:
        condition: That of FILTER; empty without one.
        window: `OVER (…)`; empty without one.
        distinct: Whether equal values count once.
    """

    condition: str = ""
    window: str = ""
    distinct: bool = False

    def call(self, word: str, *items: str) -> str:
        """One aggregate of Spark with all that."""
        if self.condition:  # Spark has no FILTER in a window; and nulls count in no aggregate used here
            items = tuple(f"CASE WHEN {self.condition} THEN {item} END" for item in items)
        return f"{word}({'DISTINCT ' if self.distinct else ''}{', '.join(items)}){self.window}"


Aggregate = Callable[["Values", Any, Over], str]


def _sum(values: "Values", node: exp.Sum, over: Over) -> str:
    (this,) = take(node, "this")
    found = values.type(this)
    text = _number(values, this, found, also=("boolean",))
    if kind(found) == "boolean":
        return over.call("sum", f"CAST({text} AS BIGINT)")
    if kind(found) in REAL:
        return over.call("sum", f"CAST({text} AS DOUBLE)")
    return f"CAST({over.call('sum', text)} AS {spark_type(values.type(node))})"


def _avg(values: "Values", node: exp.Func, over: Over) -> str:
    (this,) = arguments(node, 1)
    found = values.type(this)
    text = _number(values, this, found)
    if kind(found) in REAL:
        return over.call("avg", f"CAST({text} AS DOUBLE)")
    places = 0 if kind(found) in WHOLE | {"null"} else shape(found)[1]
    total = over.call("sum", f"CAST({text} AS DECIMAL(38,{places}))")
    digits = f"CAST({total} AS DECIMAL(38,{places})) * 1{'0' * places}BD" if places else total
    return f"(CAST({digits} AS DOUBLE) / nullif({over.call('count', text)} * 1e{places}D, 0))"


def _number(values: "Values", this: exp.Expr, found: "DuckDBPyType", also: tuple[str, ...] = ()) -> str:
    if kind(found) not in {*NUMBER, *also, "null"}:
        raise Refusal(f"{shown(this)}, of type {found}, as a number", this, "Write the cast that is meant.")
    return values.text(this)


def _count(values: "Values", node: exp.Count, over: Over) -> str:
    (this,) = take(node, "this")
    if this is None or isinstance(this, exp.Star):
        return over.call("count", "1")
    if isinstance(this, exp.Tuple):
        raise Refusal(shown(node), node, "Count a struct, or the rows of a SELECT DISTINCT.")
    return over.call("count", values.text(this))


def _count_if(values: "Values", node: exp.CountIf, over: Over) -> str:
    text = values.of_kind(take(node, "this")[0], "boolean")
    return over.call("count", f"CASE WHEN {text} THEN 1 END")


def _comparable(word: str) -> Aggregate:
    def rule(values: "Values", node: exp.Func, over: Over) -> str:
        (this,) = take(node, "this")
        return over.call(word, values.of_kind(this, *_COMPARABLE))

    return rule


def _boolean(word: str) -> Aggregate:
    def rule(values: "Values", node: exp.Func, over: Over) -> str:
        return over.call(word, values.of_kind(take(node, "this")[0], "boolean"))

    return rule


def _by(word: str, *, nulls: bool = False) -> Aggregate:
    """`arg_max(a, b)`: rows where either is null do not count; `_null`: where b is."""

    def rule(values: "Values", node: exp.Func, over: Over) -> str:
        this, by = arguments(node, 2)
        one, two = values.text(this), values.of_kind(by, *_COMPARABLE)
        if not nulls:
            two = f"CASE WHEN {one} IS NOT NULL THEN {two} END"
        if over.condition:
            two = f"CASE WHEN {over.condition} THEN {two} END"
        return f"{word}({one}, {two}){over.window}"

    return rule


def _of_floats(word: str, parameters: int = 1) -> Aggregate:
    def rule(values: "Values", node: exp.Func, over: Over) -> str:
        double = values.twin.type_of("1::DOUBLE")
        return over.call(word, *(values.to(one, double) for one in arguments(node, parameters)))

    return rule


def _collected(values: "Values", this: exp.Expr, over: Over) -> tuple[str, exp.Expr]:
    """The values of `list(x ORDER BY y)` in order, as a list."""
    if not isinstance(this, exp.Order) or over.distinct or over.window:
        raise Refusal(
            f"{shown(this)} collected without an order of its own",
            this,
            "Write ORDER BY inside: list(x ORDER BY y).",
        )
    item, orders = take(this, "this", "expressions")
    keys = [f"{values.of_kind(order.this, *_COMPARABLE)} AS k{at}" for at, order in enumerate(orders)]
    one = f"struct({', '.join([*keys, f'{values.text(item)} AS v'])})"
    rows = f"collect_list({f'CASE WHEN {over.condition} THEN {one} END' if over.condition else one})"
    turn = "0"
    for at, order in reversed(list(enumerate(orders))):
        turn = _turn(f"k{at}", order, turn)
    return f"transform(array_sort({rows}, (l, r) -> {turn}), row -> row.v)", item


def _turn(key: str, order: exp.Ordered, then: str) -> str:
    """Which of two rows `l` and `r` comes first by a key; `then` where it is the same."""
    _, desc, nulls_first = take(order, "this", "desc", "nulls_first")
    less, null = (1 if desc else -1), (-1 if nulls_first else 1)
    return (
        f"CASE WHEN l.{key} <=> r.{key} THEN {then} WHEN l.{key} IS NULL THEN {null} "
        f"WHEN r.{key} IS NULL THEN {-null} WHEN l.{key} < r.{key} THEN {less} ELSE {-less} END"
    )


def _list(values: "Values", node: exp.ArrayAgg, over: Over) -> str:
    (this,) = take(node, "this")
    text, _ = _collected(values, this, over)
    return f"CASE WHEN size({text}) > 0 THEN {text} END"


def _string_agg(values: "Values", node: exp.GroupConcat, over: Over) -> str:
    this, by = take(node, "this", "separator")
    text, item = _collected(values, this, over)
    if kind(values.type(item)) != "varchar":
        raise Refusal(f"{shown(node)}: not of text", node, "Write the cast that is meant.")
    kept = f"filter({text}, item -> item IS NOT NULL)"
    mark = "','" if by is None else values.text(by)
    if by is not None:
        constant(by, empty=True)
    return f"CASE WHEN size({kept}) > 0 THEN array_join({kept}, {mark}) END"


_AGGREGATES: dict[str, Aggregate] = {
    "Sum": _sum,
    "Avg": _avg,
    "mean": _avg,
    "Count": _count,
    "CountIf": _count_if,
    "Min": _comparable("min"),
    "Max": _comparable("max"),
    "LogicalAnd": _boolean("bool_and"),
    "LogicalOr": _boolean("bool_or"),
    "ArgMax": _by("max_by"),
    "ArgMin": _by("min_by"),
    "arg_max_null": _by("max_by", nulls=True),
    "arg_min_null": _by("min_by", nulls=True),
    "Stddev": _of_floats("stddev_samp"),
    "StddevSamp": _of_floats("stddev_samp"),
    "StddevPop": _of_floats("stddev_pop"),
    "Variance": _of_floats("var_samp"),
    "VariancePop": _of_floats("var_pop"),
    "ArrayAgg": _list,
    "GroupConcat": _string_agg,
}


def _aggregate(values: "Values", node: exp.Expr, condition: str = "", window: str = "") -> str:
    from lakehouse.models.spark.values import name_of

    rule = _AGGREGATES.get(name_of(node))
    if rule is None:
        raise Refusal(f"{shown(node)}: it is not known to mean the same in Spark", node)
    this, distinct = node.args.get("this"), False
    if isinstance(this, exp.Distinct):
        if (
            len(this.expressions) != 1
            or this.args.get("on")
            or window
            or name_of(node) not in {"Count", "Sum", "Avg", "Min", "Max"}
        ):
            raise Refusal(shown(node), node)
        node = node.copy()
        node.set("this", this.expressions[0].copy())
        distinct = True
    return rule(values, node, Over(condition=condition, window=window, distinct=distinct))


def _filtered(values: "Values", node: exp.Filter, window: str = "") -> str:
    this, where = take(node, "this", "expression")
    condition = values.of_kind(where.this, "boolean")
    return _aggregate(values, this, condition, window)


# Windows.


def _over(values: "Values", node: exp.Window) -> str:
    this, partition, order, spec, _over_word, alias = take(
        node, "this", "partition_by", "order", "spec", "over", "alias"
    )
    if alias is not None:
        raise Refusal(f"the window {alias.name} with more around it", node)
    function = this.this if isinstance(this, (exp.IgnoreNulls, exp.RespectNulls, exp.Filter)) else this
    if order is None and (isinstance(function, WINDOWS) or spec is not None):
        raise Refusal(f"{shown(node)}: without ORDER BY it depends on how the rows happen to lie", node)
    pieces = []
    if partition:
        pieces.append(f"PARTITION BY {', '.join(values.text(item) for item in partition)}")
    if order is not None:
        pieces.append(f"ORDER BY {', '.join(ordered(values, item) for item in order.expressions)}")
    if spec is not None:
        pieces.append(_frame(spec))
    window = f" OVER ({' '.join(pieces)})"
    if isinstance(this, exp.Filter):
        return _filtered(values, this, window)
    return _ranked(values, this, window) or _aggregate(values, this, window=window)


def ordered(values: "Values", node: exp.Ordered, text: str = "") -> str:
    """One item of ORDER BY, with the place of its nulls said."""
    this, desc, nulls_first = take(node, "this", "desc", "nulls_first")
    if kind(values.type(this)) not in _COMPARABLE:
        raise Refusal(f"an order by {shown(this)}, of type {values.type(this)}", node)
    return (
        f"{text or values.text(this)} {'DESC' if desc else 'ASC'} NULLS {'FIRST' if nulls_first else 'LAST'}"
    )


def _frame(spec: exp.WindowSpec) -> str:
    parts = take(spec, "kind", "start", "start_side", "end", "end_side")
    name = str(parts[0]).upper()
    if name not in {"ROWS", "RANGE"}:
        raise Refusal(f"a window frame of {name}", spec)
    start = _edge(name, parts[1], parts[2], spec)
    end = _edge(name, parts[3] or "CURRENT ROW", parts[4], spec)
    return f"{name} BETWEEN {start} AND {end}"


def _edge(name: str, value: Any, side: Any, spec: exp.WindowSpec) -> str:
    text = value if isinstance(value, str) else ""
    if text.upper() == "CURRENT ROW":
        return "CURRENT ROW"
    if text.upper() == "UNBOUNDED":
        return f"UNBOUNDED {str(side).upper()}"
    if name == "RANGE":
        raise Refusal(
            f"{shown(spec)} as a window frame", spec, "Frames of ROWS, and of RANGE without an offset, go."
        )
    return f"{count(value)} {str(side).upper()}"


def _ranked(values: "Values", this: exp.Expr, window: str) -> str:
    """Functions that are windows only; empty for an aggregate."""
    nulls = " IGNORE NULLS" if isinstance(this, exp.IgnoreNulls) else ""
    inner = this.this if isinstance(this, (exp.IgnoreNulls, exp.RespectNulls)) else this
    plain = {exp.RowNumber: "row_number", exp.Rank: "rank", exp.DenseRank: "dense_rank", exp.PercentRank: "percent_rank", exp.CumeDist: "cume_dist"}  # fmt: skip
    word = next((word for known, word in plain.items() if isinstance(inner, known)), "")
    if word:
        take(inner)
        target = "DOUBLE" if word in {"percent_rank", "cume_dist"} else "BIGINT"
        return f"CAST({word}(){window} AS {target})"
    if isinstance(inner, exp.Ntile):
        return f"CAST(ntile({count(take(inner, 'this')[0], least=1)}){window} AS BIGINT)"
    if isinstance(inner, (exp.Lag, exp.Lead)):
        item, offset, default = take(inner, "this", "offset", "default")
        word = type(inner).__name__.lower()
        steps = count(offset) if offset is not None else 1
        if default is None:
            return f"{word}({values.text(item)}, {steps}){nulls}{window}"
        return f"{word}({values.text(item)}, {steps}, {values.to(default, values.type(item))}){nulls}{window}"
    if isinstance(inner, (exp.FirstValue, exp.LastValue, exp.First, exp.Last)):
        (item,) = take(inner, "this")
        word = "first_value" if isinstance(inner, (exp.FirstValue, exp.First)) else "last_value"
        return f"{word}({values.text(item)}){nulls}{window}"
    if isinstance(inner, exp.NthValue):
        item, offset = take(inner, "this", "offset")
        return f"nth_value({values.text(item)}, {count(offset, least=1)}){nulls}{window}"
    if nulls:
        raise Refusal(shown(this), this)
    return ""


RULES: dict[str, Callable[["Values", Any], str]] = {
    **dict.fromkeys(_AGGREGATES, _aggregate),
    "Filter": _filtered,
    "Window": _over,
}
