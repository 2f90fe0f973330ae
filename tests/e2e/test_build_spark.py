"""The same models, built by DuckDB and by Spark over real history: equal rows at three moments, and in the log."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import run

from lakehouse import Lake

pytest.importorskip("pyspark", reason="pyspark is not installed: uv sync --group engines")

MODELS = {
    "counties": """\
-- kind: table
select distinct upper(CountyIds) as county, len(CountyIds) as letters from ca_fires.incidents where CountyIds is not null
""",
    "joined": """\
-- kind: table
-- key: [UniqueId]
select i.UniqueId, i.Name, c.letters, i.AcresBurned * 2 as twice
from ca_fires.incidents as i left join counties as c on c.county = upper(i.CountyIds)
""",
    "ranked": """\
-- kind: table
-- key: [UniqueId]
select UniqueId, CountyIds, AcresBurned,
  row_number() over (partition by CountyIds order by AcresBurned desc nulls last, UniqueId) as place,
  sum(AcresBurned) over (partition by CountyIds) as acres
from ca_fires.incidents
""",
    "by_county": """\
-- kind: incremental
-- key: [CountyIds]
select CountyIds, count(*) as fires, max(AcresBurned) as largest from seen group by CountyIds
""",
    "seen": "select UniqueId, CountyIds, AcresBurned from ca_fires.incidents where Name is not null",
}


@pytest.fixture(scope="module", autouse=True)
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Spark that is there already, as in a notebook: builds use it, and it starts once."""
    from lakehouse.models.spark.session import SparkSessions

    sessions = SparkSessions(tmp_path_factory.mktemp("spark"))
    sessions.get()
    yield
    sessions.close()


@pytest.fixture(scope="module")
def project(unpacked: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("fires")
    (root / "pyproject.toml").write_text('[tool.lakehouse]\nlake = "lake"\n')
    (root / "models").mkdir()
    for name, text in MODELS.items():
        (root / "models" / f"{name}.sql").write_text(text)
    options = ("--source", "ca_fires", "--table", "incidents", "--key", "UniqueId", "--rows", "Incidents")
    run("import", "files", unpacked("quick-ca-fires-v330-430"), *options, "--lake", root / "lake").ok()
    return root


def rows(folder: Path, name: str) -> list[tuple[object, ...]]:
    import duckdb

    with duckdb.connect() as connection:
        found = connection.execute(f"select * from '{folder}/{name}.parquet'")
        names = [column[0] for column in found.description or ()]
        return [tuple(map(str, names)), *sorted(found.fetchall(), key=repr)]


def test_duckdb_and_spark_build_the_same_at_three_moments(project: Path, tmp_path: Path) -> None:
    log = Lake.open(project / "lake").log("ca_fires")
    seen = set()
    for seq in (log.head // 3, 2 * log.head // 3, log.head):
        moment = log.commits[seq - 1].effective_at.isoformat()
        folders = {engine: tmp_path / f"{engine}{seq}" for engine in ("duckdb", "spark")}
        for engine, folder in folders.items():
            run("build", "--engine", engine, "--as-of", moment, "-o", folder, cwd=project).ok()
        for name in MODELS:
            assert rows(folders["spark"], name) == rows(folders["duckdb"], name), (seq, name)
        seen.add(repr(rows(folders["duckdb"], "ranked")))
    assert len(seen) == 3


def test_what_spark_built_is_a_load_like_any_other(project: Path) -> None:
    lake = Lake.open(project / "lake")
    middle = lake.log("ca_fires").commits[60].effective_at.isoformat()
    run("build", "--engine", "spark", "--as-of", middle, cwd=project).ok()
    then = {name: sorted(lake.query(f"from models.{name}").fetchall(), key=repr) for name in MODELS}
    done = run("build", "--full", "--as-of", middle, "--json", cwd=project).ok()  # by DuckDB, in its place
    assert {model["status"] for model in done.json["models"]} == {"built", "defined"}
    assert {name: sorted(lake.query(f"from models.{name}").fetchall(), key=repr) for name in MODELS} == then
    tables = lake.log("models").tables
    assert all(not tables[name].last.parts for name in tables), "DuckDB's rows differ from Spark's"
    run("build", "--engine", "spark", cwd=project).ok()
    assert run("build", cwd=project).ok().out == "5 models up to date\n"
