"""Checking a part against what its commit says of it, without a look at its rows."""

import hashlib
from collections.abc import Iterable

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
    try:
        with store.open(part.path) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
    except Absent:
        msg = f"{part.path}: is missing; it is named by {named_by}"
        raise MissingPartError(
            msg, path=part.path, hint="Restore this file from a mirror or backup, then run it again."
        ) from None
    if size != part.size_bytes or digest.hexdigest() != part.sha256:
        what = (
            f"{size} bytes, not the {part.size_bytes}"
            if size != part.size_bytes
            else "other bytes than those"
        )
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
