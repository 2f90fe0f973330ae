"""Quarantine: loads that a gate refused, kept whole, and rows that a contract discarded.

A refused load is a folder of Parquet files, one a table, and `load.json`, written last, with the
reasons and all that is needed to publish it after all. Nothing here is ever part of a snapshot.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.core import layout, moments
from lakehouse.core.commit import Commit
from lakehouse.core.gates import OPEN
from lakehouse.errors import FormatError, NotFoundError, QuarantinedError, UserError
from lakehouse.parquet.arrow import normalize, physical
from lakehouse.parquet.infer import json_text
from lakehouse.store.base import Absent, Store

if TYPE_CHECKING:
    from lakehouse.change import Write
    from lakehouse.lake import Lake
    from lakehouse.loading import Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A load in quarantine.

    Attributes:
        path: Key prefix of its folder.
        rows: Rows it brought, by table.
        head: Head of the source's log when it was refused.
    """

    source: str
    load_id: str
    observed_at: datetime
    refused_at: datetime
    reasons: tuple[str, ...]
    rows: dict[str, int]
    head: int
    path: str


def keep_refused(load: "Load", writes: Sequence["Write"], reasons: Sequence[str]) -> str:
    """Store a refused load whole; returns the key prefix where it lies."""
    store = load.lake.store
    prefix = layout.quarantine_prefix(load.source, load.load_id)
    tables = {}
    for write in writes:
        store.put(f"{prefix}{write.table}.parquet", _parquet(write.rows))
        if write.deletes is not None:
            store.put(f"{prefix}{write.table}.deletes.parquet", _parquet(write.deletes))
        tables[write.table] = {
            "rows": write.rows.num_rows,
            "disposition": write.disposition,
            "primary_key": list(write.primary_key),
            "merge_key": list(write.merge_key),
            "volatile": list(write.volatile),
            "insert_only": write.insert_only,
            "deletes": write.deletes is not None,
        }
    if load.discarded:
        store.put(f"{prefix}discarded.json", json_text(load.discarded).encode())
    record = {
        "format": 1,
        "source": load.source,
        "load_id": load.load_id,
        "observed_at": moments.render(load.observed_at),
        "refused_at": moments.render(datetime.now(UTC)),
        "head": load.lake.log(load.source).head,
        "reasons": list(reasons),
        "gates": load.gates.to_json(),
        "produced_by": load.produced_by,
        "pipeline": load.pipeline,
        "responses": load.responses,
        "discarded": bool(load.discarded),
        "tables": tables,
    }
    store.put(f"{prefix}load.json", json.dumps(record, ensure_ascii=False, indent=1).encode())
    return prefix


def keep_discarded(
    store: Store, source: str, load_id: str, discarded: dict[str, dict[str, list[dict[str, Any]]]]
) -> dict[str, Any]:
    """Store rows that a contract discarded from a load; returns what its commit says of them."""
    said = {}
    for table, by_reason in discarded.items():
        key = layout.discarded_key(source, load_id, table)
        rows = [{"reason": reason, "row": row} for reason, rows in by_reason.items() for row in rows]
        store.put(key, "".join(json_text(row) + "\n" for row in rows).encode())
        said[table] = {
            "rows": len(rows),
            "path": key,
            "reasons": {reason: len(rows) for reason, rows in by_reason.items()},
        }
    return said


def listed(lake: "Lake") -> list[Refused]:
    """All loads in quarantine, oldest first."""
    found = [
        _refused(lake.store, entry.key)
        for entry in lake.store.list(f"{layout.QUARANTINE}/")
        if entry.key.endswith("/load.json")
    ]
    return sorted(found, key=lambda refused: refused.refused_at)


def find(lake: "Lake", load_id: str) -> Refused:
    """The load in quarantine with that id (or the beginning of one).

    Raises:
        NotFoundError: There is none, or more than one.
    """
    everything = listed(lake)
    fitting = [r for r in everything if r.load_id == load_id] or [
        r for r in everything if r.load_id.startswith(load_id)
    ]
    if len(fitting) != 1:
        msg = f"{load_id}: {'no' if not fitting else 'more than one'} load in quarantine has this id"
        raise NotFoundError(msg, hint="See: lakehouse quarantine list")
    return fitting[0]


