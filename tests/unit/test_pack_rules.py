"""What is worth packing: rules over the parts that a log names, without any file."""

import itertools
from collections.abc import Sequence

import pytest

from lakehouse.core.files import File, Held, Parts
from lakehouse.core.log import Era, TableLog
from lakehouse.core.past import Chronicle
from lakehouse.core.types import Column, Type
from lakehouse.pack import MOST_ROWS, OPENING_BYTES, worth_packing


def file(first: int, last: int, *, rows: int = 10, size: int = 5_000, **types: Type) -> File:
    columns = tuple(Column(name=name, type=kind) for name, kind in (types or {"id": "int64"}).items())
    return File(
        path=f"{first}-{last}", sha256="", size_bytes=size, first=first, last=last, rows=rows, columns=columns
    )


def runs(files: Sequence[File], *eras: Era, least: int = 2) -> list[tuple[int, int]]:
    eras = eras or (Era(first=1, key=()),)
    table = TableLog(
        name="t",
        changes=Chronicle(),
        columns=(),
        eras=Chronicle(eras),
        keys=tuple(era.key for era in eras),
        first_seq=1,
        widths=(),
        parts=Parts(Held(files={f"{n}": file for n, file in enumerate(files)})),
    )
    return [(run.first, run.last) for run in worth_packing(table, least=least)]


def test_small_parts_become_one() -> None:
    assert runs([file(n, n) for n in range(1, 1001)]) == [(1, 1000)]


def test_nothing_is_gained_by_a_single_part() -> None:
    assert runs([]) == []
    assert runs([file(1, 50)]) == []


def test_fewer_parts_than_asked_for_are_left() -> None:
    files = [file(n, n) for n in range(1, 8)]
    assert runs(files, least=8) == []
    assert runs([*files, file(8, 8)], least=8) == [(1, 8)]


def test_large_parts_are_left_and_what_lies_between_them_is_packed() -> None:
    large = MOST_ROWS // 2
    files = [
        file(1, 9, rows=large),
        *(file(n, n) for n in range(10, 20)),
        file(20, 20, rows=large),
        file(21, 21),
    ]
    assert runs(files) == [(10, 19)]


def test_a_pack_is_never_larger_than_a_pack_may_be() -> None:
    files = [file(n, n, rows=MOST_ROWS // 4) for n in range(1, 11)]
    assert runs(files) == [(1, 4), (5, 8), (9, 10)]


def test_parts_of_one_load_stay_together() -> None:
    files = [file(1, 1), *(file(2, 2, rows=MOST_ROWS // 3) for _ in range(3)), file(3, 3), file(4, 4)]
    assert runs(files) == [(3, 4)]


def test_an_old_pack_is_written_anew_only_when_enough_came_since() -> None:
    pack = file(1, 100, size=20 * OPENING_BYTES)
    few = [file(n, n) for n in range(101, 110)]
    assert runs([pack, *few]) == [(101, 109)]
    assert runs([pack, file(101, 101, size=11 * OPENING_BYTES)]) == [(1, 101)]


def test_however_often_it_runs_a_byte_is_written_anew_a_few_times_only() -> None:
    """Ten thousand loads, packed after each: the work is that of a tree, not of a square."""
    files: list[File] = []
    written = 0
    for n in range(1, 10_001):
        files.append(file(n, n, size=OPENING_BYTES // 4, rows=10))
        if n % 5 == 0:
            for first, last in runs(files):
                inside = [f for f in files if first <= f.first and f.last <= last]
                size = sum(f.size_bytes for f in inside)
                written += size
                new = file(first, last, size=size, rows=sum(f.rows for f in inside))
                files = sorted([*(f for f in files if f not in inside), new], key=lambda f: f.first)
    total = sum(f.size_bytes for f in files)
    assert written < 20 * total
    assert len(files) < 60


def test_runs_end_where_the_key_changes() -> None:
    files = [file(n, n) for n in range(1, 7)]
    eras = Era(first=1, key=("id",)), Era(first=4, key=("id", "v"))
    assert runs(files, *eras) == [(1, 3), (4, 6)]


def test_snapshots_without_a_key_are_packed_together() -> None:
    files = [file(n, n) for n in range(1, 7)]
    assert runs(files, *(Era(first=n, key=()) for n in range(1, 7))) == [(1, 6)]


@pytest.mark.parametrize("kind", ["date", "time", "timestamp", "timestamptz_ns", "binary", {"list": "date"}])
def test_values_that_count_differently_as_json_are_never_turned_into_it(kind: Type) -> None:
    files = [file(n, n, v=kind if n < 4 else "string") for n in range(1, 7)]
    assert runs(files) == [(1, 3), (4, 6)]


def test_other_types_are_widened() -> None:
    kinds = itertools.cycle(("int64", "string", "json", "float64", "bool", "null"))
    assert runs([file(n, n, v=kind) for n, kind in zip(range(1, 20), kinds, strict=False)]) == [(1, 19)]
