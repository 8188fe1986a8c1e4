"""The checker: pure functions from the records to counts. No count but `repeated` and `recovered` may be above 0."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any

from ledger.events import FAILING, GOOD, REFUSED, Event, is_large, timestamp
from ledger.expected import TABLE_KEYS, branches, differing, hourly, latest
from ledger.records import AT_LEAST_ONCE, FAIL, INFO, OK, TABLE, Exit, Records

__all__ = ["ALLOWED", "COUNTS", "Findings", "check"]

COUNTS = (
    "lost",  # acknowledged, and neither at an exit where it belongs nor among the rejected events
    "phantom",  # at an exit, and never sent, or excluded by that exit's rule
    "resurrected",  # refused for certain every time, and seen
    "duplicated_sink",  # more than once at an exit that promises once
    "duplicated_socket",  # at a subscriber under two cursors
    "corrupt",  # a field differs from what was sent
    "disorder",  # an account's numbers do not grow
    "gap",  # a hole in an account's numbers before the last one seen, or a gap notice
    "wrong_aggregate",  # a row of a table differs from the one recomputed from the ledger
    "torn",  # some of an event's outputs are there, others are not
    "not_drained",  # acknowledged, and unseen at an exit when the time to drain was over
    "divergence",  # an account that reads differently by two doors of one stream
    "misrejected",  # a rejected event that no rule rejects, or with another reason
    "repeated",  # delivered again under the same cursor: at least once
    "recovered",  # outcome unknown or unanswered at first, and there
)
ALLOWED = ("repeated", "recovered")
#: Reasons that rules of `ledger.sql` give: (kind of event, statement) -> code.
REASONS = {(REFUSED, None): "wrong_type", (FAILING, "quotas"): "cast_failed"}
_STREAMS: dict[str, Callable[[Event], bool]] = {
    "large": lambda event: event.kind != REFUSED and is_large(event),
    "quotas": lambda event: event.kind == GOOD,
    "raw": lambda event: event.kind != REFUSED,
}


@dataclass
class Findings:
    """Counts, a few examples of each, and how much came out of each exit."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    seen: dict[str, int] = field(default_factory=dict)

    def add(self, count: str, what: Iterable[str]) -> None:
        """Count each of `what`."""
        for example in what:
            self.counts[count] += 1
            if len(self.examples[count]) < 5:
                self.examples[count].append(example)


def check(records: Records) -> Findings:
    """Every count over finished records."""
    findings = Findings()
    statuses = records.statuses()
    present = _present(records, statuses)
    reads: dict[str, _Read] = {}
    for name, door in records.exits.items():
        if door.kind in (AT_LEAST_ONCE, "once"):
            reads[name] = _check_events(records, statuses, door, present, findings)
    rejected = _check_rejected(records, statuses, findings)
    _check_tables(records, present, findings)
    _check_torn(present, reads, rejected, findings)
    _check_divergence(reads, findings)
    findings.add("gap", (f"notice {notice[:200]}" for notice in records.gaps))
    findings.add("recovered", _recovered(records, statuses, present))
    return findings


@dataclass
class _Read:
    """Ids that an exit showed, and per account its numbers in order of first sight."""

    ids: Counter[str] = field(default_factory=Counter)
    numbers: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))


def _present(records: Records, statuses: Mapping[str, str]) -> dict[str, Event]:
    """The events that must have taken effect: acknowledged ones, and unanswered ones that the raw rows hold."""
    raw = {sighting.values.get("id") for sighting in records.exits["raw"].rows()} if "raw" in records.exits else set()
    return {
        event.id: event
        for event in records.events.values()
        if event.kind != REFUSED and (statuses[event.id] == OK or (statuses[event.id] == INFO and event.id in raw))
    }


def _check_events(
    records: Records, statuses: Mapping[str, str], door: Exit, present: Mapping[str, Event], findings: Findings
) -> _Read:
    belongs = _STREAMS[door.name.rpartition(".")[2]]
    read = _Read()
    places: dict[str, str] = {}
    for sighting in door.rows():
        event = records.events.get(str(sighting.values.get("id")))
        if event is None or not belongs(event):
            findings.add("phantom", [f"{door.name}: {sighting.values}"])
            continue
        if event.id in places and door.kind == AT_LEAST_ONCE and places[event.id] == sighting.place:
            findings.add("repeated", [f"{door.name}: {event.id}"])
            continue
        read.ids[event.id] += 1
        if event.id in places:
            count = "duplicated_socket" if door.kind == AT_LEAST_ONCE else "duplicated_sink"
            findings.add(count, [f"{door.name}: {event.id} at {places[event.id]} and {sighting.place}"])
            continue
        places[event.id] = sighting.place
        if statuses[event.id] == FAIL:
            findings.add("resurrected", [f"{door.name}: {event.id}"])
        if not _intact(event, sighting.values):
            findings.add("corrupt", [f"{door.name}: {event.id} {sighting.values}"])
        read.numbers[event.account].append(event.seq)
    findings.seen[door.name] = len(places)
    _check_order(door, read, present, belongs, findings)
    return read


def _intact(event: Event, values: Mapping[str, Any]) -> bool:
    """Every field that the exit shows is as it was sent."""
    sent = {
        "account": event.account,
        "branch": event.branch,
        "seq": event.seq,
        "weight": event.weight,
        "ts": timestamp(event.ts_ms),
        "digest": event.digest,
    }
    if any(values[name] != value for name, value in sent.items() if name in values):
        return False
    if "quota" in values and str(values["quota"]) != event.quota:
        return False
    return "amount" not in values or Decimal(values["amount"]) == Decimal(event.amount)


