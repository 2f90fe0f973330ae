"""`pack`, `prune` and `expire` as a user runs them, on made-up lakes and on windows of a real history."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
from command import run
from truth import Answers, History, assert_exact, assert_same

from ingest.history import ParseFailure, parse
from ingest.importing import import_files
from lakehouse import Lake, bulk, logpack
from lakehouse.bulk import BulkLoad
from lakehouse.errors import UserError
from lakehouse.project import find_project

START = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def many_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with a hundred loads of `s.t`, four a day, each in a part and a log file of its own."""
    root = tmp_path_factory.mktemp("many") / "lake"
    load = BulkLoad(Lake.create(root), "s", "t", key=["id"])
    for n in range(100):
        rows = [{"id": i, "v": n if i == n % 5 else 0} for i in range(5)]
        load.observe(rows, observed_at=START + timedelta(hours=6 * n), load_id=f"v{n}")
        load.flush()
    return root


@pytest.fixture
def many(many_template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(many_template, tmp_path / "many" / "lake"))


def files(lake: Path) -> int:
    return sum(1 for path in (lake / "s").rglob("*") if path.is_file())


def test_pack_and_prune_leave_few_files_and_the_same_answers(many: Path) -> None:
    asked = ("query", "--format", "csv", "select * from s.t_at(37) order by id", "--lake", many)
    before, had = run(*asked).ok().out, files(many)
    said = run("pack", "--lake", many).ok().out
    assert "s: packed 100 parts of t into 1, " in said
    assert "s: packed the log of 100 commits into one file" in said
    assert run(*asked).ok().out == before
    dry = run("prune", "--dry-run", "--json", "--lake", many).ok().json
    assert (len(dry[0]["parts"]), len(dry[0]["log_files"]), dry[0]["packs_verified"]) == (100, 100, 1)
    assert files(many) == had + 3  # a pack, a log pack and a commit
    assert "200 files that packs stand for" in run("verify", "--lake", many).ok().out
    said = run("prune", "s", "--lake", many).ok().out
    assert said.startswith("s: deleted 100 parts and 100 log files, ")
    assert files(many) == 3
    assert not list((many / "s" / "t").glob("lake_load=00000001"))
    assert run(*asked).ok().out == before
    assert run("verify", "--json", "--lake", many).ok().json["superseded"] == []
    assert run("pack", "s", "--json", "--lake", many).ok().json == [
        {"source": "s", "seq": None, "log_files": 0, "tables": [], "compacted": []}
    ]
    (loads,) = run("log", "s", "-n", "1", "--json", "--lake", many).ok().json
    assert (loads["seq"], loads["outcome"]) == (101, "packed")
    assert "t: one part for loads 1 to 100" in run("log", "s", "--lake", many).ok().out
    for command in ("pack", "prune", "expire"):
        run(command, "nope", "--lake", many).failed(2, "there is no source 'nope'")


def test_pack_counts_as_no_observation(many: Path) -> None:
    """What is imported later from before the packing keeps its own times."""
    run("pack", "--lake", many).ok()
    log = Lake.open(many).log("s")
    assert log.effective_at == log.commits[99].effective_at == START + timedelta(hours=6 * 99)


def test_expire_asks_first_and_lists_what_is_lost(many: Path) -> None:
    policy = ("--policy", "keep daily after 10 days", "--lake", many)
    dry = run("expire", "s", "--dry-run", "--json", *policy).ok().json[0]
    assert (dry["lost"], dry["seq"]) == (75, None)
    assert dry["expired"][0] == {
        "first": 1, "last": 3, "from": "2020-01-01T00:00:00.000000Z", "to": "2020-01-01T12:00:00.000000Z",
    }  # fmt: skip
    said = run("expire", "s", "--dry-run", *policy).ok().out
    assert "75 states" in said
    assert "as of loads 1 to 3, 2020-01-01 00:00:00Z to 2020-01-01 12:00:00Z" in said
    assert "25 ranges in all" in said
    asked = run("expire", *policy, stdin="n\n")
    assert asked.code == 130
    assert "let 75 states go for ever?" in asked.err
    run("expire", *policy).failed(2, "nobody is there to answer", "--yes")
    assert Lake.open(many).log("s").expired == ()
    assert run("expire", "--yes", "--json", *policy).ok().json[0]["seq"] == 101
    assert "75 states let go" in run("log", "s", "--lake", many).ok().out
    assert "nothing to let go" in run("expire", "--yes", *policy).ok().out


def test_an_expired_state_is_refused_in_every_way_of_asking(many: Path) -> None:
    query = ("query", "--lake", many, "--format", "csv")
    day = run(*query, "select * from s.t_at('2020-01-03') order by id").ok().out
    kept = run(*query, "select * from s.t_at(8) order by id").ok().out
    run("expire", "--yes", "--policy", "keep daily after 10 days", "--lake", many).ok()
    run("prune", "--lake", many).ok()
    for sql in (
        "select * from s.t_at(9)",
        "select * from s.t_at('2020-01-03')",
        "select * from s.t_at(DATE '2020-01-03')",
    ):
        run(*query, sql).failed(2, "s: as of ", " is expired; see lakehouse.loads")
    for moment in ("9", "2020-01-03", "2020-01-03T05:00:00Z"):
        run(*query, "--as-of", moment, "select * from s.t").failed(2, f"s: as of {moment} is expired")
    assert run(*query, "select * from s.t_at(8) order by id").ok().out == kept != day
    assert run(*query, "--as-of", "2020-01-02T23:00", "select * from s.t order by id").ok().out == kept
    gone = run(*query, "select count(*) from lakehouse.loads where expired").ok().out
    assert gone.split() == ["count_star()", "75"]
    assert run("verify", "--lake", many).code == 0


