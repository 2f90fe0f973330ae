"""The one engine behind push, pull and restore: it makes the log of one lake as long as that of another.

Per source: see where both logs end, plan, copy parts, claim the next log file. Whoever loses a race, or
misses a part that was just pruned, looks again and plans anew; what was copied by then stays.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lakehouse.errors import (
    ContentionError,
    ForkError,
    IntegrityError,
    MissingPartError,
)
from lakehouse.logpack import claim, claim_pack
from lakehouse.store import Absent, Entry, LocalStore, Store
from sync import plan as plans
from sync import units, where
from sync.fork import forked
from sync.plan import Copy, Plan, Relation
from sync.sides import LakeSide, Side
from sync.transfer import LISTED, Transfer
from sync.units import DivergedError, Need, Unit
from sync.where import Where

_RACES = 20  # lost in a row, without the log getting any longer
_STATTED = 1000  # parts of a local lake up to which each is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a look at both sides found, and what follows from it.

    Attributes:
        plan: What is to be done.
        units: What the destination lacks.
        origin: Where the origin's log ends.
        dest: Where the destination's log ends.
        error: Why nothing can be planned; None if it can.
    """

    plan: Plan
    units: Sequence[Unit] = ()
    origin: Where = field(default_factory=Where)
    dest: Where = field(default_factory=Where)
    error: IntegrityError | None = None


