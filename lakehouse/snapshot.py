"""The state of one table at one moment as Parquet files: what engines other than DuckDB read.

Parts of the lake are taken as they lie wherever all their rows belong to the state, in the types that
are asked for; other rows are written anew. The log alone says which is which: the type in which a
column lies in a part is a function of it. What is written is named by what it was made from, so that
it is made once.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.core.types import Column, Type, merge_columns
from lakehouse.errors import ContentionError, MissingPartError, UserError
from lakehouse.store import Absent

if TYPE_CHECKING:
    import duckdb

    from lakehouse.core.commit import TableChange
    from lakehouse.core.log import Era, File, Log, TableLog
    from lakehouse.lake import Lake

_WRITER = 1  # of what is written: a file that another version wrote has another name
_MODELS = "models"
_MOST_PARTS, _MOST_ROWS = 256, 500_000  # that are written anew as one file, unless one part has more


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of a table as files: their rows together, in the declared columns alone, are the state.

    A file may lack columns, which are null in all its rows then, and have others that are not declared.

    Attributes:
        table: `source.table`.
        seq: Position in the source's log.
        digest: Digest of the commit there.
        columns: The columns, in order, in the types of the table at that position. A `null` column
            is in no file.
        files: What an engine opens: absolute paths, or URLs. Files of the lake where they hold the state as they
            lie; others were written for this snapshot.
        written: Those of `files` that were written for it, now or before.
        rows: Rows in all of them.
    """

    table: str
    seq: int
    digest: str
    columns: tuple[Column, ...]
    files: tuple[str, ...]
    written: tuple[str, ...]
    rows: int


def snapshot(
    lake: "Lake",
    table: str,
    *,
    as_of: datetime | str | int | None = None,
    seq: int | None = None,
    folder: str | Path,
    whole_history: bool = False,
    kept_as: Callable[[Type], Type] | None = None,
) -> Snapshot:
    """The state of a table at a moment, as Parquet files.

    Args:
        lake: The lake.
        table: `source.table`; a model that is a view is written wholly.
        as_of: An instant, a tag, or the number of a load of the source; now by default.
        seq: The position itself, in the place of `as_of`.
        folder: Where files that have to be written go: a folder or a URL. Those that are there are used again.
        whole_history: Declare the columns of the whole history in the types that they have there, as the
            lake's views show them, and not those up to the position.
        kept_as: The type in which a column is wanted, where it is another; it has to hold all values.

    Raises:
        NotFoundError: There is no such table or load, or the state was let go by a retention.
        UserError: A view is asked for at a position: it has none.
        QueryError: `as_of` is no moment, or a view cannot be read.
        IntegrityError: A part is missing or damaged.
    """
    wanted = kept_as or _same

    def found() -> Snapshot:
        if _is_view(lake, table):
            return _of_view(lake, table, as_of, seq, folder, wanted)
        return _of_table(lake, table, as_of, seq, folder, wanted, whole_history=whole_history)

    try:
        return found()
    except (ContentionError, MissingPartError):  # what it reads may have been packed and pruned
        return found()


def _is_view(lake: "Lake", table: str) -> bool:
    """Whether it is a model of which nothing is stored."""
    source, _, name = table.partition(".")
    if source != _MODELS or source not in lake.sources():
        return False
    log = lake.log(source)
    return name not in log.tables and name in (log.pipeline or {}).get("models", {})


def _same(kind: Type) -> Type:
    return kind


def _of_table(
    lake: "Lake",
    name: str,
    as_of: datetime | str | int | None,
    seq: int | None,
    folder: str | Path,
    kept_as: Callable[[Type], Type],
    *,
    whole_history: bool,
) -> Snapshot:
    from lakehouse.tags import position

    log, table = lake.table(name)
    at = position(lake, log.source, as_of) if seq is None else log.resolve(seq)
    log = lake.log(log.source)
    found = _State(lake, log, log.tables[table], at, folder, kept_as, whole_history=whole_history)
    files = list(found.files())
    return Snapshot(
        table=name,
        seq=at,
        digest=log.commits[at - 1].digest if at else "",
        columns=found.wanted,
        files=tuple(place for place, _, _ in files),
        written=tuple(place for place, _, written in files if written),
        rows=sum(rows for _, rows, _ in files),
    )


