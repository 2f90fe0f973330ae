"""From the bytes of a version to its rows, or to the reason why it has none."""

import csv
import json
import math
import tracemalloc
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ingest.history import (
    HistoryError,
    Kind,
    ParseFailure,
    file_contents,
    file_versions,
    kind_of,
    parse,
)

BOM = b"\xef\xbb\xbf"


def value_of(text: str | bytes) -> Any:
    """The value that a JSON text stands for, as the value of a column."""
    raw = text.encode() if isinstance(text, str) else text
    (row,) = parse(b'[{"x":' + raw + b"}]", "json")
    return row["x"]


def reason(raw: bytes, kind: Kind = "json", rows: str | None = None) -> str:
    with pytest.raises(ParseFailure) as caught:
        parse(raw, kind, rows)
    return caught.value.reason


# --- Kinds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.json", "json"),
        ("data/a.b.JSON", "json"),
        ("a.geojson", "json"),
        ("a.jsonl", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("a.csv", "csv"),
        ("a.tsv", "tsv"),
        ("new.csv,old.json", "csv"),
    ],
)
def test_the_ending_tells_the_kind(path: str, kind: Kind) -> None:
    assert kind_of(path) == kind


@pytest.mark.parametrize("path", ["data", "data.txt", "json", ".json", "a.json.gz"])
def test_an_ending_that_tells_nothing_is_refused(path: str) -> None:
    with pytest.raises(HistoryError, match="Name the kind"):
        kind_of(path)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
def test_a_path_to_rows_is_refused_where_there_is_no_document(kind: Kind) -> None:
    with pytest.raises(HistoryError, match="Leave out --rows"):
        parse(b"a\n1\n", kind, "data")


# --- JSON: values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
        "-18446744073709551615",
        "1" * 30,
        "-" + "9" * 4300,
    ],
)
@pytest.mark.parametrize("around", ["{}", " {} ", "[{},1]", '{{"y":{}}}', "[\n{}\r\n]"])
def test_integers_of_any_size_stay_exact(text: str, around: str) -> None:
    document = around.format(text)
    assert value_of(document) == json.loads(document)
    assert text in json.dumps(value_of(document))


def test_one_integer_too_wide_for_python_is_a_failure_as_it_is_in_the_standard_library() -> None:
    assert "digits" in reason(b'[{"x":' + b"1" * 4301 + b"}]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.0", 1.0),
        ("-0.0", -0.0),
        ("1e5", 1e5),
        ("1E+2", 100.0),
        ("1017546.0", 1017546.0),
        ("-1191414610.0", -1191414610.0),
        ("12345678901234567890123.5", 12345678901234567890123.5),
        ("12345678901234567890123e0", 12345678901234567890123e0),
        ("0.1234567890123456789012345", 0.1234567890123456789012345),
        ("1e-400", 0.0),
        ("1e400", math.inf),
        ("-1e400", -math.inf),
    ],
)
def test_floats_stay_floats_with_the_nearest_double(text: str, expected: float) -> None:
    value = value_of(text)
    assert type(value) is float
    assert math.copysign(1, value) == math.copysign(1, expected)
    assert value == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-0", 0),
        ('"2021-03-08T18:35:02Z"', "2021-03-08T18:35:02Z"),
        ('"01001"', "01001"),
        ('"18446744073709551616000"', "18446744073709551616000"),
        ('"id: 18446744073709551616000, and so on"', "id: 18446744073709551616000, and so on"),
        ("true", True),
        ("null", None),
        (r'"\u0000\/\u00e9"', "\0/é"),
        (r'"\ud83d\ude00"', "😀"),
        ('"\u2028\x7f"', "\u2028\x7f"),
    ],
)
def test_values_keep_the_type_that_json_gives_them(text: str, expected: object) -> None:
    assert value_of(text) == expected
    assert type(value_of(text)) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'"\ud83d"', r"\ud83d"),
        (r'"cut \uD83D"', r"cut \ud83d"),
        (r'"\ude00\ud83d"', r"\ude00\ud83d"),
        (r'"\ud83d\ud83d\ude00"', r"\ud83d" + "😀"),
        (r'["\ud83d"]', [r"\ud83d"]),
        (r'{"\ud83d":{"\ude00":"é"},"b":1}', {r"\ud83d": {r"\ude00": "é"}, "b": 1}),
    ],
)
def test_half_a_surrogate_pair_stays_in_the_text_as_its_escape(text: str, expected: object) -> None:
    assert value_of(text) == expected
    json.dumps(value_of(text), ensure_ascii=False).encode()


