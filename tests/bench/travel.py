"""Time travel against one sorted Parquet file that holds exactly the answer, and against peers.

    python tests/bench/travel.py [SCENARIO …] [--short] [--budget SECONDS] [--no-peers]

Three histories: a table that loads append to, one with a key of which each load changes 1%, and a
scraped one. Asked for its newest state and for that in the middle, as a count, a filtered aggregate,
the look-up of one key, and the whole table, always to Arrow. The rows of the answers:

- `now`, and `at`, which is `table_at(n)`: the moment is resolved in the query. `session` is a session
  turned to that moment once. What this means for peers is said in `travel_peers.py`.
- `limit` is a Parquet file with the rows of the answer and no others, sorted by key, or by load where
  rows are appended, read by the same DuckDB.

Every answer is compared with the limit's; one that differs says WRONG. Each figure is a median of five
rounds at least, after one to warm up, and each round asks everybody in turn. Peers have a budget of
seconds to commit the loads in; the line about each says how many it committed one by one.
"""

import argparse
import contextlib
import csv
import importlib
import json
import math
import statistics
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from travel_changes import GONE, LOAD, Changes
from travel_peers import (
    AGGREGATE,
    AT,
    COUNT,
    NOW,
    QUERIES,
    SESSION,
    Asked,
    Delta,
    DuckLake,
    Iceberg,
    Peer,
    Question,
    Way,
)

from lakehouse import Lake

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SOURCE, TABLE = "bench", "rows"
START = datetime(2026, 1, 1, tzinfo=UTC)
BUDGET_S = 120.0
ROW_GROUP = 122_880
ROUNDS, MOST_ROUNDS, PATIENCE_S = 5, 25, 1.0  # quick answers are asked for more often
WRONG = "WRONG: another answer than the limit's"
AIMS = {NOW: 1.3, AT: 2.0, SESSION: 2.0}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One history: what its loads bring, what it is after each of two of them, and how ours is built.

    Attributes:
        name: What it is called on the command line.
        title: What it is.
        changes: What the loads bring, for peers.
        states: The rows after the middle load and after the last one.
        key: The column that point look-ups are for.
        category: The column that the aggregate groups by.
        value: The column that it filters by and adds up.
        above: What the value has to be above.
        build: Builds our lake.
    """

    name: str
    title: str
    changes: Changes
    states: dict[int, pa.Table]
    key: str
    category: str
    value: str
    above: float
    build: Callable[[Lake], object]

    def question(self, kind: str, load: int) -> Question:
        """A query about the state after a load."""
        keys = self.states[load][self.key] or self.changes.table[self.key]  # there may be no rows
        return Question(
            kind=kind, key=self.key, category=self.category, value=self.value, above=self.above,
            wanted=keys[len(keys) // 3].as_py(),
        )  # fmt: skip


def bench_travel(
    folder: Path, *, short: bool, budget: float = BUDGET_S, only: list[str] | None = None, peers: bool = True
) -> None:
    """All scenarios, or those whose names begin as one of `only` says."""
    warnings.filterwarnings("ignore", message="Arrow output on a DB-API result")
    budget = min(budget, 1.5) if short else budget
    engines = _installed(short=short) if peers else []
    flat: dict[str, dict[tuple[str, str], float]] = {}
    for name, make in _scenarios(folder, short=short).items():
        if only and not any(name.startswith(wanted) for wanted in only):
            continue
        scenario = make()
        if scenario is None:
            print(f"{name}: skipped, its data is not there")
            continue
        place = folder / name
        place.mkdir()
        flat[name] = _measure(scenario, place, engines, budget=budget, patience=0.1 if short else PATIENCE_S)
    appended = [name for name in flat if name.startswith("append-")]
    if len(appended) > 1:
        few, many = appended[0], appended[-1]
        print(f"\nflat in the number of loads: ours, {many} divided by {few}")
        for (mode, kind), seconds in flat[many].items():
            print(f"  {mode:<8} {kind:<10} {seconds / flat[few][mode, kind]:>6.2f}")


def settle(lake: Lake, source: str) -> list[str]:
    """Pack and compact a source, as far as there is code for it; what was done."""
    done = []
    for module, function in (("lakehouse.pack", "pack"), ("lakehouse.compaction", "compact")):
        try:
            work = getattr(importlib.import_module(module), function)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            done.append(f"no {module} yet")
            continue
        started = time.perf_counter()
        work(lake, source)
        done.append(f"{function} {time.perf_counter() - started:.1f} s")
    return done


# One scenario.


class _Ours:
    """Our lake and the session that a row of answers is asked in."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        started = time.perf_counter()
        self.root = folder / "lake"
        self.lake = Lake.create(self.root)
        scenario.build(self.lake)
        built = time.perf_counter() - started
        settled = settle(self.lake, SOURCE)
        started = time.perf_counter()
        self.lake.session()
        first = time.perf_counter() - started
        started = time.perf_counter()
        self.lake.session()
        print(
            f"  ours: {scenario.changes.loads:,} loads in {built:.1f} s, {', '.join(settled)}; "
            f"a session {_ms(first)} ms, the next {_ms(time.perf_counter() - started)} ms"
        )

    def open(self, mode: str, load: int) -> None:
        self.session = self.lake.session(as_of=load if mode == SESSION else None)
        self.name = f"{SOURCE}.{TABLE}_at({load})" if mode == AT else f"{SOURCE}.{TABLE}"

    def way(self, question: Question) -> Way:
        sql = question.sql(self.name)
        return Asked(lambda: self.session.connection.sql(self.session.checked(sql)).to_arrow_table())

    def sizes(self) -> dict[str, int]:
        """Bytes by what they are for."""
        sizes = dict.fromkeys(("parts", "_log", "_derived", "catalog"), 0)
        for path in self.root.rglob("*"):
            if path.is_file():
                kind = next(
                    (k for k in ("_log", "_derived") if k in path.relative_to(self.root).parts), "parts"
                )
                sizes[kind] += path.stat().st_size
        sizes["catalog"] = (self.root.parent / "lakehouse.duckdb").stat().st_size
        return sizes


