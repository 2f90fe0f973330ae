"""The mirror in Postgres: what it shows is what the lake has, whatever happened to the lake, the server and in between."""

import secrets
import shutil
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cluster import Cluster
from proxy import Fault, Piece, TcpProxy
from warehouse import Warehouse

from lakehouse import Lake, tags
from lakehouse.core.gates import OPEN
from lakehouse.errors import (
    ContentionError,
    ForkError,
    IntegrityError,
    LakehouseError,
    NotFoundError,
    SetupError,
    UserError,
)
from lakehouse.pack import pack
from lakehouse.prune import prune
from lakehouse.retention import expire, parse
from lakehouse.revert import revert
from sync.postgres import ledger, tables
from sync.postgres.check import verify
from sync.postgres.connecting import connect, fetch
from sync.postgres.push import PgReport, push, status

if TYPE_CHECKING:
    from sync.transfer import Progress

START = datetime(2026, 11, 1, tzinfo=UTC)


class Shop:
    """A lake of one source and a mirror of it; loads are a day apart."""

    def __init__(self, root: Path, url: str) -> None:
        self.lake = Lake.create(root / "lake")
        self.url = url

    def load(self, source: str = "shop", **writes: Any) -> None:
        """One load: `table=(rows, settings)`."""
        head = self.lake.log(source).head
        with self.lake.load(source, observed_at=START + timedelta(days=head), gates=OPEN) as load:
            for table, (rows, settings) in writes.items():
                load.write(table, rows, **settings)

    def sync(self, **options: Any) -> PgReport:
        return push(self.lake, self.url, name="warehouse", **options)

    def actions(self, **options: Any) -> dict[str, str]:
        """What a sync did, by table."""
        return {t.table: t.action for source in self.sync(**options).sources for t in source.tables}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return Warehouse(self.lake, self.url).rows(sql)

    def same(self) -> None:
        """Everything there is as it is here."""
        for source in self.lake.sources():
            Warehouse(self.lake, self.url).check(source)
        assert not verify(self.lake, self.url, name="warehouse", deep=True).errors


@pytest.fixture
def shop(tmp_path: Path, postgres_url: str) -> Shop:
    return Shop(tmp_path, postgres_url)


