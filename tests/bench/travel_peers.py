"""The peers of the benchmark of time travel, each given the same loads and asked the same queries.

Each is compacted by its own means once it is built. How a moment is asked for:

- `now`: the table is opened once, then asked again and again;
- `at`: the moment is resolved in the query, as `table_at(t)` does. Where the API of a peer opens a
  table at a version instead, that opening belongs to the query;
- `session`: the table is opened once at that version, then asked again and again.
"""

import importlib.util
import json
import subprocess
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb
import polars as pl
import pyarrow as pa
from environments import Environment
from travel_changes import GONE, Changes, replay

NOW, AT, SESSION = "now", "at", "session"
COUNT, AGGREGATE, POINT, WHOLE = "count", "aggregate", "point", "whole"
QUERIES = (COUNT, AGGREGATE, POINT, WHOLE)
DUCKLAKE = ("duckdb==1.5.5", "duckdb-extension-ducklake==1.5.5", "pyarrow>=20", "numpy>=2.1")
GROUP = "uv sync --group bench"


@dataclass(frozen=True, kw_only=True)
class Question:
    """A query over one table, for SQL and for engines that have none."""

    kind: str
    key: str
    category: str
    value: str
    above: float
    wanted: Any  # the key that the point look-up asks for

    def sql(self, table: str) -> str:
        """The query over what `table` names."""
        key, category, value = (f'"{name}"' for name in (self.key, self.category, self.value))
        if self.kind == COUNT:
            return f"SELECT count(*) AS n FROM {table}"
        if self.kind == AGGREGATE:
            return (
                f"SELECT {category} AS category, sum({value}) AS total, count(*) AS n FROM {table} "
                f"WHERE {value} > {self.above} GROUP BY 1"
            )
        if self.kind == POINT:
            return f"SELECT * FROM {table} WHERE {key} = {self._literal()}"
        return f"SELECT * FROM {table}"

    def lazy(self, frame: pl.LazyFrame) -> pa.Table:
        """The same of a lazy frame of Polars."""
        if self.kind == COUNT:
            frame = frame.select(pl.len().alias("n"))
        elif self.kind == AGGREGATE:
            figures = (pl.col(self.value).sum().alias("total"), pl.len().alias("n"))
            frame = (
                frame.filter(pl.col(self.value) > self.above)
                .group_by(pl.col(self.category).alias("category"))
                .agg(*figures)
            )
        elif self.kind == POINT:
            frame = frame.filter(pl.col(self.key) == self.wanted)
        return frame.collect().to_arrow()

    def _literal(self) -> str:
        return str(self.wanted) if isinstance(self.wanted, int) else f"'{self.wanted}'"


class Way(Protocol):
    """One way to have a question answered."""

    def __call__(self) -> float:
        """Have it answered; the seconds that it took."""

    def answer(self) -> pa.Table:
        """What the last call gave."""


class Asked:
    """A way within this process."""

    def __init__(self, ask: Callable[[], pa.Table]) -> None:
        self._ask = ask
        self._answer: pa.Table | None = None

    def __call__(self) -> float:
        self._answer = None  # freeing the one before is not what is asked
        started = time.perf_counter()
        self._answer = self._ask()
        return time.perf_counter() - started

    def answer(self) -> pa.Table:
        assert self._answer is not None
        return self._answer


class Peer(Protocol):
    """An engine that takes the loads of a scenario and answers questions about their history."""

    name: str

    def missing(self) -> str | None:
        """What to run where it is not installed."""

    def build(self, changes: Changes, folder: Path, *, budget: float) -> str:
        """Commit the loads and compact; says what became of them."""

    def open(self, mode: str, load: int) -> None:
        """Be ready for questions about the state after a load."""

    def ways(self, question: Question) -> dict[str, Way]:
        """The ways that it has to answer, by name; the quickest counts."""

    def close(self) -> None:
        """End what it started."""


