"""The nemesis: a plan of faults drawn from a seed (pure), and its execution against real processes.

Each fault waits for progress, as Kafka's own transaction test does, and for a request to be open.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ledger.records import Fault, Recorder

__all__ = ["LEASE_S", "Arrangement", "Mixture", "Nemesis", "Step", "plan"]

#: How long a member of a group counts as alive after its last sign.
LEASE_S = 2.0
_STALL_S = 90.0
#: Whoever wakes up after its lease and still writes does most harm in this order.
_PAUSED_FIRST = ("up", "processor", "ingest", "data", "publish")


class Arrangement(Protocol):
    """Processes of the system under test, by name, and the servers that they need."""

    name: str
    targets: Sequence[str]  # processes of Penstock
    servers: Sequence[str]  # a broker, a database

    @property
    def door(self) -> str: ...

    @property
    def ingest_urls(self) -> Sequence[str]: ...

    @property
    def follow_urls(self) -> Sequence[str]: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def client(self) -> dict[str, str]: ...

    def pid(self, target: str) -> int: ...

    def kill(self, target: str) -> None: ...

    def launch(self, target: str) -> None: ...

    def wait_ready(self, target: str) -> None: ...

    def pause(self, target: str) -> None: ...

    def resume(self, target: str) -> None: ...

    def crash(self, server: str) -> None: ...

    def revive(self, server: str) -> None: ...

    def report(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Mixture:
    """How many faults of each kind."""

    kills: int
    pauses: int = 0
    crashes: int = 0  # of each server


@dataclass(frozen=True, slots=True)
class Step:
    """One fault. `down_s`: how long a killed process stays away, or a paused one stands still. `again_after_s`: a
    second kill so long after the start of the new process, so that it dies while it recovers.
    """

    kind: str
    target: str
    down_s: float
    again_after_s: float | None = None


def plan(seed: int, targets: Sequence[str], servers: Sequence[str], mixture: Mixture) -> list[Step]:
    """The same seed draws the same plan. Kills go round all targets; a quarter of the processes stays away a while.

    A second kill during recovery counts as one of the kills.
    """
    chance = random.Random(seed)
    steps: list[Step] = []
    kills, rounds = 0, 0
    while kills < mixture.kills:
        target = targets[rounds % len(targets)]
        rounds += 1
        twice = chance.random() < 0.15 and kills + 2 <= mixture.kills
        down_s = round(chance.uniform(0.3, 1.5), 2) if chance.random() < 0.25 else 0.0
        steps.append(Step("kill", target, down_s, round(chance.uniform(0, 1.0), 2) if twice else None))
        kills += 1 + twice
    risky = sorted(targets, key=lambda target: _PAUSED_FIRST.index(target.partition(".")[0]))
    for number in range(mixture.pauses):
        target = risky[number % len(risky)]
        steps.append(Step("pause", target, round(LEASE_S + chance.uniform(0.5, 1.5), 2)))
    steps += [
        Step("crash", server, round(chance.uniform(0, 1), 2)) for server in servers for _ in range(mixture.crashes)
    ]
    chance.shuffle(steps)
    return steps


class Nemesis:
    """Carries out a plan; `release(n)` lets the load go on to the n-th event."""

    def __init__(
        self,
        arrangement: Arrangement,
        steps: Sequence[Step],
        *,
        seed: int,
        recorder: Recorder,
        events: int,
        release: Callable[[int], None],
    ) -> None:
        self._arrangement, self._steps, self._recorder = arrangement, steps, recorder
        self._events, self._release = events, release
        self._chance = random.Random(f"{seed}.moments")

    def run(self) -> None:
        """Every step in turn, spread evenly over the load."""
        for number, step in enumerate(self._steps, start=1):
            share = self._events * number // (len(self._steps) + 1)
            self._release(share)
            self._wait_for_progress(share)
            time.sleep(self._chance.random() * 0.2)
            assert self._recorder.opened.wait(_STALL_S), "no request was open"
            {"kill": self._kill, "pause": self._pause, "crash": self._crash}[step.kind](step)
        self._release(self._events)
        self._wait_for_progress(self._events)

    def _wait_for_progress(self, events: int) -> None:
        """Until so many events are acknowledged. The load must always come on again: liveness."""
        last, since_s = -1, time.monotonic()
        while (now := self._recorder.acknowledged) < events:
            if now != last:
                last, since_s = now, time.monotonic()
            assert time.monotonic() - since_s < _STALL_S, f"no event acknowledged for {_STALL_S} s, {now} so far"
            time.sleep(0.005)

    def _kill(self, step: Step) -> None:
        arrangement, target = self._arrangement, step.target
        begin_s, before = time.monotonic(), arrangement.pid(target)
        arrangement.kill(target)
        time.sleep(step.down_s)
        arrangement.launch(target)
        if step.again_after_s is not None:
            self._recorder.fault(
                Fault("kill", target, begin_s, time.monotonic(), before, arrangement.pid(target), "then again")
            )
            time.sleep(step.again_after_s)
            self._recorder.opened.wait(2.0)
            begin_s, before = time.monotonic(), arrangement.pid(target)
            arrangement.kill(target)
            arrangement.launch(target)
        arrangement.wait_ready(target)
        self._recorder.fault(Fault("kill", target, begin_s, time.monotonic(), before, arrangement.pid(target)))

    def _pause(self, step: Step) -> None:
        begin_s, before = time.monotonic(), self._arrangement.pid(step.target)
        self._arrangement.pause(step.target)
        time.sleep(step.down_s)
        self._arrangement.resume(step.target)
        after = self._arrangement.pid(step.target)
        self._recorder.fault(Fault("pause", step.target, begin_s, time.monotonic(), before, after))

    def _crash(self, step: Step) -> None:
        begin_s, before = time.monotonic(), self._arrangement.pid(step.target)
        self._arrangement.crash(step.target)
        time.sleep(step.down_s)
        self._arrangement.revive(step.target)
        after = self._arrangement.pid(step.target)
        self._recorder.fault(Fault("crash", step.target, begin_s, time.monotonic(), before, after))
