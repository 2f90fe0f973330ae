"""What a sync is going to do: from two ends of a log and what lies between them, without any store."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.bandwidth import Bandwidth
from sync.plan import Copy, Cut, End, Plan, Publish, plan, same
from sync.units import Need, Unit


def part(name: str, first: int, last: int | None = None, *, size: int = 100, table: str = "t") -> Need:
    return Need(
        table=table, path=f"s/{table}/{name}", sha256=name, size_bytes=size, first=first,
        last=first if last is None else last,
    )  # fmt: skip


def pack(name: str, first: int, last: int, *, size: int = 100, table: str = "t") -> Need:
    return Need(
        table=table, path=f"s/{table}/{name}", sha256=name, size_bytes=size, first=first, last=last, pack=True
    )


def unit(first: int, *needs: Need, last: int | None = None, size: int = 10) -> Unit:
    return Unit(
        source="s", first=first, last=last or first, prev=f"d{first - 1}", digest=f"d{last or first}",
        content=b"x" * size, needs=needs,
    )  # fmt: skip


def planned(units: list[Unit], **options: object) -> Plan:
    return plan("s", relation="ahead", here=End(), there=End(), units=units, **options)  # type: ignore[arg-type]


def steps(made: Plan) -> list[str]:
    """The actions as text: `a` copies the part a, `1-3` publishes commits 1 to 3."""
    return [
        action.path.rsplit("/", 1)[-1] if isinstance(action, Copy) else f"{action.first}-{action.last}"
        for action in made.actions
    ]


def test_nothing_is_done_where_nothing_is_lacking() -> None:
    made = planned([])
    assert (made.actions, made.loads, made.files, made.size_bytes) == ((), 0, 0, 0)


def test_parts_come_before_the_log_file_that_names_them() -> None:
    made = planned([unit(1, part("a", 1)), unit(2), unit(3, part("b", 3))])
    assert steps(made) == ["a", "b", "1-3"]
    assert made.actions[-1] == Publish(source="s", first=1, last=3, size_bytes=30)
    assert made.copies[0] == Copy(path="s/t/a", sha256="a", size_bytes=100)
    assert (made.loads, made.files, made.size_bytes) == (3, 3, 230)


def test_a_part_of_several_loads_is_copied_once() -> None:
    one, two = part("a", 1), part("a", 2)
    assert steps(planned([unit(1, one), unit(2, two)])) == ["a", "1-2"]
    assert steps(planned([unit(1, one), unit(2, two)], cut=Cut(parts=1))) == ["a", "1-1", "2-2"]


def test_a_part_that_a_pack_of_the_same_batch_stands_for_is_left_out() -> None:
    found = [unit(1, part("a", 1)), unit(2, part("b", 2), part("x", 2, table="u")), unit(3, pack("p", 1, 2))]
    assert steps(planned(found)) == ["x", "p", "1-3"]


def test_a_pack_stands_for_those_parts_only_all_of_whose_loads_are_its_own() -> None:
    found = [unit(1, part("a", 1)), unit(2, part("b", 2, 4), last=4), unit(5, pack("p", 1, 3))]
    assert steps(planned(found)) == ["b", "p", "1-5"]


def test_a_part_of_an_earlier_batch_is_not_asked_for_again_by_what_follows() -> None:
    found = [unit(1, part("a", 1)), unit(2, part("b", 2)), unit(3, pack("p", 1, 2)), unit(4)]
    assert steps(planned(found, cut=Cut(parts=2))) == ["a", "b", "1-2", "p", "3-4"]


def test_where_a_part_is_gone_the_batch_goes_on_until_the_pack_that_stands_for_it() -> None:
    found = [unit(1, part("a", 1)), unit(2, part("b", 2)), unit(3), unit(4, pack("p", 1, 2)), unit(5)]
    gone = {"s/t/b"}
    assert steps(planned(found, missing=gone, cut=Cut(parts=1))) == ["a", "1-1", "p", "2-4", "5-5"]
    assert steps(planned(found, missing=gone, cut=Cut(log_bytes=15))) == ["a", "1-1", "p", "2-4", "5-5"]


def test_where_a_part_is_lost_the_plan_ends_before_it_and_names_it() -> None:
    made = planned([unit(1, part("a", 1)), unit(2, part("b", 2)), unit(3, part("c", 3))], missing={"s/t/b"})
    assert steps(made) == ["a", "1-1"]
    assert [need.path for need in made.lost] == ["s/t/b"]
    assert not made.stopped


def test_a_pack_that_was_packed_again_may_be_gone() -> None:
    found = [
        unit(1, part("a", 1)),
        unit(2, pack("p", 1, 1)),
        unit(3, part("b", 3)),
        unit(4, pack("q", 1, 3)),
    ]
    made = planned(found, missing={"s/t/a", "s/t/p", "s/t/b"})
    assert steps(made) == ["q", "1-4"]


@pytest.mark.parametrize(
    ("cut", "want"),
    [
        (Cut(parts=2), ["a", "b", "1-2", "c", "3-3"]),
        (Cut(part_bytes=150), ["a", "b", "1-2", "c", "3-3"]),
        (Cut(log_bytes=20), ["a", "b", "1-2", "c", "3-3"]),
        (Cut(log_bytes=5), ["a", "1-1", "b", "2-2", "c", "3-3"]),
        (Cut(), ["a", "b", "c", "1-3"]),
    ],
)
def test_batches_are_cut_by_parts_bytes_and_the_size_of_the_log_file(cut: Cut, want: list[str]) -> None:
    assert steps(planned([unit(n, part(name, n)) for n, name in enumerate("abc", 1)], cut=cut)) == want


@pytest.mark.parametrize(
    ("most", "want"),
    [(0, []), (109, []), (110, ["a", "1-1"]), (329, ["a", "b", "1-2"]), (330, ["a", "b", "c", "1-3"])],
)
def test_a_limit_ends_the_plan_with_the_last_batch_that_fits(most: int, want: list[str]) -> None:
    made = planned([unit(n, part(name, n)) for n, name in enumerate("abc", 1)], max_bytes=most)
    assert steps(made) == want
    assert made.stopped == (most < 330)
    assert made.size_bytes <= most
    assert (made.next_loads, made.next_bytes) == ((1, 110) if made.stopped else (0, 0))


def test_digests_are_the_same_as_far_as_both_are_known() -> None:
    whole = "0123456789abcdef" * 4
    assert same(whole, whole)
    assert same(whole[:16], whole)
    assert same(whole, whole[:24])
    assert not same(whole[:15], whole)
    assert not same("", whole)
    assert not same(whole[::-1], whole)


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Unit], set[str]]:
    """Units of loads and packs, and some of the parts that were packed by the end, gone."""
    units: list[Unit] = []
    held: list[Need] = []
    old: set[str] = set()
    for seq in range(1, draw(st.integers(1, 14)) + 1):
        needs: list[Need] = []
        if held and draw(st.booleans()):
            first = draw(st.integers(1, seq - 1))
            last = draw(st.integers(first, seq - 1))
            one = pack(f"p{seq}", first, last, size=draw(st.integers(1, 50)))
            old |= {need.path for need in held if need.within(one)}
            held = [need for need in held if not need.within(one)] + [one]
            needs = [one]
        else:
            needs = [
                part(f"a{seq}-{n}", seq, size=draw(st.integers(1, 50)))
                for n in range(draw(st.integers(0, 2)))
            ]
            held += needs
        units.append(unit(seq, *needs))
    gone = draw(st.sets(st.sampled_from(sorted(old)))) if old else set()
    return units, gone


def held_at(units: list[Unit], last: int) -> set[str]:
    """The parts that hold the rows at a position, worked out one by one."""
    held: list[Need] = []
    for one in units[:last]:
        for need in one.needs:
            if need.pack:
                held = [other for other in held if not other.within(need)]
            held.append(need)
    return {need.path for need in held}


@given(logs(), st.integers(1, 4), st.integers(10, 60), st.one_of(st.none(), st.integers(0, 400)))
def test_after_every_batch_all_parts_of_the_state_are_there(
    log: tuple[list[Unit], set[str]], parts: int, log_bytes: int, most: int | None
) -> None:
    units, gone = log
    made = planned(
        units, missing=gone, max_bytes=most, cut=Cut(parts=parts, part_bytes=80, log_bytes=log_bytes)
    )
    there: set[str] = set()
    for action in made.actions:
        if isinstance(action, Copy):
            assert action.path not in there | gone
            there.add(action.path)
        else:
            assert held_at(units, action.last) <= there
    publishes = made.publishes
    assert all(before.last + 1 == after.first for before, after in pairwise(publishes))
    assert not publishes or publishes[0].first == 1
    assert not made.lost
    if most is None:
        assert not units or publishes[-1].last == len(units)
    else:
        assert made.size_bytes <= most
        assert made.stopped == (made.loads < len(units))
        rest = units[made.loads :]
        for less in (0, 1) if made.stopped and not made.lost else ():
            again = planned(rest, missing=gone, max_bytes=made.next_bytes - less)
            assert (again.loads >= made.next_loads) == (not less)


def test_bandwidth_is_an_average() -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> bool:
        slept.append(seconds)
        now[0] += seconds
        return False

    bucket = Bandwidth(100, clock=lambda: now[0], sleep=sleep)
    for size in (50, 200, 100):
        bucket.take(size)
    assert slept == [1.5, 1.0]
    now[0] += 10
    bucket.take(1)
    assert slept == [1.5, 1.0]
    bucket.take(400)
    assert slept[2:] == [pytest.approx(3.01)]  # more than a second's worth is waited for before it goes
    Bandwidth(None, sleep=lambda _: pytest.fail("no limit, and it waits")).take(1 << 40)