class Delta:
    """deltalake, read by DuckDB through its Arrow dataset and by Polars."""

    name = "deltalake"

    def missing(self) -> str | None:
        return None if importlib.util.find_spec("deltalake") else GROUP

    def build(self, changes: Changes, folder: Path, *, budget: float) -> str:
        from deltalake import DeltaTable

        self.path = str(folder)
        schema = changes.table.schema.empty_table().select(changes.columns).schema
        table = DeltaTable.create(self.path, schema)
        done = replay(changes, budget, lambda rows: self._apply(table, rows, changes), table.version)
        self.versions = done.versions
        started = time.perf_counter()
        table.optimize.compact()
        table.create_checkpoint()
        self.connection = duckdb.connect()
        return _became(done.single, changes.loads, done.seconds, time.perf_counter() - started)

    def open(self, mode: str, load: int) -> None:
        from deltalake import DeltaTable

        self.mode, self.version = mode, self.versions[load]
        if mode == NOW:
            table = DeltaTable(self.path)
        elif mode == SESSION:
            table = DeltaTable(self.path, version=self.version)
        else:
            return
        self.dataset, self.frame = table.to_pyarrow_dataset(), pl.scan_delta(table)

    def ways(self, question: Question) -> dict[str, Way]:
        return {
            "duckdb": Asked(lambda: self._duckdb(question)),
            "polars": Asked(lambda: question.lazy(self._frame())),
        }

    def close(self) -> None:
        return

    def _duckdb(self, question: Question) -> pa.Table:
        from deltalake import DeltaTable

        if self.mode == AT:
            self.dataset = DeltaTable(self.path, version=self.version).to_pyarrow_dataset()
        self.connection.register("peer", self.dataset)
        return self.connection.sql(question.sql("peer")).to_arrow_table()

    def _frame(self) -> pl.LazyFrame:
        return pl.scan_delta(self.path, version=self.version) if self.mode == AT else self.frame

    @staticmethod
    def _apply(table: Any, rows: pa.Table, changes: Changes) -> None:
        from deltalake import write_deltalake

        if changes.key is None:
            write_deltalake(table, rows, mode="append")
            return
        same = f'target."{changes.key}" = source."{changes.key}"'
        (
            table.merge(rows, same, source_alias="source", target_alias="target")
            .when_matched_delete(f"source.{GONE}")
            .when_matched_update_all(except_cols=[GONE])
            .when_not_matched_insert_all(f"NOT source.{GONE}", except_cols=[GONE])
            .execute()
        )


