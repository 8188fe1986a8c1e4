"""The plan of faults and the events are drawn from the seed alone, and cover what they claim to cover."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from ledger.events import FAILING, GOOD, REFUSED, START_MS, Source, is_large
from ledger.load import outcome_of
from ledger.nemesis import LEASE_S, Mixture, plan
from ledger.records import FAIL, INFO, OK

ROLES = ("ingest", "processor", "publish", "data")


@pytest.mark.parametrize("seed", [1, 2, 20261121])
def test_the_same_seed_draws_the_same_plan_and_another_one_another(seed: int):
    mixture = Mixture(kills=20, pauses=3, crashes=2)
    assert plan(seed, ROLES, ["database"], mixture) == plan(seed, ROLES, ["database"], mixture)
    assert plan(seed, ROLES, ["database"], mixture) != plan(seed + 1, ROLES, ["database"], mixture)


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_has_its_number_of_faults_and_leaves_no_process_out(seed: int):
    steps = plan(seed, ROLES, ["database", "broker"], Mixture(kills=20, pauses=4, crashes=2))
    kills = [step for step in steps if step.kind == "kill"]
    assert sum(1 + (step.again_after_s is not None) for step in kills) == 20
    assert {step.target for step in kills} == set(ROLES)
    assert Counter(step.target for step in steps if step.kind == "pause") == dict.fromkeys(ROLES, 1)
    assert Counter(step.target for step in steps if step.kind == "crash") == {"database": 2, "broker": 2}
    assert all(step.down_s > LEASE_S for step in steps if step.kind == "pause"), "a pause outlasts the lease"


def test_events_are_drawn_from_the_seed_and_number_each_account_without_holes():
    times = range(START_MS, START_MS + 2000 * 1000, 1000)
    events = Source(5, 1, 3).draw(times)
    assert events == Source(5, 1, 3).draw(times) != Source(6, 1, 3).draw(times)
    assert len({event.id for event in events}) == len({event.digest for event in events}) == 2000
    for account in {event.account for event in events}:
        numbers = [event.seq for event in events if event.account == account and event.kind != REFUSED]
        assert numbers[0] == 1
        assert all(b == a + 1 for a, b in pairwise(numbers))


def test_events_of_every_kind_are_drawn():
    events = Source(5, 1, 3).draw(range(2000))
    assert {event.kind for event in events} == {GOOD, FAILING, REFUSED}
    assert 0.2 < sum(map(is_large, events)) / len(events) < 0.8


@pytest.mark.parametrize(
    ("status", "reply", "word"),
    [
        (200, b'{"accepted":1,"duplicate":0,"rejected":0}', OK),
        (207, b'{"accepted":1,"duplicate":0,"rejected":1}', OK),
        (422, b'{"accepted":0,"duplicate":0,"rejected":2}', OK),
        (401, b"{}", FAIL),
        (429, b"{}", FAIL),
        (408, b"", INFO),
        (500, b"", INFO),
        (502, b"", INFO),
        (503, b"", INFO),
        (504, b"", INFO),
    ],
)
def test_only_an_answer_that_says_so_is_a_certain_outcome(status: int, reply: bytes, word: str):
    assert outcome_of(1, status, reply).outcome == word
