"""Finds the scrapers of a project: one file each in `ingest/sources/`, loaded by path, no registry.

Listing names imports nothing. What a scraper's function yields is `ingest.run`'s business.
"""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

from ingest.defaults import set_dlt_defaults
from lakehouse.core.layout import MODELS
from lakehouse.errors import NotFoundError, UserError

FOLDER = Path("ingest") / "sources"
_PACKAGE = "lakehouse_sources"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraper:
    """One file of `ingest/sources/`.

    Attributes:
        name: Of the file, and of the lake's source.
        path: The file.
        function: Returns a dlt source or resource.
        takes_day: The function has a parameter `day`: it can be asked for past days.
        first_run_days: How many past days the first run offers (the file's `FIRST_RUN_DAYS`).
    """

    name: str
    path: Path
    function: Callable[..., Any]
    takes_day: bool = False
    first_run_days: int = 0

    def build(self, day: date) -> Any:
        """The dlt source or resource; for that day, where the scraper can choose."""
        return self.function(day=day) if self.takes_day else self.function()


def scraper_names(root: Path) -> list[str]:
    """Names of the scrapers of the project at `root`, sorted."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.py") if not path.name.startswith("_"))


def load_scraper(root: Path, name: str) -> Scraper:
    """The scraper of that name in the project at `root`.

    Raises:
        NotFoundError: There is no such file.
        UserError: The file cannot be imported, has no function to run, or has a name that is taken.
    """
    path = root / FOLDER / f"{name}.py"
    if name.lower() == MODELS:
        msg = f"{path}: a scraper cannot be called {name}: the source {MODELS} is what lakehouse build makes"
        raise UserError(msg, hint="Rename the file, and the function in it.")
    if name not in scraper_names(root):
        known = ", ".join(scraper_names(root)) or "none"
        msg = f"{name}: there is no scraper {path}"
        raise NotFoundError(msg, hint=f"Scrapers of this project: {known}.")
    module = _imported(path)
    function = _function(module, path)
    return Scraper(
        name=name,
        path=path,
        function=function,
        takes_day="day" in inspect.signature(function).parameters,
        first_run_days=int(getattr(module, "FIRST_RUN_DAYS", 0)),
    )


def _imported(path: Path) -> ModuleType:
    set_dlt_defaults()
    name = f"{_PACKAGE}.{path.stem}"  # dlt takes the last part as the section of its configuration
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        msg = f"{path}: is not a Python file"
        raise UserError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        msg = f"{path}: cannot be imported: {type(error).__name__}: {error}"
        raise UserError(msg, hint="The scraper's file has to be importable on its own.") from error
    return module


def _function(module: ModuleType, path: Path) -> Callable[..., Any]:
    from dlt.extract import DltResource
    from dlt.extract.reference import SourceFactory

    named: Callable[..., Any] | None = getattr(module, path.stem, None)
    if callable(named):
        return named
    public = [value for name, value in vars(module).items() if not name.startswith("_")]
    own = [value for value in public if getattr(value, "__module__", None) == module.__name__]
    for kind in (SourceFactory, DltResource):
        found = [value for value in own if isinstance(value, kind)]
        if len(found) == 1 and callable(found[0]):
            return found[0]
    msg = f"{path}: defines no function {path.stem}, nor exactly one dlt source or resource"
    raise UserError(msg, hint=f"Name the function decorated with @dlt.source or @dlt.resource {path.stem}.")
