"""Kept states are derived: with them, without them and with damaged ones the lake says the same."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse import Lake

LOADS = 80  # twice as many as a kept state needs


def _history(seed: int) -> list[list[dict[str, object]]]:
    """Snapshots of 60 rows of which a few change, go and come back; one column turns to text."""
    rng = random.Random(seed)
    rows = {i: {"id": i, "price": rng.random(), "tags": [rng.randint(0, 3)]} for i in range(60)}
    out = []
    for n in range(LOADS):
        for key in rng.sample(sorted(rows), 3):
            rows[key] = rows[key] | {"price": rng.random() if n < 50 or rng.random() < 0.7 else "sold"}
        gone = rng.choice(sorted(rows))
        rows.pop(gone)
        rows[60 + n % 7] = {"id": 60 + n % 7, "price": None, "tags": []}
        out.append([dict(row) for row in rows.values()])
    return out


def _load(lake: Lake, snapshots: list[list[dict[str, object]]], harm: Callable[[Path], None]) -> None:
    for rows in snapshots:
        with lake.load("s") as load:
            load.write("t", rows, disposition="replace", primary_key="id")
        for path in Path(lake.url).glob("_derived/s/state/t/*.parquet"):
            harm(path)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x10
    path.write_bytes(content)


def _swap(path: Path) -> None:
    """A sound file of another state under this one's name."""
    others = [p for p in path.parent.iterdir() if p != path]
    if others:
        path.write_bytes(others[0].read_bytes())


def _digests(lake: Lake) -> list[tuple[str, dict[str, int]]]:
    return [(c.tables["t"].content, dict(c.tables["t"].counts)) for c in lake.log("s").commits]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, dict[str, int]]]:
    lake = Lake.create(tmp_path_factory.mktemp("plain") / "lake")
    _load(lake, _history(1), lambda path: path.unlink())
    return _digests(lake)


@pytest.mark.parametrize("harm", [lambda _: None, _flip, _swap], ids=["kept", "flipped bit", "swapped"])
def test_loads_store_the_same_with_and_without_kept_states(
    harm: Callable[[Path], None], plain: list[tuple[str, dict[str, int]]], tmp_path: Path
) -> None:
    lake = Lake.create(tmp_path / "lake")
    _load(lake, _history(1), harm)
    assert _digests(lake) == plain


def test_a_kept_state_is_used_and_few_stay(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake")
    _load(lake, _history(2), lambda _: None)
    kept = sorted(p.name for p in tmp_path.glob("lake/_derived/s/state/t/*.parquet"))
    assert 1 <= len(kept) <= 2
    for path in tmp_path.glob("lake/s/t/lake_load=00000002/*.parquet"):
        path.unlink()  # a part that only a kept state stands for
    with lake.load("s") as load:
        load.write("t", _history(2)[-1], disposition="replace", primary_key="id")
    assert load.commit.tables["t"].counts["unchanged"] == len(_history(2)[-1])
