"""Views of models over random loads: as of a moment they are what they were then, whoever asks and however."""

import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from defining import publish
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse import Lake
from lakehouse.core.gates import OPEN
from lakehouse.duck.session import Session
from lakehouse.pack import pack
from lakehouse.tags import create

START = datetime(2026, 1, 1, tzinfo=UTC)
OPTIONS = settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
TABLES: dict[tuple[str, str], dict[str, Any]] = {
    ("s", "keyed"): {"disposition": "replace", "primary_key": ["id"]},
    ("s", "grouped"): {"disposition": "merge", "merge_key": ["id"]},
    ("r", "log"): {"disposition": "append"},
    ("r", "merged"): {"disposition": "merge", "primary_key": ["id"]},
}
VIEWS = {
    "plain": "select id, v as w from s.keyed where v is distinct from 3",
    "joined": "with q as (select * from plain) select q.id, log.v, m.v as mv "
    "from q join r.log using (id) left join r.merged m on m.id = q.id",
    "summed": "select id, count(*) as n, (select max(w) from plain) as most from joined group by id "
    "having exists (from s.grouped g where g.id = joined.id)",
    "past": 'select h.id, h."change", from_load, to_load, valid_from, valid_to, changed_columns, v from s.keyed_history h',
    "pasts": "select id, count(*) as n, count(to_load) as ended from s.grouped_history group by all "
    "union all select id, -1, count(*) from past group by id "
    "union all by name select id, n, 0 as ended from summed",
    "fixed": "select a.id, a.v as then, b.v from s.keyed_at(1) a full join s.keyed b using (id)",
}
Step = tuple[int, dict[tuple[str, str], list[dict[str, Any]]]]


@st.composite
def loads(draw: st.DrawFn) -> list[Step]:
    found: list[Step] = []
    for _ in range(draw(st.integers(1, 6))):
        tables = draw(st.lists(st.sampled_from(sorted(TABLES)), unique=True, min_size=1, max_size=3))
        step = {}
        for table in tables:
            rows = draw(
                st.lists(
                    st.fixed_dictionaries({"id": st.integers(0, 3), "v": st.integers(0, 3)}),
                    min_size=1,
                    max_size=4,
                )
            )
            keyed = "primary_key" in TABLES[table]
            step[table] = list({row["id"]: row for row in rows}.values()) if keyed else rows
        found.append((draw(st.integers(0, 30)), step))
    return found


def load(lake: Lake, at: datetime, step: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    for source in ("s", "r"):
        with lake.load(source, observed_at=at, gates=OPEN) as one:
            for (owner, table), rows in step.items():
                if owner == source:
                    one.write(table, rows, **TABLES[owner, table])


def rows(session: Session, name: str) -> Counter[str]:
    return Counter(map(repr, session.query(f"select * from models.{name}").fetchall()))


@OPTIONS
@given(loads(), st.booleans())
def test_as_of_a_moment_a_view_is_what_it_was_then(steps: list[Step], packed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake, at = Lake.create(f"{folder}/lake"), START
        load(lake, at, {table: [{"id": 0, "v": 0}] for table in TABLES})
        publish(lake, VIEWS, at=at)
        seen = {}
        for hours, step in steps:
            at += timedelta(hours=hours, minutes=1)
            load(lake, at, step)
            create(lake, f"n{len(seen)}")
            session = lake.session()
            seen[at] = {name: rows(session, name) for name in VIEWS}
        if packed:
            pack(lake)
        now = lake.session()
        for number, (moment, views) in enumerate(seen.items()):
            turned = lake.session(as_of=moment)
            for name, then in views.items():
                assert rows(turned, name) == then, name
                for given_at in (f"'{moment.isoformat()}'", f"'n{number}'", str(number + 2)):
                    assert rows(now, f"{name}_at({given_at})") == then, (name, given_at)
