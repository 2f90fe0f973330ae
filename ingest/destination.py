"""The dlt destination that publishes a load package as one load of a lake.

Load jobs only stay where dlt put them; `complete_load` hands all of the package to the Lake API and
leaves one commit, with dlt's state in it. The log knows the package's load id: doing it again after
a crash changes nothing. What is written how is decided in `ingest.plan`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ingest.defaults import set_dlt_defaults

set_dlt_defaults()

import pyarrow as pa  # noqa: E402 - dlt reads the environment at import
from dlt.common.configuration import configspec  # noqa: E402
from dlt.common.configuration.container import Container  # noqa: E402
from dlt.common.destination import Destination, DestinationCapabilitiesContext  # noqa: E402
from dlt.common.destination.client import (  # noqa: E402
    DestinationClientConfiguration,
    JobClientBase,
    LoadJob,
    RunnableLoadJob,
    StateInfo,
    StorageSchemaInfo,
    WithStateSync,
)
from dlt.common.destination.configuration import ParquetFormatConfiguration  # noqa: E402
from dlt.common.destination.typing import PreparedTableSchema  # noqa: E402
from dlt.common.pipeline import PipelineContext  # noqa: E402
from dlt.common.schema import Schema  # noqa: E402
from dlt.common.storages.load_package import LoadPackageStateInjectableContext  # noqa: E402

from ingest import discards, memory, plan  # noqa: E402
from ingest.hooks import select_format  # noqa: E402
from lakehouse import Lake  # noqa: E402
from lakehouse.core.commit import Commit  # noqa: E402
from lakehouse.core.gates import Gates  # noqa: E402
from lakehouse.core.log import Log  # noqa: E402
from lakehouse.loading import Load, state_of  # noqa: E402


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where load packages go, and what their commits say.

    Attributes:
        lake: The lake.
        source: The lake's source; None for the name of the dlt pipeline.
        gates: What loads have to pass; None for those of `Gates()`.
        produced_by: What the commits say about who made them.
    """

    lake: Lake
    source: str | None = None
    gates: Gates | None = None
    produced_by: dict[str, Any] = dataclasses.field(default_factory=dict)

    def log(self, pipeline_name: str) -> Log:
        """The log of the source, as of now."""
        return self.lake.log(self.source or pipeline_name)


@configspec
class LakehouseConfiguration(DestinationClientConfiguration):
    """dlt's configuration of the destination: nothing is left to configure."""

    destination_type: Final[str] = dataclasses.field(  # type: ignore[misc]
        default="lakehouse", init=False, repr=False, compare=False
    )


class lakehouse(Destination[LakehouseConfiguration, "LakehouseClient"]):  # noqa: N801 - dlt names destinations so
    """Destination of a dlt pipeline: `dlt.pipeline("shop", destination=lakehouse(lake), …)`.

    Args:
        lake: The lake.
        source: The lake's source to load into; by default the name of the pipeline.
        gates: What every load has to pass; by default those of `Gates()`.
        produced_by: What the commits say about who made them.
    """

    spec = LakehouseConfiguration

    def __init__(
        self,
        lake: Lake,
        *,
        source: str | None = None,
        gates: Gates | None = None,
        produced_by: dict[str, Any] | None = None,
    ) -> None:
        self._target = Target(lake=lake, source=source, gates=gates, produced_by=produced_by or {})
        super().__init__()

    @property
    def client_class(self) -> type["LakehouseClient"]:
        """Dlt asks for it to learn what the client can do."""
        return LakehouseClient

    def client(
        self, schema: Schema, initial_config: LakehouseConfiguration | None = None
    ) -> "LakehouseClient":
        """The client for a schema; dlt makes one for every step."""
        config = self.configuration(initial_config or self.spec())
        return LakehouseClient(schema, config, self.capabilities(config, schema.naming), self._target)

    def _raw_capabilities(self) -> DestinationCapabilitiesContext:
        caps = DestinationCapabilitiesContext.generic_capabilities(
            preferred_loader_file_format="parquet",
            loader_file_format_selector=select_format,
            supported_merge_strategies=["delete-insert", "upsert", "scd2", "insert-only"],
        )
        caps.supported_loader_file_formats = ["parquet"]
        caps.parquet_format = ParquetFormatConfiguration(arrow_concat_promote_options="default")
        caps.supported_replace_strategies = ["truncate-and-insert"]
        caps.max_timestamp_precision = 9
        return caps


class StayingJob(RunnableLoadJob):
    """A file of the package. It stays where it is until the package is complete."""

    def run(self) -> None:
        """Nothing to do yet."""


class PackageLoad(Load):
    """A load that only follows a log with an older dlt state than its own, and keeps the state."""

    def __init__(
        self,
        target: Target,
        source: str,
        *,
        load_id: str,
        observed_at: datetime,
        remember: Callable[[Log], dict[str, Any] | None],
    ) -> None:
        super().__init__(
            target.lake,
            source,
            load_id=load_id,
            observed_at=observed_at,
            produced_by=target.produced_by,
            gates=target.gates,
        )
        self._remember = remember

    def _next(self, log: Log) -> Commit:
        self.pipeline = self._remember(log)  # for every attempt: another writer may have come first
        return super()._next(log)