class _State:
    """A table at a position, on its way to files."""

    def __init__(
        self,
        lake: "Lake",
        log: "Log",
        table: "TableLog",
        seq: int,
        folder: str | Path,
        kept_as: Callable[[Type], Type],
        *,
        whole_history: bool,
    ) -> None:
        self.lake = lake
        self.log = log
        self.table = table
        self.seq = seq
        self.era: Era | None = table.era_at(seq)
        self.parts: Sequence[File] = _reached(lake, table, self.era, seq) if self.era else ()
        self.columns = table.columns if whole_history else self._columns()
        self.wanted = tuple(
            Column(name=c.name, type=kept_as(c.type), source_name=c.source_name) for c in self.columns
        )
        from lakehouse.duck.writing import Folder

        self.folder = Folder(folder)

    def _columns(self) -> tuple[Column, ...]:
        """The columns up to the position; in a wider type where a part that holds later rows too has one."""
        columns = self.table.columns_at(self.seq)
        known = {column.name for column in columns}
        for part in self.parts:
            columns = merge_columns(columns, [c for c in part.columns if c.name in known])
        return columns

    def files(self) -> Iterator[tuple[str, int, bool]]:
        """Place and rows of each file, and whether it was written."""
        if self.era is None:
            return
        if not self._adds_up():
            yield self._whole()
            return
        anew: dict[str, list[File]] = {}
        for part in self.parts:
            if self._inside(part) and self._fits(part):
                yield f"{self.lake.url}/{part.path}", part.rows, False
            else:
                anew.setdefault(repr(part.columns), []).append(part)
        for parts in anew.values():
            for chunk in _chunks(parts):
                yield self._rewritten(chunk)

    def _inside(self, part: "File") -> bool:
        """Whether all its rows are of loads that count."""
        assert self.era is not None  # noqa: S101 - of a table that is there
        return self.era.first <= part.first and part.last <= self.seq

    def _fits(self, part: "File") -> bool:
        """Whether its columns lie in it as they are wanted, or not at all, and no others do."""
        from lakehouse.duck.sql import duck_type

        have = {column.name: column.type for column in part.columns if column.type != "null"}
        if not have.keys() <= {column.name for column in self.columns}:
            return False
        for column, wanted in zip(self.columns, self.wanted, strict=True):
            kinds = [have.get(column.name, "null"), column.type, wanted.type]
            if kinds[0] != "null" and len(set(map(duck_type, kinds))) > 1:
                return False
        return True

    def _adds_up(self) -> bool:
        """Whether the state is all rows that were stored: no key, or no row that was changed or went."""
        assert self.era is not None  # noqa: S101 - of a table that is there
        if not self.era.key:
            return True
        inside = [part for part in self.parts if self._inside(part)]
        stored = sum(part.rows for part in inside)
        rows = int(self._last_change()[1].counts.get("rows", 0))
        if stored > rows or len(inside) == len(self.parts):
            return stored == rows
        loads = self.table.changes_at(self.seq)
        return sum(part.rows for _, change in loads for part in change.parts) == rows

    def _last_change(self) -> "tuple[int, TableChange]":
        """The newest load up to the position that touched the table."""
        return next(change for change in reversed(self.table.changes) if change[0] <= self.seq)

    def _rewritten(self, parts: Sequence["File"]) -> tuple[str, int, bool]:
        """The rows of some parts of one schema, written anew."""
        from lakehouse.duck.sql import SEQ, scan, state

        assert self.era is not None  # noqa: S101 - of a table that is there
        within = all(self._inside(part) for part in parts)
        where = "true" if within else f"{SEQ} BETWEEN {self.era.first} AND {self.seq}"
        rows = scan(self.columns, parts, locate=self.lake.locate, keyed=False)
        return self._written(
            [[part.sha256 for part in parts], where], self._converted(state(rows, self.columns, (), where))
        )

    def _whole(self) -> tuple[str, int, bool]:
        """The newest row of each key, written anew."""
        return self._written(self.log.commits[self._last_change()[0] - 1].digest, self._newest())

    def _newest(self) -> str:
        from lakehouse.duck.asof import Moment
        from lakehouse.duck.compacted import is_whole
        from lakehouse.duck.sql import SEQ, scan, state
        from lakehouse.duck.views import with_compaction

        assert self.era is not None  # noqa: S101 - of a table that is there
        whole = {column.name: column.type for column in self.table.columns}
        if all(whole[column.name] == column.type for column in self.columns):  # the types it has it in
            compacted = with_compaction(self.lake, self.log, self.table.name)
            if compacted is not None and is_whole(self.lake.store, compacted.compaction):
                moment = Moment(str(self.seq), self.log.source, self.log.head)
                return self._converted(compacted.state(self.columns, moment))
        rows = scan(self.columns, self.parts, locate=self.lake.locate, keyed=True)
        where = f"{SEQ} BETWEEN {self.era.first} AND {self.seq}"
        return self._converted(state(rows, self.columns, self.era.key, where))

    def _converted(self, sql: str) -> str:
        """A SELECT of the state in the types that are wanted."""
        from lakehouse.duck.names import quote
        from lakehouse.duck.sql import widened

        items = [
            f"{widened(f'_lake_s.{quote(have.name)}', _typed(have.type), _typed(want.type))} AS {quote(want.name)}"
            for have, want in zip(self.columns, self.wanted, strict=True)
        ]
        return f"SELECT {', '.join(items)} FROM ({sql}) AS _lake_s" if items else sql

    def _written(self, made_from: Any, sql: str) -> tuple[str, int, bool]:
        columns = [column.to_json() for column in self.wanted]
        # Not the lake's id: a digest of the log stands for the lake, too.
        identity = json.dumps([_WRITER, self.log.source, self.table.name, columns, made_from])
        name = f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.parquet"
        rows = self.folder.rows_in(name)
        if rows is None:
            rows = self._write(name, sql)
        return self.folder.locate(name), rows, True

    def _write(self, name: str, sql: str) -> int:
        import duckdb

        from lakehouse.duck.trouble import unreadable
        from lakehouse.duck.writing import copy, writer
        from lakehouse.parquet.check import first_damage

        try:
            with writer(self.lake, self.folder) as (connection, temporary):
                rows = copy(connection, sql, temporary)
                self.folder.keep(name, temporary)
                return rows
        except duckdb.Error as error:
            named = [(f"the log of {self.log.source}", part) for part in self.parts]
            what = f"{self.log.source}.{self.table.name}"
            raise first_damage(self.lake.store, named) or unreadable(error, what) from error


