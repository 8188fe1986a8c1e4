"""Every count of the checker is provoked once, on a small ledger that passes as it is."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ledger import expected
from ledger.checker import ALLOWED, COUNTS, check
from ledger.events import FAILING, GOOD, HOUR_MS, REFUSED, START_MS, Event, Source, is_large
from ledger.records import (
    FAIL,
    INFO,
    KINDS,
    OK,
    Attempt,
    Exit,
    Fault,
    Outcome,
    Recorder,
    Records,
    Sighting,
    load,
)
from ledger.soak import section
from ledger.verdict import Goal, judge, kills_in_flight

Rows = dict[str, list[Sighting]]


def event(number: int, *, account: str = "a", kind: str = GOOD, amount: str = "700.00") -> Event:
    seq = 0 if kind == REFUSED else number
    quota = "none" if kind == FAILING else str(number * 10)
    return Event(f"{account}-{number}", account, "north", seq, amount, 0.1, quota, START_MS + number * 1000, kind)


EVENTS = [
    event(1),
    event(2, amount="12.50"),
    event(3),
    event(4, kind=FAILING),
    event(5),
    event(6),
    event(1, account="r", kind=REFUSED),
    event(1, account="b"),
]


@dataclass
class World:
    """A ledger, and what came out; `rows` by exit."""

    records: Records
    rows: Rows

    def exits(self) -> Records:
        for name, kind in KINDS.items():
            self.records.exits[name] = Exit(name, kind, lambda name=name: self.rows[name])
        return self.records

    def drop(self, name: str, event_id: str) -> None:
        self.rows[name] = [seen for seen in self.rows[name] if seen.values.get("id") != event_id]

    def find(self, name: str, event_id: str) -> int:
        return next(n for n, seen in enumerate(self.rows[name]) if seen.values.get("id") == event_id)

    def change(self, name: str, event_id: str, **values: Any) -> None:
        at = self.find(name, event_id)
        seen = self.rows[name][at]
        self.rows[name][at] = replace(seen, values={**seen.values, **values})


@pytest.fixture
def world() -> World:
    """Two requests: the first answered, the second, of account b, unanswered, sent again, answered as duplicate."""
    first, second = EVENTS[:-1], EVENTS[-1:]
    records = Records(events={each.id: each for each in EVENTS})
    for number, origin, sent in ((1, 1, first), (2, 2, second), (3, 2, second)):
        records.attempts[number] = Attempt(number, origin, number * 10.0, "http", [each.id for each in sent])
    records.outcomes = {
        1: Outcome(1, 19.0, OK, 207, 6, 0, 1),
        2: Outcome(2, 21.0, INFO),
        3: Outcome(3, 31.0, OK, 200, 0, 1, 0),
    }
    records.faults = [Fault("kill", "ingest", 20.5, 22.0, 100, 101)]
    return World(records, rows_of(EVENTS))


def rows_of(events: list[Event]) -> Rows:
    """What a system without faults shows."""
    kept = [each for each in events if each.kind != REFUSED]
    good = [each for each in kept if each.kind == GOOD]
    raw = [{**each.body()} for each in kept]
    large = [_picked(each, "amount") for each in kept if is_large(each)]
    quotas = [_picked(each) | {"quota": int(each.quota)} for each in good]
    rejected = [
        {
            "statement": "quotas" if each.kind == FAILING else None,
            "code": "cast_failed" if each.kind == FAILING else "wrong_type",
            "raw": json.dumps(each.body()),
        }
        for each in events
        if each.kind != GOOD
    ]
    tables: Mapping[str, list[dict[str, Any]]] = {
        name: [
            dict(zip(expected.TABLE_KEYS[name], key, strict=True)) | {k: _written(v) for k, v in row.items()}
            for key, row in recompute(kept).items()
        ]
        for name, recompute in (
            ("latest", expected.latest),
            ("hourly", expected.hourly),
            ("branches", expected.branches),
        )
    }
    content = {"raw": raw, "large": large, "quotas": quotas, "rejected": rejected, **tables}
    return {
        name: [Sighting(f"c{n}", values) for n, values in enumerate(content[name.rpartition(".")[2]])]
        for name in KINDS
    }


def _picked(each: Event, *columns: str) -> dict[str, Any]:
    body = each.body()
    return {name: body[name] for name in ("id", "account", "seq", "digest", *columns)}


def _written(value: Any) -> Any:
    """A value of the reference as the system writes it."""
    if isinstance(value, expected.Fraction):
        return float(value)
    return str(value) if isinstance(value, expected.Decimal) else value


def counts(world: World) -> dict[str, int]:
    found = check(world.exits()).counts
    return {name: found[name] for name in COUNTS if found[name]}


def test_a_ledger_of_a_system_without_faults_has_no_count_but_recovered(world: World):
    assert counts(world) == {"recovered": 1}


def change_nothing_lost(world: World) -> None:
    for name in ("raw", "log.large", "log.quotas", "store.large", "store.quotas", "socket.large", "socket.quotas"):
        world.drop(name, "a-3")
    world.drop("sse.large", "a-3")


def vanish_from_the_store(world: World) -> None:
    world.drop("store.quotas", "a-3")


def lose_a_rejected_event(world: World) -> None:
    world.rows["rejected"].pop()


def invent(world: World) -> None:
    world.rows["raw"].append(Sighting("c99", {"id": "z-1", "account": "z", "seq": 1}))


def let_the_filter_pass(world: World) -> None:
    world.rows["log.large"].insert(1, Sighting("c98", _picked(EVENTS[1], "amount")))


def resurrect(world: World) -> None:
    world.records.outcomes[2] = Outcome(2, 21.0, FAIL, 401)
    world.records.outcomes[3] = Outcome(3, 31.0, FAIL, 401)


def double_in_the_store(world: World) -> None:
    world.rows["store.large"].append(world.rows["store.large"][-1])


def reject_twice(world: World) -> None:
    world.rows["rejected"] += world.rows["rejected"]


def double_at_a_socket(world: World) -> None:
    last = world.rows["socket.quotas"][-1]
    world.rows["socket.quotas"].append(replace(last, place="c97"))


def repeat_at_a_socket(world: World) -> None:
    world.rows["sse.large"].append(world.rows["sse.large"][0])


def change_an_amount(world: World) -> None:
    world.change("raw", "a-2", amount="12.51")


def swap_two(world: World) -> None:
    rows = world.rows["socket.quotas"]
    a, b = world.find("socket.quotas", "a-2"), world.find("socket.quotas", "a-3")
    rows[a], rows[b] = rows[b], rows[a]


def notice_a_gap(world: World) -> None:
    world.records.gaps.append('["socket.large",{"sys":"gap"}]')


def add_up_wrongly(world: World) -> None:
    row = world.rows["store.hourly"][0]
    world.rows["store.hourly"][0] = replace(row, values={**row.values, "events": row.values["events"] + 1})


def leave_a_window_open(world: World) -> None:
    row = world.rows["store.branches"][0]
    world.rows["store.branches"][0] = replace(row, values={**row.values, "complete": False})


def lose_a_key_of_a_table(world: World) -> None:
    world.rows["socket.latest"].pop()


def tear(world: World) -> None:
    for name in ("log.large", "store.large", "socket.large", "sse.large"):
        world.drop(name, "a-3")


def stay_away(world: World) -> None:
    world.drop("socket.quotas", "a-6")


def reject_for_another_reason(world: World) -> None:
    row = world.rows["rejected"][0]
    world.rows["rejected"].append(replace(row, values={**row.values, "code": "late"}))


@pytest.mark.parametrize(
    ("harm", "names"),
    [
        (change_nothing_lost, {"lost", "gap"}),
        (vanish_from_the_store, {"lost", "gap", "divergence"}),
        (lose_a_rejected_event, {"lost"}),
        (invent, {"phantom"}),
        (let_the_filter_pass, {"phantom"}),
        (resurrect, {"resurrected", "wrong_aggregate"}),
        (double_in_the_store, {"duplicated_sink"}),
        (reject_twice, {"duplicated_sink"}),
        (double_at_a_socket, {"duplicated_socket"}),
        (repeat_at_a_socket, {"repeated"}),
        (change_an_amount, {"corrupt"}),
        (swap_two, {"disorder", "divergence"}),
        (notice_a_gap, {"gap"}),
        (add_up_wrongly, {"wrong_aggregate"}),
        (leave_a_window_open, {"wrong_aggregate"}),
        (lose_a_key_of_a_table, {"wrong_aggregate"}),
        (tear, {"lost", "gap", "torn"}),
        (stay_away, {"not_drained", "divergence"}),
        (reject_for_another_reason, {"misrejected"}),
    ],
)
def test_harm_is_counted_under_its_name(world: World, harm: Callable[[World], None], names: set[str]):
    harm(world)
    assert counts(world).keys() - {"recovered"} == names


def test_every_count_has_a_harm_that_provokes_it(world: World):
    provoked: set[str] = set()
    parameters = test_harm_is_counted_under_its_name.pytestmark[0].args[1]  # type: ignore[attr-defined]  # pytest's
    for _, names in parameters:
        provoked |= names
    assert provoked | {"recovered"} == set(COUNTS)


def test_an_unanswered_event_that_is_in_the_raw_rows_is_recovered_and_belongs_everywhere(world: World):
    world.records.outcomes[3] = Outcome(3, 31.0, INFO)
    assert counts(world) == {"recovered": 1}
    world.drop("store.quotas", "b-1")
    assert counts(world) == {"recovered": 1, "not_drained": 1, "divergence": 1}


GOAL = Goal(events=7, kills=1, kills_in_flight=1)


def test_a_clean_ledger_passes_and_a_harmed_one_fails(world: World):
    assert judge(world.records, check(world.exits()), GOAL).word == "pass"
    notice_a_gap(world)
    verdict = judge(world.records, check(world.exits()), GOAL)
    assert (verdict.word, verdict.reasons) == ("fail", ["gap 1"])
    assert "notice" in verdict.summary()


def idle_kill(world: World) -> None:
    world.records.faults[0] = Fault("kill", "ingest", 19.5, 19.6, 100, 101)


def missed_kill(world: World) -> None:
    world.records.faults[0] = Fault("kill", "ingest", 20.5, 22.0, 100, 100)


def kill_long_after_the_load(world: World) -> None:
    world.records.faults[0] = Fault("kill", "ingest", 90.0, 91.0, 100, 101)


def cut_nothing_off(world: World) -> None:
    world.records.outcomes[2] = Outcome(2, 21.0, OK, 200, 1, 0, 0)


@pytest.mark.parametrize("emptiness", [idle_kill, missed_kill, kill_long_after_the_load, cut_nothing_off])
def test_a_run_that_could_not_have_seen_harm_is_unknown(world: World, emptiness: Callable[[World], None]):
    emptiness(world)
    verdict = judge(world.records, check(world.exits()), GOAL)
    assert verdict.word == "unknown"
    assert verdict.reasons


def test_an_exit_that_showed_nothing_makes_a_run_unknown(world: World):
    findings = check(world.exits())
    findings.seen["sse.large"] = 0
    verdict = judge(world.records, findings, GOAL)
    assert (verdict.word, verdict.reasons) == ("unknown", ["nothing seen at sse.large"])


def test_too_few_events_are_unknown(world: World):
    assert judge(world.records, check(world.exits()), replace(GOAL, events=100)).word == "unknown"


def test_a_ledger_of_nothing_is_unknown_and_never_a_pass():
    assert judge(Records(), check(Records()), Goal(0, 0, 0)).word == "unknown"


def test_a_long_run_writes_down_what_it_found_and_bounds_nothing_when_it_failed(world: World):
    moment = dt.datetime(2026, 11, 21, 10, 30, tzinfo=dt.UTC)
    verdict = judge(world.records, check(world.exits()), GOAL)
    assert "too few kills" in section(verdict, moment, "sqlite")
    verdict.figures["kills"] = 300
    passed = section(verdict, moment, "sqlite")
    assert "## 2026-11-21 10:30 UTC, sqlite: pass\n" in passed
    assert "lost 0" in passed
    assert "below 3/300 " in passed
    notice_a_gap(world)
    failed = section(judge(world.records, check(world.exits()), GOAL), moment, "sqlite")
    assert "sqlite: fail (gap 1)\n" in failed
    assert "below" not in failed


def test_a_kill_counts_as_in_flight_when_a_request_was_open_at_its_moment(world: World):
    assert kills_in_flight(world.records) == (1, 1)
    idle_kill(world)
    assert kills_in_flight(world.records) == (0, 0)


def test_only_two_counts_are_allowed():
    assert set(ALLOWED) < set(COUNTS)
    assert len(ALLOWED) == 2


def test_the_files_give_back_what_was_recorded(tmp_path: Path):
    recorder = Recorder(tmp_path)
    sent = Source(7, 0, 2).draw(range(START_MS, START_MS + 3 * HOUR_MS, HOUR_MS))
    number = recorder.attempt("http://x", sent)
    assert recorder.open_requests() == 1
    assert len(load(tmp_path).events) == 3, "an attempt is with the operating system before its request is sent"
    recorder.outcome(Outcome(number, 1.0, INFO), 3)
    again = recorder.attempt("http://y", sent, number)
    recorder.outcome(Outcome(again, 2.0, OK, 200, 0, 3, 0), 3)
    recorder.seen("raw", [("1:0", sent[0].body())])
    recorder.fault(Fault("kill", "up", 1.0, 2.0, 3, 4))
    recorder.gap("sse.large", {"sys": "gap"})
    recorder.close()
    records = load(tmp_path)
    assert [astuple(each) for each in records.events.values()] == [astuple(each) for each in sent]
    assert records.attempts[again].ids == records.attempts[number].ids == [each.id for each in sent]
    assert set(records.statuses().values()) == {OK}
    assert [seen.values["id"] for seen in records.exits["raw"].rows()] == [sent[0].id]
    assert (len(records.faults), len(records.gaps), recorder.acknowledged) == (1, 1, 3)
