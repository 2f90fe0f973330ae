"""References of random SELECTs: each span cuts out the name just as it was written, and none is missed."""

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.models.place import Place
from lakehouse.models.references import references

WHERE = Place(path="models/x.sql")
TABLES = {("shop", "products"): "shop.products", ("news", "Items"): "news.Items", ("", "daily"): "models.daily", ("models", "daily"): "models.daily"}  # fmt: skip

SPACES = st.lists(
    st.sampled_from([" ", "\n", "\t", "\r\n", "/* from shop.products 'x */", '-- from daily "\n', "/* ü😀 */", "  "]),
    min_size=1, max_size=3,
).map("".join)  # fmt: skip
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
VALUES = st.one_of(
    TEXTS.map(lambda t: "'" + t.replace("'", "''") + "'"),
    TEXTS.filter(lambda t: "$" not in t).map(lambda t: f"$q${t}$q$"),
    st.sampled_from(["1", "'from daily'", '"k"', "{'a': [1]}", "e'\\''", "x -> 1", "'--'", "'/*'", "1::int"]),
)  # fmt: skip
ALIASES = TEXTS.filter(bool).map(lambda t: ' AS "' + t.replace('"', '""') + '"')


@st.composite
def written_names(draw: st.DrawFn) -> tuple[str, str, str]:
    """A table as somebody may write it: text, what it means, and its form."""
    (schema, name), means = draw(st.sampled_from(sorted(TABLES.items())))
    form = draw(st.sampled_from(["", "_at", "_history", "_diff"]))
    parts = [part for part in (schema, name + form) if part]
    spelled = [draw(st.sampled_from([str.lower, str.upper, str.title]))(part) for part in parts]
    quoted = [f'"{part}"' if draw(st.booleans()) else part for part in spelled]
    dot = f"{draw(SPACES)}.{draw(SPACES)}" if draw(st.booleans()) else "."
    return dot.join(quoted), means, form.removeprefix("_")


@st.composite
def selects(draw: st.DrawFn) -> tuple[str, list[tuple[str, str, str, bool]]]:
    """A SELECT, and the references that it should have."""
    expected: list[tuple[str, str, str, bool]] = []
    gap = lambda: draw(SPACES)  # noqa: E731

    def table(number: int) -> str:
        text, means, form = draw(written_names())
        alias = draw(st.booleans())
        expected.append((text, means, form, alias))
        called = {"at": f"{gap()}({gap()}'2026-11-01'{gap()})", "diff": "(1, 2)"}.get(form, "")
        # an alias for each, or a number in front where it has none: no two tables of one name stand in one FROM
        return f"(from{gap()}{text}{called}{gap()}{draw(ALIASES) if alias else ''}{gap()}){gap()}q{number}"

    values = [draw(VALUES) for _ in range(draw(st.integers(1, 3)))]
    head = "select" + gap() + f"{gap()},{gap()}".join(values) + gap()
    body = "from" + gap() + f"{gap()},{gap()}".join(table(n) for n in range(draw(st.integers(1, 4))))
    where = f"{gap()}where{gap()}exists{gap()}({gap()}from{gap()}c{gap()})" if draw(st.booleans()) else ""
    start = f"with{gap()}c{gap()}as{gap()}(select 1){gap()}" if where else ""
    return draw(st.sampled_from(["", "-- ü\n", "/* 😀 */ "])) + start + head + body + where, expected


@given(selects())
def test_spans_cut_out_each_name_as_it_is_written(case: tuple[str, list[tuple[str, str, str, bool]]]) -> None:
    sql, expected = case
    lake = ["shop.products", "news.Items"]
    found = references(sql, models=["daily"], tables=lambda: lake, where=WHERE)
    assert [(sql[r.start : r.end], r.name, r.form, r.alias) for r in found] == expected
