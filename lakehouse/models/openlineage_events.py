"""OpenLineage's run events for a build of a model, as the official client's values.

Nothing is sent here. Only the thread of an `Emitter` imports this, with the client.
"""

from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, UUID, uuid5

from openlineage.client import event_v2 as v2
from openlineage.client import facet_v2 as facets

from lakehouse.core.moments import render
from lakehouse.models.audit import Outcome
from lakehouse.models.model import SOURCE
from lakehouse.models.openlineage import Read, Run, dataset_name, job_name

if TYPE_CHECKING:
    from lakehouse.models.openlineage import Emitter

PRODUCER = f"urn:lakehouse:{version('lakehouse')}"

_BY: dict[str, Any] = {"producer": PRODUCER}  # of every facet


def events(emitter: "Emitter", run: Run, state: str, *, at: str, error: str = "") -> Iterator[v2.RunEvent]:
    """The events that tell a state of a run: that of the model, and those of its tests if it has any.

    Args:
        emitter: Says where the lake and its jobs are.
        run: The run.
        state: `START`, `COMPLETE` or `FAIL`.
        at: When it was so.
        error: Why it failed.
    """
    of_run = _run_facets(emitter, run)
    if error:
        language = "SQL" if run.language == "sql" else "PYTHON"
        of_run["errorMessage"] = facets.error_message_run.ErrorMessageRunFacet(
            message=error, programmingLanguage=language, **_BY
        )
    done = state == "COMPLETE"
    yield v2.RunEvent(
        eventType=v2.RunState[state],
        eventTime=at,
        run=v2.Run(runId=run.run_id, facets=of_run),
        job=v2.Job(namespace=emitter.namespace, name=job_name(run.model), facets=_job_facets(run)),
        inputs=[_input(emitter, read) for read in run.inputs],
        outputs=[_output(emitter, run, done=done)],
        producer=PRODUCER,
    )
    if run.tests and state != "START":
        yield from _test_events(emitter, run, at=at)


