"""The models that come with the repository build as they are, over nothing but their own source."""

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from command import program, run
from truth import ROOT

from lakehouse import Lake


def project(folder: Path, models: Path) -> Path:
    """A project with these models."""
    shutil.copytree(models, folder / "models", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyproject.toml").write_text(
        '[tool.lakehouse]\nlake = "lake"\n[tool.lakehouse.gates]\nallow_empty = true\n'
    )
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo shop as of eight days, and the models over it, built."""
    folder = project(tmp_path_factory.mktemp("shop"), ROOT / "models")
    (folder / "ingest" / "sources").mkdir(parents=True)
    shutil.copy(ROOT / "ingest" / "sources" / "shop.py", folder / "ingest" / "sources")
    program("ingest", "shop", cwd=folder).ok()
    run("build", cwd=folder).ok()
    return folder


@pytest.fixture(scope="module")
def fires(tmp_path_factory: pytest.TempPathFactory, unpacked: Callable[[str], Path]) -> Path:
    """Fires of some weeks, and the models over them, built."""
    folder = project(tmp_path_factory.mktemp("fires"), ROOT / "examples" / "fires" / "models")
    named = ("--source", "ca_fires", "--table", "incidents", "--rows", "Incidents", "--key", "UniqueId")
    run("import", "files", unpacked("quick-ca-fires-drift"), *named, cwd=folder).ok()
    run("build", cwd=folder).ok()
    return folder


def test_every_model_of_the_shop_is_built_and_passes_its_tests(shop: Path) -> None:
    lake = Lake.open(shop / "lake")
    for file in (ROOT / "models").glob("*.[sp][qy]*"):
        assert lake.query(f"select count(*) > 0 from models.{file.stem}").fetchall() == [(True,)], file.name
    assert run("test", cwd=shop).ok().out.rstrip().endswith("0 failed")
    assert "up to date" in run("build", cwd=shop).ok().out


def test_daily_prices_are_what_the_shop_showed_at_the_end_of_each_day(shop: Path) -> None:
    lake = Lake.open(shop / "lake")
    columns = "sku, title, category, price, stock"
    days = lake.query("select distinct day, cast(day + 1 as varchar) from models.daily_prices").fetchall()
    assert len(days) == 8
    for day, end in days:
        kept = f"select {columns} from models.daily_prices where day = '{day}'"
        shown = f"select {columns} from shop.products_at('{end}')"
        different = f"({kept} except all {shown}) union all ({shown} except all {kept})"
        assert lake.query(different).fetchall() == []


def test_offers_can_be_asked_for_a_moment_before_they_were_built(shop: Path) -> None:
    lake = Lake.open(shop / "lake")
    then = "select sku, unnest(variants).name from shop.products_at(3)"
    seen = lake.query("select valid_from from shop.products_history where from_load = 3 limit 1").fetchall()[
        0
    ][0]
    offered = f"select sku, variant from models.offers_at('{seen.isoformat()}')"
    assert lake.query(f"select count(*) > 0 from ({offered})").fetchall() == [(True,)]
    assert (
        lake.query(f"({offered} except all {then}) union all ({then} except all {offered})").fetchall() == []
    )


def test_page_troubles_follow_new_rows(shop: Path) -> None:
    lake = Lake.open(shop / "lake")
    row = {
        "day": date(2030, 1, 1),
        "sku": "XX-01",
        "url": "https://example.org/x",
        "reason": "HTTP 500 at /x",
    }
    with lake.load("shop") as load:
        load.write("page_errors", [row], disposition="append")
    run("build", cwd=shop).ok()
    found = lake.query("select trouble, pages from models.page_troubles where day = '2030-01-01'").fetchall()
    assert found == [("HTTP 500", 1)]


def test_every_model_of_the_fires_is_built_and_every_fire_is_in_it(fires: Path) -> None:
    lake = Lake.open(fires / "lake")
    for file in (ROOT / "examples" / "fires" / "models").glob("*.sql"):
        assert lake.query(f"select count(*) > 0 from models.{file.stem}_at(now())").fetchall() == [(True,)], (
            file.name
        )
    whole = "select count(distinct UniqueId) from ca_fires.incidents_history"
    assert lake.query("select count(*) from models.fires").fetchall() == lake.query(whole).fetchall()
    assert "up to date" in run("build", cwd=fires).ok().out


def test_what_burned_can_be_asked_for_any_moment_of_the_history(fires: Path) -> None:
    lake = Lake.open(fires / "lake")
    moments = lake.query(
        "select effective_at from lakehouse.loads where outcome = 'loaded' order by seq"
    ).fetchall()
    for (moment,) in moments[:: len(moments) // 5]:
        at = f"'{moment.isoformat()}'"
        listed = lake.query(f"select count(*) from ca_fires.incidents_at({at})").fetchall()[0][0]
        found = lake.query(f"select coalesce(sum(fires), 0) from models.burning_at({at})").fetchall()[0][0]
        assert found == listed
