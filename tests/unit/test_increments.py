"""Which SELECTs are followed from an input to the result, by which groups; and what is said of the others."""

import duckdb
import pytest

from lakehouse.models.follow import functions
from lakehouse.models.increments import Increment, NotIncremental, analyse, refusal

COLUMNS = {
    "shop.products": ("sku", "price", "ts", "info", "tags", "qty"),
    "shop.other": ("sku", "region", "ts", "w"),
    "models.base": ("sku", "n"),
}
VIEWS = {
    "models.v": "select sku, price * 2 as twice, cast(ts as date) as day from shop.products",
    "models.w": "select * from v where twice > 1",
    "models.numbered": "select sku,\n  row_number() over (order by ts) as n\nfrom shop.products",
}


def found(sql: str, *key: str, driver: str = "shop.products") -> Increment:
    return analyse(sql, views=VIEWS, driver=driver, key=key, columns=COLUMNS, where="models/x.sql", line=5)


def reason(sql: str, *key: str, driver: str = "shop.products") -> NotIncremental:
    with pytest.raises(NotIncremental) as refused:
        found(sql, *key, driver=driver)
    return refused.value


SKU = "_lake_d.sku"
BY_SKU = [
    "select sku, price from shop.products",
    "from shop.products",
    "select p.* from shop.products as p order by price",
    "select shop.products.sku from shop.products",
    "select SKU from SHOP.PRODUCTS",
    "select t.a as sku from shop.products as t(a, b)",
    "select * exclude (info) replace (price + 1 as price) rename (qty as n) from shop.products",
    "select sku, cast(ts as date) as day, arg_max(price, ts) as price from shop.products group by all",
    "select sku, sum(price) from shop.products group by sku having count(*) > 1",
    "select sku, sum(price) from shop.products group by 1",
    "select sku as code, code as sku, count(*) from shop.products group by code",
    "select sku, list(price order by ts) from shop.products group by sku",
    "select sku, count(distinct price) filter (where qty > 0) from shop.products group by sku, ts",
    "select sku, row_number() over (partition by sku order by ts) from shop.products",
    "select sku, lag(price) over w from shop.products window w as (partition by ts, sku order by qty)",
    "select sku from shop.products qualify rank() over (partition by sku order by ts) = 1",
    "select sku, sum(sum(price)) over (partition by sku) from shop.products group by sku, ts",
    "select distinct sku, ts from shop.products",
    "select distinct on (sku) sku, price from shop.products order by sku, ts",
    "select p.sku, o.region from shop.products as p join shop.other as o on p.sku = o.sku",
    "select sku, region from shop.products left join shop.other using (sku)",
    "select p.sku, region from shop.other right join shop.products as p using (sku)",
    "select p.sku, region from shop.other as o, shop.products as p where o.sku = p.sku",
    "select p.sku from shop.products as p asof join shop.other as o on p.sku = o.sku and p.ts >= o.ts",
    "select sku from shop.products semi join shop.other using (sku)",
    "select sku from shop.products anti join shop.other using (sku)",
    "select sku from shop.products where sku in (select sku from shop.other where w > 1)",
    "select sku, (select max(w) from shop.other as o where o.sku = p.sku) as w from shop.products as p",
    "select p.sku, m.w from shop.products as p, lateral (select max(w) as w from shop.other as o where o.sku = p.sku) as m",
    "select sku, t.tag from shop.products as p, unnest(p.tags) as t(tag)",
    "select sku, unnest(tags) as tag from shop.products",
    "select sku, [t || '!' for t in tags if t <> ''], list_transform(tags, lambda t: t || sku) from shop.products",
    "select sku, 'new' as what from shop.products union all select sku, 'old' from shop.products",
    "select sku from shop.products union select sku from shop.products",
    "with a as (select sku, ts, sum(price) as s from shop.products group by sku, ts), b(sku, x) as (select sku, max(s) from a group by sku) select * from b",
    "with shop as (select * from shop.products) select shop.sku from shop",
    "select * from models.v",
    "select sku, max(twice) from w group by sku",
]  # fmt: skip


