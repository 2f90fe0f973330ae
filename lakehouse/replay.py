"""Reading a log from a store: the files in order, each once, and only the new ones the next time.

A log of some length is opened from a summary of its beginning (see `lakehouse.checkpoint`), which is
derived and which `verify` does not use.
"""

from dataclasses import replace

from lakehouse.checkpoint import LISTED, LogFile, agrees, keep, log_files, opened
from lakehouse.core import commit as commits
from lakehouse.core import layout
from lakehouse.core.log import Log
from lakehouse.errors import ForkError, GapError
from lakehouse.store.base import Absent, Store


def replay(store: Store, source: str, *, checkpoint: bool = True) -> Log:
    """The log of a source, with all that was committed until now.

    Args:
        store: The lake's store.
        source: Name of the source; one without a log gives an empty `Log`.
        checkpoint: Begin with the derived summary, and keep one. If not, every commit is read.

    Raises:
        IntegrityError: A file is torn, missing, altered, or of a newer format.
    """
    if not checkpoint:
        return _read(store, Log(source), log_files(store, source))
    log = opened(store, source, lambda last: _up_to(store, source, last)) or Log(source)
    if log.reach.files <= LISTED:
        files = log_files(store, source)
        if not agrees(log, files):  # read file by file, the log says what is wrong
            log = Log(source)
        return keep(store, _read(store, log, files))
    return follow(store, log)


def follow(store: Store, log: Log) -> Log:
    """The log with the commits that were added since it was read."""
    return keep(store, _followed(store, log))


def _read(store: Store, log: Log, files: list[LogFile]) -> Log:
    """The log with the files of a listing that it does not have yet."""
    done = log.head
    for seq, key, _ in files:
        if seq <= done:
            continue
        if seq > log.head + 1:  # a listing made while others write may hold a later file and lack an earlier
            log = _followed(store, log)
        log = _extend(log, seq, key, store.get(key))
    return log


def _followed(store: Store, log: Log) -> Log:
    while True:
        key = layout.log_key(log.source, log.head + 1)
        try:
            content = store.get(key)
        except Absent:
            return log
        log = _extend(log, log.head + 1, key, content)


def _up_to(store: Store, source: str, last: int) -> Log:
    """The log up to a commit with which a log file ends, read commit by commit."""
    return _read(store, Log(source), [file for file in log_files(store, source) if file[0] <= last])


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
