"""A lineage endpoint that is down, slow or wrong: a warning, once; never an error, and never a build that waits."""

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from lakehouse.models.openlineage import Emitter, Run

PATIENCE_S = 0.3  # what an emitter waits here
LONG_S = 30.0  # far more than any of this takes, on any machine


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does with each connection what it is told to."""
    over, met = threading.Event(), []

    def serve() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                met.append(connection)
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            thread.join()
            for connection in met:
                connection.close()


def hang(connection: socket.socket) -> None:
    while connection.recv(65_536):
        pass


def drip(connection: socket.socket) -> None:
    connection.recv(65_536)
    while True:
        connection.sendall(b"H")
        time.sleep(0.05)


def cut(connection: socket.socket) -> None:
    connection.recv(65_536)


def babble(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(b"\x00" * 70_000 + b"\r\n\r\n")


def refuse(status: str) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    return answer


def build(emitter: Emitter, models: int = 20) -> float:
    """Tell a build of some models; how long that took, in seconds."""
    begun = time.monotonic()
    with emitter:
        for n in range(models):
            run = Run(run_id=str(uuid4()), model=f"m{n}", sql="select 1")
            emitter.started(run)
            emitter.finished(run)
    return time.monotonic() - begun


def emitter(settings: dict[str, str], said: list[str], root: Path | None = None) -> Emitter:
    made = Emitter.from_settings(settings, {}, lake_url="/data/lake", root=root, warn=said.append)
    assert made is not None
    made._timeout_s = PATIENCE_S
    return made


@pytest.mark.parametrize(
    "answer",
    [hang, drip, cut, babble, refuse("503 Busy"), refuse("401 Who are you")],
)
def test_an_endpoint_that_does_not_take_events_costs_one_warning(
    answer: Callable[[socket.socket], None], caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []
    with listening(answer) as url:
        assert build(emitter({"url": url}, said)) < LONG_S
        (warning,) = said
        assert f"were not all sent to {url}: " in warning
        assert "The build is not affected." in warning
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_an_endpoint_that_is_down_costs_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    said: list[str] = []
    told = emitter({"url": f"http://user:s3cret@127.0.0.1:{port}/"}, said)
    assert build(told) < LONG_S
    (warning,) = said
    assert "s3cret" not in warning
    assert str(port) in warning
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_what_nobody_answers_to_is_not_waited_for_again() -> None:
    """Of many events only the first is waited for."""
    tried: list[int] = []

    def answer(connection: socket.socket) -> None:
        tried.append(1)
        cut(connection)

    said: list[str] = []
    with listening(answer) as url:
        told = emitter({"url": url}, said)
        told._timeout_s = LONG_S
        build(told)
    assert len(said) == 1
    assert len(tried) == 1


def test_a_refusal_of_one_event_does_not_stop_the_others() -> None:
    tried: list[int] = []

    def answer(connection: socket.socket) -> None:
        tried.append(1)
        refuse("400 Bad" if len(tried) == 1 else "201 Created")(connection)

    said: list[str] = []
    with listening(answer) as url:
        told = emitter({"url": url}, said)
        told._timeout_s = LONG_S
        build(told, models=3)
    assert len(tried) == 6
    assert len(said) == 1
    assert "400" in said[0]


def test_a_file_that_cannot_be_written_costs_one_warning(tmp_path: Path) -> None:
    said: list[str] = []
    build(emitter({"file": "no/such/folder/x.jsonl"}, said, root=tmp_path))
    (warning,) = said
    assert "no/such/folder/x.jsonl" in warning


def test_a_run_that_cannot_be_told_costs_one_warning(tmp_path: Path) -> None:
    said: list[str] = []
    told = emitter({"file": "x.jsonl"}, said, root=tmp_path)
    told._timeout_s = LONG_S
    with told:
        told.started(Run(run_id="no uuid", model="m"))
        told.started(Run(run_id=str(uuid4()), model="m", lineage={"a": ("nonsense",)}))
        told.started(Run(run_id=str(uuid4()), model="m"))
    assert len(said) == 1
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 1


def test_a_client_that_cannot_be_made_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "openlineage.yml"
    config.write_text("transport:\n  type: no.such.Transport\n")
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(config))
    said: list[str] = []
    told = Emitter.from_settings({}, os.environ, lake_url="/data/lake", warn=said.append)
    assert told is not None
    build(told)
    (warning,) = said
    assert str(config) in warning


def test_an_emitter_without_events_says_nothing_and_starts_nothing() -> None:
    said: list[str] = []
    before = threading.active_count()
    with emitter({"url": "http://127.0.0.1:1"}, said):
        assert threading.active_count() == before
    assert said == []
