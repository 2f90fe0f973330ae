"""The places where dlt 1.31 is hooked, because it has no interface for what the lake needs there.

Three things: rows that a contract discards are recorded (`ingest.discards`), the Parquet files
between the steps are written without what nobody reads, and nested values stay nested unless a
source says otherwise. Every hook is a subclass that does nothing but call dlt when the destination
is another one. Normalize workers get the hooks by unpickling `select_format`, which imports this.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import Any

from ingest.defaults import set_dlt_defaults

set_dlt_defaults()

import dlt  # noqa: E402 - it reads the environment at import
import dlt.extract.extract  # noqa: E402
import dlt.extract.extractors  # noqa: E402
import dlt.normalize.worker  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from dlt.common.configuration.container import Container  # noqa: E402
from dlt.common.configuration.exceptions import ContextDefaultCannotBeCreated  # noqa: E402
from dlt.common.data_writers.writers import ParquetDataWriter  # noqa: E402
from dlt.common.destination import DestinationCapabilitiesContext  # noqa: E402
from dlt.common.json import custom_pua_decode_nested  # noqa: E402
from dlt.common.libs.pyarrow import get_normalized_arrow_fields_mapping  # noqa: E402
from dlt.common.normalizers.json.relational import DataItemNormalizer  # noqa: E402
from dlt.common.schema import Schema  # noqa: E402
from dlt.common.schema.typing import TTableSchema  # noqa: E402
from dlt.common.schema.utils import get_columns_names_with_prop  # noqa: E402
from dlt.common.storages.load_package import (  # noqa: E402
    LoadPackageStateInjectableContext,
    destination_state,
)
from dlt.common.typing import TLoaderFileFormat  # noqa: E402
from dlt.extract.extractors import ArrowExtractor, Extractor, ObjectExtractor  # noqa: E402
from dlt.extract.validation import PydanticValidator  # noqa: E402
from dlt.normalize.items_normalizers import JsonLItemsNormalizer  # noqa: E402

from ingest.discards import DiscardFile  # noqa: E402
from ingest.links import link_columns  # noqa: E402

NATIVE_NESTING = 0  # levels of nested values that become child tables, where the source does not say
_OBSERVED_AT: ContextVar[datetime | None] = ContextVar("observed_at", default=None)


def select_format(
    _preferred: TLoaderFileFormat,
    _supported: Sequence[TLoaderFileFormat],
    /,
    *,
    table_schema: TTableSchema,  # noqa: ARG001 - dlt's signature
) -> tuple[TLoaderFileFormat, Sequence[TLoaderFileFormat]]:
    """Dlt's choice of a file format: Parquet. Also the mark of the lakehouse destination."""
    return "parquet", ["parquet"]


@contextmanager
def observed(moment: datetime | None) -> Iterator[None]:
    """Load packages that are extracted within say that their data was observed at that moment."""
    token = _OBSERVED_AT.set(moment)
    try:
        yield
    finally:
        _OBSERVED_AT.reset(token)


def _is_ours(caps: DestinationCapabilitiesContext | None) -> bool:
    return caps is not None and caps.loader_file_format_selector is select_format


def _extract_file() -> DiscardFile | None:
    """Where rows dropped while extracting go; None outside of a package on its way to a lake."""
    try:
        caps = Container()[DestinationCapabilitiesContext]
        package = Container()[LoadPackageStateInjectableContext]
    except ContextDefaultCannotBeCreated:
        return None
    if not _is_ours(caps):
        return None
    working_dir = Path(package.storage.storage.storage_path).parent.parent
    return DiscardFile(working_dir, package.load_id, "extract", append=True)


def _keys(schema: Schema, table: str) -> list[str]:
    known = schema.tables.get(table)
    if known is None:
        return []
    names = [get_columns_names_with_prop(known, prop, True) for prop in ("primary_key", "merge_key")]
    return list(dict.fromkeys(names[0] + names[1]))


class _RecordingExtractor(Extractor):
    """Marks the package at its start, and records the items of tables that a contract refuses."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._file = _extract_file()
        if self._file is None:
            return
        moment = _OBSERVED_AT.get()
        if moment is not None:
            destination_state()["observed_at"] = moment.isoformat()
        if self.schema.data_item_normalizer.__class__ is DataItemNormalizer:
            config = DataItemNormalizer.get_normalizer_config(self.schema)
            if config.get("max_nesting") is None:
                DataItemNormalizer.update_normalizer_config(self.schema, {"max_nesting": NATIVE_NESTING})

    def _write_to_static_table(self, resource: Any, table_name: str, items: Any, meta: Any) -> None:
        super()._write_to_static_table(resource, table_name, items, meta)
        self._record_if_refused(table_name, items)

    def _write_to_dynamic_table(self, resource: Any, items: Any, meta: Any) -> None:
        for item in items if isinstance(items, list) else [items]:
            super()._write_to_dynamic_table(resource, [item], meta)
            self._record_if_refused(self._get_dynamic_table_name(resource, item), item)

    def _record_if_refused(self, table: str, items: Any) -> None:
        if self._file is not None and table in self._filtered_tables:
            self._file.add(table, "schema contract: new table", list(_rows(items)))


class RecordingObjectExtractor(_RecordingExtractor, ObjectExtractor):
    """dlt's extractor of dicts."""


