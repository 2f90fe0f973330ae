"""Checking a part against what its commit says of it, without a look at its rows."""

import hashlib
from collections.abc import Iterable, Iterator

from lakehouse.core.commit import Part
from lakehouse.core.log import File
from lakehouse.errors import DamagedPartError, IntegrityError, MissingPartError
from lakehouse.store.base import Absent, Store

_BLOCK = 1 << 20


def check_part(store: Store, part: Part | File, *, named_by: str) -> None:
    """Compare the size and the SHA-256 of a part with what was committed.

    Args:
        store: The lake's store.
        part: The part as its commit has it.
        named_by: Which commit that is, for the message.

    Raises:
        MissingPartError, DamagedPartError, UnsafePathError: The file is not the one that was committed.
    """
    digest, size = hashlib.sha256(), 0
    for block in _blocks(store, part, named_by):
        digest.update(block)
        size += len(block)
    _compare(part, size, digest.hexdigest(), named_by)


def read_part(store: Store, part: Part | File, *, named_by: str) -> bytes:
    """The bytes of a part, if they are those that were committed; not more of them are read.

    Args:
        store: The lake's store.
        part: The part as its commit has it.
        named_by: Which commit that is, for the message.

    Raises:
        MissingPartError, DamagedPartError, UnsafePathError: The file is not the one that was committed.
    """
    data = b"".join(_blocks(store, part, named_by))
    _compare(part, len(data), hashlib.sha256(data).hexdigest(), named_by)
    return data


def _blocks(store: Store, part: Part | File, named_by: str) -> Iterator[bytes]:
    """A part in blocks, up to the one in which it is larger than committed."""
    size = 0
    try:
        with store.open(part.path) as file:
            while size <= part.size_bytes and (block := file.read(_BLOCK)):
                size += len(block)
                yield block
    except Absent:
        msg = f"{part.path}: is missing; it is named by {named_by}"
        raise MissingPartError(
            msg, path=part.path, hint="Restore this file from a mirror or backup, then run it again."
        ) from None


def _compare(part: Part | File, size: int, sha256: str, named_by: str) -> None:
    if size == part.size_bytes and sha256 == part.sha256:
        return
    what = f"{size} bytes, not the {part.size_bytes}" if size < part.size_bytes else "other bytes than those"
    if size > part.size_bytes:
        what = f"more than the {part.size_bytes} bytes"
    msg = f"{part.path}: has {what} that were committed; it is named by {named_by}"
    raise DamagedPartError(
        msg, path=part.path, hint="Restore this file from a mirror or backup, then run it again."
    )


def first_damage(store: Store, parts: Iterable[tuple[str, Part | File]]) -> IntegrityError | None:
    """What is wrong with the first of the parts that are not as committed; None if all are.

    Reads all of them: for use when a query over them failed, to say which file it was.

    Args:
        store: The lake's store.
        parts: The commit that names it, for the message, and the part.
    """
    for named_by, part in parts:
        try:
            check_part(store, part, named_by=named_by)
        except IntegrityError as error:
            return error
    return None