@pytest.mark.parametrize("sql", BY_SKU)
def test_groups_are_followed(sql: str) -> None:
    assert found(sql, "sku") == Increment(driver="shop.products", groups=(("sku", SKU),), reads=("sku",))


@pytest.mark.parametrize(
    ("sql", "groups"),
    [
        ("select upper(sku) as k, count(*) from shop.products group by all", "TRY(upper(_lake_d.sku))"),
        ("select upper(sku) as k, count(*) from shop.products group by UPPER(products.SKU)", "TRY(upper(_lake_d.sku))"),
        ("select cast(ts as date) as k, count(*) from shop.products group by ts::DATE", "TRY(CAST(_lake_d.ts AS date))"),
        ("select day as k, max(twice) from v group by day", "TRY(CAST(_lake_d.ts AS date))"),
        ("select info->>'$.a' as k, count(*) from shop.products group by 1", "TRY((_lake_d.info ->> '$.a'))"),
        ("select info.a.b as k from shop.products", "_lake_d.info.a.b"),
        ("select case when qty > 1 then 'x' else sku end as k from shop.products",
         "TRY(CASE  WHEN ((_lake_d.qty > 1)) THEN ('x') ELSE _lake_d.sku END)"),
    ],
)  # fmt: skip
def test_a_group_may_be_an_expression(sql: str, groups: str) -> None:
    assert found(sql, "k").groups == (("k", groups),)


def test_all_columns_of_the_key_that_part_groups_are_found() -> None:
    sql = "select sku, cast(ts as date) as day, o.region, count(*) as n from shop.products join shop.other as o using (sku) group by all"
    assert found(
        "select sku, ts, count(*) as n from shop.products group by all", "sku", "ts", "n"
    ).groups == (
        ("sku", SKU),
        ("ts", "_lake_d.ts"),
    )
    assert [name for name, _ in found(sql, "region", "sku", driver="shop.products").groups] == ["sku"]
    assert found(sql, "region", "sku", driver="shop.other").groups == (("region", "_lake_d.region"),)
    assert found("select sku, n from base", "sku", driver="models.base").groups == (("sku", SKU),)


