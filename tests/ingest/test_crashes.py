"""SIGKILL anywhere in a run, with dlt's working directory kept or lost: every row exactly once."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import crashing

pytestmark = pytest.mark.timeout(900)  # hundreds of short runs, on a machine that may be busy


def crash(folder: Path, number: int, cases: list[str]) -> list[str]:
    """What `crashing.py` says about the cases, in the run of that number."""
    folder.mkdir()
    command = [sys.executable, crashing.__file__, folder, str(number), *cases]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    return [*said, done.stderr] if any(not line.startswith("operations") for line in said) else said


def test_a_run_killed_between_its_steps_ends_exactly_once(tmp_path: Path) -> None:
    assert crash(tmp_path / "crashes", 2, list(crashing.POINTS)) == []


def test_a_first_run_killed_between_its_steps_ends_exactly_once(tmp_path: Path) -> None:
    points = [point for point in crashing.POINTS if "state" in point or "commit" in point]
    assert crash(tmp_path / "crashes", 1, points) == []


def test_a_run_killed_at_some_file_operations_ends_exactly_once(tmp_path: Path) -> None:
    said = crash(tmp_path / "crashes", 2, [str(n) for n in range(3, 10_000, 29)])
    assert [line.split()[0] for line in said] == ["operations"], "\n".join(said)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", [1, 2])
def test_a_run_killed_at_any_file_operation_ends_exactly_once(number: int, tmp_path: Path) -> None:
    said = crash(tmp_path / "crashes", number, [str(n) for n in range(1, 10_000)])
    assert [line.split()[0] for line in said] == ["operations"], "\n".join(said)
