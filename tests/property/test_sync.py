"""A lake that goes on while it is synced, with syncs that are cut off anywhere: mirrors are whole lakes all the time."""

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lakehouse import Lake, tags
from lakehouse.bulk import BulkLoad
from lakehouse.core.gates import OPEN
from lakehouse.errors import LakehouseError, MissingPartError
from lakehouse.pack import pack
from lakehouse.prune import prune
from lakehouse.retention import expire, parse
from lakehouse.revert import revert
from lakehouse.store import LocalStore, MemoryStore, Store
from lakehouse.verify import verify
from sync import plan as plans
from sync.pull import copy
from sync.push import push

START = datetime(2026, 1, 1, tzinfo=UTC)
State = dict[str, list[tuple[Any, ...]]]
WORK = st.one_of(
    st.tuples(st.just("load"), st.dictionaries(st.integers(0, 4), st.integers(0, 3), max_size=5)),
    st.tuples(st.just("load"), st.dictionaries(st.integers(0, 4), st.integers(0, 3), max_size=5)),
    st.tuples(st.just("bulk"), st.lists(st.integers(0, 3), min_size=1, max_size=4)),
    st.sampled_from([("pack",), ("prune",)]),
    st.tuples(st.sampled_from(["revert", "tag"]), st.integers(0, 1000)),
    st.tuples(st.just("expire"), st.sampled_from(["daily", "weekly"]), st.integers(0, 30)),
)
SYNC = st.tuples(
    st.sampled_from(["bucket", "folder", "bucket", "copy"]),
    st.integers(0, 12),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 30)),
)
STEPS = st.lists(st.tuples(st.lists(WORK, min_size=2, max_size=6), SYNC), min_size=2, max_size=6)


class CutError(BaseException):
    """The process is gone, or the network: nothing more gets through."""


