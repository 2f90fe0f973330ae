"""The commit: the small JSON record that makes one load visible. Reading and writing its line.

A log file holds one commit a line. Within one file a line may leave out what the line before it
already said (`CARRIED`, and per table `CARRIED_TABLE`): bulk imports write thousands of lines that
differ in little. The digest of a commit is the SHA-256 of its line as it lies, without the newline;
each line holds the digest of the one before.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lakehouse.core import layout, moments
from lakehouse.core.types import Column, column_from_json
from lakehouse.errors import FormatError, TornCommitError, UserError

FORMAT = layout.FORMAT  # of a commit, and of the lake
CARRIED = ("format", "source", "committed_at", "produced_by", "gates")
CARRIED_TABLE = ("disposition", "primary_key", "merge_key", "volatile", "schema")
GENESIS = ""  # what the first commit has as digest of the one before

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A Parquet file that a commit names.

    Attributes:
        path: Key in the lake.
        sha256: Hex digest of the whole file.
        size_bytes: Size of the whole file.
        rows: Rows of THIS load in it; the file may hold rows of other loads too.
    """

    path: str
    sha256: str
    size_bytes: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A part that stands for all parts of a table whose rows are of the loads `first` to `last`.

    Attributes:
        path: Key in the lake.
        sha256: Hex digest of the whole file.
        size_bytes: Size of the whole file.
        first: First load that it may hold rows of.
        last: Last load that it may hold rows of.
        rows: Rows in it.
        loads: `(seq, rows, content digest)` of the loads of which it holds other rows than they
            added, because a retention let some go; 0 rows and no digest where none are left.
    """

    path: str
    sha256: str
    size_bytes: int
    first: int
    last: int
    rows: int
    loads: tuple[tuple[int, int, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChange:
    """What one load did to one table.

    Attributes:
        disposition: `append`, `replace` or `merge`.
        primary_key: Columns that identify a row; empty for tables without a key.
        merge_key: Columns whose equal values form a group that is replaced as a whole.
        volatile: Columns that do not make a row count as changed.
        columns: The columns of this load.
        parts: The files that hold what this load added; none where nothing changed.
        base: The state of the table starts anew here; nothing earlier is part of it.
        counts: `rows` in the table after the load, and `appeared`, `changed`, `disappeared`,
            `unchanged`, `appended`, where they are known; absent means 0.
        content: Digest of the rows this load added, whatever file they lie in.
    """

    disposition: str
    primary_key: tuple[str, ...] = ()
    merge_key: tuple[str, ...] = ()
    volatile: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    parts: tuple[Part, ...] = ()
    base: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    content: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What the newest rows are chosen by; empty where rows only add up."""
        return self.primary_key or self.merge_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One load of one source, as its log has it. All instants are aware UTC datetimes.

    Attributes:
        seq: Number in the source's log, from 1, without gaps.
        prev: Digest of the commit before; empty for the first.
        observed_at: When the data was seen at the source.
        effective_at: The running maximum of `observed_at`: what as-of instants resolve against.
        failure: Why this observation yielded no data; None for a load.
        packs: By table, parts that from here on stand for those of earlier loads. Such a commit is
            no load: it has no tables, and is observed when the commit before it was.
        reverts_to: The load whose state this one restores; 0 for that before the first, None for a
            load like any other.
        retention: What a retention let go: `policy`, and `expired`, the ranges `[first, last]` of
            positions that are no as-ofs any more.
        digest: Digest of this commit's own line; empty before it is written.
        record: The whole record, with fields that this version does not know.
    """

    source: str
    seq: int
    load_id: str
    prev: str
    observed_at: datetime
    effective_at: datetime
    committed_at: datetime
    tables: Mapping[str, TableChange] = field(default_factory=dict)
    failure: str | None = None
    responses: tuple[JSON, ...] = ()
    pipeline: JSON | None = None
    produced_by: JSON = field(default_factory=dict)
    gates: JSON = field(default_factory=dict)
    discarded: JSON = field(default_factory=dict)
    packs: Mapping[str, tuple[Pack, ...]] = field(default_factory=dict)
    retention: JSON = field(default_factory=dict)
    reverts_to: int | None = None
    digest: str = ""
    record: JSON = field(default_factory=dict)

    @property
    def is_load(self) -> bool:
        """Whether it is an observation of the source, and not a pack or a retention of earlier ones."""
        return not (self.packs or self.retention)

    @property
    def outcome(self) -> str:
        """`failed`, `unchanged` (looked, nothing new), `loaded`, `packed` or `expired`."""
        if self.failure is not None:
            return "failed"
        if self.retention or self.packs:
            return "expired" if self.retention else "packed"
        return "loaded" if any(t.parts or t.base for t in self.tables.values()) else "unchanged"


def to_record(commit: Commit) -> JSON:
    """The commit as a JSON object, whole: nothing carried over from a line before."""
    record: JSON = {
        "format": FORMAT,
        "source": commit.source,
        "seq": commit.seq,
        "load_id": commit.load_id,
        "prev": commit.prev,
        "observed_at": moments.render(commit.observed_at),
        "effective_at": moments.render(commit.effective_at),
        "committed_at": moments.render(commit.committed_at),
        "produced_by": commit.produced_by,
        "gates": commit.gates,
        "tables": {name: table_record(change) for name, change in commit.tables.items()},
    }
    optional = {
        "failure": commit.failure,
        "responses": list(commit.responses),
        "discarded": commit.discarded,
        "packs": {name: [pack_record(p) for p in packs] for name, packs in commit.packs.items()},
        "retention": commit.retention,
    }
    said = {"reverts_to": commit.reverts_to, "pipeline": commit.pipeline}
    return (
        record
        | {name: value for name, value in optional.items() if value}
        | {name: value for name, value in said.items() if value is not None}
    )


def lines(commits: Sequence[Commit], *, prev: str) -> bytes:
    """The content of a log file that holds the commits, in order, each chained to the one before.

    Args:
        commits: The commits; their own `prev` is not looked at.
        prev: Digest of the commit that the first of them follows.
    """
    out: list[bytes] = []
    before: JSON | None = None
    seen: dict[str, str] = {}
    for commit in commits:
        record = to_record(commit) | {"prev": prev}
        if len(commits) > 1 and before is None:
            record["lines"] = len(commits)  # so that a file cut at the end of a line is known as torn
        out.append(dump(_leave_out(record, before, seen)))
        prev = digest_of(out[-1])
        before = record if before is None else _carry(record, before)
    return b"".join(line + b"\n" for line in out)


def parse_file(content: bytes, *, key: str, source: str, cut: bool = False) -> list[Commit]:
    """The commits of one log file, in order. The chain is not checked here.

    Args:
        content: The bytes of the file, or of several, one after the other.
        key: Its key, for messages.
        source: The source whose log it belongs to.
        cut: The last file may have fewer lines than it says: a log pack's name says where it ends.

    Raises:
        TornCommitError, FormatError, UnsafePathError: The file is not what it should be.
    """
    if not content.endswith(b"\n"):
        msg = f"{key}: ends in the middle of a commit ({len(content)} bytes, no newline at the end)"
        raise TornCommitError(
            msg, path=key, hint="lakehouse writes log files whole: restore this file from a mirror or backup."
        )
    commits: list[Commit] = []
    before: JSON | None = None
    said = _Said()
    to_come = 0
    for number, line in enumerate(content[:-1].split(b"\n"), 1):
        where = f"{key}:{number}"
        record = _load(line, where)
        if "format" in record:  # it leaves nothing out: a file begins here, also after one that was cut
            to_come = _lines_of(record, where)
        to_come -= 1
        if before is not None:
            record = _carry(record, before)
        _check_format(record, where)
        try:
            commits.append(_from_record(record, said, line, key=key, source=source))
        except FormatError as error:  # of a type, which does not know where it was found
            msg = f"{where}: {error.message}"
            raise FormatError(msg, path=key, hint=error.hint) from error
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, UserError) as error:
            reason = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            msg = f"{where}: is not a commit ({reason})"
            raise FormatError(msg, path=key, hint="Restore this file from a mirror or backup.") from error
        before = record
    if to_come > 0 and not cut:
        msg = f"{key}: {to_come} commits are missing at its end"
        raise TornCommitError(msg, path=key, hint="Restore this file from a mirror or backup.")
    return commits


def begins_file(line: bytes) -> bool:
    """Whether a line of a log was the first of a file when it was written: it alone has `format`."""
    return b'"format"' in line and "format" in json.loads(line)


def digest_of(line: bytes) -> str:
    """Digest of a commit: SHA-256 of its line without the newline, in hex."""
    return hashlib.sha256(line).hexdigest()


def dump(value: object) -> bytes:
    """A JSON value as the format writes it: UTF-8, no spaces, no NaN."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _load(line: bytes, where: str) -> JSON:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        msg = f"{where}: is not JSON ({error})"
        raise FormatError(
            msg, path=where.rsplit(":", 1)[0], hint="Restore this file from a mirror or backup."
        ) from error
    if not isinstance(record, dict):
        msg = f"{where}: is not a JSON object"
        raise FormatError(
            msg, path=where.rsplit(":", 1)[0], hint="Restore this file from a mirror or backup."
        )
    return record


