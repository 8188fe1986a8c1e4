"""Meters hold any pattern of use to its plan, and lose nothing that was saved. Pure; the time is made up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock_publish.plans.bucket import Bucket
from penstock_publish.plans.fields import QuotaExceeded, limit_fields
from penstock_publish.plans.meter import DAY_S, Counts, Meter
from penstock_publish.plans.settings import BUILT_IN, Plan, PlanSettings

NOON = 20_000 * DAY_S + DAY_S // 2
PATTERN = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 40)), min_size=1, max_size=40)
RATES = st.integers(1, 1_000)


@given(PATTERN, RATES, st.integers(1, 60))
def test_a_bucket_never_lets_more_through_than_its_rate_and_burst_in_any_span(pattern, rate, burst_s):
    bucket, now_s, taken = Bucket(rate, rate * burst_s, NOON), float(NOON), []
    for pause_s, amount in pattern:
        now_s += pause_s
        taken.append((now_s, amount if bucket.take(amount, now_s) else 0))
    for first, (start_s, _) in enumerate(taken):
        through = 0
        for at_s, amount in taken[first:]:
            through += amount
            assert through <= rate * (at_s - start_s) + rate * burst_s + 1e-3


@given(PATTERN, RATES, st.integers(1, 60))
def test_a_bucket_loses_no_credit_however_often_it_is_asked(pattern, rate, burst_s):
    asked, left_alone = Bucket(rate, rate * burst_s, NOON), Bucket(rate, rate * burst_s, NOON)
    asked.spend(rate * burst_s + 7, NOON)
    left_alone.spend(rate * burst_s + 7, NOON)
    now_s = float(NOON)
    for pause_s, _ in pattern:
        now_s += pause_s
        asked.credit(now_s)
        asked.wait_s(1, now_s)
        assert not asked.take(rate * burst_s + 1, now_s)
    assert asked.credit(now_s) == pytest.approx(left_alone.credit(now_s), abs=1e-3)


@given(PATTERN, RATES)
def test_who_waits_as_long_as_a_bucket_says_gets_what_was_asked_for(pattern, rate):
    bucket, now_s = Bucket(rate, rate * 60, NOON), float(NOON)
    for pause_s, amount in pattern:
        now_s += pause_s + bucket.wait_s(min(amount, rate * 60), now_s + pause_s)
        assert bucket.take(min(amount, rate * 60), now_s)


@given(PATTERN)
def test_deliveries_are_held_to_the_rate_but_for_the_last_flush(pattern):
    plan = Plan(messages_per_s=10, bytes_per_s=1_000, burst_s=2)
    meter, now_s, through, last = Meter("app", "own", plan, NOON), float(NOON), 0, 0
    for pause_s, events in pattern:
        now_s += pause_s
        if meter.hold(now_s) is None:
            wait_s = meter.delivered(events, events * 10, now_s)
            through, last = through + events, events
            assert through - last <= 10 * (now_s - NOON) + 20 + 1e-3
            assert (wait_s > 0) == (meter.hold(now_s) is not None)


def test_a_clock_that_goes_back_takes_no_credit():
    bucket = Bucket(10, 10, NOON)
    bucket.spend(10, NOON)
    assert bucket.wait_s(5, NOON - 3_600) == pytest.approx(0.5)
    assert bucket.take(5, NOON - 3_600 + 0.5)


def test_a_days_quota_is_over_at_midnight_and_begins_again():
    meter = Meter("app", "own", Plan(queries_per_day=2), NOON)
    assert [meter.query(NOON) for _ in range(2)] == [None, None]
    hold = meter.query(NOON + 60)
    assert (hold.limit, hold.wait_s, hold.for_today) == ("queries_per_day", DAY_S / 2 - 60, True)
    assert meter.query(NOON + DAY_S // 2) is None
    assert meter.used("queries") == 1


def test_what_other_processes_recorded_counts_and_what_cannot_be_recorded_is_kept():
    meter = Meter("app", "own", Plan(messages_per_day=100), NOON)
    assert meter.delivered(60, 6_000, NOON) == 0
    assert {day: counts.messages for day, counts in meter.begin_recording(0.0).items()} == {meter.day: 60}
    assert meter.used("messages") == 60
    meter.delivered(10, 1_000, NOON)
    meter.not_recorded()
    assert {day: counts.bytes for day, counts in meter.begin_recording(0.0).items()} == {meter.day: 7_000}
    meter.recorded(meter.day, Counts(messages=95))
    assert meter.used("messages") == 95
    assert meter.delivered(5, 500, NOON) == DAY_S / 2
    assert meter.room(NOON).limit == "messages_per_day"


def test_the_use_of_yesterday_is_recorded_under_yesterday():
    meter = Meter("app", "own", Plan(), NOON)
    meter.delivered(1, 10, NOON)
    meter.delivered(2, 20, NOON + DAY_S)
    assert {day: counts.messages for day, counts in meter.begin_recording(0.0).items()} == {20_000: 1, 20_001: 2}
    meter.recorded(20_000, Counts(messages=99))  # read just before midnight: no news of today
    assert meter.used("messages") == 2


def test_a_change_of_plan_and_back_pays_no_debt():
    slow, fast = Plan(messages_per_s=1, burst_s=1), Plan(messages_per_s=100)
    meter = Meter("app", "slow", slow, NOON)
    assert meter.delivered(51, 0, NOON) == 50
    meter.change("fast", fast, NOON)
    assert meter.hold(NOON).wait_s == pytest.approx(0.5)  # the debt of 50, at the new rate
    meter.change("slow", slow, NOON)
    assert meter.hold(NOON).wait_s == pytest.approx(50)


def test_the_fields_of_a_reply_say_what_is_left_and_when_it_is_whole_again():
    meter = Meter("app", "own", Plan(queries_per_s=2, queries_per_day=100, bytes_per_s=1_000, burst_s=5), NOON)
    for _ in range(4):
        assert meter.query(NOON) is None
    fields = limit_fields(meter.standing(NOON))
    assert fields["RateLimit-Policy"] == (
        '"bytes_per_s";q=5000;qu="content-bytes";w=5, "queries_per_s";q=10;w=5, "queries_per_day";q=100;w=86400'
    )
    assert fields["RateLimit"] == (
        '"bytes_per_s";r=5000;t=0, "queries_per_s";r=6;t=2, "queries_per_day";r=96;t=43200'
    )
    for _ in range(6):
        assert meter.query(NOON) is None
    refused = QuotaExceeded(meter.query(NOON), meter.plan_name)
    assert (refused.status, refused.retry_after_s) == (429, 0.5)
    assert '"queries_per_s";r=0;t=1' in limit_fields(meter.standing(NOON), refused)["RateLimit"]
    assert limit_fields(Meter("app", "unlimited", Plan(), NOON).standing(NOON)) == {}


def test_settings_add_plans_and_refuse_names_that_are_none():
    settings = PlanSettings(own={"mine": Plan(messages_per_s=7), "gold": Plan()}, application="mine")
    assert settings.plans["mine"].messages_per_s == 7
    assert settings.plans["gold"] == Plan()
    assert settings.plans["bronze"] == BUILT_IN["bronze"]
    with pytest.raises(ValidationError, match="'platinum', which is not one of bronze"):
        PlanSettings(default="platinum")


def test_a_process_has_its_share_of_rates_and_connections_and_gets_back_what_others_leave():
    plan = Plan(messages_per_s=100, queries_per_s=2, connections=5, burst_s=2)
    meter = Meter("app", "own", plan, 0.0)
    assert {one.limit: one.remaining for one in meter.standing(0.0)} == {"messages_per_s": 200, "queries_per_s": 4}
    meter.share(others_active=3, connections_elsewhere=4, now_s=0.0)
    standing = {one.limit: (one.quota, one.remaining) for one in meter.standing(0.0)}
    assert standing == {"messages_per_s": (200, 50), "queries_per_s": (4, 1)}, (
        "quota of the plan, rest of this process"
    )
    meter.count_delivery(150, 0, 0.0)
    assert meter.hold(0.0).wait_s == 100 / 25  # a debt is paid off at the share's rate
    assert meter.open_connection(0.0) is None and meter.room(0.0).limit == "connections"
    meter.share(others_active=0, connections_elsewhere=0, now_s=0.0)
    assert meter.hold(0.0).wait_s == 1.0 and meter.room(10.0) is None
    meter.share(others_active=9, connections_elsewhere=0, now_s=100.0)
    assert [meter.query(100.0), meter.query(100.0).limit] == [None, "queries_per_s"], "one at least can be taken"
    meter.change("bigger", Plan(messages_per_s=1_000, burst_s=1), 200.0)
    assert [one.remaining for one in meter.standing(200.0)] == [20], "what was saved goes along"
    assert [one.remaining for one in meter.standing(201.0)] == [100]


def test_an_application_is_active_while_something_is_counted_or_paid_off():
    meter = Meter("app", "own", Plan(messages_per_s=10, burst_s=1), 0.0)
    meter.begin_recording(0.0)
    assert not meter.is_active(0.0)
    meter.count_delivery(1, 1, 1.0)
    meter.begin_recording(1.0)
    assert [meter.is_active(at_s) for at_s in (1.0, 5.9, 6.1)] == [True, True, False]
    meter.count_delivery(210, 1, 10.0)
    meter.begin_recording(10.0)
    assert [meter.is_active(at_s) for at_s in (20.0, 29.0, 31.0)] == [True, True, False]
