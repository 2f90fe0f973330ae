"""Row versions: states, histories and diffs of random histories, with and without compactions, as a naive model says."""

import json
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
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
from naive_model import Model, Op, Row, canon_row, key_of
from test_history import COMMON_VALUES, KEYS, START, VALUES, VOLATILE, ops

from lakehouse import Lake, compaction
from lakehouse.bulk import BulkLoad
from lakehouse.core.gates import OPEN
from lakehouse.core.log import TableLog
from lakehouse.duck.names import literal, quote
from lakehouse.duck.session import Session, catalog_path
from lakehouse.store import LocalStore, MemoryStore

# Names that the SQL uses itself: macros' parameters, its aliases, and columns of views.
TAKEN = (
    "t", "t1", "T2", "n", "change", "Before", "valid_from", "to_load", "changed_columns", "c0", "c1", "a", "b", "v", "k",
    "r", "row", "first", "since", "till", "_lake_end", "_lake_at", "_lake_newest", "_lake_v", "_lake_seq", "_lake_n", "at",
)  # fmt: skip
PLAIN = ("a", "b", "A", "c d")


class Spec:
    """How a table of the machine is written: always with this key, and these columns beside it."""

    def __init__(
        self, key: tuple[str, ...], columns: Sequence[str], *, volatile: tuple[str, ...] = ()
    ) -> None:
        self.key, self.columns, self.volatile = key, columns, volatile


SPECS = {
    "keyed": Spec(("id",), PLAIN, volatile=(VOLATILE,)),
    "Composite": Spec(("id", "G"), PLAIN),
    "taken": Spec(("t",), TAKEN),
    "taken_history": Spec(("_lake_newest", "t1"), TAKEN),
    "bare": Spec(("id",), ()),
}
KEY_KINDS = st.sampled_from(["integer"] * 8 + ["float", "text", "mixed", "mixed"])


@st.composite
def keyed_ops(draw: st.DrawFn, table: str, before: list[Row]) -> Op:
    """A write to a table that keeps its key; mostly small changes to what is there."""
    spec = SPECS[table]
    kinds: dict[str, st.SearchStrategy[Any]] = {name: KEYS[draw(KEY_KINDS)] for name in spec.key}
    others = [name for name in spec.columns if name not in spec.key]
    for name in draw(st.lists(st.sampled_from(others), max_size=3, unique=True)) if others else []:
        kinds[name] = st.one_of(st.none(), VALUES[draw(COMMON_VALUES)])
    kinds |= {name: st.integers(0, 9) for name in spec.volatile}
    rows = draw(st.lists(st.fixed_dictionaries(kinds), max_size=4))
    if before:
        rows = [dict(row) for row in draw(st.lists(st.sampled_from(before), max_size=5))] + rows[:2]
    op = Op(table=table, rows=rows, disposition=draw(st.sampled_from(["replace", "merge"])))
    op.primary_key, op.volatile = spec.key, spec.volatile
    op.rows = list({repr(canon_row({k: r.get(k) for k in op.primary_key})): r for r in rows}.values())
    if op.disposition == "merge":
        op.insert_only = draw(st.integers(0, 5)) == 0
        if before and not op.insert_only and draw(st.booleans()):
            gone = draw(st.lists(st.sampled_from(before), min_size=1, max_size=2))
            op.deletes = [{k: r.get(k) for k in spec.key} for r in gone]
    return op


@st.composite
def group_ops(draw: st.DrawFn, table: str, before: list[Row]) -> Op:
    """A merge of groups of rows."""
    rows = draw(st.lists(st.fixed_dictionaries({"G": st.integers(1, 3), "x": st.integers(0, 2)}), max_size=4))
    rows = [dict(row) for row in before if draw(st.booleans())] + rows
    op = Op(table=table, rows=rows, disposition="merge", merge_key=("G",))
    if draw(st.booleans()):
        op.deletes = [{"G": draw(st.integers(1, 3))}]
    return op


