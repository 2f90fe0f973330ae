"""Connections to PostgreSQL, and its errors as those of this package. Passwords are in none of them."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import parse_qsl

import pyarrow as pa

from lakehouse.errors import ContentionError, LakehouseError, SchemaError, SetupError, UserError

# userinfo, hosts, database, parameters. What does not match is refused: libpq would show parts of a password with a
# character such as `/` or `@` in its message, as the host or the port.
_URL = re.compile(r"postgres(?:ql)?://(?:[^@/?#]*@)?(?P<hosts>[^@/?#]*)(?P<database>/[^@?#]*)?(?:\?[^@]*)?")
_HOST = re.compile(r"(?:\[[0-9a-fA-F:.%]+\]|[^:\[\]]*)(?::\d+)?")
# What a message of libpq may begin with to be shown: these have no part of the URL but host, port, user and database.
_SAFE = re.compile(r"(connection to server|could not translate host name|root certificate file|certificate )")
_DEFAULTS = {
    "application_name": "lakehouse",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
# Who connects gets names from `pg_catalog` alone: no object of others can take the place of a function or an operator.
# The driver sends UTF-8 whatever the server was told to expect, and a connection waits idly while others copy.
_SETTINGS = (
    "SET client_encoding = 'UTF8'",
    "SET idle_in_transaction_session_timeout = 0",
    "SET search_path = pg_catalog",
    "SET timezone = 'UTC'",
    "SET datestyle = 'ISO'",
    "SET extra_float_digits = 1",
)
_DOING = {
    "SELECT": "reading",
    **dict.fromkeys(("INSERT", "UPDATE", "DELETE"), "writing"),
    **dict.fromkeys(("CREATE", "ALTER", "DROP", "COMMENT", "ANALYZE"), "making tables and views"),
    **dict.fromkeys(("SET", "LOCK"), "beginning"),
    "GRANT": "granting",
}
Result = TypeVar("Result")
_CANCEL_AGAIN_S = 0.2  # a cancellation that comes before the server began the statement does nothing
_GRANTS = "docs/postgres.md says which rights the role needs."


class Connection(Protocol):
    """What is used of a connection of `adbc_driver_postgresql.dbapi`. A transaction is always open."""

    def cursor(self) -> Any:
        """Where statements run; closed before the connection is."""

    def commit(self) -> None:
        """End the transaction and begin another."""

    def rollback(self) -> None:
        """Undo the transaction and begin another."""

    def close(self) -> None:
        """End the connection, and undo what was not committed."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def place(url: str) -> str:
    """Where a URL leads, without user, password and options, for people.

    Raises:
        UserError: It is no URL of PostgreSQL.
    """
    found = _URL.fullmatch(url)
    if not found or not all(_HOST.fullmatch(host) for host in found["hosts"].split(",")):
        msg = "the URL of the PostgreSQL mirror cannot be read"
        hint = "It is postgresql://user:password@host:5432/database?sslmode=verify-full; in user and password write "
        raise UserError(msg, hint=hint + "%40 for @, %2F for /, %3A for :, %25 for %.")
    return f"postgresql://{found['hosts']}{found['database'] or ''}"


def connect(url: str, *, connect_timeout_s: int = 10, lock_timeout_s: int = 60) -> Connection:
    """A connection with a transaction begun, as `adbc_driver_postgresql.dbapi` has it.

    Args:
        url: `postgresql://…`, with the options of libpq: `sslmode=verify-full&sslrootcert=…` for TLS.
        connect_timeout_s: How long to wait for each host; the URL's own `connect_timeout` comes first.
        lock_timeout_s: How long a statement waits for a lock that others hold.

    Raises:
        UserError: The URL cannot be read.
        SetupError: The driver is not installed, the server does not answer or refuses, or its database is not UTF-8.
    """
    where = place(url)
    driver = _driver()
    options = {"connect_timeout": str(connect_timeout_s), **_DEFAULTS}
    given = {name for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)}
    added = "&".join(f"{name}={value}" for name, value in options.items() if name not in given)
    joint = "" if url.endswith(("?", "&")) else "&" if "?" in url else "?"
    try:
        connection: Connection = driver.connect(f"{url}{joint}{added}")
    except driver.Error as error:
        raise _unreachable(where, str(error)) from None
    try:
        execute(connection, [*_SETTINGS, f"SET lock_timeout = {lock_timeout_s * 1000}"])
        with translated("connecting"):
            connection.commit()
        _check_encoding(connection, where)
    except BaseException:
        connection.close()
        raise
    return connection


def execute(connection: Connection, statements: str | Iterable[str]) -> None:
    """Run statements in the transaction of the connection, one after the other.

    Raises:
        LakehouseError: As `translated` says.
    """
    for statement in [statements] if isinstance(statements, str) else statements:
        with translated(_shown(statement)), connection.cursor() as cursor:
            interruptible(cursor, lambda: cursor.execute(statement))  # noqa: B023 - it ends before the next


def fetch(connection: Connection, query: str, parameters: Sequence[Any] = ()) -> pa.Table:
    """The rows of a query, as the driver reads them.

    Args:
        connection: As `connect` gives it.
        query: A SELECT; parameters are `$1`, `$2`, …
        parameters: Their values.

    Raises:
        LakehouseError: As `translated` says.
    """
    with translated(_shown(query)), connection.cursor() as cursor:

        def read() -> pa.Table:
            cursor.execute(query, tuple(parameters) or None)
            return cursor.fetch_arrow_table()

        return interruptible(cursor, read)


