"""What has to be copied so that one log goes as far as another: two ends of a log in, ordered actions out.

Pure: no store, no clock. A batch is a run of units that one log file publishes, after all parts that
hold their rows at its end. A part that a pack of the same batch stands for is left out; where such a
part is gone already, the batch goes on until the pack. So the log may be cut off after any batch,
and what is there is a whole lake.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lakehouse.core.commit import GENESIS
from sync.units import Need, Unit

Relation = Literal["equal", "ahead", "behind", "diverged"]

_SHORTEST = 16  # hex digits of a digest that a log opened from a summary knows at least


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Where a log ends.

    Attributes:
        seq: Number of its newest commit; 0 for an empty log.
        digest: Digest of that commit: it stands for the whole history.
    """

    seq: int = 0
    digest: str = GENESIS


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Copy a part.

    Attributes:
        path: Its key, the same in both lakes.
        sha256: Hex digest of its bytes, as committed.
        size_bytes: Its size, as committed.
    """

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Make commits visible by one log file, once all parts that were copied before it are there.

    Attributes:
        source: Whose log it is.
        first: Number of the first commit.
        last: Number of the last commit.
        size_bytes: Size of the log file.
    """

    source: str
    first: int
    last: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done for one source.

    Attributes:
        relation: Of the local log to that of the mirror.
        actions: What to do, in order.
        here: Where the local log ends.
        there: Where the mirror's log ends.
        lost: Parts that are not there to be copied and that no pack stands for: the actions end before them.
        stopped: Whether the actions end early because more would be too many bytes.
        next_loads: Where they do, how many commits come next, which can only be copied together; else 0.
        next_bytes: Bytes that these need.
    """

    source: str
    relation: Relation
    actions: tuple[Copy | Publish, ...] = ()
    here: End = field(default_factory=End)
    there: End = field(default_factory=End)
    lost: tuple[Need, ...] = ()
    stopped: bool = False
    next_loads: int = 0
    next_bytes: int = 0

    @property
    def copies(self) -> tuple[Copy, ...]:
        """The parts to copy."""
        return tuple(action for action in self.actions if isinstance(action, Copy))

    @property
    def publishes(self) -> tuple[Publish, ...]:
        """The log files to write."""
        return tuple(action for action in self.actions if isinstance(action, Publish))

    @property
    def loads(self) -> int:
        """How many commits become visible."""
        return sum(action.last - action.first + 1 for action in self.publishes)

    @property
    def files(self) -> int:
        """How many files are written."""
        return len(self.actions)

    @property
    def size_bytes(self) -> int:
        """Bytes of all of them."""
        return sum(action.size_bytes for action in self.actions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """When a batch ends: the smaller, the less is lost by an interruption; the larger, the fewer requests.

    Attributes:
        parts: It has that many parts,
        part_bytes: or that many bytes of them,
        log_bytes: or its log file would become larger than this.
    """

    parts: int = 1000
    part_bytes: int = 256 << 20
    log_bytes: int = 4_000_000


CUT = Cut()


def same(one: str, two: str) -> bool:
    """Whether two digests of a commit are the same, as far as both are known."""
    if one == two:
        return True
    short, long = sorted((one, two), key=len)
    return len(short) >= _SHORTEST and long.startswith(short)


def plan(
    source: str,
    *,
    relation: Relation,
    here: End,
    there: End,
    units: Sequence[Unit] = (),
    missing: Collection[str] = (),
    max_bytes: int | None = None,
    cut: Cut | None = None,
) -> Plan:
    """The actions that make the shorter log as long as the longer one.

    Args:
        source: The source.
        relation: Of the local log to the mirror's.
        here: Where the local log ends.
        there: Where the mirror's ends.
        units: What the shorter log lacks, in order.
        missing: Paths of parts that are not there to be copied.
        max_bytes: Bytes that may be copied at most; the last batch is made smaller to stay within.
        cut: When a batch ends; `CUT` by default.
    """
    work = _Work(units, frozenset(missing), max_bytes, cut or CUT)
    work.run()
    return Plan(
        source=source, relation=relation, actions=tuple(work.actions), here=here, there=there,
        lost=tuple(work.lost), stopped=work.stopped, next_loads=work.next_loads, next_bytes=work.next_bytes,
    )  # fmt: skip


class _Held:
    """The parts that hold the rows of a run of units at its end; those from before it are not among them."""

    def __init__(self, missing: frozenset[str], copied: Collection[str]) -> None:
        self.needs: dict[str, Need] = {}
        self.size_bytes = 0
        self.log_bytes = 0
        self.missing: set[str] = set()
        self._gone = missing
        self._copied = copied

    def add(self, unit: Unit) -> None:
        for need in unit.needs:
            if need.pack:
                inside = [n.path for n in self.needs.values() if n.within(need)]
                for path in inside:
                    self._drop(path)
            self._put(need)
        self.log_bytes += len(unit.content)

    def _put(self, need: Need) -> None:
        known = self.needs.get(need.path)
        if known is not None:
            self.needs[need.path] = known.until(need.last)
            return
        self.needs[need.path] = need
        if need.path in self._gone:
            self.missing.add(need.path)
        elif need.path not in self._copied:
            self.size_bytes += need.size_bytes

    def _drop(self, path: str) -> None:
        need = self.needs.pop(path)
        if path in self._gone:
            self.missing.discard(path)
        elif path not in self._copied:
            self.size_bytes -= need.size_bytes


class _Work:
    """Going through the units once, cutting batches."""

    def __init__(self, units: Sequence[Unit], missing: frozenset[str], most: int | None, cut: Cut) -> None:
        self.actions: list[Copy | Publish] = []
        self.lost: list[Need] = []
        self.stopped = False
        self.next_loads = self.next_bytes = 0
        self._units = units
        self._missing = missing
        self._most = most
        self._cut = cut
        self._spent = 0
        self._copied: set[str] = set()
        self._begin(0)

    def _begin(self, at: int) -> None:
        """Begin a batch with a unit."""
        self._first = self._whole = at  # a batch may end before `whole`, if that is beyond its first
        self._held = _Held(self._missing, self._copied)

    def run(self) -> None:
        for at, unit in enumerate(self._units):
            if (
                self._whole == at > self._first
                and self._held.log_bytes + len(unit.content) > self._cut.log_bytes
            ):
                self._close()
            self._held.add(unit)
            cost = self._spent + self._held.size_bytes + self._held.log_bytes
            if self._most is not None and cost > self._most:
                self.stopped = True
                break
            if not self._held.missing:
                self._whole = at + 1
                if len(self._held.needs) >= self._cut.parts or self._held.size_bytes >= self._cut.part_bytes:
                    self._close()
        lost = () if self.stopped else sorted(self._held.missing)
        self.lost = [self._held.needs[path] for path in lost]
        self._close()
        if self.stopped:
            self._weigh()

    def _weigh(self) -> None:
        """What the next plan, which knows nothing of this one, needs to get any further."""
        held = _Held(self._missing, ())
        for unit in self._units[self._first :]:
            held.add(unit)
            self.next_loads += unit.last - unit.first + 1
            self.next_bytes = max(self.next_bytes, held.size_bytes + held.log_bytes)
            if not held.missing:
                return

    def _close(self) -> None:
        """End the batch where it was whole last."""
        if self._whole > self._first:
            batch = self._units[self._first : self._whole]
            held = _Held(self._missing, self._copied)
            for unit in batch:
                held.add(unit)
            for need in held.needs.values():
                if need.path not in self._copied:
                    self.actions.append(Copy(path=need.path, sha256=need.sha256, size_bytes=need.size_bytes))
            self.actions.append(
                Publish(
                    source=batch[0].source,
                    first=batch[0].first,
                    last=batch[-1].last,
                    size_bytes=held.log_bytes,
                )
            )
            self._spent += held.size_bytes + held.log_bytes
            self._copied |= held.needs.keys()
        self._begin(self._whole)
