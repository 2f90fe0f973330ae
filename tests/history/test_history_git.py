"""Reading versions out of real git repositories."""

import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import gitrepos
import pytest
from gitrepos import Commit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.history import (
    HistoryError,
    IncompleteHistoryError,
    NoGitError,
    NoSuchFileError,
    NotARepositoryError,
    UnknownRefError,
    Version,
    earlier_name,
    git_contents,
    git_versions,
)
from lakehouse.errors import SetupError, UserError

DAY = 86_400


def raws(repo: Path, versions: list[Version]) -> list[bytes]:
    return [raw for _, raw in git_contents(repo, versions)]


@pytest.fixture
def three_versions(tmp_path: Path) -> Path:
    """A bare repository whose data.json is [1], then [2], then [3], a day apart."""
    commits = [Commit(time=n * DAY, files={"data.json": b"[%d]" % n}) for n in (1, 2, 3)]
    return gitrepos.build(tmp_path / "three", commits)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Every process that is started from here on."""
    processes: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[call-overload]
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return processes


def test_versions_are_numbered_from_the_oldest_with_author_times(three_versions: Path) -> None:
    versions = git_versions(three_versions, "data.json")

    assert [version.n for version in versions] == [1, 2, 3]
    assert [version.time for version in versions] == [datetime(1970, 1, day, tzinfo=UTC) for day in (2, 3, 4)]
    commits = gitrepos.git(three_versions, "rev-list", "--reverse", "HEAD").split()
    assert [version.revision for version in versions] == commits
    assert {version.path for version in versions} == {"data.json"}
    assert raws(three_versions, versions) == [b"[1]", b"[2]", b"[3]"]


def test_a_commit_that_leaves_the_file_alone_is_no_version(tmp_path: Path) -> None:
    commits = [Commit(time=1, files={"a.json": b"[]"}), Commit(time=2, files={"b.json": b"[]"})]
    repo = gitrepos.build(tmp_path / "r", commits)
    assert [version.time.timestamp() for version in git_versions(repo, "a.json")] == [1]


def test_a_deletion_is_no_version_and_a_comeback_is_one(tmp_path: Path) -> None:
    commits = [Commit(time=n, files={"a.json": content}) for n, content in enumerate([b"[]", None, b"[]"], 1)]
    repo = gitrepos.build(tmp_path / "r", commits)
    versions = git_versions(repo, "a.json")
    assert [(version.n, version.time.timestamp()) for version in versions] == [(1, 1), (2, 3)]


def test_times_out_of_order_stay_in_the_order_of_commits(tmp_path: Path) -> None:
    commits = [Commit(time=time, files={"a.json": b"[%d]" % time}) for time in (50, 10, 10, 30)]
    repo = gitrepos.build(tmp_path / "r", [*commits[:2], Commit(time=10, files={"a.json": b"x"}), commits[3]])
    assert [version.time.timestamp() for version in git_versions(repo, "a.json")] == [50, 10, 10, 30]


def test_a_renamed_file_is_followed_through_all_its_names(tmp_path: Path) -> None:
    commits = [
        Commit(time=1, files={"old.json": b"[1]"}),
        Commit(time=2, files={"old.json": None, "new.json": b"[1]"}),
        Commit(time=3, files={"new.json": b"[3]"}),
    ]
    repo = gitrepos.build(tmp_path / "r", commits)

    versions = git_versions(repo, "new.json,old.json")
    assert [version.path for version in versions] == ["old.json", "new.json", "new.json"]
    assert raws(repo, versions) == [b"[1]", b"[1]", b"[3]"]
    assert git_versions(repo, ["new.json", "old.json"]) == versions

    alone = git_versions(repo, "new.json")
    assert [version.n for version in alone] == [1, 2]
    assert earlier_name(repo, alone[0]) == "old.json"
    assert earlier_name(repo, versions[0]) is None


def test_a_merge_counts_with_what_it_brings_to_the_first_parent_line(tmp_path: Path) -> None:
    commits = [
        Commit(time=1, files={"a.json": b"[1]"}),
        Commit(time=2, files={"a.json": b"[2]"}, branch="side", start="main"),
        Commit(time=3, files={"a.json": b"[3]"}, branch="side"),
        Commit(time=4, files={"other": b""}),
        Commit(time=5, files={"a.json": b"[3]"}, merge="side"),
        Commit(time=6, files={"other": b"x"}, branch="idle", start="main"),
        Commit(time=7, files={"other": b"x"}, merge="idle"),
    ]
    repo = gitrepos.build(tmp_path / "r", commits)
    versions = git_versions(repo, "a.json")
    assert [version.time.timestamp() for version in versions] == [1, 5]
    assert raws(repo, versions) == [b"[1]", b"[3]"]
    assert raws(repo, git_versions(repo, "a.json", "side")) == [b"[1]", b"[2]", b"[3]"]


def test_a_change_of_mode_is_a_version_with_the_same_bytes(tmp_path: Path) -> None:
    commits = [Commit(time=n, files={"a.json": b"[1]"}, executable=n == 2) for n in (1, 2)]
    repo = gitrepos.build(tmp_path / "r", commits)
    (_, first), (_, second) = git_contents(repo, git_versions(repo, "a.json"))
    assert second is first


def test_bytes_come_back_exactly_whatever_they_are(tmp_path: Path) -> None:
    contents = [b"", b"\r\n", b"\x00\xff" * 70_000, b"no newline at the end", b"", b"x missing\n"]
    commits = [Commit(time=n, files={"a.json": content}) for n, content in enumerate(contents)]
    repo = gitrepos.build(tmp_path / "r", commits)
    assert raws(repo, git_versions(repo, "a.json")) == contents


@pytest.mark.parametrize(
    "name",
    ["a b.json", 'say "hi".json', "é/ü.json", "[ab]*.json", ":(top)x.json", "tab\there.json", "b\\s.json"],
)
def test_file_names_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    files: dict[str, bytes | None] = {name: b"[1]", "a.json": b"[2]"}
    repo = gitrepos.build(tmp_path / "r", [Commit(time=1, files=files)])
    assert raws(repo, git_versions(repo, [name])) == [b"[1]"]


def test_a_place_inside_a_work_tree_stands_for_the_whole_repository(tmp_path: Path) -> None:
    commits = [Commit(time=1, files={"data/a.json": b"[1]"})]
    repo = gitrepos.build(tmp_path / "r", commits, bare=False)
    expected = git_versions(repo, "data/a.json")
    gitrepos.git(repo, "worktree", "add", "--quiet", str(tmp_path / "linked"), "HEAD")
    for place in (repo / "data", repo / ".git", tmp_path / "linked"):
        assert git_versions(place, "./data/a.json") == expected
        assert raws(place, expected) == [b"[1]"]


def test_a_ref_may_be_a_branch_a_tag_or_a_commit(three_versions: Path) -> None:
    versions = git_versions(three_versions, "data.json")
    gitrepos.git(three_versions, "-c", "user.name=n", "-c", "user.email=e", "tag", "-am", "t", "v2", "main~1")
    for ref in ("v2", "main~1", versions[1].revision, versions[1].revision[:10]):
        assert git_versions(three_versions, "data.json", ref) == versions[:2]


def test_a_calling_git_and_settings_of_the_user_change_nothing(
    three_versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = git_versions(three_versions, "data.json")
    settings_file = tmp_path / "gitconfig"
    settings_file.write_text(
        "[log]\nshowRoot=false\nfollow=true\nshowSignature=true\n[color]\nui=always\n"
        "[diff]\nrelative=true\nrenames=copies\nnoprefix=true\n[core]\nquotePath=true\nabbrev=4\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings_file))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_ICASE_PATHSPECS", "1")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert git_versions(three_versions, "data.json") == expected
    assert raws(three_versions, expected) == [b"[1]", b"[2]", b"[3]"]


# --- Streaming ----------------------------------------------------------------------------------


def test_contents_come_in_the_order_asked_for_so_that_a_run_can_resume(three_versions: Path) -> None:
    versions = git_versions(three_versions, "data.json")
    assert raws(three_versions, versions[1:]) == [b"[2]", b"[3]"]
    assert raws(three_versions, [versions[2], versions[0], versions[0]]) == [b"[3]", b"[1]", b"[1]"]
    assert raws(three_versions, []) == []


def test_equal_neighbours_come_as_the_same_object_from_one_process(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    contents: list[bytes | None] = [b"[1]", None, b"[1]", None, b"[1]", b"[2]", b"[1]"]
    commits = [Commit(time=n, files={"a.json": content}) for n, content in enumerate(contents)]
    repo = gitrepos.build(tmp_path / "r", commits)
    versions = git_versions(repo, "a.json")
    started.clear()

    got = raws(repo, versions)

    assert got == [b"[1]", b"[1]", b"[1]", b"[2]", b"[1]"]
    assert got[0] is got[1] is got[2]
    assert sum("cat-file" in str(process.args) for process in started) == 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("read", [0, 1, 5])
def test_closing_early_leaves_no_process_and_no_thread(
    three_versions: Path, started: list[subprocess.Popen[bytes]], read: int
) -> None:
    threads = threading.active_count()
    # Far more requests than any pipe holds: the feeder is in the middle of them when we leave.
    many = git_versions(three_versions, "data.json") * 100_000
    stream = git_contents(three_versions, many)
    for _ in range(read):
        next(stream)
    stream.close()
    assert all(process.returncode is not None for process in started)
    assert threading.active_count() == threads


@pytest.mark.timeout(120)
def test_a_stream_longer_than_all_pipes_ends_by_itself(
    three_versions: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    versions = git_versions(three_versions, "data.json")
    assert sum(1 for _ in git_contents(three_versions, versions * 20_000)) == 60_000
    assert all(process.returncode is not None for process in started)


def test_an_exception_in_the_caller_leaves_no_process(
    three_versions: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    def consume() -> None:
        for version, _ in git_contents(three_versions, git_versions(three_versions, "data.json")):
            raise KeyError(version.n)

    with pytest.raises(KeyError):
        consume()
    assert all(process.returncode is not None for process in started)


# --- What is refused ----------------------------------------------------------------------------


def test_without_git_the_error_says_what_to_install(
    three_versions: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    versions = git_versions(three_versions, "data.json")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoGitError, match="Install git") as caught:
        git_versions(three_versions, "data.json")
    assert isinstance(caught.value, SetupError)
    with pytest.raises(NoGitError):
        raws(three_versions, versions)


def test_a_folder_that_is_no_repository_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "plain").mkdir()
    with pytest.raises(NotARepositoryError, match=r"plain: .*not a git repository") as caught:
        git_versions(tmp_path / "plain", "a.json")
    assert isinstance(caught.value, UserError)
    with pytest.raises(NotARepositoryError, match="no such folder"):
        git_versions(tmp_path / "nowhere", "a.json")
    with pytest.raises(NotARepositoryError, match="Clone it first"):
        git_versions("https://example.org/repo.git", "a.json")


@pytest.mark.parametrize("ref", ["mian", "--all", "HEAD:data.json", ""])
def test_an_unknown_ref_is_refused_and_near_ones_are_named(three_versions: Path, ref: str) -> None:
    with pytest.raises(UnknownRefError, match="There is main"):
        git_versions(three_versions, "data.json", ref)


def test_a_repository_without_commits_says_so(tmp_path: Path) -> None:
    repo = gitrepos.build(tmp_path / "r", [])
    with pytest.raises(UnknownRefError, match="no commit yet"):
        git_versions(repo, "a.json")


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("fires.json", "data/fires.json"),
        ("data/Fires.json", "data/fires.json"),
        ("data/fire.json", "data/fires.json"),
        ("data", "data/fires.json"),
        ("gone.jsn", "gone.json"),
        ("data/fires.json,gnoe.json", "gone.json"),
        ("unlike anything", "log --stat"),
    ],
)
def test_a_file_that_never_was_is_refused_and_near_names_are_given(
    tmp_path: Path, asked: str, hint: str
) -> None:
    commits = [
        Commit(time=1, files={"data/fires.json": b"[]", "gone.json": b"[]"}),
        Commit(time=2, files={"gone.json": None}),
    ]
    repo = gitrepos.build(tmp_path / "r", commits)
    with pytest.raises(NoSuchFileError) as caught:
        git_versions(repo, asked)
    assert hint in caught.value.hint


@pytest.mark.parametrize("asked", ["", "a.json,", [], ["a.json", " "]])
def test_an_empty_name_is_refused(three_versions: Path, asked: str | list[str]) -> None:
    with pytest.raises(NoSuchFileError, match="a name is empty"):
        git_versions(three_versions, asked)


@pytest.mark.parametrize("time", [10**14, -(10**14)])
def test_an_author_time_beyond_all_dates_names_the_commit(tmp_path: Path, time: int) -> None:
    repo = gitrepos.build(tmp_path / "r", [Commit(time=1, files={"a.json": b"[]"})])
    commit = gitrepos.git(repo, "cat-file", "commit", "HEAD").replace(" 1 +0200", f" {time} +0200")
    written = subprocess.run(
        ["git", "-C", str(repo), "hash-object", "-t", "commit", "-w", "--literally", "--stdin"],
        input=commit.encode(),
        capture_output=True,
        check=True,
        env=gitrepos.ENVIRONMENT,
    ).stdout.decode()
    gitrepos.git(repo, "update-ref", "refs/heads/main", written.strip())
    with pytest.raises(HistoryError, match=f"commit {written[:12]}: its author time is no date"):
        git_versions(repo, "a.json")


def test_a_shallow_clone_is_refused_with_the_command_that_completes_it(
    three_versions: Path, tmp_path: Path
) -> None:
    gitrepos.git(tmp_path, "clone", "--quiet", "--bare", "--depth=2", three_versions.as_uri(), "shallow")
    with pytest.raises(IncompleteHistoryError, match="fetch --unshallow"):
        git_versions(tmp_path / "shallow", "data.json")


@pytest.mark.parametrize("kept", ["blob:none", "tree:0"])
def test_a_partial_clone_is_refused_until_it_is_complete(
    three_versions: Path, tmp_path: Path, kept: str
) -> None:
    gitrepos.git(three_versions, "config", "uploadpack.allowFilter", "true")
    clone = ["clone", "--quiet", "--no-checkout", f"--filter={kept}", three_versions.as_uri(), "partial"]
    gitrepos.git(tmp_path, *clone)
    with pytest.raises(IncompleteHistoryError, match=r"partial clone.*\n.*fetch --refetch --no-filter"):
        git_versions(tmp_path / "partial", "data.json")

    gitrepos.git(tmp_path / "partial", "fetch", "--quiet", "--refetch", "--no-filter")
    versions = git_versions(tmp_path / "partial", "data.json")
    assert raws(tmp_path / "partial", versions) == [b"[1]", b"[2]", b"[3]"]


def test_missing_bytes_stop_the_stream_at_their_version(three_versions: Path) -> None:
    versions = git_versions(three_versions, "data.json")
    _loose(three_versions, versions[1]).unlink()
    stream = git_contents(three_versions, versions)
    assert next(stream)[1] == b"[1]"
    with pytest.raises(
        IncompleteHistoryError, match=rf"version 2 \({versions[1].revision[:12]}, data.json\)"
    ):
        next(stream)


def test_damaged_bytes_stop_the_stream(three_versions: Path) -> None:
    versions = git_versions(three_versions, "data.json")
    loose = _loose(three_versions, versions[1])
    loose.chmod(0o600)
    loose.write_bytes(b"nonsense")
    stream = git_contents(three_versions, versions)
    assert next(stream)[1] == b"[1]"
    with pytest.raises(IncompleteHistoryError, match="three"):
        next(stream)


def _loose(repo: Path, version: Version) -> Path:
    return repo / "objects" / version.blob[:2] / version.blob[2:]


# --- Against the oracle -------------------------------------------------------------------------


# The oracle leaves the pipe of its own git process to the garbage collector.
oracle_leaves_a_pipe = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def agrees(oracle: ModuleType, repo: Path, names: str, versions: list[Version]) -> None:
    expected = oracle.versions(str(repo), names)
    assert [(v.n, v.revision, v.time, v.blob) for v in versions] == [tuple(v) for v in expected]
    assert raws(repo, versions) == [raw for _, raw in oracle.contents(str(repo), expected)]


@oracle_leaves_a_pipe
def test_a_real_window_in_git_reads_as_the_oracle_reads_it(
    oracle: ModuleType, real_window: Path, tmp_path: Path
) -> None:
    repo = gitrepos.from_snapshots(real_window, tmp_path / "r", "incidents.json")
    versions = git_versions(repo, "incidents.json")
    assert len(versions) == len(list(real_window.glob("*.json")))
    agrees(oracle, repo, "incidents.json", versions)


@st.composite
def histories(draw: st.DrawFn) -> list[Commit]:
    """Random commits to two files on two branches, with merges, removals and unordered times."""
    commits = [Commit(time=0, files={"a.json": b"0", "b.json": b"0", "c": b"0"})]
    commits.append(Commit(time=1, files={"c": b"1"}, branch="side", start="main"))
    content = st.sampled_from([b"", b"1", b"2", None])
    for _ in range(draw(st.integers(0, 12))):
        branch, other = draw(st.sampled_from([("main", "side"), ("side", "main")]))
        files = draw(st.dictionaries(st.sampled_from(["a.json", "b.json", "c"]), content))
        time = draw(st.integers(0, 2_000_000_000))
        merge = other if draw(st.booleans()) else None
        commits.append(Commit(time=time, files=files, branch=branch, merge=merge))
    return commits


_repositories: Iterator[int] = iter(range(10**9))


@oracle_leaves_a_pipe
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commits=histories())
def test_random_histories_read_as_the_oracle_reads_them(
    oracle: ModuleType, tmp_path: Path, commits: list[Commit]
) -> None:
    repo = gitrepos.build(tmp_path / str(next(_repositories)), commits)
    for names in ("a.json", "b.json,a.json"):
        agrees(oracle, repo, names, git_versions(repo, names))
