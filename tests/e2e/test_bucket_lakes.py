"""`--lake gs://…` and `s3://…`: the command line straight on a bucket, and several machines on one lake."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import uuid4

import pytest
from command import Done, program, run

from lakehouse import Lake

KINDS = ("gs", "s3")
LOADS = 3  # of each worker
WORKER = """
import sys
from lakehouse import Lake
from lakehouse.errors import ContentionError
place, source, name = sys.argv[1:]
lake = Lake.open(place)
sys.stdin.readline()
done = 0
for n in range(3):
    try:
        with lake.load(source, load_id=f"{name}-{n}") as load:
            load.write("added", [{"who": name, "n": n}])
            load.write("newest", [{"id": 1, "who": name, "n": n}], disposition="merge", primary_key="id")
        done += 1
    except ContentionError as error:
        print(error, file=sys.stderr)
print(done)
"""


@pytest.fixture(params=KINDS)
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Mapping[str, str]]:
    """The URL of a lake to be, and the environment in which a user's programs reach it."""
    server = request.getfixturevalue("gcs_server" if request.param == "gs" else "s3_server")
    variables = {
        "gs": {"STORAGE_EMULATOR_HOST": server},
        "s3": {
            "AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        },
    }[request.param]  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return f"{request.param}://lakes/{uuid4().hex[:12]}/lake", variables


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """Five days of two products, the first of which changes its price."""
    folder = tmp_path / "versions"
    folder.mkdir()
    for day in range(1, 6):
        rows = [{"sku": "a", "price": day}, {"sku": "b", "price": 2}]
        (folder / f"2026-10-0{day}.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a scraper and two models."""
    folder = tmp_path / "project"
    run("init", folder).ok()
    (folder / "ingest" / "sources" / "counter.py").write_text(
        "import dlt\n@dlt.source\ndef counter():\n"
        "    @dlt.resource(write_disposition='append')\n"
        "    def events(n=dlt.sources.incremental('n', initial_value=0)):\n"
        "        yield [{'n': n.last_value + 1}]\n"
        "    return events\n"
    )
    (folder / "models" / "highest.sql").write_text(
        "-- kind: table\nselect sku, max(price) as price from shop.products_history group by sku\n"
    )
    (folder / "models" / "cheap.sql").write_text("select * from shop.products where price < 3\n")
    return folder


def test_every_command_works_straight_on_a_bucket(
    bucket: tuple[str, Mapping[str, str]], versions: Path, project: Path
) -> None:
    lake = bucket[0]

    def do(*args: object) -> Done:
        return run("--lake", lake, *args, cwd=project).ok()

    def asked(sql: str, *options: object) -> list[object]:
        return do("query", *options, "--format", "jsonl", sql).jsonl

    do("import", "files", versions, "--source", "shop", "--table", "products", "--key", "sku")
    for n in (1, 2):
        do("ingest")
        assert asked("select max(n) as n from counter.events") == [{"n": n}]
    price = "select price from shop.products where sku = 'a'"
    assert asked(price) == [{"price": 5}]
    assert asked(price, "--as-of", "2026-10-03") == [{"price": 3}]
    do("tag", "create", "then")
    do("build")
    assert "up to date" in do("build").out
    assert asked("select * from models.cheap") == [{"sku": "b", "price": 2}]
    do("revert", "shop", "--to", 2)
    assert asked(price) == [{"price": 2}]
    assert asked(price, "--as-of", "then") == [{"price": 5}]
    do("build")
    assert asked("select * from models.cheap order by sku") == [
        {"sku": "a", "price": 2},
        {"sku": "b", "price": 2},
    ]
    assert [load["seq"] for load in do("log", "shop", "--json").json] == [1, 2, 3, 4, 5, 6]
    assert "reverted" in do("log", "shop").out
    assert "5" in do("history", "shop.products", "--key", "a").out
    assert "1 -> 5" in do("diff", "shop.products", "--from", 1, "--to", 5).out
    do("verify")
    do("pack")
    do("prune")
    do("verify")
    assert asked(price, "--as-of", "2026-10-04") == [{"price": 4}]
    for words in (["tables"], ["show", "shop.products"], ["schema", "shop.products"], ["lineage"], ["tag", "list"],
                  ["quarantine", "list"], ["refresh"], ["doctor"], ["expire"]):  # fmt: skip
        do(*words)


def test_the_installed_program_reads_a_bucket(bucket: tuple[str, Mapping[str, str]], tmp_path: Path) -> None:
    with Lake.create(bucket[0]).load("shop") as load:
        load.write("products", [{"sku": "a"}])
    done = program(
        "query", "--lake", bucket[0], "--format", "csv", "select * from shop.products", cwd=tmp_path
    )
    assert done.ok().out == "sku\na\n"
    assert not done.err
    program("query", "--lake", f"{bucket[0]}-not", "select 1").failed(2, "no lake")


@pytest.fixture
def at_once(tmp_path: Path) -> Callable[..., list[tuple[int, str]]]:
    """Runs workers that begin to load when all of them are there; how much each loaded, and what it said."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)

    def go(place: str, *named: tuple[str, str]) -> list[tuple[int, str]]:
        workers = [
            subprocess.Popen(
                [sys.executable, script, place, *words],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for words in named
        ]  # fmt: skip
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
        said = [worker.communicate(timeout=120) for worker in workers]
        assert [worker.returncode for worker in workers] == [0] * len(workers), said
        return [(int(out), err) for out, err in said]

    return go


def test_several_machines_write_one_lake(
    bucket: tuple[str, Mapping[str, str]], at_once: Callable[..., list[tuple[int, str]]]
) -> None:
    """Of different sources nobody waits for another; of the same one each load is there once, or was refused."""
    lake = Lake.create(bucket[0])
    done = dict(zip("xyz", at_once(bucket[0], ("one", "x"), ("one", "y"), ("two", "z")), strict=True))
    assert lake.sources() == ["one", "two"]
    assert done["z"] == (LOADS, "")
    assert [c.load_id for c in lake.log("two").commits] == [f"z-{n}" for n in range(LOADS)]
    commits = lake.log("one").commits
    ids = [c.load_id for c in commits]
    assert len(set(ids)) == len(ids) == done["x"][0] + done["y"][0]
    for name in "xy":
        mine = [load_id for load_id in ids if load_id.startswith(name)]
        assert mine == sorted(mine)
        assert len(mine) == LOADS or "somebody else" in done[name][1]
    rows = lake.query("select count(*), count(distinct row(who, n)) from one.added").fetchall()
    assert rows == [(len(ids), len(ids))]
    for seq, load_id in enumerate(ids, 1):
        by, _, n = load_id.partition("-")
        assert lake.query(f"select who, n from one.newest_at({seq})").fetchall() == [(by, int(n))]
    run("--lake", bucket[0], "verify").ok()


@pytest.mark.parametrize("bucket", ["gs"], indirect=True)
@pytest.mark.parametrize("damage", ["damaged", "gone"])
def test_a_query_of_a_damaged_part_says_so_and_nothing_else(
    damage: str, bucket: tuple[str, Mapping[str, str]], tmp_path: Path
) -> None:
    lake = Lake.create(bucket[0])
    for n in range(3):
        with lake.load("shop", load_id=str(n)) as load:
            load.write("products", [{"sku": "a", "n": n}], disposition="append")
    part = lake.log("shop").tables["products"].files[1]
    if damage == "gone":
        lake.store.delete(part.path)
    else:
        lake.store.put(part.path, b"x" * part.size_bytes)
    done = program("query", "--lake", bucket[0], "select * from shop.products", cwd=tmp_path, **bucket[1])
    done.failed(4, part.path)
    assert "nanobind" not in done.err
