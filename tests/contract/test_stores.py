"""What every store has to do, in one suite over all of them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from clouds import bucket_options

from lakehouse.errors import SetupError, UnsafePathError, UserError
from lakehouse.store import (
    Absent,
    Exists,
    LocalStore,
    MemoryStore,
    Store,
    checksums,
    honours_create,
    open_store,
)
from lakehouse.store.remote import FsspecStore

LARGE = 12 * 2**20  # what is sent in pieces is larger still: test_store_faults.py
REPORTED = {"gcs": {"md5", "crc32c"}, "s3": {"md5"}}  # checksums, by kind of store
UNUSUAL = [
    "with space/a b.json",
    "source/table/lake_load=00000001/0a1b.parquet",
    "a+b/c=d&e.txt",
    "é/ключ/日本.json",
    "50%/100%25.json",
    "deep/" * 12 + "leaf",
    ".hidden/.file",
    "semi;colon,comma'quote",
    "x" * 200,
]


def keys(store: Store, prefix: str) -> list[str]:
    return [entry.key for entry in store.list(prefix)]


def sizes(store: Store, prefix: str) -> list[tuple[str, int]]:
    return [(entry.key, entry.size_bytes) for entry in store.list(prefix)]


def test_what_was_put_is_what_is_got(store: Store) -> None:
    store.put("a/b.bin", b"\x00\xff hello")
    assert store.get("a/b.bin") == b"\x00\xff hello"
    with store.open("a/b.bin") as file:
        assert file.seek(2) == 2
        assert file.read(3) == b" he"
        assert file.seek(0, 2) == 8
        assert file.seek(-5, 1) == 3
        assert file.read() == b"hello"


def test_an_absent_key_is_absent_for_all_operations(store: Store) -> None:
    store.put("folder/there", b"x")
    for key in ("not/there", "folder", "folder/there/below", "folder/ther"):
        with pytest.raises(Absent) as caught:
            store.get(key)
        assert caught.value.key == key
        for use in (store.open, store.stat):
            with pytest.raises(Absent):
                use(key)
    assert keys(store, "nothing/here/") == []


def test_an_empty_store_lists_nothing(store: Store) -> None:
    assert keys(store, "") == []


def test_deleting_is_final_and_may_be_repeated(store: Store) -> None:
    store.put("a/x", b"1")
    store.put("a/y", b"2")
    store.delete("a/x")
    store.delete("a/x")
    store.delete("never/was")
    with pytest.raises(Absent):
        store.get("a/x")
    assert keys(store, "") == ["a/y"]
    store.create("a/x", b"again")
    assert store.get("a/x") == b"again"


def test_put_replaces_what_is_there(store: Store) -> None:
    store.put("k", b"a long first version")
    assert store.get("k") == b"a long first version"
    store.put("k", b"short")
    assert store.get("k") == b"short"
    assert sizes(store, "") == [("k", 5)]


def test_put_takes_the_bytes_of_a_file(store: Store, tmp_path: Path) -> None:
    for size in (0, 10, LARGE):
        file = tmp_path / f"{size}.bin"
        content = os.urandom(size)
        file.write_bytes(content)
        store.put(f"files/{size}", file)
        assert store.get(f"files/{size}") == content
    (tmp_path / "second.bin").write_bytes(b"second")
    store.put("files/10", tmp_path / "second.bin")
    assert store.get("files/10") == b"second"


def test_create_takes_the_bytes_of_a_file(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    for size in (0, 10, LARGE):
        content = os.urandom(size)
        file.write_bytes(content)
        store.create(f"files/{size}", file)
        assert store.get(f"files/{size}") == content
        with pytest.raises(Exists):
            store.create(f"files/{size}", file)
        file.write_bytes(b"changed afterwards")
        assert store.get(f"files/{size}") == content


def test_stat_says_what_a_listing_says(store: Store, kind: str, tmp_path: Path) -> None:
    assert store.creates
    contents = {"a/small": b"small", "a/none": b"", "b/large": os.urandom(LARGE)}
    for key, content in contents.items():
        (tmp_path / "file").write_bytes(content)
        store.put(key, tmp_path / "file" if key == "b/large" else content)
    for entry in store.list(""):
        assert store.stat(entry.key) == entry
        assert entry.size_bytes == len(contents[entry.key])
        assert set(entry.checksums) == REPORTED.get(kind, set())


def test_checksums_are_those_of_the_bytes(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(LARGE))
    for n, data in enumerate((b"", b"some", tmp_path / "file")):
        store.create(f"created/{n}", data)
        store.put(f"put/{n}", data)
        for key in (f"created/{n}", f"put/{n}"):
            reported = store.stat(key).checksums
            assert checksums(data, reported) == reported
            store.put(key, b"others")
            now = store.stat(key).checksums
            assert not reported or (now != reported and checksums(b"others", now) == now)


def test_folders_at_the_top_are_found_by_what_they_hold(store: Store) -> None:
    assert list(store.folders(holding="_log")) == []
    for key in (
        "shop/_log/1",
        "shop/t/1",
        "news/_log/pack/1",
        "x/t/_log/1",
        "_log/1",
        "y/_logs/1",
        "z",
        "é/_log/1",
    ):
        store.put(key, b".")
    assert list(store.folders(holding="_log")) == ["news", "shop", "é"]
    assert list(store.folders(holding="t")) == ["shop", "x"]


def test_listing_is_in_order_of_key_and_knows_sizes(store: Store) -> None:
    names = ["a/10", "a/2", "a/b/c", "a.b", "a-b/x", "B", "ab/x", "a/é", "z"]
    for n, name in enumerate(names):
        store.put(name, b"x" * n)
    assert sizes(store, "") == [(name, names.index(name)) for name in sorted(names)]


def test_a_prefix_lists_that_folder_and_no_neighbour(store: Store) -> None:
    for name in ("shop/_log/1", "shop/_log/2", "shop/t/p", "shopping/_log/1", "shop.x", "a/shop/_log/1"):
        store.put(name, b".")
    assert keys(store, "shop/") == ["shop/_log/1", "shop/_log/2", "shop/t/p"]
    assert keys(store, "shop/_log/") == ["shop/_log/1", "shop/_log/2"]
    assert keys(store, "sho/") == []
    assert keys(store, "shop.x/") == []


def test_what_another_client_wrote_is_seen_at_once(make_store: Callable[[], Store]) -> None:
    one, two = make_store(), make_store()
    assert keys(one, "") == []
    assert keys(one, "log/") == []
    two.put("log/1", b"1")
    assert keys(one, "log/") == ["log/1"]
    assert one.get("log/1") == b"1"
    two.put("log/1", b"22")
    assert one.get("log/1") == b"22"
    assert sizes(one, "log/") == [("log/1", 2)]
    with one.open("log/1") as file:
        assert file.read() == b"22"
    two.delete("log/1")
    assert keys(one, "log/") == []
    with pytest.raises(Absent):
        one.get("log/1")


def test_create_writes_only_where_nothing_is(store: Store) -> None:
    store.create("log/1", b"first")
    with pytest.raises(Exists) as caught:
        store.create("log/1", b"second")
    assert caught.value.key == "log/1"
    assert store.get("log/1") == b"first"
    store.put("log/2", b"put")
    with pytest.raises(Exists):
        store.create("log/2", b"created")
    assert store.get("log/2") == b"put"


def test_a_store_is_tried_for_create_if_absent(store: Store) -> None:
    assert honours_create(store)
    assert keys(store, "") == []


def test_a_store_that_replaces_what_is_there_is_found_out() -> None:
    class Replacing(MemoryStore):
        """As S3's protocol is spoken by services that do not know its conditions."""

        def create(self, key: str, data: bytes | Path) -> None:
            self.put(key, data)

    store = Replacing()
    assert not honours_create(store)
    assert keys(store, "") == []


