"""What the tests of the Spark engine ask in both engines: a small table of all types, expressions, queries."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

_DAYS = (
    (2020, 1, 31), (2020, 2, 29), None, (1969, 12, 31), (2024, 12, 30), (2021, 1, 3), (2021, 1, 4), (1900, 3, 1),
    (2000, 6, 15), (2019, 12, 30), (2020, 12, 31), (2023, 7, 4),
)  # fmt: skip
_CLOCKS = (
    (23, 59, 59, 999999),
    (),
    (),
    (12, 30),
    (1,),
    (4, 5, 6, 500000),
    (),
    (),
    (12,),
    (),
    (23,),
    (9, 8, 7, 1),
)
_MOMENTS = [datetime(*day, *clock) if day else None for day, clock in zip(_DAYS, _CLOCKS, strict=True)]  # noqa: DTZ001
_DECIMALS = (
    "1.50",
    "-2.35",
    None,
    "0.00",
    "9999.99",
    "0.05",
    "2.67",
    "-0.50",
    "10.00",
    "7.25",
    "1.01",
    "3.55",
)


def typed() -> pa.Table:
    """Twelve rows with nulls, negatives, signed zeros, NaN, decimals, leap days, Unicode, nested values."""
    nan, inf = float("nan"), float("inf")
    text = [
        "ÄrgerΣ",
        "straße\u00a0",
        None,
        "",
        "a%b_c",
        "100",
        "12.5",
        "  pad  ",
        "Ünïcödé 😀",
        "a\\b",
        "line\nbreak",
        "it's",
    ]
    columns: dict[str, tuple[pa.DataType, list[Any]]] = {
        "id": (pa.int64(), list(range(1, 13))),
        "i": (pa.int32(), [1, -7, None, 0, 2147483, 3, 3, -2, 100, 7, 5, None]),
        "b": (pa.int64(), [10, -3, 2**53 + 1, 0, None, 7, 7, 1, -100, 13, 2, 9]),
        "u": (pa.uint8(), [0, 255, None, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        "x": (pa.float64(), [1.5, -2.5, None, 0.0, 1e20, 0.1, 2.675, -0.5, nan, inf, 1.005, 3.5]),
        "f": (pa.float32(), [1.5, -2.5, None, -0.0, 1e10, 0.1, 2.675, -0.5, 3.25, 7.0, 1.005, 3.5]),
        "d": (pa.decimal128(10, 2), [v and Decimal(v) for v in _DECIMALS]),
        "s": (pa.string(), text),
        "g": (pa.string(), ["a", "b", "a", "b", "a", None, "c", "c", "a", "b", None, "c"]),
        "n": (pa.string(), ["1", "-5", " 7 ", "x", None, "", "12.5", "n/a", "abc", "3", "+4", "-0.5"]),
        "w": (pa.string(), ["2020-01-05", "2021-12-31T23:59:59", "2020-02-29 10:00:00.5", None, "2020-02-30",
                            "2019-06-30T12:00:00Z", "2019-06-30T12:00:00+02:00", "soon", "", "2018-01-01", "x", "-"]),
        "day": (pa.date32(), [date(*day) if day else None for day in _DAYS]),
        "t": (pa.timestamp("us"), _MOMENTS),
        "z": (pa.timestamp("us", "UTC"), [m and m.replace(tzinfo=UTC) for m in _MOMENTS]),
        "o": (pa.bool_(), [True, False, None, True, False, True, None, True, False, True, False, True]),
        "l": (pa.list_(pa.int64()), [[1, 2], [], None, [None, 3], [5], [1], [2], [3, 3], [1, None], [9], [8, 7], [6]]),
        "v": (pa.list_(pa.string()), [["a", "b"], [], None, [None, "c"], *([["d"]] * 8)]),
        "r": (pa.struct({"a": pa.int64(), "B c": pa.string()}),
              [{"a": 1, "B c": "x"}, {"a": None, "B c": "y"}, None, *({"a": k, "B c": "z"} for k in range(9))]),
    }  # fmt: skip
    return pa.table({name: pa.array(values, kind) for name, (kind, values) in columns.items()})


EXPRESSIONS = {
    "numbers": """
        i + 1 | i - b | i * 2 | u + 0 | -i | -x | i / 2 | i / 0 | x / 0 | x / i | d / 3 | b // nullif(i, 0)
        b % nullif(i, 0) | x % 2 | x % 0 | d % 2 | f * 2 | f / 3 | f + d | i + d | d * d | d * 1.5 | d + x | x * 1.5
        abs(d) | abs(x) | sign(i) | sign(d) | round(x) | round(x, 2) | round(d, 1) | round(i, 1) | round(f, 1)
        ceil(x) | floor(x) | trunc(x) | ceil(d) | floor(d) | trunc(d) | sqrt(abs(i)) | isnan(x) | isinf(x) | isfinite(x)
        greatest(i, b) | least(x, d) | 1.5 | 1e3 | 10000000000 | u::int - 300
    """,
    "conditions": """
        i = 3 | i <> 3 | x > d | x = 0.1 | i is distinct from b | i is not distinct from b | o and i > 0 | not o
        o or i > 0 | o is true | o is not true | s is null | s is not null | i in (1, 3, null) | i not in (1, 3)
        i between 1 and 5 | day between '2020-01-01' and '2020-12-31' | day >= '2020-06-01' | t < '2020-06-01 12:00:00'
        z >= '2020-06-01 12:00:00+02' | day = t | s < 'b' | x = x | case when i > 0 then 'p' when i < 0 then 'n' else 'z' end
        case g when 'a' then 1 when 'b' then 2.5 end | if(i > 2, 1, 0) | coalesce(i, b, 0) | coalesce(s, g, '-')
        ifnull(x, 0) | nullif(i, 3) | nullif(g, 'a') | greatest(g, s) | exists (select 1 from s.t q where q.i = t.i and q.id <> t.id)
        (select max(i) from s.t) | (select count(*) from s.t q where q.g = t.g) | null::int
    """,
    "casts": """
        i::bigint | d::int | d::double | d::varchar | i::varchar | o::varchar | o::int | i::boolean | day::varchar | t::varchar
        case when abs(x) < 1e6 then x::int end | case when abs(x) < 1e6 then x::decimal(10,2) end | day::timestamp
        d::decimal(7,1) | t::date | z::date | z::timestamp | t::timestamptz | x::float | f::double | try_cast(n as int)
        try_cast(n as double) | try_cast(n as decimal(10,2)) | try_cast(n as boolean) | try_cast(i as tinyint)
        try_cast(w as date) | try_cast(w as timestamp) | cast('2020-1-5' as date) | date '2020-01-05'
        timestamp '2020-01-05 10:00:00' | '12'::int + 1 | try_cast('x' as int) | '1e2'::double | 'yes'::bool
    """,
    "text": """
        lower(s) | upper(s) | length(s) | len(s) | trim(s) | ltrim(s) | rtrim(s) | trim(s, 'aÄ') | substr(s, 2) | s || '!'
        substring(s, 2, 3) | left(s, 2) | right(s, 2) | replace(s, 'a', 'zz') | split(s, 'a') | split(s, '.')
        split_part(s, 'a', 2) | starts_with(s, 'a') | ends_with(s, 'e') | prefix(s, 'it') | suffix(s, 'e') | contains(s, 'r')
        position('r' in s) | strpos(s, 'ß') | lpad(g, 3, 'xy') | rpad(g, 3, 'xy') | g || '-' || s | g || i | concat(g, s, 'x')
        concat(g, i) | concat_ws('/', g, s) | md5(s) | sha256(s) | 'it''s \\ fine'
    """,
    "patterns": r"""
        s like 'a%' # s like '%\%%' # s like 'a$%b$_c' escape '$' # s not like '%a%' # s ilike 'äR%' # s like '%!%'
        regexp_matches(s, 'a.b') # regexp_matches(s, '^\d+$') # regexp_matches(s, 'e.b') # regexp_matches(s, 'E', 'i')
        regexp_full_match(s, '[0-9.]+') # s ~ '[a-z]+' # regexp_extract(s, '([a-z]+)') # regexp_matches(s, '[\s&&]')
        regexp_extract(s, '([a-z])([a-z])', 2) # regexp_extract(s, 'z(.)', 1) # regexp_replace(s, '[aeiou]', '<\0>', 'g')
        regexp_replace(s, '([a-z])([a-z])', '\2$\1') # regexp_replace(s, '([a-z])([a-z])', '\2\1', 'g')
        regexp_replace(s, '\s+$', '') # regexp_replace(s, 'b|e', '') # regexp_matches(s, 'line$') # regexp_matches(s, '^.$')
    """,
    "moments": """
        date_trunc('month', day) | date_trunc('week', t) | date_trunc('hour', t) | date_trunc('day', z) | last_day(day)
        date_trunc('quarter', day) | date_diff('day', day, date '2020-06-01') | date_diff('month', day, date '2020-06-01')
        date_diff('hour', t, timestamp '2020-06-01 12:30:00') | date_diff('year', t, timestamp '2020-06-01 12:30:00')
        date_diff('quarter', day, date '2020-06-01') | date_diff('second', t, timestamp '2020-06-01 12:30:00')
        day + 1 | day - 3 | day + i % 100 | day - date '2020-01-01' | day + interval 1 month | day - interval '2' day
        t + interval 90 minute | t - interval 1 year | t + interval (i % 10) day | z + interval 1 hour | extract(year from day)
        extract(dow from t) | extract(isodow from day) | extract(week from day) | extract(isoyear from day)
        extract(doy from day) | extract(quarter from t) | extract(second from t) | extract(hour from t) | extract(epoch from t)
        date_part('month', day) | year(day) | month(t) | day(t) | hour(z) | minute(t) | dayofweek(day) | weekofyear(day)
        quarter(day) | dayofyear(day) | epoch(t) | dayname(day) | monthname(day) | strftime(t, '%Y-%m-%d %H:%M:%S.%f')
        strftime(day, '%d/%m/%y %j %b %A') | make_date(2020, 2, 29)
    """,
    "nested": """
        l[1] | l[2] | l[5] | list_contains(l, 3) | list_contains(l, i) | array_contains(v, 'a') | len(l)
        list_transform(l, lambda e: e * 2 + 1) | list_filter(l, lambda e: e > 2) | list_transform(l, lambda e: e + id)
        array_to_string(v, ',') | [i, b] | [1, 2.5, x] | {'a': i, 'b': s} | r.a | r['B c'] | r."B c" | r | l
        list_transform(v, lambda e: list_transform([1], lambda k: e || k))
    """,
}

# Where libraries, the order of rows, or how DuckDB plans a mean differ in the last digit.
ABOUT = [
    (
        "select id, sin(f) as c1, cos(x) as c2, exp(d) as c3, ln(abs(i) + 1) as c4, log10(abs(i) + 1) as c5, "
        "pow(d, 2) as c6, radians(x) as c7, atan2(i, b) as c8, x ** 2 as c9 from s.t where isfinite(x) and x < 1e6"
    ),
    (
        "select g, sum(f) as c1, avg(x) as c2, stddev(f) as c3, var_pop(f) as c4, avg(f) as c5, avg(d) as c6, "
        "avg(distinct d) as c7 from s.t where id < 5 group by g"
    ),
    "select id, avg(d) over (order by id rows between 2 preceding and current row) as mean from s.t",
]

QUERIES = [
    (
        "select g, count(*) as n, sum(i) as si, sum(d) as sd, avg(i) as ai, min(s) as mi, max(day) as ma, "
        "count(distinct i) as cd, sum(u) as su, bool_and(o) as ba, bool_or(o) as bo, count_if(i > 1) as ci, "
        "sum(distinct i) as di, avg(distinct i) as dd, max(x) as mx from s.t group by g"
    ),
    (
        "select g, arg_max(s, day) as am, arg_min(id, t) as an, arg_max(i, day) as ai, max_by(s, id) as mb, "
        "arg_max_null(i, id) as mn, arg_max(s, id) filter (where o) as af from s.t group by 1"
    ),
    (
        "select g, string_agg(s, '|' order by id desc) as sa, list(i order by i desc nulls first, id) as li, "
        "array_agg(s order by day desc, id) as aa from s.t group by all order by all"
    ),
    "select g, sum(i) filter (where id > 3) as f1, count(*) filter (where o) as f2 from s.t group by g having count(*) > 1",
    "select sum(i) as a, count(*) as n, avg(i) as m, max(s) as x, list(i order by i) as l from s.t where id > 100",
    (
        "select id, sum(i) over (partition by g order by id) as r, row_number() over (partition by g order by day desc, id) as rn, "
        "lag(i) over (order by id) as la, lead(s, 2, 'none') over (order by id) as le, "
        "first_value(i) over (partition by g order by id) as fv, last_value(i ignore nulls) over (order by id) as lv, "
        "rank() over (order by i) as rk, dense_rank() over (order by i desc nulls first) as dr, ntile(3) over (order by id) as nt, "
        "percent_rank() over (order by i) as pr, cume_dist() over (order by i) as cu, count(*) over () as al, "
        "sum(d) over (order by id rows between 2 preceding and current row) as ma, "
        "sum(i) filter (where o) over (order by id) as fo, nth_value(i, 2) over (order by id) as nv, "
        "max(i) over (order by id rows between unbounded preceding and 1 preceding) as mx from s.t"
    ),
    "select id, g, day from s.t qualify row_number() over (partition by g order by day desc nulls last, id) = 1",
    "select id, g from s.t window w as (partition by g order by id) qualify row_number() over w <= 2 order by g, id desc limit 3",
    "select id, i from s.t order by i desc, id limit 5 offset 2",
    "select s, id from s.t order by upper(g), id limit 4",
    "select distinct g, i from s.t",
    "select a.id, b.id as other from s.t a join s.t b on a.i = b.i and a.id < b.id",
    "select a.id, b.i from s.t a left join (select id + 1 as id, i from s.t) b using (id)",
    "select id, a.g, b.g as h from s.t a right join (select id + 5 as id, g from s.t) b using (id)",
    "select id, a.g, b.g as h from s.t a full join (select id + 5 as id, g from s.t) b using (id)",
    "select a.id from s.t a semi join (select 3 as i) b on a.i = b.i",
    "select id from s.t a anti join (select i from s.t where id < 5) b on a.i = b.i",
    "select count(*) as n from s.t a, s.t b where a.id = b.id",
    "select i from s.t union select b from s.t",
    "select i, s from s.t union all select id, g from s.t order by 1, 2 limit 7",
    "select g from s.t except select s from s.t",
    "select i from s.t intersect all select b from s.t",
    (
        "with q as (select g, i * 2 as j, j + 1 as k from s.t where k > 3), r as (select g, sum(k) as k from q group by all) "
        "select r.*, q.j from r join q on q.g is not distinct from r.g"
    ),
    "select * exclude (l, v, r, s) from s.t",
    "select * replace (i + 1 as i) from s.t",
    'select "ID", T.I from S.T as T where "s" is not null',
    "from s.t select id, i where i > 2",
    "select id, unnest(l) as e from s.t",
    "select date_trunc('month', day) as day, count(*) as n from s.t group by day",
    "select x, count(*) as n from s.t group by x",
    'select g as "Grüße Welt", i as "a.b", s as "tick`s" from s.t',
    "select id, (select max(b.i) from s.t b where b.g = a.g) as m from s.t a",
    "with q(a, b) as (select id, g from s.t) select b, count(*) as n from q group by b",
    "select * from (select id, g from s.t) as q(a, b)",
    "select id from s.t where i in (select i from s.t where id < 5) and id not in (select id from s.t where id < 2)",
    "select id from s.t where i not in (select i from s.t)",
    "select g, rank() over (order by sum(i)) as r from s.t group by g",
    "select 1 as one, null as nothing",
    "-- said\nselect id /* and\nmore */ from s.t where s = '-- no comment'",
]
