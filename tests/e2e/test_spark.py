"""The Spark engine: what it answers is what DuckDB answers, over the same files, at the same positions."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest

pytest.importorskip("pyspark", reason="needs `uv run --group engines`")

from command import run
from spark_constructs import ABOUT, EXPRESSIONS, QUERIES, typed

from lakehouse import Lake
from lakehouse.errors import NotFoundError, QueryError, SetupError, UserError
from lakehouse.models.model import Model, Reference
from lakehouse.models.spark import Spark
from lakehouse.models.spark.session import check_setup

# What Parquet has no type for, or Spark.
STORED = {
    "HUGEINT": "DECIMAL(38,0)", "UTINYINT": "SMALLINT", "USMALLINT": "INTEGER", "UINTEGER": "BIGINT",
    "UBIGINT": "DECIMAL(20,0)", '"NULL"': "INTEGER", "JSON": "VARCHAR",
}  # fmt: skip
Rows = list[tuple[Any, ...]]


def model(sql: str, name: str = "m", *references: Reference) -> Model:
    return Model(name=name, path=f"models/{name}.sql", sql=sql, line=3, references=references)


def plain(value: Any) -> Any:
    """A value that equals itself."""
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def rows_of(answer: duckdb.DuckDBPyConnection) -> tuple[list[tuple[str, str]], Rows]:
    """Names and types of columns, and the rows in an order of their own."""
    columns = [(name, STORED.get(str(kind), str(kind))) for name, kind, *_ in answer.description or []]
    return columns, sorted((tuple(map(plain, row)) for row in answer.fetchall()), key=repr)


def result(files: list[Path]) -> tuple[list[tuple[str, str]], Rows]:
    assert files
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return rows_of(connection.execute("FROM read_parquet(?)", [[str(file) for file in files]]))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with the small table of all types, `s.t`; with `[` in its path, which must be no pattern."""
    made = Lake.create(tmp_path_factory.mktemp("typed") / "a [b] {c}*" / "lake")
    with made.load("s") as load:
        load.write("t", typed(), disposition="replace", primary_key="id")
    return made


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    """Changes to the environment for as long as the module runs."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def spark(
    lake: Lake, tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: pytest.MonkeyPatch
) -> Iterator[Spark]:
    """An engine on it; its SparkSession is the one of the whole module."""
    monkeypatch_module.setenv(
        "JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1"
    )  # code that runs once is not optimised
    with Spark(lake, positions={"s": 1}, folder=tmp_path_factory.mktemp("spark")) as engine:
        engine.table("s", "t")
        yield engine


@pytest.mark.parametrize("group", EXPRESSIONS)
def test_expressions_mean_the_same(group: str, spark: Spark, lake: Lake) -> None:
    mark = "#" if group == "patterns" else "|"
    lines = (line for line in EXPRESSIONS[group].split("\n") if line.strip())
    # `||` is an operator.
    asked = [e.strip().replace("\0", "||") for line in lines for e in line.replace("||", "\0").split(mark)]
    sql = "select id, " + ", ".join(f"{e} as c{at}" for at, e in enumerate(asked)) + " from s.t"
    columns, rows = result(spark.candidate("m", model(sql)))
    expected_columns, expected = rows_of(lake.query(sql))
    rows.sort()
    expected.sort()
    different = {
        e: [(a[at], b[at]) for a, b in zip(rows, expected, strict=True) if a[at] != b[at]]
        for at, e in enumerate(asked, 1)
    }
    assert {e: pairs for e, pairs in different.items() if pairs} == {}
    assert columns == expected_columns


@pytest.mark.parametrize("sql", ABOUT)
def test_floats_agree_but_for_the_last_digits(sql: str, spark: Spark, lake: Lake) -> None:
    columns, rows = result(spark.candidate("m", model(sql)))
    expected_columns, expected = rows_of(lake.query(sql))
    assert columns == expected_columns
    for row, other in zip(rows, expected, strict=True):
        for one, two in zip(row, other, strict=True):
            assert one == (pytest.approx(two, rel=1e-14) if isinstance(two, float) else two)


@pytest.mark.parametrize("sql", QUERIES)
def test_queries_mean_the_same(sql: str, spark: Spark, lake: Lake) -> None:
    assert result(spark.candidate("m", model(sql))) == rows_of(lake.query(sql))


def test_every_letter_has_the_same_case(spark: Spark, lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "letters.parquet"
    with duckdb.connect() as connection:
        codes = "SELECT n::INTEGER AS n FROM range(1, 131072) AS codes(n) WHERE n NOT BETWEEN 55296 AND 57343"
        connection.execute(f"COPY (SELECT n, chr(n) AS c FROM ({codes})) TO '{file}'")
        with Spark(lake, positions={"s": 1}, folder=tmp_path / "out") as engine:
            engine.table_from("s", "letters", [file])
            asked = "lower(c) as l, upper('\u03c3' || c) as u, lower(c || 'Σ') as x, length(trim(c)) as t, regexp_matches(c, '\\s') as r"
            got = result(engine.candidate("m", model(f"select n, {asked} from s.letters")))
        assert got == rows_of(connection.execute(f"SELECT n, {asked} FROM '{file}'"))


def test_models_read_views_and_results_of_models(spark: Spark, lake: Lake) -> None:
    spark.view("positive", model("select id, g, i * 2 as Twice from s.t where i > 0", "positive"))
    spark.candidate(
        "groups", model("select g, sum(twice) as total from models.positive group by g", "groups")
    )
    files = spark.candidate("m", model("select p.id, g.total from positive p join groups g on g.g = p.g"))
    sql = """with p as (select id, g, i * 2 as twice from s.t where i > 0)
        select p.id, g.total from p join (select g, sum(twice) as total from p group by g) g on g.g = p.g"""
    assert result(files) == rows_of(lake.query(sql))


def test_an_empty_result_is_a_file_with_columns(spark: Spark) -> None:
    columns, rows = result(spark.candidate("m", model("select id, s from s.t where id > 100")))
    assert (columns, rows) == ([("id", "BIGINT"), ("s", "VARCHAR")], [])


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select cast(s as int) as v from s.t", "text that DuckDB and Spark may not read alike as INTEGER"),
        ("select try_cast('0x1F' || s as int) as v from s.t", "0x1F"),
        ("select ln(i) as v from s.t", "out of range"),
        ("select i // 0 as v from s.t", "DIVIDE_BY_ZERO"),
        ("select b * 9000000000000000000 as v from s.t", "OVERFLOW"),
    ],
)
def test_a_value_that_the_two_may_read_in_different_ways_stops_the_model(
    sql: str, said: str, spark: Spark
) -> None:
    with pytest.raises(QueryError, match=said) as caught:
        spark.candidate("m", model(sql))
    assert "models/m.sql" in caught.value.message


# Tables as of positions.


def test_every_state_of_a_keyed_table_is_read_from_its_parts(tmp_path: Path, spark: Spark) -> None:
    lake = Lake.create(tmp_path / "lake")
    loads: list[list[dict[str, Any]]] = [
        [{"k": 1, "v": 1}, {"k": 2, "v": 2}, {"k": None, "v": 3}],
        [{"k": 1, "v": 1.5}, {"k": None, "v": 3}],
        [{"k": 1, "v": 1.5}, {"k": 2, "v": 4, "day": "new"}, {"k": 7, "v": None}],
        [],
        [{"k": 9, "v": 9}],
    ]
    for rows in loads:
        with lake.load("s", gates=None) as load:
            load.write("t", rows or [{"k": 0, "v": 0}], disposition="replace", primary_key="k")
            load.write("log", [{"n": len(rows)}], disposition="append")
    with lake.load("s") as load:
        load.write("t", [{"k": 9, "v": 10, "w": 1}], disposition="replace", primary_key=["k", "w"])
    check_states(lake, "s", ["t", "log"], range(1, 7), tmp_path)


def test_a_column_that_turned_text_is_read_too(tmp_path: Path, spark: Spark) -> None:
    lake = Lake.create(tmp_path / "lake")
    for value in (1, "one", {"a": 1}):
        with lake.load("s") as load:
            load.write("t", [{"k": 1, "v": value}], disposition="replace", primary_key="k")
    check_states(lake, "s", ["t"], range(1, 4), tmp_path)


def check_states(lake: Lake, source: str, tables: list[str], seqs: range, folder: Path) -> None:
    for seq in seqs:
        with Spark(lake, positions={source: seq}, folder=folder / str(seq)) as engine:
            for table in tables:
                sql = f"select * from {source}.{table}"
                read = model(sql, table, Reference(source=source, table=table))
                assert result(engine.candidate(table, read)) == rows_of(lake.query(sql, as_of=seq)), (
                    table,
                    seq,
                )


def test_an_input_may_be_given_as_files(tmp_path: Path, spark: Spark, lake: Lake) -> None:
    file = tmp_path / "some.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 5 AS id, 'x' AS g) TO '{file}'")
    with Spark(lake, positions={"s": 1}, folder=tmp_path / "out") as engine:
        engine.table_from("s", "t", [file])
        asked = model("select id, g from s.t", "m", Reference(source="s", table="t"))
        assert result(engine.candidate("m", asked))[1] == [(5, "x")]


def test_an_unknown_table_and_a_python_model_are_refused(tmp_path: Path, spark: Spark, lake: Lake) -> None:
    with Spark(lake, positions={"s": 1}, folder=tmp_path / "out") as engine:
        with pytest.raises(NotFoundError, match="no table 'nope'"):
            engine.table("s", "nope")
        with pytest.raises(UserError, match="written in Python"):
            engine.candidate("m", Model(name="m", path="models/m.py", language="python"))


# The real histories.

FIRES = {
    "joined": """
        select i."UniqueId", i."Name", h.versions, h.first_seen, i."AcresBurned" as acres
        from fires.incidents i
        join (
            select "UniqueId", count(*) as versions, min(valid_from) as first_seen
            from fires.incidents_history group by all
        ) h using ("UniqueId")""",
    "ranked": """
        select "UniqueId", "Name", try_cast(left("Started", 10) as date) as started, "AcresBurned" as acres,
            rank() over (partition by left("Started", 7) order by "AcresBurned" desc) as place,
            sum("AcresBurned"::decimal(18, 2)) over (order by "Started", "UniqueId") as so_far,
            lag("Name") over (order by "Started", "UniqueId") as before
        from fires.incidents""",
    "months": """
        select date_trunc('month', started) as month, count(*) as fires, sum(acres::decimal(18, 2)) as acres,
            arg_max("Name", "UniqueId") as last, max(place) as places,
            string_agg("Name", ', ' order by acres desc, "UniqueId") filter (where place <= 2) as largest
        from ranked group by all""",
}


def check_fires(lake: Lake, folder: Path) -> None:
    head = lake.log("fires").head
    answers = []
    for seq in (head // 2, head - head // 4, head):
        with Spark(lake, positions={"fires": seq}, folder=folder / str(seq)) as engine:
            reads = [Reference(source="fires", table="incidents", form=form) for form in ("", "history")]
            for name, sql in FIRES.items():
                references = reads if name != "months" else [Reference(source="models", table="ranked")]
                got = result(engine.candidate(name, model(sql, name, *references)))
                alone = sql if name != "months" else f"with ranked as ({FIRES['ranked']}) {sql}"
                expected = rows_of(lake.query(alone, as_of=seq))
                assert expected[1]
                assert got == expected, (name, seq)
                answers.append((name, got[1]))
    for name in FIRES:
        assert all(one != two for one, two in pairwise(rows for n, rows in answers if n == name)), name


def test_the_fires_of_the_quick_windows_are_the_same_at_three_moments(
    window_lake: Path, tmp_path: Path, spark: Spark
) -> None:
    check_fires(Lake.open(window_lake), tmp_path)


def test_the_fires_of_june_2023_are_the_same_at_three_moments(
    unpacked: Callable[[str], Path], tmp_path: Path, spark: Spark
) -> None:
    lake = tmp_path / "june" / "lake"
    history = unpacked("ca-fires-june2023")
    options = ("--source", "fires", "--table", "incidents", "--key", "UniqueId")
    run("import", "files", history, *options, "--lake", lake).ok()
    check_fires(Lake.open(lake), tmp_path)


# What has to be there.


def test_without_java_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(SetupError, match="Java 17") as caught:
        check_setup()
    assert "apt-get install openjdk-17-jre-headless" in caught.value.hint
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(SetupError, match=f"there is no {tmp_path}/bin/java"):
        check_setup()