class CutStore:
    """A store of which the n-th and all later operations fail: before, or right after they were done."""

    def __init__(self, store: Store, at: int | None, *, done: bool) -> None:
        self._store = store
        self._left = at
        self._done = done
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._step(name, found) if callable(found) else found

    def _step(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            self.asked.append(f"{name} {args[0] if args else ''}")
            if self._left is None:
                return operation(*args, **options)
            self._left -= 1
            if self._left < (0 if self._done else 1):
                raise CutError
            answer = operation(*args, **options)
            if self._left == 0:
                raise CutError
            return answer

        return run


class World:
    """A lake, what its tables held at each position, and its mirrors."""

    def __init__(self, root: Path, *, local: bool) -> None:
        self.lake = Lake.create(root / "lake" if local else MemoryStore())
        self.states: list[State] = [{"keyed": [], "bulk": []}]
        self.stores: dict[str, Store] = {
            "bucket": MemoryStore(),
            "folder": LocalStore(root / "mirror"),
            "copy": LocalStore(root / "copy"),
        }
        self.pushed: set[str] = set()
        self.names = 0

    def do(self, kind: str, *args: Any) -> None:
        log = self.lake.log("s")
        if kind == "load":
            self.load(*args)
        elif kind == "bulk":
            self.bulk(*args)
        elif not log.tables:
            return
        elif kind == "pack":
            pack(self.lake, "s")
        elif kind == "prune":
            prune(self.lake, "s")
        elif kind == "expire":
            now = (log.effective_at or START) + timedelta(hours=1)
            expire(self.lake, "s", parse(f"keep {args[0]} after {args[1]} hours"), now=now)
        else:
            there = [seq for seq in range(1, log.head + 1) if not log.is_expired(seq)]
            at = there[args[0] % len(there)]
            if kind == "tag":
                self.names += 1
                tags.create(self.lake, f"tag-{self.names}", at)
            elif revert(self.lake, "s", at) is not None:
                self.states.append(self.states[at])
        self.states += [self.states[-1]] * (self.lake.log("s").head + 1 - len(self.states))

    def load(self, rows: dict[int, int]) -> None:
        number = len(self.states)
        with self.lake.load("s", observed_at=START + timedelta(hours=7 * number), gates=OPEN) as load:
            load.write(
                "keyed", [{"id": k, "v": v} for k, v in rows.items()], disposition="replace", primary_key="id"
            )
        self.states.append(self.states[-1] | {"keyed": sorted(rows.items())})

    def bulk(self, values: Sequence[int]) -> None:
        """Several commits in one log file."""
        load = BulkLoad(self.lake, "s", "bulk", key=["id"])
        for value in values:
            number = len(self.states)
            at = START + timedelta(hours=7 * number)
            load.observe([{"id": 1, "v": value}], observed_at=at, load_id=f"bulk-{number}")
            self.states.append(self.states[-1] | {"bulk": [(1, value)]})
        load.flush()

    def sync(self, where: str, cut: int | None, done: bool, until: int | None) -> None:
        store = self.stores[where]
        before = self.head(store)
        failed = False
        try:
            self.run(where, CutStore(store, cut, done=done), until)
        except CutError:
            failed = True
        assert self.head(store) >= before
        self.check(store)
        if not failed and where != "copy":
            self.pushed.add(where)
            self.complete(store)

    def run(self, where: str, store: Any, until: int | None) -> None:
        if where != "copy":
            push(self.lake, store, name=where, connections=3)
        elif self.pushed:
            origin = self.stores[min(self.pushed)]
            wanted = self.head(origin) if until is None else min(until, self.head(origin))
            try:
                copy(origin, store, until={"s": wanted}, connections=3)
            except MissingPartError:  # what holds that state was packed later, and pruned
                assert until is not None
            else:
                assert self.head(self.stores["copy"]) >= wanted

    @staticmethod
    def head(store: Store) -> int:
        try:
            return Lake.open(store).log("s").head
        except LakehouseError:
            return 0

    def check(self, store: Store) -> None:
        """It is a whole lake, and the beginning of ours."""
        if not any(store.list("")):
            return
        there = Lake.open(store)
        assert verify(there).errors == []
        mine, log = self.lake.log("s"), there.log("s")
        assert log.head <= mine.head
        assert [c.digest for c in log.commits] == [c.digest for c in mine.commits[: log.head]]
        session = there.session()
        for table in log.tables:
            for seq in range(log.head + 1):
                if not log.is_expired(seq):
                    found = session.query(f"SELECT * FROM s.{table}_at({seq})").fetchall()
                    assert sorted(found) == sorted(self.states[seq][table]), (table, seq)
        session.connection.close()

    def complete(self, store: Store) -> None:
        """It has all that we have."""
        there = Lake.open(store)
        assert there.log("s").digest == self.lake.log("s").digest
        assert tags.tags(there).keys() == tags.tags(self.lake).keys()

    def finish(self) -> None:
        """What was cut off is completed by the next sync; the one after that has nothing to do."""
        if not self.lake.log("s").head:
            return
        for name in ("bucket", "folder", "copy"):
            self.sync(name, None, False, None)
            again = CutStore(self.stores[name], None, done=False)
            if name != "copy":
                push(self.lake, again, name=name)  # type: ignore[arg-type]
                assert len(again.asked) == 2, again.asked
        self.complete(self.stores["copy"])
        last = MemoryStore()
        push(Lake.open(self.stores["copy"]), last, name="last")
        self.complete(last)
        self.check(last)


def follow(steps: list[tuple[list[Any], Any]], parts: int, log_bytes: int, *, local: bool) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(plans, "CUT", plans.Cut(parts=parts, log_bytes=log_bytes))
        world = World(Path(folder), local=local)
        for work, sync in steps:
            for step in work:
                world.do(*step)
            world.sync(*sync)
        world.finish()


OPTIONS = settings(  # histories take long to shrink
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
SMALL = settings(OPTIONS, max_examples=8, derandomize=True)
LONG = settings(OPTIONS, max_examples=150)


@SMALL
@given(STEPS, st.integers(1, 6), st.integers(300, 3000), st.booleans())
def test_a_mirror_is_a_whole_lake_wherever_a_sync_is_cut_off(
    steps: list[tuple[list[Any], Any]], parts: int, log_bytes: int, local: bool
) -> None:
    follow(steps, parts, log_bytes, local=local)


@pytest.mark.soak
@LONG
@given(STEPS, st.integers(1, 6), st.integers(300, 3000), st.booleans())
def test_so_it_is_after_many_more_histories(
    steps: list[tuple[list[Any], Any]], parts: int, log_bytes: int, local: bool
) -> None:
    follow(steps, parts, log_bytes, local=local)
