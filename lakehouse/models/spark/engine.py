"""The engine: tables of the lake at the positions of a build, and models over them, in Apache Spark."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from lakehouse.duck.sql import duck_type
from lakehouse.errors import QueryError, UserError
from lakehouse.models.model import SOURCE
from lakehouse.models.spark import inputs
from lakehouse.models.spark.kinds import spark_name, spark_type
from lakehouse.models.spark.resolve import Tables
from lakehouse.models.spark.session import SparkSessions
from lakehouse.models.spark.translate import translated
from lakehouse.models.spark.trouble import HINT, Refusal, refused
from lakehouse.models.spark.twin import Columns, Twin

if TYPE_CHECKING:
    from lakehouse.lake import Lake
    from lakehouse.models.model import Model

Answer = TypeVar("Answer")


class Spark:
    """Runs models on Apache Spark.

    The session starts when the first table is asked for: on `spark.master` of spark-defaults.conf, else on
    SPARK_MASTER, else on this machine. A cluster has to see the lake and the folder at the same paths.

    Args:
        lake: The lake.
        positions: Positions in the logs of the sources that may be read.
        folder: For results and Spark's own files; an absolute path is made of it.
    """

    def __init__(self, lake: "Lake", *, positions: Mapping[str, int], folder: Path) -> None:
        self._lake = lake
        self._positions = dict(positions)
        self._folder = folder.absolute()
        self._sessions = SparkSessions(self._folder / "spark")
        self._twin = Twin()
        self._tables = Tables()
        self._models: dict[str, Columns] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Inputs.

    def table(self, source: str, table: str) -> None:
        """Make a table of the lake readable under its name, as it is at the position of its source.

        Raises:
            NotFoundError: There is no such table, or its state there is expired.
        """
        log, _ = self._lake.table(f"{source}.{table}")
        seq = log.resolve(self._positions.get(source))
        known = log.tables[table]
        frame = inputs.state(self._sessions.get(), self._lake, known, seq)
        if frame is None:
            self._written(source, table, seq)
            return
        types = {column.name: duck_type(column.type) for column in known.columns}
        self._show(source, table, self._twin.table(source, table, types), frame)

    def table_from(self, source: str, table: str, files: Sequence[str | Path]) -> None:
        """Make rows in Parquet files readable under the name of a table, in the place of its state.

        Args:
            source: Name of the source.
            table: Name of the table.
            files: At least one; all with the same columns.
        """
        names = [str(Path(file).absolute()) for file in files]
        columns = self._twin.files(source, table, names)
        self._show(source, table, columns, self._opened(names, columns))

    def _written(self, source: str, table: str, seq: int) -> None:
        file, types = inputs.written(self._lake, seq, source, table, self._folder / "inputs")
        columns = self._twin.table(source, table, types)
        self._show(source, table, columns, self._opened([str(file)], columns))

    def _opened(self, files: Sequence[str], columns: Columns) -> Any:
        fields = [f"{spark_name(name)} {spark_type(of)}" for name, of in columns.items() if spark_type(of)]
        return inputs.opened(self._sessions.get(), files, ", ".join(fields))

    def _show(self, source: str, table: str, columns: Columns, frame: Any) -> None:
        """Make a DataFrame known under the name of a table."""
        view = f"{source}.{table}"
        frame.createOrReplaceTempView(spark_name(view))
        self._tables.add(source, table, columns, view)

    def _prepare(self, model: "Model") -> None:
        """Make all that a model reads known, as far as the caller did not."""
        for reference in model.references:
            source = reference.source
            table = reference.table + ("_history" if reference.form == "history" else "")
            if (
                self._tables.has(source, table)
                or reference.form in {"at", "diff"}
                or source not in self._positions
            ):
                continue
            if reference.form:
                self._written(source, table, self._positions[source])
            else:
                self.table(source, table)

    # Models.

    def view(self, name: str, model: "Model") -> None:
        """Make a model readable as `models.<name>`, without running it.

        Raises:
            UserError: Its SQL is wrong, or Spark is not known to answer it as DuckDB does.
        """
        select, columns = self._select(name, model)
        self._show(SOURCE, name, columns, self._asked(model, lambda: self._sessions.get().sql(select)))

    def candidate(self, name: str, model: "Model") -> list[Path]:
        """Run a model and write its result, which is then readable as `models.<name>`.

        Returns:
            Parquet files, at least one, with the columns in order, in the types of `columns`; but for those that
            Spark lacks: HUGEINT is DECIMAL(38,0), an unsigned number the next signed type, JSON is text.

        Raises:
            UserError: As `view`; or Spark stopped at a value, such as text that is no number.
        """
        select, columns = self._select(name, model)
        folder = self._folder / "results" / name
        session = self._sessions.get()

        def run() -> None:
            frame = session.sql(select)
            frame.write.mode("overwrite").option("compression", "zstd").parquet(str(folder))

        self._asked(model, run)
        files = sorted(folder.glob("part-*.parquet"))
        self._show(SOURCE, name, columns, self._opened([str(file) for file in files], columns))
        return files

    def columns(self, name: str) -> dict[str, str]:
        """Names and types of DuckDB of a model that was run or shown: what its result is to be read as."""
        return {column: str(of) for column, of in self._models[name].items()}

    def close(self) -> None:
        """Stop Spark."""
        self._twin.close()
        self._sessions.close()

    def _select(self, name: str, model: "Model") -> tuple[str, Columns]:
        """A model's SELECT for Spark, whose columns have the names and types that DuckDB gives them."""
        import duckdb

        if model.language != "sql":
            raise UserError(
                f"{model.path}: models.{name} is written in Python", hint="Python models run in Polars."
            )
        self._prepare(model)
        try:
            columns = self._twin.view(name, model.sql)
        except duckdb.Error as error:
            raise QueryError(
                f"{model.path}: {str(error).splitlines()[0]}", hint=f"See models.{name}."
            ) from None
        self._models[name] = columns
        try:
            select, _ = translated(model.sql, self._twin, self._tables)
            return _named(select, columns), columns
        except Refusal as refusal:
            raise refused(model, refusal) from None

    @staticmethod
    def _quiet() -> None:
        """PySpark writes each error to stderr, as JSON, before it raises it."""
        logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL + 1)

    def _asked(self, model: "Model", ask: Callable[[], Answer]) -> Answer:
        """What Spark answers; its errors become ours."""
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        self._quiet()
        try:
            return ask()
        except (PySparkException, Py4JError) as error:
            said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise QueryError(f"{model.path}: models.{model.name}: Spark stopped: {said}", hint=HINT) from None


def _named(select: str, columns: Columns) -> str:
    """A SELECT with the names and types that its result has in DuckDB."""
    items, names = [], [f"c{at}" for at in range(len(columns))]
    for short, (name, of) in zip(names, columns.items(), strict=True):
        if spark_type(of) is None:
            raise Refusal(f"its column {name} is of type {of}, which Spark has nothing for")
        items.append(f"CAST({short} AS {spark_type(of)}) AS {spark_name(name)}")
    return f"SELECT {', '.join(items)} FROM ({select}) AS lake_result({', '.join(names)})"
