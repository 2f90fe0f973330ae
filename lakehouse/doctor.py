"""Doctor: what is installed, what is reachable, whether the lake is in order, and what to do."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.errors import LakehouseError, NoLakeError

if TYPE_CHECKING:
    from lakehouse.lake import Lake
    from lakehouse.project import Project
    from lakehouse.store import Store
    from sync.settings import Mirror

_NEEDED = ("duckdb", "pyarrow", "polars", "dlt", "fsspec", "click", "rich")
_EXTRAS = {  # package -> (extra, what for)
    "gcsfs": ("gcs", "buckets gs://"),
    "s3fs": ("s3", "buckets s3://"),
    "adlfs": ("azure", "buckets az://"),
    "adbc-driver-postgresql": ("postgres", "mirrors postgresql://"),
    "pyspark": ("spark", "lakehouse build --engine spark"),
    "pyiceberg": ("iceberg", "lakehouse export iceberg"),
    "openlineage-python": ("openlineage", "OpenLineage events"),
}
_LITTLE_SPACE_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: The thing.
        ok: True or False; None for something optional that is not there.
        found: What was found.
        do: What to do about it; empty for nothing.
    """

    what: str
    ok: bool | None
    found: str
    do: str = ""


def examine(place: str | None = None) -> list[Finding]:
    """Look at everything that the work depends on.

    Args:
        place: Path or URL of the lake; the project's own when None.
    """
    return [*_packages(), *_project_and_lake(place)]


def _packages() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Finding(what="python", ok=fits, found=version, do="" if fits else "Use Python 3.11 to 3.13.")
    for name in _NEEDED:
        found = _version(name)
        yield Finding(
            what=name, ok=bool(found), found=found or "not installed", do="" if found else "Run: uv sync"
        )
    for name, (extra, use) in _EXTRAS.items():
        found = _version(name)
        hint = "" if found else f"For {use}: uv add 'lakehouse[{extra}]'"
        yield Finding(
            what=f"{name} (optional)", ok=True if found else None, found=found or "not installed", do=hint
        )
    git = shutil.which("git")
    yield Finding(
        what="git",
        ok=True if git else None,
        found=git or "not found",
        do="" if git else "Install it to import histories.",
    )


def _project_and_lake(place: str | None) -> Iterator[Finding]:
    from lakehouse.project import find_project

    project = None
    if place is None:
        try:
            project = find_project()
        except LakehouseError as error:
            yield Finding(what="project", ok=False, found=error.message, do=error.hint)
            return
        yield Finding(what="project", ok=True, found=str(project.root))
        place = project.place
    yield from _lake(place)
    if project is not None:
        yield from (_mirror(project, name) for name in project.mirrors)


def _lake(place: str) -> Iterator[Finding]:
    from lakehouse.duck.cache import cache
    from lakehouse.duck.session import catalog_path, is_current
    from lakehouse.lake import Lake
    from lakehouse.quarantine import listed
    from lakehouse.store import LocalStore

    try:
        lake = Lake.open(place)
    except NoLakeError:
        yield Finding(what="lake", ok=None, found=f"none yet at {place}", do="Run: lakehouse ingest")
        return
    except Exception as error:  # noqa: BLE001 - whatever a store answers is what is to be told
        yield Finding(
            what="lake", ok=False, found=f"{place}: {error}", do="Check the path or URL and the rights."
        )
        return
    ok, found, do = _creating(lake.store)
    yield Finding(what="lake", ok=ok, found=lake.url if ok else f"{lake.url}: {found}", do=do)
    for source in lake.sources():
        try:
            log = lake.log(source)
        except LakehouseError as error:
            yield Finding(
                what=f"source {source}",
                ok=False,
                found=str(error).splitlines()[0],
                do="Run: lakehouse verify",
            )
            continue
        newest = f", newest {log.commits[-1].observed_at:%Y-%m-%d %H:%M}Z" if log.head else ""
        yield Finding(
            what=f"source {source}", ok=True, found=f"{log.head:,} load{'' if log.head == 1 else 's'}{newest}"
        )
    catalog = catalog_path(lake)
    if catalog is not None:
        current = is_current(lake, catalog)
        found = f"{catalog} is {'current' if current else 'out of date'}"
        yield Finding(
            what="catalog",
            ok=True if current else None,
            found=found,
            do="" if current else "Run: lakehouse refresh",
        )
        yield _space(Path(lake.url) if isinstance(lake.store, LocalStore) else cache().folder)
    waiting = len(listed(lake))
    yield Finding(
        what="quarantine",
        ok=True if not waiting else None,
        found=f"{waiting} load{'' if waiting == 1 else 's'}",
        do="Look: lakehouse quarantine list" if waiting else "",
    )


