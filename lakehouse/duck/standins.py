"""Empty files in the place of parts: a view is made over them, so that none has to be fetched for it.

DuckDB reads the end of a file to make a view of it. What it finds there, names and types of columns, the
log says too.
"""

from collections.abc import Mapping

from lakehouse.core import layout
from lakehouse.core.log import Log
from lakehouse.core.types import Column, Type
from lakehouse.duck.compacted import Compactions
from lakehouse.duck.fetching import table_of
from lakehouse.duck.sql import DELETED, SEQ
from lakehouse.duck.versions import SYSTEM

_OWN = (Column(name=SEQ, type="int64"), Column(name=DELETED, type="bool"))
_TYPES: dict[str, Type] = {
    "BIGINT": "int64",
    "BOOLEAN": "bool",
    "VARCHAR": "string",
    "VARCHAR[]": {"list": "string"},
}
_SYSTEM = tuple(Column(name=name, type=_TYPES[kind]) for name, kind in SYSTEM)


class StandIns:
    """What stands in for the parts of some logs, and for their compactions.

    Args:
        logs: The logs.
        compactions: The compactions.
    """

    def __init__(self, logs: Mapping[str, Log], compactions: Compactions) -> None:
        self._compactions = compactions
        self._logs = logs
        self._columns: dict[str, dict[str, tuple[Column, ...]]] = {}
        self._made: dict[str, bytes] = {}  # by columns

    def __call__(self, key: str) -> bytes:
        """An empty Parquet file with the columns of a part. Raises FileNotFoundError if no log has it."""
        name = table_of(key)
        if name not in self._columns:
            self._columns[name] = self._of_table(name)
        if key not in self._columns[name]:
            raise FileNotFoundError(key)
        columns = self._columns[name][key]
        said = repr(columns)
        if said not in self._made:
            self._made[said] = _empty(columns)
        return self._made[said]

    def _of_table(self, name: str) -> dict[str, tuple[Column, ...]]:
        if name.startswith(f"{layout.DERIVED}/"):
            _, source, _, table = name.split("/")
            found = self._compactions.of(self._logs[source], table)
            if found is None:
                return {}
            data = [Column(name=f"c{at}", type=column.type) for at, column in enumerate(found.columns)]
            return dict.fromkeys(found.paths, (*_SYSTEM, *data))
        source, _, table = name.partition("/")
        about = self._logs[source].tables[table]
        return {file.path: (*_OWN, *file.columns) for file in about.files}


def _empty(columns: tuple[Column, ...]) -> bytes:
    import pyarrow as pa

    from lakehouse.parquet.arrow import arrow_type
    from lakehouse.parquet.part import write_part

    schema = pa.schema([pa.field(column.name, arrow_type(column.type)) for column in columns])
    return write_part(schema.empty_table()).data
