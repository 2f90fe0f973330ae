"""Small lakes to be mirrored, and what must hold of their mirror at every moment of a sync."""

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from clouds import bucket_options
from fault_processes import Child
from proxy import Fault, HttpProxy, Kind, Piece, Request, TcpProxy

from lakehouse import Lake
from lakehouse.core import layout
from lakehouse.core.gates import OPEN, Gates
from lakehouse.errors import NoLakeError, QuarantinedError
from lakehouse.models.build import build
from lakehouse.models.plan import read
from lakehouse.pack import pack
from lakehouse.prune import prune
from lakehouse.store import LocalStore, Store, open_store
from lakehouse.tags import create
from lakehouse.verify import verify

CLOUDS = {"gcs": "gs", "s3": "s3"}
DAY_ONE = datetime(2026, 1, 1, tzinfo=UTC)
MODELS = {
    "dear": "-- kind: table\n-- key: [sku]\nselect sku, price * 2 as price from shop.items",
    "lines": "select count(*) as n from shop.log",
}
COLUMNS = {
    "items": "sku, price, name",
    "log": 'line, "at"',
    "page": "text",
    "dear": "sku, price",
}
TABLES = {"shop": ("items", "log"), "news": ("page",), "models": ("dear",)}
VIEW = "select * from models.lines"

Rows = list[str]


def grow(lake: Lake, n: int) -> None:
    """The n-th load of `shop`: a table with a key, and one without."""
    with lake.load("shop", load_id=f"shop-{n}", observed_at=DAY_ONE + timedelta(days=n), gates=OPEN) as load:
        items = [{"sku": i, "price": i * n, "name": f"thing {i}"} for i in range(n % 3, 8 + n)]
        load.write("items", items, disposition="replace", primary_key="sku")
        load.write("log", [{"line": f"{n}-{i}", "at": DAY_ONE + timedelta(hours=i)} for i in range(n)])


def tell(lake: Lake, n: int) -> None:
    """The n-th load of `news`: a snapshot without a key."""
    with lake.load("news", load_id=f"news-{n}", observed_at=DAY_ONE + timedelta(days=n)) as load:
        load.write("page", [{"text": f"issue {n}"}, {"text": None}], disposition="replace")


@dataclass(frozen=True)
class Lakes:
    """One lake at two moments, and what is known of it.

    Attributes:
        early: Its folder after some loads.
        late: Its folder after more loads, a pack, a prune, a build of models, tags, and a refused load.
        rows: The rows of each table after each load of its source.
        digests: The digest of each commit of each source.
    """

    early: Path
    late: Path
    rows: dict[tuple[str, str, int], Rows] = field(default_factory=dict)
    digests: dict[tuple[str, int], str] = field(default_factory=dict)

    @classmethod
    def made(cls, folder: Path) -> "Lakes":
        """Make them in an empty folder."""
        early, late = folder / "early" / "lake", folder / "late" / "lake"
        lake = Lake.create(LocalStore(early))
        for n in range(1, 5):
            grow(lake, n)
        tell(lake, 1)
        create(lake, "first")
        shutil.copytree(early, late)
        _extend(Lake.open(LocalStore(late)), late.parent)
        lakes = cls(early=early, late=late)
        lakes._know(Lake.open(LocalStore(late)))
        return lakes

    def _know(self, lake: Lake) -> None:
        session = lake.session()
        for source, tables in TABLES.items():
            log = lake.log(source)
            for seq in range(log.head + 1):
                self.digests[source, seq] = log.digest_at(seq) if seq else ""
                for table in tables:
                    sql = f"select {COLUMNS[table]} from {source}.{table}_at({seq})"
                    self.rows[source, table, seq] = in_order(session.query(sql).fetchall())
        session.connection.close()

    def count(self, source: str, table: str, seq: int) -> int:
        """How many rows a table has after a load."""
        return len(self.rows[source, table, seq])

    def heads(self) -> dict[str, int]:
        """Where the logs end at the late moment."""
        return {source: max(seq for name, seq in self.digests if name == source) for source in TABLES}

    def check(self, mirror: Lake) -> dict[str, int]:
        """Fail unless what a reader opens is this lake, whole, at some moment; returns where its logs end."""
        report = verify(mirror)
        assert not report.errors, [str(error) for error in report.errors]
        session = mirror.session()
        try:
            for source, head in report.sources.items():
                log = mirror.log(source)
                assert head in range(1, self.heads()[source] + 1), f"{source}: {head}"
                assert log.digest.startswith(self.digests[source, head][:16])
                for table in set(TABLES[source]) & set(log.tables):
                    rows = in_order(
                        session.query(f"select {COLUMNS[table]} from {source}.{table}").fetchall()
                    )
                    assert rows == self.rows[source, table, head], f"{source}.{table} after load {head}"
            if {layout.MODELS, "shop"} <= set(report.sources):
                assert session.query(VIEW).fetchall()
        finally:
            session.connection.close()
        return report.sources

    def ask(self, mirror: Lake) -> dict[str, int]:
        """The same while it grows: fail unless a reader finds it whole at some moment; returns where its logs end."""
        report = verify(mirror)
        assert not report.errors, [str(error) for error in report.errors]
        session = mirror.session()
        try:
            for source, head in report.sources.items():
                for table in TABLES[source]:
                    rows = in_order(
                        session.query(f"select {COLUMNS[table]} from {source}.{table}_at({head})").fetchall()
                    )
                    assert rows == self.rows[source, table, head], f"{source}.{table} after load {head}"
            if layout.MODELS in report.sources:
                assert session.query(VIEW).fetchall()
        finally:
            session.connection.close()
        return report.sources


