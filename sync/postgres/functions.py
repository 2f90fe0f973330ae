"""SQL text of what stands over a table of row versions: views, functions of a moment, indexes, comments.

The functions are plain SQL, so that PostgreSQL takes them into the query that calls them. Whether a moment can be
told is asked once for a query, by `lakehouse.told` (see `sync.postgres.ledger`), also where no row is read.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sync.postgres.history import SYSTEM, Form
from sync.postgres.names import identifier, literal, qualified, quote, sendable
from sync.postgres.types import EXACT, PgColumn, pg_type

NO_COLUMNS = "_lake_no_columns"  # what views of a table without columns show, as in the lake
KEY_HASH = "key_hash"
TYPES = {
    "valid_from": "timestamptz",
    "valid_to": "timestamptz",
    "from_load": "bigint",
    "to_load": "bigint",
    "change": "text",
    "changed_columns": "text[]",
    KEY_HASH: "bigint",
}
_STATES = {"_at": "timestamptz", "_at_load": "bigint"}  # functions by suffix, with what they take


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A column of a stored model as its definition names it: an expression over the versions, called `v`."""

    identifier: str
    type: str
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A mirrored table: what it is called in Postgres, and what it has.

    Attributes:
        schema: The schema of its source.
        table: Its name in the lake.
        view: The view of its rows as of now.
        base: The table of versions.
        history: The view of all versions; None where a table of the lake has that name.
        columns: The columns of the data.
        form: How its versions are told apart.
        shown: What the view and the states show, where that is not all columns.
        description: In words.
        about: Descriptions of the columns that the view shows, by identifier.
    """

    schema: str
    table: str
    view: str
    base: str
    history: str | None
    columns: tuple[PgColumn, ...]
    form: Form
    shown: tuple[Shown, ...] = ()
    description: str = ""
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def system(self) -> dict[str, str]:
        """Identifiers of the columns beside the data, as the lake's history calls them."""
        taken = {one.identifier.lower() for one in self.columns}
        return {name: free(name, taken) for name in (*SYSTEM, KEY_HASH)}

    @property
    def visible(self) -> tuple[Shown, ...]:
        """What the view and the states show."""
        if self.shown:
            return self.shown
        if not self.columns:
            return (Shown(identifier=NO_COLUMNS, type="text", sql="NULL::text"),)
        return tuple(
            Shown(identifier=f.identifier, type=pg_type(f.type), sql=f"v.{quote(f.identifier)}")
            for f in self.columns
        )

    def named(self, suffix: str) -> str:
        """A function beside the view, in its schema, quoted."""
        return qualified(self.schema, identifier(self.view, suffix))


def free(name: str, taken: Iterable[str]) -> str:
    """A name beside those that are taken, in lower case: one that is taken begins with `_lake_`."""
    while name in taken:
        name = f"_lake_{name}"
    return name


def indexes(place: Place, name: str, *, short_keys: bool) -> list[str]:
    """The statements that make the indexes of a table of versions, named by PostgreSQL.

    Args:
        place: The table.
        name: What it is called, qualified and quoted.
        short_keys: Whether all values of its key fit into an index.
    """
    system = {each: quote(called) for each, called in place.system.items()}
    made = [
        f"CREATE INDEX ON {name} USING brin ({system['from_load']})",
        f"CREATE INDEX ON {name} ({system['to_load']})",
        f"CREATE INDEX ON {name} ({system['valid_to']})",
    ]
    # Of a table with a history a key has one version at a time, so nothing can be there twice.
    unique = "UNIQUE " if place.form.key and not place.form.grouped else ""
    made.append(f"CREATE {unique}INDEX ON {name} ({system[KEY_HASH]}, {system['from_load']})")
    key = [quote(one.identifier) for one in place.columns if one.name in place.form.key]
    if key and short_keys:
        made.append(f"CREATE INDEX ON {name} ({', '.join(key)})")
    elif (
        len(key) == 1
    ):  # not of one column of several: inserting many equal values into it takes time without end
        made.append(f"CREATE INDEX ON {name} USING hash ({key[0]})")
    return made


# What is read.


def view(place: Place) -> str:
    """The view of the rows as of now."""
    system = place.system
    return (
        f"CREATE OR REPLACE VIEW {qualified(place.schema, place.view)} AS SELECT {_items(place.visible)} "
        f"FROM {qualified(place.schema, place.base)} AS v "
        f"WHERE v.{quote(system['to_load'])} IS NULL AND v.{quote(system['change'])} {_op('<>')} 'disappeared'"
    )


def history_columns(place: Place) -> list[tuple[str, str]]:
    """Identifier and type of each column of the view of all versions."""
    system = place.system
    return [
        *((system[each], TYPES[each]) for each in SYSTEM),
        *((one.identifier, pg_type(one.type)) for one in place.columns),
    ]


