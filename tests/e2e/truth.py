"""Histories made up or real, and what the independent oracle says that the lake must answer for them."""

import csv
import importlib.util
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lakehouse import Lake
from lakehouse.cli.query import _as_json, _finite
from lakehouse.duck.names import literal, quote

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
START = datetime(2021, 1, 1, tzinfo=UTC)

Rows = list[dict[str, Any]]


def module_at(path: Path) -> ModuleType:
    """A module that is no part of any package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Versions of one scraped file, oldest first.

    Attributes:
        versions: The bytes of each.
        times: When each was seen.
        name: The file.
        rows: Where the rows are in a JSON document.
    """

    versions: Sequence[bytes]
    times: Sequence[datetime]
    name: str = "data.json"
    rows: str | None = None

    @classmethod
    def of(cls, *versions: Rows | bytes, name: str = "data.json") -> "History":
        """A history of versions an hour apart; rows become JSON."""
        raw = [v if isinstance(v, bytes) else json.dumps(v, ensure_ascii=False).encode() for v in versions]
        return cls(versions=raw, times=[START + timedelta(hours=n) for n in range(len(raw))], name=name)

    @classmethod
    def from_folder(cls, folder: Path, rows: str | None) -> "History":
        """A folder of snapshots with an index.csv."""
        with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
            entries = sorted(csv.DictReader(file), key=lambda entry: int(entry["n"]))
        return cls(
            versions=[(folder / entry["file"]).read_bytes() for entry in entries],
            times=[datetime.fromisoformat(entry["author_time_utc"]) for entry in entries],
            rows=rows,
        )

    def first(self, n: int) -> "History":
        """Its first versions."""
        return History(versions=self.versions[:n], times=self.times[:n], name=self.name, rows=self.rows)

    def write(self, folder: Path) -> Path:
        """As a folder of snapshots with an index.csv."""
        folder.mkdir(parents=True, exist_ok=True)
        ending = Path(self.name).suffix
        lines = ["n,commit,author_time_utc,file"]
        for n, (raw, time) in enumerate(zip(self.versions, self.times, strict=True), 1):
            (folder / f"{n:05}{ending}").write_bytes(raw)
            lines.append(f"{n},{n:040x},{time:%Y-%m-%dT%H:%M:%SZ},{n:05}{ending}")
        (folder / "index.csv").write_text("\n".join(lines) + "\n")
        return folder

    def states(self, oracle: ModuleType) -> list[tuple[bool, Rows]]:
        """For each version: whether it is good, and the rows that the table has from then on."""
        found: list[tuple[bool, Rows]] = []
        now: Rows = []
        for raw in self.versions:
            try:
                now = oracle.parse(raw, self.name, self.rows)
            except ValueError:
                found.append((False, now))
            else:
                found.append((True, now))
        return found


class Answers:
    """What a lake says about one table, in the names that the columns had in the file."""

    def __init__(self, lake: Path, table: str, *, leave_out: Iterable[str] = ()) -> None:
        self.session = Lake.open(lake).session()
        self.leave_out = frozenset(leave_out)
        source, name = table.split(".")
        self.name = f"{quote(source)}.{quote(name + '_at')}"
        about = 'SELECT "column", coalesce(source_name, "column") FROM lakehouse.columns WHERE source = ? AND "table" = ?'
        self.names = dict(self.session.connection.execute(about, [source, name]).fetchall())
        self.sql = _as_json(self.session, f"SELECT * FROM {self.name}(0)")

    def at(self, moment: int | datetime) -> Rows:
        """The rows as of a load or an instant."""
        argument = str(moment) if isinstance(moment, int) else literal(moment.isoformat())
        sql = self.sql.replace(f"{self.name}(0)", f"{self.name}({argument})")
        rows = [json.loads(_finite(text)) for (text,) in self.session.connection.execute(sql).fetchall()]
        return [{self.names.get(k, k): v for k, v in row.items()} for row in rows]

    def close(self) -> None:
        self.session.connection.close()


def assert_same(got: Rows, want: Rows, oracle: ModuleType, where: str, leave_out: Iterable[str] = ()) -> None:
    """Fail unless both are the same rows, whatever their order, in the oracle's loose sense."""
    left = frozenset(leave_out)

    def counted(rows: Rows) -> Counter[str]:
        return Counter(oracle.canon({k: v for k, v in row.items() if k not in left}, "loose") for row in rows)

    is_, should = counted(got), counted(want)
    if is_ != should:
        missing, extra = list((should - is_).elements())[:3], list((is_ - should).elements())[:3]
        pytest.fail(
            f"{where}: {len(want)} rows expected, {len(got)} found\nmissing {missing}\nextra {extra}"[:3000]
        )


def assert_exact(
    lake: Path,
    table: str,
    history: History,
    oracle: ModuleType,
    *,
    only: Iterable[int] | None = None,
    leave_out: Iterable[str] = (),
) -> None:
    """Fail unless the lake's table is, as of every version (or `only` some), what the oracle says."""
    states = history.states(oracle)
    log = Lake.open(lake).log(table.split(".", maxsplit=1)[0])
    loads = [
        commit for commit in log.commits if not commit.packs
    ]  # an import packs what it left in many parts
    failed = [n for n, commit in enumerate(loads, 1) if commit.outcome == "failed"]
    assert failed == [n for n, (good, _) in enumerate(states, 1) if not good]
    answers = Answers(lake, table)
    try:
        for n in range(len(states) + 1) if only is None else only:
            want = states[n - 1][1] if n else []
            seq = loads[n - 1].seq if n else 0
            assert_same(answers.at(seq), want, oracle, f"as of load {seq}", leave_out)
        if sorted(history.times) == list(history.times):
            _assert_instants(answers, history, states, oracle, leave_out)
    finally:
        answers.close()


def _assert_instants(
    answers: Answers,
    history: History,
    states: Sequence[tuple[bool, Rows]],
    oracle: ModuleType,
    leave_out: Iterable[str],
) -> None:
    """A few instants: before all, right on a version, a second before it, and long after."""
    second = timedelta(seconds=1)
    picked = history.times[:: max(1, len(states) // 5)]
    for at in {
        history.times[0] - second,
        history.times[-1] + timedelta(days=1),
        *picked,
        *(t - second for t in picked),
    }:
        seen = sum(time <= at for time in history.times)
        assert_same(answers.at(at), states[seen - 1][1] if seen else [], oracle, f"as of {at}", leave_out)
