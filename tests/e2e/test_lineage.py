"""`lakehouse lineage`, and the rows that failing tests left, on a lake with models that were built."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from command import run

from lakehouse import Lake
from lakehouse.models.failures import kept_failures
from lakehouse.verify import verify

DAY = datetime(2026, 11, 19, 22, 33, tzinfo=UTC)
FILES = {
    "prices.sql": "select sku, price, kind from shop.products where price > 0\n",
    "changes.sql": "select sku, change from shop.products_history\n",
    "kinds.sql": """\
-- kind: table
-- key: [kind]
-- description: What each kind of product costs.
-- tests:
--   - range: {column: dearest, max: 100}
select kind, max(price) as dearest, count(*) as n from prices group by all
""",
    "top.py": '''\
"""
inputs:
  kinds: kinds
"""


def top(kinds):
    return kinds.head(1)
''',
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose models were built after two loads of `shop`. Not to be written to."""
    root = tmp_path_factory.mktemp("lineage")
    (root / "pyproject.toml").write_text('[tool.lakehouse]\nlake = "lake"\n')
    lake = Lake.create(root / "lake")
    for n in (0, 1):
        with lake.load("shop", observed_at=DAY + timedelta(days=n)) as load:
            products = [
                {"sku": "a", "price": 1.0 + n, "kind": "x"},
                {"sku": "b", "price": 200.0, "kind": "y"},
            ]
            load.write("products", products[: 1 + n], disposition="replace", primary_key="sku")
            load.write("reviews", [{"sku": "a", "stars": n}])
    (root / "models").mkdir()
    for name, text in FILES.items():
        (root / "models" / name).write_text(text.replace("max: 100", "max: 1000"))
    run("build", cwd=root).ok()
    return root


@pytest.fixture(scope="module")
def traced(built: Path) -> Path:
    """The same project, with the columns that those of its models are made of on record."""
    root = Path(shutil.copytree(built, built.with_name("traced")))
    lake = Lake.open(root / "lake")
    behind = {
        "prices": {
            "sku": ["shop.products.sku"],
            "price": ["shop.products.price"],
            "kind": ["shop.products.kind"],
        },
        "kinds": {"kind": ["models.prices.kind"], "dearest": ["models.prices.price"], "n": []},
    }
    pipeline = lake.log("models").pipeline
    assert pipeline is not None
    for name, columns in behind.items():
        pipeline["models"][name]["lineage"] = columns
    with lake.load("models") as load:
        load.pipeline = pipeline
    return root


def tree(*args: object, cwd: Path | None = None) -> list[str]:
    return [line.rstrip() for line in run("lineage", *args, cwd=cwd).ok().out.splitlines()]


def test_the_graph_is_a_tree_with_the_loads_that_were_read(built: Path) -> None:
    read = "shop.products @ load 2, 2026-11-20 22:33Z"
    assert tree("kinds", "--upstream", cwd=built) == [
        "models.kinds (table), load 1",
        "└── models.prices (view)",
        f"    └── {read}",
    ]
    assert tree("top", cwd=built) == [
        "models.top (table, Python), load 1",
        "└── models.kinds (table) @ load 1, 2026-11-20 22:33Z",
        "    └── models.prices (view)",
        f"        └── {read}",
    ]
    assert tree("shop.products", cwd=built) == [
        "shop.products, read by",
        "├── models.changes (view) [_history]",
        "└── models.prices (view)",
        "    └── models.kinds (table) @ load 2, 2026-11-20 22:33Z",
        "        └── models.top (table, Python) @ load 1, 2026-11-20 22:33Z",
    ]
    whole = tree(cwd=built)
    assert whole[:2] == ["models.changes (view)", "└── shop.products [_history]"]
    assert [line for line in whole if not line.startswith((" ", "└", "├"))] == [
        "models.changes (view)", "models.top (table, Python), load 1",
    ]  # fmt: skip
    assert tree("kinds", cwd=built)[-2:] == [
        "models.kinds (table), read by",
        "└── models.top (table, Python) @ load 1, 2026-11-20 22:33Z",
    ]


def test_columns_are_followed_down_to_the_base_tables(traced: Path) -> None:
    said = tree("kinds", "--columns", "--upstream", cwd=traced)
    assert "models.kinds.dearest <- models.prices.price <- shop.products.price" in said
    assert "models.kinds.kind <- models.prices.kind <- shop.products.kind" in said
    assert "models.kinds.n <- (no column)" in said
    assert tree("shop.products.price", cwd=traced) == [
        "shop.products.price -> models.prices.price -> models.kinds.dearest"
    ]
    assert tree("kinds.dearest", cwd=traced) == [
        "models.kinds.dearest <- models.prices.price <- shop.products.price"
    ]
    steps = tree("--columns", cwd=traced)
    assert "models.kinds.dearest <- models.prices.price" in steps
    assert "models.prices.price <- shop.products.price" in steps
    assert "models.top.n <- (not known)" in steps
    assert tree("top", "--columns", cwd=traced)[0] == "models.top.kind <- (not known)"


