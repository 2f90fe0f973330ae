"""The rows that tests of models found, kept to be looked at.

They lie under `_derived/models/failures/<model>/`, one Parquet file a test, and may be deleted at any time. Any query
reads them: `from '<lake>/_derived/models/failures/daily/1-not_null_price.parquet'`.
"""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.core import layout
from lakehouse.errors import FormatError
from lakehouse.models.audit import Outcome
from lakehouse.models.model import SOURCE
from lakehouse.store.base import Absent

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.lake import Lake

_PREFIX = f"{layout.DERIVED}/{SOURCE}/failures/"
_ABOUT = b"lakehouse"  # of the Parquet file's metadata: what the rows are
_LONGEST = 60  # characters of a test's name in the name of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The failing rows of a test, as they are kept.

    Attributes:
        model: Name of the model.
        test: The test as people read it.
        severity: `error` or `warn`.
        failures: How many rows it found.
        rows: How many of them are kept.
        statement: The SELECT that found them.
        place: The file and line that say so.
        key: Key of the file in the lake's store.
        path: What a query opens: `from '<path>'`.
    """

    model: str
    test: str
    severity: str
    failures: int
    rows: int
    statement: str
    place: str
    key: str
    path: str


def keep_failures(lake: "Lake", model_name: str, outcomes: Sequence[Outcome]) -> list[str]:
    """Keep the failing rows of a model's tests; those that earlier runs left go.

    Args:
        lake: The lake.
        model_name: Name of the model.
        outcomes: What all of its tests found, in order.

    Returns:
        Keys of the files; none if all tests passed.
    """
    kept = []
    for number, outcome in enumerate(outcomes, start=1):
        if outcome.sample is not None:
            key = f"{_folder(model_name)}{number}-{_safe(outcome.test)}.parquet"
            lake.store.put(key, _file(outcome))
            kept.append(key)
    _forget(lake, model_name, kept)
    return kept


def forget_failures(lake: "Lake", model_name: str) -> None:
    """Delete the rows that tests of a model found."""
    _forget(lake, model_name, [])


def kept_failures(lake: "Lake", model_name: str | None = None) -> list[Kept]:
    """What is kept of failing tests, of one model or of all, by model and number of the test.

    Raises:
        FormatError: A file is damaged.
    """
    prefix = _PREFIX if model_name is None else _folder(model_name)
    found = [entry.key for entry in lake.store.list(prefix) if entry.key.endswith(".parquet")]
    return [_kept(lake, key) for key in sorted(found, key=_order)]


def read_failures(lake: "Lake", kept: Kept) -> "pa.Table":
    """The kept rows.

    Raises:
        FormatError: The file is damaged, or gone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(io.BytesIO(lake.store.get(kept.key))).replace_schema_metadata(None)
    except (pa.ArrowException, OSError, Absent) as error:
        raise _damaged(kept.key, error) from None


def _forget(lake: "Lake", model_name: str, stay: Sequence[str]) -> None:
    gone = [entry.key for entry in lake.store.list(_folder(model_name)) if entry.key not in stay]
    for key in gone:
        lake.store.delete(key)


def _folder(model_name: str) -> str:
    return f"{_PREFIX}{layout.safe_id(model_name)}/"


def _safe(test: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", test)[:_LONGEST].strip("_")


def _order(key: str) -> tuple[str, int]:
    folder, _, name = key.rpartition("/")
    number = name.partition("-")[0]
    return folder, int(number) if number.isdecimal() else 0


def _file(outcome: Outcome) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert outcome.sample is not None  # noqa: S101 - only those of failures are kept
    about = {
        "model": outcome.model, "test": outcome.test, "severity": outcome.severity, "failures": outcome.failures,
        "statement": outcome.statement, "place": outcome.place,
    }  # fmt: skip
    names = [field.name for field in outcome.sample.schema]
    rows = pa.table([_storable(column) for column in outcome.sample.columns], names=names)
    sink = io.BytesIO()
    pq.write_table(
        rows.replace_schema_metadata({_ABOUT: json.dumps(about).encode()}), sink, compression="zstd"
    )
    return sink.getvalue()


def _storable(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """A column as it is; of a type that Parquet does not have, such as an interval, as text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.write_table(pa.table({"c": column.slice(0, 1)}), io.BytesIO())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.chunked_array([[None if v is None else str(v) for v in column.to_pylist()]], pa.string())
    return column


def _kept(lake: "Lake", key: str) -> Kept:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with lake.store.open(key) as file:
            found = pq.read_metadata(file)
        about: dict[str, Any] = json.loads(found.metadata[_ABOUT])
        return Kept(**about, rows=found.num_rows, key=key, path=lake.locate(key))
    except (pa.ArrowException, OSError, Absent, ValueError, KeyError, TypeError) as error:
        raise _damaged(key, error) from None


def _damaged(key: str, error: Exception) -> FormatError:
    msg = f"{key}: is not what a test left ({error or type(error).__name__})"
    return FormatError(msg, path=key, hint="It is derived: delete it, then run the tests again.")
