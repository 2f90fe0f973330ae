"""References: which tables a SELECT reads, where their names stand, and what is refused; with DuckDB as the judge."""

from collections.abc import Iterator

import duckdb
import pytest

from lakehouse.errors import UserError
from lakehouse.models.place import Place
from lakehouse.models.references import references
from lakehouse.models.statement import parse_statement

MODELS = ("a", "b", "c", "Daily", "old_history")
TABLES = (
    "shop.products",
    "shop.Stores",
    "fires.fires",
    "fires.fires_history",
    "fires.seen_at",
    "models.gone",
)
WHERE = Place(path="models/x.sql", line=3)


def found(sql: str) -> list[tuple[str, str, str, bool]]:
    """Names as they are written, in order, with table, form and alias."""
    read = references(sql, models=MODELS, tables=lambda: TABLES, where=WHERE)
    return [(sql[r.start : r.end], r.name, r.form, r.alias) for r in read]


def names(sql: str) -> list[str]:
    """The tables alone."""
    return [name for _, name, _, _ in found(sql)]


def refused(sql: str) -> str:
    """What the error says."""
    with pytest.raises(UserError) as caught:
        found(sql)
    assert caught.value.hint
    return str(caught.value)


# -- what is read


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("from shop.products", [("shop.products", "shop.products", "", False)]),
        ("from a", [("a", "models.a", "", False)]),
        ("from models.a as q", [("models.a", "models.a", "", True)]),
        ("from q: a", [("a", "models.a", "", True)]),
        ('from "SHOP" . "stores" s', [('"SHOP" . "stores"', "shop.Stores", "", True)]),
        ("from daily", [("daily", "models.Daily", "", False)]),
        ("from shop.products_at('2026-11-01') p", [("shop.products_at", "shop.products", "at", True)]),
        ("from shop.products_diff(1, 2)", [("shop.products_diff", "shop.products", "diff", False)]),
        ("from SHOP.PRODUCTS_HISTORY", [("SHOP.PRODUCTS_HISTORY", "shop.products", "history", False)]),
        ("""from "shop"."products_at"('x')""", [('"shop"."products_at"', "shop.products", "at", False)]),
        ("from daily_at('x')", [("daily_at", "models.Daily", "at", False)]),
        ("from models.daily_diff(1, 2) d", [("models.daily_diff", "models.Daily", "diff", True)]),
        ("from daily_history", [("daily_history", "models.Daily", "history", False)]),
        ("from lakehouse.loads", [("lakehouse.loads", "lakehouse.loads", "", False)]),
    ],
)  # fmt: skip
def test_names_are_resolved_as_the_lake_spells_them(
    sql: str, expected: list[tuple[str, str, str, bool]]
) -> None:
    assert found(sql) == expected


def test_a_table_whose_own_name_looks_like_a_form_is_itself() -> None:
    assert found("from fires.fires_history, old_history, fires.seen_at") == [
        ("fires.fires_history", "fires.fires_history", "", False),
        ("old_history", "models.old_history", "", False),
        ("fires.seen_at", "fires.seen_at", "", False),
    ]
    assert found("from fires.seen_at_at(3), fires.fires_at(3)") == [
        ("fires.seen_at_at", "fires.seen_at", "at", False),
        ("fires.fires_at", "fires.fires", "at", False),
    ]


def test_spans_hold_behind_comments_quotes_and_wide_characters() -> None:
    sql = (
        "/* from b '😀 */ select 'it''s from b', \"ü\" as \"from c\" -- from c\n"
        "from\t\"a\" /* a */ as q,\r\n  shop . /* . */ products -- ü\n, $$ from b $$ || 'x' as z"
    )
    sql = sql.replace(", $$", "where $$").replace(" as z", " = '😀'")
    assert [text for text, *_ in found(sql)] == ['"a"', "shop . /* . */ products"]


def test_tables_of_the_lake_are_asked_for_only_if_one_is_read() -> None:
    def unwanted() -> list[str]:
        raise AssertionError

    assert references("from a, lakehouse.loads", models=["a"], tables=unwanted, where=WHERE)


