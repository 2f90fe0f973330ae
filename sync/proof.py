"""Whether an object in a mirror is what it has to be, without reading it: by the checksums that the store reports."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lakehouse.core.commit import Part
from lakehouse.core.files import File
from lakehouse.store import Absent, Entry, LocalStore, Store, checksums
from lakehouse.store.hashing import size_of

Kind = Literal["missing", "truncated", "damaged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a look at an object told.

    Attributes:
        wrong: What is wrong with it; None if nothing is known to be.
        found: What was found, for people.
        proven: Whether a checksum of all its bytes is that of the bytes that were committed.
        unsure: Why it is not proven; empty if it is, or is wrong.
    """

    wrong: Kind | None = None
    found: str = ""
    proven: bool = False
    unsure: str = ""


def of_part(local: Store | None, part: Part | File, entry: Entry | None) -> Proof:
    """Compare a part in a mirror, as a listing shows it, with what was committed.

    Args:
        local: A lake that may have the bytes; they are compared with the committed SHA-256 while they are read.
        part: The part.
        entry: What the mirror says of it; None if it is not there.
    """
    if entry is None:
        return Proof(wrong="missing", found="is missing")
    if entry.size_bytes != part.size_bytes:
        kind: Kind = "truncated" if entry.size_bytes < part.size_bytes else "damaged"
        return Proof(
            wrong=kind, found=f"has {entry.size_bytes} bytes, not the {part.size_bytes} that were committed"
        )
    if "sha256" in entry.checksums:
        return _compared({"sha256": part.sha256}, entry)
    if not entry.checksums:
        return Proof(unsure="the store reports no checksums")
    if local is None:
        return Proof(unsure="the bytes are not here")
    try:
        data = local.path(part.path) if isinstance(local, LocalStore) else local.get(part.path)
        mine = checksums(data, ["sha256", *entry.checksums])
    except (Absent, FileNotFoundError):
        return Proof(unsure="the bytes are not here")
    if mine.pop("sha256") != part.sha256:
        return Proof(unsure="the bytes here are damaged")
    return _compared(mine, entry)


def of_bytes(data: bytes | Path, entry: Entry) -> Proof:
    """Compare an object as a listing shows it with the bytes that it has to have."""
    size = size_of(data)
    if entry.size_bytes != size:
        kind: Kind = "truncated" if entry.size_bytes < size else "damaged"
        return Proof(wrong=kind, found=f"has {entry.size_bytes} bytes, not {size}")
    return _compared(checksums(data, entry.checksums), entry)


def _compared(mine: Mapping[str, str], entry: Entry) -> Proof:
    for name, value in mine.items():
        if entry.checksums[name] != value:
            found = f"has other bytes than were committed ({name} {entry.checksums[name]}, not {value})"
            return Proof(wrong="damaged", found=found)
    return Proof(proven=True) if mine else Proof(unsure="the store reports no checksum that can be compared")
