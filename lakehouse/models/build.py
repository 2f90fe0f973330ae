"""A build: what is out of date is computed, held against its tests, and published as one commit.

Write, audit, publish: results are candidates in a workspace until all is done, and what fails a test is
not among what is published, nor is what reads it. Readers see the models of before until the commit is there,
and all of the new ones from then on.
"""

import contextlib
import functools
import tempfile
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.core.commit import Commit
from lakehouse.core.definition import ABOUT
from lakehouse.errors import ContentionError, IntegrityError, LakehouseError, NotFoundError
from lakehouse.models import graph
from lakehouse.models.model import SOURCE, Model, Reference, Test
from lakehouse.models.plan import Plan

if TYPE_CHECKING:
    import duckdb

    from lakehouse.core.types import Type
    from lakehouse.lake import Lake
    from lakehouse.models.audit import Outcome as Found
    from lakehouse.models.catchup import Catchup
    from lakehouse.models.events import Events
    from lakehouse.models.spark import Spark
    from lakehouse.models.workspace import Workspace

_Late = tuple[
    Test, tuple[str, ...], tuple[Reference, ...], str
]  # a test, the models it is of, what it reads, its file
THREADS = 4  # models at once; DuckDB runs each on all cores as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one model.

    Attributes:
        name: Its name.
        kind: `view`, `table` or `incremental`.
        status: `built` (its rows were computed), `defined` (a view), `described` (only words or tests are
            new), `kept` (nothing to do), `failed` (its SQL or its function), `refused` (by a test),
            `skipped` (what it reads failed, or was refused).
        reasons: Why something was to do.
        increment: Whether only what can have changed was computed.
        tests: What its tests found.
        whole: Why the whole of an incremental model was computed.
        error: Why it failed or was skipped.
    """

    name: str
    kind: str
    status: str
    reasons: tuple[str, ...] = ()
    increment: bool = False
    whole: str = ""
    tests: "tuple[Found, ...]" = ()
    error: LakehouseError | None = None

    @property
    def good(self) -> bool:
        """Whether what reads it may go on."""
        return self.status not in {"failed", "refused", "skipped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a build did.

    Attributes:
        outcomes: Of each chosen model, in order.
        removed: Models that are no more.
        commit: What was published; None if there was nothing to publish.
    """

    outcomes: tuple[Outcome, ...]
    removed: tuple[str, ...] = ()
    commit: Commit | None = None

    @property
    def bad(self) -> tuple[Outcome, ...]:
        """What was not published though it should have been."""
        return tuple(outcome for outcome in self.outcomes if not outcome.good)


def build(
    lake: "Lake",
    root: Path,
    plan: Plan,
    *,
    as_of: datetime | str | int | None = None,
    engine: str = "duckdb",
    output: Path | None = None,
    events: "Events | None" = None,
) -> Built:
    """Carry a plan out.

    Args:
        lake: The lake.
        root: The project's folder, where Python models lie.
        plan: What is chosen, and what was there before.
        as_of: Read everything as of this moment; now by default.
        engine: `duckdb` or `spark`.
        output: Write the chosen models there as Parquet files, whole, and publish nothing.
        events: Whom to tell of each model.

    Raises:
        ContentionError: Somebody else published models meanwhile.
        UserError: As of a moment before that of which models were built already.
    """
    log = plan.log(SOURCE)
    if output is None and as_of is None and not plan.removed and not work(lake, plan):
        return Built(outcomes=tuple(kept(plan, name) for name in plan.models if name in plan.chosen))
    from lakehouse.models import publish
    from lakehouse.models.workspace import Workspace

    chosen = plan.chosen
    plan = replace(plan if output is None else plan.apart(), log=functools.cache(lake.log))
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lakehouse-build-")))
        workspace = Workspace(lake, plan.models, as_of=as_of, scratch=scratch)
        stack.callback(workspace.close)
        if as_of is None and workspace.positions.get(SOURCE, 0) != log.head:
            raise ContentionError("somebody else published models meanwhile", hint="Run it again.")
        run = Run(lake, root, plan, workspace)
        if as_of is not None and output is None:
            publish.check_order(run, log, as_of)
        if engine == "spark":
            from lakehouse.models.spark import Spark

            run.spark = Spark(lake, positions=workspace.positions, folder=scratch / "spark")
            stack.callback(run.spark.close)
        run.events = events
        try:
            run.all()
            if output is not None:
                publish.write_files(run, output, chosen)
                return Built(outcomes=run.outcomes)
            commit, definitions = publish.publish(run, log)
        except BaseException as error:
            if events:
                events.broke(error)
            raise
        if events:
            for outcome in run.outcomes:
                events.ended(outcome, definitions.get(outcome.name), commit)
        return Built(outcomes=run.outcomes, removed=plan.removed, commit=commit)


