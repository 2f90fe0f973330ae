"""Runs: what they report, what they leave behind when they fail, past days, and finding scrapers."""

import errno
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dlt
import pytest
from filelock import FileLock

from ingest.discover import load_scraper, scraper_names
from ingest.run import RunResult, run_days, run_scraper, run_source
from lakehouse import Lake
from lakehouse.errors import (
    ContentionError,
    NotFoundError,
    QuarantinedError,
    ScraperError,
    SetupError,
    UserError,
)
from lakehouse.store import LocalStore

Run = Callable[..., RunResult]
Rows = Callable[..., list[dict[str, Any]]]
SNAPSHOT = {"write_disposition": "replace", "primary_key": "id"}


def numbered(start: int, stop: int) -> list[dict[str, int]]:
    return [{"id": n} for n in range(start, stop)]


def test_a_run_without_data_commits_that_it_looked(lake: Lake, run: Run) -> None:
    @dlt.resource
    def nothing() -> Iterator[Any]:
        yield from ()

    for seq in (1, 2):
        result = run(nothing)
        assert result.nothing_new
        assert result.commits[0].seq == seq
    assert lake.log("shop").tables == {}


def test_the_load_is_observed_when_it_was_extracted_unless_said_otherwise(run: Run) -> None:
    before = datetime.now(UTC)
    assert before <= run([{"id": 1}]).commits[0].observed_at <= datetime.now(UTC)
    yesterday = before - timedelta(days=1)
    assert run([{"id": 2}], observed_at=yesterday).commits[0].observed_at == yesterday


def test_a_quarantined_load_leaves_nothing_stuck_and_nothing_lost(lake: Lake, rows: Rows, run: Run) -> None:
    @dlt.source(name="shop")
    def shop(stock: list[Any]) -> Any:
        @dlt.resource
        def events(at: Any = dlt.sources.incremental("id", initial_value=0)) -> Iterator[Any]:  # noqa: B008
            yield [{"id": n} for n in range(at.last_value + 1, 5)]

        return [events, dlt.resource(stock, name="stock", **SNAPSHOT)]

    run([{"id": 0}], table="stock", **SNAPSHOT)
    with pytest.raises(QuarantinedError) as refused:
        run(lambda: shop([]))
    assert refused.value.reasons == ("stock: the snapshot is empty, the one before has 1 rows",)
    assert lake.log("shop").head == 1
    run(lambda: shop([{"id": 7}]))
    assert rows("shop.events") == numbered(1, 5)
    assert rows("shop.stock") == [{"id": 7}]


def test_duplicate_keys_in_a_snapshot_are_refused(run: Run) -> None:
    with pytest.raises(QuarantinedError, match="duplicate"):
        run([{"id": 1}, {"id": 1}], **SNAPSHOT)


def test_an_error_of_the_scraper_names_the_source_and_keeps_the_cause(lake: Lake, run: Run) -> None:
    @dlt.resource
    def broken() -> Iterator[Any]:
        yield {"id": 1}
        msg = "the page has moved"
        raise LookupError(msg)

    with pytest.raises(
        ScraperError, match="shop: the scraper failed: LookupError: the page has moved"
    ) as failed:
        run(broken)
    assert isinstance(failed.value.__cause__, LookupError)
    assert lake.log("shop").head == 0
    assert not run([{"id": 1}]).nothing_new


def test_data_that_dlt_cannot_take_blocks_no_later_run(rows: Rows, run: Run) -> None:
    with pytest.raises(ScraperError, match="column 'id', which may not be null"):
        run([{"id": None, "x": 1}], columns={"id": {"nullable": False, "data_type": "bigint"}})
    run([{"id": 1, "x": 1}])
    assert rows("shop.items") == [{"id": 1, "x": 1}]