# DuckDB binds a query only if all its tables are there. Each of these must bind with just the tables that were
# found in it, and not without any of them.
BOUND = """
from a
from a, b where a.k = b.k
select * from a join b using (k) left join c on c.k = b.k
from a asof join b on a.k = b.k and a.d >= b.d
from a semi join b using (k)
from a anti join b using (k)
from a positional join b
from a natural join b
from a cross join b
from (a join b using (k))
from (a)
from (from a) q, (from b select k) r
select (select max(k) from b) from a
select k from a where k in (select k from b)
select k from a where k in (from b select k)
select k from a where exists (from b where b.k = a.k)
select k from a where k = any (select k from b)
select k from a where k > all (select k from b)
select array(select k from a)
select k from a order by (select max(k) from b)
from a, lateral (select a.k + b.k from b)
from a left join lateral (select max(k) m from b where b.k = a.k) q on true
from a union all from b
from a union by name from b
from a except all from b
(from a order by k limit 1) union all (from b)
with q as (from a) from q
with q as materialized (from a) from q
with q(z) as (select k from a) from q
with q as (from a), r as (from q) from q, r
with Q as (from a) from q
with "Q" as (from a) from q
with b as (from a) from b
with b as (from a) from models.b as m, b
with a as (from a) from a
with recursive a as (from a) from a
with recursive a as (select k from a union all select k + 1 from a where k < 3) from a
with recursive q as (select 1 as n union all select n + 1 from q where n < 3) from q
with recursive q as ((select 1 as n) union all (select n + 1 from q where n < 3)) from q
with recursive q as (select k as n from a union select n + 1 from (from q) r join b on b.k = r.n where n < 3) from q
with recursive q(k, n) using key (k) as (select 1, 1 union select r.k, r.n + 1 from q join recurring.q r using (k) where r.n < 3) from q
with recursive a as (select 1 as k union all by name select k + 1 as k from a where k < 0) from a
with recursive q as (from a), r as (from q) from r
with q as (with b as (from a) from b) from q, b
with q as (from c), c as (from a) from q, c
(with a as (from b) from a) union all (from a)
with a as (from b) (from a) union all (from c)
select (with a as (from b) select max(k) from a), (select max(k) from a)
with a as (from b) select * from (with c as (from a) from c)
with q as (from a) select * from a where k in (from q select k)
from shop.products, a
with products as (from a) from shop.products p, products
pivot a on k using sum(v)
pivot a on k in (1, 2) using sum(v) as s group by t
pivot shop.products on k using sum(v)
pivot (from a) on k using sum(v)
from (pivot a on k using sum(v) group by t) p join b using (t)
with q as (pivot a on k using sum(v)) from q
with q as (from a) select * from (pivot q on k using sum(v))
from a pivot (sum(v) for k in (1, 2))
unpivot a on k, v into name n value w
from (unpivot a on columns('k|v') into name n value w) order by n
from a unpivot (w for n in (k, v))
from a using sample 10%
from a tablesample reservoir(10)
from a tablesample bernoulli(10%), b
select k, count(*) from a group by all order by all
select * from a qualify row_number() over (partition by k order by d) = 1
select * exclude (k) replace (v + 1 as v) from a
select * rename (k as z) from a
select columns('k|v'), min(columns(*)) over () from a
select coalesce(*columns('k|v')) from a
select * like 'k%' from a
select columns(lambda c: c like 'k%') from a
select list_transform(l, lambda x: x + k) from a
select l.list_transform(lambda x: x + 1).list_sum(), t.upper() from a
select [x + 1 for x in l if x > k] from a
select {'k': k, z: [v]} as s, {'x': k}.x, map {'k': v} from a
select k: v, z: k + 1 from a
select k as z, z + 1 as y from a where z > 1
from a, unnest(l) as u(x)
select unnest(l) from a
from range(10) r(a), b
from generate_series(1, 3) b
from unnest([1, 2]) b(c)
from (values (1, 2)) b(c, d)
values (1), (2)
select 1
select distinct on (k) * from a order by k, d desc
select list(v order by d desc nulls last) filter (k > 1), arg_max(v, d) from a
select sum(v) over w from a window w as (partition by k order by d rows between 3 preceding and current row)
select sum(v) from a group by grouping sets ((k), ()), rollup (d)
select k from a limit 10%
select k, from a,
select k::varchar, try_cast(t as int), l[1:2], l[-1], t ^@ 'x', k // 2, @k from a
select date_trunc('month', d), d + interval 1 day, interval (k) days from a
from (describe from a)
from (summarize select * from a)
select b from (select k as b from a)
select a from a
select a.k, b.k from a b, b a
from a t1, a t2
select max(k) as models from models.a
""".strip().splitlines()