def _measure(
    scenario: Scenario, folder: Path, engines: list[Peer], *, budget: float, patience: float
) -> dict[tuple[str, str], float]:
    """Build everybody, ask everybody; our medians."""
    changes = scenario.changes
    print(f"\n{scenario.name}: {scenario.title}")
    limits = {load: folder / f"limit-{load}.parquet" for load in scenario.states}
    for load, state in scenario.states.items():
        pq.write_table(state, limits[load], compression="zstd", row_group_size=ROW_GROUP)
    ours = _Ours(scenario, folder)
    built = []
    for peer in engines:
        try:
            print(f"  {peer.name}: {peer.build(changes, folder / peer.name, budget=budget)}", flush=True)
            built.append(peer)
        except Exception as error:  # noqa: BLE001  # a peer that fails is a line of the report
            print(f"  {peer.name}: FAILED, {type(error).__name__}: {error}")
            with contextlib.suppress(Exception):
                peer.close()
    heads = "".join(f"{peer.name:>17}{'ours/':>8}" for peer in built)
    print(f"  {'as of':<8} {'query':<10} {'limit ms':>9} {'ours ms':>9} {'/limit':>8}{heads}")
    medians: dict[tuple[str, str], float] = {}
    misses: dict[str, list[tuple[float, str]]] = {}
    limit = duckdb.connect()
    for mode in (NOW, AT, SESSION):
        load = changes.loads if mode == NOW else changes.middle
        ours.open(mode, load)
        asked = _opened(built, mode, load)
        for kind in QUERIES:
            question = scenario.question(kind, load)
            sql = question.sql(f"read_parquet('{limits[load]}')")
            ways: dict[tuple[str, str], Way] = {
                ("limit", ""): Asked(lambda sql=sql: limit.sql(sql).to_arrow_table()),
                ("ours", ""): ours.way(question),
            }
            for peer in asked:
                ways |= {(peer.name, way): work for way, work in peer.ways(question).items()}
            figures = _rounds(ways, question, scenario.states[load].schema, patience)
            medians[mode, kind] = figures["ours", ""].seconds
            for whom, ratio in _line(mode, kind, figures, built).items():
                misses.setdefault(whom, []).append((ratio, f"{mode} {kind}"))
    _print_sizes(ours, limits, folder, built)
    for whom, cells in misses.items():
        ratio, cell = max(cells)
        print(f"  MISSED in {len(cells)} of {len(medians)} cells: {whom}; at worst {ratio:.2f} of it, {cell}")
    for peer in built:
        peer.close()
    return medians


