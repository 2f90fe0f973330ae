"""`lakehouse export iceberg`: a table as an Iceberg table (format version 2).

The layout is that of Iceberg's own file-system tables: `metadata/v<N>.metadata.json`, each created only if
absent, and `version-hint.text` with the newest N; so no catalog has to run. Manifests are pyiceberg's. Parts
have no field ids, so the table maps names to them. A column keeps its id for as long as the table lives,
also where it comes to have another type: each snapshot is read by the schema of its own time, and no file
is in two snapshots in which a column that lies in it has different types.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import ContentionError, SchemaError, SetupError, UserError
from lakehouse.export.files import (
    DataFile,
    Exported,
    cut,
    data_files,
    place_of,
    state_of,
)
from lakehouse.export.iceberg_schema import FieldIds
from lakehouse.export.iceberg_schema import Path as FieldPath
from lakehouse.provenance import version
from lakehouse.store import Absent, Exists, LocalStore, open_store

if TYPE_CHECKING:
    import pyiceberg.manifest
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata

    from lakehouse.lake import Lake
    from lakehouse.snapshot import Snapshot

_LAKE, _TABLE = "lakehouse.lake", "lakehouse.table"  # properties: what the table is an export of
_ATTEMPTS = 10
_LONGEST = 16  # characters of text in bounds, as other writers cut it
_HINT = "metadata/version-hint.text"
_NAME_MAPPING = "schema.name-mapping.default"
_SETTINGS = {
    "commit.retry.num-retries": "0",
    "commit.manifest-merge.enabled": "true",
    # Parts have encodings that the vectorized reader of Iceberg for Spark refuses; the other one reads them.
    "read.parquet.vectorization.enabled": "false",
}

# Types that Iceberg has not, and those that hold their values. It has `time`, but Spark refuses a table with
# it; and Polars refuses text that Parquet calls JSON.
_KEPT_AS = {
    "json": "string", "int8": "int32", "int16": "int32", "uint8": "int32", "uint16": "int32",
    "uint32": "int64", "uint64": "decimal(20,0)",
    "time": "string", "timestamp_ns": "string", "timestamptz_ns": "string",
}  # fmt: skip


def export_iceberg(
    lake: "Lake",
    table: str,
    *,
    as_of: datetime | str | int | None = None,
    out: str | Path | None = None,
) -> Exported:
    """Make a table, as of a moment, readable as an Iceberg table; a new snapshot of it where there is one.

    Args:
        lake: The lake.
        table: `source.table`.
        as_of: An instant, a tag, or the number of a load; now by default.
        out: The folder below which `<source>/<table>` goes; by default `exports/iceberg` beside the lake.

    Raises:
        SetupError: pyiceberg is not installed.
        NotFoundError: There is no such table or load.
        UserError: The table was not there yet, or the place holds something else, or is no local folder.
        IntegrityError: A part is missing or damaged.
        ContentionError: Other exports to the same place won every attempt.
    """
    _check_installed()
    place = place_of(lake, table, "iceberg", out)
    store = open_store(place)
    if not isinstance(store, LocalStore):
        raise UserError(
            f"{place}: Iceberg tables are written to local folders only",
            hint="Name a folder with -o; the files that it names may be in a bucket.",
        )
    _Target.read(store).check(lake.id, table)
    found, as_text = state_of(lake, table, as_of, f"{place}/data", _KEPT_AS)
    for _ in range(_ATTEMPTS):
        target = _Target.read(store)
        target.check(lake.id, table)
        there = target.files()
        names = {target.name_of(path): path for path in there}
        files = data_files(lake, found, f"{place}/data", names)
        added = [file for file in files if file.name not in names]
        removed = names.keys() - {file.name for file in files}
        described = target.described(lake.id, found)
        changed = bool(added or removed) or described.has_news or target.metadata is None
        try:
            if changed:
                target.commit(described, found, added, [there[names[name]] for name in sorted(removed)])
        except Exists:
            continue
        target.hint()
        return Exported(
            snapshot=found,
            location=place,
            version=target.version,
            changed=changed,
            added=len(added),
            removed=len(removed),
            as_text=as_text,
            elsewhere=sum(not file.is_inside for file in files),
        )
    raise ContentionError(f"{place}: other exports of it won every attempt", hint="Run it again.")


def _check_installed() -> None:
    try:
        import pyiceberg.table  # noqa: F401 - whether it is there
    except ImportError as error:
        raise SetupError(
            f"an Iceberg export needs the package pyiceberg ({error})",
            hint="Install it: uv add 'lakehouse[iceberg]'",
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Described:
    """The metadata that a state wants.

    Attributes:
        metadata: What the table has, with the state's schema as the current one.
        ids: Field ids by path.
        has_news: Whether the schema is another than before.
    """

    metadata: "TableMetadata"
    ids: Mapping[FieldPath, int]
    has_news: bool


@dataclass(slots=True, kw_only=True)
class _Target:
    """An Iceberg table in a folder.

    Attributes:
        store: The folder.
        version: Number of its newest metadata file; 0 without any.
        metadata: What that says; None without any.
    """

    store: LocalStore
    version: int = 0
    metadata: "TableMetadata | None" = None

    @classmethod
    def read(cls, store: LocalStore) -> "_Target":
        """The table in a folder. The newest file counts, also where the hint is behind or is not there."""
        from pyiceberg.table.metadata import TableMetadataUtil

        target = cls(store=store, version=_hinted(store))
        last = store.get(_key(target.version)) if target.version else b""
        while True:
            try:
                last = store.get(_key(target.version + 1))
            except Absent:
                break
            target.version += 1
        if target.version:
            try:
                target.metadata = TableMetadataUtil.parse_obj(json.loads(last))
            except ValueError as error:
                raise _foreign(store.url, f"{_key(target.version)} cannot be read ({error})") from error
        return target

    @property
    def location(self) -> str:
        """The table's folder as a URI."""
        return f"file://{self.store.url}"

    def check(self, lake: str, table: str) -> None:
        """Refuse a table that is not an earlier export of the same table to the same folder.

        Raises:
            UserError: It is another one.
        """
        if self.metadata is None:
            return
        said = self.metadata.properties
        if (said.get(_LAKE), said.get(_TABLE)) != (lake, table):
            raise _foreign(self.store.url, f"it is not an export of {table} of this lake")
        if self.metadata.location != self.location:  # Iceberg names everything by absolute paths
            raise _foreign(self.store.url, f"it was made at {self.metadata.location} and moved")

    def table(self, metadata: "TableMetadata") -> "Table":
        """The table with some metadata, as pyiceberg takes it. Commits come back to this folder."""
        from pyiceberg.io import load_file_io
        from pyiceberg.table import Table

        return Table(
            identifier=tuple(metadata.properties[_TABLE].split(".")),
            metadata=metadata,
            metadata_location=f"{self.location}/{_key(self.version)}",
            io=load_file_io(location=self.location),
            catalog=_catalog(self),
        )

    def files(self) -> "dict[str, pyiceberg.manifest.DataFile]":
        """The data files that the table has, by path."""
        snapshot = self.metadata.current_snapshot() if self.metadata else None
        if snapshot is None or self.metadata is None:
            return {}
        io = self.table(self.metadata).io
        entries = (
            e for m in snapshot.manifests(io) for e in m.fetch_manifest_entry(io, discard_deleted=True)
        )
        return {entry.data_file.file_path: entry.data_file for entry in entries}

    def path_of(self, name: str) -> str:
        """A data file as manifests name it."""
        if "/" not in name:
            return f"{self.location}/data/{name}"
        return name if "://" in name else f"file://{name}"

    def name_of(self, path: str) -> str:
        """The data file that manifests mean by a path."""
        return path.removeprefix(f"{self.location}/data/").removeprefix("file://")

    def described(self, lake: str, found: "Snapshot") -> _Described:
        """The table's metadata with the schema of a state."""
        from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
        from pyiceberg.schema import Schema
        from pyiceberg.table.metadata import new_table_metadata
        from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
        from pyiceberg.table.update import (
            AddSchemaUpdate,
            SetCurrentSchemaUpdate,
            SetPropertiesUpdate,
            update_table_metadata,
        )

        before = self.metadata
        ids = FieldIds(last=before.last_column_id if before else 0)
        for schema in before.schemas if before else ():
            ids.know(schema.as_struct(), ())
        fields = [ids.field(column.name, column.type, ()) for column in found.columns]
        number = max(s.schema_id for s in before.schemas) + 1 if before else 0
        try:
            wanted = Schema(*fields, schema_id=number)
        except ValueError as error:  # a column `a.b` beside a struct `a` with a field `b`
            raise SchemaError(
                f"{found.table}: Iceberg cannot tell its columns apart ({error})",
                hint="Export it as Delta, or a view of it with other names.",
            ) from None
        if before is None:
            made = new_table_metadata(
                wanted, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, self.location,
                {_LAKE: lake, _TABLE: found.table, **_SETTINGS},
            )  # fmt: skip
            ids = FieldIds(last=made.last_column_id)  # it gave others
            ids.know(made.schema().as_struct(), ())
            news: list[Any] = []
        else:
            made = before
            there = next((s.schema_id for s in before.schemas if s.as_struct() == wanted.as_struct()), None)
            if there == before.current_schema_id:
                return _Described(metadata=before, ids=ids.known, has_news=False)
            news = [] if there is not None else [AddSchemaUpdate(schema=wanted)]
            current = {"schema-id": number if there is None else there}
            news.append(SetCurrentSchemaUpdate.model_validate(current))
        news.append(SetPropertiesUpdate(updates={_NAME_MAPPING: ids.mapping()}))
        return _Described(metadata=update_table_metadata(made, tuple(news)), ids=ids.known, has_news=True)

    def commit(
        self,
        described: _Described,
        found: "Snapshot",
        added: list[DataFile],
        removed: "list[pyiceberg.manifest.DataFile]",
    ) -> None:
        """Write a snapshot that has some data files more and others no longer.

        Raises:
            Exists: Another export was first.
        """
        table = self.table(described.metadata)
        about = {
            "lakehouse.seq": str(found.seq),
            "lakehouse.digest": found.digest,
            "engine-name": "lakehouse",
            "engine-version": version(),
        }
        with table.transaction() as transaction:
            update = transaction.update_snapshot(snapshot_properties=about)
            with update.overwrite() if removed else update.merge_append() as writer:
                for gone in removed:
                    writer.delete_data_file(gone)
                for file in added:
                    writer.append_data_file(self._entry(file, table.schema(), described.ids))

    def _entry(
        self, file: DataFile, schema: "Schema", ids: Mapping[FieldPath, int]
    ) -> "pyiceberg.manifest.DataFile":
        from pyiceberg.conversions import to_bytes
        from pyiceberg.manifest import DataFile as Entry
        from pyiceberg.manifest import DataFileContent, FileFormat
        from pyiceberg.typedef import Record
        from pyiceberg.types import PrimitiveType

        bounds = {ids[name,]: found for name, found in file.bounds.items()}
        least: dict[int, bytes] = {}
        most: dict[int, bytes] = {}
        for number, found in bounds.items():
            kind = schema.find_type(number)
            for ends, value, up in ((least, found.least, False), (most, found.most, True)):
                bound = cut(value, _LONGEST, up=up) if isinstance(value, str) else value
                if bound is not None and isinstance(kind, PrimitiveType):
                    ends[number] = to_bytes(kind, bound)
        entry = Entry.from_args(
            content=DataFileContent.DATA,
            file_path=self.path_of(file.name),
            file_format=FileFormat.PARQUET,
            partition=Record(),
            record_count=file.rows,
            file_size_in_bytes=file.size_bytes,
            value_counts=dict.fromkeys(bounds, file.rows),
            null_value_counts={number: found.nulls for number, found in bounds.items()},
            lower_bounds=least,
            upper_bounds=most,
        )
        entry.spec_id = 0
        return entry

    def put(self, metadata: "TableMetadata") -> str:
        """Write the next metadata file, after what it names is safe on the disk; where it is.

        Raises:
            Exists: Another export was first.
        """
        snapshot = metadata.current_snapshot()
        if snapshot is not None:
            io = self.table(metadata).io
            mine = [m for m in snapshot.manifests(io) if m.added_snapshot_id == snapshot.snapshot_id]
            for path in (snapshot.manifest_list, *(m.manifest_path for m in mine)):
                with Path(path.removeprefix("file://")).open("rb") as file:
                    os.fsync(file.fileno())
        self.store.create(_key(self.version + 1), metadata.model_dump_json().encode())
        self.version += 1
        return f"{self.location}/{_key(self.version)}"

    def hint(self) -> None:
        """Say which metadata file is the newest; readers look there first."""
        if _hinted(self.store) < self.version:
            self.store.put(_HINT, str(self.version).encode())


