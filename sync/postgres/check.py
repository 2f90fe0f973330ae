"""Verify a mirror in Postgres: what is there, load by load, against what the lake has.

The rows are read back and their content digests made anew, by the same code that makes those of parts. Nothing that
the mirror says of itself is trusted but how far it is. Nothing is written to it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lakehouse.core.log import Log
from lakehouse.errors import IntegrityError, LakehouseError
from sync import hints
from sync.postgres import functions, ledger
from sync.postgres.connecting import connect, ending_by_signals, execute, fetch
from sync.postgres.connecting import place as shown
from sync.postgres.copying import read_rows
from sync.postgres.functions import KEY_HASH, Place
from sync.postgres.history import History, batches, reader
from sync.postgres.known import Known
from sync.postgres.ledger import Position
from sync.postgres.models import ViewWork
from sync.postgres.names import literal, qualified, quote, schema_identifier
from sync.postgres.placing import columns_of
from sync.postgres.push import chosen
from sync.postgres.source import Settings, plan
from sync.postgres.tables import Work, data_columns, system_columns
from sync.postgres.types import EXACT
from sync.where import Where

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from lakehouse.lake import Lake

_COMPARED = ("valid_from", "valid_to", "from_load", "to_load", "change")
_MOST = 5  # loads that are named of a table with many that differ


@dataclass(slots=True, kw_only=True)
class SourceCheck:
    """What a verification found of one source.

    Attributes:
        source: Its name.
        schema: Its schema in Postgres.
        mirror: What the mirror is called.
        seq: The load up to which it is mirrored.
        loads: How many loads the lake has beyond it.
        tables: Tables that were compared.
        versions: Versions in them.
        skipped: Tables that are to be mirrored anew, so that what is there says nothing: sync first.
        errors: What differs, each naming table and loads.
    """

    source: str
    schema: str
    mirror: str
    seq: int = 0
    loads: int = 0
    tables: int = 0
    versions: int = 0
    skipped: list[str] = field(default_factory=list)
    errors: list[LakehouseError] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class PgCheck:
    """What a verification found.

    Attributes:
        sources: By source.
    """

    sources: list[SourceCheck] = field(default_factory=list)

    @property
    def errors(self) -> list[LakehouseError]:
        """What is wrong, or could not be verified; empty for a mirror that is whole, if maybe behind."""
        return [error for source in self.sources for error in source.errors]


def verify(
    lake: "Lake",
    url: str,
    *,
    name: str,
    schema_prefix: str = "",
    sources: Sequence[str] | None = None,
    deep: bool = False,
) -> PgCheck:
    """Compare a mirror in Postgres with the lake. Nothing is written but when it was verified, in the lake.

    Where something is wrong that is forgotten. Always: the loads, how many versions begin and end with each load, and
    the content digest of the rows of now. A mirror that is behind is compared with the lake as of its own position; one
    that is ahead is not verified, which is an error.

    Args:
        lake: The lake.
        url: Where the server is.
        name: What the mirror is called, under which it is remembered that it was verified.
        schema_prefix: What names of schemas begin with.
        sources: Which sources; all by default.
        deep: Compare the content of all versions, too, and with it the state as of every load.

    Raises:
        SetupError: The server cannot be reached.
        IntegrityError: A part of the lake is missing or damaged.
    """
    found = PgCheck()
    proven: dict[str, Where] = {}
    wrong: list[str] = []
    settings = Settings(url=url, name=name, schema_prefix=schema_prefix)
    with ending_by_signals(), connect(url) as connection:
        for source in chosen(lake, sources):
            ledger.rollback(connection)
            execute(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            log = lake.log(source)
            schema = schema_identifier(source, schema_prefix)
            check = SourceCheck(source=source, schema=schema, mirror=name)
            found.sources.append(check)
            try:
                there = (
                    ledger.read(connection, check.schema, lake.id, log)
                    if ledger.is_there(connection)
                    else None
                )
                if there is None:
                    check.loads = log.head
                    continue
                relation = ledger.relation(connection, check.schema, log, there)
            except LakehouseError as error:
                check.errors.append(error)
                continue
            if relation == "behind":
                check.seq = there.seq
                check.errors.append(_ahead(source, there.seq - log.head))
                continue
            _check(connection, lake, log, there, settings, check, deep=deep)
            if check.errors:
                wrong.append(source)
            elif not check.skipped:
                proven[source] = Where(head=there.seq, digest=there.digest)
    if proven or wrong:
        known = hints.load(lake.store, name, lake_id=lake.id, url=shown(url))
        known.sources |= {s: replace(known.sources[s], verified_at=None) for s in wrong if s in known.sources}
        hints.verified(lake.store, name, known, proven)
    return found


def _check(
    connection: Any,
    lake: "Lake",
    log: Log,
    there: Position,
    settings: Settings,
    check: SourceCheck,
    *,
    deep: bool,
) -> None:
    check.seq, check.loads = there.seq, log.head - there.seq
    _check_loads(connection, log, check)
    todo = plan(connection, lake, log, there, settings)
    for gone in todo.dropped:
        check.skipped.append(gone.table)
    with reader(lake, log) as duck:
        for work in todo.works:
            if work.before is None and not check.loads:
                check.errors.append(_wrong(check, work.name, "is not there"))
            elif work.before is None or work.action in ("new", "rebuilt"):
                check.skipped.append(work.name)
            elif isinstance(work, ViewWork):
                _check_view(connection, work, check)
            else:
                _check_table(connection, duck, work, work.before, check, deep=deep)


def _check_loads(connection: Any, log: Log, check: SourceCheck) -> None:
    """The loads that the mirror lists, with their digests."""
    asked = f"SELECT seq, digest, expired FROM lakehouse.loads WHERE schema_name = {literal(check.schema)} ORDER BY seq"
    rows = [tuple(row.values()) for row in fetch(connection, asked).to_pylist()]
    # What a retention let go since is the mirror's to learn.
    let_go = log.expired if log.expired_by <= check.seq else ()
    expired = {seq for first, last in let_go for seq in range(first, last + 1)}
    mine = [
        (commit.seq, commit.digest, commit.seq in expired if log.expired_by <= check.seq else row[2])
        for commit, row in zip(log.commits[: check.seq], [*rows, *[(0, "", False)] * check.seq], strict=False)
    ]
    wrong = sorted({one[0] for one in set(rows) ^ set(mine)})
    if wrong:
        check.errors.append(_wrong(check, "lakehouse.loads", f"differs at {_loads(wrong)}"))


def _check_table(
    connection: Any,
    duck: "duckdb.DuckDBPyConnection",
    work: Work,
    there: Known,
    check: SourceCheck,
    *,
    deep: bool,
) -> None:
    place, history = work.place, work.history
    known = {identifier for _, identifier, _ in there.columns}
    if not columns_of(connection, place.schema, place.base):
        check.errors.append(_wrong(check, work.name, f"has lost its table {place.base}"))
        return
    if not columns_of(connection, place.schema, place.view):
        check.errors.append(_wrong(check, work.name, f"has lost its view {place.view}"))
    if place.history and not columns_of(connection, place.schema, place.history):
        check.errors.append(_wrong(check, work.name, f"has lost its view {place.history}"))
    if work.made == there.made:  # else a sync makes them anew
        _check_functions(connection, place, check)
    mine, _ = _summed(_known_at(_mine(duck, history), check.seq), deep=deep)
    theirs, versions = _summed(_theirs(connection, place, known), deep=deep)
    check.tables += 1
    check.versions += versions
    loads = [load for load in sorted(mine.keys() | theirs.keys()) if mine.get(load) != theirs.get(load)]
    if loads:
        one = loads[0]
        have, want = theirs.get(one, (0, "")), mine.get(one, (0, ""))
        what = (
            "other versions" if have[0] == want[0] else f"{have[0]:,} versions where the lake has {want[0]:,}"
        )
        check.errors.append(
            _wrong(check, work.name, f"differs at {_loads(loads)}: {what} begin or end with load {one}")
        )


def _check_functions(connection: Any, place: Place, check: SourceCheck) -> None:
    """The functions over a table do what a sync made them do."""
    for name, body in functions.bodies(place).items():
        asked = (
            "SELECT p.prosrc FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace "
            f"WHERE n.nspname = {literal(place.schema)} AND p.proname = {literal(name)}"
        )
        found = fetch(connection, asked).column(0).to_pylist()
        if body not in found:
            what = f"has another function {name}" if found else f"has lost its function {name}"
            check.errors.append(_wrong(check, place.table, what))


Piece = tuple["pa.Table", "pa.Table"]  # the columns `SYSTEM` with the hash of the key, and those of the data


def _mine(duck: "duckdb.DuckDBPyConnection", history: History) -> Iterator[Piece]:
    """The versions in the lake."""
    for stretch in history.all():
        for system, data, hashes in batches(duck, stretch, history.columns, history.table.name):
            yield system.append_column(KEY_HASH, hashes), data


def _theirs(connection: Any, place: Place, known: set[str]) -> Iterator[Piece]:
    """The versions in the mirror, as the lake has them; in those columns that it has."""
    import pyarrow as pa

    names = [column.name for column in place.columns if column.identifier in known]
    data = [column for column in data_columns(place) if column.identifier in known]
    system = system_columns(place)
    listed = ", ".join(quote(column.identifier) for column in [*system, *data]) + f", {quote(EXACT)}"
    query = f"SELECT {listed} FROM {qualified(place.schema, place.base)}"
    for batch in read_rows(connection, query, [*system, *data]):
        rows = pa.Table.from_batches([batch])
        own = rows.select([column.name for column in system])
        yield own, rows.select([column.name for column in data]).rename_columns(names)


def _known_at(pieces: Iterable[Piece], seq: int) -> Iterator[Piece]:
    """Versions as they were known at a position: what ended later had not ended."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for system, data in pieces:
        seen = pc.less_equal(system["from_load"], seq)
        own, rows = system.filter(seen), data.filter(seen) if data.num_columns else data
        ended = pc.fill_null(pc.less_equal(own["to_load"], seq), False)
        for name in ("to_load", "valid_to"):
            at = own.column_names.index(name)
            kind = own[name].type
            own = own.set_column(at, name, pc.if_else(ended, own[name], pa.scalar(None, kind)))
        yield own, rows