def _check_format(record: JSON, where: str) -> None:
    version = record.get("format")
    if not isinstance(version, int) or version > FORMAT:
        msg = f"{where}: has format version {version!r}; this lakehouse reads up to {FORMAT}"
        raise FormatError(msg, path=where.rsplit(":", 1)[0], hint="Upgrade lakehouse, then try again.")


def _lines_of(record: JSON, where: str) -> int:
    """How many lines the file has that begins with this record."""
    said = record.get("lines", 1)
    if isinstance(said, int) and said >= 1:
        return said
    msg = f"{where}: is not a commit (lines is {said!r})"
    raise FormatError(msg, path=where.rsplit(":", 1)[0], hint="Restore this file from a mirror or backup.")


def _carry(record: JSON, before: JSON) -> JSON:
    """A line's record with what it left out, filled from the record before it in the same file."""
    whole = {name: before[name] for name in CARRIED if name in before} | record
    known: JSON = before.get("_tables") or before.get("tables") or {}
    tables: JSON = {}
    for table, change in record.get("tables", {}).items():
        earlier = known.get(table, {})
        tables[table] = {name: earlier[name] for name in CARRIED_TABLE if name in earlier} | change
    whole["tables"] = tables
    whole["_tables"] = known | tables
    return whole


def _leave_out(record: JSON, before: JSON | None, seen: dict[str, str]) -> JSON:
    """The inverse of `_carry`: without what earlier lines of the same file already say."""
    before = before or {}
    short = {n: v for n, v in record.items() if n not in CARRIED or n not in before or before[n] != v}
    known: JSON = before.get("_tables") or before.get("tables") or {}
    tables: JSON = {}
    for table, change in record["tables"].items():
        earlier = known.get(table, {})
        tables[table] = {
            n: v for n, v in change.items() if n not in CARRIED_TABLE or n not in earlier or earlier[n] != v
        }
        if "parts" in change:
            tables[table]["parts"] = [_part_once(part, seen, table) for part in change["parts"]]
    if short["effective_at"] == short["observed_at"]:
        del short["effective_at"]
    del short["tables"]
    return short | ({"tables": tables} if tables else {})