def _key(number: int) -> str:
    return f"metadata/v{number}.metadata.json"


def _hinted(store: LocalStore) -> int:
    """The number of the newest metadata file, as the hint has it; 0 where it says none that is there."""
    try:
        number = int(store.get(_HINT))
        store.get(_key(number))
    except (Absent, ValueError):
        return 0
    return number


def _foreign(place: str, why: str) -> UserError:
    return UserError(
        f"{place}: holds an Iceberg table that cannot be exported to: {why}",
        hint="Delete that folder (the lake is not touched by it), or name another one with -o.",
    )


def _catalog(target: _Target) -> Any:
    """What pyiceberg hands its commits to."""
    from pyiceberg.catalog.noop import NoopCatalog
    from pyiceberg.table import CommitTableResponse
    from pyiceberg.table.update import update_table_metadata

    class Folder(NoopCatalog):
        """A catalog of one table: its folder."""

        def commit_table(self, table: Any, requirements: Any, updates: Any) -> Any:
            # What is required is that nobody was first: that is what creating the file proves.
            del requirements
            before = f"{target.location}/{_key(target.version)}" if target.version else None
            metadata = update_table_metadata(table.metadata, updates, metadata_location=before)
            where = target.put(metadata)
            return CommitTableResponse.model_validate({"metadata": metadata, "metadata-location": where})

    return Folder("lakehouse")
