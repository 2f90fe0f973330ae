"""The candidate of an incremental model: what new loads can have changed is computed, the rest is as it is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

    from lakehouse.models.build import Run
    from lakehouse.models.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Increment:
    """What was computed of a model where that is not the whole.

    Attributes:
        rows: A SELECT of the rows to add, or to put in the place of those of the same key.
        deletes: A SELECT of the keys that are gone; empty where rows are only added.
    """

    rows: str
    deletes: str = ""


def attempt(run: "Run", cursor: "duckdb.DuckDBPyConnection", model: "Model") -> "Increment | str":
    """The increment of a model, with its candidate made; or why the whole is to be computed."""
    return "not yet"
