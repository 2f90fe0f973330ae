"""Models, as their users build, break, mend and ask them."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import pytest
from command import PROGRAM, run

from lakehouse import Lake
from lakehouse.verify import verify

DAY = datetime(2026, 11, 1, 12, tzinfo=UTC)

PRODUCTS = [
    [{"sku": "a", "price": 1.0, "kind": "x"}, {"sku": "b", "price": 2.0, "kind": "x"}, {"sku": "c", "price": 9.0, "kind": "y"}],
    [{"sku": "a", "price": 1.5, "kind": "x"}, {"sku": "b", "price": 2.0, "kind": "x"}, {"sku": "d", "price": 4.0, "kind": "y"}],
    [{"sku": "a", "price": 1.5, "kind": "y"}, {"sku": "b", "price": 2.0, "kind": "x"}, {"sku": "d", "price": 5.0, "kind": "y"}],
]  # fmt: skip

FILES = {
    "dear.sql": "-- Products that cost more than one euro.\nselect sku, price, kind from shop.products where price > 1\n",
    "kinds.sql": """\
-- kind: table
-- key: [kind]
-- grain: one kind of product
-- description: What the products of each kind cost.
-- columns:
--   price: mean price, in euro
-- tests:
--   - not_null: [kind, price]
--   - range: {column: price, min: 0, max: 100}
select kind, count(*) as products, avg(price) as price from dear group by all
""",
    "visits_by_page.sql": """\
-- kind: incremental
-- key: [page]
select page, count(*) as visits, max(day) as newest from shop.visits group by page
""",
    "visits_seen.sql": "-- kind: incremental\nselect upper(page) as page, day from shop.visits where page <> 'z'\n",
    "cheapest.py": '''\
"""
key: [kind]
description: The cheapest product of each kind.
inputs:
  products: dear
"""

import polars as pl


def cheapest(products: pl.DataFrame) -> pl.DataFrame:
    return products.sort("price", "sku").group_by("kind", maintain_order=True).first()
''',
    "tests/no_free_products.sql": "-- description: Nothing is free.\nselect * from dear where price <= 0\n",
}


def load(lake: Lake, n: int) -> None:
    """The n-th day of the shop: a snapshot of its products, and some visits."""
    with lake.load("shop", observed_at=DAY + timedelta(days=n)) as one:
        one.write("products", PRODUCTS[n % len(PRODUCTS)], disposition="replace", primary_key="sku")
        one.write("visits", [{"page": page, "day": n} for page in "abz"[: 1 + n % 3]])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """The lake of a project with models, after two loads."""
    (tmp_path / "pyproject.toml").write_text('[tool.lakehouse]\nlake = "lake"\n')
    lake = Lake.create(tmp_path / "lake")
    for n in (0, 1):
        load(lake, n)
    return lake


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Writes files of models; without any given, those above."""

    def write(**given: str | None) -> Path:
        named = {f"{name}.sql": text for name, text in given.items()}
        for name, text in (named or FILES).items():
            path = tmp_path / "models" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
        return tmp_path

    return write


def rows(lake: Lake, sql: str, **options: object) -> list[tuple[object, ...]]:
    return sorted(lake.query(sql, **options).fetchall())  # type: ignore[arg-type]


def statuses(project: Path, *options: str) -> dict[str, str]:
    done = run("build", "--json", *options, cwd=project)
    return {model["name"]: model["status"] for model in done.json["models"]}