COLUMNS = "(k int, v int, d date, t varchar, l int[])"


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with the schemas of a lake, and no table in them."""
    with duckdb.connect() as connection:
        connection.execute("create schema shop; create schema models; create schema pinned")
        connection.execute("set search_path = 'models'")
        yield connection


def binds(duck: duckdb.DuckDBPyConnection, sql: str, tables: set[str]) -> bool:
    """Whether DuckDB takes the query where just these tables are there."""
    duck.execute("begin")
    try:
        for table in tables:
            duck.execute(f"create table {table} {COLUMNS}")
        duck.execute(f"explain {sql}").fetchall()
    except duckdb.Error as error:
        if not any(word in str(error) for word in ("does not exist", "Circular reference")):
            raise
        return False
    else:
        return True
    finally:
        duck.execute("rollback")


@pytest.mark.parametrize("sql", BOUND)
def test_a_select_reads_what_duckdb_needs_and_nothing_else(duck: duckdb.DuckDBPyConnection, sql: str) -> None:
    read = set(names(sql))
    assert binds(duck, sql, read)
    for table in read:
        assert not binds(duck, sql, read - {table}), table


@pytest.mark.parametrize("sql", BOUND)
def test_other_tables_can_be_put_where_the_names_stand(duck: duckdb.DuckDBPyConnection, sql: str) -> None:
    read = references(sql, models=MODELS, tables=lambda: TABLES, where=WHERE)
    put, pinned = sql, set()
    for r in reversed(read):
        name = f'pinned."{r.name}"'
        pinned.add(name)
        put = put[: r.start] + (name if r.alias else f'{name} AS "{r.table}"') + put[r.end :]
    assert binds(duck, put, pinned), put


# -- what is refused


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("from nowhere.t", ["models/x.sql:3:6: there is no table nowhere.t", "lakehouse ingest nowhere"]),
        ("select 1\nfrom a\njoin shopp.products p using (k)", ["models/x.sql:5:6:", "`shop`", "^"]),
        ("from shop.product", ["`shop.products`"]),
        ("from shop.zzz", ["shop has: shop.Stores, shop.products", "lakehouse ingest shop"]),
        ("from products", ["`shop.products`: only models go without"]),
        ("from products_at('x')", ["`shop.products_at`"]),
        ("from loads", ["`lakehouse.loads`"]),
        ("from dayly", ["`Daily`"]),
        ("from models.dayly", ["`Daily`"]),
        ("from models.gone", ["A model is a file: models/gone.sql"]),
        ("from zzz", ["models/zzz.sql"]),
        ("from zzz_at('x')", ["there is no table zzz_at"]),
        ("from (summarize shop.products)", ["Write SUMMARIZE FROM shop.products."]),
        ("from a join shop.a using (k)", ["there is no table shop.a"]),
        ("from shop.products, products p, (select 1) products", ["Write `shop.products`"]),
        ("from shop.products, (select 1) products", ["3:6: two tables are called products", "AS …"]),
        ("with products as (from a) from products join shop.products using (k)", ["3:46: two tables are called"]),
        ("from lakehouse.load", ["`loads`"]),
        ("from lakehouse.loads_at('x')", ["there is no table lakehouse.loads_at"]),
        ("from information_schema.tables", ["lakehouse.tables"]),
        ("from lakehouse.shop.products", ["names a database as well", "Write shop.products."]),
        ("from lakehouse.main.loads", ["Write lakehouse.loads."]),
        ("from shop.products_at", ["wants its arguments"]),
        ("from shop.products('x')", ["takes no arguments"]),
        ("from shop.products_history()", ["takes no arguments"]),
        ("from 'x.csv'", ["is a file", "through a load"]),
        ('from "x.parquet"', ["is a file"]),
        ("from 's3://b/*.parquet' p", ["is a file"]),
        ("from read_parquet('x')", ["read_parquet(…) reads files", "through a load"]),
        ("from a, read_csv(['x'], header = true)", ["reads files"]),
        ("from READ_JSON_AUTO('x')", ["reads files"]),
        ("from parquet_scan('x')", ["reads files"]),
        ("select (select max(content) from read_text('x'))", ["reads files"]),
        ("from glob('*')", ["reads files"]),
        ("from query('from a')", ["its text does not show"]),
        ("from query_table('a')", ["its text does not show"]),
        ("from histogram_values(a, k)", ["its text does not show"]),
        ("from duckdb_tables()", ["tells of a session"]),
        ("from {{ ref('a') }}", ["3:6: `{{ ref('a') }}` is dbt's", "Write `a` in its place"]),
        ("from {{ source('shop', 'products') }}", ["Write `shop.products` in its place"]),
        ("{{ config(materialized='table') }}\nselect 1", ["goes into the header"]),
        ("select {{ var('x') }} from a", ["is dbt's"]),
        ("{% if x %} select 1 {% endif %}", ["is dbt's"]),
        ("from ref('a')", ["3:6: ref(…) is dbt's", "Write `a`"]),
        ("select ref('pkg', 'a')", ["Write `a`"]),
        ("from source('shop', 'products')", ["Write `shop.products`"]),
        ("select shop.products.k from shop.products", ["3:8:", "Write products.k"]),
        ("select shop.products.* from shop.products", ["Write products.*"]),
        ("select sum(models.a.k) from models.a", ["Write a.k"]),
        ("select 1 from shop.products where shop.products.s.f > 1", ["Write products.s"]),
        ("select shop.products_history.k from shop.products_history", ["Write products_history.k"]),
        ("select shop.products.t.upper() from shop.products", ["Write products.t"]),
    ],
)  # fmt: skip
def test_what_has_no_history_or_is_not_there_is_refused_at_its_place(sql: str, said: list[str]) -> None:
    text = refused(sql)
    assert text.startswith("models/x.sql:")
    for piece in said:
        assert piece in text


def test_a_model_does_not_read_itself() -> None:
    with pytest.raises(UserError, match="is the model itself"):
        references("from models.A_history", models=MODELS, tables=lambda: (), where=WHERE, itself="a")
    other = references(
        "from shop.products", models=["products"], tables=lambda: TABLES, where=WHERE, itself="products"
    )
    assert other[0].name == "shop.products"


def test_a_field_of_an_alias_is_no_column_with_a_schema() -> None:
    assert names("select shop.products.k from shop.products, (select {'k': 1} as products) shop") == [
        "shop.products"
    ]
    assert names("select p.s.f from shop.products p") == ["shop.products"]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("", "there is no SELECT"),
        (" -- nothing\n;", "there is no SELECT"),
        ("select 1; select 2", "3:9: a second statement begins"),
        ("create table x as select 1", "CREATE is no SELECT"),
        ("insert into a values (1)", "INSERT is no SELECT"),
        ("with q as (insert into a values (1) returning *) from q", "INSERT writes"),
        ("explain select 1", "EXPLAIN is no SELECT"),
        ("describe a", "DESCRIBE is no SELECT"),
        ("table a", "Write FROM in place of TABLE"),
        ("with q as (table a) from q", "Write FROM in place of TABLE"),
        ("copy a to 'x'", "COPY is no SELECT"),
        ("select\n 'abc", "4:2: what ' opens is never closed"),
        ('select "abc', 'what " opens is never closed'),
        ("select 1 /* abc", "no SQL"),
        ("select\n  a b c from a", "4:7: this is no SQL that can be read"),
        ("select * from a where", "no SQL that can be read"),
        ("pivot a on k using sum(v) order by 1", "FROM (PIVOT …) ORDER BY"),
        ("select " + "(" * 3000 + "1" + ")" * 3000, "models/x.sql:3: is nested too deeply"),
        ("select $1", "is a parameter"),
        ("from a where k = ?", "3:18: ? is a parameter"),
    ],
)  # fmt: skip
def test_what_is_not_one_select_is_refused(sql: str, said: str) -> None:
    assert said in refused(sql)


def test_a_select_ends_with_its_last_word() -> None:
    assert parse_statement("select 'ü' ; ; -- done\n", WHERE).sql == "select 'ü'"
    assert parse_statement("-- why\nselect 1 -- because\n", WHERE).sql == "-- why\nselect 1"
    assert parse_statement("(select 1);", WHERE).sql == "(select 1)"
