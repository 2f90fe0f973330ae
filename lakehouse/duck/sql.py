"""SQL text for reading a table of a lake: scans over its parts, and the state at a position.

Parts of different schemas are read in groups of one schema each, so that DuckDB never has to open
files to find out what is in them; each group is brought to the one type a column reads as.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from lakehouse.core.log import Era, File, TableLog
from lakehouse.core.types import Column, Type, decimal
from lakehouse.duck.names import literal, quote

_DUCK = {
    "null": "VARCHAR", "bool": "BOOLEAN", "string": "VARCHAR", "binary": "BLOB", "json": "JSON",
    "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT", "bigint": "BIGINT",
    "uint8": "UTINYINT", "uint16": "USMALLINT", "uint32": "UINTEGER", "uint64": "UBIGINT",
    "float32": "FLOAT", "float64": "DOUBLE", "date": "DATE", "time": "TIME",
    "timestamp": "TIMESTAMP", "timestamptz": "TIMESTAMPTZ",
    "timestamp_ns": "TIMESTAMP_NS", "timestamptz_ns": "TIMESTAMPTZ_NS",
}  # fmt: skip

SEQ, DELETED = "_lake_seq", "_lake_deleted"
_WHOLE_BELOW = "9223372036854775808"  # floats below it that are whole are written as integers


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
    """An SQL expression of one type of the format, read as another that holds its values.

    The way does not count: a value that is widened twice reads the same as one widened at once.
    Values that are equal in a wider type stay equal, so that keys hold over the whole history.
    """
    return _widened(expression, have, want, 0)


def _widened(expression: str, have: Type, want: Type, depth: int) -> str:
    if have == "null":  # such a column does not lie in the file
        return f"NULL::{duck_type(want)}"
    if want == "json":
        return expression if have == "json" else _json(expression, have, depth)
    if duck_type(have) == duck_type(want):
        return expression
    if isinstance(have, str) or isinstance(want, str):
        return f"{expression}::{duck_type(want)}"
    if "list" in want:
        item = f"_lake_{depth}"
        return f"list_transform({expression}, lambda {item}: {_widened(item, have['list'], want['list'], depth + 1)})"
    fields = {
        name: _widened(f"({expression}).{quote(name)}", have["struct"].get(name, "null"), inner, depth)
        for name, inner in want["struct"].items()
    }
    return _struct(expression, fields)


def _json(expression: str, have: Type, depth: int) -> str:
    """JSON text of a value, for scalars the same that `parquet.infer.json_text` gives.

    An object's nulls are left out: a struct that gained a field reads the same before and after.
    """
    if isinstance(have, str):
        return _json_scalar(expression, have)
    if "list" in have:
        item = f"_lake_{depth}"
        texts = f"list_transform({expression}, lambda {item}: coalesce({_json(item, have['list'], depth + 1)}::VARCHAR, 'null'))"
        inside = f"coalesce(array_to_string({texts}, ','), '')"
        return f"CASE WHEN {expression} IS NULL THEN NULL ELSE ('[' || {inside} || ']')::JSON END"
    # Text put together, not `to_json`, which would write numbers inside anew, as floats.
    fields = [
        f"{literal(json.dumps(name, ensure_ascii=False) + ':')} || {_json(f'({expression}).{quote(name)}', inner, depth)}::VARCHAR"
        for name, inner in sorted(have["struct"].items())
    ]
    return f"CASE WHEN {expression} IS NULL THEN NULL ELSE ('{{' || concat_ws(',', {', '.join(fields)}) || '}}')::JSON END"


def _json_scalar(expression: str, have: str) -> str:
    text = f"{expression}::VARCHAR"
    if have in ("float32", "float64"):  # 1.0 is 1; JSON has no NaN and no infinity
        number = f"{expression}::DOUBLE"
        return (
            f"CASE WHEN NOT isfinite({expression}) THEN to_json({text}) "
            f"WHEN trunc({number}) = {number} AND abs({number}) < {_WHOLE_BELOW} THEN to_json({expression}::BIGINT) "
            f"ELSE {number}::VARCHAR::JSON END"
        )
    shape = decimal(have)
    if shape:
        plain = f"rtrim(rtrim({expression}::DECIMAL(38,{shape[1]})::VARCHAR, '0'), '.')" if shape[1] else text
        return f"regexp_replace({plain}, '^(-?)\\.', '\\10.')::JSON"
    if have == "binary":
        return f"to_json(lower(hex({expression})))"
    if have == "time":
        return f"to_json(strftime(DATE '1970-01-01' + {expression}, '%H:%M:%S.%f'))"
    if have.startswith("timestamp"):
        return _json_moment(expression, have)
    return f"to_json({'NULL::VARCHAR' if have == 'null' else expression})"


def _json_moment(expression: str, have: str) -> str:
    """ISO text; a midnight without a zone is the date, as 1.0 is 1."""
    if have in {"timestamptz", "timestamptz_ns"}:
        expression, zone = f"({expression} AT TIME ZONE 'UTC')", "+00:00"
    else:
        zone = ""
    text = f"strftime({expression}, '%Y-%m-%dT%H:%M:%S.%{'n' if have.endswith('_ns') else 'f'}')"
    if have.endswith("_ns"):
        text = f"regexp_replace({text}, '000$', '')"
    if not zone:
        text = f"regexp_replace({text}, 'T00:00:00\\.0+$', '')"
    return f"to_json({text} || '{zone}')"


def _struct(expression: str, fields: Mapping[str, str]) -> str:
    packed = ", ".join(f"{quote(name)} := {inner}" for name, inner in fields.items())
    return f"CASE WHEN {expression} IS NULL THEN NULL ELSE struct_pack({packed}) END"


def scan(
    columns: Sequence[Column],
    files: Iterable[File],
    *,
    locate: Callable[[str], str],
    keyed: bool,
    none: str | None = None,
) -> str:
    """A SELECT over all rows of some parts of a table, with `_lake_seq` (and `_lake_deleted` if keyed).

    Args:
        columns: The columns to read, with the types they are to have.
        files: The parts.
        locate: From the key of a part to what DuckDB opens.
        keyed: Whether tombstones are asked for.
        none: A constant condition: no rows are asked for, so that one file of each schema is enough.
    """
    groups = _groups(files)
    selects = [
        _scan_group([locate(path) for path in paths], have, columns, keyed=keyed, none=none)
        for have, paths in groups
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
    if not key:
        return f"SELECT {_picked(columns)} FROM ({rows}) AS _lake_v WHERE {where}"
    # Not a join with the newest load of each key: DuckDB 2.0 waits for ever for rows that are read once for
    # both sides, when a LIMIT stops early and more than one thread runs.
    keys = ", ".join(f"_lake_v.{quote(k)}" for k in key)
    return (
        f"SELECT {_picked(columns)} FROM ({rows}) AS _lake_v WHERE {where}\n"
        f"QUALIFY _lake_v.{SEQ} = max(_lake_v.{SEQ}) OVER (PARTITION BY {keys}) AND NOT coalesce(_lake_v.{DELETED}, false)"
    )


def newest_of(rows: str, key: Sequence[str]) -> tuple[str, str]:
    """What to select of some rows to get the newest load of each key, called `_lake_n`; and what joins it.

    Key columns are called k0, k1, … there, so that none has the name of the load's number; and are
    qualified, since in a macro a bare name that is its parameter's would mean the parameter.
    """
    picked = [f"{rows}.{quote(k)} AS k{at}" for at, k in enumerate(key)]
    same = [f"_lake_v.{quote(k)} IS NOT DISTINCT FROM _lake_n.k{at}" for at, k in enumerate(key)]
    return f"{', '.join(picked)}, max({rows}.{SEQ}) AS newest", " AND ".join(same)


def _picked(columns: Sequence[Column]) -> str:
    """A SELECT list; SQL has no table without columns, so one that has none yet shows a stand-in."""
    return (
        ", ".join(f"_lake_v.{quote(column.name)}" for column in columns)
        or "NULL::VARCHAR AS _lake_no_columns"
    )


def state_now(table: TableLog, columns: Sequence[Column], *, locate: Callable[[str], str]) -> str:
    """A SELECT of a table's rows at the end of its log."""
    era = table.eras[-1]
    files = table.files_since(era.first)
    rows = scan(columns, files, locate=locate, keyed=bool(era.key))
    # A part of many loads may hold rows from before the era.
    return state(rows, columns, era.key, f"{SEQ} >= {era.first}")


