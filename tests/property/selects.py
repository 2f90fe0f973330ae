"""Random SELECTs over two tables, `s.d` and `s.o`, and a view `models.v`: right ones and ones that cannot be followed.

Whatever is generated has one answer only: windows and lists are ordered by all there is, and numbers are exact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

D = ("k", "g", "n", "x", "tags")  # integer, text, integer, halves, list of text
O = ("g", "w", "n")  # noqa: E741 - what it is called in the SELECTs
V_SQL = "select k, upper(g) as g, n + 1 as n, x, tags from s.d where n is distinct from 3"
COLUMNS = {"s.d": D, "s.o": O}
VIEWS = {"models.v": V_SQL}
_TYPES = {"k": "int", "g": "text", "n": "int", "x": "half", "tags": "list", "w": "int"}


@dataclass(frozen=True)
class Rel:
    """A SELECT, and the columns that it gives, with their types."""

    sql: str
    columns: tuple[tuple[str, str], ...]
    ctes: tuple[tuple[str, str], ...] = ()

    @property
    def flat(self) -> list[str]:
        return [name for name, kind in self.columns if kind != "list"]


@st.composite
def selects(draw: Any) -> tuple[str, tuple[str, ...]]:
    """A SELECT, and columns of its result for a key; none for one that only adds rows."""
    rel = draw(st.sampled_from(_BASES))
    for at in range(draw(st.integers(0, 3))):
        rel = draw(st.sampled_from(_STEPS))(draw, rel, f"q{at}")
    rel = _project(draw, rel, "last", few=True)
    with_ = f"with {', '.join(f'{n} as ({s})' for n, s in rel.ctes)} " if rel.ctes else ""
    likely = [name for name in rel.flat if name in ("k", "g", "n")] + rel.flat
    key = draw(st.lists(st.sampled_from(likely), max_size=2, unique=True)) if likely else []
    return with_ + rel.sql, tuple(key)


def _typed(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name, _TYPES[name]) for name in names)


_BASES = (
    Rel("select * from s.d", _typed(D)),
    Rel("select * from s.d", _typed(D)),
    Rel("from s.d", _typed(D)),
    Rel("select k, g, n, x from s.d", _typed(D[:4])),
    Rel("select d.k, shop.n as n, shop.g from s.d as shop, (select 1 as k) as d", _typed(("k", "n", "g"))),
    Rel("select * from models.v", _typed(D)),
    Rel("select k, g, n, x, tags from v", _typed(D)),
    Rel("select g, w, n from s.o", _typed(O)),
)


def _from(draw: Any, rel: Rel, name: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The relation in a FROM: as a subquery, or by the name of a CTE."""
    if draw(st.booleans()):
        return f"({rel.sql}) as {name}", rel.ctes
    return name, (*rel.ctes, (name, rel.sql))


def _expression(draw: Any, rel: Rel) -> tuple[str, str]:
    """An expression over a relation, and its type."""
    name, kind = draw(st.sampled_from(rel.columns))
    forms = {
        "int": [("{}", "int"), ("{} + 1", "int"), ("{} % 2", "int"), ("coalesce({}, 7)", "int"), ("{}::varchar", "text"),
                ("case when {} > 1 then 'a' else 'b' end", "text"), ("-{}", "int"), ("{} is null", "bool")],
        "text": [("{}", "text"), ("upper({})", "text"), ("{} || 'z'", "text"), ("nullif({}, 'a')", "text"),
                 ("try_cast({} as int)", "int"), ("length({})", "int")],
        "half": [("{}", "half"), ("{} * 2", "half"), ("cast({} as int)", "int"), ("{} > 1", "bool")],
        "bool": [("{}", "bool"), ("not {}", "bool")],
        "list": [("len({})", "int"), ("{}[1]", "text"), ("list_contains({}, 'a')", "bool"), ("{}", "list")],
    }  # fmt: skip
    form, made = draw(st.sampled_from(forms[kind][:1] * 4 + forms[kind]))
    return form.format(name), made


def _condition(draw: Any, rel: Rel) -> str:
    name, kind = draw(st.sampled_from(rel.columns))
    test = {
        "int": ["{} > 1", "{} is not null", "{} in (0, 1, 2)", "{} between 0 and 2", "{} in (select w from s.o)",
                "exists (select 1 from s.o where o.w = {})", "{} = (select max(n) from s.d)"],
        "text": ["{} <> 'a'", "{} like 'a%'", "{} in (select g from s.o)", "{} not in ('b', 'c')", "{} in (select g from s.d)"],
        "half": ["{} >= 0.5", "{} is null"], "bool": ["{}", "{} is not true"], "list": ["len({}) > 0", "{} is not null"],
    }  # fmt: skip
    return str(draw(st.sampled_from(test[kind]))).format(name)


