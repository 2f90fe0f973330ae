"""Kills runs and looks at what comes of them: `python crashing.py FOLDER NUMBER_OF_RUN CASE…`.

A case is a point of `POINTS`, or a number n: the n-th operation that changes a file. Each case is
killed in a forked process, and then goes on in two more: with dlt's working directory, and without.
One process that imports dlt once and forks is what makes hundreds of cases affordable. Prints what
went wrong, and the number of operations that there are.
"""

import builtins
import io
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import dlt
from dlt.common.storages import LoadStorage, PackageStorage
from dlt.extract.extract import Extract
from dlt.normalize.normalize import Normalize
from dlt.pipeline.pipeline import Pipeline

from ingest.run import RunResult, run_source
from lakehouse import Lake
from lakehouse.store import LocalStore

PER_RUN = 3
WITHIN = "while extracting"
POINTS: dict[str, tuple[Any, str, str]] = {
    WITHIN: (None, "", ""),
    "before the extracted package is there": (Extract, "commit_packages", "before"),
    "before the pipeline state is saved": (Extract, "commit_packages", "after"),
    "before normalizing": (Pipeline, "normalize", "before"),
    "before anything is normalized": (Normalize, "spool_files", "before"),
    "before the normalized package is there": (LoadStorage, "commit_new_load_package", "before"),
    "before the extracted package is deleted": (LoadStorage, "commit_new_load_package", "after"),
    "before loading": (Pipeline, "load", "before"),
    "before the parts are written": (LocalStore, "put", "before"),
    "before the commit": (LocalStore, "create", "before"),
    "after the commit": (LocalStore, "create", "after"),
    "while the package is put away": (PackageStorage, "complete_loading_package", "after"),
    "before the package is put away": (LoadStorage, "complete_load_package", "before"),
    "after the package is put away": (LoadStorage, "complete_load_package", "after"),
}
FETCHED = list(POINTS)[2:-1]  # points at which a package lies in the working directory
OPERATIONS = ("rename", "replace", "unlink", "remove", "rmdir", "mkdir", "link")


@dlt.source(name="shop", max_table_nesting=1)
def shop(number: int, *, dies: bool = False) -> Any:
    """Events by a cursor, appended; stock by key, merged, with child rows; and rows that a contract refuses.

    Each run brings a table of its own, so that each changes the schema.
    """

    @dlt.resource
    def events(at: Any = dlt.sources.incremental("id", initial_value=0)) -> Iterator[Any]:  # noqa: B008
        yield [{"id": n} for n in range(at.last_value + 1, number * PER_RUN + 1)]
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

    @dlt.resource(write_disposition="merge", primary_key="id", schema_contract={"data_type": "discard_row"})
    def stock() -> Iterator[Any]:
        yield [{"id": n, "left": number, "places": [{"shelf": n, "run": number}]} for n in range(number + 1)]
        if number > 1:
            yield {"id": 99, "left": f"refused in run {number}"}

    @dlt.resource(name=f"since{number}", write_disposition="merge", primary_key="id")
    def new_table() -> Iterator[Any]:
        yield [{"id": 1, "n": 1}, {"id": 1, "n": 2}]

    return [events, stock, new_table]


def moment(number: int) -> datetime:
    """When the data of that run was seen."""
    return datetime(2024, 1, number, tzinfo=UTC)


def run(lake: Lake, pipelines_dir: Path, number: int, *, dies: bool = False) -> RunResult:
    """The source's run of that number (from 1)."""
    return run_source(
        lake,
        lambda: shop(number, dies=dies),
        name="shop",
        pipelines_dir=pipelines_dir,
        observed_at=moment(number),
    )


