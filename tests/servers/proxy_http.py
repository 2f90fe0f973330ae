"""A reverse proxy before a server that speaks HTTP, which fails on command."""

import contextlib
import http.client
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

from proxy_faults import Fault, corrupted, reset

HOPS = frozenset(("connection", "keep-alive", "transfer-encoding", "content-length", "host", "expect", "te"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request: its number since the last `clear`, from 1, and what it asks for."""

    n: int
    method: str
    path: str


class HttpProxy:
    """A reverse proxy before a server that speaks HTTP/1.1.

    Attributes:
        url: Where it listens: `http://127.0.0.1:<port>`.
        decide: Asked about each request before it is passed on; None: pass it on.
        seen: The requests since the last `clear`.
    """

    def __init__(self, upstream: str, decide: Callable[[Request], Fault | None] | None = None) -> None:
        parts = urlsplit(upstream)
        self.upstream = upstream.rstrip("/")
        self.host, self.port = parts.hostname or "", parts.port or 80
        self.decide = decide
        self.seen: list[Request] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server = _HttpServer(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.close_all()
        assert not self._server.troubles, self._server.troubles

    def clear(self, decide: Callable[[Request], Fault | None] | None = None) -> None:
        """Count from 1 again, with another hook or none."""
        with self._lock:
            self.seen = []
            self.decide = decide

    def count(self, method: str, path: str) -> Fault | None:
        """Note a request; returns what is to happen to it."""
        with self._lock:
            request = Request(n=len(self.seen) + 1, method=method, path=path)
            self.seen.append(request)
            decide = self.decide
        return None if decide is None else decide(request)


class _HttpServer(ThreadingHTTPServer):
    """Hands each connection to a `_Handler` in a thread of its own."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: HttpProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy
        self.troubles: list[str] = []
        self._open: dict[socket.socket, threading.Thread] = {}

    def process_request_thread(self, request: socket.socket, client_address: object) -> None:
        self._open[request] = threading.current_thread()
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.pop(request, None)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Close without the farewell of a server that is well: after a cut that would be no reset."""
        self.close_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # those are what this is for
            self.troubles.append(repr(error))

    def close_all(self) -> None:
        """Reset all connections and wait for their threads."""
        self.server_close()
        for request, thread in list(self._open.items()):
            reset(request)
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client: reads requests and passes them on over one connection of its own."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HttpServer

    def setup(self) -> None:
        super().setup()
        self.proxy = self.server.proxy

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def relay(self) -> None:
        """Count the request, ask what is to happen, and do it."""
        fault = self.proxy.count(self.command, self.path)
        kind = None if fault is None else fault.kind
        if kind == "cut before":
            return self.cut()
        body = self.body()
        if fault is not None and kind == "answer":
            headers = [] if fault.retry_after_s is None else [("Retry-After", str(fault.retry_after_s))]
            return self.reply(fault.status, "On command", headers, b"on command")
        if fault is not None and kind == "hang before":
            self.proxy.closing.wait(fault.seconds)
            return self.cut()
        if fault is not None and kind == "delay":
            self.proxy.closing.wait(fault.seconds)
        if fault is not None and kind == "corrupt upload":
            body = corrupted(body, fault.at)
        status, reason, headers, answer = self.forward(body)
        if fault is not None and kind == "hang after":
            self.proxy.closing.wait(fault.seconds)
        bare = not answer or self.command == "HEAD"  # there is no half of it
        if kind in {"cut after", "hang after"} or (kind == "truncate" and bare):
            return self.cut()
        if fault is not None and kind == "corrupt answer":
            answer = corrupted(answer, fault.at)
        return self.reply(status, reason, headers, answer, whole=kind != "truncate")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = do_OPTIONS = relay  # noqa: N815

    def body(self) -> bytes:
        """What the client sends with its request."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(self.chunks())
        return self.exactly(int(self.headers.get("Content-Length", 0)))

    def chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0] or b"-1", 16):
            yield self.exactly(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass

    def exactly(self, size: int) -> bytes:
        """So many bytes: half an upload, passed on with its own length, would look whole to the server."""
        data = self.rfile.read(size) if size >= 0 else b""
        if len(data) != size:
            raise ConnectionError("the client went away while it was sending")
        return data

    def forward(self, body: bytes) -> tuple[int, str, list[tuple[str, str]], bytes]:
        """Ask the server; returns status, reason, headers, and body."""
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOPS}
        if body or self.command in {"PUT", "POST", "PATCH"}:
            headers["Content-Length"] = str(len(body))
        upstream = http.client.HTTPConnection(self.proxy.host, self.proxy.port, timeout=120)
        with contextlib.closing(upstream):
            upstream.request(self.command, self.path, body=body or None, headers=headers)
            with upstream.getresponse() as response:
                return response.status, response.reason, response.getheaders(), response.read()

    def reply(
        self, status: int, reason: str, headers: list[tuple[str, str]], answer: bytes, *, whole: bool = True
    ) -> None:
        """Send an answer; where it names the server's own address, the proxy's."""
        self.send_response_only(status, reason)
        length = str(len(answer))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            if name.lower() not in HOPS:
                self.send_header(name, value.replace(self.proxy.upstream, self.proxy.url))
        if status not in {204, 304}:
            self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer if whole else answer[: len(answer) // 2])
        if not whole:
            self.close_connection = True

    def cut(self) -> None:
        """Reset the connection."""
        self.close_connection = True
        reset(self.connection)
