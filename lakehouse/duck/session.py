"""A read-only SQL session over a lake: what `lakehouse query` and `Lake.query` run in."""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from lakehouse.duck import current
from lakehouse.duck.asof import check_as_of
from lakehouse.duck.cache import cache
from lakehouse.duck.fetching import is_far
from lakehouse.duck.files import PROTOCOL, connect
from lakehouse.duck.names import AS_OF
from lakehouse.duck.readonly import check_is_query
from lakehouse.duck.trouble import explained
from lakehouse.errors import ContentionError, IntegrityError, MissingPartError, SetupError
from lakehouse.store import LocalStore, open_store

if TYPE_CHECKING:
    from lakehouse.lake import Lake


class Session:
    """One DuckDB connection on the lake's catalog, closed to everything but the lake's own files.

    Attributes:
        broken: What is wrong with sources whose log cannot be read; they are not in the catalog.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, broken: dict[str, IntegrityError], lake: "Lake"
    ) -> None:
        self.connection = connection
        self.broken = broken
        self._lake = lake

    @classmethod
    def over(
        cls, lake: "Lake", *, as_of: datetime | str | int | None = None, scratch: Path | None = None
    ) -> "Session":
        """A session over a lake as it is now, turned to a moment if one is given.

        Args:
            lake: The lake.
            as_of: The moment.
            scratch: A folder that it may write to as well: what does not fit into memory, for one.
        """
        known: dict[str, tuple[str, int]] = {}
        connection = connect(lake, known=known)
        path = catalog_path(lake)
        broken = {}
        if path is None or not (current.attach(connection, path) and current.is_current(connection, lake)):
            connection.execute("DETACH DATABASE IF EXISTS lakehouse")
            broken = _build(connection, lake, path)
        connection.execute("USE lakehouse")
        local = isinstance(lake.store, LocalStore)
        allowed = f"{lake.url}/" if local else f"{PROTOCOL}://{lake.id}/"
        if not local:
            files = connection.execute("SELECT path, sha256, size_bytes FROM lakehouse.main.files").fetchall()
            known.update((name, (sha256, size_bytes)) for name, sha256, size_bytes in files)
        if as_of is not None:
            moment = as_of.isoformat() if isinstance(as_of, datetime) else str(as_of)
            connection.execute(f"SET VARIABLE {AS_OF} = ?", [moment])
            check_as_of(connection, lake.store, moment)
        folders = [allowed] if scratch is None else [allowed, f"{scratch}/"]
        if scratch is not None:
            connection.execute("SET temp_directory = ?", [str(scratch / "spill")])
        connection.execute("SET allowed_directories = ?", [folders])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return cls(connection, broken, lake)

    def query(self, sql: str) -> duckdb.DuckDBPyConnection:
        """Run one query; the result is read from the connection that is returned.

        Raises:
            QueryError: It is not a query, or DuckDB refuses it.
            MissingPartError: A part that it needs is not there.
            ContentionError: It was packed and pruned since the session began; in a new one it works.
        """
        with self.explained():
            return self.connection.execute(self.checked(sql))

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Errors of DuckDB inside the block, such as while a result is read, become ours."""
        try:
            with explained(self.broken):
                yield
        except MissingPartError as error:
            if not current.is_behind(self.connection, self._lake):
                raise
            raise ContentionError(
                "a file that the query reads was packed and pruned while it ran", hint="Run it again."
            ) from error

    def checked(self, sql: str) -> str:
        """The text of the one query that the SQL consists of. Raises QueryError if it is not one."""
        return check_is_query(self.connection, sql)


def _build(
    connection: duckdb.DuckDBPyConnection, lake: "Lake", path: Path | None
) -> dict[str, IntegrityError]:
    """Attach a new catalog: the file, or one in memory where there is none or it may not be written."""
    from lakehouse.duck import catalog

    if path is not None:
        with contextlib.suppress(SetupError):
            broken = catalog.write_file(path, lake)
            if current.attach(connection, path):
                return broken
    logs, broken = catalog.read_logs(lake)
    connection.execute("ATTACH ':memory:' AS lakehouse; USE lakehouse")
    said = current.said_by(lake, current.ends_of(logs))
    return broken | catalog.build(connection, lake, logs, said, unread=broken)


def catalog_path(lake: "Lake | str") -> Path | None:
    """Where a local lake has its catalog: `lakehouse.duckdb` beside a folder called `lake`.

    A lake folder of another name has `<name>.lakehouse.duckdb`. The catalog of a lake that is far away is
    in the cache of this machine (`lakehouse.duck.cache`); one in memory has no file.

    Args:
        lake: The lake, or where it is; only a local one can be told by that.
    """
    store = open_store(lake) if isinstance(lake, str) else lake.store
    if not isinstance(store, LocalStore):
        if isinstance(lake, str) or not is_far(store):
            return None
        return cache().catalog(lake.id, store.url)
    root = store.root
    return root.with_name("lakehouse.duckdb" if root.name == "lake" else f"{root.name}.lakehouse.duckdb")


def refresh(lake: "Lake", *, force: bool = False) -> dict[str, IntegrityError]:
    """Bring the catalog file up to date with the logs, if it is not.

    Args:
        lake: The lake.
        force: Write it anew, whatever is there.

    Returns:
        What is wrong with sources whose log cannot be read.
    """
    path = catalog_path(lake)
    if path is None:
        return {}
    if not force and is_current(lake, path):
        return {}
    from lakehouse.duck import catalog

    return catalog.write_file(path, lake, anew=force)


def is_current(lake: "Lake", path: Path) -> bool:
    """Whether the catalog file says what the logs say, by looking only at the end of each log."""
    with duckdb.connect() as connection:
        return current.attach(connection, path) and current.is_current(connection, lake)
