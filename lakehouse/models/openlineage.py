"""OpenLineage: builds told to a catalogue of lineage, as run events to an endpoint or a file.

Each model is a job, each build of it a run. What is sent is made and sent beside the build, in a thread of its own:
an endpoint that is down, slow or wrong costs a warning, never a build.
"""

import importlib.util
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lakehouse.core.moments import render
from lakehouse.errors import SetupError, UserError
from lakehouse.models.audit import Outcome
from lakehouse.models.model import SOURCE

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient

TIMEOUT_S = 5.0  # of a request, and of waiting at the end of a build for what was not sent yet
_SETTINGS = ("file", "namespace", "url")
_RETRY = {"total": 0, "connect": 0, "read": 0}  # each that is tried again is a warning in somebody's log
_END = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A table that a model read.

    Attributes:
        name: `source.table`.
        seq: Position in the source's log; None if it has none.
        digest: Digest of the commit there.
        columns: `(name, type)` of its columns.
    """

    name: str
    seq: int | None = None
    digest: str = ""
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A build of one model. What is not known yet when it starts is left out then.

    Attributes:
        run_id: A UUID, the same in all events of the run.
        model: Name of the model.
        sql: Its SELECT; of a Python model, the file.
        language: `sql` or `python`.
        description: What it is for, in words.
        inputs: The tables that it read.
        columns: `(name, type)` of its columns.
        seq: Position in the log of `models` that it was published at; None for one that was not.
        digest: Digest of the commit there.
        rows: Rows that it has now; None if they were not counted.
        lineage: By column, the columns `source.table.column` that it comes from.
        tests: What its tests found.
        as_of: The moment that the build was turned to; None for now.
        build_id: A UUID of the whole build, the same for all its models; empty for none.
    """

    run_id: str
    model: str
    sql: str = ""
    language: str = "sql"
    description: str = ""
    inputs: tuple[Read, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    seq: int | None = None
    digest: str = ""
    rows: int | None = None
    lineage: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tests: tuple[Outcome, ...] = ()
    as_of: datetime | None = None
    build_id: str = ""


class Emitter:
    """Sends the events of a build, in order; close it when the build is over.

    Args:
        connect: Makes the client; called in the emitter's own thread.
        lake_url: Where the lake is; datasets are named by it.
        namespace: Of the jobs; by the lake's place if empty.
        to: Where events go, for the warning.
        warn: Takes the warning; it is given at most one.
        timeout_s: How long `close` waits.
    """

    def __init__(
        self,
        connect: "Callable[[], OpenLineageClient]",
        *,
        lake_url: str,
        to: str,
        namespace: str = "",
        warn: Callable[[str], None] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.lake_url = lake_url
        self.namespace = namespace or (lake_url if "://" in lake_url else f"file:{lake_url}")
        self.to = to
        self._connect = connect
        self._warn = warn or _to_stderr
        self._timeout_s = timeout_s
        self._trouble = ""
        self._queue: queue.SimpleQueue[tuple[str, Run, datetime, str] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @classmethod
    def from_settings(
        cls,
        settings: Mapping[str, Any],
        env: Mapping[str, str],
        *,
        lake_url: str,
        root: Path | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> "Emitter | None":
        """The emitter that the environment or else the project asks for; None if none does.

        Args:
            settings: The project's `[tool.lakehouse.openlineage]`: `url` or `file`, and `namespace`.
            env: The environment: `OPENLINEAGE_URL`, `_ENDPOINT`, `_API_KEY`, `_CONFIG`, `_NAMESPACE` and
                `_DISABLED`, as the OpenLineage client has them. It goes before the project.
            lake_url: Where the lake is.
            root: The project's folder, below which a relative `file` is.
            warn: Takes a warning, at most one; to stderr by default.

        Raises:
            UserError: The settings are wrong.
            SetupError: The project asks for it, and the package is not installed.
        """
        _check(settings)
        if env.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
            return None
        of_env = _of_environment(env)
        found = of_env or _of_project(settings, env, root or Path())
        if found is None:
            return None
        transport, to = found
        namespace = env.get("OPENLINEAGE_NAMESPACE") or str(settings.get("namespace", ""))
        if importlib.util.find_spec("openlineage") is None:
            hint = "Install it: uv add 'lakehouse[openlineage]'"
            if not of_env:
                raise SetupError(
                    f"OpenLineage events for {to} need a package that is not installed", hint=hint
                )
            (warn or _to_stderr)(
                f"no OpenLineage events are sent to {to}: openlineage-python is not installed. {hint}"
            )
            return None
        return cls(lambda: _client(transport), lake_url=lake_url, namespace=namespace, to=to, warn=warn)

    def started(self, run: Run) -> None:
        """A model is being built."""
        self._put("START", run)

    def finished(self, run: Run) -> None:
        """It was built."""
        self._put("COMPLETE", run)

    def failed(self, run: Run, error: BaseException | str) -> None:
        """It was not, or a test kept it from being published."""
        self._put("FAIL", run, str(error))

    def close(self) -> None:
        """Wait until all is sent, but no longer than `timeout_s`; say so if something was not."""
        if self._thread is None:
            return
        self._queue.put(_END)
        self._thread.join(self._timeout_s)
        if self._thread.is_alive() and not self._trouble:
            self._trouble = f"no answer within {self._timeout_s:g} seconds"
        self._thread = None
        if self._trouble:
            self._warn(
                f"OpenLineage events were not all sent to {self.to}: {self._trouble}. The build is not affected."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, state: str, run: Run, error: str = "") -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_all, name="openlineage", daemon=True)
            self._thread.start()
        self._queue.put((state, run, datetime.now(UTC), error))

    def _send_all(self) -> None:
        client, lost = None, False
        while (item := self._queue.get()) is not _END:
            if lost:
                continue
            try:
                from lakehouse.models.openlineage_events import events

                client = client or self._connect()
                state, run, at, error = item
                for event in events(self, run, state, at=render(at), error=error):
                    client.emit(event)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is no reason to fail a build
                self._trouble = self._trouble or _short(error)
                # Nobody answers: what follows would only wait in vain. An answer, if only a refusal, is another matter.
                lost = isinstance(error, OSError) and getattr(error, "response", None) is None
        if client is not None:
            client.close(self._timeout_s)


def dataset_name(lake_url: str, table: str) -> tuple[str, str]:
    """Namespace and name of a table's dataset, by OpenLineage's rules for files and object stores.

    Examples:
        >>> dataset_name("/data/lake", "shop.products")
        ('file', '/data/lake/shop/products')
        >>> dataset_name("gs://bucket/prefix", "shop.products")
        ('gs://bucket', 'prefix/shop/products')
    """
    below = table.replace(".", "/", 1)
    scheme, there, place = lake_url.partition("://")
    if not there:
        return "file", f"{lake_url.rstrip('/')}/{below}".rstrip("/")
    bucket, _, prefix = place.partition("/")
    scheme = {"gcs": "gs", "s3a": "s3"}.get(scheme, scheme)
    return f"{scheme}://{bucket}", "/".join(filter(None, (prefix.strip("/"), below)))


def job_name(model: str) -> str:
    """Name of a model's job."""
    return f"{SOURCE}.{model}"


# Where events go.

_Transport = dict[str, Any] | None  # None: as the client finds it in the environment


def _check(settings: Mapping[str, Any]) -> None:
    where = "[tool.lakehouse.openlineage]"
    unknown = sorted(set(settings) - set(_SETTINGS))
    if unknown:
        hint = f"Known settings: {', '.join(_SETTINGS)}."
        if "key" in unknown[0].lower():
            hint = "A key does not belong in a file: set OPENLINEAGE_API_KEY in the environment."
        raise UserError(f"{where} has the unknown setting {unknown[0]!r}", hint=hint)
    wrong = [name for name, value in settings.items() if not isinstance(value, str) or not value]
    if wrong:
        raise UserError(f"{where} {wrong[0]} is {settings[wrong[0]]!r}", hint="Give it as text.")
    if "url" in settings and "file" in settings:
        raise UserError(f"{where} has both url and file", hint="Keep the one where events are to go.")
    if "url" in settings and not settings["url"].startswith(("http://", "https://")):
        raise UserError(
            f"{where} url is {settings['url']!r}", hint="Give an address that begins with https://"
        )


def _of_environment(env: Mapping[str, str]) -> tuple[_Transport, str] | None:
    if env.get("OPENLINEAGE_CONFIG"):
        if not Path(env["OPENLINEAGE_CONFIG"]).is_file():
            msg = f"{env['OPENLINEAGE_CONFIG']}: is not there, and OPENLINEAGE_CONFIG names it"
            raise UserError(
                msg, hint="Write it, or unset the variable; OPENLINEAGE_DISABLED=true sends nothing."
            )
        return None, env["OPENLINEAGE_CONFIG"]
    if env.get("OPENLINEAGE__TRANSPORT__TYPE") or env.get("OPENLINEAGE__TRANSPORT"):
        return None, "what OPENLINEAGE__TRANSPORT says"
    if env.get("OPENLINEAGE_URL"):
        return _http(env["OPENLINEAGE_URL"], env), _without_secrets(env["OPENLINEAGE_URL"])
    return None


def _of_project(
    settings: Mapping[str, Any], env: Mapping[str, str], root: Path
) -> tuple[_Transport, str] | None:
    if "url" in settings:
        return _http(settings["url"], env), _without_secrets(settings["url"])
    if "file" in settings:
        path = str(root / settings["file"])
        return {"type": "file", "log_file_path": path, "append": True}, path
    return None


def _http(url: str, env: Mapping[str, str]) -> dict[str, Any]:
    about: dict[str, Any] = {"type": "http", "url": url, "timeout": TIMEOUT_S, "retry": _RETRY}
    if env.get("OPENLINEAGE_ENDPOINT"):
        about["endpoint"] = env["OPENLINEAGE_ENDPOINT"]
    if env.get("OPENLINEAGE_API_KEY"):
        about["auth"] = {"type": "api_key", "apiKey": env["OPENLINEAGE_API_KEY"]}
    return about


def _client(transport: _Transport) -> "OpenLineageClient":
    """The official client; imported here since that takes half a second."""
    from openlineage.client import OpenLineageClient
    from openlineage.client.transport import get_default_factory

    before = dict(os.environ)
    try:
        return OpenLineageClient(transport=get_default_factory().create(transport) if transport else None)
    finally:  # it writes what it found into the environment, the key too, which is not ours to pass on
        for name in set(os.environ) - set(before):
            if name.startswith("OPENLINEAGE__"):
                del os.environ[name]


def _without_secrets(url: str) -> str:
    scheme, there, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{there}{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' if lines else ''}{lines[0][:300] if lines else ''}"


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"warning: {text}\n")