class RecordingArrowExtractor(_RecordingExtractor, ArrowExtractor):
    """dlt's extractor of Arrow tables and data frames; it also filters columns and rows itself."""

    def _apply_contract_filters(self, item: Any, resource: Any, static_table_name: str | None) -> Any:
        table = static_table_name or self._get_dynamic_table_name(resource, item)
        filters = self._filtered_columns.get(table)
        if filters and self._file is not None:
            self._record_filtered(self._file, table, item, dict(filters))
        return super()._apply_contract_filters(item, resource, static_table_name)

    def _record_filtered(self, file: DiscardFile, table: str, item: Any, filters: dict[str, str]) -> None:
        came_as = {
            new: old for old, new in get_normalized_arrow_fields_mapping(item.schema, self.naming).items()
        }
        names = [name for name in filters if name in came_as]
        rows = pa.Table.from_batches([item]) if isinstance(item, pa.RecordBatch) else item
        for name in (n for n in names if filters[n] == "discard_row"):
            present = pc.is_valid(rows.column(came_as[name]))
            file.add(
                table, f"schema contract: discard_row for column {name}", rows.filter(present).to_pylist()
            )
            rows = rows.filter(pc.invert(present))
        keys = [came_as[key] for key in _keys(self.schema, table) if key in came_as]
        for name in (n for n in names if filters[n] == "discard_value"):
            kept = rows.select(list(dict.fromkeys([*keys, came_as[name]]))) if keys else rows
            kept = kept.filter(pc.is_valid(kept.column(came_as[name])))
            file.add(table, f"schema contract: discard_value of column {name}", kept.to_pylist())


class RecordingNormalizer(JsonLItemsNormalizer):
    """dlt's normalizer of dicts. Runs in worker processes too; a file of items is done by one of them."""

    def __call__(self, extracted_items_file: str, root_table_name: str) -> Any:
        """Normalize one file of extracted items."""
        self._file: DiscardFile | None = None
        self._dropped: list[tuple[str, str, Any]] = []
        if _is_ours(self.config.destination_capabilities):
            working_dir = Path(self.load_storage.config.load_volume_path).parent
            self._file = DiscardFile(working_dir, self.load_id, Path(extracted_items_file).name)
        return super().__call__(extracted_items_file, root_table_name)

    def _normalize_chunk(self, root_table_name: str, items: Any, *args: Any, **kwargs: Any) -> Any:
        if self._file is None:
            return super()._normalize_chunk(root_table_name, items, *args, **kwargs)
        normalize = self.schema.normalize_data_item
        self._root = root_table_name
        # the generator is told which rows to descend into: that is how it learns what was dropped
        vars(self.schema)["normalize_data_item"] = lambda *call: self._watched(normalize(*call), call[0])
        try:
            return super()._normalize_chunk(root_table_name, items, *args, **kwargs)
        finally:
            del vars(self.schema)["normalize_data_item"]
            for table, reason, row in self._dropped:
                self._file.add(table, reason, list(_rows(custom_pua_decode_nested(row))))
            self._dropped.clear()

    def _watched(self, rows: Any, item: Any) -> Iterator[Any]:
        """The rows of an item; what a contract drops is kept, with the rows below it."""
        self._item = item
        names = link_columns(self.schema)
        below: dict[Any, str] = {}  # ids of dropped child rows, and why they were
        descend: bool | None = None
        try:
            while True:
                found = rows.send(descend)
                table, row = found[0][0], found[1]
                row_id, known = row.get(names.row), len(self._dropped)
                reason = below.get(row.get(names.parent))
                if reason is not None:
                    self._dropped.append((table, reason, dict(row)))
                else:
                    descend = yield found
                    if descend is False and table in self._filtered_tables:
                        self._dropped.append((table, "schema contract: new table", self._whole(table, row)))
                    if descend is False and table != self._root and len(self._dropped) > known:
                        reason = self._dropped[-1][1]
                if reason is not None:
                    below[row_id] = reason
                    descend = True
        except StopIteration:
            return

    def _filter_columns(self, filtered_columns: Any, row: Any) -> Any:
        if self._file is not None:
            by_table = self._filtered_tables_columns.items()
            table = next(name for name, filters in by_table if filters is filtered_columns)
            self._record_filtered(table, filtered_columns, row)
        return super()._filter_columns(filtered_columns, row)

    def _record_filtered(self, table: str, filters: dict[str, str], row: dict[str, Any]) -> None:
        for name in (n for n, mode in filters.items() if mode == "discard_row" and n in row):
            reason = f"schema contract: discard_row for column {name}"
            self._dropped.append((table, reason, self._whole(table, row)))
            return
        keys = {key: row[key] for key in _keys(self.schema, table) if key in row}
        for name in (n for n, mode in filters.items() if mode == "discard_value"):
            if row.get(name) is not None:
                kept = keys | {name: row[name]} if keys else self._whole(table, row)
                self._dropped.append((table, f"schema contract: discard_value of column {name}", kept))

    def _whole(self, table: str, row: Any) -> Any:
        """The item as it came, for a row of the root table; else the row of the child table."""
        return self._item if table == self._root else dict(row)


