"""A proxy before a server that speaks anything over TCP, such as Postgres, which fails on command."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from proxy_faults import Fault, corrupted, reset


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes as they came in one go from the client: their number since the last `clear`, from 1."""

    n: int
    data: bytes


class TcpProxy:
    """A proxy before a server that speaks anything over TCP, such as Postgres.

    A "truncate" passes half of the piece on and cuts; an "answer" makes no sense here.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        decide: Asked about each piece before it is passed on; None: pass it on.
        seen: How many pieces came since the last `clear`.
    """

    def __init__(self, port: int, decide: Callable[[Piece], Fault | None] | None = None) -> None:
        self._upstream = port
        self.decide = decide
        self.seen = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._pairs: list[_Pair] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self._listener.close()
        self.cut_all()
        for pair in self._pairs:
            pair.join()

    def clear(self, decide: Callable[[Piece], Fault | None] | None = None) -> None:
        """Count from 1 again, with another hook or none."""
        with self._lock:
            self.seen = 0
            self.decide = decide

    def cut_all(self) -> None:
        """Reset every connection there is now."""
        for pair in self._pairs:
            pair.cut()

    def count(self, data: bytes) -> Fault | None:
        """Note a piece; returns what is to happen to it."""
        with self._lock:
            self.seen += 1
            piece = Piece(n=self.seen, data=data)
            decide = self.decide
        return None if decide is None else decide(piece)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._upstream), timeout=10)
            except OSError:  # it is down: so is what stands for it
                reset(client)
                client.close()
                continue
            pair = _Pair(self, client, server)
            self._pairs.append(pair)
            pair.start()


class _Pair:
    """One connection of a client and the one to the server that stands for it."""

    def __init__(self, proxy: TcpProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._cut = threading.Event()
        self._answered = threading.Event()
        self._running = 2
        self._lock = threading.Lock()
        self._mute = False  # what the server says is dropped
        self._corrupt = False
        self._threads = [
            threading.Thread(target=self._run, args=(relay,), daemon=True)
            for relay in (self._to_server, self._to_client)
        ]
        for each in (client, server):
            each.settimeout(None)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def cut(self) -> None:
        """Reset both sides."""
        self._cut.set()
        for each in (self._client, self._server):
            reset(each)

    def join(self) -> None:
        """Wait until it is closed, after `cut`."""
        for thread in self._threads:
            thread.join()

    def _run(self, relay: Callable[[], None]) -> None:
        try:
            relay()
        except OSError:  # one side is gone: so is the other
            self.cut()
        with self._lock:
            self._running -= 1
            if not self._running:
                self._client.close()
                self._server.close()

    def _to_server(self) -> None:
        while data := self._client.recv(1 << 16):
            fault = self._proxy.count(data)
            if fault is None:
                self._server.sendall(data)
            elif not self._suffer(fault, data):
                return self.cut()
        return self._finish(self._server)

    def _suffer(self, fault: Fault, data: bytes) -> bool:
        """Do what the fault says to this piece; returns whether the connection lives on."""
        if fault.kind == "delay":
            self._cut.wait(fault.seconds)
        if fault.kind == "corrupt upload":
            data = corrupted(data, fault.at)
        if fault.kind == "truncate":
            data = data[: len(data) // 2]
        self._mute = fault.kind in {"cut after", "hang after", "truncate"}
        self._corrupt = fault.kind == "corrupt answer"
        self._answered.clear()
        if fault.kind not in {"cut before", "hang before"}:
            self._server.sendall(data)
        if fault.kind == "cut after":
            self._answered.wait(0.2)  # rows of a COPY are not answered
        if fault.kind.startswith("hang"):
            self._cut.wait(fault.seconds)
        return fault.kind in {"delay", "corrupt upload", "corrupt answer"}

    def _to_client(self) -> None:
        while data := self._server.recv(1 << 16):
            self._answered.set()
            if self._corrupt:
                data, self._corrupt = corrupted(data, 0.6), False
            if not self._mute:
                self._client.sendall(data)
        if not self._mute:
            self._finish(self._client)

    def _finish(self, other: socket.socket) -> None:
        """Pass on that one side has said all, unless that is our own doing."""
        if not self._cut.is_set():
            other.shutdown(socket.SHUT_WR)
