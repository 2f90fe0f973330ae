"""Definitions of models: what a log says of them, as values."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lakehouse.core.definition import (
    Changes,
    Definition,
    Input,
    Reference,
    changed,
    read_definitions,
    tables_behind,
    to_json,
)
from lakehouse.errors import FormatError


def model(name: str, *reads: str, **said: Any) -> Definition:
    sql, references = "select * from ", []
    for read in reads:
        source, _, table = read.partition(".")
        references.append(Reference(source=source, table=table, start=len(sql), end=len(sql) + len(read)))
        sql += f"{read}, "
    return Definition(name=name, sql=sql, references=tuple(references), **said)


WHOLE = model(
    "prices", "shop.products", "models.days",
    kind="incremental", path="models/prices.sql", line=7, key=("sku",), grain="a product", description="All.",
    about={"sku": "its number"}, columns=(("sku", "VARCHAR"),), digest="d", fingerprint="f", built=3,
    tests=({"kind": "unique", "arguments": {"columns": ["sku"]}, "severity": "error"},),
    inputs={"shop.products": Input(seq=3, digest="abc")}, lineage={"sku": ("shop.products.sku",)},
)  # fmt: skip


def test_what_is_written_is_what_is_read() -> None:
    both = {d.name: d for d in (model("days"), WHOLE)}
    assert read_definitions(to_json(both.values())) == both


def test_empty_values_are_left_out() -> None:
    assert to_json([Definition(name="a", sql="select 1")]) == {
        "models": {"a": {"kind": "view", "language": "sql", "sql": "select 1", "line": 1}}
    }


def test_fields_of_a_newer_version_are_ignored() -> None:
    record = model("a", "shop.products").to_json() | {"colour": "blue"}
    assert read_definitions({"models": {"a": record}, "more": 1})["a"] == model("a", "shop.products")


@pytest.mark.parametrize("pipeline", [None, {}, {"models": {}}, {"sources": {"dlt": "state"}}])
def test_a_log_without_definitions_has_none(pipeline: dict[str, Any] | None) -> None:
    assert read_definitions(pipeline) == {}


def test_each_comes_after_those_that_it_reads() -> None:
    found = read_definitions(to_json([model("c", "models.b"), model("a"), model("b", "models.a", "shop.x")]))
    assert list(found) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([], "models that are no object"),
        ({"a b": {"kind": "view"}}, "cannot be the name of a table"),
        ({"a": {"kind": "view"}, "A": {"kind": "view"}}, "differ only in case"),
        ({"a": {}}, "KeyError: 'kind'"),
        ({"a": {"kind": "snapshot"}}, "kind is 'snapshot'"),
        ({"a": {"kind": "view", "language": "python"}}, "a view in 'python'"),
        ({"a": {"kind": "view", "sql": 7}}, "sql is 7"),
        ({"a": {"kind": "view", "key": "sku"}}, "no list of texts"),
        ({"a": {"kind": "view", "sql": "from s.t", "references": [["s", "t", "", 5, 99, False]]}}, "to stand at 5 to 99"),
        ({"a": {"kind": "view", "sql": "from s.t", "references": [["s", "t", "now", 5, 8, False]]}}, "in the form 'now'"),
        ({"a": {"kind": "view", "sql": "from s.t", "references": [["main", "t", "", 5, 8, False]]}}, "name of a source"),
        ({"a": {"kind": "view", "sql": "from s.t", "references": [["s", "t"]]}}, "not enough values"),
        ("text", "models that are no object"),
        ({"a": "text"}, "cannot be read"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_saying_what_is_wrong(models: Any, words: str) -> None:
    with pytest.raises(FormatError, match=words) as refused:
        read_definitions({"models": models})
    assert refused.value.path == "models/_log/"
    assert "lakehouse build" in refused.value.hint


def test_models_that_read_each_other_are_told_as_a_path() -> None:
    circle = [model("a", "models.c"), model("b", "models.a"), model("c", "models.b")]
    with pytest.raises(FormatError, match=r"(\w -> ){3}\w"):
        read_definitions(to_json(circle))


def test_behind_a_view_are_the_tables_that_its_views_read() -> None:
    found = read_definitions(
        to_json([
            model("a", "shop.x", "lakehouse.loads"), model("stored", "shop.secret", kind="table"),
            model("b", "models.a", "models.stored"), model("c", "models.b", "models.a", "news.y"),
        ])
    )  # fmt: skip
    assert sorted(tables_behind(found, "c")) == ["lakehouse.loads", "models.stored", "news.y", "shop.x"]
    assert found["c"].upstream == ("b", "a")


def test_changes_are_what_is_said_and_not_what_was_read() -> None:
    before = {
        d.name: d for d in (model("same", "s.t", inputs={"s.t": Input(seq=1)}), model("other"), model("gone"))
    }
    after = {
        d.name: d
        for d in (
            model("same", "s.t", inputs={"s.t": Input(seq=2)}),
            model("other", description="x"),
            model("new"),
        )
    }
    assert changed(before, after) == Changes(made=("other", "new"), dropped=("gone",))


def test_the_example_of_the_format_is_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    example = re.search(r"## Models\n.*?```json\n(.*?)```", text, re.DOTALL)
    assert example
    (found,) = read_definitions(json.loads(example[1])).values()
    (reference,) = found.references
    assert found.sql[reference.start : reference.end] == f"{reference.source}.{reference.read}"
    assert found.to_json() == json.loads(example[1])["models"]["daily_prices"]
