"""Tags, and what an as-of means in Python: the same texts as in SQL, as a position in each log.

A tag is a file of its own, created only if absent: a name is never moved from one moment to another.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lakehouse.core import layout, moments
from lakehouse.core.commit import dump
from lakehouse.core.log import Log
from lakehouse.core.tag import Tag
from lakehouse.duck.asof import instant_of, no_moment, read_tags
from lakehouse.errors import ForkError, IntegrityError, NotFoundError, UserError
from lakehouse.store.base import Exists

if TYPE_CHECKING:
    from lakehouse.lake import Lake

__all__ = ["Tag", "create", "delete", "find", "misfits", "position", "read_tags", "resolve", "tags"]

AsOf = datetime | str | int | None

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Words that a database, or a later version of one, reads as an instant.
_WORDS = {"now", "today", "yesterday", "tomorrow", "epoch", "infinity", "inf", "allballs", "current"}


def tags(lake: "Lake") -> dict[str, Tag]:
    """All tags by name, in order of name.

    Raises:
        FormatError: The file of one cannot be read.
    """
    found, broken = read_tags(lake.store)
    for error in broken.values():
        raise error
    return found


def find(lake: "Lake", name: str) -> Tag:
    """The tag with that name.

    Raises:
        NotFoundError: There is none.
        FormatError: Its file cannot be read.
    """
    found, broken = read_tags(lake.store)
    if name in broken:
        raise broken[name]
    if name not in found:
        msg = f"there is no tag {name!r}"
        raise NotFoundError(
            msg, hint=no_moment(name, found).hint if found else "Make one: lakehouse tag create"
        )
    return found[name]


def create(lake: "Lake", name: str, as_of: AsOf = None, *, note: str | None = None) -> Tag:
    """Give a moment of the whole lake a name.

    Args:
        lake: The lake.
        name: A letter, then letters, digits, dots, underscores and hyphens; no word for an instant.
        as_of: An instant, a date, the number of a load in every log, or another tag; now by default.
        note: What it is for.

    Returns:
        The tag; the one that is there, if it names the same positions with the same note.

    Raises:
        UserError: The name cannot be one or names something else, or the instant is yet to come.
        NotFoundError: Nothing was loaded by then.
    """
    layout.check_tag_name(name)
    if name.lower() in _WORDS or instant_of(name) is not None:
        msg = f"{name!r} cannot be the name of a tag: it is a word for an instant"
        raise UserError(msg, hint="Choose another name.")
    now = datetime.now(UTC)
    meant = _moment(lake, as_of)
    if isinstance(meant, datetime) and meant > now:
        msg = f"as of {as_of}: is yet to come, and what the lake will say then may still change"
        raise UserError(msg, hint="Leave out the moment to name the lake as it is now.")
    logs = {source: lake.log(source) for source in lake.sources()}
    positions = _positions(list(logs.values()), meant)
    if not any(positions.values()):
        raise NotFoundError(f"{lake.url}: nothing was loaded by then", hint="See: lakehouse log")
    tag = Tag(
        name=name,
        created_at=now,
        as_of=moments.render(as_of) if isinstance(as_of, datetime) else None if as_of is None else str(as_of),
        positions=positions,
        digests={s: logs[s].commits[n - 1].digest if n else "" for s, n in positions.items()},
        note=note,
    )
    for other in read_tags(lake.store)[0].values():
        if other.name.lower() == name.lower():
            return _same(other, tag)
    try:
        lake.store.create(layout.tag_key(name), dump(tag.to_json()) + b"\n")
    except Exists:
        return _same(find(lake, name), tag)
    return tag


def delete(lake: "Lake", name: str) -> None:
    """Delete a tag: the name goes, nothing else. Also one whose file cannot be read.

    Raises:
        NotFoundError: There is none.
    """
    found, broken = read_tags(lake.store)
    if name not in found and name not in broken:
        find(lake, name)
    lake.store.delete(layout.tag_key(name))


def resolve(lake: "Lake", as_of: AsOf) -> dict[str, int]:
    """The position in every log that an as-of means, as a query that is turned to it sees it.

    Args:
        lake: The lake.
        as_of: An instant; text of one or of a date (UTC if it has no zone); the number of a load, in
            every log that has it, and all of the others; the name of a tag; None for now.

    Raises:
        QueryError: It is none of these.
        NotFoundError: No log has that load.
        IntegrityError: A log cannot be read, or is not the one that was tagged.
    """
    return _positions([lake.log(source) for source in lake.sources()], _moment(lake, as_of))


def position(lake: "Lake", source: str, as_of: AsOf) -> int:
    """The position in the log of one source that an as-of means; the number of a load has to be one of it.

    Raises:
        QueryError: It is no as-of.
        NotFoundError: There is no such source or load.
        IntegrityError: The log cannot be read, or is not the one that was tagged.
    """
    if source not in lake.sources():
        msg = f"there is no source {source!r}"
        raise NotFoundError(msg, hint=f"Sources: {', '.join(lake.sources()) or 'none yet'}.")
    meant, log = _moment(lake, as_of), lake.log(source)
    return log.resolve(meant) if isinstance(meant, int) else _position(log, meant)


def misfits(tag: Tag, log: Log) -> Iterator[IntegrityError]:
    """What is wrong where a log is not the one that was tagged: a commit that is gone, or another one."""
    seq, digest = tag.positions.get(log.source, 0), tag.digests.get(log.source, "")
    there = log.commits[seq - 1].digest if 0 < seq <= log.head else ""
    if there != digest:
        found = f"has the digest {there[:12]}… now" if there else f"is not there (the log ends at {log.head})"
        yield ForkError(
            f"tag {tag.name}: load {seq} of {log.source}, which had the digest {digest[:12] or 'none'}… "
            f"when it was tagged, {found}",
            path=layout.tag_key(tag.name),
            hint="The history of the source was rewritten, or the tag was altered: "
            "restore the one that is wrong from a mirror or backup.",
        )


def _moment(lake: "Lake", as_of: AsOf) -> datetime | int | Tag | None:
    if as_of is None or isinstance(as_of, int):
        return as_of
    if isinstance(as_of, datetime):
        return moments.to_utc(as_of)
    if as_of.strip().isascii() and as_of.strip().isdigit():
        return int(as_of)
    at = instant_of(as_of)
    if at is not None:
        return _in_range(at)
    known, broken = read_tags(lake.store)
    if as_of in broken:
        raise broken[as_of]
    if as_of not in known:
        raise no_moment(as_of, known)
    return known[as_of]


def _positions(logs: Sequence[Log], meant: datetime | int | Tag | None) -> dict[str, int]:
    longest = max((log.head for log in logs), default=0)
    if isinstance(meant, int) and meant > longest:
        msg = f"as of load {meant}: the longest log ends at {longest}"
        raise NotFoundError(msg, hint="See: lakehouse log")
    return {log.source: _position(log, meant) for log in logs}


def _position(log: Log, meant: datetime | int | Tag | None) -> int:
    if isinstance(meant, int):
        return log.resolve(min(meant, log.head))
    if not isinstance(meant, Tag):
        return log.resolve(meant)
    for error in misfits(meant, log):
        raise error
    return meant.positions.get(log.source, 0)


def _same(there: Tag, wanted: Tag) -> Tag:
    if (there.name, there.positions, there.note) == (wanted.name, wanted.positions, wanted.note):
        return there
    msg = (
        f"there is a tag {there.name!r} already, of {moments.render(there.created_at)}; a name is never moved"
    )
    raise UserError(msg, hint=f"Choose another name, or first: lakehouse tag delete {there.name}")


def _in_range(microseconds: int) -> datetime:
    """An instant, or the nearest that Python can hold."""
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    least, most = moments.microseconds(first), moments.microseconds(last)
    return _EPOCH + timedelta(microseconds=max(least, min(most, microseconds)))