def test_of_eight_threads_that_create_one_wins(make_store: Callable[[], Store]) -> None:
    for n in range(5):
        key, start = f"race/{n}", Barrier(8)
        stores = [make_store() for _ in range(8)]

        def attempt(
            number: int, *, key: str = key, start: Barrier = start, stores: list[Store] = stores
        ) -> bool:
            start.wait()
            try:
                stores[number].create(key, f"writer {number}".encode() * 100)
            except Exists:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(attempt, range(8)))
        assert won.count(True) == 1
        assert make_store().get(key) == f"writer {won.index(True)}".encode() * 100


def test_many_threads_share_one_store(store: Store) -> None:
    content = os.urandom(10_000)

    def use(n: int) -> bool:
        key = f"shared/{n // 2}"  # two each want to create it
        try:
            store.create(key, content)
            won = True
        except Exists:
            won = False
        with store.open(key) as file:
            read = file.read()
        assert read == store.get(key) == content
        assert store.stat(key).size_bytes == len(content)
        return won

    with ThreadPoolExecutor(24) as pool:
        won = list(pool.map(use, range(200)))
    assert [won[n] + won[n + 1] for n in range(0, 200, 2)] == [1] * 100
    assert len(keys(store, "shared/")) == 100


RACER = """
import json, sys
from lakehouse.store import Exists, open_store
place, options, number = json.loads(sys.argv[1])
store = open_store(place, **options)
list(store.list(""))
print("ready", flush=True)
sys.stdin.readline()
won = []
for n in range(20):
    try:
        store.create(f"race/{n}", f"writer {number}".encode() * 1000)
        won.append(n)
    except Exists:
        pass
print(json.dumps(won))
"""


