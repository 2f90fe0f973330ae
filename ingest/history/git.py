"""Versions of a file in a git history, and their bytes, read through the git program.

This module only reads, and only what is there: it writes nothing, fetches nothing, and refuses
clones whose history is cut rather than guess. What the bytes mean is the business of `parse.py`.
"""

import difflib
import os
import subprocess
import tempfile
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from ingest.history.versions import (
    HistoryError,
    IncompleteHistoryError,
    NoGitError,
    NoSuchFileError,
    NotARepositoryError,
    UnknownRefError,
    Version,
)

# Variables by which a calling git (a hook, say) would point us at its own repository.
_LOCAL_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_SHALLOW_FILE",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_TRACE",
)
# A partial clone would otherwise fetch what is missing, one object at a time. Git before 2.44 does
# not know the first variable; with the second it may try, and finds no protocol it may use.
_NO_NETWORK = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none", "GIT_TERMINAL_PROMPT": "0"}
# Settings of a user's own that would change what `git log` lists.
_PLAIN_LOG = ("-c", "log.showRoot=true", "-c", "log.follow=false", "-c", "color.ui=false")
_LOG = (
    *("log", "--first-parent", "--diff-merges=first-parent", "--no-show-signature"),
    *("--raw", "-z", "--no-abbrev", "--no-relative"),
)
_REGULAR_OR_LINK = ("100", "120")  # file modes; a submodule (160000) has no bytes of its own


@dataclass(frozen=True, slots=True)
class _Repository:
    """An opened repository: where its data is, and what the user calls it."""

    given: str
    git_dir: str
    is_shallow: bool

    def command(self, *args: str) -> list[str]:
        # With the git directory given, paths count from the root of the repository wherever the
        # user pointed, and work trees and bare repositories are one case.
        return ["git", f"--git-dir={self.git_dir}", "--literal-pathspecs", *_PLAIN_LOG, *args]

    def run(self, *args: str, stdin: bytes = b"") -> bytes:
        done = _run(self.command(*args), stdin)
        if done.returncode:
            raise self.failure(done.stderr, f"git {args[0]} failed")
        return done.stdout

    def failure(self, stderr: bytes, what: str) -> HistoryError:
        said = stderr.decode("utf-8", "replace").strip()
        if "promisor" in said or "lazy fetching" in said:
            return self.incomplete(f"objects are missing in this partial clone ({_last_line(said)})")
        return IncompleteHistoryError(
            f"{self.given}: {what}: {_last_line(said) or 'no reason given'}",
            hint=f"Look with: git -C {self.given} fsck",
        )

    def incomplete(self, what: str) -> IncompleteHistoryError:
        whole = f"git -C {self.given} fetch --refetch --no-filter"
        hint = f"Complete it first: {whole}; or clone it again, whole."
        return IncompleteHistoryError(f"{self.given}: {what}", hint=hint)


def git_versions(
    repo: str | os.PathLike[str], paths: Sequence[str] | str, ref: str = "HEAD"
) -> list[Version]:
    """List the versions of a file, oldest first.

    A version is a commit on the first-parent line of `ref` that added or changed the file; a merge
    counts with what it brought to that line. A deletion is not a version. The time is the author
    time, and the order is that of the commits, whatever their times say.

    Args:
        repo: A work tree (or a folder inside one) or a bare repository.
        paths: Path from the root of the repository; several names, or `new.json,old.json`, follow
            a file through its renames. Of a commit that has several of them, the first in git's
            order (by path) counts.
        ref: Branch, tag or commit to read backwards from.

    Raises:
        NoGitError: There is no git program.
        NotARepositoryError: `repo` is not a git repository.
        UnknownRefError: The repository has no such `ref`, or no commit at all.
        NoSuchFileError: One of the names has no version; names like it are suggested.
        IncompleteHistoryError: A shallow clone, or a partial one that lacks needed contents.
    """
    repository = _open(repo)
    names = _names(paths)
    commit = _commit(repository, ref)
    if repository.is_shallow:
        raise IncompleteHistoryError(
            f"{repository.given}: this is a shallow clone, its history is cut off",
            hint=f"Get the rest first: git -C {repository.given} fetch --unshallow",
        )
    versions, seen = _list(repository, names, commit)
    for name in names:
        if name not in seen:
            raise _no_such_file(repository, name, commit, ref)
    _refuse_missing(repository, versions)
    return versions