def history(place: Place) -> str | None:
    """The view of all versions."""
    if place.history is None:
        return None
    items = ", ".join(f"v.{quote(name)}" for name, _ in history_columns(place))
    return f"CREATE OR REPLACE VIEW {qualified(place.schema, place.history)} AS SELECT {items} FROM {qualified(place.schema, place.base)} AS v"


def states(place: Place) -> list[str]:
    """The functions `<table>_at(timestamptz)` and `<table>_at_load(bigint)`."""
    row = qualified(place.schema, place.view)
    return [
        _function(place.named(suffix), [kind], f"SETOF {row}", _state(place, kind))
        for suffix, kind in _STATES.items()
    ]


def diff(place: Place) -> str:
    """The function `<table>_diff(timestamptz, timestamptz)`, as the lake's macro has it."""
    columns, body = _diff(place)
    returned = ", ".join(f"{quote(name)} {kind}" for name, kind in columns)
    return _function(place.named("_diff"), ["timestamptz", "timestamptz"], f"TABLE ({returned})", body)


def bodies(place: Place) -> dict[str, str]:
    """What the functions say, by name, as the server keeps it."""
    made = {suffix: _state(place, kind) for suffix, kind in _STATES.items()} | {"_diff": _diff(place)[1]}
    return {identifier(place.view, suffix): sendable(body) for suffix, body in made.items()}


def dropped(place: Place, *, kind: str = "VIEW") -> list[str]:
    """The statements that drop what stands over a table of versions."""
    both = [qualified(place.schema, name) for name in (place.view, place.history) if name]
    return [
        *drop_functions(place),
        *(f"DROP {kind} IF EXISTS {name}" for name in both),
    ]


def drop_functions(place: Place) -> list[str]:
    """The statements that drop the functions."""
    return [f"DROP FUNCTION IF EXISTS {place.named('_at')}(timestamptz)",
            f"DROP FUNCTION IF EXISTS {place.named('_at_load')}(bigint)",
            drop_diff(place)]  # fmt: skip


def drop_diff(place: Place) -> str:
    """The statement that drops the function of what changed: its columns cannot be replaced."""
    return f"DROP FUNCTION IF EXISTS {place.named('_diff')}(timestamptz, timestamptz)"


def comments(place: Place, *, key: Sequence[str] = ()) -> list[str]:
    """The statements that say what the view and its columns are."""
    name = qualified(place.schema, place.view)
    told = place.description or f"{place.schema}.{place.table} as of now" + (
        f"; key: {', '.join(key)}" if key else ""
    )
    made = [f"COMMENT ON VIEW {name} IS {literal(told)}"]
    if place.columns:
        base = qualified(place.schema, place.base)
        made.append(
            f"COMMENT ON TABLE {base} IS {literal(f'All versions of the rows of {place.schema}.{place.table}')}"
        )
    seen = {one.identifier for one in place.visible}
    made += [
        f"COMMENT ON COLUMN {name}.{quote(column)} IS {literal(text)}"
        for column, text in place.about.items()
        if column in seen
    ]
    return made


def _state(place: Place, kind: str) -> str:
    return (
        f"SELECT {_items(place.visible)} FROM {qualified(place.schema, place.base)} AS v "
        f"WHERE {_told(place, 1)} AND {_valid(place, 1, kind)}"
    )


def _diff(place: Place) -> tuple[list[tuple[str, str]], str]:
    return _diff_by_key(place) if place.form.key and not place.form.grouped else _diff_by_count(place)


def _items(shown: Sequence[Shown]) -> str:
    return ", ".join(f"{one.sql} AS {quote(one.identifier)}" for one in shown)


def _op(sign: str) -> str:
    """An operator that is that of PostgreSQL, whatever the search path of who calls."""
    return f"OPERATOR(pg_catalog.{sign})"


def _told(place: Place, parameter: int) -> str:
    return f"lakehouse.told({literal(place.schema)}, ${parameter})"


def _valid(place: Place, parameter: int, kind: str) -> str:
    """A condition: a version `v` holds at a moment; NULL is now."""
    system = {each: f"v.{quote(called)}" for each, called in place.system.items()}
    end = "'infinity'::pg_catalog.timestamptz" if kind == "timestamptz" else "9223372036854775807"
    begin, till = ("valid_from", "valid_to") if kind == "timestamptz" else ("from_load", "to_load")
    at = f"coalesce(${parameter}, {end})"
    return (
        f"{system[begin]} {_op('<=')} {at} AND ({system[till]} IS NULL OR {system[till]} {_op('>')} {at}) "
        f"AND {system['change']} {_op('<>')} 'disappeared'"
    )


def _function(name: str, parameters: Sequence[str], returns: str, body: str) -> str:
    return (
        f"CREATE OR REPLACE FUNCTION {name}({', '.join(parameters)}) RETURNS {returns} "
        f"LANGUAGE sql STABLE PARALLEL SAFE AS {literal(body)}"
    )


