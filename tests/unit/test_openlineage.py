"""OpenLineage events: what a build tells, to whom, and what the official client's classes say of it."""

import importlib
import json
import os
import pkgutil
import threading
import types
import typing
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import attr
import pytest
from openlineage.client import generated
from openlineage.client.event_v2 import RunEvent

from lakehouse.errors import SetupError, UserError
from lakehouse.models import openlineage
from lakehouse.models.audit import Outcome
from lakehouse.models.openlineage import Emitter, Read, Run, dataset_name

RUN_ID, BUILD_ID = str(uuid4()), str(uuid4())
PRODUCTS = Read(
    name="shop.products", seq=12, digest="d" * 64, columns=(("sku", "VARCHAR"), ("price", "DOUBLE"))
)


def outcome(kind: str, *columns: str, failures: int = 0, severity: str = "error") -> Outcome:
    return Outcome(
        model="daily", test=f"{kind}({', '.join(columns)})", kind=kind, columns=columns, severity=severity,
        failures=failures, sample=None, statement="SELECT 1",
    )  # fmt: skip


WHOLE = Run(
    run_id=RUN_ID, build_id=BUILD_ID, model="daily", sql="select sku, price, now() as at from shop.products",
    description="What it costs.", inputs=(PRODUCTS, Read(name="models.seen", seq=None)),
    columns=(("sku", "VARCHAR"), ("price", "DOUBLE"), ("at", "TIMESTAMPTZ")), seq=4, digest="e" * 64, rows=80,
    lineage={"sku": ("shop.products.sku",), "price": ("shop.products.price", "models.seen.a.b"), "at": ()},
    tests=(outcome("unique", "sku", "at"), outcome("row_count"), outcome("sql", failures=3, severity="warn")),
    as_of=datetime(2026, 11, 1, tzinfo=UTC),
)  # fmt: skip


class Endpoint(ThreadingHTTPServer):
    """A lineage endpoint that keeps what it is sent."""

    daemon_threads = True

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], Any]] = []
        super().__init__(("127.0.0.1", 0), _Keep)
        self.url = f"http://127.0.0.1:{self.server_port}"

    @property
    def events(self) -> list[Any]:
        return [event for _, _, event in self.got]


