"""Trying out what a store says of itself: services that speak S3's protocol may ignore conditions."""

import secrets

from lakehouse.store.base import Exists, Store

_PROBES = "_derived/_probe/"  # not part of any lake; may be deleted at any time


def honours_create(store: Store) -> bool:
    """Whether a second `create` of an object is refused, tried out with one that is removed again.

    Raises:
        LakehouseError: The store cannot be written.
    """
    if not store.creates:
        return False
    key = f"{_PROBES}{secrets.token_hex(8)}"
    store.create(key, b"first")
    try:
        store.create(key, b"second")
    except Exists:
        return store.get(key) == b"first"
    finally:
        store.delete(key)
    return False