@dataclass(slots=True, kw_only=True)
class Way:
    """From one lake to another.

    Attributes:
        origin: Where commits and parts are copied from.
        dest: Where to.
        pulls: Whether the destination is the local side, after which relations are named.
        until: By source, the last commit that is wanted; whole logs where it is not said.
        connections: Log files that are read at once.
        interrupted: Whether parts of a source may lie at the destination that its log does not name yet.
    """

    origin: Side
    dest: Side
    pulls: bool = False
    until: Mapping[str, int] = field(default_factory=dict)
    connections: int = 16
    interrupted: Callable[[str], bool] = lambda _: True

    def look(
        self, source: str, *, missing: frozenset[str] = frozenset(), max_bytes: int | None = None
    ) -> Seen:
        """See where both logs end, and plan. Changes nothing.

        Args:
            source: The source.
            missing: Parts that are known not to be there to be copied.
            max_bytes: Bytes that may be copied at most.

        Raises:
            IntegrityError: A log cannot be read.
        """
        try:
            seen = self._looked(source, missing, max_bytes)
        except IntegrityError:
            if not self._doubted(source):
                raise
        else:
            if seen.plan.relation in {"equal", self._moves} or not self._doubted(source):
                return seen
        return self._looked(source, missing, max_bytes)

    def tried(self, source: str) -> Seen:
        """The same; where a log cannot be read, the error is in what is returned."""
        try:
            return self.look(source)
        except IntegrityError as error:
            return Seen(plan=Plan(source=source, relation="diverged"), error=error)

    def _doubted(self, source: str) -> bool:
        """Whether a log was not read, but believed to end where it ended before; it is read the next time."""
        return any([self.origin.doubt(source), self.dest.doubt(source)])

    def _looked(self, source: str, missing: frozenset[str], max_bytes: int | None) -> Seen:
        origin, dest = self.origin.find(source), self.dest.find(source)
        more: list[Unit] = []
        relation = self._relation(source, origin, dest)
        if relation == self._moves:
            try:
                with self.origin.reading():
                    more = units.read(
                        self.origin.store, source, seq=dest.head, digest=dest.digest,
                        until=self.until.get(source), connections=self.connections,
                    )  # fmt: skip
            except DivergedError:
                relation = "diverged"
        gone = missing | _gone(self.origin.store, source, more)
        here, there = (dest.end, origin.end) if self.pulls else (origin.end, dest.end)
        made = plans.plan(
            source, relation=relation, here=here, there=there, units=more, missing=gone, max_bytes=max_bytes
        )
        return Seen(plan=made, units=more, origin=origin, dest=dest)

    @property
    def _moves(self) -> Relation:
        """The relation in which there is something to copy."""
        return "behind" if self.pulls else "ahead"

    def _relation(self, source: str, origin: Where, dest: Where) -> Relation:
        """How the local log stands to the other; that the origin is ahead is proven when its units are read."""
        if origin.head == dest.head:
            return "equal" if plans.same(origin.digest, dest.digest) else "diverged"
        if dest.head < min(self.until.get(source, origin.head), origin.head):
            return self._moves
        if dest.head < origin.head:  # all that is wanted is there
            fits = not dest.head or plans.same(self.origin.digest_at(source, dest.head), dest.digest)
            return "equal" if fits else "diverged"
        fits = not origin.head or plans.same(self.dest.digest_at(source, origin.head), origin.digest)
        if not fits:
            return "diverged"
        return "ahead" if self.pulls else "behind"

    def carry(self, seen: Seen, transfer: Transfer, *, max_bytes: int | None = None) -> Where:
        """Do what a look found, until the destination has all.

        Args:
            seen: What `look` found.
            transfer: Copies the parts; it was told to expect what is in the plan.
            max_bytes: Bytes that may be copied at most.

        Returns:
            Where the destination's log ends then.

        Raises:
            IntegrityError: A log could not be read.
            ForkError: Both sides have commits that the other lacks.
            MissingPartError: A part is gone that no pack stands for; what comes before it is there.
            DamagedPartError: A part has other bytes than were committed, here or there.
            ContentionError: Others were faster every time.
        """
        source, missing = seen.plan.source, frozenset[str]()
        races, lost = 0, False
        while seen.plan.relation == self._moves:
            before = transfer.done
            done = self._act(seen, transfer)
            if done.whole and not seen.plan.lost:
                return self._ended(seen, done)
            if done.whole and lost:
                raise _lost(self.origin.store, seen.plan.lost[0])
            lost = done.whole  # a log that was read before its newest pack: once more
            missing |= done.gone
            races = 0 if done.at.head > seen.dest.head or done.gone or lost else races + 1
            if races > _RACES:
                msg = f"{source}: another wrote to {self.dest.store.url} first, {_RACES} times in a row"
                raise ContentionError(msg, hint="Run it again when the other is done.")
            if races:  # by a log pack, maybe, which what was known of the log does not tell
                self._doubted(source)
            max_bytes = None if max_bytes is None else max(max_bytes - done.size_bytes, 0)
            left = seen.plan.files - (transfer.done.files - before.files)
            left_bytes = seen.plan.size_bytes - (transfer.done.size_bytes - before.size_bytes)
            seen = self.look(source, missing=missing, max_bytes=max_bytes)
            transfer.expect(seen.plan.files - left, seen.plan.size_bytes - left_bytes)
        if seen.plan.relation == "diverged":
            raise seen.error or self.forked(source)
        return seen.dest

    def forked(self, source: str) -> ForkError:
        """The error of two logs that both have commits that the other lacks."""
        one, two = (self.dest, self.origin) if self.pulls else (self.origin, self.dest)
        return forked(one.store, two.store, source)

    def _act(self, seen: Seen, transfer: Transfer) -> "_Done":
        """Follow the plan, as far as it goes."""
        source, at, size = seen.plan.source, seen.dest, 0
        there = self._listed(source, seen.plan.copies)
        batch: list[Copy] = []
        first = end = 0
        for action in seen.plan.actions:
            if isinstance(action, Copy):
                batch.append(action)
                continue
            gone = transfer.copy(self.origin.store, self.dest.store, batch, there=there)
            if gone:
                return _Done(at=at, gone=gone, size_bytes=size)
            while end < len(seen.units) and seen.units[end].last <= action.last:
                end += 1
            transfer.bandwidth.take(action.size_bytes)
            if not self._publish(seen.units[first:end], at):
                return _Done(at=at, size_bytes=size)
            transfer.count(action.size_bytes)
            size += sum(copy.size_bytes for copy in batch) + action.size_bytes
            at, batch, first = Where(head=action.last, digest=seen.units[end - 1].digest), [], end
        return _Done(at=at, size_bytes=size, whole=True)

    def _publish(self, batch: Sequence[Unit], at: Where) -> bool:
        """Make the commits of some units visible, right after the newest; False if others were faster."""
        source, first, last = batch[0].source, batch[0].first, batch[-1].last
        if batch[0].whole and batch[-1].whole:
            return claim(self.dest.store, source, first, b"".join(unit.content for unit in batch))
        lines = units.lines_until(self.origin.store, source, last)
        return claim_pack(self.dest.store, source, after=at.head, last=last, lines=lines)

    def _listed(self, source: str, copies: Sequence[Copy]) -> Mapping[str, Entry]:
        """What an interrupted sync may have left at the destination, where there is much to copy."""
        ask = len(copies) >= LISTED and not isinstance(self.dest.store, LocalStore)
        if not ask or not self.interrupted(source):
            return {}
        return {entry.key: entry for entry in self.dest.store.list(f"{source}/")}

    def _ended(self, seen: Seen, done: "_Done") -> Where:
        """Where the destination's log ends, as one look at its newest file tells."""
        if isinstance(self.dest, LakeSide) or not seen.plan.publishes:
            return done.at
        first = seen.plan.publishes[-1].first
        return where.after(
            self.dest.store, seen.plan.source, first=first, head=done.at.head, digest=done.at.digest
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """How far a plan was followed.

    Attributes:
        at: Where the destination's log ends.
        gone: Parts that were not there to be copied.
        size_bytes: Bytes of what was published.
        whole: Whether it was followed to its end.
    """

    at: Where
    gone: frozenset[str] = frozenset()
    size_bytes: int = 0
    whole: bool = False


def _gone(store: Store, source: str, found: Sequence[Unit]) -> frozenset[str]:
    """Parts that units name and that are gone, as far as a pack may stand for them."""
    if not any(need.pack for unit in found for need in unit.needs):
        return frozenset()
    paths = {need.path for unit in found for need in unit.needs}
    if isinstance(store, LocalStore) and len(paths) <= _STATTED:
        return frozenset(path for path in paths if not _is_there(store, path))
    return frozenset(paths - {entry.key for entry in store.list(f"{source}/")})


def _is_there(store: Store, key: str) -> bool:
    try:
        store.stat(key)
    except Absent:
        return False
    return True


def _lost(store: Store, need: Need) -> MissingPartError:
    return MissingPartError(
        f"{store.url}/{need.path}: is missing; load {need.last} names it, and no pack stands for it",
        path=need.path,
        hint="What comes before that load was copied. Restore this file from a mirror or backup, then run it again.",
    )