def _mirror(project: "Project", name: str) -> Finding:
    """Whether a mirror is set as it should be, can be reached, and holds this lake or nothing."""
    from sync import settings

    what = f"mirror {name}"
    try:
        mirror = settings.named(project, name)
        with mirror.guarded():
            ok, found, do = (_database if mirror.kind == "postgres" else _bucket)(mirror, _opened(project))
    except Exception as error:  # noqa: BLE001 - whatever a server answers is what is to be told
        message = getattr(error, "message", str(error))
        return Finding(what=what, ok=False, found=message, do=getattr(error, "hint", "Check the settings."))
    return Finding(what=what, ok=ok, found=f"{mirror.shown}: {found}", do=do)


def _opened(project: "Project") -> "Lake | None":
    from lakehouse.lake import Lake

    try:
        return Lake.open(project.place)
    except LakehouseError:  # told on a line of its own
        return None


def _bucket(mirror: "Mirror", lake: "Lake | None") -> tuple[bool | None, str, str]:
    from lakehouse.lake import Lake

    store = mirror.open()
    try:
        there = Lake.open(store).id
    except NoLakeError:
        return None, "nothing was synced to it yet", f"Run: lakehouse sync {mirror.name}"
    if lake is not None and there != lake.id:
        return (
            False,
            f"is another lake ({there}, not {lake.id})",
            "Change its url: one prefix holds one lake.",
        )
    ok, found, do = _creating(store)
    return ok, f"reachable, this lake, {found}", do


def _creating(store: "Store") -> tuple[bool | None, str, str]:
    """Whether a store takes an object only if there is none of that name, which keeps two writers apart."""
    from lakehouse.store import LocalStore, honours_create

    if isinstance(store, LocalStore):
        return True, "creates only if absent", ""
    try:
        honoured = honours_create(store)
    except LakehouseError as error:
        return None, f"not writable ({error.message})", error.hint
    if honoured:
        return True, "creates only if absent", ""
    return (
        False,
        "overwrites where it should create only if absent",
        "Two writers at once can lose a load: let one machine write, or take another service.",
    )


def _database(mirror: "Mirror", lake: "Lake | None") -> tuple[bool | None, str, str]:
    from sync.postgres import ledger
    from sync.postgres.connecting import connect, fetch
    from sync.postgres.rights import lacking

    with connect(mirror.url) as connection:
        asked = "SELECT current_setting('server_version') AS version, current_user::text AS role"
        found = fetch(connection, asked).to_pylist()[0]
        said = f"PostgreSQL {found['version']}, as {found['role']}"
        trouble = lacking(
            connection, lake.sources() if lake else [], lake_id=lake.id if lake else None,
            schema_prefix=mirror.schema_prefix,
        )  # fmt: skip
        if trouble is not None:
            return False, f"{said}: {trouble[0]}", trouble[1]
        if not ledger.is_there(connection):
            return None, f"{said}; nothing was synced to it yet", f"Run: lakehouse sync {mirror.name}"
    return True, said, ""


def _space(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    enough = free > _LITTLE_SPACE_BYTES
    return Finding(
        what="disk",
        ok=writable and enough,
        found=f"{free / 1e9:.1f} GB free" + ("" if writable else ", not writable"),
        do="" if writable and enough else "Free some space, or give yourself the right to write.",
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
