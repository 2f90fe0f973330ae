"""What a finished part holds: the content digest of each load's rows, from the bytes of the file."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.errors import DamagedPartError
from lakehouse.parquet.digest import combine_by, row_hashes
from lakehouse.parquet.part import SEQ


def contents(data: bytes, *, path: str, named_by: str) -> dict[int, str]:
    """The content digest of the rows of each load in a part, by sequence number.

    Args:
        data: The bytes of the part.
        path: Its key, for messages.
        named_by: Which commit names it, for messages.

    Raises:
        DamagedPartError: It is no part of a lake.
    """
    try:
        table = pq.read_table(io.BytesIO(data))
        seqs = table[SEQ].to_numpy()
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise DamagedPartError(
            f"{path}: is no part of a lake ({error}); it is named by {named_by}",
            path=path,
            hint="It was committed so, by something else than lakehouse.",
        ) from error
    return combine_by(row_hashes(table.drop_columns([SEQ])), seqs.astype(np.int64, copy=False))
