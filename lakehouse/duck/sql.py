"""SQL text for reading a table of a lake: scans over its parts, and the state at a position.

Parts of different schemas are read in groups of one schema each, so that DuckDB never has to open
files to find out what is in them; each group is brought to the one type a column reads as.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence

from lakehouse.core.commit import TableChange
from lakehouse.core.log import Era, TableLog
from lakehouse.core.types import Column, Type, decimal, merge_columns

_DUCK = {
    "null": "VARCHAR", "bool": "BOOLEAN", "string": "VARCHAR", "binary": "BLOB", "json": "JSON",
    "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT", "bigint": "BIGINT",
    "uint8": "UTINYINT", "uint16": "USMALLINT", "uint32": "UINTEGER", "uint64": "UBIGINT",
    "float32": "FLOAT", "float64": "DOUBLE", "date": "DATE", "time": "TIME",
    "timestamp": "TIMESTAMP", "timestamptz": "TIMESTAMPTZ",
    "timestamp_ns": "TIMESTAMP_NS", "timestamptz_ns": "TIMESTAMPTZ",
}  # fmt: skip

SEQ, DELETED = "_lake_seq", "_lake_deleted"


def quote(name: str) -> str:
    """An identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text literal, quoted."""
    return "'" + text.replace("'", "''") + "'"


def duck_type(kind: Type) -> str:
    """The DuckDB type of a type of the format."""
    if isinstance(kind, str):
        shape = decimal(kind)
        return f"DECIMAL({shape[0]},{shape[1]})" if shape else _DUCK[kind]
    if "list" in kind:
        return f"{duck_type(kind['list'])}[]"
    fields = ", ".join(f"{quote(name)} {duck_type(inner)}" for name, inner in kind["struct"].items())
    return f"STRUCT({fields})"


def widened(expression: str, have: Type, want: Type) -> str:
    """An SQL expression of one type of the format, read as another that holds its values."""
    if have == want or {have, want} == {"int64", "bigint"} if isinstance(have, str) else have == want:
        return expression
    if have == "null":
        return f"NULL::{duck_type(want)}"
    if want == "json":
        if have in ("float32", "float64"):  # JSON has no NaN and no infinity
            return f"CASE WHEN isfinite({expression}) THEN to_json({expression}) ELSE to_json({expression}::VARCHAR) END"
        return f"to_json({expression})"
    if isinstance(want, str):
        return f"{expression}::{duck_type(want)}"
    return f"from_json(to_json({expression}), {literal(json.dumps(_structure(want)))})"


def scan(
    table: TableLog,
    columns: Sequence[Column],
    changes: Sequence[tuple[int, TableChange]],
    *,
    locate: Callable[[str], str],
    keyed: bool,
) -> str:
    """A SELECT over all rows of some loads of a table, with `_lake_seq` (and `_lake_deleted` if keyed).

    Args:
        table: The table's log.
        columns: The columns to read, with the types they are to have.
        changes: The changes whose parts are read.
        locate: From the key of a part to what DuckDB opens.
        keyed: Whether tombstones are asked for.
    """
    groups = _groups(table, changes)
    selects = [
        _scan_group([locate(path) for path in paths], have, columns, keyed=keyed) for have, paths in groups
    ]
    return "\nUNION ALL\n".join(selects) if selects else _nothing(columns, keyed=keyed)


def state(rows: str, columns: Sequence[Column], key: Sequence[str], where: str) -> str:
    """A SELECT of the rows that make up a table's state.

    Args:
        rows: A SELECT as `scan` makes it.
        columns: The columns to return.
        key: Columns by which the newest rows are chosen; empty where rows only add up.
        where: A condition on `_lake_seq` that says which loads count.
    """
    names = ", ".join(quote(column.name) for column in columns)
    if not key:
        return f"SELECT {names} FROM ({rows}) WHERE {where}"
    same = " AND ".join(f"v.{quote(k)} IS NOT DISTINCT FROM n.{quote(k)}" for k in key)
    keys = ", ".join(quote(k) for k in key)
    picked = ", ".join(f"v.{quote(column.name)}" for column in columns)
    return (
        f"WITH v AS ({rows}),\n"
        f"n AS (SELECT {keys}, max({SEQ}) AS newest FROM v WHERE {where} GROUP BY {keys})\n"
        f"SELECT {picked} FROM v JOIN n ON v.{SEQ} = n.newest AND {same}\n"
        f"WHERE NOT coalesce(v.{DELETED}, false)"
    )


def state_now(table: TableLog, columns: Sequence[Column], *, locate: Callable[[str], str]) -> str:
    """A SELECT of a table's rows at the end of its log."""
    era = table.eras[-1]
    changes = table.changes_at(table.changes[-1][0])
    rows = scan(table, columns, changes, locate=locate, keyed=bool(era.key))
    # A part of many loads may hold rows from before the era.
    return state(rows, columns, era.key, f"{SEQ} >= {era.first}")


