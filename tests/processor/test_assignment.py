"""Which replica runs which tasks: each task one owner, shares are even, few move when a member comes or goes."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from penstock_processor.runtime.assignment import Unit, assign

SIZES = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.integers(1, 8), min_size=1, max_size=12)
MEMBERS = st.sets(st.text("rstuvwxyz0123456789", min_size=1, max_size=6), min_size=1, max_size=6)


def units_of(sizes: dict[str, int]) -> list[Unit]:
    return [(app, partition) for app, size in sizes.items() for partition in range(size)]


@given(SIZES, MEMBERS)
def test_every_task_has_one_living_owner_and_the_order_of_asking_does_not_matter(
    sizes: dict[str, int], members: set[str]
) -> None:
    units = units_of(sizes)
    owners = assign(units, sorted(members))
    assert set(owners) == set(units)
    assert set(owners.values()) <= members
    assert assign(units[::-1], sorted(members, reverse=True)) == owners


@given(SIZES, MEMBERS)
def test_no_member_has_more_than_its_share_of_an_app_and_hardly_more_of_everything(
    sizes: dict[str, int], members: set[str]
) -> None:
    owners = assign(units_of(sizes), members)
    of_app = Counter((app, member) for (app, _), member in owners.items())
    assert all(count <= -(-sizes[app] // len(members)) for (app, _), count in of_app.items())
    in_all = Counter(owners.values())
    share = -(-sum(sizes.values()) // len(members))
    assert max(in_all.values()) <= share + max(sizes.values())


@given(SIZES, MEMBERS, st.integers(0, 5))
def test_when_a_member_goes_and_comes_back_everything_is_as_before(
    sizes: dict[str, int], members: set[str], which: int
) -> None:
    units = units_of(sizes)
    gone = sorted(members)[which % len(members)]
    before = assign(units, members)
    without = assign(units, members - {gone})
    assert gone not in without.values()
    assert assign(units, members) == before


def test_few_tasks_move_that_need_not() -> None:
    moved, kept = 0, 0
    for size in (2, 3, 4, 8, 16):
        for round_ in range(40):
            members = [f"{round_}-{n}" for n in range(2 + round_ % 3)]
            units = [(f"app{n}", p) for n in range(3) for p in range(size)]
            before, after = assign(units, members), assign(units, members[1:])
            stayed = [unit for unit in units if before[unit] != members[0]]
            moved += sum(before[unit] != after[unit] for unit in stayed)
            kept += len(stayed)
    assert moved < kept * 0.25, f"{moved} of {kept} tasks of replicas that stayed have moved"


def test_without_members_nothing_is_assigned() -> None:
    assert assign([("produce", 0)], []) == {}