_validate = PydanticValidator.__call__


def _recording_validate(self: PydanticValidator[Any], item: Any, meta: Any = None) -> Any:
    """Dlt's validation of an item or a list of them by a pydantic model."""
    file = _extract_file()
    if file is None or not isinstance(item, (dict, list)) or item == []:
        return _validate(self, item, meta)
    if isinstance(item, dict):
        return _validate_one(self, file, item, meta)
    if "discard_row" in (self.column_mode, self.data_mode):
        # one by one, because dlt's answer for a list does not say which ones are missing
        kept = [valid for one in item if (valid := _validate_one(self, file, one, meta)) is not None]
        return kept or None
    kept = _validate(self, item, meta)
    for one, valid in zip(item, kept, strict=True):
        _record_extra(self, file, one, valid)
    return kept


def _validate_one(validator: PydanticValidator[Any], file: DiscardFile, item: Any, meta: Any) -> Any:
    valid = _validate(validator, item, meta)
    if valid is None:
        file.add(_table(validator), _why(validator, item), [item])
    else:
        _record_extra(validator, file, item, valid)
    return valid


def _table(validator: PydanticValidator[Any]) -> str:
    return dlt.current.source_schema().naming.normalize_tables_path(str(validator.table_name))


def _why(validator: PydanticValidator[Any], item: Any) -> str:
    try:
        validator.model.model_validate(item)
    except ValueError as error:  # pydantic's ValidationError is one
        first = error.errors()[0] if hasattr(error, "errors") else {"loc": (), "msg": str(error)}
        return f"pydantic: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return "pydantic: not valid"


def _record_extra(validator: PydanticValidator[Any], file: DiscardFile, item: Any, valid: Any) -> None:
    if validator.column_mode != "discard_value":
        return
    kept = valid if isinstance(valid, dict) else valid.model_dump(by_alias=True)
    for path in _lost(item, kept):
        file.add(_table(validator), f"pydantic: field {path} is not in the model", [item])


def _lost(item: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Paths of the fields that an item has and its validated form has not."""
    if isinstance(item, dict) and isinstance(kept, dict):
        for name, value in item.items():
            if name in kept:
                yield from _lost(value, kept[name], f"{path}{name}.")
            elif value is not None:
                yield f"{path}{name}"
    elif isinstance(item, list) and isinstance(kept, list):
        found = (lost for one, other in zip(item, kept, strict=False) for lost in _lost(one, other, path))
        yield from dict.fromkeys(found)


def _rows(items: Any) -> Iterator[dict[str, Any]]:
    """Items of any shape as dicts."""
    if isinstance(items, list):
        for item in items:
            yield from _rows(item)
    elif hasattr(items, "to_pylist"):
        yield from items.to_pylist()
    elif hasattr(items, "model_dump"):
        yield items.model_dump(by_alias=True)
    else:
        yield items if isinstance(items, dict) else {"value": items}


_create_writer = ParquetDataWriter._create_writer  # noqa: SLF001 - what these hooks are about


def _create_cheap_writer(self: ParquetDataWriter, schema: Any) -> Any:
    """Without compression, dictionaries and statistics: the file is read once and thrown away."""
    if not _is_ours(self._caps):
        return _create_writer(self, schema)
    return pq.ParquetWriter(
        self._f, schema, version="2.6", compression="none", use_dictionary=False, write_statistics=False
    )


def _install() -> None:
    places: list[tuple[Any, str, Any]] = [
        (dlt.extract.extract, "ObjectExtractor", RecordingObjectExtractor),
        (dlt.extract.extract, "ArrowExtractor", RecordingArrowExtractor),
        (dlt.extract.extractors, "ArrowExtractor", RecordingArrowExtractor),  # it compares classes
        (PydanticValidator, "__call__", _recording_validate),
        (dlt.normalize.worker, "JsonLItemsNormalizer", RecordingNormalizer),
        (ParquetDataWriter, "_create_writer", _create_cheap_writer),
    ]
    for owner, name, ours in places:
        if not hasattr(owner, name):  # pragma: no cover - a guard for the next dlt
            msg = f"dlt has no {name} in {owner.__name__}: ingest.hooks knows dlt 1.31 only"
            raise ImportError(msg)
        setattr(owner, name, ours)


_install()
