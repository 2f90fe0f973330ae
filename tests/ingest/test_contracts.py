"""What a contract discards is counted with its reason and kept, wherever dlt drops it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import dlt
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel

from ingest.run import RunResult
from lakehouse import Lake
from lakehouse.errors import ScraperError

Run = Callable[..., RunResult]
Rows = Callable[..., list[dict[str, Any]]]
KEYED: dict[str, Any] = {"primary_key": "id", "write_disposition": "merge"}
GOOD = [{"id": 1, "price": 1.5}]


def kept(lake: Lake, result: RunResult, table: str = "items") -> list[tuple[str, Any]]:
    """The discarded rows of a run's only commit: reason and row."""
    (commit,) = result.commits
    lines = lake.store.get(commit.discarded[table]["path"]).splitlines()
    return [(entry["reason"], entry["row"]) for entry in map(json.loads, lines)]


@pytest.mark.parametrize(
    ("contract", "bad", "reason", "row"),
    [
        ({"columns": "discard_row"}, {"id": 2, "x": 1}, "discard_row for column x", {"id": 2, "x": 1}),
        ({"columns": "discard_value"}, {"id": 2, "x": 1, "price": 1}, "discard_value of column x", {"id": 2, "x": 1}),
        ({"data_type": "discard_row"}, {"id": 2, "price": "y"}, "discard_row for column price__v_text", {"id": 2, "price": "y"}),
        (
            {"data_type": "discard_value"},
            {"id": 2, "price": "y"},
            "discard_value of column price__v_text",
            {"id": 2, "price__v_text": "y"},
        ),
    ],
)  # fmt: skip
def test_what_a_contract_discards_from_dicts_is_kept(
    lake: Lake, rows: Rows, run: Run, contract: dict[str, str], bad: Any, reason: str, row: Any
) -> None:
    run(GOOD, **KEYED)
    result = run([bad, {"id": 3, "price": 2.5}, bad | {"id": 4}], schema_contract=contract, **KEYED)
    assert result.discarded == {"items": 2}
    assert kept(lake, result)[0] == (f"schema contract: {reason}", row)
    by_value = "discard_value" in contract.values()
    assert [r["id"] for r in rows("shop.items")] == ([1, 2, 3, 4] if by_value else [1, 3])


@pytest.mark.parametrize("library", [pa.Table, pl.DataFrame])
def test_what_a_contract_discards_from_frames_is_kept(lake: Lake, rows: Rows, run: Run, library: Any) -> None:
    def frame(columns: dict[str, Any]) -> Any:
        return pa.table(columns) if library is pa.Table else pl.DataFrame(columns)

    run(dlt.resource(frame({"id": [1]}), name="items"))
    for mode in ("discard_row", "discard_value"):
        more = dlt.resource(
            frame({"id": [2, 3], "x": [None, "q"]}), name="items", schema_contract={"columns": mode}
        )
        assert kept(lake, run(more))[0][1] == {"id": 3, "x": "q"}
    assert [row["id"] for row in rows("shop.items")] == [1, 2, 2, 3]


def test_tables_that_a_contract_refuses_are_kept_whole(lake: Lake, run: Run) -> None:
    run(GOOD)
    result = run([{"id": 1, "sub": {"x": 1}}], table="other", schema_contract={"tables": "discard_row"})
    assert kept(lake, result, "other") == [("schema contract: new table", {"id": 1, "sub": {"x": 1}})]
    assert "other" not in lake.log("shop").tables


def test_refused_child_tables_are_kept_with_what_is_below_them(lake: Lake, rows: Rows, run: Run) -> None:
    @dlt.source(max_table_nesting=3, name="shop", schema_contract={"tables": "discard_row"})
    def shop() -> Any:
        data = [{"id": 1, "subs": [{"x": 1, "deep": [{"y": 2}]}, {"x": 3}]}, {"id": 2, "more": {"z": 1}}]
        return dlt.resource(data, name="items")

    @dlt.source(max_table_nesting=3, name="shop")
    def open_shop() -> Any:
        return dlt.resource(GOOD, name="items")

    run(open_shop)
    result = run(shop)
    assert [row["x"] for _, row in kept(lake, result, "items__subs")] == [1, 3]
    ((reason, row),) = kept(lake, result, "items__subs__deep")
    assert (reason, row["y"]) == ("schema contract: new table", 2)
    assert [row["id"] for row in rows("shop.items")] == [1, 1, 2]


def test_rows_that_a_pydantic_model_refuses_are_kept(lake: Lake, rows: Rows, run: Run) -> None:
    class Item(BaseModel):
        id: int
        name: str

    contract: Any = {"columns": "discard_value", "data_type": "discard_row"}

    @dlt.resource(columns=Item, schema_contract=contract)
    def items() -> Iterator[Any]:
        yield [{"id": 1, "name": "a"}, {"id": "zz", "name": "b"}, {"id": 3, "name": "c", "extra": 5}]
        yield {"id": "no", "name": "b"}

    found = kept(lake, run(items))
    assert sorted(row["id"] for _, row in found if isinstance(row["id"], str)) == ["no", "zz"]
    assert ("pydantic: field extra is not in the model", {"id": 3, "name": "c", "extra": 5}) in found
    assert rows("shop.items") == [{"id": 1, "name": "a"}, {"id": 3, "name": "c"}]


def test_a_run_whose_rows_are_all_discarded_still_says_so(lake: Lake, run: Run) -> None:
    run(GOOD)
    result = run([{"id": 9}], table="other", schema_contract={"tables": "discard_row"})
    assert result.nothing_new
    assert result.discarded == {"other": 1}


def test_normalize_workers_keep_what_they_discard(
    lake: Lake, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resources(bad: Any) -> Callable[[], Any]:
        contract: Any = {"data_type": "discard_row"}
        return lambda: [
            dlt.resource([*GOOD, *bad], name=name, schema_contract=contract) for name in ("one", "two")
        ]

    run(resources([]))
    monkeypatch.setenv("NORMALIZE__WORKERS", "2")
    monkeypatch.setenv("NORMALIZE__START_METHOD", "spawn")
    result = run(resources([{"id": 2, "price": "y"}]))
    assert result.discarded == {"one": 1, "two": 1}
    assert kept(lake, result, "two") == [
        ("schema contract: discard_row for column price__v_text", {"id": 2, "price": "y"})
    ]


def test_a_frozen_contract_fails_once_and_blocks_nothing(lake: Lake, rows: Rows, run: Run) -> None:
    run(GOOD)
    with pytest.raises(ScraperError, match="breaks the contract"):
        run([{"id": 2, "price": "y"}], schema_contract={"data_type": "freeze"})
    run([{"id": 3, "price": 1.0}])
    assert [row["id"] for row in rows("shop.items")] == [1, 3]
    assert lake.log("shop").head == 2


def test_other_destinations_are_not_touched(tmp_path: Any) -> None:
    pipeline = dlt.pipeline(
        "elsewhere",
        destination=dlt.destinations.duckdb(str(tmp_path / "x.duckdb")),
        pipelines_dir=str(tmp_path / "p"),
    )
    pipeline.run(GOOD, table_name="items")
    pipeline.run(dlt.resource([{"id": 2, "x": 1}], name="items", schema_contract={"columns": "discard_row"}))
    assert not (tmp_path / "p" / "elsewhere" / "discarded").exists()
    assert "max_nesting" not in pipeline.default_schema.to_dict()["normalizers"]["json"].get("config", {})
