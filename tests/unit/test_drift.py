"""The drift report: when columns come, go and change their type, by the log alone."""

from datetime import UTC, datetime
from typing import Any

from lakehouse.core.commit import Commit, TableChange, lines, parse_file
from lakehouse.core.drift import drift
from lakehouse.core.log import Log, TableLog
from lakehouse.core.types import Column

START = datetime(2026, 1, 1, tzinfo=UTC)


def change(*columns: Any, **how: Any) -> TableChange:
    """A snapshot of three rows with columns such as `a`, which is int64, or `("a", "string")`."""
    pairs = [(c, "int64") if isinstance(c, str) else c for c in columns]
    made: dict[str, Any] = {"disposition": "replace", "counts": {"rows": 3}} | how
    return TableChange(columns=tuple(Column(name=n, type=t) for n, t in pairs), **made)


def table(*changes: TableChange | None) -> TableLog:
    """The log of a table; None is a load that did not touch it."""
    commits = [
        Commit(
            source="s", seq=seq, load_id=str(seq), prev="", observed_at=START, effective_at=START,
            committed_at=START, tables={} if one is None else {"t": one},
        )
        for seq, one in enumerate(changes, 1)
    ]  # fmt: skip
    return Log("s").extended(parse_file(lines(commits, prev=""), key="k", source="s")).tables["t"]


def told(*changes: TableChange | None) -> list[dict[str, Any]]:
    return [event.to_json() for event in drift(table(*changes))]


def test_a_first_load_begins_the_table_with_its_columns() -> None:
    assert told(None, change("a", ("b", "string"), primary_key=("a",))) == [
        {"seq": 2, "what": "began", "after": "replace"},
        {"seq": 2, "what": "key", "after": ["a"]},
        {"seq": 2, "what": "came", "column": "a", "after": "int64"},
        {"seq": 2, "what": "came", "column": "b", "after": "string"},
    ]


def test_a_column_that_comes_goes_and_comes_back() -> None:
    assert told(change("a"), None, change("a", "b"), change("a", "b"), None, change("a"), change("a", "b"))[
        2:
    ] == [
        {"seq": 3, "what": "came", "column": "b", "after": "int64"},
        {"seq": 6, "what": "went", "column": "b", "last_seq": 4},
        {"seq": 7, "what": "came back", "column": "b", "after": "int64", "last_seq": 4},
    ]


def test_a_column_of_nulls_is_there_and_has_the_type_it_had() -> None:
    nulls = change(("a", "null"))
    assert told(change("a"), nulls, nulls, change("a"))[2:] == []
    assert told(nulls, change("a"))[1:] == [
        {"seq": 1, "what": "came", "column": "a", "after": "null", "reads_as": "int64"},
        {"seq": 2, "what": "type", "column": "a", "before": "null", "after": "int64"},
    ]


def test_a_load_without_rows_says_nothing_of_columns() -> None:
    whole = change("a", "b", primary_key=("a",))
    empty = change(("a", "null"), primary_key=("a",), counts={})
    stones = change("a", primary_key=("a",), disposition="merge", counts={"disappeared": 1, "rows": 2})
    assert [event["what"] for event in told(whole, empty, whole)] == ["began", "key", "came", "came"]
    assert "went" not in [event["what"] for event in told(whole, stones, whole)]
    assert [event["what"] for event in told(change("a", "b"), change("a"))][-1] == "went"


def test_a_wider_type_is_told_once_and_a_narrower_one_never() -> None:
    types = ["int64", "int64", "float64", "int64", "float64", "string", "int64", "string"]
    assert told(*(change(("a", kind)) for kind in types))[1:] == [
        {"seq": 1, "what": "came", "column": "a", "after": "int64", "reads_as": "json"},
        {"seq": 3, "what": "type", "column": "a", "before": "int64", "after": "float64", "reads_as": "json"},
        {"seq": 6, "what": "type", "column": "a", "before": "float64", "after": "string", "reads_as": "json"},
    ]


def test_a_nested_type_that_gains_a_field_is_another_type() -> None:
    one, two = {"struct": {"x": "int64"}}, {"struct": {"x": "int64", "y": "string"}}
    assert told(change(("a", one)), change(("a", two)), change(("a", one)))[2:] == [
        {"seq": 2, "what": "type", "column": "a", "before": one, "after": two}
    ]


def test_keys_dispositions_and_new_beginnings_are_told() -> None:
    merged = {"disposition": "merge", "base": True}
    assert (
        told(
            change("a", "b"),
            change("a", "b", base=True),  # as every snapshot without a key that differs
            change("a", "b", primary_key=("a",), base=True),
            change("a", "b", merge_key=("a",)),  # the same columns, where keys repeat
            change("a", "b", primary_key=("b",), **merged),
            change("a", "b", primary_key=("b",), **merged),
        )[3:]
        == [
            {"seq": 3, "what": "key", "before": [], "after": ["a"]},
            {"seq": 5, "what": "disposition", "before": "replace", "after": "merge"},
            {"seq": 5, "what": "key", "before": ["a"], "after": ["b"]},
            {"seq": 6, "what": "anew"},
        ]
    )
