"""Runs the command line: in this process, which is fast, or as a program of its own."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakehouse.cli import main

PROGRAM = Path(sys.executable).with_name("lakehouse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as one JSON document."""
        return json.loads(self.out)

    @property
    def jsonl(self) -> list[Any]:
        """Its output as one JSON value a line."""
        return [json.loads(line) for line in self.out.split("\n") if line]

    def ok(self) -> "Done":
        """Itself, when it went well."""
        assert self.code == 0, f"exit code {self.code}\n{self.err}\n{self.out[-2000:]}"
        return self

    def failed(self, code: int, *words: str) -> "Done":
        """Itself, when it failed with that code, said these words, and showed no traceback."""
        assert self.code == code, f"exit code {self.code}, not {code}\n{self.err}\n{self.out[-2000:]}"
        assert "Traceback" not in self.err
        assert len(re.findall(r"^[eE]rror: ", self.err, re.MULTILINE)) == 1, self.err
        for word in words:
            assert word in self.err, f"{word!r} is not in: {self.err}"
        return self


def run(*args: object, cwd: Path | None = None, stdin: str = "") -> Done:
    """Run a command in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _stdin(stdin), _folder(cwd):
        try:
            main([str(arg) for arg in args])
        except SystemExit as done:
            code = int(done.code or 0)
    return Done(code=code, out=out.getvalue(), err=err.getvalue())


def program(*args: object, cwd: Path | None = None, stdin: str = "", **variables: str) -> Done:
    """Run the installed program, with more environment variables if need be."""
    done = subprocess.run(
        [PROGRAM, *map(str, args)],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env=os.environ | variables,
    )
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


@contextlib.contextmanager
def _stdin(text: str) -> Iterator[None]:
    before, sys.stdin = sys.stdin, io.StringIO(text)
    try:
        yield
    finally:
        sys.stdin = before


@contextlib.contextmanager
def _folder(folder: Path | None) -> Iterator[None]:
    with contextlib.chdir(folder) if folder else contextlib.nullcontext():
        yield
