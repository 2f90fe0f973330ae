"""Secrets in URLs and errors: finding them, and showing what holds them without them."""

import re
from collections.abc import Callable
from urllib.parse import unquote

from lakehouse.errors import LakehouseError

HIDDEN = "***"

_POSTGRES = ("postgres", "postgresql")
_SECRET = re.compile(
    r"(?:^|[_.-])(?:auth|authorization|credentials?|key|passwd|password|pwd|secret|sig|signature|token)(?:$|[_.-])"
    r"|(?:key|password|secret|token|connection_string)$",  # sslpassword, sessiontoken
    re.IGNORECASE,
)


def redacted(url: str) -> str:
    """A URL without its secrets: passwords and secret parameters become `***`.

    Examples:
        >>> redacted("postgresql://ann:s3cret@db.example.org/lake?sslmode=require")
        'postgresql://ann:***@db.example.org/lake?sslmode=require'
        >>> redacted("gs://my-bucket/lake")
        'gs://my-bucket/lake'
    """
    scheme, found, rest = url.partition("://")
    if not found:
        return url
    if is_misread(url):
        return f"{scheme}://{HIDDEN}"
    netloc = rest.split("/", 1)[0].split("?", 1)[0]
    user, at_sign, host = netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    shown = f"{scheme}://{name}{colon}{HIDDEN if colon else ''}{at_sign}{host}{rest[len(netloc) :]}"
    before, question, query = shown.partition("?")
    parameters = [p.partition("=") for p in query.split("&")] if question else []
    return (
        before
        + question
        + "&".join(
            f"{key}{equals}{HIDDEN if equals and _SECRET.search(key) else value}"
            for key, equals, value in parameters
        )
    )


def is_misread(url: str) -> bool:
    """Whether two readers may cut the URL in different places, so that a part of a password becomes a host."""
    if "://" not in url:
        return False
    rest = url.split("://", 1)[1]
    netloc = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if netloc.count("@") > 1:
        return True
    return is_postgres(url) and "@" in rest[len(netloc) :] and "@" not in netloc


def is_secret_name(name: str) -> bool:
    """Whether a setting or parameter of that name holds a secret."""
    return bool(_SECRET.search(name))


def secrets_in(url: str) -> list[str]:
    """What is secret in a URL, as it is written and as it is meant."""
    if "://" not in url:
        return []
    netloc = re.split(r"[/?#]", url.split("://", 1)[1], maxsplit=1)[0]
    password = netloc.rpartition("@")[0].partition(":")[2]
    query = url.partition("?")[2]
    written = [
        password,
        *(p.partition("=")[2] for p in query.split("&") if _SECRET.search(p.partition("=")[0])),
    ]
    return [s for w in written for s in (w, unquote(w)) if s]


def scrub(error: BaseException, clean: Callable[[str], str]) -> bool:
    """Clean an error and those behind it, in place.

    Args:
        error: The error.
        clean: A text without secrets.

    Returns:
        Whether it tells none now; what stands behind it and would is cut off.
    """
    if isinstance(error, LakehouseError):
        error.message, error.hint = clean(error.message), clean(error.hint)
    error.args = tuple(clean(argument) if isinstance(argument, str) else argument for argument in error.args)
    if error.__cause__ is not None and not scrub(error.__cause__, clean):
        error.__cause__ = None
    if error.__context__ is not None and not scrub(error.__context__, clean):
        error.__context__ = None
    told = " ".join([str(error), repr(error), *getattr(error, "__notes__", ())])
    return told == clean(told)


def is_postgres(url: str) -> bool:
    """Whether a URL is that of a database."""
    return url.split("://", 1)[0] in _POSTGRES
