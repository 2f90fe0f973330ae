"""A mirror that means harm: restoring it writes nothing outside its folder, runs nothing, and reads within bounds."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse import Lake
from lakehouse.core import layout
from lakehouse.errors import (
    DamagedPartError,
    FormatError,
    IntegrityError,
    LakehouseError,
    NoLakeError,
    QuarantinedError,
    UserError,
)
from lakehouse.parquet import contents
from lakehouse.store import Entry, LocalStore, MemoryStore
from lakehouse.tags import create
from lakehouse.verify import verify
from sync.restore import restore

START = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "nobody else reads this"  # noqa: S105 - of nothing
GIGABYTES = 3 << 30

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "mirror"
    lake = Lake.create(folder)
    for n in range(1, 4):
        with lake.load("shop", load_id=f"shop-{n}", observed_at=START + timedelta(days=n)) as load:
            load.write("products", [{"sku": "a", "price": n}], disposition="replace", primary_key="sku")
    with lake.load("news", observed_at=START) as load:
        load.write("stories", [{"title": "all is well"}])
    with lake.load("models", observed_at=START) as load:
        load.write("daily", [{"day": 1}])
        load.pipeline = {
            "models": {"daily": {"kind": "view", "language": "sql", "sql": "select 1", "path": "m.sql"}}
        }
    create(lake, "then", 2)
    with pytest.raises(QuarantinedError), lake.load("shop", load_id="refused") as load:
        load.write("products", [], disposition="replace", primary_key="sku")
    shutil.rmtree(folder / "_derived", ignore_errors=True)
    return folder


@pytest.fixture
def mirror(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "mirror"))


@pytest.fixture(autouse=True)
def contained(tmp_path: Path) -> Iterator[None]:
    """Nothing but the restored lake and its catalog is there afterwards, and nothing of the secret in it."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "letter.txt").write_text(SECRET)
    yield
    made = {path.name for path in tmp_path.iterdir()} - {"mirror", "home", "news"}
    assert made <= {"new", "new.lakehouse.duckdb", "news.lakehouse.duckdb"}
    assert [(p.name, p.read_text()) for p in home.iterdir()] == [("letter.txt", SECRET)]
    for path in (tmp_path / "new").rglob("*"):
        assert not path.is_symlink()
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


@pytest.fixture(autouse=True)
def hurried() -> Iterator[None]:
    """Nothing waits for what never comes, and nothing takes long."""

    def late(*_: object) -> None:
        pytest.fail("it took more than a minute")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def log_file(mirror: Path, source: str = "shop") -> Path:
    return max((mirror / source / "_log").glob("*.jsonl"))


def rewritten(mirror: Path, edit: Edit, source: str = "shop") -> None:
    """Change the newest commit of a source, which no other commit follows: its chain stays whole."""
    path = log_file(mirror, source)
    record = json.loads(path.read_bytes())
    edit(record)
    path.unlink()
    path.write_bytes(json.dumps(record).encode() + b"\n")


def part_of(record: dict[str, Any]) -> dict[str, Any]:
    (change,) = record["tables"].values()
    part: dict[str, Any] = change["parts"][0]
    return part


def smuggled(mirror: Path, data: bytes, *, rows: int = 1, source: str = "shop", content: str = "") -> None:
    """A part of any bytes, committed with their digest."""

    def edit(record: dict[str, Any]) -> None:
        part, sha256 = part_of(record), hashlib.sha256(data).hexdigest()
        part |= {"path": f"{part['path'].rsplit('/', 1)[0]}/{sha256[:24]}.parquet", "sha256": sha256}
        part |= {"size_bytes": len(data), "rows": rows}
        (change,) = record["tables"].values()
        change["content"] = content or change["content"]
        (mirror / part["path"]).write_bytes(data)

    rewritten(mirror, edit, source)


def assert_refused(
    mirror: Path, into: Path, kind: type[LakehouseError], match: str | None = None
) -> LakehouseError:
    """Restoring fails with an error that a person can read; the other source can be restored."""
    with pytest.raises(kind, match=match) as caught:
        restore(str(mirror), into / "new")
    assert caught.value.hint
    restore(str(mirror), into / "news", sources=["news"])
    assert verify(Lake.open(into / "news")).errors == []
    return caught.value


# Paths and names.


@pytest.mark.parametrize(
    "path",
    [
        "../home/letter.txt",
        "/etc/passwd",
        "shop/products/../../../home/evil.parquet",
        "shop/products/./x.parquet",
        "shop/products//x.parquet",
        "shop\\products\\x.parquet",
        "C:/x.parquet",
        "shop/products/C:x.parquet",
        "shop/products/x\0.parquet",
        "shop/products/x\n.parquet",
        "shop/products/\ud800.parquet",
        "shop/_log/00000000000000000009.jsonl",
        "news/stories/x.parquet",
        "lakehouse.json",
        "",
        7,
        None,
    ],
)
def test_a_part_that_climbs_out_is_not_written(path: Any, mirror: Path, tmp_path: Path) -> None:
    rewritten(mirror, lambda record: part_of(record).update(path=path))
    assert_refused(mirror, tmp_path, IntegrityError)


