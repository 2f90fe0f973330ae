"""Loads, compactions, packs, prunes, reverts and retentions in any order: what is promised to stay, stays."""

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse import Lake, tags
from lakehouse.compaction import compact
from lakehouse.core.gates import OPEN
from lakehouse.errors import NotFoundError, QueryError
from lakehouse.pack import pack
from lakehouse.prune import prune
from lakehouse.retention import expire, parse
from lakehouse.revert import revert
from lakehouse.verify import verify

START = datetime(2026, 1, 1, tzinfo=UTC)
State = dict[str, list[tuple[Any, ...]]]
ROWS = st.dictionaries(st.integers(0, 5), st.integers(0, 3), max_size=6)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("load"), ROWS, st.integers(0, 2)),
        st.tuples(st.just("load"), ROWS, st.integers(0, 2)),
        st.sampled_from([("compact",), ("pack",), ("prune",)]),
        st.tuples(st.sampled_from(["revert", "tag"]), st.integers(0, 1000)),
        st.tuples(st.just("expire"), st.sampled_from(["daily", "weekly", "monthly"]), st.integers(0, 30)),
    ),
    min_size=1,
    max_size=25,
)


class Model:
    """A lake, and what its tables held at each position, kept by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lake = Lake.create(root)
        self.states: list[State] = [{"keyed": [], "added": []}]
        self.names = 0

    def do(self, kind: str, *args: Any) -> None:
        log = self.lake.log("s")
        if kind == "load":
            self._load(*args)
        elif not log.tables:
            return
        elif kind == "compact":
            compact(self.lake, "s")
        elif kind == "pack":
            pack(self.lake, "s")
        elif kind == "prune":
            prune(self.lake, "s")
        elif kind == "expire":
            now = (log.effective_at or START) + timedelta(hours=1)
            expire(self.lake, "s", parse(f"keep {args[0]} after {args[1]} hours"), now=now)
        else:
            at = self._some(args[0])
            if kind == "tag":
                self.names += 1
                if at:
                    tags.create(self.lake, f"tag-{self.names}", at)
            elif revert(self.lake, "s", at) is not None:
                self.states.append(self.states[at])
        # Commits that are no loads leave the state as it is.
        self.states += [self.states[-1]] * (self.lake.log("s").head + 1 - len(self.states))

    def _load(self, rows: dict[int, int], added: int) -> None:
        number = len(self.states)
        with self.lake.load("s", observed_at=START + timedelta(hours=7 * number), gates=OPEN) as load:
            keyed = [{"id": key, "v": value} for key, value in rows.items()]
            load.write("keyed", keyed, disposition="replace", primary_key="id")
            load.write("added", [{"n": number}] * added)
        self.states.append(
            {
                "keyed": sorted(rows.items()),
                "added": [*self.states[-1]["added"], *[(number,)] * added],
            }
        )

    def _some(self, number: int) -> int:
        """A position that is still an as-of."""
        log = self.lake.log("s")
        there = [seq for seq in range(log.head + 1) if not log.is_expired(seq)]
        return there[number % len(there)]

    def check(self) -> None:
        assert not verify(self.lake).errors
        log = self.lake.log("s")
        assert log.head + 1 == len(self.states)
        session = self.lake.session()
        for seq, state in enumerate(self.states):
            for table in log.tables:
                sql = f"SELECT * FROM s.{table}_at({seq})"
                if log.is_expired(seq):
                    with pytest.raises((QueryError, NotFoundError), match="expired"):
                        session.query(sql).fetchall()
                    continue
                found = session.query(sql).fetchall()
                rows = [row for row in found if row != (None,)] if table == "added" else found
                assert sorted(rows) == sorted(state[table]), (table, seq)
        session.connection.close()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_whatever_is_done_what_is_promised_stays(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = Model(Path(folder) / "lake")
        for step in steps:
            model.do(*step)
        model.check()
        shutil.rmtree(model.root / "_derived", ignore_errors=True)
        model.lake = Lake.open(model.root)
        model.check()
