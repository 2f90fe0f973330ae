"""Views of models in the catalog: from the log alone, in any client, at any moment."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from command import run
from defining import defined, publish

from lakehouse import Lake
from lakehouse.core.definition import to_json
from lakehouse.duck.session import catalog_path, refresh
from lakehouse.errors import FormatError, IntegrityError, NotFoundError, QueryError, UserError
from lakehouse.pack import pack
from lakehouse.retention import expire, parse
from lakehouse.store import MemoryStore
from lakehouse.tags import create

CHAIN = {
    "cheap": "-- what costs little\nselect sku, price from shop.products where price < 10",
    "counted": "with c as (from cheap) select count(*) as n, sum((select max(price) from cheap z where z.sku = c.sku)) as t from c",
    "said": "select n || ' for ' || t as said, (select count(*) from counted) as one from counted",
}
PRICES = ({"a": 1.0, "b": 20.0}, {"a": 1.5, "b": 2.0, "c": 3.0}, {"b": 5.0, "c": 3.0})
SAID = ["1 for 1.0", "3 for 6.5", "2 for 8.0"]


def day(number: int) -> datetime:
    return datetime(2026, 3, number, 12, tzinfo=UTC)


def bring(lake: Lake, number: int, rows: list[dict[str, Any]]) -> None:
    with lake.load("shop", observed_at=day(number)) as load:
        load.write("products", rows, disposition="replace", primary_key="sku")


def filled(lake: Lake) -> Lake:
    for number, prices in enumerate(PRICES, 1):
        bring(lake, number, [{"sku": sku, "price": price} for sku, price in prices.items()])
    return lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with three loads of products, and no models yet."""
    return filled(Lake.create(tmp_path / "lake"))


def one(lake: Lake, sql: str, **given: Any) -> Any:
    return lake.query(sql, **given).fetchall()[0][0]