def _part_once(part: JSON, seen: dict[str, str], table: str) -> JSON:
    """A part's record; where the file named it before, its rows, and its path unless it was the last."""
    if part["path"] not in seen:
        seen[part["path"]] = table
        short = part
    elif seen.get(f"{table}/") == part["path"]:
        short = {"rows": part["rows"]}
    else:
        short = {"path": part["path"], "rows": part["rows"]}
    seen[f"{table}/"] = part["path"]
    return short


def table_record(change: TableChange) -> JSON:
    """A change as a commit records it, whole."""
    record: JSON = {
        "disposition": change.disposition,
        "primary_key": list(change.primary_key),
        "merge_key": list(change.merge_key),
        "volatile": list(change.volatile),
        "schema": [column.to_json() for column in change.columns],
        "parts": [
            {"path": p.path, "sha256": p.sha256, "size_bytes": p.size_bytes, "rows": p.rows}
            for p in change.parts
        ],
        "base": change.base,
        "counts": {name: n for name, n in change.counts.items() if n},
        "content": change.content,
    }
    always = {"disposition", "primary_key", "merge_key", "volatile", "schema"}
    return {name: value for name, value in record.items() if value or name in always}


def pack_record(pack: Pack) -> JSON:
    """A pack as a commit records it."""
    record: JSON = {
        "path": pack.path, "sha256": pack.sha256, "size_bytes": pack.size_bytes,
        "first": pack.first, "last": pack.last, "rows": pack.rows,
    }  # fmt: skip
    return record | ({"loads": [list(load) for load in pack.loads]} if pack.loads else {})


