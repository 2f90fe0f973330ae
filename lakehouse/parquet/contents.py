"""What a finished part holds: the content digest of each load's rows, from the bytes of the file.

Whoever wrote the file may have meant harm: a few kilobytes can stand for terabytes. So what a row group
unpacks to is worked out from its metadata, and its dictionaries, before its values are.
"""

import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.errors import DamagedPartError
from lakehouse.parquet.digest import add, combine_by, row_hashes
from lakehouse.parquet.part import SEQ

MOST_BYTES = 1 << 31  # that a row group may unpack to; ours have 122,880 rows


def contents(data: bytes, *, path: str, named_by: str) -> dict[int, str]:
    """The content digest of the rows of each load in a part, by sequence number.

    Args:
        data: The bytes of the part.
        path: Its key, for messages.
        named_by: Which commit names it, for messages.

    Raises:
        DamagedPartError: It is no part of a lake.
    """
    found: dict[int, list[str]] = {}
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        for group in range(file.num_row_groups):
            for reason in _excess(data, file.metadata, group):
                raise _damaged(path, named_by, f"row group {group} {reason}")
            table = file.read_row_group(group)
            seqs = table[SEQ].to_numpy().astype(np.int64, copy=False)
            for seq, digest in combine_by(row_hashes(table.drop_columns([SEQ])), seqs).items():
                found.setdefault(seq, []).append(digest)
    except (pa.ArrowException, OSError, KeyError, MemoryError) as error:
        raise _damaged(path, named_by, str(error) or type(error).__name__) from error
    return {seq: add(digests) if len(digests) > 1 else digests[0] for seq, digests in found.items()}


def _damaged(path: str, named_by: str, reason: str) -> DamagedPartError:
    return DamagedPartError(
        f"{path}: is no part of a lake ({reason}); it is named by {named_by}",
        path=path,
        hint="It was committed so, by something else than lakehouse.",
    )


def _excess(data: bytes, metadata: pq.FileMetaData, group: int) -> Iterator[str]:
    """Why a row group is not unpacked, if it is not: it would take too much memory."""
    about = metadata.row_group(group)
    columns = [about.column(at) for at in range(about.num_columns)]
    if sum(max(c.total_uncompressed_size, 8 * c.num_values, 0) for c in columns) > MOST_BYTES:
        yield f"unpacks to more than {MOST_BYTES:,} bytes"
        return
    # Texts that repeat lie there once: how long they are together, only the dictionary tells.
    repeated = [
        c.path_in_schema
        for c in columns
        if c.physical_type == "BYTE_ARRAY"
        and c.has_dictionary_page
        and c.total_uncompressed_size * c.num_values > MOST_BYTES
    ]
    if repeated:
        file = pq.ParquetFile(io.BytesIO(data), read_dictionary=repeated, arrow_extensions_enabled=False)
        table = file.read_row_group(group, columns=repeated)
        if sum(_size(chunk) for column in table.columns for chunk in column.chunks) > MOST_BYTES:
            yield f"unpacks to more than {MOST_BYTES:,} bytes"


def _size(array: pa.Array) -> int:
    """Bytes of the texts that dictionaries stand for."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary).cast(pa.int64())
        return int(pc.sum(lengths.take(array.indices)).as_py() or 0)
    if pa.types.is_list(kind):
        return _size(array.flatten())
    if pa.types.is_struct(kind):
        return sum(_size(child) for child in array.flatten())
    return 0
