"""Compactions are derived: with them, without them and with damaged ones the lake says the same."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from lakehouse import Lake, compaction
from lakehouse.core.commit import Commit
from lakehouse.core.gates import OPEN
from lakehouse.duck.compacted import is_sound, newest
from lakehouse.errors import DamagedPartError, LakehouseError, QueryError
from lakehouse.store import MemoryStore

LOADS = 24
START = datetime(2026, 1, 1, tzinfo=UTC)
Snapshot = list[dict[str, Any]]
Harm = Callable[[Path], None]


def _history(seed: int, loads: int = LOADS) -> list[Snapshot]:
    """Snapshots of 40 rows of which a few change, go and come back; one column turns to text."""
    rng = random.Random(seed)
    rows: dict[int, dict[str, Any]] = {
        i: {"id": i, "price": rng.random(), "tags": [rng.randint(0, 3)]} for i in range(40)
    }
    out = []
    for n in range(loads):
        for key in rng.sample(sorted(rows), 3):
            rows[key] = rows[key] | {"price": rng.random() if n < 15 or rng.random() < 0.7 else "sold"}
        rows.pop(rng.choice(sorted(rows)))
        rows[40 + n % 7] = {"id": 40 + n % 7, "price": None, "tags": []}
        out.append([dict(row) for row in rows.values()])
    return out


def _put(lake: Lake, rows: Snapshot, n: int) -> Commit:
    with lake.load("s", load_id=f"{n}", observed_at=START + timedelta(days=n), gates=OPEN) as load:
        load.write("t", rows, disposition="replace", primary_key="id")
    assert load.commit is not None
    return load.commit


def _load(lake: Lake, snapshots: list[Snapshot], harm: Harm = lambda _: None) -> None:
    for n, rows in enumerate(snapshots, 1):
        _put(lake, rows, n)
        folder = Path(lake.url, "_derived/s/versions/t")
        if folder.is_dir():
            harm(folder)


def _now(folder: Path) -> Path:
    manifest = json.loads(_manifest(folder).read_bytes())
    return folder / Path(manifest["now"]).name


def _manifest(folder: Path) -> Path:
    return max(folder.glob("*.json"))


def _epochs(folder: Path) -> list[Path]:
    manifest = json.loads(_manifest(folder).read_bytes())
    return [folder / Path(epoch["path"]).name for epoch in manifest["epochs"]]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x10
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _edited(change: Callable[[dict[str, Any]], object]) -> Harm:
    """A manifest that says something else, though it is JSON still."""

    def harm(folder: Path) -> None:
        said = json.loads(_manifest(folder).read_bytes())
        change(said)
        _manifest(folder).write_text(json.dumps(said))

    return harm


def _swapped(folder: Path) -> None:
    """A sound file of another state under the name of the one it should be."""
    _now(folder).write_bytes(_epochs(folder)[0].read_bytes())


def _cut_all(folder: Path) -> None:
    for path in folder.glob("*.parquet"):
        _cut(path)


FALLING_BACK: dict[str, Harm] = {
    "no files": lambda folder: [path.unlink() for path in folder.glob("*.parquet")] and None,
    "no now": lambda folder: _now(folder).unlink(),
    "no first epoch": lambda folder: _epochs(folder)[0].unlink(),
    "cut now": lambda folder: _cut(_now(folder)),
    "cut epoch": lambda folder: _cut(_epochs(folder)[-1]),
    "everything cut": _cut_all,
    "no manifest": lambda folder: _manifest(folder).unlink(),
    "cut manifest": lambda folder: _cut(_manifest(folder)),
    "empty manifest": lambda folder: _manifest(folder).write_bytes(b""),
    "a list": lambda folder: _manifest(folder).write_bytes(b"[]"),
    "no text": lambda folder: _manifest(folder).write_bytes(b"\xff\xfe\0"),
    "newer version": _edited(lambda said: said.update(version=99)),
    "another log": _edited(lambda said: said.update(commit="0" * 64)),
    "longer log": _edited(lambda said: said.update(seq=999)),
    "another time": _edited(lambda said: said.update(at=said["at"] + 1)),
    "another epoch": _edited(lambda said: said["epochs"][-1].update(first=1)),
    "other types": _edited(lambda said: said["columns"][0].update(type="string")),
    "a path outside": _edited(lambda said: said.update(now="../../secret.parquet")),
}
UNSEEN_BY_QUERIES: dict[str, Harm] = {  # sound to look at, and not what was written
    "flipped bit": lambda folder: _flip(_now(folder)),
    "flipped bit in an epoch": lambda folder: _flip(_epochs(folder)[-1]),
    "swapped": _swapped,
}


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compactions after nearly every load, in many epochs."""
    monkeypatch.setattr(compaction, "OPENING", 1)
    monkeypatch.setattr(compaction, "WORTH", 12)
    monkeypatch.setattr(compaction, "EPOCH_LEAST", 10)