class Versions(RuleBasedStateMachine):
    """Loads with compactions in between; what SQL says of the whole past, with them and without."""

    folder: Path | None = None

    @initialize(
        local=st.booleans(), least=st.sampled_from([1, 4, 10_000]), worth=st.sampled_from([1, 60, 10**9])
    )
    def begin(self, local: bool, least: int, worth: int) -> None:
        self.model = Model()
        self.before = (compaction.EPOCH_LEAST, compaction.WORTH, compaction.OPENING)
        compaction.EPOCH_LEAST, compaction.WORTH, compaction.OPENING = least, worth, 1
        if local:
            self.folder = Path(tempfile.mkdtemp())
        self.store = LocalStore(self.folder / "lake") if self.folder else MemoryStore()
        self.lake = Lake.create(self.store)

    @rule(
        data=st.data(), tables=st.lists(st.sampled_from([*SPECS, "group", "free"]), max_size=2, unique=True)
    )
    def load(self, data: st.DataObject, tables: list[str]) -> None:
        writes = []
        for table in tables:
            make = {"group": group_ops, "free": ops}.get(table, keyed_ops)
            op = data.draw(make(table, self.model.now.get(table, [])), label=table)
            op.volatile = SPECS[table].volatile if table in SPECS else ()
            if op.disposition == "replace" and op.primary_key:  # a gate refuses keys that repeat
                op.rows = list({key_of(row, op.primary_key): row for row in op.rows}.values())
            writes.append(op)
        observed = START + timedelta(days=data.draw(st.integers(-2, 2)) + len(self.model.effective))
        load_id = f"load {len(self.model.load_ids)}"
        with self.lake.load("s", load_id=load_id, observed_at=observed, gates=OPEN) as load:
            for op in writes:
                load.write(op.table, op.rows, **op.settings)
        self.model.load(load_id, observed, writes)

    @rule(data=st.data())
    def import_snapshots(self, data: st.DataObject) -> None:
        """Snapshots whose keys may repeat."""
        bulk = BulkLoad(self.lake, "s", "imported", key=("id",), volatile=(VOLATILE,))
        row = st.fixed_dictionaries(
            {"id": st.sampled_from([1, 2, None]), "x": st.integers(0, 2), VOLATILE: st.integers(0, 9)}
        )
        for _ in range(data.draw(st.integers(1, 3))):
            rows = data.draw(st.lists(row, max_size=4))
            observed = START + timedelta(days=data.draw(st.integers(-2, 2)) + len(self.model.effective))
            load_id = f"load {len(self.model.load_ids)}"
            op = Op(table="imported", rows=rows, disposition="replace", primary_key=("id",))
            bulk.observe(rows, observed_at=observed, load_id=load_id)
            self.model.load(load_id, observed, [op])
        bulk.flush()

    @precondition(lambda self: "imported" in self.model.now)
    @rule(data=st.data(), how=st.sampled_from(["replace", "merge"]))
    def load_what_was_imported(self, data: st.DataObject, how: str) -> None:
        """A load by key on top of rows whose keys may repeat: its snapshots begin anew."""
        rows = {
            key_of(row, ("id",)): dict(row) for row in self.model.now["imported"] if data.draw(st.booleans())
        }
        op = Op(
            table="imported",
            rows=[*rows.values()],
            disposition=how,
            primary_key=("id",),
            volatile=(VOLATILE,),
        )
        load_id, observed = (
            f"load {len(self.model.load_ids)}",
            START + timedelta(days=len(self.model.effective)),
        )
        with self.lake.load("s", load_id=load_id, observed_at=observed, gates=OPEN) as load:
            load.write(op.table, op.rows, **op.settings)
        self.model.load(load_id, observed, [op])

    @rule(reopen=st.booleans())
    def compact(self, reopen: bool) -> None:
        compaction.compact(self.lake, "s")
        if reopen:
            self.lake = Lake.open(self.store)

    @precondition(lambda self: self.model.now)
    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        table = data.draw(st.sampled_from(sorted(self.model.now)))
        Asked(self.lake, self.model).look(
            table, *(data.draw(st.integers(0, len(self.model.effective))) for _ in "12")
        )

    def teardown(self) -> None:
        try:
            if hasattr(self, "model"):
                self._compare_all()
                compaction.compact(self.lake, "s")
                self._compare_all()
                self._delete_derived()
                self.lake = Lake.open(self.store)
                self._compare_all()
        finally:
            if hasattr(self, "before"):
                compaction.EPOCH_LEAST, compaction.WORTH, compaction.OPENING = self.before
            if self.folder:
                shutil.rmtree(self.folder)

    def _compare_all(self) -> None:
        asked = Asked(self.lake, self.model)
        head = len(self.model.effective)
        for table in self.model.now:
            asked.states(table)
            asked.history(table)
            for one, two in {(0, head), (head, 0), (head, head), (head // 2, head), (head, head // 3)}:
                asked.diff(table, one, two)
        asked.instants()

    def _delete_derived(self) -> None:
        for entry in list(self.store.list("_derived/")):
            self.store.delete(entry.key)
        path = catalog_path(self.lake)
        if path is not None:
            path.unlink(missing_ok=True)


class Asked:
    """What SQL says, held against the naive model. All in the names that columns are stored by."""

    def __init__(self, lake: Lake, model: Model) -> None:
        self.lake, self.model = lake, model
        self.log = lake.log("s")
        self.session = lake.session()

    def look(self, table: str, one: int, two: int) -> None:
        self._state(table, one)
        self.diff(table, one, two)

    # States.

    def states(self, table: str) -> None:
        for seq in range(len(self.model.states)):
            self._state(table, seq)
        self._same_rows(self.session, table, f"s.{quote(table)}", len(self.model.effective))

    def _state(self, table: str, seq: int) -> None:
        self._same_rows(self.session, table, f"s.{quote(table + '_at')}({seq})", seq)

    def instants(self) -> None:
        moments = sorted({at + timedelta(seconds=s) for at in self.model.effective for s in (-1, 0)})
        for moment in moments:
            seq = sum(at <= moment for at in self.model.effective)
            for table in self.model.now:
                at = literal(moment.isoformat())
                self._same_rows(self.session, table, f"s.{quote(table + '_at')}({at})", seq)
        for moment in moments[::4]:
            turned = self.lake.session(as_of=moment)
            seq = sum(at <= moment for at in self.model.effective)
            for table in self.model.now:
                self._same_rows(turned, table, f"s.{quote(table)}", seq)

    def _same_rows(self, session: Session, table: str, what: str, seq: int) -> None:
        left_out = self._volatile(table)
        found = Counter(canon_row(row, without=left_out) for row in self._rows(session, table, what))
        rows = self._known(table, seq)
        assert found == Counter(canon_row(row, without=left_out) for row in rows), (what, seq)

    # Histories.

    def history(self, table: str) -> None:
        about = self.log.tables[table]
        keys = {era.key for era in about.eras}
        names = {
            name
            for (name,) in self.session.query(
                "SELECT view_name FROM duckdb_views() WHERE schema_name = 's'"
            ).fetchall()
        }
        if len(keys) > 1 or keys == {()}:
            assert f"{table}_history" not in names
            return
        if table == "taken":  # another table has that name
            return
        assert f"{table}_history" in names
        found = self._told(about)
        expected = self._lived(about)
        assert found.keys() == expected.keys()
        loose = {c.name for c in about.columns if c.type == "json"}
        for at, (till, changed, rows) in expected.items():
            assert found[at][0] == till, at
            assert found[at][2] == rows, at
            assert set(changed) <= set(found[at][1]), at
            # JSON may be spelled anew where it did not change.
            assert set(found[at][1]) - set(changed) <= loose, at

    def _told(self, about: TableLog) -> "Life":
        """The view, by key, load and change."""
        system = ("change", "from_load", "to_load", "valid_from", "valid_to", "changed_columns")
        called = {name: self._called(about, name) for name in system}
        found: Life = {}
        for row in self._rows(self.session, about.name, f"s.{quote(about.name + '_history')}"):
            told = {name: row.pop(stored) for name, stored in called.items()}
            assert told["valid_from"] == self._time(told["from_load"])
            assert told["valid_to"] == (told["to_load"] and self._time(told["to_load"]))
            at = (key_of(row, about.eras[0].key), told["from_load"], told["change"])
            known = found.setdefault(at, (told["to_load"], tuple(told["changed_columns"]), Counter()))
            assert known[:2] == (told["to_load"], tuple(told["changed_columns"]))
            known[2][canon_row(row, without=self._volatile(about.name))] += 1
        return _without_respelling(found)

    def _time(self, seq: int) -> datetime:
        return self.model.effective[seq - 1]

    def _lived(self, about: TableLog) -> "Life":
        """What the naive states say."""
        key, left_out = about.eras[0].key, self._volatile(about.name)
        order = [c.name for c in about.columns if c.name not in (*key, *left_out)]
        lives: dict[Any, list[tuple[int, list[Row]]]] = defaultdict(list)
        groups: dict[Any, list[Row]] = {}
        for seq in range(1, len(self.model.states)):
            now = defaultdict(list)
            for row in self._known(about.name, seq):
                now[key_of(row, key)].append(row)
            for each in {*now, *groups}:
                one, two = (
                    Counter(canon_row(row, without=left_out) for row in g.get(each, ()))
                    for g in (groups, now)
                )
                if one != two:
                    lives[each].append((seq, now.get(each, [])))
            groups = dict(now)
        found: Life = {}
        for each, life in lives.items():
            for i, (seq, rows) in enumerate(life):
                till = life[i + 1][0] if i + 1 < len(life) else None
                before = life[i - 1][1] if i else []
                what = ("changed" if before else "reappeared" if i else "appeared") if rows else "disappeared"
                changed: tuple[str, ...] = ()
                if what == "changed" and len(rows) == len(before) == 1:
                    changed = tuple(
                        n for n in order if canon_row({n: rows[0].get(n)}) != canon_row({n: before[0].get(n)})
                    )
                listed = Counter(canon_row(row, without=left_out) for row in rows or before)
                found[each, seq, what] = (till, changed, listed)
        return found

    # Diffs.

    def diff(self, table: str, one: int, two: int) -> None:
        about = self.log.tables[table]
        head = len(self.model.effective)
        old, new = self._known(table, one), self._known(table, two)
        given = ", ".join("NULL" if seq == head else str(seq) for seq in (one, two))
        rows = list(self._rows(self.session, table, f"s.{quote(table + '_diff')}({given})"))
        keys = {era.key for era in about.eras}
        if len(keys) > 1 or keys == {()} or any(not c.primary_key for _, c in about.changes):
            self._counted(about, rows, old, new)
        else:
            self._paired(about, rows, old, new)

    def _counted(self, about: TableLog, rows: list[Row], old: list[Row], new: list[Row]) -> None:
        left_out = self._volatile(about.name)
        change, n = self._called(about, "change"), self._called(about, "n")
        found: Counter[Any] = Counter()
        for row in rows:
            what, times = row.pop(change), row.pop(n)
            assert what == ("appeared" if times > 0 else "disappeared")
            found[canon_row(row, without=left_out)] += times
        expected = Counter(canon_row(row, without=left_out) for row in new)
        expected.subtract(canon_row(row, without=left_out) for row in old)
        assert {k: v for k, v in found.items() if v} == {k: v for k, v in expected.items() if v}

    def _paired(self, about: TableLog, rows: list[Row], old: list[Row], new: list[Row]) -> None:
        key, left_out = about.eras[0].key, self._volatile(about.name)
        names = [self._called(about, name) for name in ("change", "changed_columns", "before")]
        loose = {c.name for c in about.columns if c.type == "json"}
        was, is_ = ({key_of(row, key): row for row in rows_} for rows_ in (old, new))
        expected = {
            k: "changed" if k in was and k in is_ else "appeared" if k in is_ else "disappeared"
            for k in was.keys() | is_.keys()
            if canon_row(was.get(k, {}), without=left_out) != canon_row(is_.get(k, {}), without=left_out)
            or (k in was) != (k in is_)
        }
        for row in rows:
            change, changed, before = (row.pop(name) for name in names)
            k = key_of(row, key)
            if k not in expected and change == "changed" and set(changed) <= loose:
                continue  # spelled anew
            assert change == expected.pop(k)
            assert canon_row(row, without=left_out) == canon_row(is_.get(k) or was[k], without=left_out)
            assert (before is not None) == (k in was)
            if before is not None:
                assert canon_row(self._decoded(about, before), without=left_out) == canon_row(
                    was[k], without=left_out
                )
            differing = {
                n for n in {*was[k], *is_[k]} - {*key, *left_out} if canon_row({n: was[k].get(n)}) != canon_row({n: is_[k].get(n)})
            } if change == "changed" else set()  # fmt: skip
            assert differing <= set(changed) <= differing | (loose if change == "changed" else set())
            order = [c.name for c in about.columns]
            assert changed == sorted(changed, key=order.index)
        assert not expected

    # What is read.

    def _rows(self, session: Session, table: str, what: str) -> Iterator[Row]:
        cursor = session.query(f"SELECT * FROM {what}")
        names = [c[0] for c in cursor.description or []]
        for values in cursor.fetchall():
            row = dict(zip(names, values, strict=True))
            row.pop("_lake_no_columns", None)
            yield self._decoded(self.log.tables[table], row)

    def _decoded(self, about: TableLog, row: Row) -> Row:
        texts = {c.name for c in about.columns if c.type == "json"}
        return {k: json.loads(v) if k in texts and v is not None else v for k, v in row.items()}

    def _known(self, table: str, seq: int) -> list[Row]:
        """The naive rows, under the names that their columns are stored by."""
        columns = self.log.tables[table].columns
        names = {c.name if c.source_name is None else c.source_name: c.name for c in columns}
        return [{names[k]: v for k, v in row.items()} for row in self.model.states[seq].get(table, [])]

    def _called(self, about: TableLog, name: str) -> str:
        """What a column of a view is called beside those of the data."""
        taken = {c.name.lower() for c in about.columns}
        while name in taken:
            name = f"_lake_{name}"
        return name

    def _volatile(self, table: str) -> tuple[str, ...]:
        return self.log.tables[table].last.volatile


Life = dict[tuple[Any, int, str], tuple[int | None, tuple[str, ...], Counter[Any]]]


def _without_respelling(found: Life) -> Life:
    """Versions that differ only in how JSON is spelled, or in volatile columns, as one."""
    merged: Life = {}
    lives: dict[Any, list[tuple[int, str]]] = defaultdict(list)
    for each, seq, what in found:
        lives[each].append((seq, what))
    for each, life in lives.items():
        last: tuple[Any, int, str] | None = None
        for seq, what in sorted(life):
            version = found[each, seq, what]
            if last is not None and what == "changed" and merged[last][2] == version[2]:
                merged[last] = (version[0], *merged[last][1:])
            else:
                last = (each, seq, what)
                merged[last] = version
    return merged


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def test_versions_of_random_histories_are_as_a_naive_model_says() -> None:
    run_state_machine_as_test(
        Versions,
        settings=settings(max_examples=8, stateful_step_count=8, deadline=None, suppress_health_check=QUIET),
    )


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_versions_of_many_long_random_histories_are_as_a_naive_model_says() -> None:
    run_state_machine_as_test(
        Versions,
        settings=settings(
            max_examples=300,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=QUIET,
            phases=[Phase.generate, Phase.shrink],
        ),
    )
