"""Lineage of columns: what each is made of, and nothing where the text does not tell."""

import logging

import pytest

from lakehouse.models.columns import lineage

SCHEMAS = {
    "shop.t": {"sku": "VARCHAR", "Price": "DOUBLE", "tags": "VARCHAR[]", "address": "STRUCT(street VARCHAR, zip INTEGER)", "other price": "DOUBLE"},
    "shop.n": {"sku": "VARCHAR", "name": "VARCHAR"},
    "models.m": {"sku": "VARCHAR", "cost": "DOUBLE"},
}  # fmt: skip


def told(sql: str, *columns: str) -> dict[str, str]:
    """The lineage, with the columns of `shop.t` shortened to their names."""
    made = lineage(sql, schemas=SCHEMAS, columns=columns)
    return {name: " ".join(s.removeprefix("shop.t.") for s in sources) for name, sources in made.items()}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select sku, PRICE * 2 as twice from shop.t", {"sku": "sku", "twice": "Price"}),
        ("from shop.n", {"sku": "shop.n.sku", "name": "shop.n.name"}),
        ("select * exclude (tags, address) replace (Price + 1 as price) from shop.t", {"sku": "sku", "price": "Price", "other price": "other price"}),
        ("from m select * rename (cost as c)", {"sku": "models.m.sku", "c": "models.m.cost"}),
        ("select columns(* exclude (sku)) from models.m", {"cost": "models.m.cost"}),
        ('select "other price" as o, address.street, t.address.zip as z, (address).zip as y from shop.t t', {"o": "other price", "street": "address", "z": "address", "y": "address"}),
        ("select price as a, a + 1 as b, c: sku from shop.t", {"a": "Price", "b": "Price", "c": "sku"}),
        ("select sku, sum(price) s, count(*) n from shop.t group by all", {"sku": "sku", "s": "Price", "n": ""}),
        ("select sum(price) over (partition by sku) w from shop.t where tags is not null", {"w": "Price sku"}),
        ("with a as (select sku, price * 2 p from shop.t), b as (from a select p + 1 as q) from b", {"q": "Price"}),
        ("with t as (select name as sku from shop.n) select sku from t", {"sku": "shop.n.name"}),
        ("with recursive r as (select price as n from shop.t union all select n + 1 from r) select n from r", {"n": "Price"}),
        ("select (select max(name) from shop.n v where v.sku = t.sku) as n from shop.t t", {"n": "shop.n.name"}),
        ("select sku, price from shop.t union all select name, 1 from shop.n", {"sku": "shop.n.name sku", "price": "Price"}),
        ("select price p, sku s from shop.t union by name select sku as s, name from shop.n", {"p": "Price", "s": "shop.n.sku sku", "name": "shop.n.name"}),
        ("select sku a from shop.n union all select name from shop.n union all by name select price, sku a from shop.t", {"a": "shop.n.name shop.n.sku sku", "price": "Price"}),
        ("select * from shop.n join m using (sku)", {"sku": "models.m.sku shop.n.sku", "name": "shop.n.name", "cost": "models.m.cost"}),
        ("select a.sku, b.cost from shop.t a asof join m b on a.sku = b.sku and a.price >= b.cost", {"sku": "sku", "cost": "models.m.cost"}),
        ("select list_transform(tags, lambda x: x || sku) l, [price for x in tags] m, {'a': price, b: sku} s from shop.t", {"l": "sku tags", "m": "Price tags", "s": "Price sku"}),
        ("select list(price).list_sum() q, sku.upper().lower() u, t.sku.upper() v from shop.t", {"q": "Price", "u": "sku", "v": "sku"}),
        ("select u from shop.t, unnest(tags) q(u)", {"u": "tags"}),
        ("from (select sku, price from shop.t) pivot (sum(price) for sku in ('x', 'y'))", {"x": "Price", "y": "Price"}),
        ('select w from shop.t unpivot (w for n in (price, "other price"))', {"w": "Price other price"}),
        ("select sku, cast(valid_from as date) d, price from shop.t_history", {"sku": "sku", "d": "", "price": "Price"}),
        ("select h.price from shop.T_at('2026-11-01') as h", {"price": "Price"}),
        ("select change, before.price as b, price from shop.t_diff(1, 2)", {"change": "", "b": "", "price": "Price"}),
        ("select distinct on (sku) price from shop.t qualify row_number() over () = 1 order by sku", {"price": "Price"}),
        ("(select sku from shop.t order by price) limit 1", {"sku": "sku"}),
        ("select 1 as one, r from range(3) g(r)", {"one": "", "r": ""}),
        ("select l.seq from lakehouse.loads l", {"seq": ""}),
        ("select nope.x, y from shop.t, elsewhere", {"x": "", "y": ""}),
    ],
)  # fmt: skip
def test_columns_are_followed_to_the_tables(sql: str, expected: dict[str, str]) -> None:
    assert told(sql) == expected


def test_names_of_the_result_are_the_keys_where_they_are_known() -> None:
    assert told('select COUNT(*), sum(price), Price as "P" from shop.t', "count_star()", "sum(price)", "P") == {
        "count_star()": "", "sum(price)": "Price", "P": "Price",
    }  # fmt: skip
    assert told("select t.sku, n.sku, m.* from shop.t, shop.n, m", "sku", "sku_1", "sku_2", "cost") == {
        "sku": "sku", "sku_1": "shop.n.sku", "sku_2": "models.m.sku", "cost": "models.m.cost",
    }  # fmt: skip
    # stars in the library's order are not in DuckDB's
    assert told("select * from (select sku, price from shop.t) positional join shop.n", "sku", "Price", "sku_1", "name") == {
        "sku": "", "Price": "Price", "sku_1": "", "name": "shop.n.name",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "columns", "expected"),
    [
        ("select columns('P.*') from shop.t", ["Price"], {"Price": "Price"}),
        ("select columns(c -> c like 'o%') from shop.t", ["other price"], {"other price": "other price"}),
        ("select * like 's%' from shop.n", ["sku"], {"sku": "shop.n.sku"}),
        ("select max(columns(*)) from shop.n", ["sku", "name"], {"sku": "", "name": ""}),
        ("pivot shop.t on sku using sum(price)", ["tags", "x"], {"tags": "", "x": ""}),
        ("from shop.t pivot (sum(price) for sku in ('x') group by tags)", ["tags", "x"], {"tags": "", "x": "Price"}),
        ("from (pivot shop.t on sku using sum(price))", ["tags", "x"], {"tags": "", "x": ""}),
        ("from (summarize from shop.t)", ["column_name"], {"column_name": ""}),
        ("values (1, 2)", ["col0", "col1"], {"col0": "", "col1": ""}),
        ("this is no SQL at all (", ["a"], {"a": ""}),
        ("select " + "(" * 3000 + "sku" + ")" * 3000 + " from shop.t", ["sku"], {"sku": ""}),
    ],
)  # fmt: skip
def test_what_the_text_does_not_tell_is_left_out(
    sql: str, columns: list[str], expected: dict[str, str]
) -> None:
    assert told(sql, *columns) == expected


def test_nothing_is_logged_about_what_cannot_be_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="sqlglot"):
        told(
            "select (pivot shop.t on sku using sum(price)) as p, array(select sku from shop.n) a from shop.t"
        )
    assert not caplog.records
