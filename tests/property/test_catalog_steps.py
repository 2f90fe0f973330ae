"""A catalog brought up to date step by step says what one built whole says."""

import random
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lakehouse import Lake, checkpoint, compaction, tags
from lakehouse.core.gates import OPEN
from lakehouse.duck import catalog
from lakehouse.duck.session import catalog_path, refresh

ABOUT = ("tags", "loads", "table_loads", "files", "tables", "columns", "about")


@pytest.fixture(autouse=True)
def small_summaries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "AFTER_FILES", 4)
    monkeypatch.setattr("lakehouse.replay.LISTED", 3)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.create(tmp_path / "lake")


def step(lake: Lake, rng: random.Random) -> None:
    """One load: of some tables, in some way, with types and keys that may change; or of none."""
    with lake.load(rng.choice(["shop", "shop", "news"]), gates=OPEN) as load:
        for name in rng.sample(["a", "B", "c d".replace(" ", "_")], rng.randrange(3)):
            rows = [
                {"id": i, "x": rng.choice([1, 2.5, "t", None]), f"y{rng.randrange(3)}": i}
                for i in range(rng.randrange(1, 4))
            ]
            how: dict[str, Any] = rng.choice(
                [
                    {},
                    {"disposition": "replace"},
                    {"disposition": "replace", "primary_key": "id"},
                    {"disposition": "replace", "primary_key": "id"},
                    {"disposition": "merge", "primary_key": "id"},
                ]
            )
            load.write(name, rows, **how)
    if rng.random() < 0.1:
        compaction.compact(lake, "shop")
    if rng.random() < 0.2:
        tags.delete(lake, "newest") if "newest" in tags.tags(lake) else tags.create(lake, "newest")


def said(path: Path) -> dict[str, Any]:
    """All that a catalog says: every table about the lake, and every view at every load."""
    out: dict[str, Any] = {}
    with duckdb.connect(str(path), read_only=True) as client:
        for name in ABOUT:
            out[name] = sorted(map(repr, client.execute(f'SELECT * FROM main."{name}"').fetchall()))
        tables = client.execute('SELECT source, "table" FROM main.tables ORDER BY ALL').fetchall()
        for source, table in tables:
            wanted = "SELECT max(seq) FROM main.loads WHERE source = ?"
            ((newest,),) = client.execute(wanted, [source]).fetchall()
            for seq in range(newest + 1):
                rows = client.execute(f'SELECT * FROM "{source}"."{table}_at"({seq})').fetchall()
                out[f"{source}.{table} at {seq}"] = sorted(map(repr, rows))
        views = "SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
        for source, view in client.execute(views).fetchall():
            rows = client.execute(f'SELECT * FROM "{source}"."{view}"').fetchall()
            out[f"{source}.{view}"] = sorted(map(repr, rows))
        macros = "SELECT schema_name, function_name FROM duckdb_functions() WHERE NOT internal"
        out["macros"] = sorted(client.execute(macros).fetchall())
    return out


def path_of(lake: Lake) -> Path:
    path = catalog_path(lake)
    assert path
    return path


def built_whole(lake: Lake, folder: Path) -> dict[str, Any]:
    other = folder / "whole.duckdb"
    assert catalog.write_file(other, lake, anew=True) == {}
    return said(other)


@pytest.mark.parametrize("seed", range(3))
def test_step_by_step_it_says_what_one_built_whole_says(
    seed: int, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    step(lake, rng)
    refresh(lake)
    whole = catalog.build

    def not_whole(*_: Any) -> None:
        pytest.fail("the catalog was built whole")

    for _ in range(12):
        for _ in range(rng.randrange(1, 3)):
            step(lake, rng)
        monkeypatch.setattr(catalog, "build", not_whole)
        other = Lake.open(lake.store) if rng.random() < 0.6 else lake
        refresh(other)
        monkeypatch.setattr(catalog, "build", whole)
        if rng.random() < 0.3:
            assert said(path_of(lake)) == built_whole(Lake.open(lake.store), tmp_path)
    assert said(path_of(lake)) == built_whole(lake, tmp_path)


def test_what_did_not_change_is_left_alone(lake: Lake) -> None:
    for source in ("news", "shop"):
        with lake.load(source) as load:
            load.write("t", [{"n": 1}])
    refresh(lake)

    def views() -> dict[str, str]:
        with duckdb.connect(str(path_of(lake)), read_only=True) as client:
            return dict(client.execute("SELECT name, value FROM about WHERE name LIKE 'view:%'").fetchall())

    before = views()
    with lake.load("shop") as load:
        load.write("t", [{"n": 2}])
    refresh(lake)
    made = [name for name, digest in views().items() if before[name] != digest]
    assert made == ["view:shop.t"]


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM loads WHERE seq = 1",
        "DELETE FROM table_loads",
        "DROP TABLE files",
        "DELETE FROM about",
        "UPDATE about SET value = 'x' WHERE name = 'lake_id'",
        "UPDATE about SET value = '1' WHERE name = 'catalog_version'",
        "UPDATE about SET value = replace(value, '[2, \"', '[2, \"0') WHERE name = 'log:shop'",
        "UPDATE about SET value = 'no JSON' WHERE name = 'log:shop'",
        "UPDATE about SET value = '7' WHERE name = 'log:shop'",
        "INSERT INTO about VALUES ('log:other', '[1, \"\", \"\"]')",
    ],
)
def test_one_that_is_not_of_these_logs_is_built_whole(harm: str, lake: Lake, tmp_path: Path) -> None:
    rng = random.Random(1)
    for _ in range(3):
        with lake.load("shop") as load:
            load.write("t", [{"n": 1}])
        refresh(lake) if rng.random() < 0.7 else None
    refresh(lake)
    with duckdb.connect(str(path_of(lake))) as client:
        client.execute(harm)
    with lake.load("shop") as load:
        load.write("t", [{"n": 2}])
    assert lake.query("SELECT count(*) FROM shop.t").fetchall() == [(4,)]
    assert said(path_of(lake)) == built_whole(lake, tmp_path)


def test_of_a_history_that_was_written_anew_nothing_is_taken_over(lake: Lake, tmp_path: Path) -> None:
    for n in range(3):
        with lake.load("shop") as load:
            load.write("t", [{"n": n}])
    refresh(lake)
    for path in sorted(Path(lake.url).glob("shop/_log/*.jsonl")):
        path.unlink()
    opened = Lake.open(lake.store)
    for n in range(4):
        with opened.load("shop") as load:
            load.write("t", [{"n": 10 + n}])
    assert sorted(opened.query("SELECT n FROM shop.t").fetchall()) == [(10,), (11,), (12,), (13,)]
    assert said(path_of(lake)) == built_whole(opened, tmp_path)


def test_many_steps_do_not_make_the_file_grow_without_end(lake: Lake, tmp_path: Path) -> None:
    for n in range(25):
        with lake.load("shop") as load:
            load.write("t", [{"n": n}], disposition="replace")
        refresh(lake)
    built_whole(lake, tmp_path)
    assert path_of(lake).stat().st_size <= 4 * (tmp_path / "whole.duckdb").stat().st_size
