"""Pass, fail or unknown: counts decide, and guards say whether the run could have seen anything at all. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ledger.checker import ALLOWED, COUNTS, Findings
from ledger.records import INFO, OK, Fault, Records

__all__ = ["Goal", "Verdict", "judge", "kills_in_flight"]

#: Traffic flowed when an answer came within this time before a fault.
_FLOW_S = 5.0


@dataclass(frozen=True, slots=True)
class Goal:
    """What a run must have been through to mean anything."""

    events: int
    kills: int
    kills_in_flight: int
    pauses: int = 0
    crashes: int = 0


@dataclass
class Verdict:
    """`word`: pass, fail or unknown. `reasons`: the counts above 0, or the guards that do not hold."""

    word: str
    reasons: list[str]
    findings: Findings
    figures: dict[str, object] = field(default_factory=dict)

    def summary(self) -> str:
        """For people: verdict, figures, every count, examples."""
        counts = "  ".join(f"{name} {self.findings.counts[name]}" for name in COUNTS)
        lines = [
            f"ledger: {self.word}" + (f" ({'; '.join(self.reasons)})" if self.reasons else ""),
            "  " + ", ".join(f"{name} {value}" for name, value in self.figures.items()),
            f"  {counts}",
            "  seen: " + ", ".join(f"{name} {number}" for name, number in self.findings.seen.items()),
        ]
        for name, examples in self.findings.examples.items():
            if name not in ALLOWED:
                lines += [f"  {name}: {example[:300]}" for example in examples]
        return "\n".join(lines)


def judge(records: Records, findings: Findings, goal: Goal) -> Verdict:
    """A count above 0 fails; a guard that does not hold makes what would pass unknown."""
    bad = [f"{name} {findings.counts[name]}" for name in COUNTS if name not in ALLOWED and findings.counts[name]]
    doubts = _doubts(records, findings, goal)
    word = "fail" if bad else "unknown" if doubts else "pass"
    return Verdict(word, bad or doubts, findings, _figures(records))


def kills_in_flight(records: Records) -> tuple[int, int]:
    """Kills during which a request was open; and how many of those cut one off, so that nobody answered it."""
    open_at = cut_at = 0
    for fault in _landed(records.faults, "kill"):
        met = _open_at(records, fault.begin_s)
        open_at += bool(met)
        cut_at += INFO in met
    return open_at, cut_at


def _open_at(records: Records, at_s: float) -> list[str]:
    """How the requests ended that were open at a moment."""
    met = []
    for attempt in records.attempts.values():
        outcome = records.outcomes.get(attempt.request)
        if attempt.at_s <= at_s and (outcome is None or outcome.at_s >= at_s):
            met.append(outcome.outcome if outcome else INFO)
    return met


def _landed(faults: Sequence[Fault], kind: str) -> list[Fault]:
    """Faults that hit: a killed process has another pid afterwards, a paused one the same."""
    return [
        fault
        for fault in faults
        if fault.kind == kind and fault.pid_before > 0 and (kind == "pause") == (fault.pid_after == fault.pid_before)
    ]


def _doubts(records: Records, findings: Findings, goal: Goal) -> list[str]:
    statuses = Counter(records.statuses().values())
    doubts = [f"nothing seen at {name}" for name, number in findings.seen.items() if number == 0]
    if not findings.seen:
        doubts.append("no exit was read")
    if statuses[OK] < goal.events:
        doubts.append(f"{statuses[OK]} events acknowledged of {goal.events}")
    for kind, wanted in (("kill", goal.kills), ("pause", goal.pauses), ("crash", goal.crashes)):
        landed = _in_traffic(records, _landed(records.faults, kind))
        if landed < wanted:
            doubts.append(f"{landed} of {wanted} {kind}s landed while traffic flowed")
    in_flight, _ = kills_in_flight(records)
    if in_flight < goal.kills_in_flight:
        doubts.append(f"{in_flight} kills with a request in flight, {goal.kills_in_flight} wanted")
    if goal.kills and not any(outcome.outcome == INFO for outcome in records.outcomes.values()):
        doubts.append("no request was cut off: the kills hit idle time")
    return doubts


def _in_traffic(records: Records, faults: Sequence[Fault]) -> int:
    """Faults that began within `_FLOW_S` after an answer, or while a request was open (a kill during recovery)."""
    answers = sorted(outcome.at_s for outcome in records.outcomes.values() if outcome.outcome == OK)
    return sum(
        bisect_right(answers, fault.begin_s) > bisect_left(answers, fault.begin_s - _FLOW_S)
        or bool(_open_at(records, fault.begin_s))
        for fault in faults
    )


def _figures(records: Records) -> dict[str, object]:
    outcomes = Counter(outcome.outcome for outcome in records.outcomes.values())
    statuses = Counter(records.statuses().values())
    kills = Counter(fault.target for fault in _landed(records.faults, "kill"))
    open_at, cut_at = kills_in_flight(records)
    others = Counter(f"{fault.kind} {fault.target}" for fault in records.faults if fault.kind != "kill")
    return {
        "events": len(records.events),
        "acknowledged": statuses[OK],
        "requests": len(records.attempts),
        "answered": outcomes[OK],
        "refused": outcomes["fail"],
        "unknown": outcomes[INFO],
        "kills": sum(kills.values()),
        "of": dict(kills),
        "in flight": open_at,
        "cut off": cut_at,
        "others": dict(others),
    }