@pytest.mark.parametrize("kind", ["local", "gcs", "s3"])
def test_of_several_processes_that_create_one_wins(
    kind: str, make_store: Callable[[], Store], request: pytest.FixtureRequest
) -> None:
    store = make_store()
    options = {} if kind == "local" else bucket_options(kind, request.getfixturevalue(f"{kind}_server"))
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, json.dumps([store.url, options, number])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [json.loads(racer.communicate(timeout=60)[0]) for racer in racers]
    assert sorted(n for each in won for n in each) == list(range(20))
    for number, each in enumerate(won):
        for n in each:
            assert store.get(f"race/{n}") == f"writer {number}".encode() * 1000
    assert len(keys(store, "")) == 20


def test_an_object_may_be_empty(store: Store) -> None:
    store.put("empty/put", b"")
    store.create("empty/created", b"")
    with pytest.raises(Exists):
        store.create("empty/put", b"x")
    assert sizes(store, "") == [("empty/created", 0), ("empty/put", 0)]
    for key in ("empty/put", "empty/created"):
        assert store.get(key) == b""
        with store.open(key) as file:
            assert file.read() == b""
    store.put("empty/put", b"now some")
    assert store.get("empty/put") == b"now some"


def test_an_object_may_be_large(store: Store) -> None:
    content = os.urandom(LARGE)
    store.put("large", content)
    assert store.get("large") == content
    assert sizes(store, "") == [("large", LARGE)]
    with store.open("large") as file:
        file.seek(LARGE - 7)
        assert file.read() == content[-7:]
        file.seek(5 * 2**20 + 1)
        assert file.read(100) == content[5 * 2**20 + 1 :][:100]


def test_a_large_object_is_created_once(store: Store) -> None:
    first = os.urandom(LARGE)
    store.create("large", first)
    assert store.get("large") == first
    with pytest.raises(Exists):
        store.create("large", os.urandom(LARGE))
    assert store.get("large") == first


@pytest.mark.parametrize("key", UNUSUAL)
def test_a_key_may_be_unusual(store: Store, key: str) -> None:
    store.create(key, b"created")
    with pytest.raises(Exists):
        store.create(key, b"again")
    assert store.get(key) == b"created"
    store.put(key, b"put")
    with store.open(key) as file:
        assert file.read() == b"put"
    assert sizes(store, "") == [(key, 3)]
    store.delete(key)
    assert keys(store, "") == []