def check(lake: "Lake", root: Path, plan: Plan, *, as_of: datetime | str | int | None = None) -> Built:
    """Hold the chosen models against their tests as they are, and publish nothing."""
    from lakehouse.models.workspace import Workspace

    with tempfile.TemporaryDirectory(prefix="lakehouse-test-") as scratch:
        workspace = Workspace(lake, plan.models, as_of=as_of, scratch=Path(scratch))
        try:
            run = Run(lake, root, plan, workspace, checks_only=True)
            run.all()
            return Built(outcomes=run.outcomes)
        finally:
            workspace.close()


def work(lake: "Lake", plan: Plan) -> dict[str, tuple[str, ...]]:
    """Why models are out of date, by name, as far as it is known before anything is computed."""
    read = {r.source for name in plan.chosen for r in plan.behind(name)}
    positions: dict[str, int] = {}
    for source in read | {SOURCE} if ABOUT not in read else lake.sources():
        with contextlib.suppress(IntegrityError):
            positions[source] = plan.log(source).head
    found: dict[str, tuple[str, ...]] = {}
    for name in plan.models:
        if name in plan.chosen:
            try:
                reasons = plan.reasons(name, positions, found)
            except IntegrityError as error:  # the build says so of this model, and goes on with the others
                reasons = [error.message]
            if reasons or not plan.is_described(name):
                found[name] = tuple(reasons) or ("its words or tests changed",)
    return found


def kept(plan: Plan, name: str) -> Outcome:
    """The outcome of a model with which there was nothing to do."""
    return Outcome(name=name, kind=plan.models[name].kind, status="kept")


