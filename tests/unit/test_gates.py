"""Gates: figures in, reasons out."""

import pytest

from lakehouse.core.gates import OPEN, Gates, SnapshotFigures, refusals
from lakehouse.errors import UserError


def refused(gates: Gates, rows: int, before: int | None, **more: object) -> list[str]:
    return refusals(gates, {"t": SnapshotFigures(rows=rows, rows_before=before, **more)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "before", "fine"),
    [
        (0, None, True), (0, 0, True), (0, 1, False), (1, 0, True), (1, None, True), (1, 9, True),
        (5, 10, True), (4, 10, False), (50, 100, True), (49, 100, False), (1000, 10, True),
    ],
)  # fmt: skip
def test_the_defaults(rows: int, before: int | None, fine: bool) -> None:
    assert (refused(Gates(), rows, before) == []) is fine
    assert refused(OPEN, rows, before) == []


def test_each_limit_can_be_moved() -> None:
    assert refused(Gates(allow_empty=True), 0, 100) == []
    assert refused(Gates(max_drop=0), 99, 100)
    assert refused(Gates(max_drop=0), 100, 100) == []
    assert refused(Gates(max_drop=0, min_rows_for_drop=101), 99, 100) == []
    assert refused(Gates(max_drop=0.9), 10, 100) == []
    for share in (-0.1, 1.1):
        with pytest.raises(UserError):
            Gates(max_drop=share)


def test_repeated_keys_are_refused_always_and_all_reasons_are_given() -> None:
    reasons = refused(OPEN, 3, 3, duplicate_keys=2, example='{"id":1}')
    assert reasons == ['t: 2 duplicate primary keys in one snapshot, such as {"id":1}']
    both = {"a": SnapshotFigures(rows=0, rows_before=5), "b": SnapshotFigures(rows=1, rows_before=50)}
    assert [reason[:2] for reason in refusals(Gates(), both)] == ["a:", "b:"]
