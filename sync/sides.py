"""The two sides of a sync: an open lake, or a store of which little is known; and whether both are one lake."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lakehouse import Lake
from lakehouse.core import layout
from lakehouse.errors import IntegrityError, LakehouseError, NoLakeError, UserError
from lakehouse.store import Exists, MemoryStore, Store
from sync import units, where
from sync.found import mend
from sync.where import Where


class Side(Protocol):
    """One of the two lakes."""

    @property
    def store(self) -> Store:
        """Where it is."""

    def find(self, source: str) -> Where:
        """Where the log of a source ends now."""

    def digest_at(self, source: str, seq: int) -> str:
        """The digest of a commit before the newest; its first 16 hex digits at least."""

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """Inside the block, an error of what is read says on which side it is."""

    def doubt(self, source: str) -> bool:
        """Believe nothing any more of what was known of a log; returns whether anything was."""


@dataclass(slots=True)
class StoreSide:
    """A lake of which nothing is known but where it is, and perhaps where its logs ended.

    Attributes:
        known: Where they ended when somebody looked last.
        name: Its name, if it is a mirror: hints of what is wrong there name it.
    """

    store: Store
    known: dict[str, Where] = field(default_factory=dict)
    name: str = ""

    def find(self, source: str) -> Where:
        """Where the log of a source ends now."""
        with self.reading():
            return where.find(self.store, source, self.known.get(source))

    def digest_at(self, source: str, seq: int) -> str:
        """The digest of a commit before the newest."""
        with self.reading():
            return units.digest_at(self.store, source, seq)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Inside the block, an error of what is read says that it is in the mirror, and how that is mended."""
        try:
            yield
        except IntegrityError as error:
            if self.name:
                error.hint = f"It is in the mirror {self.store.url}. {mend(self.name)}"
            raise

    def doubt(self, source: str) -> bool:
        """Believe nothing any more of what was known of a log; returns whether anything was."""
        return self.known.pop(source, None) is not None


@dataclass(slots=True)
class LakeSide:
    """An open lake, which knows its logs from summaries."""

    lake: Lake

    @property
    def store(self) -> Store:
        """Where it is."""
        return self.lake.store

    def find(self, source: str) -> Where:
        """Where the log of a source ends now."""
        log = self.lake.log(source)
        return Where(head=log.head, digest=log.digest)

    def digest_at(self, source: str, seq: int) -> str:
        """The digest of a commit; its first 16 hex digits at least."""
        return self.lake.log(source).digest_at(seq)

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """What is wrong here says so itself."""
        return contextlib.nullcontext()

    def doubt(self, source: str) -> bool:
        """Nothing is known but what was read."""
        del source
        return False


def ordered(sources: Sequence[str]) -> list[str]:
    """Sources in the order to copy them: models last, so that whoever has them has what they read."""
    return sorted(sources, key=lambda source: source == layout.MODELS)


def meet(origin: Store, dest: Store, *, make: bool = True) -> bool:
    """See that both are the same lake.

    Args:
        origin: The lake that is copied from.
        dest: The place that it is copied to.
        make: Make it a lake, with the same id, if there is none.

    Returns:
        Whether it was a lake before.

    Raises:
        NoLakeError, FormatError: The origin is no lake, or one of them is of a newer format.
        UserError: They are two lakes.
        IntegrityError: What the origin says of itself changed, or did not arrive as it is.
    """
    mine = Lake.open(origin)
    try:
        theirs = Lake.open(dest)
    except NoLakeError:
        if not make:
            return False
        with contextlib.suppress(Exists):  # another makes it right now
            dest.create(layout.LAKE_FILE, _about(origin, mine.id))
            return False
        theirs = Lake.open(dest)
    if theirs.id != mine.id:
        msg = f"{dest.url}: is another lake (id {theirs.id}) than {origin.url} (id {mine.id})"
        raise UserError(msg, hint="Nothing was written. Choose an empty folder or prefix, or the right lake.")
    return True


def _about(origin: Store, lake_id: str) -> bytes:
    """What a lake says of itself, proven to say the same as before: no checksum of it is known."""
    content = origin.get(layout.LAKE_FILE)
    read = MemoryStore()
    read.put(layout.LAKE_FILE, content)
    try:
        same = Lake.open(read).id == lake_id
    except LakehouseError:
        same = False
    if not same:
        msg = f"{origin.url}/{layout.LAKE_FILE}: is not what it was a moment ago"
        raise IntegrityError(msg, path=layout.LAKE_FILE, hint="Nothing was written. Run it again.")
    return content
