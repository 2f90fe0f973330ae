"""Every command of `lakehouse`, as a user runs it; queries and imports have files of their own."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import duckdb
import pytest
from command import Done, program, run
from truth import ROOT

from lakehouse import Lake
from lakehouse.cli import COMMANDS, cli


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All commands, and the commands of commands."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = sorted(commands())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_is_run_by_a_test(path: tuple[str, ...]) -> None:
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    called = r"(?:run|program|ask)\(\s*" + r",\s*".join(f'"{name}"' for name in path)
    assert re.search(called, tests), f"no end-to-end test runs: lakehouse {' '.join(path)}"


@pytest.mark.parametrize("path", [(), *ALL], ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    for option in ("--help", "-h"):
        said = run(*path, option).ok().out
        assert said.startswith("Usage: ")
    assert len(path) > 1 or not path or COMMANDS[path[0]][1] in " ".join(run("--help").out.split())


def test_the_version_is_told() -> None:
    assert re.fullmatch(r"lakehouse, version \d+\.\d+\.\d+\S*\n", program("--version").ok().out)


def test_wrong_commands_are_errors() -> None:
    run("ingset").failed(2, "No such command 'ingset'")
    run("query", "--nope").failed(2, "No such option")
    run("query", "--format", "xml", "select 1").failed(2, "'xml' is not one of")
    run("import", "svn").failed(2, "No such command")


# --- Looking ------------------------------------------------------------------------------------


def test_tables_are_listed(three_loads: Path) -> None:
    found = {table["table"]: table for table in run("tables", "--json", "--lake", three_loads).ok().json}
    assert list(found) == ["news.items", "shop.products"]
    assert found["shop.products"]["rows"] == 1
    assert found["shop.products"]["key"] == ["sku"]
    assert found["shop.products"]["effective_at"] == "2026-03-03T12:00:00.000000Z"
    drawn = run("tables", "--lake", three_loads).ok().out
    assert "shop.products" in drawn
    assert "2026-03-03 12:00:00" in drawn


def test_the_log_is_listed(three_loads: Path) -> None:
    loads = run("log", "--json", "--lake", three_loads).ok().json
    assert sorted((load["source"], load["seq"]) for load in loads) == [
        ("news", 1),
        ("shop", 1),
        ("shop", 2),
        ("shop", 3),
    ]
    assert all(load["outcome"] == "loaded" and len(load["digest"]) == 64 for load in loads)
    assert [load["seq"] for load in run("log", "shop", "-n", "2", "--json", "--lake", three_loads).json] == [
        2,
        3,
    ]
    assert run("log", "shop", "--failed", "--json", "--lake", three_loads).json == []
    drawn = run("log", "shop", "--lake", three_loads).ok().out
    assert "products +1 ~1 -1 (2 rows)" in drawn
    run("log", "nope", "--lake", three_loads).failed(2, "there is no source 'nope'", "news, shop")


def test_a_table_is_shown(three_loads: Path) -> None:
    found = run("show", "shop.products", "--json", "--lake", three_loads).ok().json
    assert found["loads"] == 3
    columns = {column["name"]: column for column in found["columns"]}
    assert list(columns) == ["sku", "price", "tags", "size"]
    assert columns["size"]["types"][0]["from_seq"] == 1
    assert len(columns["size"]["types"]) > 1
    drawn = run("show", "shop.products", "--lake", three_loads).ok().out
    assert "1 row, replace, key sku" in drawn
    assert "list<string>" in drawn
    run("show", "shop.nope", "--lake", three_loads).failed(2, "no table 'nope'", "shop.products")
    run("show", "nope.products", "--lake", three_loads).failed(2, "no source 'nope'")
    run("show", "nope", "--lake", three_loads).failed(2)


def test_the_lake_may_be_named_before_and_after_the_command(three_loads: Path) -> None:
    assert (
        run("--lake", three_loads, "tables", "--json").ok().out
        == run("tables", "--json", "--lake", three_loads).out
    )
    assert program("tables", "--json", "--lake", f"file://{three_loads}").ok().json
    run("tables", "--lake", three_loads / "nowhere").failed(2, "there is no lake here")
    assert not (three_loads / "nowhere").exists()


@pytest.mark.parametrize(
    "command",
    [
        "ingest",
        "query select",
        "log",
        "tables",
        "show a.b",
        "schema a.b",
        "refresh",
        "verify",
        "tag list",
        "tag create t",
        "revert a --to 1",
        "quarantine list",
    ],
)
def test_outside_of_a_project_every_command_says_so(command: str, tmp_path: Path) -> None:
    run(*command.split(), cwd=tmp_path).failed(
        2, "no lakehouse project here or above", "lakehouse init DIR", "--lake"
    )
    assert list(tmp_path.iterdir()) == []


def test_refresh_writes_the_catalog_anew(own_lake: Path) -> None:
    said = run("refresh", "--lake", own_lake).ok().out
    catalog = own_lake.with_name("lakehouse.duckdb")
    assert said == f"{catalog}: views over 2 sources\n"
    before = catalog.stat().st_ino
    run("refresh", "--lake", own_lake).ok()
    assert catalog.stat().st_ino != before


# --- Tags ---------------------------------------------------------------------------------------


def test_a_tag_names_a_moment_of_the_whole_lake(own_lake: Path) -> None:
    named = run(
        "tag", "create", "before-c", "--as-of", "2026-03-01T12:00:00Z", "--note", "why", "--lake", own_lake
    )
    assert named.ok().out == "before-c: shop load 1\n"
    made = run("tag", "create", "all", "--json", "--lake", own_lake).ok().json
    assert {source: place["seq"] for source, place in made["positions"].items()} == {"news": 1, "shop": 3}
    assert [tag["name"] for tag in run("tag", "list", "--json", "--lake", own_lake).ok().json] == [
        "all",
        "before-c",
    ]
    assert "news load 1, shop load 3" in run("tag", "list", "--lake", own_lake).ok().out
    assert run("tag", "show", "all", "--json", "--lake", own_lake).ok().json == made
    assert made["positions"]["shop"]["digest"] in run("tag", "show", "all", "--lake", own_lake).ok().out
    skus = "select string_agg(sku, '' order by sku) as skus, (select count(*) from news.items) as n from shop.products"
    asked = run("query", "--as-of", "before-c", "--format", "jsonl", "--lake", own_lake, skus).ok().jsonl
    assert asked == [{"skus": "ab", "n": 0}]
    at = skus.replace("shop.products", "shop.products_at('before-c')")
    assert run("query", "--format", "jsonl", "--lake", own_lake, at).ok().jsonl == [{"skus": "ab", "n": 1}]
    run("query", "--as-of", "befor-c", "--lake", own_lake, skus).failed(2, "Did you mean before-c?")


def test_a_name_of_a_tag_is_never_moved_but_may_be_deleted(own_lake: Path) -> None:
    run("tag", "create", "t", "--lake", own_lake).ok()
    run("tag", "create", "t", "--lake", own_lake).ok()
    run("tag", "create", "t", "--as-of", "1", "--lake", own_lake).failed(2, "never moved", "tag delete t")
    run("tag", "create", "today", "--lake", own_lake).failed(2, "a word for an instant")
    run("tag", "create", "2026", "--lake", own_lake).failed(2, "cannot be the name of a tag")
    run("tag", "create", "u", "--as-of", "4", "--lake", own_lake).failed(2, "the longest log ends at 3")
    run("tag", "create", "u", "--as-of", "2999-01-01", "--lake", own_lake).failed(2, "yet to come")
    assert "still there" in run("tag", "delete", "t", "--lake", own_lake).ok().out
    run("tag", "delete", "t", "--lake", own_lake).failed(2, "no tag 't'")
    run("tag", "show", "t", "--lake", own_lake).failed(2, "no tag 't'")
    run("query", "--as-of", "t", "--lake", own_lake, "select 1").failed(2, "nor a tag")


def test_a_plain_client_has_the_tags(own_lake: Path) -> None:
    run("tag", "create", "one", "--as-of", "1", "--lake", own_lake).ok()
    with duckdb.connect(str(own_lake.with_name("lakehouse.duckdb")), read_only=True) as plain:
        assert plain.execute("select source, seq from tags order by 1").fetchall() == [
            ("news", 1),
            ("shop", 1),
        ]
        assert plain.execute("select count(*) from shop.products_at('one')").fetchall() == [(2,)]
        plain.execute("set variable lakehouse_as_of = 'one'")
        assert plain.execute("select count(*) from shop.products").fetchall() == [(2,)]
        with pytest.raises(duckdb.Error, match="as of two: is neither an instant"):
            plain.execute("select * from shop.products_at('two')")


def test_verify_notices_tags_that_are_not_what_they_were(own_lake: Path) -> None:
    for name in ("forked", "short", "torn"):
        run("tag", "create", name, "--lake", own_lake).ok()
    digest = Lake.open(own_lake).log("shop").commits[2].digest
    forked, short, torn = (own_lake / "_tags" / f"{name}.json" for name in ("forked", "short", "torn"))
    forked.write_text(forked.read_text().replace(digest, "0" * 64))
    short.write_text(short.read_text().replace('"seq":3', '"seq":5'))
    torn.write_text("{")
    report = run("verify", "--json", "--lake", own_lake)
    assert report.code == 4
    assert sorted(error["kind"] for error in report.json["errors"]) == [
        "ForkError",
        "ForkError",
        "FormatError",
    ]
    assert "tag short: load 5 of shop" in " ".join(error["message"] for error in report.json["errors"])
    assert "warning: _tags/torn.json" in run("tag", "list", "--lake", own_lake).ok().err
    run("query", "--as-of", "torn", "--lake", own_lake, "select 1").failed(4, "_tags/torn.json: is not a tag")
    only = run("verify", "news", "--json", "--lake", own_lake).json["errors"]
    assert [error["kind"] for error in only] == ["FormatError"]


# --- Reverts and drift --------------------------------------------------------------------------

PRODUCTS = "select * from shop.products order by sku"


def test_a_revert_restores_an_earlier_state_by_a_new_load(own_lake: Path) -> None:
    def products(*options: object) -> str:
        return run("query", "--format", "jsonl", *options, "--lake", own_lake, PRODUCTS).ok().out

    before = {n: products("--as-of", n) for n in (1, 2, 3)}
    planned = run("revert", "shop", "--to", "1", "--dry-run", "--json", "--lake", own_lake).ok().json
    assert planned["tables"] == {
        "products": {
            "rows_now": 1,
            "rows_then": 2,
            "rows": 2,
            "appeared": 2,
            "changed": 0,
            "disappeared": 1,
            "unchanged": 0,
        }
    }
    said = run("revert", "shop", "--to", "1", "--dry-run", "--lake", own_lake).ok().out
    assert said == "shop.products: +2 -1 (1 row now, 2 rows then)\n"
    assert products() == before[3]

    done = run("revert", "shop", "--to", "2026-03-01T12:00:00Z", "--lake", own_lake).ok().out
    assert done == "shop: load 4: reverted to load 1; products +2 -1 (2 rows)\n"
    assert products() == before[1]
    assert {n: products("--as-of", n) for n in (1, 2, 3)} == before
    assert "reverted to load 1; products +2 -1" in run("log", "shop", "--lake", own_lake).out
    assert run("log", "shop", "-n", "1", "--json", "--lake", own_lake).json[0]["reverts_to"] == 1

    again = run("revert", "shop", "--to", "1", "--lake", own_lake).ok().out
    assert again == "shop: is in the state of 1 already; nothing to do\n"
    assert "nothing to do" in run("revert", "shop", "--to", "1", "--dry-run", "--lake", own_lake).ok().out
    run("tag", "create", "c-only", "--as-of", "3", "--lake", own_lake).ok()
    undone = (
        run("revert", "shop", "--to", "c-only", "--table", "products", "--json", "--lake", own_lake).ok().json
    )
    assert (undone["seq"], undone["reverts_to"]) == (5, 3)
    assert products() == before[3]
    assert "all as committed" in run("verify", "--lake", own_lake).ok().out


def test_a_revert_to_what_is_not_there_publishes_nothing(own_lake: Path) -> None:
    run("revert", "shop", "--lake", own_lake).failed(2, "--to")
    run("revert", "shop", "--to", "9", "--lake", own_lake).failed(2, "there is no load 9; the log ends at 3")
    run("revert", "news", "--to", "2", "--lake", own_lake).failed(2, "there is no load 2; the log ends at 1")
    run("revert", "shop", "--to", "soon", "--lake", own_lake).failed(2, "nor a tag")
    run("revert", "nope", "--to", "1", "--lake", own_lake).failed(2, "no source 'nope'", "news, shop")
    run("revert", "shop", "--to", "1", "--table", "x", "--lake", own_lake).failed(
        2, "no table 'x'", "products"
    )
    assert len(run("log", "--json", "--lake", own_lake).json) == 4


def test_the_schema_is_told_over_time(three_loads: Path) -> None:
    found = run("schema", "shop.products", "--json", "--lake", three_loads).ok().json
    assert [(e["seq"], e["what"], e.get("column")) for e in found] == [
        (1, "began", None), (1, "key", None), (1, "came", "sku"), (1, "came", "price"), (1, "came", "tags"),
        (1, "came", "size"), (3, "type", "size"),
    ]  # fmt: skip
    assert found[-1]["effective_at"] == "2026-03-03T12:00:00.000000Z"
    drawn = run("schema", "shop.products", "--lake", three_loads).ok().out
    assert "shop.products: 4 columns, 0 gone; 3 loads, of which 2 changed the shape" in drawn
    assert "fields +h int64, w int64 -> float64" in drawn
    run("schema", "shop.nope", "--lake", three_loads).failed(2, "no table 'nope'")


def test_the_drift_of_a_real_history_is_told(unpacked: Callable[[str], Path], tmp_path: Path) -> None:
    """Versions 1240 to 1260 and 1648 to 1690: a column comes at 1253, and later comes and goes."""
    folder = unpacked("quick-ca-fires-drift")
    options = ("--source", "fires", "--table", "t", "--rows", "Incidents", "--key", "UniqueId")
    run("import", "files", folder, *options, "--lake", tmp_path / "lake").ok()
    found = run("schema", "fires.t", "--json", "--lake", tmp_path / "lake").ok().json
    assert {e["column"] for e in found if e["seq"] > 1} == {"ExternalIncidentLink"}
    changes = [e for e in found if e["seq"] > 1 and e["what"] != "type"]
    assert (changes[0]["seq"], changes[0]["what"]) == (1253 - 1240 + 1, "came")
    flips, there = [], False
    for seq, path in enumerate(sorted(folder.glob("*.json")), 1):
        rows = json.loads(path.read_text())["Incidents"]
        if rows and there != any("ExternalIncidentLink" in row for row in rows):
            there = not there
            flips.append(seq)
    assert [e["seq"] for e in changes] == flips
    assert len(run("schema", "fires.t", "--lake", tmp_path / "lake").ok().out.splitlines()) < 45


# --- Verify and doctor --------------------------------------------------------------------------


def test_a_whole_lake_verifies(three_loads: Path) -> None:
    assert "all as committed" in run("verify", "--lake", three_loads).ok().out
    report = run("verify", "shop", "--json", "--lake", three_loads).ok().json
    assert report["sources"] == {"shop": 3}
    assert (report["ok"], report["errors"], report["orphans"]) == (True, [], [])
    run("verify", "nope", "--lake", three_loads).failed(2, "nope")


def test_one_flipped_byte_is_found(own_lake: Path) -> None:
    part = min((own_lake / "shop" / "products").rglob("*.parquet"))
    raw = bytearray(part.read_bytes())
    raw[len(raw) // 2] ^= 1
    part.write_bytes(raw)
    done = run("verify", "--lake", own_lake)
    assert done.code == 4
    assert part.name in done.out
    assert "DamagedPartError" in done.out
    report = run("verify", "--json", "--lake", own_lake)
    assert report.code == 4
    assert [error["kind"] for error in report.json["errors"]] == ["DamagedPartError"]
    assert program("verify", "--lake", own_lake).code == 4


def test_an_altered_commit_is_found(own_lake: Path) -> None:
    log = min((own_lake / "shop" / "_log").iterdir())
    log.write_bytes(log.read_bytes().replace(b"2026-03-01", b"2026-03-02", 1))
    done = run("verify", "--json", "--lake", own_lake)
    assert done.code == 4
    assert done.json["sources"] == {"news": 1}
    assert run("verify", "news", "--lake", own_lake).code == 0


def test_what_no_commit_names_is_no_error(own_lake: Path) -> None:
    (own_lake / "shop" / "products" / "left.parquet").write_bytes(b"of a run that died")
    report = run("verify", "--json", "--lake", own_lake).ok().json
    assert report["orphans"] == ["shop/products/left.parquet"]
    assert "harmless" in run("verify", "--lake", own_lake).ok().out


def test_doctor_tells_what_it_finds(own_lake: Path) -> None:
    def found(code: int = 0) -> dict[str, dict[str, Any]]:
        done = run("doctor", "--json", "--lake", own_lake)
        assert done.code == code
        return {finding["what"]: finding for finding in done.json}

    before = found()
    assert before["catalog"]["do"] == "Run: lakehouse refresh"
    assert before["lake"]["found"] == str(own_lake)
    assert before["source shop"]["found"].startswith("3 loads, newest 2026-03-03")
    run("refresh", "--lake", own_lake).ok()
    assert found()["catalog"]["ok"]
    log = max((own_lake / "shop" / "_log").iterdir())
    log.write_bytes(log.read_bytes()[:-9])
    after = found(6)
    assert after["source shop"]["ok"] is False
    assert after["source news"]["ok"]
    assert "NO" in run("doctor", "--lake", own_lake).out


def test_doctor_outside_of_a_project_and_without_a_lake(tmp_path: Path) -> None:
    done = run("doctor", "--json", cwd=tmp_path)
    assert done.code == 6
    assert {f["what"]: f["do"] for f in done.json}["project"].startswith("Make one with `lakehouse init DIR`")
    none = run("doctor", "--json", "--lake", tmp_path / "none")
    assert {f["what"]: f["do"] for f in none.json}["lake"] == "Run: lakehouse ingest"
    assert not (tmp_path / "none").exists()


# --- A project of one's own ---------------------------------------------------------------------


@dataclass(slots=True)
class Site:
    """A web site of one JSON document, and what it answers just now."""

    url: str = ""
    rows: Any = field(default_factory=list)
    status: int = 200


@pytest.fixture
def site() -> Iterator[Site]:
    """A web site on loopback."""
    answers = Site(rows=[{"id": n, "name": f"station {n}"} for n in range(12)])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers.rows).encode()
            self.send_response(answers.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Not to the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answers.url = f"http://127.0.0.1:{server.server_port}/stations.json"
        yield answers
        server.shutdown()


@pytest.fixture
def project(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new project with the example scraper copied and edited, as its text says, to `metro`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "my project"
    run("init", folder).ok()
    sources = folder / "ingest" / "sources"
    text = (sources / "_example.py").read_text().replace("https://example.org/stations.json", site.url)
    (sources / "metro.py").write_text(re.sub(r"\bNAME\b", "metro", text))
    return folder


def names(project: Path) -> list[str]:
    sql = "select name from metro.stations order by id"
    return [row["name"] for row in run("query", "--format", "jsonl", sql, cwd=project).ok().jsonl]


def test_init_makes_a_project(tmp_path: Path) -> None:
    said = run("init", tmp_path / "new").ok().out
    assert "a new project with an empty lake" in said
    made = sorted(
        path.relative_to(tmp_path / "new").as_posix()
        for path in (tmp_path / "new").rglob("*")
        if path.is_file()
    )
    assert made == [
        ".gitignore",
        "ingest/sources/_example.py",
        "lake/lakehouse.json",
        "models/_example.sql",
        "pyproject.toml",
    ]
    run("init", tmp_path / "new").failed(2, "already exists", "[tool.lakehouse]")
    run("ingest", cwd=tmp_path / "new").failed(2, "no scrapers")
    assert run("tables", "--json", cwd=tmp_path / "new").ok().json == []
    (tmp_path / "here").mkdir()
    run("init", cwd=tmp_path / "here").ok()
    assert (tmp_path / "here" / "pyproject.toml").is_file()
    run("doctor", cwd=tmp_path / "here").ok()


def test_a_scraper_that_is_dropped_in_is_ingested(project: Path, site: Site) -> None:
    done = run("ingest", cwd=project).ok()
    assert "metro: load 1, " in done.out
    assert "stations +12 (12 rows)" in done.out
    assert len(names(project)) == 12
    site.rows[3]["name"] = "renamed"
    said = run("ingest", "metro", "--json", cwd=project).ok().json
    assert [load["outcome"] for load in said[0]["loads"]] == ["loaded"]
    assert names(project)[3] == "renamed"
    assert [load["outcome"] for load in run("ingest", "--json", cwd=project).ok().json[0]["loads"]] == [
        "unchanged"
    ]
    before = run(
        "query",
        "--as-of",
        "1",
        "--format",
        "csv",
        "select name from metro.stations where id = 3",
        cwd=project,
    )
    assert before.out == "name\nstation 3\n"
    run("verify", cwd=project).ok()
    run("ingest", "subway", cwd=project).failed(2, "there is no scraper", "metro")


def test_commands_work_from_folders_below(project: Path) -> None:
    below = project / "ingest" / "sources"
    run("ingest", cwd=below).ok()
    assert len(names(below)) == 12
    assert run("tables", "--json", cwd=below).json[0]["table"] == "metro.stations"
    assert (project / "lake").is_dir()
    assert (project / "lakehouse.duckdb").is_file()
    assert not (below / "lake").exists()


def test_another_lake_can_be_ingested_into(project: Path, tmp_path: Path) -> None:
    run("ingest", "--lake", tmp_path / "elsewhere", cwd=project).ok()
    assert Lake.open(project / "lake").sources() == []
    assert Lake.open(tmp_path / "elsewhere").sources() == ["metro"]


def test_one_source_that_fails_does_not_stop_the_others(project: Path, site: Site) -> None:
    sources = project / "ingest" / "sources"
    (sources / "broken.py").write_text(
        "import dlt\n\n@dlt.resource\ndef broken():\n    raise ValueError('no such page')\n    yield\n"
    )
    (sources / "wrong.py").write_text("import nothing_that_exists\n")
    done = run("ingest", cwd=project)
    assert done.code == 7
    assert "2 of 3 sources failed" in done.err
    assert "broken.py:5" in done.err
    assert "no such page" in done.err
    assert "nothing_that_exists" in done.err
    assert "Traceback" not in done.err
    assert len(names(project)) == 12
    site.status = 500
    again = run("ingest", "metro", cwd=project)
    assert again.code == 7
    assert "500" in again.err
    assert "Traceback" not in again.err
    assert len(names(project)) == 12


Refuse = Callable[[Any], tuple[Done, str]]


@pytest.fixture
def refuse(project: Path, site: Site) -> Refuse:
    """Ingests rows that a gate refuses; returns what the command said, and the load's id."""
    run("ingest", cwd=project).ok()

    def scrape(rows: Any) -> tuple[Done, str]:
        site.rows = rows
        done = run("ingest", cwd=project)
        waiting = run("quarantine", "list", "--json", cwd=project).ok().json
        return done, waiting[-1]["load_id"]

    return scrape


