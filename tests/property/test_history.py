"""Random histories against a naive model: every as-of, over the whole history, for ever the same."""

import json
import shutil
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from naive_model import Model, Op, Row, canon_row, counted, repeats

from lakehouse import Lake
from lakehouse.bulk import BulkLoad
from lakehouse.core.gates import OPEN, Gates
from lakehouse.duck.session import Session, catalog_path
from lakehouse.errors import QuarantinedError
from lakehouse.store import LocalStore, MemoryStore

START = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = ("plain", "Keyed", "odd")
VOLATILE = "seen at"

INTEGERS = st.integers(-2, 3)
WIDE = st.sampled_from([2**53 + 1, -(2**53) - 1, 2**53, 2**63 - 1, -(2**63), 2**63, 2**64])
FLOATS = st.sampled_from([0.0, 1.0, 2.0, 0.5, -2.5, 1e300, 0.1, 1e16, 2.0**53, 1e-7])
TEXT = st.sampled_from(["", "1", "a", "null", "é\x1f\x00", "{}", "1.0"])
SCALARS = {
    "null": st.none(),
    "integer": INTEGERS,
    "wide": WIDE,
    "float": FLOATS,
    "text": TEXT,
    "bool": st.booleans(),
}
MIXED = st.one_of(*SCALARS.values())
NESTED = {
    "list": st.lists(st.one_of(INTEGERS, st.none()), max_size=2),
    "list of floats": st.lists(FLOATS, max_size=2),
    "object": st.fixed_dictionaries({}, optional={"p": INTEGERS, "q": TEXT, "P": INTEGERS}),
    "other object": st.fixed_dictionaries({"p": FLOATS}, optional={"r": st.lists(TEXT, max_size=2)}),
    "wide object": st.fixed_dictionaries({"p": WIDE}),
    "objects": st.lists(st.fixed_dictionaries({"x": st.one_of(st.none(), INTEGERS)}), max_size=2),
}
VALUES = SCALARS | NESTED | {"mixed": st.one_of(MIXED, *NESTED.values())}
KEYS = {
    "integer": st.integers(1, 4),
    "float": st.sampled_from([1.0, 2.0, 2.5]),
    "text": st.sampled_from(["1", "a", "\x1b"]),
    "wide": st.sampled_from([1, 2**53 + 1, 2**63]),
    "mixed": st.sampled_from([1, 2, 2.5, "1", "a", None, 2**64]),
}
COLUMNS = ("a", "A", "b c", "", "t", "newest")
COMMON_KEYS = st.sampled_from(["integer"] * 5 + list(KEYS))
COMMON_VALUES = st.sampled_from(["integer"] * 4 + ["text", "float", "null", *VALUES])


@st.composite
def rows_of(draw: st.DrawFn, *, at_least: int = 0, at_most: int = 5) -> list[Row]:
    """Rows whose columns each have one kind of values in this load."""
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "id": KEYS[draw(COMMON_KEYS)],
        "G": KEYS[draw(COMMON_KEYS)],
        VOLATILE: INTEGERS,
    }
    for name in draw(st.lists(st.sampled_from(COLUMNS), max_size=3, unique=True)):
        kinds[name] = st.one_of(st.none(), VALUES[draw(COMMON_VALUES)])
    return draw(st.lists(st.fixed_dictionaries(kinds), min_size=at_least, max_size=at_most))


