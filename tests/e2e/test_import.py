"""Histories in the lake are, at every version, what an independent oracle says they were."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from command import PROGRAM, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from troubles import TROUBLES, random_walk
from truth import SHARED, START, Answers, History, assert_exact, assert_same

from ingest.importing import import_files
from lakehouse import Lake, bulk

FIRES = ("--source", "fires", "--table", "incidents", "--key", "UniqueId", "--rows", "Incidents")
ST = ("--source", "s", "--table", "t")


def outcomes(lake: Path, source: str = "s") -> list[str]:
    return [commit.outcome for commit in Lake.open(lake).log(source).commits]


# --- Real windows -------------------------------------------------------------------------------


def test_a_real_window_is_exact_at_every_version(window: Path, window_lake: Path, oracle: ModuleType) -> None:
    assert_exact(window_lake, "fires.incidents", History.from_folder(window, "Incidents"), oracle)


def test_a_real_window_without_a_key_is_exact_at_every_version(
    window: Path, tmp_path: Path, oracle: ModuleType
) -> None:
    run("import", "files", window, *FIRES[:4], *FIRES[6:], "--lake", tmp_path / "lake").ok()
    assert_exact(tmp_path / "lake", "fires.incidents", History.from_folder(window, "Incidents"), oracle)


def test_the_command_line_stands_up_to_the_oracle_program(window: Path, window_lake: Path) -> None:
    judge = SHARED / "oracle" / "verify.py"
    if not judge.is_file():
        pytest.skip("the oracle is missing: ../shared/data/oracle/verify.py, beside the repository")
    options = ["--rows", "Incidents", "--cmp", "loose", "--samples", "2"]
    asked = [PROGRAM, "--lake", window_lake, "query", "--as-of", "{at}", "--format", "jsonl"]
    done = subprocess.run(
        [sys.executable, judge, window, "data.json", *options, "--", *asked, "select * from fires.incidents"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 wrong" in done.stdout


def test_the_log_lists_failed_versions_with_their_reason(
    window: Path, window_lake: Path, oracle: ModuleType
) -> None:
    states = History.from_folder(window, "Incidents").states(oracle)
    failed = run("log", "fires", "--failed", "--json", "--last", "0", "--lake", window_lake).ok().json
    assert [commit["seq"] for commit in failed] == [n for n, (good, _) in enumerate(states, 1) if not good]
    assert {commit["failure"] for commit in failed} <= {"empty file"}
    shown = run("log", "fires", "--failed", "--lake", window_lake).ok().out
    assert shown.count("empty file") == min(len(failed), 20)


def test_a_bare_repository_gives_the_same_answers_as_its_folder(
    window: Path, window_repo: Path, tmp_path: Path, oracle: ModuleType
) -> None:
    done = run("import", "git", window_repo, "incidents.json", *FIRES, "--lake", tmp_path / "lake").ok()
    history = History.from_folder(window, "Incidents")
    assert f"of {len(history.versions)} versions" in done.out
    assert_exact(tmp_path / "lake", "fires.incidents", history, oracle)


def test_a_work_tree_gives_the_same_log_as_its_bare_repository(window_repo: Path, tmp_path: Path) -> None:
    subprocess.run(
        ["git", "clone", "--quiet", window_repo, tmp_path / "tree"], check=True, capture_output=True
    )
    (tmp_path / "tree" / "below").mkdir()
    logs = []
    for place in (window_repo, tmp_path / "tree", tmp_path / "tree" / "below"):
        lake = tmp_path / f"from-{place.name}" / "lake"
        run("import", "git", place, "incidents.json", *FIRES, "--lake", lake).ok()
        log = Lake.open(lake).log("fires")
        logs.append([(c.load_id, c.observed_at, c.outcome, c.responses) for c in log.commits])
    assert logs[0] == logs[1] == logs[2]


def test_what_was_imported_verifies(window_lake: Path) -> None:
    report = run("verify", "--json", "--lake", window_lake).ok().json
    assert report["ok"]
    assert report["orphans"] == []


# --- Made-up trouble ----------------------------------------------------------------------------


@pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "whole"])
@pytest.mark.parametrize("name", TROUBLES)
def test_trouble_is_survived_exactly(
    name: str, keyed: bool, imported: Callable[..., Path], oracle: ModuleType
) -> None:
    make, key = TROUBLES[name]
    history = make()
    options = [option for column in key for option in ("--key", column)] if keyed else []
    lake = imported(history, *options)
    assert_exact(lake, "s.t", history, oracle)
    assert run("verify", "--json", "--lake", lake).json["errors"] == []


# Two of them have very many versions or columns: in small steps they would take minutes.
SMALL = [name for name in TROUBLES if name not in {"keys_come_and_go", "columns_in_twenty_steps"}]


@pytest.mark.parametrize(
    ("name", "cut"), [*((name, cut) for name in SMALL for cut in (1, 4)), ("columns_in_twenty_steps", 7)]
)
def test_trouble_is_survived_in_small_steps_too(
    name: str, cut: int, tmp_path: Path, oracle: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, key = TROUBLES[name]
    history = make()
    monkeypatch.setattr(bulk, "FLUSH_COMMITS", cut)
    lake = Lake.create(tmp_path / "lake")
    for n in range(cut, len(history.versions) + cut, cut):  # each time a new import takes up the state
        folder = history.first(n).write(tmp_path / "versions")
        import_files(lake, folder, source="s", table="t", key=key)
    assert_exact(tmp_path / "lake", "s.t", history, oracle)


@pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "whole"])
@pytest.mark.parametrize("seed", range(4))
def test_random_walks_are_exact(
    seed: int, keyed: bool, imported: Callable[..., Path], oracle: ModuleType
) -> None:
    history = random_walk(seed, 80)
    assert_exact(imported(history, *(["--key", "id"] if keyed else [])), "s.t", history, oracle)


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**66), 2**66) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3) | st.sampled_from(["01", "1", "1.0", "null", "true", "2021-03-08", "{}"])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "A", "", "x y"]), inner, max_size=3)
    ),
    max_leaves=5,
)
NAMES = st.sampled_from(["id", "v", "w", "ID", "", "t", "_lake_seq", "<5"])
# Lists and objects are no keys, which has a test of its own.
ROWS = st.lists(
    st.dictionaries(NAMES, VALUES, max_size=4).filter(
        lambda row: not isinstance(row.get("id"), (dict, list))
    ),
    max_size=4,
)
RAW = st.sampled_from([b"", b"[", b"{}", b"[]"])


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    versions=st.lists(ROWS | RAW, min_size=1, max_size=6),
    keyed=st.booleans(),
    flush=st.sampled_from([1, 2, 100]),
    cut=st.integers(1, 6),
)
def test_any_history_is_exact(
    versions: list[Any],
    keyed: bool,
    flush: int,
    cut: int,
    tmp_path_factory: pytest.TempPathFactory,
    oracle: ModuleType,
) -> None:
    history = History.of([{"id": 0}], *versions)
    folder = tmp_path_factory.mktemp("any")
    lake = Lake.create(folder / "lake")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "FLUSH_COMMITS", flush)
        for part in (history.first(cut), history):
            import_files(
                lake, part.write(folder / "versions"), source="s", table="t", key=["id"] if keyed else []
            )
    assert_exact(folder / "lake", "s.t", history, oracle)


def test_equal_numbers_are_no_change(imported: Callable[..., Path]) -> None:
    history = History.of(
        [{"id": 1, "acres": 1017546.0}], [{"id": 1, "acres": 1017546}], [{"acres": 1017546.0, "id": 1.0}]
    )
    assert outcomes(imported(history, "--key", "id")) == ["loaded", "unchanged", "unchanged"]
    assert outcomes(imported(history)) == ["loaded", "unchanged", "unchanged"]


def test_the_order_of_rows_and_fields_is_no_change(imported: Callable[..., Path]) -> None:
    history = History.of(
        [{"a": 1, "b": 2}, {"a": 3}], [{"a": 3}, {"b": 2, "a": 1}], [{"a": 3, "b": None}, {"b": 2, "a": 1}]
    )
    assert outcomes(imported(history, "--key", "a")) == ["loaded", "unchanged", "unchanged"]
    assert outcomes(imported(history)) == ["loaded", "unchanged", "unchanged"]


def test_a_volatile_column_makes_no_row_changed(imported: Callable[..., Path], oracle: ModuleType) -> None:
    days = [
        [{"id": n, "v": n * (day // 4), "today": f"2021-01-{day:02}"} for n in range(5)]
        for day in range(1, 13)
    ]
    history = History.of(*days)
    lake = imported(history, "--key", "id", "--volatile", "today")
    assert outcomes(lake) == ["loaded" if day in {1, 4, 8, 12} else "unchanged" for day in range(1, 13)]
    assert_exact(lake, "s.t", history, oracle, leave_out=["today"])


def test_an_error_page_in_the_place_of_csv_is_no_data(imported: Callable[..., Path]) -> None:
    page = b"<html>\n<body>502</body>\n</html>\n"
    lake = imported(History.of(b"a,b\n1,2\n", page, b"a,b\n3,4\n", name="data.csv"))
    assert outcomes(lake) == ["loaded", "failed", "loaded"]


def test_half_an_emoji_does_not_stop_an_import(imported: Callable[..., Path]) -> None:
    lake = imported(
        History.of(b'[{"id": 1, "t": "\\ud83d"}]', b'[{"id": 1, "t": "\\ud83d\\ude00"}]'), "--key", "id"
    )
    assert [row["t"] for row in Answers(lake, "s.t").at(1)] == ["\\ud83d"]
    assert [row["t"] for row in Answers(lake, "s.t").at(2)] == ["😀"]


def test_five_thousand_tiny_loads(imported: Callable[..., Path], oracle: ModuleType) -> None:
    versions = [[{"id": n % 7, "v": n // 3}, {"id": 9, "v": 1}] if n % 501 else b"" for n in range(5_000)]
    history = History.of(*versions)
    lake = imported(history, "--key", "id")
    assert_exact(
        lake,
        "s.t",
        history,
        oracle,
        only=[0, 1, 4096, 4097, 5_000, *random.Random(1).sample(range(5_000), 20)],
    )
    assert len(list(lake.glob("s/t/**/*.parquet"))) == 2
    assert len(run("log", "s", "--failed", "--json", "--last", "0", "--lake", lake).json) == 10


def test_json_lines_and_tabs(imported: Callable[..., Path]) -> None:
    lines = History.of(b'{"id": 1}\n\n{"id": 2, "v": [1]}\n', b'{"id": 1}\n{"id"', name="data.jsonl")
    lake = imported(lines, "--key", "id")
    assert outcomes(lake) == ["loaded", "failed"]
    assert sorted(row["id"] for row in Answers(lake, "s.t").at(2)) == [1, 2]
    tabs = imported(History.of(b"a\tb\n1\t x \n", name="data.tsv"))
    assert Answers(tabs, "s.t").at(1) == [{"a": "1", "b": " x "}]
    odd = imported(History.of(b"a;b\n1;2\n", name="data.csv"), "--kind", "tsv")
    assert Answers(odd, "s.t").at(1) == [{"a;b": "1;2"}]


# --- Git ----------------------------------------------------------------------------------------


Build = Callable[..., Path]


@pytest.fixture
def build(gitrepos: ModuleType, tmp_path: Path) -> Build:
    """Makes a repository out of commits, each `(hours, files)` or a `gitrepos.Commit`."""

    def make(*commits: Any, name: str = "repo.git") -> Path:
        made = [
            c if isinstance(c, gitrepos.Commit) else gitrepos.Commit(time=hours(c[0]), files=_bytes(c[1]))
            for c in commits
        ]
        return gitrepos.build(tmp_path / name, made)  # type: ignore[no-any-return]

    return make


def hours(n: float) -> int:
    return int(START.timestamp() + n * 3600)


def _bytes(files: dict[str, Any]) -> dict[str, bytes | None]:
    return {p: c if isinstance(c, bytes) or c is None else json.dumps(c).encode() for p, c in files.items()}


def from_git(oracle: ModuleType, repo: Path, file: str) -> History:
    """The history of a file as the oracle, in a process of its own, reads it."""
    folder = repo.with_name(f"{repo.name}.exported")
    subprocess.run([sys.executable, oracle.__file__ or "", "export", repo, file, folder], check=True)
    return History.from_folder(folder, None)


def test_a_rename_is_followed(build: Build, tmp_path: Path, oracle: ModuleType) -> None:
    repo = build(
        (0, {"old.json": [{"id": 1, "Old Name": 1}]}),
        (1, {"old.json": [{"id": 1, "Old Name": 2}], "other.json": b"{}"}),
        (2, {"old.json": None, "new.json": [{"id": 1, "new_name": 2}]}),
        (3, {"new.json": None}),
        (4, {"new.json": [{"id": 2, "new_name": 2}]}),
    )
    lake = tmp_path / "lake"
    run("import", "git", repo, "new.json,old.json", *ST, "--key", "id", "--lake", lake).ok()
    assert_exact(lake, "s.t", from_git(oracle, repo, "new.json,old.json"), oracle)
    assert outcomes(lake) == ["loaded"] * 4


def test_merges_count_with_what_they_bring(
    build: Build, gitrepos: ModuleType, tmp_path: Path, oracle: ModuleType
) -> None:
    def commit(hour: int, rows: Any, **how: Any) -> Any:
        return gitrepos.Commit(
            time=hours(hour), files=_bytes({"d.json": rows} if rows is not None else {}), **how
        )

    repo = build(
        commit(0, [{"id": 1}]),
        commit(1, [{"id": 1}, {"id": 2}], branch="side", start="main"),
        commit(2, [{"id": 1}, {"id": 2}, {"id": 3}], branch="side"),
        commit(3, [{"id": 4}]),
        commit(4, [{"id": 1}, {"id": 2}, {"id": 3}, {"id": 4}], merge="side"),
        commit(5, [{"id": 5}]),
    )
    lake = tmp_path / "lake"
    run("import", "git", repo, "d.json", *ST, "--key", "id", "--lake", lake).ok()
    assert_exact(lake, "s.t", from_git(oracle, repo, "d.json"), oracle)
    run("import", "git", repo, "d.json", "--ref", "side", *ST, "--lake", tmp_path / "side").ok()
    assert [len(Answers(tmp_path / "side", "s.t").at(n)) for n in (1, 2, 3)] == [1, 2, 3]
    run("import", "git", repo, "d.json", "--ref", "nowhere", *ST, "--lake", lake).failed(2, "nowhere")


def test_times_out_of_order_are_survived(build: Build, tmp_path: Path, oracle: ModuleType) -> None:
    """The order is that of the commits; an instant sees all that was there once time had come so far."""
    times = [5, 1, 5, 3, 9, 9, 0, 10]
    repo = build(*((time, {"d.json": [{"id": 1, "v": n}]}) for n, time in enumerate(times)))
    lake = tmp_path / "lake"
    run("import", "git", repo, "d.json", *ST, "--key", "id", "--lake", lake).ok()
    history = from_git(oracle, repo, "d.json")
    assert_exact(lake, "s.t", history, oracle)
    answers = Answers(lake, "s.t")
    for hour, newest in ((4, 0), (5, 4), (8, 4), (9, 7), (10, 8), (99, 8)):
        want = history.states(oracle)[newest - 1][1] if newest else []
        assert_same(answers.at(START.fromtimestamp(hours(hour), START.tzinfo)), want, oracle, f"hour {hour}")


def test_the_next_run_imports_new_commits_only(build: Build, tmp_path: Path, oracle: ModuleType) -> None:
    commits = [(n, {"d.json": [{"id": n}] if n % 3 else b""}) for n in range(12)]
    lake = tmp_path / "lake"
    say = [*ST, "--key", "id", "--lake", lake]
    build(*commits[:5])
    assert "5 new loads" in run("import", "git", tmp_path / "repo.git", "d.json", *say).ok().out
    again = run("import", "git", tmp_path / "repo.git", "d.json", *say).ok()
    assert "0 new loads of 5 versions" in again.out
    longer = build(*commits, name="longer.git")
    assert "7 new loads" in run("import", "git", longer, "d.json", *say).ok().out
    assert_exact(lake, "s.t", from_git(oracle, longer, "d.json"), oracle)


def test_a_rewritten_history_is_refused(build: Build, tmp_path: Path) -> None:
    commits = [(n, {"d.json": [{"id": n}]}) for n in range(5)]
    lake = tmp_path / "lake"
    say = [*ST, "--key", "id", "--lake", lake]
    run("import", "git", build(*commits), "d.json", *say).ok()
    before = outcomes(lake)
    rewritten = {
        "root": [(0, {"d.json": [{"id": 99}]}), *commits[1:], (9, {"d.json": [{"id": 9}]})],
        "middle": [*commits[:2], (2.5, {"d.json": [{"id": 9}]}), *commits[3:]],
        "tip": [*commits[:4], (4, {"d.json": [{"id": 9}]})],
        "shorter": [*commits[:3], (9, {"d.json": [{"id": 9}]})],
    }
    for name, versions in rewritten.items():
        repo = build(*versions, name=f"{name}.git")
        run("import", "git", repo, "d.json", *say).failed(2, "source s", "--source NAME")
    assert outcomes(lake) == before


def test_a_second_history_in_one_source_is_refused(build: Build, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    first = build(*((n, {"d.json": [{"id": n}]}) for n in range(5)))
    other = build(*((n, {"e.json": [{"id": -n}]}) for n in range(5)), name="other.git")
    run("import", "git", first, "d.json", *ST, "--key", "id", "--lake", lake).ok()
    for table in ("t", "u"):
        say = ["--source", "s", "--table", table, "--key", "id", "--lake", lake]
        run("import", "git", other, "e.json", *say).failed(2, "already has loads", "--source NAME")
    run("import", "git", other, "e.json", "--source", "o", "--table", "t", "--lake", lake).ok()
    assert outcomes(lake) == outcomes(lake, "o") == ["loaded"] * 5


def test_another_key_than_before_is_refused(build: Build, tmp_path: Path) -> None:
    say = [*ST, "--lake", tmp_path / "lake"]
    repo = build((0, {"d.json": [{"id": 1, "n": 1}]}))
    run("import", "git", repo, "d.json", *say, "--key", "id").ok()
    run("import", "git", repo, "d.json", *say, "--key", "n").failed(2, "was imported with id, not with n")
    run("import", "git", repo, "d.json", *say).failed(2, "not with no key")


@pytest.mark.parametrize("first", [[{"id": 1}], []], ids=["at once", "after an empty list"])
def test_a_wrong_key_is_a_clear_error(first: list[Any], build: Build, tmp_path: Path) -> None:
    repo = build((0, {"d.json": first}), (1, {"d.json": [{"id": 1}]}))
    done = run("import", "git", repo, "d.json", *ST, "--key", "Id", "--lake", tmp_path / "lake")
    done.failed(2, "no row has the key column 'Id'", "'id'")
    assert Lake.open(tmp_path / "lake").log("s").head == 0


@pytest.mark.parametrize("value", [{"a": 1}, [1], [], {}])
def test_a_list_or_an_object_is_no_key(value: Any, build: Build, tmp_path: Path) -> None:
    repo = build((0, {"d.json": [{"id": 1, "n": 1}]}), (1, {"d.json": [{"id": value, "n": 1}]}))
    say = ["import", "git", repo, "d.json", *ST, "--lake", tmp_path / "lake"]
    run(*say, "--key", "id").failed(2, "s.t: a key column (id) holds a", str(value))
    run(*say, "--key", "n", "--key", "id").failed(2, "s.t: a key column (n, id) holds a")
    run(*say).ok()
    assert Answers(tmp_path / "lake", "s.t").at(2) == [{"id": value, "n": 1}]


def test_wrong_names_are_clear_errors(build: Build, tmp_path: Path) -> None:
    repo = build((0, {"sub/d.json": {"rows": [{"id": 1}]}, "d.txt": b"x"}))
    say = [*ST, "--lake", tmp_path / "lake"]
    run("import", "git", repo, "d.json", *say).failed(2, "no version of 'd.json'", "sub/d.json")
    run("import", "git", repo, "d.txt", *say).failed(2, "the ending does not tell")
    run("import", "git", tmp_path, "d.json", *say).failed(2, "git does not read this as a repository")
    run("import", "git", tmp_path / "none", "d.json", *say).failed(2, "does not exist")
    run("import", "files", repo, *say).failed(2, "no file ends in")
    run(
        "import", "git", repo, "sub/d.json", "--source", "a.b", "--table", "t", "--lake", tmp_path / "lake"
    ).failed(2)
    run(
        "import", "git", repo, "sub/d.json", "--source", "../up", "--table", "t", "--lake", tmp_path / "lake"
    ).failed(2)


def test_a_wrong_path_to_the_rows_imports_nothing_and_says_where_they_are(
    build: Build, tmp_path: Path
) -> None:
    repo = build((0, {"d.json": {"data": {"rows": [{"id": 1}]}}}), (1, {"d.json": {"data": {"rows": []}}}))
    lake = tmp_path / "lake"
    words = ("import", "git", repo, "d.json", *ST, "--lake", lake)
    run(*words).failed(2, "--rows data.rows needed?", "none of 2 versions")
    run(*words, "--rows", "data.rows").ok()
    assert outcomes(lake) == ["loaded", "loaded"]


# --- Resuming -----------------------------------------------------------------------------------


DYING = """
import os, signal, sys
from lakehouse import bulk
from lakehouse.store.local import LocalStore

