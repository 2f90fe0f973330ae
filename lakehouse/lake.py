"""The Lake: wiring of store, logs, loads and DuckDB. What programs and the command line call."""

import contextlib
import json
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lakehouse.core import layout
from lakehouse.errors import ContentionError, FormatError, MissingPartError, NoLakeError, NotFoundError
from lakehouse.store import Absent, Exists, LocalStore, Store, open_store

_ATTEMPTS = 5  # of a query whose files are packed and pruned under it

if TYPE_CHECKING:
    import duckdb

    from lakehouse.core.gates import Gates
    from lakehouse.core.log import Log
    from lakehouse.duck.session import Session
    from lakehouse.loading import Load


class Lake:
    """One lake: a folder or a bucket URL that holds sources, their logs and their Parquet parts.

    Use `Lake.open` or `Lake.create`. A lake may be used from several processes at once.

    Examples:
        >>> import tempfile
        >>> lake = Lake.create(tempfile.mkdtemp())
        >>> with lake.load("shop") as load:
        ...     load.write("products", [{"sku": "a", "price": 1.5}], disposition="replace", primary_key="sku")
        >>> lake.query("select price from shop.products").fetchall()
        [(1.5,)]
    """

    def __init__(self, store: Store, lake_id: str) -> None:
        self.store = store
        self.id = lake_id
        self._logs: dict[str, Log] = {}
        self._lock = threading.RLock()
        self._reading: dict[str, threading.RLock] = {}  # by source: logs that are far away are read at once
        self._duck: duckdb.DuckDBPyConnection | None = None

    @classmethod
    def create(cls, place: str | Path | Store) -> "Lake":
        """The lake at a path or URL, made if there is none yet.

        Args:
            place: Folder, URL that fsspec knows, or a store.

        Raises:
            FormatError: There is a lake of a newer format.
        """
        store = _store(place)
        about = {"format": layout.FORMAT, "lake_id": str(uuid4())}
        try:
            store.get(layout.LAKE_FILE)
        except Absent:
            with contextlib.suppress(Exists):  # another process made it just now: it is one lake all the same
                store.create(layout.LAKE_FILE, json.dumps(about).encode() + b"\n")
        return cls.open(store)

    @classmethod
    def open(cls, place: str | Path | Store) -> "Lake":
        """The lake at a path or URL.

        Raises:
            NoLakeError: There is none.
            FormatError: It is of a newer format, or its `lakehouse.json` is damaged.
        """
        store = _store(place)
        try:
            content = store.get(layout.LAKE_FILE)
        except Absent:
            msg = f"{store.url}: there is no lake here"
            raise NoLakeError(
                msg, hint="Make one with `lakehouse init`, or name another with --lake PATH|URL."
            ) from None
        try:
            about = json.loads(content)
            version, lake_id = int(about["format"]), str(about["lake_id"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            msg = f"{store.url}/{layout.LAKE_FILE}: does not say which format the lake has ({error})"
            raise FormatError(
                msg,
                path=layout.LAKE_FILE,
                hint=f'Restore it; its content is {{"format": {layout.FORMAT}, "lake_id": "<any UUID>"}}.',
            ) from error
        if version > layout.FORMAT:
            msg = f"{store.url}: is a lake of format {version}; this lakehouse reads up to {layout.FORMAT}"
            raise FormatError(msg, path=layout.LAKE_FILE, hint="Upgrade lakehouse, then try again.")
        return cls(store, lake_id)

    @property
    def url(self) -> str:
        """Where the lake is: a folder's path or a URL."""
        return self.store.url

    # Logs.

    def sources(self) -> list[str]:
        """Names of all sources that have a log, sorted."""
        names = self.store.folders(holding="_log")
        return [name for name in names if not name.startswith(("_", "."))]

    def log(self, source: str) -> "Log":
        """The log of a source, with all that was committed until now; empty for one without loads.

        Raises:
            IntegrityError: The log is torn, has a gap or a fork, or was altered.
        """
        from lakehouse.replay import follow, replay

        with self._lock:
            reading = self._reading.setdefault(source, threading.RLock())
        with reading:
            known = self._logs.get(source)
            log = replay(self.store, source) if known is None else follow(self.store, known)
            self._logs[source] = log
            return log

    def known(self, source: str) -> "Log | None":
        """The log of a source as it was last read; None if it was not yet."""
        return self._logs.get(source)

    def forget(self, source: str) -> None:
        """Read the log of a source anew the next time: another one is in its place."""
        with self._lock:
            self._logs.pop(source, None)

    def table(self, name: str) -> "tuple[Log, str]":
        """The log and the table that `source.table` names.

        Raises:
            NotFoundError: There is no such source or table.
        """
        source, dot, table = name.partition(".")
        if not dot:
            known = [f"{s}.{t}" for s in self.sources() for t in self.log(s).tables]
            meant = [k for k in known if k.endswith(f".{name}")] or known
            raise NotFoundError(
                f"{name!r} is not a table: a table is SOURCE.TABLE", hint=f"Such as: {', '.join(meant[:5])}."
            )
        if source not in self.sources():
            msg = f"there is no source {source!r}"
            raise NotFoundError(msg, hint=f"Sources: {', '.join(self.sources()) or 'none yet'}.")
        log = self.log(source)
        if table not in log.tables:
            if source == layout.MODELS and table in (log.pipeline or {}).get("models", {}):
                msg = f"{name} is a view: it has no loads of its own"
                hint = f"Ask it in SQL, now or as of a moment; what it reads: lakehouse show {name}"
                raise NotFoundError(msg, hint=hint)
            msg = f"{source} has no table {table!r}"
            raise NotFoundError(
                msg, hint=f"Tables: {', '.join(f'{source}.{t}' for t in log.tables) or 'none yet'}."
            )
        return log, table

    # Loads.

    def load(
        self,
        source: str,
        *,
        load_id: str | None = None,
        observed_at: datetime | None = None,
        produced_by: Mapping[str, Any] | None = None,
        gates: "Gates | None" = None,
    ) -> "Load":
        """A load of a source, to be used as a context manager; see `Load`.

        Args:
            source: Name of the source; it becomes a schema in SQL.
            load_id: Identifies the run: the same id is published once only. Random by default.
            observed_at: When the data was seen at the source; now by default. UTC if it has no zone.
            produced_by: What to record about the producer, beside versions, host and command.
            gates: Limits that the load is held to; the defaults of `Gates` if not given.
        """
        from lakehouse.loading import Load

        return Load(
            self, source, load_id=load_id, observed_at=observed_at, produced_by=produced_by, gates=gates
        )

    # Reading.

    def query(self, sql: str, *, as_of: datetime | str | int | None = None) -> "duckdb.DuckDBPyConnection":
        """The result of a read-only query, as a DuckDB cursor.

        Args:
            sql: One SELECT over `source.table`, `source.table_at(t)` and `lakehouse.loads/tables/files`.
            as_of: Turn the whole query to this instant, tag, or load number of every source.

        Raises:
            QueryError: The SQL is wrong or not a query.
        """
        for _ in range(_ATTEMPTS - 1):
            with contextlib.suppress(ContentionError, MissingPartError):  # packed and pruned meanwhile, maybe
                return self.session(as_of=as_of).query(sql)
        return self.session(as_of=as_of).query(sql)

    def session(self, *, as_of: datetime | str | int | None = None) -> "Session":
        """A read-only SQL session over the lake as it is now."""
        from lakehouse.duck.session import Session

        return Session.over(self, as_of=as_of)

    def locate(self, key: str) -> str:
        """What DuckDB opens for the key of a part."""
        if isinstance(self.store, LocalStore):
            return f"{self.store.root}/{key}"
        return f"lake://{self.id}/{key}"

    def reader(self) -> "duckdb.DuckDBPyConnection":
        """A DuckDB connection that can open the lake's parts, for comparing loads with the state."""
        with self._lock:
            if self._duck is None:
                from lakehouse.duck.files import connect

                self._duck = connect(self)
                if isinstance(self.store, LocalStore):  # a link that leads out of the lake is not followed
                    self._duck.execute("SET allowed_directories = ?", [[f"{self.store.root}/"]])
                    self._duck.execute("SET enable_external_access = false")
            return self._duck


def _store(place: str | Path | Store) -> Store:
    return open_store(place) if isinstance(place, (str, Path)) else place
