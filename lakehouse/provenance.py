"""What produced a load: package version, code version, host and command. No secrets, no environment."""

import functools
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any


@functools.cache
def produced_by(folder: str = ".") -> dict[str, Any]:
    """What a commit records about the program that made it.

    Args:
        folder: The folder whose git repository holds the scrapers.
    """
    about: dict[str, Any] = {"lakehouse": version(), "host": platform.node(), "command": _command()}
    code = _git(folder)
    return about | ({"code": code} if code else {})


@functools.cache
def version() -> str:
    """Version of the installed package."""
    try:
        return metadata.version("lakehouse")
    except metadata.PackageNotFoundError:
        return "0"


def _command() -> str:
    """Program and sub-commands; options and URLs, which may hold secrets, are left out."""
    words = [Path(sys.argv[0]).name] if sys.argv else []
    if words != ["lakehouse"]:  # what other programs are told is theirs to keep
        return words[0] if words else ""
    for word in sys.argv[1:4]:
        if word.startswith("-") or not word.replace("_", "").replace(".", "").isalnum():
            break
        words.append(word)
    return " ".join(words)


def _git(folder: str) -> dict[str, Any] | None:
    """Commit of the folder's repository and whether it has changes; None where there is none."""
    command = ["git", "-C", folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), "")
    if not commit or commit == "(initial)":
        return None
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}