def check_place(lakes: Lakes, store: Store, folder: Path) -> dict[str, int]:
    """Take a copy of all that is at a place and check it, to the last byte; returns where its logs end."""
    shutil.rmtree(folder, ignore_errors=True)
    for entry in store.list(""):
        path = folder / entry.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get(entry.key))
    try:
        mirror = Lake.open(LocalStore(folder))
    except NoLakeError:
        logs = list(folder.rglob("*.jsonl"))
        assert not logs, f"a log is there before the lake: {logs}"
        return {}
    return lakes.check(mirror)


def _extend(lake: Lake, project: Path) -> None:
    """From the early moment to the late one."""
    for n in (5, 6):
        grow(lake, n)
    pack(lake)
    prune(lake)
    grow(lake, 7)
    tell(lake, 2)
    (project / "models").mkdir()
    for name, text in MODELS.items():
        (project / "models" / f"{name}.sql").write_text(text)
    build(lake, project, read(lake, project))
    create(lake, "second")
    try:
        with lake.load("shop", load_id="refused", gates=Gates()) as load:
            load.write("items", [{"sku": 1}, {"sku": 1}], disposition="replace", primary_key="sku")
    except QuarantinedError:
        return
    raise AssertionError("a gate was to refuse the load")


def in_order(rows: list[tuple[object, ...]]) -> Rows:
    return sorted(repr(tuple(_plain(value) for value in row)) for row in rows)


def _plain(value: object) -> object:
    """A value as all databases give it."""
    return value.timestamp() if isinstance(value, datetime) else value


@dataclass(frozen=True)
class Cloud:
    """A server of buckets, and a proxy before it.

    Attributes:
        kind: `gcs` or `s3`.
        server: Its URL.
        proxy: The proxy.
    """

    kind: str
    server: str
    proxy: HttpProxy

    def store(self, name: str, *, directly: bool = False, silence_s: float = 60) -> Store:
        """The store of a name, by way of the proxy or not, as a process opens it that begins."""
        options = bucket_options(self.kind, self.server if directly else self.proxy.url)
        if self.kind == "s3":
            options["config_kwargs"] = {"read_timeout": silence_s}
        return open_store(f"{CLOUDS[self.kind]}://lakes/{name}/lake", **options)


# What a proxy is told to do.


def once(n: int, fault: Fault) -> Callable[[Request], Fault | None]:
    """The n-th request fails."""
    return lambda request: fault if request.n == n else None


def from_on(n: int, fault: Fault) -> Callable[[Request], Fault | None]:
    """The n-th request fails, and all after it."""
    return lambda request: fault if request.n >= n else None


def every_other(fault: Fault) -> Callable[[Request], Fault | None]:
    """The first of two requests fails: where one is sent at a time, each the first time that it is sent."""
    return lambda request: fault if request.n % 2 else None


def killed_when(
    meant: Callable[[Any], bool], kind: Kind, proxy: HttpProxy | TcpProxy, action: Callable[[], object]
) -> bool:
    """Run something in a process that is killed as the proxy gets a certain request, or piece.

    Args:
        meant: Whether it is the one.
        kind: What the proxy does with it: `cut before` or `cut after`.
        proxy: What the process speaks through.
        action: What it runs.

    Returns:
        Whether it was killed; else it ended before.
    """
    born = threading.Event()

    def kill(request: Request | Piece) -> Fault | None:
        if not meant(request):
            return None
        born.wait(30)
        child.kill()
        return Fault(kind=kind)

    proxy.clear(kill)
    child = Child(lambda: (action(), True)[1])
    born.set()
    return child.wait(120) is None
