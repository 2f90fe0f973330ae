"""Small histories that were wrong once: each holds one fault that the random ones, or a probe, found."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from lakehouse import Lake
from lakehouse.core.commit import Commit
from lakehouse.core.gates import OPEN
from lakehouse.errors import SchemaError
from lakehouse.store import MemoryStore

KEYED: dict[str, Any] = {"disposition": "replace", "primary_key": "id"}
UPSERT: dict[str, Any] = {"disposition": "merge", "primary_key": "id"}


@pytest.fixture
def empty_lake() -> Lake:
    return Lake.create(MemoryStore())


def put(lake: Lake, data: Any, **settings: Any) -> Commit:
    with lake.load("s", gates=OPEN) as load:
        load.write("t", data, **settings)
    assert load.commit is not None
    return load.commit


def state(lake: Lake, at: int | None = None) -> list[Any]:
    what = "t" if at is None else f"t_at({at})"
    return lake.query(f"SELECT * FROM s.{what} ORDER BY ALL").fetchall()


def test_a_column_of_nulls_only(empty_lake: Lake) -> None:
    for rows in ([{"id": 1, "x": None}], [{"id": 1, "x": None}, {"id": 2, "x": None}]):
        put(empty_lake, rows, **KEYED)
    put(empty_lake, [{"id": 2, "x": None}], disposition="append")
    assert state(empty_lake) == [(1, None), (2, None), (2, None)]
    assert state(empty_lake, 1) == [(1, None)]


@pytest.mark.parametrize("settings", [{}, KEYED, UPSERT, {"disposition": "replace"}])
def test_a_table_that_begins_without_rows(empty_lake: Lake, settings: dict[str, Any]) -> None:
    put(empty_lake, [], **settings)
    assert empty_lake.query("SELECT count(*) FROM s.t").fetchall() == [(0,)]
    put(empty_lake, [{"id": 1}], **settings)
    assert state(empty_lake) == [(1,)]
    assert state(empty_lake, 1) == []
    assert len(empty_lake.log("s").tables["t"].eras) == (2 if settings == {"disposition": "replace"} else 1)


def test_columns_named_as_the_sql_names_things(empty_lake: Lake) -> None:
    names = [
        "t",
        "v",
        "n",
        "c",
        "i",
        "newest",
        "_lake_seq",
        "_lake_row",
        "seq",
        "source",
        "rowid",
        "filename",
        "a.b",
        'q"',
        "x'",
    ]
    row = {name: f"value of {name}" for name in names} | {"id": 1}
    settings = KEYED | {"primary_key": ["id", "newest", "t"]}
    put(empty_lake, [row], **settings)
    put(empty_lake, [row | {"v": "changed"}, row | {"id": 2}], **settings)
    assert state(empty_lake, 1) == [tuple(row.values())]
    assert state(empty_lake) == [tuple((row | {"v": "changed"}).values()), tuple((row | {"id": 2}).values())]


def test_keys_that_were_equal_stay_equal_when_their_column_becomes_text(empty_lake: Lake) -> None:
    put(empty_lake, [{"id": 1, "x": 1}], **UPSERT)
    put(empty_lake, [{"id": 1, "x": 2}, {"id": 2.5, "x": 1}], **UPSERT)
    put(empty_lake, [{"id": "text", "x": 1}], **UPSERT)
    assert state(empty_lake, 2) == [("1", 2), ("2.5", 1)]
    put(empty_lake, [], **UPSERT, deletes=[{"id": 1}])
    assert state(empty_lake) == [('"text"', 1), ("2.5", 1)]


def test_wide_integers_and_bytes_inside_objects(empty_lake: Lake) -> None:
    put(empty_lake, [{"x": {"a": 2**53 + 1}, "y": {"b": b"\x00\xff"}}])
    put(empty_lake, [{"x": {"a": 0.5}, "y": {"b": b"", "c": 1}}])
    assert state(empty_lake) == [
        ('{"a":0.5}', {"b": b"", "c": 1}),
        ('{"a":9007199254740993}', {"b": b"\x00\xff", "c": None}),
    ]


def test_rows_that_had_one_key_before_it_was_the_key(empty_lake: Lake) -> None:
    put(empty_lake, [{"id": 1, "x": 1}, {"id": 1, "x": 2}])
    put(empty_lake, [{"id": 2, "x": 1}], **UPSERT)
    commit = put(empty_lake, [{"id": 1, "x": 3}], **UPSERT)
    assert state(empty_lake) == [(1, 3), (2, 1)]
    assert commit.tables["t"].counts["rows"] == 2
    put(empty_lake, [{"id": 1, "x": 1}, {"id": 1, "x": 2}])
    put(empty_lake, [{"id": 3, "x": 1}], **UPSERT)
    put(empty_lake, [{"id": 1, "x": 1}], **KEYED)
    assert state(empty_lake) == [(1, 1)]
    assert state(empty_lake, 5) == [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)]


def test_insert_only_never_changes_a_row_even_as_the_first_merge(empty_lake: Lake) -> None:
    put(empty_lake, [{"id": 1, "x": 1}])
    for _ in range(2):
        put(empty_lake, [{"id": 1, "x": 9}, {"id": 2, "x": 9}], **UPSERT, insert_only=True)
        assert state(empty_lake) == [(1, 1), (2, 9)]


def test_deletes_of_another_type_hit_equal_keys_and_no_others(empty_lake: Lake) -> None:
    put(empty_lake, [{"id": n, "x": 1} for n in (1, 2, 3)], **UPSERT)
    put(empty_lake, [], **UPSERT, deletes=pa.table({"id": [1.5, 3.0]}))
    assert state(empty_lake) == [(1, 1), (2, 1)]
    put(empty_lake, [], **UPSERT, deletes=[{"id": "1"}])
    assert state(empty_lake) == [(1, 1), (2, 1)]
    with pytest.raises(SchemaError, match="lack the key column 'id'"):
        put(empty_lake, [], **UPSERT, deletes=[{"x": 1}])


def test_json_that_is_spelled_differently_is_not_a_change(empty_lake: Lake) -> None:
    put(empty_lake, [{"id": 1, "x": {"b": 1, "a": 2}}, {"id": 2, "x": 1}, {"id": 3, "x": "text"}], **KEYED)
    commit = put(empty_lake, [{"id": 1, "x": {"a": 2, "b": 1.0, "c": None}}], **UPSERT)
    assert commit.tables["t"].counts == {"rows": 3, "unchanged": 1}
    commit = put(empty_lake, [{"id": 2, "x": 1.0}], **UPSERT)
    assert commit.outcome == "unchanged"


def test_what_is_written_in_pieces_is_as_if_it_came_at_once(empty_lake: Lake) -> None:
    with empty_lake.load("s") as load:
        for rows in ([{"x": 1}, {"x": "b"}], [{"x": 5}], [{"x": "a"}], [{"x": None}], [{"x": [2**53 + 1]}]):
            load.write("t", rows)
    assert state(empty_lake) == [('"a"',), ('"b"',), ("1",), ("5",), ("[9007199254740993]",), (None,)]


def test_a_key_without_rows_is_found_under_the_name_it_is_stored_by(empty_lake: Lake) -> None:
    settings = UPSERT | {"primary_key": "ID"}
    put(empty_lake, [{"id": 1, "ID": 5}, {"id": 2, "ID": 6}], **settings)
    put(empty_lake, [], **settings, deletes=[{"ID": 5}])
    put(empty_lake, [], **settings)
    assert state(empty_lake) == [(2, 6)]
    assert [era.key for era in empty_lake.log("s").tables["t"].eras] == [("ID_2",)]


def test_a_column_without_a_name_keeps_the_one_it_got(empty_lake: Lake) -> None:
    for n in range(3):
        put(empty_lake, [{"": n, "unnamed": -n}])
    assert [c.name for c in empty_lake.log("s").tables["t"].columns] == ["unnamed", "unnamed_2"]
    assert state(empty_lake) == [(0, 0), (1, -1), (2, -2)]


def test_moments_before_the_year_1000(empty_lake: Lake) -> None:
    with empty_lake.load("s", observed_at=datetime(33, 4, 3, tzinfo=UTC)) as load:
        load.write("t", [{"x": 1}])
    assert Lake.open(empty_lake.store).log("s").commits[0].observed_at.year == 33
    assert empty_lake.query("SELECT * FROM s.t", as_of=datetime(34, 1, 1, tzinfo=UTC)).fetchall() == [(1,)]


def test_loads_in_several_threads_do_not_see_each_others_rows(empty_lake: Lake) -> None:
    start = threading.Barrier(4)

    def write(number: int) -> None:
        for n in range(4):
            start.wait()
            with empty_lake.load(f"source{number}", gates=OPEN) as load:
                load.write("t", [{"id": i, "x": [number, max(i, n)]} for i in range(30)], **KEYED)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    for number in range(4):
        for seq in range(1, 5):
            found = empty_lake.query(f"SELECT * FROM source{number}.t_at({seq}) ORDER BY id").fetchall()
            assert found == [(i, [number, max(i, seq - 1)]) for i in range(30)]
