"""The summary of a log: what opening it and adding one more load need to know of all its commits.

A summary is a small JSON object, however long the log. What grows with the log lies beside it in
segments, each about a stretch of the log and of three kinds: `ids`, to find a load id; `digests` of
commits; `parts` that loads added and packs stand for. Segments are read when they are asked for.
Everything here is derived from commits, and nothing here reads or writes.
"""

import hashlib
import json
import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from lakehouse.core import layout, moments
from lakehouse.core.commit import Commit, Pack, change_of, dump, pack_of, pack_record, table_record
from lakehouse.core.files import Entry, File, Held, Parts, condensed
from lakehouse.core.log import Era, Log, Past, TableLog, news_of
from lakehouse.core.past import Chronicle, Later, Mark, Reach, Segment
from lakehouse.core.types import Column, column_from_json

VERSION = 2  # of a summary; one of another version is not used
KINDS = ("ids", "digests", "parts")
RECENT = 64  # parts and eras of each table that a summary itself has
_DIGEST_BYTES = 8
_ID_BITS = 32  # of the hash of a load id, before as many of its commit's number

JSON = dict[str, Any]


class Beginning(Past, Protocol):
    """The part of a log that a summary stands for."""

    def whole(self) -> Log:
        """The log up to there, read commit by commit."""

    def held(self, table: str) -> Held:
        """All parts of a table up to there."""


# The summary.


def summary_of(log: Log, segments: Sequence[Segment]) -> bytes:
    """The summary of a log; its segments are those about all of its commits."""
    schemas = _Schemas()
    record = {
        "summary": VERSION,
        "source": log.source,
        "head": log.head,
        "digest": log.digest,
        "effective_at": None if log.effective_at is None else moments.render(log.effective_at),
        "pipeline": log.pipeline,
        "piped": [len(log.piped), log.piped.newest(RECENT)],
        "expired": log.expired,
        "expired_by": log.expired_by,
        "reach": [log.reach.files, log.reach.size_bytes, log.reach.key, log.reach.last_bytes],
        "segments": [[s.first, s.last, dict(s.keys)] for s in segments],
        "tables": [_table_json(table, schemas, log.source) for table in log.tables.values()],
        "schemas": schemas.known,
    }
    return dump(record)


def log_of(content: bytes, *, key: str, source: str, past: Callable[[Mark, str], Beginning]) -> Log | None:
    """The log that a summary is of, or None if it is of another version or source.

    Args:
        content: The summary.
        key: Where it was found.
        source: The source.
        past: Given what the summary names, and the digest at its head, the beginning of the log.

    Raises:
        LakehouseError, KeyError, TypeError, ValueError, IndexError: It is no summary.
    """
    record = json.loads(content)
    if (record["summary"], record["source"]) != (VERSION, source):
        return None
    segments = tuple(
        Segment(first=first, last=last, keys=tuple(keys.items())) for first, last, keys in record["segments"]
    )
    files, size_bytes, last_key, last_bytes = record["reach"]
    mark = Mark(key=key, loads=record["head"], files=files, segments=segments)
    before = past(mark, record["digest"])
    piped, newest = record["piped"]
    schemas = [_columns(schema) for schema in record["schemas"]]
    tables = [_table_of(table, schemas, before, key, source) for table in record["tables"]]
    return Log(
        source=source,
        commits=Chronicle(old=before.commits),
        digest=record["digest"],
        effective_at=moments.parse(record["effective_at"]) if record["effective_at"] else None,
        pipeline=record["pipeline"],
        piped=Chronicle(newest, old=Later(piped - len(newest), lambda: before.whole().piped)),
        expired=tuple((int(first), int(last)) for first, last in record["expired"]),
        expired_by=record["expired_by"],
        reach=Reach(files=files, size_bytes=size_bytes, key=last_key, last_bytes=last_bytes),
        mark=mark,
        _tables={table.name: table for table in tables},
        _past=before,
    )