@st.composite
def ops(draw: st.DrawFn, table: str, before: list[Row]) -> Op:
    """One write; now and then most of the rows are those that are there already."""
    rows = draw(rows_of())
    if before and draw(st.booleans()):
        rows = [dict(row) for row in draw(st.lists(st.sampled_from(before), max_size=6))] + rows[:2]
    how = draw(
        st.sampled_from(
            ["append", "replace", "keyed", "keyed", "upsert", "upsert", "group", "both", "insert"]
        )
    )
    op = Op(table=table, rows=rows, disposition="merge")
    if how in ("append", "replace"):
        op.disposition = how
    elif how == "keyed":
        op.disposition = "replace"
        op.primary_key = draw(st.sampled_from([("id",), ("id",), ("id", "G"), ("G",)]))
        if draw(st.integers(0, 5)):
            op.rows = list({repr(canon_row({k: r.get(k) for k in op.primary_key})): r for r in rows}.values())
    else:
        op.primary_key = (
            () if how == "group" else draw(st.sampled_from([("id",), ("id",), ("id",), ("id", "G")]))
        )
        op.merge_key = {"group": ("G",), "both": ("G",)}.get(how, ())
        op.insert_only = how == "insert"
        if how != "insert" and draw(st.booleans()):
            op.deletes = [{k: r.get(k) for k in ("id", "G")} for r in draw(rows_of(at_least=1))]
    for row in op.rows:
        row.setdefault("id", None)
        row.setdefault("G", None)
    if op.disposition != "append" and draw(st.booleans()):
        op.volatile = (VOLATILE,)
    return op