def _opened(peers: list[Peer], mode: str, load: int) -> list[Peer]:
    opened = []
    for peer in peers:
        try:
            peer.open(mode, load)
            opened.append(peer)
        except Exception as error:  # noqa: BLE001  # see above
            print(f"  {mode}: {peer.name} cannot be opened, {type(error).__name__}: {error}")
    return opened


@dataclass(frozen=True, kw_only=True)
class _Figure:
    """The median of one way to have one question answered, and what was wrong with its answer."""

    seconds: float
    wrong: str = ""


def _rounds(
    ways: dict[tuple[str, str], Way], question: Question, schema: pa.Schema, patience: float
) -> dict[tuple[str, str], _Figure]:
    expected: Any = None
    wrong = {}
    for who, way in ways.items():  # the round that warms up, and the one whose answers are compared
        try:
            way()
            found = _told(way.answer(), question, schema)
        except Exception as error:  # see above
            if who[0] == "limit":
                raise
            wrong[who] = f"FAILED, {type(error).__name__}: {str(error).splitlines()[0][:120]}"
            continue
        if who[0] == "limit":
            expected = found
        elif not _same(found, expected):
            wrong[who] = WRONG
    seconds: dict[tuple[str, str], list[float]] = {who: [] for who in ways}
    started = time.perf_counter()
    for n in range(MOST_ROUNDS):
        if n >= ROUNDS and time.perf_counter() - started > patience:
            break
        for who, way in ways.items():
            if who not in wrong or wrong[who] == WRONG:
                seconds[who].append(way())
    return {
        who: _Figure(seconds=statistics.median(s) if s else math.nan, wrong=wrong.get(who, ""))
        for who, s in seconds.items()
    }


def _told(answer: pa.Table, question: Question, schema: pa.Schema) -> Any:
    """What an answer says, whatever the order of its rows and the width of its types."""
    if question.kind == COUNT:
        return answer["n"][0].as_py()
    if question.kind == AGGREGATE:
        rows = answer.select(["category", "total", "n"]).to_pydict()
        return {c: (total, n) for c, total, n in zip(*rows.values(), strict=True)}
    rows = answer.select(schema.names).cast(schema)
    columns = ", ".join(f'"{name}"' for name in schema.names)
    with duckdb.connect() as connection:
        connection.register("answer", rows)
        return connection.execute(f"SELECT count(*), sum(hash({columns})::HUGEINT) FROM answer").fetchall()


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, dict):
        return one == other
    return one.keys() == other.keys() and all(
        one[k][1] == other[k][1] and math.isclose(one[k][0], other[k][0], rel_tol=1e-9) for k in one
    )


def _line(
    mode: str, kind: str, figures: dict[tuple[str, str], _Figure], peers: list[Peer]
) -> dict[str, float]:
    """Print a row of the table; by whom ours is beaten in it, or is further from than it should be."""
    limit, ours = figures["limit", ""], figures["ours", ""]
    cells: list[str] = []
    misses: dict[str, float] = {}
    if ours.wrong:
        misses["a right answer"] = math.inf
    if ours.seconds > AIMS[mode] * limit.seconds:
        misses["the limit"] = ours.seconds / limit.seconds
    notes = []
    for peer in peers:
        named = {way: figure for (name, way), figure in figures.items() if name == peer.name}
        right = {way: figure for way, figure in named.items() if not figure.wrong}
        notes += [f"{peer.name} by {way}: {figure.wrong}" for way, figure in named.items() if figure.wrong]
        if not right:
            cells.append(f"{'WRONG or FAILED' if named else '-':>17}{'':>8}")
            continue
        way, best = min(right.items(), key=lambda item: item[1].seconds)
        ratio = ours.seconds / best.seconds
        cells.append(f"{f'{way} {_ms(best.seconds)}':>17}{ratio:>7.2f}{'!' if ratio > 1 else ' '}")
        if ratio > 1:
            misses[peer.name] = ratio
    print(
        f"  {mode:<8} {kind:<10} {_ms(limit.seconds):>9} {_ms(ours.seconds):>9} "
        f"{ours.seconds / limit.seconds:>7.2f}{'!' if ours.seconds > AIMS[mode] * limit.seconds else ' '}"
        f"{''.join(cells)}{'  WRONG' if ours.wrong else ''}",
        flush=True,
    )
    for note in notes:
        print(f"    {note}")
    return misses


