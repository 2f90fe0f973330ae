"""Copying into PostgreSQL: transactions, first loads over several connections, DDL, errors."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.core.types import Type
from lakehouse.errors import LakehouseError, UserError
from lakehouse.parquet.arrow import arrow_type
from sync.postgres import ddl
from sync.postgres.copying import (
    LOADING,
    connect,
    copy_rows,
    drop_abandoned,
    execute,
    fetch,
    parallel_copy,
    read_rows,
)
from sync.postgres.names import quote
from sync.postgres.types import PgColumn, pg_type

pytest.importorskip("adbc_driver_postgresql", reason="install it: uv sync")

ID = PgColumn(name="id", identifier="id", type="int64", description='It\'s the "number", \\ and all.')
NAME = PgColumn(name="Name", identifier="Name", type="string")
COLUMNS = [ID, NAME]


@pytest.fixture(scope="module")
def url(postgres_server: Any) -> str:
    url = str(postgres_server.dsn(postgres_server.new_database()))
    with connect(url) as connection:
        execute(connection, ddl.create_schema("shop", comment="What's scraped"))
        connection.commit()
    return url


@pytest.fixture
def connection(url: str) -> Iterator[Any]:
    with connect(url) as connection:
        yield connection
        connection.rollback()
        execute(connection, ["DROP SCHEMA shop CASCADE", *ddl.create_schema("shop")])
        connection.commit()


def rows(first: int, count: int) -> pa.RecordBatch:
    ids = list(range(first, first + count))
    return pa.record_batch({"id": pa.array(ids, pa.int32()), "Name": pa.array([f"row {i}" for i in ids])})


def tables(url: str) -> list[str]:
    """Tables of the schema, as somebody else sees them."""
    with connect(url) as other:
        query = (
            "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'shop'::regnamespace"
        )
        return sorted(fetch(other, query).column(0).to_pylist())


def one(connection: Any, query: str) -> Any:
    return fetch(connection, query).column(0)[0].as_py()


def failing(count: int) -> Iterator[pa.RecordBatch]:
    yield from (rows(i, 1) for i in range(count))
    raise UserError("the lake is gone")


def test_rows_are_seen_by_others_only_after_the_commit(connection: Any, url: str) -> None:
    execute(connection, ddl.create_table("shop", "t", COLUMNS, required=["id"], comment="All of them"))
    assert copy_rows(connection, "shop", "t", [rows(0, 3), rows(3, 0), rows(3, 100_000)], COLUMNS) == 100_003
    assert tables(url) == []
    connection.commit()
    with connect(url) as other:
        assert one(other, "SELECT count(*) FROM shop.t") == 100_003
        assert one(other, "SELECT sum(id)::text FROM shop.t") == str(sum(range(100_003)))
        assert one(other, "SELECT obj_description('shop.t'::regclass)") == "All of them"
        assert one(other, "SELECT col_description('shop.t'::regclass, 1)") == ID.description


def test_nothing_to_copy_is_no_row(connection: Any) -> None:
    execute(connection, ddl.create_table("shop", "t", COLUMNS))
    assert copy_rows(connection, "shop", "t", [], COLUMNS) == 0
    assert list(read_rows(connection, "SELECT * FROM shop.t", COLUMNS)) == []


def test_a_column_that_a_batch_lacks_is_null(connection: Any) -> None:
    execute(connection, ddl.create_table("shop", "t", COLUMNS))
    copy_rows(connection, "shop", "t", [rows(1, 1).select(["id"])], COLUMNS)
    found = pa.Table.from_batches(read_rows(connection, "SELECT * FROM shop.t", COLUMNS))
    assert found.to_pylist() == [{"id": 1, "Name": None}]


def test_what_the_rows_raise_is_raised_and_nothing_stays(connection: Any, url: str) -> None:
    execute(connection, ddl.create_table("shop", "t", COLUMNS))
    connection.commit()
    with pytest.raises(UserError, match="the lake is gone"):
        copy_rows(connection, "shop", "t", failing(5), COLUMNS)
    connection.rollback()
    assert one(connection, "SELECT count(*) FROM shop.t") == 0


def test_a_first_load_over_several_connections_is_moved_into_its_place(connection: Any, url: str) -> None:
    told: list[int] = []
    batches = [rows(i * 1000, 1000) for i in range(200)]
    loaded = parallel_copy(
        connection, url, "shop", "big", batches, COLUMNS, connections=3, required=["id"], progress=told.append
    )
    assert (loaded.rows, sum(told)) == (200_000, 200_000)
    assert tables(url) == [loaded.table]
    with connect(url) as other:
        assert drop_abandoned(other, "shop") == []
    execute(
        connection,
        [*ddl.create_schema("final"), *ddl.move_table("shop", loaded.table, to="final", name="big")],
    )
    connection.commit()
    assert tables(url) == []
    assert one(connection, "SELECT count(*) FROM final.big") == 200_000
    assert one(connection, "SELECT count(DISTINCT id) FROM final.big") == 200_000
    assert (
        one(connection, "SELECT relpersistence::text FROM pg_class WHERE oid = 'final.big'::regclass") == "p"
    )


@pytest.mark.parametrize("batches", [1, 50])
def test_a_first_load_that_fails_leaves_nothing(batches: int, connection: Any, url: str) -> None:
    with pytest.raises(UserError, match="the lake is gone"):
        parallel_copy(connection, url, "shop", "big", failing(batches), COLUMNS, connections=3)
    assert tables(url) == []


def test_a_first_load_that_the_server_refuses_leaves_nothing(connection: Any, url: str) -> None:
    empty = pa.record_batch({"Name": pa.array(["no id"])})
    with pytest.raises(LakehouseError, match=r'null value in column "id"'):
        parallel_copy(connection, url, "shop", "big", [rows(0, 10), empty], COLUMNS, required=["id"])
    assert tables(url) == []


def test_a_first_load_that_is_killed_is_dropped_by_the_next_run(
    connection: Any, url: str, tmp_path: Path
) -> None:
    script = textwrap.dedent(
        """
        import os, sys, time, pyarrow as pa
        from sync.postgres.copying import connect, parallel_copy
        from sync.postgres.types import PgColumn
        url, column = os.environ["URL"], PgColumn(name="id", identifier="id", type="int64")
        def batches():
            while True:
                yield pa.record_batch({"id": pa.array(range(10_000))})
                print("copied", flush=True)
        parallel_copy(connect(url), url, "shop", "big", batches(), [column], connections=2)
        """
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | {"URL": url}, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        for _ in range(20):
            assert child.stdout.readline() == "copied\n"
        (table,) = tables(url)
        assert table.startswith(LOADING)
        assert drop_abandoned(connection, "shop") == []
        connection.rollback()
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert one(connection, f"SELECT count(*) FROM shop.{quote(table)}") == 0
    connection.rollback()
    for _ in range(600):  # the server notices that its client is gone when it next reads
        dropped = drop_abandoned(connection, "shop")
        connection.commit()
        if dropped:
            break
        time.sleep(0.05)
    assert dropped == [table]
    assert tables(url) == []


def test_new_columns_and_types_come_without_losing_rows(connection: Any) -> None:
    nothing = PgColumn(name="late", identifier="late", type="null")
    execute(connection, ddl.create_table("shop", "t", [ID, nothing]))
    copy_rows(connection, "shop", "t", [rows(0, 2)], [ID, nothing])
    late = PgColumn(name="late", identifier="late", type={"list": "int64"}, description="At last")
    assert ddl.type_change("null", late.type) == "alter"
    execute(connection, ddl.change_type("shop", "t", "null", late))
    execute(connection, ddl.add_columns("shop", "t", [NAME]))
    batch = pa.record_batch({"id": [9], "late": [[1, 2]], "Name": ["x"]})
    copy_rows(connection, "shop", "t", [batch], [ID, late, NAME])
    found = pa.Table.from_batches(read_rows(connection, "SELECT * FROM shop.t", [ID, late, NAME]))
    assert found.sort_by("id").to_pylist() == [
        {"id": 0, "late": None, "Name": None},
        {"id": 1, "late": None, "Name": None},
        {"id": 9, "late": [1, 2], "Name": "x"},
    ]


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ("int8", "bigint", "same"), ("float32", "float64", "same"), ("null", "string", "alter"),
        ("null", {"struct": {"a": "date"}}, "alter"), ("int32", "float64", "alter"), ("int64", "decimal(21,2)", "alter"),
        ("uint64", "decimal(20,0)", "same"), ("decimal(5,2)", "decimal(38,4)", "alter"), ("date", "timestamp", "rebuild"),
        ("string", "json", "rebuild"), ("int64", "json", "rebuild"), ("uint32", "uint64", "alter"),
        ({"list": "int8"}, {"list": "float64"}, "same"), ({"list": "null"}, {"list": "date"}, "same"),
        ({"list": "date"}, {"list": "timestamp"}, "rebuild"), ({"list": "int64"}, "json", "same"),
        ({"struct": {"a": "int8"}}, {"struct": {"b": "date", "a": "int64"}}, "same"),
        ({"struct": {"a": "int8", "b": {"list": "time"}}}, "json", "rebuild"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wider_type_is_taken_on_where_no_value_changes(
    before: Type, after: Type, change: str, connection: Any
) -> None:
    assert ddl.type_change(before, after) == change
    old = PgColumn(name="v", identifier="v", type=before)
    new = PgColumn(name="v", identifier="v", type=after)
    numbers: dict[Any, list[int]] = {
        "int8": [-128],
        "int32": [2**31 - 1],
        "int64": [2**53],
        "uint32": [2**32 - 1],
        "uint64": [2**64 - 1],
    }
    array = pa.array(numbers[before], arrow_type(before)) if str(before) in numbers else pa.nulls(1)
    execute(connection, ddl.create_table("shop", "t", [old]))
    copy_rows(connection, "shop", "t", [pa.record_batch({"v": array})], [old])
    if change == "alter":
        execute(connection, ddl.change_type("shop", "t", before, new))
    if change != "rebuild":
        found = pa.Table.from_batches(read_rows(connection, "SELECT * FROM shop.t", [new]))
        assert found["v"].to_pylist() == array.to_pylist()
        copy_rows(connection, "shop", "t", [pa.record_batch({"v": pa.nulls(1)})], [new])
    assert (change == "same") <= (pg_type(before) == pg_type(after))


def test_keys_of_any_length_are_indexed(connection: Any) -> None:
    key = [ID, NAME, PgColumn(name="j", identifier="j", type="json")]
    since = PgColumn(name="since", identifier="since", type="timestamptz")
    execute(connection, ddl.create_table("shop", "t", [*key, since]))
    execute(connection, ddl.indexes("shop", "t", key, then=[since]))
    execute(connection, ddl.index("shop", "t", ["since"], method="brin"))
    noise = "".join(str(hash(("x", i))) for i in range(5000))
    copy_rows(
        connection,
        "shop",
        "t",
        [pa.record_batch({"id": [1], "Name": [noise], "j": [f'"{noise}"']})],
        [*key, since],
    )
    query = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'shop'"
    found = fetch(connection, query).column(0).to_pylist()
    assert {index.partition(" USING ")[2] for index in found} == {
        "btree (id, since)", 'hash ("Name")', "hash (j)", "brin (since)",
    }  # fmt: skip