@pytest.fixture
def plain(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    """The catalog of a lake with a chain of views, open in a client that knows nothing of lakehouse."""
    publish(lake, CHAIN, at=day(3))
    create(lake, "early", "1")
    refresh(lake)
    with duckdb.connect(str(catalog_path(lake)), read_only=True) as connection:
        yield connection


def test_any_client_reads_views_over_views_now_and_then(plain: duckdb.DuckDBPyConnection) -> None:
    def said(moment: str) -> str:
        return plain.execute(f"select said from models.said_at({moment})").fetchall()[0][0]  # type: ignore[no-any-return]

    assert plain.execute("from models.said").fetchall() == [(SAID[2], 1)]
    assert [said(str(number)) for number in (1, 2, 3)] == SAID
    assert [said(f"'2026-03-0{number}T12:00:00Z'") for number in (1, 2, 3)] == SAID
    assert said("'2026-03-02'") == said("date '2026-03-02'") == said("'early'") == SAID[0]
    assert said("timestamptz '2026-03-02 13:00:00+00'") == SAID[1]
    assert said("now() - interval 1 day") == SAID[2]
    assert said("NULL") == SAID[2]
    with pytest.raises(duckdb.Error, match="as of load 4: shop ends at load 3"):
        said("4")
    with pytest.raises(duckdb.Error, match="as of yesterdy: is neither an instant"):
        said("'yesterdy'")


def test_the_session_variable_turns_views_of_models(plain: duckdb.DuckDBPyConnection) -> None:
    for moment, expected in (
        ("1", SAID[0]),
        ("'2026-03-02T12:00:00Z'", SAID[1]),
        ("'early'", SAID[0]),
        ("99", SAID[2]),
    ):
        plain.execute(f"set variable lakehouse_as_of = {moment}")
        assert plain.execute("select said from models.said").fetchall() == [(expected,)]
    plain.execute("reset variable lakehouse_as_of")
    assert plain.execute("select said from models.said").fetchall() == [(SAID[2],)]


def test_the_catalog_may_be_attached_under_another_name(lake: Lake) -> None:
    past = "select count(*) as n from shop.products_history where to_load is null"
    publish(lake, CHAIN | {"past": past, "loads": "select max(seq) as n from lakehouse.loads"}, at=day(3))
    refresh(lake)
    with duckdb.connect() as client:
        client.execute(f"attach '{catalog_path(lake)}' as x (read_only)")
        assert client.execute("select said from x.models.said").fetchall() == [(SAID[2],)]
        assert client.execute("select n from x.models.past").fetchall() == [(3,)]
        assert client.execute("select n from x.models.loads").fetchall() == [(3,)]
        client.execute("set variable lakehouse_as_of = 1")
        assert client.execute("select said from x.models.said").fetchall() == [(SAID[0],)]
        assert client.execute("select n from x.models.past").fetchall() == [(2,)]
        client.execute("use x")
        assert client.execute("select said from models.said_at(2)").fetchall() == [(SAID[1],)]


def test_a_lake_in_memory_has_them_as_well() -> None:
    lake = filled(Lake.create(MemoryStore()))
    publish(lake, CHAIN, at=day(3))
    assert one(lake, "select said from models.said") == SAID[2]
    assert one(lake, "select said from models.said", as_of=day(2)) == SAID[1]
    assert one(lake, "select said from models.said_at(1)") == SAID[0]


def test_no_column_of_a_view_is_taken_for_the_moment(lake: Lake) -> None:
    sql = 'select t, _lake_t, sku as "T2" from (select 7 as t, 8 as _lake_t, sku from shop.products)'
    publish(lake, {"named": sql, "over": "select t + _lake_t as s from named"})
    assert lake.query("select distinct t, _lake_t from models.named_at(1)").fetchall() == [(7, 8)]
    assert lake.query("select distinct s from models.over_at('2026-03-02')").fetchall() == [(15,)]


def test_all_kinds_of_sql_can_be_turned(lake: Lake) -> None:
    sqls = {
        "recursive": "with recursive r as (select 1 as n union all select n + 1 from r where n < (select count(*) from shop.products)) select max(n) as v from r",
        "pivoted": "select count(*) as v from shop.products pivot (max(price) for sku in ('a', 'b'))",
        "lateral": "select count(*) as v from shop.products p, lateral (select p.price + q.price as s from shop.products q where q.sku <> p.sku)",
        "windowed": "select sum(n)::bigint as v from (select row_number() over (order by price) as n from shop.products)",
        "joined": "select count(*) as v from shop.products natural join shop.products b",
        "sampled": "select count(*) as v from (from shop.products using sample 100%)",
        "ranged": "select count(*) as v from range(3) r(i), shop.products",
        "quoted": 'select count(*) as v from "shop"."products" as "a b"',
        "differed": "select count(*) as v from shop.products_diff(1, 2)",
        "dated": "select count(*) as v from shop.products_at(1) a, shop.products_at('2026-03-02T12:00:00Z') b",
    }
    publish(lake, sqls)
    for name, sql in sqls.items():
        assert lake.query(f"select trouble from lakehouse.models where name = '{name}'").fetchall() == [
            (None,)
        ]
        for seq in (1, 2, 3):
            turned = one(lake, f"select v from models.{name}_at({seq})")
            assert (
                turned == one(lake, f"select v from models.{name}", as_of=seq) == one(lake, sql, as_of=seq)
            ), name


def test_a_moment_chooses_files_through_all_views(lake: Lake) -> None:
    for number in range(40):
        bring(lake, 4, [{"sku": sku, "price": number + 0.5} for sku in "abcdef"])
    publish(lake, CHAIN)
    session = lake.session()

    def files(sql: str) -> list[str]:
        plan = session.query(f"explain analyze {sql}").fetchall()[0][1]
        return re.findall(r"Total Files Read: (\d+)", plan)

    for moment in ("2", "20", "'2026-03-03T12:00:00Z'", "now() - interval 1 day"):
        asked = f"from shop.products_at({moment}) where price < 10"
        n, total = session.query(f"select count(*), sum(price) {asked}").fetchall()[0]
        assert session.query(f"from models.counted_at({moment})").fetchall() == [(n, total)]
        assert files(f"from models.cheap_at({moment})") == files(f"select sku, price {asked}")
    assert files("from models.cheap_at(2)") == ["1"]


# Only what changed is made anew.


def marked(lake: Lake, *names: str) -> None:
    """Put a mark in the place of views: it stays until they are made anew."""
    refresh(lake)
    with duckdb.connect(str(catalog_path(lake))) as connection:
        for name in names:
            connection.execute(f"create or replace view models.{name} as select 'mark' as mark")


def marks(lake: Lake) -> set[str]:
    refresh(lake)
    with duckdb.connect(str(catalog_path(lake)), read_only=True) as connection:
        found = "select view_name from duckdb_views() where schema_name = 'models' and sql like '%''mark''%'"
        return {row[0] for row in connection.execute(found).fetchall()}


def test_a_load_makes_no_view_anew_until_a_column_changes(lake: Lake) -> None:
    with lake.load("news", observed_at=day(1)) as load:
        load.write("items", [{"id": 1}])
    publish(lake, CHAIN | {"read": "select count(*) as n from news.items", "both": "from read, counted"})
    views = {*CHAIN, "read", "both"}
    marked(lake, *views)
    bring(lake, 4, [{"sku": "z", "price": 1.0}])
    create(lake, "a-tag")
    pack(lake)
    assert marks(lake) == views
    bring(lake, 5, [{"sku": "z", "price": 1.0, "colour": "red"}])
    assert marks(lake) == {"read"}
    assert one(lake, "select said from models.said") == "1 for 1.0"


def test_a_new_definition_makes_anew_itself_and_what_reads_it(lake: Lake) -> None:
    publish(lake, CHAIN | {"alone": "select 1 as n from shop.products"})
    marked(lake, *CHAIN, "alone")
    publish(lake, CHAIN | {"counted": "select 7 as n, 8 as t", "alone": "select 1 as n from shop.products"})
    assert marks(lake) == {"cheap", "alone"}
    assert one(lake, "select said from models.said_at(1)") == "7 for 8"
    publish(lake, CHAIN | {"alone": "select 1 as n from shop.products"}, description="only words")
    assert marks(lake) == {"cheap", "alone"}
    asked = "select description, built_seq from lakehouse.models where name = $name"
    told = {n: lake.query(asked.replace("$name", f"'{n}'")).fetchall()[0] for n in CHAIN}
    assert told == {"cheap": ("only words", 1), "counted": ("only words", 3), "said": ("only words", 1)}


def test_an_update_and_a_catalog_made_anew_say_the_same(lake: Lake) -> None:
    refresh(lake)
    publish(lake, CHAIN | {"gone": "select 1 as n", "bad": "select nope from cheap"})
    refresh(lake)
    bring(lake, 4, [{"sku": "z", "price": 1.0, "colour": "red"}])
    publish(
        lake, CHAIN | {"cheap": "select * from shop.products", "bad": "select nope from cheap"}, key=("sku",)
    )
    refresh(lake)
    updated = told(lake)
    refresh(lake, force=True)
    assert told(lake) == updated
    assert {name for kind, name in updated if kind == "view" and "gone" in name} == set()


def told(lake: Lake) -> dict[tuple[str, str], Any]:
    with duckdb.connect(str(catalog_path(lake)), read_only=True) as connection:
        views = connection.execute(
            "select view_name, sql from duckdb_views() where schema_name = 'models'"
        ).fetchall()
        macros = connection.execute(
            "select function_name, macro_definition from duckdb_functions() where schema_name = 'models'"
        ).fetchall()
        rows = connection.execute("from models").fetchall()
    return (
        {("view", name): sql for name, sql in views}
        | {("macro", name): sql for name, sql in macros}
        | {("row", row[0]): row for row in rows}
    )


# What cannot be read says so, and disturbs nothing else.


def test_a_view_that_can_be_bound_no_more_says_why_in_any_client(lake: Lake) -> None:
    sqls = {
        "sums": "select sku, round(price, 1) as price from shop.products",
        "top": "select max(price) as m from sums",
    }
    publish(lake, sqls | CHAIN, columns=(("sku", "VARCHAR"), ("price", "DOUBLE")))
    assert one(lake, "select m from models.top") == 5.0
    bring(lake, 4, [{"sku": "a", "price": "on request"}])
    refresh(lake)
    with duckdb.connect(str(catalog_path(lake)), read_only=True) as client:
        for asked in ("from models.sums", "select count(*) from models.sums", "from models.sums where price = 1",
                      "select 1 from shop.products left join models.sums using (sku)", "from models.sums_at(1)",
                      "from models.top", "from models.top_at('2026-03-01')"):  # fmt: skip
            with pytest.raises(
                duckdb.Error, match=r"models.sums.* cannot be read: .*round.*; run lakehouse build"
            ):
                client.execute(asked).fetchall()
        assert client.execute("select count(*) from shop.products").fetchall() == [(1,)]
        assert client.execute("select count(*) from models.cheap_at(3)").fetchall()
        assert len(client.execute("show all tables").fetchall()) > len(sqls)
    bring(lake, 5, [{"sku": "a", "price": 1.0}])  # the column stays what it is by now
    publish(
        lake, sqls | {"sums": "select sku, try_cast(price as double) as price from shop.products"} | CHAIN
    )
    assert one(lake, "select m from models.top") == 1.0
    assert one(lake, "select m from models.top_at(2)") == 3.0


@pytest.mark.parametrize(
    ("sql", "reads", "reason"),
    [
        ("select * from gone.t", "gone.t", "there is no source gone"),
        ("select * from shop.t", "shop.t", "shop has no table t"),
        ("select * from absent", "models.absent", "models"),
        ("select nope from shop.products", "shop.products", "nope"),
    ],
)
def test_what_is_missing_is_named(lake: Lake, sql: str, reads: str, reason: str) -> None:
    from lakehouse.core.definition import Definition, Reference

    source, table = reads.split(".")
    name = reads if reads in sql else table
    at = sql.index(name)
    reference = Reference(source=source, table=table, start=at, end=at + len(name))
    load = lake.load("models", observed_at=day(3))
    load.pipeline = to_json([*defined(lake, CHAIN), Definition(name="v", sql=sql, references=(reference,))])
    load.publish()
    with pytest.raises(QueryError, match=f"models.v cannot be read: .*{reason}"):
        lake.query("from models.v").fetchall()
    assert one(lake, "select said from models.said") == SAID[2]


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_text('{secret}')", "select * from '{secret}'", "select (select content from read_text('{secret}'))",
        'with x as (select 1) select * from x, (with "{secret}" as (select 1) from "{secret}"), "{secret}"',
        "select 1; copy (select 1) to '{written}'", "copy (select 1) to '{written}'", "from query('select 1')",
        "select 1; drop table loads", "from glob('/*')", "from duckdb_settings()", "show tables", "from main.read_text('{secret}')",
        "from lakehouse.main.about", "from json_execute_serialized_sql('x')", 'from main."{secret}"', "select", "",
    ],
)  # fmt: skip
def test_sql_of_a_log_reaches_nothing_but_tables_of_the_lake(lake: Lake, tmp_path: Path, sql: str) -> None:
    from lakehouse.core.definition import Definition

    secret, written = tmp_path / "secret.csv", tmp_path / "written.csv"
    secret.write_text("a\nsecret\n")
    text = sql.format(secret=secret, written=written)
    load = lake.load("models", observed_at=day(3))
    hostile = Definition(name="v", sql=text, columns=(("c", "VARCHAR, (select 1 from read_text('/x'))"),))
    load.pipeline = to_json([hostile, *defined(lake, CHAIN)])
    load.publish()
    assert refresh(lake) == {}
    with duckdb.connect(str(catalog_path(lake)), read_only=True) as client:
        for asked in ("from models.v", "from models.v_at(1)"):
            with pytest.raises(duckdb.Error, match="cannot be read"):
                client.execute(asked).fetchall()
        assert client.execute("select said from models.said").fetchall() == [(SAID[2],)]
    assert not written.exists()


