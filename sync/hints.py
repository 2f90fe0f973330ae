"""Hints: what is known of a mirror from the last look at it, so that the next one is short.

They lie in the lake under `_derived/_sync/<mirror>.json`, may be deleted at any time, and are never
believed without a look (`sync.where.find`).
"""

import contextlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from lakehouse.core import layout, moments
from lakehouse.errors import LakehouseError
from lakehouse.store import Absent, Store
from lakehouse.store.base import Entry
from sync.where import Where

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one source in a mirror.

    Attributes:
        where: Where its log ended.
        packed: Last commit of a log pack that was copied, or could not be.
        unfinished: Whether parts may be there that no commit names yet: a sync was interrupted.
        synced_at: When it was last as here.
        verified_at: When all that it names was last proven there.
    """

    where: Where
    packed: int = 0
    unfinished: bool = False
    synced_at: datetime | None = None
    verified_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Hints:
    """What is known of one mirror.

    Attributes:
        lake_id: The lake that it is a mirror of.
        url: Where it is.
        sources: By name.
        tags: Tags known to be there: SHA-256 of the file by name.
        quarantine: Files of refused loads known to be there: size by key.
        synced_at: When all was last as here.
        fresh: Whether nothing was known.
    """

    lake_id: str
    url: str
    sources: dict[str, Known] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    quarantine: dict[str, int] = field(default_factory=dict)
    synced_at: datetime | None = None
    fresh: bool = True

    def where(self, source: str) -> Where | None:
        """Where the log of a source ended."""
        known = self.sources.get(source)
        return known.where if known else None


def key_of(name: str) -> str:
    """Key of the hints about a mirror."""
    return f"{layout.DERIVED}/_sync/{layout.safe_id(name)}.json"


def load(store: Store, name: str, *, lake_id: str, url: str) -> Hints:
    """What is known of a mirror; nothing where it was another one, or where the file cannot be read.

    Args:
        store: The lake's store.
        name: Name of the mirror.
        lake_id: Id of the lake.
        url: Where the mirror is.
    """
    try:
        record = json.loads(store.get(key_of(name)))
        if (record["format"], record["lake_id"], record["url"]) == (_FORMAT, lake_id, url):
            return Hints(
                lake_id=lake_id,
                url=url,
                sources={str(s): _known(about) for s, about in record["sources"].items()},
                tags={str(tag): str(sha256) for tag, sha256 in record["tags"].items()},
                quarantine={str(key): int(size) for key, size in record["quarantine"].items()},
                synced_at=_moment(record.get("synced_at")),
                fresh=False,
            )
    except (Absent, ValueError, KeyError, TypeError, AttributeError):
        pass  # they are derived: whatever is wrong with them, a listing tells
    return Hints(lake_id=lake_id, url=url)


def save(store: Store, name: str, hints: Hints) -> None:
    """Keep what is known of a mirror; where that fails, the next sync looks for itself."""
    record = {
        "format": _FORMAT,
        "lake_id": hints.lake_id,
        "url": hints.url,
        "synced_at": _text(hints.synced_at),
        "sources": {source: _record(known) for source, known in hints.sources.items()},
        "tags": hints.tags,
        "quarantine": hints.quarantine,
    }
    with contextlib.suppress(LakehouseError):
        store.put(key_of(name), json.dumps(record, indent=1).encode() + b"\n")


def verified(
    store: Store, name: str, hints: Hints, wheres: Mapping[str, Where], *, damaged: Collection[str] = ()
) -> None:
    """Keep that all that a mirror names was proven to be there, now, or that it is not.

    Args:
        store: The lake's store.
        name: Name of the mirror.
        hints: What was known of it.
        wheres: Where each log ended that was verified.
        damaged: Sources of which something is wrong there: that they were verified before says nothing any more.
    """
    now = datetime.now(UTC)
    for source, where in wheres.items():
        known = hints.sources.get(source, Known(where=where))
        hints.sources[source] = Known(
            where=where, packed=known.packed, unfinished=known.unfinished, synced_at=known.synced_at,
            verified_at=now,
        )  # fmt: skip
    for source in set(damaged) & hints.sources.keys():
        hints.sources[source] = replace(hints.sources[source], verified_at=None)
    save(store, name, hints)


def _known(record: Mapping[str, Any]) -> Known:
    key, size = str(record["key"]), record["size_bytes"]
    sums = {str(name): str(value) for name, value in record["checksums"].items()}
    stat = None if size is None else Entry(key, int(size), sums)
    return Known(
        where=Where(head=int(record["seq"]), digest=str(record["digest"]), key=key, stat=stat),
        packed=int(record["packed"]),
        unfinished=bool(record["unfinished"]),
        synced_at=_moment(record["synced_at"]),
        verified_at=_moment(record["verified_at"]),
    )


def _record(known: Known) -> dict[str, Any]:
    where = known.where
    return {
        "seq": where.head,
        "digest": where.digest,
        "key": where.key,
        "size_bytes": where.stat.size_bytes if where.stat else None,
        "checksums": dict(where.stat.checksums) if where.stat else {},
        "packed": known.packed,
        "unfinished": known.unfinished,
        "synced_at": _text(known.synced_at),
        "verified_at": _text(known.verified_at),
    }


def _text(moment: datetime | None) -> str | None:
    return moments.render(moment) if moment else None


def _moment(text: str | None) -> datetime | None:
    return moments.parse(text) if text else None
