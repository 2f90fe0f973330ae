"""SQL for row versions: from the rows that loads added to intervals, with what changed in each.

A version of a row holds from the load that brought it until the load that changed or removed it. The
same text works them out for the history view, for the compactor, and for the loads since a compaction.
Inside, the columns of the data are called c0, c1, … so that no name of a scraped column is in the way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.core.types import Column
from lakehouse.duck.names import literal, quote

FOREVER = 9_223_372_036_854_775_807  # the end of a version that nothing has ended yet
SYSTEM = (  # columns of a version, beside those of the data
    ("_lake_seq", "BIGINT"),  # the load that it holds from
    ("_lake_end", "BIGINT"),  # the load that ended it
    ("_lake_at", "BIGINT"),  # when these took effect, in microseconds since 1970
    ("_lake_end_at", "BIGINT"),
    ("_lake_gone", "BOOLEAN"),  # whether the row disappeared at its end, and was not changed
    ("_lake_change", "VARCHAR"),  # appeared, changed or reappeared
    ("_lake_changed", "VARCHAR[]"),  # the columns that differ from the version before
    ("_lake_absent", "BIGINT"),  # of a row that reappeared: the load at which it had disappeared
)
HISTORY = ("valid_from", "valid_to", "from_load", "to_load", "change", "changed_columns")  # of its view


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What has to be known of a table to tell versions of its rows apart.

    Attributes:
        columns: Its columns.
        key: Names of the columns that identify a row.
        volatile: Names of columns that do not make a row count as changed.
        bases: Loads, after the first, with which its state began anew.
        grouped: Whether several rows may have one key, and change together.
    """

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    volatile: tuple[str, ...] = ()
    bases: tuple[int, ...] = ()
    grouped: bool = False

    @property
    def keys(self) -> list[str]:
        """The key columns as they are called inside."""
        return [f"c{at}" for at, column in enumerate(self.columns) if column.name in self.key]

    @property
    def values(self) -> list[str]:
        """All other columns as they are called inside."""
        return [f"c{at}" for at, column in enumerate(self.columns) if column.name not in self.key]

    @property
    def compared(self) -> dict[str, str]:
        """The columns that make a row count as changed, inside and by name."""
        ignored = (*self.key, *self.volatile)
        return {f"c{at}": c.name for at, c in enumerate(self.columns) if c.name not in ignored}

    def same(self, one: str, two: str) -> str:
        """A condition: two relations have the same key."""
        return " AND ".join(f"{one}.{k} IS NOT DISTINCT FROM {two}.{k}" for k in self.keys)


def inside(rows: str, columns: Sequence[Column], *, times: str) -> str:
    """Rows as `sql.scan` gives them, as `versions` takes them.

    Args:
        rows: A SELECT of `_lake_seq`, `_lake_deleted` and the columns.
        columns: The columns.
        times: A relation `seq, us` that has the loads of these rows.
    """
    data = "".join(f", _lake_r.{quote(column.name)} AS c{at}" for at, column in enumerate(columns))
    return (
        "SELECT _lake_r._lake_seq, coalesce(_lake_r._lake_deleted, false) AS _lake_deleted, _lake_t.us AS _lake_at, "
        "NULL::VARCHAR AS _lake_change, NULL::VARCHAR[] AS _lake_changed, NULL::BIGINT AS _lake_absent"
        f"{data} FROM ({rows}) AS _lake_r LEFT JOIN {times} AS _lake_t ON _lake_t.seq = _lake_r._lake_seq"
    )


def versions(rows: str, shape: Shape, *, times: str) -> str:
    """A SELECT of versions (`SYSTEM`, then c0, c1, …) from rows as `inside` gives them.

    Rows may be versions that are known already: what they say of their change is kept.

    Args:
        rows: The rows.
        shape: Of the table.
        times: A relation `seq, us` that has the loads of these rows.
    """
    return _of_groups(rows, shape, times) if shape.grouped or shape.bases else _of_rows(rows, shape)


