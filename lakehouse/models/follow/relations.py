"""What a SELECT or a FROM gives: columns, whether rows of the driver are in it, and what put rows together on the way."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lakehouse.models.follow.tree import Node, Text
from lakehouse.models.follow.values import Other, Scope, Source, Traced, Value


@dataclass(frozen=True, slots=True)
class Narrowing:
    """A step that puts rows together: afterwards only some expressions still say what a row depends on.

    Attributes:
        node: Where.
        what: What it does.
        fix: How a column is kept through it, after `add <column> to `.
        kept: The expressions that rows with different values of are never put together.
    """

    text: Text
    node: Node
    what: str
    fix: str
    kept: frozenset[str]


@dataclass(frozen=True, slots=True)
class Relation:
    """What a SELECT or a FROM gives.

    Attributes:
        columns: Names and what they stand for, in order.
        driven: Whether rows of the driver are in it, once each and never absent.
        narrowings: What put rows together on the way.
        outer: Whether it reads columns from around it.
    """

    columns: tuple[tuple[str, Value], ...] = ()
    driven: bool = False
    narrowings: tuple[Narrowing, ...] = ()
    outer: bool = False

    @property
    def by_name(self) -> dict[str, Value]:
        """The columns by name in lower case; of several with one name none is known."""
        named: dict[str, Value] = {}
        for name, value in self.columns:
            known = named.setdefault(name.lower(), value)
            if known is not value:
                named[name.lower()] = Other(f"several columns are called {name}")
        return named


@dataclass(frozen=True, slots=True)
class From:
    """A FROM: its relations under their names."""

    sources: tuple[tuple[Source, Relation], ...] = ()
    merged: Mapping[str, Value] = field(default_factory=dict)
    driven: bool = False
    narrowings: tuple[Narrowing, ...] = ()
    outer: bool = False

    def scope(self, parent: Scope | None) -> Scope:
        """What its names mean."""
        return Scope(tuple(source for source, _ in self.sources), self.merged, parent)

    def everything(self, name: str = "") -> Iterator[tuple[str, Value]]:
        """The columns of `*`, or of `name.*`."""
        given: set[str] = set()
        for source, relation in self.sources:
            if name and (name.lower(),) not in source.names:
                continue
            for called, value in relation.columns:
                if not name and called.lower() in self.merged:
                    if called.lower() not in given:
                        yield called, self.merged[called.lower()]
                    given.add(called.lower())
                else:
                    yield called, value


def renamed(columns: Sequence[tuple[str, Value]], names: Sequence[str]) -> tuple[tuple[str, Value], ...]:
    """Columns, the first of them under other names."""
    return tuple((names[at] if at < len(names) else name, value) for at, (name, value) in enumerate(columns))


def untraced(value: Value) -> Value:
    """What a column stands for of rows that are not there for each row of the driver."""
    return Other("it is the same for all rows") if isinstance(value, Traced) else value


def same(values: Sequence[Value]) -> Value:
    """What a column of a UNION stands for."""
    first = values[0]
    return (
        first if all(value == first for value in values) else Other("it differs between branches of a UNION")
    )