def _project(draw: Any, rel: Rel, name: str, *, few: bool = False) -> Rel:
    """Other columns, some of them under the name of another; and a filter."""
    where, ctes = _from(draw, rel, name)
    items: list[str] = []
    columns: list[tuple[str, str]] = []
    if not few and draw(st.booleans()):
        items.append("*")
        columns += rel.columns
    else:
        for column, kind in rel.columns:
            if few or draw(st.booleans()):
                items.append(column)
                columns.append((column, kind))
    for at in range(draw(st.integers(0 if columns else 1, 1 if few else 2))):
        text, kind = _expression(draw, rel)
        taken = {column for column, _ in columns}
        wanted = draw(st.sampled_from(["k", "g", f"e{at}"]))
        called = wanted if wanted not in taken else f"{name}_e{at}"
        items.append(f"{text} as {called}")
        columns.append((called, kind))
    if few and draw(st.integers(0, 5)) == 0:
        items.append(
            f"(select max(w) from s.o where o.g is not distinct from {rel.flat[0]}::varchar) as sub"
            if rel.flat
            else "1 as sub"
        )
        columns.append(("sub", "int"))
    filtered = f" where {_condition(draw, rel)}" if draw(st.integers(0, 2)) == 0 else ""
    return Rel(f"select {', '.join(items)} from {where}{filtered}", tuple(columns), ctes)


def _aggregates(draw: Any, rel: Rel) -> list[tuple[str, str, str]]:
    made = []
    for at in range(draw(st.integers(1, 2))):
        name, kind = draw(st.sampled_from(rel.columns))
        forms = {
            "int": [("sum({})", "int"), ("max({})", "int"), ("count({})", "int"), ("count(distinct {})", "int"),
                    ("sum({}) filter (where {} > 0)", "int"), ("arg_max({}, {})", "int")],
            "text": [("min({})", "text"), ("string_agg({}, ',' order by {})", "text"), ("count(*)", "int")],
            "half": [("sum({})", "half"), ("avg({}) is null", "bool")],
            "bool": [("bool_or({})", "bool"), ("count_if({})", "int")],
            "list": [("count(*)", "int"), ("max(len({}))", "int")],
        }  # fmt: skip
        form, made_kind = draw(st.sampled_from(forms[kind]))
        made.append((form.replace("{}", name), f"a{at}", made_kind))
    return made


def _group(draw: Any, rel: Rel, name: str) -> Rel:
    where, ctes = _from(draw, rel, name)
    by = [_expression(draw, rel) for _ in range(draw(st.integers(0, 2)))]
    by = [(text, kind) for text, kind in by if kind != "list"]
    names = [f"g{at}_{name}" if draw(st.booleans()) else ("g" if at == 0 else "k") for at in range(len(by))]
    aggregates = _aggregates(draw, rel)
    items = [f"{text} as {called}" for (text, _), called in zip(by, names, strict=True)]
    items += [f"{text} as {called}" for text, called, _ in aggregates]
    columns = [(called, kind) for (_, kind), called in zip(by, names, strict=True)]
    columns += [(called, kind) for _, called, kind in aggregates]
    how = draw(st.sampled_from(["all", "ordinals", "text", "alias"]))
    grouped = {
        "all": " group by all",
        "ordinals": f" group by {', '.join(str(at + 1) for at in range(len(by)))}",
        "text": f" group by {', '.join(text for text, _ in by)}",
        "alias": f" group by {', '.join(names)}",
    }[how] if by else ""  # fmt: skip
    having = (
        f" having count(*) {draw(st.sampled_from(['> 0', '> 1', '= 1']))}"
        if draw(st.integers(0, 3)) == 0
        else ""
    )
    return Rel(f"select {', '.join(items)} from {where}{grouped}{having}", tuple(columns), ctes)


def _over(draw: Any, rel: Rel) -> tuple[str, str]:
    parts = draw(st.lists(st.integers(0, 9), min_size=0, max_size=2))
    by = ", ".join(_expression(draw, rel)[0] for _ in parts)
    order = f"order by {', '.join(name for name, _ in rel.columns)}"
    parted = f"partition by {by} " if by else ""
    flat = rel.flat[0] if rel.flat else rel.columns[0][0]
    return draw(st.sampled_from([
        (f"row_number() over ({parted}{order})", "int"),
        (f"count(*) over ({parted})", "int"),
        (f"lag({flat}) over ({parted}{order})", dict(rel.columns)[flat]),
        (f"count({flat}) over ({parted}{order} rows between 1 preceding and current row)", "int"),
        (f"rank() over ({parted}{order})", "int"),
    ]))  # fmt: skip


def _window(draw: Any, rel: Rel, name: str) -> Rel:
    where, ctes = _from(draw, rel, name)
    text, kind = _over(draw, rel)
    return Rel(f"select *, {text} as w_{name} from {where}", (*rel.columns, (f"w_{name}", kind)), ctes)


def _qualify(draw: Any, rel: Rel, name: str) -> Rel:
    where, ctes = _from(draw, rel, name)
    text, _ = _over(draw, rel)
    return Rel(f"select * from {where} qualify {text} is not distinct from 1", rel.columns, ctes)


