"""The data files of an exported table: the lake's parts under a second name, and what their footers say of them.

An exported table has a folder of its own, and its metadata names files in there alone. A part of a local
lake is there as a hard link: the same file, not a copy. So a reader needs no path that leads out of the
table, which many refuse; and what engines do to a table of theirs (vacuum, expire) never takes a file from
the lake, nor `lakehouse prune` one from them. Where there can be no link, the metadata names the part where it lies.
"""

import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lakehouse.core.types import Column, Type
from lakehouse.errors import DamagedPartError, MissingPartError, SchemaError, UserError
from lakehouse.snapshot import Snapshot, snapshot
from lakehouse.store import LocalStore, Store, open_store

if TYPE_CHECKING:
    from lakehouse.lake import Lake

_SURROGATES = range(0xD800, 0xE000)  # no characters

Value = bool | int | float | str | bytes | date | datetime | time | Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the footer of a file says of one column.

    Attributes:
        nulls: Rows in which it is null.
        least: Not above any value; None where nothing is known.
        most: Not below any value; None where nothing is known, and for floats, whose NaN is above all.
    """

    nulls: int
    least: Value | None = None
    most: Value | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A data file of an exported table.

    Attributes:
        name: Its name in the table's folder, or its absolute path or URL elsewhere.
        rows: Rows in it.
        size_bytes: Its size.
        bounds: By name of a column that is no list or struct.
    """

    name: str
    rows: int
    size_bytes: int
    bounds: Mapping[str, Bounds] = field(default_factory=dict)

    @property
    def is_inside(self) -> bool:
        """Whether it lies in the table's folder."""
        return "/" not in self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export did.

    Attributes:
        snapshot: The state that the table in the other format has now.
        location: The folder or URL of that table.
        version: Its newest version: of a Delta table its number, of an Iceberg table that of its metadata file.
        changed: Whether that version is new.
        added: Data files that came.
        removed: Data files that went.
        as_text: Columns with types that the format lacks, which are text there.
        elsewhere: Data files that could not be linked, and are named where they lie in the lake.
    """

    snapshot: Snapshot
    location: str
    version: int
    changed: bool
    added: int
    removed: int
    as_text: tuple[str, ...]
    elsewhere: int

    @property
    def written(self) -> int:
        """Data files that are no parts of the lake."""
        return len(self.snapshot.written)


def place_of(lake: "Lake", table: str, kind: str, out: str | Path | None) -> str:
    """Where the exported table goes: `exports/<kind>/<source>/<table>` beside the lake, or below another folder.

    Raises:
        UserError: The lake is no local folder, and no place was given.
    """
    if out is None:
        if not isinstance(lake.store, LocalStore):
            raise UserError(
                f"{lake.url}: is no local folder, so an export needs a place",
                hint="Name one with -o, such as -o exports, or a URL beside the lake.",
            )
        out = lake.store.root.parent / "exports" / kind
    store = open_store(out)
    return f"{store.url}/{table.replace('.', '/')}"


def state_of(
    lake: "Lake", table: str, as_of: datetime | str | int | None, folder: str, names: Mapping[str, str]
) -> tuple[Snapshot, tuple[str, ...]]:
    """The state to export, and the names of its columns with a type, at any depth, that text stands for.

    Args:
        lake: The lake.
        table: `source.table`.
        as_of: The moment.
        folder: Where data files go that have to be written.
        names: What stands for the types that the format lacks.

    Raises:
        UserError: The table was not there yet.
        SchemaError: It has no columns.
    """
    kinds: list[Type] = []

    def kept_as(kind: Type) -> Type:
        kinds.append(kind)
        return mapped(kind, names)

    found = snapshot(lake, table, as_of=as_of, folder=folder, kept_as=kept_as)
    if not found.columns and not found.files:
        raise UserError(f"{table}: was not there yet at load {found.seq}", hint="See: lakehouse log")
    if not found.columns:
        raise SchemaError(
            f"{table}: has no columns, which no other format can hold", hint="Export it after its next load."
        )
    mine = kinds[-len(found.columns) :]  # it may have been looked at twice
    texts = (c.name for c, kind in zip(found.columns, mine, strict=True) if _is_text(kind, names))
    return found, tuple(texts)


def _is_text(kind: Type, names: Mapping[str, str]) -> bool:
    if isinstance(kind, str):
        return names.get(kind) == "string"
    return any(
        _is_text(inner, names) for inner in ([kind["list"]] if "list" in kind else kind["struct"].values())
    )


def mapped(kind: Type, names: Mapping[str, str]) -> Type:
    """A type with the scalar types in it replaced, at any depth."""
    if isinstance(kind, str):
        return names.get(kind, kind)
    if "list" in kind:
        return {"list": mapped(kind["list"], names)}
    return {"struct": {name: mapped(inner, names) for name, inner in kind["struct"].items()}}


def cut(text: str, longest: int, *, up: bool) -> str | None:
    """A text that is not longer, and not above a text; or not below it. None where there is none."""
    if len(text) <= longest:
        return text
    if not up:
        return text[:longest]
    for end in range(longest, 0, -1):
        following = ord(text[end - 1]) + 1
        if following == _SURROGATES.start:
            following = _SURROGATES.stop
        if following <= sys.maxunicode:
            return text[: end - 1] + chr(following)
    return None


def data_files(lake: "Lake", found: Snapshot, folder: str, known: Iterable[str]) -> list[DataFile]:
    """The data files of a state, in its table's folder where they can be.

    Args:
        lake: The lake.
        found: The state.
        folder: Where the data files of the table are.
        known: Names of those that the table has already, which are not read again: they come without
            rows and bounds.

    Raises:
        MissingPartError, DamagedPartError: A file cannot be read.
    """
    there, store, linked = set(known), open_store(folder), False
    files = []
    for place in found.files:
        name = place.rsplit("/", 1)[-1]
        if place not in found.written:
            mine = False
            if isinstance(lake.store, LocalStore) and isinstance(store, LocalStore):
                part = lake.store.path(
                    place.removeprefix(f"{lake.url}/")
                )  # which is no link that leads elsewhere
                mine = _link(part, store.root / name)
            linked |= mine
            name = name if mine else place
        if name in there:
            files.append(DataFile(name=name, rows=0, size_bytes=0))
            continue
        with _opened(lake, store, place, written=place in found.written) as file:
            about = read_footer(file, found.columns, name, named=place)
        if about.rows:
            files.append(about)
    if linked and isinstance(store, LocalStore):
        _sync(store.root)
    return files


def _link(part: Path, target: Path) -> bool:
    """Give a part a second name; False where that cannot be done."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(part, target)
    except FileExistsError:
        if os.path.samefile(part, target):
            return True
        # Left by a copy of the project, say: the name says which bytes it has, the lake's are those.
        os.unlink(target)
        return _link(part, target)
    except FileNotFoundError:
        raise MissingPartError(
            f"{part}: is missing", path=str(part), hint="Run `lakehouse verify` to see what else is."
        ) from None
    except OSError:  # another disk, or one without links
        return False
    return True


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _opened(lake: "Lake", store: Store, place: str, *, written: bool) -> BinaryIO:
    if written:
        return store.open(place.rsplit("/", 1)[-1])
    return lake.store.open(place.removeprefix(f"{lake.url}/"))


