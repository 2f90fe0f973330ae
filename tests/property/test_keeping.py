"""Random histories, packed, expired and pruned: what may be told is what was told before, and nothing else is."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse import Lake
from lakehouse.core.gates import OPEN
from lakehouse.errors import DamagedPartError, NotFoundError, QueryError, UserError
from lakehouse.pack import pack
from lakehouse.prune import prune
from lakehouse.retention import KEEP_ALL, expire, kept_positions, parse
from lakehouse.store import MemoryStore
from lakehouse.tags import create
from lakehouse.verify import verify

START = datetime(2026, 1, 1, tzinfo=UTC)
OPTIONS = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
VALUES = st.one_of(
    st.none(), st.integers(-3, 3), st.sampled_from(["", "a", "1"]), st.floats(-2, 2), st.booleans(),
    st.just({"x": 1}), st.just(datetime(2026, 1, 1, tzinfo=UTC)), st.lists(st.integers(0, 2), max_size=2),
)  # fmt: skip
TABLES = {
    "keyed": {"disposition": "replace", "primary_key": ["id"]},
    "whole": {"disposition": "replace"},
    "log": {"disposition": "append"},
    "merged": {"disposition": "merge", "primary_key": ["id"]},
    "grouped": {"disposition": "merge", "merge_key": ["id"]},
}


@dataclass(frozen=True)
class Step:
    """A load: the hours since the one before, and the rows for each table that it touches."""

    hours: int
    tables: dict[str, list[dict[str, Any]]]


def rows(draw: st.DrawFn, table: str) -> list[dict[str, Any]]:
    keys = st.one_of(st.integers(0, 3), st.sampled_from(["0", "b"]))
    found = draw(st.lists(st.fixed_dictionaries({"id": keys, "v": VALUES}), min_size=1, max_size=4))
    if table in {"keyed", "merged"}:  # a key that repeats is refused
        found = list({str(row["id"]): row for row in found}.values())
    return found


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    steps = []
    for _ in range(draw(st.integers(2, 9))):
        names = draw(st.lists(st.sampled_from(sorted(TABLES)), unique=True, max_size=3))
        steps.append(Step(draw(st.integers(0, 40)), {name: rows(draw, name) for name in names}))
    return steps


def grown(steps: list[Step]) -> Lake:
    lake, at = Lake.create(MemoryStore()), START
    for n, step in enumerate(steps, 1):
        at += timedelta(hours=step.hours)
        with lake.load("s", load_id=f"n-{n}", observed_at=at, gates=OPEN) as load:
            for table, found in step.tables.items():
                load.write(table, found, **TABLES[table])
    return lake


def told(lake: Lake, loads: int) -> dict[tuple[str, int], list[str] | None]:
    """Every table as of every load, as canonical JSON; None where that is refused."""
    log, session = lake.log("s"), lake.session()
    found: dict[tuple[str, int], list[str] | None] = {}
    for table in log.tables:
        for seq in range(loads + 1):
            try:
                got = session.query(f"SELECT t::JSON::VARCHAR FROM s.{table}_at({seq}) AS t").fetchall()
                found[table, seq] = sorted(json.dumps(json.loads(x), sort_keys=True) for (x,) in got)
            except QueryError as error:
                if "expired" not in str(error):
                    raise
                found[table, seq] = None
    session.connection.close()
    return found


@given(histories())
@OPTIONS
def test_packing_and_pruning_change_no_state(steps: list[Step]) -> None:
    lake = grown(steps)
    before = told(lake, len(steps))
    pack(lake)
    assert told(lake, len(steps)) == before
    prune(lake)
    again = Lake.open(lake.store)
    assert told(again, len(steps)) == before
    report = verify(again)
    assert not report.errors
    assert not report.superseded
    for derived in list(lake.store.list("_derived/")):
        lake.store.delete(derived.key)
    assert told(Lake.open(lake.store), len(steps)) == before


@given(
    histories(), st.sampled_from(["hourly", "daily", "weekly"]), st.integers(0, 72), st.booleans(), st.data()
)
@OPTIONS
def test_of_an_expired_history_every_kept_state_is_as_it_was_and_every_other_is_refused(
    steps: list[Step], unit: str, age: int, packed: bool, data: st.DataObject
) -> None:
    lake = grown(steps)
    loads = len(steps)
    before = told(lake, loads)
    if packed:
        pack(lake)
    log = lake.log("s")
    now = log.commits[-1].effective_at + timedelta(hours=1)
    policy = parse(f"keep {unit} after {age} hours")
    pin = data.draw(st.integers(0, loads))
    if pin:
        create(lake, "pin", pin)
    kept = naive_kept([c.effective_at for c in log.commits], unit, timedelta(hours=age), now) | {
        pin,
        log.head,
    }
    planned = expire(lake, "s", policy, now=now, dry_run=True)
    assert told(lake, loads) == before
    done = expire(lake, "s", policy, now=now)
    assert (planned.expired, planned.rows) == (done.expired, done.rows)
    for stage in (lambda: None, lambda: prune(lake), lambda: pack(lake), lambda: prune(lake)):
        stage()
        fresh = Lake.open(lake.store)
        check(told(fresh, loads), before, fresh, kept, loads)
        assert not verify(fresh).errors
    assert expire(lake, "s", policy, now=now).expired == ()


def check(now: dict, before: dict, lake: Lake, kept: set[int], loads: int) -> None:
    log = lake.log("s")
    for (table, seq), rows_now in now.items():
        if log.is_expired(seq):
            assert seq not in kept
            assert rows_now is None
            with pytest.raises(NotFoundError, match="expired"):
                log.resolve(seq)
        else:
            assert rows_now == before[table, seq], (table, seq)
    assert all(not log.is_expired(seq) for seq in kept if seq <= loads)


def naive_kept(times: list[datetime], unit: str, age: timedelta, now: datetime) -> set[int]:
    """Position by position: kept if it is young, or nothing later lies in the same hour, day or week."""

    def bucket(at: datetime) -> object:
        return {"hourly": (at.date(), at.hour), "daily": at.date(), "weekly": at.isocalendar()[:2]}[unit]

    return {
        n
        for n, at in enumerate(times, 1)
        if now - at <= age or all(bucket(later) != bucket(at) for later in times[n:])
    }


@pytest.mark.parametrize(
    "text",
    ["", "keep", "keep some", "daily after 3 days", "keep daily", "keep daily after x days", "keep daily after 3",
     "keep monthly after 3 days, daily after 90 days", "keep daily after 3 days, monthly after 2 days",
     "keep daily after 3 days,", "keep all after 3 days"],
)  # fmt: skip
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="no retention policy"):
        parse(text)


def test_policies_are_read_as_people_write_them() -> None:
    assert parse("Keep  All").steps == ()
    steps = parse(
        "keep hourly after 1 week, Daily after 90 days, monthly after 2 years, yearly after 10 years"
    ).steps
    assert [step.unit for step in steps] == ["hourly", "daily", "monthly", "yearly"]
    assert [step.after.days for step in steps] == [7, 90, 730, 3650]


def test_nothing_expires_by_default() -> None:
    lake = grown([Step(24, {"whole": [{"id": n, "v": n}]}) for n in range(5)])
    log = lake.log("s")
    assert kept_positions(log, parse(KEEP_ALL), now=START + timedelta(days=9999)) == [1, 2, 3, 4, 5]
    assert expire(lake, "s", parse(KEEP_ALL), now=START + timedelta(days=9999)).expired == ()


def test_states_without_anything_to_drop_stay_whatever_the_policy() -> None:
    """Of a table that only grows every state can still be told."""
    lake = grown([Step(1, {"log": [{"id": n, "v": n}]}) for n in range(9)])
    report = expire(lake, "s", parse("keep yearly after 1 hour"), now=START + timedelta(days=9999))
    assert (report.expired, report.commit) == ((), None)


def test_an_unreadable_tag_stops_an_expiry() -> None:
    lake = grown([Step(1, {"whole": [{"id": n, "v": n}]}) for n in range(4)])
    lake.store.put("_tags/x.json", b"{")
    with pytest.raises(Exception, match=r"_tags/x.json"):
        expire(lake, "s", parse("keep yearly after 1 hour"), now=START + timedelta(days=9999))


def test_a_source_whose_bytes_are_not_what_was_committed_is_not_packed() -> None:
    lake = grown([Step(1, {"log": [{"id": n, "v": n}]}) for n in range(4)])
    keys = [e.key for e in lake.store.list("s/log/")]
    lake.store.put(keys[1], lake.store.get(keys[0]))  # a sound part, but another one
    with pytest.raises(DamagedPartError, match="other bytes"):
        pack(Lake.open(lake.store))
    assert Lake.open(lake.store).log("s").head == 4


def test_commits_that_say_another_content_than_their_parts_have_are_not_packed() -> None:
    """Everything fits but the content digest: the proof fails, and nothing is committed."""
    lake = grown([Step(1, {"log": [{"id": n, "v": n}]}) for n in range(2)])
    line = lake.store.get("s/_log/00000000000000000002.jsonl")
    at = line.index(b'"content":"1:') + len(b'"content":"1:')
    lake.store.put("s/_log/00000000000000000002.jsonl", line[:at] + b"0" * 32 + line[at + 32 :])
    with pytest.raises(DamagedPartError, match="load 2 have the content digest"):
        pack(Lake.open(lake.store))
    assert Lake.open(lake.store).log("s").head == 2


def test_prune_deletes_nothing_when_a_pack_is_damaged() -> None:
    lake = grown([Step(1, {"log": [{"id": n, "v": n}], "whole": [{"id": n, "v": 0}]}) for n in range(4)])
    pack(lake)
    path = lake.log("s").tables["whole"].files[0].path
    raw = bytearray(lake.store.get(path))
    raw[len(raw) // 2] ^= 1
    lake.store.put(path, bytes(raw))
    before = [e.key for e in lake.store.list("")]
    with pytest.raises(DamagedPartError, match="a pack of s"):
        prune(Lake.open(lake.store))
    assert [e.key for e in lake.store.list("")] == before
