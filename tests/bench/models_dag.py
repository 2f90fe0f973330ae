"""A generated project of models: the same SELECTs, written for the lakehouse, for dbt and for SQLMesh.

Every table has the columns `id` (unique), `day`, `grp` and `amount`, whole numbers and text alone: so any
model can read any other, and results are equal or they are not. Twelve layers: views and tables
in turn, each model reading one to four of the layers above it. The same seed gives the same models.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

RAW = tuple(f"events_{n}" for n in range(5))
COLUMNS = ("id", "day", "grp", "amount")
FIRST_DAY, DAYS = date(2024, 1, 1), 365
VIEW, TABLE, INCREMENTAL = "view", "table", "incremental"
LARGEST = 1_000_003  # amounts stay below it, through any number of layers
MOST_VIEWS = 8  # that one SELECT unfolds to: no engine is asked to plan hundreds of them at once

# `{k}` is the constant of the model: who edits a model gives it another.
_ONE = "select id, day, grp, (amount * 3 + {k}) % {largest} as amount\nfrom {0}\nwhere id % 11 <> {k} % 11"
_WINDOW = (
    "select id, day, grp,\n"
    "  (amount + {k} + coalesce(lag(amount) over (partition by grp order by day, id), 0)) % {largest} as amount\n"
    "from {0}"
)
_GROUPED = (
    "select min(id) as id, day, grp, cast((sum(amount) + {k}) % {largest} as bigint) as amount\n"
    "from {0}\ngroup by day, grp"
)
_JOIN = (
    "select a.id, a.day, a.grp, (a.amount + coalesce(b.amount, {k})) % {largest} as amount\n"
    "from {0} as a\nleft join {1} as b on a.id = b.id"
)
_UNION = (
    "with brought as (\n{union}\n)\n"
    "select id, max(day) as day, max(grp) as grp, cast((sum(amount) + {k}) % {largest} as bigint) as amount\n"
    "from brought\ngroup by id"
)


@dataclass(frozen=True, kw_only=True)
class Node:
    """A model: what it reads, and its SELECT over names that each dialect writes in its own way."""

    name: str
    layer: int
    kind: str
    inputs: tuple[str, ...]  # names of models, or of raw tables
    template: str
    constant: int
    key: bool  # ours keeps the rows that changed, rather than the whole

    def sql(self, naming: Callable[[str], str], *, where: str = "") -> str:
        """The SELECT, with the tables that it reads as the dialect names them."""
        names = [naming(name) for name in self.inputs]
        union = "\n  union all\n".join(f"  select id, day, grp, amount from {name}" for name in names)
        text = self.template.format(*names, k=self.constant, largest=LARGEST, union=union)
        return f"{text}\n{where}" if where else text

    def edited(self) -> "Node":
        """The same model after somebody thought again: other rows and other amounts."""
        return replace(self, constant=self.constant + 1)


def generate(models: int, *, seed: int = 1, layers: int = 12) -> list[Node]:
    """The models, in an order in which they can be built."""
    rng = random.Random(seed)
    nodes: list[Node] = []
    weights = dict.fromkeys(RAW, 0)  # how many views a SELECT from it unfolds to
    for n in range(models):
        layer = n * layers // models
        inputs = _inputs(nodes, layer, rng)
        template, inputs = _shape(inputs, rng)
        kind = VIEW if layer % 2 == 0 else TABLE
        if rng.random() < 0.2:
            kind = TABLE if kind == VIEW else VIEW
        if layer == 1 and n % 3 == 0:
            kind, inputs, template = INCREMENTAL, (rng.choice(RAW),), _ONE
        weight = 1 + sum(weights[name] for name in inputs)
        if kind == VIEW and weight > MOST_VIEWS:
            kind = TABLE
        name = f"m{layer:02d}_{n:03d}"
        weights[name] = weight if kind == VIEW else 0
        key = kind == TABLE and rng.random() < 0.5
        about = {"name": name, "layer": layer, "kind": kind, "inputs": inputs, "key": key}
        nodes.append(Node(**about, template=template, constant=rng.randrange(1, 1_000)))
    return nodes


def root_and_leaf(nodes: list[Node]) -> tuple[Node, Node]:
    """The view over raw tables that most models stand on, and a table of the last layer."""
    below = {node.name: descendants(nodes, node.name) for node in nodes}
    root = max((n for n in nodes if n.layer == 0), key=lambda n: len(below[n.name]))
    leaf = next(n for n in reversed(nodes) if n.kind == TABLE and not below[n.name])
    return root, leaf


def descendants(nodes: list[Node], name: str) -> set[str]:
    """Names of the models that read it, at whatever distance."""
    found = {name}
    for node in nodes:  # in order: what it reads comes first
        if found & set(node.inputs):
            found.add(node.name)
    return found - {name}


def raw_rows(table: str, rows: int) -> Iterator[dict[str, object]]:
    """The rows of a raw table, in the order of their days."""
    rng = random.Random(table)
    ids = sorted(rng.sample(range(rows * 2), rows))  # two tables share about half of theirs
    for n, number in enumerate(ids):
        day = FIRST_DAY + timedelta(days=n * DAYS // rows)
        yield {"id": number, "day": day, "grp": f"g{rng.randrange(50):02d}", "amount": rng.randrange(10_000)}


def _inputs(nodes: list[Node], layer: int, rng: random.Random) -> tuple[str, ...]:
    if layer == 0:
        return (rng.choice(RAW),)
    last = [node.name for node in nodes if node.layer == layer - 1]
    older = [node.name for node in nodes if node.layer < layer - 1] or last
    wanted = rng.choices((1, 2, 3, 4), weights=(4, 3, 2, 1))[0]
    chosen = [rng.choice(last), *(rng.choice(rng.choice((last, older))) for _ in range(wanted - 1))]
    return tuple(dict.fromkeys(chosen))


def _shape(inputs: tuple[str, ...], rng: random.Random) -> tuple[str, tuple[str, ...]]:
    if len(inputs) == 1:
        return rng.choices((_ONE, _WINDOW, _GROUPED), weights=(6, 3, 1))[0], inputs
    if len(inputs) == 2 and rng.random() < 0.6:
        return _JOIN, inputs
    return _UNION, inputs