def read_footer(file: BinaryIO, columns: Sequence[Column], name: str, *, named: str) -> DataFile:
    """What the footer of a Parquet file says.

    Args:
        file: The file.
        columns: The columns that are declared of it, in the types that they have in it.
        name: How the table's metadata names it.
        named: How an error names it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = pq.ParquetFile(file).metadata
    except pa.ArrowInvalid as error:
        raise DamagedPartError(
            f"{named}: is no Parquet file ({error})", path=named, hint="Run: lakehouse verify"
        ) from error
    leaves = [about.schema.column(n) for n in range(about.num_columns)]
    # A field of a struct may have the same path as a column with a dot in its name.
    flat = {
        x.path: n for n, x in enumerate(leaves) if x.max_definition_level <= 1 and not x.max_repetition_level
    }
    groups = [about.row_group(n) for n in range(about.num_row_groups)]
    bounds = {}
    for column in columns:
        if not isinstance(column.type, str):
            continue
        if column.name in flat:
            found = _bounds([group.column(flat[column.name]).statistics for group in groups], column.type)
        else:
            found = Bounds(nulls=about.num_rows)
        if found is not None:
            bounds[column.name] = found
    size_bytes = file.seek(0, os.SEEK_END)
    return DataFile(name=name, rows=about.num_rows, size_bytes=size_bytes, bounds=bounds)


def _bounds(statistics: Sequence[Any], kind: str) -> Bounds | None:
    """The bounds of a column in all row groups together; None where not even the nulls are known."""
    if not all(s is not None and s.has_null_count for s in statistics):
        return None
    nulls = sum(s.null_count for s in statistics)
    filled = [s for s in statistics if s.num_values]
    if not filled or kind == "binary" or not all(s.has_min_max for s in filled):
        return Bounds(nulls=nulls)
    try:
        least, most = min(_value(s.min) for s in filled), max(_value(s.max) for s in filled)
    except (ValueError, OverflowError):  # a date that Python has not, or text that was cut off
        return Bounds(nulls=nulls)
    if kind in {"float32", "float64"}:  # Parquet leaves NaN out of account; engines hold it for the greatest
        return Bounds(nulls=nulls, least=None if math.isnan(least) else least)
    return Bounds(nulls=nulls, least=least, most=most)


def _value(found: Any) -> Any:
    return found.decode() if isinstance(found, bytes) else found  # JSON comes as bytes
