"""Builds real git repositories for tests, in one `git fast-import` each.

`build` makes a history out of commits written down in a test; `from_snapshots` one out of a folder
of dated snapshots. Nothing here reads histories: that is what is being tested.
"""

import csv
import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

# No setting of whoever runs the tests gets into the repositories.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit to build.

    Attributes:
        time: Author time in seconds since 1970; the committer time is a day later.
        files: New contents by path; None removes the path.
        branch: Branch that the commit goes on.
        start: Branch that a new branch starts from.
        merge: Branch that the commit merges; `files` then says what the merge brings.
        executable: Whether the files get the executable mode.
    """

    time: int
    files: dict[str, bytes | None] = field(default_factory=dict)
    branch: str = "main"
    start: str | None = None
    merge: str | None = None
    executable: bool = False


def git(repo: Path, *args: str) -> str:
    """Run git in a repository and return what it prints."""
    command = ["git", "-C", str(repo), *args]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout


def build(path: Path, commits: Iterable[Commit], *, bare: bool = True) -> Path:
    """Make a repository with these commits; its HEAD is `main`."""
    path.mkdir(parents=True, exist_ok=True)
    git(path, "init", "--quiet", "--initial-branch=main", *(["--bare"] if bare else []))
    stream = b"".join(piece for commit in commits for piece in _pieces(commit))
    command = ["git", "-C", str(path), "fast-import", "--quiet"]
    subprocess.run(command, input=stream, check=True, env=ENVIRONMENT)
    if not bare:
        git(path, "reset", "--quiet", "--hard")
    return path


def from_snapshots(folder: Path, into: Path, name: str) -> Path:
    """Commit the snapshots that a folder's index.csv lists, in order, as versions of one file."""
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        entries = sorted(csv.DictReader(file), key=lambda entry: int(entry["n"]))
    moments = [datetime.fromisoformat(entry["author_time_utc"]) for entry in entries]
    commits = (
        Commit(
            time=int(moment.timestamp()),
            files={name: (folder / entry["file"]).read_bytes()},
        )
        for entry, moment in zip(entries, moments, strict=True)
    )
    return build(into, commits)


def _pieces(commit: Commit) -> Iterator[bytes]:
    mode = b"100755" if commit.executable else b"100644"
    yield f"commit refs/heads/{commit.branch}\n".encode()
    yield f"author Scraper <scraper@example.org> {commit.time} +0200\n".encode()
    yield f"committer Robot <robot@example.org> {commit.time + 86_400} +0000\n".encode()
    yield b"data 4\nload\n"
    if commit.start:
        yield f"from refs/heads/{commit.start}\n".encode()
    if commit.merge:
        yield f"merge refs/heads/{commit.merge}\n".encode()
    for path, content in commit.files.items():
        quoted = b'"' + os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
        if content is None:
            yield b"D " + quoted + b"\n"
        else:
            yield b"M " + mode + b" inline " + quoted + b"\n"
            yield f"data {len(content)}\n".encode() + content + b"\n"
