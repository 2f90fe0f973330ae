"""Stores: bytes by key, with create-if-absent. One small interface over folders, buckets and memory."""

from lakehouse.store.base import Absent, Entry, Exists, Store
from lakehouse.store.hashing import checksums
from lakehouse.store.local import LocalStore
from lakehouse.store.memory import MemoryStore
from lakehouse.store.opening import open_store
from lakehouse.store.probing import honours_create

__all__ = [
    "Absent",
    "Entry",
    "Exists",
    "LocalStore",
    "MemoryStore",
    "Store",
    "checksums",
    "honours_create",
    "open_store",
]
