"""Writing parts: Arrow rows to Parquet bytes, with settings chosen by size and by look at the values."""

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.parquet.arrow import physical
from lakehouse.parquet.digest import digest_rows

SEQ = "_lake_seq"
DELETED = "_lake_deleted"
RESERVED = (SEQ, DELETED, "_lake_row", "_lake_present")

ROW_GROUP = 122_880
ROWS_PER_PART = 1_000_000
_SMALL = 200_000
_SAMPLE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PartBytes:
    """A finished part, not yet in a store. Its name is taken from its digest."""

    data: bytes
    sha256: str
    rows: int

    @property
    def name(self) -> str:
        """The file name without the ending: the same bytes always get the same name."""
        return self.sha256[:24]


def stamp(table: pa.Table, seq: int, *, deleted: pa.Table | None = None, keyed: bool = False) -> pa.Table:
    """A load's rows with the system columns in front.

    Args:
        table: The rows that the load adds.
        seq: Sequence number of the load.
        deleted: Keys of rows that disappeared; they become tombstones, with nulls in all other columns.
        keyed: Whether the table has a key, and so a column that tells tombstones.
    """
    total = table.num_rows + (deleted.num_rows if deleted is not None else 0)
    columns: dict[str, pa.Array | pa.ChunkedArray] = {SEQ: pa.repeat(pa.scalar(seq, pa.int64()), total)}
    if keyed:
        flags = [pa.repeat(pa.scalar(value=False), table.num_rows)]
        if deleted is not None:
            flags.append(pa.repeat(pa.scalar(value=True), deleted.num_rows))
        columns[DELETED] = pa.chunked_array(flags, type=pa.bool_())
    for name in table.column_names:
        column = table[name]
        if deleted is not None:
            tail = deleted[name] if name in deleted.column_names else pa.nulls(deleted.num_rows)
            column = pa.chunked_array([*column.chunks, *_chunks(tail.cast(column.type))], type=column.type)
        columns[name] = column
    if not table.column_names and deleted is not None:
        columns |= {name: deleted[name] for name in deleted.column_names}
    return pa.table(columns)


def write_parts(table: pa.Table) -> tuple[list[PartBytes], str]:
    """Parts that hold the rows of a stamped table, in order, and the digest of their content.

    The digest leaves `_lake_seq` out: it is about the rows, not about where they lie.
    """
    content = table.drop_columns([SEQ])
    if table.num_rows <= _SMALL:
        return [write_part(table)], digest_rows(content)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # all of it releases the interpreter lock
        digest = pool.submit(digest_rows, content)
        parts = list(pool.map(write_part, _pieces(table)))
        return parts, digest.result()


def write_sections(tables: Sequence[pa.Table]) -> PartBytes:
    """One derived Parquet file, in memory: each table in row groups of its own, fast to read."""
    sections = [physical(table) for table in tables]
    sink = io.BytesIO()
    largest = max(sections, key=lambda table: table.num_rows)
    with pq.ParquetWriter(
        sink,
        sections[0].schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=_repetitive(largest) or False,
        store_schema=False,
    ) as writer:
        for table in sections:
            if table.num_rows or table is sections[-1]:
                writer.write_table(table, row_group_size=ROW_GROUP)
    data = sink.getvalue()
    rows = sum(table.num_rows for table in sections)
    return PartBytes(data=data, sha256=hashlib.sha256(data).hexdigest(), rows=rows)


def write_part(table: pa.Table, *, level: int | None = None) -> PartBytes:
    """One Parquet file, in memory; `level` is that of zstd, by size if not given."""
    small = table.num_rows <= _SMALL
    table = physical(table)
    sink = io.BytesIO()
    repetitive = _repetitive(table)
    pq.write_table(
        table,
        sink,
        row_group_size=ROW_GROUP,
        compression="zstd",
        compression_level=level or (6 if small else 1),
        use_dictionary=repetitive or False,
        column_encoding=_encodings(table, repetitive) or None,
        version="2.6",
        store_schema=False,
        write_page_checksum=True,
    )
    data = sink.getvalue()
    return PartBytes(data=data, sha256=hashlib.sha256(data).hexdigest(), rows=table.num_rows)


def _pieces(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, ROWS_PER_PART):
        yield table.slice(start, ROWS_PER_PART)


def _encodings(table: pa.Table, repetitive: list[str]) -> dict[str, str]:
    """Differences instead of values for integers and instants that do not repeat: smaller, and faster."""
    return {
        field.name: "DELTA_BINARY_PACKED"
        for field in table.schema
        if field.name not in repetitive
        and (field.type in (pa.int32(), pa.int64()) or pa.types.is_timestamp(field.type))
    }


def _repetitive(table: pa.Table) -> list[str]:
    """The columns worth a dictionary: those whose values repeat in a sample of rows."""
    if table.num_rows < 2:  # noqa: PLR2004 - one row repeats nothing
        return []
    step = max(table.num_rows // _SAMPLE, 1)
    sample = table.take(pa.array(range(0, table.num_rows, step))) if step > 1 else table
    names = []
    for name in sample.column_names:
        kind = sample[name].type
        if pa.types.is_nested(kind):
            names += _leaves(name, kind)
            continue
        if isinstance(kind, pa.BaseExtensionType):
            column = pa.chunked_array(
                [chunk.storage for chunk in sample[name].chunks], type=kind.storage_type
            )
        else:
            column = sample[name]
        if len(column.unique()) * 2 <= len(column):
            names.append(name)
    return names


def _leaves(path: str, kind: pa.DataType) -> list[str]:
    if pa.types.is_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _leaves(f"{path}.{field.name}", field.type)]
    return [path]


def _chunks(column: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]