def test_definitions_that_are_nonsense_leave_all_else_as_it_is(lake: Lake) -> None:
    with lake.load("models", observed_at=day(3)) as load:
        load.write("stored", [{"n": 1}])
        load.pipeline = {
            "models": {"v": {"kind": "view", "sql": "from s.t", "references": [["s", "t", "", 3, 99, 0]]}}
        }
    session = lake.session()
    assert isinstance(session.broken["models"], FormatError)
    assert session.query("select n from models.stored").fetchall() == [(1,)]
    assert session.query("select count(*) from shop.products").fetchall() == [(2,)]
    shown = run("tables", "--lake", lake.url).ok()
    assert "warning: models: the definition of 'v'" in shown.err
    assert "models.stored" in shown.out
    assert "models.stored: 1 row" in run("show", "models.stored", "--lake", lake.url).ok().out


def test_without_the_log_of_models_all_else_can_be_read(lake: Lake) -> None:
    publish(lake, CHAIN)
    refresh(lake)
    (Path(lake.url) / "models" / "_log" / f"{1:020d}.jsonl").write_text("{")
    session = Lake.open(lake.url).session()
    assert set(session.broken) == {"models"}
    assert session.query("select count(*) from shop.products").fetchall() == [(2,)]
    with pytest.raises(IntegrityError, match="ends in the middle of a commit"):
        session.query("from models.said")


