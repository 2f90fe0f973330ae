"""What dlt remembers between runs, as a commit keeps it: the pipeline's state and its schemas.

Data and cursor are one commit, so a lost working directory loses nothing. A schema is written out
only in the commit in which it changed; later commits have its hash.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from dlt.common.destination.client import StateInfo, StorageSchemaInfo
from dlt.common.json import json
from dlt.common.schema import Schema
from dlt.common.storages.load_package import TPipelineStateDoc
from dlt.common.utils import compressed_b64decode, compressed_b64encode
from dlt.common.versioned_state import compress_state, decompress_state
from dlt.pipeline.state_sync import generate_pipeline_state_version_hash

from lakehouse.core.commit import Commit
from lakehouse.core.log import Log
from lakehouse.errors import ContentionError

Memory = dict[str, Any]


class StaleStateError(ContentionError):
    """Somebody else loaded the same source since this package was extracted; it must be extracted anew."""


def remember(log: Log, schema: Schema, state: TPipelineStateDoc | None) -> Memory | None:
    """What the next commit has to keep; None where all of it is in the log already.

    Args:
        log: The commits so far.
        schema: dlt's schema, as of the load package.
        state: dlt's pipeline state, where the load package brings a new one.

    Raises:
        StaleStateError: The log has a state as new as this one: both follow from the same cursor, and
            what they extracted overlaps.
    """
    before = _memory(log)
    if state is not None and before.get("state", {}).get("version", -1) >= state["version"]:
        msg = f"{log.source}: another run was faster; what this one fetched was not published"
        raise StaleStateError(msg, hint="Run it again: it goes on from what the other one published.")
    known = before["schemas"].get(schema.name, {})
    if state is None and known.get("hash") == schema.stored_version_hash:
        return None
    schemas = {name: _without_document(entry) for name, entry in before["schemas"].items()}
    if known.get("hash") != schema.stored_version_hash:
        schemas[schema.name] = {
            "hash": schema.stored_version_hash,
            "version": schema.stored_version,
            "engine_version": schema.ENGINE_VERSION,
            "document": compressed_b64encode(json.dumpb(schema.to_dict())),
        }
    kept = before.get("state") if state is None else _plain(state)
    return {"dlt": {"schemas": schemas} | ({"state": kept} if kept else {})}


def stored_state(log: Log, pipeline_name: str) -> StateInfo | None:
    """The newest state of a pipeline, for dlt to restore."""
    state = _memory(log).get("state")
    if state is None or state["pipeline_name"] != pipeline_name:
        return None
    return StateInfo(**{**state, "created_at": datetime.fromisoformat(state["created_at"])})


def stored_schema(
    log: Log, *, name: str | None = None, version_hash: str | None = None
) -> StorageSchemaInfo | None:
    """The newest schema of a name or the one with a hash (of any name where neither is given)."""
    for commit in _newest_first(log):
        for found, entry in _schemas(commit).items():
            if "document" not in entry or name not in (None, found):
                continue
            if version_hash in (None, entry["hash"]):
                return StorageSchemaInfo(
                    version_hash=entry["hash"],
                    schema_name=found,
                    version=entry["version"],
                    engine_version=entry["engine_version"],
                    inserted_at=commit.committed_at,
                    schema=compressed_b64decode(entry["document"]).decode(),
                )
    return None


def _schemas(commit: Commit) -> Mapping[str, Any]:
    schemas: Mapping[str, Any] = (commit.pipeline or {}).get("dlt", {}).get("schemas", {})
    return schemas


def _memory(log: Log) -> Memory:
    """What the next run goes on from."""
    for commit in _newest_first(log):
        if commit.pipeline is not None and commit.reverts_to is not None:
            return _moved_on(commit.pipeline.get("dlt", {"schemas": {}}), list(_newest_first(log))[::-1])
        if commit.pipeline is not None and "dlt" in commit.pipeline:
            memory: Memory = commit.pipeline["dlt"]
            return memory
    return {"schemas": {}}


def _newest_first(log: Log) -> Iterator[Commit]:
    """The commits that hold what some pipeline remembers: no others are even read."""
    return (log.commits[seq - 1] for seq in reversed(log.piped))


def _moved_on(memory: Memory, commits: Sequence[Commit]) -> Memory:
    """An earlier memory that a revert restored, with a state of a version that was never there.

    dlt goes by the version: a lower one would lose against that of a working directory, and a run
    that began before the revert would be published on top of it. Where there was no state, all
    cursors are at their beginning.
    """
    states = [
        c.pipeline["dlt"]["state"] for c in commits if c.pipeline and "state" in c.pipeline.get("dlt", {})
    ]
    if not states:
        return memory
    reverts = sum(c.reverts_to is not None and c.pipeline is not None for c in commits)
    state = memory.get("state", states[-1])
    inside: Any = decompress_state(state["state"])
    if "state" not in memory:
        inside["sources"] = {}
    inside["_state_version"] = max(known["version"] for known in states) + reverts
    inside["_version_hash"] = generate_pipeline_state_version_hash(inside)
    moved = {
        "version": inside["_state_version"],
        "version_hash": inside["_version_hash"],
        "state": compress_state(inside),
    }
    return memory | {"state": state | moved}


def _without_document(entry: Mapping[str, Any]) -> Memory:
    return {name: value for name, value in entry.items() if name != "document"}


def _plain(state: TPipelineStateDoc) -> Memory:
    kept: Memory = {name: value for name, value in state.items() if name != "_dlt_load_id"}
    created = kept["created_at"]
    return kept | {"created_at": created if isinstance(created, str) else created.isoformat()}
