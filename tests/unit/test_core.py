"""The pure core: commits as lines, logs as chains, as-of, names, paths, moments."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.core import layout, moments
from lakehouse.core.commit import Commit, Part, TableChange, dump, lines, parse_file
from lakehouse.core.log import Log
from lakehouse.core.types import Column
from lakehouse.errors import (
    ForkError,
    FormatError,
    GapError,
    NotFoundError,
    TornCommitError,
    UnsafePathError,
    UserError,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
INSTANTS = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - bounds have none
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), TEXT, st.floats(allow_nan=False, allow_infinity=False)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=4,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=3)
TYPES = st.sampled_from(
    ["int64", "json", "decimal(5,2)", {"list": "string"}, {"struct": {"a": {"list": "null"}}}]
)
COLUMNS = st.lists(
    st.builds(Column, name=TEXT, type=TYPES, source_name=st.one_of(st.none(), TEXT)), max_size=3
).map(tuple)
NAMES = st.sampled_from(["t", "u", "v"])


@st.composite
def changes(draw: st.DrawFn, table: str) -> TableChange:
    parts = draw(st.lists(st.sampled_from(["a", "b", "c"]), max_size=2, unique=True))
    return TableChange(
        disposition=draw(st.sampled_from(["append", "replace", "merge"])),
        primary_key=tuple(draw(st.lists(TEXT, max_size=2))),
        merge_key=tuple(draw(st.lists(TEXT, max_size=1))),
        volatile=tuple(draw(st.lists(TEXT, max_size=1))),
        columns=draw(COLUMNS),
        # A path always has one digest and one size: it is one file.
        parts=tuple(
            Part(
                path=f"s/{table}/{p}.parquet", sha256=p * 64, size_bytes=ord(p), rows=draw(st.integers(0, 9))
            )
            for p in parts
        ),
        base=draw(st.booleans()),
        counts=draw(st.dictionaries(st.sampled_from(["rows", "appeared"]), st.integers(1, 99), max_size=2)),
        content=draw(TEXT),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Commit]:
    out = []
    kept = {name: draw(changes(name)) for name in ("t", "u", "v")}
    about = draw(st.lists(OBJECTS, min_size=2, max_size=2))
    for seq in range(1, draw(st.integers(1, 6)) + 1):
        tables = {}
        for name in draw(st.lists(NAMES, max_size=3, unique=True)):
            if draw(st.booleans()):
                kept[name] = draw(changes(name))
            tables[name] = kept[name]
        out.append(
            Commit(
                source="s",
                seq=seq,
                load_id=draw(TEXT),
                prev="",
                observed_at=draw(INSTANTS),
                effective_at=draw(INSTANTS),
                committed_at=draw(INSTANTS),
                tables=tables,
                failure=draw(st.one_of(st.none(), st.text('aé\n"', min_size=1))),
                responses=tuple(draw(st.lists(OBJECTS, max_size=1))),
                pipeline=draw(st.one_of(st.none(), st.dictionaries(TEXT, VALUES, max_size=3))),
                reverts_to=draw(st.one_of(st.none(), st.integers(0, seq - 1))),
                produced_by=about[draw(st.integers(0, 1))],
                gates=about[draw(st.integers(0, 1))],
                discarded=draw(OBJECTS),
            )
        )
    return out


def plain(commit: Commit) -> Commit:
    return replace(commit, prev="", digest="", record={})


@given(histories(), st.integers(0, 6))
@settings(deadline=None)
def test_commits_come_back_from_their_lines(history: list[Commit], cut: int) -> None:
    """Whatever is carried from line to line, in one file or in two."""
    first, second = history[:cut], history[cut:]
    log = Log("s")
    for commits in (first, second):
        if commits:
            key = layout.log_key("s", commits[0].seq)
            found = parse_file(lines(commits, prev=log.digest), key=key, source="s")
            assert [plain(c) for c in found] == commits
            log = log.extended(found, key=key)
    assert log.head == len(history)


def commit(
    seq: int, *, prev: str = "", observed: datetime = START, effective: datetime | None = None
) -> Commit:
    return Commit(
        source="s",
        seq=seq,
        load_id=f"load {seq}",
        prev=prev,
        observed_at=observed,
        effective_at=effective or observed,
        committed_at=START,
    )


def log_of(*commits: Commit) -> Log:
    return Log("s").extended(parse_file(lines(commits, prev=""), key="s/_log/1", source="s"))


def test_unknown_fields_are_kept_and_harm_nothing() -> None:
    record = json.loads(lines([commit(1)], prev="")) | {"colour": {"of": "money"}}
    found = parse_file(dump(record) + b"\n", key="k", source="s")[0]
    assert found.record["colour"] == {"of": "money"}
    assert plain(found) == commit(1)


@pytest.mark.parametrize("version", [2, 99, "1", None])
def test_a_newer_format_is_refused(version: object) -> None:
    record = json.loads(lines([commit(1)], prev="")) | {"format": version}
    with pytest.raises(FormatError, match="Upgrade"):
        parse_file(dump(record) + b"\n", key="k", source="s")


def test_a_file_cut_anywhere_is_torn_or_not_json() -> None:
    whole = lines([commit(1), commit(2)], prev="")
    for length in range(len(whole)):
        if whole[:length].endswith(b"\n"):
            continue
        with pytest.raises(TornCommitError):
            parse_file(whole[:length], key="k", source="s")
        with pytest.raises(FormatError):
            parse_file(whole[:length] + b"\n", key="k", source="s") if whole[
                length : length + 1
            ] != b"\n" else parse_file(b"", key="k", source="s")


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 0}, {"seq": "1"}, {"observed_at": "yesterday"}, {"source": "other"}, {"tables": []},
        {"reverts_to": 1}, {"reverts_to": -1}, {"reverts_to": "0"}, {"tables": {"../t": {}}}, {"tables": {"t": {"disposition": "append"}}}, {"committed_at": None},
        {"tables": {"t": {"disposition": "append", "primary_key": [], "schema": [{"name": "a", "type": "int1024"}]}}},
    ],
)  # fmt: skip
def test_what_is_no_commit_is_a_format_error(change: dict[str, object]) -> None:
    record = json.loads(lines([commit(1)], prev="")) | change
    with pytest.raises((FormatError, UserError)):
        parse_file(dump(record) + b"\n", key="k", source="s")


@pytest.mark.parametrize("line", [b"[]", b"1", b"", b"{", b"\xff", b'"s"'])
def test_a_line_that_is_no_object_is_a_format_error(line: bytes) -> None:
    with pytest.raises(FormatError):
        parse_file(line + b"\n", key="k", source="s")


def test_a_changed_commit_breaks_the_chain() -> None:
    log = log_of(commit(1), commit(2), commit(3))
    other = commit(2, observed=START + timedelta(days=1))
    forged = parse_file(lines([other], prev=log.commits[0].digest), key="k", source="s")
    with pytest.raises(ForkError):
        Log("s").extended([log.commits[0], *forged, log.commits[2]])
    with pytest.raises(ForkError):
        Log("s").extended([replace(log.commits[0], prev="x")])
    with pytest.raises(GapError):
        Log("s").extended([log.commits[0], log.commits[2]])
    with pytest.raises(GapError):
        log.extended([log.commits[2]])


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_an_instant_sees_all_that_was_known_by_then(days: list[int]) -> None:
    """However observed times repeat or run backwards: effective time never does."""
    commits, effective = [], START + timedelta(days=-99)
    for seq, day in enumerate(days, 1):
        observed = START + timedelta(days=day)
        effective = max(effective, observed)
        commits.append(commit(seq, observed=observed, effective=effective))
    log = log_of(*commits)
    for day in range(-4, 5):
        for moment in (START + timedelta(days=day), START + timedelta(days=day, microseconds=1)):
            assert log.position(moment) == sum(c.effective_at <= moment for c in commits)
            assert log.resolve(moment) == log.position(moment)
    assert log.resolve(None) == log.head == len(days)
    assert log.resolve(0) == 0
    for wrong in (-1, log.head + 1):
        with pytest.raises(NotFoundError):
            log.resolve(wrong)


def test_eras_begin_where_a_state_begins_anew() -> None:
    def change(*, base: bool = False, key: tuple[str, ...] = ()) -> TableChange:
        return TableChange(disposition="merge", primary_key=key, base=base)

    history = [
        replace(commit(1), tables={"t": change()}),
        replace(commit(2), tables={"t": change(base=True, key=("id",))}),
        commit(3),
        replace(commit(4), tables={"t": change(key=("id",)), "u": change()}),
        replace(commit(5), tables={"t": change(base=True)}),
    ]
    table = log_of(*history).tables["t"]
    assert [(era.first, era.key) for era in table.eras] == [(1, ()), (2, ("id",)), (5, ())]
    seen = {seq: [s for s, _ in table.changes_at(seq)] for seq in range(7)}
    assert seen == {0: [], 1: [1], 2: [2], 3: [2], 4: [2, 4], 5: [5], 6: [5]}


@given(INSTANTS, st.integers(-14 * 60, 14 * 60))
def test_moments_come_back_whatever_their_zone(moment: datetime, minutes: int) -> None:
    text = moments.render(moment)
    assert len(text) == 27
    assert moments.parse(text) == moment
    assert moments.parse(text).utcoffset() == timedelta(0)
    if 2 < moment.year < 9998:
        assert moments.render(moment.astimezone(timezone(timedelta(minutes=minutes)))) == text


def test_moments_sort_as_text_and_count_from_1970() -> None:
    times = [datetime(7, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), START]
    assert sorted(map(moments.render, times)) == [moments.render(t) for t in times]
    assert moments.microseconds(times[1]) == -1
    assert moments.microseconds(datetime(1970, 1, 1, 0, 0, 1)) == 1_000_000  # noqa: DTZ001 - no zone is UTC
    assert moments.parse(" 2026-01-01T02:00:00+02:00 ") == START


@pytest.mark.parametrize(
    "path",
    [
        "../x", "/etc/passwd", "s/t/../../x", "s/t/./x", "s/t//x", "s/t/", "s/t", "s/u/x", "s/t/a\\b", "s/t/a:b",
        "s/t/\0", "s/t/a\nb", "", None, 7, ["s/t/x"], "S/t/x", "s/t/..", "file:///s/t/x",
    ],
)  # fmt: skip
def test_a_path_outside_its_table_is_refused(path: object) -> None:
    with pytest.raises(UnsafePathError):
        layout.check_relative(path, named_by="s/_log/1", within="s/t/")


def test_a_plain_path_of_the_table_is_taken() -> None:
    for name in ("x.parquet", "lake_load=00000001/..x.parquet", "a b/é"):
        assert layout.check_relative(f"s/t/{name}", named_by="k", within="s/t/") == f"s/t/{name}"


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "_x", "é", "a.b", "a/b", "x" * 121, "a\n"])
def test_a_bad_name_is_refused(name: str) -> None:
    for check in (layout.check_source_name, layout.check_table_name):
        with pytest.raises(UserError):
            check(name)


def test_a_source_cannot_have_a_name_of_the_catalog() -> None:
    for name in ("main", "MAIN", "temp", "lakehouse", "pg_catalog"):
        with pytest.raises(UserError):
            layout.check_source_name(name)
        assert layout.check_table_name(name) == name


def test_keys_of_the_log_are_numbered_and_found_again() -> None:
    assert layout.log_file_seq(layout.log_key("s", 42)) == 42
    assert layout.log_file_seq("s/_log/42.jsonl") is None
    assert layout.log_file_seq("s/_log/00000000000000000042.jsonl.tmp") is None


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_load_id_is_one_component_of_a_path_and_its_own(one: str, two: str) -> None:
    safe = layout.safe_id(one)
    assert safe not in ("", ".", "..")
    assert "/" not in safe
    assert safe.isascii()
    if one != two:
        assert safe != layout.safe_id(two)