def test_a_source_with_a_broken_log_takes_only_its_views_along(lake: Lake) -> None:
    with lake.load("news", observed_at=day(1)) as load:
        load.write("items", [{"id": 1}])
    publish(lake, CHAIN | {"read": "select * from news.items"})
    refresh(lake)
    log = Path(lake.url) / "news" / "_log"
    (log / f"{1:020d}.jsonl").write_text("{")
    session = Lake.open(lake.url).session()
    assert set(session.broken) == {"news"}
    assert session.query("select said from models.said").fetchall() == [(SAID[2],)]
    with pytest.raises(QueryError, match=r"models\.read cannot be read: the log of news cannot be read"):
        session.query("from models.read").fetchall()


def test_a_state_that_expired_is_refused(lake: Lake) -> None:
    publish(lake, CHAIN | {"past": "select count(*) as n from shop.products_history"})
    expire(lake, "shop", parse("keep monthly after 1 day"), now=day(30))
    assert one(lake, "select said from models.said") == SAID[2]
    for asked in ("models.said_at(1)", "models.past_at(1)", "models.said_at('2026-03-01T12:00:00Z')"):
        with pytest.raises(QueryError, match=r"as of .* is expired"):
            lake.query(f"from {asked}").fetchall()
    with pytest.raises(QueryError, match="is expired"):
        lake.query("from models.past", as_of=1).fetchall()


