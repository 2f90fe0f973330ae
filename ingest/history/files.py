"""Versions of a scraped file kept as a folder of dated snapshots.

Here are the listing of such a folder and the reading of times from names, from an index.csv or from
the files' own dates. What the bytes mean is the business of `parse.py`.
"""

import csv
import os
import re
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import Literal

from ingest.history.parse import ENDINGS
from ingest.history.versions import SnapshotFolderError, Version

TimeFrom = Literal["auto", "name", "index", "mtime"]

INDEX = "index.csv"
_INDEX_COLUMNS = ("n", "author_time_utc", "file")
_FOR_TIME = "Rename it, or pass --time-from index (with an index.csv) or --time-from mtime."

# The date and the clock time must each be written throughout with the same mark, or with none, which
# keeps ids and counters from passing for times.
_DATE = r"(?<!\d)(?P<Y>(?:19|20)\d\d)(?P<s>[-_.]?)(?P<m>0[1-9]|1[0-2])(?P=s)(?P<d>0[1-9]|[12]\d|3[01])"
_CLOCK = (
    r"(?:(?P<gap>[Tt_. -]?)(?P<H>[01]\d|2[0-3])"
    r"(?:(?P<t>[-:_.]?)(?P<M>[0-5]\d)(?:(?P=t)(?P<S>[0-5]\d)(?:[.,](?P<f>\d{1,9}))?)?)?"
    r"(?P<zone>[Zz]|\+\d\d:?\d\d|-\d\d:?\d\d)?(?!\d))"
)
_WITH_CLOCK = re.compile(_DATE + _CLOCK)
_DAY = re.compile(_DATE + r"(?!\d)")
_EPOCH = re.compile(r"(?<![0-9A-Za-z])(1\d{9})(\d{3})?(?![0-9A-Za-z])")


@dataclass(frozen=True, slots=True)
class _Stamp:
    """A time as a file name gives it."""

    time: datetime
    to_the_second: bool


def file_versions(
    folder: str | os.PathLike[str], time_from: TimeFrom = "auto", pattern: str | None = None
) -> list[Version]:
    """List the snapshots in a folder as versions, oldest first.

    Args:
        folder: The folder.
        time_from: `index`: an index.csv with the columns n, author_time_utc and file says which
            files are versions, when, and in which order. `name`: from the file names, see
            `time_in_name`. `mtime`: when the files were last changed. `auto`: the index where there
            is one, else the names; never the mtime, which copying and cloning make meaningless.
        pattern: Glob of the snapshots' names relative to the folder, such as `fires-*.json` or
            `**/*.json`. Without one: all files right in the folder with an ending that `parse`
            knows, hidden ones left out. With an index, it chooses among the files listed there.

    Returns:
        The versions. `revision` is the name relative to the folder; `n` is the index's own where
        there is one, else counts from 1 in order of time and then name.

    Raises:
        SnapshotFolderError: Nothing to read, a time that cannot be told (the message names the
            file), an index that is not one, or snapshots of several kinds without a pattern.
    """
    root = Path(folder)
    if not root.is_dir():
        raise SnapshotFolderError(f"{root}: there is no such folder")
    if time_from == "index" or (time_from == "auto" and (root / INDEX).is_file()):
        versions = _indexed(root, pattern)
    elif time_from == "mtime":
        versions = _numbered((_mtime(root / name), name) for name in _snapshots(root, pattern))
    else:
        versions = _named(_snapshots(root, pattern))
    if not versions:
        found = f"no file matches {pattern!r}" if pattern else f"no file ends in {' '.join(ENDINGS)}"
        hint = "Choose the snapshots with --pattern, such as '*.json'."
        raise SnapshotFolderError(f"{root}: {found}", hint=hint)
    return versions


def file_contents(
    folder: str | os.PathLike[str], versions: Iterable[Version]
) -> Generator[tuple[Version, bytes], None, None]:
    """Stream the bytes of snapshots, in the order given.

    When a snapshot equals the one before it, the very same bytes object comes again (`raw is
    previous`), so that the caller can skip it.

    Raises:
        SnapshotFolderError: A file cannot be read (any more).
    """
    previous = b""
    for version in versions:
        try:
            raw = (Path(folder) / version.path).read_bytes()
        except OSError as error:
            message = f"{Path(folder) / version.path}: cannot be read: {error.strerror}"
            raise SnapshotFolderError(message) from error
        previous = previous if raw == previous else raw
        yield version, previous


