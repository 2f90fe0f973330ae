"""One table of the lake on its way into Postgres: what is to do, its rows, and what stands over them.

Rows come first, into tables that nobody reads, or beside the rows that are there, where nobody sees them before
the commit. What readers have to wait for comes last: see `Work.install`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.core.moments import microseconds
from lakehouse.core.types import Type
from lakehouse.errors import IntegrityError
from sync.postgres import ddl, functions
from sync.postgres.connecting import execute
from sync.postgres.copying import Loaded, copy_rows, parallel_copy
from sync.postgres.functions import KEY_HASH, Place
from sync.postgres.history import SYSTEM, History, Stretch, batches
from sync.postgres.known import Known, drop
from sync.postgres.ledger import ABOUT, LAYOUT
from sync.postgres.names import qualified, quote
from sync.postgres.placing import (
    changed,
    columns_of,
    drop_over,
    dropping,
    give_again,
    load,
    name_indexes,
    new_name,
    readers,
    spelled,
)
from sync.postgres.types import EXACT, TEXTS, PgColumn

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Action = Literal["new", "rebuilt", "extended", "altered", "same", "dropped", "failed"]
LARGE = 200_000  # rows from which on a table is filled over several connections
_TYPES: dict[str, Type] = {
    "valid_from": "timestamptz", "valid_to": "timestamptz", "from_load": "int64", "to_load": "int64",
    "change": "string", "changed_columns": TEXTS, KEY_HASH: "int64",
}  # fmt: skip
_REQUIRED = ("valid_from", "from_load", "change", "changed_columns")


def system_columns(place: Place) -> list[PgColumn]:
    """The columns of a table of versions beside the data, as they are copied."""
    return [
        PgColumn(name=name, identifier=called, type=_TYPES[name]) for name, called in place.system.items()
    ]


def data_columns(place: Place) -> list[PgColumn]:
    """The columns of the data as they are copied: called c0, c1, … so that no scraped name is in the way."""
    return [replace(column, name=f"c{at}") for at, column in enumerate(place.columns)]


class Work:
    """What one sync does to one table.

    Args:
        place: What the table is called and has in Postgres.
        history: Its versions, in the lake.
        before: What is there of it.
        since: The position up to which it is mirrored.
        anew: Whether it is to be mirrored anew, whatever is there.
        long_keys: Whether its key is known not to fit into an index.
        mirror: What the mirror is called, for messages.
    """

    kind = "table"

    def __init__(
        self,
        place: Place,
        history: History,
        before: Known | None,
        since: int,
        *,
        anew: bool,
        long_keys: bool,
        mirror: str,
    ) -> None:
        self.mirror = mirror
        self.place, self.history, self.before, self.since = place, history, before, since
        self.short_keys = not long_keys and (before is None or before.form.get("short_keys", True))
        self.inserted = self.closed = 0
        self._added: list[PgColumn] = []
        self._replaced: list[tuple[Type, PgColumn]] = []
        self._loaded: Loaded | None = None
        self.made = _digest(place, self.form)
        self.action = self._action(anew=anew or long_keys)

    @property
    def name(self) -> str:
        """The table."""
        return self.place.table

    @property
    def form(self) -> dict[str, Any]:
        """What is kept of how its versions are told apart."""
        return self.place.form.to_json() | {
            "short_keys": self.short_keys,
            "system": list(self.place.system.values()),
        }

    @property
    def size_bytes(self) -> int:
        """Bytes of the parts that have rows to be mirrored, about."""
        since = 0 if self.action in ("new", "rebuilt") else self.since + 1
        return sum(file.size_bytes for file in self.history.table.files_since(since)) if self.is_needed else 0

    @property
    def rows(self) -> int:
        """Rows in these parts."""
        since = 0 if self.action in ("new", "rebuilt") else self.since + 1
        return sum(file.rows for file in self.history.table.files_since(since)) if self.is_needed else 0

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do."""
        return self.action != "same"

    def _action(self, *, anew: bool) -> Action:
        if self.before is None or self.before.kind != self.kind:
            return "new"
        if anew or dict(self.before.form) != self.form or not self._fits(self.before):
            self._added, self._replaced = [], []
            return "rebuilt"
        if self.history.table.last_seq > self.since:
            return "extended"
        return "same" if self.before.made == self.made else "altered"

    def _fits(self, before: Known) -> bool:
        """Whether the table that is there can take the rows, with columns added or replaced; finds out which."""
        have = {called: kind for _, called, kind in before.columns}
        for column in self.place.columns:
            kind = have.get(column.identifier)
            if kind is None:
                self._added.append(column)
            elif kind != column.type:
                change = ddl.type_change(kind, column.type)
                # Another type would be written under a lock; so would the index over a key.
                if change == "rebuild" or (
                    change == "alter" and (kind != "null" or column.name in self.place.form.key)
                ):
                    return False
                if change == "alter":
                    self._replaced.append((kind, column))
        return True

    # Rows.

    def prepare(
        self,
        connection: Any,
        url: str,
        duck: "duckdb.DuckDBPyConnection",
        connections: int,
        told: Callable[[int], None],
    ) -> None:
        """Bring the rows to Postgres, where nobody sees them yet."""
        if self.action in ("new", "rebuilt"):
            self._load_all(connection, url, duck, connections, told)
        elif self.action == "extended":
            self._load_more(connection, duck, told)

    def _load_all(
        self,
        connection: Any,
        url: str,
        duck: "duckdb.DuckDBPyConnection",
        connections: int,
        told: Callable[[int], None],
    ) -> None:
        columns = [*system_columns(self.place), *data_columns(self.place)]
        rows = self._counted((batch for one in self.history.all() for batch in self._read(duck, one)), told)
        required = [self.place.system[name] for name in _REQUIRED]
        if self.history.rows >= LARGE and connections > 1:
            self._loaded = parallel_copy(
                connection,
                url,
                ABOUT,
                self.place.base,
                rows,
                columns,
                connections=connections,
                required=required,
            )
        else:
            self._loaded = load(connection, rows, columns, required)
        name = qualified(ABOUT, self._loaded.table)
        execute(connection, functions.indexes(self.place, name, short_keys=self.short_keys))
        execute(connection, f"ANALYZE {name}")

    def _load_more(
        self, connection: Any, duck: "duckdb.DuckDBPyConnection", told: Callable[[int], None]
    ) -> None:
        ended: list[pa.Table] = []
        columns = [*system_columns(self.place), *data_columns(self.place)]
        rows = self._counted(
            (
                batch
                for one in self.history.changed(self.since)
                for batch in self._read(duck, one, ended)
                if batch.num_rows
            ),
            told,
        )
        if self._added or self._replaced:
            self._loaded = load(connection, rows, columns, ())
        else:
            copy_rows(connection, self.place.schema, self.place.base, rows, columns)
        self._close(connection, ended)

    def _counted(
        self, rows: "Iterator[pa.RecordBatch]", told: Callable[[int], None]
    ) -> "Iterator[pa.RecordBatch]":
        for batch in rows:
            self.inserted += batch.num_rows
            yield batch
            told(batch.num_rows)

    def _read(
        self, duck: "duckdb.DuckDBPyConnection", stretch: Stretch, ended: "list[pa.Table] | None" = None
    ) -> "Iterator[pa.RecordBatch]":
        """The versions of a stretch as they are copied; those that only end go to `ended`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        columns = self.history.columns
        for system, data, hashes in batches(duck, stretch, columns, f"{self.history.log.source}.{self.name}"):
            whole = system.append_column(KEY_HASH, hashes)
            changed = self._identified(whole["changed_columns"].combine_chunks())
            whole = whole.set_column(SYSTEM.index("changed_columns"), "changed_columns", changed)
            for at, column in enumerate(data.columns):
                whole = whole.append_column(f"c{at}", column)
            if ended is not None:
                begins = pc.greater(whole["from_load"], self.since)
                ended.append(
                    whole.filter(pc.invert(begins)).select([KEY_HASH, "from_load", "to_load", "valid_to"])
                )
                whole = whole.filter(begins)
            yield from pa.Table.to_batches(whole.combine_chunks())

    def _identified(self, lists: "pa.ListArray") -> "pa.ListArray":
        """Lists of names of columns, as lists of identifiers."""
        import pyarrow as pa

        if all(column.name == column.identifier for column in self.place.columns):
            return lists
        called = {column.name: column.identifier for column in self.place.columns}
        return pa.array(
            [[called[name] for name in names] for names in lists.to_pylist()], pa.list_(pa.string())
        )

    def _close(self, connection: Any, ended: "Sequence[pa.Table]") -> None:
        """Say of versions that ended when they did."""
        import pyarrow as pa

        base = qualified(self.place.schema, self.place.base)
        system = {name: quote(called) for name, called in self.place.system.items()}
        rows = pa.concat_tables(ended) if ended else None
        if rows is not None and rows.num_rows:
            names = [KEY_HASH, "from_load", "to_load", "valid_to"]
            columns = [PgColumn(name=name, identifier=name, type=_TYPES[name]) for name in names]
            staged = load(connection, rows.to_batches(), columns, ())
            execute(connection, f"ANALYZE {qualified(ABOUT, staged.table)}")
            self.closed = changed(
                connection,
                f"UPDATE {base} AS b SET {system['to_load']} = s.to_load, {system['valid_to']} = s.valid_to "
                f"FROM (SELECT DISTINCT * FROM {qualified(ABOUT, staged.table)}) AS s WHERE b.{system[KEY_HASH]} = s.key_hash "
                f"AND b.{system['from_load']} = s.from_load AND b.{system['to_load']} IS NULL",
            )
            execute(connection, ddl.drop_table(ABOUT, staged.table))
            if self.closed != rows.num_rows:
                raise self._not_as_left(rows.num_rows)
        self._close_all(connection, base, system)

    def _close_all(self, connection: Any, base: str, system: Mapping[str, str]) -> None:
        """Say that all rows ended with which the state began anew."""
        end = self.history.closed_at(self.since)
        if end is None:
            return
        at = microseconds(self.history.log.commits[end - 1].effective_at)
        self.closed += changed(
            connection,
            f"UPDATE {base} SET {system['to_load']} = {end}, {system['valid_to']} = timestamptz 'epoch' + {at} * interval '1 microsecond' "
            f"WHERE {system['to_load']} IS NULL AND {system['from_load']} <= {self.since}",
        )

    def _not_as_left(self, expected: int) -> IntegrityError:
        return IntegrityError(
            f"{self.place.schema}.{self.place.base}: {expected:,} versions that were there ended, and {self.closed:,} were found: "
            "its rows are not as the last sync left them",
            hint=f"Somebody changed them. To see where: lakehouse verify {self.mirror}; to mirror it anew: "
            f"lakehouse sync {self.mirror} --repair --source {self.history.log.source}",
        )

    # What readers see.

    def install(self, connection: Any) -> None:
        """Put the table and what stands over it in place. From here to the commit readers of the table wait."""
        place, base = self.place, qualified(self.place.schema, self.place.base)
        seen = readers(connection, place)
        if self.before is not None and self.before.kind != self.kind:
            drop(connection, place.schema, self.before)
        old = None
        if self._loaded is not None and self.action in ("new", "rebuilt"):
            if self.action == "rebuilt" and columns_of(connection, place.schema, place.base):
                old = new_name()
                execute(connection, ddl.move_table(place.schema, place.base, to=place.schema, name=old))
            execute(connection, ddl.move_table(ABOUT, self._loaded.table, to=place.schema, name=place.base))
        if self._replaced:  # a view stands on what is replaced
            drop_over(connection, place)
        for kind, column in self._replaced:
            execute(connection, ddl.change_type(place.schema, place.base, kind, column))
        execute(connection, ddl.add_columns(place.schema, place.base, self._added))
        if self._loaded is not None and self.action == "extended":
            names = [quote(c.identifier) for c in (*system_columns(place), *place.columns)]
            listed = ", ".join([*names, quote(EXACT)])
            execute(
                connection,
                f"INSERT INTO {base} ({listed}) SELECT {listed} FROM {qualified(ABOUT, self._loaded.table)}",
            )
            execute(connection, ddl.drop_table(ABOUT, self._loaded.table))
        if (
            self.action in ("new", "rebuilt")
            or self._added
            or self._replaced
            or self.before is None
            or self.before.made != self.made
        ):
            self._stand(connection)
        if old is not None:
            dropping(connection, ddl.drop_table(place.schema, old), place)
        if self._loaded is not None and self.action != "extended":
            name_indexes(connection, place.schema, place.base)
        give_again(connection, place, seen)

    def _stand(self, connection: Any) -> None:
        """Make the views, the functions and the comments."""
        place = self.place
        wanted = [(one.identifier, one.type) for one in place.visible]
        over = {place.view: wanted}
        if place.history:
            over[place.history] = functions.history_columns(place)
        for name, columns in over.items():
            have = columns_of(connection, place.schema, name)
            if have and have != [(n, spelled(t)) for n, t in columns][: len(have)]:
                drop_over(connection, place)
                break
        dropping(connection, functions.drop_diff(place), place)
        execute(connection, functions.view(place))
        told = functions.history(place)
        execute(connection, [*([told] if told else []), *functions.states(place), functions.diff(place)])
        execute(connection, functions.comments(place, key=self.place.form.key))


def _digest(place: Place, form: Mapping[str, Any]) -> str:
    """A digest of all statements that make what stands over a table."""
    told = [
        LAYOUT, functions.view(place), functions.history(place), functions.states(place), functions.diff(place),
        functions.comments(place, key=place.form.key), dict(form),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
