"""The lines that the README begins with do what it says, as they are written there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from truth import ROOT

_BLOCK = re.compile(r"^```(?:console|bash|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_UV_JUST = "uv run just "


def quick_start() -> list[str]:
    """The commands of the first block of shell in the README."""
    found = _BLOCK.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert found, "README.md has no block of shell commands"
    lines = [line.strip().removeprefix("$ ") for line in found[1].splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_the_readme_begins_with_value() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index(quick_start()[0]) < len("\n".join(text.splitlines()[:15]))


def test_the_readme_says_how_to_run_every_test() -> None:
    """They are not run from here, where they are being run already."""
    assert f"{_UV_JUST}test" in quick_start()
    dry = subprocess.run([_just(), "--dry-run", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pytest" in dry.stderr


def _just() -> Path:
    just = Path(sys.executable).with_name("just")
    if not just.exists():
        pytest.skip("just is not installed: uv sync")
    return just


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that the repository tracks, and nothing else."""
    into = tmp_path_factory.mktemp("clone") / "lakehouse"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    tracked = subprocess.run(listed, cwd=ROOT, capture_output=True, check=False)
    if tracked.returncode:
        pytest.skip("not in a git repository")
    for name in filter(None, tracked.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, into / name)
    return into


@pytest.fixture(scope="module")
def said(clone: Path) -> dict[str, str]:
    """What each command of the quick start printed, in the clone, with this environment's packages."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("no uv here: pip install uv")
    _just()
    # Nothing is installed: `uv run` takes the environment that these tests run in. It may have the
    # package of the original repository; the clone's comes first.
    variables = os.environ | {
        "UV_PROJECT_ENVIRONMENT": sys.prefix,
        "UV_NO_SYNC": "1",
        "UV_OFFLINE": "1",
        "PYTHONPATH": str(clone),
        "HOME": str(clone.parent / "home"),
    }
    variables.pop("VIRTUAL_ENV", None)
    (clone.parent / "home").mkdir()
    printed = {}
    for line in quick_start():
        if line == f"{_UV_JUST}test":
            continue
        done = subprocess.run(
            ["bash", "-euc", line], cwd=clone, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        printed[line] = done.stdout
    return printed


def test_the_quick_start_works_as_written(said: dict[str, str], clone: Path) -> None:
    assert f"{_UV_JUST}ingest" in said
    assert (clone / "lake" / "lakehouse.json").is_file()
    assert (clone / "lakehouse.duckdb").is_file()
    queries = [line for line in said if shlex.split(line)[3:4] == ["query"]]
    assert len(queries) >= 2
    for line in queries:
        assert "rows" in said[line] or "│" in said[line]
        assert not re.search(r"(?<![0-9,])0 rows", said[line])


def test_the_quick_start_leaves_nothing_that_git_would_add(said: dict[str, str], clone: Path) -> None:
    assert said
    git = ["git", "-c", "core.excludesFile=/dev/null"]
    subprocess.run([*git, "init", "--quiet"], cwd=clone, check=True)
    listed = subprocess.run(
        [*git, "ls-files", "--others", "--exclude-standard"], cwd=clone, check=True, capture_output=True
    )
    new = {name for name in listed.stdout.decode().splitlines() if not (ROOT / name).is_file()}
    assert new == set()
