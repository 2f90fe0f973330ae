"""The link columns between a parent table and its child tables, and stable values for them.

dlt gives rows a random `_dlt_id` in every load. Where the root table has a primary key, ids that
follow from it let a later load replace the children of exactly the rows that it touches, and let
unchanged children compare as equal. Nothing here reads or writes files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from dlt.common.json import json
from dlt.common.schema import Schema
from dlt.common.utils import digest128

Parents = Mapping[str, tuple[str, str]]  # id of a row as dlt gave it -> its id and its root's id


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkColumns:
    """dlt's own columns, under the names that the schema's naming convention gives them."""

    row: str
    parent: str
    root: str
    position: str
    load: str


def link_columns(schema: Schema) -> LinkColumns:
    """The names in a schema."""
    name = schema.naming.normalize_identifier
    return LinkColumns(
        row=name("_dlt_id"),
        parent=name("_dlt_parent_id"),
        root=name("_dlt_root_id"),
        position=name("_dlt_list_idx"),
        load=name("_dlt_load_id"),
    )


def key_ids(keys: pa.Table) -> list[str]:
    """An id for each key, the same in every load. `keys` has the key columns only, in their order."""
    return [digest128(json.dumps(list(row.values()))) for row in keys.to_pylist()]


def relink_root(rows: pa.Table, key: Sequence[str], names: LinkColumns) -> tuple[pa.Table, Parents]:
    """Rows of a root table with ids that follow from the key; and who is whose parent now."""
    ids = key_ids(rows.select(list(key)))
    parents = {old: (new, new) for old, new in zip(_texts(rows, names.row), ids, strict=True)}
    return _with_column(rows, names.row, ids), parents


def root_parents(rows: pa.Table, names: LinkColumns) -> Parents:
    """Who is whose parent, where the ids stay as dlt gave them."""
    return {old: (old, old) for old in _texts(rows, names.row)}


def relink_child(
    rows: pa.Table, parents: Parents, names: LinkColumns, *, table: str, keep_ids: bool
) -> tuple[pa.Table, Parents]:
    """Rows of a child table with links that follow their parents' ids; and who is whose parent now.

    Rows whose parent is not there any more (a later row of the same key took its place) go too.

    Args:
        rows: As dlt wrote them.
        parents: Of the parent table.
        names: The link columns.
        table: Name of the child table; part of its rows' ids.
        keep_ids: Leave the row ids as they are.
    """
    at: dict[str, int] = {}
    links: dict[str, tuple[str, str]] = {}
    olds: dict[str, str] = {}
    positions = rows.column(names.position).to_pylist()
    for i, (old, parent) in enumerate(zip(_texts(rows, names.row), _texts(rows, names.parent), strict=True)):
        if parent in parents:
            parent_id, root_id = parents[parent]
            new = old if keep_ids else digest128(f"{parent_id}_{table}_{positions[i]}")
            at[new], links[new], olds[old] = i, (parent_id, root_id), new
    kept = rows.take(pa.array(at.values(), type=pa.int64()))
    kept = _with_column(kept, names.row, list(at))
    kept = _with_column(kept, names.parent, [links[new][0] for new in at])
    kept = _with_column(kept, names.root, [links[new][1] for new in at])
    return kept, {old: (new, links[new][1]) for old, new in olds.items()}


def _texts(rows: pa.Table, column: str) -> list[str]:
    return [str(value) for value in rows.column(column).to_pylist()]


def _with_column(rows: pa.Table, name: str, values: Sequence[str]) -> pa.Table:
    array = pa.array(values, type=pa.string())
    at = rows.schema.get_field_index(name)
    return rows.append_column(name, array) if at < 0 else rows.set_column(at, name, array)
