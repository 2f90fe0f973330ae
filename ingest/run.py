"""Runs a scraper into a lake: plain functions, to be called by the CLI, a flow, a test.

The working directory of dlt only holds a package on its way: what counts is in the lake. A run
first finishes the package that a crashed run left, then starts from what the lake remembers.
"""

import re
import shutil
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from ingest.defaults import set_dlt_defaults

set_dlt_defaults()

import dlt  # noqa: E402 - it reads the environment at import
from dlt.common.schema.exceptions import DataValidationError  # noqa: E402
from dlt.common.storages import create_load_id  # noqa: E402
from dlt.extract import DltResource, DltSource  # noqa: E402
from dlt.extract.exceptions import PipeItemProcessingError, ResourceExtractionError  # noqa: E402
from dlt.normalize.exceptions import NormalizeJobFailed  # noqa: E402
from dlt.pipeline.exceptions import PipelineStepFailed  # noqa: E402
from filelock import FileLock, Timeout  # noqa: E402

from ingest import discards  # noqa: E402
from ingest.destination import lakehouse  # noqa: E402
from ingest.discover import FOLDER, Scraper  # noqa: E402
from ingest.hooks import observed  # noqa: E402
from ingest.memory import StaleStateError  # noqa: E402
from lakehouse import Lake  # noqa: E402
from lakehouse.core.commit import Commit  # noqa: E402
from lakehouse.core.gates import Gates  # noqa: E402
from lakehouse.errors import (  # noqa: E402
    ContentionError,
    IntegrityError,
    LakehouseError,
    ScraperError,
    SetupError,
    UserError,
)

WAIT_SECONDS = 60.0
_ATTEMPTS = 20  # extractions that another run may overtake
_WRAPPERS = (PipelineStepFailed, ResourceExtractionError, PipeItemProcessingError, NormalizeJobFailed)
_WORTH_RETRYING = (OSError, ContentionError, IntegrityError, SetupError)

# What dlt says of a null in a key, from Arrow and from dicts.
_NULL = re.compile(
    r"job_id=(?P<table>\w+)\..*Column '(?P<column>[^']+)' is declared non-nullable"
    r"|table `(?P<table_too>[^`]+)` column `(?P<column_too>[^`]+)` which is not nullable",
    re.DOTALL,
)