def _run_facets(emitter: "Emitter", run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {
        "processing_engine": facets.processing_engine_run.ProcessingEngineRunFacet(
            version=version("duckdb"), name="DuckDB", openlineageAdapterVersion=version("lakehouse"), **_BY
        )
    }
    if run.build_id:
        parent = facets.parent_run
        found["parent"] = parent.ParentRunFacet(
            run=parent.Run(runId=run.build_id),
            job=parent.Job(namespace=emitter.namespace, name="lakehouse build"),
            **_BY,
        )
    if run.as_of is not None:
        found["nominalTime"] = facets.nominal_time_run.NominalTimeRunFacet(
            nominalStartTime=render(run.as_of), **_BY
        )
    return found


def _job_facets(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {
        "jobType": facets.job_type_job.JobTypeJobFacet(
            processingType="BATCH", integration="LAKEHOUSE", jobType="MODEL", **_BY
        )
    }
    if run.language == "sql":
        found["sql"] = facets.sql_job.SQLJobFacet(query=run.sql, dialect="duckdb", **_BY)
    else:
        found["sourceCode"] = facets.source_code_job.SourceCodeJobFacet(
            language=run.language, sourceCode=run.sql, **_BY
        )
    if run.description:
        found["documentation"] = facets.documentation_job.DocumentationJobFacet(
            description=run.description, **_BY
        )
    return found


def _input(emitter: "Emitter", read: Read) -> v2.InputDataset:
    namespace, name = dataset_name(emitter.lake_url, read.name)
    known = _dataset_facets(emitter, read.name, read.columns, read.seq, read.digest)
    return v2.InputDataset(namespace=namespace, name=name, facets=known)


def _output(emitter: "Emitter", run: Run, *, done: bool) -> v2.OutputDataset:
    table = f"{SOURCE}.{run.model}"
    namespace, name = dataset_name(emitter.lake_url, table)
    seq = run.seq if done else None  # what failed was not published
    known = _dataset_facets(emitter, table, run.columns, seq, run.digest)
    if run.lineage:
        known["columnLineage"] = _column_lineage(emitter, run)
    if run.description:
        known["documentation"] = facets.documentation_dataset.DocumentationDatasetFacet(
            description=run.description, **_BY
        )
    written: dict[str, Any] = {}
    if done and run.rows is not None:
        statistics = facets.output_statistics_output_dataset
        written["outputStatistics"] = statistics.OutputStatisticsOutputDatasetFacet(rowCount=run.rows, **_BY)
    return v2.OutputDataset(namespace=namespace, name=name, facets=known, outputFacets=written)


def _dataset_facets(
    emitter: "Emitter", table: str, columns: tuple[tuple[str, str], ...], seq: int | None, digest: str
) -> dict[str, Any]:
    """What is said of a dataset: the name that SQL has for it, its columns, and which state of it this is."""
    links = facets.symlinks_dataset
    found: dict[str, Any] = {
        "symlinks": links.SymlinksDatasetFacet(
            identifiers=[links.Identifier(namespace=emitter.namespace, name=table, type="TABLE")], **_BY
        )
    }
    if columns:
        schema = facets.schema_dataset
        listed = [
            schema.SchemaDatasetFacetFields(name=name, type=kind, ordinal_position=at)
            for at, (name, kind) in enumerate(columns, start=1)
        ]
        found["schema"] = schema.SchemaDatasetFacet(fields=listed, **_BY)
    if seq is not None:
        found["version"] = facets.dataset_version_dataset.DatasetVersionDatasetFacet(
            datasetVersion=f"{seq}:{digest}" if digest else str(seq), **_BY
        )
    return found


def _column_lineage(emitter: "Emitter", run: Run) -> Any:
    by_column = facets.column_lineage_dataset
    found = {}
    for column, origins in run.lineage.items():
        listed = []
        for origin in origins:
            source, table, name = origin.split(".", 2)
            place = dataset_name(emitter.lake_url, f"{source}.{table}")
            listed.append(by_column.InputField(namespace=place[0], name=place[1], field=name))
        if listed:
            found[column] = by_column.Fields(inputFields=listed)
    return by_column.ColumnLineageDatasetFacet(fields=found, **_BY)


def _test_events(emitter: "Emitter", run: Run, *, at: str) -> Iterator[v2.RunEvent]:
    """The tests, as a job of their own that reads the model: assertions are about what a job reads."""
    table = f"{SOURCE}.{run.model}"
    namespace, name = dataset_name(emitter.lake_url, table)
    parent = facets.parent_run
    of_run: dict[str, Any] = {
        "parent": parent.ParentRunFacet(
            run=parent.Run(runId=run.run_id),
            job=parent.Job(namespace=emitter.namespace, name=job_name(run.model)),
            **_BY,
        )
    }
    listed = [_assertion(test, column) for test in run.tests for column in test.columns or (None,)]
    assertions = facets.data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
        assertions=listed, **_BY
    )
    ends = v2.RunState.FAIL if any(test.blocks for test in run.tests) else v2.RunState.COMPLETE
    for state in (v2.RunState.START, ends):
        tested: dict[str, Any] = {} if state is v2.RunState.START else {"dataQualityAssertions": assertions}
        yield v2.RunEvent(
            eventType=state,
            eventTime=at,
            run=v2.Run(runId=str(_test_run_id(run.run_id)), facets=dict(of_run)),
            job=v2.Job(namespace=emitter.namespace, name=f"{job_name(run.model)}.test"),
            inputs=[
                v2.InputDataset(
                    namespace=namespace,
                    name=name,
                    facets=_dataset_facets(emitter, table, run.columns, run.seq, run.digest),
                    inputFacets=tested,
                )
            ],
            outputs=[],
            producer=PRODUCER,
        )


def _assertion(test: Outcome, column: str | None) -> Any:
    return facets.data_quality_assertions_dataset.Assertion(
        assertion="custom_sql" if test.kind == "sql" else test.kind,
        success=test.passed,
        column=column,
        severity=test.severity,
        name=test.test,
        actual=str(test.failures),
        expected="0",
        content=test.statement,
        contentType="sql",
    )


def _test_run_id(run_id: str) -> UUID:
    return uuid5(NAMESPACE_URL, f"urn:lakehouse:test:{UUID(run_id)}")
