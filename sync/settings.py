"""The mirrors of a project: what `[tool.lakehouse.mirrors.NAME]` says, and how each is reached.

Secrets come from the environment only. What is shown of a mirror, in messages, plans and errors of the libraries
that talk to it, goes through `redacted` and `Mirror.scrubbed`.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from lakehouse.errors import NotFoundError, SetupError, UserError
from lakehouse.project import CONFIG
from sync.secrets import HIDDEN, is_misread, is_postgres, is_secret_name, redacted, scrub, secrets_in

if TYPE_CHECKING:
    from lakehouse.project import Project
    from lakehouse.store import Store

__all__ = ["KNOWN", "Mirror", "at", "check", "mirrors", "named", "names", "redacted", "size_bytes"]

RESERVED = ("pull", "status")  # `lakehouse sync` takes these words for something else

KNOWN = {"bandwidth", "connections", "grant_to", "options", "schema_prefix", "url"}
_OF_BUCKETS = {"bandwidth", "options"}
_OF_POSTGRES = {"grant_to", "schema_prefix"}
_CONNECTIONS = {"bucket": 16, "postgres": 4}
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([kKmMgGtT]?)(i?)B?(?:/s)?")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_METHODS = {"anon", "browser", "cache", "cloud", "google_default"}  # ways to find credentials, for gcsfs
_SHORT = 4  # characters: what is shorter is in every text by chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A mirror, as a project's settings name it.

    Attributes:
        name: Its name in the settings; empty for one that was named by its URL only.
        url: Where it is; may hold a secret, so what is shown is `shown`.
        kind: `bucket`, a lake in another place, or `postgres`, a database that holds its tables.
        options: Passed on to fsspec's filesystem; may hold secrets.
        connections: Requests at a time.
        bandwidth: Bytes sent a second, at most; None for no limit.
        schema_prefix: Before the names of all schemas (Postgres).
        grant_to: Roles that may read what is mirrored (Postgres).
    """

    name: str
    url: str = field(repr=False)
    kind: Literal["bucket", "postgres"]
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    connections: int = 16
    bandwidth: int | None = None
    schema_prefix: str = ""
    grant_to: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def shown(self) -> str:
        """Its URL for people, without secrets."""
        return redacted(self.url)

    @property
    def place(self) -> str:
        """Its URL as its store tells it: a path for a folder."""
        if self.url.startswith("file://"):
            return str(Path(self.url.removeprefix("file://")).resolve())
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}{parts.path}".rstrip("/")

    def open(self) -> "Store":
        """The store of a mirror that is a lake.

        Raises:
            UserError: It is a database.
            SetupError: A package is missing, or the store does not answer.
        """
        from lakehouse.store import open_store

        if self.kind == "postgres":
            raise UserError(
                f"{self.name or self.shown}: is a Postgres database, which holds tables and no lake",
                hint="Name a mirror in a bucket or a folder.",
            )
        with self.guarded():
            return open_store(self.url, **self.options)

    def beside(self, name: str) -> "Mirror":
        """The mirror at the prefix next to this one: `gs://bucket/lake` -> `gs://bucket/NAME`.

        Raises:
            UserError: The name is no name of a mirror, or this one has nothing beside it.
        """
        _check_name(name, "--as")
        parent, _, last = self.url.rstrip("/").rpartition("/")
        if self.kind == "postgres" or not last or parent.endswith(":/"):
            raise UserError(
                f"{self.shown}: has no prefix to be replaced by {name!r}",
                hint="--as is for mirrors below a bucket or a folder, such as gs://bucket/lake.",
            )
        return replace(self, name=f"{self.name}.{name}", url=f"{parent}/{name}")

    def scrubbed(self, text: str) -> str:
        """A text without what is secret about this mirror."""
        text = text.replace(self.url, self.shown)
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Take what is secret out of every error that leaves the block, and of the errors behind it."""
        try:
            yield
        except Exception as error:
            if scrub(error, self.scrubbed):
                raise
            raise SetupError(
                f"{self.shown}: {self.scrubbed(f'{type(error).__name__}: {error}')}",
                hint="Check the URL, the credentials and the network, then run the same command again.",
            ) from None


def names(project: "Project") -> list[str]:
    """Names of the mirrors of a project, in the order of its settings."""
    return list(project.mirrors)


def mirrors(project: "Project") -> dict[str, Mirror]:
    """All mirrors of a project, by name.

    Raises:
        UserError: A setting is wrong, holds a secret, or names a variable that is not set.
    """
    return {name: named(project, name) for name in project.mirrors}


def named(project: "Project", name: str) -> Mirror:
    """One mirror of a project.

    Raises:
        NotFoundError: The project has none of that name.
        UserError: Its settings are wrong, hold a secret, or name a variable that is not set.
    """
    check(project, name)
    where = f"{project.root / CONFIG}: [tool.lakehouse.mirrors.{name}]"
    _check_name(name, where)
    values = project.mirrors[name]
    unknown = sorted(set(values) - KNOWN)
    if unknown:
        raise UserError(
            f"{where} has the unknown setting {unknown[0]!r}",
            hint=f"Known settings: {', '.join(sorted(KNOWN))}.",
        )
    url = _url(where, values.get("url"))
    _check_kind(where, url, values)
    options, secrets = _options(where, values.get("options", {}))
    return _mirror(
        url,
        name=name,
        options=options,
        secrets=secrets,
        connections=_connections(where, values.get("connections")),
        bandwidth=None if values.get("bandwidth") is None else size_bytes(str(values["bandwidth"]), where),
        schema_prefix=str(values.get("schema_prefix", "")),
        grant_to=_roles(where, values.get("grant_to", [])),
    )


def check(project: "Project", name: str) -> None:
    """Refuse a name that no mirror of a project has.

    Raises:
        NotFoundError: There is none of that name.
    """
    if name not in project.mirrors:
        raise NotFoundError(
            f"{project.root / CONFIG}: there is no mirror {name!r}",
            hint=f"Mirrors: {', '.join(project.mirrors)}."
            if project.mirrors
            else f'Add one:\n  [tool.lakehouse.mirrors.{name}]\n  url = "gs://my-bucket/lake"',
        )


def at(place: str, project: "Project | None" = None) -> Mirror:
    """The mirror that a place on the command line means: a name in the project, a URL or a path."""
    if project is not None and place in project.mirrors:
        return named(project, place)
    return _mirror(place, name="")


def size_bytes(text: str, where: str) -> int:
    """The number of bytes that a text such as `2MB` or `1.5 GiB` means; kB, MB, GB are decimal.

    Raises:
        UserError: It is no size, or zero.
    """
    found = _SIZE.fullmatch(text.strip())
    amount = 0.0
    if found:
        base = 1024 if found[3] else 1000
        amount = float(found[1]) * base ** _POWERS[found[2].lower()]
    if amount < 1:
        raise UserError(f"{where}: {text!r} is no size", hint="Write it like 500kB, 2MB or 1.5GiB.")
    return int(amount)


def _mirror(
    url: str, *, name: str, secrets: tuple[str, ...] = (), connections: int | None = None, **more: Any
) -> Mirror:
    if is_misread(url):
        raise UserError(
            f"{redacted(url)}: cannot be read as a URL for certain",
            hint="Percent-encode what is special in the user's name and password: @ is %40, / is %2F, ? is %3F, # is %23.",
        )
    kind: Literal["bucket", "postgres"] = "postgres" if is_postgres(url) else "bucket"
    found = secrets_in(url)
    if kind == "bucket" and found:
        raise UserError(
            f"{redacted(url)}: the URL of a bucket holds a secret",
            hint='Give it as an option that is read from the environment: options = {key = "$NAME", secret = "$OTHER"}.',
        )
    return Mirror(
        name=name,
        url=url,
        kind=kind,
        secrets=tuple(s for s in {*secrets, *found} if len(s) >= _SHORT),
        connections=connections or _CONNECTIONS[kind],
        **more,
    )


def _url(where: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise UserError(
            f"{where} has no url", hint='Write: url = "gs://my-bucket/lake", or the NAME of a variable.'
        )
    if "://" in value:
        if secrets_in(value):
            raise UserError(
                f"{where}: the url holds a password",
                hint='Put the URL into an environment variable and write the variable\'s name: url = "WAREHOUSE_URL".',
            )
        return value
    if not _VARIABLE.fullmatch(value):
        raise UserError(
            f"{where}: {value!r} is neither a URL nor the NAME of an environment variable",
            hint=f'A folder is written as a URL too: url = "file:///{value.lstrip("./")}".',
        )
    url = _variable(where, "url", value)
    if "://" not in url:
        raise UserError(
            f"{where}: the environment variable {value} holds no URL",
            hint=f'Such as: {value}="postgresql://…"',
        )
    return url


def _variable(where: str, setting: str, name: str) -> str:
    found = os.environ.get(name, "")
    if not found:
        raise UserError(
            f"{where}: {setting} is to be read from the environment variable {name}, which is not set",
            hint=f"Set it: export {name}=…",
        )
    return found


def _options(where: str, values: object) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Options with what the environment holds, and which values are secret."""
    if not isinstance(values, dict):
        raise UserError(
            f"{where}: options is no table", hint='Write: options = {endpoint_url = "https://…"}.'
        )
    secrets: list[str] = []

    def read(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: read(key, inner) for key, inner in value.items()}
        if isinstance(value, str) and value.startswith("$"):
            found = _variable(where, f"options.{name}", value[1:].strip("{}"))
            if is_secret_name(name) or is_secret_name(value[1:].strip("{}")):
                secrets.append(found)
            return found
        if _is_secret(name, value):
            raise UserError(
                f"{where}: options.{name} holds a secret",
                hint=f'Put it into an environment variable and write its name: {name} = "${name.upper()}".',
            )
        return value

    return {name: read(name, value) for name, value in values.items()}, tuple(secrets)