def _chunks(parts: "Sequence[File]") -> "Iterator[Sequence[File]]":
    """Parts that become one file: all but the last stay the same when more come, and are written once."""
    chunk: list[File] = []
    for part in parts:
        chunk.append(part)
        if len(chunk) == _MOST_PARTS or sum(one.rows for one in chunk) >= _MOST_ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _typed(kind: Type) -> Type:
    """A type as it lies in a state: a column of nulls has some type, so that it can be written."""
    return "string" if kind == "null" else kind


def _reached(lake: "Lake", table: "TableLog", era: "Era", seq: int) -> "Sequence[File]":
    """The parts with rows of the loads from the beginning of an era to a position.

    The loads that a part was put together from may be more than those that it has rows of: where that
    matters, the part itself says.
    """
    from dataclasses import replace

    found = []
    for part in table.files_since(era.first):
        if part.first > seq:
            continue
        first, last = part.first, part.last
        if first < era.first or last > seq:
            first, last = _loads_in(lake, part)
        if last >= era.first and first <= seq:
            found.append(replace(part, first=first, last=last))
    return found


def _loads_in(lake: "Lake", part: "File") -> tuple[int, int]:
    """The first and the last load that a part has rows of, by its own statistics."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lakehouse.duck.sql import SEQ

    try:
        with lake.store.open(part.path) as file:
            about = pq.ParquetFile(file).metadata
            leaves = [about.schema.column(n).path for n in range(about.num_columns)]
            at = leaves.index(SEQ)
            groups = [about.row_group(n).column(at).statistics for n in range(about.num_row_groups)]
    except Absent:
        msg = f"{part.path}: is missing"
        raise MissingPartError(
            msg, path=part.path, hint="Restore this file from a mirror or backup."
        ) from None
    except (pa.ArrowInvalid, ValueError):  # reading its rows will tell what is wrong with it
        return part.first, part.last
    if not all(group and group.has_min_max for group in groups) or not groups:
        return part.first, part.last
    return min(group.min for group in groups), max(group.max for group in groups)


# Views.


def _of_view(
    lake: "Lake",
    name: str,
    as_of: datetime | str | int | None,
    seq: int | None,
    folder: str | Path,
    kept_as: Callable[[Type], Type],
) -> Snapshot:
    """What a view shows at a moment, written to a file that is named by its bytes."""
    from lakehouse.duck.names import quote
    from lakehouse.duck.sql import duck_type, widened
    from lakehouse.duck.writing import Folder, copy, writer
    from lakehouse.tags import resolve

    if seq is not None:
        raise UserError(f"{name} is a view: it has no position of its own", hint="Give an instant or a tag.")
    source, _, view = name.partition(".")
    at = resolve(lake, as_of).get(source, 0)
    session = lake.session(as_of=as_of)
    place = Folder(folder)
    with session.explained():
        relation = session.connection.sql(f"SELECT * FROM {quote(source)}.{quote(view)}")
        columns = _columns_of(relation)
        wanted = tuple(Column(name=c.name, type=kept_as(c.type)) for c in columns)
        items = [
            f"{widened(f'{quote(have.name)}::{duck_type(have.type)}', _typed(have.type), _typed(want.type))} AS {quote(want.name)}"
            for have, want in zip(columns, wanted, strict=True)
        ]
        with writer(lake, place) as (connection, temporary):
            connection.register("_lake_view", relation.to_arrow_reader())
            rows = copy(connection, f"SELECT {', '.join(items)} FROM _lake_view ORDER BY ALL", temporary)
            with temporary.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            place.keep(f"{digest[:24]}.parquet", temporary)
    written = (place.locate(f"{digest[:24]}.parquet"),)
    log = lake.log(source)
    return Snapshot(
        table=name,
        seq=at,
        digest=log.commits[at - 1].digest if at else "",
        columns=wanted,
        files=written,
        written=written,
        rows=rows,
    )


def _columns_of(relation: "duckdb.DuckDBPyRelation") -> tuple[Column, ...]:
    """The columns of a query's result, in the format's types."""
    import pyarrow as pa

    from lakehouse.parquet.arrow import normalize

    empty = relation.limit(0).to_arrow_table()
    kinds = normalize(pa.table(empty))[1]
    named = zip(relation.columns, relation.types, strict=True)
    return tuple(Column(name=n, type="json" if str(t) == "JSON" else kinds[n]) for n, t in named)