@pytest.mark.parametrize(
    "sql",
    [
        "select sku, price * 2 as twice from shop.products where price > 1",
        "select * from v",
        "select p.sku, o.w from shop.products as p left join (select sku, max(w) as w from shop.other group by sku) as o using (sku)",
        "select sku from shop.products union all select upper(sku) from shop.products",
        "select sku, tag from shop.products, unnest(tags) as t(tag)",
    ],
)
def test_rows_are_added_where_each_comes_from_one(sql: str) -> None:
    assert found(sql) == Increment(driver="shop.products")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select sku, row_number() over (order by ts) from shop.products",
         "the window reads rows of other keys\n  Add sku to PARTITION BY, or make it `kind: table`."),
        ("select sku, row_number() over (partition by upper(sku) order by ts) from shop.products", "Add sku to PARTITION BY"),
        ("select sku from shop.products qualify count(*) over () = 1", "the window reads rows of other keys"),
        ("select sku, max(price) over (partition by sku), max(price) over () from shop.products", "the window reads rows"),
        ("select upper(sku) as sku, count(*) from shop.products group by products.sku", "Add what sku is to GROUP BY"),
        ("select max(sku) as sku from shop.products", "sku is no column of the driver, it is made of several rows, by max"),
        ("with a as (select distinct on (ts) sku, ts from shop.products order by ts, sku) select sku from a", "Add sku to DISTINCT ON"),
        ("select sku, sum(price) from shop.products group by rollup (sku)", "grouping sets are not followed"),
        ("select sku, sum(price) from shop.products group by grouping sets ((sku), (ts))", "grouping sets"),
        ("select sku from shop.products order by ts limit 10", "LIMIT takes rows by their place"),
        ("select * from (select sku from shop.products limit 10) as t", "LIMIT takes rows by their place"),
        ("select sku from shop.products where price > (select max(w) from (select w from shop.other limit 1) as t)", "LIMIT"),
        ("select sku from shop.products using sample 10", "sample is not followed"),
        ("select sku from shop.products tablesample 10%", "sample is not followed"),
        ("select sku, random() from shop.products", "random(…) is not known to give the same answer"),
        ("select sku, now() from shop.products", "now(…) is not known"),
        ("select sku, current_date from shop.products", "current_date is another one at every build"),
        ("select sku, age(ts) from shop.products", "age(…) is not known"),
        ("select sku, getvariable('x') from shop.products", "getvariable(…) is not known"),
        ("select sku, any_value(price) from shop.products group by sku", "which row any_value takes first is left open"),
        ("select sku, list(price) from shop.products group by sku", "Say it: list(x ORDER BY y)"),
        ("select sku, row_number() over (partition by sku) from shop.products", "the window of row_number has no order"),
        ("select sku, sum(price) over (partition by sku rows 1 preceding) from shop.products", "the window of sum has no order"),
        ("select distinct on (sku) sku, price from shop.products", "which row DISTINCT ON takes is left open"),
        ("select o.sku, p.price from shop.other as o left join shop.products as p using (sku)", "rows of the LEFT join may be there because"),
        ("select p.sku from shop.products as p right join shop.other as o using (sku)", "rows of the RIGHT join may be there"),
        ("select p.sku from shop.products as p full join shop.other as o using (sku)", "rows of the FULL join may be there"),
        ("select o.sku from shop.other as o semi join shop.products using (sku)", "rows of the SEMI join may be there"),
        ("select o.sku from shop.other as o anti join shop.products using (sku)", "rows of the ANTI join may be there"),
        ("select o.sku from shop.other as o asof join shop.products as p on o.ts >= p.ts", "rows of the ASOF join may be there"),
        ("select sku from shop.products natural join shop.other", "a natural join is not followed"),
        ("select a.sku from shop.products as a positional join shop.other as b", "a positional join is not followed"),
        ("select a.sku from shop.products as a join shop.products as b using (sku)", "shop.products is read twice"),
        ("select a.sku from shop.products as a join v using (sku)", "shop.products is read twice"),
        ("with a as (select * from shop.products) select a.sku from a join a as b using (sku)", "shop.products is read twice"),
        ("select sku from shop.products where price = (select max(price) from shop.products)", "shop.products is read in a subquery"),
        ("select sku from shop.products where sku in (select sku from v)", "shop.products is read in a subquery"),
        ("select sku from shop.other where exists (select 1 from shop.products)", "shop.products is read in a subquery"),
        ("select sku from shop.products union all select sku from shop.other", "a branch of UNION does not read the driver"),
        ("select sku from shop.products except select sku from shop.other", "EXCEPT is not followed"),
        ("select sku from shop.products union all by name select sku from shop.products", "UNION BY NAME is not followed"),
        ("select sku from shop.products union all select upper(sku) from shop.products", "it differs between branches of a UNION"),
        ("select o.sku from shop.products as p join shop.other as o using (sku)", "it comes from shop.other"),
        ("select sku from shop.other join shop.products using (sku)", "sku is no column of the driver"),
        ("select coalesce(o.one, p.sku) as sku from shop.products as p left join (select 1 as one, sku from shop.other) as o using (sku)",
         "it is the same for all rows"),
        ("select 'x' as sku from shop.products", "sku is no column of the driver, it is a constant"),
        ("select sku, (select sum(p.price) from shop.other) as s from shop.products as p", "sum in a subquery reads columns from around it"),
        ("with recursive r as (select sku from shop.products union select sku from r) select * from r", "a recursive cte is not followed"),
        ("select * from (pivot shop.products on qty in (1, 2) using sum(price) group by sku) as t", "pivot is not followed"),
        ("pivot shop.products on qty using sum(price) group by sku", "Only SELECT statements"),
        ("select sku from shop.products_history", "shop.products_history changes with every load"),
        ("select sku from shop.products_at(3)", "products_at(…) in a FROM is not followed"),
        ("select sku from read_csv('x.csv')", "read_csv(…) in a FROM is not followed"),
        ("select sku from lakehouse.shop.products", "base table with catalog name is not followed"),
        ("select sku from nothing", "models.nothing is not a table whose changes can be followed"),
        ("select columns('s.*') from shop.products", "star with columns is not followed"),
        ("select sku.upper() as sku from shop.products", "Write it as upper(…)."),
        ("select sku collate nocase as sku from shop.products", "collate is not followed"),
        ("select $x as sku from shop.products", "not followed"),
        ("select products as sku from shop.products", "products is not known to be a column"),
        ("select sku || sku as nothing from shop.products", "the result has no column sku, which is in the key"),
        ("select sku from shop.other", "shop.products is not among the tables whose rows it reads"),
        ("select sku from (select 1 as sku, sku as SKU from shop.products) as t", "several columns are called"),
        ("select sku from shop.products as a, (select 1 as sku) as b", "sku may mean several columns"),
        ("select upper(sku) as sku, count(*) from shop.products group by sku", "reads rows of other keys"),
    ],
)  # fmt: skip
def test_what_is_not_followed_is_refused(sql: str, said: str) -> None:
    refused = reason(sql, "sku")
    assert said in str(refused)
    assert str(refused).startswith("models/x.sql:5: ") or refused.line == 0
    assert refused.hint


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select sku, count(*) from shop.products group by sku", "the aggregate reads rows of other keys, and without a key rows are only added"),
        ("select distinct sku from shop.products", "DISTINCT puts rows of other keys together, and without a key"),
        ("select sku, lag(sku) over (partition by sku order by ts) from shop.products", "the window reads rows of other keys, and without"),
        ("select sku from shop.products union select sku from shop.products", "UNION without ALL puts equal rows together, and without"),
    ],
)  # fmt: skip
def test_rows_are_only_added_one_by_one(sql: str, said: str) -> None:
    assert said in str(reason(sql))
    assert found(sql, "sku").groups


