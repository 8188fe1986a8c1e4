"""Producers: mixed batches over kept connections; whatever was not acknowledged is sent again with the same ids."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.calls import TROUBLE, Tokens, Wire
from ledger.events import START_MS, Event, Source
from ledger.records import FAIL, INFO, OK, Outcome, Recorder

__all__ = ["Load", "LoadPlan"]

#: Pause before each single event that goes beyond what is released: the processes that start need the machine.
_TRICKLE_S = 0.03
_JSON = {"Content-Type": "application/x-ndjson"}


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How much is sent and in what mixture; shares are of requests."""

    events: int
    producers: int = 6
    accounts: int = 4  # of each producer
    sizes: tuple[int, ...] = (1, 10, 1000)
    weights: tuple[int, ...] = (50, 40, 10)
    again: float = 0.04  # acknowledged requests that are sent once more all the same
    refused: float = 0.02  # requests without a token, never sent again: their events must never be seen
    timeout_s: float = 3.0
    retry_s: float = 0.1
    give_up_s: float = 120.0
    step_ms: int = 1000  # event time between two events
    skew_events: int = 5400  # how far one producer may run ahead of another's unanswered events: 1.5 h


class Load:
    """Threads that produce, held back by `release` so that the load lasts as long as the faults do."""

    def __init__(self, plan: LoadPlan, *, seed: int, urls: Sequence[str], tokens: Tokens, recorder: Recorder) -> None:
        self.plan, self.recorder = plan, recorder
        self._tokens = tokens
        self._frontier = _Frontier(plan)
        self._released = 0
        self.failure: str | None = None
        self.abandoned = False
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run, args=(seed, number, list(urls)), daemon=True, name=f"producer-{number}"
            )
            for number in range(plan.producers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def release(self, events: int) -> None:
        """Up to `events` may go in batches of every size; beyond them only a trickle of single ones."""
        self._released = events

    def finish(self) -> None:
        """Send nothing new; returns when everything sent has been answered or given up."""
        self._stop.set()
        for thread in self._threads:
            thread.join(self.plan.give_up_s + 30)
        assert not any(thread.is_alive() for thread in self._threads), "a producer hangs"
        assert self.failure is None, self.failure

    def abandon(self) -> None:
        """The run has failed: what is unanswered stays so."""
        self._stop.set()
        self.abandoned = True

    def last_ms(self) -> int:
        """The greatest event time given out so far."""
        return self._frontier.next_ms

    def _run(self, seed: int, number: int, urls: list[str]) -> None:
        try:
            _Producer(self, seed, number, urls).run()
        except Exception as error:  # the thread's outermost frame: the run fails with it
            self.failure = f"producer {number}: {error!r}"


class _Producer:
    """One thread: one request at a time, so that the order of each account is the order of sending."""

    def __init__(self, load: Load, seed: int, number: int, urls: list[str]) -> None:
        self._load, self._plan, self._number = load, load.plan, number
        self._source = Source(seed, number, load.plan.accounts)
        self._chance = random.Random(f"{seed}.load.{number}")
        self._wires = [Wire(url, load.plan.timeout_s) for url in urls]
        self._turn = number

    def run(self) -> None:
        load, plan, chance = self._load, self._plan, self._chance
        while not load._stop.is_set():
            size = chance.choices(plan.sizes, plan.weights)[0]
            if self._load._frontier.given + size > load._released:
                size = 1
                time.sleep(_TRICKLE_S)
            times_ms = load._frontier.take(self._number, size, load._stop)
            if chance.random() < plan.refused:
                self._send(self._source.draw(times_ms[:1], never=True), None, token=False)
            events = self._source.draw(times_ms)
            self._until_acknowledged(events)
            load._frontier.settle(self._number)
        for wire in self._wires:
            wire.close()

    def _until_acknowledged(self, events: Sequence[Event]) -> None:
        deadline_s = time.monotonic() + self._plan.give_up_s
        first, outcome = self._send(events, None)
        while outcome != OK and not self._load.abandoned:
            assert time.monotonic() < deadline_s, f"request {first} was not acknowledged in {self._plan.give_up_s} s"
            time.sleep(self._plan.retry_s)
            self._turn += 1
            _, outcome = self._send(events, first)
        if self._chance.random() < self._plan.again:
            self._send(events, first, count=0)

    def _send(
        self, events: Sequence[Event], first: int | None, *, token: bool = True, count: int | None = None
    ) -> tuple[int, str]:
        """One attempt: number of the first request with these events, and the outcome."""
        wire = self._wires[self._turn % len(self._wires)]
        body = b"\n".join(json.dumps(event.body(), separators=(",", ":")).encode() for event in events)
        headers = _JSON | (self._load._tokens.header() if token else {})
        recorder = self._load.recorder
        number = recorder.attempt(wire.url, events, first)
        try:
            status, reply = wire.call("POST", "/v1/streams/entries/events", body, headers)
        except TROUBLE as error:
            # Nobody listened: nothing was sent. Anything else may have arrived.
            word = FAIL if isinstance(error, ConnectionRefusedError) else INFO
            outcome = Outcome(number, time.monotonic(), word, detail=repr(error))
        else:
            outcome = outcome_of(number, status, reply)
        recorder.outcome(outcome, len(events) if count is None and token else 0)
        return first or number, outcome.outcome


def outcome_of(number: int, status: int, reply: bytes) -> Outcome:
    """200 and 207 are answers, 422 too (all of it rejected); other 4xx refuse; 408 and 5xx leave it open."""
    if status in (200, 207, 422):
        told = json.loads(reply)
        return Outcome(number, time.monotonic(), OK, status, told["accepted"], told["duplicate"], told["rejected"])
    word = FAIL if 400 <= status < 500 and status != 408 else INFO
    return Outcome(number, time.monotonic(), word, status, detail=reply[:200].decode(errors="replace"))


class _Frontier:
    """Event time: each event a step after the last one given out; nobody runs far ahead of an unanswered request.

    So event time is out of order across producers as it is in life, and still no event is late.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._unanswered: dict[int, int] = {}  # producer -> number of its first unanswered event
        self._moved = threading.Condition()
        self.given = 0

    @property
    def next_ms(self) -> int:
        return START_MS + self.given * self._plan.step_ms

    def take(self, producer: int, count: int, stop: threading.Event) -> range:
        """Times of the next `count` events."""
        with self._moved:
            while self.given - min(self._unanswered.values(), default=self.given) > self._plan.skew_events:
                self._moved.wait(0.2)
                if stop.is_set():
                    break
            self._unanswered[producer] = self.given
            first_ms = self.next_ms
            self.given += count
            return range(first_ms, first_ms + count * self._plan.step_ms, self._plan.step_ms)

    def settle(self, producer: int) -> None:
        """The producer's request was answered."""
        with self._moved:
            del self._unanswered[producer]
            self._moved.notify_all()
