"""The catalogue of a lake, and the page that holds it."""

import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import Lake
from lakehouse.core.commit import TableChange
from lakehouse.core.definition import Definition, Input, Reference, to_json
from lakehouse.errors import SetupError, UserError
from lakehouse.models.site import write
from lakehouse.models.site.catalogue import collect
from lakehouse.models.site.page import embedded, render
from lakehouse.models.site.tables import Limits, points

DAY = datetime(2026, 11, 1, 12, tzinfo=UTC)
CHEAP = "select sku, price from shop.products where price < 3"


def load(lake: Lake, n: int, rows: list[dict[str, Any]]) -> None:
    with lake.load("shop", load_id=f"day {n}", observed_at=DAY + timedelta(days=n)) as one:
        one.write("products", rows, disposition="replace", primary_key="sku")


def publish(
    lake: Lake, *definitions: Definition, rows: dict[str, list[dict[str, Any]]] | None = None
) -> None:
    with lake.load("models", load_id="m", observed_at=DAY + timedelta(days=3)) as one:
        for name, its in (rows or {}).items():
            one.write(name, its, disposition="replace")
        one.pipeline = to_json(definitions)


def cheap(**more: Any) -> Definition:
    products = Reference(source="shop", table="products", start=23, end=36)
    return Definition(name="cheap", sql=CHEAP, references=(products,), **more)


@pytest.fixture
def three_days(tmp_path: Path) -> Lake:
    """A shop in whose table a column comes, one goes, and one changes its type."""
    lake = Lake.create(tmp_path / "lake")
    load(lake, 0, [{"sku": "a", "price": 1, "old": True}, {"sku": "b", "price": 2, "old": True}])
    load(lake, 1, [{"sku": "a", "price": 1.5, "note": "x"}])
    load(lake, 2, [{"sku": s, "price": 2.5, "note": "x"} for s in "abc"])
    return lake


def table(catalogue: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in catalogue["tables"] if entry["name"] == name)


# --- Tables ---------------------------------------------------------------------------------------


def test_columns_say_since_when_they_are_there_and_gone(three_days: Lake) -> None:
    found = table(collect(three_days), "shop.products")
    assert found["columns"] == [
        {"name": "sku", "type": "string", "first_seq": 1},
        {"name": "price", "type": "float64", "first_seq": 1},
        {"name": "old", "type": "bool", "first_seq": 1, "gone_seq": 2},
        {"name": "note", "type": "string", "first_seq": 2},
    ]
    assert (found["key"], found["rows"], found["load_count"]) == (["sku"], 3, 3)


def test_drift_is_told_by_load_without_the_columns_that_came_with_the_table(three_days: Lake) -> None:
    found = table(collect(three_days), "shop.products")["drift"]
    assert [(e["seq"], e["what"], e.get("columns")) for e in found] == [
        (1, "began", None), (1, "key", None), (2, "went", ["old"]), (2, "type", ["price"]), (2, "came", ["note"]),
    ]  # fmt: skip
    assert found[0]["column_count"] == 3
    assert found[3]["detail"] == "int64 -> float64"


def test_every_load_that_is_spoken_of_has_its_instant(three_days: Lake) -> None:
    catalogue = collect(three_days)
    (source,) = catalogue["sources"]
    assert source["instants"] == {str(n): f"2026-11-0{n}T12:00:00Z" for n in (1, 2, 3)}
    assert table(catalogue, "shop.products")["points"] == [[1, 2], [2, 1], [3, 3]]
    assert [(e["seq"], e["rows"]) for e in table(catalogue, "shop.products")["loads"]] == [
        (3, 3),
        (2, 1),
        (1, 2),
    ]
    assert (source["loads"], source["failures"], source["head"]) == (3, 0, 3)


def change(rows: int) -> TableChange:
    return TableChange(disposition="replace", counts={"rows": rows})


