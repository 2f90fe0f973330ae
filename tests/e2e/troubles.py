"""Made-up histories with the trouble that real ones have, or may have one day; each with a key."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from truth import START, History, Rows

TROUBLES: dict[str, tuple[Callable[[], History], tuple[str, ...]]] = {}


def trouble(*key: str) -> Callable[[Callable[[], History]], Callable[[], History]]:
    """Register a history, with the columns that identify its rows."""

    def register(make: Callable[[], History]) -> Callable[[], History]:
        TROUBLES[make.__name__] = (make, key)
        return make

    return register


def _csv(*lines: str, end: str = "\n") -> bytes:
    return (end.join(lines) + end).encode()


@trouble("id")
def key_turns_from_integer_to_text() -> History:
    """With tombstones of both kinds in one load, and keys that differ in kind only."""
    return History.of(
        [{"id": n, "v": n} for n in range(1, 6)],
        [{"id": n, "v": n} for n in (1, 2, 3, 5)] + [{"id": "A", "v": 7}, {"id": "1", "v": 8}, {"id": "B"}],
        [{"id": 2, "v": 0}, {"id": "B"}, {"id": "1", "v": 9}],
        [{"id": "2", "v": 0}, {"id": "B"}],
        [{"id": 2, "v": 0}, {"id": 2.5}, {"id": "2", "v": 0}, {"id": True}, {"id": None, "v": 1}],
        [{"id": 1}, {"id": "true"}, {"id": "null"}],
    )


@trouble("id")
def key_beyond_exact_floats() -> History:
    """Neighbours that are one number to a float, among floats."""
    big = 2**53
    return History.of(
        [{"id": big}, {"id": big + 1}, {"id": 1}],
        [{"id": big + 1}, {"id": 1.5}, {"id": 1.0}],
        [{"id": 2**64 + 1}, {"id": 2**64}, {"id": big + 1}, {"id": 0.5}],
        [{"id": big}],
    )


@trouble("region", "n")
def key_of_several_columns() -> History:
    """One of which changes its type, lacks in rows, and is null."""
    return History.of(
        [{"region": "x", "n": 1, "v": 1}, {"region": "x", "n": 2}, {"region": "y", "n": 1}],
        [{"region": "x", "n": "1", "v": 1}, {"region": None, "n": 2}, {"n": 3}],
        [{"region": "x", "n": 1, "v": 1}, {"region": 7, "n": None}, {}],
        [],
        [{"region": True, "n": 1.5}, {"region": "true", "n": "1.5"}, {"region": None, "n": None}],
    )


@trouble("id")
def key_column_goes() -> History:
    """Renamed half way, and back: nothing of it is lost."""
    return History.of(
        [],
        [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}],
        [{"Id_": 1, "v": "a"}, {"Id_": 2, "v": "c"}],
        [{"Id_": 1, "v": "a"}, {"Id_": 2, "v": "d"}],
        [{"id": 1, "v": "a"}, {"v": "e"}],
        [{"error": "too many requests"}],
        [{"id": 1, "v": "a"}],
    )


@trouble("code")
def columns_in_twenty_steps() -> History:
    """179 columns in the end, some of them renamed on the way."""
    columns = [f"col_{n}" for n in range(179)]
    versions: list[Rows] = []
    for step in range(21):
        names = columns[: 1 + step * 9][step // 4 :]
        versions.append(
            [
                {"code": f"{n:05}"} | {c: (n * at) if at % 3 else f"{c}-{n}" for at, c in enumerate(names)}
                for n in range(8)
            ]
        )
    return History.of(*versions)


@trouble("Administered_Dose1_<5")
def names_that_sql_does_not_like() -> History:
    """Names are kept as they came; DuckDB's own and the lake's get a suffix."""
    names = [
        "with space", 'quo"te', "it's", "", " ", "ID", "id", "Id", "_lake_seq", "_LAKE_SEQ", "_lake_deleted", "t", "T",
        "c0", "select", "größe", "🔥", "a.b", "a;b", "--", "rowid", "filename", "lake_load", "_dlt_id", "%", "x" * 300,
        "new\nline", "tab\t", "{}", "$1", "?", "list", "_lake_v", "_lake_n", "_lake_newest", "seq", "source", "_lake_p",
    ]  # fmt: skip
    first = {"Administered_Dose1_<5": "1"} | {name: at for at, name in enumerate(names)}
    return History.of(
        [first],
        [first | {"iD": 5}, {"Administered_Dose1_<5": 2, "ID": "x", "id": None}],
        [{"Administered_Dose1_<5": 2, "Administered_Dose1_<50": 2, "administered_dose1_<5": 3}],
        [first],
    )


@trouble("id")
def duplicate_keys_in_conflict() -> History:
    """One placeholder for thousands of rows, and keys that are there twice with different values."""
    many = [{"id": "N/A", "n": n} for n in range(2_000)]
    return History.of(
        [{"id": "a", "v": 1}, {"id": "a", "v": 2}, {"id": "b", "v": 1}],
        [{"id": "a", "v": 2}, {"id": "a", "v": 1}, {"id": "b", "v": 1}],
        [{"id": "a", "v": 1}, {"id": "a", "v": 1}, {"id": "b", "v": 2}],
        [{"id": "a", "v": 1}, {"id": "b", "v": 2}],
        [{"id": "a", "v": 1}, {"id": "b", "v": 2}, *many],
        [{"id": "b", "v": 2}, *many[5:], {"id": "N/A", "n": -1}],
        [{"id": "b", "v": 2}],
        [{"id": "b", "v": 2}, {"id": "b", "v": 2}],
    )


@trouble("fips")
def leading_zeros() -> History:
    """Text that looks like a number stays text."""
    return History.of(
        [{"fips": "01001", "zip": "00501"}, {"fips": "1001", "zip": "501"}],
        [{"fips": "01001", "zip": "0"}, {"fips": "1001", "zip": "00"}, {"fips": 1001, "zip": -0.0}],
        [{"fips": "1e3", "zip": "NaN"}, {"fips": "0x10", "zip": "2020-01-01"}],
    )


@trouble("id")
def keys_come_and_go() -> History:
    """Hundreds of times."""
    keep = {"id": "stays", "v": 0}
    return History.of(*([keep] + ([{"id": "blinks", "v": n % 3}] if n % 2 else []) for n in range(300)))


@trouble("id")
def floats_become_integers() -> History:
    """1017546.0 and 1017546 are one value, in rows and inside of them."""
    return History.of(
        [{"id": 1, "acres": 1017546.0, "at": [1.0, 2.5], "box": {"w": 3.0}}],
        [{"id": 1, "acres": 1017546, "at": [1, 2.5], "box": {"w": 3}}],
        [{"id": 1.0, "acres": 1017546, "at": [1, 2], "box": {"w": 3}}],
        [{"id": 1, "acres": 1017546.5, "at": [1, 3], "box": {"w": 2**60 + 1}}],
        [{"id": 1, "acres": 2**60 + 1, "at": [1, 2**60 + 1], "box": {"w": 0.5}}],
        [{"id": 1, "acres": 1e22, "at": [1e300, 5e-324], "box": {"w": -1e22}}],
    )


@trouble("id")
def times_of_all_kinds() -> History:
    """Dates and times are text, as they came."""
    times = [
        "2021-03-08T18:35:02.1234567Z", "2021-03-08T18:35:02.123+01:00", "2021-03-08 18:35:02", "2021-03-08",
        "08.03.2021", "/Date(1615228502000)/", "0001-01-01T00:00:00", "2021-02-30", "24:00", "",
    ]  # fmt: skip
    return History.of(
        [{"id": n, "at": time} for n, time in enumerate(times)],
        [{"id": n, "at": time} for n, time in enumerate(reversed(times))],
        [{"id": n, "at": time} for n, time in enumerate([1615228502, 1615228502.5, *times])],
    )


@trouble("id")
def long_and_strange_text() -> History:
    """CRLF, mojibake, trailing blanks, control characters, 35 KB of HTML."""
    html = "<div class=\"x\">\r\n\t&nbsp;'é'\\</div>" * 1000
    return History.of(
        [
            {"id": "a ", "t": html},
            {"id": "a", "t": "SÃ£o Paulo\u200b \r\n"},
            {"id": "", "t": " "},
            {"id": " ", "t": ""},
        ],
        [
            {"id": "a ", "t": html + " "},
            {"id": "a", "t": "SÃ£o Paulo\u200b\r\n"},
            {"id": "\u0000", "t": "a\u0000b\u001f\u007f"},
        ],
        [
            {"id": "a ", "t": html},
            {"id": "é", "t": "e\u0301"},
            {"id": "e\u0301", "t": "\ufffd\ufeff\u2028💥"},
            {"id": '"', "t": "\\u0041"},
        ],
        [{"id": "é", "t": None}, {"id": "\\", "t": "null"}, {"id": "NaN", "t": "Infinity"}],
    )


@trouble("id")
def versions_that_are_no_data() -> History:
    """Each of them is a failed observation, except the lists without rows."""
    good = [{"id": 1, "v": "x"}]
    return History.of(
        b"", [], good, b"   \n", b'[{"id": 1, "v": "x"}', b"<!DOCTYPE html><html><title>502 Bad Gateway</title></html>",
        b'[{"id": 1, "v": "\xff\xfe"}]', b"null", b"{}", b"[1, 2]", b'"text"', b"[[]]", b'[{"id": NaN}]', b"[{'id': 1}]",
        b'[{"id": 1}] trailing', b"\xef\xbb\xbf" + json.dumps(good).encode(), good, b"[null]", b'[{"id": 1e999999}',
        b'{"error": "rate limited"}', b"[", b"\x00", b"\xff\xfe[\x00]\x00", b"[]", [{"id": 2, "v": None}], b"", b"",
    )  # fmt: skip


@trouble("id")
def integers_of_any_size() -> History:
    """Beyond floats, beyond 64 bits, beside floats and text."""
    sizes = [
        2**53 - 1,
        2**53,
        2**53 + 1,
        2**63 - 1,
        2**63,
        2**64 - 1,
        2**64,
        2**64 + 1,
        -(2**63),
        -(2**63) - 1,
        10**40,
    ]
    return History.of(
        *([{"id": 1, "n": size, "deep": [size], "in": {"n": size}}, {"id": size, "n": 1}] for size in sizes),
        [{"id": n, "n": size, "deep": [[size], []], "in": {"n": [size]}} for n, size in enumerate(sizes)],
        [{"id": 1, "n": 0.1}, {"id": 2, "n": 2**53 + 1}],
        [
            {"id": 1, "n": 0.1, "deep": [0.1, 2**53 + 1], "in": {"n": 0.1}},
            {"id": 2, "n": 3, "in": {"n": 2**53 + 1}},
        ],
    )


@trouble("id")
def repeated_keys_in_an_object() -> History:
    """The last one counts, as everywhere."""
    return History.of(
        b'[{"id": 1, "v": 1, "v": 2, "o": {"a": 1, "a": null}}]',
        b'[{"id": 1, "v": 2, "id": 2}, {"v": 3, "id": 1}]',
        b'[{"v": {"x": 1}, "v": "text", "id": 1}]',
    )


@trouble("id")
def nested_values_of_changing_shape() -> History:
    """Objects that gain fields, become lists, text or null, and lists of all sorts."""
    deep: Any = 1
    for n in range(40):
        deep = {"d": deep} if n % 2 else [deep]
    values: list[Any] = [
        {"a": 1}, {"a": 1, "b": "x"}, {"b": None}, {}, None, {"A": 1, "a": 2}, {"": 1}, [], [1], [None], [{"a": 1}],
        [{"a": 1}, {"b": [2]}], [[1], ["x"]], [{}], "text", 7, True, 1.5, {"a": {"b": {"c": [1, {"d": None}]}}},
        {"a": "changed"}, {"x" * 100: 1, "sp ace": 2, "quo'\"te": 3}, {str(n): n for n in range(300)}, deep, [1, "1", 1.0],
        {"a": [0.5]}, {"a": [2**60 + 1]}, [True, False], [[[]]],
    ]  # fmt: skip
    versions: list[Rows] = [[{"id": "k", "v": value, "w": 1}] for value in values]
    versions.append([{"id": str(n), "v": value} for n, value in enumerate(values)])
    objects = [value for value in values if isinstance(value, dict)]
    versions += [
        [{"id": str(n), "o": objects[(n + turn) % len(objects)]} for n in range(3)] for turn in range(8)
    ]
    lists = [value for value in values if isinstance(value, list)]
    versions += [[{"id": str(n), "l": lists[(n + turn) % len(lists)]} for n in range(3)] for turn in range(8)]
    return History.of(*versions)


@trouble("id")
def types_that_change() -> History:
    """Null first, then each type in turn, alone and mixed."""
    values: list[Any] = [None, 1, None, 2.5, True, "x", None, {"a": 1}, [1], "1", 1, False, 0, "", "true"]
    versions: list[Rows] = [[{"id": 1, "v": value}] for value in values]
    versions += [
        [{"id": n, "v": value} for n, value in enumerate(values)],
        [{"id": 1}],
        [{"id": 1, "v": None, "w": None}],
    ]
    return History.of(*versions)


@trouble("id")
def rows_without_columns() -> History:
    """Empty objects, and snapshots of no rows at all."""
    return History.of(
        [],
        [],
        [{"id": 1}, {}],
        [{"id": 1}, {}, {}],
        [{"other": 1}, {"id": 2}],
        [],
        [{"id": None}],
        [{"id": 1}],
    )


@trouble("id")
def csv_as_it_is_found() -> History:
    """CRLF, a byte order mark, quoted line ends, blanks, new columns, blank lines, ragged lines."""
    return History.of(
        _csv("id,name,n", "01,São Paulo ,1.0", '02,"a ""b""\nc",', end="\r\n"),
        b"\xef\xbb\xbf" + _csv("id,name,n", "01,São Paulo,1.0", "02,,0x"),
        _csv("id,n,new", "02, x,NULL", "01,1,", ""),
        _csv("id,n,new", "02, x"),
        _csv("id,name"),
        b"",
        _csv("id,ID,", "1,2,3", "2,,"),
        _csv("id,id", "1,2"),
        name="data.csv",
    )


TROUBLES["times_in_one_second"] = (
    lambda: replace(
        History.of(*([{"id": n}] for n in range(6))), times=[START] * 3 + [START + timedelta(hours=1)] * 3
    ),
    ("id",),
)


def random_walk(seed: int, versions: int) -> History:
    """Rows that come, go, change and repeat, in columns that come, go and change their types."""
    rnd = random.Random(seed)
    values: list[Callable[[], Any]] = [
        lambda: None, lambda: rnd.randrange(5), lambda: rnd.choice([0.5, 1.0, 2**53 + 1.0]), lambda: rnd.choice("xyz"),
        lambda: rnd.choice([True, False]), lambda: [rnd.randrange(3)] * rnd.randrange(3), lambda: {"a": rnd.randrange(2)},
        lambda: {rnd.choice("abc"): rnd.choice([None, 1, "x"])}, lambda: 2 ** rnd.randrange(70) + 1,
    ]  # fmt: skip
    found: list[Rows | bytes] = []
    rows: dict[int, dict[str, Any]] = {}
    for _ in range(versions):
        if rnd.random() < 0.05:
            found.append(b"")
            continue
        usual = values if rnd.random() < 0.1 else values[1:4]
        for key in rnd.sample(range(12), rnd.randrange(4)):
            if key in rows and rnd.random() < 0.4:
                del rows[key]
            else:
                rows[key] = {"id": key} | {
                    c: rnd.choice(usual)() for c in rnd.sample("uvwxyz", rnd.randrange(5))
                }
        found.append(list(rows.values()) + ([{"id": 3, "u": "twice"}] if rnd.random() < 0.05 else []))
    return History.of(*found)