def _check_order(
    door: Exit,
    read: _Read,
    present: Mapping[str, Event],
    belongs: Callable[[Event], bool],
    findings: Findings,
) -> None:
    """Order and completeness, account by account. What is missing before something seen can come no more: lost.

    What is missing at the end of an account was perhaps only late, where the exit follows the log: not drained.
    """
    for account, numbers in read.numbers.items():
        findings.add("disorder", (f"{door.name}: {account} {a} then {b}" for a, b in pairwise(numbers) if b <= a))
    last = {account: max(numbers) for account, numbers in read.numbers.items()}
    for event in present.values():
        if event.id in read.ids or not belongs(event):
            continue
        what = [f"{door.name}: {event.id}, number {event.seq} of {event.account}"]
        in_hole = event.seq < last.get(event.account, 0)
        if in_hole:
            findings.add("gap", what)
        findings.add("lost" if in_hole or door.name == "raw" else "not_drained", what)


def _check_rejected(records: Records, statuses: Mapping[str, str], findings: Findings) -> set[str]:
    """Each rejected event has its reason; by a statement once, by admission at most once an attempt."""
    tries: Counter[str] = Counter()
    for attempt in records.attempts.values():
        tries.update(attempt.ids)
    seen: Counter[tuple[str, str | None]] = Counter()
    for sighting in records.exits["rejected"].rows() if "rejected" in records.exits else ():
        try:
            event = records.events.get(json.loads(sighting.values["raw"])["id"])
        except (ValueError, KeyError, TypeError):
            event = None
        if event is None:
            findings.add("phantom", [f"rejected: {sighting.values}"])
            continue
        statement = sighting.values["statement"]
        if REASONS.get((event.kind, statement)) != sighting.values["code"]:
            findings.add("misrejected", [f"{event.id} ({event.kind}): {statement} {sighting.values['code']}"])
            continue
        seen[event.id, statement] += 1
        limit = tries[event.id] if statement is None else 1
        if seen[event.id, statement] > limit:
            findings.add("duplicated_sink", [f"rejected: {event.id} by {statement}"])
        if statuses[event.id] == FAIL:
            findings.add("resurrected", [f"rejected: {event.id}"])
    findings.seen["rejected"] = len(seen)
    for event in records.events.values():
        statement = None if event.kind == REFUSED else "quotas"
        if event.kind != GOOD and statuses[event.id] == OK and (event.id, statement) not in seen:
            findings.add("lost", [f"rejected: {event.id} ({event.kind})"])
    return {event_id for event_id, _ in seen}


def _check_tables(records: Records, present: Mapping[str, Event], findings: Findings) -> None:
    """Tables by every door against the ones recomputed from the ledger."""
    wanted = {"latest": latest, "hourly": hourly, "branches": branches}
    expected = {name: recompute(present.values()) for name, recompute in wanted.items()}
    for door in records.exits.values():
        if door.kind != TABLE:
            continue
        name = door.name.rpartition(".")[2]
        rows: dict[tuple[Any, ...], Mapping[str, Any]] = {}
        numbers: dict[str, int] = {}
        for sighting in door.rows():
            key = tuple(sighting.values[column] for column in TABLE_KEYS[name])
            if key in rows and door.name.startswith("store."):
                findings.add("duplicated_sink", [f"{door.name}: {key}"])
            rows[key] = sighting.values
            if name == "latest":
                number = sighting.values["seq"]
                if number < numbers.get(key[0], 0):
                    findings.add("disorder", [f"{door.name}: {key[0]} {numbers[key[0]]} then {number}"])
                numbers[key[0]] = number
        findings.seen[door.name] = len(rows)
        wrong = differing(expected[name], rows)
        findings.add("wrong_aggregate", (f"{door.name}: {k}: {expected[name].get(k)} {rows.get(k)}" for k in wrong))


def _check_torn(
    present: Mapping[str, Event], reads: Mapping[str, _Read], rejected: set[str], findings: Findings
) -> None:
    """An event's outputs are one transaction: all of them are in the log or none."""
    if not {"log.large", "log.quotas"} <= reads.keys():
        return
    large, quotas = reads["log.large"].ids, reads["log.quotas"].ids
    for event in present.values():
        outputs = [event.id in (rejected if event.kind == FAILING else quotas)]
        if is_large(event):
            outputs.append(event.id in large)
        if any(outputs) and not all(outputs):
            findings.add("torn", [f"{event.id} ({event.kind}): {outputs}"])


def _check_divergence(reads: Mapping[str, _Read], findings: Findings) -> None:
    """Whoever read during the faults has read what a reader finds afterwards."""
    for name, read in reads.items():
        door, _, stream = name.rpartition(".")
        final = reads.get(f"log.{stream}")
        if door in ("", "log") or final is None:
            continue
        accounts = read.numbers.keys() | final.numbers.keys()
        differing_accounts = (a for a in accounts if read.numbers.get(a) != final.numbers.get(a))
        findings.add("divergence", (f"{name}: {account} differs from log.{stream}" for account in differing_accounts))


def _recovered(records: Records, statuses: Mapping[str, str], present: Mapping[str, Event]) -> list[str]:
    """Requests without an answer whose events were there all the same, as a later answer or the raw rows say."""
    recovered = [event_id for event_id in present if statuses[event_id] == INFO]
    unanswered = {
        attempt.first
        for attempt in records.attempts.values()
        if attempt.request not in records.outcomes or records.outcomes[attempt.request].outcome == INFO
    }
    settled: set[int] = set()
    for attempt in records.attempts.values():
        outcome = records.outcomes.get(attempt.request)
        if outcome is None or outcome.outcome != OK or attempt.first in settled:
            continue
        settled.add(attempt.first)
        if attempt.first in unanswered and outcome.duplicate > 0:
            recovered += attempt.ids
    return recovered
