"""From a path or URL to a store."""

from pathlib import Path
from typing import Any

from lakehouse.store.base import Store
from lakehouse.store.local import LocalStore


def open_store(place: str | Path, **options: Any) -> Store:
    """The store at a path or URL: a folder, `file://…`, or any URL that fsspec knows.

    Args:
        place: `./lake`, `/data/lake`, `file:///data/lake`, `gs://bucket/lake`, `s3://…`, `az://…`, `memory://…`.
        options: Of the filesystem behind a URL, such as `endpoint_url`; a folder takes none.

    Raises:
        SetupError: The URL needs a package that is not installed.
    """
    text = str(place)
    if "://" not in text:
        return LocalStore(Path(text).expanduser())
    if text.startswith("file://"):
        return LocalStore(Path(text.removeprefix("file://")))
    from lakehouse.store.remote import FsspecStore

    return FsspecStore(text, **options)