def test_models_are_built_asked_and_travel_in_time(lake: Lake, put: Callable[..., Path]) -> None:
    project = put()
    done = run("build", cwd=project).ok()
    assert "models: load 1, as of 2026-11-02 12:00Z" in done.out
    assert rows(lake, "from models.dear") == [("a", 1.5, "x"), ("b", 2.0, "x"), ("d", 4.0, "y")]
    assert rows(lake, "from models.kinds") == [("x", 2, 1.75), ("y", 1, 4.0)]
    assert rows(lake, "from models.visits_by_page") == [("a", 2, 1), ("b", 1, 1)]
    assert rows(lake, "from models.visits_seen") == [("A", 0), ("A", 1), ("B", 1)]
    assert rows(lake, "select kind, sku from models.cheapest") == [("x", "a"), ("y", "d")]
    load(lake, 2)
    again = run("build", cwd=project).ok()
    assert "shop.products: load 2 -> 3" in again.out
    assert rows(lake, "from models.kinds") == [("x", 1, 2.0), ("y", 2, 3.25)]
    # As of a moment: views follow their inputs, stored models are what they were then.
    then = "2026-11-02T12:00:00Z"
    assert rows(lake, "from models.dear", as_of=then) == [("a", 1.5, "x"), ("b", 2.0, "x"), ("d", 4.0, "y")]
    assert rows(lake, "from models.kinds", as_of=then) == [("x", 2, 1.75), ("y", 1, 4.0)]
    assert rows(lake, "from models.dear_at('2026-11-01T12:00:00Z')") == [("b", 2.0, "x"), ("c", 9.0, "y")]
    assert rows(lake, "from models.kinds_at(1)") == [("x", 2, 1.75), ("y", 1, 4.0)]
    assert rows(lake, "select change, kind from models.kinds_history") == [
        ("appeared", "x"), ("appeared", "y"), ("changed", "x"), ("changed", "y"),
    ]  # fmt: skip
    with duckdb.connect(str(project / "lakehouse.duckdb"), read_only=True) as client:
        assert len(client.execute("select * from models.dear").fetchall()) == 3
    assert verify(lake).errors == []


def test_a_build_does_only_what_is_out_of_date(lake: Lake, put: Callable[..., Path]) -> None:
    project = put()
    assert "new" in run("build", "--dry-run", cwd=project).ok().out
    assert set(statuses(project).values()) == {"built", "defined"}
    assert run("build", cwd=project).ok().out == "5 models up to date\n"
    assert lake.log("models").head == 1
    with lake.load("shop", observed_at=DAY + timedelta(days=3)) as one:
        one.write("visits", [{"page": "q", "day": 9}])
    assert statuses(project) == {
        "dear": "kept", "kinds": "kept", "cheapest": "kept", "visits_by_page": "built", "visits_seen": "built",
    }  # fmt: skip
    put(dear=FILES["dear.sql"].replace("> 1", "> 1.9"))
    assert statuses(project, "--select", "dear") | {} == {"dear": "defined"}
    assert statuses(project) == {
        "dear": "kept", "kinds": "built", "cheapest": "built", "visits_by_page": "kept", "visits_seen": "kept",
    }  # fmt: skip
    put(kinds=FILES["kinds.sql"].replace("mean price, in euro", "mean price, in euro, with VAT"))
    assert statuses(project)["kinds"] == "described"
    assert lake.log("models").tables["kinds"].last_seq == 4


def test_a_model_that_did_not_change_leaves_what_reads_it_alone(lake: Lake, put: Callable[..., Path]) -> None:
    project = put(
        a="-- kind: table\nselect distinct kind from shop.products", b="-- kind: table\nselect kind from a"
    )
    run("build", cwd=project).ok()
    load(lake, 2)
    assert statuses(project) == {"a": "built", "b": "kept"}


def test_what_fails_a_test_is_not_published_and_neither_is_what_reads_it(
    lake: Lake, put: Callable[..., Path]
) -> None:
    project = put()
    put(after_kinds="-- kind: table\nselect sum(products) as n from kinds", aside="select 1 as one")
    run("build", cwd=project).ok()
    before = rows(lake, "from models.kinds")
    put(kinds=FILES["kinds.sql"].replace("avg(price)", "avg(price) * 1000"), aside="select 2 as one")
    done = run("build", cwd=project)
    assert done.code == 3
    assert "FAIL  kinds: range(price): 2 rows" in done.err
    assert "2 models not published; readers keep the version of before" in done.err
    assert "after_kinds" in done.out
    assert "reads models.kinds, which was not built" in done.out
    assert rows(lake, "from models.kinds") == before
    assert rows(lake, "from models.aside") == [(2,)]
    shown = run("test", "--failures", "kinds", "--json", cwd=project).ok().json
    assert [failure["test"] for failure in shown] == ["range(price)"]
    assert {row["kind"] for row in shown[0]["rows"]} == {"x", "y"}
    assert run("build", cwd=project).code == 3
    put(kinds=FILES["kinds.sql"])
    run("build", cwd=project).ok()
    run("test", cwd=project).ok()
    assert run("test", "--failures", "--json", cwd=project).ok().json == []