def _table_json(table: TableLog, schemas: "_Schemas", source: str) -> JSON:
    within = f"{source}/{table.name}/"
    last = table_record(table.last)
    last["schema"] = schemas.index(table.last.columns)
    held = table.parts.known()
    files, since = list(held.files.values()), held.since
    if len(files) > RECENT:
        since = max(since, sorted((file.last for file in files), reverse=True)[RECENT - 1])
        files = [file for file in files if file.last >= since]
    return {
        "name": table.name,
        "changes": [len(table.changes), table.last_seq, last],
        "eras": [len(table.eras), [[era.first, list(era.key)] for era in table.eras.newest(RECENT)]],
        "keys": [list(key) for key in table.keys],
        "first_seq": table.first_seq,
        "widths": [[seq, schemas.index(columns)] for seq, columns in table.widths],
        "era": [table.stored, table.content, table.may_repeat],
        "met": [table.met_rows, table.met_groups],
        "parts": [_file_json(file, schemas, within) for file in files],
        "since": since,
        "revised": held.revised is None or bool(held.revised),
    }


def _table_of(
    record: JSON, schemas: Sequence[tuple[Column, ...]], past: Beginning, key: str, source: str
) -> TableLog:
    name = layout.check_table_name(record["name"])
    within = f"{source}/{name}/"
    changes, last_seq, last = record["changes"]
    eras, newest = record["eras"]
    stored, content, may_repeat = record["era"]
    met_rows, met_groups = record["met"]
    columns = schemas[last["schema"]]
    change = replace(change_of(last | {"schema": []}, key=key, within=within), columns=columns)
    files = [_file_of(file, schemas, key, within) for file in record["parts"]]
    widths = tuple((seq, schemas[at]) for seq, at in record["widths"])
    return TableLog(
        name=name,
        changes=Chronicle(
            [(last_seq, change)], old=Later(changes - 1, lambda: past.whole().tables[name].changes)
        ),
        columns=widths[-1][1],
        eras=Chronicle(
            [Era(first=first, key=tuple(columns)) for first, columns in newest],
            old=Later(eras - len(newest), lambda: past.whole().tables[name].eras),
        ),
        keys=tuple(tuple(columns) for columns in record["keys"]),
        first_seq=record["first_seq"],
        widths=widths,
        met_rows=met_rows,
        met_groups=met_groups,
        stored=stored,
        content=content,
        may_repeat=may_repeat,
        parts=Parts(
            Held(
                files={file.path: file for file in files},
                since=record["since"],
                revised=None if record["revised"] else {},
                read=lambda: past.held(name),
            )
        ),
    )


# Segments.


def segment_of(log: Log, first: int) -> dict[str, bytes]:
    """The content of a segment, by kind, about the commits of a log from one on."""
    commits = log.commits[first - 1 :]
    before = [table.name for table in log.tables.values() if table.first_seq < first]
    news = news_of(commits, known=before)
    return {
        "ids": _sorted_ids(_id_entry(commit) for commit in commits),
        "digests": b"".join(bytes.fromhex(commit.digest)[:_DIGEST_BYTES] for commit in commits),
        "parts": _parts_json({name: condensed(each) for name, each in news.items()}, log.source),
    }


def merged(one: Mapping[str, bytes], two: Mapping[str, bytes]) -> dict[str, bytes]:
    """The content of a segment about two stretches, the second right behind the first."""
    return {
        "ids": _sorted_ids((*_ids(one["ids"]), *_ids(two["ids"]))),
        "digests": one["digests"] + two["digests"],
        "parts": _merged_parts(json.loads(one["parts"]), json.loads(two["parts"])),
    }


def candidates(ids: bytes, load_id: str) -> Iterator[int]:
    """Numbers of commits that may have a load id, lowest first: nearly always none, or the one."""
    entries = _ids(ids)
    wanted = _hashed(load_id)
    for at in range(bisect_left(entries, wanted << _ID_BITS), len(entries)):
        if entries[at] >> _ID_BITS != wanted:
            return
        yield entries[at] & ((1 << _ID_BITS) - 1)


