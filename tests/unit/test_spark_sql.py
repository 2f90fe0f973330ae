"""What of DuckDB's SQL is not handed to Spark, and what it says; no Java is needed here."""

import re

import pytest

from lakehouse.errors import UserError
from lakehouse.models.model import Model
from lakehouse.models.spark.patterns import java_pattern, java_replacement, like
from lakehouse.models.spark.resolve import Tables
from lakehouse.models.spark.translate import translated
from lakehouse.models.spark.trouble import Refusal, refused
from lakehouse.models.spark.twin import Twin

TYPES = {
    "id": "BIGINT", "i": "INTEGER", "x": "DOUBLE", "d": "DECIMAL(10,2)", "s": "VARCHAR", "g": "VARCHAR", "day": "DATE",
    "t": "TIMESTAMP", "o": "BOOLEAN", "l": "BIGINT[]", "r": "STRUCT(a INTEGER)", "clock": "TIME", "j": "JSON",
}  # fmt: skip


def spark_sql(sql: str) -> str:
    twin, tables = Twin(), Tables()
    for name in ("t", "u"):
        tables.add("s", name, twin.table("s", name, TYPES), f"s.{name}")
    try:
        return translated(sql, twin, tables)[0]
    finally:
        twin.close()


def refusal(sql: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        spark_sql(sql)
    return caught.value


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("median(i)", "MEDIAN"),
        ("quantile_cont(x, 0.5)", "QUANTILE_CONT"),
        ("mode(g)", "MODE"),
        ("first(g)", "FIRST"),
        ("any_value(g)", "ANY_VALUE"),
        ("list(g)", "without an order of its own"),
        ("string_agg(g, ',')", "without an order of its own"),
        ("approx_count_distinct(g)", "APPROX"),
        ("product(i)", "PRODUCT"),
        ("count(distinct (i, g))", "COUNT((t.i, t.g))"),
        ("max(r)", "of type STRUCT"),
        ("max(i, 2)", "because of its expressions"),
        ("arg_max(g, i, 2)", "ARG_MAX(t.g, t.i, 2)"),
    ],
)
def test_aggregates_without_a_rule_are_refused(expression: str, said: str) -> None:
    assert said in refusal(f"select {expression} as v from s.t").what


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("random()", "RANDOM"),
        ("now()", "NOW"),
        ("current_date", "CURRENT_DATE"),
        ("hash(s)", "HASH"),
        ("uuid()", "UUID"),
        ("reverse(s)", "REVERSE"),
        ("format('{}', s)", "FORMAT"),
        ("printf('%d', i)", "PRINTF"),
        ("strptime(s, '%Y')", "STRPTIME"),
        ("strftime(t, '%U')", "the format"),
        ("age(t, t)", "AGE"),
        ("t - t", "of type INTERVAL"),
        ("date_sub('month', day, day)", "DATE_SUB"),
        ("date_diff('week', day, day)", "DATE_DIFF"),
        ("interval 1 day", "INTERVAL"),
        ("x::varchar", "a cast of DOUBLE to VARCHAR"),
        ("x || s", "a cast of DOUBLE to VARCHAR"),
        ("t::time", "TIME"),
        ("s::uuid", "UUID"),
        ("s::json", "a cast of VARCHAR to JSON"),
        ("l::varchar", "a cast of BIGINT[] to VARCHAR"),
        ("clock", "the column t.clock, of type TIME"),
        ("j->>'$.a'", "->>"),
        ("json_extract(j, '$.a')", "->"),
        ("i & 1", "&"),
        ("i << 1", "<<"),
        ("s similar to 'a'", "SIMILAR"),
        ("s glob 'a*'", "GLOB"),
        ("s like g", "written out"),
        ("s collate nocase", "COLLATE"),
        ("regexp_matches(s, g)", "written out"),
        ("regexp_matches(s, '\\bfoo')", "\\b"),
        ("regexp_matches(s, '(?i)x')", "(?i)"),
        ("regexp_matches(s, '[[:alpha:]]')", "as a regular expression"),
        ("regexp_matches(s, 'x', 'm')", "flags"),
        ("regexp_extract_all(s, 'x')", "REGEXP_EXTRACT_ALL"),
        ("l[1:2]", "l[1:2]"),
        ("l[-1]", "l"),
        ("s[1]", "s[1]"),
        ("list_sort(l)", "LIST_SORT"),
        ("[k + 1 for k in l]", ""),
        ("l = l", "a comparison of values of type BIGINT[]"),
        ("map([1], [2])", "MAP"),
        ("row(1, 2)", "ROW"),
        ("i in (select i from s.u)", "anywhere but in WHERE"),
        ("i = any (select i from s.u)", "ANY"),
        ("unnest(l) + 1", "inside of an expression"),
        ("columns('i')", "COLUMNS"),
        ("row_number() over ()", "without ORDER BY"),
        ("lag(i) over (partition by g)", "without ORDER BY"),
        ("sum(i) over (order by id range between 1 preceding and current row)", "window frame"),
        ("sum(i) over (order by id groups between 1 preceding and current row)", "window frame of GROUPS"),
        ("count(distinct i) over (order by id)", "DISTINCT"),
    ],
)
def test_expressions_without_a_rule_are_refused(expression: str, said: str) -> None:
    assert said in refusal(f"select id, {expression} as v from s.t").what


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select id from s.t limit 3", "LIMIT without ORDER BY"),
        ("select id from s.t order by id limit 10%", "LIMIT"),
        ("select distinct on (g) g, id from s.t order by g, id", "DISTINCT ON"),
        (
            "with recursive n as (select 1 as n union all select n + 1 from n where n < 3) select * from n",
            "recursive",
        ),
        ("select g, count(*) as n from s.t group by rollup (g)", "rollup"),
        ("select g, i, count(*) as n from s.t group by grouping sets ((g), (i))", "grouping sets"),
        ("select * from s.t pivot (count(*) for g in ('a'))", "PIVOT"),
        ("select a.id from s.t a asof join s.u b on a.id >= b.id", "ASOF join"),
        ("select a.id from s.t a positional join s.u b", "POSITIONAL"),
        ("select a.id from s.t a, lateral (select a.i) b", "LATERAL"),
        ("select id from s.t natural join s.u", "NATURAL"),
        ("select id from s.t using sample 10%", "SAMPLE"),
        ("select id from s.t union by name select id from s.u", "by name"),
        ("select id, k from s.t, unnest(l) as k(k)", "UNNEST"),
        ("select * from range(3)", "range"),
        ("select * from s.t_at(3)", "t_at"),
        ("select id from lakehouse.loads", "lakehouse.loads"),
        ("select * from (values (1)) v(a)", "VALUES"),
        ("select id from s.t where id in (select id from s.u) or o", "anywhere but in WHERE"),
        ("select * from read_parquet('x')", "READ_PARQUET"),
    ],
)
def test_queries_without_a_rule_are_refused(sql: str, said: str) -> None:
    assert said.lower() in refusal(sql).what.lower()


