"""`lakehouse export`: what it says and writes, the types of both formats, and bounds that hide no row."""

import datetime as dt
import json
import math
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import deltalake
import exported
import polars as pl
import pyarrow as pa
import pytest
from command import run
from pyiceberg import expressions as ice
from pyiceberg.table import StaticTable

from lakehouse import Lake, tags
from lakehouse.core.gates import OPEN
from lakehouse.errors import SchemaError, SetupError, UserError
from lakehouse.export.delta import export_delta
from lakehouse.export.files import cut
from lakehouse.export.iceberg import export_iceberg
from lakehouse.snapshot import snapshot

EXPORTS: dict[str, Callable[..., Any]] = {"delta": export_delta, "iceberg": export_iceberg}
both = pytest.mark.parametrize("kind", EXPORTS)
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
INSTANT = dt.datetime(2020, 5, 17, 1, 2, 3, 456789)  # noqa: DTZ001
MOMENT = INSTANT.replace(tzinfo=dt.UTC)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.create(tmp_path / "lake")


def put(lake: Lake, table: str, rows: Any, day: int = 0, **how: Any) -> None:
    with lake.load("s", observed_at=START + dt.timedelta(days=day), gates=OPEN) as load:
        load.write(table, rows, **how)


# The command line.


def test_the_command_says_what_it_did_and_what_to_type_next(lake: Lake, tmp_path: Path) -> None:
    put(lake, "t", [{"a": 1}])
    put(lake, "t", [{"a": 2}], 1)
    tags.create(lake, "first", 1)
    said = run("export", "delta", "s.t", "--as-of", "first", "--lake", lake.url, cwd=tmp_path).ok().out
    assert "s.t: load 1, 1 row, 1 file (1 of the lake, 0 written) -> exports/delta/s/t, version 0" in said
    assert 'DeltaTable("exports/delta/s/t")' in said
    said = run("export", "delta", "s.t", "--lake", lake.url, cwd=tmp_path).ok().out
    assert "2 rows, 2 files (2 of the lake, 0 written) -> exports/delta/s/t, version 1" in said
    said = run("export", "delta", "s.t", "--lake", lake.url, cwd=tmp_path).ok().out
    assert "unchanged, version 1" in said


@both
def test_the_command_takes_several_tables_and_prints_json(lake: Lake, tmp_path: Path, kind: str) -> None:
    put(lake, "t", [{"a": 1}])
    put(lake, "u", [{"b": {"x": [1]}}], 1)
    done = run("export", kind, "s.t", "s.u", "-o", tmp_path / "out", "--json", "--lake", lake.url).ok().json
    assert [(one["table"], one["rows"], one["seq"], one["changed"]) for one in done] == [
        ("s.t", 1, 2, True),
        ("s.u", 1, 2, True),
    ]
    assert done[1]["location"] == str(tmp_path / "out" / "s" / "u")
    assert exported.READERS[kind][0](done[1]["location"]) == [{"b": {"x": [1]}}]


@both
def test_wrong_names_and_moments_are_explained(lake: Lake, kind: str) -> None:
    put(lake, "t", [{"a": 1}])
    put(lake, "late", [{"a": 1}], 1)
    run("export", kind, "s.nothing", "--lake", lake.url).failed(
        2, "s has no table 'nothing'", "s.late, s.t"[:6]
    )
    run("export", kind, "s.late", "--as-of", "1", "--lake", lake.url).failed(2, "was not there yet at load 1")
    run("export", kind, "s.t", "--as-of", "soon", "--lake", lake.url).failed(2, "as of soon")
    assert run("export", "hudi", "s.t", "--lake", lake.url).code == 2


