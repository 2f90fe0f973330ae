"""The candidate of an incremental model: what new loads can have changed is computed, the rest is as it is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from lakehouse.core.definition import ABOUT
from lakehouse.duck.names import quote
from lakehouse.duck.trouble import plain
from lakehouse.models import delta
from lakehouse.models.increments import Increment, NotIncremental, analyse, refusal
from lakehouse.models.model import SOURCE, Model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakehouse.core.definition import Reference
    from lakehouse.models.build import Run

_DRIVER = "_lake_d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Catchup:
    """What was computed of a model where that is not the whole.

    Attributes:
        rows: A SELECT of the rows to add, or to put in the place of those of the same key.
        deletes: A SELECT of the keys that are gone; empty where rows are only added.
    """

    rows: str
    deletes: str = ""


def attempt(run: "Run", cursor: "duckdb.DuckDBPyConnection", model: Model) -> "Catchup | str":
    """Compute what an incremental model lacks, and make its candidate.

    Args:
        run: The build.
        cursor: A connection to its workspace, which has what the model reads.
        model: The model.

    Returns:
        What to store; or why the whole is to be computed.

    Raises:
        NotIncremental: It is new, and could follow none of its inputs.
    """
    found = _follows(run, cursor, model)
    why = run.plan.anew(model.name)
    if why:
        return why
    moved = list(run.plan.moved(model.name, run.workspace.positions, run.changed))
    if len(moved) != 1:
        return f"{' and '.join(reference.name for reference, _ in moved)} changed"
    driver = moved[0][0]
    follows = found.get(driver.name)
    if not isinstance(follows, Increment):
        return follows.message if follows else f"{driver.name} cannot be followed"
    try:
        if run.workspace.is_candidate(driver):
            return _after_candidate(run, cursor, model, driver, follows)
        return _after_loads(run, cursor, model, driver, follows)
    except delta.WholeNeededError as error:
        return error.message
    except duckdb.Error as error:  # of a row that the whole may not look at
        return f"rows of {driver.name} alone could not be computed ({plain(error).splitlines()[0]})"


def _follows(
    run: "Run", cursor: "duckdb.DuckDBPyConnection", model: Model
) -> "Mapping[str, Increment | NotIncremental]":
    """How a model follows each table behind it."""
    models = run.plan.models
    behind = [reference for reference in run.plan.behind(model.name) if reference.source != ABOUT]
    forms = {(r.name, r.form) for name in run.plan.through(model.name) for r in models[name].references}
    views = {
        f"{SOURCE}.{name}": models[name].sql for name in run.plan.through(model.name) if name != model.name
    }
    columns = {r.name: [name for name, _ in run.workspace.columns(cursor, r)] for r in behind}
    found: dict[str, Increment | NotIncremental] = {}
    for reference in behind:
        other = next((form for name, form in forms if name == reference.name and form), None)
        if other:
            found[reference.name] = NotIncremental(
                f"it reads {reference.name}_{other}", where=model.path, line=model.line
            )
            continue
        try:
            found[reference.name] = analyse(
                model.sql, views=views, driver=reference.name, key=model.key, columns=columns,
                where=model.path, line=model.line, duck=cursor,
            )  # fmt: skip
        except NotIncremental as error:
            found[reference.name] = error
    reasons = {name: error for name, error in found.items() if isinstance(error, NotIncremental)}
    if len(reasons) == len(found):
        raise refusal(model.name, reasons)
    return found


def _after_loads(
    run: "Run", cursor: "duckdb.DuckDBPyConnection", model: Model, driver: "Reference", follows: Increment
) -> Catchup:
    """What follows from the loads of the driver since the build before."""
    log = run.plan.log(driver.source)
    read = run.plan.before[model.name].inputs[driver.name]
    since = delta.seen(log, driver.table, read.seq, digest=read.digest)
    gained = delta.delta(run.lake, log, follows, since, run.workspace.positions[driver.source])
    if gained.unchanged:
        raise delta.WholeNeededError(f"{driver.name}: no load says what changed in it")
    return _computed(run, cursor, model, driver, follows, rows=gained.rows, groups=gained.groups)


def _after_candidate(
    run: "Run", cursor: "duckdb.DuckDBPyConnection", model: Model, driver: "Reference", follows: Increment
) -> Catchup:
    """What follows from what this build makes of the driver, which is a model itself."""
    name = f"{quote(SOURCE)}.{quote(driver.table)}"
    types = run.workspace.columns(cursor, driver)
    before = cursor.execute(f"SELECT column_name, column_type FROM (DESCRIBE lakehouse.{name})").fetchall()
    if sorted(before) != sorted(types):  # EXCEPT would take 1 for 1.0
        raise delta.WholeNeededError(f"{driver.name}: its columns, or their types, are others")
    columns = ", ".join(quote(column) for column, _ in types)
    read = run.plan.before[model.name].inputs[driver.name].seq  # the model may be behind what is published
    new = f"SELECT {columns} FROM build.{name}"
    old = f"SELECT {columns} FROM lakehouse.{quote(SOURCE)}.{quote(driver.table + '_at')}({read})"
    came, went = f"({new} EXCEPT ALL {old})", f"({old} EXCEPT ALL {new})"
    if follows.groups:
        picked = ", ".join(
            f"{expression} AS _lake_g{at}" for at, (_, expression) in enumerate(follows.groups)
        )
        groups = f"SELECT DISTINCT {picked} FROM ({came} UNION ALL {went}) AS {_DRIVER}"
        return _computed(run, cursor, model, driver, follows, groups=groups)
    if cursor.execute(f"SELECT EXISTS {went}").fetchall()[0][0]:
        raise delta.WholeNeededError(
            f"{driver.name}: rows changed, and without a key the model only adds rows"
        )
    return _computed(run, cursor, model, driver, follows, rows=came)


def _computed(
    run: "Run",
    cursor: "duckdb.DuckDBPyConnection",
    model: Model,
    driver: "Reference",
    follows: Increment,
    *,
    rows: str = "",
    groups: str = "",
) -> Catchup:
    """Run the model over a part of its driver, and put what comes out in the place of what was there."""
    space, name = run.workspace, quote(model.name)
    published = f"lakehouse.{quote(SOURCE)}.{name}"
    new, among = (f"build.main.{quote(model.name + end)}" for end in ("~rows", "~groups"))
    if groups:
        cursor.execute(f"CREATE TABLE {among} AS {groups}")
        delta.check_comparable(cursor, published, follows, among)
        view = f"build.{quote(driver.source)}.{quote(driver.table)}"
        rows = delta.restricted(view, follows, among)
    space.compute_over(cursor, model, driver, rows, to=new)
    space.settle(cursor, new, run.stored(model.name))
    had, has = (
        {str(row[0]) for row in cursor.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()}
        for table in (published, new)
    )
    if had != has:
        raise delta.WholeNeededError("its columns are others")
    stays = delta.outside(published, follows, among) if groups else f"SELECT * FROM {published}"
    space.candidate(
        model.name,
        lambda to: cursor.execute(f"CREATE VIEW {to} AS {stays} UNION ALL BY NAME SELECT * FROM {new}"),
    )
    if not groups:
        return Catchup(rows=f"SELECT * FROM {new}")
    key = ", ".join(quote(column) for column in model.key)
    replaced = delta.inside(published, follows, among)
    return Catchup(
        rows=f"SELECT * FROM {new}", deletes=f"SELECT {key} FROM ({replaced}) EXCEPT SELECT {key} FROM {new}"
    )
