"""Results kept up to date over a real lake, load by load, equal the same computed anew.

Loads of every disposition, new columns and wider types, reverts, packs, prunes, compactions and retentions come in any
order; some SELECTs are followed through all of it.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from selects import COLUMNS, V_SQL, VIEWS, selects

from lakehouse import Lake
from lakehouse.compaction import compact
from lakehouse.core.gates import OPEN
from lakehouse.duck.files import connect
from lakehouse.duck.sql import state_now
from lakehouse.models.delta import Seen, WholeNeededError, check_comparable, delta, outside, restricted, seen
from lakehouse.models.increments import Increment, NotIncremental, analyse
from lakehouse.pack import pack
from lakehouse.prune import prune
from lakehouse.retention import expire, parse
from lakehouse.revert import revert

START = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = pa.schema(
    [
        ("k", pa.int32()),
        ("g", pa.string()),
        ("n", pa.int32()),
        ("x", pa.float64()),
        ("tags", pa.list_(pa.string())),
    ]
)
ADDING = [
    ("select k, n + 1 as m from s.d where g is not null", ()),
    ("select k, t.tag from s.d, unnest(tags) as t(tag)", ()),
    ("select d.*, o.w from s.d left join (select g, max(w) as w from s.o group by g) as o using (g)", ()),
    ("select k from v union all select n from s.d", ()),
]
KEYED = [
    ("select k, g, x from s.d", ("k",)),
    ("select g, count(*) as c, sum(n) as n, arg_max_null(k, (k, n, g, x)) as k from s.d group by all", ("g",)),
    ("select g, k, n - lag(n) over (partition by g order by k, n, x, tags) as step from s.d", ("g", "k")),
    ("select upper(g) as u, k, count(*) as c from s.d group by all", ("u", "k")),
    ("select d.g, o.w, count(*) as c from s.d join s.o on d.g = o.g group by all", ("g", "w")),
    (("with a as (select k, g, sum(n) as n from v group by k, g), b as (select *, max(n) over (partition by g) as top from a) "
     "select distinct g, top from b where n = top"), ("g",)),
    ("select n % 2 as odd, string_agg(g, ',' order by g) as gs from s.d group by 1", ("odd",)),
    ("select distinct on (g) g, k from s.d order by g, k, n, x, tags", ("g",)),
    ("select try_cast(g as int) as i, count(*) as c from s.d group by i", ("i",)),
    ("select g::int as i, count(*) as c from s.d where g = '1' group by all", ("i",)),
]  # fmt: skip
CELLS = st.fixed_dictionaries(
    {
        "k": st.none() | st.integers(0, 5),
        "g": st.sampled_from([None, "a", "A", "b", "1"]),
        "n": st.none() | st.integers(0, 3),
        "x": st.sampled_from([None, 0.5, 1.0]),
        "tags": st.none() | st.lists(st.sampled_from(["a", "b"]), max_size=2),
    }
)
ROWS = st.lists(CELLS, max_size=6)
WAYS = st.sampled_from(["append", "append", "replace", "merge", "group", "whole"])
STEPS = st.lists(
    st.one_of(
        *[st.tuples(st.just("load"), ROWS, ROWS)] * 10,
        st.tuples(st.sampled_from(["compact", "pack", "prune"])),
        st.tuples(st.sampled_from(["compact", "pack", "prune"])),
        st.tuples(st.just("revert"), st.integers(0, 100)),
        st.tuples(st.just("expire"), st.integers(0, 30)),
        st.tuples(st.sampled_from(["column", "type"]), ROWS),
        st.tuples(st.just("way"), WAYS),
    ),
    min_size=2,
    max_size=12,
)


@dataclass
class Followed:
    """A result, and what was recorded when it was last brought up to date."""

    sql: str
    increment: Increment
    name: str
    seen: Seen | None = None


@dataclass
class World:
    lake: Lake
    duck: duckdb.DuckDBPyConnection
    way: str
    results: list[Followed] = field(default_factory=list)
    schema: pa.Schema = SCHEMA
    counted: Counter[str] = field(default_factory=Counter)

    def do(self, kind: str, *args: Any) -> None:
        if kind == "load":
            self._load(*args)
        elif kind == "way":
            self.way = args[0]
        elif kind == "column":
            self.schema = self.schema.append(pa.field(f"more_{len(self.schema)}", pa.int32()))
            self._load(args[0], [])
        elif kind == "type":
            at = self.schema.get_field_index("n")
            self.schema = self.schema.set(at, pa.field("n", pa.float64()))
            self._load(args[0], [])
        elif kind == "revert":
            revert(self.lake, "s", 2 + args[0] % (self.lake.log("s").head - 1), tables=["d"])
        elif kind == "expire":
            now = (self.lake.log("s").effective_at or START) + timedelta(hours=1)
            expire(self.lake, "s", parse(f"keep weekly after {args[0]} hours"), now=now)
        else:
            {"compact": compact, "pack": pack, "prune": prune}[kind](self.lake, "s")

    def _load(self, rows: list[dict[str, Any]], deletes: list[dict[str, Any]]) -> None:
        how: dict[str, Any] = {
            "append": {"disposition": "append"},
            "replace": {"disposition": "replace", "primary_key": "k"},
            "merge": {"disposition": "merge", "primary_key": "k"},
            "group": {"disposition": "merge", "merge_key": "g"},
            "whole": {"disposition": "replace"},
        }[self.way]
        if self.way == "replace":  # its key may not repeat
            rows = list({row["k"]: row for row in rows}.values())
        data = pa.Table.from_pylist(rows, self.schema)
        if how["disposition"] == "merge" and deletes:
            key = "k" if self.way == "merge" else "g"
            how["deletes"] = pa.Table.from_pylist(deletes, self.schema).select([key])
        moment = START + timedelta(hours=7 * self.lake.log("s").head)
        with self.lake.load("s", observed_at=moment, gates=OPEN) as load:
            load.write("d", data, **how)

    def driver(self, sql: str) -> None:
        self.duck.execute(f"CREATE OR REPLACE VIEW s.d AS {sql}")

    def build(self, result: Followed) -> None:
        """Bring a result up to date, and hold it against the whole."""
        log = self.lake.log("s")
        table = log.tables["d"]
        view = state_now(table, table.columns, locate=self.lake.locate)
        self.duck.execute(f"CREATE OR REPLACE VIEW now AS {view}")
        self.driver("SELECT * FROM now")
        self.duck.execute(f"CREATE OR REPLACE TEMP TABLE whole AS {result.sql}")
        try:
            if result.seen is None:
                raise WholeNeededError("the first")
            self.follow(result, delta(self.lake, log, result.increment, result.seen, log.head))
        except WholeNeededError as why:
            self.counted[f"whole: {why.message.split(':')[-1].split('load')[0]}"] += 1
            self.duck.execute(f"CREATE OR REPLACE TABLE {result.name} AS FROM whole")
        result.seen = seen(log, "d", log.head)
        assert self.rows(result.name) == self.rows("whole"), (result.sql, result.increment)
        described = [self.duck.execute(f"DESCRIBE {name}").fetchall() for name in (result.name, "whole")]
        assert described[0] == described[1]

    def follow(self, result: Followed, found: Any) -> None:
        self.counted["unchanged" if found.unchanged else "followed"] += 1
        if found.unchanged:
            return
        if not result.increment.groups:
            assert self.duck.sql(found.rows).columns == self.duck.sql("FROM now").columns
            assert self.duck.sql(found.rows).types == self.duck.sql("FROM now").types
            self.driver(found.rows)
            self.duck.execute(f"INSERT INTO {result.name} {result.sql}")
            return
        self.duck.execute(f"CREATE OR REPLACE TEMP TABLE k AS {found.groups}")
        check_comparable(self.duck, result.name, result.increment, "k")
        self.driver(restricted("now", result.increment, "k"))
        self.duck.execute(
            f"CREATE OR REPLACE TEMP TABLE fresh AS {outside(result.name, result.increment, 'k')}"
        )
        self.duck.execute(f"INSERT INTO fresh {result.sql}")
        self.duck.execute(f"CREATE OR REPLACE TABLE {result.name} AS FROM fresh")

    def rows(self, name: str) -> list[str]:
        return sorted(map(repr, self.duck.execute(f"FROM {name}").fetchall()))


@contextmanager
def world(way: str, first: list[dict[str, Any]]) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.create(Path(folder) / "lake")
        with lake.load("s", observed_at=START) as load:
            load.write(
                "o", [{"g": "a", "w": 1, "n": 1}, {"g": "a", "w": 2, "n": 0}, {"g": "b", "w": 1, "n": None}]
            )
        with connect(lake) as duck:
            duck.execute(
                "SET threads = 1; CREATE SCHEMA s; CREATE SCHEMA models; SET search_path = 'main,models'"
            )
            other = lake.log("s").tables["o"]
            duck.execute(f"CREATE VIEW s.o AS {state_now(other, other.columns, locate=lake.locate)}")
            here = World(lake, duck, way)
            here.do("load", first, [])
            table = lake.log("s").tables["d"]
            here.driver(state_now(table, table.columns, locate=lake.locate))
            duck.execute(f"CREATE VIEW models.v AS {V_SQL}")
            yield here


def accepted(sql: str, key: tuple[str, ...], name: str) -> Followed | None:
    try:
        return Followed(sql, analyse(sql, views=VIEWS, driver="s.d", key=key, columns=COLUMNS), name)
    except NotIncremental:
        return None


def run(data: st.DataObject, generated: int) -> None:
    way = data.draw(WAYS)
    with world(way, data.draw(ROWS)) as here:
        chosen = data.draw(
            st.lists(
                st.sampled_from((ADDING if way == "append" else []) + KEYED),
                min_size=2,
                max_size=4,
                unique=True,
            )
        )
        chosen += [data.draw(selects()) for _ in range(generated)]
        for at, (sql, key) in enumerate(chosen):
            result = accepted(sql, key, f"result_{at}")
            assert result or at >= len(chosen) - generated, sql
            if result:
                try:
                    here.build(result)
                except duckdb.BinderException:
                    continue
                here.results.append(result)
        for step in data.draw(STEPS):
            here.do(*step)
            for result in here.results:
                if data.draw(st.integers(0, 3)):
                    here.build(result)
        for what, times in here.counted.items():
            for _ in range(times):
                event(what)


QUICK = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(st.data())
def test_results_follow_a_lake(data: st.DataObject) -> None:
    run(data, 1)


@pytest.mark.soak
@settings(QUICK, max_examples=1_500)
@given(st.data())
def test_results_follow_a_lake_at_length(data: st.DataObject) -> None:
    run(data, 4)
