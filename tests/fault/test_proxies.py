"""The proxies that other tests break connections with do what they say, and else change nothing."""

import http.client
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import adbc_driver_postgresql.dbapi as adbc
import pytest
from cluster import Cluster
from proxy import Fault, HttpProxy, Kind, Piece, Request, TcpProxy

BODY = bytes(range(256)) * 400


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was sent, and notes that it was."""

    protocol_version = "HTTP/1.1"
    got: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append(body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/there")
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "12345")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def got() -> list[bytes]:
    """What the echoing server was sent."""
    return []


@pytest.fixture
def proxy(got: list[bytes]) -> Iterator[HttpProxy]:
    """A proxy before a server that echoes."""
    handler = type("Handler", (Echo,), {"got": got})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            with HttpProxy(f"http://127.0.0.1:{server.server_port}") as proxy:
                yield proxy
        finally:
            server.shutdown()
            thread.join()


def first(fault: Fault) -> Callable[[Request | Piece], Fault | None]:
    return lambda request: fault if request.n == 1 else None


def post(proxy: HttpProxy, body: bytes = BODY, *, chunked: bool = False) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", int(proxy.url.rsplit(":", 1)[1]), timeout=1)
    try:
        pieces = iter([body[:7], body[7:]]) if chunked else body
        connection.request("POST", "/x", pieces, encode_chunked=chunked)
        with connection.getresponse() as response:
            return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_pass_unchanged(proxy: HttpProxy, got: list[bytes], *, chunked: bool) -> None:
    assert post(proxy, chunked=chunked) == (200, BODY)
    assert got == [BODY]
    assert proxy.seen == [Request(n=1, method="POST", path="/x")]


def test_one_connection_carries_many_requests_and_names_the_proxy(proxy: HttpProxy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(proxy.url.rsplit(":", 1)[1]), timeout=5)
    sockets = set()
    for n in range(1, 4):
        connection.request("POST", "/x", b"1")
        with connection.getresponse() as response:
            assert response.read() == b"1"
            assert response.getheader("Location") == f"{proxy.url}/there"
        sockets.add(connection.sock)
        assert len(proxy.seen) == n
    assert len(sockets) == 1
    connection.request("HEAD", "/x")
    with connection.getresponse() as response:
        assert response.getheader("Content-Length") == "12345"
    connection.close()


@pytest.mark.parametrize(
    ("kind", "error", "arrives"),
    [
        ("cut before", ConnectionResetError, False),
        ("cut after", ConnectionResetError, True),
        ("hang before", TimeoutError, False),
        ("hang after", TimeoutError, True),
        ("truncate", http.client.IncompleteRead, True),
    ],
)
def test_answers_are_lost(
    proxy: HttpProxy, got: list[bytes], kind: Kind, error: type[Exception], *, arrives: bool
) -> None:
    proxy.clear(first(Fault(kind=kind)))
    with pytest.raises(error):
        post(proxy, b"abc")
    assert got == [b"abc"] * arrives
    assert post(proxy) == (200, BODY), "only the first was to fail"


def test_a_status_is_answered_for_the_server(proxy: HttpProxy, got: list[bytes]) -> None:
    proxy.clear(first(Fault(kind="answer", status=429)))
    assert post(proxy)[0] == 429
    assert not got


def test_one_byte_is_changed_on_either_way(proxy: HttpProxy, got: list[bytes]) -> None:
    for kind, up, down in (("corrupt upload", 1, 1), ("corrupt answer", 0, 1)):
        proxy.clear(first(Fault(kind=kind)))
        _, answer = post(proxy)
        assert sum(a != b for a, b in zip(got.pop(), BODY, strict=True)) == up
        assert sum(a != b for a, b in zip(answer, BODY, strict=True)) == down


def test_half_an_upload_never_reaches_the_server(proxy: HttpProxy, got: list[bytes]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(proxy.url.rsplit(":", 1)[1]), timeout=5)
    connection.putrequest("POST", "/x")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    connection.send(b"half")
    connection.close()
    assert post(proxy, b"whole") == (200, b"whole")
    assert got == [b"whole"]


def count_rows(port: int, cluster: Cluster, database: str, sql: str) -> int:
    with adbc.connect(cluster.dsn(database, port=port)) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        rows = cursor.fetchall() if sql.startswith("select") else []
        connection.commit()
        return int(rows[0][0]) if rows else 0


@pytest.mark.parametrize(
    ("kind", "arrives"), [("cut before", False), ("cut after", True), ("truncate", False)]
)
def test_postgres_loses_its_client(postgres_server: Cluster, kind: Kind, *, arrives: bool) -> None:
    database = postgres_server.new_database()
    postgres_server.psql("create table t (i int)", database=database)
    with TcpProxy(postgres_server.port) as proxy:
        proxy.clear(lambda piece: Fault(kind=kind) if b"COMMIT" in piece.data else None)
        with pytest.raises(adbc.Error):
            count_rows(proxy.port, postgres_server, database, "insert into t values (1)")
        proxy.clear()
        assert count_rows(proxy.port, postgres_server, database, "select count(*) from t") == arrives
        assert proxy.seen > 0


class Backwards(socketserver.BaseRequestHandler):
    """Answers each message with its bytes in the opposite order."""

    def handle(self) -> None:
        while data := self.request.recv(100):
            self.request.sendall(data[::-1])


@pytest.fixture
def backwards() -> Iterator[int]:
    """Port of a server that answers backwards."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Backwards) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_a_stream_is_delayed_corrupted_and_cut(backwards: int) -> None:
    faults = {
        2: Fault(kind="delay", seconds=0.01),
        3: Fault(kind="corrupt upload"),
        4: Fault(kind="corrupt answer"),
        6: Fault(kind="hang before"),
    }
    with (
        TcpProxy(backwards, lambda piece: faults.get(piece.n)) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=0.5) as client,
    ):
        answers = []
        for _ in range(5):
            client.sendall(b"abcd")
            answers.append(client.recv(10))
        assert [answer == b"dcba" for answer in answers] == [True, True, False, False, True]
        client.sendall(b"abcd")
        with pytest.raises(TimeoutError):
            client.recv(10)
        proxy.cut_all()
        with pytest.raises(ConnectionResetError):
            client.recv(10)
        assert proxy.seen == 6
