"""Which parts hold a table's rows: worked out from what its loads added and what packs put in the place of.

It is worked out when somebody asks, and goes on from where it was worked out before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lakehouse.core.commit import Pack, TableChange
from lakehouse.core.past import Chronicle
from lakehouse.core.types import Column, merge_columns

News = tuple[int, TableChange | tuple[Pack, ...]]  # a load's number, and what it did to a table


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A part that holds rows of a table now, whatever part they were written in.

    Attributes:
        path: Key in the lake.
        first: First load that it may hold rows of.
        last: Last load that it may hold rows of.
        rows: Rows in it.
        columns: The columns of these loads, each in the type in which it lies there; columns that
            are `null` in all of them do not lie there.
    """

    path: str
    sha256: str
    size_bytes: int
    first: int
    last: int
    rows: int
    columns: tuple[Column, ...]


Entry = File | Pack  # a part that loads added rows to, or one that stands for others from there on


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Parts by their path, in order.

    Attributes:
        files: All that may hold rows of the load `since` or later ones.
        since: 0 where these are all there are.
        revised: `(rows, content digest)` of the loads of which a retention let rows go; None if unknown.
        read: Reads all that is left out here.
    """

    files: Mapping[str, File] = field(default_factory=dict)
    since: int = 0
    revised: Mapping[int, tuple[int, str]] | None = field(default_factory=dict)
    read: "Callable[[], Held] | None" = None

    def whole(self) -> "Held":
        """With nothing left out."""
        complete = self.since == 0 and self.revised is not None
        return self if complete or self.read is None else self.read()


class Parts:
    """The parts of a table at some position of its log; a value.

    Args:
        held: What they were before the news.
        news: What loads did since, oldest first.
    """

    __slots__ = ("_known",)

    def __init__(self, held: Held | None = None, news: Chronicle[News] | None = None) -> None:
        self._known: tuple[Held, Chronicle[News]] = (held or Held(), news or Chronicle())

    def extended(self, more: Sequence[News]) -> "Parts":
        """After some more loads."""
        held, news = self._known
        return Parts(held, news.extended(more))

    def whole(self) -> Held:
        """All parts, and all that a retention revised."""
        held, news = self._known
        if len(news) or held.since or held.revised is None:
            held = put_together(held.whole(), condensed(news))
            self._known = (held, Chronicle())
        return held

    def known(self) -> Held:
        """The parts as far as they are known without reading: those of the newest loads at least."""
        held, news = self._known
        packed = any(not isinstance(what, TableChange) for _, what in news)
        if held.since == 0 or packed:  # what a pack stands for may be parts that are not known
            return self.whole()
        return put_together(held, condensed(news))


def condensed(news: Iterable[News]) -> list[Entry]:
    """The news as entries: one for each part that loads added rows to, and each pack."""
    entries: list[Entry] = []
    at: dict[str, int] = {}
    for seq, what in news:
        if not isinstance(what, TableChange):
            entries += what
            at = {}  # what comes after a pack is not put before it
            continue
        for part in what.parts:
            file = File(
                path=part.path, sha256=part.sha256, size_bytes=part.size_bytes, first=seq, last=seq,
                rows=part.rows, columns=what.columns,
            )  # fmt: skip
            known = at.setdefault(part.path, len(entries))
            if known == len(entries):
                entries.append(file)
            else:
                entries[known] = _joined(entries[known], file)
    return entries


def put_together(held: Held, entries: Iterable[Entry]) -> Held:
    """The parts once some entries came after them."""
    files, revised = dict(held.files), dict(held.revised or {})
    for entry in entries:
        if isinstance(entry, Pack):
            files = _packed(files, entry)
            revised |= {load: (rows, content) for load, rows, content in entry.loads}
        else:
            files[entry.path] = _joined(files[entry.path], entry) if entry.path in files else entry
    return replace(held, files=files, revised=None if held.revised is None else revised)


def merged(one: tuple[Column, ...], two: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns of both, each in the least type that holds both."""
    return one if one is two or one == two else merge_columns(one, two)


def _joined(known: Entry, more: File) -> File:
    """One part of which two stretches of the log say something."""
    assert isinstance(known, File)  # noqa: S101 - packs are not looked up by path
    return File(
        path=known.path, sha256=known.sha256, size_bytes=known.size_bytes, first=known.first, last=more.last,
        rows=known.rows + more.rows, columns=merged(known.columns, more.columns),
    )  # fmt: skip


def _packed(files: Mapping[str, File], pack: Pack) -> dict[str, File]:
    """The files of a table once a pack stands for those whose loads lie within its own."""
    inside = [f for f in files.values() if pack.first <= f.first and f.last <= pack.last]
    columns: tuple[Column, ...] = ()
    for file in inside:
        columns = merged(columns, file.columns) if columns else file.columns
    stands = File(
        path=pack.path, sha256=pack.sha256, size_bytes=pack.size_bytes, first=pack.first, last=pack.last,
        rows=pack.rows, columns=columns,
    )  # fmt: skip
    gone = {file.path for file in inside}
    stays = [file for path, file in files.items() if path not in gone]
    return {f.path: f for f in sorted((*stays, stands), key=lambda f: f.first)}
