"""A local-first embedded lakehouse: append-only Parquet, every change kept, time travel in SQL."""

from lakehouse.core.gates import Gates
from lakehouse.errors import LakehouseError
from lakehouse.lake import Lake

__all__ = ["Gates", "Lake", "LakehouseError"]
