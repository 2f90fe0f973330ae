"""From a dlt load package to the writes that make it one load of a lake.

Decides by dlt's hints: dispositions, keys, merge strategies, hard deletes, child tables that follow
their parents. What the lake does with a write, and the reading of files, are elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.destination.utils import prepare_load_table, resolve_merge_strategy
from dlt.common.schema import Schema
from dlt.common.schema.utils import (
    get_columns_names_with_prop,
    get_dedup_sort_tuple,
    get_first_column_name_with_prop,
    get_nested_tables,
    has_table_seen_data,
    is_nested_table,
)

from ingest import convert, links

VOLATILE_HINT = "x-lakehouse-volatile"

Current = Callable[[str, Sequence[str]], pa.Table | None]
"""Columns of a table's newest rows; None where the lake has no such table or column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Arguments of one `load.write`."""

    table: str
    rows: pa.Table
    disposition: str
    primary_key: Sequence[str] = ()
    merge_key: Sequence[str] = ()
    volatile: Sequence[str] = ()
    deletes: pa.Table | None = None
    insert_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What a load package holds.

    Attributes:
        schema: dlt's schema, as of this package.
        caps: The destination's capabilities, which merge strategies depend on.
        files: Parquet files of each table, in the order in which they were written.
        fresh: Tables that start anew with this load (dlt's `refresh`).
    """

    schema: Schema
    caps: DestinationCapabilitiesContext
    files: Mapping[str, Sequence[Path]]
    fresh: frozenset[str] = frozenset()


def writes(package: Package, current: Current) -> Iterator[Write]:
    """The writes of a load package, parents before their children."""
    tables = package.schema.tables
    for root in package.schema.data_tables(include_incomplete=True):
        if is_nested_table(root):
            continue
        chain = [str(table["name"]) for table in get_nested_tables(tables, str(root["name"]))]
        if any(name in package.files or name in package.fresh for name in chain):
            yield from _Chain(package, chain, current).writes()


class _Chain:
    """A root table with its child tables, in one load package."""

    def __init__(self, package: Package, names: Sequence[str], current: Current) -> None:
        self._package, self._current = package, current
        self._tables: dict[str, Any] = {
            name: prepare_load_table(package.schema.tables, package.schema.tables[name], package.caps)
            for name in names
        }
        self._root = names[0]
        self._children = [
            name for name in names[1:] if name in package.files or has_table_seen_data(self._tables[name])
        ]
        self._links = links.link_columns(package.schema)
        hints = self._tables[self._root]
        self._key = get_columns_names_with_prop(hints, "primary_key")
        self._group = get_columns_names_with_prop(hints, "merge_key")
        self._hard_delete = get_first_column_name_with_prop(hints, "hard_delete")
        self._dedup_sort = get_dedup_sort_tuple(hints)
        self._strategy = resolve_merge_strategy(
            package.schema.tables, package.schema.tables[self._root], package.caps
        )
        self._disposition = self._lake_disposition(hints["write_disposition"])

    def _lake_disposition(self, written: str) -> str:
        if any(name in self._package.fresh for name in self._tables):
            return "replace"
        if written != "merge":
            return written
        if self._strategy == "scd2" and not self._group:
            return "replace"  # the lake keeps every version of every row anyway
        return "merge" if self._key or self._group else "append"

    def writes(self) -> Iterator[Write]:
        if not self._children and not self._needs_rows():
            yield self._write(self._root, self._rows(self._root))
        elif self._disposition == "append":
            for name in (n for n in (self._root, *self._children) if n in self._package.files):
                yield self._write(name, self._rows(name))
        else:
            yield from self._processed()

    def _needs_rows(self) -> bool:
        """Whether the rows themselves have to be looked at before they are written."""
        if not self._merging:
            return False
        return bool(self._hard_delete or self._dedup_sort or self._disposition == "replace")

    @property
    def _merging(self) -> bool:
        """Whether dlt would merge; `scd2` is what the lake does with a full snapshot."""
        return self._tables[self._root]["write_disposition"] == "merge" and self._strategy != "scd2"

    def _processed(self) -> Iterator[Write]:
        rows, gone = self._rows(self._root), None
        if self._merging:
            rows, gone = self._merged(rows)
        touched = self._touched(rows, gone) if self._children and self._disposition == "merge" else []
        parents: dict[str, links.Parents] = {}
        if self._children and self._key:
            rows, parents[self._root] = links.relink_root(rows, self._key, self._links)
        elif self._children:
            parents[self._root] = links.root_parents(rows, self._links)
        yield self._write(self._root, rows, deletes=gone if self._disposition == "merge" else None)
        for name in self._children:
            above = parents[self._tables[name]["parent"]]
            child, parents[name] = links.relink_child(
                self._rows(name), above, self._links, table=name, keep_ids=not self._key
            )
            yield self._write_child(name, child, touched)

    def _merged(self, rows: pa.Table) -> tuple[pa.Table, pa.Table | None]:
        """The rows to write, and the keys or groups to remove."""
        groups = rows.select(self._group) if self._group else None
        if self._key:
            rows = _newest(rows, self._key, self._dedup_sort)
        rows, deleted = self._without_hard_deleted(rows)
        if self._strategy == "insert-only":
            known = self._current(self._root, self._key) if self._children else None
            return (rows if known is None else _lacking(rows, known, self._key)), None
        by = self._key or self._group
        gone = _lacking(deleted, rows, by).select(by)
        if self._key and groups is not None and (self._children or deleted.num_rows):
            before = self._current(self._root, [*self._key, *self._group])
            if before is not None:  # rows that a merge key removes have children, too
                before = _having(before, groups, self._group)
                gone = _together(gone, _lacking(before, rows, self._key).select(by))
        return rows, gone if gone.num_rows else None

    def _without_hard_deleted(self, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
        if self._hard_delete is None:
            return rows, rows.slice(0, 0)
        flags = rows.column(self._hard_delete)
        is_flag = pa.types.is_boolean(flags.type)
        marked = pc.fill_null(flags, False) if is_flag else pc.is_valid(flags)
        return rows.filter(pc.invert(marked)), rows.filter(marked)

    def _touched(self, rows: pa.Table, gone: pa.Table | None) -> list[str]:
        """Ids of the root rows whose children this load replaces or removes."""
        if self._key:
            keys = rows.select(self._key)
            return links.key_ids(keys if gone is None else _together(keys, gone))
        before = self._current(self._root, [*self._group, self._links.row])
        if before is None:
            return []
        groups = rows.select(self._group)
        before = _having(before, groups if gone is None else _together(groups, gone), self._group)
        return [str(value) for value in before.column(self._links.row).to_pylist()]

    def _write(self, name: str, rows: pa.Table, *, deletes: pa.Table | None = None) -> Write:
        root = name == self._root
        return Write(
            table=name,
            rows=rows,
            disposition=self._disposition,
            primary_key=self._key if root and self._disposition != "append" else (),
            merge_key=self._group if root and self._disposition == "merge" else (),
            volatile=_volatile(self._tables[name]),
            deletes=deletes,
            insert_only=root and self._disposition == "merge" and self._strategy == "insert-only",
        )

    def _write_child(self, name: str, rows: pa.Table, touched: Sequence[str]) -> Write:
        root = self._links.root
        grouped = self._disposition == "merge" or bool(self._key)
        if self._disposition == "replace" and self._key:
            # The same as a snapshot; but that all children go is no reason for a gate to refuse it.
            before = self._current(name, [root])
            touched = [] if before is None else before.column(root).to_pylist()
        brought = set(rows.column(root).to_pylist())
        gone = [one for one in dict.fromkeys(touched) if one not in brought] if grouped else []
        return Write(
            table=name,
            rows=rows,
            disposition="merge" if grouped else self._disposition,
            merge_key=[root] if grouped else (),
            volatile=_volatile(self._tables[name]),
            deletes=pa.table({root: pa.array(gone, type=pa.string())}) if gone else None,
        )

    def _rows(self, name: str) -> pa.Table:
        paths = self._package.files.get(name)
        columns = self._tables[name]["columns"]
        if not paths:
            return convert.empty_table(columns, leave_out=self._own_columns(name))
        return convert.table_of(paths, columns, leave_out=self._own_columns(name))

    def _own_columns(self, name: str) -> frozenset[str]:
        """Dlt's own columns that say nothing about the data."""
        hints = self._tables[name]
        validity = [get_first_column_name_with_prop(hints, prop) for prop in ("x-valid-from", "x-valid-to")]
        links_too = [] if self._children else [self._links.row]
        return frozenset([self._links.load, *links_too, *(column for column in validity if column)])


def _volatile(hints: Mapping[str, Any]) -> list[str]:
    marked = [name for name, column in hints["columns"].items() if column.get(VOLATILE_HINT)]
    return list(dict.fromkeys([*marked, *hints.get(VOLATILE_HINT, ())]))


def _newest(rows: pa.Table, key: Sequence[str], sort: tuple[str, str] | None) -> pa.Table:
    """One row for each key: the last, or the first in the order that `dedup_sort` asks for."""
    frame = _frame(rows.select([*dict.fromkeys([*key, *([sort[0]] if sort else [])])]))
    if sort:
        frame = frame.sort(sort[0], descending=sort[1] != "desc", nulls_last=False, maintain_order=True)
    kept = frame.unique(list(key), keep="last", maintain_order=True)["_at"].sort()
    return rows if len(kept) == rows.num_rows else rows.take(kept.to_arrow())


def _lacking(rows: pa.Table, others: pa.Table, on: Sequence[str]) -> pa.Table:
    """The rows whose key the others do not have."""
    return _joined(rows, others, on, how="anti")


def _having(rows: pa.Table, others: pa.Table, on: Sequence[str]) -> pa.Table:
    """The rows whose key the others have too."""
    return _joined(rows, others, on, how="semi")


def _joined(rows: pa.Table, others: pa.Table, on: Sequence[str], *, how: Any) -> pa.Table:
    if not rows.num_rows or not others.num_rows:
        return rows if how == "anti" else rows.slice(0, 0)
    left = rows.select(list(on))
    right = others.select(list(on)).cast(left.schema)
    kept = _frame(left).join(_frame(right), on=list(on), how=how, nulls_equal=True, maintain_order="left")
    return rows.take(kept["_at"].to_arrow())


def _together(one: pa.Table, two: pa.Table) -> pa.Table:
    if not one.num_rows or not two.num_rows:
        return one if one.num_rows else two
    return pa.concat_tables([one, two.cast(one.schema)])


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - what from_arrow makes of a table
    return frame.with_row_index("_at")