def test_a_model_that_is_gone_leaves_no_failing_rows(lake: Lake, put: Callable[..., Path]) -> None:
    project = put(m="select sku, price from shop.products", n="select 1 as x")
    run("build", cwd=project).ok()
    put(m="-- tests:\n--   - range: {column: price, max: 1}\nselect sku, price from shop.products")
    assert run("build", cwd=project).code == 3
    assert run("test", "--failures", "--json", cwd=project).ok().json != []
    put(m=None)
    run("build", cwd=project).ok()
    assert run("test", "--failures", "--json", cwd=project).ok().json == []


def test_a_test_of_its_own_refuses_all_that_it_reads(lake: Lake, put: Callable[..., Path]) -> None:
    project = put()
    run("build", cwd=project).ok()
    (project / "models/tests/no_free_products.sql").write_text("select * from dear where price < 2\n")
    put(dear=FILES["dear.sql"] + " or price = 1")
    done = run("build", cwd=project)
    assert done.code == 3
    assert "FAIL  dear: sql(no_free_products)" in done.err
    (project / "models/tests/no_free_products.sql").write_text(
        "-- severity: warn\nselect * from dear where price < 2\n"
    )
    done = run("build", cwd=project).ok()
    assert "warn  dear: sql(no_free_products)" in done.out
    done = run("test", cwd=project).ok()
    assert "warn  dear: sql(no_free_products)" in done.out
    assert "pass  kinds: unique(kind)" in done.out


@pytest.mark.parametrize(
    ("files", "code", "words"),
    [
        ({"a": "select * from b", "b": "select * from a"}, 2, ["a -> b -> a"]),
        ({"a": "select *\nfrom shop.product"}, 2, ["models/a.sql:2", "`shop.products`"]),
        ({"a": "select *\nfrom {{ ref('products') }}"}, 2, ["models/a.sql:2"]),
        ({"a": "-- kind: tabel\nselect 1 as x"}, 2, ["models/a.sql:1", "table"]),
        ({"a": "select 1 as x; select 2 as y"}, 2, ["models/a.sql"]),
        ({"a": "select\n  nix from shop.products"}, 7, ["models/a.sql:2", "nix"]),
        ({"a": "-- kind: table\nselect\n  error('no luck') as x from shop.products"}, 7, ["models/a.sql", "no luck"]),
        ({"a": "-- kind: table\nselect interval 1 day as x"}, 7, ["models/a.sql", "Cast"]),
        ({"a": "from (pivot shop.products on kind using count(*))"}, 7, ["models/a.sql"]),
        ({"a": "-- kind: incremental\n-- key: [sku]\nselect sku, rank() over (order by price) as r from shop.products"}, 2, ["models/a.sql", "PARTITION BY"]),
    ],
)  # fmt: skip
def test_a_wrong_model_is_told_by_file_and_line_and_nothing_is_published(
    files: dict[str, str], code: int, words: list[str], lake: Lake, put: Callable[..., Path]
) -> None:
    project = put(good="select 1 as x")
    run("build", cwd=project).ok()
    put(**files)
    run("build", cwd=project).failed(code, *words)
    assert set(json.loads(run("build", "--select", "good", "--json", cwd=project).out or "{}")) <= {
        "load",
        "models",
        "removed",
    }
    assert rows(lake, "from models.good") == [(1,)]
    assert lake.log("models").head == 1


def test_models_go_and_change_their_kind(lake: Lake, put: Callable[..., Path]) -> None:
    project = put(m="-- kind: table\nselect sku from shop.products", n="select * from m")
    run("build", cwd=project).ok()
    put(m="select sku, price from shop.products")
    run("build", cwd=project).ok()
    assert len(lake.query("from models.m").description or ()) == 2
    assert len(lake.query("from models.n").description or ()) == 2
    put(m="-- kind: table\n-- key: [sku]\nselect sku, price from shop.products")
    run("build", cwd=project).ok()
    assert lake.log("models").tables["m"].last.primary_key == ("sku",)
    put(n=None)
    assert "removed    n" in run("build", cwd=project).ok().out
    with pytest.raises(Exception, match="n"):
        lake.query("from models.n")


