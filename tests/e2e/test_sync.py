"""Mirrors as a user has them: the commands, over folders, real servers of buckets, and Postgres."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import fsspec
import pytest
from clouds import free_port
from cluster import PASSWORD, Cluster
from command import PROGRAM, Done, program, run
from proxy import Fault, Piece, TcpProxy
from truth import ROOT

from lakehouse import Lake
from lakehouse.bulk import BulkLoad
from lakehouse.cli.restore import restore_command
from lakehouse.cli.sync import sync_command
from sync import settings

Project = Callable[..., Path]

HIDDEN = "hunter/22@:%"  # a password, which nothing may show
QUOTED = quote(HIDDEN, safe="")


@pytest.fixture
def project(three_loads: Path, tmp_path: Path) -> Project:
    """Makes a project with its own copy of the three loads and these mirrors."""

    def make(name: str = "laptop", **mirrors: str) -> Path:
        home = tmp_path / name
        shutil.copytree(three_loads, home / "lake")
        configure(home, **mirrors)
        return home

    return make


def configure(home: Path, **mirrors: str) -> None:
    """Write the settings of a project: of each mirror the lines of its table."""
    tables = [f"[tool.lakehouse.mirrors.{name}]\n{lines}\n" for name, lines in mirrors.items()]
    home.mkdir(exist_ok=True)
    (home / "pyproject.toml").write_text('[tool.lakehouse]\nlake = "lake"\n' + "".join(tables), "utf-8")


def folder(path: Path) -> str:
    return f'url = "file://{path}"'


def load(lake: Path, sku: str, *, day: int, load_id: str = "") -> None:
    """One more load of `shop.products`, with a single product."""
    noon = datetime(2026, 3, day, 12, tzinfo=UTC)
    with Lake.open(lake).load("shop", load_id=load_id or f"run-{sku}-{day}", observed_at=noon) as more:
        more.write("products", [{"sku": sku, "price": 1.0}], disposition="replace", primary_key=["sku"])


def bytes_below(place: Path) -> dict[str, bytes]:
    """What a lake holds that is mirrored."""
    files = (path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place)): path.read_bytes() for path in files if "_derived" not in path.parts}


# --- There and back, on every kind of store ------------------------------------------------------


@pytest.fixture(params=["file", "gcs", "s3"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str, dict[str, str]]:
    """URL of an empty place, the lines that set a mirror up there, and the environment that these need."""
    prefix = uuid4().hex
    if request.param == "file":
        url = f"file://{tmp_path / 'disk' / prefix}"
        return url, f'url = "{url}"', {}
    if request.param == "gcs":
        server = request.getfixturevalue("gcs_server")
        url = f"gs://lakes/{prefix}"
        more = f'options = {{endpoint_url = "{server}", token = "anon", project = "t"}}'
        everywhere = {"FSSPEC_GS": json.dumps({"endpoint_url": server, "token": "anon", "project": "t"})}
        return url, f'url = "{url}"\n{more}', everywhere
    server = request.getfixturevalue("s3_server")
    url = f"s3://lakes/{prefix}"
    more = f'options = {{endpoint_url = "{server}", key = "$LAKE_KEY", secret = "$LAKE_SECRET"}}'
    return url, f'url = "{url}"\n{more}', {
        "LAKE_KEY": "AKIAHUNTER22", "LAKE_SECRET": HIDDEN, "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "AKIAHUNTER22", "AWS_SECRET_ACCESS_KEY": HIDDEN, "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip


def test_a_lake_goes_to_a_mirror_and_comes_back(
    project: Project,
    bucket: tuple[str, str, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, lines, environment = bucket
    home = project(bucket=lines)

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if "FSSPEC_GS" in environment:  # this process has read its environment already
        monkeypatch.setitem(fsspec.config.conf, "gs", json.loads(environment["FSSPEC_GS"]))
    said = program("sync", cwd=home).ok().out.splitlines()
    assert [line.split(", ")[0] for line in said] == ["bucket: news: 1 load", "bucket: shop: 3 loads"]
    assert said[1].endswith(" sent; now at load 3")
    load(home / "lake", "z", day=5)
    said = run("sync", "bucket", cwd=home).ok().out.splitlines()
    assert said[0] == "bucket: news: nothing to do (load 1)"
    assert said[1].startswith("bucket: shop: 1 load, 2 files, ")
    found = next(f for f in run("doctor", "--json", cwd=home).ok().json if f["what"] == "mirror bucket")
    assert (found["ok"], "reachable, this lake" in found["found"]) == (True, True)
    # An empty machine has no project, only the URL.
    again = tmp_path / "machine" / "lake"
    (tmp_path / "machine").mkdir()
    done = program("restore", url, "lake", cwd=again.parent).ok()
    assert "shop: up to load 4 (2026-03-05 12:00:00Z)" in done.out
    assert {path: raw for path, raw in bytes_below(again).items() if path.endswith(".parquet")} == {
        path: raw for path, raw in bytes_below(home / "lake").items() if path.endswith(".parquet")
    }
    assert "all as committed" in run("verify", "--lake", again).ok().out
    asked = (
        "query",
        "--format",
        "csv",
        "--as-of",
        "2026-03-02T13:00",
        "select * from shop.products order by sku",
    )
    here, restored = (run(*asked, "--lake", lake).ok().out for lake in (home / "lake", again))
    assert here == restored == run(*asked, "--lake", url).ok().out
    assert len(here.splitlines()) == 3
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (HIDDEN, "AKIAHUNTER22"):
        assert secret.encode() not in kept


def test_a_sync_that_has_nothing_to_do_says_so_in_json_too(project: Project, tmp_path: Path) -> None:
    home = project(disk=folder(tmp_path / "disk"))
    first = run("sync", "--json", cwd=home).ok().json
    assert [(r["source"], r["relation"], r["loads"], r["after"]) for r in first] == [
        ("news", "ahead", 1, 1),
        ("shop", "ahead", 3, 3),
    ]
    again = run("sync", "disk", "--json", cwd=home).ok().json
    assert [(r["mirror"], r["relation"], r["loads"], r["files"]) for r in again] == [
        ("disk", "equal", 0, 0)
    ] * 2
    assert run("sync", cwd=home).ok().out.splitlines() == [
        "disk: news: nothing to do (load 1)",
        "disk: shop: nothing to do (load 3)",
    ]


def test_a_dry_run_prints_the_plan_in_order_and_changes_nothing(project: Project, tmp_path: Path) -> None:
    home, disk = project(disk=folder(tmp_path / "disk")), tmp_path / "disk"
    said = run("sync", "--dry-run", cwd=home).ok().out.splitlines()
    assert said[0].startswith("disk: news: would send 1 load, 2 files, ")
    assert [line.split("/")[0].strip().split(",")[0] for line in said[4:]] == ["shop"] * 3 + [
        "commits 1 to 3"
    ]
    planned = run("sync", "--dry-run", "--source", "shop", "--json", cwd=home).ok().json
    (shop,) = planned
    assert [next(iter(action)) for action in shop["actions"]] == ["copy"] * 3 + ["publish"]
    assert shop["size_bytes"] == sum(action["size_bytes"] for action in shop["actions"])
    assert not disk.exists()
    assert not (home / "lake" / "_derived" / "_sync").exists()
    assert (
        run("sync", "--source", "shop", "--json", cwd=home).ok().json[0]["size_bytes"] == shop["size_bytes"]
    )
    assert not (disk / "news").exists()
    run("sync", "--source", "nope", cwd=home).failed(2, "there is no source 'nope'", "news, shop")


def test_a_limit_ends_a_sync_in_good_order(project: Project, tmp_path: Path) -> None:
    home = project(disk=folder(tmp_path / "disk"))
    said = run("sync", "--source", "shop", "--max-transfer", "5kB", "--bandwidth", "10MB", cwd=home).ok().out
    assert "--max-transfer was reached" in said
    assert "all as committed" in run("verify", "--lake", tmp_path / "disk").ok().out
    said = run("sync", "--source", "shop", "--max-transfer", "1B", cwd=home).ok().out
    assert re.search(r"nothing sent: the next load needs [\d.]+ kB, which is more than --max-transfer", said)
    assert "now at load 3" in run("sync", "--source", "shop", cwd=home).ok().out
    run("sync", "--max-transfer", "much", cwd=home).failed(2, "'much' is no size")


def test_status_says_how_far_each_mirror_is(project: Project, tmp_path: Path) -> None:
    home = project(disk=folder(tmp_path / "disk"), nas=folder(tmp_path / "nas"))
    run("sync", "disk", cwd=home).ok()
    load(home / "lake", "z", day=5)
    found = {(r["mirror"], r["source"]): r for r in run("sync", "status", "--json", cwd=home).ok().json}
    shop = found["disk", "shop"]
    assert (shop["relation"], shop["here"], shop["there"], shop["loads"], shop["files"]) == (
        "ahead",
        4,
        3,
        1,
        2,
    )
    assert shop["synced_at"]
    assert found["disk", "news"]["relation"] == "equal"
    assert (found["nas", "shop"]["there"], found["nas", "shop"]["synced_at"]) == (0, None)
    drawn = run("sync", "status", "disk", cwd=home).ok().out.splitlines()
    assert drawn[0].split() == ["mirror", "source", "here", "there", "missing", "synced", "verified"]
    assert "1 load, 2 files, " in drawn[2]
    assert not (tmp_path / "nas").exists()
    assert len(run("sync", "--lake", home / "lake", "status", cwd=home).ok().out.splitlines()) == 5


def test_status_tells_a_log_that_cannot_be_read_from_two_histories(project: Project, tmp_path: Path) -> None:
    home = project(disk=folder(tmp_path / "disk"))
    run("sync", cwd=home).ok()
    (log,) = (tmp_path / "disk" / "shop" / "_log").iterdir()
    log.write_bytes(log.read_bytes()[:300])
    told = run("sync", "status", cwd=home)
    told.failed(4, log.name)
    assert [line.split()[:7] for line in told.out.splitlines()[2:]] == [
        ["disk", "shop", "3", "?", "cannot", "be", "read"]
    ]
    news, shop = run("sync", "status", "--json", cwd=home).json
    assert (news["relation"], news["error"]) == ("equal", None)
    assert (shop["relation"], shop["here"], shop["there"]) == ("unknown", 3, None)
    assert shop["error"]["kind"] != "ForkError"
    assert [r["relation"] for r in run("sync", "--json", cwd=home).json] == ["equal", "unknown"]
    configure(home, unset='url = "LAKE_NOT_SET"')
    assert run("sync", "status", cwd=home).failed(2, "LAKE_NOT_SET").out == ""


# --- Two machines ---------------------------------------------------------------------------------


@pytest.fixture
def two_machines(project: Project, tmp_path: Path) -> tuple[Path, Path]:
    """Two projects with the same lake and the same mirror, in which all of it is."""
    disk = folder(tmp_path / "disk")
    laptop = project(disk=disk)
    run("sync", cwd=laptop).ok()
    desk = tmp_path / "desk"
    configure(desk, disk=disk)
    run("restore", "disk", "lake", cwd=desk).ok()
    return laptop, desk


def test_what_another_machine_synced_is_pulled(two_machines: tuple[Path, Path]) -> None:
    laptop, desk = two_machines
    load(desk / "lake", "y", day=4)
    load(desk / "lake", "z", day=5)
    run("tag", "create", "paper", "--lake", desk / "lake").ok()
    assert "disk: 1 tag sent" in run("sync", cwd=desk).ok().out
    behind = "disk: shop: behind: 2 loads there are not here: lakehouse sync pull"
    assert behind in run("sync", cwd=laptop).ok().out
    assert "2 loads, 3 files, " in run("sync", "status", cwd=laptop).ok().out
    said = run("sync", "pull", cwd=laptop).ok().out.splitlines()
    assert said[0] == "disk: news: nothing to get (load 1)"
    assert said[1].startswith("disk: shop: 2 loads, 3 files, ")
    assert said[1].endswith(" received; now at load 5")
    assert said[2] == "disk: 1 tag received"
    asked = ("query", "--format", "csv", "--as-of", "paper", "select * from shop.products")
    assert run(*asked, cwd=laptop).ok().out == run(*asked, cwd=desk).ok().out
    again = run("sync", "pull", "disk", "--json", "--source", "shop", cwd=laptop).ok().json
    assert [(r["relation"], r["loads"], r["after"]) for r in again] == [("equal", 0, 5)]
    assert "A mirror that has it keeps it" in run("tag", "delete", "paper", cwd=laptop).ok().out
    assert "tag received" not in run("sync", "pull", cwd=laptop).ok().out
    assert "paper" in run("tag", "list", "--lake", laptop.parent / "disk").ok().out
    load(laptop / "lake", "w", day=6)
    assert "ahead: 1 load here is not there: lakehouse sync" in run("sync", "pull", cwd=laptop).ok().out


def test_a_source_that_only_the_mirror_has_is_told(project: Project, tmp_path: Path) -> None:
    home = project(disk=folder(tmp_path / "disk"))
    run("sync", "--source", "shop", cwd=home).ok()
    with Lake.open(tmp_path / "disk").load("weather") as more:
        more.write("stations", [{"id": 1}], disposition="append")
    told = "disk: weather: behind: it is not here at all: lakehouse sync pull"
    assert told in run("sync", "--dry-run", cwd=home).ok().out.splitlines()
    assert told in run("sync", cwd=home).ok().out.splitlines()
    found = {r["source"]: r["relation"] for r in run("sync", "status", "--json", cwd=home).ok().json}
    assert found == {"news": "equal", "shop": "equal", "weather": "behind"}
    run("sync", "pull", cwd=home).ok()
    assert run("sync", "status", "--json", cwd=home).ok().json[2]["relation"] == "equal"


def test_two_histories_are_refused_with_both_sides_shown(
    two_machines: tuple[Path, Path], tmp_path: Path
) -> None:
    laptop, desk = two_machines
    load(desk / "lake", "y", day=4, load_id="by-desk")
    load(laptop / "lake", "z", day=5, load_id="by-laptop")
    run("sync", cwd=desk).ok()
    before = bytes_below(tmp_path / "disk")
    refused = run("sync", cwd=laptop)
    refused.failed(
        4, "load 4", "by-desk", "by-laptop", "2026-03-04", "2026-03-05", "sync pull --set-aside", "--as NAME"
    )
    assert refused.out.splitlines() == ["disk: news: nothing to do (load 1)"]
    run("sync", "--dry-run", cwd=laptop).failed(4, "by-desk", "by-laptop")
    told = run("sync", "status", cwd=laptop)
    told.failed(4, "by-desk")
    assert "two histories" in told.out
    run("sync", "pull", cwd=laptop).failed(4, "by-laptop")
    looked = run("verify", "disk", cwd=laptop)
    assert looked.code == 4
    assert "that no commit here names: of the other history" in looked.out
    assert "harmless" not in looked.out
    assert run("sync", "--json", cwd=laptop).json[1]["error"]["kind"] == "ForkError"
    assert bytes_below(tmp_path / "disk") == before


def test_a_history_goes_to_a_prefix_beside_the_mirror(
    two_machines: tuple[Path, Path], tmp_path: Path
) -> None:
    laptop, desk = two_machines
    load(desk / "lake", "y", day=4)
    load(laptop / "lake", "z", day=5)
    run("sync", cwd=desk).ok()
    said = run("sync", "--as", "laptop-2", cwd=laptop).ok()
    assert "shop: 4 loads, " in said.out
    url = f"file://{tmp_path / 'laptop-2'}"
    assert f'url = "{url}"' in said.err
    asked = ("query", "--format", "csv", "select sku from shop.products", "--lake")
    assert run(*asked, url).ok().out.split() == ["sku", "z"]
    assert run(*asked, tmp_path / "disk").ok().out.split() == ["sku", "y"]
    run("sync", "--as", "../up", cwd=laptop).failed(2, "is no name of a mirror")


def test_a_history_is_set_aside_for_that_of_the_mirror(two_machines: tuple[Path, Path]) -> None:
    laptop, desk = two_machines
    load(desk / "lake", "y", day=4)
    load(laptop / "lake", "z", day=5)
    run("sync", cwd=desk).ok()
    (record,) = run("sync", "pull", "--set-aside", "--source", "shop", "--json", cwd=laptop).ok().json
    assert record["after"] == 4
    asked = ("query", "--format", "csv", "select sku from shop.products", "--lake")
    assert run(*asked, laptop / "lake").ok().out.split() == ["sku", "y"]
    assert run(*asked, record["set_aside"]).ok().out.split() == ["sku", "z"]
    load(laptop / "lake", "z", day=5)
    assert "shop: 1 load, " in run("sync", cwd=laptop).ok().out
    load(laptop / "lake", "w", day=6)
    load(desk / "lake", "v", day=6)
    run("sync", cwd=laptop).ok()
    said = run("sync", "pull", "--set-aside", "--source", "shop", cwd=desk).ok().out.splitlines()
    assert said[0].startswith("disk: shop: what was here is now in ")
    assert said[0].endswith(": load again what only that has, then: lakehouse sync")


def test_the_prefix_of_another_lake_is_refused(project: Project, three_loads: Path, tmp_path: Path) -> None:
    Lake.create(tmp_path / "disk")
    home = project(disk=folder(tmp_path / "disk"))
    run("sync", cwd=home).failed(2, "another lake")
    run("sync", "pull", cwd=home).failed(2, "another lake")
    found = [f for f in run("doctor", "--json", cwd=home).json if f["what"] == "mirror disk"]
    assert (found[0]["ok"], "another lake" in found[0]["found"]) == (False, True)


# --- What is set up, and what goes wrong ----------------------------------------------------------


def test_one_mirror_that_fails_does_not_stop_the_others(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAKE_NOT_SET", raising=False)
    (tmp_path / "other").mkdir()
    Lake.create(tmp_path / "other")
    home = project(
        unset='url = "LAKE_NOT_SET"',
        other=folder(tmp_path / "other"),
        literal='url = "s3://b/l"\noptions = {secret = "hunter22"}',
        disk=folder(tmp_path / "disk"),
    )
    done = run("sync", cwd=home)
    assert done.code == 2
    for word in ("unset: ", "LAKE_NOT_SET", "other: "):
        assert word in done.err
    assert "hunter22" not in done.err + done.out
    assert "disk: shop: 3 loads, " in done.out
    records = run("sync", "--json", cwd=home).json
    assert [r["mirror"] for r in records] == ["unset", "other", "literal", "disk", "disk"]
    assert records[0]["error"]["kind"] == "UserError"
    # Damage is worse than a setting.
    load(home / "lake", "z", day=5)
    part = next(path for path in (home / "lake" / "shop").rglob("lake_load=00000004/*.parquet"))
    part.write_bytes(part.read_bytes()[:-9] + b"123456789")
    worst = run("sync", cwd=home)
    assert worst.code == 4
    assert str(part.name) in worst.err
    assert (tmp_path / "disk" / "shop" / "_log").exists()
    assert "nothing to do (load 1)" in worst.out


def test_a_project_without_mirrors_is_told_how_to_set_one_up(project: Project, tmp_path: Path) -> None:
    run("sync", cwd=project()).failed(2, "there are no mirrors", "[tool.lakehouse.mirrors.bucket]")
    run("sync", cwd=tmp_path).failed(2, "no lakehouse project")
    home = project("second", disk=folder(tmp_path / "disk"), nas=folder(tmp_path / "nas"))
    run("sync", "bucket", cwd=home).failed(2, "there is no mirror 'bucket'", "disk, nas")
    run("sync", "pull", cwd=home).failed(2, "2 mirrors", "disk, nas")
    database = 'url = "postgresql://127.0.0.1:9/db"'
    configure(home, disk=folder(tmp_path / "disk"), nas=folder(tmp_path / "nas"), warehouse=database)
    run("sync", "pull", cwd=home).failed(2, "2 mirrors", "one of: disk, nas.")
    refused = run("sync", "pull", "warehouse", cwd=home).failed(2, "warehouse: is a Postgres database")
    assert refused.err.count("warehouse: ") == 1
    configure(home, warehouse=database)
    run("sync", "pull", cwd=home).failed(2, "no mirror that is a bucket", "Mirrors: warehouse.")
    configure(home, disk=folder(tmp_path / "disk"), nas=folder(tmp_path / "nas"))
    run("sync", "--dry-run", "status", cwd=home).failed(2, "--dry-run goes after `status`")
    run("sync", "--repair", "--dry-run", cwd=home).failed(2, "--repair has no dry run")
    shutil.rmtree(home / "lake")
    run("sync", cwd=home).failed(2, "there is no lake here")
    run("sync", "pull", "nas", cwd=home).failed(2, "lakehouse restore nas lake")


def test_a_mirror_in_the_lake_itself_is_refused(project: Project) -> None:
    home = project("here")
    for place in (home / "lake", home / "lake" / "mirror", home):
        configure(home, disk=folder(place))
        for command in (("sync",), ("sync", "status"), ("sync", "pull"), ("verify", "disk")):
            run(*command, cwd=home).failed(2, "they have to be apart")
    assert not (home / "lakehouse.json").exists()


def test_a_person_sees_bytes_rate_and_time_left(project: Project, tmp_path: Path) -> None:
    home = project(disk=folder(tmp_path / "disk"))
    ours, theirs = os.openpty()
    command = [PROGRAM, "sync", "--bandwidth", "6kB"]
    wide = os.environ | {"COLUMNS": "120", "TERM": "xterm"}
    with subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=theirs, env=wide) as running:
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # what Linux answers when the other end is closed
            while more := os.read(ours, 65536):
                drawn += more
        os.close(ours)
        assert running.stdout
        said = running.stdout.read().decode()
    assert running.returncode == 0
    assert said.splitlines()[1].endswith("now at load 3")
    for shown in (r"\d\.\d/\d\.\d kB", r"\d kB/s", r"0:00:0\d", "6/6 files"):
        assert re.search(shown, drawn.decode())


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("gs://b/lake", "gcsfs", "gcs"),
        ("s3://b/lake", "s3fs", "s3"),
        ("postgresql://127.0.0.1:9/db", "adbc_driver_postgresql", "postgres"),
    ],
)
def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(
    project: Project, tmp_path: Path, url: str, package: str, extra: str
) -> None:
    home = project(mirror=f'url = "{url}"')
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / f"{package}.py").write_text("raise ImportError('it is not here')\n")
    done = program("sync", cwd=home, PYTHONPATH=str(hidden))
    done.failed(6, "not installed", f"uv add 'lakehouse[{extra}]'")
    assert len(done.err.strip().splitlines()) == 2


# --- Verifying and mending ------------------------------------------------------------------------


def test_what_is_wrong_in_a_mirror_is_named_and_mended(project: Project, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    home = project(disk=folder(disk))
    run("sync", cwd=home).ok()
    said = run("verify", "disk", cwd=home).ok().out.splitlines()
    assert said[0].endswith(", sizes: all there")
    assert said[1].startswith("disk: only the size of 4 files was compared: ")
    assert "every byte read: all as committed" in run("verify", "disk", "--deep", cwd=home).ok().out
    altered, cut, gone = sorted((disk / "shop").rglob("*.parquet"))
    altered.write_bytes(altered.read_bytes()[:-9] + b"123456789")
    cut.write_bytes(cut.read_bytes()[:-1])
    gone.unlink()
    fast = run("verify", "disk", "--json", cwd=home)
    assert fast.code == 4
    assert {p["key"].split("/")[-1]: p["fault"] for p in fast.json[0]["problems"]} == {
        cut.name: "truncated",
        gone.name: "missing",
    }
    deep = run("verify", "disk", "--deep", cwd=home)
    assert deep.code == 4
    for path in (altered, cut, gone):
        assert path.name in deep.err
    said = run("sync", "--repair", cwd=home).ok().out
    assert "disk: 3 files, " in said
    assert " mended" in said
    assert "all as committed" in run("verify", "disk", "--deep", cwd=home).ok().out
    assert "disk: nothing to mend" in run("sync", "--repair", cwd=home).ok().out
    status = run("sync", "status", "--json", cwd=home).ok().json
    assert all(record["verified_at"] for record in status)


def test_a_log_that_lost_its_end_is_mended(project: Project, tmp_path: Path) -> None:
    home = project(disk=folder(tmp_path / "disk"))
    run("sync", cwd=home).ok()
    load(home / "lake", "z", day=5)
    run("sync", cwd=home).ok()
    (newest,) = (tmp_path / "disk" / "shop" / "_log").glob("*4.jsonl")
    newest.unlink()
    run("verify", "disk", cwd=home).failed(4, newest.name)
    run("sync", "--repair", cwd=home).ok()
    assert "all as committed" in run("verify", "disk", "--deep", cwd=home).ok().out


def test_a_name_says_whether_a_source_or_a_mirror_is_verified(project: Project, tmp_path: Path) -> None:
    home = project(shop=folder(tmp_path / "one"), disk=folder(tmp_path / "two"))
    run("verify", "shop", cwd=home).failed(2, "'shop' is a source and a mirror")
    assert "1 source" in run("verify", "news", cwd=home).ok().out
    run("verify", "news", "--deep", cwd=home).failed(2, "--deep is for mirrors")
    run("verify", "disk", "--fast", cwd=home).failed(2, "--fast is for lakes")
    run("verify", "disk", cwd=home).failed(2, "there is no lake here")
    run("verify", "nope", cwd=home).failed(
        2, "no source 'nope'", "Sources: news, shop.", "Mirrors: shop, disk."
    )


def test_a_mistyped_mirror_is_told_which_there_are(project: Project, tmp_path: Path, gcs_server: str) -> None:
    home = project(disk=folder(tmp_path / "disk"))
    done = run("restore", "dsk", "again", cwd=home).failed(2, "no lake here", "name of a mirror: disk.")
    assert "lakehouse init" not in done.err
    told = run("restore", "dsk", "again", "--json", cwd=home).failed(2).json
    assert (told["folder"], told["error"]["kind"]) == ("again", "NoLakeError")
    run("query", "--lake", "disk", "select 1", cwd=home).failed(2, f"'disk' is at file://{tmp_path / 'disk'}")
    run("restore", f"file://{tmp_path / 'none'}", "again", cwd=home).failed(2, "Check the URL")
    options = f'options = {{endpoint_url = "{gcs_server}", token = "anon", project = "t"}}'
    configure(home, away=f'url = "gs://no-such-bucket/lake"\n{options}')
    run("restore", "away", "again", cwd=home).failed(6, "there is no such bucket")
    assert not (home / "again").exists()


def test_a_mirror_is_pruned_when_that_is_asked_for(many_loads: Path, tmp_path: Path) -> None:
    home, disk = many_loads, tmp_path / "disk"
    configure(home, disk=folder(disk))
    run("sync", cwd=home).ok()
    run("pack", cwd=home).ok()
    run("sync", cwd=home).ok()
    assert len(list((disk / "s").rglob("*.parquet"))) == 31
    assert "30 files that packs stand for" in run("verify", "disk", cwd=home).ok().out
    would = run("sync", "--prune", "--dry-run", cwd=home).ok().out
    assert "disk: s: would delete 30 parts and " in would
    assert len(list((disk / "s").rglob("*.parquet"))) == 31
    done = run("sync", "--prune", "--json", cwd=home).ok().json[-1]
    assert (len(done["parts"]), done["packs_verified"]) == (30, 1)
    said = run("sync", "--prune", cwd=home).ok().out.splitlines()
    assert said[1:] == ["disk: nothing to delete"]
    assert len(list((disk / "s").rglob("*.parquet"))) == 1
    assert "all as committed" in run("verify", "disk", "--deep", cwd=home).ok().out


# --- Secrets --------------------------------------------------------------------------------------


def told_nothing(*texts: str) -> None:
    """Neither the password nor a longer piece of it is in a text."""
    for text in texts:
        for secret in (HIDDEN, QUOTED, HIDDEN[:6], QUOTED[:9]):
            assert secret not in text


@pytest.mark.parametrize(
    "command",
    [
        ("sync",), ("sync", "--json"), ("sync", "--dry-run"), ("sync", "status"), ("sync", "status", "--json"),
        ("doctor",), ("doctor", "--json"), ("verify", "warehouse"), ("sync", "--repair"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_server_that_cannot_be_reached_is_told_without_its_password(
    project: Project, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = project(warehouse='url = "WAREHOUSE_URL"')
    monkeypatch.setenv(
        "WAREHOUSE_URL", f"postgresql://ann:{QUOTED}@127.0.0.1:{free_port()}/db?sslmode=disable"
    )
    done = run(*command, cwd=home)
    assert done.code == 6
    told_nothing(done.out, done.err)
    assert "127.0.0.1" in done.out + done.err


def test_a_password_that_is_not_quoted_is_refused_without_being_shown(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = project(warehouse='url = "WAREHOUSE_URL"')
    monkeypatch.setenv("WAREHOUSE_URL", f"postgresql://ann:{HIDDEN}@127.0.0.1:9/db")
    done = run("sync", cwd=home).failed(2, "Percent-encode")
    told_nothing(done.err, done.out, run("doctor", cwd=home).out)


def test_a_bucket_that_cannot_be_reached_is_told_without_its_keys(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.store.asking.ATTEMPTS", 2)
    monkeypatch.setenv("LAKE_KEY", "AKIAHUNTER22")
    monkeypatch.setenv("LAKE_SECRET", HIDDEN)
    options = f'endpoint_url = "http://127.0.0.1:{free_port()}", key = "$LAKE_KEY", secret = "$LAKE_SECRET"'
    home = project(bucket=f'url = "s3://lakes/x"\noptions = {{{options}}}')
    for command in ("sync", "doctor"):
        done = run(command, cwd=home)
        assert done.code == 6
        told_nothing(done.err, done.out)
        assert "AKIAHUNTER22" not in done.err + done.out


# --- Postgres -------------------------------------------------------------------------------------


@pytest.fixture
def warehouse(postgres_server: Cluster, project: Project) -> tuple[Path, str, dict[str, str]]:
    """A project with a mirror in an empty database, the database's name, and the environment."""
    database = postgres_server.new_database()
    home = project(warehouse='url = "WAREHOUSE_URL"')
    return home, database, {"WAREHOUSE_URL": postgres_server.dsn(database)}