def _sides(place: Place) -> tuple[str, str]:
    """Conditions: a version holds at the second moment alone, and at the first alone."""
    one, two = (_valid(place, parameter, "timestamptz") for parameter in (1, 2))
    return f"{two} AND NOT ({one})", f"{one} AND NOT ({two})"


def _diff_by_key(place: Place) -> tuple[list[tuple[str, str]], str]:
    ignored = {*place.form.key, *place.form.volatile}
    taken = {one.identifier.lower() for one in place.columns}
    base, hashed = qualified(place.schema, place.base), quote(place.system[KEY_HASH])
    names = [free(name, taken) for name in ("change", "changed_columns", "before")]
    columns = [
        (names[0], "text"),
        (names[1], "text[]"),
        *((f.identifier, pg_type(f.type)) for f in place.columns),
        (names[2], "jsonb"),
    ]
    data = "".join(f", v.{quote(f.identifier)} AS c{at}" for at, f in enumerate(place.columns))
    data = f"v.{quote(EXACT)} AS exact{data}"
    whole = ", ".join(f"v.{quote(f.identifier)}" for f in place.columns)
    compared = [(at, f) for at, f in enumerate(place.columns) if f.name not in ignored]
    differ = {at: _differs(at, f.identifier) for at, f in compared}
    differs = " OR ".join(differ.values()) or "false"
    named = ", ".join(f"CASE WHEN {differ[at]} THEN {literal(f.identifier)} END" for at, f in compared)
    listed = f"pg_catalog.array_remove(ARRAY[{named}]::pg_catalog.text[], NULL)"
    new = "".join(
        f", CASE WHEN a.hashed IS NULL THEN b.c{at} ELSE a.c{at} END" for at in range(len(place.columns))
    )
    after, before = _sides(place)
    body = (
        "SELECT CASE WHEN b.hashed IS NULL THEN 'appeared' WHEN a.hashed IS NULL THEN 'disappeared' ELSE 'changed' END, "
        f"CASE WHEN a.hashed IS NOT NULL AND b.hashed IS NOT NULL THEN {listed} ELSE '{{}}'::pg_catalog.text[] END{new}, b.old "
        f"FROM (SELECT v.{hashed} AS hashed, {data} FROM {base} AS v WHERE {after}) AS a "
        f"FULL JOIN (SELECT v.{hashed} AS hashed, {data}, (SELECT pg_catalog.to_jsonb(d) FROM (SELECT {whole}) AS d) AS old "
        f"FROM {base} AS v WHERE {before}) AS b ON a.hashed {_op('=')} b.hashed "
        f"WHERE {_told(place, 1)} AND {_told(place, 2)} AND (a.hashed IS NULL OR b.hashed IS NULL OR {differs})"
    )
    return columns, body


def _differs(at: int, identifier: str) -> str:
    """A condition: two versions differ in a column, also in what it cannot hold."""
    kept = f"(a.exact {_op('->')} {literal(identifier)}) IS DISTINCT FROM (b.exact {_op('->')} {literal(identifier)})"
    return f"(a.c{at} IS DISTINCT FROM b.c{at} OR {kept})"


def _diff_by_count(place: Place) -> tuple[list[tuple[str, str]], str]:
    taken = {one.identifier.lower() for one in place.columns}
    base = qualified(place.schema, place.base)
    columns = [
        (free("change", taken), "text"),
        (free("n", taken), "bigint"),
        *((f.identifier, pg_type(f.type)) for f in place.columns),
    ]
    data = "".join(f", v.{quote(f.identifier)} AS c{at}" for at, f in enumerate(place.columns))
    data = f", v.{quote(EXACT)} AS exact{data}"
    compared = [at for at, f in enumerate(place.columns) if f.name not in place.form.volatile]
    items = "".join(
        f", u.c{at}" if at in compared
        else f", CASE WHEN pg_catalog.sum(u.n) {_op('>')} 0 THEN (pg_catalog.array_agg(u.c{at} ORDER BY u.n DESC))[1] ELSE (pg_catalog.array_agg(u.c{at} ORDER BY u.n))[1] END AS c{at}"
        for at in range(len(place.columns))
    )  # fmt: skip
    grouped = f" GROUP BY {', '.join(['u.exact', *(f'u.c{at}' for at in compared)])}"
    kept = "".join(f", s.c{at}" for at in range(len(place.columns)))
    after, before = _sides(place)
    body = (
        f"SELECT CASE WHEN s.n {_op('>')} 0 THEN 'appeared' ELSE 'disappeared' END, s.n{kept} FROM ("
        f"SELECT pg_catalog.sum(u.n)::bigint AS n{items} FROM (SELECT 1 AS n{data} FROM {base} AS v WHERE {after} "
        f"UNION ALL SELECT -1{data} FROM {base} AS v WHERE {before}) AS u{grouped} HAVING pg_catalog.sum(u.n) {_op('<>')} 0) AS s "
        f"WHERE {_told(place, 1)} AND {_told(place, 2)}"
    )
    return columns, body
