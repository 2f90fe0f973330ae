"""`lakehouse query`, and the catalog file that any DuckDB client reads, without and within lakehouse."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from command import Done, program, run
from grown import grow
from troubles import TROUBLES

from lakehouse import Lake, compaction

SKUS = "select string_agg(sku, '' order by sku) as skus from shop.products"


def ask(lake: Path, *args: object, **how: Any) -> Done:
    return run("query", "--lake", lake, *args, **how)


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """All files of a folder, with size and time of change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            about = path.stat()
            found[str(path)] = (about.st_size, about.st_mtime_ns)
    return found


# --- Where the SQL comes from, where the result goes --------------------------------------------


def test_sql_comes_from_the_argument_a_file_or_stdin(three_loads: Path, tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text(f"-- which\n{SKUS};\n-- end\n")
    asked = [
        ask(three_loads, "--format", "jsonl", SKUS),
        ask(three_loads, "--format", "jsonl", f"{SKUS} ;"),
        ask(three_loads, "--format", "jsonl", "-f", tmp_path / "q.sql"),
        ask(three_loads, "--format", "jsonl", "-f", "-", stdin=SKUS),
        ask(three_loads, "--format", "jsonl", "-", stdin=SKUS),
        ask(three_loads, "--format", "jsonl", stdin=SKUS),
        run("--lake", three_loads, "query", "--format", "jsonl", SKUS),
    ]
    assert [done.ok().jsonl for done in asked] == [[{"skus": "c"}]] * len(asked)


def test_no_sql_is_an_error(three_loads: Path) -> None:
    ask(three_loads).failed(2, "0 statements")
    ask(three_loads, "").failed(2)
    ask(three_loads, "-f", "/nowhere.sql").failed(2, "No such file")


@pytest.mark.parametrize("format_", ["table", "csv", "json", "jsonl", "parquet"])
def test_output_goes_to_a_file_of_that_kind(format_: str, three_loads: Path, tmp_path: Path) -> None:
    output = tmp_path / f"out.{format_}"
    sql = "select sku, price from shop.products_at(2) order by sku"
    done = ask(three_loads, "-o", output, "--format", format_, sql).ok()
    assert done.out == ""
    assert list(tmp_path.iterdir()) == [output]
    if format_ == "parquet":
        assert pq.read_table(output).to_pylist() == [{"sku": "a", "price": 2.0}, {"sku": "c", "price": 9.0}]
    else:
        assert output.read_text() == ask(three_loads, "--format", format_, sql).ok().out


def test_the_ending_of_the_file_says_the_format(three_loads: Path, tmp_path: Path) -> None:
    ask(three_loads, "-o", tmp_path / "out.JSON", SKUS).ok()
    assert json.loads((tmp_path / "out.JSON").read_text()) == [{"skus": "c"}]
    ask(three_loads, "-o", tmp_path / "out.xls", SKUS).failed(2, "no format for this ending")
    ask(three_loads, "--format", "parquet", SKUS).failed(2, "Parquet goes to a file")
    ask(three_loads, "-o", tmp_path / "no" / "out.csv", SKUS).failed(2, "out.csv")
    ask(three_loads, "-o", tmp_path, SKUS).failed(2, "directory")


def test_a_query_that_fails_leaves_the_file_of_before(three_loads: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    output.write_text("before")
    ask(three_loads, "-o", output, "select error('no') from shop.products").failed(2)
    assert output.read_text() == "before"
    assert list(tmp_path.iterdir()) == [output]


def test_a_reader_that_goes_away_is_no_error(three_loads: Path) -> None:
    command = [Path(sys.executable).with_name("lakehouse"), "--lake", three_loads, "query", "--format", "csv"]
    asked = subprocess.Popen(
        [*command, "from range(10000000)"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert asked.stdout
    assert asked.stderr
    assert asked.stdout.readline() == b"range\n"
    asked.stdout.close()
    assert asked.stderr.read() == b""
    asked.stderr.close()
    assert asked.wait() in {1, 141}


# --- Values -------------------------------------------------------------------------------------

VALUES = """
    select * from (values
        (1, NULL::VARCHAR, 'NaN'::DOUBLE, 'inf'::FLOAT, [1, NULL], {'a': 'x', 'b': ['inf'::DOUBLE, 1.5]},
         '{"k": [1, null, "NaN"]}'::JSON, '\\xAA\\x00'::BLOB, 1.50::DECIMAL(9, 2),
         12345678901234567890123456.789::DECIMAL(38, 3), true, DATE '2026-03-01',
         TIMESTAMP '2026-03-01 10:00:00.5', TIMESTAMPTZ '2026-03-01 10:00:00+02', 18446744073709551615::UBIGINT,
         MAP {'m': 1}, 'say "hi", or NaN' || chr(10) || 'Infinity'),
        (2, '', 1e300, -0.5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'é,''🔥')
    ) as v(n, "null", nan, inf, list, struct, json, blob, dec, big, bool, day, ts, tz, u, map, text)
"""


def test_json_has_values_of_its_own_types(three_loads: Path) -> None:
    done = ask(three_loads, "--format", "json", VALUES).ok()
    first, second = done.json
    assert first == {
        "n": 1, "null": None, "nan": None, "inf": None, "list": [1, None], "struct": {"a": "x", "b": [None, 1.5]},
        "json": {"k": [1, None, "NaN"]}, "blob": "\\xAA\\x00", "dec": 1.5, "big": 12345678901234567890123456.789,
        "bool": True, "day": "2026-03-01", "ts": "2026-03-01 10:00:00.5", "tz": "2026-03-01T08:00:00.000000Z",
        "u": 18446744073709551615, "map": {"m": 1}, "text": 'say "hi", or NaN\nInfinity',
    }  # fmt: skip
    assert second["null"] == ""
    assert second["text"] == "é,'🔥"
    assert "12345678901234567890123456.789" in done.out
    assert ask(three_loads, "--format", "jsonl", VALUES).jsonl == [first, second]


def test_csv_tells_null_from_nothing_and_keeps_nested_values_as_json(three_loads: Path) -> None:
    out = ask(three_loads, "--format", "csv", VALUES).ok().out
    first, second = csv.DictReader(io.StringIO(out, newline=""))
    assert first == {
        "n": "1", "null": "", "nan": "nan", "inf": "inf", "list": "[1,null]", "struct": '{"a":"x","b":[Infinity,1.5]}',
        "json": '{"k": [1, null, "NaN"]}', "blob": "\\xAA\\x00", "dec": "1.50", "big": "12345678901234567890123456.789",
        "bool": "true", "day": "2026-03-01", "ts": "2026-03-01 10:00:00.5", "tz": "2026-03-01T08:00:00.000000Z",
        "u": "18446744073709551615", "map": '{"m":1}', "text": 'say "hi", or NaN\nInfinity',
    }  # fmt: skip
    assert second["text"] == "é,'🔥"
    lines = out.split("\n")
    assert lines[1].startswith("1,,nan,")  # NULL
    assert '\n2,"",' in out  # an empty text
    assert ask(three_loads, "--format", "csv", "select NULL as a union all select 'x'").out == 'a\n""\nx\n'


def test_parquet_keeps_types(three_loads: Path, tmp_path: Path) -> None:
    ask(three_loads, "-o", tmp_path / "v.parquet", VALUES).ok()
    table = pq.read_table(tmp_path / "v.parquet")
    assert str(table.schema.field("dec").type) == "decimal128(9, 2)"
    assert str(table.schema.field("tz").type) == "timestamp[us, tz=UTC]"
    assert table["struct"][0].as_py() == {"a": "x", "b": [float("inf"), 1.5]}
    assert table["blob"][0].as_py() == b"\xaa\x00"


def test_a_table_is_drawn(three_loads: Path) -> None:
    drawn = ask(three_loads, VALUES).ok().out
    assert "┌" in drawn
    assert "NULL" in drawn


def test_columns_of_one_name_all_show(three_loads: Path) -> None:
    assert ask(three_loads, "--format", "csv", "select 1 as a, 2 as a").ok().out == "a,a\n1,2\n"
    assert ask(three_loads, "--format", "jsonl", "select 1 as a, 2 as a").ok().out.count("a") == 2


@pytest.mark.parametrize(
    ("format_", "want"),
    [("csv", "sku,price\n"), ("json", "[]\n"), ("jsonl", ""), ("parquet", None), ("table", None)],
)
def test_no_rows_are_a_result_too(format_: str, want: str | None, three_loads: Path, tmp_path: Path) -> None:
    sql = "select sku, price from shop.products where sku = 'none'"
    if format_ == "parquet":
        ask(three_loads, "-o", tmp_path / "o.parquet", sql).ok()
        assert pq.read_table(tmp_path / "o.parquet").column_names == ["sku", "price"]
        return
    done = ask(three_loads, "--format", format_, sql).ok()
    assert want is None or done.out == want


def test_an_empty_lake_answers(tmp_path: Path) -> None:
    Lake.create(tmp_path / "lake")
    assert ask(tmp_path / "lake", "--format", "jsonl", "select count(*) as n from lakehouse.loads").jsonl == [
        {"n": 0}
    ]
    ask(tmp_path / "lake", "select * from shop.products").failed(2, "lakehouse tables")
    assert run("tables", "--json", "--lake", tmp_path / "lake").json == []
    assert run("log", "--json", "--lake", tmp_path / "lake").json == []
    assert run("verify", "--json", "--lake", tmp_path / "lake").json["ok"]


def test_a_table_of_which_nothing_but_empty_snapshots_was_seen(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "2021-01-01.json").write_text("[]")
    lake = tmp_path / "lake"
    for _ in range(2):
        for key in ([], ["--key", "id"]):
            name = "keyed" if key else "whole"
            run(
                "import", "files", tmp_path / "v", "--source", name, "--table", "t", *key, "--lake", lake
            ).ok()
        (tmp_path / "v" / "2021-01-02.json").write_text("[]")
    for table in ("keyed.t", "whole.t"):
        assert ask(lake, "--format", "jsonl", f"select count(*) as n from {table}").ok().jsonl == [{"n": 0}]
        assert ask(lake, "--format", "jsonl", f"select count(*) as n from {table}_at(1)").ok().jsonl == [
            {"n": 0}
        ]


# --- As of --------------------------------------------------------------------------------------

MOMENTS = {
    "0": None,
    "1": "ab",
    "2": "ac",
    "3": "c",
    "2026-02-28": None,
    "2026-03-01": None,
    "2026-03-02": "ab",
    "2026-03-01T12:00:00Z": "ab",
    "2026-03-01T11:59:59.999999Z": None,
    "2026-03-02 11:59:59.999999": "ab",
    "2026-03-02 12:00": "ac",
    "2026-03-02T13:00:00+01:00": "ac",
    "2026-03-02T12:59:59+01:00": "ab",
    "2026-03-02 07:00:00-05": "ac",
    "2026-03-03T12:00:00.000000+00:00": "c",
    "9999-12-31": "c",
    "0001-01-01": None,
}


@pytest.mark.parametrize("when", MOMENTS)
def test_as_of_turns_the_whole_query(when: str, three_loads: Path) -> None:
    assert ask(three_loads, "--as-of", when, "--format", "jsonl", SKUS).ok().jsonl == [
        {"skus": MOMENTS[when]}
    ]


@pytest.mark.parametrize(
    "when", ["yesterday", "", "1.5", "-1", "1e3", "2026-13-01", "infinity", "run-1", "2026-03-32", "0x1"]
)
def test_as_of_of_anything_else_is_an_error(when: str, three_loads: Path) -> None:
    done = ask(three_loads, f"--as-of={when}", SKUS).failed(2, f"as of {when}", "neither an instant")
    assert done.out == ""


def test_as_of_a_load_that_is_not_there_yet_is_an_error(three_loads: Path) -> None:
    assert ask(three_loads, "--as-of", "4", SKUS).failed(2, "as of load 4", "ends at 3").out == ""


def test_the_macro_refuses_a_load_that_its_log_does_not_have(three_loads: Path) -> None:
    for moment in ("4", "'4'", "99999999999999999999"):
        sql = SKUS.replace("shop.products", f"shop.products_at({moment})")
        ask(three_loads, sql).failed(2, f"as of load {moment.strip(chr(39))}", "shop ends at load 3")
        ask(three_loads, "--as-of", "1", sql).failed(2, "shop ends at load 3")


def test_as_of_a_load_that_one_log_has_means_all_of_the_shorter_ones(three_loads: Path) -> None:
    sql = f"{SKUS} cross join news.items"
    assert ask(three_loads, "--as-of", "3", "--format", "jsonl", sql).ok().jsonl == [{"skus": "c"}]


@pytest.mark.parametrize(
    ("moment", "want"),
    [
        ("2", "ac"), ("'2'", "ac"), ("DATE '2026-03-02'", "ab"), ("TIMESTAMP '2026-03-02 12:00:00'", "ac"),
        ("TIMESTAMPTZ '2026-03-02 12:00:00+00'", "ac"), ("TIMESTAMPTZ '2026-03-02 12:00:00+01'", "ab"),
        ("'2026-03-02T13:00:00+01:00'", "ac"), ("now()", "c"), ("current_date", "c"), ("now() - interval 10 minute", "c"),
        ("NULL", "c"), ("TIMESTAMP_NS '2026-03-02 12:00:00.000000001'", "ac"), ("2::UTINYINT", "ac"),
        ("(select max(effective_at) - interval 1 day from lakehouse.loads)", "ac"),
        ("TIMESTAMP_S '2026-03-02 12:00:00'", "ac"),
    ],
)  # fmt: skip
def test_the_macro_takes_every_kind_of_moment(moment: str, want: str, three_loads: Path) -> None:
    sql = SKUS.replace("shop.products", f"shop.products_at({moment})")
    assert ask(three_loads, "--format", "jsonl", sql).ok().jsonl == [{"skus": want}]
    assert ask(three_loads, "--format", "jsonl", "--as-of", "1", sql).ok().jsonl == [{"skus": want}]


def test_two_moments_in_one_query(three_loads: Path) -> None:
    sql = """select sku, a.price as old, b.price as new from shop.products_at(1) a
             full join shop.products_at(DATE '2026-03-03') b using (sku) order by sku"""
    assert ask(three_loads, "--format", "csv", sql).ok().out == "sku,old,new\na,1.5,2.0\nb,,\nc,,9.0\n"


def test_the_zone_of_the_client_does_not_matter(three_loads: Path) -> None:
    sql = "select max(effective_at) as t, (select count(*) from shop.products_at(TIMESTAMP '2026-03-02 12:00:00')) as n"
    asked = f"{sql} from lakehouse.loads where source = 'shop'"
    answers = {
        program(
            "--lake", three_loads, "query", "--format", "csv", "--as-of", "2026-03-02 12:00", asked, TZ=zone
        )
        .ok()
        .out
        for zone in ("UTC", "Asia/Tokyo", "America/New_York")
    }
    assert answers == {"t,n\n2026-03-03T12:00:00.000000Z,2\n"}


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_the_zone_of_a_plain_client_does_not_matter(zone: str, three_loads: Path) -> None:
    ask(three_loads, SKUS).ok()
    with duckdb.connect(str(three_loads.with_name("lakehouse.duckdb")), read_only=True) as plain:
        plain.execute(f"SET TimeZone = '{zone}'")
        for moment in (
            "TIMESTAMPTZ '2026-03-02 12:00:00+00'",
            "TIMESTAMP '2026-03-02 12:00:00'",
            "'2026-03-02 12:00'",
        ):
            sql = SKUS.replace("shop.products", f"shop.products_at({moment})")
            assert plain.execute(sql).fetchall() == [("ac",)]
            before = sql.replace("12:00", "11:59")
            assert plain.execute(before).fetchall() == [("ab",)]


# --- Read-only ----------------------------------------------------------------------------------

HIDDEN = duckdb.sql(
    "SELECT json_serialize_sql('with x as (copy (select 1 a) to ''{lake}/evil.csv'') from x')"
).fetchall()[0][0].replace("{", "{{").replace("}", "}}").replace("{{lake}}", "{lake}")  # fmt: skip

FORBIDDEN = [
    "copy (select 1) to '{lake}/evil.csv'", "copy (select 1) to '{out}/evil.csv'", "attach '{out}/evil.duckdb' as e",
    "attach '{lake}/evil.duckdb' as e", "install httpfs", "load httpfs", "set memory_limit = '1GB'", "reset memory_limit",
    "set variable x = 1", "select 1; select 2", "select 1; copy (select 1) to '{out}/evil.csv'", "pragma database_list",
    "create table t as select 1", "create table memory.t as select 1", "create temp table t as select 1",
    "drop view shop.products", "delete from lakehouse.loads", "insert into lakehouse.loads select * from lakehouse.loads",
    "update lakehouse.about set value = ''", "export database '{out}/evil'", "export database '{lake}/evil'",
    "import database '{out}'", "vacuum", "checkpoint", "begin", "use memory", "detach lakehouse", "call pragma_version()",
    "prepare p as select 1", "execute p", "create macro m() as 1", "create view v as select 1",
    "create secret (type s3, key_id 'a', secret 'b')", "copy (pivot shop.products on sku using count(*)) to '{lake}/evil.csv'",
    "/* select */ copy (pivot shop.products on sku using count(*)) to '{lake}/evil.csv'",
    "explain analyze copy (select 1) to '{lake}/evil.csv'", "explain (analyze) copy (select 1) to '{lake}/evil.csv'",
    "explain /* */ analyze copy (select 1) to '{lake}/evil.csv'", "explain analyze create table memory.t as select 1",
    "explain analyze attach '{lake}/evil.duckdb'", "explain analyze explain analyze copy (select 1) to '{lake}/e.csv'",
    "create table memory.t as pivot shop.products on sku using count(*)",
    "create view memory.v as pivot shop.products on sku using count(*)",
    "insert into lakehouse.about pivot shop.products on sku using count(*)",
    "from read_csv('/etc/passwd')", "from '/etc/passwd'", "from read_text('/etc/passwd')", "from read_blob('/etc/passwd')",
    "from glob('/etc/*')", "from read_text('file:///etc/passwd')", "from read_text('file:/etc/passwd')",
    "from read_text('{lake}/../../../../../../../../etc/passwd')", "from read_text('{lake}/./.././secret.txt')",
    "from read_text('{out}/secret.txt')", "from read_text('{lake}-not/secret.txt')", "from read_parquet('s3://b/k')",
    "from read_parquet('https://example.org/x.parquet')", "from sniff_csv('/etc/passwd')", "from parquet_metadata('/etc/passwd')",
    "from read_duckdb('{out}/x.duckdb')", "from read_json('/proc/self/environ')", "from read_text('/dev/stdin')",
    # DuckDB takes these for SELECTs, and they would write.
    "with x as (copy (select 1) to '{lake}/evil.csv') from x", "WITH x AS(COPY(SELECT 1) TO '{lake}/evil.csv') VALUES (1)",
    "with x as materialized (copy shop.products to '{lake}/evil.csv') from x",
    "with x as (copy (select 1) to '{lake}/shop' (format parquet, partition_by (a), overwrite)) from x",
    "with x as (copy (select 'garbage') to '{lake}/shop/_log/00000000000000000001.jsonl' (format csv)) from x",
    "with x as (copy (select 'garbage') to '{lake}/lake.json' (format csv)) from x",
    "with x as (copy (from shop.products) to '{lake}/evil.csv') (from x)",
    "(with x as (copy (from shop.products) to '{lake}/evil.csv') from x)",
    "select (with x as (copy (select 1 a) to '{lake}/evil.csv') select a from x)",
    "with x as (delete from lakehouse.loads returning *) from x", "with x as (update lakehouse.about set value = '') from x",
    "with x as (insert into lakehouse.loads select * from lakehouse.loads returning *) from x",
    "with x as (with y as (select 1) insert into lakehouse.loads from y) from x",
    "with x as (copy (select 1) to '{lake}/evil.csv') pivot shop.products on sku using count(*)",
    "with x as ( /* */ copy (select 1) to '{lake}/evil.csv') pivot shop.products on sku using count(*)",
    "with x as (-- )\n copy (select 1) to '{lake}/evil.csv') pivot shop.products on sku using count(*)",
    "with x as (\u00a0COPY\u3000(select 1) to '{lake}/evil.csv') pivot shop.products on sku using count(*)",
    "from (with x as (copy (select 1) to '{lake}/evil.csv') pivot shop.products on sku using count(*))",
    "explain analyze with x as (copy (select 1) to '{lake}/evil.csv') from x",
    "explain with x as (copy (select 1) to '{lake}/evil.csv') from x",
    "describe with x as (copy (select 1) to '{lake}/evil.csv') from x",
    f"from json_execute_serialized_sql('{HIDDEN}')", f"from system.main.\"JSON_EXECUTE_serialized_sql\"('{HIDDEN}')",
    f"pivot (from json_execute_serialized_sql('{HIDDEN}')) on 1 using count(*)",
    f"from query($$from json_execute_serialized_sql('{HIDDEN}')$$)",
    "from query('sel' || 'ect 1')", "from query()", "from query('select 1', 'select 2')",
    "from query('with x as (copy (select 1) to ''{lake}/evil.csv'') from x')",
    f"pivot (from \"query\" ($$from json_execute_serialized_sql('{HIDDEN}')$$)) on 1 using count(*)",
    "select getenv('HOME')", "from query('copy (select 1) to ''{lake}/evil.csv''')", "from session", "from sql", "from relation",
]  # fmt: skip


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with secrets around it."""
    root = tmp_path_factory.mktemp("guarded")
    lake = grow(root / "lake")
    (root / "secret.txt").write_text("secret")
    (root / "lake-not").mkdir()
    (root / "lake-not" / "secret.txt").write_text("secret")
    ask(lake, SKUS).ok()
    return lake


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_whatever_is_no_query_of_the_lake_is_refused(sql: str, guarded: Path) -> None:
    before = files(guarded.parent)
    done = ask(guarded, "--format", "jsonl", sql.format(lake=guarded, out=guarded.parent))
    assert done.code in {2, 4}, done
    assert "error: " in done.err
    assert "Traceback" not in done.err
    assert "secret" not in done.out
    assert "root:" not in done.out
    assert files(guarded.parent) == before


@pytest.mark.parametrize(
    "sql",
    [
        "from shop.products", "with p as (from shop.products) select count(*) from p", "table shop.products", "values (1)",
        "(select 1)", "describe shop.products", "summarize shop.products", "show tables", "show all tables",
        "pivot shop.products on sku using count(*)", "unpivot (select 1 as a, 2 as b) on a, b",
        "from shop.products pivot (count(*) for sku in ('a', 'c'))", "explain from shop.products",
        "explain analyze select 1", "explain pivot shop.products on sku using count(*)", "select 1 -- end", "select ';'",
        "from lakehouse.tables", "from lakehouse.files", "from lakehouse.columns", "from lakehouse.table_loads",
        "select * from query('select 1')", "from query($$ from query('select 2') $$)",
        "from shop.products select sku limit 1", "select copy, query from (select 1 as copy, 2 as query)",
        "with q as (select 'insert' as update) pivot q on update in ('(copy', ') delete') using count(\"update\")", "\n\n  select 1;\n",
        "with recursive t(n) as (select 1 union all select n + 1 from t where n < 5) select * from t",
    ],
)  # fmt: skip
def test_every_kind_of_query_runs(sql: str, three_loads: Path) -> None:
    ask(three_loads, sql).ok()
    if "explain" in sql:
        ask(three_loads, "--format", "csv", sql).failed(2, "EXPLAIN")
        return
    for format_ in ("csv", "json"):
        ask(three_loads, "--format", format_, sql).ok()


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("selec 1", "syntax error"), ("select nope from shop.products", "nope"), ("from shop.nope", "nope"),
        ("from nope.products", "nope"), ("select 1/", "syntax error"), ("select 'a'::int", "Could not convert"),
        ("select error('mine')", "mine"), ("select nope(1)", "nope"), ("from shop.products_at()", "products_at"),
        ("from shop.products_at(1, 2)", "products_at"), ("select 9223372036854775807 + 1", "verflow"),
        ("from shop.products_at([1])", "neither an instant"), ("from shop.products_at(true)", "neither an instant"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_wrong_sql_is_a_clear_error(sql: str, word: str, format_: str, three_loads: Path) -> None:
    ask(three_loads, "--format", format_, sql).failed(2, word)


# --- Damage -------------------------------------------------------------------------------------


def test_a_broken_source_stands_beside_a_good_one(own_lake: Path) -> None:
    log = sorted((own_lake / "shop" / "_log").iterdir())[1]
    log.write_bytes(log.read_bytes()[:-20])
    good = ask(own_lake, "--format", "jsonl", "select count(*) as n from news.items").ok()
    assert good.jsonl == [{"n": 1}]
    assert "warning: " in good.err
    assert log.name in good.err
    bad = ask(own_lake, SKUS)
    assert bad.code == 4
    assert log.name in bad.err
    assert "Traceback" not in bad.err
    run("verify", "--lake", own_lake)
    assert run("log", "--lake", own_lake).ok().err.startswith("warning: ")
    assert run("log", "shop", "--lake", own_lake).code == 4


def test_a_missing_part_is_named(own_lake: Path) -> None:
    ask(own_lake, SKUS).ok()
    for part in (own_lake / "shop" / "products").rglob("*.parquet"):
        part.unlink()
    for format_ in ("table", "csv", "json"):
        ask(own_lake, "--format", format_, SKUS).failed(4, ".parquet", "lakehouse verify")
    assert ask(own_lake, "--format", "jsonl", "select count(*) as n from news.items").jsonl == [{"n": 1}]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_part_is_no_traceback(damage: str, own_lake: Path) -> None:
    part = max((own_lake / "shop" / "products").rglob("*.parquet"))
    raw = bytearray(part.read_bytes())
    raw[-20] ^= 255
    part.write_bytes({"flip": bytes(raw), "cut": bytes(raw[:50]), "empty": b""}[damage])
    for _ in range(2):
        done = ask(own_lake, "--format", "csv", SKUS)
        assert done.code == 4, done.err
        assert "lakehouse verify" in done.err
        assert "Traceback" not in done.err
        good = ask(own_lake, "--format", "jsonl", "select count(*) as n from news.items").ok()
        assert good.jsonl == [{"n": 1}]
    report = run("verify", "--json", "--lake", own_lake)
    assert report.code == 4
    assert part.name in report.json["errors"][0]["message"]


def test_a_damaged_part_behind_a_catalog_that_is_there_is_no_traceback(own_lake: Path) -> None:
    ask(own_lake, SKUS).ok()
    for part in (own_lake / "shop" / "products").rglob("*.parquet"):
        raw = bytearray(part.read_bytes())
        raw[20:200] = bytes(180)
        part.write_bytes(raw)
    for format_ in ("table", "csv", "json"):
        ask(own_lake, "--format", format_, "from shop.products").failed(4, "lakehouse verify")


def _catalog(lake: Path) -> Path:
    return lake.with_name("lakehouse.duckdb")


def test_a_deleted_catalog_is_written_anew(own_lake: Path) -> None:
    for _ in range(2):
        assert ask(own_lake, "--format", "jsonl", SKUS).ok().jsonl == [{"skus": "c"}]
        _catalog(own_lake).unlink()


@pytest.mark.parametrize("garbage", [b"", b"not a database", b"\x00" * 20_000, None])
def test_a_catalog_that_is_none_is_written_anew(garbage: bytes | None, own_lake: Path) -> None:
    if garbage is None:  # cut off
        ask(own_lake, SKUS).ok()
        garbage = _catalog(own_lake).read_bytes()[:20_000]
    _catalog(own_lake).write_bytes(garbage)
    assert ask(own_lake, "--format", "jsonl", SKUS).ok().jsonl == [{"skus": "c"}]


def test_a_write_ahead_log_that_a_client_left_does_no_harm(own_lake: Path) -> None:
    ask(own_lake, SKUS).ok()
    Path(f"{_catalog(own_lake)}.wal").write_bytes(b"garbage")
    assert ask(own_lake, "--format", "jsonl", SKUS).ok().jsonl == [{"skus": "c"}]


def test_the_catalog_of_another_lake_is_not_used(own_lake: Path, tmp_path: Path) -> None:
    other = Lake.create(tmp_path / "other" / "lake")
    with other.load("shop") as load:
        load.write("products", [{"sku": "other"}], disposition="append")
    ask(tmp_path / "other" / "lake", SKUS).ok()
    shutil.copy(_catalog(tmp_path / "other" / "lake"), _catalog(own_lake))
    assert ask(own_lake, "--format", "jsonl", SKUS).ok().jsonl == [{"skus": "c"}]


HOLD = """
import sys, duckdb
held = duckdb.connect(sys.argv[1])
held.execute("create table if not exists main.mine as select 1")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(own_lake: Path) -> Iterator[Path]:
    """A lake whose catalog another program has open for writing."""
    ask(own_lake, SKUS).ok()
    command = [sys.executable, "-c", HOLD, _catalog(own_lake)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    yield own_lake
    holder.stdin.close()
    holder.wait()
    holder.stdout.close()


def test_a_catalog_that_another_client_holds_does_not_stop_a_query(held: Path) -> None:
    for _ in range(2):
        assert ask(held, "--format", "jsonl", SKUS).ok().jsonl == [{"skus": "c"}]
    with Lake.open(held).load("shop") as load:
        load.write("products", [{"sku": "d"}], disposition="replace", primary_key=["sku"])
    assert ask(held, "--format", "jsonl", SKUS).ok().jsonl == [{"skus": "d"}]
    run("refresh", "--lake", held).ok()
    run("doctor", "--lake", held)


def test_new_loads_are_seen_at_once(own_lake: Path) -> None:
    ask(own_lake, SKUS).ok()
    for sku in "xyz":
        with Lake.open(own_lake).load("shop") as load:
            load.write("products", [{"sku": sku}], disposition="replace", primary_key=["sku"])
        assert ask(own_lake, "--format", "jsonl", SKUS).ok().jsonl == [{"skus": sku}]


def test_a_moved_lake_answers(own_lake: Path, tmp_path: Path) -> None:
    ask(own_lake, SKUS).ok()
    moved = tmp_path / "else where's" / "lake"
    shutil.move(own_lake.parent, moved.parent)
    assert ask(moved, "--format", "jsonl", SKUS).ok().jsonl == [{"skus": "c"}]
    assert duckdb.connect(str(_catalog(moved)), read_only=True).execute(SKUS).fetchall() == [("c",)]


def test_a_catalog_that_cannot_be_written_does_not_stop_a_query(own_lake: Path) -> None:
    _catalog(own_lake).mkdir()  # as good as a folder that is read-only, and root is stopped by it too
    assert ask(own_lake, "--format", "jsonl", SKUS).ok().jsonl == [{"skus": "c"}]
    assert ask(own_lake, "--format", "jsonl", "--as-of", "1", SKUS).ok().jsonl == [{"skus": "ab"}]
    assert [path.name for path in own_lake.parent.iterdir() if path.name.startswith(".")] == []
    run("refresh", "--lake", own_lake).failed(6, "lakehouse.duckdb")


# --- Other clients ------------------------------------------------------------------------------

PLAIN = """
import json, sys
import duckdb

catalog, asks = sys.argv[1], json.loads(sys.argv[2])
found = []
for before, sql in asks:
    with duckdb.connect() as client:
        client.execute("ATTACH '" + catalog.replace("'", "''") + "' AS other (READ_ONLY)")
        client.execute("USE other")
        if before:
            client.execute(before)
        found.append([list(row) for row in client.execute(sql).fetchall()])
with duckdb.connect(catalog, read_only=True) as client:
    found.append([list(row) for row in client.execute(asks[0][1]).fetchall()])
assert "lakehouse" not in sys.modules and "ingest" not in sys.modules
print(json.dumps(found, default=str))
"""

ASKS = [
    ("", SKUS),
    ("", SKUS.replace("products", "products_at(2)")),
    ("", SKUS.replace("products", "products_at('2026-03-02T13:00:00+01:00')")),
    ("", SKUS.replace("products", "products_at(DATE '2026-03-02')")),
    ("", SKUS.replace("products", "products_at(TIMESTAMP '2026-03-02 12:00:00')")),
    ("", SKUS.replace("products", "products_at(TIMESTAMPTZ '2026-03-02 12:00:00+00')")),
    ("", SKUS.replace("products", "products_at(now())")),
    ("SET VARIABLE lakehouse_as_of = '2026-03-01T12:00:00Z'", SKUS),
    ("SET VARIABLE lakehouse_as_of = TIMESTAMP '2026-03-02 12:00:00'", SKUS),
    ("SET VARIABLE lakehouse_as_of = 1", f"{SKUS} cross join (select count(*) from news.items)"),
    ("SET VARIABLE lakehouse_as_of = 1", SKUS.replace("products", "products_at(2)")),
    ("", "select count(*) from main.loads where source = 'shop'"),
    ("", 'select string_agg("table", \' \' order by "table") from main.tables'),
    ("", "select sku, size.w, size.h, tags from shop.products_at(2) order by sku"),
]
ANSWERS = [
    [["c"]], [["ac"]], [["ac"]], [["ab"]], [["ac"]], [["ac"]], [["c"]], [["ab"]], [["ac"]], [["ab"]], [["ac"]], [[3]],
    [["items products"]], [["a", 1.0, None, ["x", "y"]], ["c", None, None, []]], [["c"]],
]  # fmt: skip


def plain(catalog: Path, asks: list[tuple[str, str]], libraries: Path | None = None) -> Any:
    """What a client without lakehouse answers, in a process of its own."""
    path = {"PYTHONPATH": str(libraries)} if libraries else {}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, catalog, json.dumps(asks)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | path,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_plain_client_reads_the_catalog(three_loads: Path) -> None:
    ask(three_loads, SKUS).ok()
    assert plain(_catalog(three_loads), ASKS) == ANSWERS


@pytest.fixture(scope="session", params=["1.1.3", "1.3.2"])
def old_duckdb(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a DuckDB of old."""
    if sys.version_info >= (3, 13) and request.param == "1.1.3":
        pytest.skip("there is no DuckDB 1.1.3 for this Python")
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("no uv to install an old DuckDB with")
    into = tmp_path_factory.mktemp(f"duckdb-{request.param}")
    wanted = [
        "--python",
        sys.executable,
        "--target",
        str(into),
        "--only-binary",
        ":all:",
        f"duckdb=={request.param}",
    ]
    done = subprocess.run(
        [uv, "pip", "install", "--quiet", *wanted], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"DuckDB {request.param} cannot be installed here: {done.stderr[-300:]}")
    return into


def test_an_old_client_reads_the_catalog(old_duckdb: Path, three_loads: Path) -> None:
    ask(three_loads, SKUS).ok()
    version = plain(_catalog(three_loads), [("", "select version()")], old_duckdb)
    assert version[0][0][0].startswith("v1.")
    assert plain(_catalog(three_loads), ASKS, old_duckdb) == ANSWERS


@pytest.mark.parametrize(
    "name", ["nested_values_of_changing_shape", "types_that_change", "names_that_sql_does_not_like"]
)
def test_an_old_client_reads_columns_that_changed_their_type(
    name: str, old_duckdb: Path, imported: Callable[..., Path]
) -> None:
    make, key = TROUBLES[name]
    lake = imported(make(), *(option for column in key for option in ("--key", column)))
    asks = [
        (
            "",
            f"select md5(string_agg(row, '' order by row)) from (select to_json(whole)::varchar as row from s.t_at({n}) as whole)",
        )
        for n in range(1, Lake.open(lake).log("s").head + 1)
    ]
    new = plain(_catalog(lake), asks)
    assert len({row[0][0] for row in new}) >= 3
    assert plain(_catalog(lake), asks, old_duckdb) == new


@pytest.mark.parametrize("name", ["nested_values_of_changing_shape", "duplicate_keys_in_conflict"])
def test_an_old_client_reads_versions_with_and_without_a_compaction(
    name: str, old_duckdb: Path, imported: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "EPOCH_LEAST", 1)
    make, key = TROUBLES[name]
    lake = imported(make(), *(option for column in key for option in ("--key", column)))
    views = [
        "s.t",
        "s.t_at(2)",
        "s.t_at('2021-01-01 01:30')",
        "s.t_diff(1, null)",
        "s.t_diff('2021-01-01', 3)",
        "s.t_history",
    ]
    asks = [("", f"select to_json(whole)::varchar as row from {view} as whole order by 1") for view in views]
    now = plain(_catalog(lake), asks)
    assert plain(_catalog(lake), asks, old_duckdb) == now
    assert compaction.compact(Lake.open(lake), "s") == ["t"]
    ask(lake, "select 1").ok()
    assert plain(_catalog(lake), asks) == now
    assert plain(_catalog(lake), asks, old_duckdb) == now


# --- What a query imports -----------------------------------------------------------------------

HEAVY = [
    "dlt",
    "pyarrow",
    "polars",
    "pandas",
    "numpy",
    "prefect",
    "dagster",
    "kedro",
    "gcsfs",
    "fsspec",
    "rich",
    "httpx",
    "ingest",
]


@pytest.mark.parametrize("sql", ["select 1", "from shop.products"])
@pytest.mark.parametrize("format_", ["table", "csv", "json", "jsonl"])
def test_a_query_imports_nothing_heavy(sql: str, format_: str, three_loads: Path) -> None:
    ask(three_loads, SKUS).ok()
    watched = (
        "import sys\nfrom lakehouse.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as done:\n    assert not done.code\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    command = [sys.executable, "-c", watched, "--lake", three_loads, "query", "--format", format_, sql]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_imports_no_command(three_loads: Path) -> None:
    code = (
        "import sys\nfrom lakehouse.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"assert not [name for name in {['duckdb', *HEAVY]!r} if name in sys.modules]\n"
        "assert 'lakehouse.cli.query' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
