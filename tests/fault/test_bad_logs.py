"""Logs that something else than lakehouse has touched: each trouble has an error of its own, and stays where it is."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_audit import audit, log_files

from lakehouse import Lake
from lakehouse.checkpoint import AFTER_FILES
from lakehouse.errors import (
    ForkError,
    FormatError,
    GapError,
    IntegrityError,
    NoLakeError,
    TornCommitError,
    UnsafePathError,
)
from lakehouse.verify import verify

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def lake(three_loads: Path) -> Path:
    return three_loads


@pytest.fixture(scope="module")
def long_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("long") / "lake"
    opened = Lake.create(root)
    for n in range(AFTER_FILES + 2):
        with opened.load("shop", load_id=str(n)) as load:
            if n % 20 == 0:
                load.write("log", [{"n": n}])
    with opened.load("news") as load:
        load.write("stories", [{"title": "story 1"}, {"title": "story 2"}])
    assert [path.name[:20] for path in checkpoints(root)] == [f"{AFTER_FILES:020d}"]
    return root


@pytest.fixture
def long_log(long_template: Path, tmp_path: Path) -> Path:
    """A lake whose source `shop` has a checkpoint of its log, and two more commits."""
    return Path(shutil.copytree(long_template, tmp_path / "long" / "lake"))


def checkpoints(lake: Path) -> list[Path]:
    return sorted((lake / "_derived" / "shop" / "log").glob("*.json"))


def edited(path: Path, edit: Edit) -> None:
    """Change the last commit of a log file. A new file: committed ones may be hard links of others."""
    *before, last = path.read_bytes().splitlines()
    record = json.loads(last)
    edit(record)
    lines = [*before, json.dumps(record).encode()]
    path.unlink()
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def rewritten(lake: Path, edit: Edit, source: str = "shop") -> Path:
    """Change the last commit of a source, which no other commit follows: its chain stays whole."""
    path = log_files(lake, source)[-1]
    edited(path, edit)
    return path


def assert_only_shop_is_broken(lake: Path, kind: type[IntegrityError], names: str) -> IntegrityError:
    """The error comes from every way in, names the file, says what to do; `news` loads and answers."""
    opened = Lake.open(lake)
    with pytest.raises(kind) as caught:
        opened.log("shop")
    assert type(caught.value) is kind
    assert caught.value.exit_code == 4
    assert names in str(caught.value)
    assert caught.value.hint
    with pytest.raises(kind), opened.load("shop") as load:
        load.write("log", [{"line": "more"}])
    with pytest.raises(kind):
        opened.query("SELECT * FROM shop.log")
    assert kind in [type(error) for error in verify(opened).errors]

    with opened.load("news", load_id="still") as load:
        load.write("stories", [{"title": "still here"}])
    assert opened.query("SELECT count(*) FROM news.stories").fetchall() == [(3,)]
    assert audit(lake, "news").load_ids[-1] == "still"
    return caught.value


# Torn and unreadable files.


def test_a_log_file_cut_at_any_byte_is_torn(lake: Path) -> None:
    path = log_files(lake)[-1]
    content = path.read_bytes()
    path.unlink()
    opened = Lake.open(lake)
    assert opened.log("shop").head == 2
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(TornCommitError, match=path.name) as caught:
            opened.log("shop")
        assert "restore" in caught.value.hint
    path.write_bytes(content)
    assert opened.log("shop").head == 3


@pytest.mark.parametrize("length", [0, 1, 100])
def test_a_torn_commit_breaks_its_own_source_only(length: int, lake: Path) -> None:
    path = log_files(lake)[1]
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:length])
    assert_only_shop_is_broken(lake, TornCommitError, f"shop/_log/{path.name}")


def test_a_reader_that_follows_a_log_meets_a_torn_commit_as_such(lake: Path) -> None:
    opened = Lake.open(lake)
    assert opened.log("shop").head == 3
    torn = log_files(lake)[0].with_name(f"{4:020d}.jsonl")
    torn.write_bytes(b'{"format":1,')
    for _ in range(2):
        with pytest.raises(TornCommitError, match=torn.name):
            opened.log("shop")
    torn.unlink()
    assert opened.log("shop").head == 3


@pytest.mark.parametrize(
    "content",
    [
        b"{]\n",
        b"\n",
        b"null\n",
        b"[]\n",
        b'"text"\n',
        b"{}\n",
        b"\xff\xfe\n",
        b"\x00" * 64 + b"\n",
        b"[" * 100_000 + b"\n",
    ],
    ids=["not JSON", "blank", "null", "list", "text", "empty", "not UTF-8", "zeros", "deep"],
)
def test_a_line_that_is_no_commit_is_a_format_error(content: bytes, lake: Path) -> None:
    path = log_files(lake)[-1]
    path.unlink()
    path.write_bytes(content)
    assert_only_shop_is_broken(lake, FormatError, f"shop/_log/{path.name}")


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c.pop("seq"),
        lambda c: c.update(seq="3"),
        lambda c: c.update(seq=0),
        lambda c: c.update(observed_at="yesterday"),
        lambda c: c.pop("load_id"),
        lambda c: c.update(tables=[]),
        lambda c: c["tables"]["items"].pop("schema"),
        lambda c: c["tables"]["items"]["parts"][0].pop("sha256"),
        lambda c: c["tables"]["items"].update(parts="x"),
        lambda c: c["tables"]["items"]["parts"][0].update(size_bytes="many"),
        lambda c: c["tables"]["items"].update(schema=[{"name": "a", "type": "quaternion"}]),
        lambda c: c["tables"].update({"../evil": c["tables"]["items"] | {"parts": []}}),
    ],
    ids=[
        "no seq", "seq text", "seq 0", "no instant", "no load id", "tables a list", "no schema", "no digest",
        "parts text", "size text", "unknown type", "bad table name",
    ],
)  # fmt: skip
def test_a_commit_with_fields_that_make_no_sense_is_a_format_error(edit: Edit, lake: Path) -> None:
    path = rewritten(lake, edit)
    assert_only_shop_is_broken(lake, FormatError, f"shop/_log/{path.name}")


# Gaps and forks.


def test_a_log_file_that_is_gone_is_a_gap(lake: Path) -> None:
    log_files(lake)[1].unlink()
    error = assert_only_shop_is_broken(lake, GapError, f"shop/_log/{2:020d}.jsonl")
    assert error.path == f"shop/_log/{2:020d}.jsonl"


@pytest.mark.parametrize("seq", [1, 2, 30, AFTER_FILES, AFTER_FILES + 1])
def test_a_gap_is_found_behind_a_checkpoint_too(seq: int, long_log: Path) -> None:
    """A checkpoint must not hide what a lake without it would say."""
    (long_log / "shop" / "_log" / f"{seq:020d}.jsonl").unlink()
    assert checkpoints(long_log)
    assert_only_shop_is_broken(long_log, GapError, f"{seq:020d}.jsonl")


def test_a_torn_commit_is_found_behind_a_checkpoint_too(long_log: Path) -> None:
    path = log_files(long_log)[20]
    path.write_bytes(path.read_bytes()[:-20])
    assert_only_shop_is_broken(long_log, TornCommitError, path.name)


@pytest.mark.parametrize("damage", ["torn", "flipped", "other", "empty", "not JSON"])
def test_a_damaged_checkpoint_changes_nothing(damage: str, long_log: Path) -> None:
    (path,) = checkpoints(long_log)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "torn": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "other": content.replace(b'"rows":', b'"rows":1', 1),
            "empty": b"",
            "not JSON": b"x" * (len(content) - 300) + content[-300:],
        }[damage]
    )
    assert [c.load_id for c in Lake.open(long_log).log("shop").commits] == [
        str(n) for n in range(AFTER_FILES + 2)
    ]


@pytest.mark.parametrize("seq", [1, 2])
def test_an_altered_earlier_commit_is_a_fork(seq: int, lake: Path) -> None:
    path = log_files(lake)[seq - 1]
    edited(path, lambda c: c.update(load_id="altered"))
    assert_only_shop_is_broken(lake, ForkError, f"shop/_log/{seq + 1:020d}.jsonl")


def test_the_end_of_another_history_is_a_fork(lake: Path, tmp_path: Path) -> None:
    """As after copying two lakes, each written to since, into one another."""
    other = tmp_path / "other" / "lake"
    shutil.copytree(lake, other)
    for root, load_id in ((lake, "here"), (other, "there")):
        for n in range(2):
            with Lake.open(root).load("shop", load_id=f"{load_id} {n}") as load:
                load.write("log", [{"line": load_id}])
    shutil.copy(log_files(other)[-1], log_files(lake)[-1])
    assert_only_shop_is_broken(lake, ForkError, f"shop/_log/{5:020d}.jsonl")


def test_two_log_files_that_overlap_with_other_content_are_a_fork(lake: Path, tmp_path: Path) -> None:
    """A long log file of one history, and a short one of another inside its range."""
    other = tmp_path / "other" / "lake"
    shutil.copytree(lake, other)
    for root in (lake, other):
        for n in range(2):
            with Lake.open(root).load("shop", load_id=f"{root.parent.name} {n}"):
                pass
    *_, fourth, fifth = log_files(lake)
    content = fourth.read_bytes() + fifth.read_bytes()
    fourth.unlink()
    fourth.write_bytes(content)
    fifth.unlink()
    assert Lake.open(lake).log("shop").head == 5
    shutil.copy(log_files(other)[-1], fifth)
    assert_only_shop_is_broken(lake, ForkError, fifth.name)


def test_two_log_files_that_overlap_and_agree_are_no_trouble(lake: Path) -> None:
    second, third = log_files(lake)[1:]
    content = second.read_bytes() + third.read_bytes()
    second.unlink()
    second.write_bytes(content)
    assert [c.load_id for c in Lake.open(lake).log("shop").commits] == ["load-1", "load-2", "load-3"]
    assert not verify(Lake.open(lake)).errors


# Commits in the wrong place.


def test_a_commit_of_another_source_is_refused(lake: Path) -> None:
    path = log_files(lake, "shop")[-1]
    path.unlink()
    shutil.copy(log_files(lake, "news")[-1], path)
    assert_only_shop_is_broken(lake, FormatError, f"shop/_log/{path.name}")


def test_a_log_copied_to_another_source_is_refused(lake: Path) -> None:
    shutil.copytree(lake / "news" / "_log", lake / "copy" / "_log")
    with pytest.raises(FormatError, match=r"copy/_log/0{19}1\.jsonl.*'news'"):
        Lake.open(lake).log("copy")
    assert Lake.open(lake).query("SELECT count(*) FROM news.stories").fetchall() == [(2,)]


@pytest.mark.parametrize("seq", [1, 2, 4, 99])
def test_a_commit_with_a_wrong_number_is_a_gap(seq: int, lake: Path) -> None:
    path = rewritten(lake, lambda c: c.update(seq=seq))
    assert_only_shop_is_broken(lake, GapError, f"shop/_log/{path.name}")


@pytest.mark.parametrize("number", [4, 7])
def test_a_renamed_log_file_is_a_gap_that_names_it(number: int, lake: Path) -> None:
    path = log_files(lake)[-1]
    renamed = path.rename(path.with_name(f"{number:020d}.jsonl"))
    error = assert_only_shop_is_broken(lake, GapError, f"shop/_log/{renamed.name}")
    assert "renamed" in error.hint


def test_a_log_file_renamed_in_the_middle_is_a_gap(lake: Path) -> None:
    path = log_files(lake)[1]
    path.rename(path.with_name(f"{9:020d}.jsonl"))
    assert_only_shop_is_broken(lake, GapError, f"{2:020d}.jsonl")


def test_files_of_other_names_in_a_log_are_left_alone(lake: Path) -> None:
    folder = lake / "shop" / "_log"
    for name in (
        ".DS_Store",
        "README.txt",
        f"{4:020d}.jsonl~",
        "4.jsonl",
        f"{4:020d}.jsonl.part",
        f"{0:020d}.jsonl",
    ):
        (folder / name).write_bytes(b"not a commit")
    opened = Lake.open(lake)
    assert opened.log("shop").head == 3
    with opened.load("shop", load_id="more") as load:
        load.write("log", [{"line": "more"}])
    assert load.commit is not None
    assert load.commit.seq == 4
    assert opened.query("SELECT count(*) FROM shop.log").fetchall() == [(7,)]


# Paths that lead elsewhere.


@pytest.mark.parametrize(
    "path",
    [
        "../secret.parquet", "shop/items/../../../secret.parquet", "/etc/passwd", "shop/items/..", "",
        "shop\\items\\x.parquet", "C:/x.parquet", "shop//items/x.parquet", "shop/items/./x.parquet", "shop/items/",
        "news/stories/x.parquet", "https://example.org/x.parquet", "shop/items/x\n.parquet", "shop/items/x\0.parquet",
        ["shop/items/x.parquet"], None, 7,
    ],
)  # fmt: skip
def test_a_commit_that_names_a_path_outside_is_unsafe(path: object, lake: Path) -> None:
    found = rewritten(lake, lambda c: c["tables"]["items"]["parts"][0].update(path=path))
    assert_only_shop_is_broken(lake, UnsafePathError, f"shop/_log/{found.name}")


def test_a_log_file_that_is_a_link_is_not_followed(lake: Path, tmp_path: Path) -> None:
    path = log_files(lake)[1]
    path.rename(tmp_path / "elsewhere.jsonl")
    path.symlink_to(tmp_path / "elsewhere.jsonl")
    assert_only_shop_is_broken(lake, UnsafePathError, path.name)


def test_a_log_folder_that_is_a_link_is_not_followed(lake: Path, tmp_path: Path) -> None:
    (lake / "shop" / "_log").rename(tmp_path / "elsewhere")
    (lake / "shop" / "_log").symlink_to(tmp_path / "elsewhere")
    assert_only_shop_is_broken(lake, UnsafePathError, "shop/_log")


# Versions and unknown fields.


@pytest.mark.parametrize("version", [2, 99, "2", None, [1]])
def test_a_commit_of_a_newer_format_asks_for_an_upgrade(version: object, lake: Path) -> None:
    path = rewritten(lake, lambda c: c.update(format=version))
    error = assert_only_shop_is_broken(lake, FormatError, f"shop/_log/{path.name}")
    assert "Upgrade" in error.hint


def test_a_lake_of_a_newer_format_is_not_opened(lake: Path) -> None:
    about = json.loads((lake / "lakehouse.json").read_bytes())
    (lake / "lakehouse.json").write_text(json.dumps(about | {"format": 2, "news": "of the future"}))
    for way in (Lake.open, Lake.create):
        with pytest.raises(FormatError, match="format 2") as caught:
            way(lake)
        assert "Upgrade" in caught.value.hint


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format": "x", "lake_id": "y"}', '{"format": 1}', "null"]
)
def test_a_damaged_lake_file_is_a_format_error_that_says_what_belongs_there(content: str, lake: Path) -> None:
    (lake / "lakehouse.json").write_text(content)
    for way in (Lake.open, Lake.create):
        with pytest.raises(FormatError, match=r"lakehouse\.json") as caught:
            way(lake)
        assert "lake_id" in caught.value.hint


def test_a_lake_file_that_is_gone_is_no_lake(lake: Path) -> None:
    (lake / "lakehouse.json").unlink()
    with pytest.raises(NoLakeError):
        Lake.open(lake)


def test_unknown_fields_survive_and_disturb_nothing(lake: Path) -> None:
    """Fields that later versions of format 1 may add, at every level of a commit."""

    def extend(record: dict[str, Any]) -> None:
        record["signature"] = {"by": "someone", "value": [1, None]}
        record["_tables"] = "a name that the reader uses inside"
        record["tables"]["items"]["bloom"] = "filter"
        record["tables"]["items"]["parts"][0]["encryption"] = {"none": True}
        record["tables"]["items"]["schema"][0]["comment"] = "the number of an item"
        record["tables"]["items"]["counts"]["moved"] = 7

    before = Lake.open(lake).query("SELECT * FROM shop.items ORDER BY sku").fetchall()
    path = rewritten(lake, extend)
    opened = Lake.open(lake)
    (*_, last) = opened.log("shop").commits
    assert last.record["signature"] == {"by": "someone", "value": [1, None]}
    assert last.digest == hashlib.sha256(path.read_bytes()[:-1]).hexdigest()
    assert opened.query("SELECT * FROM shop.items ORDER BY sku").fetchall() == before
    with opened.load("shop", load_id="next") as load:
        load.write("items", [{"sku": 0, "price": 0, "tags": []}], disposition="merge", primary_key="sku")
    assert load.commit is not None
    assert load.commit.prev == last.digest
    assert not verify(Lake.open(lake)).errors