def _print_sizes(ours: _Ours, limits: dict[int, Path], folder: Path, peers: list[Peer]) -> None:
    sizes = ours.sizes()
    said = ", ".join(f"{kind} {size / 1e6:.2f}" for kind, size in sizes.items())
    last = limits[max(limits)].stat().st_size
    print(f"  MB: ours {said}; limit now {last / 1e6:.2f}", end="")
    for peer in peers:
        files = [p.stat().st_size for p in (folder / peer.name).rglob("*") if p.is_file()]
        print(f"; {peer.name} {sum(files) / 1e6:.2f} in {len(files):,} files", end="")
    times = (sizes["parts"] + sizes["_derived"]) / sizes["parts"]
    print(f"; parts and derived are {times:.2f} times the parts")


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


def _installed(*, short: bool) -> list[Peer]:
    peers: list[Peer] = [DuckLake(), Delta(), Iceberg()]
    if not short:
        peers[0].install()
    found = []
    for peer in peers:
        if command := peer.missing():
            print(f"{peer.name}: skipped; install with: {command}")
        else:
            found.append(peer)
    return found


# The scenarios.


def _scenarios(folder: Path, *, short: bool) -> dict[str, Callable[[], Scenario | None]]:
    loads = (10, 50) if short else (10, 1_000, 10_000)
    rows = 20_000 if short else 2_000_000
    appends = {f"append-{n}": lambda n=n: _append(f"append-{n}", rows=rows, loads=n) for n in loads}
    keys, changing = (2_000, 20) if short else (200_000, 1_000)
    archive = DATA / ("quick-ca-fires-v330-430.tar.xz" if short else "ca-fires-incidents.tar.xz")
    return appends | {
        "keyed": lambda: _keyed(keys=keys, loads=changing),
        "ca-fires": lambda: _ca_fires(archive, folder) if archive.exists() else None,
    }