def rows_of(lake: "Lake", refused: Refused, table: str) -> pa.Table:
    """The rows that a refused load brought for a table."""
    try:
        return pq.read_table(io.BytesIO(lake.store.get(f"{refused.path}{table}.parquet")))
    except Absent:
        msg = f"{refused.load_id}: brought no table {table!r}"
        raise NotFoundError(msg, hint=f"Its tables: {', '.join(refused.rows)}.") from None


def approve(lake: "Lake", load_id: str) -> Commit:
    """Publish a refused load after all, as it was observed; its copy in quarantine then goes.

    Raises:
        UserError: Newer loads were published since, or keys repeat: publishing would harm good data.
    """
    refused = find(lake, load_id)
    record = json.loads(lake.store.get(f"{refused.path}load.json"))
    log = lake.log(refused.source)
    newer = [c.seq for c in log.commits[refused.head :] if c.failure is None and c.is_load]
    if newer and log.find(refused.load_id) is None:
        msg = f"{refused.load_id}: load {newer[-1]} of {refused.source} was published after it was refused"
        raise UserError(
            msg,
            hint=f"Publishing it now would put old data on top of new. "
            f"Discard it: lakehouse quarantine discard {refused.load_id}",
        )
    load = lake.load(
        refused.source,
        load_id=refused.load_id,
        observed_at=refused.observed_at,
        produced_by=record["produced_by"] | {"approved": True, "refused_for": list(refused.reasons)},
        gates=OPEN,
    )
    load.pipeline, load.responses = record["pipeline"], record["responses"]
    for table, how in record["tables"].items():
        deletes = f"{refused.path}{table}.deletes.parquet"
        load.write(
            table,
            rows_of(lake, refused, table),
            disposition=how["disposition"],
            primary_key=how["primary_key"],
            merge_key=how["merge_key"],
            volatile=how["volatile"],
            insert_only=how["insert_only"],
            deletes=pq.read_table(io.BytesIO(lake.store.get(deletes))) if how["deletes"] else None,
        )
    if record.get("discarded"):
        for table, reasons in json.loads(lake.store.get(f"{refused.path}discarded.json")).items():
            for reason, rows in reasons.items():
                load.discard(table, rows, reason)
    try:
        commit = load.publish()
    except QuarantinedError as error:
        msg = f"{refused.load_id}: cannot be published: {'; '.join(error.reasons)}"
        raise UserError(
            msg, hint="Repeated keys have no single newest row: change the source's primary_key instead."
        ) from error
    discard(lake, refused.load_id)
    return commit


def discard(lake: "Lake", load_id: str) -> Refused:
    """Delete a refused load for good."""
    refused = find(lake, load_id)
    keys = [e.key for e in lake.store.list(refused.path) if "/discarded/" not in e.key]
    for key in sorted(keys, key=lambda k: not k.endswith("/load.json")):
        lake.store.delete(key)
    return refused


def _refused(store: Store, key: str) -> Refused:
    try:
        record = json.loads(store.get(key))
        tables = {table: int(how["rows"]) for table, how in record["tables"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(
            f"{key}: does not say what was refused ({error})",
            path=key,
            hint="Delete that folder, or restore it.",
        ) from error
    return Refused(
        source=record["source"],
        load_id=record["load_id"],
        observed_at=moments.parse(record["observed_at"]),
        refused_at=moments.parse(record["refused_at"]),
        reasons=tuple(record["reasons"]),
        rows=tables,
        head=record["head"],
        path=key.removesuffix("load.json"),
    )


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    try:
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    except pa.ArrowNotImplementedError:  # a type that Parquet does not have: as it would be loaded
        sink = io.BytesIO()
        pq.write_table(physical(normalize(table)[0]), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def is_readable(key: str, data: bytes) -> bool:
    """Whether a file in quarantine reads as what its name says, as far as can be told: it has no digest anywhere."""
    try:
        if key.endswith(".parquet"):
            pq.read_table(io.BytesIO(data), page_checksum_verification=True)
        elif key.endswith(".json"):
            json.loads(data)
        else:
            for line in data.splitlines():
                json.loads(line)
    except (pa.ArrowException, OSError, ValueError, RecursionError):
        return False
    return True
