"""The guide to dbt and SQLMesh does what it says: its files and commands, from an empty folder."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest
from command import program
from truth import ROOT

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

_PART = re.compile(
    r"^(?:`(?P<file>[^`\n]+)`:\n\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
PRICES = (
    "select c.title, count(*), round(avg(p.price), 2) from {at}shop.products{moment} as p"
    " join {at}shop.categories{moment} as c on c.slug = p.category group by 1 order by 1"
)
PERIODS = "select sku, from_load, to_load, valid_from, valid_to, change, price from {}"


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `lakehouse` in it: a project that has scraped the demo shop."""
    if shutil.which("uv") is None:
        pytest.skip("no uv here: pip install uv")
    folder = tmp_path_factory.mktemp("guide")
    project = folder / "lakehouse"
    (project / "ingest" / "sources").mkdir(parents=True)
    shutil.copy(ROOT / "ingest" / "sources" / "shop.py", project / "ingest" / "sources")
    (project / "pyproject.toml").write_text('[tool.lakehouse]\nlake = "lake"\n')
    program("ingest", "shop", cwd=project).ok()
    program("refresh", cwd=project).ok()
    return folder


class Guide:
    """One section of the guide, done step by step in a folder of its own."""

    def __init__(self, heading: str, parent: Path) -> None:
        text = (ROOT / "docs" / "dbt.md").read_text(encoding="utf-8")
        section = re.split(r"^## ", text.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
        self.steps = [step.groupdict() for step in _PART.finditer(section)]
        made = re.search(r"mkdir (\w+)", self.steps[0]["text"])
        assert made, f"the section {heading} does not begin with a folder"
        self.parent, self.folder = parent, parent / made[1]

    def follow(self, until: str) -> None:
        """Do the steps up to the first command that has these words, and that one."""
        while self.steps:
            step = self.steps.pop(0)
            if step["file"]:
                (self.folder / step["file"]).write_text(step["text"])
            elif step["kind"] == "console":
                self.run(step["text"])
                if until in step["text"]:
                    return
        pytest.fail(f"the guide has no command with {until!r} any more")

    def run(self, script: str) -> None:
        """Run commands where the guide is, with nothing of this environment."""
        variables = {
            k: v for k, v in os.environ.items() if not k.startswith(("VIRTUAL_ENV", "PYTHON", "DBT_"))
        }
        done = subprocess.run(
            ["bash", "-euc", script], cwd=self.folder if self.folder.exists() else self.parent,
            env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """What the project's database gives, the lake attached as in the guide."""
        with duckdb.connect(str(self.folder / f"{self.folder.name}.duckdb"), read_only=True) as connection:
            lake = self.parent / "lakehouse" / "lakehouse.duckdb"
            connection.execute(f"attach '{lake}' as lakehouse (read_only)")
            connection.execute(f"set search_path = '{self.folder.name}.main,lakehouse.main'")
            return connection.execute(sql).fetchall()

    def prices(self, moment: str = "") -> list[tuple[object, ...]]:
        """What the model `category_prices` should be."""
        return self.rows(PRICES.format(at="lakehouse.", moment=moment))


def test_dbt_builds_over_the_lake_as_the_guide_says(beside: Path) -> None:
    guide = Guide("dbt", beside)
    built = "select category, products, price from main.category_prices order by 1"

    guide.follow("dbt build\n")
    assert guide.rows(built) == guide.prices() != []

    guide.follow("as_of: 4")
    assert guide.rows(built) == guide.prices("_at(4)") != guide.prices()

    guide.follow("since: 3")
    changed = guide.rows(
        "select count(*) from lakehouse.shop.products_diff(3, now()) where list_contains(changed_columns, 'price') or change <> 'changed'"
    )
    assert guide.rows("select count(*) from main.price_changes") == changed != [(0,)]

    guide.follow("dbt build\n")
    assert not guide.steps
    whole, kept = PERIODS.format("lakehouse.shop.products_history"), PERIODS.format("main.price_periods")
    assert guide.rows(f"select count(*) from ({kept})") != [(0,)]
    program("revert", "shop", "--to", "2", cwd=beside / "lakehouse").ok()
    program("refresh", cwd=beside / "lakehouse").ok()
    assert guide.rows(f"{whole} except {kept}") != []
    guide.run(".venv/bin/dbt build")
    assert guide.rows(f"({whole} except all {kept}) union all ({kept} except all {whole})") == []
    assert guide.rows(built) == guide.prices()


def test_sqlmesh_builds_over_the_lake_as_the_guide_says(beside: Path) -> None:
    guide = Guide("SQLMesh", beside)
    built = "select category, products, price from shop.category_prices order by 1"

    guide.follow("sqlmesh plan")
    assert not guide.steps
    assert guide.rows(built) == guide.prices() != []

    config = guide.folder / "config.yaml"
    config.write_text(config.read_text().replace('as_of: "9999-12-31"', 'as_of: "4"'))
    guide.run(".venv/bin/sqlmesh plan --auto-apply --no-prompts")
    assert guide.rows(built) == guide.prices("_at(4)") != guide.prices()


def test_a_client_that_has_the_catalog_open_keeps_seeing_the_load_it_opened(beside: Path) -> None:
    count = "select max(from_load) from lakehouse.shop.products_history"
    lake = beside / "lakehouse" / "lakehouse.duckdb"
    with duckdb.connect() as before, duckdb.connect() as after:
        before.execute(f"attach '{lake}' as lakehouse (read_only)")
        seen = before.execute(count).fetchall()
        program("revert", "shop", "--to", "5", cwd=beside / "lakehouse").ok()
        program("refresh", cwd=beside / "lakehouse").ok()
        assert before.execute(count).fetchall() == seen
        after.execute(f"attach '{lake}' as lakehouse (read_only)")
        assert after.execute(count).fetchall() > seen