def state_at(
    table: TableLog, columns: Sequence[Column], *, locate: Callable[[str], str], reached: str, base: str
) -> str:
    """A SELECT of a table's rows at any position, for a view or macro.

    Args:
        table: The table's log.
        columns: The columns to return.
        locate: From the key of a part to what DuckDB opens.
        reached: SQL condition on `_lake_seq`: the load counts.
        base: SQL expression: the sequence number at which the state begins that holds there.
    """
    keys = table.keys
    several = len(table.eras) > 1
    branches = []
    for key in keys:
        files = table.files if len(keys) == 1 else _files_with_key(table, key)
        rows = scan(columns, files, locate=locate, keyed=bool(key))
        where = reached
        if several:
            where = f"({where}) AND {SEQ} >= {base}"
        if len(keys) > 1:
            where += f" AND {base} IN ({_firsts(table.eras, key)})"
        branches.append(f"({state(rows, columns, key, where)})")
    return "\nUNION ALL\n".join(branches)


def _files_with_key(table: TableLog, key: tuple[str, ...]) -> list[File]:
    """The parts that may hold rows of an era with this key."""
    ends = [*(era.first - 1 for era in table.eras[1:]), table.last_seq]
    spans = [(era.first, end) for era, end in zip(table.eras, ends, strict=True) if era.key == key]
    return [f for f in table.files if any(f.first <= last and f.last >= first for first, last in spans)]


