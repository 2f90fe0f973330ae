"""The generated models as three projects: of the lakehouse, of dbt with DuckDB, of SQLMesh with DuckDB.

Each is asked by commands, as its users would type them. The peers have the raw tables in their own
database, which is the quickest that they can have it; the lakehouse has them as loads.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import duckdb
import pyarrow as pa
from environments import Environment
from models_dag import COLUMNS, FIRST_DAY, INCREMENTAL, RAW, VIEW, Node

DBT = ("dbt-duckdb==1.11.1", "dbt-core==1.11.16", "duckdb==2.0.0")
SQLMESH = ("sqlmesh[duckdb]==0.236.4", "duckdb==1.5.6")  # it wants DuckDB below 2
LAKEHOUSE = Path(sys.executable).with_name("lakehouse")

FULL, NOTHING, CHANGED = "full", "nothing", "changed"
Rows = list[tuple[object, ...]]


class Project(Protocol):
    """The generated models, as one tool wants them."""

    name: str
    folder: Path

    def missing(self) -> str | None:
        """What to run where the tool is not installed."""

    def make(self, folder: Path, nodes: list[Node], raw: dict[str, pa.Table]) -> None:
        """Write the project and its raw tables."""

    def reset(self) -> None:
        """Forget everything that was built."""

    def write(self, node: Node) -> None:
        """Write one model, anew if it is there."""

    def commands(self, case: str) -> dict[str, list[object]]:
        """The commands for a case by what they are called; each alone brings everything up to date."""

    def settle(self) -> None:
        """What its user does after a build so that the next one knows what has changed."""

    def rows(self, name: str) -> Rows:
        """What a model gives, by id."""


class Lakehouse:
    """Ours."""

    name = "lakehouse"

    def missing(self) -> str | None:
        return None

    def make(self, folder: Path, nodes: list[Node], raw: dict[str, pa.Table]) -> None:
        from lakehouse import Lake

        self.folder = folder
        (folder / "models").mkdir(parents=True)
        (folder / "pyproject.toml").write_text('[tool.lakehouse]\nlake = "lake"\n')
        with Lake.create(folder / "lake").load("raw") as load:
            for table, rows in raw.items():
                load.write(table, rows, disposition="append")
        _each(self, nodes)

    def reset(self) -> None:
        for built in ("lake/models", "lake/_derived/models"):
            shutil.rmtree(self.folder / built, ignore_errors=True)
        for catalog in self.folder.glob("lakehouse.duckdb*"):
            catalog.unlink()

    def write(self, node: Node) -> None:
        key = "-- key: [id]\n" if node.key else ""
        sql = node.sql(lambda name: f"raw.{name}" if name in RAW else name)
        (self.folder / "models" / f"{node.name}.sql").write_text(f"-- kind: {node.kind}\n{key}{sql}\n")

    def commands(self, case: str) -> dict[str, list[object]]:
        del case  # the same for all
        return {"lakehouse build": [LAKEHOUSE, "build"]}

    def settle(self) -> None:
        """Nothing: the log knows."""

    def rows(self, name: str) -> Rows:
        from lakehouse import Lake

        return Lake.open(self.folder / "lake").query(_all(f"models.{name}")).fetchall()


class Dbt:
    """dbt with DuckDB."""

    name = "dbt-duckdb"

    def __init__(self) -> None:
        self.environment = Environment("-".join(DBT[0].split("==")), DBT)

    def missing(self) -> str | None:
        return self.environment.missing()

    def make(self, folder: Path, nodes: list[Node], raw: dict[str, pa.Table]) -> None:
        self.folder = folder
        (folder / "models").mkdir(parents=True)
        (folder / "dbt_project.yml").write_text(
            "name: bench\nversion: '1.0'\nprofile: bench\nmodel-paths: [models]\n"
        )
        (folder / "profiles.yml").write_text(
            "bench:\n  target: dev\n  outputs:\n    dev: "
            f"{{type: duckdb, path: bench.duckdb, schema: models, threads: {os.cpu_count()}}}\n"
        )
        tables = "".join(f"      - name: {table}\n" for table in RAW)
        (folder / "models" / "sources.yml").write_text(f"sources:\n  - name: raw\n    tables:\n{tables}")
        _database(folder / "raw.duckdb", raw)
        _each(self, nodes)

    def reset(self) -> None:
        shutil.copy(self.folder / "raw.duckdb", self.folder / "bench.duckdb")
        for made in ("target", "state", "logs"):
            shutil.rmtree(self.folder / made, ignore_errors=True)

    def write(self, node: Node) -> None:
        where, settings = "", f"materialized='{node.kind}'"
        if node.kind == INCREMENTAL:
            where = "{% if is_incremental() %} and day > (select max(day) from {{ this }}) {% endif %}"
            settings += ", incremental_strategy='append'"
        sql = node.sql(_dbt_name, where=where)
        head = f"{{{{ config({settings}) }}}}\n"
        (self.folder / "models" / f"{node.name}.sql").write_text(f"{head}{sql}\n")

    def commands(self, case: str) -> dict[str, list[object]]:
        build = [self.environment.program("dbt"), "build"]
        modified = [*build, "--select", "state:modified+", "--state", "state"]
        if case == FULL:
            return {"dbt build": build}
        if case == CHANGED:
            return {"dbt build -s state:modified+": modified}
        return {"dbt build": build, "dbt build -s state:modified+": modified}

    def settle(self) -> None:
        """Keep the manifest, which `state:modified` is held against."""
        (self.folder / "state").mkdir(exist_ok=True)
        shutil.copy(self.folder / "target" / "manifest.json", self.folder / "state")

    def rows(self, name: str) -> Rows:
        return _read(self.folder / "bench.duckdb", f"models.{name}")


class SqlMesh:
    """SQLMesh with DuckDB, its state in the same database, as its own examples have it."""

    name = "SQLMesh"

    def __init__(self) -> None:
        version = SQLMESH[0].partition("==")[2]
        self.environment = Environment(f"sqlmesh-{version}", SQLMESH)

    def missing(self) -> str | None:
        return self.environment.missing()

    def make(self, folder: Path, nodes: list[Node], raw: dict[str, pa.Table]) -> None:
        self.folder = folder
        (folder / "models").mkdir(parents=True)
        (folder / "config.yaml").write_text(
            "gateways:\n  local:\n    connection:\n      type: duckdb\n      database: bench.duckdb\n"
            f"      concurrent_tasks: {os.cpu_count()}\n"
            "default_gateway: local\n"
            f"model_defaults:\n  dialect: duckdb\n  start: {FIRST_DAY}\n"
        )
        types = zip(COLUMNS, ("bigint", "date", "text", "bigint"), strict=True)
        columns = "".join(f"    {column}: {kind}\n" for column, kind in types)
        (folder / "external_models.yaml").write_text(
            "".join(f"- name: raw.{table}\n  columns:\n{columns}" for table in RAW)
        )
        _database(folder / "raw.duckdb", raw)
        _each(self, nodes)

    def reset(self) -> None:
        for made in (".cache", "logs"):
            shutil.rmtree(self.folder / made, ignore_errors=True)
        (self.folder / "bench.duckdb.wal").unlink(missing_ok=True)
        shutil.copy(self.folder / "raw.duckdb", self.folder / "bench.duckdb")

    def write(self, node: Node) -> None:
        kind, where = ("VIEW" if node.kind == VIEW else "FULL"), ""
        if node.kind == INCREMENTAL:
            kind, where = (
                "INCREMENTAL_BY_TIME_RANGE (time_column day)",
                "  and day between @start_ds and @end_ds",
            )
        sql = node.sql(lambda name: f"raw.{name}" if name in RAW else f"models.{name}", where=where)
        head = f"MODEL (name models.{node.name}, kind {kind});\n"
        (self.folder / "models" / f"{node.name}.sql").write_text(f"{head}{sql}\n")

    def commands(self, case: str) -> dict[str, list[object]]:
        program = self.environment.program("sqlmesh")
        plan = [program, "plan", "--auto-apply", "--no-prompts"]
        if case == NOTHING:
            return {"sqlmesh plan": plan, "sqlmesh run": [program, "run"]}
        return {"sqlmesh plan": plan}

    def settle(self) -> None:
        """Nothing: its state database knows."""

    def rows(self, name: str) -> Rows:
        return _read(self.folder / "bench.duckdb", f"models.{name}")


def variables() -> dict[str, str]:
    """The environment of every command: nobody phones home, for that would be timed as well."""
    quiet = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "true"}
    return os.environ | quiet | {"DO_NOT_TRACK": "1", "DBT_PROFILES_DIR": "."}


def _each(project: Project, nodes: Sequence[Node]) -> None:
    for node in nodes:
        project.write(node)


def _dbt_name(name: str) -> str:
    return f"{{{{ source('raw', '{name}') }}}}" if name in RAW else f"{{{{ ref('{name}') }}}}"


def _database(path: Path, raw: dict[str, pa.Table]) -> None:
    """A database file with the raw tables, that DuckDB 1 and 2 both read and write."""
    with duckdb.connect() as connection:
        connection.execute(f"attach '{path}' as raw_file (storage_version 'v1.0.0')")
        connection.execute("create schema raw_file.raw")
        for table, rows in raw.items():
            connection.register("brought", rows)
            connection.execute(f"create table raw_file.raw.{table} as from brought")
            connection.unregister("brought")


def _read(path: Path, table: str) -> Rows:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(_all(table)).fetchall()


def _all(table: str) -> str:
    return f"select {', '.join(COLUMNS)} from {table} order by id"