def test_an_empty_scrape_erases_nothing(project: Path, refuse: Refuse) -> None:
    done, load = refuse([])
    done.failed(3, "the snapshot is empty, the one before has 12 rows", f"quarantine approve {load}")
    assert len(names(project)) == 12
    assert load in run("quarantine", "list", cwd=project).ok().out
    shown = run("quarantine", "show", load, "--json", cwd=project).ok().json
    assert shown["rows"] == {"stations": 0}
    assert "quarantine" in run("doctor", cwd=project).out
    said = run("quarantine", "discard", load, cwd=project).ok().out
    assert "is discarded" in said
    assert run("quarantine", "list", "--json", cwd=project).json == []
    run("quarantine", "show", load, cwd=project).failed(2, "no load in quarantine has this id")
    assert len(names(project)) == 12
    run("verify", cwd=project).ok()


def test_a_refused_load_can_be_approved(project: Path, refuse: Refuse) -> None:
    done, load = refuse([{"id": 1, "name": "the only one"}])
    done.failed(3, "1 rows, 92% fewer than the 12 before")
    assert "the only one" in run("quarantine", "show", load, cwd=project).ok().out
    assert "published as load 2" in run("quarantine", "approve", load, cwd=project).ok().out
    assert names(project) == ["the only one"]
    assert run("quarantine", "list", "--json", cwd=project).json == []
    run("quarantine", "approve", load, cwd=project).failed(2, "no load in quarantine")
    run("verify", cwd=project).ok()