bulk.FLUSH_COMMITS = 7
left, when = int(sys.argv.pop(1)), sys.argv.pop(1)

def dying(real):
    def call(*args):
        global left
        left -= 1
        if left == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(*args)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    return call

LocalStore.put, LocalStore.create = dying(LocalStore.put), dying(LocalStore.create)
from lakehouse.cli import main
main()
"""


@pytest.mark.parametrize(
    ("write", "when"), [(2, "before"), (3, "after"), (8, "before"), (12, "before"), (13, "after")]
)
def test_a_killed_import_ends_like_one_in_one_go(
    write: int, when: str, window: Path, window_lake: Path, tmp_path: Path, oracle: ModuleType
) -> None:
    lake = tmp_path / "lake"
    command = ["import", "files", str(window), *FIRES, "--lake", str(lake)]
    killed = subprocess.run(
        [sys.executable, "-c", DYING, str(write), when, *command], check=False, capture_output=True
    )
    assert killed.returncode == -9, killed.stderr.decode()
    there = Lake.open(lake).log("fires").head
    assert there % 7 == 0
    assert there < Lake.open(window_lake).log("fires").head
    run(*command).ok()

    def told(place: Path) -> list[Any]:
        return [
            (c.load_id, c.outcome, c.observed_at, c.effective_at, c.failure, c.responses)
            for c in Lake.open(place).log("fires").commits
        ]

    assert told(lake) == told(window_lake)
    assert_exact(lake, "fires.incidents", History.from_folder(window, "Incidents"), oracle)
    assert run("verify", "--json", "--lake", lake).json["ok"]


def test_files_take_their_time_from_where_one_says(tmp_path: Path) -> None:
    folder = tmp_path / "dated"
    folder.mkdir()
    for day, rows in (("2021-03-01", [{"id": 1}]), ("2021-03-02", [{"id": 2}])):
        (folder / f"x_{day}.json").write_text(json.dumps(rows))
    run("import", "files", folder, *ST, "--lake", tmp_path / "lake").ok()
    found = run(
        "query",
        "--lake",
        tmp_path / "lake",
        "--as-of",
        "2021-03-01",
        "--format",
        "jsonl",
        "select * from s.t",
    )
    assert found.jsonl == [{"id": 1}]
    run("import", "files", folder, *ST, "--time-from", "index", "--lake", tmp_path / "b").failed(
        2, "index.csv"
    )
    run(
        "import",
        "files",
        folder,
        *ST,
        "--time-from",
        "mtime",
        "--pattern",
        "*02.json",
        "--lake",
        tmp_path / "b",
    ).ok()
    assert outcomes(tmp_path / "b") == ["loaded"]


# --- Whole histories ----------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "rows"), [("ca-fires-incidents", "Incidents"), ("ca-fires-june2023", None)])
def test_whole_histories_are_exact(
    name: str, rows: str | None, unpacked: Callable[[str], Path], tmp_path: Path, oracle: ModuleType
) -> None:
    folder = unpacked(name)
    options = ["--rows", rows] if rows else []
    run("import", "files", folder, *FIRES[:6], *options, "--lake", tmp_path / "lake").ok()
    history = History.from_folder(folder, rows)
    states = history.states(oracle)
    trouble = [n for n, (good, found) in enumerate(states, 1) if not good or not found]
    around = {m for n in trouble for m in (n - 1, n, n + 1) if 0 <= m <= len(states)}
    picked = random.Random(7).sample(range(len(states) + 1), 200)
    assert_exact(tmp_path / "lake", "fires.incidents", history, oracle, only=sorted(around.union(picked)))
    assert run("verify", "--json", "--lake", tmp_path / "lake").ok().json["ok"]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "rows"), [("ca-fires-incidents", "Incidents"), ("ca-fires-june2023", None)])
def test_whole_histories_stand_up_to_the_oracle_program(
    name: str, rows: str | None, unpacked: Callable[[str], Path], tmp_path: Path, oracle: ModuleType
) -> None:
    folder, judge = unpacked(name), Path(oracle.__file__ or "").with_name("verify.py")
    options = ["--rows", rows] if rows else []
    lake = tmp_path / "lake"
    run("import", "files", folder, *FIRES[:6], *options, "--lake", lake).ok()
    asked = [
        PROGRAM,
        "--lake",
        lake,
        "query",
        "--as-of",
        "{at}",
        "--format",
        "jsonl",
        "select * from fires.incidents",
    ]
    done = subprocess.run(
        [
            sys.executable,
            judge,
            folder,
            "data.json",
            *options,
            "--cmp",
            "loose",
            "--samples",
            "100",
            "--",
            *asked,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_an_import_is_not_taken_up_on_top_of_newer_loads_of_others(build: Build, tmp_path: Path) -> None:
    versions = [(n, {"d.json": [{"id": n}]}) for n in range(4)]
    lake = tmp_path / "lake"
    run("import", "git", build(*versions[:2]), "d.json", *ST, "--lake", lake).ok()
    with Lake.open(lake).load("s") as load:
        load.write("t", [{"id": 99}], disposition="replace")
    run("import", "git", build(*versions), "d.json", *ST, "--lake", lake).failed(
        2, "not be seen at its own times"
    )
    assert Lake.open(lake).query("SELECT id FROM s.t").fetchall() == [(99,)]
