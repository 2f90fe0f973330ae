"""A push into Postgres that is cut, stalled or killed, or whose server crashes, at any moment: all or nothing, once.

Readers ask the server directly; only the push speaks through the proxy that fails.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import pytest
from cluster import Cluster
from proxy import Fault, Piece, TcpProxy
from sync_scenarios import COLUMNS, TABLES, Lakes, in_order, killed_when

from lakehouse import Lake
from lakehouse.errors import LakehouseError
from lakehouse.store import LocalStore
from sync.postgres import tables
from sync.postgres.push import push

PIECES = {"early": (480, 2), "nothing": (1000, 9)}  # that a push to the late lake sends; how far apart we go
COMMIT = 3  # which of a push's commits is tried in all ways
WAYS = [
    "killed, cut before",
    "killed, cut after",
    "cut before",
    "cut after",
    "truncate",
    "hang before",
    "crash",
]


class Warehouse:
    """An empty database, by way of a proxy and directly."""

    def __init__(self, server: Cluster, proxy: TcpProxy) -> None:
        self.server, self.proxy = server, proxy
        self.database = server.new_database()

    def sync(self, lake: Path, *, directly: bool = False) -> None:
        """Push a lake as a process does that begins."""
        url = self.server.dsn(self.database, port=None if directly else self.proxy.port)
        push(Lake.open(LocalStore(lake)), url, name="warehouse", connections=2)

    def fails(self, lake: Path) -> bool:
        """Push a lake to a server that fails; returns whether that was an error, as people are told."""
        try:
            self.sync(lake)
        except LakehouseError as error:
            return bool(error.hint) and self.server.password not in f"{error} {error.hint}"
        return False

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
        """Asks in one transaction, which sees one state."""
        with adbc.connect(self.server.dsn(self.database)) as connection, connection.cursor() as cursor:

            def ask(sql: str) -> list[tuple[Any, ...]]:
                cursor.execute(sql)
                return cursor.fetchall()

            cursor.execute("set transaction isolation level repeatable read, read only")
            yield ask

    def check(self, lakes: Lakes) -> dict[str, int]:
        """Fail unless each source is here as it was after some load, with its past; returns after which."""
        with self.reading() as ask:
            if ask("select to_regclass('lakehouse.positions') is null") == [(True,)]:
                return {}
            heads = {
                str(s): int(n) for s, n in ask("select source, seq from lakehouse.positions where seq > 0")
            }
            for source, head in heads.items():
                loads = f"select seq, digest from lakehouse.loads where source = '{source}' order by seq"
                assert ask(loads) == [(seq, lakes.digests[source, seq]) for seq in range(1, head + 1)]
                there = {
                    name
                    for (name,) in ask(f"select table_name from lakehouse.tables where source = '{source}'")
                }
                for table in set(TABLES[source]) & there:
                    self._check_table(ask, lakes, source, table, head)
            # A table that came after the moment of this reader has a name, but no rows yet.
            if {"shop", "models"} <= set(heads) and ask("select to_regclass('models.lines')") != [(None,)]:
                assert ask("select n from models.lines") == [(lakes.count("shop", "log", heads["shop"]),)]
            return heads

    def _check_table(
        self, ask: Callable[[str], list[tuple[Any, ...]]], lakes: Lakes, source: str, table: str, head: int
    ) -> None:
        now = in_order(ask(f"select {COLUMNS[table]} from {source}.{table}"))
        assert now == lakes.rows[source, table, head], f"{source}.{table}"
        for seq in range(1, head + 1):
            then = in_order(ask(f"select {COLUMNS[table]} from {source}.{table}_at_load({seq})"))
            assert then == lakes.rows[source, table, seq], f"{source}.{table} at load {seq}"

    def relations(self) -> list[tuple[Any, ...]]:
        """All that has a name in the database."""
        with self.reading() as ask:
            return ask(
                "select relnamespace::regnamespace::text, relname, relkind::text from pg_class "
                "where relnamespace::regnamespace::text !~ '^(pg_|information_schema)' order by 1, 2"
            )


@pytest.fixture(scope="module")
def proxy(postgres_server: Cluster) -> Iterator[TcpProxy]:
    """A proxy before the server."""
    with TcpProxy(postgres_server.port) as proxy:
        yield proxy


@pytest.fixture
def new_warehouse(
    postgres_server: Cluster, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Warehouse]]:
    """Makes databases; a few rows are many, so that first loads take several connections."""
    monkeypatch.setattr(tables, "LARGE", 10)
    yield lambda: Warehouse(postgres_server, proxy)
    proxy.clear()
    if not postgres_server.is_running():
        postgres_server.start()


@pytest.fixture(scope="module")
def whole(postgres_server: Cluster, proxy: TcpProxy, lakes: Lakes) -> list[tuple[Any, ...]]:
    """What is in a database after pushes that nothing happened to."""
    warehouse = Warehouse(postgres_server, proxy)
    warehouse.sync(lakes.late, directly=True)
    return warehouse.relations()


def cases() -> list[object]:
    """Pieces of pushes, with one way to fail each, in turn; most are for the long run."""
    found = []
    for start, (last, step) in PIECES.items():
        for at, n in enumerate(range(1, last + 1, step)):
            way = WAYS[at % len(WAYS)]
            marks = [pytest.mark.soak] if at % 75 != 30 else []
            found.append(pytest.param(start, n, way, id=f"{start}-{n}-{way}", marks=marks))
    return found


@pytest.mark.parametrize(("start", "n", "way"), cases())
def test_a_push_that_dies_leaves_whole_loads_and_the_next_one_adds_the_rest_once(
    start: str, n: int, way: str, lakes: Lakes, whole: list[Any], new_warehouse: Callable[[], Warehouse]
) -> None:
    warehouse = new_warehouse()
    if start == "early":
        warehouse.sync(lakes.early, directly=True)
    suffer(warehouse, lakes, way, lambda piece: piece.n == n)
    assert warehouse.relations() == whole, "something was left behind"


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(
            way, marks=[] if way in {"killed, cut after", "cut after", "crash"} else pytest.mark.soak
        )
        for way in WAYS
    ],
)
def test_a_commit_whose_answer_is_lost_is_neither_lost_nor_doubled(
    way: str, lakes: Lakes, new_warehouse: Callable[[], Warehouse]
) -> None:
    warehouse = new_warehouse()
    warehouse.sync(lakes.early, directly=True)
    commits = itertools.count(1)
    suffer(warehouse, lakes, way, lambda piece: b"COMMIT" in piece.data and next(commits) == COMMIT)


def suffer(warehouse: Warehouse, lakes: Lakes, way: str, meant: Callable[[Piece], bool]) -> None:
    """Push with a failure at a piece, look, and push again."""
    proxy, server = warehouse.proxy, warehouse.server
    before = warehouse.check(lakes)
    if way.startswith("killed, "):
        died = killed_when(meant, way.removeprefix("killed, "), proxy, lambda: warehouse.sync(lakes.late))
    else:
        proxy.clear(lambda piece: failing(server, way) if meant(piece) else None)
        died = warehouse.fails(lakes.late)
    proxy.clear()
    if not server.is_running():
        server.start()
    heads = warehouse.check(lakes)
    assert died or heads == lakes.heads()
    assert all(heads[source] >= head for source, head in before.items())
    warehouse.sync(lakes.late)
    assert warehouse.check(lakes) == lakes.heads()


def failing(server: Cluster, way: str) -> Fault:
    """What happens to a piece."""
    if way == "crash":
        server.stop("immediate")
        return Fault(kind="cut before")
    return Fault(kind=way, seconds=0.2)


def test_the_server_restarts_in_the_midst_of_a_load(
    lakes: Lakes, new_warehouse: Callable[[], Warehouse]
) -> None:
    warehouse = new_warehouse()

    copies = itertools.count(1)

    def restart(piece: Piece) -> None:
        if b"COPY" in piece.data and next(copies) == 3:
            warehouse.server.restart("immediate")

    warehouse.proxy.clear(restart)
    assert warehouse.fails(lakes.late)
    assert next(copies) > 3
    assert warehouse.server.is_running()  # waits until it is
    warehouse.proxy.clear()
    warehouse.check(lakes)
    warehouse.sync(lakes.late)
    assert warehouse.check(lakes) == lakes.heads()


def test_a_reader_who_asks_all_the_while_sees_one_moment_of_each_source(
    lakes: Lakes, new_warehouse: Callable[[], Warehouse]
) -> None:
    warehouse = new_warehouse()
    warehouse.proxy.clear()
    over = threading.Event()
    seen: list[int] = []

    def ask() -> None:
        while not over.is_set():
            seen.append(sum(warehouse.check(lakes).values()))

    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask)
        try:
            for lake in (lakes.early, lakes.late):
                warehouse.sync(lake)
        finally:
            over.set()
        asking.result()
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert warehouse.check(lakes) == lakes.heads()


def test_two_machines_push_the_same_lake_at_once(
    lakes: Lakes, whole: list[Any], new_warehouse: Callable[[], Warehouse]
) -> None:
    warehouse = new_warehouse()
    warehouse.proxy.clear()
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(warehouse.sync, lakes.late) for _ in range(2)]:
            done.result()
    assert warehouse.check(lakes) == lakes.heads()
    assert warehouse.relations() == whole