def check(lake: Lake, runs: int) -> None:
    """The lake holds what that many runs bring, every row exactly once."""

    def found(sql: str) -> list[tuple[Any, ...]]:
        return lake.query(sql).fetchall()

    assert found("select id from shop.events order by 1") == [(n,) for n in range(1, runs * PER_RUN + 1)]
    stock = found('select id, "left" from shop.stock order by 1')
    assert stock == [(n, runs) for n in range(runs + 1)]
    places = "shop.stock s full join shop.stock__places p on s._dlt_id = p._dlt_parent_id"
    assert found(f"select s.id, p.run from {places} order by 1") == stock
    for n in range(1, runs + 1):
        assert found(f"select id, n from shop.since{n}") == [(1, 2)]
    commits = lake.log("shop").commits
    assert {c.observed_at for c in commits} == {moment(n) for n in range(1, runs + 1)}
    kept = b"".join(lake.store.get(said["path"]) for c in commits for said in c.discarded.values())
    refused = {line.split(b'"left":"')[1].split(b'"')[0].decode() for line in kept.splitlines()}
    assert refused == {f"refused in run {n}" for n in range(2, runs + 1)}


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at_point(owner: Any, name: str, when: str) -> None:
    work: Callable[..., Any] = getattr(owner, name)

    def dying(*args: Any, **kwargs: Any) -> Any:
        if when == "after":
            work(*args, **kwargs)
        _die()

    setattr(owner, name, dying)


def _die_at_operation(n: int) -> Callable[[], int]:
    """Kills before the n-th operation on a file, or with a file just opened for writing, still empty."""
    done = 0

    def counted(work: Callable[..., Any], *, counts: Callable[..., bool], kills: str) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            if not counts(*args, **kwargs):
                return work(*args, **kwargs)
            done += 1
            if done == n and kills == "before":
                _die()
            result = work(*args, **kwargs)
            if done == n:
                _die()
            return result

        return counting

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name), counts=lambda *_, **__: True, kills="before"))

    def writes(_file: Any, mode: str = "r", *_: Any, **__: Any) -> bool:
        return bool(set(mode) & set("wax"))

    builtins.open = io.open = counted(open, counts=writes, kills="after")
    return lambda: done


def _forked(work: Callable[[], None]) -> int:
    """The wait status of a forked process that does the work."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        work()
    except BaseException:  # noqa: BLE001 - this process ends here, whatever it was
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _try(case: str, number: int, before: Path, folder: Path) -> str:
    """What went wrong when the run was killed there and went on; empty for nothing."""
    shutil.copytree(before, folder)
    counts = folder / "operations"

    def killed() -> None:
        lake = Lake.open(folder / "lake")
        done: Callable[[], int] = int
        if case.isdecimal():
            done = _die_at_operation(int(case))
        elif case != WITHIN:
            _die_at_point(*POINTS[case])
        run(lake, folder / "dlt", number, dies=case == WITHIN)
        total = done()
        counts.write_text(str(total))

    status = _forked(killed)
    if counts.exists():
        return f"operations {counts.read_text()}"
    if status != signal.SIGKILL:
        return f"{case}: was not killed, but ended with status {status}"

    def go_on(fate: str) -> None:
        lake = Lake.open(shutil.copytree(folder / "lake", folder / fate / "lake"))
        working = folder / fate / "dlt"
        if fate == "kept" and (folder / "dlt").exists():
            shutil.copytree(folder / "dlt", working)
        first = run(lake, working, number)
        if not case.isdecimal():  # what was fetched before the kill is loaded as it was observed then
            assert len(first.commits) == (2 if fate == "kept" and case in FETCHED else 1)
        check(lake, number)
        run(lake, working, number + 1)
        check(lake, number + 1)

    wrong = [
        f"{case}, working directory {fate}" for fate in ("kept", "lost") if _forked(lambda f=fate: go_on(f))
    ]
    shutil.rmtree(folder)
    return "; ".join(wrong)


def main(folder: Path, number: int, cases: list[str]) -> None:
    """Try the cases, one after the other."""
    warm = dlt.resource([{"id": 1}], name="warm")  # so that it is not each forked process that gets warm
    run_source(Lake.create(folder / "warm"), warm, name="warm", pipelines_dir=folder / "dlt")
    before = folder / "before"
    before.mkdir()

    def earlier() -> None:
        lake = Lake.create(before / "lake")
        for n in range(1, number):
            run(lake, before / "dlt", n)

    assert _forked(earlier) == 0
    for case in cases:
        said = _try(case, number, before, folder / "case")
        print(said, end="\n" if said else "", flush=True)
        if said.startswith("operations"):
            return


if __name__ == "__main__":
    if sys.argv[2] == "race":  # just run twice, beside others that do the same
        for n in (1, 2):
            run(Lake.create(Path(sys.argv[1])), Path(sys.argv[3]), n)
    else:
        main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