# Kinds that change.


def store(lake: Lake, number: int, rows: list[dict[str, Any]], sqls: dict[str, str], **said: Any) -> None:
    with lake.load("models", observed_at=day(number)) as load:
        load.write("m", rows, disposition="replace", primary_key="k")
        load.pipeline = to_json(defined(lake, sqls, **said))


def test_a_table_that_became_a_view_follows_its_definition_and_loses_nothing(lake: Lake) -> None:
    stored = {"m": "select 1 as k"}
    store(lake, 1, [{"k": 1, "v": "x"}], stored, kind="table")
    store(lake, 2, [{"k": 1, "v": "y"}], stored, kind="table")
    assert one(lake, "select count(*) from models.m_history") == 2
    refresh(lake)
    publish(lake, {"m": "select sku from shop.products", "over": "select count(*) as n from m"}, at=day(3))
    for _ in ("updated", "anew"):
        assert lake.query("select sku from models.m order by 1").fetchall() == [("b",), ("c",)]
        assert lake.query("select sku from models.m_at(1) order by 1").fetchall() == [("a",), ("b",)]
        assert one(lake, "select n from models.over") == 2
        for name in ("m_history", "m_diff(1, 2)", "m_history_at(1)"):
            with pytest.raises(NotFoundError):
                lake.query(f"from models.{name}")
        refresh(lake, force=True)
    store(lake, 4, [{"k": 1, "v": "z"}], stored, kind="table")
    assert lake.query("select v from models.m_history order by from_load").fetchall() == [
        ("x",),
        ("y",),
        ("z",),
    ]
    assert lake.query("select v from models.m_at(1)").fetchall() == [("x",)]
    with pytest.raises(NotFoundError):
        lake.query("from models.over")