def test_models_as_of_a_moment_are_published_in_order_only_or_written_to_files(
    lake: Lake, put: Callable[..., Path]
) -> None:
    project = put()
    run("build", "--as-of", "2026-11-01T12:00:00Z", cwd=project).ok()
    assert rows(lake, "from models.kinds") == [("x", 1, 2.0), ("y", 1, 9.0)]
    assert rows(lake, "from models.visits_by_page") == [("a", 1, 0)]
    run("build", cwd=project).ok()
    assert rows(lake, "from models.kinds", as_of="2026-11-01T18:00:00Z") == [("x", 1, 2.0), ("y", 1, 9.0)]
    run("build", "--full", "--as-of", "2026-11-01T12:00:00Z", cwd=project).failed(2, "-o FOLDER")
    head = lake.log("models").head
    run("build", "kinds", "--as-of", "2026-11-01T12:00:00Z", "-o", "out", cwd=project).ok()
    assert [path.name for path in (project / "out").iterdir()] == ["kinds.parquet"]
    with duckdb.connect() as client:
        found = client.execute(f"select * from '{project}/out/kinds.parquet' order by 1").fetchall()
    assert found == [("x", 1, 2.0), ("y", 1, 9.0)]
    assert lake.log("models").head == head


def test_what_was_reverted_is_built_again(lake: Lake, put: Callable[..., Path]) -> None:
    project = put()
    run("build", cwd=project).ok()
    load(lake, 2)
    run("build", cwd=project).ok()
    now = {name: rows(lake, f"from models.{name}") for name in ("kinds", "visits_by_page", "visits_seen")}
    for options in ((), ("--keep-cursor",), ("--table", "visits_seen")):
        run("revert", "models", "--to", "1", *options, cwd=project).ok()
        assert rows(lake, "from models.visits_seen") != now["visits_seen"]
        run("build", cwd=project).ok()
        assert {name: rows(lake, f"from models.{name}") for name in now} == now
    assert run("build", cwd=project).ok().out == "5 models up to date\n"


def test_an_incremental_model_computes_only_what_can_have_changed(
    lake: Lake, put: Callable[..., Path]
) -> None:
    project = put()
    run("build", cwd=project).ok()
    load(lake, 2)
    found = {m["name"]: m["increment"] for m in run("build", "--json", cwd=project).ok().json["models"]}
    assert found["visits_by_page"]
    assert found["visits_seen"]
    assert not found["kinds"]
    assert rows(lake, "from models.visits_by_page") == [("a", 3, 2), ("b", 2, 2), ("z", 1, 2)]
    change = lake.log("models").tables["visits_seen"].last
    assert (change.disposition, change.counts["appended"]) == ("append", 2)


def test_models_that_relate_to_each_other_are_tested_when_both_are_there(
    lake: Lake, put: Callable[..., Path]
) -> None:
    test = "-- kind: table\n-- tests:\n--   - relationships: {column: sku, to: %s.sku}\n"
    project = put(
        a=test % "b" + "select sku from shop.products",
        b=test % "a" + "select sku from shop.products",
        c="from b",
    )
    run("build", cwd=project).ok()
    put(a=test % "b" + "select sku || 'x' as sku from shop.products")
    done = run("build", cwd=project)
    assert done.code == 3
    assert "FAIL  a: relationships(sku -> models.b.sku): 3 rows" in done.err
    assert rows(lake, "from models.a") == [("a",), ("b",), ("d",)]