def test_of_a_repeated_key_the_last_value_counts() -> None:
    assert parse(b'[{"a":1,"b":2,"a":3}]', "json") == [{"a": 3, "b": 2}]
    assert parse(b'[{"a":1,"a":18446744073709551616}]', "json") == [{"a": 2**64}]


@pytest.mark.parametrize("raw", [b"[]", b" \r\n\t[ ]\n\n", BOM + b"[]"])
def test_an_empty_list_is_a_good_load_of_nothing(raw: bytes) -> None:
    assert parse(raw, "json") == []


def test_a_byte_order_mark_is_accepted_once() -> None:
    assert parse(BOM + b'[{"a":1}]', "json") == [{"a": 1}]
    assert "invalid JSON" in reason(BOM + BOM + b'[{"a":1}]')


# --- JSON: failures -----------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"", b"\n", b" \t\r\n", BOM, BOM + b"\n"])
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "tsv"])
def test_an_empty_file_is_a_failure(raw: bytes, kind: Kind) -> None:
    assert reason(raw, kind) == "empty file"


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_are_a_failure(word: str) -> None:
    assert word in reason(f'[{{"a":{word}}}]'.encode())
    assert word in reason(f'[{{"a":{word},"b":{2**64}}}]'.encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"[01]",
        b"[1.]",
        b"[.5]",
        b"[+1]",
        b"['a']",
        b"[1,]",
        b'{"a":1,}',
        b"[1] [2]",
        b"[1]\x00",
        b"\x0c[1]",
        b'["\t"]',
        b'["\\x"]',
        b"// note\n[]",
        b"nonsense",
        b"[1]\n[2]\n",
    ],
)
def test_what_is_no_json_is_a_failure(raw: bytes) -> None:
    assert reason(raw).startswith("invalid JSON: ")


@pytest.mark.parametrize("raw", [b'[{"a":1},', b'[{"a":1', b'[{"a', b'[{"a":1}'])
def test_a_document_that_was_cut_off_says_so(raw: bytes) -> None:
    assert reason(raw).endswith("(cut off?)")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'["caf\xe9"]', "not UTF-8: byte 0xe9 at offset 5"),
        (b'["\xed\xa0\x80"]', "not UTF-8: byte 0xed at offset 2"),
        ("[]".encode("utf-16"), "looks like UTF-16 text in the place of JSON"),
        (b"\x1f\x8b\x08\x00", "looks like gzip in the place of JSON"),
    ],
)
@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_bytes_that_are_not_utf8_are_a_failure(raw: bytes, words: str, kind: Kind) -> None:
    assert words in reason(raw, kind)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_what_is_nested_too_deeply_is_a_failure_and_no_crash(opening: bytes) -> None:
    reason(opening * 1025)
    reason(opening * 100_000)
    for depth in (1100, 100_000):
        assert "nested too deeply" in reason(b'[{"x":' + b"[" * depth + b"]" * depth + b"}]")


def test_what_is_nested_deeply_is_read() -> None:
    assert len(str(value_of("[" * 500 + "]" * 500))) == 1000
    assert len(str(value_of("[" * 300 + str(2**64) + "]" * 300))) == 620


HTML = [
    b"<!DOCTYPE html>\n<html><head><title>503 Service\n Unavailable</title></head></html>",
    b"\n  <html lang='en'><title>503 Service Unavailable</title>",
    b'<?xml version="1.0"?>\n<!-- x -->\n<!doctype html><TITLE id=t> 503 Service Unavailable </TITLE>',
]


