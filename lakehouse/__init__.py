"""A local-first embedded lakehouse: append-only Parquet, every change kept, time travel in SQL."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakehouse.core.gates import Gates
    from lakehouse.errors import LakehouseError
    from lakehouse.lake import Lake

__all__ = ["Gates", "Lake", "LakehouseError"]

_HOMES = {"Gates": "lakehouse.core.gates", "Lake": "lakehouse.lake", "LakehouseError": "lakehouse.errors"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `lakehouse --help` needs none of it."""
    from importlib import import_module

    if name not in _HOMES:
        msg = f"module 'lakehouse' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)