class _Keep(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def tell(emitter: Emitter | None, *states: str, run: Run = WHOLE) -> None:
    assert emitter is not None
    with emitter:
        for state in states:
            if state == "failed":
                emitter.failed(run, "ValueError: no")
            else:
                getattr(emitter, state)(run)


def told(settings: Mapping[str, Any], env: Mapping[str, str] | None = None, **more: Any) -> Emitter | None:
    def never(text: str) -> None:
        raise AssertionError(text)

    return Emitter.from_settings(settings, env or {}, lake_url="/data/lake", **({"warn": never} | more))


# The classes that the official client generates from the specification, as a judge of JSON.


def spec() -> dict[str, type]:
    """Every class of the specification, by the address of its schema."""
    found = {}
    for module in pkgutil.iter_modules(generated.__path__):
        for value in vars(importlib.import_module(f"{generated.__name__}.{module.name}")).values():
            if attr.has(value) and "_get_schema" in vars(value):
                found[value._get_schema()] = value
    return found


SPEC = spec()


def check(kind: Any, value: Any, at: str = "event") -> None:
    """Fail unless a JSON value has all that the specification requires, nothing else, and of the right types."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        check(next(k for k in inside if k is not type(None)), value, at)
    elif origin is list:
        assert isinstance(value, list), at
        for number, item in enumerate(value):
            check(inside[0], item, f"{at}[{number}]")
    elif origin is dict:
        assert isinstance(value, dict), at
        for name, item in value.items():
            check(inside[1], item, f"{at}.{name}")
    elif attr.has(kind):
        assert isinstance(value, dict), at
        kind = SPEC[value["_schemaURL"]] if "_schemaURL" in value else kind
        hints = typing.get_type_hints(kind)
        fields = {field.name: field for field in attr.fields(kind)}
        assert set(value) <= set(fields), f"{at}: {set(value) - set(fields)}"
        told_by = {"_producer", "_schemaURL", "producer", "schemaURL"} & set(fields)
        required = {name for name, field in fields.items() if field.default is attr.NOTHING} | told_by
        assert required <= set(value), f"{at}: {required - set(value)}"
        for name, item in value.items():
            check(hints[name], item, f"{at}.{name}")
            if fields[name].validator is not None:
                fields[name].validator(None, fields[name], item)
    elif isinstance(kind, type) and kind is not object and kind.__module__ == "builtins":
        assert isinstance(value, kind), f"{at}: {value!r} is no {kind}"


def facet_names(event: Any) -> set[str]:
    boxes = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
    return {
        name
        for box in boxes
        for part in ("facets", "inputFacets", "outputFacets")
        for name in box.get(part, {})
    }


def test_events_are_what_the_specification_says(endpoint: Endpoint) -> None:
    tell(told({"url": endpoint.url}), "started", "finished", "failed")
    python = Run(run_id=str(uuid4()), model="top", language="python", sql="def top(): ...")
    tell(told({"url": endpoint.url}), "started", "finished", run=python)
    assert len(endpoint.events) == 3 + 2 * 2 + 2
    for event in endpoint.events:
        check(RunEvent, event)
        assert event["producer"].startswith("urn:lakehouse:")
        assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
        UUID(event["run"]["runId"])
    assert set().union(*map(facet_names, endpoint.events)) == {
        "processing_engine", "parent", "nominalTime", "errorMessage", "jobType", "sql", "sourceCode", "documentation",
        "schema", "version", "symlinks", "columnLineage", "outputStatistics", "dataQualityAssertions", "tags",
    }  # fmt: skip


@pytest.mark.parametrize(
    "damage",
    [
        lambda e: e.pop("producer"), lambda e: e["run"].update(runId="7"), lambda e: e.update(extra=1),
        lambda e: e["outputs"][0]["facets"]["schema"]["fields"][0].pop("name"),
        lambda e: e["outputs"][0]["outputFacets"]["outputStatistics"].update(rowCount="80"),
        lambda e: e["inputs"][0]["facets"]["version"].pop("_producer"),
    ],
)  # fmt: skip
def test_the_judge_of_events_can_say_no(tmp_path: Path, damage: Any) -> None:
    tell(told({"file": "x.jsonl"}, root=tmp_path), "finished")
    event = json.loads((tmp_path / "x.jsonl").read_text().splitlines()[0])
    check(RunEvent, event)
    damage(event)
    with pytest.raises((AssertionError, ValueError)):
        check(RunEvent, event)


def test_a_build_is_told_with_what_it_read_and_made(endpoint: Endpoint) -> None:
    tell(told({"url": endpoint.url, "namespace": "mine"}), "started", "finished")
    start, complete, tests_start, tests = endpoint.events
    assert [e["eventType"] for e in endpoint.events] == ["START", "COMPLETE", "START", "COMPLETE"]
    assert start["run"]["runId"] == complete["run"]["runId"] == RUN_ID
    assert complete["job"]["name"] == "models.daily"
    assert complete["job"]["namespace"] == "mine"
    assert complete["job"]["facets"]["sql"]["query"] == WHOLE.sql
    assert complete["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2026-11-01T00:00:00.000000Z"
    assert complete["run"]["facets"]["parent"]["run"]["runId"] == BUILD_ID
    products, seen = complete["inputs"]
    assert (products["namespace"], products["name"]) == ("file", "/data/lake/shop/products")
    assert products["facets"]["version"]["datasetVersion"] == f"12:{'d' * 64}"
    assert [f["name"] for f in products["facets"]["schema"]["fields"]] == ["sku", "price"]
    assert set(seen["facets"]) == {"symlinks"}
    (output,) = complete["outputs"]
    assert output["facets"]["version"]["datasetVersion"] == f"4:{'e' * 64}"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 80
    assert set(output["facets"]["columnLineage"]["fields"]) == {"sku", "price"}
    assert [(f["name"], f["field"]) for f in output["facets"]["columnLineage"]["fields"]["price"]["inputFields"]] == [
        ("/data/lake/shop/products", "price"), ("/data/lake/models/seen", "a.b"),
    ]  # fmt: skip
    assert "version" not in start["outputs"][0]["facets"]
    assert not start["outputs"][0]["outputFacets"]
    assert tests["job"]["name"] == "models.daily.test"
    assert tests["run"]["runId"] == tests_start["run"]["runId"] != RUN_ID
    assert tests["run"]["facets"]["parent"]["run"]["runId"] == RUN_ID
    (tested,) = tests["inputs"]
    assert tested["name"] == output["name"]
    assert [
        (a["assertion"], a.get("column"), a["success"], a["severity"])
        for a in tested["inputFacets"]["dataQualityAssertions"]["assertions"]
    ] == [
        ("unique", "sku", True, "error"), ("unique", "at", True, "error"), ("row_count", None, True, "error"),
        ("custom_sql", None, False, "warn"),
    ]  # fmt: skip


def test_what_failed_says_why_and_was_not_published(endpoint: Endpoint) -> None:
    blocked = Run(run_id=RUN_ID, model="daily", seq=4, rows=80, tests=(outcome("unique", "sku", failures=2),))
    tell(told({"url": endpoint.url}), "failed", run=blocked)
    failed, _, tests = endpoint.events
    assert (failed["eventType"], tests["eventType"]) == ("FAIL", "FAIL")
    assert failed["run"]["facets"]["errorMessage"]["message"] == "ValueError: no"
    assert "version" not in failed["outputs"][0]["facets"]
    assert not failed["outputs"][0]["outputFacets"]


@pytest.mark.parametrize(
    ("lake", "place"),
    [
        ("/data/lake", ("file", "/data/lake/shop/products")),
        ("gs://bucket/a/b", ("gs://bucket", "a/b/shop/products")),
        ("gcs://bucket", ("gs://bucket", "shop/products")),
        ("s3a://bucket/a/", ("s3://bucket", "a/shop/products")),
    ],
)
def test_datasets_are_named_by_the_rules_for_files_and_stores(lake: str, place: tuple[str, str]) -> None:
    assert dataset_name(lake, "shop.products") == place


def test_events_are_added_to_a_file(tmp_path: Path) -> None:
    for _ in range(2):
        tell(told({"file": "lineage.jsonl"}, root=tmp_path), "started", "finished")
    lines = (tmp_path / "lineage.jsonl").read_text().splitlines()
    assert [json.loads(line)["eventType"] for line in lines] == ["START", "COMPLETE", "START", "COMPLETE"] * 2


def test_the_environment_goes_before_the_project(endpoint: Endpoint, tmp_path: Path) -> None:
    env = {
        "OPENLINEAGE_URL": endpoint.url, "OPENLINEAGE_API_KEY": "s3cret", "OPENLINEAGE_ENDPOINT": "v2/lineage",
        "OPENLINEAGE_NAMESPACE": "theirs",
    }  # fmt: skip
    settings = {"file": "lineage.jsonl", "namespace": "mine"}
    tell(told(settings, env, root=tmp_path), "started")
    ((path, headers, event),) = endpoint.got
    assert (path, headers["Authorization"]) == ("/v2/lineage", "Bearer s3cret")
    assert event["job"]["namespace"] == "theirs"
    assert not (tmp_path / "lineage.jsonl").exists()
    assert told(settings, env | {"OPENLINEAGE_DISABLED": "True"}) is None
    assert told({}) is None


def test_a_configuration_of_the_client_is_used(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "openlineage.yml"
    config.write_text(
        f"transport:\n  type: http\n  url: {endpoint.url}\n  endpoint: here\ntags:\n  job:\n    team: prices\n"
    )
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(config))
    tell(told({}, os.environ), "started")
    ((path, _, event),) = endpoint.got
    assert path == "/here"
    assert event["job"]["facets"]["tags"]["tags"][0]["key"] == "team"
    config.unlink()
    with pytest.raises(UserError, match="is not there, and OPENLINEAGE_CONFIG names it"):
        told({}, os.environ)


def test_the_key_stays_where_it_is(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", endpoint.url)
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "s3cret")
    before = dict(os.environ)
    tell(told({}, os.environ), "started")
    assert endpoint.got[0][1]["Authorization"] == "Bearer s3cret"
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"uri": "x"}, ["unknown setting 'uri'", "file, namespace, url"]),
        ({"url": "http://x", "api_key": "k"}, ["'api_key'", "OPENLINEAGE_API_KEY"]),
        ({"url": "http://x", "file": "f"}, ["both url and file"]),
        ({"url": "localhost:5000"}, ["https://"]),
        ({"file": True}, ["file is True", "as text"]),
    ],
)
def test_settings_that_are_wrong_are_told(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        told(settings)
    for word in words:
        assert word in str(raised.value)


def test_without_the_package_only_who_asked_for_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(openlineage.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SetupError, match=r"uv add 'lakehouse\[openlineage\]'"):
        told({"file": "x"}, root=tmp_path)
    said: list[str] = []
    assert told({}, {"OPENLINEAGE_URL": "http://u:p@host/x?key=1"}, warn=said.append) is None
    assert "http://host/x:" in said[0]


def test_nothing_of_it_is_imported_before_it_is_used() -> None:
    import subprocess
    import sys

    code = "import sys, lakehouse.models.openlineage as o; o.Emitter.from_settings({'file': 'x'}, {}, lake_url='/l'); "
    code += "print([m for m in ('openlineage.client', 'requests', 'duckdb', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
