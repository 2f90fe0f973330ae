"""What the fault tests share: small lakes in temporary folders, and the helper modules beside this file."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Test modules are imported without a package, so their neighbours have to be found by path.
sys.path.insert(0, str(Path(__file__).parent))

from fault_audit import copied
from fault_scenarios import SCENARIOS, Scenario, grown
from proxy import HttpProxy
from sync_scenarios import CLOUDS, Cloud, Lakes

from lakehouse.provenance import produced_by


@pytest.fixture(scope="session", autouse=True)
def known_provenance() -> None:
    """Ask git once, here: children of a fork then find the answer and start no process of their own."""
    produced_by()


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each scenario a lake before its load, made once; never written to after that."""
    folder = tmp_path_factory.mktemp("templates")
    made: dict[int | None, Path] = {}
    for scenario in SCENARIOS.values():
        if scenario.before not in made:
            made[scenario.before] = grown(folder / scenario.name / "lake", scenario)
    return {name: made[scenario.before] for name, scenario in SCENARIOS.items()}


@pytest.fixture
def fresh(templates: dict[str, Path], tmp_path: Path) -> Callable[[Scenario], Path]:
    """Makes a new copy of a scenario's lake."""
    made = 0

    def make(scenario: Scenario) -> Path:
        nonlocal made
        made += 1
        return copied(templates[scenario.name], tmp_path / str(made) / "lake")

    return make


@pytest.fixture(scope="session")
def three_loads_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grown(tmp_path_factory.mktemp("three") / "lake", SCENARIOS["several"], loads=3)


@pytest.fixture
def three_loads(three_loads_template: Path, tmp_path: Path) -> Path:
    """A lake with three loads of the source `shop` and two of `news`, without any catalog; to be damaged."""
    return Path(shutil.copytree(three_loads_template, tmp_path / "three" / "lake"))


@pytest.fixture(scope="session")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Lakes:
    """One lake at two moments, to be mirrored; never written to after that, but for hints."""
    return Lakes.made(tmp_path_factory.mktemp("lakes"))


@pytest.fixture(scope="module", params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """A server of buckets, and a proxy before it."""
    server = request.getfixturevalue(f"{request.param}_server")
    with HttpProxy(server) as proxy:
        yield Cloud(kind=request.param, server=server, proxy=proxy)