def git_contents(
    repo: str | os.PathLike[str], versions: Iterable[Version]
) -> Generator[tuple[Version, bytes], None, None]:
    """Stream the bytes of versions, in the order given, from one git process.

    When a version has the same blob as the one before it, the very same bytes object comes again
    (`raw is previous`), so that the caller can skip it. May be closed at any time.

    Raises:
        IncompleteHistoryError: The repository does not have the bytes of a version.
        NotARepositoryError, NoGitError: As for `git_versions`.
    """
    wanted = list(versions)
    if not wanted:
        return
    repository = _open(repo)
    changes = [
        version.blob for at, version in enumerate(wanted) if at == 0 or version.blob != wanted[at - 1].blob
    ]
    blob, raw = "", b""
    reader = _blobs(repository, changes)
    try:
        for version in wanted:
            if version.blob != blob:
                blob, found = version.blob, next(reader)
                if found is None:
                    where = f"version {version.n} ({version.revision[:12]}, {version.path})"
                    raise repository.incomplete(f"the contents of {where} are missing")
                raw = found
            yield version, raw
    finally:
        reader.close()


def earlier_name(repo: str | os.PathLike[str], first: Version) -> str | None:
    """Tell under which name a file went before its first version, if git sees a rename there.

    The name is one to add to `paths` of `git_versions`: without it the older history is left out.
    """
    out = _open(repo).run(*_LOG, "-1", "--find-renames", "--diff-filter=R", "--format=", first.revision)
    tokens = iter(out.split(b"\0"))
    for meta in tokens:
        if meta.lstrip(b"\n").startswith(b":"):
            old, new = next(tokens), next(tokens)
            if os.fsdecode(new) == first.path:
                return os.fsdecode(old)
    return None


# --- Finding versions ---------------------------------------------------------------------------


def _open(repo: str | os.PathLike[str]) -> _Repository:
    given = os.fspath(repo)
    if not Path(given).is_dir():
        hint = "Clone it first, and give the folder." if "://" in given or "@" in given else ""
        raise NotARepositoryError(f"{given}: there is no such folder", hint=hint)
    done = _run(["git", "-C", given, "rev-parse", "--absolute-git-dir", "--is-shallow-repository"])
    if done.returncode:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())
        hint = "For a folder of dated snapshots: lakehouse import files."
        raise NotARepositoryError(f"{given}: git does not read this as a repository: {said}", hint=hint)
    git_dir, shallow = os.fsdecode(done.stdout).rstrip("\n").rsplit("\n", 1)
    return _Repository(given, git_dir, shallow == "true")


def _names(paths: Sequence[str] | str) -> list[str]:
    given = paths.split(",") if isinstance(paths, str) else list(paths)
    names = [name.strip().removeprefix("./") for name in given]
    if not names or not all(names):
        hint = "Write: data.json or new.json,old.json"
        raise NoSuchFileError(f"{','.join(given)!r}: a name is empty", hint=hint)
    return names