def test_what_was_fetched_outlives_a_full_disk(
    lake: Lake, rows: Rows, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(LocalStore, "put", full)
        with pytest.raises(SetupError, match="No space left"):
            run([{"id": 1}])
    result = run([{"id": 2}])
    assert [commit.seq for commit in result.commits] == [1, 2]
    assert rows("shop.items") == [{"id": 1}, {"id": 2}]


def test_two_runs_of_a_source_wait_for_each_other(lake: Lake, pipelines_dir: Path) -> None:
    pipelines_dir.mkdir()
    with FileLock(pipelines_dir / "shop.lock"), pytest.raises(ContentionError, match="another run"):
        run_source(lake, [{"id": 1}], name="shop", pipelines_dir=pipelines_dir, wait_seconds=0.1)


def test_a_torn_working_directory_is_as_good_as_lost(rows: Rows, run: Run, pipelines_dir: Path) -> None:
    run([{"id": 1}])
    (pipelines_dir / "shop" / "state.json").write_text('{"torn')
    run([{"id": 2}])
    assert rows("shop.items") == [{"id": 1}, {"id": 2}]


def test_the_working_directory_does_not_grow(run: Run, pipelines_dir: Path) -> None:
    sizes = []
    for n in range(4):
        run([{"id": n}])
        sizes.append(sum(1 for path in pipelines_dir.rglob("*") if path.is_file()))
    assert sizes[-1] <= sizes[1]


def test_a_renamed_function_keeps_source_and_cursor(rows: Rows, run: Run) -> None:
    def named(name: str) -> Any:
        @dlt.source(name=name)
        def source() -> Any:
            @dlt.resource
            def events(at: Any = dlt.sources.incremental("id", initial_value=0)) -> Iterator[Any]:  # noqa: B008
                yield [{"id": at.last_value + 1}]

            return events

        return source

    run(named("before"))
    result = run(named("after"))
    assert len(result.commits) == 1
    assert rows("shop.events") == numbered(1, 3)


def test_the_past_state_is_there_when_a_source_is_built(run: Run) -> None:
    seen = []

    @dlt.source(name="shop")
    def shop() -> Any:
        seen.append(dlt.current.source_state().get("n", 0))

        @dlt.resource
        def items() -> Iterator[Any]:
            state = dlt.current.source_state()
            state["n"] = state.get("n", 0) + 1
            yield {"id": state["n"]}

        return items

    run(shop)
    run(shop)
    assert seen == [0, 1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a scraper for any day, one for today, one that is broken, and a private file."""
    folder = tmp_path / "project" / "ingest" / "sources"
    folder.mkdir(parents=True)
    (folder / "daily.py").write_text(
        "from datetime import date\nimport dlt\nFIRST_RUN_DAYS = 3\n"
        "@dlt.resource(write_disposition='replace', primary_key='day')\n"
        "def daily(day: date):\n    yield {'day': str(day)}\n"
    )
    (folder / "now.py").write_text(
        "import dlt\n@dlt.resource\ndef part():\n    yield {'id': 1}\n"
        "@dlt.source\ndef whatever():\n    return part\n"
    )
    (folder / "broken.py").write_text("import there_is_no_such_module\n")
    (folder / "_private.py").write_text("raise SystemExit\n")
    return tmp_path / "project"


def test_listing_scrapers_imports_nothing(project: Path) -> None:
    before = set(sys.modules)
    assert scraper_names(project) == ["broken", "daily", "now"]
    assert set(sys.modules) == before


def test_scrapers_are_loaded_by_path(project: Path) -> None:
    daily, now = load_scraper(project, "daily"), load_scraper(project, "now")
    assert (daily.takes_day, daily.first_run_days) == (True, 3)
    assert (now.takes_day, now.first_run_days) == (False, 0)
    with pytest.raises(UserError, match=r"broken\.py: cannot be imported"):
        load_scraper(project, "broken")
    with pytest.raises(NotFoundError, match="there is no scraper"):
        load_scraper(project, "_private")


def test_a_scraper_runs_under_the_name_of_its_file(
    lake: Lake, rows: Rows, project: Path, pipelines_dir: Path
) -> None:
    run_scraper(lake, load_scraper(project, "now"), pipelines_dir=pipelines_dir)
    assert rows("now.part") == [{"id": 1}]


def test_past_days_are_loaded_once_oldest_first(lake: Lake, project: Path, pipelines_dir: Path) -> None:
    daily = load_scraper(project, "daily")
    for _ in range(2):
        list(run_days(lake, daily, days=2, pipelines_dir=pipelines_dir))
    today = datetime.now(UTC).date()
    days = [commit.observed_at.date() for commit in lake.log("daily").commits]
    assert days == [today - timedelta(days=2), today - timedelta(days=1), today, today]
    then = lake.query("select day from daily.daily", as_of=1).fetchall()
    assert [date.fromisoformat(str(day)) for (day,) in then] == [today - timedelta(days=2)]


def test_a_scraper_without_a_day_has_no_past_days(lake: Lake, project: Path, pipelines_dir: Path) -> None:
    with pytest.raises(UserError, match="cannot be run for past days"):
        list(run_days(lake, load_scraper(project, "now"), days=2, pipelines_dir=pipelines_dir))