def _of_rows(rows: str, shape: Shape) -> str:
    """Versions where a key has one row at a time, and the state never began anew."""
    packed = ", ".join(f"{c} := {c}" for c in shape.compared)
    before = f"lag(struct_pack({packed})) OVER w" if packed else "NULL"
    data = "".join(f", c{at}" for at in range(len(shape.columns)))
    return (
        f"SELECT _lake_seq, coalesce(_lake_n_seq, {FOREVER}) AS _lake_end, _lake_at, "
        f"coalesce(_lake_n_at, {FOREVER}) AS _lake_end_at, coalesce(_lake_n_deleted, false) AS _lake_gone, "
        "coalesce(_lake_change, CASE WHEN _lake_p_seq IS NULL THEN 'appeared' "
        "WHEN _lake_p_deleted THEN 'reappeared' ELSE 'changed' END) AS _lake_change, "
        "CASE WHEN _lake_change IS NOT NULL THEN _lake_changed WHEN _lake_p_seq IS NULL OR _lake_p_deleted "
        f"THEN [] ELSE {_differing(shape, '_lake_v', '_lake_p')} END::VARCHAR[] AS _lake_changed, "
        "CASE WHEN _lake_change IS NOT NULL THEN _lake_absent WHEN _lake_p_deleted THEN _lake_p_seq END AS _lake_absent"
        f"{data} FROM (SELECT *, lag(_lake_seq) OVER w AS _lake_p_seq, lag(_lake_deleted) OVER w AS _lake_p_deleted, "
        f"{before} AS _lake_p, lead(_lake_seq) OVER w AS _lake_n_seq, lead(_lake_at) OVER w AS _lake_n_at, "
        f"lead(_lake_deleted) OVER w AS _lake_n_deleted FROM ({rows}) "
        f"WINDOW w AS (PARTITION BY {', '.join(shape.keys)} ORDER BY _lake_seq)) AS _lake_v WHERE NOT _lake_deleted"
    )


def _of_groups(rows: str, shape: Shape, times: str) -> str:
    """Versions of groups of rows with one key, also where the state began anew in between.

    A row that a new beginning brings again as it was goes on; one that it leaves out has disappeared.
    """
    keys = ", ".join(shape.keys)
    packed = ", ".join(f"{c} := {c}" for c in (shape.values or shape.keys))
    bases = ", ".join(f"{base}::BIGINT" for base in shape.bases)
    data = ", ".join(
        f"c{at}" if f"c{at}" in shape.keys or not shape.values else f"(_lake_u.row).c{at} AS c{at}"
        for at in range(len(shape.columns))
    )
    one, two = "_lake_v._lake_g[1]", "_lake_v._lake_p_g[1]"
    window = f"WINDOW w AS (PARTITION BY {keys} ORDER BY _lake_seq)"
    return (
        f"WITH _lake_g AS (SELECT {keys}, _lake_seq, bool_and(_lake_deleted) AS _lake_deleted, any_value(_lake_at) AS _lake_at, "
        f"any_value(_lake_change) AS _lake_change, any_value(_lake_changed) AS _lake_changed, any_value(_lake_absent) AS _lake_absent, "
        f"list_sort(list(struct_pack({packed})) FILTER (WHERE NOT _lake_deleted)) AS _lake_g "
        f"FROM ({rows}) GROUP BY {keys}, _lake_seq),\n"
        f"_lake_b AS (SELECT b.seq, t.us FROM (SELECT unnest([{bases}]::BIGINT[]) AS seq) AS b "
        f"LEFT JOIN {times} AS t ON t.seq = b.seq),\n"
        # Each group with the load at which the state next began anew, and that load's time.
        "_lake_e AS (SELECT _lake_g.*, _lake_b.seq AS _lake_next, _lake_b.us AS _lake_next_at "
        "FROM _lake_g ASOF LEFT JOIN _lake_b ON _lake_g._lake_seq < _lake_b.seq),\n"
        "_lake_w AS (SELECT *, lag(_lake_seq) OVER w AS _lake_p_seq, lag(_lake_deleted) OVER w AS _lake_p_deleted, "
        "lag(_lake_g) OVER w AS _lake_p_g, lag(_lake_next) OVER w AS _lake_p_next, lead(_lake_seq) OVER w AS _lake_n_seq, "
        f"lead(_lake_at) OVER w AS _lake_n_at, lead(_lake_deleted) OVER w AS _lake_n_deleted FROM _lake_e {window}),\n"
        "_lake_x AS (SELECT *, coalesce(NOT _lake_p_deleted AND (_lake_p_next IS NULL OR _lake_p_next >= _lake_seq), false) AS _lake_alive, "
        "coalesce(_lake_n_seq <= coalesce(_lake_next, _lake_n_seq), false) AS _lake_by_next FROM _lake_w),\n"
        "_lake_y AS (SELECT *, _lake_alive AND _lake_p_next = _lake_seq AND _lake_g IS NOT DISTINCT FROM _lake_p_g AND NOT _lake_deleted AS _lake_on FROM _lake_x),\n"
        f"_lake_z AS (SELECT *, sum(CASE WHEN coalesce(_lake_on, false) THEN 0 ELSE 1 END) OVER (PARTITION BY {keys} ORDER BY _lake_seq) AS _lake_life FROM _lake_y),\n"
        f"_lake_v AS (SELECT {keys}, min(_lake_seq) AS _lake_seq, arg_min_null(_lake_at, _lake_seq) AS _lake_at, "
        f"arg_max_null(CASE WHEN _lake_by_next THEN _lake_n_seq ELSE _lake_next END, _lake_seq) AS _lake_end, "
        f"arg_max_null(CASE WHEN _lake_by_next THEN _lake_n_at ELSE _lake_next_at END, _lake_seq) AS _lake_end_at, "
        "arg_max_null(CASE WHEN _lake_by_next THEN _lake_n_deleted ELSE _lake_next IS NOT NULL END, _lake_seq) AS _lake_gone, "
        "arg_min_null(_lake_alive, _lake_seq) AS _lake_alive, arg_min_null(_lake_p_seq, _lake_seq) AS _lake_p_seq, "
        "arg_min_null(CASE WHEN _lake_p_deleted THEN _lake_p_seq ELSE _lake_p_next END, _lake_seq) AS _lake_left, "
        "arg_min_null(_lake_change, _lake_seq) AS _lake_change, arg_min_null(_lake_changed, _lake_seq) AS _lake_changed, "
        "arg_min_null(_lake_absent, _lake_seq) AS _lake_absent, arg_min_null(_lake_g, _lake_seq) AS _lake_g, "
        "arg_min_null(_lake_p_g, _lake_seq) AS _lake_p_g "
        f"FROM _lake_z WHERE NOT _lake_deleted GROUP BY {keys}, _lake_life),\n"
        f"_lake_u AS (SELECT _lake_seq, coalesce(_lake_end, {FOREVER}) AS _lake_end, _lake_at, "
        f"coalesce(_lake_end_at, {FOREVER}) AS _lake_end_at, coalesce(_lake_gone, false) AS _lake_gone, "
        "coalesce(_lake_change, CASE WHEN _lake_p_seq IS NULL THEN 'appeared' WHEN _lake_alive THEN 'changed' ELSE 'reappeared' END) AS _lake_change, "
        "CASE WHEN _lake_change IS NOT NULL THEN _lake_changed WHEN _lake_alive AND len(_lake_g) = 1 AND len(_lake_p_g) = 1 "
        f"THEN {_differing(shape, one, two)} ELSE [] END::VARCHAR[] AS _lake_changed, "
        "CASE WHEN _lake_change IS NOT NULL THEN _lake_absent WHEN NOT _lake_alive THEN _lake_left END AS _lake_absent, "
        f"{keys}, unnest(_lake_g) AS row FROM _lake_v)\n"
        f"SELECT {', '.join(name for name, _ in SYSTEM)}, {data} FROM _lake_u"
    )