class Run:
    """One build under way: what became of each model so far.

    Attributes:
        changed: Stored models whose rows are others than those that the lake has.
        increments: By model, what was computed of it where that is not the whole.
        columns: By model, names and DuckDB types of what it yields.
        spark: The engine that computes, if it is not DuckDB.
        events: Whom to tell of each model.
    """

    def __init__(
        self, lake: "Lake", root: Path, plan: Plan, workspace: "Workspace", *, checks_only: bool = False
    ) -> None:
        self.lake, self.root, self.plan, self.workspace = lake, root, plan, workspace
        self.checks_only = checks_only
        self.spark: Spark | None = None
        self.events: Events | None = None
        self.changed: set[str] = set()
        self.increments: dict[str, Catchup] = {}
        self.columns: dict[str, tuple[tuple[str, str], ...]] = {}
        self._in_spark: set[str] = set()
        self._outcomes: dict[str, Outcome] = {}
        self._late: list[_Late] = []

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of each chosen model, in order."""
        return tuple(self._outcomes[name] for name in self.plan.models if name in self._outcomes)

    def all(self) -> None:
        """Build what is chosen, each model after what it reads, several at once where they can; then the tests of all."""
        chosen = set(self.plan.chosen)
        reads = {name: chosen.intersection(self.plan.reads[name]) for name in chosen}
        sorter = TopologicalSorter(reads)
        sorter.prepare()
        running: dict[Future[Outcome], str] = {}
        with ThreadPoolExecutor(1 if self.spark else THREADS) as pool:
            try:
                while sorter.is_active():
                    for name in sorter.get_ready():
                        running[pool.submit(self._one, name)] = name
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        name = running.pop(future)
                        self._outcomes[name] = future.result()
                        sorter.done(name)
            except BaseException:  # Ctrl-C: not to wait until each of them is done
                pool.shutdown(wait=False, cancel_futures=True)
                self.workspace.interrupt()
                raise
        self._tests_of_all()

    def _one(self, name: str) -> Outcome:
        """Build one model, if it is out of date and what it reads is there."""
        model = self.plan.models[name]
        about = Outcome(
            name=name, kind=model.kind, status="described", reasons=("its words or tests changed",)
        )
        read = [r.table for r in model.references if r.source == SOURCE]
        missing = next((n for n in (read if not self.checks_only else [name]) if not self._is_good(n)), None)
        if missing is not None:
            return replace(about, status="skipped", reasons=(), error=self._missing(name, missing))
        cursor = self.workspace.cursor()
        try:
            with self.workspace.explained(model):
                if self.checks_only:
                    about = replace(about, status="kept", reasons=())
                    self.workspace.provide_model(name)
                    return self._audited(cursor, model, about)
                reasons = self.plan.reasons(name, self.workspace.positions, self.changed)
                if not reasons and self.plan.is_described(name):
                    return kept(self.plan, name)
                self.workspace.provide(model.references)
                self._tell(cursor, model)
                if reasons:
                    about = replace(about, reasons=tuple(reasons))
                    about = self._made(cursor, model, about)
                else:
                    self.workspace.provide_model(name)
                self.columns[name] = self.workspace.columns(cursor, Reference(source=SOURCE, table=name))
                return self._audited(cursor, model, about)
        except LakehouseError as error:
            return replace(about, status="failed", error=error)
        finally:
            cursor.close()

    def _tell(self, cursor: "duckdb.DuckDBPyConnection", model: Model) -> None:
        if self.events is None:
            return
        from lakehouse.models import publish

        inputs = publish.inputs_of(self, self.plan.log(SOURCE), model.name)
        reads = {
            r.name: (inputs.get(r.name), self.workspace.columns(cursor, r))
            for r in model.references
            if r.source != ABOUT
        }
        self.events.began(model, reads)

    def stored(self, name: str) -> "dict[str, Type]":
        """The types of the columns that the lake has of a model, by name; nothing for a build that takes nothing over."""
        table = self.plan.log(SOURCE).tables.get(name) if self.plan.before else None
        return {column.source_name or column.name: column.type for column in table.columns} if table else {}

    def _is_good(self, name: str) -> bool:
        outcome = self._outcomes.get(name)
        if outcome is not None:
            return outcome.good
        return name in self.plan.before

    def _missing(self, name: str, missing: str) -> NotFoundError:
        if name == missing:
            return NotFoundError(f"models.{name} was never built", hint=f"lakehouse build --select +{name}")
        reads = f"models.{name} reads models.{missing}"
        if missing in self._outcomes:
            return NotFoundError(f"{reads}, which was not built")
        return NotFoundError(f"{reads}, which was never built", hint=f"lakehouse build --select +{name}")

    def _made(self, cursor: "duckdb.DuckDBPyConnection", model: Model, about: Outcome) -> Outcome:
        """The candidate of a model, made."""
        from lakehouse.models import catchup, frames
        from lakehouse.models.workspace import relation

        name = model.name
        if model.kind == "view":
            self.workspace.provide_model(name)
            if self.spark:
                self._provide_spark(model)
            return replace(about, status="defined")
        found = (
            catchup.attempt(self, cursor, model) if model.kind == "incremental" and not self.spark else None
        )
        if isinstance(found, catchup.Catchup):
            self.increments[name] = found
        else:
            about = replace(about, whole=found or "")
            if model.language == "python":
                self.workspace.candidate(name, lambda to: frames.run(cursor, self.root, model, to))
            elif self.spark:
                self._by_spark(cursor, model)
            else:
                self.workspace.candidate(name, lambda to: cursor.execute(f"CREATE TABLE {to} AS {model.sql}"))
        if name not in self.increments:  # whose new rows are settled, on top of what is stored
            self.workspace.settle(cursor, relation(name), self.stored(name))
        before = self.plan.before.get(name)
        same = before is not None and (before.kind, before.key) == (model.kind, model.key)
        if not same or self.workspace.differs(cursor, name):
            self.changed.add(name)
        return replace(about, status="built", increment=name in self.increments)

    def _by_spark(self, cursor: "duckdb.DuckDBPyConnection", model: Model) -> None:
        """The candidate of a table, computed by Spark; it has the types that DuckDB would give it."""
        from lakehouse.duck.names import literal, quote

        assert self.spark is not None  # noqa: S101 - asked for only then
        self._provide_spark(model)
        files = [str(file) for file in self.spark.candidate(model.name, model)]
        types = cursor.execute(f"DESCRIBE {model.sql}").fetchall()
        columns = ", ".join(f"CAST({quote(row[0])} AS {row[1]}) AS {quote(row[0])}" for row in types)
        read = f"read_parquet([{', '.join(map(literal, files))}])"
        self.workspace.candidate(
            model.name, lambda to: cursor.execute(f"CREATE TABLE {to} AS SELECT {columns} FROM {read}")
        )

    def _provide_spark(self, model: Model) -> None:
        """Have the views there that a model reads in Spark; tables it finds itself."""
        assert self.spark is not None  # noqa: S101 - asked for only then
        through = self.plan.through(model.name)
        for name in self.plan.models:  # in order
            if name in through and self.plan.models[name].kind == "view" and name not in self._in_spark:
                self.spark.view(name, self.plan.models[name])
                self._in_spark.add(name)

    def _audited(self, cursor: "duckdb.DuckDBPyConnection", model: Model, about: Outcome) -> Outcome:
        """A model's outcome once its own tests were run; those that look at other models come after all is built."""
        from lakehouse.models import audit, failures, publish

        found = []
        for test in audit.tests_of(model):
            target = _target(test)
            if target is not None and target.source == SOURCE and target.table != model.name:
                self._late.append((test, (model.name,), (target,), model.path))
                continue
            self.workspace.provide([target] if target else [])
            now = publish.newest_load(self, [model.name])
            found.append(audit.run(cursor, model.name, test, now=now, path=model.path))
        failures.keep_failures(self.lake, model.name, found)
        refused = any(test.blocks for test in found)
        return replace(about, status="refused" if refused else about.status, tests=tuple(found))

    def _tests_of_all(self) -> None:
        """Run the tests that look at several models; what one refuses goes, with what reads it."""
        from lakehouse.models import audit, failures

        files = [(f.test, f.models, f.references, f.test.arguments["path"]) for f in self.plan.tests]
        late = [*self._late, *files]
        for test, models, references, path in late:
            touched = self._touched(models)
            read = [r.table for r in references if r.source == SOURCE]
            if not touched or not all(self._is_good(name) for name in (*models, *read)):
                continue
            names = {outcome.name for outcome in touched}
            cursor = self.workspace.cursor()
            try:
                self.workspace.provide(references)
                found = audit.run(cursor, touched[-1].name, test, now=None, path=path)
            except LakehouseError as error:
                self._outcomes |= {o.name: replace(o, status="failed", error=error) for o in touched}
                self._without_readers(names)
                continue
            finally:
                cursor.close()
            for outcome in touched:
                told = replace(outcome, tests=(*outcome.tests, replace(found, model=outcome.name)))
                self._outcomes[outcome.name] = replace(told, status="refused") if found.blocks else told
                failures.keep_failures(self.lake, outcome.name, told.tests)
            if found.blocks:
                self._without_readers(names)
        while not self.checks_only and self._without_untested(late):
            pass

    def _touched(self, models: Iterable[str]) -> list[Outcome]:
        """The outcomes of models that this build is to publish, or to look at."""
        outcomes = [self._outcomes[name] for name in models if name in self._outcomes]
        return [o for o in outcomes if o.status != "kept" or self.checks_only]

    def _without_untested(self, late: Iterable[_Late]) -> bool:
        """Take back what was held against a model that is not published, or was not held at all; whether there was any."""
        for _, models, references, _ in late:
            read = [r.table for r in references if r.source == SOURCE]
            bad = {name for name in (*models, *read) if not self._is_good(name)}
            for outcome in self._touched(models) if bad else ():
                if outcome.good:
                    said = f"a test of models.{outcome.name} reads models.{min(bad)}, which was not built"
                    self._outcomes[outcome.name] = replace(
                        outcome, status="skipped", error=NotFoundError(said)
                    )
                    self._without_readers({outcome.name})
                    return True
        return False

    def _without_readers(self, names: set[str]) -> None:
        """Take back what was made from models that turned out bad."""
        for name, outcome in list(self._outcomes.items()):
            bad = graph.upstream([name], self.plan.reads) & names
            if bad and outcome.good and outcome.status != "kept":
                error = self._missing(name, min(bad))
                self._outcomes[name] = replace(outcome, status="skipped", error=error)


def _target(test: Test) -> Reference | None:
    """The table that a test compares the model's with, if there is one."""
    from lakehouse.models import audit

    if test.kind != "relationships":
        return None
    source, table, _ = audit.target(test)
    return Reference(source=source, table=table)
