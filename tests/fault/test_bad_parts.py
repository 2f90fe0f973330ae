"""Parts that are missing, damaged or led elsewhere: the error names the file, and other tables go on."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_audit import audit, files
from fault_injection import Bucket

from lakehouse import Lake
from lakehouse.errors import (
    DamagedPartError,
    IntegrityError,
    LakehouseError,
    MissingPartError,
    UnsafePathError,
)
from lakehouse.verify import verify


@pytest.fixture
def lake(three_loads: Path) -> Path:
    return three_loads


def part_of(lake: Path, table: str = "items", seq: int = 1) -> Path:
    (path,) = (lake / "shop" / table / f"lake_load={seq:08d}").glob("*.parquet")
    return path


def flipped(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def verified(lake: Path) -> list[type[LakehouseError]]:
    return [type(error) for error in verify(Lake.open(lake)).errors]


def assert_the_rest_goes_on(lake: Path) -> None:
    opened = Lake.open(lake)
    with opened.load("news", load_id="still") as load:
        load.write("stories", [{"title": "still here"}])
    assert opened.query("SELECT count(*) FROM news.stories").fetchall() == [(3,)]
    assert opened.query("SELECT count(*) FROM shop.log").fetchall() == [(6,)]
    with opened.load("shop", load_id="still") as load:
        load.write("log", [{"line": "still here"}])
    assert opened.query("SELECT count(*) FROM shop.log").fetchall() == [(7,)]


def loads_of_items_fail(lake: Path, kind: type[IntegrityError], path: Path) -> None:
    """A load that has to compare with the damaged table is refused; nothing of it is published."""
    before = [p.name for p in (lake / "shop" / "_log").iterdir()]
    with pytest.raises(kind, match=path.name) as caught, Lake.open(lake).load("shop", load_id="new") as load:
        load.write(
            "items",
            [{"sku": i, "price": 1, "tags": ["x"]} for i in range(5)],
            disposition="replace",
            primary_key="sku",
        )
    assert "estore" in caught.value.hint
    assert [p.name for p in (lake / "shop" / "_log").iterdir()] == before


@pytest.mark.parametrize("store", [Path, Bucket])
def test_a_missing_part_is_named_by_queries_loads_and_verify(
    store: Callable[[Path], Path], lake: Path
) -> None:
    path = part_of(lake)
    path.unlink()
    opened = Lake.open(store(lake))
    with pytest.raises(MissingPartError, match=path.name) as caught:
        opened.query("SELECT * FROM shop.items").fetchall()
    assert caught.value.exit_code == 4
    assert "verify" in caught.value.hint
    (error,) = verify(opened).errors
    assert isinstance(error, MissingPartError)
    assert path.name in str(error)
    loads_of_items_fail(lake, MissingPartError, path)
    assert_the_rest_goes_on(lake)


def test_states_that_do_not_need_the_missing_part_stay_readable(lake: Path) -> None:
    part_of(lake, "page", 1).unlink()
    assert Lake.open(lake).query("SELECT line FROM shop.log_at(1) ORDER BY 1").fetchall() == [
        ("1.0",),
        ("1.1",),
    ]


def test_a_part_that_goes_while_a_query_reads_is_a_missing_part(tmp_path: Path) -> None:
    """After planning DuckDB says it in other words: it is what lets `Lake.query` try again after a prune."""
    lake = Lake.create(tmp_path / "lake")
    for n in range(40):
        with lake.load("s") as load:
            load.write("a", [{"n": n * 1000 + i} for i in range(1000)], disposition="append")
    *_, last = sorted((tmp_path / "lake" / "s" / "a").glob("*/*.parquet"))

    def unlinks(n: int) -> int:
        last.unlink(missing_ok=True)
        return n

    session = lake.session()
    session.connection.create_function("unlinks", unlinks)
    with pytest.raises(MissingPartError, match=last.name):
        session.query("SELECT sum(unlinks(n)) FROM s.a")


def test_one_flipped_byte_anywhere_is_found_by_verify(lake: Path) -> None:
    path = part_of(lake)
    content = path.read_bytes()
    path.unlink()
    for at in range(0, len(content), max(len(content) // 40, 1)):
        path.write_bytes(content)
        flipped(path, at)
        (error,) = verify(Lake.open(lake), "shop").errors
        assert isinstance(error, DamagedPartError), at
        assert path.name in str(error)
        assert error.hint
    path.write_bytes(content)
    assert not verify(Lake.open(lake)).errors


def _footer(content: bytes) -> bytes:
    return content[:-12] + b"\xff" * 8 + content[-4:]


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: c[:-1], _footer, lambda c: b"\0" * len(c)],
    ids=["half", "empty", "one byte short", "footer", "zeros"],
)
def test_a_part_that_does_not_parse_is_a_damaged_part_to_loads_and_verify(
    damage: Callable[[bytes], bytes], lake: Path
) -> None:
    path = part_of(lake)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(damage(content))
    assert verified(lake) == [DamagedPartError]
    loads_of_items_fail(lake, DamagedPartError, path)
    with pytest.raises(IntegrityError, match=r"(?s)items.*lakehouse verify|verify"):
        Lake.open(lake).query("SELECT * FROM shop.items").fetchall()
    assert_the_rest_goes_on(lake)


def test_a_part_replaced_by_a_sound_one_of_other_rows_is_damaged(lake: Path) -> None:
    path = part_of(lake)
    path.unlink()
    shutil.copy(part_of(lake, "items", 2), path)
    assert verified(lake) == [DamagedPartError]


def test_a_folder_in_the_place_of_a_part_is_a_missing_part(lake: Path) -> None:
    path = part_of(lake)
    path.unlink()
    path.mkdir()
    assert verified(lake) == [MissingPartError]
    with pytest.raises(IntegrityError):
        Lake.open(lake).query("SELECT * FROM shop.items").fetchall()


@pytest.fixture(params=["part", "partition", "table", "source"])
def linked(request: pytest.FixtureRequest, lake: Path, tmp_path: Path) -> Path:
    """A lake where a part, or a folder above one, lies elsewhere and is linked."""
    path = part_of(lake)
    moved = {"part": path, "partition": path.parent, "table": path.parent.parent, "source": lake / "shop"}
    moved[request.param].rename(tmp_path / "elsewhere")
    moved[request.param].symlink_to(tmp_path / "elsewhere")
    return lake


def test_a_part_behind_a_link_is_not_opened(linked: Path) -> None:
    errors = verified(linked)
    assert errors
    assert set(errors) == {UnsafePathError}
    with pytest.raises(UnsafePathError), Lake.open(linked).load("shop") as load:
        load.write("items", [{"sku": 1, "price": 1, "tags": ["x"]}], disposition="replace", primary_key="sku")
    opened = Lake.open(linked)
    with opened.load("news") as load:
        load.write("stories", [{"title": "still here"}])
    assert opened.query("SELECT count(*) FROM news.stories").fetchall() == [(3,)]


def test_a_part_behind_a_link_is_not_read_by_queries(linked: Path) -> None:
    with pytest.raises(UnsafePathError):
        Lake.open(linked).query("SELECT * FROM shop.items").fetchall()


def test_files_that_no_commit_names_are_never_read(lake: Path) -> None:
    """What a killed load leaves, or anybody puts there: a lake is read by its log, not by its folders."""
    before = audit(lake)
    path = part_of(lake, "log", 1)
    for name in ("stray.parquet", "torn.parquet"):
        path.with_name(name).write_bytes(path.read_bytes()[: 50 if name == "torn.parquet" else None])
    (lake / "shop" / "log" / "lake_load=00000009").mkdir()
    shutil.copy(path, lake / "shop" / "log" / "lake_load=00000009" / "stray.parquet")
    opened = Lake.open(lake)
    assert opened.query("SELECT count(*) FROM shop.log").fetchall() == [(6,)]
    with opened.load("shop", load_id="more") as load:
        load.write("log", [{"line": "more"}])
    assert opened.query("SELECT count(*) FROM shop.log").fetchall() == [(7,)]
    assert audit(lake).states[:-1] == before.states
    report = verify(opened)
    assert not report.errors
    assert len(report.orphans) == 3
    assert set(report.orphans) <= files(lake)
