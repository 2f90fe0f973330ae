"""Headers: where one ends, what it says, and errors with the line of what is wrong."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import UserError
from lakehouse.models.checks import seconds
from lakehouse.models.header import OF_PYTHON, OF_TEST, Header, read_header, split_header
from lakehouse.models.place import Place

PATH = "models/x.sql"


def header(text: str, known: tuple[str, ...] | None = None) -> Header:
    """The header of an SQL file."""
    pieces = split_header(text, path=PATH)
    place = Place(path=PATH, line=pieces.header_line)
    return read_header(pieces.header, place, known=known) if known else read_header(pieces.header, place)


def refused(text: str) -> str:
    """What the error of a header says."""
    with pytest.raises(UserError) as caught:
        header(text)
    assert caught.value.hint
    return str(caught.value)


def one_test(yaml: str) -> tuple[str, dict[str, object], str]:
    """The only test of a header: kind, arguments, severity."""
    (test,) = header(f"-- tests:\n--   - {yaml}\nselect 1").tests
    assert json.loads(json.dumps(dict(test.arguments))) == test.arguments
    return test.kind, dict(test.arguments), test.severity


# -- where it ends


@pytest.mark.parametrize(
    ("text", "said", "sql", "line"),
    [
        ("select 1", "", "select 1", 1),
        ("-- kind: view\nselect 1", "kind: view", "select 1", 2),
        ("\n\n-- kind: view\n\n\nselect 1", "kind: view", "select 1", 6),
        ("--kind: view\n--key: a\nselect 1", "kind: view\nkey: a", "select 1", 3),
        ("--kind: view\n-- key: a\nselect 1", "kind: view\nkey: a", "select 1", 3),
        ("--   kind: view\n--   key: a\nselect 1", "kind: view\nkey: a", "select 1", 3),
        ("-----------\n-- kind: view\n-- =====\nselect 1", "\nkind: view\n", "select 1", 4),
        ("  -- kind: view\n  select 1", "kind: view", "  select 1", 2),
        ("-- kind: view\r\n-- key: a\r\nselect 1\r\n", "kind: view\nkey: a", "select 1\r\n", 3),
        ("/* kind: view */ select 1", "kind: view", " select 1", 1),
        ("/*\n  kind: view\n  key:\n    - a\n*/\n\nselect 1", "\nkind: view\nkey:\n  - a", "select 1", 7),
        ("-- kind: view\n\n-- why it is so\nselect 1", "kind: view", "-- why it is so\nselect 1", 3),
        ("-- kind: view\n/* why */ select 1", "kind: view", "/* why */ select 1", 2),
        ("-- kind: view", "kind: view", "", 2),
        ("", "", "", 1),
    ],
)  # fmt: skip
def test_a_file_is_cut_into_header_and_sql(text: str, said: str, sql: str, line: int) -> None:
    pieces = split_header(text, path=PATH)
    assert (pieces.header, pieces.sql, pieces.line) == (said, sql, line)


@given(
    st.lists(
        st.sampled_from(["-- a", "-- kind: view", "", "select 1", "/* x", "*/", "  ", "-- b: c", "x /* */"])
    )
)
def test_the_sql_is_the_end_of_the_file_and_its_line_is_right(rows: list[str]) -> None:
    text = "\n".join(rows)
    try:
        pieces = split_header(text, path=PATH)
    except UserError:
        return
    assert text.endswith(pieces.sql)
    assert pieces.line == 1 + text.count("\n", 0, len(text) - len(pieces.sql)) or not pieces.sql


def test_words_of_a_header_below_it_are_refused() -> None:
    assert "models/x.sql:3: `tests:` stands below the header" in refused(
        "-- kind: view\n\n-- tests:\n--  - x\nselect 1"
    )
    assert "models/x.sql:2: the comment is never closed" in refused("\n/* kind: view\nselect 1")


# -- what it says


def test_all_that_a_header_says_is_read() -> None:
    got = header(
        "-- kind: incremental\n-- key: [sku, day]\n-- grain: one product\n-- description: >\n--   long,\n--   longer\n"
        "-- columns:\n--   price: in euro, with VAT\n--   day:\n-- tests:\n--   - unique: sku\n--   - not_null: [a, b]\nselect 1"
    )
    assert (got.kind, got.key, got.grain) == ("incremental", ("sku", "day"), "one product")
    assert got.description == "long, longer"
    assert got.columns == {"price": "in euro, with VAT", "day": ""}
    assert [(t.kind, t.arguments, t.line) for t in got.tests] == [
        ("unique", {"columns": ["sku"]}, 11), ("not_null", {"columns": ["a", "b"]}, 12)
    ]  # fmt: skip
    assert got.lines["columns"] == 7


def test_a_comment_that_is_no_mapping_is_the_description() -> None:
    assert (
        header("-- What it costs,\n-- in euro.\n--\n-- Or not.\nselect 1").description
        == "What it costs, in euro.\n\nOr not."
    )
    assert header("-- see https://example.org/a: b\nselect 1").description == "see https://example.org/a: b"
    assert header("-- It's 5 o'clock: \"x\nselect 1").description == "It's 5 o'clock: \"x"
    assert header("select 1") == Header()


def test_plain_words_stay_as_they_are() -> None:
    said = "accepted_values: {column: c, values: [yes, no, on, 2026-11-01, 12:30, 007, 1_000, 1, -2.5, 1e3, true, .5]}"
    values = ["yes", "no", "on", "2026-11-01", "12:30", "007", "1_000", 1, -2.5, 1000.0, True, ".5"]
    assert one_test(said)[1]["values"] == values
    assert header("-- key: [no]\n-- grain: off\nselect 1").key == ("no",)


def test_other_words_for_python_and_for_tests() -> None:
    place = Place(path=PATH)
    assert read_header("inputs: {p: shop.products}", place, known=OF_PYTHON).inputs == {"p": "shop.products"}
    assert header("-- description: d\n-- severity: warn\nselect 1", OF_TEST).severity == "warn"
    with pytest.raises(UserError, match="the header has no `kind`"):
        header("-- kind: view\nselect 1", OF_TEST)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-- kin: view", "models/x.sql:1: the header has no `kin`\n  Did you mean `kind`?"),
        ("-- kind: view\n-- note: x", "x.sql:2: the header has no `note`\n  It may say: kind, key"),
        ("-- kind: views", "Did you mean `view`?"),
        ("-- kind: [view]", "`kind` is ['view']"),
        ("-- kind: view\n-- key: a\n-- kind: table", "x.sql:3: the header says `kind` twice"),
        ("-- columns:\n--   a: x\n--   a: y", "x.sql:3: the header says `a` twice"),
        ("-- key: []", "`key` is []"),
        ("-- key: [a, A]", "each once"),
        ("-- key: {a: b}", "Write: key: [a, b]"),
        ("-- key: 5", "`key` is 5"),
        ("-- grain: 5", "`grain` is 5, which is no text"),
        ("-- columns: [a]", "`columns` is ['a'], which is no mapping"),
        ("-- columns: {a: 5}", "'a' is 5"),
        ("-- description: Prices: all", "x.sql:1: the header is no YAML"),
        ("-- kind: view\n--\tkey: a", "x.sql:2: the header is no YAML"),
        ("-- kind: !!python/object:os.system x", "the header is no YAML"),
        ("-- kind: {[a]: b}", "is no word"),
        ("-- {kind", "no YAML"),
        ("-- Some prose.\n-- kind: table", "x.sql:2: `kind:` stands in a comment that begins as prose"),
        ("-- Some prose.\n--   key: a", "x.sql:2: `key:` stands in a comment"),
        ("-- tests: {unique: [a]}", "`tests` is no list"),
        ("-- tests:\n--   - unique: [a]\n--   - uniqe: [a]", "x.sql:3: there is no test `uniqe`\n  Did you mean `unique`?"),
        ("-- tests: [zzzz: 1]", "any other is a SELECT in models/tests/"),
        ("-- tests: [unique]", "does not say of what\n  Write: unique: [a, b]"),
        ("-- tests: [5]", "5 is no test"),
        ("-- tests:\n--   - unique: a\n--     severity: warn", "unique: {columns: [a, b], severity: warn}"),
        ("-- tests: [unique: {columns: [a], severity: fatal}]", "severity is 'fatal'"),
        ("-- tests: [unique: {colums: [a]}]", "it takes no `colums`\n  Did you mean `columns`?"),
        ("-- tests: [unique: {severity: warn}]", "`columns` is missing"),
        ("-- tests: [unique: []]", "[] is no list of columns"),
        ("-- tests: [unique: [a, A]]", "each once"),
        ("-- tests: [not_null: 5]", "5 is not what it takes"),
        ("-- tests: [range: [a]]", "Write: range: {column: c"),
        ("-- tests: [range: {column: a}]", "neither `min` nor `max`"),
        ("-- tests: [range: {column: a, min: 3, max: 1}]", "`min` 3 is greater than `max` 1"),
        ("-- tests: [range: {column: a, min: x, max: 1}]", "not of one kind"),
        ("-- tests: [range: {column: [a], min: 1}]", "no name of a column"),
        ("-- tests: [range: {column: a, min: true}]", "is no bound"),
        ("-- tests: [row_count: {min: -1}]", "is no bound"),
        ("-- tests: [row_count: {max: 1.5}]", "is no bound"),
        ("-- tests: [row_count: {column: a, min: 1}]", "it takes no `column`"),
        ("-- tests: [accepted_values: {column: a, values: x}]", "no list of text and numbers"),
        ("-- tests: [accepted_values: {column: a, values: [[1]]}]", "no list of text and numbers"),
        ("-- tests: [accepted_values: {column: a, values: []}]", "no list of text and numbers"),
        ("-- tests: [relationships: {column: a, to: sku}]", "no source.table.column"),
        ("-- tests: [relationships: {column: a, to: shop..sku}]", "no source.table.column"),
        ("-- tests: [freshness: {column: a, within: 2 dayz}]", "no duration"),
        ("-- tests: [freshness: {column: a, within: 5}]", "no duration"),
        ("-- tests: [freshness: {column: a, within: 0 days}]", "no duration"),
    ],
)  # fmt: skip
def test_what_a_header_cannot_say_is_refused_with_its_line(text: str, said: str) -> None:
    assert said in refused(f"{text}\nselect 1")


# -- tests


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("unique: [a, b]", ("unique", {"columns": ["a", "b"]}, "error")),
        ("unique: a", ("unique", {"columns": ["a"]}, "error")),
        ("not_null: {columns: [a, b], severity: warn}", ("not_null", {"columns": ["a", "b"]}, "warn")),
        ("not_null: {column: a, severity: error}", ("not_null", {"columns": ["a"]}, "error")),
        ("accepted_values: {column: c, values: [x, 1]}", ("accepted_values", {"column": "c", "values": ["x", 1]}, "error")),
        ("relationships: {column: a, to: shop.products.sku}", ("relationships", {"column": "a", "to": "shop.products.sku"}, "error")),
        ("range: {column: c, min: 0, max: 9.5}", ("range", {"column": "c", "min": 0, "max": 9.5}, "error")),
        ("range: {column: c, min: 2026-11-01}", ("range", {"column": "c", "min": "2026-11-01"}, "error")),
        ("row_count: {max: 1000, severity: warn}", ("row_count", {"max": 1000}, "warn")),
        ("freshness: {column: c, within: 2 days}", ("freshness", {"column": "c", "within": "2 days", "within_seconds": 172800}, "error")),
    ],
)  # fmt: skip
def test_tests_are_read_with_their_arguments(yaml: str, expected: tuple[str, dict[str, object], str]) -> None:
    assert one_test(yaml) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2 days", 172800), ("12 hours", 43200), ("1 day 6 hours", 108000), ("1h", None), ("90 Minutes", 5400), ("1week", 604800), ("", None), ("2", None), ("-2 days", None)],
)  # fmt: skip
def test_durations_are_seconds(text: str, expected: int | None) -> None:
    assert seconds(text) == expected
