"""Which rows of a model's result can change when one of its inputs gained rows: what makes `incremental` right.

A SELECT is followed from one input, the driver, to its result, block by block. What comes out is either that rows
are only added, one by one, or which columns of the key part the result into groups that depend on nothing
but the driver's rows of the same group. Anything that is not understood is refused. `lakehouse.models.delta` has the
SQL that goes with it.

It is DuckDB's own syntax tree that is followed (`lakehouse.models.follow`), so that nothing lies between what is
looked at and what runs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.models.follow.queries import TABLE, Queries
from lakehouse.models.follow.relations import Relation
from lakehouse.models.follow.tree import NotIncremental, Text
from lakehouse.models.follow.values import Other, Traced, columns_of

if TYPE_CHECKING:
    import duckdb

__all__ = ["Increment", "NotIncremental", "analyse", "refusal"]


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
    duck: "duckdb.DuckDBPyConnection | None" = None,
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
        duck: A connection that parses, whatever is attached to it; one of its own if not given.

    Raises:
        NotIncremental: It is not known that it could follow this input.
    """
    if duck is None:
        import duckdb

        with duckdb.connect() as own:
            return analyse(
                sql, views=views, driver=driver, key=key, columns=columns, where=where, line=line, duck=own
            )
    queries = Queries(duck, views, driver, columns)
    text = Text(sql.encode(), where, line)
    found = queries.query(text)
    if not found.driven:
        raise NotIncremental(f"{driver} is not among the tables whose rows it reads", where=where, line=line)
    if key:
        return _by_groups(queries, found, key, text)
    for step in found.narrowings:
        what = f"{step.what}, and without a key rows are only added"
        raise step.text.refuse(step.node, what, f"Give the model a key, or {TABLE}.")
    return Increment(driver=driver)


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


def _by_groups(queries: Queries, found: Relation, key: Sequence[str], text: Text) -> Increment:
    """How a result with a key follows the driver."""
    groups: list[tuple[str, str]] = []
    reads: dict[str, None] = {}
    reasons: list[_Refused] = []
    for name in key:
        try:
            value = _traced(found, name, text)
        except _Refused as refused:
            reasons.append(refused)
            continue
        groups.append((name, queries.sql(value)))
        reads |= dict.fromkeys(columns_of(value))
    if not groups:
        raise max(reasons, key=lambda refused: refused.rank).reason
    return Increment(driver=queries.name, groups=tuple(groups), reads=tuple(reads))


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """Why a column of the key parts no groups; what can be mended most easily ranks highest."""

    def __init__(self, rank: int, reason: NotIncremental) -> None:
        super().__init__(reason.message)
        self.rank, self.reason = rank, reason


def _traced(found: Relation, name: str, text: Text) -> Traced:
    """The expression over the driver that a column of the result is, if it parts groups."""
    if name.lower() not in found.by_name:
        raise NotIncremental(
            f"the result has no column {name}, which is in the key", where=text.where, line=text.line
        )
    value = found.by_name[name.lower()]
    hint = f"Have a column of the driver in the key, or {TABLE}."
    if isinstance(value, Other) or not value.reads:
        why = value.why if isinstance(value, Other) else "it is a constant"
        what = f"no column of the key says which rows are to be computed anew: {name} is no column of the driver, {why}"
        raise _Refused(0, NotIncremental(what, hint=hint, where=text.where, line=text.line))
    called = name if json.loads(value.tree)["class"] == "COLUMN_REF" else f"what {name} is"
    for step in found.narrowings:
        if value.tree not in step.kept:
            raise _Refused(
                1, step.text.refuse(step.node, step.what, f"{step.fix.format(called)}, or {TABLE}.")
            )
    return value
