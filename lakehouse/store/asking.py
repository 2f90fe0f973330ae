"""Asking a service over a network: what went wrong, whether to ask again, and what to tell people.

Services (`gcs.py`, `s3.py`, `generic.py`) raise `Failure`; `patiently` asks again where that can help, and
`answered` turns what stays into the errors of the package. No text keeps a secret.
"""

import contextlib
import functools
import logging
import re
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

from lakehouse.errors import IntegrityError, LakehouseError, SetupError
from lakehouse.store.base import Absent, Exists

ATTEMPTS = 10  # most times that one request is sent; the clients' own repetitions are switched off
UNREACHABLE = 4  # the same where no connection was made at all: there is no network, or nothing listens
PATIENCE_S = 300.0  # after this long no request is repeated any more
CONNECT_S, SILENCE_S = 15.0, 60.0  # to connect, and without a byte from the service
PAGE = 1000  # objects of one answer to a listing, the most that the services give
SLOWEST = 8 * 1024  # bytes per second of a transfer that is not given up

Kind = Literal["absent", "exists", "no bucket", "denied", "passing", "unreachable", "corrupt", "other"]
T = TypeVar("T")

_LONGEST_WAIT_S = 30.0
_LONGEST_TEXT = 400
_SECRETS = (
    (re.compile(r"(?<=://)[^/@\s]+@"), ""),  # user:password@
    (re.compile(r"(://[^\s?'\")]*)\?[^\s'\")]*"), r"\1"),  # signed URLs
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+"), r"\1 …"),
    (
        re.compile(
            r"(?i)(\b[\w-]*(?:token|secret|password|signature|credential)[\w-]*(?:=|[\"']\s*:\s*[\"']?))[^\s\"',;&)}]+"
        ),
        r"\1…",
    ),
)


class Failure(Exception):  # noqa: N818 - translated before anybody sees it
    """A request that was not answered as wished.

    Args:
        kind: What to do about it.
        text: What the service, or the network, said.
        wait_s: How long the service asks to wait.
        needs: The rights that the request needs, by the service's names.
    """

    def __init__(self, kind: Kind, text: str, *, wait_s: float = 0.0, needs: str = "") -> None:
        super().__init__(plain(text))
        self.kind, self.text, self.wait_s, self.needs = kind, plain(text), wait_s, needs

    def __repr__(self) -> str:
        """For the log of retries, which is no place for secrets either."""
        return f"Failure({self.kind!r}, {self.text!r})"


def plain(text: str) -> str:
    """A text without what may be a secret in it: passwords, tokens, signatures, queries of URLs."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return " ".join(text.split())[:_LONGEST_TEXT]


def kind_of(status: int) -> Kind:
    """What an HTTP status means for whoever asked."""
    if status in {401, 403}:
        return "denied"
    if status in {408, 409, 425, 429} or status >= 500:  # noqa: PLR2004 - 409: another write is under way
        return "passing"
    return {404: "absent", 412: "exists"}.get(status, "other")  # type: ignore[return-value]


def wait_s(retry_after: str | None) -> float:
    """Seconds of a Retry-After header; 0 for none, or for a date."""
    try:
        return min(float(retry_after or 0), _LONGEST_WAIT_S)
    except ValueError:
        return 0.0


def size_in(content_range: str | None, content: bytes) -> int:
    """Bytes of a whole object, by the header of an answer with a part of it."""
    return int(content_range.rsplit("/", 1)[1]) if content_range else len(content)


@functools.cache
def _quiet() -> None:
    """A retry that helps is no news where nobody asked for a log."""
    logging.getLogger("stamina").addHandler(logging.NullHandler())


def patiently(ask: Callable[[], T]) -> T:
    """The answer to a request, which is asked again after failures that pass, ever less often.

    Raises:
        Failure: It did not pass.
    """
    import stamina

    _quiet()
    unreachable = 0

    def again(error: Exception) -> bool | float:
        nonlocal unreachable
        if not isinstance(error, Failure):
            return False
        unreachable += error.kind == "unreachable"
        if unreachable >= UNREACHABLE or error.kind not in {"passing", "unreachable", "corrupt"}:
            return False
        return error.wait_s or True

    for attempt in stamina.retry_context(
        on=again, attempts=ATTEMPTS, timeout=PATIENCE_S, wait_initial=0.1, wait_max=10.0, wait_jitter=0.5
    ):
        with attempt:
            return ask()
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


@contextlib.contextmanager
def answered(url: str, key: str) -> Iterator[None]:
    """Turn failures into what a caller can act on."""
    try:
        yield
    except Failure as failure:
        raise _error(failure, url, key) from None  # what is behind it may hold secrets


def _error(failure: Failure, url: str, key: str) -> LakehouseError:
    at, said = f"{url}/{key}".rstrip("/"), failure.text
    match failure.kind:
        case "absent":
            return Absent(key)
        case "exists":
            return Exists(key)
        case "no bucket":
            return SetupError(
                f"{at}: there is no such bucket ({said})",
                hint="Make it, or correct the URL. Buckets are never made for you.",
            )
        case "denied":
            return SetupError(
                f"{at}: access was refused ({said})",
                hint="Log in, or have these credentials given the rights"
                f"{f' {failure.needs}' if failure.needs else ' that are named'}.",
            )
        case "corrupt":
            return IntegrityError(
                f"{at}: does not have the bytes that were sent ({said})",
                path=key,
                hint="Do not trust this object. Check the network and proxies on the way, then send it again: "
                "`lakehouse sync NAME --repair`, where it is a mirror.",
            )
        case "passing" | "unreachable":
            return SetupError(
                f"{at}: the store gave no answer, after several attempts ({said})",
                hint="Check the network and the endpoint, then run the same command again: it goes on where "
                "this stopped.",
            )
    return SetupError(
        f"{at}: the store refused ({said})",
        hint="Check the URL, the options and the credentials, then run the same command again.",
    )