@pytest.fixture(scope="module")
def plain_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plain") / "lake"
    _load(Lake.create(root), _history(1))
    assert not (root / "_derived/s/versions").exists()
    return root


@pytest.fixture(scope="module")
def compacted_lake(plain_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, compacted in steps, in several epochs, and with loads since."""
    root = tmp_path_factory.mktemp("compacted") / "lake"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "EPOCH_LEAST", 25)
        lake = Lake.create(root)
        for n, rows in enumerate(_history(1), 1):
            _put(lake, rows, n)
            if n in (6, 7, 13, 20):
                assert compaction.compact(lake, "s") == ["t"]
    assert len(_epochs(root / "_derived/s/versions/t")) >= 2
    return root


def _commits(root: Path) -> list[Any]:
    return [(c.tables["t"].content, dict(c.tables["t"].counts)) for c in Lake.open(root).log("s").commits]


def _everything(lake: Lake, *, upto: int = LOADS) -> dict[str, list[Any]]:
    """What SQL says of all of the past."""
    session = lake.session()
    asks = {f"at {n}": f"s.t_at({n})" for n in range(upto + 1)}
    asks |= {
        f"day {n}": f"s.t_at('{START + timedelta(days=n, hours=1):%Y-%m-%d %H:%M}')" for n in range(upto + 1)
    }
    asks |= {f"diff {n}": f"s.t_diff({n}, {upto - n})" for n in range(0, upto, 3)}
    asks |= {"now": "s.t", "history": "s.t_history"}
    return {
        name: session.query(f"SELECT * FROM {what} ORDER BY ALL").fetchall() for name, what in asks.items()
    }


@pytest.fixture(scope="module")
def truth(plain_lake: Path) -> dict[str, list[Any]]:
    return _everything(Lake.open(plain_lake))


@pytest.fixture
def own(compacted_lake: Path, tmp_path: Path) -> Path:
    shutil.copytree(compacted_lake, tmp_path / "own" / "lake")
    return tmp_path / "own" / "lake"


def test_queries_say_the_same_with_and_without_a_compaction(own: Path, truth: dict[str, list[Any]]) -> None:
    for seq in (3, 12):  # parts that the compaction stands for
        hidden = next((own / f"s/t/lake_load={seq:08}").glob("*.parquet"))
        hidden.rename(own / f"{seq}.hidden")
    assert _everything(Lake.open(own)) == truth
    shutil.rmtree(own / "_derived")
    with pytest.raises(LakehouseError):
        _everything(Lake.open(own))
    for seq in (3, 12):
        (own / f"{seq}.hidden").rename(own / f"s/t/lake_load={seq:08}" / _part_name(own, seq))
    assert _everything(Lake.open(own)) == truth


def _part_name(root: Path, seq: int) -> str:
    return Path(Lake.open(root).log("s").commits[seq - 1].tables["t"].parts[0].path).name


@pytest.mark.parametrize("harm", [*FALLING_BACK, *UNSEEN_BY_QUERIES])
def test_loads_store_the_same_with_sound_damaged_or_no_compactions(
    harm: str, own: Path, plain_lake: Path, tmp_path: Path
) -> None:
    (FALLING_BACK | UNSEEN_BY_QUERIES)[harm](own / "_derived/s/versions/t")
    plain = shutil.copytree(plain_lake, tmp_path / "plain" / "lake")
    for root in (own, plain):
        lake = Lake.open(root)
        for n, rows in enumerate(_history(1, LOADS + 3)[LOADS:], LOADS + 1):
            _put(lake, rows, n)
    assert _commits(own) == _commits(plain)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("harm", [None, "flipped bit", "flipped bit in an epoch", "swapped"])
def test_damage_does_not_pass_from_one_compaction_to_the_next(
    harm: str | None, plain_lake: Path, truth: dict[str, list[Any]], tmp_path: Path
) -> None:
    def each(folder: Path) -> None:
        if harm is not None and _epochs(folder):
            UNSEEN_BY_QUERIES[harm](folder)

    lake = Lake.create(tmp_path / "lake")
    _load(lake, _history(1)[:-1], each)
    assert _commits(tmp_path / "lake") == _commits(plain_lake)[:-1]
    folder = tmp_path / "lake/_derived/s/versions/t"
    assert len(list(folder.glob("*.json"))) == 2
    _put(lake, _history(1)[-1], LOADS)
    compaction.compact(lake, "s")
    assert _everything(Lake.open(tmp_path / "lake")) == truth


@pytest.mark.parametrize("harm", FALLING_BACK)
def test_queries_are_right_whatever_happened_to_a_compaction(
    harm: str, own: Path, truth: dict[str, list[Any]]
) -> None:
    FALLING_BACK[harm](own / "_derived/s/versions/t")
    assert _everything(Lake.open(own)) == truth


@pytest.mark.parametrize("harm", ["no now", "no first epoch", "cut now", "cut epoch"])
def test_a_file_lost_since_the_catalog_was_written_is_a_clear_error_and_refresh_mends_it(
    harm: str, own: Path, truth: dict[str, list[Any]]
) -> None:
    session = Lake.open(own).session()
    FALLING_BACK[harm](own / "_derived/s/versions/t")
    with pytest.raises(DamagedPartError if "cut" in harm else LakehouseError) as caught, session.explained():
        session.query("SELECT * FROM s.t_history").fetchall()
    assert "_derived" in caught.value.hint
    assert "lakehouse refresh" in caught.value.hint
    shutil.rmtree(own / "_derived")
    assert _everything(Lake.open(own)) == truth


def test_a_compaction_of_a_history_that_was_replaced_is_not_used(own: Path) -> None:
    folder = own / "s/_log"
    for seq in range(10, LOADS + 1):
        (folder / f"{seq:020d}.jsonl").unlink()
    lake = Lake.open(own)
    for n in range(10, LOADS + 1):
        _put(lake, [{"id": 1, "price": n}], n)
    assert lake.query("SELECT id FROM s.t").fetchall() == [(1,)]
    assert lake.query("SELECT count(*) FROM s.t").fetchall() == [(1,)]
    assert compaction.compact(lake, "s") == ["t"]
    assert lake.query("SELECT count(*) FROM s.t_at(10)").fetchall() == [(1,)]
    assert lake.query("SELECT count(*) FROM s.t_at(9)").fetchall() == [(len(_history(1)[8]),)]


def test_a_compaction_is_used_by_loads_and_few_files_stay(own: Path) -> None:
    lake = Lake.open(own)
    for path in own.glob("s/t/lake_load=00000002/*.parquet"):
        path.unlink()  # a part that only the compaction stands for
    commit = _put(lake, _history(1)[-1], LOADS + 1)
    assert commit.tables["t"].counts["unchanged"] == len(_history(1)[-1])
    folder = own / "_derived/s/versions/t"
    said = [json.loads(path.read_bytes()) for path in folder.glob("*.json")]
    named = {Path(p).name for s in said for p in (s["now"], *(e["path"] for e in s["epochs"]))}
    assert len(said) <= 2
    assert {path.name for path in folder.glob("*.parquet")} == named


def test_what_killed_compactions_left_is_gone_two_compactions_later(own: Path) -> None:
    folder, lake = own / "_derived/s/versions/t", Lake.open(own)
    (folder / f"{'0' * 24}.parquet").write_bytes(b"half a")
    for n, rows in enumerate(_history(1, LOADS + 2)[LOADS:], LOADS + 1):
        assert (folder / f"{'0' * 24}.parquet").exists()
        _put(lake, rows, n)
        compaction.compact(lake, "s")
    assert not (folder / f"{'0' * 24}.parquet").exists()


TYPED = {
    "null": pa.nulls(2),
    "bool": pa.array([True, None]),
    "int8": pa.array([-128, None], pa.int8()),
    "uint64": pa.array([2**64 - 1, None], pa.uint64()),
    "float32": pa.array([0.1, None], pa.float32()),
    "float64": pa.array([float("nan"), float("-inf")]),
    "decimal": pa.array([Decimal("1.50"), None], pa.decimal128(20, 2)),
    "binary": pa.array([b"\x00\xff", None]),
    "date": pa.array([date(1, 1, 1), None]),
    "time": pa.array([time(23, 59, 59, 999999), None], pa.time64("us")),
    "timestamp": pa.array([-3_600_000_000, None], pa.timestamp("us")),
    "timestamptz": pa.array([datetime(2026, 1, 1, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
    "timestamp_ns": pa.array([1, None], pa.timestamp("ns")),
    "timestamptz_ns": pa.array([1, None], pa.timestamp("ns", "UTC")),
    "list": pa.array([[{"a": [1, None], "b b": None}], None]),
    "struct": pa.array([{"p": {"q": 1}, "P2": "x"}, None]),
    "empty": pa.array([[], None], pa.list_(pa.int32())),
}


def test_values_of_every_type_are_the_same_after_a_compaction() -> None:
    lake = Lake.create(MemoryStore())

    def put(*at: int) -> Commit:
        columns = {name: values.take(pa.array(at, pa.int64())) for name, values in TYPED.items()}
        with lake.load("s", gates=OPEN) as load:
            load.write(
                "t", pa.table({"id": range(len(at))} | columns), disposition="replace", primary_key="id"
            )
        assert load.commit is not None
        return load.commit

    def said() -> list[Any]:
        asks = [*(f"s.t_at({n})" for n in range(5)), "s.t_diff(1, NULL)", "s.t_history"]
        rows = "SELECT to_json(r)::VARCHAR, r.float64::VARCHAR, r.null IS NULL FROM"
        return [lake.query(f"{rows} {ask} AS r ORDER BY ALL").fetchall() for ask in asks]

    put(0, 1)
    put(1, 0)
    put(0)
    compaction.compact(lake, "s")
    put(1, 1)
    with_one = said()
    assert put(1, 1).outcome == "unchanged"
    assert compaction.forget(lake.store, "s")
    assert said() == with_one


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("rows", [[], [{"id": 1}]], ids=["without rows", "with rows"])
def test_moments_of_all_kinds_mean_the_same_with_a_compaction(rows: Snapshot, *, compact: bool) -> None:
    lake = Lake.create(MemoryStore())
    _put(lake, [{"id": 1}, {"id": 2}], 1)
    _put(lake, rows, 2)
    if compact:
        compaction.compact(lake, "s")
    session = lake.session()

    def count(moment: str) -> int:
        return int(session.query(f"SELECT count(*) FROM s.t_at({moment})").fetchall()[0][0])

    for moment in ("0", "'0'", "'1999-01-01'", "DATE '2026-01-02' - 1", "TIMESTAMP '0044-03-15 (BC)'"):
        assert count(moment) == 0, moment
    for moment in (
        "1",
        "'2026-01-02'",
        "DATE '2026-01-02'",
        "'2026-01-02T23:59:59.999999Z'",
        "'2026-01-03 00:30+01:00'",
    ):
        assert count(moment) == 2, moment
    for moment in (
        "2",
        "' 2 '",
        "NULL",
        "'2026-01-03'",
        "'9999-12-31'",
        "'290000-01-01'",
    ):
        assert count(moment) == len(rows), moment
    for moment in ("'nonsense'", "-1", "1.5", "''", "'infinity'", "'-infinity'"):
        with pytest.raises((QueryError, duckdb.Error), match="is neither an instant"):
            count(moment)
    for moment in ("3", "9000000000000000000", "9223372036854775807", "'99999999999999999999'"):
        with pytest.raises((QueryError, duckdb.Error), match="ends at load 2"):
            count(moment)


def test_rows_that_go_and_come_back_are_told_across_epochs_and_compactions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compaction, "EPOCH_LEAST", 1)
    lake = Lake.create(MemoryStore())
    for n in range(1, 31):  # row 1 is there in loads 1-3, 7-9, 13-15, …; row 2 always, another each time
        _put(lake, [{"id": 1, "v": 1}] * (n % 6 in (1, 2, 3)) + [{"id": 2, "v": n}], n)
        if n % 4 == 0:
            compaction.compact(lake, "s")
    found = newest(lake.store, lake.log("s"), "t")
    assert found is not None
    assert len(found.epochs) > 5
    assert is_sound(lake.store, found)
    told = lake.query(
        "SELECT from_load, to_load, change FROM s.t_history WHERE id = 1 ORDER BY ALL"
    ).fetchall()
    expected: list[Any] = []
    for n in range(1, 31, 6):
        expected += [
            (n, n + 3, "reappeared" if expected else "appeared"),
            (n + 3, n + 6 if n < 25 else None, "disappeared"),
        ]
    assert told == expected
    assert lake.query("SELECT count(*) FROM s.t_history WHERE id = 2").fetchall() == [(30,)]


def test_two_loads_at_the_same_instant_show_the_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "EPOCH_LEAST", 1)
    lake = Lake.create(MemoryStore())
    for n in range(12):
        with lake.load("s", observed_at=START + timedelta(days=n // 3)) as load:
            load.write(
                "t", [{"id": i, "v": n} for i in range(1 + n % 2)], disposition="replace", primary_key="id"
            )
        if n in (4, 9):
            compaction.compact(lake, "s")
    for day in range(4):
        n = day * 3 + 2
        expected = [(i, n) for i in range(1 + n % 2)]
        at = f"{START + timedelta(days=day):%Y-%m-%d}"
        assert lake.query(f"SELECT * FROM s.t_at('{at}') ORDER BY id").fetchall() == expected
        assert lake.query("SELECT * FROM s.t ORDER BY id", as_of=at).fetchall() == expected


def test_a_volatile_column_makes_no_difference_where_rows_have_no_key() -> None:
    lake = Lake.create(MemoryStore())
    for n in (1, 2):
        with lake.load("s") as load:
            rows = [{"v": 1, "seen": n}, {"v": 1, "seen": n}, {"v": n + 1, "seen": n}]
            load.write("t", rows, disposition="replace", volatile=["seen"])
    found = lake.query("SELECT * FROM s.t_diff(1, 2) ORDER BY v").fetchall()
    assert found == [("disappeared", -1, 2, 1), ("appeared", 1, 3, 2)]


NAMES = (
    "t",
    "T1",
    "t2",
    "n",
    "change",
    "before",
    "valid_from",
    "changed_columns",
    "c0",
    "c1",
    "k0",
    "newest",
)
NAMES += (
    "_lake_newest",
    "_lake_n",
    "_lake_v",
    "_lake_d",
    "_lake_end",
    "_lake_at",
    "_lake_seq",
    "a",
    "b",
    "seq",
    "row",
)


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("key", [(), ("t",), ("_lake_newest", "T1", "k0")], ids=["no key", "one", "three"])
def test_columns_named_as_the_sql_of_versions_names_things(key: tuple[str, ...], *, compact: bool) -> None:
    lake = Lake.create(MemoryStore())
    row = {name: f"of {name}" for name in NAMES}
    for n, rows in enumerate([[row], [row | {"n": "new"}, row | dict.fromkeys(key or ["n"], "2")], [row]]):
        with lake.load("s", gates=OPEN) as load:
            load.write("t", rows, disposition="replace", primary_key=key)
        if compact and n == 1:
            compaction.compact(lake, "s")
    stored = [c.name for c in lake.log("s").tables["t"].columns]
    assert lake.query("SELECT * FROM s.t_at(1)").fetchall() == [tuple(row.values())]
    assert lake.query("SELECT count(*) FROM s.t_at(2)").fetchall() == [(2,)]
    assert lake.query("SELECT * FROM s.t_at(NULL)").fetchall() == [tuple(row.values())]
    cursor = lake.query("SELECT * FROM s.t_diff(1, 2)")
    names = [c[0] for c in cursor.description or []]
    assert [name for name in names if name in stored] == stored
    found = [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
    assert Counter(r["_lake_change"] for r in found) == (
        {"appeared": 1, "changed": 1} if key else {"appeared": 2, "disappeared": 1}
    )
    assert lake.query("SELECT * FROM s.t_diff(3, 1)").fetchall() == []
    if key:
        assert lake.query("SELECT count(*) FROM s.t_history").fetchall() == [(5,)]