class Iceberg:
    """pyiceberg with a catalog in SQLite, read by DuckDB through Arrow and by Polars.

    Rows of a keyed table are replaced by `overwrite` with a filter over their keys, which takes
    deletions too, and compaction, which pyiceberg has none of, is the newest state written anew.
    """

    name = "pyiceberg"

    def missing(self) -> str | None:
        return None if importlib.util.find_spec("pyiceberg") else GROUP

    def build(self, changes: Changes, folder: Path, *, budget: float) -> str:
        from pyiceberg.catalog.sql import SqlCatalog

        folder.mkdir()
        warnings.filterwarnings("ignore", module="pyiceberg")
        self.catalog = SqlCatalog("bench", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")
        self.catalog.create_namespace("bench")
        schema = changes.table.schema.empty_table().select(changes.columns).schema
        table = self.catalog.create_table("bench.rows", schema)
        done = replay(
            changes,
            budget,
            lambda rows: self._apply(table, rows, changes),
            lambda: table.current_snapshot().snapshot_id,
        )
        self.versions = done.versions
        started = time.perf_counter()
        table.overwrite(table.scan().to_arrow())
        self.versions[changes.loads] = table.current_snapshot().snapshot_id
        self.connection = duckdb.connect()
        return _became(done.single, changes.loads, done.seconds, time.perf_counter() - started)

    def open(self, mode: str, load: int) -> None:
        self.mode, self.version = mode, self.versions[load]
        self.table = self.catalog.load_table("bench.rows")

    def ways(self, question: Question) -> dict[str, Way]:
        return {
            "duckdb": Asked(lambda: self._arrow(question)),
            "polars": Asked(lambda: question.lazy(pl.scan_iceberg(self._table(), snapshot_id=self.version))),
        }

    def close(self) -> None:
        self.catalog.close()

    def _table(self) -> Any:
        return self.catalog.load_table("bench.rows") if self.mode == AT else self.table

    def _arrow(self, question: Question) -> pa.Table:
        from pyiceberg.expressions import AlwaysTrue, EqualTo, GreaterThan

        table = self._table()
        if question.kind == COUNT:
            return pa.table({"n": [table.scan(snapshot_id=self.version).count()]})
        columns, rows = ("*",), AlwaysTrue()
        if question.kind == AGGREGATE:
            columns, rows = (question.category, question.value), GreaterThan(question.value, question.above)
        elif question.kind == POINT:
            rows = EqualTo(question.key, question.wanted)
        found = table.scan(rows, selected_fields=columns, snapshot_id=self.version).to_arrow()
        if question.kind != AGGREGATE:
            return found
        self.connection.register("peer", found)
        return self.connection.sql(question.sql("peer")).to_arrow_table()

    @staticmethod
    def _apply(table: Any, rows: pa.Table, changes: Changes) -> None:
        from pyiceberg.expressions import In

        if changes.key is None:
            table.append(rows)
            return
        keys = In(changes.key, rows[changes.key].to_pylist())
        table.overwrite(rows.filter(pa.compute.invert(rows[GONE])).drop_columns(GONE), overwrite_filter=keys)


class DuckLake:
    """DuckLake in a process and an environment of its own; see `ducklake_worker.py`."""

    name = "DuckLake"

    def __init__(self) -> None:
        self.environment = Environment(DUCKLAKE[1].replace("==", "-"), DUCKLAKE)
        self.process: subprocess.Popen | None = None

    def missing(self) -> str | None:
        return self.environment.missing()

    def install(self) -> None:
        """Make its environment, if there is none and uv can."""
        self.environment.install()

    def build(self, changes: Changes, folder: Path, *, budget: float) -> str:
        folder.mkdir()
        self.folder = folder
        given = folder / "changes.parquet"
        changes.save(given)
        worker = Path(__file__).with_name("ducklake_worker.py")
        self.process = subprocess.Popen(
            [str(self.environment.program()), str(worker), str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        done = self.tell("build", changes=str(given), budget=budget)
        given.unlink()
        self.versions = {int(load): version for load, version in done["versions"].items()}
        became = _became(done["single"], changes.loads, done["seconds"], done["compacting"])
        return "; ".join([became, *done["troubles"]])

    def open(self, mode: str, load: int) -> None:
        version = self.versions[load]
        self.tell("open", version=version if mode == SESSION else None)
        self.table = f"peer.rows AT (VERSION => {version})" if mode == AT else "peer.rows"

    def ways(self, question: Question) -> dict[str, Way]:
        return {"duckdb": _Told(self, question.sql(self.table))}

    def close(self) -> None:
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def tell(self, do: str, **what: Any) -> dict[str, Any]:
        """Have the worker do something; its answer."""
        self.process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the worker ended"}
        if "error" in answer:
            raise RuntimeError(f"DuckLake, {do}: {answer['error']}")
        return answer


class _Told:
    """A way by DuckLake's process, which takes the time itself."""

    def __init__(self, peer: DuckLake, sql: str) -> None:
        self._peer, self._sql = peer, sql

    def __call__(self) -> float:
        return self._peer.tell("ask", sql=self._sql)["seconds"]

    def answer(self) -> pa.Table:
        path = self._peer.folder / "answer.arrow"
        self._peer.tell("answer", path=str(path))
        with pa.OSFile(str(path)) as file:
            found = pa.ipc.open_file(file).read_all()
        path.unlink()
        return found


def _became(single: int, loads: int, seconds: float, compacting: float) -> str:
    reached = (
        f"{loads:,} loads"
        if single == loads
        else (f"ONLY {single:,} of {loads:,} loads, the others at once (which makes its answers quicker)")
    )
    return f"{reached} in {seconds:.1f} s, compacted in {compacting:.1f} s"
