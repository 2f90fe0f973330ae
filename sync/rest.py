"""What is left where a mirror is damaged: every source that failed, what was restored, and what else can be."""

import contextlib
from collections.abc import Mapping, Sequence

from lakehouse import Lake
from lakehouse.core import layout
from lakehouse.core.commit import Commit
from lakehouse.errors import IntegrityError, LakehouseError
from lakehouse.replay import replay
from lakehouse.store import LocalStore, Store


def left(
    failed: Mapping[str, LakehouseError], there: Store, here: LocalStore, names: Sequence[str]
) -> LakehouseError:
    """The error of a restore of which sources failed: each of them, what was restored, and what else can be."""
    said = []
    with contextlib.suppress(LakehouseError):
        lake = Lake.open(here)
        heads = {name: lake.log(name).head for name in names}
        said.append(
            f"{here.root} is a lake up to: {', '.join(f'{n} load {seq}' for n, seq in heads.items())}."
        )
    whole = [name for name in names if name not in failed]
    if whole:
        alone = " ".join(f"--source {name}" for name in whole)
        said.append(f"Restored whole: {', '.join(whole)} (alone: {alone}).")
    return _told(failed, there, said)


def unread(error: IntegrityError, there: Store, names: Sequence[str]) -> LakehouseError:
    """The error where it cannot be told how far each log goes: all logs that cannot be read."""
    failed: dict[str, LakehouseError] = {}
    for name in names:
        try:
            replay(there, name, checkpoint=False)
        except IntegrityError as found:
            failed[name] = found
    source = error.path.split("/", 1)[0]
    if source in names:
        failed = {source: failed.get(source, error)} | failed
    read = [f"--source {name}" for name in names if name not in failed]
    said = ["Nothing was written."]
    if read:
        said.append(f"Sources whose log can be read: {' '.join(read)}.")
    return _told(failed or {source: error}, there, said)


def _told(failed: Mapping[str, LakehouseError], there: Store, said: list[str]) -> LakehouseError:
    """The first error, whose hint names the others, and the last load before the damage of each."""
    error, *others = sorted(failed.values(), key=lambda error: not isinstance(error, IntegrityError))
    damaged = {source: found for source, found in failed.items() if isinstance(found, IntegrityError)}
    said = [f"It failed too: {other.message}.{_place(other)}" for other in others] + said
    if _place(error):
        said.insert(0, _place(error).strip())
    for source, found in damaged.items():
        before = _before(found.path, there, source)
        if before:
            said.append(f"{source} before the damage: --source {source} --as-of {before}.")
    if damaged:
        said.append(
            "What is damaged, in all: `lakehouse verify` of the mirror. From a lake that is whole, "
            "`lakehouse sync NAME --repair` mends it."
        )
        error.hint = " ".join(said)
    return error


def _place(error: LakehouseError) -> str:
    """Which file it is, where the message does not say it."""
    path = error.path if isinstance(error, IntegrityError) else ""
    return "" if path in error.message else f" {path} is missing or damaged."


def _before(path: str, there: Store, source: str) -> int:
    """The last load that can be restored without a file; 0 where none can."""
    seq = layout.log_file_seq(path)
    if seq is not None:
        return seq - 1
    with contextlib.suppress(LakehouseError):
        for commit in replay(there, source, checkpoint=False).commits:
            first = _first_needing(commit, path)
            if first:
                return first - 1
    return 0


def _first_needing(commit: Commit, path: str) -> int:
    """The first load that cannot be told without a part; 0 where the commit does not name it."""
    if any(part.path == path for change in commit.tables.values() for part in change.parts):
        return commit.seq
    packs = (pack for packs in commit.packs.values() for pack in packs)
    return min((pack.first for pack in packs if pack.path == path), default=0)
