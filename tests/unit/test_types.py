"""Types: how they unify, and how columns keep their names."""

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.core.types import Column, Type, check, distinct_names, merge_columns, unify

SCALARS = [
    "null", "bool", "string", "binary", "json", "int8", "int16", "int32", "int64", "bigint", "uint8", "uint16",
    "uint32", "uint64", "float32", "float64", "date", "time", "timestamp", "timestamptz", "timestamp_ns",
    "timestamptz_ns", "decimal(4,2)", "decimal(20,0)", "decimal(38,0)", "decimal(38,30)",
]  # fmt: skip
# JSON text is a column of its own: normalised data has none inside nested values.
INNER = [name for name in SCALARS if name != "json"]
NESTED = st.recursive(
    st.sampled_from(INNER),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"list": inner}),
        st.dictionaries(st.sampled_from(["a", "b", "A"]), inner, min_size=1, max_size=2)
        .filter(lambda fields: len({name.lower() for name in fields}) == len(fields))
        .map(lambda fields: {"struct": fields}),
    ),
    max_leaves=4,
)
TYPES = st.one_of(st.sampled_from(SCALARS), NESTED)


def same(one: Type, two: Type) -> bool:
    """Equal, up to the order of struct fields: that is how Python compares dicts."""
    return one == two


@given(TYPES, TYPES)
def test_unify_is_commutative(one: Type, two: Type) -> None:
    assert same(unify(one, two), unify(two, one))


@given(TYPES, TYPES, TYPES)
def test_unify_is_associative(one: Type, two: Type, three: Type) -> None:
    assert same(unify(unify(one, two), three), unify(one, unify(two, three)))


def test_unify_is_associative_for_all_scalars() -> None:
    for one in SCALARS:
        for two in SCALARS:
            for three in SCALARS:
                assert unify(unify(one, two), three) == unify(one, unify(two, three)), (one, two, three)


@given(TYPES, TYPES)
def test_unify_is_idempotent(one: Type, two: Type) -> None:
    assert unify(one, one) == one
    both = unify(one, two)
    assert same(unify(both, one), both)
    assert same(unify(both, two), both)
    assert check(both) == both


@given(TYPES)
def test_null_is_the_bottom_and_json_the_top(kind: Type) -> None:
    assert unify(kind, "null") == unify("null", kind) == kind
    assert unify(kind, "json") == unify("json", kind) == "json"


def test_what_would_lose_digits_becomes_json() -> None:
    assert unify("int64", "float64") == "float64"
    assert unify("bigint", "float64") == "json"
    assert unify("uint64", "float32") == "json"
    assert unify("int64", "uint64") == "decimal(20,0)"
    assert unify("decimal(38,0)", "decimal(5,5)") == "json"
    assert unify({"list": "bigint"}, {"list": "float64"}) == "json"
    assert unify({"struct": {"a": "int8"}}, {"struct": {"A": "int8"}}) == "json"


@given(
    st.lists(
        st.lists(st.sampled_from(["a", "A", "", "unnamed", "a_2", "A_2", "_lake_seq", "é", "É"]), unique=True)
    )
)
def test_names_are_distinct_and_stay_the_same_for_ever(loads: list[list[str]]) -> None:
    known: tuple[Column, ...] = ()
    chosen: dict[str, str] = {}
    for incoming in loads:
        names = distinct_names(incoming, known, ["_lake_seq"])
        assert distinct_names(incoming, known, ["_lake_seq"]) == names
        for source, name in zip(incoming, names, strict=True):
            assert chosen.setdefault(source, name) == name
        columns = [
            Column(name=n, type="int64", source_name=None if n == s else s)
            for s, n in zip(incoming, names, strict=True)
        ]
        known = merge_columns(known, columns)
    folded = [name.lower() for name in chosen.values()]
    assert len(set(folded)) == len(folded)
    assert not {"", "_lake_seq"} & set(folded)


def test_the_first_comer_keeps_its_name() -> None:
    assert distinct_names(["a", "A", ""], [], []) == ["a", "A_2", "unnamed"]
    assert distinct_names(["A", "a"], [Column(name="a", type="int64")], []) == ["A_2", "a"]