def test_without_pyiceberg_the_line_to_install_it_is_named(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(lake, "t", [{"a": 1}])
    monkeypatch.setitem(sys.modules, "pyiceberg.table", None)
    with pytest.raises(SetupError, match=r"uv add 'lakehouse\[iceberg\]'"):
        export_iceberg(lake, "s.t")
    export_delta(lake, "s.t")


def test_a_lake_elsewhere_needs_a_place(tmp_path: Path) -> None:
    lake = Lake.create("memory://export-tests/lake")
    put(lake, "t", [{"a": 1}])
    put(lake, "k", [{"a": 1}], 1, disposition="replace", primary_key="a")
    put(lake, "k", [{"a": 2}], 2, disposition="replace", primary_key="a")
    with pytest.raises(UserError, match="needs a place"):
        export_delta(lake, "s.t")
    done = export_delta(lake, "s.t", out="memory://export-tests/out")
    assert done.elsewhere == 1
    text = export_delta(lake, "s.k", out="memory://export-tests/out")
    assert (text.elsewhere, text.written) == (0, 1)
    with pytest.raises(UserError, match="local folders only"):
        export_iceberg(lake, "s.t", out="memory://export-tests/out")
    here = export_delta(lake, "s.k", out=tmp_path)
    assert exported.delta(here.location) == [{"a": 2}]


# Types.

TYPED: dict[str, tuple[pa.DataType, list[Any]]] = {
    "bool": (pa.bool_(), [True, None, False]),
    "i8": (pa.int8(), [-128, None, 127]),
    "i16": (pa.int16(), [-5, None, 5]),
    "i32": (pa.int32(), [-5, None, 2**31 - 1]),
    "i64": (pa.int64(), [-5, None, 2**62 + 1]),
    "u8": (pa.uint8(), [255, None, 0]),
    "u16": (pa.uint16(), [65535, None, 0]),
    "u32": (pa.uint32(), [2**32 - 1, None, 0]),
    "u64": (pa.uint64(), [2**64 - 1, None, 0]),
    "f32": (pa.float32(), [1.5, None, -2.25]),
    "f64": (pa.float64(), [0.1, None, math.inf]),
    "dec": (pa.decimal128(10, 2), [Decimal("1.25"), None, Decimal("-7.00")]),
    "long": (pa.decimal128(38, 3), [Decimal("12345678901234567890.123"), None, Decimal("0.001")]),
    "text": (pa.string(), ["ä" * 40, None, ""]),
    "bytes": (pa.binary(), [b"\x00\xff", None, b""]),
    "date": (pa.date32(), [dt.date(1900, 1, 1), None, dt.date(2262, 1, 1)]),
    "instant": (pa.timestamp("us"), [INSTANT, None, INSTANT + dt.timedelta(1)]),
    "moment": (pa.timestamp("us", "UTC"), [MOMENT, None, MOMENT]),
    "none": (pa.null(), [None, None, None]),
    "items": (pa.list_(pa.uint16()), [[1, None], [], None]),
    "record": (pa.struct([("x", pa.int64()), ("y z", pa.string())]), [{"x": 1, "y z": None}, None, {"x": None, "y z": "q"}]),
    "deep": (pa.list_(pa.struct([("q", pa.list_(pa.float64()))])), [[{"q": [1.5]}, None], [{"q": None}], None]),
    "with.dot": (pa.int64(), [1, None, 3]),
    "A b,;{}()=": (pa.string(), ["odd", None, "name"]),
}  # fmt: skip


@both
def test_values_of_all_types_are_what_they_were(lake: Lake, kind: str) -> None:
    table = pa.table({name: pa.array(values, type=t) for name, (t, values) in TYPED.items()})
    put(lake, "typed", table)
    done = EXPORTS[kind](lake, "s.typed")
    for read in exported.READERS[kind]:
        rows = read(done.location)
        for name, (_, values) in TYPED.items():
            found = [row[name] for row in rows]
            if (
                read is exported.iceberg and name == "deep"
            ):  # pyiceberg reads a list of structs that is null as empty
                found = [value or None for value in found]
            assert found == values, name
    assert done.as_text == ()


@both
def test_types_that_a_format_lacks_are_text(lake: Lake, kind: str) -> None:
    table = pa.table(
        {
            "time": pa.array([dt.time(1, 2, 3, 4), None]),
            "ns": pa.array([1_234_567_891, None], type=pa.timestamp("ns")),
            "nsz": pa.array([1_234_567_891, None], type=pa.timestamp("ns", "UTC")),
            "times": pa.array([[dt.time(1)], None], type=pa.list_(pa.time64("us"))),
            "json": pa.array(['{"a":1}', '"x"'], type=pa.json_()),
        }
    )
    put(lake, "t", table)
    done = EXPORTS[kind](lake, "s.t")
    assert set(done.as_text) == set(table.column_names)
    for read in exported.READERS[kind]:
        assert read(done.location)[0] == {
            "time": "01:02:03.000004",
            "ns": "1970-01-01 00:00:01.234567891",
            "nsz": "1970-01-01 00:00:01.234567891+00",
            "times": ["01:00:00"],
            "json": '{"a":1}',
        }
    assert "as text" in run("export", kind, "s.t", "--lake", lake.url).ok().out


@both
def test_a_column_may_change_its_type_come_and_go(lake: Lake, kind: str) -> None:
    rows: list[dict[str, Any]] = [
        {"a": 1, "s": {"x": 1}}, {"a": 2.5, "s": {"y": "t"}}, {"b": None}, {"b": [1]}, {"a": "text", "s": 5}, {"b": [2]},
    ]  # fmt: skip
    for n, row in enumerate(rows):
        put(lake, "t", [row], n)
        done = EXPORTS[kind](lake, "s.t")
        for read in exported.READERS[kind]:
            assert exported.told(lake, "s.t", n + 1, read(done.location)) == exported.wanted(
                lake, "s.t", n + 1
            )
    assert done.added == 1
    then = (exported.versions if kind == "delta" else exported.snapshots)(done.location)
    assert list(then) == sorted(then, reverse=kind == "delta")
    for seq, version in then.items():
        for read in exported.READERS[kind]:
            found = read(done.location, version)
            assert exported.told(lake, "s.t", seq, found) == exported.wanted(lake, "s.t", seq)


@both
def test_a_table_without_rows_or_columns(lake: Lake, kind: str) -> None:
    put(lake, "t", [{"a": 1}], 0, disposition="replace", primary_key="a")
    done = EXPORTS[kind](lake, "s.t")
    put(lake, "t", [], 1, disposition="replace", primary_key="a")
    done = EXPORTS[kind](lake, "s.t")
    assert (done.added, done.removed) == (0, 1)
    for read in exported.READERS[kind]:
        assert read(done.location) == []
    put(lake, "empty", [], 2)
    with pytest.raises((SchemaError, UserError), match="empty"):
        EXPORTS[kind](lake, "s.empty")


def test_columns_that_iceberg_cannot_tell_apart_are_refused(lake: Lake) -> None:
    put(lake, "t", [{"a": {"b": 1}, "a.b": 2}])
    with pytest.raises(SchemaError, match="tell its columns apart"):
        export_iceberg(lake, "s.t")
    assert exported.delta(export_delta(lake, "s.t").location) == [{"a": {"b": 1}, "a.b": 2}]


# Bounds: each file has one row, so that a wrong bound hides it.

BOUNDED: dict[str, list[Any]] = {
    "i": [-(2**60), 0, 2**60 + 1],
    "f": [-1.5, 0.25, math.nan],
    "s": ["", "ä" * 31 + "zz", "é" * 40, "\U0010ffff" * 40, "a" * 32],
    "d": [dt.date(1969, 1, 1), dt.date(2020, 2, 29)],
    "t": [INSTANT, INSTANT + dt.timedelta(microseconds=1), dt.datetime(1969, 1, 1, 0, 0, 0, 999_999)],  # noqa: DTZ001
    "z": [MOMENT, MOMENT + dt.timedelta(microseconds=1)],
    "n": [Decimal("1.10"), Decimal("12345678901234567.89"), Decimal("-3.33")],
    "b": [True, False],
}


@both
@pytest.mark.parametrize("column", BOUNDED)
def test_bounds_hide_no_row(lake: Lake, kind: str, column: str) -> None:
    values = BOUNDED[column]
    kinds = {"n": pa.decimal128(30, 2), "t": pa.timestamp("us"), "z": pa.timestamp("us", "UTC")}
    for n, value in enumerate(values):
        put(lake, "t", pa.table({column: pa.array([value, None], type=kinds.get(column))}), n)
    done = EXPORTS[kind](lake, "s.t")
    for value in values:
        if value != value:  # noqa: PLR0124 - NaN is equal to nothing
            continue
        assert [row[column] for row in equal_to(kind, done.location, column, value)] == [value]
        above = [row[column] for row in at_least(done.location, kind, column, value)]
        assert len(above) >= sum(other >= value for other in values)


def equal_to(kind: str, location: str, column: str, value: Any) -> list[dict[str, Any]]:
    if kind == "delta":
        table = deltalake.DeltaTable(location).to_pyarrow_dataset()
        return table.to_table(filter=pa.compute.field(column) == value).to_pylist()
    text = ice.EqualTo(column, value.isoformat() if isinstance(value, dt.date) else value)
    return StaticTable.from_metadata(location).scan(row_filter=text).to_arrow().to_pylist()


def at_least(location: str, kind: str, column: str, value: Any) -> list[dict[str, Any]]:
    """By Polars, which holds NaN for the greatest number."""
    frame = pl.scan_delta(location) if kind == "delta" else pl.scan_iceberg(StaticTable.from_metadata(location), reader_override="native")  # fmt: skip
    return frame.filter(pl.col(column) >= value).collect().to_dicts()


@pytest.mark.parametrize("text", ["", "abc", "ab\U0010ffff\U0010ffff", "ab\ud7ffx", "\U0010ffff" * 3])
def test_text_is_cut_so_that_it_stays_a_bound(text: str) -> None:
    low, high = cut(text, 2, up=False), cut(text, 2, up=True)
    assert low is not None
    assert low.encode() <= text.encode()
    assert len(low) <= 2
    assert high is None or (text.encode() <= high.encode() and len(high) <= max(2, len(high)))
    assert high is not None or set(text[:2]) == {"\U0010ffff"}


def test_delta_statistics_are_those_of_the_rows(lake: Lake) -> None:
    put(
        lake,
        "t",
        [{"a": 1, "s": "x", "l": [1], "new": None}, {"a": None, "s": "y" * 40, "l": None, "new": None}],
    )
    put(lake, "t", [{"a": 3, "new": 1.5}], 1)
    done = export_delta(lake, "s.t")
    log = (Path(done.location) / "_delta_log" / f"{0:020}.json").read_text().splitlines()
    adds = [json.loads(line)["add"] for line in log if "add" in json.loads(line)]
    assert all((Path(done.location) / add["path"]).stat().st_size == add["size"] for add in adds)
    assert json.loads(adds[0]["stats"]) == {
        "numRecords": 2,
        "minValues": {"a": 1, "s": "x"},
        "maxValues": {"a": 1, "s": "y" * 31 + "z"},
        "nullCount": {"a": 1, "s": 0, "new": 2},
    }
    assert json.loads(adds[1]["stats"])["nullCount"] == {"a": 0, "s": 1, "new": 0}


def test_iceberg_counts_are_those_of_the_rows(lake: Lake) -> None:
    put(lake, "t", [{"a": 1, "s": "x"}, {"a": None, "s": "y" * 40}])
    done = export_iceberg(lake, "s.t")
    table = StaticTable.from_metadata(done.location)
    (about,) = table.inspect.files().to_pylist()
    assert (about["record_count"], about["file_size_in_bytes"]) == (
        2,
        Path(done.snapshot.files[0]).stat().st_size,
    )
    assert about["readable_metrics"]["a"]["null_value_count"] == 1
    assert about["readable_metrics"]["s"]["upper_bound"] == "y" * 15 + "z"
    summary = table.metadata.snapshots[0].summary
    assert summary is not None
    assert (summary["lakehouse.digest"], summary["total-records"]) == (done.snapshot.digest, "2")


def test_a_column_that_comes_gets_bounds_in_all_files(lake: Lake) -> None:
    put(lake, "t", [{"a": 1}])
    export_delta(lake, "s.t")
    put(lake, "t", [{"a": None, "new": 5}, {"a": None, "new": None}], 1)
    done = export_delta(lake, "s.t")
    assert done.added == 1
    rows = deltalake.DeltaTable(done.location).to_pyarrow_dataset()
    new, a = pa.compute.field("new"), pa.compute.field("a")
    assert rows.to_table(filter=new.is_null()).num_rows == 2
    assert rows.to_table(filter=a.is_null()).num_rows == 2
    assert rows.to_table(filter=new == 5).num_rows == rows.to_table(filter=a == 1).num_rows == 1


# Models.


@both
def test_a_model_that_is_a_view_is_written_as_it_was(tmp_path: Path, kind: str) -> None:
    run("init", tmp_path).ok()
    (tmp_path / "models" / "dear.sql").write_text(
        "select sku, price * 2 as twice, '[1]'::json as text, sum(1) over () as n from s.t where price > 1"
    )
    lake = Lake.open(tmp_path / "lake")
    for n in range(3):
        prices = [{"sku": f"{i}", "price": i + n} for i in range(4)]
        put(lake, "t", prices, n, disposition="replace", primary_key="sku")
    run("build", cwd=tmp_path).ok()
    for moment in ("2026-01-01", "2026-01-02", None):
        done = EXPORTS[kind](lake, "models.dear", as_of=moment)
        sql = "SELECT sku, twice, text::VARCHAR, n FROM models.dear ORDER BY 1"
        wanted = lake.query(sql, as_of=moment).fetchall()
        for read in exported.READERS[kind]:
            assert sorted(tuple(row.values()) for row in read(done.location)) == wanted
        assert done.as_text == ("text",)
        assert not EXPORTS[kind](lake, "models.dear", as_of=moment).changed
    with pytest.raises(UserError, match="is a view"):
        snapshot(lake, "models.dear", seq=1, folder=tmp_path)
