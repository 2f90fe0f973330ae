"""What a look at a mirror found: problems by kind, and how much of it is proven."""

from dataclasses import dataclass, field
from typing import Literal

from lakehouse.core.log import File
from lakehouse.errors import LakehouseError

What = Literal["lake", "log", "part", "tag", "quarantine"]
Fault = Literal["missing", "truncated", "damaged", "forked", "other"]


def mend(name: str) -> str:
    """What to do about a damaged object of a mirror; its name may be empty."""
    return f"It can be mended from a lake that has it: lakehouse sync {name or 'NAME'} --repair"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An object of a mirror that is not what it should be.

    Attributes:
        what: What it is.
        key: Its key.
        fault: What is wrong with it.
        error: The same as an error, with what to do next.
        part: The part that it should be.
        first: Of a log file, number of its first commit.
        last: Of a log file, number of its last commit.
    """

    what: What
    key: str
    fault: Fault
    error: LakehouseError
    part: File | None = None
    first: int = 0
    last: int = 0


@dataclass(slots=True, kw_only=True)
class MirrorReport:
    """What a look at a mirror found.

    Attributes:
        url: Where it is.
        name: Its name in the settings; empty where it has none.
        deep: Whether its bytes were read.
        sources: How long each log is.
        proven: Parts whose bytes are those that were committed, by a checksum of all of them.
        by_size: Parts of which only the size was compared.
        why: Why only the size, and of how many parts.
        size_bytes: Bytes of all parts.
        problems: What is wrong.
        orphans: Keys that nothing names: left by uploads that were interrupted, or by something else. Harmless.
        superseded: Keys of files that packs stand for: `lakehouse sync --prune` deletes them.
    """

    url: str
    name: str = ""
    deep: bool = False
    sources: dict[str, int] = field(default_factory=dict)
    proven: int = 0
    by_size: int = 0
    why: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)

    @property
    def errors(self) -> list[LakehouseError]:
        """What is wrong, as errors."""
        return [problem.error for problem in self.problems]