def _differing(shape: Shape, one: str, two: str) -> str:
    """SQL for the names of the columns in which two rows differ."""
    if not shape.compared:
        return "[]"
    names = ", ".join(literal(name) for name in shape.compared.values())
    differs = ", ".join(f"{one}.{c} IS DISTINCT FROM {two}.{c}" for c in shape.compared)
    return f"list_where([{names}], [{differs}])"


def known_at(view: str, columns: Sequence[Column], position: str) -> str:
    """A SELECT of a history view's rows as they were known at a position: what ended later had not ended.

    Args:
        view: The view, as `history` makes it.
        columns: The columns of the table.
        position: SQL expression of the newest load that counts.
    """
    _, till, first, last, *_ = (f"_lake_h.{name}" for name in outside(HISTORY, columns))
    then = ", ".join(
        f"CASE WHEN {last} <= {position} THEN {end} END AS {end.removeprefix('_lake_h.')}"
        for end in (till, last)
    )
    return f"SELECT _lake_h.* REPLACE ({then}) FROM {view} AS _lake_h WHERE {first} <= {position}"


def history(found: str, shape: Shape) -> str:
    """The body of a history view: every version, and every disappearance with the last values.

    Args:
        found: A SELECT of versions.
        shape: Of the table.
    """
    names = outside(HISTORY, shape.columns)
    data = "".join(f", c{at} AS {quote(c.name)}" for at, c in enumerate(shape.columns))
    kept = ", ".join(f"v.c{at}" for at in range(len(shape.columns)))
    keys = ", ".join(shape.keys)
    return (
        f"WITH _lake_h AS NOT MATERIALIZED ({found}),\n"
        f"_lake_r AS NOT MATERIALIZED (SELECT DISTINCT {keys}, _lake_absent, _lake_seq, _lake_at FROM _lake_h WHERE _lake_change = 'reappeared')\n"
        f"SELECT make_timestamptz(since) AS {names[0]}, "
        f"CASE WHEN till < {FOREVER} THEN make_timestamptz(till) END AS {names[1]}, first AS {names[2]}, "
        f"nullif(last, {FOREVER}) AS {names[3]}, change AS {names[4]}, changed AS {names[5]}{data} FROM (\n"
        "SELECT _lake_at AS since, _lake_end_at AS till, _lake_seq AS first, _lake_end AS last, _lake_change AS change, "
        f"_lake_changed AS changed, {kept} FROM _lake_h AS v\nUNION ALL\n"
        f"SELECT v._lake_end_at, coalesce(r._lake_at, {FOREVER}), v._lake_end, coalesce(r._lake_seq, {FOREVER}), 'disappeared', "
        f"[]::VARCHAR[], {kept} FROM _lake_h AS v LEFT JOIN _lake_r AS r "
        f"ON r._lake_absent = v._lake_end AND {shape.same('r', 'v')} WHERE v._lake_gone)"
    )


