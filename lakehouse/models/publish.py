"""What a build found good, as one commit of the source `models`: rows, definitions and positions together."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.core.commit import Commit
from lakehouse.core.definition import ABOUT, Definition, Input, to_json
from lakehouse.core.gates import OPEN
from lakehouse.core.moments import render
from lakehouse.duck.names import quote
from lakehouse.errors import UserError
from lakehouse.models import failures, graph
from lakehouse.models.model import SOURCE, Model
from lakehouse.models.plan import about
from lakehouse.models.workspace import relation

if TYPE_CHECKING:
    import duckdb

    from lakehouse.core.log import Log
    from lakehouse.loading import Load
    from lakehouse.models.build import Run


def publish(run: "Run", log: "Log") -> tuple[Commit | None, dict[str, Definition]]:
    """Publish what a build found good; nothing if there is nothing new.

    Args:
        run: The build.
        log: The log of the source `models` that it began from; the commit comes right after it.

    Returns:
        The commit, and the definitions that are new in it.

    Raises:
        ContentionError: Somebody else published models meanwhile.
    """
    new = {outcome.name: outcome for outcome in run.outcomes if outcome.good and outcome.status != "kept"}
    if not new and not run.plan.removed:
        return None, {}
    stored = [name for name, outcome in new.items() if outcome.status == "built"]
    engine = {"engine": "spark"} if run.spark else {}
    load = run.lake.load(SOURCE, observed_at=observed(run, log, stored), gates=OPEN, produced_by=engine)
    load.after = log.head
    cursor = run.workspace.cursor()
    try:
        for name in stored:
            _write(run, cursor, load, run.plan.models[name])
    finally:
        cursor.close()
    kept = {name: d for name, d in run.plan.before.items() if name not in run.plan.removed}
    made = {
        name: _definition(run, log, name, built=outcome.status == "built") for name, outcome in new.items()
    }
    load.pipeline = to_json((kept | made).values())
    commit = load.publish()
    for name in run.plan.removed:
        failures.forget_failures(run.lake, name)
    return commit, made


def newest_load(run: "Run", names: Collection[str]) -> datetime | None:
    """When the newest load that models read took effect; None where they read none."""
    models = run.plan.models
    behind = {*names, *graph.upstream(names, run.plan.reads)}
    read = {r.source for name in behind for r in models[name].references} - {ABOUT, SOURCE}
    ends = {source: run.workspace.positions.get(source, 0) for source in read}
    return max(
        (run.plan.log(source).commits[seq - 1].effective_at for source, seq in ends.items() if seq),
        default=None,
    )


def observed(run: "Run", log: "Log", stored: Collection[str]) -> datetime:
    """When what a build read took effect; so a stored model and a view say the same as of a moment."""
    first = (run.plan.log(source).commits[0].effective_at for source in run.lake.sources())
    return newest_load(run, stored) or log.effective_at or min(first, default=datetime.now(UTC))


def check_order(run: "Run", log: "Log", as_of: object) -> None:
    """Refuse to publish what was so before that of which models were built already.

    Raises:
        UserError: It would be.
    """
    stored = [name for name in run.plan.chosen if run.plan.models[name].kind != "view"]
    if not stored or log.effective_at is None:
        return
    then = observed(run, log, stored)
    if then < log.effective_at:
        raise UserError(
            f"as of {as_of}: the newest load then is of {render(then)}, but models were built already of {render(log.effective_at)}",
            hint="A history only grows. To have the models as of then: lakehouse build --as-of … -o FOLDER; "
            "views can be asked: lakehouse query --as-of …",
        )


def write_files(run: "Run", folder: Path, names: Collection[str]) -> None:
    """Write models as Parquet files `<name>.parquet`."""
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    cursor = run.workspace.cursor()
    try:
        for outcome in run.outcomes:
            if outcome.good and outcome.name in names:
                table = f"build.main.{quote(outcome.name + '~file')}"
                cursor.execute(f"CREATE TABLE {table} AS SELECT * FROM {relation(outcome.name)}")
                run.workspace.settle(cursor, table)
                rows = run.workspace.rows(cursor, f"SELECT * FROM {table}")
                pq.write_table(rows, folder / f"{outcome.name}.parquet")
    finally:
        cursor.close()


def _write(run: "Run", cursor: "duckdb.DuckDBPyConnection", load: "Load", model: Model) -> None:
    """Add a model's rows to the load."""
    name, increment = model.name, run.increments.get(model.name)
    named = {column.lower(): column for column, _ in run.columns[name]}
    key = [named[column.lower()] for column in model.key]
    if increment is None:
        rows = run.workspace.rows(cursor, f"SELECT * FROM {relation(name)}")
        load.write(name, rows, disposition="replace", primary_key=key)
    elif not model.key:
        load.write(name, run.workspace.rows(cursor, increment.rows), disposition="append")
    else:
        rows, deletes = (run.workspace.rows(cursor, sql) for sql in (increment.rows, increment.deletes))
        load.write(name, rows, disposition="merge", primary_key=key, deletes=deletes)


def inputs_of(run: "Run", log: "Log", name: str) -> dict[str, Input]:
    """What a build reads of each stored table behind a model."""
    found: dict[str, Input] = {}
    built = {outcome.name for outcome in run.outcomes if outcome.status == "built"}
    for reference in run.plan.behind(name):
        seq = run.workspace.positions.get(reference.source, 0)
        if reference.source == ABOUT:
            found[reference.name] = about(run.plan.log, run.workspace.positions)
        elif reference.source == SOURCE and reference.table in built:
            found[reference.name] = Input(seq=log.head + 1)
        else:
            its = run.plan.log(reference.source)
            found[reference.name] = Input(
                seq=seq, digest=its.digest if seq == its.head else its.digest_at(seq)
            )
    return found


def _definition(run: "Run", log: "Log", name: str, *, built: bool) -> Definition:
    """A model as it is from this commit on."""
    plan, model = run.plan, run.plan.models[name]
    before = plan.before.get(name)
    words_only = not built and model.kind != "view"
    return replace(
        plan.described(name),
        columns=run.columns[name],
        fingerprint=plan.fingerprints[name],
        inputs=before.inputs if words_only and before else inputs_of(run, log, name),
        lineage=_lineage(run, model, before),
        built=log.head + 1 if built else before.built if before else 0,
    )


def _lineage(run: "Run", model: Model, before: Definition | None) -> Mapping[str, tuple[str, ...]]:
    """By column, the columns that it comes from; told anew where the SQL or the columns are others."""
    from lakehouse.models.columns import lineage

    if model.language != "sql":
        return {}
    if before and before.lineage and (before.sql, before.columns) == (model.sql, run.columns[model.name]):
        return before.lineage
    cursor = run.workspace.cursor()
    try:
        schemas = {
            r.name: dict(run.workspace.columns(cursor, r)) for r in model.references if r.source != ABOUT
        }
    finally:
        cursor.close()
    return lineage(model.sql, schemas=schemas, columns=[name for name, _ in run.columns[model.name]])
