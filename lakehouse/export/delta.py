"""`lakehouse export delta`: a table as a Delta Lake table.

The log is written here and by no library: none takes data files away and adds others in one commit,
which a later moment needs. Of the protocol only what is needed is used: `protocol`, `metaData`, `add`,
`remove` and `commitInfo`, without checkpoints. A version is created only if absent, as the protocol
wants it; whoever loses the race looks again.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote
from uuid import uuid4

from lakehouse.core.types import Column, Type, decimal
from lakehouse.errors import ContentionError, UserError
from lakehouse.export.files import (
    DataFile,
    Exported,
    Value,
    cut,
    data_files,
    place_of,
    state_of,
)
from lakehouse.provenance import version
from lakehouse.store import Exists, Store, open_store

if TYPE_CHECKING:
    from lakehouse.lake import Lake
    from lakehouse.snapshot import Snapshot

_LAKE, _TABLE = "lakehouse.lake", "lakehouse.table"  # what the table's properties say of where it is from
_NTZ = "timestampNtz"
_BOUNDED = "delta.dataSkippingStatsColumns"
_UNBOUNDED = {"null", "bool", "binary", "float32", "float64"}
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DIGITS = 20  # of a version as the name of a file
_ATTEMPTS = 10
_LONGEST = 32  # characters of text in bounds, as other writers cut it
_EXACT_DIGITS = 15  # of a decimal: readers may take longer ones for floats

# Types that Delta has not, and those that hold their values. Text that Parquet calls JSON is refused by Polars.
_KEPT_AS = {
    "json": "string",
    "uint8": "int16", "uint16": "int32", "uint32": "int64", "uint64": "decimal(20,0)",
    "time": "string", "timestamp_ns": "string", "timestamptz_ns": "string",
}  # fmt: skip
_NAMES = {
    "null": "string", "bool": "boolean", "int8": "byte", "int16": "short", "int32": "integer", "int64": "long",
    "bigint": "long", "float32": "float", "float64": "double", "string": "string",
    "binary": "binary", "date": "date", "timestamp": "timestamp_ntz", "timestamptz": "timestamp",
}  # fmt: skip


def export_delta(
    lake: "Lake",
    table: str,
    *,
    as_of: datetime | str | int | None = None,
    out: str | Path | None = None,
) -> Exported:
    """Make a table, as of a moment, readable as a Delta table; a new version of it where there is one.

    Args:
        lake: The lake.
        table: `source.table`.
        as_of: An instant, a tag, or the number of a load; now by default.
        out: The folder or URL below which `<source>/<table>` goes; by default `exports/delta` beside the lake.

    Raises:
        NotFoundError: There is no such table or load.
        UserError: The table was not there yet, or the place holds something else.
        IntegrityError: A part is missing or damaged.
        ContentionError: Other exports to the same place won every attempt.
    """
    place = place_of(lake, table, "delta", out)
    store = open_store(place)
    _Log.read(store).check(place, lake.id, table)
    found, as_text = state_of(lake, table, as_of, place, _KEPT_AS)
    for _ in range(_ATTEMPTS):
        log = _Log.read(store)
        log.check(place, lake.id, table)
        bounded = _bounded(found.columns)
        same_bounds = log.bounded == bounded
        files = data_files(lake, found, place, map(_name_of, log.files) if same_bounds else ())
        added = [file for file in files if _path_of(file) not in log.files]
        removed = sorted(log.files.keys() - {_path_of(file) for file in files})
        actions = [
            *_described(log, lake.id, found),
            *_removals(log, removed),
            *(_addition(file, bounded, log) for file in (added if same_bounds else files)),
        ]
        try:
            if actions:
                store.create(_key(log.version + 1), _lines([_commit_info(lake.id, found), *actions]))
        except Exists:
            continue
        return Exported(
            snapshot=found,
            location=place,
            version=log.version + bool(actions),
            changed=bool(actions),
            added=len(added),
            removed=len(removed),
            as_text=as_text,
            elsewhere=sum(not file.is_inside for file in files),
        )
    raise ContentionError(f"{place}: other exports of it won every attempt", hint="Run it again.")


@dataclass(slots=True, kw_only=True)
class _Log:
    """What the log of a Delta table says.

    Attributes:
        version: Its newest version; -1 without any.
        files: The `add` action of each data file by its path.
        protocol: The newest action of that name.
        metadata: The same.
        foreign: Why it is none that an export could go on from; empty if it is one.
    """

    version: int = -1
    files: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    foreign: str = ""

    @classmethod
    def read(cls, store: Store) -> "_Log":
        """The log of the table in a folder; an empty one where there is none."""
        log = cls()
        for entry in store.list("_delta_log/"):
            name = entry.key.rpartition("/")[2]
            number, _, ending = name.partition(".")
            if ending != "json" or len(number) != _DIGITS or not number.isdigit():
                continue
            if int(number) != log.version + 1:
                log.foreign = f"its log has no version {log.version + 1}"
                break
            log.version = int(number)
            try:
                for line in store.get(entry.key).splitlines():
                    log._apply(json.loads(line))
            except (ValueError, KeyError, TypeError):
                log.foreign = f"{name} is no commit of a Delta table"
                break
        return log

    def _apply(self, action: Mapping[str, Any]) -> None:
        if "add" in action:
            self.files[action["add"]["path"]] = action["add"]
        elif "remove" in action:
            self.files.pop(action["remove"]["path"], None)
        elif "metaData" in action:
            self.metadata = action["metaData"]
        elif "protocol" in action:
            self.protocol = action["protocol"]

    @property
    def bounded(self) -> list[str]:
        """The columns that have bounds in all files."""
        said = self.metadata.get("configuration", {}).get(_BOUNDED, "")
        return said.split(",") if said else []

    def check(self, place: str, lake: str, table: str) -> None:
        """Refuse a table that is not an earlier export of the same table.

        Raises:
            UserError: It is another one, or one that others wrote to in a way that cannot be undone.
        """
        why = self.foreign
        said = self.metadata.get("configuration", {})
        if self.version >= 0 and not why and (said.get(_LAKE), said.get(_TABLE)) != (lake, table):
            why = f"it is not an export of {table} of this lake"
        if set(self.protocol.get("readerFeatures", [])) - {_NTZ} or any(
            add.get("deletionVector") for add in self.files.values()
        ):
            why = why or "another program changed what readers of it have to know"
        if why:
            raise UserError(
                f"{place}: holds a Delta table that cannot be exported to: {why}",
                hint="Delete that folder (the lake is not touched by it), or name another one with -o.",
            )


def _key(version: int) -> str:
    return f"_delta_log/{version:0{_DIGITS}}.json"


def _lines(actions: list[dict[str, Any]]) -> bytes:
    texts = [json.dumps(action, ensure_ascii=False, separators=(",", ":")) for action in actions]
    return "".join(f"{text}\n" for text in texts).encode()


def _path_of(file: DataFile) -> str:
    """A data file as the log names it: a relative path, or a URI; in both, some characters are encoded."""
    if file.is_inside:
        return quote(file.name)
    scheme, found, rest = file.name.rpartition("://")
    return f"{scheme if found else 'file'}://{quote(rest)}"


def _name_of(path: str) -> str:
    """The data file that the log means by a path."""
    return unquote(path).removeprefix("file://")


def _commit_info(lake: str, found: "Snapshot") -> dict[str, Any]:
    about = {"lake": lake, "table": found.table, "seq": found.seq, "digest": found.digest}
    return {
        "commitInfo": {
            "timestamp": _now(),
            "operation": "WRITE",
            "operationParameters": {"mode": "Overwrite", "partitionBy": "[]"},
            "engineInfo": f"lakehouse/{version()}",
            "isBlindAppend": False,
            "userMetadata": json.dumps(about),
        }
    }


def _described(log: _Log, lake: str, found: "Snapshot") -> Iterator[dict[str, Any]]:
    """The protocol and the metadata, where the table has others."""
    schema = {"type": "struct", "fields": [_field(c.name, c.type) for c in found.columns]}
    text = json.dumps(schema, ensure_ascii=False)
    protocol: Mapping[str, Any] = {"minReaderVersion": 1, "minWriterVersion": 2}
    if '"timestamp_ntz"' in text or log.protocol.get("readerFeatures"):
        features = {"readerFeatures": [_NTZ], "writerFeatures": ["appendOnly", "invariants", _NTZ]}
        protocol = {"minReaderVersion": 3, "minWriterVersion": 7, **features}
    if protocol != log.protocol:
        yield {"protocol": protocol}
    bounded = _bounded(found.columns)
    if text != log.metadata.get("schemaString") or bounded != log.bounded:
        yield {
            "metaData": {
                "id": str(uuid4()),
                "name": found.table.partition(".")[2],
                "format": {"provider": "parquet", "options": {}},
                "partitionColumns": [],
                "createdTime": _now(),
                **log.metadata,
                "configuration": {
                    **log.metadata.get("configuration", {}),
                    _LAKE: lake,
                    _TABLE: found.table,
                    _BOUNDED: ",".join(bounded),
                },
                "schemaString": text,
            }
        }


def _field(name: str, kind: Type) -> dict[str, Any]:
    return {"name": name, "type": _type(kind), "nullable": True, "metadata": {}}


def _type(kind: Type) -> Any:
    if isinstance(kind, str):
        return kind if decimal(kind) else _NAMES[kind]
    if "list" in kind:
        return {"type": "array", "elementType": _type(kind["list"]), "containsNull": True}
    return {"type": "struct", "fields": [_field(name, inner) for name, inner in kind["struct"].items()]}


def _removals(log: _Log, paths: list[str]) -> Iterator[dict[str, Any]]:
    for path in paths:
        yield {
            "remove": {
                "path": path,
                "deletionTimestamp": _now(),
                "dataChange": True,
                "extendedFileMetadata": True,
                "partitionValues": {},
                "size": log.files[path]["size"],
            }
        }


def _addition(file: DataFile, bounded: Sequence[str], log: _Log) -> dict[str, Any]:
    path = _path_of(file)
    return {
        "add": {
            "path": path,
            "partitionValues": {},
            "size": file.size_bytes,
            "modificationTime": _now(),
            "dataChange": path not in log.files,  # else only what is said of it is new
            "stats": json.dumps(_statistics(file, bounded), ensure_ascii=False),
        }
    }


def _bounded(columns: Sequence[Column]) -> list[str]:
    """The columns that files have bounds of, as far as they have values.

    Readers take a bound that is missing beside others for one that no row meets, unless the table says that
    the column has none. So it says which have: not floats, whose NaN is in no bounds; not numbers that readers
    may take for floats; and none whose name would have to be quoted.
    """
    return [
        c.name
        for c in columns
        if isinstance(c.type, str) and _is_bounded(c.type) and _PLAIN.fullmatch(c.name)
    ]


def _is_bounded(kind: str) -> bool:
    digits = decimal(kind)
    return kind not in _UNBOUNDED if digits is None else digits[0] <= _EXACT_DIGITS


def _statistics(file: DataFile, bounded: Sequence[str]) -> dict[str, Any]:
    nulls = {name: bounds.nulls for name, bounds in file.bounds.items()}
    about: dict[str, Any] = {"numRecords": file.rows}
    filled = [name for name in bounded if nulls.get(name) != file.rows]
    least = {name: _bound(file.bounds[name].least, up=False) for name in filled if name in file.bounds}
    most = {name: _bound(file.bounds[name].most, up=True) for name in filled if name in file.bounds}
    if len(least) == len(filled) and None not in (*least.values(), *most.values()):
        about |= {"minValues": least, "maxValues": most}
    return about | {"nullCount": nulls}


def _bound(value: Value | None, *, up: bool) -> Any:
    """A bound as statistics have it, or one beyond it; None where there is none."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):  # statistics have milliseconds
        beyond = timedelta(microseconds=-value.microsecond % 1000 if up else -(value.microsecond % 1000))
        text = (value + beyond).replace(tzinfo=None).isoformat(timespec="milliseconds")
        return f"{text}Z" if value.tzinfo else text
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return cut(value, _LONGEST, up=up)
    return value


def _now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
