"""Readers of scraped histories: every version of one file, from git or from a folder of snapshots.

Here a history becomes (version, bytes) and bytes become rows. Turning versions into commits of a
lake, and typing their columns, is done elsewhere.
"""

from ingest.history.files import TimeFrom, file_contents, file_versions, time_in_name
from ingest.history.git import earlier_name, git_contents, git_versions
from ingest.history.parse import ENDINGS, Kind, ParseFailure, Rows, kind_of, parse
from ingest.history.versions import (
    HistoryError,
    IncompleteHistoryError,
    NoGitError,
    NoSuchFileError,
    NotARepositoryError,
    SnapshotFolderError,
    UnknownRefError,
    Version,
)

__all__ = [
    "ENDINGS",
    "HistoryError",
    "IncompleteHistoryError",
    "Kind",
    "NoGitError",
    "NoSuchFileError",
    "NotARepositoryError",
    "ParseFailure",
    "Rows",
    "SnapshotFolderError",
    "TimeFrom",
    "UnknownRefError",
    "Version",
    "earlier_name",
    "file_contents",
    "file_versions",
    "git_contents",
    "git_versions",
    "kind_of",
    "parse",
    "time_in_name",
]
