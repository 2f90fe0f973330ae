"""Building a project of models: `lakehouse build` against dbt and SQLMesh, on the same generated models.

Each command is a fresh process, as one types it: everything; then again with nothing changed; then
with the SELECT of one model changed that nothing reads, and of one that most others stand on. dbt has no command
that finds out by itself that nothing changed (its service dbt State does, against an account): so it is asked
twice, for everything and for what `state:modified+` finds in the manifest kept before. After each
round, and again after the last change, all three must give the same rows.

Ours does more in a full build: half of its tables have a key, which is tested, and every result is a load.
"""

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from models_dag import INCREMENTAL, RAW, TABLE, Node, generate, raw_rows, root_and_leaf
from models_peers import CHANGED, FULL, NOTHING, Dbt, Lakehouse, Project, SqlMesh, variables

AIM = 5  # times as fast as the quickest peer, when nothing changed
ASKED = 8  # models whose rows are compared

Report = Callable[[str, list[float], list[float]], None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one command took: seconds by the clock and of processors, and its peak memory in bytes."""

    wall: float
    cpu: float
    memory: int


@dataclass(kw_only=True)
class Figures:
    """What was measured: by case, project and command."""

    runs: dict[str, dict[str, dict[str, list[Run]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    )

    def add(self, case: str, project: Project, command: str, run: Run) -> None:
        self.runs[case][project.name][command].append(run)


def bench_models(folder: Path, *, short: bool, report: Report) -> None:
    """Measure, compare the answers, and print."""
    import pyarrow as pa

    size, rows, rounds = (30, 500, 1) if short else (300, 10_000, 3)
    projects = _installed()
    nodes = generate(size)
    raw = {table: pa.Table.from_pylist(list(raw_rows(table, rows))) for table in RAW}
    for project in projects:
        project.make(folder / project.name, nodes, raw)
    figures = Figures()
    for _ in range(rounds):
        nodes = _round(projects, nodes, figures)
    _print(figures, size, report)


def _round(projects: list[Project], nodes: list[Node], figures: Figures) -> list[Node]:
    """All cases once; the models as they are afterwards."""
    for project in projects:
        project.reset()
    _case("everything", FULL, projects, figures)
    before = _compare(projects, nodes)
    _case("nothing changed", NOTHING, projects, figures)
    root, leaf = root_and_leaf(nodes)
    for what, node in (("one leaf changed", leaf), ("one root changed", root)):
        for project in projects:
            project.write(node.edited())
        nodes = [n.edited() if n.name == node.name else n for n in nodes]
        _case(what, CHANGED, projects, figures)
    if _compare(projects, nodes) == before:
        sys.exit("models: two SELECTs were changed and no answer was")
    return nodes


def _case(what: str, case: str, projects: list[Project], figures: Figures) -> None:
    for project in projects:
        for command, words in project.commands(case).items():
            figures.add(what, project, command, _run(project, words))
            project.settle()


def _run(project: Project, command: list[object]) -> Run:
    log = project.folder / "said.txt"
    launch = [sys.executable, "-S", str(Path(__file__).with_name("launch.py")), str(log), *map(str, command)]
    done = subprocess.run(
        launch, cwd=project.folder, env=variables(), check=True, stdout=subprocess.PIPE, text=True
    )
    figures = json.loads(done.stdout)
    if figures.pop("code"):
        sys.exit(f"{project.name}: {' '.join(map(str, command))} failed:\n{log.read_text()[-3000:]}")
    return Run(**figures)


def _compare(projects: list[Project], nodes: list[Node]) -> list[object]:
    """The rows of some models, the last ones and the incremental ones among them, the same in all projects."""
    root, leaf = root_and_leaf(nodes)
    last = [node.name for node in nodes if node.kind == TABLE][-ASKED:]
    grown = [node.name for node in nodes if node.kind == INCREMENTAL][:2]
    found = []
    for name in dict.fromkeys([root.name, leaf.name, *grown, *last]):
        ours, *theirs = [project.rows(name) for project in projects]
        for project, rows in zip(projects[1:], theirs, strict=True):
            if not ours or rows != ours:
                sys.exit(f"{name}: {len(ours)} rows of ours, {len(rows)} of {project.name}: not the same")
        found.append(ours)
    return found


def _print(figures: Figures, size: int, report: Report) -> None:
    for what, by_project in figures.runs.items():
        (ours,) = by_project[Lakehouse.name].values()
        print(f"{size} models, {what}: seconds, CPU seconds, peak MB")
        for project, by_command in by_project.items():
            if project == Lakehouse.name:
                continue
            for command, theirs in by_command.items():
                report(f"  {command}", [run.wall for run in ours], [run.wall for run in theirs])
                report("    CPU", [run.cpu for run in ours], [run.cpu for run in theirs])
                report("    memory", [run.memory / 1e6 for run in ours], [run.memory / 1e6 for run in theirs])
    _print_aim(figures.runs["nothing changed"])


def _print_aim(by_project: dict[str, dict[str, list[Run]]]) -> None:
    medians = {
        f"{project}: {command}": statistics.median(run.wall for run in runs)
        for project, by_command in by_project.items()
        for command, runs in by_command.items()
    }
    ours = medians.pop(f"{Lakehouse.name}: lakehouse build")
    if not medians:
        return  # no peer is installed
    quickest = min(medians, key=medians.__getitem__)
    times = medians[quickest] / ours
    verdict = "reached" if times >= AIM else "MISSED"
    print(f"  (nothing changed: {times:.1f} times as fast as {quickest}; the aim of {AIM} is {verdict})")


def _installed() -> list[Project]:
    projects: list[Project] = [Lakehouse()]
    for peer in (Dbt(), SqlMesh()):
        peer.environment.install()
        if command := peer.missing():
            print(f"{peer.name}: skipped; install with: {command}")
        else:
            projects.append(peer)
    return projects
