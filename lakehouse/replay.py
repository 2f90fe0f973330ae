"""Reading a log from a store: the files in order, each once, and only the new ones the next time.

A log of some length is opened from a summary of its beginning (see `lakehouse.checkpoint`), which is
derived and which `verify` does not use. What log packs stand for is read from them (`lakehouse.logpack`).
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lakehouse import logpack
from lakehouse.checkpoint import LISTED, agrees, keep, opened
from lakehouse.core import commit as commits
from lakehouse.core import layout
from lakehouse.core.log import Log
from lakehouse.errors import ContentionError, ForkError, GapError, IntegrityError
from lakehouse.logpack import LogFile
from lakehouse.store.base import Absent, Store
from lakehouse.store.local import LocalStore
from lakehouse.store.threads import threads

_AT_ONCE = 32  # log files of a lake that is no folder
_ATTEMPTS = 10  # files that were listed and then packed and pruned, this often in a row


def replay(store: Store, source: str, *, checkpoint: bool = True) -> Log:
    """The log of a source, with all that was committed until now.

    Args:
        store: The lake's store.
        source: Name of the source; one without a log gives an empty `Log`.
        checkpoint: Begin with the derived summary, and keep one. If not, every commit is read.

    Raises:
        IntegrityError: A file is torn, missing, altered, or of a newer format.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(Absent):  # a file was packed and pruned since the listing
            return _replayed(store, source, checkpoint=checkpoint)
    msg = f"{source}: its log files went away while they were read, {_ATTEMPTS} times"
    raise ContentionError(msg, hint="Run it again when no `lakehouse prune` runs.")


def _replayed(store: Store, source: str, *, checkpoint: bool) -> Log:
    log = Log(source)
    if checkpoint:
        log = opened(store, source, lambda last: _up_to(store, source, last)) or log
        if log.reach.files > LISTED and logpack.packed_until(store, source) <= log.head:
            return keep(store, _followed(store, log))
    listed = logpack.listing(store, source)
    if not agrees(log, listed.files):  # read file by file, the log says what is wrong
        log = Log(source)
    log = _read(store, log, listed.files, packed=listed.packed)
    return keep(store, log) if checkpoint else log


def follow(store: Store, log: Log) -> Log:
    """The log with the commits that were added since it was read."""
    try:
        return keep(store, _followed(store, log))
    except Absent:
        return replay(store, log.source)


def _followed(store: Store, log: Log) -> Log:
    """The log with what numbered files say that follow it. Raises Absent if they may be no part of it."""
    try:
        longer = _numbered(store, log)
    except IntegrityError:
        _check_not_packed(store, log.source, log.head)
        raise
    _check_not_packed(store, log.source, log.head)
    return longer


def _check_not_packed(store: Store, source: str, packed: int) -> None:
    """Raise Absent if there are new log packs: what was read of numbered files may not be the log.

    A name in the middle of a log is free again once its file is pruned, and a writer that slept may
    have used it before it noticed (`logpack.claim`). Such a file is younger than the pack.
    """
    if logpack.packed_until(store, source) > packed:
        raise Absent(layout.log_pack_prefix(source))


def _read(store: Store, log: Log, files: Sequence[LogFile], *, packed: int) -> Log:
    """The log with the files of a listing that it does not have yet.

    Raises:
        Absent: There are log packs that reach further than those of the listing.
    """
    done = log.head
    numbered = False
    files = [file for file in files if file.first > done]
    contents = _contents(store, [file.key for file in files if not file.last])
    try:
        for file in files:
            if file.last:
                found = logpack.read(store, log.source, file)
                log = log.extended(found, key=file.key, size_bytes=file.size_bytes)
                continue
            if file.first > log.head + 1:  # a listing made while others write may lack an earlier file
                log = _numbered(store, log)
            log = _extend(log, file.first, file.key, next(contents))
            numbered = True
    except IntegrityError:
        _check_not_packed(store, log.source, packed)
        raise
    if numbered:
        _check_not_packed(store, log.source, packed)
    return log


def _contents(store: Store, keys: Sequence[str]) -> Iterator[bytes]:
    """The content of objects, in order; several are asked for at once where each takes its time."""
    if isinstance(store, LocalStore):
        yield from map(store.get, keys)
        return
    with threads(_AT_ONCE) as pool:
        for at in range(0, len(keys), _AT_ONCE):
            yield from pool.map(store.get, keys[at : at + _AT_ONCE])


def _numbered(store: Store, log: Log) -> Log:
    """The log with what the numbered files say that follow it."""
    while True:
        key = layout.log_key(log.source, log.head + 1)
        try:
            content = store.get(key)
        except Absent:
            return log
        log = _extend(log, log.head + 1, key, content)


def _up_to(store: Store, source: str, last: int) -> Log:
    """The log up to a commit at least, read commit by commit."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(Absent):
            listed = logpack.listing(store, source)
            files = [file for file in listed.files if file.first <= last]
            return _read(store, Log(source), files, packed=listed.packed)
    return replay(store, source, checkpoint=False)


def _extend(log: Log, seq: int, key: str, content: bytes) -> Log:
    found = commits.parse_file(content, key=key, source=log.source)
    if seq <= log.head:  # an overlap is a fork, unless it says what the log says already
        known = [c.digest for c in log.commits[seq - 1 : seq - 1 + len(found)]]
        if [c.digest for c in found] == known:
            return replace(log, reach=log.reach.beside(len(content)))
        msg = f"{key}: holds other commits than the log file before it for the same numbers"
        raise ForkError(
            msg, path=key, hint="Two histories were mixed: restore the log from a mirror or backup."
        )
    if found[0].seq != seq:
        msg = f"{key}: its first commit is number {found[0].seq}, its name says {seq}"
        raise GapError(msg, path=key, hint="A log file was renamed: give it back its own name.")
    return log.extended(found, key=key, size_bytes=len(content))