class LakehouseClient(JobClientBase, WithStateSync):
    """dlt's client of a lake."""

    def __init__(
        self,
        schema: Schema,
        config: LakehouseConfiguration,
        capabilities: DestinationCapabilitiesContext,
        target: Target,
    ) -> None:
        super().__init__(schema, config, capabilities)
        self._target = target

    def create_load_job(
        self,
        table: PreparedTableSchema,  # noqa: ARG002 - dlt's signature
        file_path: str,
        load_id: str,  # noqa: ARG002
        restore: bool = False,  # noqa: ARG002
    ) -> LoadJob:
        """A job for one file of the package."""
        return StayingJob(file_path)

    def complete_load(self, load_id: str) -> None:
        """Publish the whole package as one commit.

        Raises:
            QuarantinedError: A gate refused it.
            StaleStateError: Another run published since the package was extracted.
        """
        context = Container()[LoadPackageStateInjectableContext]
        working_dir = Path(context.storage.storage.storage_path).parent.parent
        source = self._target.source or _pipeline_name()
        if self._target.log(source).find(load_id) is None:
            package = self._package(context)
            with PackageLoad(
                self._target,
                source,
                load_id=load_id,
                observed_at=_observed_at(context),
                remember=lambda log: memory.remember(log, self.schema, context.state.get("pipeline_state")),
            ) as load:
                for write in plan.writes(package, lambda *wanted: self._current(source, *wanted)):
                    write_to(load, write)
                for table, reason, rows in discards.read(working_dir, load_id):
                    load.discard(table, rows=rows, reason=reason)
        discards.remove(working_dir, load_id)

    def get_stored_state(self, pipeline_name: str) -> StateInfo | None:
        """Dlt's state as of the newest commit."""
        return memory.stored_state(self._target.log(pipeline_name), pipeline_name)

    def get_stored_schema(self, schema_name: str | None = None) -> StorageSchemaInfo | None:
        """The newest schema of a name."""
        return memory.stored_schema(self._target.log(_pipeline_name()), name=schema_name)

    def get_stored_schema_by_hash(self, version_hash: str) -> StorageSchemaInfo | None:  # type: ignore[override]
        """The schema with a hash; None where it is not there (as dlt's own clients answer)."""
        return memory.stored_schema(self._target.log(_pipeline_name()), version_hash=version_hash)

    def initialize_storage(self, truncate_tables: Iterable[str] | None = None) -> None:
        """Nothing to prepare; and what a `replace` does to a table is part of the commit."""

    def is_storage_initialized(self) -> bool:
        """A lake always is."""
        return True

    def drop_storage(self) -> None:
        """Dlt never drops what a lake keeps."""

    def drop_tables(self, *tables: str, delete_schema: bool = True) -> None:
        """Nothing is dropped: with dlt's `refresh`, tables start anew with the commit."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        pass

    def _package(self, context: LoadPackageStateInjectableContext) -> plan.Package:
        packages, load_id = context.storage, context.load_id
        files: dict[str, list[Path]] = {}
        for job in packages.get_load_package_jobs(load_id)["completed_jobs"]:
            path = packages.get_job_file_path(load_id, "completed_jobs", job.file_name())
            files.setdefault(job.table_name, []).append(Path(packages.storage.make_full_path(path)))
        for paths in files.values():
            paths.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))  # in the order of writing
        anew = [*context.state.get("dropped_tables", []), *context.state.get("truncated_tables", [])]
        return plan.Package(
            schema=self.schema,
            caps=self.capabilities,
            files=files,
            fresh=frozenset(str(table["name"]) for table in anew) & self.schema.tables.keys(),
        )

    def _current(self, source: str, table: str, columns: Sequence[str]) -> pa.Table | None:
        """Columns of a table's newest rows; None where the lake has no such table or column."""
        lake = self._target.lake
        log = lake.log(source)
        known = log.tables.get(table)
        wanted = [c for c in known.columns if (c.source_name or c.name) in columns] if known else []
        if len(wanted) < len(columns):
            return None
        state = state_of(lake, log, table)
        rows = state.fetch(state.sql(wanted), wanted)
        return rows.rename_columns([c.source_name or c.name for c in wanted])


def write_to(load: Load, write: plan.Write) -> None:
    """Do one write of a package."""
    load.write(
        write.table,
        write.rows,
        disposition=write.disposition,
        primary_key=list(write.primary_key),
        merge_key=list(write.merge_key),
        volatile=list(write.volatile),
        deletes=write.deletes,
        insert_only=write.insert_only,
    )


def _pipeline_name() -> str:
    return str(Container()[PipelineContext].pipeline().pipeline_name)


def _observed_at(context: LoadPackageStateInjectableContext) -> datetime:
    """When the data was seen: as the run said, else when the package was begun (its load id)."""
    said = context.state.get("destination_state", {}).get("observed_at")
    return datetime.fromisoformat(said) if said else datetime.fromtimestamp(float(context.load_id), UTC)