@pytest.mark.parametrize("page", HTML)
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "tsv"])
def test_an_html_page_in_the_place_of_data_is_a_failure_that_gives_its_title(page: bytes, kind: Kind) -> None:
    said = reason(page, kind)
    assert said.startswith("looks like an HTML page (")
    assert "503 Service" in said


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "pointer to Git LFS"),
        (b"<<<<<<< HEAD\n[]\n=======\n", "merge conflict"),
        (b"<?xml version='1.0'?><rss/>", "looks like XML"),
        (b"PK\x03\x04...", "zip"),
    ],
)
def test_other_things_in_the_place_of_data_are_named(raw: bytes, words: str) -> None:
    assert words in reason(raw)
    assert words in reason(raw, "csv")


def test_html_inside_of_values_is_data() -> None:
    page = "<!DOCTYPE html><html>" + "x" * 35_000
    assert value_of(json.dumps(page)) == page
    assert parse(f'"{page}"\n1\n'.encode(), "csv") == [{page: "1"}]


# --- JSON: where the rows are -------------------------------------------------------------------


def test_rows_are_found_along_a_dotted_path() -> None:
    raw = b'{"Incidents":[{"a":1}],"data":{"items":[{"a":2}]}}'
    assert parse(raw, "json", "Incidents") == [{"a": 1}]
    assert parse(raw, "json", "data.items") == [{"a": 2}]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("incidents", "no 'incidents' in the document; there is 'Incidents', 'data'"),
        ("data.rows", "no 'rows' in the document; there is 'items'"),
        ("Incidents.a", "a list stands there, not an object"),
        ("data", "'data' is an object, not a list of objects (is --rows data.items needed?"),
        ("data.", "no '' in the document"),
    ],
)
def test_a_path_that_leads_nowhere_is_a_failure(path: str, words: str) -> None:
    assert words in reason(b'{"Incidents":[{"a":1}],"data":{"items":[{"a":2}]}}', rows=path)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (
            b'{"when":1,"Incidents":[{}],"All":[{}]}',
            "is --rows Incidents needed? lists of objects: Incidents, All",
        ),
        (b'{"data":{"deep":{"items":[{}]}}}', "is --rows data.deep.items needed?"),
        (b'{"type":"FeatureCollection","features":[{}]}', "is --rows features needed?"),
        (b'{"a":{"x":1},"b":{"x":2}}', "the document is an object, not a list of objects"),
        (b'{"a.b":[{}]}', "the document is an object, not a list of objects"),
        (b"3", "the document is a number"),
        (b'"text"', "the document is a text"),
        (b"null", "the document is null"),
        (b'[{"a":1},null]', "item 2 is null"),
        (b"[[1]]", "item 1 is a list"),
        (b"[true]", "item 1 is true or false"),
    ],
)
def test_a_document_that_is_no_list_of_objects_is_a_failure_with_a_hint(raw: bytes, words: str) -> None:
    said = reason(raw)
    assert words in said
    assert ("--rows" in said) == ("--rows" in words)


def test_reasons_are_one_short_line_whatever_the_document_holds() -> None:
    said = reason(b'{"' + b"\\n\\ud83d" * 1000 + b'":1}', rows="x")
    assert len(said) <= 300
    assert "\n" not in said
    said.encode()


# --- JSON lines ---------------------------------------------------------------------------------


def test_json_lines_hold_one_object_a_line_and_blank_lines_are_skipped() -> None:
    raw = BOM + b'{"a":1}\r\n\n  \n {"a":18446744073709551616} \n{"a":"\\ud83d"}'
    assert parse(raw, "jsonl") == [{"a": 1}, {"a": 2**64}, {"a": r"\ud83d"}]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"a":1}\n{"a":', "line 2: invalid JSON"),
        (b'{"a":1}\n\n[1]\n', "line 3 is a list, not an object"),
        (b'{"a":1}\n{"a":1}{"a":1}\n', "line 2: invalid JSON: Extra data"),
        (b'{"a":NaN}\n', "line 1: invalid JSON: NaN"),
        (b'[\n{"a":1}\n]\n', "line 1: invalid JSON"),
    ],
)
def test_a_wrong_line_is_a_failure_that_gives_its_number(raw: bytes, words: str) -> None:
    assert words in reason(raw, "jsonl")