def test_keys_that_differ_only_in_case_are_two(store: Store) -> None:
    store.put("t/Key", b"1")
    store.put("t/key", b"2")
    assert store.get("t/Key") == b"1"
    assert keys(store, "t/") == ["t/Key", "t/key"]


def test_many_objects_are_all_listed(store: Store) -> None:
    names = [f"many/{n:05d}" for n in range(1_100)]  # more than one page of a bucket's listing
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(name, b"."), names))
    assert keys(store, "many/") == names


def test_the_root_may_be_the_whole_bucket(gcs_server: str) -> None:
    store = FsspecStore("gs://lakes", endpoint_url=gcs_server, token="anon", project="t")  # noqa: S106 - no secret
    store.put("at-the-root/x", b"1")
    try:
        assert keys(store, "at-the-root/") == ["at-the-root/x"]
        assert store.get("at-the-root/x") == b"1"
    finally:
        store.delete("at-the-root/x")


def test_the_root_may_be_all_of_memory() -> None:
    store = open_store("memory://")
    store.put("whole-memory/x", b"1")
    try:
        assert keys(store, "whole-memory/") == ["whole-memory/x"]
        assert store.get("whole-memory/x") == b"1"
    finally:
        store.delete("whole-memory/x")


def test_a_url_without_create_if_absent_is_refused() -> None:
    with pytest.raises(UserError, match="create-if-absent"):
        FsspecStore("http://example.invalid/lake")


def test_a_folder_given_as_a_path_or_file_url_is_a_local_store(tmp_path: Path) -> None:
    for place in (tmp_path, str(tmp_path), f"file://{tmp_path}"):
        store = open_store(place)
        assert isinstance(store, LocalStore)
        assert store.url == str(tmp_path)


def test_checksums_that_cannot_be_computed_here_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    for data in (b"hello", tmp_path / "file"):
        assert checksums(data, ["etag", "md5", "what"]) == {"md5": "5d41402abc4b2a76b9719d911017c592"}
        assert checksums(data, ["crc32c"]) == {"crc32c": "9a71bb4c"}
        assert checksums(data, ["sha256"])["sha256"].startswith("2cf24dba5fb0a30e26e83b2ac5b9e29e")
        assert checksums(data, []) == {}


# What only folders have.


def test_a_folder_never_follows_a_link_out(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    store = LocalStore(tmp_path / "lake")
    store.put("a/b", b"1")
    (tmp_path / "lake" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "lake" / "a" / "file").symlink_to(tmp_path / "outside" / "secret")
    for key in ("link/secret", "a/file", "../outside/secret", "a/../../outside/secret"):
        for use in (
            store.get,
            store.open,
            store.stat,
            store.delete,
            lambda k: store.put(k, b"x"),
            lambda k: store.create(k, b""),
        ):
            with pytest.raises(UnsafePathError):
                use(key)
    assert (tmp_path / "outside" / "secret").read_bytes() == b"secret"


def test_a_file_of_a_mirror_is_not_the_file_of_the_lake(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"good")
    store = LocalStore(tmp_path / "mirror")
    store.create("part", tmp_path / "part")
    with (tmp_path / "part").open("r+b") as file:
        file.write(b"evil")
    assert store.get("part") == b"good"


def test_unfinished_files_are_not_listed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "lake")
    store.put("a/b", b"1")
    (tmp_path / "lake" / "a" / ".tmp-0123").write_bytes(b"half")
    assert keys(store, "") == ["a/b"]


def test_a_write_that_fails_leaves_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "file").write_bytes(b"")
    store = LocalStore(tmp_path / "lake")
    for write in (store.put, store.create):
        with pytest.raises(SetupError, match="could not be written"):
            write("file/below", b"x")
    assert keys(store, "") == ["file"]


def test_the_root_may_be_a_link_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store = LocalStore(tmp_path / "link")
    store.put("a/b", b"1")
    assert LocalStore(tmp_path / "real").get("a/b") == b"1"
