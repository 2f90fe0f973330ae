"""Reading a log from a store: the files in order, each once, and only the new ones the next time.

A checkpoint under `_derived/` is the numbered log files so far, one after the other as they lie; it saves
opening thousands of small files. It is checked against the newest file it stands for and the sizes of
all of them, and `verify` does not use it.
"""

import contextlib

from lakehouse import logpack
from lakehouse.core import commit as commits
from lakehouse.core import layout
from lakehouse.core.log import Log
from lakehouse.errors import ContentionError, ForkError, GapError, IntegrityError, LakehouseError
from lakehouse.store.base import Absent, Store

CHECKPOINT_AFTER = 64  # log files read one by one before they are worth a checkpoint

_File = tuple[int, str, int]  # first sequence number, key, size in bytes
_ATTEMPTS = 10  # files that were listed and then packed and pruned, this often in a row


def replay(store: Store, source: str, *, checkpoint: bool = True) -> Log:
    """The whole log of a source.

    Args:
        store: The lake's store.
        source: Name of the source; one without a log gives an empty `Log`.
        checkpoint: Read and write the derived checkpoint.

    Raises:
        IntegrityError: A file is torn, missing, altered, or of a newer format.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(Absent):  # a file was packed and pruned since the listing
            return _replayed(store, source, checkpoint=checkpoint)
    msg = f"{source}: its log files went away while they were read, {_ATTEMPTS} times"
    raise ContentionError(msg, hint="Run it again when no `lakehouse prune` runs.")


def _replayed(store: Store, source: str, *, checkpoint: bool) -> Log:
    listed = logpack.listing(store, source)
    log = Log(source)
    for pack in listed.packs:
        log = log.extended(logpack.read(store, source, pack), key=pack.key)
    files = [(file.first, file.key, file.size_bytes) for file in listed.numbered]
    log, done = _from_checkpoint(store, log, files) if checkpoint else (log, 0)
    read: list[bytes] = []
    numbered = [(file.first, file.key) for file in listed.numbered if file.first > done]
    try:
        log = _read_on(store, log, numbered, read)
    except IntegrityError:
        _check_not_packed(store, source, listed.packed)
        raise
    if numbered:
        _check_not_packed(store, source, listed.packed)
    if checkpoint and len(read) >= CHECKPOINT_AFTER:
        # It is derived: whoever may not write, or has no room for it, reads on without.
        with contextlib.suppress(LakehouseError, OSError):
            _write_checkpoint(store, source, [key for _, key, _ in files], files[-1][0])
    return log


def _read_on(store: Store, log: Log, numbered: list[tuple[int, str]], read: list[bytes]) -> Log:
    for seq, key in numbered:
        if seq > log.head + 1:  # a listing made while others write may hold a later file and lack an earlier
            log = _numbered(store, log)
        content = store.get(key)
        log = _extend(log, log.source, seq, key, content)
        read.append(content)
    return log


def _check_not_packed(store: Store, source: str, packed: int) -> None:
    """Raise Absent if there are new log packs: what was read of numbered files may not be the log.

    A name in the middle of a log is free again once its file is pruned, and a writer that slept may
    have used it before it noticed (`logpack.claim`). Such a file is younger than the pack.
    """
    if logpack.packed_until(store, source) > packed:
        raise Absent(layout.log_pack_prefix(source))


def follow(store: Store, log: Log) -> Log:
    """The log with the commits that were added since it was read."""
    try:
        longer = _numbered(store, log)
        _check_not_packed(store, log.source, log.head)
    except IntegrityError:
        if logpack.packed_until(store, log.source) > log.head:
            return replay(store, log.source)
        raise
    except Absent:
        return replay(store, log.source)
    return longer


def _numbered(store: Store, log: Log) -> Log:
    """The log with what the numbered files say that follow it."""
    while True:
        key = layout.log_key(log.source, log.head + 1)
        try:
            content = store.get(key)
        except Absent:
            return log
        log = _extend(log, log.source, log.head + 1, key, content)


def _extend(log: Log, source: str, seq: int, key: str, content: bytes) -> Log:
    found = commits.parse_file(content, key=key, source=source)
    if seq <= log.head:  # an overlap is a fork, unless it says what the log says already
        known = [c.digest for c in log.commits[seq - 1 : seq - 1 + len(found)]]
        if [c.digest for c in found] == known:
            return log
        msg = f"{key}: holds other commits than the log file before it for the same numbers"
        raise ForkError(
            msg, path=key, hint="Two histories were mixed: restore the log from a mirror or backup."
        )
    if found[0].seq != seq:
        msg = f"{key}: its first commit is number {found[0].seq}, its name says {seq}"
        raise GapError(msg, path=key, hint="A log file was renamed: give it back its own name.")
    return log.extended(found, key=key)


def _checkpoint_key(source: str, last_file: int) -> str:
    return f"{layout.DERIVED}/{source}/log/{last_file:020d}.jsonl"


def _from_checkpoint(store: Store, log: Log, files: list[_File]) -> tuple[Log, int]:
    """The log on to the newest checkpoint that agrees with its files, and the last file it stands for."""
    if len(files) < CHECKPOINT_AFTER:
        return log, 0
    for key in sorted((e.key for e in store.list(f"{layout.DERIVED}/{log.source}/log/")), reverse=True):
        seq = layout.log_file_seq(key) or 0
        # Another reader may just have put a newer one in its place, and a damaged one is no reason to
        # refuse a log that is sound.
        with contextlib.suppress(Absent, IntegrityError):
            content = store.get(key)
            if _agrees(store, content, [file for file in files if file[0] <= seq]):
                return log.extended(commits.parse_file(content, key=key, source=log.source), key=key), seq
    return log, 0


def _agrees(store: Store, checkpoint: bytes, files: list[_File]) -> bool:
    """Whether a checkpoint is these log files, as far as their sizes and the newest of them tell.

    Of a log that lost a file, or half of one, it is not: read file by file, it says what is wrong.
    """
    return len(checkpoint) == sum(size for _, _, size in files) and checkpoint.endswith(
        store.get(files[-1][1])
    )


def _write_checkpoint(store: Store, source: str, keys: list[str], last_file: int) -> None:
    before = [e.key for e in store.list(f"{layout.DERIVED}/{source}/log/")]
    store.put(_checkpoint_key(source, last_file), b"".join(store.get(key) for key in keys))
    for key in before:
        store.delete(key)