def test_a_path_too_long_for_any_disk_is_said_so(mirror: Path, tmp_path: Path) -> None:
    store = MemoryStore()
    rewritten(mirror, lambda record: part_of(record).update(path="shop/products/" + "x" * 5000))
    for entry in LocalStore(mirror).list(""):
        store.put(entry.key, LocalStore(mirror).get(entry.key))
    store.put("shop/products/" + "x" * 5000, (mirror / next(mirror.glob("shop/products/*3/*"))).read_bytes())
    with pytest.raises(LakehouseError, match=r"could not be|too long"):
        restore(store, tmp_path / "new")


EVIL_KEYS = [
    "_tags/../../home/evil.json",
    "_tags/a/b.json",
    "_tags/.json",
    "_tags/now\n.json",
    "_quarantine/shop/../../home/load.json",
    "_quarantine/shop/x/../../../../home/evil",
    "_quarantine/shop//load.json",
    "_quarantine/../../home/shop/load.json",
    "_quarantine/shop/\\..\\..\\home\\load.json",
    "shop/_log/../../../home/00000000000000000004.jsonl",
    "shop/_log/pack/../../../00000000000000000001-00000000000000000009.jsonl.gz",
    "shop/products/../../../home/evil.parquet",
    "../home/_log/00000000000000000001.jsonl",
    "/etc/_log/00000000000000000001.jsonl",
    "main/_log/00000000000000000001.jsonl",
    "sh op/_log/00000000000000000001.jsonl",
    "Shop/_log/00000000000000000001.jsonl",
]


@pytest.mark.parametrize("key", EVIL_KEYS)
def test_a_key_that_climbs_out_is_not_written(key: str, mirror: Path, tmp_path: Path) -> None:
    """A bucket may have objects of any name."""
    store = MemoryStore()
    for entry in LocalStore(mirror).list(""):
        store.put(entry.key, LocalStore(mirror).get(entry.key))
    store.put(key, store.get(layout.log_key("shop", 1)).replace(b"shop", key.split("/", 1)[0].encode()))
    with contextlib.suppress(LakehouseError):  # of a source that cannot be one
        restore(store, tmp_path / "new")
    keys = {entry.key for entry in LocalStore(tmp_path / "new").list("")}
    assert not any(".." in key or "evil" in key for key in keys)
    restore(store, tmp_path / "news", sources=["news"])


def test_sources_that_differ_in_case_only_are_not_laid_into_each_other(mirror: Path, tmp_path: Path) -> None:
    shutil.copytree(mirror / "shop", mirror / "Shop")
    assert_refused(mirror, tmp_path, UserError, "differ only in case")


# Links and what is no file.


@pytest.mark.parametrize("what", ["part", "log file", "lakehouse.json", "source", "tag", "refused load"])
@pytest.mark.parametrize("how", ["link", "pipe"])
def test_a_link_or_a_pipe_in_the_place_of_a_file_is_not_opened(
    how: str, what: str, mirror: Path, tmp_path: Path
) -> None:
    place = {
        "part": next(mirror.glob("shop/products/*3/*.parquet")),
        "log file": log_file(mirror),
        "lakehouse.json": mirror / "lakehouse.json",
        "source": mirror / "shop",
        "tag": mirror / "_tags" / "then.json",
        "refused load": next(mirror.glob("_quarantine/shop/refused/load.json")),
    }[what]
    if place.is_dir():
        if how == "pipe":
            return  # a folder that is none is no source
        outside = tmp_path / "mirror" / ".." / "home"
        shutil.move(place, mirror / "elsewhere")
        place.symlink_to(mirror / "elsewhere")
        assert outside.exists()
    else:
        place.unlink()
        if how == "pipe":
            os.mkfifo(place)
        else:
            place.symlink_to(tmp_path / "home" / "letter.txt")
    with pytest.raises(LakehouseError) as caught:
        restore(str(mirror), tmp_path / "new")
    assert caught.value.hint
    assert SECRET not in str(caught.value)


