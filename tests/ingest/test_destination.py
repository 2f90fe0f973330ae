"""What the destination makes of dlt's dispositions, hints, nested values and frames."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dlt
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from dlt.sources import DltResource

from ingest.destination import lakehouse
from ingest.run import RunResult
from lakehouse import Gates, Lake

Run = Callable[..., RunResult]
Rows = Callable[..., list[dict[str, Any]]]


def test_append_adds_rows(rows: Rows, run: Run) -> None:
    run([{"id": 1}, {"id": 2}])
    run([{"id": 2}])
    assert rows("shop.items") == [{"id": 1}, {"id": 2}, {"id": 2}]


def test_replace_with_a_key_stores_only_what_changed(rows: Rows, run: Run) -> None:
    keyed = {"write_disposition": "replace", "primary_key": "id"}
    run([{"id": i, "price": 1.0} for i in range(5)], **keyed)
    result = run([{"id": i, "price": 2.0 if i == 3 else 1.0} for i in range(1, 5)], **keyed)
    (commit,) = result.commits
    assert dict(commit.tables["items"].counts) == {"rows": 4, "changed": 1, "disappeared": 1, "unchanged": 3}
    assert result.rows == {"items": 2}
    assert [row["id"] for row in rows("shop.items")] == [1, 2, 3, 4]


def test_replace_without_a_key_is_the_newest_snapshot(rows: Rows, run: Run) -> None:
    run([{"id": 1}, {"id": 2}], write_disposition="replace")
    run([{"id": 3}, {"id": 3}], write_disposition="replace")
    assert rows("shop.items") == [{"id": 3}, {"id": 3}]


@pytest.mark.parametrize("strategy", ["delete-insert", "upsert"])
def test_merge_upserts_by_primary_key(rows: Rows, run: Run, strategy: str) -> None:
    merge = {"write_disposition": {"disposition": "merge", "strategy": strategy}, "primary_key": "id"}
    run([{"id": 1, "v": "a"}, {"id": 2, "v": "a"}], **merge)
    run([{"id": 2, "v": "b"}, {"id": 3, "v": "b"}, {"id": 3, "v": "c"}], **merge)
    assert rows("shop.items") == [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}, {"id": 3, "v": "c"}]


def test_insert_only_leaves_known_rows_alone(rows: Rows, run: Run) -> None:
    merge = {"write_disposition": {"disposition": "merge", "strategy": "insert-only"}, "primary_key": "id"}
    run([{"id": 1, "v": "a"}], **merge)
    run([{"id": 1, "v": "b"}, {"id": 2, "v": "b"}], **merge)
    assert rows("shop.items") == [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}]


def test_hard_delete_removes_the_key(rows: Rows, run: Run) -> None:
    merge: dict[str, Any] = {
        "write_disposition": "merge",
        "primary_key": "id",
        "columns": {"gone": {"hard_delete": True, "data_type": "bool"}},
    }
    run([{"id": 1, "gone": False}, {"id": 2, "gone": False}], **merge)
    run([{"id": 1, "gone": True}, {"id": 7, "gone": True}], **merge)
    assert [row["id"] for row in rows("shop.items")] == [2]


def test_dedup_sort_decides_which_row_of_a_key_wins(rows: Rows, run: Run) -> None:
    data = [{"id": 1, "at": 3, "v": "new"}, {"id": 1, "at": 1, "v": "old"}]
    for order, expected in (("desc", "new"), ("asc", "old")):
        columns = {"at": {"dedup_sort": order}}
        run(data, table=f"by_{order}", write_disposition="merge", primary_key="id", columns=columns)
        assert [row["v"] for row in rows(f"shop.by_{order}")] == [expected]


def test_merge_key_replaces_whole_groups(rows: Rows, run: Run) -> None:
    merge = {"write_disposition": "merge", "merge_key": "day"}
    run([{"day": 1, "n": 1}, {"day": 1, "n": 2}, {"day": 2, "n": 3}], **merge)
    run([{"day": 1, "n": 9}], **merge)
    assert rows("shop.items") == [{"day": 1, "n": 9}, {"day": 2, "n": 3}]


def test_primary_key_and_merge_key_together_drop_the_rest_of_a_group(rows: Rows, run: Run) -> None:
    merge = {"write_disposition": "merge", "merge_key": "day", "primary_key": "id"}
    run([{"id": 1, "day": 1}, {"id": 2, "day": 1}, {"id": 3, "day": 2}], **merge)
    run([{"id": 1, "day": 1}], **merge)
    assert [row["id"] for row in rows("shop.items")] == [1, 3]


def test_merge_without_any_key_appends_as_dlt_does(rows: Rows, run: Run) -> None:
    run([{"id": 1}], write_disposition="merge")
    run([{"id": 1}], write_disposition="merge")
    assert len(rows("shop.items")) == 2


def test_scd2_is_the_lakes_own_history(lake: Lake, rows: Rows, run: Run) -> None:
    scd2 = {"write_disposition": {"disposition": "merge", "strategy": "scd2"}, "primary_key": "id"}
    run([{"id": 1, "v": "a"}, {"id": 2, "v": "a"}], **scd2)
    run([{"id": 1, "v": "b"}], **scd2, gates=Gates(max_drop=1))
    assert rows("shop.items") == [{"id": 1, "v": "b"}]
    then = lake.query("select id, v from shop.items order by 1", as_of=1).fetchall()
    assert then == [(1, "a"), (2, "a")]


def test_volatile_columns_do_not_make_a_row_changed(lake: Lake, run: Run) -> None:
    hints: dict[str, Any] = {
        "write_disposition": "replace",
        "primary_key": "id",
        "columns": {"seen": {"x-lakehouse-volatile": True}},
    }
    run([{"id": 1, "seen": 1}], **hints)
    assert run([{"id": 1, "seen": 2}], **hints).nothing_new


def test_nested_values_stay_native_and_whole(lake: Lake, rows: Rows, run: Run) -> None:
    row = {"id": 1, "tags": ["a", "b"], "size": {"w": 1, "h": 2.5}, "mixed": [1, "x"], "no": []}
    run([row, {"id": 2, "tags": [], "size": None}])
    first, second = rows("shop.items")
    assert first["tags"] == ["a", "b"]
    assert first["size"] == {"w": 1, "h": 2.5}
    assert first["mixed"] == '[1,"x"]'
    assert second["tags"] == []
    assert second["size"] is None
    assert lake.log("shop").tables.keys() == {"items"}


def test_frames_of_any_library_arrive_with_their_types(lake: Lake, rows: Rows, run: Run) -> None:
    table = pa.table({"id": pa.array([1, 2], pa.int32()), "at": pa.array([0, 1], pa.timestamp("us", "UTC"))})
    for name, frame in {"arrow": table, "polars": pl.from_arrow(table), "pandas": table.to_pandas()}.items():
        run(dlt.resource(frame, name=name))
        types = {column.name: column.type for column in lake.log("shop").tables[name].columns}
        assert types == {"id": "int32", "at": "timestamptz" if name != "pandas" else types["at"]}
        assert len(rows(f"shop.{name}")) == 2
    assert isinstance(table.to_pandas(), pd.DataFrame)


def test_arrow_batches_of_a_wider_type_do_not_fail(rows: Rows, run: Run) -> None:
    def batches() -> Iterator[pa.Table]:
        yield pa.table({"id": pa.array([1], pa.int32())})
        yield pa.table({"id": pa.array([2**40], pa.int64()), "more": ["x"]})

    run(dlt.resource(batches, name="items"))
    assert rows("shop.items") == [{"id": 1, "more": None}, {"id": 2**40, "more": "x"}]


def test_new_columns_and_types_evolve_the_schema(rows: Rows, run: Run) -> None:
    run([{"id": 1}])
    run([{"id": 2, "name": "x"}])
    run([{"id": 3.5}, {"id": 4}])
    assert sorted(row["id"] for row in rows("shop.items")) == [1, 2, 3.5, 4]
    run([{"id": "three"}, {"id": 5}, {"id": {"a": 1}}])
    found = rows("shop.items")
    assert sorted(row["id"] for row in found) == sorted(["1", "2", "3.5", "4", '"three"', "5", '{"a":1}'])
    assert list(found[0]) == ["id", "name"]


def test_incremental_cursor_and_data_commit_together(rows: Rows, run: Run) -> None:
    seen: list[Any] = []

    @dlt.resource
    def events(at: Any = dlt.sources.incremental("id", initial_value=0)) -> Iterator[Any]:  # noqa: B008
        seen.append(at.last_value)
        yield [{"id": at.last_value + n} for n in (1, 2)]

    for _ in range(3):
        run(events)
    assert seen == [0, 2, 4]
    assert [row["id"] for row in rows("shop.events")] == [1, 2, 3, 4, 5, 6]


def test_a_schema_is_stored_only_in_the_commit_that_changes_it(lake: Lake, run: Run) -> None:
    for row in ({"id": 1}, {"id": 2}, {"id": 3, "more": "x"}):
        run([row])
    stored = [
        (c.pipeline or {}).get("dlt", {}).get("schemas", {}).get("shop", {}) for c in lake.log("shop").commits
    ]
    assert ["document" in schema for schema in stored] == [True, False, True]
    assert not [table for table in lake.log("shop").tables if table.startswith("_dlt")]


def test_a_plain_dlt_pipeline_can_load_into_a_lake(rows: Rows, lake: Lake, tmp_path: Path) -> None:
    pipeline = dlt.pipeline("plain", destination=lakehouse(lake), pipelines_dir=str(tmp_path / "one"))
    info = pipeline.run([{"id": 1, "tags": ["x"]}], table_name="items")
    assert lake.log("plain").find(info.loads_ids[0])
    assert rows("plain.items") == [{"id": 1, "tags": ["x"]}]
    elsewhere = dlt.pipeline("plain", destination=lakehouse(lake), pipelines_dir=str(tmp_path / "two"))
    elsewhere.sync_destination()
    assert "items" in elsewhere.default_schema.tables


def test_naming_conventions_are_dlts(rows: Rows, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run([{"Product Name": "x"}], name="snake")
    monkeypatch.setenv("SCHEMA__NAMING", "direct")
    run([{"Product Name": "x"}], name="direct")
    assert rows("snake.items") == [{"product_name": "x"}]
    assert rows("direct.items") == [{"Product Name": "x"}]


def test_refresh_starts_a_table_anew(lake: Lake, rows: Rows, run: Run) -> None:
    run([{"id": 1}])
    run([{"id": 2}], refresh="drop_data")
    assert rows("shop.items") == [{"id": 2}]
    assert lake.query("select id from shop.items", as_of=1).fetchall() == [(1,)]


def orders(rows: list[Any], **hints: Any) -> Callable[[], Any]:
    """A source of orders whose lists become child tables."""

    @dlt.source(max_table_nesting=2, name="shop")
    def shop() -> DltResource:
        return dlt.resource(rows, name="orders", **hints)

    return shop


def linked(lake: Lake) -> list[tuple[Any, ...]]:
    """Orders with their items, joined by dlt's link columns; items without an order, too."""
    return lake.query(
        "select o.id, i.sku from shop.orders o full join shop.orders__items i "
        "on o._dlt_id = i._dlt_parent_id order by all"
    ).fetchall()