def test_duplicate_keys_are_refused_and_cannot_be_approved(project: Path, refuse: Refuse, site: Site) -> None:
    done, load = refuse([{"id": n // 2, "name": "x"} for n in range(24)])
    done.failed(3, "12 duplicate primary keys")
    run("quarantine", "approve", load, cwd=project).failed(2, "cannot be published")
    assert len(names(project)) == 12
    site.rows = [{"id": n, "name": "new"} for n in range(12)]
    run("ingest", cwd=project).ok()
    run("quarantine", "approve", load, cwd=project).failed(2, "was published after it was refused")
    assert names(project) == ["new"] * 12


def test_gates_are_set_in_the_project(project: Path, site: Site) -> None:
    config = project / "pyproject.toml"
    config.write_text(config.read_text() + "\n[tool.lakehouse.sources.metro.gates]\nallow_empty = true\n")
    run("ingest", cwd=project).ok()
    site.rows = []
    run("ingest", cwd=project).ok()
    assert names(project) == []
    config.write_text(config.read_text() + "\n[tool.lakehouse.nope]\n")
    run("tables", cwd=project).failed(2, "unknown setting 'nope'")
    config.write_text("[tool.lakehouse")
    run("tables", cwd=project).failed(2, "is not valid TOML")
    config.write_text("[tool.lakehouse]\ngates = {max_drop = 7}\n")
    run("tables", cwd=project).failed(2, "max_drop is 7")


# --- just ---------------------------------------------------------------------------------------


def recipes() -> dict[str, Any]:
    just = Path(sys.executable).with_name("just")
    if not just.exists():
        pytest.skip("just is not installed: uv sync")
    dumped = subprocess.run(
        [just, "--dump", "--dump-format", "json"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(dumped.stdout)["recipes"]
    return found


def test_just_lists_what_a_developer_does() -> None:
    found = recipes()
    assert {"ingest", "query", "test", "check", "fix", "soak", "bench"} <= found.keys()
    binaries = Path(sys.executable).parent
    listed = subprocess.run(
        [binaries / "just"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}"},
    ).stdout
    for name, recipe in found.items():
        assert recipe["private"] or re.search(rf"^    {name}\b.*# ", listed, re.MULTILINE), (
            f"{name} has no line on what it does"
        )


def test_just_passes_a_query_on_as_it_is(own_lake: Path, tmp_path: Path) -> None:
    recipes()
    (tmp_path / "justfile").write_text((ROOT / "justfile").read_text())
    (tmp_path / "pyproject.toml").write_text(f'[tool.lakehouse]\nlake = "{own_lake}"\n')
    binaries = Path(sys.executable).parent
    done = subprocess.run(
        [
            binaries / "just",
            "query",
            "--format",
            "csv",
            "select 'it''s  \"$HOME\" `x`' as a, count(*) as n from shop.products",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{binaries}:/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'a,n\n"it\'s  ""$HOME"" `x`",1\n'