def _append(name: str, *, rows: int, loads: int) -> Scenario:
    rng = np.random.default_rng(1)
    each = rows // loads
    data = _rows(np.arange(rows), rng)
    changes = Changes(
        table=data.append_column(LOAD, pa.array(np.arange(rows) // each + 1)),
        loads=loads,
        middle=loads // 2,
        key=None,
    )
    return Scenario(
        name=name, title=f"{rows:,} rows appended in {loads:,} loads", changes=changes,
        states={n: data.slice(0, n * each) for n in (changes.middle, loads)},
        key="id", category="category", value="value", above=0.5,
        build=lambda lake: _load(lake, changes, {"disposition": "append"}),
    )  # fmt: skip


def _keyed(*, keys: int, loads: int) -> Scenario:
    """The first load brings all keys, each other one changes 1% of them."""
    rng = np.random.default_rng(2)
    changed = [
        np.arange(keys),
        *(np.sort(rng.choice(keys, keys // 100, replace=False)) for _ in range(loads - 1)),
    ]
    ids = np.concatenate(changed)
    table = _rows(ids, rng)
    numbers = np.repeat(np.arange(1, loads + 1), [len(some) for some in changed])
    table = table.append_column(LOAD, pa.array(numbers))
    table = table.append_column(GONE, pa.array(np.zeros(len(ids), bool)))
    changes = Changes(table=table, loads=loads, middle=loads // 2, key="id")
    states = {n: changes.of(1, n).drop_columns(GONE).sort_by("id") for n in (changes.middle, loads)}
    return Scenario(
        name="keyed", title=f"{keys:,} keys, {loads:,} loads, each changes 1%", changes=changes, states=states,
        key="id", category="category", value="value", above=0.5,
        build=lambda lake: _load(lake, changes, {"disposition": "merge", "primary_key": "id"}),
    )  # fmt: skip


def _ca_fires(archive: Path, folder: Path) -> Scenario:
    """The real history; what its versions say is worked out here, without our own code."""
    from ingest.importing import import_files

    with tarfile.open(archive) as packed:
        packed.extractall(folder / "versions", filter="data")
    snapshots = next((folder / "versions").iterdir())
    rows: list[dict[str, Any]] = []
    alive: list[dict[str, int]] = []  # of each version: keys, and where the row of each is
    said: dict[str, int] = {}
    for number, version in enumerate(csv.DictReader((snapshots / "index.csv").open(newline="")), 1):
        with contextlib.suppress(ValueError):  # a version that does not parse changes nothing
            found = {
                row["UniqueId"]: row
                for row in json.loads((snapshots / version["file"]).read_bytes())["Incidents"]
            }
            now = {key: said[key] for key in said if key in found}
            for key, row in found.items():
                if key not in now or _data(rows[now[key]]) != row:
                    now[key] = len(rows)
                    rows.append(row | {LOAD: number, GONE: False})
            rows += [{"UniqueId": key, LOAD: number, GONE: True} for key in said if key not in now]
            said = now
        alive.append(said)
    names = dict.fromkeys(name for row in rows for name in row if name not in {LOAD, GONE})
    columns = {name: pa.array([row.get(name) for row in rows]) for name in [*names, LOAD, GONE]}
    columns = {n: c.cast(pa.string()) if pa.types.is_null(c.type) else c for n, c in columns.items()}
    half = len(alive) // 2
    middle = next(n for n in range(half, len(alive) + 1) if alive[n - 1])  # in winter it lists nothing
    changes = Changes(table=pa.table(columns), loads=len(alive), middle=middle, key="UniqueId")
    states = {
        n: changes.table.select(changes.columns)
        .take(pa.array(alive[n - 1].values(), pa.int64()))
        .sort_by("UniqueId")
        for n in (changes.middle, changes.loads)
    }
    return Scenario(
        name="ca-fires", title=f"{len(alive):,} versions of a scraped file; rows: {states[middle].num_rows} in {middle:,}, {states[len(alive)].num_rows} now", changes=changes, states=states,
        key="UniqueId", category="AdminUnit", value="AcresBurned", above=100,
        build=lambda lake: import_files(
            lake, snapshots, source=SOURCE, table=TABLE, key=["UniqueId"], rows="Incidents"
        ),
    )  # fmt: skip


def _data(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in {LOAD, GONE}}


def _rows(ids: np.ndarray, rng: np.random.Generator) -> pa.Table:
    return pa.table({
        "id": ids,
        "category": pa.array([f"category {i}" for i in range(50)]).take(rng.integers(0, 50, len(ids))),
        "value": rng.random(len(ids)),
        "stock": rng.integers(0, 1_000, len(ids)),
        "name": [f"item {i:09d}" for i in ids.tolist()],
    })  # fmt: skip


def _load(lake: Lake, changes: Changes, how: dict[str, str]) -> None:
    for n in range(1, changes.loads + 1):
        with lake.load(SOURCE, observed_at=START + timedelta(minutes=n)) as load:
            load.write(TABLE, changes.of(n, n).select(changes.columns), **how)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "only", nargs="*", metavar="SCENARIO", help="such as append-10, append, keyed, ca-fires"
    )
    parser.add_argument("--short", action="store_true", help="small sizes: checks that it runs, not how fast")
    parser.add_argument(
        "--budget",
        type=float,
        default=BUDGET_S,
        help="seconds for a peer to commit the loads (inf: as many as it takes)",
    )
    parser.add_argument("--no-peers", action="store_true", help="only ours and the limit")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        bench_travel(
            Path(folder), short=options.short, budget=options.budget, only=options.only,
            peers=not options.no_peers,
        )  # fmt: skip


if __name__ == "__main__":
    main()