def _distinct(draw: Any, rel: Rel, name: str) -> Rel:
    where, ctes = _from(draw, rel, name)
    picked = draw(st.lists(st.sampled_from(rel.columns), min_size=1, unique=True))
    if draw(st.integers(0, 2)) == 0:
        order = ", ".join(column for column, _ in rel.columns)
        on, _ = _expression(draw, rel)
        return Rel(f"select distinct on ({on}) * from {where} order by {order}", rel.columns, ctes)
    return Rel(
        f"select distinct {', '.join(column for column, _ in picked)} from {where}", tuple(picked), ctes
    )


def _join(draw: Any, rel: Rel, name: str) -> Rel:
    where, ctes = _from(draw, rel, name)
    names = dict(rel.columns)
    other, on_columns = draw(st.sampled_from([
        ("s.o", O), ("(select g, max(w) as w from s.o group by g) as o", ("g", "w")),
        ("(select distinct n, w from s.o) as o", ("n", "w")), ("s.d as o", D),
    ]))  # fmt: skip
    other = f"{other} as o" if other == "s.o" else other
    common = [c for c in on_columns if names.get(c) == _TYPES[c]]
    common = [draw(st.sampled_from(common))] if common else []
    kind = draw(
        st.sampled_from(
            ["join", "join", "left join", "left join", "right join", "full join", "semi join", "anti join"]
        )
    )
    first = draw(st.booleans())
    on = f"{name}.{common[0]} = o.{common[0]}" if common else "true"
    if kind in ("semi join", "anti join"):
        return Rel(f"select {name}.* from {where} {kind} {other} on {on}", rel.columns, ctes)
    added = f"o.{on_columns[1]} as o_{name}"
    mine = ", ".join(f"{name}.{c}" for c, _ in rel.columns)
    columns = (*rel.columns, (f"o_{name}", _TYPES[on_columns[1]]))
    left, right = (where, other) if first else (other, where)
    if common and draw(st.booleans()):
        c = common[0]
        mine = ", ".join(
            c if c == other_c and draw(st.booleans()) else f"{name}.{other_c}" for other_c, _ in rel.columns
        )
        return Rel(f"select {mine}, {added} from {left} {kind} {right} using ({c})", columns, ctes)
    return Rel(f"select {mine}, {added} from {left} {kind} {right} on {on}", columns, ctes)


def _union(draw: Any, rel: Rel, name: str) -> Rel:
    where, ctes = _from(draw, rel, name)
    names = ", ".join(column for column, _ in rel.columns)
    all_ = draw(st.sampled_from(["all ", "all ", ""]))
    second = draw(st.sampled_from(["same", "changed", "limit", "other"]))
    again = rel.sql if rel.ctes == ctes else f"select {names} from {name}"
    if second == "changed":
        text, kind = rel.columns[0]
        changed = {"int": f"{text} + 1", "half": f"{text} * 2", "text": f"lower({text})"}.get(kind, text)
        again = (
            f"select {', '.join([changed, *(column for column, _ in rel.columns[1:])])} from ({again}) as u"
        )
    elif second == "other":
        others = {"int": "n", "text": "g", "half": "w * 0.5", "bool": "w > 1", "list": "[g]"}
        again = f"select {', '.join(others[kind] for _, kind in rel.columns)} from s.o"
    elif second == "limit":
        again = f"select * from ({again}) as u order by all limit 2"
        again = f"select * from ({again}) as w"
    return Rel(f"select {names} from {where} union {all_}{again}", rel.columns, ctes)


def _unnest(draw: Any, rel: Rel, name: str) -> Rel:
    lists = [column for column, kind in rel.columns if kind == "list"]
    if not lists:
        return _project(draw, rel, name)
    where, ctes = _from(draw, rel, name)
    rest = tuple((c, k) for c, k in rel.columns if c != lists[0])
    if draw(st.booleans()):
        sql = f"select * exclude ({lists[0]}), unnest({lists[0]}) as tag_{name} from {where}"
    else:
        sql = f"select {', '.join([*(c for c, _ in rest), f't.tag as tag_{name}'])} from {where}, unnest({name}.{lists[0]}) as t(tag)"
    return Rel(sql, (*rest, (f"tag_{name}", "text")), ctes)


def _lateral(draw: Any, rel: Rel, name: str) -> Rel:
    where, ctes = _from(draw, rel, name)
    mine = rel.flat[0] if rel.flat else rel.columns[0][0]
    how = draw(st.sampled_from(["max(w)", "count(*)"]))
    table = draw(st.sampled_from(["s.o", "s.o", "s.d"]))
    how = how.replace("w", "n") if table == "s.d" else how
    sql = f"select {name}.*, l.m as l_{name} from {where}, lateral (select {how} as m from {table} as o where o.g::varchar = {name}.{mine}::varchar) as l"
    return Rel(sql, (*rel.columns, (f"l_{name}", "int")), ctes)


_STEPS: tuple[Callable[[Any, Rel, str], Rel], ...] = (
    _project, _project, _group, _group, _window, _window, _qualify, _distinct, _join, _join, _union, _unnest, _lateral,
)  # fmt: skip