def diff(before: str, after: str, shape: Shape) -> str:
    """The body of a diff macro: what changed between two states.

    Args:
        before: A SELECT of the one state, with `_lake_seq`.
        after: A SELECT of the other.
        shape: Of the table; without a key, and where keys repeat, rows are counted.
    """
    columns = [quote(c.name) for c in shape.columns]
    if not shape.key or shape.grouped:
        names = outside(("change", "n"), shape.columns)
        # Qualified, and renamed: in a macro, a bare name that is its parameter's would mean the parameter.
        data = "".join(f", _lake_d.{name} AS c{at}" for at, name in enumerate(columns))
        named = "".join(f", c{at} AS {name}" for at, name in enumerate(columns))
        compared = [f"c{at}" for at, c in enumerate(shape.columns) if c.name not in shape.volatile]
        items = "".join(
            f", c{at}"
            if f"c{at}" in compared
            else f", CASE WHEN sum(_lake_n) > 0 THEN arg_max(c{at}, _lake_n) ELSE arg_min(c{at}, _lake_n) END AS c{at}"
            for at in range(len(columns))
        )
        grouped = f" GROUP BY {', '.join(compared)}" if compared else ""
        return (
            f"SELECT CASE WHEN n > 0 THEN 'appeared' ELSE 'disappeared' END AS {names[0]}, n AS {names[1]}{named} "
            f"FROM (SELECT sum(_lake_n)::BIGINT AS n{items} FROM (SELECT 1 AS _lake_n{data} FROM ({after}) AS _lake_d "
            f"UNION ALL SELECT -1 AS _lake_n{data} FROM ({before}) AS _lake_d){grouped} HAVING sum(_lake_n) <> 0)"
        )
    names = outside(("change", "changed_columns", "before"), shape.columns)
    same = " AND ".join(f"a.{quote(k)} IS NOT DISTINCT FROM b.{quote(k)}" for k in shape.key)
    compared = [quote(name) for name in shape.compared.values()]
    differs = " OR ".join(f"a.{n} IS DISTINCT FROM b.{n}" for n in compared) or "false"
    differing = (
        f"list_where([{', '.join(map(literal, shape.compared.values()))}], "
        f"[{', '.join(f'a.{n} IS DISTINCT FROM b.{n}' for n in compared)}])"
        if compared
        else "[]::VARCHAR[]"
    )
    old = ", ".join(f"{name} := b.{name}" for name in columns)
    new = ", ".join(f"CASE WHEN a._lake_seq IS NULL THEN b.{n} ELSE a.{n} END AS {n}" for n in columns)
    return (
        f"SELECT CASE WHEN b._lake_seq IS NULL THEN 'appeared' WHEN a._lake_seq IS NULL THEN 'disappeared' ELSE 'changed' END AS {names[0]}, "
        f"CASE WHEN a._lake_seq IS NOT NULL AND b._lake_seq IS NOT NULL THEN {differing} ELSE [] END::VARCHAR[] AS {names[1]}, {new}, "
        f"CASE WHEN b._lake_seq IS NOT NULL THEN struct_pack({old}) END AS {names[2]} "
        f"FROM ({after}) AS a FULL JOIN ({before}) AS b ON {same} "
        f"WHERE a._lake_seq IS NULL OR b._lake_seq IS NULL OR (a._lake_seq <> b._lake_seq AND ({differs}))"
    )


def outside(names: Sequence[str], columns: Sequence[Column]) -> list[str]:
    """Names of columns of a view beside those of the data; one that is taken begins with `_lake_`."""
    taken = {column.name.lower() for column in columns}
    free = []
    for wanted in names:
        name = wanted
        while name in taken:
            name = f"_lake_{name}"
        free.append(quote(name))
    return free
