"""The tag: a name for one moment of the whole lake, as a position in every log. Its file, read and written.

A tag names positions, not an instant: what it names stays what it was, even where loads that come
later were observed earlier. The digest of the commit at each position goes with it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lakehouse.core import layout, moments
from lakehouse.errors import FormatError, UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A named moment of the whole lake.

    Attributes:
        name: Its name.
        created_at: When it was made; UTC.
        as_of: What was asked for, as text; None for the lake as it was then.
        positions: By source, the newest sequence number that it sees; 0 before the first load.
        digests: By source, the digest of the commit there; empty where the position is 0.
        note: What it is for.
    """

    name: str
    created_at: datetime
    as_of: str | None = None
    positions: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The tag as its file has it."""
        out: dict[str, Any] = {
            "format": layout.FORMAT,
            "name": self.name,
            "created_at": moments.render(self.created_at),
            "as_of": self.as_of,
            "positions": {
                source: {"seq": seq, "digest": self.digests[source]} for source, seq in self.positions.items()
            },
            "note": self.note,
        }
        return {name: value for name, value in out.items() if value is not None}


def parse(content: bytes, *, key: str) -> Tag:
    """The tag in a file.

    Args:
        content: The bytes of the file.
        key: Its key, which ends with the name of the tag.

    Raises:
        FormatError: The file is not what it should be.
    """
    try:
        record = json.loads(content)
        version = record["format"]
        if not isinstance(version, int) or version > layout.FORMAT:
            msg = f"{key}: has format version {version!r}; this lakehouse reads up to {layout.FORMAT}"
            raise FormatError(msg, path=key, hint="Upgrade lakehouse, then try again.")
        name = layout.check_tag_name(record["name"])
        if layout.tag_key(name) != key:
            msg = f"it is the tag {name!r}"
            raise ValueError(msg)
        places = {layout.check_source_name(s): place for s, place in record["positions"].items()}
        return Tag(
            name=name,
            created_at=moments.parse(record["created_at"]),
            as_of=_text(record.get("as_of")),
            positions={source: _position(place["seq"]) for source, place in places.items()},
            digests={source: str(place["digest"]) for source, place in places.items()},
            note=_text(record.get("note")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UserError) as error:
        reason = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        msg = f"{key}: is not a tag ({reason})"
        raise FormatError(
            msg,
            path=key,
            hint="Restore this file from a mirror or backup, or delete it and make the tag anew.",
        ) from error


def _position(seq: object) -> int:
    if not isinstance(seq, int) or isinstance(seq, bool) or seq < 0:
        msg = f"seq is {seq!r}"
        raise ValueError(msg)
    return seq


def _text(value: object) -> str | None:
    return None if value is None else str(value)
