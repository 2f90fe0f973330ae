"""What the end-to-end tests share: the oracle, real histories as folders and repositories, lakes."""

import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

# Test modules are imported without a package, so their neighbours have to be found by path.
sys.path.insert(0, str(Path(__file__).parent))

from command import run
from grown import grow
from truth import ROOT, SHARED, History, module_at

WINDOWS = ("quick-ca-fires-v330-430", "quick-ca-fires-drift")


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """The independent oracle, `gitoracle.py`."""
    path = SHARED / "oracle" / "gitoracle.py"
    if not path.is_file():
        pytest.skip("the oracle is missing: ../shared/data/oracle/gitoracle.py, beside the repository")
    return module_at(path)


@pytest.fixture(scope="session")
def gitrepos() -> ModuleType:
    """The builder of git repositories that the tests of the history readers have."""
    path = ROOT / "tests" / "history" / "gitrepos.py"
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    import gitrepos

    return gitrepos


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unpacks an archive of real data, once."""
    folders: dict[str, Path] = {}

    def unpack(name: str) -> Path:
        if name not in folders:
            archive = SHARED / f"{name}.tar.xz"
            if not archive.is_file():
                pytest.skip(f"real data is missing: ../shared/data/{archive.name}, beside the repository")
            into = tmp_path_factory.mktemp("real")
            with tarfile.open(archive) as tar:
                if hasattr(tarfile, "data_filter"):  # not in Python 3.11.2, which Debian 12 has
                    tar.extractall(into, filter="data")
                else:
                    tar.extractall(into)  # noqa: S202  (our own archive)
            folders[name] = into / name
        return folders[name]

    return unpack


@pytest.fixture(scope="session", params=WINDOWS)
def window(request: pytest.FixtureRequest, unpacked: Callable[[str], Path]) -> Path:
    """A window of a real history, as a folder of snapshots."""
    return unpacked(request.param)


@pytest.fixture(scope="session")
def window_repo(window: Path, gitrepos: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The window as a bare git repository with the file `incidents.json`."""
    into: Path = tmp_path_factory.mktemp("repo") / "bare.git"
    return gitrepos.from_snapshots(window, into, "incidents.json")  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def window_lake(window: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the window imported by key, as `fires.incidents`. Not to be written to."""
    lake = tmp_path_factory.mktemp("window") / "lake"
    options = ("--source", "fires", "--table", "incidents", "--key", "UniqueId", "--rows", "Incidents")
    run("import", "files", window, *options, "--lake", lake).ok()
    return lake


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., Path]:
    """Imports a made-up history from a folder into a lake of its own, as `s.t`."""
    made = 0

    def put(history: History, *options: object) -> Path:
        nonlocal made
        made += 1
        lake = tmp_path / f"lake{made}" / "lake"
        folder = history.write(tmp_path / f"versions{made}")
        run("import", "files", folder, "--source", "s", "--table", "t", *options, "--lake", lake).ok()
        return lake

    return put


@pytest.fixture(scope="session")
def three_loads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake as `grow` makes it. Not to be written to."""
    return grow(tmp_path_factory.mktemp("three") / "lake")


@pytest.fixture
def own_lake(tmp_path: Path) -> Path:
    """A lake as `grow` makes it, for this test alone."""
    return grow(tmp_path / "own" / "lake")