class _Said:
    """What earlier lines of one log file said, so that later ones need not be parsed again."""

    def __init__(self) -> None:
        self.files: dict[str, JSON] = {}
        self.last_path: dict[str, str] = {}
        self._columns: dict[int, tuple[Column, ...]] = {}

    def columns(self, schema: list[JSON]) -> tuple[Column, ...]:
        # A carried schema is the same list object, kept alive by the commits that hold it.
        known = self._columns.get(id(schema))
        if known is None:
            known = self._columns[id(schema)] = tuple(column_from_json(column) for column in schema)
        return known


def _from_record(record: JSON, said: _Said, line: bytes, *, key: str, source: str) -> Commit:
    if record["source"] != source:
        msg = f"the commit is of source {record['source']!r}"
        raise ValueError(msg)
    seq = record["seq"]
    if not isinstance(seq, int) or seq < 1:
        msg = f"seq is {seq!r}"
        raise ValueError(msg)
    tables = {
        layout.check_table_name(name): _table_change(change, said, key=key, within=f"{source}/{name}/")
        for name, change in record.get("tables", {}).items()
    }
    observed = moments.parse(record["observed_at"])
    effective = record.get("effective_at")
    return Commit(
        source=source,
        seq=seq,
        load_id=str(record["load_id"]),
        prev=str(record["prev"]),
        observed_at=observed,
        effective_at=moments.parse(effective) if effective else observed,
        committed_at=moments.parse(record["committed_at"]),
        tables=tables,
        failure=record.get("failure"),
        responses=tuple(record.get("responses", ())),
        pipeline=record.get("pipeline"),
        produced_by=record.get("produced_by", {}),
        gates=record.get("gates", {}),
        discarded=record.get("discarded", {}),
        packs={
            layout.check_table_name(name): tuple(
                pack_of(p, key=key, within=f"{source}/{name}/") for p in packs
            )
            for name, packs in record.get("packs", {}).items()
        },
        retention=_retention(record.get("retention", {})),
        reverts_to=_reverts_to(record.get("reverts_to"), seq),
        digest=digest_of(line),
        record={name: value for name, value in record.items() if name != "_tables"},
    )


def _reverts_to(load: object, seq: int) -> int | None:
    if load is None or (isinstance(load, int) and 0 <= load < seq):
        return load
    msg = f"reverts_to is {load!r}"
    raise ValueError(msg)


def _retention(record: JSON) -> JSON:
    ranges = [[int(first), int(last)] for first, last in record.get("expired", ())]
    return dict(record) | ({"expired": ranges} if ranges else {})


def pack_of(record: JSON, *, key: str, within: str) -> Pack:
    """The pack that a commit, or what was derived from it, records."""
    return Pack(
        path=layout.check_relative(record["path"], named_by=key, within=within),
        sha256=str(record["sha256"]),
        size_bytes=int(record["size_bytes"]),
        first=int(record["first"]),
        last=int(record["last"]),
        rows=int(record["rows"]),
        loads=tuple((int(seq), int(rows), str(content)) for seq, rows, content in record.get("loads", ())),
    )


def change_of(record: JSON, *, key: str, within: str) -> TableChange:
    """The change that `table_record` gave, with paths that stay within a prefix."""
    return _table_change(record, _Said(), key=key, within=within)


def _table_change(change: JSON, said: _Said, *, key: str, within: str) -> TableChange:
    parts = []
    for entry in change.get("parts", ()):
        if "path" in entry:
            said.last_path[within] = layout.check_relative(entry["path"], named_by=key, within=within)
        path = said.last_path[within]
        whole = said.files.get(path, {})
        if not whole or "sha256" in entry or "size_bytes" in entry:
            whole = said.files[path] = whole | entry
        parts.append(
            Part(
                path=path,
                sha256=str(whole["sha256"]),
                size_bytes=int(whole["size_bytes"]),
                rows=int(entry["rows"]),
            )
        )
    return TableChange(
        disposition=change["disposition"],
        primary_key=tuple(change["primary_key"]),
        merge_key=tuple(change.get("merge_key", ())),
        volatile=tuple(change.get("volatile", ())),
        columns=said.columns(change["schema"]),
        parts=tuple(parts),
        base=bool(change.get("base", False)),
        counts=dict(change.get("counts", {})),
        content=str(change.get("content", "")),
    )