def test_a_lake_goes_into_a_database(
    warehouse: tuple[Path, str, dict[str, str]], postgres_server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, database, environment = warehouse
    monkeypatch.setenv("WAREHOUSE_URL", environment["WAREHOUSE_URL"])

    def ask(*args: object, by: Callable[..., Done] = run) -> Done:
        done = by(*args, cwd=home).ok()
        assert PASSWORD not in done.out + done.err
        return done

    assert "would bring 3 loads, 1 table; to load 3: products new" in ask("sync", "--dry-run").out
    said = ask("sync", by=program).out.splitlines()
    assert said[0].startswith("warehouse: news: 1 load, 1 table, 1 row version written")
    assert said[1].startswith("warehouse: shop: 3 loads, 1 table, ")
    assert said[1].endswith("; now at load 3")
    assert postgres_server.psql("select sku from shop.products", database=database) == "c"
    then = "select sku from shop.products_at('2026-03-02 13:00Z') order by 1"
    assert postgres_server.psql(then, database=database).split() == ["a", "c"]
    shutil.copytree(home / "lake", home / "before")
    load(home / "lake", "z", day=5)
    records = {(r["source"]): r for r in ask("sync", "--json").json}
    assert (records["shop"]["before"], records["shop"]["after"], records["news"]["loads"]) == (3, 4, 0)
    assert postgres_server.psql("select sku from shop.products", database=database) == "z"
    status = {r["source"]: r for r in ask("sync", "status", "--json").json}
    assert (status["shop"]["relation"], status["shop"]["there"], status["shop"]["kind"]) == (
        "equal",
        4,
        "postgres",
    )
    behind = ask("sync", "--lake", home / "before").out.splitlines()[1]
    assert behind.startswith(
        "warehouse: shop: behind: the database has 1 load that is not here: get it from a mirror"
    )
    assert "lakehouse sync pull" in behind
    assert "1 load more than here" in ask("sync", "--lake", home / "before", "status").out
    kept = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in kept
    assert quote(PASSWORD, safe="").encode() not in kept


def test_a_database_is_verified_and_mended(
    warehouse: tuple[Path, str, dict[str, str]], postgres_server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, database, environment = warehouse
    monkeypatch.setenv("WAREHOUSE_URL", environment["WAREHOUSE_URL"])
    run("sync", cwd=home).ok()
    assert "up to load 3: as in the lake" in run("verify", "warehouse", "--deep", cwd=home).ok().out
    named = "select base_name from lakehouse.tables where source = 'shop'"
    base = postgres_server.psql(named, database=database)
    postgres_server.psql(f"update shop.\"{base}\" set price = 77 where sku = 'c'", database=database)
    assert run("verify", "warehouse", cwd=home).failed(4, "products").out
    run("sync", "--repair", cwd=home).ok()
    assert all(record["ok"] for record in run("verify", "warehouse", "--json", cwd=home).ok().json)
    assert postgres_server.psql("select price from shop.products", database=database) == "9"


def test_a_database_is_told_what_it_lacks(
    warehouse: tuple[Path, str, dict[str, str]], postgres_server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, database, environment = warehouse
    monkeypatch.setenv("WAREHOUSE_URL", environment["WAREHOUSE_URL"])

    def looked() -> dict[str, object]:
        found = run("doctor", "--json", cwd=home).json
        return next(f for f in found if f["what"] == "mirror warehouse")

    assert (looked()["ok"], looked()["do"]) == (None, "Run: lakehouse sync warehouse")
    user = postgres_server.new_user(f"reader_{database}")
    monkeypatch.setenv("WAREHOUSE_URL", postgres_server.dsn(database, user))
    assert looked()["ok"] is False
    assert f'GRANT CREATE ON DATABASE "{database}" TO "{user}"' in str(looked()["do"])
    run("sync", cwd=home).failed(6)
    for option in ("--max-transfer", "--bandwidth"):
        run("sync", option, "1MB", cwd=home).failed(2, "are for buckets")
    run("restore", "warehouse", "again", cwd=home).failed(2, "is a database")
    run("sync", "pull", "warehouse", cwd=home).failed(2, "is a Postgres database")


def test_a_database_that_is_somebody_elses_is_told(
    warehouse: tuple[Path, str, dict[str, str]], postgres_server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, database, environment = warehouse

    def looked() -> str:
        found = next(f for f in run("doctor", "--json", cwd=home).json if f["what"] == "mirror warehouse")
        assert found["ok"] is False
        return f"{found['found']}; {found['do']}"

    monkeypatch.setenv("WAREHOUSE_URL", environment["WAREHOUSE_URL"])
    postgres_server.psql("create schema news; create table news.mine (n int)", database=database)
    assert "the schema news of the database is there, is no mirror of this lake, and has tables" in looked()
    postgres_server.psql("drop schema news cascade", database=database)
    run("sync", cwd=home).ok()
    user = postgres_server.new_user(
        f"second_{database}",
        grants=f'grant create on database {database} to "{{u}}"'.format(u=f"second_{database}"),
    )
    monkeypatch.setenv("WAREHOUSE_URL", postgres_server.dsn(database, user))
    assert f"the schema lakehouse belongs to lake, of which {user} is no member; Sync as lake" in looked()
    load(home / "lake", "z", day=5)
    assert "permission denied" in run("sync", cwd=home).failed(6).err  # of both sources, told once


@pytest.mark.parametrize("meant", [b"COPY ", b'COMMENT ON VIEW "shop"'], ids=["rows", "statement"])
def test_ctrl_c_ends_a_sync_into_a_database_at_once(
    project: Project, postgres_server: Cluster, meant: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes while a statement is on its way; a second mirror would be next."""
    database = postgres_server.new_database()
    home = project(warehouse='url = "WAREHOUSE_URL"', after='url = "WAREHOUSE_URL"\nschema_prefix = "after_"')
    seen: list[bytes] = []

    def interrupt(piece: Piece) -> Fault | None:
        if meant in piece.data and not seen:
            seen.append(piece.data)
            running.send_signal(signal.SIGINT)
            return Fault(kind="delay", seconds=0.5)
        return None

    with TcpProxy(postgres_server.port, interrupt) as proxy:
        monkeypatch.setenv("WAREHOUSE_URL", postgres_server.dsn(database, port=proxy.port))
        running = subprocess.Popen(
            [PROGRAM, "sync", "--source", "shop"], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )  # fmt: skip
        out, err = running.communicate(timeout=60)
    assert (running.returncode, seen != []) == (130, True), err
    assert "interrupted" in err
    assert "PostgreSQL" not in out + err
    there = "select count(*) from pg_namespace where nspname in ('shop', 'after_shop')"
    assert postgres_server.psql(there, database=database) == "0"


# --- What mirrors mean for other commands ---------------------------------------------------------


def test_a_query_imports_nothing_of_mirrors(project: Project, tmp_path: Path) -> None:
    home = project(disk=folder(tmp_path / "disk"))
    code = (
        "import sys; from lakehouse.cli import main\n"
        "try: main(['query', 'select 1 from shop.products'])\n"
        "except SystemExit as done: assert not done.code\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('sync', 'ingest', 'dlt', 'fsspec')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_prune_waits_for_packs_to_be_mirrored(many_loads: Path, tmp_path: Path) -> None:
    home = many_loads
    disk, database = folder(tmp_path / "disk"), 'url = "postgresql://127.0.0.1:9/db"'
    configure(home, disk=disk, nas=folder(tmp_path / "nas"), warehouse=database)
    run("sync", "disk", cwd=home).ok()
    run("pack", cwd=home).ok()
    parts = len(list((home / "lake" / "s").rglob("*.parquet")))
    refused = run("prune", cwd=home).failed(2, "`lakehouse sync disk nas`", "--not-mirrored")
    assert "'disk' lacks 1 commit with packs of s, known to be at load 30" in refused.err
    configure(home, disk=disk, warehouse=database)
    assert len(list((home / "lake" / "s").rglob("*.parquet"))) == parts
    assert run("prune", "--dry-run", "--json", cwd=home).ok().json[0]["parts"]
    run("sync", "disk", cwd=home).ok()
    assert "deleted 30 parts" in run("prune", cwd=home).ok().out
    assert run("prune", cwd=home).ok().out == "nothing to prune\n"
    assert "nothing to do" in run("sync", "disk", cwd=home).ok().out


def test_prune_goes_on_without_a_mirror_when_told_to(many_loads: Path, tmp_path: Path) -> None:
    home = many_loads
    configure(home, disk=folder(tmp_path / "disk"))
    run("pack", cwd=home).ok()
    run("prune", cwd=home).failed(2, "known to be at load 0")
    assert "deleted 30 parts" in run("prune", "--not-mirrored", cwd=home).ok().out
    assert "31 loads, 2 files, " in run("sync", cwd=home).ok().out
    assert "all as committed" in run("verify", "--lake", tmp_path / "disk").ok().out


@pytest.fixture
def many_loads(tmp_path: Path) -> Path:
    """A project whose lake has thirty loads of `s.t`, each in a part of its own."""
    home = tmp_path / "many"
    configure(home)
    more = BulkLoad(Lake.create(home / "lake"), "s", "t", key=["id"])
    for n in range(30):
        rows = [{"id": i, "v": n if i == n % 5 else 0} for i in range(5)]
        more.observe(
            rows, observed_at=datetime(2026, 1, 1, n % 24, n, tzinfo=UTC) + timedelta(days=n), load_id=f"v{n}"
        )
        more.flush()
    return home


def test_what_may_be_written_about_mirrors_is_in_the_guide() -> None:
    guide = (ROOT / "docs" / "sync.md").read_text(encoding="utf-8")
    commands = [sync_command, *sync_command.commands.values(), restore_command]
    for option in (option for command in commands for param in command.params for option in param.opts):
        assert option in guide or option in ("mirrors", "mirror", "place", "folder", "--lake")
    for setting in settings.KNOWN:
        assert setting in guide
