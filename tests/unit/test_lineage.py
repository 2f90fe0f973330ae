"""Lineage as a value: graphs from definitions, names that people give, and drawings of hostile names."""

import itertools
import re

import pytest

from lakehouse.core.definition import Definition, Input, Reference
from lakehouse.errors import NotFoundError
from lakehouse.models.lineage import Edge, Graph, Node, graph, to_json
from lakehouse.models.mermaid import to_mermaid


def reads(*names: str) -> tuple[Reference, ...]:
    """References as `source.table`, or `source.table:form`."""
    found = []
    for name in names:
        table, _, form = name.partition(":")
        found.append(Reference(source=table.split(".")[0], table=table.split(".")[1], form=form))
    return tuple(found)


DEFINITIONS = {
    "prices": Definition(
        name="prices", path="models/prices.sql", references=reads("shop.products", "shop.products:history", "shop.products"),
        inputs={"shop.products": Input(seq=2, digest="d2")}, columns=(("sku", "VARCHAR"), ("price", "DOUBLE")),
        lineage={"sku": ("shop.products.sku",), "price": ("shop.products.price", "shop.products.vat.rate")},
    ),
    "daily": Definition(
        name="daily", kind="table", references=reads("models.prices", "lakehouse.loads"), built=4,
        inputs={"shop.products": Input(seq=2, digest="d2"), "lakehouse.loads": Input(seq=987654)},
        columns=(("price", "DOUBLE"), ("n", "BIGINT")), lineage={"price": ("models.prices.price",), "n": ()},
    ),
    "top": Definition(name="top", kind="table", language="python", references=reads("models.daily"),
                      inputs={"models.daily": Input(seq=4, digest="d4")}),
}  # fmt: skip


@pytest.fixture
def found() -> Graph:
    return graph(DEFINITIONS)


def test_a_graph_has_what_models_read_each_once(found: Graph) -> None:
    assert list(found.nodes) == [
        "lakehouse.loads",
        "shop.products",
        "models.daily",
        "models.prices",
        "models.top",
    ]
    assert found.edges == (
        Edge(upstream="shop.products", downstream="models.prices", forms=("", "history")),
        Edge(upstream="models.prices", downstream="models.daily"),
        Edge(upstream="lakehouse.loads", downstream="models.daily"),
        Edge(upstream="models.daily", downstream="models.top"),
    )
    assert found.made_of(("models.prices", "price")) == [
        ("shop.products", "price"),
        ("shop.products", "vat.rate"),
    ]
    assert found.makes(("models.prices", "price")) == [("models.daily", "price")]
    assert found.nodes["models.prices"].inputs == {}  # a view reads what there is when it is asked
    assert {name: at.seq for name, at in found.nodes["models.daily"].inputs.items()} == {"shop.products": 2}


def test_the_part_around_a_table_is_what_it_is_made_of_and_makes(found: Graph) -> None:
    def names(part: Graph) -> set[str]:
        assert {name for edge in part.edges for name in (edge.upstream, edge.downstream)} <= set(part.nodes)
        return {name.split(".")[1] for name in part.nodes}

    assert names(found.around("models.prices")) == {"prices", "products", "daily", "top"}
    assert names(found.around("models.prices", downstream=False)) == {"prices", "products"}
    assert names(found.around("models.prices", upstream=False)) == {"prices", "daily", "top"}
    assert names(found.around("lakehouse.loads")) == {"loads", "daily", "top"}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("daily", ("models.daily", None)), ("DAILY", ("models.daily", None)), ("models.Daily", ("models.daily", None)),
        ("shop.products", ("shop.products", None)), ("shop.products.VAT.rate", ("shop.products", "vat.rate")),
        ("daily.n", ("models.daily", "n")), ("models.daily.price", ("models.daily", "price")),
    ],
)  # fmt: skip
def test_tables_and_columns_are_found_by_the_names_that_people_give(
    found: Graph, name: str, meant: tuple[str, str | None]
) -> None:
    assert found.find(name) == meant


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("dayly", "Did you mean daily?"), ("shop.product", "Did you mean shop.products?"), ("", "There is:"),
        ("daily.prize", "Did you mean price?"), ("nothing.like.it", "There is: lakehouse.loads, models.daily"),
        ("products", "Did you mean shop.products?"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_there_says_what_may_be_meant(found: Graph, name: str, word: str) -> None:
    with pytest.raises(NotFoundError) as raised:
        found.find(name)
    assert word in str(raised.value)


def test_json_says_all_of_it(found: Graph) -> None:
    said = to_json(found)
    nodes = {node["name"]: node for node in said["nodes"]}
    assert nodes["shop.products"] == {"name": "shop.products", "kind": "source"}
    assert nodes["models.daily"] == {
        "name": "models.daily", "kind": "table", "language": "sql", "columns": ["price", "n"], "built": 4,
        "inputs": [{"name": "shop.products", "seq": 2, "digest": "d2"}],
    }  # fmt: skip
    assert said["edges"][0] == {"from": "shop.products", "to": "models.prices", "forms": ["table", "history"]}
    assert said["edges"][-1] == {
        "from": "models.daily", "to": "models.top", "forms": ["table"], "seq": 4, "digest": "d4",
    }  # fmt: skip
    assert said["column_edges"][-1] == {
        "from": "models.prices", "from_column": "price", "to": "models.daily", "to_column": "price",
    }  # fmt: skip


HOSTILE = [
    'a"]; click t0 "javascript:alert(1)"', "end", "subgraph", "`x`", "<b>&amp;</b>", "a#35;b", "日本 ü", "a\nb", "%%{init}%%",
    "a|b{c}\\", "x-->y", "", " ", "1. one", "- one", "]]", "style t0 fill:red", "graph",
]  # fmt: skip
_ID = r"[tx]\d+(c\d+)?"
_TEXT = r'"(?:[\w .,:/@()]|#\d+;)+"'
_LINE = re.compile(
    rf"flowchart LR|  end|  subgraph {_ID}\[{_TEXT}\]|  (?:  )?{_ID}(?:\[\({_TEXT}\)\]|\(\[{_TEXT}\]\)|\[{_TEXT}\]|\[\[{_TEXT}\]\])"
    rf"|  {_ID} (?:-->|-- {_TEXT} -->) {_ID}"
)


@pytest.mark.parametrize("columns", [False, True])
def test_a_drawing_is_one_whatever_things_are_called(columns: bool) -> None:
    names = [f"s.{name}" for name in HOSTILE]
    kinds = ("source", "view", "table", "incremental", "of the future")
    nodes = {
        name: Node(name=name, kind=kinds[at % 5], columns=tuple(HOSTILE)) for at, name in enumerate(names)
    }
    pairs = list(itertools.pairwise(names))
    drawn = to_mermaid(
        Graph(
            nodes=nodes,
            edges=tuple(
                Edge(upstream=a, downstream=b, forms=("", HOSTILE[at])) for at, (a, b) in enumerate(pairs)
            ),
            column_edges=tuple(((a, c), (b, c)) for a, b in pairs for c in HOSTILE),
        ),
        columns=columns,
    )
    for line in drawn.splitlines():
        assert _LINE.fullmatch(line), line
    shown = [re.sub(r"#(\d+);", lambda c: chr(int(c[1])), text) for text in re.findall(r'"([^"]*)"', drawn)]
    assert set(names) <= set(shown)
    assert drawn.count("-->") == len(pairs) * (len(HOSTILE) if columns else 1)
