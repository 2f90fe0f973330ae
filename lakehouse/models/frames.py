"""Models that are Python functions: loaded by path, given Polars frames, asked for one."""

import contextlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lakehouse.duck.names import quote
from lakehouse.errors import ModelError

if TYPE_CHECKING:
    import duckdb

    from lakehouse.models.model import Model


def run(cursor: "duckdb.DuckDBPyConnection", root: Path, model: "Model", to: str) -> None:
    """Call a model's function with what it reads, and keep what it returns.

    Args:
        cursor: A connection to the workspace, which has what the model reads.
        root: The project's folder.
        model: The model.
        to: Name of the table to make.

    Raises:
        ModelError: The function raised, or returned something that is no frame.
    """
    import polars as pl

    function = getattr(_load(root, model), model.name)
    annotations = getattr(function, "__annotations__", {})
    lazy = {name for name, kind in annotations.items() if "LazyFrame" in str(kind)}
    frames: dict[str, Any] = {}
    for name, reference in zip(model.parameters, model.references, strict=True):
        suffix = f"_{reference.form}" if reference.form else ""
        table = f"{quote(reference.source)}.{quote(reference.table + suffix)}"
        frame = cursor.sql(f"SELECT * FROM {table}").pl()
        frames[name] = frame.lazy() if name in lazy else frame
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is no part of the answer
            result = function(**frames)
            if isinstance(result, pl.LazyFrame):
                result = result.collect()
    except (Exception, SystemExit, GeneratorExit) as error:  # it is the user's code
        raise _failed(root, model, error) from error
    if not isinstance(result, pl.DataFrame):
        raise ModelError(
            f"{model.path}: {model.name}() returned {type(result).__name__}, not a Polars frame",
            hint="Return one polars.DataFrame or LazyFrame.",
        )
    if not result.columns:
        raise ModelError(
            f"{model.path}: {model.name}() returned a frame without columns", hint="Return some."
        )
    objects = [name for name, kind in result.schema.items() if kind == pl.Object]
    if objects:
        msg = f"{model.path}: the column {objects[0]!r} of what {model.name}() returned holds Python objects"
        raise ModelError(msg, hint="Make numbers, texts, dates, lists or structs of them.")
    cursor.register("_lake_frame", result.to_arrow())
    try:
        cursor.execute(f"CREATE TABLE {to} AS SELECT * FROM _lake_frame")
    finally:
        cursor.unregister("_lake_frame")


def _load(root: Path, model: "Model") -> ModuleType:
    path = root / model.path
    spec = importlib.util.spec_from_file_location(f"_lakehouse_model_{model.name}", path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{model.path}: is no Python file", hint="Models are .sql or .py files.")
    module = importlib.util.module_from_spec(spec)
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # the folder holds models, nothing else
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit, GeneratorExit) as error:  # it is the user's code
        raise _failed(root, model, error) from error
    finally:
        sys.dont_write_bytecode = before
    return module


def _failed(root: Path, model: "Model", error: BaseException) -> ModelError:
    frames = traceback.extract_tb(error.__traceback__)
    line = next(
        (frame.lineno for frame in reversed(frames) if frame.filename == str(root / model.path)), None
    )
    where = f"{model.path}:{line}" if line else model.path
    return ModelError(f"{where}: {type(error).__name__}: {error}", hint="Nothing of it was published.")
