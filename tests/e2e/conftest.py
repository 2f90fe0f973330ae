"""What the end-to-end tests share: the oracle, real histories as folders and repositories, lakes."""

import sys
import tarfile
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# Test modules are imported without a package, so their neighbours have to be found by path.
sys.path.insert(0, str(Path(__file__).parent))

from command import run
from truth import ROOT, SHARED, History, module_at

from lakehouse import Lake

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


PRODUCTS: tuple[list[dict[str, Any]], ...] = (
    [
        {"sku": "a", "price": 1.5, "tags": ["x"], "size": {"w": 1}},
        {"sku": "b", "price": None, "tags": [], "size": None},
    ],
    [
        {"sku": "a", "price": 2.0, "tags": ["x", "y"], "size": {"w": 1}},
        {"sku": "c", "price": 9.0, "tags": [], "size": None},
    ],
    [{"sku": "c", "price": 9.0, "tags": [], "size": {"w": 2.5, "h": 1}}],
)


def grow(lake: Path) -> Path:
    """Three loads of `shop.products` at noon of 1, 2 and 3 March 2026, and one of `news.items`."""
    from datetime import UTC, datetime

    opened = Lake.create(lake)
    for n, rows in enumerate(PRODUCTS):
        noon = datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(days=n)
        with opened.load("shop", load_id=f"run-{n + 1}", observed_at=noon) as load:
            load.write("products", rows, disposition="replace", primary_key=["sku"])
    with opened.load("news", load_id="n1", observed_at=datetime(2026, 3, 2, 12, tzinfo=UTC)) as load:
        load.write("items", [{"id": 1, "seen": date(2026, 3, 2)}], disposition="append")
    return lake


@pytest.fixture(scope="session")
def three_loads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake as `grow` makes it. Not to be written to."""
    return grow(tmp_path_factory.mktemp("three") / "lake")


@pytest.fixture
def own_lake(tmp_path: Path) -> Path:
    """A lake as `grow` makes it, for this test alone."""
    return grow(tmp_path / "own" / "lake")
