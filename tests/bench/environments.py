"""Environments of peers, below the cache folder: what they need must not touch the project's lock."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path


class Environment:
    """A virtual environment with given packages, made once.

    Args:
        name: Of its folder; with the versions in it, as another version is another environment.
        packages: As pip takes them, versions and all.
    """

    def __init__(self, name: str, packages: tuple[str, ...]) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.folder = cache / "lakehouse-bench" / name
        self.packages = packages

    def program(self, name: str = "python") -> Path:
        """A program in it."""
        return self.folder / "bin" / name

    def missing(self) -> str | None:
        """What to run where it is not installed."""
        if self.program().exists():
            return None
        install = shlex.join(["uv", "pip", "install", "--python", str(self.program()), *self.packages])
        return f"uv venv {shlex.quote(str(self.folder))} && {install}"

    def install(self) -> None:
        """Make it, if it is not there and uv can."""
        if not self.missing() or not shutil.which("uv"):
            return
        made = self.folder.with_name(f".{self.folder.name}.{os.getpid()}")
        with contextlib.suppress(subprocess.CalledProcessError):
            subprocess.run(
                ["uv", "venv", "--quiet", "--relocatable", "--python", sys.executable, str(made)], check=True
            )
            python = str(made / "bin" / "python")
            subprocess.run(
                ["uv", "pip", "install", "--quiet", "--python", python, *self.packages], check=True
            )
            made.rename(self.folder)  # there whole, or not at all
        shutil.rmtree(made, ignore_errors=True)
