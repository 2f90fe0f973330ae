"""What stores on a network do with each request, and when requests fail: a proxy before the real servers."""

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
import stamina
from clouds import bucket_options, free_port
from proxy import Fault, HttpProxy, Request

from lakehouse.errors import IntegrityError, LakehouseError, SetupError
from lakehouse.lake import Lake
from lakehouse.store import Absent, Exists, Store, asking, checksums, gcs, hashing, s3
from lakehouse.store.remote import FsspecStore

PROTOCOLS = {"gcs": "gs", "s3": "s3"}
CONTENT = os.urandom(100_000)


@pytest.fixture(params=PROTOCOLS, scope="module")
def cloud(request: pytest.FixtureRequest) -> str:
    """The kind of service."""
    return str(request.param)


@pytest.fixture(scope="module")
def gcs_proxy(gcs_server: str) -> Iterator[HttpProxy]:
    """What stands before Google's service."""
    with HttpProxy(gcs_server) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def s3_proxy(s3_server: str) -> Iterator[HttpProxy]:
    """What stands before S3."""
    with HttpProxy(s3_server) as proxy:
        yield proxy


@pytest.fixture
def proxy(cloud: str, request: pytest.FixtureRequest) -> HttpProxy:
    """What stands between the store and the service."""
    proxy: HttpProxy = request.getfixturevalue(f"{cloud}_proxy")
    proxy.clear()
    return proxy


@pytest.fixture
def open_at(cloud: str) -> Callable[..., FsspecStore]:
    """Opens a store whose service listens at a URL; a new, empty place if none is given."""

    def opening(url: str, place: str = "", **options: object) -> FsspecStore:
        place = place or f"lakes/{uuid4().hex}"
        return FsspecStore(f"{PROTOCOLS[cloud]}://{place}", **(bucket_options(cloud, url) | options))

    return opening


@pytest.fixture
def store(proxy: HttpProxy, open_at: Callable[..., FsspecStore]) -> Iterator[FsspecStore]:
    """A store that has been used: with `old`, and with what it needs to know of the service."""
    store = open_at(proxy.url)
    store.create("old", CONTENT)
    list(store.list(""))
    proxy.clear()
    with stamina.set_testing(True, attempts=1000, cap=True):  # as many attempts as ever, without waiting
        yield store


USES: dict[str, Callable[[Store], object]] = {
    "create": lambda store: store.create("new", CONTENT),
    "put": lambda store: store.put("old", CONTENT),
    "get": lambda store: store.get("old"),
    "stat": lambda store: store.stat("old"),
    "open": lambda store: store.open("old").read(),
    "list": lambda store: list(store.list("")),
    "delete": lambda store: store.delete("old"),
}


def outcome(use: str, store: Store) -> None:
    """Do it, and look that it was done."""
    answer = USES[use](store)
    assert use not in {"get", "open"} or answer == CONTENT
    here = {entry.key: entry.size_bytes for entry in store.list("")}
    wanted = {"create": {"new", "old"}, "delete": set()}.get(use, {"old"})
    assert here == dict.fromkeys(wanted, len(CONTENT))


@pytest.mark.parametrize("use", USES)
def test_each_use_of_a_small_object_is_one_request(use: str, store: FsspecStore, proxy: HttpProxy) -> None:
    USES[use](store)
    assert len(proxy.seen) == 1, proxy.seen


def test_what_is_not_there_is_one_request_too(store: FsspecStore, proxy: HttpProxy) -> None:
    for use in (store.get, store.stat, store.open):
        with pytest.raises(Absent):
            use("nowhere")
    with pytest.raises(Exists):
        store.create("old", b"x")
    store.delete("nowhere")
    assert len(proxy.seen) == 5


def test_a_piece_of_a_large_object_is_one_request(store: FsspecStore, proxy: HttpProxy) -> None:
    content = os.urandom(5 * 2**20)
    store.put("large", content)
    proxy.clear()
    with store.open("large") as file:
        assert file.seek(-100_000, os.SEEK_END)
        assert file.read() == content[-100_000:]
        assert len(proxy.seen) == 1  # opening brought the end
        file.seek(1_000)
        assert file.read(1_000_000) == content[1_000:1_001_000]
        assert file.read(10) == content[1_001_000:1_001_010]
    assert len(proxy.seen) == 3


