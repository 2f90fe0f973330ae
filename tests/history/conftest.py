"""Fixtures of the history readers: the oracle and the real windows beside the repository."""

import importlib.util
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """The independent oracle, `gitoracle.py`."""
    path = SHARED / "oracle" / "gitoracle.py"
    if not path.is_file():
        pytest.skip("the oracle is missing: ../shared/data/oracle/gitoracle.py, beside the repository")
    spec = importlib.util.spec_from_file_location("gitoracle", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", params=["quick-ca-fires-v330-430", "quick-ca-fires-drift"])
def real_window(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A window of a real history, as a folder of snapshots with an index.csv."""
    archive = SHARED / f"{request.param}.tar.xz"
    if not archive.is_file():
        pytest.skip(f"real data is missing: ../shared/data/{archive.name}, beside the repository")
    folder = tmp_path_factory.mktemp("window")
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):  # not in Python 3.11.2, which Debian 12 has
            tar.extractall(folder, filter="data")
        else:
            tar.extractall(folder)  # noqa: S202  (our own archive)
    return folder / str(request.param)
