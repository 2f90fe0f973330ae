"""SQL over parts: a column that was widened reads every value it ever had, whichever way it took."""

import json
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from lakehouse.core.types import Column, Type, unify
from lakehouse.duck.sql import duck_type, literal, quote, widened
from lakehouse.parquet.arrow import arrow_type, from_duck
from lakehouse.parquet.infer import json_text
from lakehouse.parquet.part import write_part

NOON = datetime(2026, 1, 1, 12, 0, 0, 500)  # noqa: DTZ001 - without a zone on purpose
SCALARS: dict[str, list[Any]] = {
    "bool": [True, False],
    "int8": [-128, 0, 127],
    "int16": [-(2**15), 1],
    "int32": [-(2**31), 1],
    "int64": [-(2**53), 0, 1, 2**53],
    "bigint": [-(2**63), 1, 2**53 + 1, 2**63 - 1],
    "uint8": [0, 255],
    "uint16": [1, 2**16 - 1],
    "uint32": [1, 2**32 - 1],
    "uint64": [1, 2**64 - 1],
    "float32": [0.0, 1.0, 0.5, -2.25, 0.10000000149011612, float("inf")],
    "float64": [-0.0, 1.0, 0.1, 1e16, 1e300, 5e-324, float("-inf"), 2.0**63],
    "decimal(4,2)": [Decimal("1.00"), Decimal("-0.50"), Decimal("99.99")],
    "decimal(20,0)": [Decimal(1), Decimal(2**64 - 1)],
    "decimal(38,30)": [Decimal("1.5"), Decimal("12345678." + "1" * 30)],
    "string": ["", "1", 'é\n"\\/', "a\x1bb", "null"],
    "binary": [b"", b"\x00\xffa"],
    "date": [date(2026, 1, 1), date(1, 1, 1)],
    "time": [time(0), time(1, 2, 3, 4)],
    "timestamp": [datetime(2026, 1, 1), NOON, datetime(1969, 12, 31, 23, 59, 59, 999999)],  # noqa: DTZ001
    "timestamptz": [datetime(2026, 1, 1, tzinfo=UTC), NOON.replace(tzinfo=UTC)],
    "json": ["1", '"a"', '{"a":[1,null]}', "null"],
    "null": [None],
}


def _samples() -> list[tuple[Type, list[Any]]]:
    """Every scalar type; lists and structs of each that may lie inside."""
    out: list[tuple[Type, list[Any]]] = [(kind, [*values, None]) for kind, values in SCALARS.items()]
    for kind, values in SCALARS.items():
        if kind != "json":
            out.append(({"list": kind}, [values, [None], [], None]))
            out.append(({"struct": {"a": kind}}, [*({"a": v} for v in values), {"a": None}, None]))
    out.append(({"struct": {"b": "string", "a": "int8"}}, [{"b": "x", "a": 1}, None]))
    out.append(
        (
            {"list": {"struct": {"a": "int32", "q'": {"list": "float32"}}}},
            [[{"a": 1, "q'": [0.5]}, None], None],
        )
    )
    out.append(({"list": {"list": "int8"}}, [[[1], None, []], None]))
    out.append(({"list": {"list": "float64"}}, [[[0.1], [1.0]], None]))
    return out


SAMPLES = _samples()


def as_read(value: Any, *, have: Type, want: Type) -> Any:
    """What a value has to read as in the wider type."""
    if value is None or have == "null":
        return None
    if want == "json":
        return json.loads(value) if have == "json" else in_json(value, have)
    if isinstance(want, dict):
        assert isinstance(have, dict)
        if "list" in want:
            return [as_read(v, have=have["list"], want=want["list"]) for v in value]
        fields = have["struct"]
        return {
            n: as_read(value.get(n), have=fields.get(n, "null"), want=inner)
            for n, inner in want["struct"].items()
        }
    if want == "timestamp" and have == "date":
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001
    return value


