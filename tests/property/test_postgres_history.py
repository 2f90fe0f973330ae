"""Random histories, mirrored in Postgres now and then: every state there is the one that the lake has."""

import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from test_everything_at_once import STEPS, Model
from test_versions import Versions
from warehouse import Warehouse

from lakehouse import Lake
from sync.postgres.check import verify
from sync.postgres.push import push

PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.target]


class Place:
    """One database, in which each lake has schemas of its own."""

    url: ClassVar[str]
    lakes: ClassVar[int] = 0

    def __init__(self) -> None:
        Place.lakes += 1
        self.prefix = f"lake_{Place.lakes}_"

    def sync(self, lake: Lake, *, repair: bool = False) -> None:
        push(lake, self.url, name="warehouse", schema_prefix=self.prefix, repair=repair)

    def check(self, lake: Lake) -> None:
        self.sync(lake)
        Warehouse(lake, self.url, self.prefix).check("s")
        assert not verify(lake, self.url, name="warehouse", schema_prefix=self.prefix, deep=True).errors


class Mirrored(Versions):
    """Loads of all kinds, compactions, and syncs in between."""

    place: Place | None = None
    compared = False
    look = None  # type: ignore[assignment]  # what the lake says is held against a model elsewhere

    @precondition(lambda self: self.model.now)
    @rule(repair=st.sampled_from([False] * 9 + [True]))
    def sync(self, repair: bool) -> None:
        self.place = self.place or Place()
        self.place.sync(self.lake, repair=repair)

    def _compare_all(self) -> None:
        if self.model.now and not self.compared:
            self.compared = True
            self.place = self.place or Place()
            self.place.check(self.lake)


def run(examples: int) -> None:
    run_state_machine_as_test(
        Mirrored,
        settings=settings(
            max_examples=examples,
            stateful_step_count=10,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=PHASES,
        ),
    )


def test_every_state_is_that_of_the_lake(postgres_url: str) -> None:
    Place.url = postgres_url
    run(4)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_every_state_is_that_of_the_lake_for_long(postgres_url: str) -> None:
    Place.url = postgres_url
    run(200)


SYNCS = STEPS.flatmap(
    lambda steps: st.lists(st.booleans(), min_size=len(steps), max_size=len(steps)).map(
        lambda syncs: list(zip(steps, syncs, strict=True))
    )
)


def upkept(steps: list[tuple[tuple[Any, ...], bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model, place = Model(Path(folder) / "lake"), Place()
        for step, sync in steps:
            model.do(*step)
            if sync and model.lake.log("s").head:
                place.sync(model.lake)
        if model.lake.log("s").head:
            place.check(model.lake)


def test_whatever_is_done_to_the_lake_is_done_to_the_mirror(postgres_url: str) -> None:
    Place.url = postgres_url
    given(SYNCS)(
        settings(max_examples=4, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))(
            upkept
        )
    )()


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_whatever_is_done_to_the_lake_is_done_to_the_mirror_for_long(postgres_url: str) -> None:
    Place.url = postgres_url
    given(SYNCS)(
        settings(max_examples=150, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))(
            upkept
        )
    )()