def test_a_torn_last_line_is_told_from_a_wrong_one_in_the_middle() -> None:
    assert reason(b'{"a":1}\n{"a":2\n', "jsonl").endswith("torn?)")
    assert "torn" not in reason(b'{"a":1\n{"a":2}\n', "jsonl")


# --- CSV ----------------------------------------------------------------------------------------


def test_csv_is_text_kept_exactly() -> None:
    raw = BOM + '  id ,n,"q ""x""\r\ny"\r\n01001, 1.0 ,"a\nb\r\nc"\r\n\r\n,"",é \n'.encode()
    assert parse(raw, "csv") == [
        {"  id ": "01001", "n": " 1.0 ", 'q "x"\r\ny': "a\nb\r\nc"},
        {"  id ": "", "n": "", 'q "x"\r\ny': "é "},
    ]


def test_tsv_is_csv_with_tabs() -> None:
    assert parse(b'a\tb\n1,5\t"x\ty"\n', "tsv") == [{"a": "1,5", "b": "x\ty"}]


def test_a_csv_with_a_header_only_is_a_good_load_of_nothing() -> None:
    assert parse(b"a,b\n", "csv") == []


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"a,b\n1,2\n1,2,3\n", "ragged CSV: line 3 has 3 fields, the header 2"),
        (b"a,b\n1\n", "ragged CSV: line 2 has 1 fields, the header 2"),
        (b'a,b\n1,"2', "invalid CSV: line 2"),
        (b'a,b\n1,"2"x\n', "invalid CSV: line 2"),
        (b"a\ncaf\xe9\n", "not UTF-8: byte 0xe9 at offset 5"),
    ],
)
def test_a_csv_that_is_ragged_or_broken_is_a_failure(raw: bytes, words: str) -> None:
    assert words in reason(raw, "csv")


def test_of_a_repeated_column_the_last_one_counts() -> None:
    assert parse(b"a,b,a\n1,2,3\n", "csv") == [{"a": "3", "b": "2"}]


def test_a_long_field_is_data() -> None:
    csv.field_size_limit(131_072)  # as Python starts
    long = "x" * 500_000
    assert parse(f"a\n{long}\n".encode(), "csv") == [{"a": long}]


# --- Cost ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "digits", [b"1234567890123456789 ", b'"123456789012345678901" ', b"-" * 19, b"0" * 19 + b"."]
)
def test_looking_for_wide_integers_takes_linear_time_and_memory(digits: bytes) -> None:
    raw = digits * 50_000
    tracemalloc.start()
    try:
        reason(raw)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(raw)
    finally:
        tracemalloc.stop()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("junk", [b"<!---->", b"<!-- ", b"<?xml>", b"<html><title ", b"<html" + b" " * 50])
def test_looking_for_html_takes_no_time_whatever_the_page(junk: bytes) -> None:
    reason(junk * 50_000)


# --- Against the oracle -------------------------------------------------------------------------


def outcome(read: Any, raw: bytes, *args: Any) -> Any:
    """The rows, or None for a failed load."""
    try:
        return read(raw, *args)
    except (ValueError, csv.Error):  # the oracle lets the latter through
        return None


