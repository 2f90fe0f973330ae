"""Two histories of one source: where they part, and what to tell the person who has both."""

from bisect import bisect_left

from lakehouse.core import layout, moments
from lakehouse.core.commit import Commit
from lakehouse.core.log import Log
from lakehouse.errors import ForkError
from lakehouse.replay import replay
from lakehouse.store import Store

HINT = (
    "Nothing was changed. To go on from the mirror's history: `lakehouse sync pull --set-aside` puts the one here "
    "beside the lake; then load again what only that has. To keep both: `lakehouse sync --as NAME` mirrors this "
    "lake to another prefix. If the mirror is the one that is wrong (sent there from another machine, say): empty its "
    "prefix by hand and sync again, or use another prefix."
)


def forked(here: Store, there: Store, source: str) -> ForkError:
    """The error of a lake and a mirror whose logs differ from some commit on. Reads both logs.

    Args:
        here: The local lake.
        there: The mirror.
        source: The source.
    """
    mine, theirs = replay(here, source, checkpoint=False), replay(there, source, checkpoint=False)
    seq = _parting(mine, theirs)
    return ForkError(
        f"{source}: this lake and the mirror {there.url} have different histories from load {seq} on: "
        f"here {_side(mine, seq)}; there {_side(theirs, seq)}",
        path=layout.log_key(source, seq),
        hint=HINT,
    )


def parting(here: Store, there: Store, source: str) -> int:
    """The number of the first commit of which two lakes have different ones. Reads both logs."""
    return _parting(replay(here, source, checkpoint=False), replay(there, source, checkpoint=False))


def _parting(one: Log, two: Log) -> int:
    """Digests are chained: from the first commit that differs on, all do."""
    common = min(one.head, two.head)
    return 1 + bisect_left(range(common), True, key=lambda n: one.commits[n].digest != two.commits[n].digest)


def _side(log: Log, seq: int) -> str:
    if seq > log.head:
        return f"it ends with load {log.head}"
    more = log.head - seq
    return _named(log.commits[seq - 1]) + (f" and {more} more" if more else "")


def _named(commit: Commit) -> str:
    host = commit.produced_by.get("host") or "an unknown host"
    observed = moments.render(commit.observed_at)
    return (
        f"load {commit.seq} {commit.load_id!r} (observed {observed}, by {host}, digest {commit.digest[:12]}…)"
    )