def _summed(pieces: Iterable[Piece], *, deep: bool) -> tuple[dict[int, tuple[int, str]], int]:
    """Versions that begin or end with each load: how many, and a digest of what they say; and how many there are.

    Unless `deep`, only what still holds counts with its content, and all else with where it begins and ends.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from lakehouse.parquet.digest import add, combine_by, row_hashes

    found: dict[int, list[str]] = {}
    versions = 0
    for system, data in pieces:
        if not system.num_rows:
            continue
        versions += system.num_rows
        told = pa.table(
            [system[name].cast(pa.string()) if name == "change" else system[name] for name in _COMPARED],
            names=list(_COMPARED),
        )
        hashes = row_hashes(told)
        open_rows = np.asarray(pc.is_null(system["to_load"]))
        content = (
            row_hashes(data.append_column("\0key", system[KEY_HASH]))
            if data.num_columns
            else hashes * np.uint64(0)
        )
        hashes = hashes + np.where(open_rows | deep, content, np.uint64(0))
        for name in ("from_load", "to_load"):
            there = np.asarray(pc.is_valid(system[name]))
            loads = system[name].fill_null(0).to_numpy()[there].astype(np.int64)
            for load, digest in combine_by(hashes[there], loads).items():
                found.setdefault(load, []).append(digest)
    summed = {load: add(digests) for load, digests in found.items()}
    return {load: (int(digest.partition(":")[0]), digest) for load, digest in summed.items()}, versions


def _check_view(connection: Any, work: ViewWork, check: SourceCheck) -> None:
    """The rows of a model that is a view, if nothing behind it changed since."""
    import pyarrow as pa

    from lakehouse.parquet.digest import add, digest_rows

    if work.action != "same":
        check.skipped.append(work.name)
        return
    columns, rows = work.rows_of_now()
    names = [column.name for column in columns]
    place = work.placed(columns)
    if not columns_of(connection, place.schema, place.base):
        check.errors.append(_wrong(check, work.name, f"has lost its table {place.base}"))
        return
    listed = (
        ", ".join(quote(column.identifier) for column in columns) + ("," if columns else "") + quote(EXACT)
    )
    query = f"SELECT {listed} FROM {qualified(place.schema, place.base)}"
    theirs = [
        digest_rows(pa.Table.from_batches([batch]).rename_columns(names))
        for batch in read_rows(connection, query, data_columns(place))
    ]
    mine = [digest_rows(pa.Table.from_batches([batch]).rename_columns(names)) for batch in rows]
    check.tables += 1
    if add(mine) != add(theirs):
        what = f"{add(theirs).partition(':')[0]} rows, and the view gives {add(mine).partition(':')[0]}, or others"
        check.errors.append(_wrong(check, work.name, f"has {what}"))


def _ahead(source: str, loads: int) -> IntegrityError:
    return IntegrityError(
        f"{source}: the database has {loads:,} load{'' if loads == 1 else 's'} that the lake has not: it was not verified",
        hint="Get them from a mirror in a bucket (lakehouse sync pull), or verify where they were made.",
    )


def _wrong(check: SourceCheck, table: str, what: str) -> IntegrityError:
    return IntegrityError(
        f"{check.schema}.{table} in the mirror {what}",
        hint=f"Mirror it anew from the lake: lakehouse sync {check.mirror} --repair --source {check.source}",
    )


def _loads(loads: Sequence[int]) -> str:
    more = f" and {len(loads) - _MOST:,} more" if len(loads) > _MOST else ""
    return f"load{'s' if len(loads) > 1 else ''} {', '.join(map(str, loads[:_MOST]))}{more}"