def test_a_refusal_names_the_model_its_line_and_the_construct() -> None:
    model = Model(
        name="prices",
        path="models/prices.sql",
        sql="select id,\n  -- a comment\n  median(i) as m\nfrom s.t",
        line=5,
    )
    error = refused(model, refusal(model.sql))
    assert isinstance(error, UserError)
    assert error.message.startswith(
        "models/prices.sql:7: models.prices cannot be built with Spark: MEDIAN(i)"
    )
    assert error.hint


@pytest.mark.parametrize(
    ("sql", "read"),
    [
        ("select day as t, t.day as d from s.t", "`s.t` AS lake_1"),  # a column called as its table
        ("select s ~ 'a' as v from s.t", "RLIKE '(?d)a'"),  # no full match in DuckDB 2.0
        ("select max(i) over (order by id) as v from s.t", "ASC NULLS LAST"),
        ("select max(i) over (order by id desc nulls first) as v from s.t", "DESC NULLS FIRST"),
        ("select 'it''s \\n' as v", r"'it\'s \\n'"),
        ("with u as (select 1 as id) select id from u", "lake_with_1"),  # before the table models.u
    ],
)
def test_what_differs_is_written_out(sql: str, read: str) -> None:
    assert read in spark_sql(sql)


@pytest.mark.parametrize(
    "pattern", [r"a.c", r"^x+?$", r"[^a-z&\]]{2,3}|(?:y)(z)", r"\d\D\w\W\s\S", r"{", r"x{,2}", r"\.\/\t"]
)
def test_patterns_become_java_s(pattern: str) -> None:
    assert java_pattern(pattern).startswith("(?d)")


def test_the_end_of_a_text_is_its_end_in_java_too() -> None:
    assert java_pattern("a$") == r"(?d)a\z"
    assert java_pattern(r"a\$[$]") == r"(?d)a\$[$]"
    assert java_pattern("[a[&]") == r"(?d)[a\[\&]"


@pytest.mark.parametrize(
    "pattern", [r"a++", r"(?=a)", r"(?i)a", r"\pL", r"\Qa\E", r"\bx", r"[[:digit:]]", r"[a", "\\"]
)
def test_patterns_that_are_not_known_to_be_alike_are_refused(pattern: str) -> None:
    with pytest.raises(Refusal):
        java_pattern(pattern)


def test_replacements_and_like_patterns_are_written_for_java() -> None:
    assert java_replacement(r"\1$\0") == r"$1\$$0"
    assert java_replacement(r"\1", shift=1) == "$2"
    assert like(r"50!% \_%") == (r"50!% \_%", "#")
    assert like("a$%b%", "$") == ("a!%b%", "!")
    assert re.fullmatch(r"[!#~^|]", like("x")[1])