def storable(value: Any) -> Any:
    """The value with half surrogate pairs as their escapes: the one thing where the oracle differs."""
    if isinstance(value, dict):
        return {storable(key): storable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [storable(inner) for inner in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def agree(oracle: ModuleType, raw: bytes, name: str, rows: str | None = None) -> None:
    theirs = outcome(oracle.parse, raw, name, rows)
    ours = outcome(parse, raw, kind_of(name), rows)
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert [oracle.canon(row) for row in ours] == [oracle.canon(storable(row)) for row in theirs]


blanks = st.text(" \t\r\n", max_size=2)
integers = st.from_regex(r"\A-?(0|[1-9][0-9]{0,6}|[1-9][0-9]{17,24}|9223372036854775[0-9]{3})\Z")
numbers = st.from_regex(r"\A-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?\Z")
pieces = st.sampled_from(
    [
        r"\ud83d",
        r"\ude00",
        r"\u0000",
        r"\n",
        r"\"",
        r"\\",
        "1234567890123456789012",
        ",",
        "é",
        "😀",
        "\x7f",
        "a",
    ]
)
strings = st.lists(pieces, max_size=4).map(lambda some: f'"{"".join(some)}"')
keys = st.sampled_from(['"a"', '"b"', '"A"', '""', '"a.b"', r'"\ud83d"', '"Incidents"'])
words = st.sampled_from(["true", "false", "null", "NaN", "-Infinity", "nul", ""])
scalars = st.one_of(integers, integers, numbers, strings, words)


def lists(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    padded = st.tuples(blanks, inner, blanks).map("".join)
    return st.lists(padded, max_size=4).map(lambda some: f"[{','.join(some)}]")


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    entry = st.tuples(blanks, keys, blanks, st.just(":"), blanks, inner).map("".join)
    return st.lists(entry, max_size=4).map(lambda some: f"{{{','.join(some)}}}")


values = st.recursive(scalars, lambda inner: lists(inner) | objects(inner), max_leaves=6)
documents = st.one_of(values, lists(objects(values)), objects(lists(objects(values))))


@st.composite
def json_bytes(draw: st.DrawFn) -> bytes:
    """JSON texts with all that readers disagree about, some of them damaged."""
    raw = (draw(blanks) + draw(documents) + draw(blanks)).encode()
    raw = draw(st.sampled_from([b"", b"", b"", BOM])) + raw
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(raw)))
        junk = draw(
            st.sampled_from([b"", b"\xff", b"\x00", b",", b"0", b"}", b'"', b"\\", b"\xed\xa0\x80", b"<html"])
        )
        raw = raw[:at] + junk + raw[at + draw(st.integers(0, 3)) :]
    return raw


@settings(max_examples=600, deadline=None)
@given(raw=json_bytes(), rows=st.sampled_from([None, None, "Incidents", "a.b", "a"]))
@example(raw=b"[-9223372036854775809]", rows=None)
@example(raw=b'[{"a":1e999}]', rows=None)
@example(raw=b'{"Incidents":[{"a":18446744073709551616}]}', rows="Incidents")
def test_random_json_reads_as_the_oracle_reads_it(oracle: ModuleType, raw: bytes, rows: str | None) -> None:
    agree(oracle, raw, "a.json", rows)


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=30))
def test_random_bytes_read_as_the_oracle_reads_them(oracle: ModuleType, raw: bytes) -> None:
    agree(oracle, raw, "a.json")


@settings(max_examples=400, deadline=None)
@given(text=st.text('ab,"\n\r ;é\0\t', max_size=30), mark=st.sampled_from([b"", BOM]))
def test_random_csv_reads_as_the_oracle_reads_it(oracle: ModuleType, text: str, mark: bytes) -> None:
    raw = mark + text.encode()
    # A file of nothing but a mark and blanks is empty here; the oracle calls it a table of nothing.
    assume(not mark or text.strip(" \n\r\t"))
    agree(oracle, raw, "a.csv")


def test_the_real_windows_read_as_the_oracle_reads_them(oracle: ModuleType, real_window: Path) -> None:
    failed = []
    for version, raw in file_contents(real_window, file_versions(real_window)):
        for rows in ("Incidents", "AllYearIncidents", None):
            agree(oracle, raw, "a.json", rows)
        if outcome(parse, raw, "json", "Incidents") is None:
            failed.append(version.n)
    assert failed == ([341, 351, 355, 410] if "v330" in real_window.name else [])
