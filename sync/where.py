"""Where a log ends in a store: by two looks where it was known before, else by a listing."""

import contextlib
from dataclasses import dataclass

from lakehouse import logpack
from lakehouse.core import layout
from lakehouse.core.commit import GENESIS, digest_of
from lakehouse.errors import ContentionError
from lakehouse.store import Absent, Store
from lakehouse.store.base import Entry
from sync.plan import End

_ATTEMPTS = 10  # newest log files that were packed and pruned before they could be read, this often in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where a log ends.

    Attributes:
        head: Number of its newest commit; 0 for an empty log.
        digest: Digest of that commit.
        key: The log file that holds it; empty where nobody asked.
        stat: What the store says of that file; None where nobody asked.
    """

    head: int = 0
    digest: str = GENESIS
    key: str = ""
    stat: Entry | None = None

    @property
    def end(self) -> End:
        """Number and digest."""
        return End(seq=self.head, digest=self.digest)


def find(store: Store, source: str, known: Where | None = None) -> Where:
    """Where a log ends now.

    Args:
        store: The store.
        source: The source.
        known: Where it ended when somebody looked before. If that file is still what it was and no
            file follows, these two requests were all.

    Raises:
        IntegrityError: The newest log file is torn or altered.
    """
    if known is not None and _still(store, source, known):
        return known
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(Absent):  # packed and pruned since it was listed
            return _listed(store, source)
    msg = f"{source}: its log files went away while they were looked at, {_ATTEMPTS} times"
    raise ContentionError(msg, hint="Run it again when no `lakehouse prune` runs.")


def after(store: Store, source: str, *, first: int, head: int, digest: str) -> Where:
    """Where a log ends, right after its newest log file was written."""
    key = layout.log_key(source, first)
    try:
        return Where(head=head, digest=digest, key=key, stat=store.stat(key))
    except Absent:  # packed and pruned at once
        return find(store, source)


def _still(store: Store, source: str, known: Where) -> bool:
    """Whether the newest log file is what it was, and none follows."""
    if known.head and not _is_there(store, source, known):
        return False
    try:
        store.get(layout.log_key(source, known.head + 1))
    except Absent:
        return True
    return False


def _is_there(store: Store, source: str, known: Where) -> bool:
    if known.stat is None or not known.key.startswith(layout.log_prefix(source)):
        return False
    if layout.log_pack_span(known.key):  # a log that was cut may have got a longer pack, and no file
        return False
    try:
        if known.stat.checksums:
            return store.stat(known.key) == known.stat
        content = store.get(known.key)  # a store without checksums is one that is read at no cost
    except Absent:
        return False
    return content.endswith(b"\n") and digest_of(content[:-1].rsplit(b"\n", 1)[-1]) == known.digest


def _listed(store: Store, source: str) -> Where:
    files = logpack.listing(store, source).files
    if not files:
        return Where()
    newest = logpack.read(store, source, files[-1])[-1]
    key = files[-1].key
    return Where(head=newest.seq, digest=newest.digest, key=key, stat=store.stat(key))
