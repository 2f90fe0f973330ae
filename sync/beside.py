"""What lies beside the logs: tags, loads in quarantine, log packs. Copied if absent, never overwritten."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lakehouse import Lake, logpack
from lakehouse.core import layout, tag
from lakehouse.core.tag import Tag
from lakehouse.errors import IntegrityError, UserError
from lakehouse.store import Absent, Exists, Store
from sync import plan as plans
from sync.bandwidth import Bandwidth
from sync.transfer import Transfer
from sync.units import units_of

Heads = Mapping[str, int]


@dataclass(slots=True, kw_only=True)
class Beside:
    """What was done with files beside the logs.

    Attributes:
        copied: Names of tags, or keys of files, that were copied.
        held: Those that wait until the loads that they name are there.
        conflicts: What differs on both sides and was left alone, for people.
    """

    copied: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


def forget_gone(there: Store, *, tags: dict[str, str], quarantine: dict[str, int]) -> None:
    """Forget what was known to be in a mirror and is not: an older copy of it may be in its place.

    Args:
        there: The mirror.
        tags: SHA-256 by name of the tags known to be there; brought up to date.
        quarantine: Size by key of the files of refused loads known to be there; brought up to date.
    """
    if tags:
        names = set(_tags(there))
        for name in [name for name in tags if name not in names]:
            del tags[name]
    if quarantine:
        keys = {entry.key for entry in there.list(f"{layout.QUARANTINE}/")}
        for key in [key for key in quarantine if key not in keys]:
            del quarantine[key]


def push_tags(
    here: Store, there: Store, *, heads: Heads, known: dict[str, str], bandwidth: Bandwidth
) -> Beside:
    """Copy tags to a mirror. Asks it nothing where all are known to be there.

    Args:
        here: The local lake.
        there: The mirror.
        heads: By source, how far the mirror's log is as here.
        known: SHA-256 of the tags known to be there; brought up to date.
        bandwidth: How fast.
    """
    mine = {name: here.get(layout.tag_key(name)) for name in _tags(here)}
    new = {name: content for name, content in mine.items() if known.get(name) != _sha256(content)}
    done = Beside()
    if new:
        _copy_tags(new, there, _tags(there), heads, known, done, bandwidth)
    return done


def pull_tags(
    there: Store, here: Store, *, heads: Heads, known: dict[str, str], bandwidth: Bandwidth
) -> Beside:
    """Copy tags from a mirror: those that were not deleted here.

    Args:
        there: The mirror.
        here: The local lake.
        heads: By source, how far the local log is.
        known: SHA-256 of the tags known to be in the mirror; brought up to date.
        bandwidth: How fast.
    """
    mine = {name: here.get(layout.tag_key(name)) for name in _tags(here)}
    new = {}
    for name in _tags(there):
        said = known.get(name)
        if said is None or (name in mine and _sha256(mine[name]) != said):
            new[name] = there.get(layout.tag_key(name))
    done = Beside()
    _copy_tags(new, here, list(mine), heads, known, done, bandwidth)
    return done


def _tags(store: Store) -> list[str]:
    names = []
    for entry in store.list(f"{layout.TAGS}/"):
        name = entry.key.removeprefix(f"{layout.TAGS}/").removesuffix(".json")
        if layout.tag_key(name) == entry.key:
            names.append(name)
    return names


def _copy_tags(
    new: Mapping[str, bytes],
    dest: Store,
    there: Sequence[str],
    heads: Heads,
    known: dict[str, str],
    done: Beside,
    bandwidth: Bandwidth,
) -> None:
    taken = {name.lower(): name for name in there}
    for name, content in new.items():
        key = layout.tag_key(name)
        try:
            about = tag.parse(content, key=key)
        except IntegrityError as error:
            done.conflicts.append(error.message)
            continue
        other = taken.get(name.lower(), name)
        if other != name:
            done.conflicts.append(
                f"tag {name}: {dest.url} has a tag {other}, whose name differs in case only"
            )
        elif not _reaches(about, heads):
            done.held.append(name)
        elif _created(dest, key, content, bandwidth):
            known[name] = _sha256(content)
            if name not in there:
                done.copied.append(name)
        else:
            done.conflicts.append(f"tag {name}: {dest.url} has another tag of this name; neither was changed")


def _reaches(about: Tag, heads: Heads) -> bool:
    return all(seq <= heads.get(source, 0) for source, seq in about.positions.items())


def _created(dest: Store, key: str, content: bytes, bandwidth: Bandwidth) -> bool:
    """Whether an object with that content is there now."""
    bandwidth.take(len(content))
    try:
        dest.create(key, content)
    except Exists:
        return dest.get(key) == content
    return True


def push_quarantine(
    here: Store, there: Store, *, sources: Sequence[str], known: dict[str, int], transfer: Transfer
) -> Beside:
    """Copy what lies in quarantine to a mirror. Asks it nothing where all is known to be there.

    Args:
        here: The local lake.
        there: The mirror.
        sources: Of these sources.
        known: Size of the files known to be there; brought up to date.
        transfer: Copies several at once.
    """
    new = {key: size for key, size in _quarantined(here, sources).items() if known.get(key) != size}
    return _copy_files(here, there, new, known, transfer)


def pull_quarantine(
    there: Store, here: Store, *, sources: Sequence[str], known: dict[str, int], transfer: Transfer
) -> Beside:
    """Copy what lies in quarantine from a mirror: loads that were neither approved nor discarded here.

    Args:
        there: The mirror.
        here: The local lake.
        sources: Of these sources.
        known: Size of the files known to be in the mirror; brought up to date.
        transfer: Copies several at once.
    """
    mine = _quarantined(here, sources)
    new = {k: size for k, size in _quarantined(there, sources).items() if k not in mine and k not in known}
    lake = Lake.open(here)
    for key in [key for key in new if key.endswith("/load.json")]:
        folder = key.removesuffix("load.json")
        if _is_published(lake, there.get(key)):
            new = {k: s for k, s in new.items() if not k.startswith(folder) or "/discarded/" in k}
    return _copy_files(there, here, new, known, transfer)


def _quarantined(store: Store, sources: Sequence[str]) -> dict[str, int]:
    prefix = f"{layout.QUARANTINE}/"
    return {
        layout.check_relative(entry.key, named_by=prefix, within=prefix): entry.size_bytes
        for entry in store.list(prefix)
        if entry.key.split("/")[1] in sources
    }


def _is_published(lake: Lake, content: bytes) -> bool:
    try:
        record = json.loads(content)
        return lake.log(layout.check_source_name(record["source"])).find(record["load_id"]) is not None
    except (ValueError, KeyError, TypeError, RecursionError, UserError):
        return False


def _copy_files(
    origin: Store, dest: Store, new: Mapping[str, int], known: dict[str, int], transfer: Transfer
) -> Beside:
    done = Beside()

    def one(key: str) -> tuple[str, bool | None]:
        try:
            return key, _created(dest, key, origin.get(key), transfer.bandwidth)
        except Absent:  # approved or discarded just now
            return key, None

    last = [key for key in new if key.endswith("/load.json")]  # as it is written
    for keys in ([key for key in new if key not in set(last)], last):
        for key, same in transfer.pool.map(one, keys):
            if same:
                known[key] = new[key]
                done.copied.append(key)
            elif same is False:
                done.conflicts.append(f"{key}: {dest.url} has other bytes; neither was changed")
    return done


def push_packs(lake: Lake, there: Store, source: str, *, head: int, packed: int, bandwidth: Bandwidth) -> int:
    """Copy log packs to a mirror that has all their commits, and a log file that begins right after them.

    Args:
        lake: The local lake.
        there: The mirror.
        source: The source.
        head: How far the mirror's log is.
        packed: Last commit of the packs that were looked at before.
        bandwidth: How fast.

    Returns:
        Last commit of the packs that were looked at.

    Raises:
        IntegrityError: A pack here is not what the log says.
    """
    if logpack.packed_until(lake.store, source) <= packed:
        return packed
    log = lake.log(source)
    for pack in logpack.listing(lake.store, source).packs:
        if pack.last >= head:
            return packed
        packed = max(packed, pack.last)
        try:
            there.stat(layout.log_key(source, pack.last + 1))
            content = lake.store.get(pack.key)
        except Absent:  # the mirror's files are cut elsewhere: it keeps them
            return logpack.packed_until(lake.store, source)
        found = units_of(logpack.raw_lines(lake.store, pack), key=pack.key, source=source)
        if (found[0].first, found[-1].last) != (pack.first, pack.last) or not plans.same(
            found[-1].digest, log.digest_at(pack.last)
        ):
            msg = f"{pack.key}: is not what the log says; it was not copied"
            raise IntegrityError(msg, path=pack.key, hint="Run `lakehouse verify`.")
        _created(there, pack.key, content, bandwidth)
    return packed


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