def state_at(
    table: TableLog, columns: Sequence[Column], *, locate: Callable[[str], str], position: str, base: str
) -> str:
    """A SELECT of a table's rows at any position, for a view or macro.

    Args:
        table: The table's log.
        columns: The columns to return.
        locate: From the key of a part to what DuckDB opens.
        position: SQL expression: the newest sequence number that counts.
        base: SQL expression: the sequence number at which the state begins that holds there.
    """
    keys = list(dict.fromkeys(era.key for era in table.eras))
    several = len(table.eras) > 1
    branches = []
    for key in keys:
        changes = table.changes if len(keys) == 1 else _changes_with_key(table, key)
        rows = scan(table, columns, changes, locate=locate, keyed=bool(key))
        where = f"{SEQ} <= {position}"
        if several:
            where += f" AND {SEQ} >= {base}"
        if len(keys) > 1:
            where += f" AND {base} IN ({_firsts(table.eras, key)})"
        branches.append(f"({state(rows, columns, key, where)})")
    return "\nUNION ALL\n".join(branches)


def _changes_with_key(table: TableLog, key: tuple[str, ...]) -> list[tuple[int, TableChange]]:
    firsts = [era.first for era in table.eras]
    return [c for c in table.changes if table.eras[bisect_right(firsts, c[0]) - 1].key == key]


def _firsts(eras: Sequence[Era], key: tuple[str, ...]) -> str:
    return ", ".join(str(era.first) for era in eras if era.key == key)


def _groups(
    table: TableLog, changes: Sequence[tuple[int, TableChange]]
) -> list[tuple[tuple[Column, ...], list[str]]]:
    """Parts by the columns that lie in them. A part of many loads has the columns of them all."""
    inside: dict[str, tuple[Column, ...]] = {}
    for _, change in table.changes:
        for part in change.parts:
            before = inside.get(part.path)
            if before is None:
                inside[part.path] = change.columns
            elif before is not change.columns and before != change.columns:
                inside[part.path] = merge_columns(before, change.columns)
    groups: dict[str, tuple[tuple[Column, ...], list[str]]] = {}
    names: dict[int, str] = {}
    for path in dict.fromkeys(part.path for _, change in changes for part in change.parts):
        columns = inside[path]
        name = names.get(id(columns)) or names.setdefault(id(columns), repr(columns))
        groups.setdefault(name, (columns, []))[1].append(path)
    return list(groups.values())


def _scan_group(
    files: Sequence[str], have: Sequence[Column], want: Sequence[Column], *, keyed: bool
) -> str:
    types = {column.name: column.type for column in have}
    items = [SEQ] + ([DELETED] if keyed else [])
    for column in want:
        expression = widened(quote(column.name), types.get(column.name, "null"), column.type)
        items.append(
            expression if expression == quote(column.name) else f"{expression} AS {quote(column.name)}"
        )
    listed = ", ".join(literal(file) for file in files)
    return f"SELECT {', '.join(items)} FROM read_parquet([{listed}], hive_partitioning = false)"


def _nothing(columns: Sequence[Column], *, keyed: bool) -> str:
    items = [f"NULL::BIGINT AS {SEQ}"] + ([f"NULL::BOOLEAN AS {DELETED}"] if keyed else [])
    items += [f"NULL::{duck_type(column.type)} AS {quote(column.name)}" for column in columns]
    return f"SELECT {', '.join(items)} WHERE false"


def _structure(kind: Type) -> object:
    """The shape that DuckDB's from_json wants for a type."""
    if isinstance(kind, str):
        return duck_type(kind)
    if "list" in kind:
        return [_structure(kind["list"])]
    return {name: _structure(inner) for name, inner in kind["struct"].items()}