def interruptible(cursor: Any, work: Callable[[], Result], stop: Callable[[], None] | None = None) -> Result:
    """Run a statement so that SIGINT cancels it and is a `KeyboardInterrupt`, as everywhere else.

    On the main thread the driver takes SIGINT for itself: it would be an error of the server like any other, or nothing
    where the statement ended first. So the statement runs on another thread, for which this one waits.

    Args:
        cursor: What the statement runs on.
        work: Runs it.
        stop: Called first where it is cancelled, to end what the statement is fed with.

    Raises:
        KeyboardInterrupt: There was a SIGINT; the statement has ended.
        Exception: What `work` raised.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    with ThreadPoolExecutor(1) as pool:
        running = None
        try:
            running = pool.submit(work)
            return running.result()
        except KeyboardInterrupt:
            if stop is not None:
                stop()
            if running is not None:
                _cancel(cursor, running)
            raise


@contextmanager
def ending_by_signals() -> Iterator[None]:
    """Make a `KeyboardInterrupt` of what DuckDB makes of SIGINT, which is an error like any other."""
    try:
        yield
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


def _cancel(cursor: Any, running: "Future[Any]") -> None:
    """Cancel a statement and wait for its end: its connection must not be closed before."""
    while not running.done():
        with suppress(_driver().Error, KeyboardInterrupt):
            cursor.adbc_cancel()
        with suppress(KeyboardInterrupt):
            wait([running], timeout=_CANCEL_AGAIN_S)


def is_alive(connection: Connection) -> bool:
    """Whether the server still answers on a connection, whose transaction is rolled back."""
    try:
        with translated("rolling back"):
            connection.rollback()
        fetch(connection, "SELECT 1")
    except LakehouseError:
        return False
    return True


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Errors of the driver as errors of this package.

    Args:
        doing: What was being done, for the message.

    Raises:
        ContentionError: Others hold a lock, or got in between; trying again can help.
        SetupError: The connection is lost, a right is missing, or the disk is full.
        SchemaError: The server cannot hold a value.
        LakehouseError: Anything else.
    """
    driver = _driver()
    try:
        yield
    except driver.Error as error:
        raise _trouble(error, doing) from error


def _trouble(error: Any, doing: str) -> LakehouseError:
    state, message = str(error.sqlstate or ""), f"PostgreSQL, {doing}: {_plain(str(error))}"
    if state in ("40001", "40P01", "55P03", "23505", "55006"):
        return ContentionError(
            message, hint="Somebody else is at the same tables. Nothing was changed; run it again."
        )
    if state == "57014":
        return SetupError(
            message,
            hint="Somebody cancelled it, or statement_timeout ended it. Nothing was changed; run it again.",
        )
    if state == "42501":
        return SetupError(message, hint=_GRANTS)
    if state.startswith("22"):
        return SchemaError(message, hint="The server cannot hold a value of these rows. Nothing was changed.")
    if state.startswith(("08", "53", "57", "58")) or _is_lost(error):
        return SetupError(
            message,
            hint="Nothing was changed. Is the server running, with room on its disk? Then run it again.",
        )
    return LakehouseError(message, hint="Nothing was changed.")


def _is_lost(error: Any) -> bool:
    """Whether an error without a code of the server says that there is no connection any more."""
    said = str(error)
    signs = (
        "server closed the connection",
        "no connection to the server",
        "could not receive data",
        "could not send",
    )
    return not error.sqlstate and any(
        sign in said for sign in (*signs, "SSL", "connection not open", "timed out")
    )


def _unreachable(where: str, said: str) -> SetupError:
    reason = _plain(said)
    shown = f": {reason}" if _SAFE.match(reason) else ""
    hint = "Is the server running, and is the URL right (host, port, user, password, database, sslmode)?"
    return SetupError(f"{where} cannot be reached{shown}", hint=hint)


def _plain(said: str) -> str:
    """A message of the driver without what it puts around that of the server."""
    kept = re.sub(r"^[A-Z_]+: (\[libpq\] )?(Failed to connect: )?", "", said.strip())
    kept = re.sub(r"\.? ?SQLSTATE: \w{5}$", "", kept)
    kept = re.sub(r"\s*Query was: .*", "", kept, flags=re.DOTALL)
    kept = re.sub(r"\nLINE \d+: .*\n\s*\^", "", kept)
    return re.sub(r"\s+", " ", kept).strip()


def _shown(statement: str) -> str:
    """What a statement does, for people; the server says which object is in the way."""
    return _DOING.get(statement.split(maxsplit=1)[0].upper(), "working")


def _check_encoding(connection: Connection, where: str) -> None:
    found = fetch(connection, "SELECT current_setting('server_encoding')").column(0)[0].as_py()
    with translated("connecting"):
        connection.rollback()
    if found != "UTF8":
        msg = f"{where}: the database has the encoding {found}, which cannot hold all text"
        raise SetupError(msg, hint="Make one with: createdb --encoding=UTF8 --template=template0 NAME")


def _driver() -> Any:
    try:
        from adbc_driver_postgresql import dbapi
    except ImportError:
        msg = "a mirror in PostgreSQL needs a package that is not installed: adbc-driver-postgresql"
        raise SetupError(msg, hint="Install it: uv add 'lakehouse[postgres]'") from None
    return dbapi