def time_in_name(name: str) -> datetime | None:
    """Read the time in a file name; None when there is none, or more than one.

    The forms, anywhere in the name: `20210308T183502Z`, `2021-03-08T18:35:02.5+01:00`,
    `2021-03-08_18-35-02`, `20210308183502`, `2021-03-08 18.35`, `2021-03-08T18`, `2021-03-08`,
    `20210308`, `2021030818` (an hour), and seconds or milliseconds since 1970 standing alone
    (`1615228502`, `1615228502123`). Dates may be written with `-`, `_`, `.` or nothing between;
    clock times also with `:`. A folder per year, month and day (`2021/03/08/183502.json`) reads the
    same. Without a zone it is UTC; an offset west of Greenwich (`-05:00`) counts only after the form
    with `T`. A date alone is its midnight. Day first (`08-03-2021`) is not read: nobody could tell
    it from month first.
    """
    stamp = _stamp(name)
    return stamp.time if stamp else None


# --- Times in names -----------------------------------------------------------------------------


def _stamp(name: str) -> _Stamp | None:
    path = PurePosixPath(name)
    stem = path.name.removesuffix(path.suffix) if path.suffix.lower() in ENDINGS else path.name
    stamps = _stamps(stem) or _stamps(str(path.with_name(stem)).replace("/", "-"))
    times = {stamp.time for stamp in stamps}
    return stamps[0] if len(times) == 1 else None


def _stamps(text: str) -> list[_Stamp]:
    found: list[_Stamp] = []
    at = 0
    while match := _WITH_CLOCK.search(text, at) or _DAY.search(text, at):
        # Of both forms the one that begins first; the longer one where both begin.
        day = _DAY.search(text, at)
        match = day if day and day.start() < match.start() else match
        stamp = _read(match)
        if stamp:
            found.append(stamp)
        at = match.end()
    if found:
        return found
    return [
        _Stamp(_since_1970(int(match[1]), int(match[2] or 0) * 1_000_000), to_the_second=True)
        for match in _EPOCH.finditer(text)
    ]


def _read(match: re.Match[str]) -> _Stamp | None:
    parts = match.groupdict()
    if parts.get("M") is None and parts.get("gap") not in {"", "T", "t"}:
        parts["H"] = None  # `2021-03-08_12` is the twelfth of that day as likely as noon
    year, month, day, hour, minute, second = (int(parts.get(part) or 0) for part in "YmdHMS")
    microsecond = int((parts.get("f") or "")[:6].ljust(6, "0"))
    try:
        time = datetime(year, month, day, hour, minute, second, microsecond, _zone(parts)).astimezone(UTC)
    except ValueError:  # 31 February, or a zone of 99 hours
        return None
    return _Stamp(time, parts.get("S") is not None)


def _zone(parts: dict[str, str | None]) -> timezone:
    text = (parts.get("zone") or "Z").replace(":", "")
    if text in "Zz" or (text[0] == "-" and parts["gap"] not in {"T", "t"}):
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:5]))
    return timezone(-offset if text[0] == "-" else offset)


# --- Folders ------------------------------------------------------------------------------------


def _snapshots(root: Path, pattern: str | None) -> list[str]:
    """Return the names of the snapshots, relative to the folder, sorted."""
    if pattern is not None:
        if ".." in PurePosixPath(pattern).parts:
            raise SnapshotFolderError(f"{pattern!r} leads out of {root}")
        try:
            found = [path.relative_to(root).as_posix() for path in root.glob(pattern) if path.is_file()]
        except (ValueError, NotImplementedError) as error:  # empty, or absolute
            message = f"{pattern!r} is no pattern of names below {root}: {error}"
            raise SnapshotFolderError(message) from error
        return sorted(set(found) - {INDEX})
    names = [path.name for path in root.iterdir() if path.is_file() and path.suffix.lower() in ENDINGS]
    names = sorted(name for name in names if name != INDEX and not name.startswith("."))
    endings = sorted({PurePosixPath(name).suffix.lower() for name in names})
    if len(endings) > 1:
        message = f"{root}: snapshots of several kinds: {', '.join(endings)}"
        raise SnapshotFolderError(message, hint=f"Choose with --pattern, such as '*{endings[0]}'.")
    return names


