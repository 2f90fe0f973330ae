"""What was before: sequences that grow at their end and whose beginning is read only when asked for.

A log of many loads is opened from a summary of its beginning. Everything here lets it be a value all
the same: it can be asked for any commit, and pays for those that it is asked for.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The log files that a log was read from.

    Attributes:
        files: How many.
        size_bytes: Size of all together.
        key: Key of the last one; empty for a log without any.
        last_bytes: Size of the last one.
    """

    files: int = 0
    size_bytes: int = 0
    key: str = ""
    last_bytes: int = 0

    def beside(self, size_bytes: int) -> "Reach":
        """With one more log file that says nothing new."""
        return replace(self, files=self.files + 1, size_bytes=self.size_bytes + size_bytes)

    def further(self, key: str, size_bytes: int) -> "Reach":
        """With one more log file."""
        return Reach(
            files=self.files + 1, size_bytes=self.size_bytes + size_bytes, key=key, last_bytes=size_bytes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Derived files about a stretch of a log.

    Attributes:
        first: The first commit.
        last: The last one.
        keys: Kind and key of each file.
    """

    first: int
    last: int
    keys: tuple[tuple[str, str], ...]

    @property
    def loads(self) -> int:
        """How many commits it is about."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The newest summary of a log that is known to be kept.

    Attributes:
        key: Where it is; empty where there is none.
        segments: What it names, in order.
        loads: Length of the log when it was made, or last tried.
        files: Log files that there were then.
    """

    key: str = ""
    segments: tuple[Segment, ...] = ()
    loads: int = 0
    files: int = 0

    @property
    def head(self) -> int:
        """The last commit that it stands for."""
        return self.segments[-1].last if self.segments else 0


class Later(Sequence[T], Generic[T]):
    """Items of which only the number is known, until one of them is asked for."""

    __slots__ = ("_count", "_items", "_read")

    def __init__(self, count: int, read: Callable[[], Sequence[T]]) -> None:
        self._count = count
        self._read = read
        self._items: Sequence[T] | None = None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        return self._all()[at]

    def __iter__(self) -> Iterator[T]:
        return iter(self._all())

    def _all(self) -> Sequence[T]:
        if self._items is None:
            self._items = self._read()[: self._count]
        return self._items


class Chronicle(Sequence[T], Generic[T]):
    """Items in order, of which a longer one can be made at little cost.

    A value: nobody sees it change. The longer one shares the items; only the first one made from a
    chronicle does, any other gets a copy.

    Attributes:
        skip: How many items are not held here, but in the sequence `old`.
    """

    __slots__ = ("_baton", "_items", "_length", "_old", "skip")

    def __init__(self, items: Iterable[T] = (), *, old: Sequence[T] = ()) -> None:
        self._old = old
        self.skip = len(old)
        self._items = list(items)
        self._length = len(self._items)
        self._baton = [True]  # who takes it may append

    def extended(self, more: Iterable[T]) -> "Chronicle[T]":
        """With more items at the end."""
        longer: Chronicle[T] = Chronicle(old=self._old)
        try:
            self._baton.pop()  # of two threads one gets it
            longer._items = self._items
        except IndexError:
            longer._items = self._items[: self._length]
        longer._items.extend(more)
        longer._length = len(longer._items)
        return longer

    def newest(self, count: int) -> tuple[T, ...]:
        """At most so many at the end, of those that are held here."""
        return tuple(self._items[max(self._length - count, 0) : self._length])

    def shares(self, other: "Chronicle[T]") -> bool:
        """Whether both hold their items in one place."""
        return self._items is other._items  # noqa: SLF001 - of its own class

    def __len__(self) -> int:
        return self.skip + self._length

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[T, ...]: ...
    def __getitem__(self, at: int | slice) -> T | tuple[T, ...]:
        if isinstance(at, slice):
            first, end, step = at.indices(len(self))
            if step != 1:
                return tuple(self)[at]
            old = self._old[first : min(end, self.skip)] if first < min(end, self.skip) else ()
            return (*old, *self._items[max(first - self.skip, 0) : max(end - self.skip, 0)])
        index = at + len(self) if at < 0 else at
        if not 0 <= index < len(self):
            raise IndexError(at)
        return self._items[index - self.skip] if index >= self.skip else self._old[index]

    def __iter__(self) -> Iterator[T]:
        return chain(self._old, islice(self._items, self._length))

    def __reversed__(self) -> Iterator[T]:
        yield from reversed(self._items[: self._length])
        yield from reversed(self._old)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Chronicle, tuple, list)) or len(other) != len(self):
            return False
        return all(one == two for one, two in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        held: list[Any] = self._items[: self._length]
        return f"Chronicle({self.skip} before, {held!r})"
