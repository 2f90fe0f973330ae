"""A table at any moment as Parquet files: read on their own, they say what the lake said then."""

import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naive_model import Model, Op, canon_row

from lakehouse import Lake
from lakehouse.compaction import compact
from lakehouse.core.gates import OPEN
from lakehouse.core.types import Column, Type
from lakehouse.duck.names import literal, quote
from lakehouse.duck.sql import duck_type
from lakehouse.errors import DamagedPartError, MissingPartError, NotFoundError
from lakehouse.pack import pack
from lakehouse.prune import prune
from lakehouse.retention import expire, parse
from lakehouse.snapshot import Snapshot, snapshot

START = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = {
    "added": {"disposition": "append"},
    "whole": {"disposition": "replace"},
    "keyed": {"disposition": "replace", "primary_key": ("id",)},
    "upsert": {"disposition": "merge", "primary_key": ("id",)},
    "groups": {"disposition": "merge", "merge_key": ("id",)},
}
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from([1.5, 2**60, "a", "1", [1], [], ["x"]]),
    st.dictionaries(st.sampled_from("pq"), st.sampled_from([1, 0.5, "t", [1]]), min_size=1),
)  # fmt: skip
KINDS = st.one_of(st.just(st.integers(-9, 9)), st.just(st.sampled_from([None, 1, 1.5])), st.just(VALUES))
ROWS = KINDS.flatmap(
    lambda kind: st.dictionaries(
        st.integers(0, 5), st.fixed_dictionaries({"v": kind}, optional={"w": VALUES}), max_size=4
    )
)
LOADS = st.lists(st.dictionaries(st.sampled_from(sorted(TABLES)), ROWS, max_size=3), min_size=1, max_size=7)