def test_sources_are_found_by_one_look_and_one_into_each(store: FsspecStore, proxy: HttpProxy) -> None:
    for source in ("shop", "news"):
        store.put(f"{source}/_log/{1:020d}.jsonl", b"{}\n")
        for n in range(30):
            store.put(f"{source}/t/{n}", b".")
    store.put("other/t/x", b".")
    proxy.clear()
    assert Lake(store, "id").sources() == ["news", "shop"]
    assert len(proxy.seen) == 4


def test_a_listing_asks_for_pages_as_they_are_read(
    store: FsspecStore, proxy: HttpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (gcs, s3):
        monkeypatch.setattr(module, "PAGE", 10)
    for n in range(25):
        store.put(f"many/{n:04d}", b".")
    proxy.clear()
    listing = store.list("many/")
    assert next(listing).key == "many/0000"
    assert len(proxy.seen) == 1
    assert [entry.key for entry in listing] == [f"many/{n:04d}" for n in range(1, 25)]
    assert len(proxy.seen) == 3


# Settings of S3 that our own requests do not take: the client makes those.


@pytest.fixture
def s3_place(s3_server: str) -> Callable[..., FsspecStore]:
    """Opens stores at one place of S3."""
    place = f"s3://lakes/{uuid4().hex}"
    return lambda **options: FsspecStore(place, **(bucket_options("s3", s3_server) | options))


def test_an_etag_is_no_md5_where_a_key_of_the_customer_encrypts(s3_place: Callable[..., FsspecStore]) -> None:
    store = s3_place(s3_additional_kwargs={"ServerSideEncryption": "aws:kms"})
    store.create("new", CONTENT)
    with pytest.raises(Exists):
        store.create("new", CONTENT)
    assert store.get("new") == CONTENT
    for other in (store, s3_place()):
        assert [set(entry.checksums) for entry in other.list("")] == [{"etag"}]
        assert set(other.stat("new").checksums) == {"etag"}


@pytest.mark.parametrize("use", USES)
def test_the_client_asks_as_our_own_requests_do(use: str, s3_place: Callable[..., FsspecStore]) -> None:
    store = s3_place(requester_pays=True)
    store.create("old", CONTENT)
    outcome(use, store)


def test_a_public_bucket_is_read_by_nobody_in_particular(s3_place: Callable[..., FsspecStore]) -> None:
    s3_place(s3_additional_kwargs={"ACL": "public-read"}).put("old", CONTENT)
    assert s3_place(anon=True, key=None, secret=None).get("old") == CONTENT


# Failures that pass.

PASSING = {
    "503": Fault(kind="answer", status=503),
    "500": Fault(kind="answer", status=500),
    "429": Fault(kind="answer", status=429, retry_after_s=0),
    "reset": Fault(kind="cut before"),
}


@pytest.mark.parametrize(
    ("fault", "use"),
    [*itertools.product(("503", "reset"), USES), *itertools.product(("500", "429"), ("create", "get"))],
)
def test_what_fails_three_times_is_done_at_the_fourth(
    fault: str, use: str, store: FsspecStore, proxy: HttpProxy
) -> None:
    proxy.clear(lambda request: PASSING[fault] if request.n <= 3 else None)
    outcome(use, store)
    assert len(proxy.seen) == 5  # and the listing that looked


@pytest.mark.parametrize("use", ["get", "open", "list"])
def test_an_answer_that_ends_early_is_asked_for_again(use: str, store: FsspecStore, proxy: HttpProxy) -> None:
    proxy.clear(lambda request: Fault(kind="truncate") if request.n <= 2 else None)
    outcome(use, store)
    assert len(proxy.seen) == 4


@pytest.mark.parametrize("use", USES)
def test_a_service_that_says_nothing_is_asked_again(
    use: str,
    store: FsspecStore,
    proxy: HttpProxy,
    open_at: Callable[..., FsspecStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gcs, "SILENCE_S", 0.3)
    options = {"config_kwargs": {"read_timeout": 0.3}} if store.protocol == "s3" else {}
    impatient = open_at(proxy.url, store.url.split("://")[1], **options)
    impatient.stat("old")
    proxy.clear(lambda request: Fault(kind="hang before", seconds=2) if request.n == 1 else None)
    USES[use](impatient)
    assert len(proxy.seen) == 2


def test_whoever_wrote_and_got_no_answer_finds_what_it_wrote(store: FsspecStore, proxy: HttpProxy) -> None:
    proxy.clear(lambda request: Fault(kind="cut after") if request.n == 1 else None)
    with pytest.raises(Exists):
        store.create("new", CONTENT)
    assert len(proxy.seen) == 2
    assert store.get("new") == CONTENT
    proxy.clear(lambda request: Fault(kind="cut after") if request.n == 1 else None)
    store.put("new", b"other")
    assert store.get("new") == b"other"


def test_a_third_of_all_requests_refused_stops_nobody(store: FsspecStore, proxy: HttpProxy) -> None:
    proxy.clear(lambda request: Fault(kind="answer", status=429) if request.n % 3 == 0 else None)

    def use(n: int) -> bool:
        store.create(f"many/{n}", CONTENT)
        return store.get(f"many/{n}") == CONTENT and store.stat(f"many/{n}").size_bytes == len(CONTENT)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(use, range(100)))
    assert len(proxy.seen) < 2 * 300


# Failures that stay.


@pytest.mark.parametrize("use", USES)
def test_what_does_not_pass_ends_after_a_bounded_number_of_requests(
    use: str, store: FsspecStore, proxy: HttpProxy
) -> None:
    proxy.clear(lambda _: Fault(kind="answer", status=503))
    with pytest.raises(SetupError, match=r"no answer, after several attempts.*503") as caught:
        USES[use](store)
    assert len(proxy.seen) == asking.ATTEMPTS
    assert store.url in str(caught.value)


def test_where_nothing_listens_there_are_few_attempts(open_at: Callable[..., FsspecStore]) -> None:
    store = open_at(f"http://127.0.0.1:{free_port()}")
    with stamina.set_testing(True, attempts=asking.UNREACHABLE, cap=False):
        for use in USES.values():
            with pytest.raises(SetupError, match="no answer"):
                use(store)


@pytest.mark.parametrize(("status", "use"), [(401, "get"), (401, "create"), *((403, use) for use in USES)])
def test_a_refusal_is_not_asked_again_and_names_the_right(
    status: int, use: str, store: FsspecStore, proxy: HttpProxy
) -> None:
    proxy.clear(lambda _: Fault(kind="answer", status=status))
    with pytest.raises(SetupError, match="access was refused") as caught:
        USES[use](store)
    assert len(proxy.seen) == 1
    assert re.search(r"storage\.objects\.|s3:[A-Z]", caught.value.hint)


def test_a_bucket_that_is_not_there_is_named(proxy: HttpProxy, open_at: Callable[..., FsspecStore]) -> None:
    store = open_at(proxy.url, "no-such-bucket/lake")
    for use in ("create", "put", "list"):
        proxy.clear()
        with pytest.raises(SetupError, match=r"no-such-bucket.*there is no such bucket"):
            USES[use](store)
        assert len(proxy.seen) == 1


# Bytes that change on the way.


@pytest.mark.parametrize("use", ["create", "put"])
@pytest.mark.parametrize("from_file", [False, True])
def test_a_corrupted_upload_is_noticed(
    use: str, from_file: bool, store: FsspecStore, proxy: HttpProxy, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    proxy.clear(lambda _: Fault(kind="corrupt upload"))
    with pytest.raises(IntegrityError, match="does not have the bytes that were sent"):
        getattr(store, use)("new", file if from_file else CONTENT)
    proxy.clear()
    try:
        there = store.stat("new")
    except Absent:
        return  # the service refused it
    assert checksums(CONTENT, there.checksums) != there.checksums


def test_a_corrupted_piece_of_a_large_upload_is_noticed(
    pieces: None, store: FsspecStore, proxy: HttpProxy
) -> None:
    def decide(request: Request) -> Fault | None:
        return Fault(kind="corrupt upload") if request.method == "PUT" and request.n == 3 else None

    proxy.clear(decide)
    with pytest.raises(IntegrityError, match="does not have the bytes that were sent"):
        store.create("large", os.urandom(12 * 2**20))


# Large objects, sent in pieces.


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces as small as the services allow."""
    for module in (gcs, s3):
        monkeypatch.setattr(module, "WHOLE", 6 * 2**20)
    monkeypatch.setattr(gcs, "PIECE", 5 * 2**20)
    monkeypatch.setattr(s3, "PIECE", 5 * 2**20)
    monkeypatch.setattr(hashing, "PIECE", 5 * 2**20)


@pytest.mark.parametrize("from_file", [False, True])
def test_a_large_object_is_sent_in_pieces(
    from_file: bool, pieces: None, store: FsspecStore, proxy: HttpProxy, tmp_path: Path, cloud: str
) -> None:
    content = os.urandom(12 * 2**20)
    (tmp_path / "file").write_bytes(content)
    data = tmp_path / "file" if from_file else content
    store.create("large", data)
    assert len(proxy.seen) == {"gcs": 4, "s3": 5}[cloud]  # a beginning, three pieces, S3's end
    assert store.get("large") == content
    there = store.stat("large")
    assert checksums(data, there.checksums) == there.checksums
    assert set(there.checksums) == {"gcs": {"md5", "crc32c"}, "s3": {"etag32m"}}[cloud]
    assert next(store.list("")).checksums == there.checksums
    if cloud != "gcs":  # the emulator ignores create-if-absent on resumable uploads; the service honours it
        with pytest.raises(Exists):
            store.create("large", os.urandom(12 * 2**20))
        assert store.get("large") == content
    store.put("large", content[::-1])
    assert store.get("large") == content[::-1]


@pytest.mark.parametrize("kind", ["cut before", "cut after", "answer"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_a_large_upload_goes_on_after_a_failure(
    n: int, kind: str, pieces: None, store: FsspecStore, proxy: HttpProxy, cloud: str
) -> None:
    """The emulator of GCS takes a piece that is sent again for another one; the service does not."""
    content = os.urandom(12 * 2**20)
    proxy.clear(lambda request: Fault(kind=kind) if request.n == n else None)  # type: ignore[arg-type]
    lost = {("gcs", 4): SetupError, ("gcs", 2): IntegrityError, ("gcs", 3): IntegrityError}
    trouble = lost.get((cloud, n)) if kind == "cut after" else None
    with pytest.raises(trouble) if trouble else contextlib.nullcontext():
        store.create("large", content)
    assert len(proxy.seen) <= 8
    proxy.clear()
    if trouble is not IntegrityError:
        assert store.get("large") == content


def test_a_failed_large_upload_leaves_nothing(
    pieces: None, store: FsspecStore, proxy: HttpProxy, cloud: str
) -> None:
    proxy.clear(lambda request: Fault(kind="answer") if 2 <= request.n <= 40 else None)
    with pytest.raises(LakehouseError):
        store.create("large", os.urandom(12 * 2**20))
    proxy.clear()
    assert [entry.key for entry in store.list("")] == ["old"]


# Secrets.


@pytest.mark.parametrize(
    "said",
    [
        "GET https://user:hunter2@example.com/x failed",
        "https://b.s3.amazonaws.com/k?X-Amz-Signature=hunter2&X-Amz-Credential=hunter2: 403",
        "{'Authorization': 'Bearer hunter2'}",
        '{"client_secret": "hunter2", "refresh_token": "hunter2"}',
        "password=hunter2 host=db",
        "AccountName=a;sas_token=hunter2;",
    ],
)
def test_no_text_of_a_failure_keeps_a_secret(said: str) -> None:
    failure = asking.Failure("other", said)
    assert "hunter2" not in f"{failure} {failure!r} {failure.text}"
    assert len(asking.plain("The specified key does not exist: NoSuchKey: a/b")) == 48