def digest_in(digests: bytes, number: int) -> str:
    """The first hex digits of the digest of a segment's n-th commit, from 0."""
    return digests[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES].hex()


def entries_in(content: bytes, table: str, *, key: str, source: str) -> list[Entry]:
    """What a segment says of a table's parts."""
    record = json.loads(content)
    schemas = [_columns(schema) for schema in record["schemas"]]
    within = f"{source}/{table}/"
    return [
        pack_of(entry, key=key, within=within)
        if isinstance(entry, dict)
        else _file_of(entry, schemas, key, within)
        for entry in record["tables"].get(table, ())
    ]


def _hashed(load_id: str) -> int:
    raw = load_id.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(raw).digest()[: _ID_BITS // 8], "big")


def _id_entry(commit: Commit) -> int:
    return _hashed(commit.load_id) << _ID_BITS | commit.seq


def _ids(content: bytes) -> "array[int]":
    entries = array("Q")
    entries.frombytes(content)
    if sys.byteorder == "big":
        entries.byteswap()
    return entries


def _sorted_ids(entries: Iterable[int]) -> bytes:
    out = array("Q", sorted(entries))
    if sys.byteorder == "big":
        out.byteswap()
    return out.tobytes()


def _parts_json(tables: Mapping[str, Sequence[Entry]], source: str) -> bytes:
    schemas = _Schemas()
    out = {
        name: [
            pack_record(entry) if isinstance(entry, Pack) else _file_json(entry, schemas, f"{source}/{name}/")
            for entry in entries
        ]
        for name, entries in tables.items()
    }
    return dump({"schemas": schemas.known, "tables": out})


def _merged_parts(one: JSON, two: JSON) -> bytes:
    schemas = _Schemas(one["schemas"])
    places = [schemas.place(schema) for schema in two["schemas"]]
    tables: JSON = one["tables"]
    for name, entries in two["tables"].items():
        tables.setdefault(name, []).extend(
            entry if isinstance(entry, dict) else [*entry[:-1], places[entry[-1]]] for entry in entries
        )
    return dump({"schemas": schemas.known, "tables": tables})


# Parts and columns.


def _file_json(file: File, schemas: "_Schemas", within: str) -> list[Any]:
    path = file.path.removeprefix(within)
    columns = schemas.index(file.columns)
    return [path, file.sha256, file.size_bytes, file.first, file.last, file.rows, columns]


def _file_of(entry: Sequence[Any], schemas: Sequence[tuple[Column, ...]], key: str, within: str) -> File:
    path, sha256, size_bytes, first, last, rows, columns = entry
    return File(
        path=layout.check_relative(within + path, named_by=key, within=within),
        sha256=sha256, size_bytes=size_bytes, first=first, last=last, rows=rows, columns=schemas[columns],
    )  # fmt: skip


def _columns(schema: Sequence[JSON]) -> tuple[Column, ...]:
    return tuple(column_from_json(column) for column in schema)


class _Schemas:
    """Columns of loads, each written once."""

    def __init__(self, known: Sequence[Any] = ()) -> None:
        self.known: list[Any] = list(known)
        self._places = {dump(schema): at for at, schema in enumerate(self.known)}
        self._seen: dict[int, tuple[int, tuple[Column, ...]]] = {}  # which keeps them, and so their ids

    def index(self, columns: tuple[Column, ...]) -> int:
        seen = self._seen.get(id(columns))
        if seen is None:
            place = self.place([column.to_json() for column in columns])
            seen = self._seen[id(columns)] = (place, columns)
        return seen[0]

    def place(self, schema: Any) -> int:
        at = self._places.setdefault(dump(schema), len(self.known))
        if at == len(self.known):
            self.known.append(schema)
        return at
