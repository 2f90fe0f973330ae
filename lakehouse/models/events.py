"""A build as OpenLineage tells it: one run a model, from when it begins to when it is published or not."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from lakehouse.core.definition import Input
from lakehouse.models.model import Model
from lakehouse.models.openlineage import Emitter, Read, Run

if TYPE_CHECKING:
    from lakehouse.core.commit import Commit
    from lakehouse.core.definition import Definition
    from lakehouse.models.build import Outcome

Columns = tuple[tuple[str, str], ...]  # names and DuckDB types


class Events:
    """Tells an emitter of the models of one build.

    Args:
        emitter: Where events go.
        as_of: The instant that the build is turned to; None for now, and for what is no instant.
    """

    def __init__(self, emitter: Emitter, as_of: datetime | None = None) -> None:
        self._emitter = emitter
        self._build_id = str(uuid4())
        self._as_of = as_of
        self._runs: dict[str, Run] = {}

    def began(self, model: Model, reads: Mapping[str, tuple[Input | None, Columns]]) -> None:
        """A model is being built.

        Args:
            model: The model.
            reads: By `source.table` what is read of it, if that has a position, and its columns.
        """
        run = Run(
            run_id=str(uuid4()),
            model=model.name,
            sql=model.sql,
            language=model.language,
            description=model.description,
            inputs=tuple(
                Read(name=name, seq=at.seq if at else None, digest=at.digest if at else "", columns=columns)
                for name, (at, columns) in reads.items()
            ),
            as_of=self._as_of,
            build_id=self._build_id,
        )
        self._runs[model.name] = run
        self._emitter.started(run)

    def ended(self, outcome: "Outcome", definition: "Definition | None", commit: "Commit | None") -> None:
        """What became of a model.

        Args:
            outcome: That.
            definition: What was published of it.
            commit: The commit that has it.
        """
        run = self._runs.pop(outcome.name, None)
        if run is None:
            return
        run = replace(run, tests=outcome.tests)
        if not outcome.good:
            refused = "; ".join(f"{t.test}: {t.failures} rows" for t in outcome.tests if t.blocks)
            self._emitter.failed(run, outcome.error or f"refused by its tests: {refused}")
            return
        if definition is not None and commit is not None:
            stored = commit.tables.get(outcome.name)
            run = replace(
                run,
                columns=definition.columns,
                lineage=definition.lineage,
                seq=commit.seq,
                digest=commit.digest,
                rows=stored.counts.get("rows", 0) if stored else None,
            )
        self._emitter.finished(run)

    def broke(self, error: BaseException) -> None:
        """The build itself came to nothing."""
        for run in self._runs.values():
            self._emitter.failed(run, error)
        self._runs.clear()
