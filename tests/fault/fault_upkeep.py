"""Lakes that are worth packing, pruning and expiring, and what must hold of them afterwards."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fault_scenarios import everything

from lakehouse import Lake
from lakehouse.core.gates import OPEN
from lakehouse.errors import NotFoundError, QueryError
from lakehouse.pack import pack
from lakehouse.prune import prune
from lakehouse.retention import expire, parse
from lakehouse.store import LocalStore, Store
from lakehouse.verify import verify

LOADS = 6
START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=30)
POLICY = "keep daily after 2 days"
TABLES = ("log", "items", "orders", "lines", "page")

States = dict[tuple[str, int], list[str]]


def grown(root: Path, loads: int = LOADS) -> Path:
    """A lake whose source `shop` has five tables of all dispositions, three loads a day."""
    lake = Lake.create(LocalStore(root))
    for n in range(1, loads + 1):
        load = lake.load("shop", load_id=f"load-{n}", observed_at=START + timedelta(hours=8 * n), gates=OPEN)
        with load:
            everything(load, n)
    return root


def copied(root: Path, into: Path) -> Path:
    """A copy of a lake without its catalog."""
    shutil.copytree(root, into)
    return into


def states(root: Path, upto: int = LOADS) -> States:
    """Every table as of every load that is no expired one."""
    lake = Lake.open(LocalStore(root))
    session, log = lake.session(), lake.log("shop")
    found: States = {}
    for seq in range(upto + 1):
        for table in TABLES:
            sql = f"SELECT * FROM shop.{table}_at({seq})"
            if log.is_expired(seq):
                assert_refused(
                    lambda sql=sql: session.query(sql).fetchall(), lambda seq=seq: log.resolve(seq)
                )
            else:
                found[table, seq] = sorted(map(repr, session.query(sql).fetchall()))
    session.connection.close()
    return found


def assert_refused(*asked: Callable[[], Any]) -> None:
    """Fail unless every one of these says that what it asks for is expired."""
    for ask in asked:
        with pytest.raises((QueryError, NotFoundError), match="expired"):
            ask()


def assert_whole(root: Path, *, orphans: bool = True) -> None:
    """Fail unless everything that the log names is there, as committed."""
    report = verify(Lake.open(LocalStore(root)))
    assert not report.errors, [str(e) for e in report.errors]
    assert orphans or not report.orphans


@dataclass(frozen=True)
class Upkeep:
    """Something that is done to a lake, and may be interrupted.

    Attributes:
        before: Brings a grown lake to where it can be done.
        run: Does it.
        done: Whether it has been done.
    """

    before: Callable[[Path], None]
    run: Callable[[Store], None]
    done: Callable[[Path], bool]


def do_pack(store: Store) -> None:
    pack(Lake.open(store), "shop")


def do_prune(store: Store) -> None:
    prune(Lake.open(store), "shop")


def do_expire(store: Store) -> None:
    expire(Lake.open(store), "shop", parse(POLICY), now=NOW)


def _files(root: Path) -> int:
    return max(len(table.files) for table in Lake.open(LocalStore(root)).log("shop").tables.values())


def _packed(root: Path) -> None:
    do_pack(LocalStore(root))


UPKEEP = {
    "pack": Upkeep(lambda _: None, do_pack, lambda root: _files(root) == 1),
    "prune": Upkeep(
        _packed, do_prune, lambda root: not verify(Lake.open(LocalStore(root)), fast=True).superseded
    ),
    "expire": Upkeep(
        lambda _: None, do_expire, lambda root: bool(Lake.open(LocalStore(root)).log("shop").expired)
    ),
}