class History(RuleBasedStateMachine):
    """Loads of all kinds; at the end, and now and then, every state that ever was is asked for."""

    folder: Path | None = None

    @initialize(local=st.booleans())
    def begin(self, local: bool) -> None:
        self.model = Model()
        if local:
            self.folder = Path(tempfile.mkdtemp())
        self.store = LocalStore(self.folder / "lake") if self.folder else MemoryStore()
        self.lake = Lake.create(self.store)

    @rule(
        data=st.data(), tables=st.lists(st.sampled_from(TABLES), max_size=2, unique=True), gated=st.booleans()
    )
    def load(self, data: st.DataObject, tables: list[str], gated: bool) -> None:
        writes = [data.draw(ops(table, self.model.now.get(table, [])), label=table) for table in tables]
        observed = START + timedelta(days=data.draw(st.integers(-2, 4)) + len(self.model.effective))
        load_id = f"load {len(self.model.load_ids)}"
        refused = self._refused(writes, gated=gated)
        repeating = {op.table: self._may_repeat(op.table) for op in writes}
        gates = Gates() if gated else OPEN
        try:
            with self.lake.load("s", load_id=load_id, observed_at=observed, gates=gates) as load:
                for op in writes:
                    cut = data.draw(st.integers(0, len(op.rows)))  # written in pieces, as streams are
                    if cut:
                        load.write(op.table, op.rows[:cut], **op.settings | {"deletes": None})
                    load.write(op.table, op.rows[cut:], **op.settings)
        except QuarantinedError:
            assert refused
            return
        assert not refused
        before = self.model.now
        self.model.load(load_id, observed, writes)
        assert load.commit is not None
        assert load.commit.seq == len(self.model.load_ids)
        assert load.commit.effective_at == self.model.effective[-1]
        for op in writes:
            change = load.commit.tables[op.table]
            assert change.counts.get("rows", 0) == len(self.model.now[op.table])
            if op.primary_key and not change.base and not repeating[op.table] and not op.insert_only:
                found = {name: change.counts.get(name, 0) for name in ("appeared", "changed", "disappeared")}
                assert found == counted(op, before.get(op.table, []))

    @precondition(lambda self: self.model.load_ids)
    @rule(data=st.data())
    def load_again(self, data: st.DataObject) -> None:
        """A load id that is in the log publishes nothing."""
        load_id = data.draw(st.sampled_from(self.model.load_ids))
        with self.lake.load("s", load_id=load_id) as load:
            load.write("plain", [{"never": "seen"}])
        assert load.commit is not None
        assert load.commit.seq == self.model.load_ids.index(load_id) + 1

    @rule(data=st.data(), table=st.sampled_from(["imported", "whole"]))
    def import_snapshots(self, data: st.DataObject, table: str) -> None:
        """Many snapshots at once: each is a load of its own, as if loaded one by one."""
        key = ("id",) if table == "imported" else ()
        bulk = BulkLoad(self.lake, "s", table, key=key, volatile=(VOLATILE,))
        for _ in range(data.draw(st.integers(1, 4))):
            rows = data.draw(rows_of())
            before = self.model.now.get(table, [])
            if before and data.draw(st.booleans()):
                rows = [dict(row) for row in before[1:]] + rows[:1]
            op = Op(table=table, rows=rows, disposition="replace", primary_key=key)
            observed = START + timedelta(days=data.draw(st.integers(-2, 4)) + len(self.model.effective))
            load_id = f"load {len(self.model.load_ids)}"
            if data.draw(st.integers(0, 5)) == 0:
                bulk.fail("does not parse", observed_at=observed, load_id=load_id)
                self.model.load(load_id, observed, [])
            else:
                bulk.observe(rows, observed_at=observed, load_id=load_id)
                self.model.load(load_id, observed, [op])
            if data.draw(st.booleans()):
                bulk.flush()
        bulk.flush()
        assert bulk.log.head == len(self.model.load_ids)
        change = bulk.log.tables.get(table)
        assert change is None or change.last.counts.get("rows", 0) == len(self.model.now.get(table, []))

    @rule()
    def reopen(self) -> None:
        self.lake = Lake.open(self.store)

    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        """One state of the past, as it was."""
        self._compare(self.lake.session(), data.draw(st.integers(0, len(self.model.load_ids))))

    def teardown(self) -> None:
        try:
            if hasattr(self, "model"):
                self._compare_all()
                self._delete_derived()
                self.lake = Lake.open(self.store)
                self._compare_all()
        finally:
            if self.folder:
                shutil.rmtree(self.folder)

    def _refused(self, writes: list[Op], *, gated: bool) -> bool:
        for op in writes:
            before, rows = len(self.model.now.get(op.table, [])), len(op.rows)
            if repeats(op):
                return True
            shrunk = not rows or (before >= 10 and rows < before / 2)
            if gated and op.disposition == "replace" and before and shrunk:
                return True
        return False

    def _may_repeat(self, table: str) -> bool:
        known = self.lake.log("s").tables.get(table)
        if known is None:
            return False
        era = known.changes_at(known.changes[-1][0])
        return any(not c.primary_key or (c.base and c.disposition == "merge") for _, c in era)

    def _compare_all(self) -> None:
        session = self.lake.session()
        for seq in range(len(self.model.states)):
            self._compare(session, seq)
        for moment in sorted({at + timedelta(seconds=s) for at in self.model.effective for s in (-1, 0, 1)}):
            turned = self.lake.session(as_of=moment)
            for table, rows in self.model.seen_at(moment).items():
                assert self._read(turned, table, table) == self._expected(rows), (table, moment)
        for table, rows in self.model.now.items():
            assert self._read(session, table, table) == self._expected(rows)

    def _compare(self, session: Session, seq: int) -> None:
        for table in self.model.now:
            expected = self._expected(self.model.states[seq].get(table, []))
            assert self._read(session, table, f"{table}_at({seq})") == expected, (table, seq)

    def _expected(self, rows: list[Row]) -> Counter[Any]:
        return Counter(canon_row(row, without=(VOLATILE,)) for row in rows)

    def _read(self, session: Session, table: str, what: str) -> Counter[Any]:
        """The rows as canonical values under the names they came by."""
        columns = {c.name: c for c in self.lake.log("s").tables[table].columns}
        cursor = session.query(f"SELECT * FROM s.{what}")
        names = [c[0] for c in cursor.description or []]
        found: Counter[Any] = Counter()
        for values in cursor.fetchall():
            row = {}
            for name, value in zip(names, values, strict=True):
                if name in columns:  # a table without columns shows a stand-in
                    column = columns[name]
                    source = name if column.source_name is None else column.source_name
                    row[source] = json.loads(value) if column.type == "json" and value is not None else value
            found[canon_row(row, without=(VOLATILE,))] += 1
        return found

    def _delete_derived(self) -> None:
        for entry in list(self.store.list("_derived/")):
            self.store.delete(entry.key)
        path = catalog_path(self.lake)
        if path is not None:
            path.unlink(missing_ok=True)


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def test_every_state_of_random_histories_is_as_a_naive_model_says() -> None:
    run_state_machine_as_test(
        History,
        settings=settings(max_examples=20, stateful_step_count=8, deadline=None, suppress_health_check=QUIET),
    )


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_state_of_many_long_random_histories_is_as_a_naive_model_says() -> None:
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=400,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=QUIET,
            phases=[Phase.generate, Phase.shrink],
        ),
    )