@given(st.lists(st.integers(0, 9), min_size=1, max_size=400), st.integers(8, 60))
def test_thinned_row_counts_keep_ends_and_extremes(rows: list[int], most: int) -> None:
    changes = [(seq, change(n)) for seq, n in enumerate(rows, 1)]
    found = points(changes, most)
    assert len(found) <= most
    assert found == sorted(found)
    assert all(rows[seq - 1] == n for seq, n in found)
    assert (found[0], found[-1]) == ([1, rows[0]], [len(rows), rows[-1]])
    assert {min(n for _, n in found), max(n for _, n in found)} == {min(rows), max(rows)}


def test_many_tables_are_told_of_in_less_detail() -> None:
    few, many = Limits.for_tables(3), Limits.for_tables(100_000)
    assert (few.points, few.loads) == (200, 30)
    assert many.points < few.points
    assert many.loads < few.loads


# --- Models ---------------------------------------------------------------------------------------


def test_a_view_is_told_from_its_definition_alone(three_days: Lake) -> None:
    about = {"price": "in euro"}
    publish(
        three_days,
        cheap(
            grain="one product", about=about, columns=(("sku", "VARCHAR"), ("price", "DOUBLE")),
            lineage={"price": ("shop.products.price",)}, inputs={"shop.products": Input(seq=2, digest="ab")},
        ),
    )  # fmt: skip
    catalogue = collect(three_days)
    found = table(catalogue, "models.cheap")
    assert (found["kind"], found["grain"], found["sql"]) == ("view", "one product", CHEAP)
    assert "rows" not in found
    assert found["columns"] == [
        {"name": "sku", "type": "VARCHAR"},
        {"name": "price", "type": "DOUBLE", "description": "in euro", "from": ["shop.products.price"]},
    ]
    assert found["reads"] == [{"name": "shop.products"}]
    assert found["inputs"] == [{"name": "shop.products", "seq": 2, "digest": "ab"}]
    (name, start, end) = found["references"][0]
    assert CHEAP[start:end] == name == "shop.products"
    assert table(catalogue, "shop.products")["read_by"] == ["models.cheap"]
    assert [source["name"] for source in catalogue["sources"]] == ["models", "shop"]


def test_a_stored_model_has_its_definition_and_its_history(three_days: Lake) -> None:
    publish(
        three_days,
        cheap(kind="table", columns=(("sku", "VARCHAR"),), built=1),
        rows={"cheap": [{"sku": "a"}]},
    )
    found = table(collect(three_days), "models.cheap")
    assert (found["kind"], found["rows"], found["points"], found["built"]) == ("table", 1, [[1, 1]], 1)
    assert found["columns"] == [{"name": "sku", "type": "VARCHAR", "first_seq": 1}]


def test_tests_are_told_with_that_of_the_key(three_days: Lake) -> None:
    publish(
        three_days,
        cheap(
            key=("sku",),
            tests=({"kind": "range", "arguments": {"column": "price", "min": 0}, "severity": "warn"},),
        ),
    )
    found = table(collect(three_days), "models.cheap")["tests"]
    assert [(t["label"], t["columns"], t["severity"]) for t in found] == [
        ("unique(sku)", ["sku"], "error"), ("range(price)", ["price"], "warn"),
    ]  # fmt: skip


def test_a_table_whose_model_is_gone_says_so(three_days: Lake) -> None:
    publish(three_days, cheap(), rows={"former": [{"x": 1}]})
    assert table(collect(three_days), "models.former")["kind"] == "dropped"


def test_definitions_that_cannot_be_read_are_a_problem_and_the_rest_is_there(three_days: Lake) -> None:
    with three_days.load("models") as one:
        one.write("kept", [{"x": 1}])
        one.pipeline = {"models": {"cheap": {"kind": "nonsense"}}}
    catalogue = collect(three_days)
    (problem,) = catalogue["problems"]
    assert "'cheap'" in problem["message"]
    assert table(catalogue, "models.kept")["kind"] == "source"
    assert table(catalogue, "shop.products")["rows"] == 3


# --- What is missing or broken ----------------------------------------------------------------------