def test_a_model_that_is_no_more_is_gone_from_the_catalog(lake: Lake) -> None:
    publish(lake, CHAIN)
    refresh(lake)
    publish(lake, {name: CHAIN[name] for name in ("cheap", "counted")})
    refresh(lake)
    for name in ("said", "said_at(1)"):
        with pytest.raises(NotFoundError):
            lake.query(f"from models.{name}")
    assert lake.query("select name from lakehouse.models order by 1").fetchall() == [("cheap",), ("counted",)]
    publish(lake, {})
    with pytest.raises(NotFoundError):
        lake.query("from models.cheap")


def test_a_model_called_like_a_history_keeps_its_name(lake: Lake) -> None:
    stored, view = {"m": "select 1 as k"}, {"m_history": "select 7 as n from shop.products"}
    store(lake, 1, [{"k": 1}], stored, kind="table")
    refresh(lake)

    def both(number: int) -> None:
        load = lake.load("models", observed_at=day(number))
        load.write("m", [{"k": number}], disposition="replace", primary_key="k")
        definitions = [*defined(lake, stored, kind="table"), *defined(lake, view)]
        load.pipeline = to_json(definitions)
        load.publish()

    for number in (2, 3):
        both(number)
        assert lake.query("select distinct n from models.m_history").fetchall() == [(7,)]
        assert lake.query("select distinct n from models.m_history_at(1)").fetchall() == [(7,)]
    store(lake, 4, [{"k": 9}], stored, kind="table")
    assert one(lake, "select count(*) from models.m_history where change = 'appeared'") == 4
    assert one(lake, "select count(*) from models.m_history_at(1)") == 1


# What the command line and the table `lakehouse.models` tell.


def test_the_table_of_models_tells_all_of_them(lake: Lake) -> None:
    from lakehouse.core.definition import Input

    rows = [{"k": 1, "v": "x"}]
    sqls = {"m": "select 1 as k from shop.products"}
    store(lake, 1, rows, sqls, kind="table", key=("k",), about={"v": "a letter"}, tests=({"kind": "unique"},),
          inputs={"shop.products": Input(seq=3, digest="d")}, grain="a k", fingerprint="f")  # fmt: skip
    store(lake, 2, rows, sqls | {"w": "select sku, 1 as one from shop.products"}, about={"one": "always 1"})
    publish(lake, {"w": "select sku, 1 as one from shop.products"}, about={"one": "always 1"}, at=day(3))
    told_of = lake.query(
        "select name, kind, path, columns, built_seq, trouble from lakehouse.models"
    ).fetchall()
    assert told_of == [
        ("w", "view", "models/w.sql", [{"name": "sku", "type": "VARCHAR", "description": None},
         {"name": "one", "type": "INTEGER", "description": "always 1"}], 2, None),
    ]  # fmt: skip
    store(lake, 4, rows, sqls, kind="table", key=("k",), about={"v": "a letter"}, tests=({"kind": "unique"},),
          inputs={"shop.products": Input(seq=3, digest="d")}, grain="a k", fingerprint="f")  # fmt: skip
    asked = "select name, kind, key, grain, inputs, columns, tests, fingerprint from lakehouse.models"
    assert lake.query(asked).fetchall() == [
        ("m", "table", ["k"], "a k", [{"source": "shop", "table": "products", "seq": 3}],
         [{"name": "k", "type": "BIGINT", "description": None}, {"name": "v", "type": "VARCHAR", "description": "a letter"}],
         1, "f"),
    ]  # fmt: skip