def read(found: Snapshot) -> list[dict[str, Any]]:
    """The rows of a snapshot, read from its files as an engine does that knows only what it declares."""
    rows: list[dict[str, Any]] = []
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for file in found.files:
            source = f"read_parquet({literal(file)}, hive_partitioning = false)"
            lies = {r[0]: r[1] for r in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
            for column in found.columns:
                if column.name in lies:
                    assert lies[column.name] == duck_type(column.type).replace('"', ""), (file, column)
            names = [c.name for c in found.columns if c.name in lies]
            cursor = connection.execute(f"SELECT {', '.join(map(quote, names)) or 'NULL'} FROM {source}")
            rows += [dict(zip(names, row, strict=False)) for row in cursor.fetchall()]
    assert len(rows) == found.rows
    kinds = {c.name: c.type for c in found.columns}
    return [{n: told(v, kinds[n]) for n, v in row.items()} for row in rows]


def told(value: Any, kind: Type) -> Any:
    return json.loads(value) if kind == "json" and value is not None else value


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    return Counter(map(canon_row, found)) == Counter(map(canon_row, wanted))


Loads = list[dict[str, dict[int, dict[str, Any]]]]
UPKEEP = st.sampled_from(["", "pack", "compact"])


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(LOADS, UPKEEP, st.integers(0, 7))
def test_files_say_what_the_lake_said(loads: Loads, upkeep: str, after: int) -> None:
    check(loads, upkeep, after)


@pytest.mark.soak
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(LOADS, UPKEEP, st.integers(0, 7))
def test_files_say_what_the_lake_said_at_length(loads: Loads, upkeep: str, after: int) -> None:
    check(loads, upkeep, after)


def check(loads: Loads, upkeep: str, after: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake, model = Lake.create(f"{folder}/lake"), Model()
        for n, tables in enumerate(loads):
            ops = [
                Op(table=name, rows=[{"id": key} | row for key, row in rows.items()], **TABLES[name])
                for name, rows in tables.items()
            ]
            with lake.load("s", load_id=str(n), observed_at=START + timedelta(days=n), gates=OPEN) as load:
                for op in ops:
                    load.write(op.table, op.rows, **op.settings)
            model.load(str(n), START + timedelta(days=n), ops)
            if n == after and upkeep == "pack":
                pack(lake, "s")
                prune(lake, "s")
                model.load("pack", START + timedelta(days=n), []) if lake.log("s").head > len(
                    model.load_ids
                ) else None
            if n == after and upkeep == "compact":
                compact(lake, "s")
        assert lake.log("s").head == len(model.load_ids)
        for seq in range(len(model.states)):
            for table in lake.log("s").tables:
                for whole_history in (False, True):
                    found = snapshot(
                        lake, f"s.{table}", seq=seq, folder=f"{folder}/out", whole_history=whole_history
                    )
                    wanted = model.states[seq].get(table, [])
                    assert same(read(found), wanted), (table, seq, found)
                again = snapshot(lake, f"s.{table}", seq=seq, folder=f"{folder}/out", whole_history=True)
                assert again == found


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.create(tmp_path / "lake")


def put(lake: Lake, rows: Any, n: int, **how: Any) -> None:
    with lake.load("s", observed_at=START + timedelta(days=n), gates=OPEN) as load:
        load.write("t", rows, **how)


def parts(lake: Lake) -> set[str]:
    return {f"{lake.url}/{part.path}" for part in lake.log("s").tables["t"].files}


def test_appended_parts_are_taken_as_they_lie(lake: Lake, tmp_path: Path) -> None:
    for n in range(4):
        put(lake, [{"a": n, "b": [n]}], n, disposition="append")
    found = snapshot(lake, "s.t", folder=tmp_path / "out")
    assert set(found.files) == parts(lake)
    assert found.written == ()
    assert not (tmp_path / "out").exists()
    then = snapshot(lake, "s.t", as_of=2, folder=tmp_path / "out")
    assert len(then.files) == 2
    assert then.digest == lake.log("s").commits[1].digest


def test_only_parts_that_do_not_fit_are_written_anew(lake: Lake, tmp_path: Path) -> None:
    put(lake, [{"a": 1}], 0, disposition="append")
    put(lake, [{"a": 2.5}], 1, disposition="append")
    put(lake, [{"b": "new"}], 2, disposition="append")
    found = snapshot(lake, "s.t", folder=tmp_path / "out")
    assert len(found.written) == 1
    assert len(set(found.files) & parts(lake)) == 2
    assert found.columns == (Column(name="a", type="float64"), Column(name="b", type="string"))
    assert same(read(found), [{"a": 1}, {"a": 2.5}, {"b": "new"}])
    before = snapshot(lake, "s.t", seq=1, folder=tmp_path / "out")
    assert before.columns == (Column(name="a", type="int64"),)
    assert before.written == ()


def test_a_keyed_table_is_written_once_something_in_it_changed(lake: Lake, tmp_path: Path) -> None:
    put(lake, [{"id": 1, "v": 1}, {"id": 2, "v": 1}], 0, disposition="replace", primary_key="id")
    put(
        lake,
        [{"id": 1, "v": 1}, {"id": 2, "v": 1}, {"id": 3, "v": 1}],
        1,
        disposition="replace",
        primary_key="id",
    )
    assert snapshot(lake, "s.t", folder=tmp_path / "out").written == ()
    put(lake, [{"id": 1, "v": 2}, {"id": 3, "v": 1}], 2, disposition="replace", primary_key="id")
    found = snapshot(lake, "s.t", folder=tmp_path / "out")
    assert len(found.written) == len(found.files) == 1
    assert same(read(found), [{"id": 1, "v": 2}, {"id": 3, "v": 1}])
    # What another load of the source does to other tables changes nothing.
    with lake.load("s", observed_at=START + timedelta(days=9)) as load:
        load.write("other", [{"x": 1}])
    assert snapshot(lake, "s.t", folder=tmp_path / "out").files == found.files
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_file_that_was_cut_off_is_written_again(lake: Lake, tmp_path: Path) -> None:
    for n in range(2):
        put(lake, [{"id": 1, "v": n}], n, disposition="replace", primary_key="id")
    found = snapshot(lake, "s.t", folder=tmp_path / "out")
    Path(found.files[0]).write_bytes(b"PAR1")
    assert same(read(snapshot(lake, "s.t", folder=tmp_path / "out")), [{"id": 1, "v": 1}])


def test_types_are_those_asked_for(lake: Lake, tmp_path: Path) -> None:
    put(lake, [{"a": 1, "l": [{"x": 1}], "s": "text"}], 0)
    wider: dict[str, Type] = {"int64": "decimal(19,0)"}

    def kept_as(kind: Type) -> Type:
        if isinstance(kind, str):
            return wider.get(kind, kind)
        if "list" in kind:
            return {"list": kept_as(kind["list"])}
        return {"struct": {name: kept_as(inner) for name, inner in kind["struct"].items()}}

    found = snapshot(lake, "s.t", folder=tmp_path / "out", kept_as=kept_as)
    assert found.columns[0].type == "decimal(19,0)"
    assert pq.read_table(found.files[0]).to_pylist() == [{"a": 1, "l": [{"x": 1}], "s": "text"}]
    assert found.written


def test_text_is_no_json_text(lake: Lake, tmp_path: Path) -> None:
    put(lake, [{"a": "x"}], 0)
    put(lake, [{"a": [1]}], 1)
    found = snapshot(lake, "s.t", folder=tmp_path / "out", kept_as=lambda k: "string" if k == "json" else k)
    assert sorted(row["a"] for row in read(found)) == ['"x"', "[1]"]


def test_a_pack_of_later_loads_too_is_told_apart_by_its_rows(lake: Lake, tmp_path: Path) -> None:
    for n in range(6):
        put(lake, [{"a": n}] if n in {1, 2} else [], n, disposition="append")
    pack(lake, "s")
    found = [snapshot(lake, "s.t", seq=seq, folder=tmp_path / "out") for seq in range(7)]
    assert [one.rows for one in found] == [0, 0, 1, 2, 2, 2, 2]
    assert [len(one.written) for one in found] == [0, 0, 1, 0, 0, 0, 0]


def test_states_that_were_let_go_are_refused(lake: Lake, tmp_path: Path) -> None:
    for n in range(5):
        put(lake, [{"id": 1, "v": n}], n, disposition="replace", primary_key="id")
    expire(lake, "s", parse("keep monthly after 0 days"), now=START + timedelta(days=400))
    with pytest.raises(NotFoundError, match="expired"):
        snapshot(lake, "s.t", seq=2, folder=tmp_path / "out")
    assert read(snapshot(lake, "s.t", seq=5, folder=tmp_path / "out")) == [{"id": 1, "v": 4}]


@pytest.mark.parametrize(("harm", "error"), [("missing", MissingPartError), ("cut", DamagedPartError)])
def test_a_damaged_part_is_named(lake: Lake, tmp_path: Path, harm: str, error: type[Exception]) -> None:
    for n in range(2):
        put(lake, [{"id": 1, "v": n}], n, disposition="replace", primary_key="id")
    part = Path(min(parts(lake)))
    part.unlink() if harm == "missing" else part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(error, match=part.name):
        snapshot(lake, "s.t", folder=tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_before_the_first_load_there_is_nothing(lake: Lake, tmp_path: Path) -> None:
    put(lake, [{"a": 1}], 0)
    found = snapshot(lake, "s.t", as_of="2020-01-01", folder=tmp_path / "out")
    assert (found.seq, found.digest, found.columns, found.files, found.rows) == (0, "", (), (), 0)
    with pytest.raises(NotFoundError, match="no table"):
        snapshot(lake, "s.other", folder=tmp_path / "out")


def test_many_loads_of_a_random_history(lake: Lake, tmp_path: Path) -> None:
    """Long enough that a compaction is of use, and is read with newer loads on top."""
    rng = random.Random(4)
    rows = {i: {"id": i, "price": i} for i in range(30)}
    states = []
    for n in range(20):
        for key in rng.sample(sorted(rows), 5):
            rows[key] = {"id": key, "price": rng.randint(0, 99)}
        rows.pop(rng.choice(sorted(rows)))
        put(lake, list(rows.values()), n, disposition="replace", primary_key="id")
        states.append(list(rows.values()))
        if n == 12:
            compact(lake, "s")
    for seq, state in checked(states):
        assert same(read(snapshot(lake, "s.t", seq=seq, folder=tmp_path / "out")), state)


def checked(states: list[Any]) -> Iterator[tuple[int, Any]]:
    return ((seq, state) for seq, state in enumerate(states, 1) if seq % 3 == 0 or seq == len(states))