def test_an_empty_lake_has_a_catalogue(tmp_path: Path) -> None:
    catalogue = collect(Lake.create(tmp_path / "lake"))
    assert (catalogue["sources"], catalogue["tables"], catalogue["problems"]) == ([], [], [])
    assert "<main" in render(catalogue)


def test_a_source_whose_log_is_broken_says_why_and_the_others_are_there(
    three_days: Lake, tmp_path: Path
) -> None:
    with three_days.load("other") as one:
        one.write("t", [{"x": 1}])
    log = tmp_path / "lake" / "shop" / "_log" / "00000000000000000002.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    shutil.rmtree(tmp_path / "lake" / "_derived", ignore_errors=True)
    catalogue = collect(Lake.open(tmp_path / "lake"))
    assert [entry["name"] for entry in catalogue["tables"]] == ["other.t"]
    assert [p["about"] for p in catalogue["problems"]] == ["source shop"]
    assert "in the middle of a commit" in next(
        s["problem"] for s in catalogue["sources"] if s["name"] == "shop"
    )


def test_a_broken_tag_is_a_problem(three_days: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "lake" / "_tags"
    folder.mkdir()
    (folder / "bad.json").write_text("{}")
    assert [p["about"] for p in collect(three_days)["problems"]] == ["tag bad"]


# --- The page -------------------------------------------------------------------------------------


def test_the_same_lake_gives_the_same_bytes_wherever_it_lies(three_days: Lake, tmp_path: Path) -> None:
    publish(three_days, cheap(description="Cheap ones."))
    shutil.copytree(tmp_path / "lake", tmp_path / "elsewhere" / "mirror")
    first = write(collect(three_days), tmp_path / "one")
    again = write(collect(Lake.open(tmp_path / "elsewhere" / "mirror")), tmp_path / "two")
    assert first.read_bytes() == again.read_bytes()
    assert str(tmp_path).encode() not in first.read_bytes()


HOSTILE = "</script><script>alert(1)</script><!-- \u2028\u2029 {{CODE}} & <img onerror=x>"


@given(st.one_of(st.just(HOSTILE), st.text()))
def test_no_text_can_end_the_element_that_it_stands_in(text: str) -> None:
    found = embedded({text: text})
    assert json.loads(found) == {text: text}
    assert not set("<>&\u2028\u2029") & set(found)


def test_hostile_names_stand_in_the_data_only(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake")
    with lake.load("shop") as one:
        one.write("t", [{HOSTILE: 1}])
    page = render(collect(lake, title=HOSTILE))
    clean = render(collect(Lake.create(tmp_path / "empty"), title="clean"))
    data = r'<script type="application/json" id="catalogue">(.*?)</script>'
    (found,) = re.findall(data, page, re.DOTALL)
    assert json.loads(found)["tables"][0]["columns"][0]["name"] == HOSTILE
    bare = re.sub(data, "", page, flags=re.DOTALL).replace(_escaped(HOSTILE), "clean")
    assert bare == re.sub(data, "", clean, flags=re.DOTALL)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def test_a_page_of_somebody_else_is_left_alone(three_days: Lake, tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    page = tmp_path / "www" / "index.html"
    page.write_text("<h1>Mine</h1>")
    with pytest.raises(UserError, match="is no catalogue"):
        write(collect(three_days), tmp_path / "www")
    assert page.read_text() == "<h1>Mine</h1>"
    assert write(collect(three_days), tmp_path / "new") == write(collect(three_days), tmp_path / "new")


def test_a_folder_that_cannot_be_is_an_error_that_names_it(three_days: Lake, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be written"):
        write(collect(three_days), tmp_path / "file" / "below")


def test_a_thousand_tables_of_a_hundred_columns_stay_small(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake")
    with lake.load("wide") as one:
        for n in range(20):
            one.write(f"table_number_{n}", [{f"column_number_{c}": c for c in range(100)}])
    one_table = len(json.dumps(collect(lake), separators=(",", ":"))) / 20
    assert one_table * 1000 < 9_000_000
