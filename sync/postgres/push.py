"""Push: the loads of a lake into Postgres. One source is one transaction, with its position in it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakehouse.core.layout import MODELS
from lakehouse.core.log import Log
from lakehouse.errors import (
    ContentionError,
    ForkError,
    LakehouseError,
    MissingPartError,
    NotFoundError,
)
from sync import hints
from sync.hints import Known
from sync.postgres import ledger
from sync.postgres.connecting import connect, ending_by_signals, fetch, is_alive, place
from sync.postgres.copying import drop_abandoned
from sync.postgres.ledger import Position
from sync.postgres.models import ViewWork
from sync.postgres.names import schema_identifier
from sync.postgres.progress import Teller
from sync.postgres.rights import check_roles
from sync.postgres.source import Settings, Todo, bring, plan
from sync.postgres.tables import Action
from sync.where import Where

if TYPE_CHECKING:
    from lakehouse.lake import Lake
    from sync.transfer import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePush:
    """What a push did to one table, or would do.

    Attributes:
        table: Its name.
        action: `new`, `rebuilt` (mirrored anew), `extended` (by the versions since), `altered` (only what stands over it),
            `dropped`, or `failed`: a model that cannot be read and was left as it was.
        inserted: Versions that came.
        closed: Versions that ended.
        error: Why it failed.
    """

    table: str
    action: Action
    inserted: int = 0
    closed: int = 0
    error: LakehouseError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePush:
    """What a push did for one source, or would do.

    Attributes:
        source: Its name.
        schema: Its schema in Postgres.
        relation: How the log stood to the mirror: `equal`, `ahead`: there is something to push; `behind`: the mirror has
            more.
        there: Where the mirror ended before.
        after: Where it ends now.
        here: The newest load of the log.
        tables: What was done, by table; those with nothing to do are left out.
        error: Why it could not be done; None if it was.
    """

    source: str
    schema: str
    relation: str
    there: Position
    after: Position
    here: int = 0
    tables: tuple[TablePush, ...] = ()
    error: LakehouseError | None = None

    @property
    def loads(self) -> int:
        """How many loads became visible."""
        return max(self.after.seq - self.there.seq, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PgReport:
    """What a push did: by source."""

    sources: tuple[SourcePush, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """How the mirror stands to the lake, for one source.

    Attributes:
        source: Its name.
        schema: Its schema in Postgres.
        relation: `equal`, `ahead`: there is something to push; `behind`: the mirror has more; `diverged`;
            `unknown` where the mirror cannot be read, which `error` tells.
        here: Where the log ends.
        there: Where the mirror ends; 0 where that is not known.
        synced_at: When it was last pushed, or found to have all by a push from here.
        verified_at: When what is there was last found to be as in the lake.
        error: What is wrong; None if nothing is.
    """

    source: str
    schema: str
    relation: str
    here: Position
    there: Position
    synced_at: datetime | None = None
    verified_at: datetime | None = None
    error: LakehouseError | None = None

    @property
    def loads(self) -> int:
        """Loads that one side lacks."""
        return abs(self.here.seq - self.there.seq)


def push(
    lake: "Lake",
    url: str,
    *,
    name: str,
    schema_prefix: str = "",
    sources: Sequence[str] | None = None,
    dry_run: bool = False,
    connections: int = 4,
    repair: bool = False,
    grant_to: Sequence[str] = (),
    raising: bool = True,
    progress: "Callable[[Progress], None] | None" = None,
) -> PgReport:
    """Bring a mirror in Postgres up to date. Readers see each source as it was or as it is, never in between.

    All sources are pushed, also if one cannot be, unless the connection is lost; the first error is raised at the end.

    Args:
        lake: The lake.
        url: `postgresql://user:password@host:5432/database`, with the options of libpq.
        name: What the mirror is called, under which it is remembered when it was as here.
        schema_prefix: What names of schemas begin with.
        sources: Which sources; all by default.
        dry_run: Only say what would be done.
        connections: How many connections fill a large table.
        repair: Mirror all tables anew, whatever is there.
        grant_to: Roles that may read what is mirrored.
        raising: Raise the first error at the end; else the report has them.
        progress: Told how far it is, now and then.

    Raises:
        ForkError: The mirror is of another history of a source.
        UserError: There is no such role; a schema is there that is not ours; or something that is not ours stands on what
            has to be replaced.
        SetupError: The server cannot be reached, or a right is missing.
        ContentionError: Somebody else is at the same tables.
        IntegrityError: The lake is damaged, or the rows there are not as they were left.
    """
    todo = chosen(lake, sources)
    settings = Settings(
        url=url,
        name=name,
        schema_prefix=schema_prefix,
        connections=connections,
        repair=repair,
        grant_to=tuple(grant_to),
    )
    done: list[SourcePush] = []
    with ending_by_signals(), connect(url) as connection:
        check_roles(connection, grant_to)
        if not dry_run:
            ledger.prepare(connection)
            _free_room(connection)
        teller = _teller(connection, lake, todo, schema_prefix, None if dry_run else progress)
        for source in todo:
            try:
                log = lake.log(source)
                if dry_run:
                    done.append(_planned(connection, lake, log, settings))
                else:
                    done.append(_pushed(connection, lake, log, settings, teller))
            except LakehouseError as error:
                done.append(_failed(source, settings, error))
                if not is_alive(connection):
                    done[-1] = _failed(source, settings, _ended(error, todo[len(done) :]))
                    break
    if not dry_run:
        _remember(lake, url, name, done)
    failed = [one.error for one in done if one.error is not None]
    if failed and raising:
        raise failed[0]
    return PgReport(sources=tuple(done))


def _remember(lake: "Lake", url: str, name: str, done: Sequence[SourcePush]) -> None:
    """Keep when each source was as here: the mirror itself says only when it last changed."""
    known = hints.load(lake.store, name, lake_id=lake.id, url=place(url))
    now = datetime.now(UTC)
    for one in done:
        if one.error is None and one.relation != "behind":
            where = Where(head=one.after.seq, digest=one.after.digest)
            before = known.sources.get(one.source, Known(where=where))
            known.sources[one.source] = replace(before, where=where, synced_at=now)
    hints.save(lake.store, name, known)


def status(
    lake: "Lake", url: str, *, name: str, schema_prefix: str = "", sources: Sequence[str] | None = None
) -> list[SourceStatus]:
    """How a mirror in Postgres stands to the lake, by source. Nothing is written.

    Args:
        lake: The lake.
        url: Where the server is.
        name: What the mirror is called, under which it is remembered when it was verified.
        schema_prefix: What names of schemas begin with.
        sources: Which sources; all by default.

    Raises:
        SetupError: The server cannot be reached.
    """
    found = []
    known = hints.load(lake.store, name, lake_id=lake.id, url=place(url)).sources
    with connect(url) as connection:
        there = ledger.is_there(connection)
        for source in chosen(lake, sources):
            log, schema = lake.log(source), schema_identifier(source, schema_prefix)
            here, position, error = Position(seq=log.head, digest=log.digest), None, None
            relation = "ahead"
            try:
                position = ledger.read(connection, schema, lake.id, log) if there else None
                relation = ledger.relation(connection, schema, log, position or Position())
            except LakehouseError as caught:
                if not is_alive(connection):
                    raise
                relation, error = "diverged" if isinstance(caught, ForkError) else "unknown", caught
            found.append(
                SourceStatus(
                    source=source, schema=schema, relation=relation, here=here, there=position or Position(),
                    synced_at=_synced(position, known.get(source)), error=error,
                    verified_at=known[source].verified_at if source in known else None,
                )
            )  # fmt: skip
    return found


def _synced(there: Position | None, known: Known | None) -> datetime | None:
    """When a source was last as here: what the mirror says, or a push that found nothing to do."""
    if there is None or there.synced_at is None:
        return None
    if known is None or known.synced_at is None or known.where.digest != there.digest:
        return there.synced_at
    return max(there.synced_at, known.synced_at)


def chosen(lake: "Lake", sources: Sequence[str] | None) -> list[str]:
    """The sources to be pushed; models last, as their views read the others."""
    there = lake.sources()
    for source in sources or ():
        if source not in there:
            raise NotFoundError(
                f"there is no source {source!r}", hint=f"Sources: {', '.join(there) or 'none yet'}."
            )
    return sorted(there if sources is None else dict.fromkeys(sources), key=lambda source: source == MODELS)


def _free_room(connection: Any) -> None:
    """Drop what first loads left that were killed, at once: the disk may be full of it."""
    with suppress(ContentionError):  # somebody reads one of them, such as a backup
        drop_abandoned(connection, ledger.ABOUT)
        ledger.commit(connection)
    ledger.rollback(connection)


def _planned(connection: Any, lake: "Lake", log: Log, settings: Settings) -> SourcePush:
    """What a push would do."""
    schema = schema_identifier(log.source, settings.schema_prefix)
    before = ledger.read(connection, schema, lake.id, log) if ledger.is_there(connection) else None
    there = before or Position()
    relation = ledger.relation(connection, schema, log, there)
    todo = Todo()
    if relation != "behind":
        todo = (
            plan(connection, lake, log, there, settings) if before else plan(None, lake, log, there, settings)
        )
    ledger.rollback(connection)
    after = there if relation == "behind" else Position(seq=log.head, digest=log.digest)
    return _told(log, schema, relation, there, after, todo)


def _teller(
    connection: Any,
    lake: "Lake",
    sources: Sequence[str],
    prefix: str,
    progress: "Callable[[Progress], None] | None",
) -> Teller | None:
    """Says how far the push is, to who asked for it."""
    if progress is None:
        return None
    rows = fetch(connection, "SELECT schema_name, seq FROM lakehouse.positions").to_pylist()
    ledger.rollback(connection)
    there = {row["schema_name"]: row["seq"] for row in rows}
    since = {source: there.get(schema_identifier(source, prefix), 0) for source in sources}
    return Teller(lake, progress, since)


def _pushed(connection: Any, lake: "Lake", log: Log, settings: Settings, teller: Teller | None) -> SourcePush:
    told = replace(settings, told=teller.told) if teller else settings
    try:
        if teller:
            teller.begin(log.source)
        relation, there, todo = bring(connection, lake, log, told)
    except (ContentionError, MissingPartError):  # what it reads may have been packed and pruned
        ledger.rollback(connection)
        log = lake.log(log.source)
        if teller:
            teller.begin(log.source)
        relation, there, todo = bring(connection, lake, log, told)
    after = there if relation == "behind" else Position(seq=log.head, digest=log.digest)
    schema = schema_identifier(log.source, settings.schema_prefix)
    return _told(log, schema, relation, there, after, todo)


def _told(log: Log, schema: str, relation: str, there: Position, after: Position, todo: Todo) -> SourcePush:
    tables = [
        TablePush(
            table=work.name, action=work.action, inserted=work.inserted, closed=work.closed,
            error=work.trouble if isinstance(work, ViewWork) else None,
        )
        for work in todo.needed
    ]  # fmt: skip
    tables += [TablePush(table=gone.table, action="dropped") for gone in todo.dropped]
    return SourcePush(
        source=log.source, schema=schema, relation=relation, there=there, after=after, here=log.head,
        tables=tuple(tables),
    )  # fmt: skip


def _ended(error: LakehouseError, rest: Sequence[str]) -> LakehouseError:
    """The error of a source after which no other can be pushed."""
    left = f" Nor was anything done for {', '.join(rest)}." if rest else ""
    error.hint += left
    return error


def _failed(source: str, settings: Settings, error: LakehouseError) -> SourcePush:
    schema = schema_identifier(source, settings.schema_prefix)
    relation = "diverged" if isinstance(error, ForkError) else "ahead"
    none = Position()
    return SourcePush(source=source, schema=schema, relation=relation, there=none, after=none, error=error)