HINTS: dict[str, dict[str, Any]] = {
    "delete-insert": {"write_disposition": "merge", "primary_key": "id"},
    "upsert": {"write_disposition": {"disposition": "merge", "strategy": "upsert"}, "primary_key": "id"},
    "group": {"write_disposition": "merge", "merge_key": "id"},
    "both keys": {"write_disposition": "merge", "merge_key": "shop", "primary_key": "id"},
}


@pytest.mark.parametrize("kind", HINTS)
def test_children_follow_their_parents_in_merges(lake: Lake, run: Run, kind: str) -> None:
    def order(number: int, *skus: str, shop: int = 0) -> dict[str, Any]:
        return {"id": number, "shop": shop or number, "items": [{"sku": sku} for sku in skus]}

    run(orders([order(1, "a", "b"), order(2, "c"), order(3, "d", shop=1)], **HINTS[kind]))
    run(orders([order(1, "b"), order(2), order(4, "e")], **HINTS[kind]))
    kept = [] if kind == "both keys" else [(3, "d")]
    assert linked(lake) == [(1, "b"), (2, None), *kept, (4, "e")]


def test_children_of_deleted_and_of_repeated_rows_go(lake: Lake, run: Run) -> None:
    hints = HINTS["delete-insert"] | {"columns": {"gone": {"hard_delete": True, "data_type": "bool"}}}
    run(orders([{"id": n, "gone": False, "items": [{"sku": n}]} for n in (1, 2)], **hints))
    again = [{"id": 2, "items": [{"sku": 8}, {"sku": 9}]}, {"id": 2, "items": [{"sku": 7}]}]
    run(orders([{"id": 1, "gone": True}, *again], **hints))
    assert linked(lake) == [(2, 7)]