def test_programs_get_json_and_drawings(traced: Path) -> None:
    said = run("lineage", "kinds", "--upstream", "--format", "json", cwd=traced).ok().json
    assert {node["name"] for node in said["nodes"]} == {"shop.products", "models.prices", "models.kinds"}
    kinds = next(node for node in said["nodes"] if node["name"] == "models.kinds")
    digest = Lake.open(traced / "lake").log("shop").digest
    assert kinds["inputs"] == [
        {"name": "shop.products", "seq": 2, "digest": digest, "effective_at": "2026-11-20T22:33:00.000000Z"}
    ]
    assert {(e["from"], e["to"]) for e in said["edges"]} == {
        ("shop.products", "models.prices"), ("models.prices", "models.kinds"),
    }  # fmt: skip
    assert {
        "from": "models.prices",
        "from_column": "price",
        "to": "models.kinds",
        "to_column": "dearest",
    } in said["column_edges"]
    drawn = run("lineage", "--format", "mermaid", cwd=traced).ok().out
    assert drawn.startswith("flowchart LR\n")
    assert '[("shop.products")]' in drawn
    assert '(["models.prices"])' in drawn
    assert "subgraph" in run("lineage", "kinds.dearest", "--format", "mermaid", cwd=traced).ok().out


def test_a_mirror_needs_no_project_and_not_every_source(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built / "lake", tmp_path / "mirror" / "lake")
    mirror = tmp_path / "mirror" / "lake"
    assert tree("top", "--lake", mirror) == tree("top", cwd=built)
    shutil.rmtree(mirror / "shop")
    shutil.rmtree(mirror / "_derived", ignore_errors=True)
    assert tree("kinds", "--upstream", "--lake", mirror)[-1] == "    └── shop.products @ load 2"


def test_wrong_names_are_told_with_what_may_be_meant(built: Path, tmp_path: Path) -> None:
    run("lineage", "kind", cwd=built).failed(2, "kind: is no model", "Did you mean kinds?")
    run("lineage", "shop.product", cwd=built).failed(2, "Did you mean shop.products?")
    run("lineage", "kinds.dear", cwd=built).failed(2, "models.kinds has no column 'dear'")
    run("lineage", "shop.reviews", cwd=built).failed(2, "no table that a model reads")
    Lake.create(tmp_path / "empty")
    run("lineage", "--lake", tmp_path / "empty").failed(
        2, "there are no models in this lake yet", "lakehouse build"
    )


# The rows that failing tests left.


@pytest.fixture
def refused(built: Path, tmp_path: Path) -> Path:
    """A copy of the project in which a test of `kinds` has just failed."""
    root = Path(shutil.copytree(built, tmp_path / "refused"))
    (root / "models" / "kinds.sql").write_text(FILES["kinds.sql"])
    done = run("build", cwd=root)
    assert done.code == 3, done.err
    return root


def test_failing_rows_are_asked_like_any_file(refused: Path) -> None:
    (kept,) = kept_failures(Lake.open(refused / "lake"))
    assert kept.path == str(refused / "lake/_derived/models/failures/kinds/2-range_dearest.parquet")
    asked = run("query", "--format", "json", f"select kind, dearest from '{kept.path}'", cwd=refused).ok()
    assert asked.json == [{"kind": "y", "dearest": 200.0}]
    with duckdb.connect() as client:
        assert client.execute(f"select count(*) from '{kept.path}'").fetchall() == [(1,)]
    shown = run("test", "--failures", "kinds", cwd=refused).ok().out
    assert "range(dearest)" in shown
    assert "200.0" in shown


def test_failing_rows_disturb_nothing_and_may_be_deleted(
    refused: Path, sources: Callable[[Path], object]
) -> None:
    lake = Lake.open(refused / "lake")
    before = sources(refused)
    assert verify(lake).errors == []
    for command in (("refresh",), ("verify",), ("pack",), ("prune",), ("refresh",), ("tables", "--json")):
        run(*command, cwd=refused).ok()
    assert sources(refused) == before
    assert len(kept_failures(lake)) == 1
    shutil.rmtree(refused / "lake" / "_derived")
    assert kept_failures(lake) == []
    assert sources(refused) == before
    assert verify(lake).errors == []


@pytest.fixture
def sources() -> Callable[[Path], object]:
    """What readers see: sources, tables, and rows of a model."""

    def see(root: Path) -> object:
        lake = Lake.open(root / "lake")
        tables = json.loads(run("tables", "--json", cwd=root).ok().out)
        names = sorted(table["table"] for table in tables)
        return lake.sources(), names, sorted(lake.query("from models.kinds").fetchall())

    return see