@pytest.fixture
def defining(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Puts definitions of models in force, without a build."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[1] / "e2e")])
    from defining import publish

    return publish


@pytest.fixture
def three_loads(shop: Shop) -> Shop:
    """`a` changes, `b` disappears and comes back, `c` appears."""
    keyed = {"disposition": "replace", "primary_key": "sku"}
    shop.load(products=([{"sku": "a", "price": 1.5}, {"sku": "b", "price": 2.5}], keyed))
    shop.load(products=([{"sku": "a", "price": 1.7}], keyed))
    shop.load(
        products=([{"sku": "a", "price": 1.7}, {"sku": "b", "price": 9.5}, {"sku": "c", "price": 3.5}], keyed)
    )
    return shop


def test_what_people_ask(three_loads: Shop) -> None:
    three_loads.sync()
    rows = three_loads.rows
    assert sorted(rows("select * from shop.products")) == [("a", 1.7), ("b", 9.5), ("c", 3.5)]
    assert rows("select * from shop.products_at('2026-11-02Z')") == [("a", 1.7)]
    assert sorted(rows("select * from shop.products_at_load(1)")) == [("a", 1.5), ("b", 2.5)]
    assert rows("select * from shop.products_at_load(0)") == []
    changes = (
        "select sku, from_load, to_load, change, changed_columns from shop.products_history order by 1, 2"
    )
    assert rows(changes) == [
        ("a", 1, 2, "appeared", []), ("a", 2, None, "changed", ["price"]),
        ("b", 1, 2, "appeared", []), ("b", 2, 3, "disappeared", []), ("b", 3, None, "reappeared", []),
        ("c", 3, None, "appeared", []),
    ]  # fmt: skip
    diff = "select change, changed_columns, sku, price, before from shop.products_diff('2026-11-01Z', '2026-11-03Z') order by sku"
    assert rows(diff) == [
        ("changed", ["price"], "a", 1.7, '{"sku": "a", "price": 1.5}'),
        ("changed", ["price"], "b", 9.5, '{"sku": "b", "price": 2.5}'),
        ("appeared", [], "c", 3.5, None),
    ]
    assert rows("select seq, source from lakehouse.mirror") == [(3, "shop")]
    assert rows("select count(*) from lakehouse.loads") == [(3,)]
    assert rows('select "column_name", identifier, type from lakehouse.columns order by place') == [
        ("sku", "sku", "text"), ("price", "price", "double precision"),
    ]  # fmt: skip
    three_loads.same()


def test_a_moment_is_looked_up_once_and_the_query_uses_indexes(
    three_loads: Shop, postgres_server: Cluster
) -> None:
    three_loads.sync()
    database = three_loads.url.rpartition("/")[2]
    asked = "set enable_seqscan = off; explain (costs off) select * from shop.products_at('2026-11-02Z') where sku = 'a'"
    plan = postgres_server.psql(asked, database=database)
    assert "One-Time Filter" in plan
    assert "Function Scan" not in plan
    assert "Index Cond: (sku = 'a'::text)" in plan


def test_everything_that_may_happen_to_tables(shop: Shop) -> None:
    keyed = {"disposition": "replace", "primary_key": "id"}
    merged = {"disposition": "merge", "primary_key": "id"}
    odd = {
        "from_load": 1,
        "From_Load": "x",
        "valid_from": 2,
        "ctid": 3,
        "select": 4,
        "_lake_exact": 5,
        "é" * 80: 6,
        "t": 7,
    }
    shop.load(
        added=([{"n": 1}], {}),
        snapped=([{"x": 1}, {"x": 1}], {"disposition": "replace"}),
        keyed=([{"id": 1, "v": None, "w": 1, "seen": 1}, {"id": 2, "v": None, "w": 2, "seen": 1}], keyed | {"volatile": "seen"}),
        merged=([{"id": 1, "v": {"a": 1}}], merged),
        grouped=([{"g": 1, "x": 1}, {"g": 1, "x": 2}, {"g": 2, "x": 1}], {"disposition": "merge", "merge_key": "g"}),
        odd=([{"id": 1} | odd], keyed),
        empty=([{}, {}], {}),
        rekeyed=([{"id": 1, "other": 5, "v": 1}], keyed),
    )  # fmt: skip
    shop.sync()
    shop.load(
        added=([{"n": 2, "m": "x\0y"}], {}),
        snapped=([{"x": 2}, {"x": 1}], {"disposition": "replace"}),
        keyed=([{"id": 1, "v": 5, "w": 1.5, "seen": 2}], keyed | {"volatile": "seen"}),
        merged=([{"id": 2, "v": {"a": 1, "b": [1, None]}}], merged | {"deletes": [{"id": 1}]}),
        grouped=([{"g": 1, "x": 3}], {"disposition": "merge", "merge_key": "g"}),
        odd=([{"id": 1.0} | odd | {"ctid": "text"}, {"id": 2, "change": 1, "before": 2, "n": 3}], keyed),
        empty=([{}], {}),
        rekeyed=([{"id": 1, "other": 5, "v": 2}, {"id": 1, "other": 6, "v": 3}], keyed | {"primary_key": "other"}),
    )  # fmt: skip
    actions = shop.actions()
    assert actions == {
        "added": "extended", "snapped": "extended", "keyed": "rebuilt", "merged": "extended", "grouped": "extended",
        "odd": "rebuilt", "empty": "extended", "rekeyed": "rebuilt",
    }  # fmt: skip
    shop.same()
    shop.load(
        keyed=([{"id": 1, "v": 5, "w": 1.5, "seen": 3}, {"id": 3, "v": 7}], keyed | {"volatile": "seen"}),
        merged=([{"id": 1, "v": "text"}], merged),
        odd=([{"id": 3}], keyed),
        empty=([{"now": "a column"}], {}),
        rekeyed=([{"id": 1, "other": 6, "v": 3}], keyed | {"primary_key": "other"}),
        new=([{"later": True}], {}),
    )  # fmt: skip
    shop.load(rekeyed=([{"id": 2, "other": 6, "v": 3}], {"disposition": "append"}))
    shop.sync()
    shop.same()
    names = "select identifier from lakehouse.columns where table_name = 'odd' order by place"
    assert [name for (name,) in shop.rows(names)][:4] == ["id", "from_load", "From_Load_2", "valid_from"]


def test_reverts_packs_prunes_and_retentions(three_loads: Shop) -> None:
    shop, keyed = three_loads, {"disposition": "replace", "primary_key": "sku"}
    shop.sync()
    revert(shop.lake, "shop", 1)
    assert shop.actions() == {"products": "extended"}
    shop.same()
    pack(shop.lake, "shop")
    prune(shop.lake, "shop")
    assert shop.actions() == {}
    assert shop.sync().sources[0].relation == "equal"
    shop.load(products=([{"sku": "z", "price": 4}], keyed), log=([{"n": 1}], {}))
    tags.create(shop.lake, "kept", 2)
    expire(shop.lake, "shop", parse("keep daily after 1 days"), now=START + timedelta(days=400))
    assert shop.sync().sources[0].loads == 2
    shop.same()


def test_states_that_a_retention_let_go_are_refused_with_the_nearest_that_are_kept(shop: Shop) -> None:
    for n in range(6):
        with shop.lake.load("shop", observed_at=START + timedelta(hours=n), gates=OPEN) as load:
            load.write("products", [{"sku": "a", "price": n}], disposition="replace", primary_key="sku")
        if n == 4:
            shop.sync()
    expire(shop.lake, "shop", parse("keep daily after 1 days"), now=START + timedelta(days=400))
    assert shop.actions() == {"products": "rebuilt"}
    with pytest.raises(LakehouseError, match="shop: the state as of load 3 is expired"):
        shop.rows("select * from shop.products_at_load(3)")
    with pytest.raises(LakehouseError, match="expired") as caught:
        shop.rows(f"select * from shop.products_at('{START + timedelta(hours=2, minutes=1)}')")
    assert "The nearest states that are kept: load 0 and load 6." in str(caught.value.__cause__)
    assert [row[0] for row in shop.rows("select seq from lakehouse.loads where expired order by 1")] == [
        1,
        2,
        3,
        4,
        5,
    ]
    shop.same()


def test_a_large_table_is_filled_over_several_connections(
    three_loads: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "LARGE", 1)
    three_loads.sync()
    three_loads.same()
    three_loads.sync(repair=True)
    three_loads.same()
    left = "select count(*) from pg_class where starts_with(relname, '_lake_loading_')"
    assert three_loads.rows(left) == [(0,)]
    named = "select indexname from pg_indexes where schemaname = 'shop' order by 1"
    assert [name for (name,) in three_loads.rows(named)] == [f"__products_{n}" for n in range(1, 6)]


def test_keys_that_fit_into_no_index_are_mirrored_without_one(shop: Shop) -> None:
    keyed = {"disposition": "replace", "primary_key": "url"}
    shop.load(pages=([{"url": "a", "n": 1}], keyed))
    shop.sync()
    long = secrets.token_hex(9000)  # does not compress
    shop.load(pages=([{"url": "a", "n": 1}, {"url": long, "n": 2}], keyed))
    assert shop.actions() == {"pages": "rebuilt"}
    shop.load(pages=([{"url": long, "n": 3}], keyed))
    assert shop.actions() == {"pages": "extended"}
    shop.same()


# Exactly once.


def test_of_two_syncs_at_once_the_second_waits_and_finds_it_done(three_loads: Shop) -> None:
    reports: list[PgReport] = []
    ready = threading.Barrier(3)

    def sync() -> None:
        lake = Lake.open(three_loads.lake.url)
        ready.wait()
        reports.append(push(lake, three_loads.url, name="warehouse"))

    threads = [threading.Thread(target=sync) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.sources[0].loads for report in reports) == [0, 0, 3]
    three_loads.same()


def cut_at(n: int) -> Callable[[Piece], Fault | None]:
    """Cut the connection at the n-th piece, before or after the server got it."""
    return lambda piece: Fault(kind="cut after" if n % 2 else "cut before") if piece.n == n else None


def test_a_sync_that_is_cut_anywhere_changes_nothing(three_loads: Shop, postgres_server: Cluster) -> None:
    shop, keyed = three_loads, {"disposition": "replace", "primary_key": "sku"}
    shop.sync()
    before = shop.rows("select * from shop.products_history order by 1, 3, 5")
    shop.load(products=([{"sku": "a", "price": 5, "new": "x"}], keyed), other=([{"n": 1}], {}))
    with TcpProxy(postgres_server.port) as proxy:
        url = shop.url.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        push(shop.lake, url, name="warehouse", dry_run=True)
        failures: list[LakehouseError] = []
        while shop.rows("select seq from lakehouse.positions") != [(4,)]:
            assert shop.rows("select * from shop.products_history order by 1, 3, 5") == before
            proxy.clear(cut_at(6 + 9 * len(failures)))
            try:
                push(shop.lake, url, name="warehouse")
            except LakehouseError as error:
                failures.append(error)
    assert len(failures) > 5
    assert {type(error) for error in failures} == {SetupError}
    shop.sync()
    shop.same()


def test_a_mirror_of_another_history_is_refused_and_both_are_shown(tmp_path: Path, postgres_url: str) -> None:
    one = Shop(tmp_path / "one", postgres_url)
    one.load(t=([{"n": 1}], {}))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    two = Shop(tmp_path / "two", postgres_url)
    assert two.lake.id == one.lake.id
    for each, n in ((one, 2), (two, 3)):
        each.load(t=([{"n": n}], {}))
    one.sync()
    with pytest.raises(ForkError) as caught:
        two.sync()
    mine, theirs = two.lake.log("shop").commits[1], one.lake.log("shop").commits[1]
    assert mine.load_id in str(caught.value)
    assert theirs.load_id in str(caught.value)
    assert status(two.lake, postgres_url, name="warehouse")[0].relation == "diverged"
    one.same()


def test_a_mirror_that_has_more_is_left_alone(tmp_path: Path, postgres_url: str) -> None:
    one = Shop(tmp_path / "one", postgres_url)
    one.load(t=([{"n": 1}], {}))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one.load(t=([{"n": 2}], {}))
    one.sync()
    two = Shop(tmp_path / "two", postgres_url)
    found = two.sync().sources[0]
    assert (found.relation, found.here, found.there.seq) == ("behind", 1, 2)
    assert [s.relation for s in status(two.lake, postgres_url, name="warehouse")] == ["behind"]
    (error,) = verify(two.lake, postgres_url, name="warehouse").errors
    assert "the database has 1 load that the lake has not: it was not verified" in error.message
    assert status(two.lake, postgres_url, name="warehouse")[0].verified_at is None
    one.same()


def test_what_is_not_ours_is_not_touched(three_loads: Shop, tmp_path: Path, postgres_server: Cluster) -> None:
    database = three_loads.url.rpartition("/")[2]
    postgres_server.psql("create schema shop; create table shop.mine as select 1 as n", database=database)
    with pytest.raises(UserError, match=r"the schema shop .* has tables"):
        three_loads.sync()
    assert postgres_server.psql("select * from shop.mine", database=database) == "1"
    three_loads.sync(schema_prefix="lake_")
    assert three_loads.rows("select count(*) from lake_shop.products") == [(3,)]
    other = Shop(tmp_path / "other", three_loads.url)
    other.load(t=([{"n": 1}], {}))
    with pytest.raises(UserError, match="mirrors the source shop of the lake"):
        other.sync(schema_prefix="lake_")
    with pytest.raises(NotFoundError):
        three_loads.sync(sources=["nothing"])


def test_a_plan_and_a_status_change_nothing(three_loads: Shop) -> None:
    planned = three_loads.sync(dry_run=True).sources[0]
    assert (planned.relation, planned.loads, [t.action for t in planned.tables]) == ("ahead", 3, ["new"])
    assert three_loads.rows("select count(*) from pg_namespace where nspname in ('shop', 'lakehouse')") == [
        (0,)
    ]
    assert [(s.relation, s.loads) for s in status(three_loads.lake, three_loads.url, name="w")] == [
        ("ahead", 3)
    ]
    three_loads.sync()
    found = status(three_loads.lake, three_loads.url, name="w")[0]
    assert (found.relation, found.loads, found.here.digest) == ("equal", 0, found.there.digest)
    assert found.synced_at is not None
    assert found.verified_at is None
    check = verify(three_loads.lake, three_loads.url, name="w").sources[0]
    assert [(check.versions,)] == three_loads.rows("select count(*) from shop.products_history")
    assert status(three_loads.lake, three_loads.url, name="w")[0].verified_at is not None
    assert three_loads.sync(dry_run=True).sources[0].tables == ()


def test_a_sync_that_finds_nothing_to_do_is_remembered(three_loads: Shop) -> None:
    def synced() -> datetime | None:
        return status(three_loads.lake, three_loads.url, name="warehouse")[0].synced_at

    three_loads.sync()
    pushed = synced()
    verify(three_loads.lake, three_loads.url, name="warehouse")
    three_loads.sync()
    again = synced()
    assert pushed is not None
    assert again is not None
    assert again > pushed
    assert status(three_loads.lake, three_loads.url, name="warehouse")[0].verified_at is not None
    three_loads.sync(dry_run=True)
    assert synced() == again


def test_progress_is_of_all_sources(three_loads: Shop) -> None:
    three_loads.load("other", t=([{"n": 1}], {}), u=([{"n": 1}], {}))
    seen: list[Progress] = []
    three_loads.sync(progress=seen.append)
    assert [one.files for one in seen] == sorted(one.files for one in seen)
    assert [one.size_bytes for one in seen] == sorted(one.size_bytes for one in seen)
    assert {one.all_files for one in seen} == {3}
    assert {one.all_bytes for one in seen} == {seen[-1].size_bytes}
    assert seen[-1].files == 3
    again = len(seen)
    three_loads.sync(progress=seen.append)
    assert len(seen) == again


# Rights, and what others build on it.


def test_a_writer_needs_no_more_than_to_make_schemas_or_to_own_them(
    shop: Shop, postgres_server: Cluster
) -> None:
    shop.load(t=([{"id": 1}], {"disposition": "replace", "primary_key": "id"}))
    database = shop.url.rpartition("/")[2]
    reader = postgres_server.new_user(f"reader_{database}")
    for role, grants in (
        (f"maker_{database}", 'grant create on database "{d}" to "{r}"'),
        (f"owner_{database}", ""),
    ):
        own = postgres_server.new_database()
        writer = postgres_server.new_user(role, grants=grants.format(d=own, r=role))
        if not grants:
            made = "; ".join(f'create schema {name} authorization "{role}"' for name in ("shop", "lakehouse"))
            postgres_server.psql(made, database=own)
        shop.url = postgres_server.dsn(own, writer)
        shop.sync(grant_to=[reader])
        shop.load(t=([{"id": 1.5}], {"disposition": "replace", "primary_key": "id"}))  # another type
        shop.sync()
        seen = "select count(*) from shop.t_at_load(1); select count(*) from shop.t_diff('2026-11-01Z', now()); select seq from lakehouse.mirror"
        assert postgres_server.psql(seen, database=own, user=reader).splitlines()[0] == "1"
        with pytest.raises(AssertionError, match="permission denied"):
            postgres_server.psql("delete from shop._t", database=own, user=reader)
    nobody = postgres_server.new_user(f"nobody_{database}")
    with pytest.raises(SetupError, match="permission denied"):
        push(shop.lake, postgres_server.dsn(postgres_server.new_database(), nobody), name="w")


def test_readers_wait_for_no_more_than_a_swap(three_loads: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, keyed = three_loads, {"disposition": "replace", "primary_key": "sku"}
    shop.sync()
    monkeypatch.setattr(ledger, "PATIENCE_MS", 100)
    with connect(shop.url) as reader:
        assert fetch(reader, "select count(*) from shop.products").column(0).to_pylist() == [3]
        shop.load(products=([{"sku": "a", "price": 2.5}], keyed))
        shop.sync()  # versions come and end beside those that are read
        shop.load(products=([{"sku": "a", "price": "text"}], keyed))
        with pytest.raises(ContentionError):  # another table, for which the reader would have to end
            shop.sync()
        assert shop.rows("select * from shop.products") == [("a", 2.5)]
        reader.rollback()
        shop.sync()
        assert fetch(reader, "select price from shop.products").column(0).to_pylist() == ['"text"']
    shop.same()


def test_views_of_others_stay_or_are_named(three_loads: Shop, postgres_server: Cluster) -> None:
    shop, keyed = three_loads, {"disposition": "replace", "primary_key": "sku"}
    shop.sync()
    database = shop.url.rpartition("/")[2]
    postgres_server.psql("create view public.mine as select * from shop.products", database=database)
    shop.load(products=([{"sku": "a", "price": 1.5, "new": 1}], keyed))
    shop.sync()
    assert postgres_server.psql("select * from public.mine", database=database) == "a|1.5"
    shop.load(products=([{"sku": "a", "price": "text", "new": 1}], keyed))
    with pytest.raises(UserError, match=r"shop\.products has to be made anew .* stands on it"):
        shop.sync()
    assert postgres_server.psql("select seq from lakehouse.positions", database=database) == "4"
    postgres_server.psql("drop view public.mine", database=database)
    shop.sync()
    shop.same()


def test_who_may_read_is_seen_to_without_a_load_and_nothing_else_is_touched(
    three_loads: Shop, postgres_server: Cluster
) -> None:
    shop, database = three_loads, three_loads.url.rpartition("/")[2]
    writer = postgres_server.new_user(
        f"writer_{database}", grants=f'grant create on database {database} to "writer_{database}"'
    )
    reader = postgres_server.new_user(f"late_{database}")
    shop.url = postgres_server.dsn(database, writer)
    shop.sync()
    postgres_server.psql("create table shop.of_others as select 1 as n", database=database)
    shop.sync(grant_to=[reader])
    ask = "select count(*) from shop.products_at_load(1); select count(*) from shop.products_history"
    assert postgres_server.psql(ask, database=database, user=reader) == "2\n6"
    with pytest.raises(AssertionError, match="permission denied"):
        postgres_server.psql("select * from shop.of_others", database=database, user=reader)


def test_who_may_not_read_a_table_may_not_when_it_is_made_anew(
    three_loads: Shop, postgres_server: Cluster
) -> None:
    shop, database = three_loads, three_loads.url.rpartition("/")[2]
    reader = postgres_server.new_user(f"not_all_{database}")
    postgres_server.psql(f'alter default privileges grant select on tables to "{reader}"', database=database)
    shop.load(others=([{"n": 1}], {}))
    shop.sync()
    postgres_server.psql(
        f'grant usage on schema shop, lakehouse to "{reader}"; '
        f'revoke select on shop._products, shop.products, shop.products_history from "{reader}"',
        database=database,
    )
    shop.sync(repair=True)
    ask = "select count(*) from shop.others_at_load(4)"
    assert postgres_server.psql(ask, database=database, user=reader) == "1"
    for relation in ("_products", "products", "products_history"):
        with pytest.raises(AssertionError, match="permission denied"):
            postgres_server.psql(f"select * from shop.{relation}", database=database, user=reader)


def test_objects_of_others_take_the_place_of_no_function_and_no_operator(
    three_loads: Shop, postgres_server: Cluster
) -> None:
    database = three_loads.url.rpartition("/")[2]
    three_loads.sync()
    postgres_server.psql(
        "create function public.to_jsonb(record) returns jsonb language plpgsql as $$begin return '0'; end$$; "
        "create function public.array_remove(text[], text) returns text[] language sql as 'select array[0::text]'; "
        "create schema hostile; "
        "create function hostile.no(timestamptz, timestamptz) returns bool language sql as 'select false'; "
        "create function hostile.no(bigint, bigint) returns bool language sql as 'select false'; "
        "create operator hostile.<= (leftarg = timestamptz, rightarg = timestamptz, function = hostile.no); "
        "create operator hostile.<= (leftarg = bigint, rightarg = bigint, function = hostile.no); "
        "create operator hostile.= (leftarg = bigint, rightarg = bigint, function = hostile.no)",
        database=database,
    )
    ask = (
        "select * from shop.products_at('2026-11-02Z'); select * from shop.products_at_load(2); "
        "select changed_columns, before from shop.products_diff('2026-11-01Z', '2026-11-02Z') where sku = 'a'"
    )
    for path in ("public", "hostile, pg_catalog, public"):
        found = postgres_server.psql(
            f"set search_path = {path}; {ask}".replace("sku = ", "sku like "), database=database
        )
        assert found == 'a|1.7\na|1.7\n{price}|{"sku": "a", "price": 1.5}', path


# Verify.


@pytest.mark.parametrize(
    ("edit", "deep", "said"),
    [
        ("delete from shop._products where sku = 'c'", False, "load 3"),
        ("update shop._products set price = 0 where sku = 'c'", False, "load 3"),
        ("update shop._products set price = 0 where to_load = 2 and sku = 'a'", True, "load"),
        ("update shop._products set to_load = 3 where sku = 'a' and from_load = 2", False, "load"),
        ("insert into shop._products select valid_from, valid_to, 2, to_load, change, changed_columns, 5, 'x', 1, null "  # noqa: ISC004
         "from shop._products where sku = 'c'", False, "load 2"),
        ("update lakehouse.loads set digest = 'x' where seq = 2", False, "lakehouse.loads"),
        ("drop view shop.products cascade", False, "lost its view"),
        ("drop view shop.products_history", False, "lost its view products_history"),
        ("drop function shop.products_at_load", False, "lost its function products_at_load"),
        ("create or replace function shop.products_at(timestamptz) returns setof shop.products language sql as "  # noqa: ISC004
         "'select * from shop.products'", False, "another function products_at"),
    ],
)  # fmt: skip
def test_whoever_changed_rows_is_found(
    three_loads: Shop, postgres_server: Cluster, edit: str, deep: bool, said: str
) -> None:
    three_loads.sync()
    database = three_loads.url.rpartition("/")[2]
    check = verify(three_loads.lake, three_loads.url, name="warehouse", deep=deep)
    assert not check.errors
    assert (check.sources[0].tables, check.sources[0].seq) == (1, 3)
    assert status(three_loads.lake, three_loads.url, name="warehouse")[0].verified_at is not None
    postgres_server.psql(edit, database=database)
    errors = verify(three_loads.lake, three_loads.url, name="warehouse", deep=deep).errors
    assert errors
    assert status(three_loads.lake, three_loads.url, name="warehouse")[0].verified_at is None
    assert said in errors[0].message
    assert "lakehouse sync warehouse --repair --source shop" in errors[0].hint
    if "loads" not in edit:
        assert "shop.products" in errors[0].message
        three_loads.sync(repair=True)
        assert not verify(three_loads.lake, three_loads.url, name="warehouse", deep=True).errors


@pytest.mark.parametrize(
    "edit",
    [
        "delete from lakehouse.loads where seq = 1",
        "update lakehouse.loads set effective_at = '2000-01-01Z'",
        "drop table shop._products cascade",
        "delete from lakehouse.columns",
        "create or replace function lakehouse.told(of_schema text, at bigint) returns boolean language sql stable as 'select false'",
    ],
)
def test_whatever_was_changed_is_mended_by_mirroring_anew(
    three_loads: Shop, postgres_server: Cluster, edit: str
) -> None:
    three_loads.sync()
    postgres_server.psql(edit, database=three_loads.url.rpartition("/")[2])
    three_loads.sync(repair=True)
    three_loads.same()
    wrong = "select count(*) from lakehouse.loads where effective_at <> timestamptz '2026-10-31Z' + seq * interval '1 day'"
    assert three_loads.rows(wrong) == [(0,)]


def test_a_mirror_that_has_more_and_lost_its_loads_is_told(
    three_loads: Shop, tmp_path: Path, postgres_server: Cluster
) -> None:
    shutil.copytree(tmp_path / "lake", tmp_path / "older")
    three_loads.load(products=([{"sku": "z"}], {"disposition": "replace", "primary_key": "sku"}))
    three_loads.sync()
    postgres_server.psql("delete from lakehouse.loads", database=three_loads.url.rpartition("/")[2])
    with pytest.raises(ForkError):
        push(Lake.open(tmp_path / "older"), three_loads.url, name="w")


def test_a_mirror_that_is_behind_is_compared_as_of_its_own_position(three_loads: Shop) -> None:
    shop, keyed = three_loads, {"disposition": "replace", "primary_key": "sku"}
    shop.sync()
    shop.load(products=([{"sku": "c", "price": 1.5, "new": "x"}], keyed), other=([{"n": 1}], {}))
    check = verify(shop.lake, shop.url, name="warehouse", deep=True)
    assert not check.errors
    assert (check.sources[0].loads, check.sources[0].tables, check.sources[0].skipped) == (1, 1, ["other"])


def test_rows_that_are_not_as_they_were_left_stop_a_sync(three_loads: Shop, postgres_server: Cluster) -> None:
    shop = three_loads
    shop.sync()
    postgres_server.psql("delete from shop._products where sku = 'c'", database=shop.url.rpartition("/")[2])
    shop.load(products=([{"sku": "a", "price": 1.5}], {"disposition": "replace", "primary_key": "sku"}))
    with pytest.raises(IntegrityError, match="not as the last sync left them") as caught:
        shop.sync()
    assert "lakehouse sync warehouse --repair --source shop" in caught.value.hint
    shop.sync(repair=True)
    shop.same()


# Errors that hold for all sources.


def test_a_connection_that_is_lost_is_told_once(three_loads: Shop, postgres_server: Cluster) -> None:
    shop = three_loads
    for source in ("alpha", "zeta"):
        shop.load(source, t=([{"n": 1}], {}))
    cut: list[Piece] = []

    def fault(piece: Piece) -> Fault | None:
        if b"CREATE SCHEMA" in piece.data and b"shop" in piece.data:
            cut.append(piece)
            return Fault(kind="cut before")
        return None

    with TcpProxy(postgres_server.port, fault) as proxy:
        url = shop.url.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        report = push(shop.lake, url, name="warehouse", raising=False)
    assert cut
    assert [(one.source, one.error is None) for one in report.sources] == [("alpha", True), ("shop", False)]
    assert "Nor was anything done for zeta." in str(report.sources[-1].error)


def test_roles_that_are_not_there_are_told_before_anything_is_copied(three_loads: Shop) -> None:
    with pytest.raises(UserError, match="grant_to: the database has no role Nobody's") as caught:
        three_loads.sync(grant_to=["public", "Nobody's"])
    assert 'CREATE ROLE "Nobody\'s"' in caught.value.hint
    assert three_loads.rows("select to_regnamespace('lakehouse') is null") == [(True,)]


# Models.


def test_models_are_mirrored_with_what_is_said_of_them(
    three_loads: Shop, defining: Callable[..., Any]
) -> None:
    shop, keyed = three_loads, {"disposition": "replace", "primary_key": "sku"}
    dear = "select sku, price from shop.products where price > 3"
    defining(shop.lake, {"dear": dear, "dearest": "select max(price) as price from models.dear"},
             description="What costs much.", about={"price": "in euro"})  # fmt: skip
    shop.sync()
    assert sorted(shop.rows("select * from models.dear")) == [("b", 9.5), ("c", 3.5)]
    assert shop.rows("select * from models.dearest") == [(9.5,)]
    said = "select obj_description('models.dear'::regclass), col_description('models.dear'::regclass, 2)"
    assert shop.rows(said) == [("What costs much.", "in euro")]
    assert shop.actions() == {}
    shop.load(products=([{"sku": "d", "price": 4.5}], keyed))
    assert shop.actions() == {"products": "extended", "dear": "rebuilt", "dearest": "rebuilt"}
    assert shop.rows("select * from models.dearest") == [(4.5,)]
    assert not verify(shop.lake, shop.url, name="warehouse", deep=True).errors
    defining(shop.lake, {"dear": "select sku, nothing from shop.products"})
    report = shop.sync().sources[-1]
    assert [(t.table, t.action) for t in report.tables] == [("dear", "failed"), ("dearest", "dropped")]
    assert "nothing" in str(report.tables[0].error)
    assert shop.rows("select * from models.dear") == [("d", 4.5)]


def test_a_stored_model_that_became_a_view_that_cannot_be_read_stays_whole(
    three_loads: Shop, defining: Callable[..., Any]
) -> None:
    shop = three_loads
    shop.load("models", dear=([{"sku": "a"}], {"disposition": "replace", "primary_key": "sku"}))
    shop.sync()
    defining(shop.lake, {"dear": "select nothing from shop.products"})
    assert shop.actions() == {"dear": "failed"}
    assert shop.rows("select sku, change from models.dear_history") == [("a", "appeared")]
    defining(shop.lake, {})
    shop.sync()
    assert shop.rows("select sku, change from models.dear_history") == [("a", "appeared")]
    shop.same()


def test_what_a_killed_first_load_left_is_dropped_before_anything_is_copied(
    three_loads: Shop, postgres_server: Cluster
) -> None:
    shop, database = three_loads, three_loads.url.rpartition("/")[2]
    shop.sync()
    left, ask = (
        "lakehouse._lake_loading_0123456789ab_t",
        "select count(*) from pg_class where relname like '%_loading_%'",
    )
    postgres_server.psql(f"create table {left} as select 1 as n", database=database)
    shop.load(products=([{"sku": "a"}], {"disposition": "replace", "primary_key": "sku"}))
    postgres_server.psql("delete from shop._products", database=database)
    with pytest.raises(IntegrityError):
        shop.sync()
    assert shop.rows(ask) == [(0,)]
    postgres_server.psql(f"create table {left} as select 1 as n", database=database)
    shop.sync(repair=True)
    assert shop.actions() == {}
    assert shop.rows(ask) == [(0,)]


def test_the_way_out_of_a_mirror_that_cannot_go_on_is_one(
    three_loads: Shop, tmp_path: Path, postgres_server: Cluster
) -> None:
    three_loads.sync()
    database = three_loads.url.rpartition("/")[2]
    shutil.rmtree(tmp_path / "lake" / "shop")
    three_loads.lake = Lake.open(tmp_path / "lake")
    three_loads.load(products=([{"sku": "z"}], {"disposition": "replace", "primary_key": "sku"}))
    with pytest.raises(ForkError) as fork:
        three_loads.sync()
    postgres_server.psql("delete from lakehouse.positions", database=database)
    with pytest.raises(IntegrityError, match="not how far it is") as lost:
        three_loads.sync()
    statements = str(lost.value.hint).partition("anew: ")[2].partition("; then")[0]
    assert statements in str(fork.value.hint)
    postgres_server.psql(statements, database=database)
    three_loads.sync()
    three_loads.same()
