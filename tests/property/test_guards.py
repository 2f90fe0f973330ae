"""What protects a history from its own users: names, ids, times and approvals that would harm it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from lakehouse import Gates, Lake
from lakehouse.bulk import BulkLoad
from lakehouse.errors import QuarantinedError, SchemaError, UserError
from lakehouse.parquet import part
from lakehouse.quarantine import approve
from lakehouse.store import MemoryStore
from lakehouse.verify import verify


def _day(n: int) -> datetime:
    return datetime(2026, 3, n, tzinfo=UTC)


def _snapshot(lake: Lake, day: int, rows: list[dict[str, object]], **how: object) -> None:
    with lake.load("s", load_id=f"day {day}", observed_at=_day(day), **how) as load:
        load.write("t", rows, disposition="replace", primary_key="id")


THREE = [{"id": n} for n in range(3)]


def test_a_bulk_key_that_had_to_be_renamed_still_is_the_key() -> None:
    lake = Lake.create(MemoryStore())
    bulk = BulkLoad(lake, "s", "t", key=["ID"], volatile=["Seen"])
    bulk.observe(
        [{"id": 1, "ID": "a", "seen": 1, "Seen": 1}, {"id": 1, "ID": "b"}], observed_at=_day(1), load_id="1"
    )
    bulk.flush()
    again = BulkLoad(lake, "s", "t", key=["ID"], volatile=["Seen"])
    again.observe([{"id": 2, "ID": "b"}], observed_at=_day(2), load_id="2")
    again.flush()
    assert lake.query('SELECT id, "ID_2" FROM s.t').fetchall() == [(2, "b")]
    assert lake.log("s").tables["t"].last.primary_key == ("ID_2",)


def test_a_bulk_load_refuses_an_id_that_the_log_has() -> None:
    lake = Lake.create(MemoryStore())
    bulk = BulkLoad(lake, "s", "t")
    bulk.observe([{"a": 1}], observed_at=_day(1), load_id="1")
    with pytest.raises(UserError, match="in the log already"):
        bulk.observe([{"a": 2}], observed_at=_day(2), load_id="1")


def test_a_group_that_shrinks_counts_what_disappeared() -> None:
    lake = Lake.create(MemoryStore())
    bulk = BulkLoad(lake, "s", "t", key=["id"])
    bulk.observe([{"id": 1, "v": 1}, {"id": 1, "v": 2}], observed_at=_day(1), load_id="1")
    bulk.observe([{"id": 1, "v": 1}], observed_at=_day(2), load_id="2")
    bulk.flush()
    counts = lake.log("s").tables["t"].last.counts
    assert (counts["rows"], counts["disappeared"]) == (1, 1)


def test_a_refused_load_is_not_approved_once_the_source_was_seen_again() -> None:
    lake = Lake.create(MemoryStore())
    _snapshot(lake, 1, THREE)
    with pytest.raises(QuarantinedError):
        _snapshot(lake, 2, [])
    _snapshot(lake, 3, THREE)  # nothing new, and yet newer than what was refused
    with pytest.raises(UserError, match="load 2 of s was published"):
        approve(lake, "day 2")
    assert lake.query("SELECT count(*) FROM s.t").fetchall() == [(3,)]


def test_rows_that_a_contract_discarded_survive_a_refusal_and_its_approval() -> None:
    lake = Lake.create(MemoryStore())
    _snapshot(lake, 1, THREE)
    load = lake.load("s", load_id="2", observed_at=_day(2))
    load.write("t", [], disposition="replace", primary_key="id")
    load.discard("t", [{"id": "?"}], "no number")
    with pytest.raises(QuarantinedError):
        load.publish()
    assert approve(lake, "2").discarded["t"]["reasons"] == {"no number": 1}


def _begin(lake: Lake, source: str, table: str, *, bulk: bool) -> None:
    if bulk:
        BulkLoad(lake, source, table)
    else:
        load = lake.load(source)
        load.write(table, THREE)
        load.publish()


@pytest.mark.parametrize("bulk", [False, True])
def test_names_that_differ_only_in_case_are_refused(bulk: bool, tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake")
    _snapshot(lake, 1, THREE)
    for source, table in (("S", "t"), ("s", "T")):
        with pytest.raises(SchemaError, match="only in case"):
            _begin(lake, source, table, bulk=bulk)
    load = lake.load("other")
    load.write("a", THREE)
    load.write("A", THREE)
    with pytest.raises(SchemaError, match="only in case"):
        load.publish()
    assert lake.query("SELECT count(*) FROM s.t").fetchall() == [(3,)]


def test_the_catalog_notices_another_log_of_the_same_length_and_size(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake")
    _snapshot(lake, 1, [{"id": 1, "v": "a"}])
    _snapshot(lake, 2, [{"id": 1, "v": "b"}])
    assert lake.query("SELECT v FROM s.t").fetchall() == [("b",)]
    (tmp_path / "lake/s/_log/00000000000000000002.jsonl").unlink()  # a backup from before it
    (tmp_path / "lake/s/_log/notes.txt").write_text("restored")
    restored = Lake.open(tmp_path / "lake")
    _snapshot(restored, 2, [{"id": 1, "v": "c"}])
    assert restored.query("SELECT v FROM s.t").fetchall() == [("c",)]


def test_verify_finds_a_load_that_is_there_twice() -> None:
    store = MemoryStore()
    lake = Lake.create(store)
    _snapshot(lake, 1, THREE)
    _snapshot(lake, 2, [*THREE, {"id": 9}])
    key = "s/_log/00000000000000000002.jsonl"
    store.put(key, store.get(key).replace(b'"day 2"', b'"day 1"'))
    assert [type(e).__name__ for e in verify(Lake.open(store)).errors] == ["IntegrityError"]


@pytest.mark.parametrize(
    "wrong", [{"max_drop": "0.5"}, {"max_drop": True}, {"max_drop": 2}, {"allow_empty": 1}]
)
def test_gates_of_the_wrong_kind_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Gates(**wrong)


def test_verify_adds_up_the_content_of_a_load_over_all_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part, "_SMALL", 5)
    monkeypatch.setattr(part, "ROWS_PER_PART", 7)
    store = MemoryStore()
    lake = Lake.create(store)
    _snapshot(lake, 1, [{"id": n, "v": n / 7} for n in range(30)])
    change = lake.log("s").tables["t"].last
    assert [p.rows for p in change.parts] == [7, 7, 7, 7, 2]
    assert verify(Lake.open(store)).errors == []
    key = "s/_log/00000000000000000001.jsonl"
    digest = change.content.encode()
    store.put(key, store.get(key).replace(digest, digest[:-1] + (b"0" if digest[-1:] != b"0" else b"1")))
    (error,) = verify(Lake.open(store)).errors
    assert "content digest" in error.message
