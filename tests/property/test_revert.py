"""Random histories of all kinds of loads, with reverts among them: each restores the state to the last value."""

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from test_history import QUIET, History

from lakehouse.parquet.arrow import from_duck
from lakehouse.parquet.digest import digest_rows
from lakehouse.revert import preview, revert


class WithReverts(History):
    """Any state may come back at any time; loads go on from there."""

    @precondition(lambda self: self.model.load_ids)
    @rule(data=st.data(), some=st.booleans())
    def go_back(self, data: st.DataObject, some: bool) -> None:
        log = self.lake.log("s")
        head = len(self.model.load_ids)
        to = data.draw(st.integers(0, head))
        tables = (
            sorted(data.draw(st.sets(st.sampled_from(sorted(log.tables))))) if some and log.tables else None
        )
        wanted = {t: to if tables is None or t in tables else head for t in log.tables}
        before = {t: self._digest(t, seq) for t, seq in wanted.items()}
        differing = {t for t in log.tables if before[t] != self._digest(t, head)}

        planned = preview(self.lake, "s", to, tables=tables)
        commit = revert(self.lake, "s", to, tables=tables)

        assert set(planned.rows) == differing
        if commit is None:
            assert not differing
            return
        assert (commit.seq, commit.reverts_to, set(commit.tables)) == (head + 1, to, differing)
        assert {t: dict(c.counts) for t, c in commit.tables.items()} == {
            t: {name: n for name, n in counts.items() if n} for t, counts in planned.counts.items()
        }
        assert {t: self._digest(t, head + 1) for t in wanted} == before
        state = (
            self.model.states[to]
            if tables is None
            else self.model.now | {t: self.model.states[to].get(t, []) for t in tables}
        )
        self.model.states.append({t: state.get(t, []) for t in self.model.now})
        self.model.effective.append(commit.effective_at)
        self.model.load_ids.append(commit.load_id)
        for table, change in commit.tables.items():
            assert change.counts.get("rows", 0) == len(self.model.now[table])
        assert revert(self.lake, "s", to, tables=tables) is None

    def _digest(self, table: str, seq: int) -> str:
        columns = self.lake.log("s").tables[table].columns
        found = self.lake.session().connection.sql(f"SELECT * FROM s.{table}_at({seq})").to_arrow_table()
        return digest_rows(from_duck(found, columns)) if columns else str(found.num_rows)


def test_every_state_comes_back_to_the_last_value() -> None:
    run_state_machine_as_test(
        WithReverts,
        settings=settings(max_examples=20, stateful_step_count=8, deadline=None, suppress_health_check=QUIET),
    )


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_state_of_many_long_histories_comes_back_to_the_last_value() -> None:
    run_state_machine_as_test(
        WithReverts,
        settings=settings(
            max_examples=300,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=QUIET,
            phases=[Phase.generate, Phase.shrink],
        ),
    )
