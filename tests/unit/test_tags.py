"""Tags and as-ofs: what a file may say, which names there are, and one meaning in SQL and in Python."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse import Lake
from lakehouse import tags as tagging
from lakehouse.core import layout, tag
from lakehouse.core.tag import Tag
from lakehouse.errors import ForkError, FormatError, LakehouseError, NotFoundError, QueryError, UserError
from lakehouse.store import MemoryStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def two_sources() -> Lake:
    """Three loads of `shop` at noon of 1, 2 and 3 March 2026, one of `news` on the second day."""
    lake = Lake.create(MemoryStore())
    for n in range(3):
        with lake.load("shop", observed_at=NOON + timedelta(days=n)) as load:
            load.write("t", [{"n": n + 1}], disposition="replace")
    with lake.load("news", observed_at=NOON + timedelta(days=1)) as load:
        load.write("t", [{"n": 1}])
    return lake


@pytest.fixture(scope="module")
def lake() -> Lake:
    """As `two_sources` makes it. Not to be written to."""
    return two_sources()


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,20}", fullmatch=True)
TAGS = st.builds(
    lambda name, at, asked, seqs, note: Tag(
        name=name, created_at=at, as_of=asked, positions=seqs, note=note,
        digests={source: "d" * seq for source, seq in seqs.items()},
    ),
    NAMES, st.datetimes(timezones=st.just(UTC)), st.none() | st.text(),
    st.dictionaries(st.sampled_from(["s", "t", "u"]), st.integers(0, 9)), st.none() | st.text(),
)  # fmt: skip


@given(TAGS)
def test_a_tag_comes_back_from_its_file(one: Tag) -> None:
    content = json.dumps(one.to_json() | {"unknown": 1}).encode()
    assert tag.parse(content, key=layout.tag_key(one.name)) == one


WHOLE = {
    "format": 1, "name": "x", "created_at": "2026-03-01T12:00:00.000000Z",
    "positions": {"s": {"seq": 1, "digest": "d"}},
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2}, {"format": None}, {"name": "y"}, {"name": "../x"}, {"name": 7}, {"created_at": "now"},
        {"positions": {"s": {"seq": -1, "digest": ""}}}, {"positions": {"s": {"seq": True, "digest": ""}}},
        {"positions": {"s": 1}}, {"positions": []}, {"positions": {"../s": {"seq": 1, "digest": ""}}},
    ],
)  # fmt: skip
def test_what_is_no_tag_is_a_format_error(change: dict[str, object]) -> None:
    assert tag.parse(json.dumps(WHOLE).encode(), key="_tags/x.json").positions == {"s": 1}
    with pytest.raises(FormatError):
        tag.parse(json.dumps(WHOLE | change).encode(), key="_tags/x.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"1", b"\xff", b'"x"', b"[" * 100_000])
def test_what_is_no_object_is_a_format_error(content: bytes) -> None:
    with pytest.raises(FormatError):
        tag.parse(content, key="_tags/x.json")


@pytest.mark.parametrize(
    "name",
    ["", "1", "42", "2026-03-01", "1st", ".x", "_x", "a b", "a/b", "../a", "é", "x" * 121, "a\n",
     "now", "Today", "yesterday", "epoch", "Infinity", "inf"],
)  # fmt: skip
def test_a_name_that_could_mean_something_else_is_refused(name: str, lake: Lake) -> None:
    with pytest.raises(UserError):
        tagging.create(lake, name)
    assert tagging.tags(lake) == {}


AS_OFS = [
    0, 1, 2, 3, "2", " 3 ", "002", None, NOON, NOON - timedelta(microseconds=1), NOON.replace(tzinfo=None),
    "2026-03-02", "2026-03-02 12:00", "2026-03-02T13:00:00+01:00", "2026-03-02T12:59:59.999999+01:00",
    "0001-01-01", "9999-12-31", "290000-01-01", "second", "epoch", "2026-03-03T12:00:00.000000Z",
]  # fmt: skip


@pytest.fixture(scope="module")
def tagged() -> Lake:
    made = two_sources()
    tagging.create(made, "second", "2026-03-02T12:00:00Z")
    return made


@pytest.mark.parametrize("as_of", AS_OFS, ids=str)
def test_an_as_of_means_the_same_in_sql_and_in_python(as_of: tagging.AsOf, tagged: Lake) -> None:
    found = tagging.resolve(tagged, as_of)
    sql = "select (select max(n) from shop.t), (select count(*) from news.t)"
    assert tagged.query(sql, as_of=as_of).fetchall() == [(found["shop"] or None, found["news"])]
    assert tagging.position(tagged, "shop", as_of) == found["shop"]
    text = "NULL" if as_of is None else f"'{as_of}'"
    assert tagged.query(f"select max(n) from shop.t_at({text})").fetchall() == [(found["shop"] or None,)]


@pytest.mark.parametrize(
    "as_of", ["yesterday", "", "1.5", "-1", "seconds", "Second", 4, "4", 10**30, "9" * 30], ids=str
)
def test_what_is_no_as_of_is_an_error_in_sql_and_in_python(as_of: tagging.AsOf, tagged: Lake) -> None:
    for ask in (tagging.resolve, lambda lake, moment: lake.query("select 1 from shop.t", as_of=moment)):
        with pytest.raises(UserError, match="as of"):
            ask(tagged, as_of)
    with pytest.raises(UserError):
        tagging.position(tagged, "shop", as_of)


def test_a_load_number_means_all_of_a_shorter_log_unless_it_is_asked_for_alone(lake: Lake) -> None:
    assert tagging.resolve(lake, 3) == {"news": 1, "shop": 3}
    assert tagging.position(lake, "shop", 3) == 3
    with pytest.raises(NotFoundError, match="there is no load 3; the log ends at 1"):
        tagging.position(lake, "news", 3)
    with pytest.raises(NotFoundError, match="no source"):
        tagging.position(lake, "nope", 1)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=12) | st.from_regex(r"[0-9:TZ .+-]{1,12}"))
def test_any_text_is_an_as_of_or_an_error_of_ours_in_both(text: str) -> None:
    lake = LAKES.setdefault("one", two_sources())
    try:
        found = tagging.resolve(lake, text)
    except UserError:
        with pytest.raises(LakehouseError):
            lake.query("select * from shop.t", as_of=text).fetchall()
    else:
        assert lake.query("select max(n) from shop.t", as_of=text).fetchall() == [(found["shop"] or None,)]


LAKES: dict[str, Lake] = {}


def test_a_tag_stays_where_it_is_while_loads_come_and_observations_are_older() -> None:
    lake = two_sources()
    tagging.create(lake, "then", "2026-03-05", note="before all changed")
    with lake.load("shop", observed_at=NOON) as load:  # seen long ago, and effective from the newest on
        load.write("t", [{"n": 4}], disposition="replace")
    with lake.load("later") as load:
        load.write("t", [{"n": 1}])
    assert tagging.resolve(lake, "2026-03-05")["shop"] == 4
    assert tagging.resolve(lake, "then") == {"later": 0, "news": 1, "shop": 3}
    assert lake.query("select n from shop.t", as_of="then").fetchall() == [(3,)]
    assert lake.query("select count(*) from later.t", as_of="then").fetchall() == [(0,)]
    found = lake.query("select name, source, seq, note from lakehouse.tags order by source").fetchall()
    assert found == [("then", "news", 1, "before all changed"), ("then", "shop", 3, "before all changed")]


def test_a_name_is_never_moved() -> None:
    lake = two_sources()
    made = tagging.create(lake, "then", 2)
    assert tagging.create(lake, "then", "2") == made  # again, after a crash
    for name, as_of, note in (("then", 1, None), ("then", 2, "why"), ("Then", 2, None)):
        with pytest.raises(UserError, match="already"):
            tagging.create(lake, name, as_of, note=note)
    tagging.delete(lake, "then")
    assert tagging.create(lake, "then", 1).positions == {"news": 1, "shop": 1}
    with pytest.raises(NotFoundError, match="no tag 'them'"):
        tagging.delete(lake, "them")


def test_a_tag_of_a_tag_names_the_same() -> None:
    lake = two_sources()
    tagging.create(lake, "one", "2026-03-01T12:00:00Z")
    assert tagging.create(lake, "two", "one").positions == {"news": 0, "shop": 1}


def test_what_names_nothing_or_is_yet_to_come_is_refused() -> None:
    lake = two_sources()
    with pytest.raises(NotFoundError, match="nothing was loaded by then"):
        tagging.create(lake, "early", "2020-01-01")
    with pytest.raises(UserError, match="yet to come"):
        tagging.create(lake, "late", datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(NotFoundError, match="nothing was loaded"):
        tagging.create(Lake.create(MemoryStore()), "empty")
    assert tagging.tags(lake) == {}


def test_a_tag_that_does_not_parse_harms_no_other() -> None:
    lake = two_sources()
    tagging.create(lake, "good", 2)
    lake.store.put("_tags/bad.json", b"{")
    lake.store.put("_tags/note.txt", b"not a tag")
    found, broken = tagging.read_tags(lake.store)
    assert (list(found), list(broken)) == (["good"], ["bad"])
    assert lake.query("select max(n) from shop.t", as_of="good").fetchall() == [(2,)]
    for ask in (lambda: lake.query("select 1", as_of="bad"), lambda: tagging.resolve(lake, "bad")):
        with pytest.raises(FormatError, match=r"_tags/bad.json: is not a tag"):
            ask()
    with pytest.raises(FormatError):
        tagging.find(lake, "bad")
    tagging.delete(lake, "bad")
    assert list(tagging.tags(lake)) == ["good"]


def test_a_log_that_is_not_the_one_that_was_tagged_is_noticed() -> None:
    lake = two_sources()
    tagging.create(lake, "then", 2)
    key = layout.tag_key("then")
    digest = lake.log("shop").commits[1].digest
    lake.store.put(key, lake.store.get(key).replace(digest.encode(), b"0" * 64))
    with pytest.raises(ForkError, match="tag then: load 2 of shop"):
        tagging.resolve(lake, "then")
    assert [type(e) for e in tagging.misfits(tagging.find(lake, "then"), lake.log("news"))] == []


def test_near_misses_are_named(tagged: Lake) -> None:
    with pytest.raises(QueryError, match="Did you mean second"):
        tagged.query("select 1", as_of="secnd")
    with pytest.raises(NotFoundError, match="Did you mean second"):
        tagging.find(tagged, "SECOND")