def test_insert_only_leaves_children_of_known_rows_alone(lake: Lake, run: Run) -> None:
    hints = {"write_disposition": {"disposition": "merge", "strategy": "insert-only"}, "primary_key": "id"}
    run(orders([{"id": 1, "items": [{"sku": "a"}]}], **hints))
    run(orders([{"id": 1, "items": [{"sku": "b"}]}, {"id": 2, "items": [{"sku": "c"}]}], **hints))
    assert linked(lake) == [(1, "a"), (2, "c")]


@pytest.mark.parametrize("key", [{}, {"primary_key": "id"}])
def test_children_follow_their_parents_in_replaced_tables(lake: Lake, run: Run, key: dict[str, str]) -> None:
    hints = {"write_disposition": "replace", **key}
    run(
        orders(
            [{"id": 1, "items": [{"sku": "a"}, {"sku": "b"}]}, {"id": 2, "items": [{"sku": "c"}]}], **hints
        )
    )
    run(orders([{"id": 1, "items": [{"sku": "b"}]}, {"id": 3, "items": [{"sku": "d"}]}], **hints))
    assert linked(lake) == [(1, "b"), (3, "d")]


def test_all_children_of_a_keyed_snapshot_may_go(lake: Lake, run: Run) -> None:
    hints = {"write_disposition": "replace", "primary_key": "id"}
    run(orders([{"id": n, "items": [{"sku": n}]} for n in range(3)], **hints))
    run(orders([{"id": n, "items": []} for n in range(3)], **hints))
    assert linked(lake) == [(0, None), (1, None), (2, None)]


def test_unchanged_children_of_keyed_snapshots_are_not_stored_again(lake: Lake, run: Run) -> None:
    hints = {"write_disposition": "replace", "primary_key": "id"}
    data = [{"id": n, "items": [{"sku": n, "subs": [{"q": 1}]}]} for n in range(3)]
    run(orders(data, **hints))
    assert run(orders(data, **hints)).nothing_new


def test_appended_children_keep_their_links(lake: Lake, run: Run) -> None:
    for n in (1, 2):
        run(orders([{"id": n, "items": [{"sku": n, "subs": [{"q": n}]}]}]))
    assert linked(lake) == [(1, 1), (2, 2)]
    deep = lake.query(
        "select i.sku, s.q from shop.orders__items i join shop.orders__items__subs s "
        "on i._dlt_id = s._dlt_parent_id order by all"
    )
    assert deep.fetchall() == [(1, 1), (2, 2)]