def test_builds_are_told_to_an_endpoint_for_lineage(
    lake: Lake, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    project = put()
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{server.server_port}")
        run("build", "--as-of", "2026-11-01T12:00:00Z", cwd=project).ok()
        put(kinds=FILES["kinds.sql"].replace("avg(price)", "avg(price) * 1000"))
        assert run("build", "kinds", cwd=project).code == 3
        server.shutdown()
    events = [(event["eventType"], event["job"]["name"]) for event in told]
    assert events.count(("COMPLETE", "models.kinds")) == 1
    assert events.count(("FAIL", "models.kinds")) == 1
    done = next(
        e for e in told if (e["eventType"], e["job"]["name"]) == ("COMPLETE", "models.visits_by_page")
    )
    assert [dataset["name"].rsplit("lake/", 1)[-1] for dataset in done["inputs"]] == ["shop/visits"]
    facets = done["outputs"][0]["facets"]
    assert [field["name"] for field in facets["schema"]["fields"]] == ["page", "visits", "newest"]
    assert facets["columnLineage"]["fields"]["newest"]["inputFields"][0]["field"] == "day"
    assert done["run"]["facets"]["nominalTime"]["nominalStartTime"].startswith("2026-11-01T12:00:00")


def test_views_of_many_forms_are_built_and_read(lake: Lake, put: Callable[..., Path]) -> None:
    forms = {
        "loads": "select source, seq from lakehouse.loads",
        "listed": "select name from lakehouse.models",
        "versions": "select sku, change from shop.products_history",
        "earlier": "select sku from shop.products_at(1)",
        "changes": "select change, sku from shop.products_diff(1, 2)",
        "numbered": "select p.sku, n from shop.products as p, range(2) as r(n)",
        "windowed": "from shop.products select sku qualify row_number() over (order by price) = 1",
        "quoted": 'select "sku" from "shop"."products" union all by name select sku from "earlier"',
    }
    project = put(**forms)
    run("build", cwd=project).ok()
    for name in forms:
        found = len(rows(lake, f"from models.{name}"))
        assert found, name
        if name not in {"loads", "listed"}:
            assert len(rows(lake, f"from models.{name}_at(2)")) == found
    assert len(rows(lake, "from models.versions_at(1)")) == 3
    assert len(rows(lake, "from models.versions", as_of=1)) == 3


def test_no_history_is_imported_under_the_name_of_models(lake: Lake, put: Callable[..., Path]) -> None:
    project = put(a="select 1 as x")
    (project / "versions").mkdir()
    run("import", "files", "versions", "--source", "models", "--table", "t", cwd=project).failed(2, "models")


def test_what_reads_a_result_sees_the_types_that_are_stored(lake: Lake, put: Callable[..., Path]) -> None:
    project = put(
        a="""-- kind: table
select k::enum('b', 'a') as e, sum(n) as s, sum(n * 100000000000000000000::hugeint) as big,
  uuid_blob as u, array_value(1, 2) as pair, bit '101' as b, map {'x': n} as m, to_json({'z': 1, 'y': n}) as j
from (values ('a', 1, '6f1b7a3e-5d0c-4c61-9b1e-0a7d8f0e2c11'::uuid), ('b', 2, null)) as t(k, n, uuid_blob) group by all""",
        b="-- kind: table\nselect max(e) as e, typeof(max(s)) as s, typeof(max(u)) as u from a",
        c="-- kind: table\nselect typeof(any_value(columns(*))) from a",
    )
    run("build", cwd=project).ok()
    assert rows(lake, "from models.b") == [("b", "BIGINT", "VARCHAR")]
    stored = lake.query("describe models.a").fetchall()
    assert [row[1] for row in stored] == [
        "VARCHAR", "BIGINT", "DECIMAL(38,0)", "VARCHAR", "INTEGER[]", "VARCHAR",
        'STRUCT("key" VARCHAR, "value" INTEGER)[]', "JSON",
    ]  # fmt: skip
    seen = lake.query("from models.c").fetchall()[0]
    assert [kind.replace('"', "") for kind in seen] == [row[1].replace('"', "") for row in stored]
    put(a="-- kind: table\nselect sum(170141183460469231731687303715884105727::hugeint) as n")
    run("build", "a", cwd=project).failed(7, "models/a.sql", "38 digits")


def test_a_damaged_source_keeps_only_its_own_models_from_being_built(
    lake: Lake, put: Callable[..., Path]
) -> None:
    with lake.load("news", observed_at=DAY) as one:
        one.write("stories", [{"title": "old"}])
    project = put(
        a="-- kind: table\nselect sku from shop.products", b="-- kind: table\nselect title from news.stories"
    )
    run("build", cwd=project).ok()
    load(lake, 2)
    (project / "lake/news/_log/00000000000000000001.jsonl").write_bytes(b"{torn")
    done = run("build", cwd=project)
    assert done.code == 4
    assert "00000000000000000001.jsonl" in done.err
    assert rows(lake, "from models.a") == [("a",), ("b",), ("d",)]
    put(c="select title from news.story")
    run("build", cwd=project).failed(4, "00000000000000000001.jsonl")


def test_what_was_never_built_is_asked_for(lake: Lake, put: Callable[..., Path]) -> None:
    project = put(a="select 1 as x", b="select x from a", c="-- kind: table\nselect x from b")
    for name in ("b", "c"):
        done = run("build", name, cwd=project)
        assert done.code == 2
        assert f"build --select +{name}" in done.out
    assert run("test", "a", cwd=project).code == 2
    run("build", "+b", cwd=project).ok()
    run("build", "c", cwd=project).ok()
    assert rows(lake, "from models.c") == [(1,)]


def test_a_build_that_is_interrupted_ends_at_once_and_publishes_nothing(
    lake: Lake, put: Callable[..., Path]
) -> None:
    project = put(slow="-- kind: table\nselect count(*) as n from range(10000000) a, range(10000000) b")
    with subprocess.Popen([PROGRAM, "build"], cwd=project, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "interrupted" in said
    assert lake.log("models").head == 0


def test_a_model_behind_its_driver_follows_it_from_where_it_was(lake: Lake, put: Callable[..., Path]) -> None:
    project = put(
        d="-- kind: table\nselect page, day from shop.visits",
        m="-- kind: incremental\n-- key: [page]\nselect page, count(*) as n from d group by page",
        a="-- kind: incremental\nselect page, day from d",
    )
    run("build", cwd=project).ok()
    load(lake, 2)
    run("build", "d", cwd=project).ok()
    load(lake, 3)
    run("build", cwd=project).ok()
    assert rows(lake, "from models.m") == [("a", 4), ("b", 2), ("z", 1)]
    assert len(rows(lake, "from models.a")) == 7


def test_a_stored_model_has_the_columns_and_types_of_its_select_now(
    lake: Lake, put: Callable[..., Path]
) -> None:
    project = put(
        d="-- kind: table\n-- key: [sku]\nselect sku, price, kind from shop.products",
        every="-- kind: table\nselect * from d",
        view="select count(*) as n from d where price::varchar = '1.5'",
    )
    run("build", cwd=project).ok()
    put(
        d="-- kind: table\n-- key: [sku]\nselect kind as sort, price::varchar as price, sku from shop.products"
    )
    run("build", cwd=project).ok()
    for name in ("d", "every"):
        assert rows(lake, f"from models.{name} where price like '1%'") == [("x", "1.5", "a")], name
        described = lake.query(f"describe models.{name}").fetchall()
        assert [row[:2] for row in described] == [
            ("sort", "VARCHAR"),
            ("price", "VARCHAR"),
            ("sku", "VARCHAR"),
        ]
    assert rows(lake, "from models.view") == [(1,)]
    assert rows(lake, "select price, sort from models.d_at(1) where sku = 'a'") == [("1.5", None)]
    assert "kind" in [row[0] for row in lake.query("describe models.d_history").fetchall()]
    put(d="-- kind: table\n-- key: [sku]\nselect sku, price + 1 as price from shop.products")
    run("build", cwd=project).ok()
    assert rows(lake, "select price + 1 from models.d where sku = 'a'") == [(3.5,)]
    assert run("build", cwd=project).ok().out == "3 models up to date\n"


def test_builds_are_the_same_in_every_time_zone(
    lake: Lake, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = "select seq, date_trunc('day', effective_at)::varchar as day from lakehouse.loads where source = 'shop'"
    project = put(stored=f"-- kind: table\n{sql}", view=sql)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        run("build", cwd=project).ok()
        assert rows(lake, "from models.stored") == rows(lake, "from models.view")
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "ending", ["sys.exit(0)", "raise GeneratorExit", "return pl.DataFrame({'a': [object()]})", "return 1"]
)
def test_a_python_model_fails_alone(ending: str, lake: Lake, put: Callable[..., Path]) -> None:
    project = put(good="-- kind: table\nselect sku from shop.products")
    text = f'"""\ninputs: {{products: shop.products}}\n"""\nimport sys\nimport polars as pl\n\n\ndef bad(products):\n    print("hi")\n    {ending}\n'
    (project / "models" / "bad.py").write_text(text)
    done = run("build", "--json", cwd=project)
    assert done.code == 7
    assert {model["name"]: model["status"] for model in done.json["models"]} == {
        "bad": "failed",
        "good": "built",
    }
    assert len(rows(lake, "from models.good")) == 3


def test_a_history_is_read_as_it_was_known_then(lake: Lake, put: Callable[..., Path]) -> None:
    text = "select sku, count(*) as versions, max(valid_to) as until from shop.products_history group by sku"
    project = put(stored=f"-- kind: table\n{text}", view=text)
    run("build", "--as-of", "2026-11-01T12:00:00Z", "-o", "out", cwd=project).ok()
    with duckdb.connect() as client:
        for name in ("stored", "view"):
            found = client.execute(f"select * from '{project}/out/{name}.parquet' order by 1").fetchall()
            assert found == [("a", 1, None), ("b", 1, None), ("c", 1, None)]


def test_the_log_is_not_believed_what_a_file_says(lake: Lake, put: Callable[..., Path]) -> None:
    project = put(m="-- kind: table\nselect sku from shop.products")
    run("build", cwd=project).ok()
    target = project / "lake" / "shop" / "stolen.csv"
    pipeline = json.loads(json.dumps(lake.log("models").pipeline))
    pipeline["models"]["m"]["sql"] = f"select 1 as x; copy (select 1) to '{target}'; select 1 as x"
    with lake.load("models") as one:
        one.pipeline = pipeline
    run("build", "--full", cwd=project).ok()
    assert not target.exists()
    assert len(rows(lake, "from models.m")) == 3
    with lake.load("models") as one:
        one.pipeline = {"models": 5}
    run("build", cwd=project).ok()  # nonsense is put right
    assert len(rows(lake, "from models.m")) == 3


def test_a_test_of_another_model_counts_only_what_is_published(lake: Lake, put: Callable[..., Path]) -> None:
    project = put(
        x="-- kind: table\nselect sku from shop.products",
        m="-- kind: table\n-- tests:\n--   - relationships: {column: sku, to: models.x.sku}\nselect sku from shop.products",
    )
    run("build", cwd=project).ok()
    (project / "models/tests").mkdir()
    (project / "models/tests/few.sql").write_text("select * from x where sku = 'e'")
    with lake.load("shop", observed_at=DAY + timedelta(days=3)) as one:
        one.write(
            "products",
            [*PRODUCTS[1], {"sku": "e", "price": 1.0, "kind": "x"}],
            disposition="replace",
            primary_key="sku",
        )
    done = run("build", cwd=project)
    assert done.code == 3
    assert "a test of models.m reads models.x, which was not built" in done.out
    assert len(rows(lake, "from models.m")) == 3
    run("test", cwd=project).ok()


def test_what_is_only_read_is_read_as_it_was_published(lake: Lake, put: Callable[..., Path]) -> None:
    project = put(v="select sku from shop.products", m="-- kind: table\nselect count(*) as n from v")
    run("build", cwd=project).ok()
    put(v="select sku from shop.products where false", m="-- kind: table\nselect count(*) + 0 as n from v")
    run("build", "m", cwd=project).ok()
    assert rows(lake, "from models.m") == [(3,)]
    run("build", cwd=project).ok()
    assert rows(lake, "from models.m") == [(0,)]


def test_a_view_is_tested_again_when_its_tables_changed(lake: Lake, put: Callable[..., Path]) -> None:
    project = put(
        v="-- tests:\n--   - row_count: {max: 3}\nselect * from shop.visits",
        m="-- kind: table\nselect count(*) as n from v",
    )
    run("build", cwd=project).ok()
    assert run("build", cwd=project).ok().out == "2 models up to date\n"
    load(lake, 2)
    assert run("build", cwd=project).code == 3
    assert rows(lake, "from models.m") == [(3,)]


@pytest.mark.parametrize("key", ["SKU", "Sku"])
def test_a_key_is_named_in_any_case(key: str, lake: Lake, put: Callable[..., Path]) -> None:
    project = put(
        t=f"-- kind: table\n-- key: [{key}]\nselect sku, price from shop.products",
        i=f"-- kind: incremental\n-- key: [{key}]\nselect sku, price from shop.products",
    )
    run("build", cwd=project).ok()
    load(lake, 2)
    run("build", cwd=project).ok()
    assert rows(lake, "from models.t") == rows(lake, "from models.i") == [("a", 1.5), ("b", 2.0), ("d", 5.0)]


def test_names_of_what_stands_beside_a_model_are_refused(lake: Lake, put: Callable[..., Path]) -> None:
    project = put(m="select 1 as x", m_history="select 2 as x")
    run("build", cwd=project).failed(2, "m_history", "Choose another name")
