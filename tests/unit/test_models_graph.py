"""The graph of models: order, circles, and which are chosen."""

import random

import pytest

from lakehouse.errors import NotFoundError, UserError
from lakehouse.models.graph import downstream, order, reads, select, upstream
from lakehouse.models.model import Model, Reference


def model(name: str, *inputs: str, kind: str = "view", key: tuple[str, ...] = (), form: str = "") -> Model:
    """A model that reads others, or tables of the lake where there is a dot in the name; one a line."""
    sql, references = "select 1", []
    for other in inputs:
        source, _, table = f"models.{other}".rpartition(".")
        source = source.removeprefix("models.")
        sql += "\nfrom "
        references.append(
            Reference(source=source, table=table, form=form, start=len(sql), end=len(sql) + len(other))
        )
        sql += other
    return Model(
        name=name,
        path=f"models/{name}.sql",
        sql=sql,
        line=3,
        kind=kind,
        key=key,
        references=tuple(references),
    )


def names(models: list[Model]) -> list[str]:
    return [m.name for m in models]


# a -> b -> d -> e, a -> c -> d, and f alone
DIAMOND = [
    model("e", "d"), model("d", "b", "c"), model("b", "a"), model("c", "a", "shop.stores"), model("f", "shop.stores"),
    model("a", "shop.products"),
]  # fmt: skip


def test_each_model_comes_after_what_it_reads() -> None:
    assert names(order(DIAMOND)) == ["a", "f", "b", "c", "d", "e"]
    assert order([]) == []


def test_the_order_is_the_same_however_files_are_listed() -> None:
    drawn = random.Random(1)
    models = [model(f"m{n}", *{f"m{drawn.randrange(n)}" for _ in range(3) if n}) for n in range(200)]
    first = names(order(models))
    assert all(first.index(read) < first.index(m.name) for m in models for read in reads(models)[m.name])
    for _ in range(3):
        drawn.shuffle(models)
        assert names(order(models)) == first


def test_a_circle_is_shown_as_a_path_with_files() -> None:
    with pytest.raises(UserError) as caught:
        order(
            [model("c", "b"), model("a", "shop.products", "c"), model("b", "a"), model("d", "a"), model("f")]
        )
    text = str(caught.value)
    assert "a -> b -> c -> a" in text
    assert "models/b.sql:4 reads a" in text
    assert "models/a.sql:5 reads c" in text
    assert "d.sql" not in text
    with pytest.raises(UserError, match="a -> b -> a"):
        order([model("b", "a"), model("a", "b")])


@pytest.mark.parametrize(
    ("other", "form", "said"),
    [
        (model("v"), "diff", r"m.sql:4: reads _diff of v, which is a view"),
        (model("v"), "history", r"which is a view, of which nothing is stored"),
        (model("v", kind="table"), "history", r"a table without a key"),
    ],
)  # fmt: skip
def test_forms_that_a_model_does_not_have_are_refused(other: Model, form: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        order([other, model("m", "v", form=form)])


def test_forms_that_a_model_has_are_fine() -> None:
    table = model("v", kind="table", key=("k",))
    for form in ("history", "diff", "at"):
        assert names(order([table, model("m", "v", form=form)])) == ["v", "m"]


def test_what_is_above_and_below() -> None:
    edges = reads(DIAMOND)
    assert edges["d"] == ("b", "c")
    assert upstream(["d"], edges) == {"a", "b", "c"}
    assert downstream(["b"], edges) == {"d", "e"}
    assert upstream(["a"], edges) == downstream(["e"], edges) == set()
    assert upstream(["b", "d"], edges) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("patterns", "exclude", "expected"),
    [
        ([], [], "edbcfa"),
        (["b"], [], "b"),
        (["B", "models.c"], [], "bc"),
        (["+d"], [], "dbca"),
        (["b+"], [], "edb"),
        (["+b+"], [], "edba"),
        (["[bc]"], [], "bc"),
        (["*"], ["a+"], "f"),
        ([], ["b", "f"], "edca"),
        (["shop.products+"], [], "edbca"),
        (["shop.*+"], [], "edbcfa"),
        (["SHOP.stores+"], ["+d"], "ef"),
        (["models/b.sql", "./models/f.sql"], [], "bf"),
        (["models/[ab].sql"], [], "ba"),
        (["models/"], [], "edbcfa"),
        (["+models/b.sql"], [], "ba"),
    ],
)  # fmt: skip
def test_models_are_chosen_in_the_order_they_came(
    patterns: list[str], exclude: list[str], expected: str
) -> None:
    assert "".join(names(select(DIAMOND, patterns, exclude=exclude))) == expected


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("dayly", "`daily`"),
        ("+dayly+", "no model is meant by '+dayly+'"),
        ("zzz", "Such as name, +name"),
        ("x_*", "Such as"),
        ("shop.products", "write shop.products+"),
        ("shop.product+", "`shop.products`"),
    ],
)  # fmt: skip
def test_a_pattern_that_means_nothing_is_refused(pattern: str, said: str) -> None:
    models = [model("daily", "shop.products"), model("other")]
    for chosen in ({"patterns": [pattern]}, {"exclude": [pattern]}):
        with pytest.raises(NotFoundError) as caught:
            select(models, **chosen)
        assert said in str(caught.value)