def _firsts(eras: Sequence[Era], key: tuple[str, ...]) -> str:
    return ", ".join(str(era.first) for era in eras if era.key == key)


def _groups(files: Iterable[File]) -> list[tuple[tuple[Column, ...], list[str]]]:
    """Parts by the columns that lie in them."""
    groups: dict[str, tuple[tuple[Column, ...], list[str]]] = {}
    names: dict[int, str] = {}
    for file in files:
        name = names.get(id(file.columns)) or names.setdefault(id(file.columns), repr(file.columns))
        groups.setdefault(name, (file.columns, []))[1].append(file.path)
    return list(groups.values())


def _scan_group(
    files: Sequence[str],
    have: Sequence[Column],
    want: Sequence[Column],
    *,
    keyed: bool,
    none: str | None = None,
) -> str:
    types = {column.name: column.type for column in have}
    items = [SEQ] + ([DELETED] if keyed else [])
    for column in want:
        # Qualified: in a macro, a bare name that is its parameter's would mean the parameter.
        name = f"_lake_p.{quote(column.name)}"
        expression = widened(name, types.get(column.name, "null"), column.type)
        items.append(expression if expression == name else f"{expression} AS {quote(column.name)}")
    listed = f"[{', '.join(literal(file) for file in files)}]"
    if none is not None and len(files) > 1:
        listed = f"CASE WHEN {none} THEN [{literal(files[0])}] ELSE {listed} END"
    return f"SELECT {', '.join(items)} FROM read_parquet({listed}, hive_partitioning = false) AS _lake_p"


def _nothing(columns: Sequence[Column], *, keyed: bool) -> str:
    items = [f"NULL::BIGINT AS {SEQ}"] + ([f"NULL::BOOLEAN AS {DELETED}"] if keyed else [])
    items += [f"NULL::{duck_type(column.type)} AS {quote(column.name)}" for column in columns]
    return f"SELECT {', '.join(items)} WHERE false"
