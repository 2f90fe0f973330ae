"""SIGKILL at every operation of a build: its commit is there whole or not at all, and the next build completes it."""

import itertools
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fault_audit import copied
from fault_injection import NthStep, SteppedBucket, SteppedFolder
from fault_processes import Child, kill_now

from lakehouse import Lake
from lakehouse.errors import ContentionError
from lakehouse.models.build import Built, build
from lakehouse.models.plan import read
from lakehouse.store import Store
from lakehouse.verify import verify

STORES = {"folder": SteppedFolder, "bucket": SteppedBucket}
DAY = datetime(2026, 1, 1, tzinfo=UTC)
MODELS = {
    "whole": "-- kind: table\n-- key: [sku]\nselect sku, price * 2 as price from shop.items",
    "seen": "-- kind: incremental\nselect line from shop.log",
    "counted": "-- kind: incremental\n-- key: [line]\nselect line, count(*) as n from shop.log group by line",
    "joined": "select * from whole, counted",
    "after": "-- kind: table\nselect count(*) as n from joined",
}


def grow(lake: Lake, n: int) -> None:
    with lake.load("shop", load_id=f"load-{n}", observed_at=DAY + timedelta(days=n)) as load:
        load.write(
            "items",
            [{"sku": i, "price": i * n} for i in range(4 + n)],
            disposition="replace",
            primary_key="sku",
        )
        load.write("log", [{"line": f"{i % 3}"} for i in range(n)])


def run(store: Store | Path, root: Path) -> Built:
    lake = Lake.open(store)
    return build(lake, root, read(lake, root))


def state(lake: Lake) -> dict[str, list[tuple[object, ...]]]:
    return {name: sorted(lake.query(f"select * from models.{name}").fetchall()) for name in MODELS}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose models were built after two loads of three."""
    root = tmp_path_factory.mktemp("project")
    (root / "models").mkdir()
    for name, text in MODELS.items():
        (root / "models" / f"{name}.sql").write_text(text)
    lake = Lake.create(root / "lake")
    grow(lake, 1)
    grow(lake, 2)
    run(root / "lake", root)
    grow(lake, 3)
    return root


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    ("kind", "phase"),
    [
        ("folder", "after"),
        *(
            pytest.param(kind, phase, marks=pytest.mark.soak)
            for kind in STORES
            for phase in ("before", "middle", "after")
            if (kind, phase) != ("folder", "after")
        ),
    ],
)
def test_a_killed_build_is_published_whole_or_not_at_all_and_the_next_one_completes_it(
    kind: str, phase: str, project: Path, tmp_path: Path
) -> None:
    before = state(Lake.open(project / "lake"))
    done = copied(project / "lake", tmp_path / "done" / "lake")
    run(done, project)
    wanted = state(Lake.open(done))
    assert wanted != before
    for n in itertools.count(1):
        root = copied(project / "lake", tmp_path / f"{n}" / "lake")

        def act(root: Path = root, n: int = n) -> bool:
            run(STORES[kind](root, NthStep(n, phase, kill_now)), project)
            return True

        finished = bool(Child(act).wait())
        lake = Lake.open(root)
        head = lake.log("models").head
        assert head in (1, 2)
        seen = state(lake)
        # A view is its definition over what is stored: of `whole` and `counted` it sees both or neither.
        assert seen == (wanted if head == 2 else before)
        run(root, project)
        assert state(Lake.open(root)) == wanted
        assert Lake.open(root).log("models").head == 2
        assert verify(Lake.open(root)).errors == []
        shutil.rmtree(root.parent)
        if finished:
            break
    assert n > 5


def test_of_builds_that_race_one_publishes_and_the_others_say_so(project: Path, tmp_path: Path) -> None:
    root = copied(project / "lake", tmp_path / "lake")

    def act() -> str:
        try:
            return "published" if run(root, project).commit else "nothing"
        except ContentionError:
            return "lost"

    children = [Child(act) for _ in range(4)]
    said = [child.wait() for child in children]
    assert said.count("published") == 1
    assert set(said) <= {"published", "nothing", "lost"}
    assert Lake.open(root).log("models").head == 2
    assert run(root, project).commit is None
    assert sorted(Lake.open(root).query("select * from models.seen").fetchall()) == sorted(
        Lake.open(root).query("select line from shop.log").fetchall()
    )