def test_a_reason_names_the_line() -> None:
    sql = "select sku,\n  'ä' as umlaut,\n  row_number() over (order by ts) as n\nfrom shop.products"
    assert str(reason(sql, "sku")).startswith("models/x.sql:7: the window reads rows of other keys")
    assert str(reason("select *\nfrom numbered", "sku")).startswith("view models.numbered:2: the window")
    assert reason("select sku,\n\n now() from shop.products", "sku").line == 7


def test_reasons_of_all_inputs_are_said() -> None:
    sql = "select p.sku, o.region from shop.products as p left join shop.other as o using (sku)"
    one, two = reason(sql, "region"), reason(sql, "sku", driver="shop.other")
    both = refusal("models.x", {"shop.products": one, "shop.other": two})
    assert "from shop.products: models/x.sql:5: no column of the key" in both.message
    assert "from shop.other: models/x.sql:5: rows of the LEFT join" in both.message
    assert refusal("models.x", {"shop.products": one, "shop.other": one}) is one


def test_every_function_that_is_known_gives_the_same_answer_for_the_same_rows() -> None:
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT function_name, function_type, stability FROM duckdb_functions()"
        ).fetchall()
    operators = {"!", "->", "<>", "=="}  # that the parser knows alone
    kinds = {name: {kind for n, kind, _ in rows if n == name} for name, _, _ in rows}
    unstable = {name for name, _, stability in rows if stability not in (None, "CONSISTENT")}
    assert not (functions.SCALAR | functions.AGGREGATES | functions.IN_ORDER) & unstable
    assert {
        name for name in functions.SCALAR if not kinds.get(name, set()) & {"scalar", "macro"}
    } == operators
    assert all(kinds[name] & {"aggregate", "macro"} for name in functions.AGGREGATES | functions.IN_ORDER)
    assert all("window" in kinds[name] for name in functions.PEERS | functions.PLACES)
    assert not functions.SCALAR & {name for name, kind, _ in rows if kind == "aggregate"}
