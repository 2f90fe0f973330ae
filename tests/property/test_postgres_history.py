"""Random histories, mirrored in Postgres now and then: every state there is the one that the lake has."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from test_versions import Versions
from warehouse import Warehouse

from lakehouse import compaction
from lakehouse.core.log import Log
from sync.postgres.check import verify
from sync.postgres.push import push


class Mirrored(Versions):
    """Loads of all kinds, compactions, and syncs in between."""

    url: ClassVar[str]
    lakes: ClassVar[int] = 0
    prefix = ""

    @precondition(lambda self: self.model.now)
    @rule(repair=st.sampled_from([False] * 9 + [True]))
    def sync(self, repair: bool) -> None:
        if not self.prefix:
            Mirrored.lakes += 1
            self.prefix = f"lake_{Mirrored.lakes}_"
        push(self.lake, self.url, name="warehouse", schema_prefix=self.prefix, repair=repair)

    def _compare_all(self) -> None:
        if not self.model.now or self.compared:
            return
        self.compared = True
        self.sync(repair=False)
        Warehouse(self.lake, self.url, self.prefix).check("s")
        assert not verify(self.lake, self.url, name="warehouse", schema_prefix=self.prefix, deep=True).errors

    compared = False
    look = None


def test_every_state_is_that_of_the_lake(postgres_url: str) -> None:
    Mirrored.url = postgres_url
    run_state_machine_as_test(
        Mirrored,
        settings=settings(
            max_examples=12, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target],
        ),
    )  # fmt: skip
