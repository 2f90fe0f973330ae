"""A load: collect what a run of a source brings, and publish it as one commit, or not at all.

Publishing is optimistic. Parts are written first, then the commit, created only if absent; whoever
loses that race works the change out again on top of the winner's.
"""

import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import duckdb

from lakehouse import compaction, logpack
from lakehouse.change import DISPOSITIONS, Change, Write, work_out
from lakehouse.core import commit as commits
from lakehouse.core import layout, moments
from lakehouse.core.commit import Commit, Part, TableChange
from lakehouse.core.gates import Gates, refusals
from lakehouse.core.log import Log
from lakehouse.duck.compacted import compacted, is_sound, newest
from lakehouse.errors import ContentionError, IntegrityError, LakehouseError, QuarantinedError, SchemaError
from lakehouse.parquet.arrow import stacked, to_table
from lakehouse.parquet.check import first_damage
from lakehouse.parquet.part import stamp, write_parts
from lakehouse.provenance import produced_by as provenance
from lakehouse.quarantine import keep_discarded, keep_refused
from lakehouse.state import State

if TYPE_CHECKING:
    from lakehouse.lake import Lake

ATTEMPTS = 200  # losing this often in a row means that something else is wrong
_PAUSE_S = 0.02


class Load:
    """One run of one source; made by `Lake.load`. Use it as a context manager.

    Leaving the block publishes what was written as one commit; an exception inside publishes
    nothing. Writing nothing publishes a commit without parts: the proof that the source was looked at.

    Attributes:
        commit: The commit, once published.
        pipeline: A JSON value to keep in the commit, such as the state of a dlt pipeline.
        discarded: Rows that a contract discarded, by table and reason.
        after: The number of the commit that this one has to come right after, where it was made from the state
            there; None where it may come after any.
        responses: What was fetched for this load, as JSON objects (`url`, `status`, `sha256`, …).
    """

    def __init__(
        self,
        lake: "Lake",
        source: str,
        *,
        load_id: str | None,
        observed_at: datetime | None,
        produced_by: Mapping[str, Any] | None,
        gates: Gates | None,
    ) -> None:
        self.lake = lake
        self.source = layout.check_source_name(source)
        now = datetime.now(UTC)
        self.load_id = load_id or f"{now:%Y%m%dT%H%M%S}-{uuid4().hex[:12]}"
        self.observed_at = moments.to_utc(observed_at) if observed_at else now
        self.produced_by = provenance() | dict(produced_by or {})
        self.gates = gates or Gates()
        self.pipeline: dict[str, Any] | None = None
        self.after: int | None = None
        self.responses: list[dict[str, Any]] = []
        self.commit: Commit | None = None
        self._writes: dict[str, Write] = {}
        self.discarded: dict[str, dict[str, list[dict[str, Any]]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.publish()

    def write(
        self,
        table: str,
        data: Any,
        *,
        disposition: str = "append",
        primary_key: Sequence[str] | str = (),
        merge_key: Sequence[str] | str = (),
        volatile: Sequence[str] = (),
        deletes: Any = None,
        insert_only: bool = False,
    ) -> None:
        """Add data to a table, as part of this load.

        Args:
            table: Name of the table. Writing to it again in the same load adds to the same data.
            data: Arrow table, batches or reader; Polars or pandas frame; DuckDB relation; list of
                dicts; path of a Parquet file; or a list of these.
            disposition: `append` adds rows; `replace` brings a full snapshot; `merge` upserts.
            primary_key: Columns that identify a row: for `replace`, only changes are then stored.
            merge_key: For `merge`: rows with equal values here are replaced as a group.
            volatile: Columns that do not make a row count as changed, such as a fetch time.
            deletes: For `merge`: rows with the keys of what is to be deleted.
            insert_only: For `merge`: rows whose key is there already are left as they are.

        Raises:
            SchemaError: The data cannot be kept as it is.
        """
        layout.check_table_name(table)
        if disposition not in DISPOSITIONS:
            msg = f"{disposition!r} is not a disposition"
            raise SchemaError(msg, hint=f"Use one of: {', '.join(DISPOSITIONS)}.")
        write = Write(
            table=table,
            disposition=disposition,
            primary_key=_names(primary_key) if disposition != "append" else (),
            merge_key=_names(merge_key) if disposition == "merge" else (),
            volatile=tuple(volatile),
            rows=to_table(data),
            deletes=None if deletes is None else to_table(deletes),
            insert_only=insert_only,
        )
        if disposition == "merge" and not write.key:
            msg = f"table {table}: a merge needs a primary_key or a merge_key"
            raise SchemaError(msg, hint='Say which columns identify a row: primary_key=["id"].')
        self._writes[table] = self._joined(write)

    def discard(self, table: str, rows: Sequence[Mapping[str, Any]], reason: str) -> None:
        """Record rows that a contract discarded: counted in the commit, kept in quarantine."""
        by_reason = self.discarded.setdefault(layout.check_table_name(table), {})
        by_reason.setdefault(reason, []).extend(dict(row) for row in rows)

    def publish(self) -> Commit:
        """Publish the load as one commit; a load id that is in the log already publishes nothing.

        Raises:
            QuarantinedError: A gate refused; the load lies in quarantine.
            ContentionError: Other writers won every attempt, or one came before that was not to come.
        """
        for attempt in range(ATTEMPTS):
            log = self.lake.log(self.source)
            known = log.find(self.load_id)
            if known is not None:
                self.commit = known
                return known
            if self.after is not None and log.head != self.after:
                msg = (
                    f"{self.source}: somebody else published load {log.head} meanwhile; nothing was published"
                )
                raise ContentionError(msg, hint="Run it again.")
            try:
                commit = self._next(log)
            except duckdb.Error as error:
                if self.lake.log(self.source).head > log.head:
                    continue  # what it names may be packed and pruned by now
                if compaction.forget(self.lake.store, self.source):
                    continue  # a compaction may be damaged: it is derived, so do without
                raise self._unreadable(log, error) from error
            line = commits.lines([commit], prev=log.digest)
            if not logpack.claim(self.lake.store, self.source, commit.seq, line):
                time.sleep(_PAUSE_S * random.random() * min(attempt + 1, 10))  # noqa: S311
                continue
            key = layout.log_key(self.source, commit.seq)
            # Not read back: it is published, and an error now would say otherwise.
            self.commit = commits.parse_file(line, key=key, source=self.source)[0]
            self._keep_up()
            return self.commit
        msg = f"{self.source}: lost {ATTEMPTS} races for the next commit; nothing was published"
        raise ContentionError(msg, hint="Stop the other writers of this source, then run it again.")

    def _joined(self, write: Write) -> Write:
        """The write together with what was written to the same table before."""
        before = self._writes.get(write.table)
        if before is None:
            return write
        same = ("disposition", "primary_key", "merge_key", "volatile", "insert_only")
        if any(getattr(before, name) != getattr(write, name) for name in same):
            msg = f"table {write.table}: was written before in this load with other settings"
            raise SchemaError(msg, hint="Use one disposition and one key for a table within a load.")
        deletes = [d for d in (before.deletes, write.deletes) if d is not None]
        return replace(
            write,
            rows=stacked([before.rows, write.rows]),
            deletes=stacked(deletes) if deletes else None,
        )

    def _next(self, log: Log) -> Commit:
        """The commit to come after the log's head. Its parts are in the store when this returns."""
        check_new_names(self.lake, log, list(self._writes))
        changes = self._changes(log)
        figures = {name: change.figures for name, change in changes.items() if change.figures}
        reasons = refusals(self.gates, figures)
        if reasons:
            path = keep_refused(self, list(self._writes.values()), reasons)
            raise QuarantinedError(source=self.source, load_id=self.load_id, reasons=reasons, path=path)
        seq = log.head + 1
        observed = self.observed_at
        return Commit(
            source=self.source,
            seq=seq,
            load_id=self.load_id,
            prev=log.digest,
            observed_at=observed,
            effective_at=max(observed, log.effective_at or observed),
            committed_at=datetime.now(UTC),
            tables={name: self._stored(name, change, seq) for name, change in changes.items()},
            responses=tuple(self.responses),
            pipeline=self.pipeline,
            produced_by=self.produced_by,
            gates=self.gates.to_json(),
            discarded=keep_discarded(self.lake.store, self.source, self.load_id, self.discarded),
        )

    def _changes(self, log: Log) -> dict[str, Change]:
        """What the writes change in the state at the log's head, by table."""
        return {name: work_out(write, self._state(log, name)) for name, write in self._writes.items()}

    def _state(self, log: Log, table: str) -> State:
        return state_of(self.lake, log, table)

    def _unreadable(self, log: Log, error: duckdb.Error) -> IntegrityError:
        """Why the state could not be read: DuckDB names no commit, and not always the file."""
        files = [
            (f"load {file.last} of {self.source}", file)
            for name in self._writes
            if name in log.tables
            for file in log.tables[name].files_since(log.tables[name].eras[-1].first)
        ]
        return first_damage(self.lake.store, files) or IntegrityError(
            f"{self.source}: its current state cannot be read ({error})",
            hint="Nothing was published. Run `lakehouse verify` to see what is missing or damaged.",
        )

    def _keep_up(self) -> None:
        """Renew compactions. The load is published: nothing that fails here counts."""
        with contextlib.suppress(LakehouseError, duckdb.Error):
            log = self.lake.log(self.source)
            for name in self._writes:
                compaction.keep_up(self.lake, log, name)

    def _stored(self, table: str, change: Change, seq: int) -> TableChange:
        write = self._writes[table]
        about = TableChange(
            disposition=write.disposition,
            primary_key=tuple(_stored_name(name, change) for name in write.primary_key),
            merge_key=tuple(_stored_name(name, change) for name in write.merge_key),
            volatile=tuple(_stored_name(name, change) for name in write.volatile),
            columns=change.columns,
            base=change.base,
            counts=change.counts,
        )
        if change.empty:
            return about
        stamped = stamp(change.rows, seq, deleted=change.deleted, keyed=bool(write.key))
        written, content = write_parts(stamped)
        parts = []
        for part in written:
            key = layout.part_key(self.source, table, seq, seq, part.name)
            self.lake.store.put(key, part.data)
            parts.append(Part(path=key, sha256=part.sha256, size_bytes=len(part.data), rows=part.rows))
        return replace(about, parts=tuple(parts), content=content)


def check_new_names(lake: "Lake", log: Log, tables: Sequence[str]) -> None:
    """Refuse names that differ only in case from ones that are there: SQL could not hold them apart.

    Raises:
        SchemaError: There is such a source or table.
    """
    sources = lake.sources() if not log.head else []
    for names, known in (([log.source], sources), (tables, [*log.tables, *tables])):
        for name in names:
            other = next((k for k in known if k != name and k.lower() == name.lower()), None)
            if other is not None:
                raise SchemaError(
                    f"{log.source}: the name {name!r} differs from {other!r} only in case",
                    hint=f"Use {other!r}, or choose another name.",
                )


def state_of(lake: "Lake", log: Log, table: str) -> State:
    """The state of a table at the end of a log."""
    found = newest(lake.store, log, table)
    if found is not None and is_sound(lake.store, found):
        reading = compacted(lake, log, table, found)
        if reading.usable:
            return State(log.tables[table], lake.reader, lake.locate, reading)
    return State(log.tables.get(table), lake.reader, lake.locate)


def _names(given: Sequence[str] | str) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _stored_name(name: str, change: Change) -> str:
    return next((c.name for c in change.columns if c.source_name == name), name)