def _is_secret(name: str, value: object) -> bool:
    if not is_secret_name(name):
        return isinstance(value, str) and bool(secrets_in(value))
    if isinstance(value, bool):
        return False
    return not (name == "token" and (value in _METHODS or str(value).endswith(".json")))


def _connections(where: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 256:  # noqa: PLR2004
        raise UserError(f"{where}: connections is {value!r}", hint="Write a number from 1 to 256.")
    return value


def _roles(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(role, str) and role for role in value):
        raise UserError(f"{where}: grant_to is no list of roles", hint='Write: grant_to = ["analysts"].')
    return tuple(value)


def _check_kind(where: str, url: str, values: Mapping[str, Any]) -> None:
    """Refuse what is no mirror, settings without effect, and folders that would depend on where one stands."""
    from lakehouse.store.remote import PROTOCOLS

    scheme = url.partition("://")[0]
    if not is_postgres(url) and scheme not in {"file", *PROTOCOLS}:
        raise UserError(
            f"{where}: the url begins with {scheme}://, which is not supported",
            hint="A mirror is a bucket (gs://, s3://, az://), a folder (file:///) or a database (postgresql://).",
        )
    kind, others = ("Postgres", _OF_BUCKETS) if is_postgres(url) else ("buckets", _OF_POSTGRES)
    for name in sorted(others & set(values)):
        raise UserError(
            f"{where}: {name} is no setting of mirrors in {kind}",
            hint="What is particular to a connection is in its URL: postgresql://host/db?sslmode=verify-full"
            if name == "options"
            else "Leave it out.",
        )
    if url.startswith("file://") and not url.startswith("file:///"):
        raise UserError(
            f"{where}: {url!r} does not say where the folder is",
            hint="Write three slashes: file:///mnt/nas/lake.",
        )


def _check_name(name: str, where: str) -> None:
    if name in RESERVED:
        raise UserError(
            f"{where}: a mirror cannot be named {name!r}, which `lakehouse sync` takes for a command",
            hint="Give it another name.",
        )
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{where}: {name!r} is no name of a mirror",
            hint="Use lower-case letters, digits, _ and -; a letter or digit first.",
        )