def _commit(repository: _Repository, ref: str) -> str:
    ask = repository.command("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    done = _run(ask)
    if done.returncode == 0:
        return done.stdout.decode().strip()
    refs = repository.run("for-each-ref", "--format=%(refname:short)").decode("utf-8", "replace").split("\n")
    known = [name for name in refs if name]
    if not known:
        raise UnknownRefError(f"{repository.given}: no {ref!r}: the repository has no commit yet")
    near = difflib.get_close_matches(ref, known, n=3) or known[:5]
    raise UnknownRefError(
        f"{repository.given}: there is no branch, tag or commit {ref!r}", hint=f"There is {', '.join(near)}."
    )


def _list(repository: _Repository, names: list[str], commit: str) -> tuple[list[Version], set[str]]:
    """Return the versions and the names that have any."""
    listing = ("--reverse", "--topo-order", "--no-renames", "--format=%x01%H %at")
    log = repository.run(*_LOG, *listing, commit, "--", *names)
    versions: list[Version] = []
    seen: set[str] = set()
    last = ""
    for revision, author_time, blob, name in _changes(log):
        if name not in names:  # the asked name is a folder
            continue
        seen.add(name)
        if revision != last:
            last, n = revision, len(versions) + 1
            time = _time(revision, author_time)
            versions.append(Version(n=n, revision=revision, time=time, path=name, blob=blob))
    return versions, seen


def _changes(log: bytes) -> Iterator[tuple[str, str, str, str]]:
    """Yield (commit, author time, blob, path) of each addition and change in a raw, NUL-separated log."""
    revision = author_time = ""
    tokens = iter(log.split(b"\0"))
    for token in tokens:
        line = token.lstrip(b"\n")
        if line.startswith(b"\x01"):
            # The time is empty where git could not make sense of it.
            revision, _, author_time = line[1:].decode().partition(" ")
        elif line.startswith(b":"):
            _, mode, _, blob, status = line.decode().split()
            name = os.fsdecode(next(tokens))
            if status != "D" and mode.startswith(_REGULAR_OR_LINK):
                yield revision, author_time, blob, name


def _time(revision: str, author_time: str) -> datetime:
    try:
        return datetime.fromtimestamp(int(author_time), UTC)
    except (ValueError, OverflowError, OSError) as error:
        message = f"commit {revision[:12]}: its author time is no date: {author_time!r}"
        raise HistoryError(message) from error


def _no_such_file(repository: _Repository, name: str, commit: str, ref: str) -> NoSuchFileError:
    message = f"{repository.given}: no version of {name!r} in the history of {ref}"
    now = _paths(repository.run("ls-tree", "-r", "-z", "--name-only", commit))
    near = _near(name, now)
    if not near:
        ever = ("log", "--first-parent", "-z", "--name-only", "--no-renames", "--format=")
        near = _near(name, _paths(repository.run(*ever, commit)))
    hint = (
        f"Is it {' or '.join(near)}?" if near else f"Look for it: git -C {repository.given} log --stat {ref}"
    )
    return NoSuchFileError(message, hint=hint)


def _paths(out: bytes) -> list[str]:
    return list(dict.fromkeys(os.fsdecode(name).lstrip("\n") for name in out.split(b"\0") if name.strip()))


def _near(name: str, known: list[str]) -> list[str]:
    last = name.rstrip("/").rsplit("/", 1)[-1].lower()
    same = [path for path in known if path.rsplit("/", 1)[-1].lower() == last]
    inside = [path for path in known if path.startswith(name.rstrip("/") + "/")]
    return (same or inside)[:3] or difflib.get_close_matches(name, known, n=3)


def _refuse_missing(repository: _Repository, versions: list[Version]) -> None:
    """In a partial clone, check at once that all contents are there: late is too late."""
    partial = r"^(remote\..*\.promisor|extensions\.partialclone)$"
    if _run(repository.command("config", "--get-regexp", partial)).returncode:
        return
    blobs = dict.fromkeys(version.blob for version in versions)
    asked = "".join(f"{blob}\n" for blob in blobs).encode()
    if b" missing\n" in repository.run("cat-file", "--batch-check", stdin=asked):
        raise repository.incomplete("this is a partial clone, and the contents of some versions are missing")


# --- Processes ----------------------------------------------------------------------------------


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _LOCAL_VARIABLES}
    return {**kept, **_NO_NETWORK, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}


def _run(command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, input=stdin, capture_output=True, check=False, env=_environment())
    except FileNotFoundError as error:
        raise _no_git() from error


def _no_git() -> NoGitError:
    return NoGitError(
        "the git program was not found", hint="Install git (https://git-scm.com) and try again."
    )


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[-1]


def _blobs(repository: _Repository, ids: list[str]) -> Generator[bytes | None, None, None]:
    """Yield the bytes of blobs, None for one that is missing. Leaves no process or thread behind."""
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                repository.command("cat-file", "--batch", "--buffer"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,  # a file: a pipe that nobody reads could fill up and stop git
                env=_environment(),
            )
        except FileNotFoundError as error:
            raise _no_git() from error
        assert process.stdin  # noqa: S101  (for mypy: both are pipes)
        assert process.stdout  # noqa: S101
        feeder = threading.Thread(target=_feed, args=(process.stdin, ids), name="git cat-file", daemon=True)
        feeder.start()
        try:
            for blob in ids:
                yield _read_one(repository, process.stdout, blob, errors)
        finally:
            # After the last blob git ends by itself; before it, killing git also frees the feeder,
            # which may be stuck in a full pipe.
            process.kill()
            process.stdout.close()
            feeder.join()
            process.wait()


def _feed(pipe: IO[bytes], ids: list[str]) -> None:
    with suppress(OSError):  # git is gone; the reading side finds that out and says why
        pipe.write("".join(f"{blob}\n" for blob in ids).encode())
    with suppress(OSError):
        pipe.close()


def _read_one(repository: _Repository, pipe: IO[bytes], blob: str, errors: IO[bytes]) -> bytes | None:
    head = pipe.readline().split()
    if head[1:] == [b"missing"]:
        return None
    if len(head) == 3:  # noqa: PLR2004  (id, type, size)
        size = int(head[2])
        raw = pipe.read(size)
        if len(raw) == size and pipe.read(1) == b"\n":
            return raw
    errors.seek(0)
    raise repository.failure(errors.read(), f"git cat-file stopped at object {blob[:12]}")