def test_the_command_line_tells_what_a_stored_model_reads(lake: Lake) -> None:
    sqls = {"m": "select 1 as k from shop.products"}
    store(lake, 1, [{"k": 1}], sqls, kind="table", description="Ones.", grain="a one")
    shown = run("show", "models.m", "--lake", lake.url).ok().out
    assert shown.startswith("models.m: 1 row, replace, key k\nOnes.\none row is a one\nreads shop.products\n")
    assert run("show", "models.m", "--json", "--lake", lake.url).ok().json["reads"] == ["shop.products"]
    publish(lake, sqls, kind="table", description="Other words.")
    assert run("log", "models", "-n", "1", "--lake", lake.url).ok().out.rstrip().endswith("models: m")
    publish(lake, {})
    assert run("log", "models", "-n", "1", "--lake", lake.url).ok().out.rstrip().endswith("no more: m")


def test_the_command_line_knows_views(lake: Lake) -> None:
    publish(lake, CHAIN, at=day(3), description="For people.", about={"n": "how many"})
    publish(
        lake, CHAIN | {"cheap": "select sku, price from shop.products"}, at=day(3), about={"n": "how many"}
    )
    listed = run("tables", "--lake", lake.url).ok().out
    assert [line.split() for line in listed.splitlines() if "models" in line] == [
        ["models.cheap", "view"], ["models.counted", "view"], ["models.said", "view"],
    ]  # fmt: skip
    found = {entry["table"]: entry for entry in run("tables", "--json", "--lake", lake.url).ok().json}
    assert found["models.counted"]["reads"] == ["models.cheap"]
    shown = run("show", "models.counted", "--lake", lake.url).ok().out
    assert "models.counted: view, no key" in shown
    assert "reads models.cheap" in shown
    assert ["n", "BIGINT", "how", "many"] in [line.split() for line in shown.splitlines()]
    assert (
        run("show", "models.said", "--json", "--lake", lake.url).ok().json["columns"][0]["type"] == "VARCHAR"
    )
    told_lines = run("log", "models", "--lake", lake.url).ok().out.splitlines()[1:]
    assert [line.rpartition("  ")[2] for line in told_lines] == [
        "views: cheap, counted, said",
        "views: cheap, counted, said",
    ]
    run("show", "models.absent", "--lake", lake.url).failed(2, "models has no table 'absent'")
    run("diff", "models.said", "--from", "1", "--lake", lake.url).failed(2, "models.said is a view")
    asked = run(
        "query", "--as-of", "1", "--format", "csv", "select said from models.said", "--lake", lake.url
    )
    assert asked.ok().out == f"said\n{SAID[0].replace('1 for', '2 for').replace('1.0', '21.0')}\n"


def test_no_scraper_is_called_models(tmp_path: Path) -> None:
    from ingest.discover import load_scraper

    folder = tmp_path / "ingest" / "sources"
    folder.mkdir(parents=True)
    (folder / "models.py").write_text("def models():\n    return []\n")
    with pytest.raises(UserError, match=r"models\.py: a scraper cannot be called models"):
        load_scraper(tmp_path, "models")