Refresh = Literal["drop_sources", "drop_resources", "drop_data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run did.

    Attributes:
        source: The lake's source.
        commits: Oldest first; more than one where a crashed run's package came first.
    """

    source: str
    commits: tuple[Commit, ...]

    @property
    def rows(self) -> dict[str, int]:
        """Rows that were stored, by table; for keyed tables these are the changes only."""
        stored: dict[str, int] = {}
        for commit in self.commits:
            for table, change in commit.tables.items():
                stored[table] = stored.get(table, 0) + sum(part.rows for part in change.parts)
        return stored

    @property
    def discarded(self) -> dict[str, int]:
        """Rows that contracts discarded, by table."""
        dropped: dict[str, int] = {}
        for commit in self.commits:
            for table, said in commit.discarded.items():
                dropped[table] = dropped.get(table, 0) + int(said["rows"])
        return dropped

    @property
    def nothing_new(self) -> bool:
        """The source was looked at and had nothing that the lake does not have."""
        return all(commit.outcome == "unchanged" for commit in self.commits)


def run_source(
    lake: Lake,
    data: Any,
    *,
    name: str,
    pipelines_dir: Path,
    observed_at: datetime | None = None,
    gates: Gates | None = None,
    produced_by: dict[str, Any] | None = None,
    refresh: Refresh | None = None,
    wait_seconds: float = WAIT_SECONDS,
) -> RunResult:
    """Load what a dlt source or resource yields, as one commit.

    Args:
        lake: Where to.
        data: A dlt source or resource, a list of resources, or a function that returns one. A
            function is called when the state of earlier runs is there for it to read.
        name: The lake's source, and dlt's pipeline.
        pipelines_dir: Folder for dlt's working directories.
        observed_at: When the data was seen at the source; by default now.
        gates: What the load has to pass; by default those of `Gates()`.
        produced_by: What the commit says about who made it.
        refresh: dlt's way of starting tables anew.
        wait_seconds: How long to wait for another run of the same source.

    Returns:
        The commits: those of packages that a crashed run left, and the one of this run. A run that
        finds nothing writes one too, without parts.

    Raises:
        ContentionError: Another run of the source did not end in time.
        QuarantinedError: A gate refused the load. The next run starts from what is published.
        ScraperError: The scraper or its data failed; the cause is chained.
        SetupError: The machine failed (a full disk); the next run finishes what was fetched.
    """
    destination = lakehouse(lake, source=name, gates=gates, produced_by=produced_by)
    run = _Run(lake=lake, name=name, pipelines_dir=pipelines_dir, destination=destination)
    with _alone(pipelines_dir, name, wait_seconds):
        load_ids = run.finish_pending()
        new = _persistently(lambda: run.load_new(data, observed_at, refresh), repeatable=_is_function(data))
        load_ids += new or [run.note_nothing_new(observed_at, gates, produced_by)]
    log = lake.log(name)
    commits = (log.find(load_id) for load_id in load_ids)
    return RunResult(source=name, commits=tuple(commit for commit in commits if commit is not None))


def run_scraper(lake: Lake, scraper: Scraper, *, pipelines_dir: Path, **options: Any) -> RunResult:
    """Run a scraper for today. Options and errors are those of `run_source`."""
    today = datetime.now(UTC).date()
    return run_source(
        lake, lambda: scraper.build(today), name=scraper.name, pipelines_dir=pipelines_dir, **options
    )


def run_days(
    lake: Lake, scraper: Scraper, *, days: int, pipelines_dir: Path, **options: Any
) -> Iterator[RunResult]:
    """Run a scraper for past days, oldest first, then for today: one load for each.

    Days that the log has reached already are skipped: time in a log does not run backwards. Each
    load counts as observed a whole number of days before now. Options are those of `run_source`.

    Yields:
        What each run did, when it is done.

    Raises:
        UserError: The scraper has no parameter `day`; or as `run_source`.
    """
    if days and not scraper.takes_day:
        msg = f"{scraper.name}: cannot be run for past days"
        raise UserError(msg, hint=f"Give its function in {scraper.path} a parameter `day: date`.")
    now = datetime.now(UTC)
    reached = lake.log(scraper.name).effective_at  # the latest of all that was observed
    past = (now - timedelta(days=back) for back in range(days, 0, -1))
    missing = [moment for moment in past if reached is None or reached.date() < moment.date()]
    for moment in missing:
        yield _run_day(lake, scraper, moment, pipelines_dir, options)
    yield run_scraper(lake, scraper, pipelines_dir=pipelines_dir, **options)


def _run_day(
    lake: Lake, scraper: Scraper, moment: datetime, pipelines_dir: Path, options: dict[str, Any]
) -> RunResult:
    return run_source(
        lake,
        lambda: scraper.build(moment.date()),
        name=scraper.name,
        pipelines_dir=pipelines_dir,
        observed_at=moment,
        **options,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One run of one source, while its lock is held."""

    lake: Lake
    name: str
    pipelines_dir: Path
    destination: lakehouse

    @property
    def working_dir(self) -> Path:
        return self.pipelines_dir / self.name

    def finish_pending(self) -> list[str]:
        """Load the package that a crashed run left; its load id, if there was one."""
        if not self.working_dir.is_dir():
            return []
        for path in (self.working_dir / "schemas").glob("*"):
            if not path.name.endswith(".schema.json"):
                path.unlink()  # half written when the run was killed; dlt would take it for a schema
        try:
            pipeline = self._pipeline()
            normalized = pipeline.list_normalized_load_packages()
            extracted = pipeline.list_extracted_load_packages()
        except Exception:  # noqa: BLE001 - torn by a kill: the same as lost, and the lake remembers
            return []
        log = self.lake.log(self.name)
        pending = sorted({*normalized, *extracted})
        if all(log.find(load_id) for load_id in pending):
            return pending  # published, and killed while dlt put its package away
        for load_id in extracted:
            if load_id in normalized:  # killed while dlt deleted what it had normalized
                shutil.rmtree(self.working_dir / "normalize" / "extracted" / load_id)
            else:  # killed before dlt saved the schema, maybe: without it, it would take an older one
                pipeline._inject_schema(pipeline.get_load_package_info(load_id).schema)  # noqa: SLF001
        try:
            with self._failures():
                info = pipeline.run()
        except StaleStateError:
            return []  # another machine went on in the meantime; its rows are fetched anew
        return list(info.loads_ids) if info else []

    def load_new(self, data: Any, observed_at: datetime | None, refresh: Refresh | None) -> list[str]:
        """Extract, normalize and load; the load id, unless there was nothing at all."""
        self._forget_working_dir()
        with self._failures():
            pipeline = self._pipeline()
            pipeline.sync_destination()
            built = _built(data, pipeline)
            with observed(observed_at):
                info = pipeline.run(built, refresh=refresh) if refresh else pipeline.run(built)
        return list(info.loads_ids) if info else []

    def note_nothing_new(
        self, observed_at: datetime | None, gates: Gates | None, produced_by: dict[str, Any] | None
    ) -> str:
        """Commit that the source was looked at, and what a contract discarded, if that was all."""
        dropped = discards.packages(self.working_dir)
        load_id = dropped[-1] if dropped else create_load_id()
        with self.lake.load(
            self.name,
            load_id=load_id,
            observed_at=observed_at or datetime.now(UTC),
            produced_by=produced_by or {},
            gates=gates,
        ) as load:
            for table, reason, rows in discards.read(self.working_dir, load_id):
                load.discard(table, rows=rows, reason=reason)
        discards.remove(self.working_dir, load_id)
        return load_id

    def _pipeline(self) -> dlt.Pipeline:
        return dlt.pipeline(
            pipeline_name=self.name, pipelines_dir=str(self.pipelines_dir), destination=self.destination
        )

    def _forget_working_dir(self) -> None:
        """Drop the working directory at once: what a kill left of half a package would be loaded."""
        forgotten = self.pipelines_dir / f".{self.name}.forgotten"
        shutil.rmtree(forgotten, ignore_errors=True)
        if self.working_dir.exists():
            self.working_dir.rename(forgotten)
            shutil.rmtree(forgotten, ignore_errors=True)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turns dlt's errors into ours. The package stays only where trying again can help."""
        try:
            yield
        except LakehouseError:
            raise
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - it is raised anew, as one of ours
            step = error.step if isinstance(error, PipelineStepFailed) else "extract"
            cause = _cause(error)
            worth_retrying = isinstance(cause, _WORTH_RETRYING) and not isinstance(cause, StaleStateError)
            if isinstance(cause, Exception) and not worth_retrying:
                self._forget_working_dir()
            if isinstance(cause, LakehouseError) or not isinstance(cause, Exception):
                raise cause from None
            raise self._explained(cause, step) from cause

    def _explained(self, cause: Exception, step: str) -> LakehouseError:
        said = f"{type(cause).__name__}: {cause}"
        if isinstance(cause, DataValidationError):
            return ScraperError(
                f"{self.name}: the data breaks the contract of its schema: {said}",
                hint="Nothing was published. Let the contract evolve or discard, or repair the scraper.",
            )
        if step == "extract":
            return ScraperError(
                f"{self.name}: the scraper failed{_where(cause)}: {said}",
                hint="Nothing was published; the next run starts from the last load. "
                "For the whole traceback: lakehouse ingest -v",
            )
        null = _NULL.search(said)
        if null:
            table, column = (null["table"] or null["table_too"]), (null["column"] or null["column_too"])
            return ScraperError(
                f"{self.name}.{table}: a row has no value in the column {column!r}, which may not be null",
                hint="Nothing was published. Is it the primary key, and did the source rename it?",
            )
        if isinstance(cause, OSError):
            return SetupError(
                f"{self.name}: {said}",
                hint="What was fetched is kept: the next run loads it first.",
            )
        kind = ScraperError if step == "normalize" else LakehouseError
        return kind(
            f"{self.name}: what was fetched cannot be loaded ({step}): {said}",
            hint="Nothing was published; the next run starts from the last load.",
        )


def _is_function(data: Any) -> bool:
    """Whether the data can be asked for again; dlt's sources and resources are callable, too."""
    return callable(data) and not isinstance(data, (DltSource, DltResource))


def _persistently(load: Callable[[], list[str]], *, repeatable: bool) -> list[str]:
    """Load, and again where another machine's run of the same source was faster."""
    for attempt in range(_ATTEMPTS):
        try:
            return load()
        except StaleStateError:
            if not repeatable or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


@contextmanager
def _alone(pipelines_dir: Path, name: str, wait_seconds: float) -> Iterator[None]:
    pipelines_dir.mkdir(parents=True, exist_ok=True)
    path = pipelines_dir / f"{name}.lock"
    try:
        with FileLock(path, timeout=wait_seconds):
            yield
    except Timeout as error:
        msg = f"{name}: another run of this source is still going after {wait_seconds:g} s ({path})"
        raise ContentionError(msg, hint="Wait for it to end, then run again.") from error


def _built(data: Any, pipeline: dlt.Pipeline) -> Any:
    """The dlt source or resources to extract, so that dlt makes exactly one package of them."""
    built = data() if _is_function(data) else data
    if isinstance(built, Sequence) and any(isinstance(one, DltSource) for one in built):
        msg = "a run loads one dlt source"
        raise UserError(msg, hint="Run them one after the other, each under a name of its own.")
    known = pipeline.default_schema_name
    if isinstance(built, DltSource) and known and built.schema.name != known:
        built.schema = built.schema.clone(with_name=known)  # a second schema would be a second package
    return built


def _where(error: BaseException) -> str:
    """The line of the scraper's own file in which an error arose."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).parent.parts[-2:] == FOLDER.parts]
    return f" at {FOLDER / Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


def _cause(error: BaseException) -> BaseException:
    """What went wrong, without dlt's wrapping."""
    while isinstance(error, _WRAPPERS):
        inner = error.exception if isinstance(error, PipelineStepFailed) else error.__cause__
        if inner is None:
            return error
        error = inner
    return error
