"""The tree of errors. Every error the package raises on purpose is a `LakehouseError`.

    LakehouseError
    ├── UserError             the input or the command is wrong                   exit 2
    │   ├── NoLakeError         there is no lake at that place
    │   ├── NoProjectError      no project in this folder or above
    │   ├── NotFoundError       no such source, table, load, tag, column
    │   ├── SchemaError         data that cannot be stored as it is
    │   └── QueryError          the SQL is wrong, or not allowed
    ├── ScraperError          a scraper failed: its site, its data or its code    exit 7
    ├── ModelError            a model failed: its SQL, its data or its code       exit 7
    ├── QuarantinedError      a gate refused the load; nothing was published       exit 3
    ├── IntegrityError        the lake on disk is not what its log says           exit 4
    │   ├── FormatError         a file does not parse, or is of a newer format
    │   ├── TornCommitError     a log file ends in the middle of a commit
    │   ├── GapError            a commit is missing from the log
    │   ├── ForkError           two histories claim the same commits
    │   ├── MissingPartError    a committed file is not there
    │   ├── DamagedPartError    a committed file has other bytes than committed
    │   └── UnsafePathError     a commit names a path outside the lake
    ├── ContentionError       somebody else is writing; trying again can help      exit 5
    └── SetupError            something has to be installed, started or freed     exit 6

Each message says what happened, to which object, what was found, and (`hint`) what to do next.
"""

from collections.abc import Sequence


class LakehouseError(Exception):
    """Root of all errors raised on purpose.

    Args:
        message: What happened, to which object, and what was found.
        hint: What the reader can do next; shown on a line of its own.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UserError(LakehouseError):
    """The input or the command is wrong; the same call will fail again."""

    exit_code = 2


class NoLakeError(UserError):
    """There is no lake at that place."""


class NoProjectError(UserError):
    """No project was found in this folder or above it."""


class NotFoundError(UserError):
    """A source, table, load, tag or column that is not there."""


class SchemaError(UserError):
    """Data that cannot be stored as it is: reserved names, unsupported types, missing key columns."""


class QueryError(UserError):
    """The SQL is wrong, or is not a query."""


class ScraperError(LakehouseError):
    """A scraper failed: its site is down or changed, its data breaks a contract, its code is wrong."""

    exit_code = 7


class ModelError(LakehouseError):
    """A model failed: its SQL is wrong, its data cannot be computed, its code raised."""

    exit_code = 7


class QuarantinedError(LakehouseError):
    """A gate refused a load. Nothing was published; the load lies whole in quarantine."""

    exit_code = 3

    def __init__(self, *, source: str, load_id: str, reasons: Sequence[str], path: str) -> None:
        self.source = source
        self.load_id = load_id
        self.reasons = tuple(reasons)
        self.path = path
        super().__init__(
            f"{source}: load {load_id} was refused and put in quarantine: " + "; ".join(reasons),
            hint=f"The published data is unchanged. Look: lakehouse quarantine show {load_id}; "
            f"then `lakehouse quarantine approve {load_id}` or `discard {load_id}`.",
        )


class IntegrityError(LakehouseError):
    """The lake on disk is not what its log says it is."""

    exit_code = 4

    def __init__(self, message: str, *, path: str = "", hint: str = "") -> None:
        self.path = path
        super().__init__(message, hint=hint)


class FormatError(IntegrityError):
    """A file of the lake does not parse, or was written by a newer version."""


class TornCommitError(FormatError):
    """A log file ends in the middle of a commit."""


class GapError(IntegrityError):
    """A commit is missing from a log."""


class ForkError(IntegrityError):
    """Two histories claim the same commits: the hash chain does not join."""


class MissingPartError(IntegrityError):
    """A file that a commit names is not there."""


class DamagedPartError(IntegrityError):
    """A file that a commit names has other bytes than were committed."""


class UnsafePathError(IntegrityError):
    """A commit names a path that leads out of the lake."""


class ContentionError(LakehouseError):
    """Somebody else is writing to the same place; trying again can help."""

    exit_code = 5


class SetupError(LakehouseError):
    """Something has to be installed, started or freed first."""

    exit_code = 6