def _named(names: list[str]) -> list[Version]:
    dated: list[tuple[datetime, str]] = []
    coarse: dict[datetime, str] = {}
    for name in names:
        stamp = _stamp(name)
        if stamp is None:
            message = f"{name}: its name does not tell one time, such as 2021-03-08T18:35:02Z or 20210308"
            raise SnapshotFolderError(message, hint=_FOR_TIME)
        # Two snapshots of one second are plausible. Two of one day have lost their clock time, and
        # all but one of them could never be seen again.
        if not stamp.to_the_second and stamp.time in coarse:
            both = f"{coarse[stamp.time]} and {name}"
            message = f"{both}: the names tell the same time, {stamp.time:%Y-%m-%d %H:%M}"
            raise SnapshotFolderError(message, hint=_FOR_TIME)
        if not stamp.to_the_second:
            coarse[stamp.time] = name
        dated.append((stamp.time, name))
    return _numbered(dated)


def _numbered(dated: Iterable[tuple[datetime, str]]) -> list[Version]:
    in_order = enumerate(sorted(dated), start=1)
    return [Version(n=n, revision=name, time=time, path=name) for n, (time, name) in in_order]


def _mtime(path: Path) -> datetime:
    return _since_1970(*divmod(path.stat().st_mtime_ns, 10**9))


def _since_1970(seconds: int, nanoseconds: int) -> datetime:
    # Not from a float of seconds: it would be off by some of the microseconds.
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=nanoseconds // 1000)


# --- index.csv ----------------------------------------------------------------------------------


def _indexed(root: Path, pattern: str | None) -> list[Version]:
    index = root / INDEX
    try:
        with index.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            lacking = [column for column in _INDEX_COLUMNS if column not in (reader.fieldnames or ())]
            if lacking:
                message = f"{index}: it has no column {', '.join(lacking)}"
                raise SnapshotFolderError(message, hint=f"It needs {', '.join(_INDEX_COLUMNS)}.")
            versions = [_from_index(root, reader.line_num, entry) for entry in reader]
    except FileNotFoundError as error:
        hint = "Pass --time-from name or --time-from mtime."
        raise SnapshotFolderError(f"{root}: there is no {INDEX}", hint=hint) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise SnapshotFolderError(f"{index}: is not CSV in UTF-8: {error}") from error
    if pattern is not None:
        chosen = set(_snapshots(root, pattern))
        versions = [version for version in versions if version.path in chosen]
    versions.sort(key=lambda version: version.n)
    _refuse_repeats(index, versions)
    return versions


def _from_index(root: Path, line: int, entry: dict[str, str | None]) -> Version:
    where = f"{root / INDEX}, line {line}"
    values = {column: (entry.get(column) or "").strip() for column in (*_INDEX_COLUMNS, "sha256")}
    name = PurePosixPath(values["file"])
    if not name.name or name.is_absolute() or ".." in name.parts:
        raise SnapshotFolderError(f"{where}: {values['file']!r} is not the name of a file in the folder")
    if not (root / name).is_file():
        raise SnapshotFolderError(f"{where}: {name} is not there")
    try:
        n, time = int(values["n"]), datetime.fromisoformat(values["author_time_utc"])
    except ValueError as error:
        raise SnapshotFolderError(f"{where}: {name}: no number or no time: {error}") from error
    time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    blob = f"sha256:{values['sha256']}" if values["sha256"] else ""
    return Version(n=n, revision=str(name), time=time, path=str(name), blob=blob)


def _refuse_repeats(index: Path, versions: list[Version]) -> None:
    files: set[str] = set()
    last = 0
    for version in versions:
        if version.n <= last:
            message = f"{index}: number {version.n} ({version.path}) is below 1 or there twice"
            raise SnapshotFolderError(message)
        if version.path in files:
            raise SnapshotFolderError(f"{index}: {version.path} is there twice")
        last = version.n
        files.add(version.path)
