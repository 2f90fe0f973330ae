"""What a version of a scraped file is, and the errors of reading histories.

Where versions come from is the business of `git.py` and `files.py`; what stands in them, of
`parse.py`. Nothing here touches a disk or starts a process.
"""

from dataclasses import dataclass
from datetime import datetime

from lakehouse.errors import SetupError, UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of one scraped file.

    Attributes:
        n: Number of the version, counted from 1 (or as an index.csv counts it); it gives the order.
        revision: Stable identity within its history, for resuming: the git commit id, or the
            snapshot's name relative to its folder.
        time: When it was observed, in UTC. Times may go backwards or repeat; `n` never does.
        path: Name the file had then: inside the repository, or relative to the folder.
        blob: Identity of the bytes: a git blob id, `sha256:…` from an index.csv, or empty when
            unknown. Equal and not empty means equal bytes.
    """

    n: int
    revision: str
    time: datetime
    path: str
    blob: str = ""


class HistoryError(UserError):
    """A history that cannot be read as asked. Root of the errors of this package."""


class NotARepositoryError(HistoryError):
    """The place is not a git repository, or git refuses to read it."""


class UnknownRefError(HistoryError):
    """The repository has no such branch, tag or commit."""


class NoSuchFileError(HistoryError):
    """No version of the file exists where it was looked for."""


class IncompleteHistoryError(HistoryError):
    """A shallow or partial clone, or a damaged repository: versions are missing and none are made up."""


class SnapshotFolderError(HistoryError):
    """A folder of snapshots whose files, times or index do not make a history."""


class NoGitError(SetupError):
    """The git program is not installed."""