def test_a_link_in_the_folder_is_not_written_through(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    shutil.copy(mirror / "lakehouse.json", tmp_path / "new")
    (tmp_path / "new" / "shop").symlink_to(tmp_path / "home")
    with pytest.raises(IntegrityError, match="link"):
        restore(str(mirror), tmp_path / "new")
    (tmp_path / "new" / "shop").unlink()


# Sizes.


def sparse(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(size)


@pytest.mark.parametrize(
    ("place", "size"),
    [
        ("lakehouse.json", 1 << 20),
        ("shop/_log/00000000000000000003.jsonl", GIGABYTES),
        ("shop/_log/pack/00000000000000000001-00000000000000000002.jsonl.gz", GIGABYTES),
        ("_tags/then.json", GIGABYTES),
        ("_tags/huge.json", GIGABYTES),
        ("_quarantine/shop/refused/load.json", GIGABYTES),
        ("part", GIGABYTES),
    ],
)
def test_a_file_of_gigabytes_is_not_read(place: str, size: int, mirror: Path, tmp_path: Path) -> None:
    file = next(mirror.glob("shop/products/*3/*.parquet")) if place == "part" else mirror / place
    sparse(file, size)
    with pytest.raises(LakehouseError) as caught:
        within(1 << 30, restore, str(mirror), tmp_path / "new")
    assert file.name in str(caught.value)
    assert caught.value.hint


def within(more_bytes: int, call: Callable[..., Any], *args: Any) -> Any:
    """Call with a bound on how much more memory may be asked for."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more_bytes, hard))
    try:
        return call(*args)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Lying(MemoryStore):
    """A store that says of objects that they are small, and then sends another thing."""

    def __init__(self, root: Path, key: str, data: bytes) -> None:
        super().__init__()
        for entry in LocalStore(root).list(""):
            self.put(entry.key, LocalStore(root).get(entry.key))
        self.key, self.data = key, data

    def get(self, key: str) -> bytes:
        return self.data if key == self.key else super().get(key)

    def list(self, prefix: str) -> Iterator[Entry]:
        return super().list(prefix)


@pytest.mark.parametrize("key", ["lakehouse.json", "_tags/then.json", layout.log_key("shop", 3)])
def test_what_is_larger_than_the_store_said_is_refused(key: str, mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(LakehouseError, match=r"at most|is not|ends in the middle"):
        restore(Lying(mirror, key, b"[" * (2 << 20)), tmp_path / "new")


@pytest.mark.parametrize("size", [0, -1, 1, 10**30, "12", None, 1.5, True, []])
def test_a_commit_that_lies_about_a_size_is_refused(size: Any, mirror: Path, tmp_path: Path) -> None:
    rewritten(mirror, lambda record: part_of(record).update(size_bytes=size))
    assert_refused(mirror, tmp_path, IntegrityError)


# JSON.

BAD_JSON = {
    "empty": b"",
    "no JSON": b"{]\n",
    "null": b"null\n",
    "a list": b"[]\n",
    "deep": b"[" * 50_000 + b"\n",
    "deep objects": b'{"a":' * 50_000 + b"\n",
    "deep and whole": b"[" * 50_000 + b"]" * 50_000 + b"\n",
    "not UTF-8": b"\xff\xfe\n",
    "a number without end": b"9" * 50_000 + b"\n",
}


@pytest.mark.parametrize("what", BAD_JSON)
@pytest.mark.parametrize("place", ["lakehouse.json", "log file", "tag", "load.json"])
def test_bad_json_is_refused_or_told(place: str, what: str, mirror: Path, tmp_path: Path) -> None:
    file = {
        "lakehouse.json": mirror / "lakehouse.json",
        "log file": log_file(mirror),
        "tag": mirror / "_tags" / "then.json",
        "load.json": next(mirror.glob("_quarantine/shop/refused/load.json")),
    }[place]
    file.unlink()
    file.write_bytes(BAD_JSON[what])
    if place == "load.json":  # copied as it is: nobody believes it before it is approved
        restore(str(mirror), tmp_path / "new")
    elif place == "tag":
        report = restore(str(mirror), tmp_path / "new")
        assert "then.json" in report.conflicts[0]
        assert report.tags == ()
    else:
        with pytest.raises((FormatError, NoLakeError)) as caught:
            restore(str(mirror), tmp_path / "new")
        assert file.name in str(caught.value)


@pytest.mark.parametrize("depth", [200, 2000])
def test_types_within_types_without_end_are_refused(depth: int, mirror: Path, tmp_path: Path) -> None:
    kind: Any = "int64"
    for _ in range(depth):
        kind = {"list": kind}
    path = log_file(mirror)
    record = json.loads(path.read_bytes())
    record["tables"]["products"]["schema"][0]["type"] = "KIND"
    text = json.dumps(record).replace('"KIND"', '{"list":' * depth + '"int64"' + "}" * depth)
    path.unlink()
    path.write_text(text + "\n")
    refused = pytest.raises(FormatError, match=path.name) if depth > 1000 else contextlib.nullcontext()
    with refused:
        restore(str(mirror), tmp_path / "new")


# Compression.


def test_a_log_pack_that_unpacks_to_more_than_memory_is_refused(mirror: Path, tmp_path: Path) -> None:
    bomb = io.BytesIO()
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        for _ in range(260):
            file.write(b"\n" * (1 << 20))
    place = mirror / layout.log_pack_key("shop", 1, 2)
    place.parent.mkdir()
    place.write_bytes(bomb.getvalue())
    assert place.stat().st_size < 2 << 20
    with pytest.raises(FormatError, match="no log pack does"):
        restore(str(mirror), tmp_path / "new")


def test_a_part_that_is_not_parquet_is_copied_and_verify_names_it(mirror: Path, tmp_path: Path) -> None:
    smuggled(mirror, b"#!/bin/sh\ntouch evil\n")
    restore(str(mirror), tmp_path / "new")
    lake = Lake.open(tmp_path / "new")
    (error,) = verify(lake).errors
    assert isinstance(error, DamagedPartError)
    assert "is no part of a lake" in str(error)
    assert lake.query("select title from news.stories").fetchall() == [("all is well",)]
    with pytest.raises(LakehouseError):
        lake.query("select * from shop.products").fetchall()


def bomb(rows: int, value: str) -> bytes:
    """A few kilobytes that stand for terabytes."""
    text = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows), pa.array([value]))
    table = pa.table({"_lake_seq": pa.repeat(pa.scalar(3, pa.int64()), rows), "sku": text})
    sink = io.BytesIO()
    pq.write_table(table, sink, store_schema=False, compression="zstd", row_group_size=rows)
    return sink.getvalue()


def test_parquet_that_unpacks_to_more_than_memory_is_copied_and_verify_does_not_unpack_it(
    mirror: Path, tmp_path: Path
) -> None:
    data = bomb(2_000_000, "v" * (1 << 20))
    assert len(data) < 1 << 20
    smuggled(mirror, data, rows=2_000_000)
    restore(str(mirror), tmp_path / "new")
    code = (
        "import sys\n"
        "from lakehouse import Lake\n"
        "from lakehouse.verify import verify\n"
        "print(*(f'{type(e).__name__} {e}' for e in verify(Lake.open(sys.argv[1])).errors))\n"
    )
    command = ["bash", "-c", 'ulimit -v 6000000; exec "$@"', "bash", sys.executable, "-c", code]
    done = subprocess.run([*command, str(tmp_path / "new")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("DamagedPartError")
    assert "unpacks to more than" in done.stdout


@pytest.mark.parametrize(
    "column",
    [
        pa.repeat(pa.scalar(7, pa.int64()), 200_000),
        pa.array([[{"k": "v" * 50}]] * 200_000),
        pa.array(["v" * 50] * 200_000),
        pa.array([b"v" * 50] * 200_000),
    ],
    ids=["numbers", "nested", "texts", "bytes"],
)
def test_what_a_row_group_unpacks_to_is_known_before(
    column: pa.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = io.BytesIO()
    table = pa.table({"_lake_seq": pa.repeat(pa.scalar(1, pa.int64()), 200_000), "a.b": column})
    pq.write_table(table, sink, store_schema=False, row_group_size=200_000)
    size = 200_000 * 8 * 2 - 1 if pa.types.is_int64(column.type) else 200_000 * 50 - 1
    assert len(sink.getvalue()) < size / 50
    monkeypatch.setattr(contents, "MOST_BYTES", size)
    with pytest.raises(DamagedPartError, match="unpacks to more than"):
        contents.contents(sink.getvalue(), path="p", named_by="load 1")
    monkeypatch.setattr(contents, "MOST_BYTES", size + 200_000 * 8)
    assert contents.contents(sink.getvalue(), path="p", named_by="load 1")[1].startswith("200000:")


# SQL.


@pytest.mark.parametrize(
    "sql",
    [
        "copy (select 1) to '{home}/evil.txt'",
        "with x as (copy (select 1) to '{home}/evil.txt') select * from x",
        "select * from read_text('{home}/letter.txt')",
        "select * from '{home}/letter.txt'",
        "select 1; copy (select 1) to '{home}/evil.txt'",
        "attach '{home}/evil.db'; select 1",
        "select getenv('HOME')",
        "install httpfs",
    ],
)
def test_sql_of_a_model_reaches_nothing_but_the_lake(sql: str, mirror: Path, tmp_path: Path) -> None:
    text = sql.format(home=tmp_path / "home")

    def edit(record: dict[str, Any]) -> None:
        record["pipeline"]["models"]["daily"].update(sql=text, references=[], columns=[["x", "VARCHAR"]])

    rewritten(mirror, edit, "models")
    restore(str(mirror), tmp_path / "new")
    lake = Lake.open(tmp_path / "new")
    with pytest.raises(LakehouseError) as caught:
        lake.query("select * from models.daily").fetchall()
    assert SECRET not in str(caught.value)
    assert lake.query("select title from news.stories").fetchall() == [("all is well",)]
    with pytest.raises(UserError):
        lake.query(text).fetchall()
