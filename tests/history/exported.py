"""Reads exported tables with other engines, and says what the lake says of the same state."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
from pyiceberg.table import StaticTable

from lakehouse import Lake
from lakehouse.core.types import Type

Row = dict[str, Any]


def delta(location: str, version: int | None = None) -> list[Row]:
    """A Delta table, read by deltalake."""
    return deltalake.DeltaTable(location, version=version).to_pyarrow_table().to_pylist()


def delta_by_polars(location: str, version: int | None = None) -> list[Row]:
    return pl.scan_delta(location, version=version).collect().to_dicts()


def iceberg(location: str, snapshot_id: int | None = None) -> list[Row]:
    """An Iceberg table, read by pyiceberg."""
    return StaticTable.from_metadata(location).scan(snapshot_id=snapshot_id).to_arrow().to_pylist()


def iceberg_by_polars(location: str, snapshot_id: int | None = None) -> list[Row]:
    table = StaticTable.from_metadata(location)
    frame = pl.scan_iceberg(table, snapshot_id=snapshot_id, reader_override="native")
    return frame.collect().to_dicts()


READERS = {"delta": (delta, delta_by_polars), "iceberg": (iceberg, iceberg_by_polars)}


def snapshots(location: str) -> dict[int, int]:
    """The snapshots of an Iceberg table by the load that they say they are of."""
    found = StaticTable.from_metadata(location).metadata.snapshots
    return {int(s.summary["lakehouse.seq"]): s.snapshot_id for s in found if s.summary}


def versions(location: str) -> dict[int, int]:
    """The versions of a Delta table by the load that they say they are of."""
    found = deltalake.DeltaTable(location).history()
    return {json.loads(v["userMetadata"])["seq"]: v["version"] for v in found}


def wanted(
    lake: Lake, table: str, seq: int, *, change: Callable[[Any], Any] = lambda value: value
) -> Counter[Any]:
    """The rows of a table at a position, as SQL over the lake gives them; each value changed, if need be."""
    cursor = lake.query(f"SELECT * FROM {table}_at({seq})")
    kinds = {name: "json" if str(kind) == "JSON" else "string" for name, kind, *_ in cursor.description}
    rows = [change(dict(zip(kinds, row, strict=True))) for row in cursor.fetchall()]
    return counted(rows, kinds)


def told(lake: Lake, table: str, seq: int, rows: list[Row]) -> Counter[Any]:
    """Rows that an engine read, in the form of `wanted`."""
    source, _, name = table.partition(".")
    kinds = {column.name: column.type for column in lake.log(source).tables[name].columns_at(seq)}
    assert all(row.keys() == kinds.keys() for row in rows)
    return counted(rows, kinds)


def counted(rows: list[Row], kinds: Mapping[str, Type]) -> Counter[Any]:
    def value(name: str, found: Any) -> Any:
        return canon(json.loads(found) if kinds[name] == "json" else found)

    return Counter(frozenset((n, value(n, v)) for n, v in row.items() if v is not None) for row in rows)


def canon(value: Any) -> Any:
    """A hashable value in which 1 is 1.0, NaN equals NaN, and an object's nulls are absent."""
    if isinstance(value, float):
        return "nan" if value != value else value  # noqa: PLR0124
    if isinstance(value, (list, tuple)):
        return ("list", *map(canon, value))
    if isinstance(value, dict):
        return frozenset((k, canon(v)) for k, v in value.items() if v is not None)
    return value


def is_linked(file: Path, lake: Lake) -> bool:
    """Whether a file of an exported table is a part of the lake, and no copy of one."""
    parts = (p for p in Path(lake.url).rglob("*.parquet") if p.name == file.name)
    return any(part.samefile(file) for part in parts)