def test_the_project_says_how_long_to_keep(many: Path, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.lakehouse]\nlake = "many/lake"\n[tool.lakehouse.sources.s]\nretention = "keep weekly after 1 week"\n'
    )
    assert find_project(tmp_path).retention_of("other") == "keep all"
    found = run("expire", "--dry-run", "--json", cwd=tmp_path).ok().json[0]
    assert (found["policy"], found["lost"] > 80) == ("keep weekly after 1 week", True)
    run("expire", "--policy", "keep the best", cwd=tmp_path).failed(
        2, "no retention policy", "keep daily after"
    )
    (tmp_path / "pyproject.toml").write_text("[tool.lakehouse.sources.s]\nretain = 1\n")
    with pytest.raises(UserError, match="setting other than gates and retention"):
        find_project(tmp_path)


def test_what_a_tag_names_stays(many: Path) -> None:
    run("tag", "create", "paper", "--as-of", "50", "--lake", many).ok()
    before = run("query", "--format", "csv", "--lake", many, "select * from s.t_at(50) order by id").ok().out
    run("expire", "--yes", "--policy", "keep yearly after 1 day", "--lake", many).ok()
    assert Lake.open(many).log("s").expired == ((1, 49), (51, 99))
    assert (
        run("query", "--format", "csv", "--lake", many, "select * from s.t_at(50) order by id").ok().out
        == before
    )


def test_a_fast_verification_reads_no_part_and_finds_what_is_missing(own_lake: Path) -> None:
    part = min((own_lake / "shop" / "products").rglob("*.parquet"))
    raw = part.read_bytes()
    part.write_bytes(raw[:-1] + b"?")
    assert "chains and sizes only: all as committed" in run("verify", "--fast", "--lake", own_lake).ok().out
    part.write_bytes(raw[:-1])
    report = run("verify", "--fast", "--json", "--lake", own_lake)
    assert (report.code, [e["kind"] for e in report.json["errors"]]) == (4, ["DamagedPartError"])
    part.unlink()
    report = run("verify", "--fast", "--json", "--lake", own_lake)
    assert (report.code, [e["kind"] for e in report.json["errors"]]) == (4, ["MissingPartError"])


# --- Real histories -----------------------------------------------------------------------------


def _loaded_one_by_one(window: Path, root: Path) -> History:
    """The window as if it had been scraped: a part and a log file for each version."""
    history = History.from_folder(window, "Incidents")
    load = BulkLoad(Lake.create(root), "fires", "incidents", key=["UniqueId"])
    for n, (raw, time) in enumerate(zip(history.versions, history.times, strict=True)):
        try:
            load.observe(parse(raw, "json", "Incidents"), observed_at=time, load_id=f"v{n}")
        except ParseFailure as failure:
            load.fail(failure.reason, observed_at=time, load_id=f"v{n}")
        load.flush()
    return history


def test_a_real_history_is_the_same_at_every_version_when_it_is_packed_and_pruned(
    window: Path, tmp_path: Path, oracle: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logpack, "WORTH", 16)
    root = tmp_path / "lake"
    history = _loaded_one_by_one(window, root)
    parts = [p.stat().st_size for p in root.rglob("*.parquet") if "_derived" not in p.parts]
    run("pack", "--lake", root).ok()
    assert_exact(root, "fires.incidents", history, oracle, only=range(0, len(history.versions), 7))
    run("prune", "--lake", root).ok()
    shutil.rmtree(root / "_derived", ignore_errors=True)
    (tmp_path / "lakehouse.duckdb").unlink()
    assert_exact(root, "fires.incidents", history, oracle)
    assert run("verify", "--json", "--lake", root).ok().json["orphans"] == []
    after = [p.stat().st_size for p in root.rglob("*.parquet")]
    assert len(after) == 1
    assert sum(after) * 10 < sum(parts)


def test_a_real_history_that_expired_is_what_it_was_at_the_end_of_every_day(
    window: Path, tmp_path: Path, oracle: ModuleType
) -> None:
    root = tmp_path / "lake"
    history = _loaded_one_by_one(window, root)
    run("expire", "--yes", "--policy", "keep daily after 1 day", "--lake", root).ok()
    run("prune", "--lake", root).ok()
    log, states = Lake.open(root).log("fires"), history.states(oracle)
    kept = [n for n in range(1, len(states) + 1) if not log.is_expired(n)]
    days = {time.date(): n for n, time in enumerate(history.times, 1)}
    assert set(days.values()) <= set(kept)
    assert len(kept) < len(states)
    answers = Answers(root, "fires.incidents")
    for n in kept:
        assert_same(answers.at(n), states[n - 1][1], oracle, f"as of load {n}")
    answers.close()


def test_an_import_of_many_parts_packs_them_and_goes_on_from_there(
    window: Path, tmp_path: Path, oracle: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "FLUSH_COMMITS", 4)
    history = History.from_folder(window, "Incidents")
    root, half = tmp_path / "lake", len(history.versions) // 2
    lake = Lake.create(root)
    for n, upto in enumerate((half, len(history.versions))):
        folder = history.first(upto).write(tmp_path / f"versions{n}")
        import_files(lake, folder, source="fires", table="incidents", key=["UniqueId"], rows="Incidents")
        assert len(lake.log("fires").tables["incidents"].files) < 9
    loads = [c for c in lake.log("fires").commits if c.is_load]
    assert len(loads) == len(history.versions)
    states, answers = history.states(oracle), Answers(root, "fires.incidents")
    for commit, (_, rows) in zip(loads, states, strict=True):
        assert_same(answers.at(commit.seq), rows, oracle, f"as of load {commit.seq}")
    answers.close()
