"""Names of the lake as identifiers of PostgreSQL."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.postgres.names import (
    LONGEST,
    SYSTEM_COLUMNS,
    Names,
    identifier,
    literal,
    qualified,
    quote,
    schema_identifier,
)

names = (
    st.text(max_size=80) | st.text('aAü😀\0\ud800" _2', max_size=80) | st.sampled_from(sorted(SYSTEM_COLUMNS))
)


@pytest.mark.parametrize(
    "name",
    ["price", "Price", "two words", 'quo"te', "ü" * 31, "x" * LONGEST, "select", "1", " ", "%", "naïve_2"],
)
def test_a_name_that_fits_is_kept(name: str) -> None:
    assert identifier(name) == name


def test_a_long_name_is_cut_at_a_character_and_has_a_hash_of_all_of_it() -> None:
    one, two = identifier("ü" * 40), identifier("ü" * 39 + "u")
    assert one != two
    assert one[:27] == two[:27] == "ü" * 27
    assert len(one.encode()) <= LONGEST
    assert identifier("x" * 64) != identifier("x" * 65)


def test_what_an_identifier_cannot_hold_is_replaced_and_told_apart_by_a_hash() -> None:
    assert identifier("a\0b").startswith("a\u2400b_")
    assert identifier("a\ud800").startswith("a\ufffd_")
    assert len({identifier(name) for name in ("a\0", "a\u2400", "a\ud800", "a\ud801", "a\ufffd")}) == 5


def test_an_empty_name_is_called_as_in_the_lake() -> None:
    assert identifier("") == "unnamed"
    assert Names().extended(["unnamed", ""]).to_json() == [["unnamed", "unnamed"], ["", "unnamed_2"]]


def test_columns_give_way_to_ours_and_to_those_of_postgresql() -> None:
    found = Names(reserved=SYSTEM_COLUMNS | {"valid_from"}).extended(
        ["xmin", "valid_from", "valid_from_2", "Xmin"]
    )
    assert dict(found.identifiers) == {
        "xmin": "xmin_2", "valid_from": "valid_from_2", "valid_from_2": "valid_from_2_2", "Xmin": "Xmin",
    }  # fmt: skip


def test_a_name_whose_cut_form_is_taken_gets_another() -> None:
    long = "x" * 70
    found = Names().extended([identifier(long), long])
    assert found[identifier(long)] == identifier(long)
    assert found[long] != identifier(long)
    assert found[long].endswith("_2")
    assert len(found[long].encode()) <= LONGEST


def test_no_form_of_a_table_meets_another_table() -> None:
    forms = ("", "_history", "_at")
    found = Names(forms=forms).extended(["b_history", "b", "b_at", "t" * 120, "t" * 119])
    made = [found.form(name, form) for name in found.identifiers for form in forms]
    assert len(set(made)) == len(made)
    assert found["b_history"] == "b_history"
    assert found.form("b", "_history") == "b_2_history"


def test_schemas_are_never_those_of_others() -> None:
    assert schema_identifier("shop") == "shop"
    assert schema_identifier("shop", prefix="lake_") == "lake_shop"
    assert schema_identifier("pg_stat") == "lake_pg_stat"
    assert schema_identifier("stat", prefix="pg_") == "lake_pg_stat"
    assert schema_identifier("public") == "lake_public"
    assert schema_identifier("PUBLIC") == "PUBLIC"


@given(st.lists(names, unique=True), st.lists(names, unique=True))
def test_what_was_named_stays_whatever_comes_later(first: list[str], later: list[str]) -> None:
    before = Names().extended(first)
    after = Names.from_json(before.to_json()).extended(later)
    assert all(after[name] == before[name] for name in first)
    assert after == before.extended(later) == Names().extended([*first, *later])
    assert set(after.identifiers) == {*first, *later}


@given(st.lists(names, unique=True))
def test_identifiers_are_distinct_and_can_be_sent(given_names: list[str]) -> None:
    found = list(Names().extended(given_names).identifiers.values())
    assert len(set(found)) == len(found)
    assert SYSTEM_COLUMNS.isdisjoint(found)
    assert all(0 < len(one.encode()) <= LONGEST and "\0" not in one for one in found)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("it's", "'it''s'"),
        ("", "''"),
        ("a\\'b", " E'a\\\\''b'"),
        ("a\0b", "'a\u2400b'"),
        ("\ud800", "'\ufffd'"),
    ],
)
def test_literals_are_quoted(text: str, quoted: str) -> None:
    assert literal(text) == quoted


def test_identifiers_are_quoted() -> None:
    assert quote('a"; DROP') == '"a""; DROP"'
    assert qualified("s.x", "t") == '"s.x"."t"'
