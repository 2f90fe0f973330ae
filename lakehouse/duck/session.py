"""A read-only SQL session over a lake: what `lakehouse query` and `Lake.query` run in."""

import contextlib
import os
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from lakehouse.duck import catalog
from lakehouse.duck.files import PROTOCOL, connect
from lakehouse.errors import IntegrityError, MissingPartError, NotFoundError, QueryError
from lakehouse.store.local import LocalStore

if TYPE_CHECKING:
    from lakehouse.lake import Lake

_EXPLAIN = re.compile(r"\s*explain\s+(?:analyze\s+)?(?:\([^)]*\)\s*)?", re.IGNORECASE)


class Session:
    """One DuckDB connection on the lake's catalog, closed to everything but the lake's own files.

    Attributes:
        broken: What is wrong with sources whose log cannot be read; they are not in the catalog.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, broken: dict[str, IntegrityError]) -> None:
        self.connection = connection
        self.broken = broken

    @classmethod
    def over(cls, lake: "Lake", *, as_of: datetime | str | int | None = None) -> "Session":
        """A session over a lake as it is now, turned to a moment if one is given."""
        path = catalog_path(lake)
        if path is None:
            logs, broken = catalog.read_logs(lake)
            connection = connect(lake)
            connection.execute(f"ATTACH ':memory:' AS lakehouse; USE lakehouse")
            catalog.build(connection, lake, logs, broken)
            allowed = f"{PROTOCOL}://{lake.id}/"
        else:
            broken = refresh(lake)
            connection = connect(lake)
            connection.execute(f"ATTACH '{str(path).replace(chr(39), chr(39) * 2)}' AS lakehouse (READ_ONLY)")
            connection.execute("USE lakehouse")
            allowed = f"{lake.url}/"
        if as_of is not None:
            moment = as_of.isoformat() if isinstance(as_of, datetime) else str(as_of)
            connection.execute(f"SET VARIABLE {catalog.AS_OF} = ?", [moment])
        connection.execute("SET allowed_directories = ?", [[allowed]])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return cls(connection, broken)

    def query(self, sql: str) -> duckdb.DuckDBPyConnection:
        """Run one query; the result is read from the connection that is returned.

        Raises:
            QueryError: It is not a query, or DuckDB refuses it.
            MissingPartError: A part that it needs is not there.
        """
        check_is_query(self.connection, sql)
        with explained(self.broken):
            return self.connection.execute(sql)

    def relation(self, sql: str) -> duckdb.DuckDBPyRelation:
        """The same as a relation, which DuckDB can render or hand on as Arrow."""
        check_is_query(self.connection, sql)
        with explained(self.broken):
            return self.connection.sql(sql)


def catalog_path(lake: "Lake") -> Path | None:
    """Where a local lake has its catalog: `lakehouse.duckdb` beside a folder called `lake`.

    A lake folder of another name has a catalog of that name; one that is not local has no file.
    """
    if not isinstance(lake.store, LocalStore):
        return None
    root = lake.store.root
    return root.with_name("lakehouse.duckdb" if root.name == "lake" else f"{root.name}.duckdb")


def refresh(lake: "Lake", *, force: bool = False) -> dict[str, IntegrityError]:
    """Bring the catalog file up to date with the logs, if it is not.

    Returns:
        What is wrong with sources whose log cannot be read.
    """
    path = catalog_path(lake)
    if path is None:
        return {}
    if not force and is_current(lake, path):
        return {}
    logs, broken = catalog.read_logs(lake)
    catalog.write_file(path, lake, logs, broken)
    return broken


def is_current(lake: "Lake", path: Path) -> bool:
    """Whether the catalog file says what the logs say, by looking only at the end of each log."""
    about = _about(path)
    if about.get("lake_id") != lake.id or about.get("lake_url") != lake.url:
        return False
    if about.get("catalog_version") != catalog.VERSION:
        return False
    known = {name[4:]: value for name, value in about.items() if name.startswith("log:")}
    if set(lake.sources()) != set(known):
        return False
    return all(_is_head(lake, source, value) for source, value in known.items())


def _is_head(lake: "Lake", source: str, value: str) -> bool:
    """Whether no commit follows, by one look for the file that would hold it."""
    head = int(value.split(":")[0])
    names = os.listdir(f"{lake.url}/{source}/_log")
    last = max((name for name in names if name.endswith(".jsonl")), default="")
    return bool(last) and int(last.split(".")[0]) <= head


def _about(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            return dict(connection.execute("SELECT name, value FROM main.about").fetchall())
    except duckdb.Error:
        return {}  # not a catalog of ours, or damaged: it is derived, so it is built anew


def check_is_query(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Let one SELECT (or EXPLAIN of one) through, and nothing else.

    A read-only catalog does not stop `COPY … TO` from writing files, so statements are looked at
    before they run.
    """
    try:
        found = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(_plain(error)) from None
    if len(found) != 1:
        msg = f"{len(found)} statements where one query is expected"
        raise QueryError(msg, hint="Give one SELECT.")
    kind = found[0].type
    if kind == duckdb.StatementType.EXPLAIN and _EXPLAIN.match(sql):
        return check_is_query(connection, _EXPLAIN.sub("", sql, count=1))
    pivot = kind == duckdb.StatementType.MULTI and not re.match(r"\s*(copy|export)\b", sql, re.IGNORECASE)
    if kind != duckdb.StatementType.SELECT and not pivot:
        msg = f"{kind.name} is not a query; the lake is read-only here"
        raise QueryError(
            msg, hint="Give one SELECT. To keep a result: lakehouse query -o FILE. To add data: a load."
        )
    return None


@contextlib.contextmanager
def explained(broken: dict[str, IntegrityError]):  # noqa: ANN201 - a generator of nothing
    """Turn DuckDB's errors into ours, with what to do next."""
    try:
        yield
    except duckdb.IOException as error:
        text = _plain(error)
        raise MissingPartError(
            f"a file that the log names cannot be read: {text}",
            hint="Run `lakehouse verify` to see what is missing or damaged; restore it from a mirror or backup.",
        ) from None
    except duckdb.CatalogException as error:
        for source, trouble in broken.items():
            if re.search(rf"\b{re.escape(source)}\b", str(error)):
                raise trouble from None
        raise NotFoundError(
            _plain(error), hint="See what there is: lakehouse tables. A catalog of old: lakehouse refresh."
        ) from None
    except duckdb.Error as error:
        raise QueryError(_plain(error)) from None


def _plain(error: duckdb.Error) -> str:
    return str(error).strip()
