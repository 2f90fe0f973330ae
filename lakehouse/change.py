"""What a load changes in one table: from the data of a write and the table's state to rows to add.

The state is read with DuckDB from the parts that the log names, and compared value by value; the
rows to add keep the types in which they came. Nothing is written here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from lakehouse.core.gates import SnapshotFigures
from lakehouse.core.types import Column, distinct_names, merge_columns, unify
from lakehouse.duck.names import quote
from lakehouse.duck.sql import widened
from lakehouse.errors import SchemaError
from lakehouse.parquet.arrow import normalize, widen
from lakehouse.parquet.digest import digest_rows, row_hashes
from lakehouse.parquet.part import RESERVED
from lakehouse.state import State

DISPOSITIONS = ("append", "replace", "merge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """The data of one table of a load, as given and checked."""

    table: str
    disposition: str
    primary_key: tuple[str, ...]
    merge_key: tuple[str, ...]
    volatile: tuple[str, ...]
    rows: pa.Table
    deletes: pa.Table | None = None
    insert_only: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        """What the newest rows are chosen by."""
        return self.primary_key or self.merge_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be added to one table.

    Attributes:
        columns: The columns of the load, under the names they are stored by.
        rows: Rows to add, in their own types.
        deleted: Keys of rows that disappear; None for tables without a key.
        base: Whether the state begins anew with this load.
        counts: As the commit records them.
        figures: For the gates, where the load brings a full snapshot.
    """

    columns: tuple[Column, ...]
    rows: pa.Table
    deleted: pa.Table | None = None
    base: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    figures: SnapshotFigures | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to store."""
        return self.rows.num_rows == 0 and (self.deleted is None or self.deleted.num_rows == 0)


def work_out(write: Write, state: State) -> Change:
    """What a write changes in the table's current state.

    Raises:
        SchemaError: Key columns are missing, or a type cannot be kept.
    """
    rows, columns = _store_names(write, state)
    write = _renamed(write, (*state.columns, *columns))
    missing = [name for name in (*write.key, *write.merge_key) if name not in rows.column_names]
    if missing and rows.num_rows:
        msg = f"table {write.table}: the data lacks the key column {missing[0]!r}"
        raise SchemaError(msg, hint=f"Its columns: {', '.join(rows.column_names[:20]) or 'none'}.")
    incoming = _Incoming(write=write, rows=rows, columns=columns, state=state)
    if write.disposition == "append":
        return incoming.append()
    if write.disposition == "merge":
        return incoming.merge()
    return incoming.keyed_snapshot() if write.key else incoming.snapshot()


def restore(write: Write, columns: tuple[Column, ...], state: State) -> Change | None:
    """What makes a table's state the rows of a write, to the last value; None where it is that already.

    Args:
        write: Rows of a state that once was, and how the table was kept then; names as they are stored.
        columns: The columns of that state.
        state: The table's current state.
    """
    return _Incoming(write=write, rows=write.rows, columns=columns, state=state).restored()


def _store_names(write: Write, state: State) -> tuple[pa.Table, tuple[Column, ...]]:
    given = write.rows
    if not given.num_rows:  # a table has its key columns from its first load on, rows or not
        for name in dict.fromkeys((*write.primary_key, *write.merge_key)):
            if name not in given.column_names:
                given = given.append_column(name, pa.nulls(0))
    incoming = given.column_names
    if len(set(incoming)) < len(incoming):
        twice = next(name for name in incoming if incoming.count(name) > 1)
        msg = f"table {write.table}: the data has two columns named {twice!r}"
        raise SchemaError(msg, hint="Rename one of them.")
    table, types = normalize(given)
    names = distinct_names(incoming, state.columns, RESERVED)
    columns = tuple(
        Column(name=name, type=types[source], source_name=None if name == source else source)
        for name, source in zip(names, incoming, strict=True)
    )
    return table.rename_columns(names) if names else table, columns


def _renamed(write: Write, columns: Sequence[Column]) -> Write:
    """The write with its keys and deletions under the names that columns are stored by."""
    stored = {c.source_name: c.name for c in columns if c.source_name is not None}
    deletes = write.deletes
    if deletes is not None:
        deletes = normalize(deletes)[0]
        deletes = deletes.rename_columns([stored.get(name, name) for name in deletes.column_names])
    return replace(
        write,
        primary_key=tuple(stored.get(name, name) for name in write.primary_key),
        merge_key=tuple(stored.get(name, name) for name in write.merge_key),
        volatile=tuple(stored.get(name, name) for name in write.volatile),
        deletes=deletes,
    )


class _Incoming:
    """Data that comes in, beside the state it meets."""

    def __init__(self, *, write: Write, rows: pa.Table, columns: tuple[Column, ...], state: State) -> None:
        self.write = write
        self.rows = rows
        self.columns = columns
        self.state = state
        self.all = merge_columns(state.columns, columns)
        # The state was built by another key than the one asked for: it has to be written anew.
        self.rekeyed = state.key is not None and state.key != write.key and state.rows > 0
        self.base = state.key is not None and state.key != write.key

    # The dispositions.

    def append(self) -> Change:
        """All rows are added."""
        if self.rekeyed:
            both = f"SELECT * FROM ({self.state.sql(self.all)}) UNION ALL SELECT {self._names} FROM ({self._new()})"
            return self._anew(both)
        counts = {"rows": self.state.rows + self.rows.num_rows, "appended": self.rows.num_rows}
        return Change(columns=self.columns, rows=self.rows, counts=counts, base=self.base)

    def snapshot(self) -> Change:
        """A full snapshot without a key: all of it is stored, unless it equals the current state."""
        rows = self.rows.num_rows
        figures = SnapshotFigures(rows=rows, rows_before=self.state.rows if self.state.table else None)
        if self.state.key == () and rows == self.state.rows and self._same_content():
            counts = {"rows": rows, "unchanged": rows}
            return Change(columns=self.columns, rows=self.rows.slice(0, 0), counts=counts, figures=figures)
        base = self.state.table is not None
        return Change(columns=self.columns, rows=self.rows, base=base, counts={"rows": rows}, figures=figures)

    def keyed_snapshot(self) -> Change:
        """A full snapshot with a key: rows that are new or changed, and tombstones."""
        rows, state = self.rows.num_rows, self.state
        duplicates, example = self._duplicates() if rows else (0, "")
        figures = SnapshotFigures(
            rows=rows,
            rows_before=state.rows if state.table else None,
            duplicate_keys=duplicates,
            example=example,
        )
        if state.table is None or self.base or duplicates or state.may_repeat:
            # Rows of a state whose keys repeat cannot be told apart: the snapshot starts anew.
            base = state.table is not None
            counts = {"rows": rows} | ({} if state.rows else {"appeared": rows})
            return Change(columns=self.columns, rows=self.rows, base=base, counts=counts, figures=figures)
        fresh, changed = self._compare(state.sql(self.all))
        gone = self._gone() if rows else self._keys_of(state.sql(self._key_columns))
        counts = {
            "rows": rows,
            "appeared": len(fresh),
            "changed": len(changed),
            "disappeared": gone.num_rows,
            "unchanged": rows - len(fresh) - len(changed),
        }
        return self._changed(fresh + changed, gone, counts, figures)

    def merge(self) -> Change:
        """Rows upserted by primary key, or groups of rows replaced by merge key; and deletions."""
        if self.write.primary_key:
            self.rows = self._last_of_each_key()
        if self.rekeyed:
            return self._merge_anew()
        if not self.write.primary_key or self.state.may_repeat:
            return self._merge_groups()
        fresh, changed = self._compare(self._touched())
        gone = self._deleted()
        if self.write.insert_only:
            changed = []
        counts = {
            "rows": self.state.rows + len(fresh) - gone.num_rows,
            "appeared": len(fresh),
            "changed": len(changed),
            "disappeared": gone.num_rows,
            "unchanged": self.rows.num_rows - len(fresh) - len(changed),
        }
        return self._changed(fresh + changed, gone, counts)

    def restored(self) -> Change | None:
        """All rows are the state: what differs by key is stored, or all of it where the key is another."""
        if self.write.key and not self.base:
            change = self._merge_groups(whole=True)
            return None if change.empty else change
        mine = self._fetch(f"SELECT {self._names or 'NULL'} FROM ({self._new()})", self.all)
        if self.rows.num_rows == self.state.rows and digest_rows(mine) == digest_rows(
            self.state.fetch(self.state.sql(self.all), self.all)
        ):
            return None
        return Change(columns=self.columns, rows=self.rows, base=True, counts={"rows": self.rows.num_rows})

    # What they are made of.

    @property
    def _names(self) -> str:
        return ", ".join(quote(c.name) for c in self.all)

    @property
    def _key_columns(self) -> list[Column]:
        return [c for c in self.all if c.name in self.write.key]

    def _new(self) -> str:
        """A SELECT of the incoming rows (registered as `incoming`), in the types of the state, numbered."""
        have = {c.name: c.type for c in self.columns}
        items = [
            f"{widened(quote(c.name), have.get(c.name, 'null'), c.type)} AS {quote(c.name)}" for c in self.all
        ]
        return f"SELECT {', '.join([*items, '_lake_row'])} FROM incoming"

    def _fetch(self, sql: str, columns: Sequence[Column], **frames: pa.Table) -> pa.Table:
        numbered = self.rows.append_column("_lake_row", pa.array(range(self.rows.num_rows), pa.int64()))
        return self.state.fetch(sql, columns, incoming=numbered, **frames)

    def _same_content(self) -> bool:
        ignored = self.write.volatile
        mine = digest_rows(self.rows.select([c.name for c in self.columns if c.name not in ignored]))
        if not ignored and self.state.content is not None:
            return mine == self.state.content
        columns = [c for c in self.state.columns if c.name not in ignored]
        return mine == digest_rows(self.state.fetch(self.state.sql(columns), columns))

    def _duplicates(self) -> tuple[int, str]:
        """How many keys more than one incoming row has, and one of them."""
        keys = ", ".join(quote(k) for k in self.write.key)
        found = self._fetch(
            f"SELECT count(*) AS n, any_value(key) AS example FROM "
            f"(SELECT to_json(struct_pack({self._packed})) ::VARCHAR AS key FROM ({self._new()}) "
            f"GROUP BY {keys} HAVING count(*) > 1)",
            [Column(name="n", type="int64"), Column(name="example", type="string")],
        ).to_pylist()[0]
        return found["n"], found["example"] or ""

    @property
    def _packed(self) -> str:
        return ", ".join(f"{quote(k)} := any_value({quote(k)})" for k in self.write.key)

    def _last_of_each_key(self) -> pa.Table:
        keys = ", ".join(quote(k) for k in self.write.key)
        if not self.rows.num_rows:
            return self.rows
        last = self._fetch(
            f"SELECT max(_lake_row) AS at FROM ({self._new()}) GROUP BY {keys} ORDER BY 1",
            [Column(name="at", type="int64")],
        )
        return self.rows if last.num_rows == self.rows.num_rows else self.rows.take(last["at"])

    def _compare(self, current: str) -> tuple[list[int], list[int]]:
        """Numbers of the incoming rows that are new, and of those that differ from the current row."""
        if not self.rows.num_rows:
            return [], []
        compared = [c.name for c in self.all if c.name not in (*self.write.key, *self.write.volatile)]
        differs = " OR ".join(f"i.{quote(n)} IS DISTINCT FROM c.{quote(n)}" for n in compared) or "false"
        found = self._fetch(
            f"SELECT _lake_row AS at, _lake_present IS NULL AS fresh FROM ({self._new()}) i "
            f"LEFT JOIN (SELECT true AS _lake_present, * FROM ({current})) c ON {self._same('i', 'c')} "
            f"WHERE _lake_present IS NULL OR {differs} ORDER BY 1",
            [Column(name="at", type="int64"), Column(name="fresh", type="bool")],
        )
        split: tuple[list[int], list[int]] = ([], [])
        for at, fresh in zip(found["at"].to_pylist(), found["fresh"].to_pylist(), strict=True):
            split[0 if fresh else 1].append(at)
        if split[1] and any(c.type == "json" for c in self.all if c.name in compared):
            return split[0], self._differing(split[1], current, compared)
        return split

    def _differing(self, candidates: list[int], current: str, compared: Sequence[str]) -> list[int]:
        """The rows that differ in value, not only in the spelling of JSON text."""
        columns = [c for c in self.all if c.name in compared]
        before = self._fetch(
            f"SELECT c.* FROM ({self._new()}) i JOIN ({current}) c ON {self._same('i', 'c')} "
            'WHERE i._lake_row IN (SELECT "at" FROM candidates) ORDER BY i._lake_row',
            columns,
            candidates=pa.table({"at": pa.array(candidates, pa.int64())}),
        )
        after = self.rows.take(pa.array(candidates, pa.int64()))
        after = after.select([name for name in compared if name in after.column_names])
        differs = row_hashes(before) != row_hashes(after)
        return [at for at, changed in zip(candidates, differs, strict=True) if changed]

    def _same(self, one: str, two: str) -> str:
        return " AND ".join(f"{one}.{quote(k)} IS NOT DISTINCT FROM {two}.{quote(k)}" for k in self.write.key)

    def _gone(self) -> pa.Table:
        """Keys of current rows that the incoming snapshot lacks."""
        return self._keys_of(
            f"SELECT * FROM ({self.state.sql(self._key_columns)}) c "
            f"WHERE NOT EXISTS (SELECT 1 FROM ({self._new()}) i WHERE {self._same('i', 'c')})"
        )

    def _keys_of(self, sql: str) -> pa.Table:
        return self._fetch(f"SELECT DISTINCT {self._key_list} FROM ({sql})", self._key_columns)

    @property
    def _key_list(self) -> str:
        return ", ".join(quote(c.name) for c in self._key_columns)

    def _touched(self) -> str:
        """A SELECT of the current rows whose keys come in."""
        return (
            f"SELECT * FROM ({self.state.sql(self.all)}) c "
            f"WHERE EXISTS (SELECT 1 FROM ({self._new()}) i WHERE {self._same('i', 'c')})"
        )

    def _deleted(self) -> pa.Table:
        """Keys of current rows to delete: those named, and those that a merge key replaces."""
        doomed, frames = self._doomed()
        if doomed == "false" or self.state.table is None:
            return pa.table({}).select([])
        return self._fetch(
            f"SELECT DISTINCT {self._key_list} FROM ({self.state.sql(self.all)}) c "
            f"WHERE {doomed} AND NOT {self._comes_in('i')}",
            self._key_columns,
            **frames,
        )

    def _doomed(self) -> tuple[str, dict[str, pa.Table]]:
        """A condition on current rows `c`: named for deletion, or of a group that a merge key replaces."""
        conditions, frames = [], {}
        if self.write.deletes is not None and self.write.deletes.num_rows:
            frames["deletes"] = self.write.deletes
            conditions.append(f"EXISTS (SELECT 1 FROM deletes d WHERE {self._named_by(self.write.deletes)})")
        if self.write.primary_key and self.write.merge_key and self.rows.num_rows:
            group = " AND ".join(
                f"i.{quote(k)} IS NOT DISTINCT FROM c.{quote(k)}" for k in self.write.merge_key
            )
            conditions.append(f"EXISTS (SELECT 1 FROM ({self._new()}) i WHERE {group})")
        return f"({' OR '.join(conditions)})" if conditions else "false", frames

    def _named_by(self, deletes: pa.Table) -> str:
        """A condition: the row `d` of the deletions has the key of the current row `c`."""
        have = {c.name: c.type for c in _columns_of(deletes)}
        same = []
        for c in self._key_columns:
            if c.name not in have:
                msg = f"table {self.write.table}: the deletes lack the key column {c.name!r}"
                raise SchemaError(msg, hint=f"Their columns: {', '.join(have) or 'none'}.")
            kind = unify(have[c.name], c.type)
            named, current = (
                widened(f"{t}.{quote(c.name)}", h, kind) for t, h in (("d", have[c.name]), ("c", c.type))
            )
            same.append(f"{named} IS NOT DISTINCT FROM {current}")
        return " AND ".join(same)

    def _comes_in(self, alias: str) -> str:
        """A condition: the key of the current row `c` is among the incoming ones."""
        if not self.rows.num_rows:
            return "false"
        return f"EXISTS (SELECT 1 FROM ({self._new()}) {alias} WHERE {self._same(alias, 'c')})"

    def _merge_groups(self, *, whole: bool = False) -> Change:
        """Groups of rows, replaced as a whole where they differ; with `whole`, all others disappear."""
        current = f"({self.state.sql(self.all)})"
        doomed, frames = ("true", {}) if whole else self._doomed()
        compared = ", ".join(quote(c.name) for c in self.all if c.name not in self.write.volatile)
        new = f"(SELECT {compared} FROM ({self._new()}))"
        old = f"(SELECT {compared} FROM {current} c WHERE {self._comes_in('i')})"
        differing = (
            f"(SELECT DISTINCT {self._key_list} FROM "
            f"((SELECT * FROM {new} EXCEPT ALL SELECT * FROM {old}) UNION ALL "
            f"(SELECT * FROM {old} EXCEPT ALL SELECT * FROM {new})))"
        )
        if self.write.insert_only:
            differing = f"({differing} EXCEPT SELECT {self._key_list} FROM {current})"
        take: list[int] = []
        replaced = 0
        if self.rows.num_rows:
            found = self._fetch(
                f"SELECT _lake_row AS at FROM ({self._new()}) i "
                f"WHERE EXISTS (SELECT 1 FROM {differing} f WHERE {self._same('f', 'i')}) ORDER BY 1",
                [Column(name="at", type="int64")],
            )
            take = found["at"].to_pylist()
            replaced = self._count(
                f"{current} c WHERE EXISTS (SELECT 1 FROM {differing} f WHERE {self._same('f', 'c')})"
            )
        going = f"{current} c WHERE {doomed} AND NOT {self._comes_in('i')}"
        gone = self._fetch(f"SELECT DISTINCT {self._key_list} FROM {going}", self._key_columns, **frames)
        dropped = self._count(going, **frames) if gone.num_rows else 0
        counts = {
            "rows": self.state.rows - replaced - dropped + len(take),
            "appeared": max(len(take) - replaced, 0),
            "changed": min(len(take), replaced),
            "disappeared": dropped + max(replaced - len(take), 0),
            "unchanged": self.rows.num_rows - len(take),
        }
        return self._changed(take, gone, counts)

    def _count(self, source: str, **frames: pa.Table) -> int:
        found = self._fetch(f"SELECT count(*) AS n FROM {source}", [Column(name="n", type="int64")], **frames)
        return int(found["n"][0].as_py())

    def _merge_anew(self) -> Change:
        """A merge by another key than the state was built by: the whole result, written anew."""
        doomed, frames = self._doomed()
        current = f"({self.state.sql(self.all)})"
        stays, comes = f"NOT ({doomed} OR {self._comes_in('j')})", "true"
        if self.write.insert_only:
            stays = f"({self._comes_in('j')} OR NOT {doomed})"
            comes = f"NOT EXISTS (SELECT 1 FROM {current} c WHERE {self._same('n', 'c')})"
        both = (
            f"SELECT {self._names} FROM {current} c WHERE {stays} "
            f"UNION ALL SELECT {self._names} FROM ({self._new()}) n WHERE {comes}"
        )
        return self._anew(both, **frames)

    def _anew(self, sql: str, **frames: pa.Table) -> Change:
        rows = self._fetch(sql, self.all, **frames)
        return Change(columns=self.all, rows=rows, base=True, counts={"rows": rows.num_rows})

    def _changed(
        self, take: list[int], gone: pa.Table, counts: dict[str, int], figures: SnapshotFigures | None = None
    ) -> Change:
        """The rows to add, with tombstones whose keys have one type with theirs."""
        rows = (
            self.rows
            if len(take) == self.rows.num_rows
            else self.rows.take(pa.array(sorted(take), pa.int64()))
        )
        columns = self.columns
        if gone.num_rows:
            stones = {c.name: c.type for c in self._key_columns}
            columns = tuple(
                replace(c, type=unify(c.type, stones[c.name])) if c.name in stones else c for c in columns
            )
            missing = [c for c in self._key_columns if c.name not in {x.name for x in columns}]
            columns = (*columns, *missing)
            rows = _in_types(rows, columns)
            gone = _in_types(gone, [c for c in columns if c.name in stones])
        return Change(
            columns=columns,
            rows=rows,
            deleted=gone if gone.num_rows else None,
            counts=counts,
            figures=figures,
            base=self.base,
        )


def _in_types(table: pa.Table, columns: Sequence[Column]) -> pa.Table:
    arrays = [
        widen(table[c.name], c.type)
        if c.name in table.column_names
        else widen(pa.nulls(table.num_rows), c.type)
        for c in columns
    ]
    return pa.table(arrays, names=[c.name for c in columns])


def _columns_of(table: pa.Table) -> list[Column]:
    return [Column(name=name, type=kind) for name, kind in normalize(table)[1].items()]