def in_json(value: Any, have: Type) -> Any:
    if isinstance(have, dict) and value is not None:
        if "list" in have:
            return [in_json(v, have["list"]) for v in value]
        shown = {n: in_json(value.get(n), inner) for n, inner in have["struct"].items()}
        return {n: v for n, v in shown.items() if v is not None}
    return None if have == "null" else json.loads(json_text(value), parse_float=Decimal)


def close(value: Any) -> Any:
    """Numbers of JSON text as exact as they were written; a float as its shortest text says."""
    if isinstance(value, float) and math.isfinite(value):
        return Decimal(repr(value))
    if isinstance(value, list):
        return [close(v) for v in value]
    if isinstance(value, dict):
        return {k: close(v) for k, v in value.items()}
    return value


@pytest.fixture
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def read(duck: duckdb.DuckDBPyConnection, file: Path, steps: list[Type]) -> list[Any]:
    """A part's column `x`, widened from each type to the next."""
    sql = f"SELECT n, x FROM read_parquet({literal(str(file))})"
    if steps[0] == "null":
        sql = f"SELECT n FROM read_parquet({literal(str(file))})"
    for have, want in pairwise(steps):
        sql = f"SELECT n, {widened('x', have, want)} AS x FROM ({sql})"
    if steps == ["null"]:
        return []
    found = duck.sql(f"SELECT x FROM ({sql}) ORDER BY n").to_arrow_table()
    return from_duck(found, [Column(name="x", type=steps[-1])])["x"].to_pylist()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Type, list[Any], Path]]:
    """One part for each sample, as a load would write it."""
    folder = tmp_path_factory.mktemp("parts")
    out = []
    for i, (kind, values) in enumerate(SAMPLES):
        arrow = arrow_type(kind)
        array = pa.array(values, arrow.storage_type if kind == "json" else arrow)
        column = pa.ExtensionArray.from_storage(arrow, array) if kind == "json" else array
        file = folder / f"{i}.parquet"
        file.write_bytes(write_part(pa.table({"n": list(range(len(values))), "x": column})).data)
        out.append((kind, values, file))
    return out


def test_every_type_read_as_any_wider_one_keeps_its_values(
    duck: duckdb.DuckDBPyConnection, parts: list[tuple[Type, list[Any], Path]]
) -> None:
    for have, values, file in parts:
        for want in {repr(w): w for w in (unify(have, other) for other, _ in SAMPLES)}.values():
            if want == "null":
                continue
            found = read(duck, file, [have, want])
            if want == "json":
                found = [None if text is None else json.loads(text, parse_float=Decimal) for text in found]
            expected = [as_read(v, have=have, want=want) for v in values]
            assert close(found) == close(expected), (have, want)


def test_the_way_to_a_wider_type_does_not_matter(
    duck: duckdb.DuckDBPyConnection, parts: list[tuple[Type, list[Any], Path]]
) -> None:
    """A key that met floats before it met text is the same key as one that met text at once."""
    for (have, _, file), (other, _) in product(parts, SAMPLES):
        middle = unify(have, other)
        wide = {repr(w): w for w in (unify(middle, third) for third, _ in SAMPLES[:22])}
        for want in wide.values():
            if "null" not in (middle, have) and middle not in (have, want):
                assert read(duck, file, [have, middle, want]) == read(duck, file, [have, want]), (
                    have,
                    middle,
                    want,
                )


def test_json_text_of_a_scalar_is_what_python_writes_for_it(
    duck: duckdb.DuckDBPyConnection, parts: list[tuple[Type, list[Any], Path]]
) -> None:
    for have, values, file in parts:
        if isinstance(have, str) and have not in ("json", "null"):
            expected = [None if v is None else json_text(v) for v in values]
            assert read(duck, file, [have, "json"]) == expected, have


def test_names_and_texts_are_quoted() -> None:
    assert quote('a"b') == '"a""b"'
    assert literal("a'b") == "'a''b'"
    assert duck_type({"struct": {'q"': {"list": "decimal(4,2)"}}}) == 'STRUCT("q""" DECIMAL(4,2)[])'
