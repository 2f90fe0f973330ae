"""A revert takes the cursor back with the data: the next run fetches again what came after."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dlt
import pytest

from ingest.destination import lakehouse
from ingest.memory import StaleStateError
from ingest.run import run_source
from lakehouse import Lake
from lakehouse.revert import revert

Rows = Callable[..., list[dict[str, Any]]]


def events(newest: int) -> Any:
    """Events 1 to `newest`, of which a run asks for those that it has not seen."""

    @dlt.resource(name="events", write_disposition="append")
    def _events(at: Any = dlt.sources.incremental("id", initial_value=0)) -> Iterator[Any]:  # noqa: B008
        yield [{"id": n} for n in range(at.start_value + 1, newest + 1)]

    return _events()


def ids(lake: Lake) -> list[int]:
    return [row[0] for row in lake.query("select id from shop.events order by id").fetchall()]


@pytest.mark.parametrize("to", [0, 1, 2])
def test_the_next_run_goes_on_from_the_state_that_was_restored(
    to: int, lake: Lake, pipelines_dir: Path
) -> None:
    for newest in (2, 4, 6):
        run_source(lake, events(newest), name="shop", pipelines_dir=pipelines_dir)
    commit = revert(lake, "shop", to)
    assert commit is not None
    assert ids(lake) == list(range(1, 2 * to + 1))
    run_source(lake, events(7), name="shop", pipelines_dir=pipelines_dir)
    assert ids(lake) == [1, 2, 3, 4, 5, 6, 7]
    assert revert(lake, "shop", 3) is not None
    run_source(lake, events(7), name="shop", pipelines_dir=pipelines_dir)
    assert ids(lake) == [1, 2, 3, 4, 5, 6, 7]


def test_a_cursor_may_be_kept(lake: Lake, pipelines_dir: Path) -> None:
    for newest in (2, 4):
        run_source(lake, events(newest), name="shop", pipelines_dir=pipelines_dir)
    assert revert(lake, "shop", 1, keep_cursor=True) is not None
    run_source(lake, events(5), name="shop", pipelines_dir=pipelines_dir)
    assert ids(lake) == [1, 2, 5]
    assert revert(lake, "shop", 1, tables=["events"]) is not None
    run_source(lake, events(6), name="shop", pipelines_dir=pipelines_dir)
    assert ids(lake) == [1, 2, 6]


def test_a_working_directory_of_dlt_goes_back_too(lake: Lake, tmp_path: Path) -> None:
    def run(newest: int) -> None:
        pipeline = dlt.pipeline("shop", pipelines_dir=str(tmp_path / "own"), destination=lakehouse(lake))
        pipeline.run(events(newest))

    for newest in (2, 4, 6):
        run(newest)
    for to in (1, 2):
        assert revert(lake, "shop", to) is not None
    run(7)
    assert ids(lake) == [1, 2, 3, 4, 5, 6, 7]


def test_a_run_that_began_before_a_revert_is_not_published_on_top_of_it(lake: Lake, tmp_path: Path) -> None:
    def pipeline() -> Any:
        return dlt.pipeline("shop", pipelines_dir=str(tmp_path / "own"), destination=lakehouse(lake))

    for newest in (2, 4):
        pipeline().run(events(newest))
    begun = pipeline()
    begun.extract(events(6))
    begun.normalize()
    assert revert(lake, "shop", 1) is not None
    with pytest.raises(Exception, match="another run was faster") as raised:
        begun.load()
    assert isinstance(raised.value.__cause__, StaleStateError)
    assert ids(lake) == [1, 2]
