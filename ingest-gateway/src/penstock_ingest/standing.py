"""Which of several gateways admits: decided from who is alive, held by the log's fencing.

The oldest gateway alive is the admitter. One that was fenced or has been silent for too long joins again as the
youngest, so that the office does not go to and fro. A gateway that joins waits until a crashed predecessor would have
been missed, and until the others have seen it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock.ports.inlet import Inlet
from penstock.ports.log import Log
from penstock.role import LogPorts
from penstock_ingest import metrics
from penstock_ingest.settings import InletSettings

__all__ = ["Decision", "Standing", "decide"]

_GROUP = "ingest"
_logger = structlog.get_logger("penstock.ingest")


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether this gateway should admit, whether it is the only one, and whether it may act on that yet."""

    admits: bool = False
    is_alone: bool = False
    is_settled: bool = False


def decide(members: Sequence[str], member: str, *, joined_s: float, settings: InletSettings) -> Decision:
    """What `member` is among those alive (sorted, oldest first), `joined_s` after it was first among them."""
    is_alone = list(members) == [member]
    waited = joined_s >= settings.ttl_s + settings.beat_s
    return Decision(members[:1] == [member], is_alone, is_alone or waited)


class Standing:
    """Says that this gateway is alive, and makes it the admitter or lets it cease. `run` once."""

    def __init__(self, settings: InletSettings, *, log: Log, inlet: Inlet, clock: Clock) -> None:
        self.settings, self.inlet = settings, inlet
        self.decision = Decision()
        self.term = 0  # grows whenever this gateway becomes the only one, or the admitter
        self._log, self._clock = log, clock
        self._member = ""
        self._joined_s = self._beat_s = 0.0
        self._held_office = False
        self._news = asyncio.Event()
        self._known = asyncio.Event()
        self._trouble = ""

    @classmethod
    def among(cls, settings: InletSettings, ports: LogPorts) -> Standing | None:
        """For a log that has an inlet; other logs let every gateway append."""
        return None if ports.inlet is None else cls(settings, log=ports.log, inlet=ports.inlet, clock=ports.clock)

    @property
    def is_known(self) -> bool:
        """Whether it has been decided who admits."""
        return self._known.is_set()

    @property
    def is_sole(self) -> bool:
        """Whether this gateway admits and no other is alive: then requests need no detour."""
        return self.decision.is_alone and self.inlet.is_admitter

    async def known(self) -> None:
        """Wait until it has been decided who admits; `not_ready` if that takes too long."""
        if self._known.is_set():
            return
        try:
            async with asyncio.timeout(self.settings.decide_max_s):
                await self._known.wait()
        except TimeoutError:
            raise PenstockError(
                "not_ready", self._trouble or "this gateway does not know yet who admits events", retry_after_s=1.0
            ) from None

    async def run(self) -> None:
        """Until cancelled; then another may take over at once."""
        beats = asyncio.create_task(self._beats(), name="ingest beats")
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                await self._act()
        finally:
            beats.cancel()
            await asyncio.gather(beats, return_exceptions=True)
            await self._leave()

    async def _beats(self) -> None:
        while True:
            now_s = self._clock.monotonic_s()
            try:
                if not self._member or now_s - self._beat_s > self.settings.ttl_s or self._was_fenced():
                    await self._join(now_s)
                members = await self._log.beat(_GROUP, self._member, self.settings.ttl_s)
            except PenstockError as error:
                self._trouble = error.detail
            else:
                self._beat_s, self._trouble = now_s, ""
                self.decision = decide(members, self._member, joined_s=now_s - self._joined_s, settings=self.settings)
                self._news.set()
            await self._clock.sleep(self.settings.beat_s)

    def _was_fenced(self) -> bool:
        return self._held_office and not self.inlet.is_admitter

    async def _join(self, now_s: float) -> None:
        """Under a new name, younger than all others; the old one leaves."""
        old = self._member
        self._member = f"{self._clock.now_ms():014d}-{secrets.token_hex(4)}"
        self._joined_s, self._held_office = now_s, False
        if old:
            await self._log.beat(_GROUP, old, 0)

    async def _act(self) -> None:
        decision = self.decision
        try:
            if decision.admits and decision.is_settled and not self.inlet.is_admitter and not self._was_fenced():
                await self.inlet.take_over()
                self.term += 1
                self._held_office = True
                _logger.info("this gateway admits events", alone=decision.is_alone)
            elif not decision.admits and self.inlet.is_admitter:
                self._held_office = False
                await self.inlet.cease()
                _logger.info("another gateway admits events")
        except PenstockError as error:
            self._trouble = error.detail
            return
        if not decision.is_alone:
            self.term += 1
        metrics.IS_ADMITTER.set(self.inlet.is_admitter)
        if decision.is_settled and (self.inlet.is_admitter or not decision.admits):
            self._known.set()

    async def _leave(self) -> None:
        try:
            await self.inlet.cease()
            if self._member:
                await self._log.beat(_GROUP, self._member, 0)
        except PenstockError as error:
            _logger.info("left without a word", detail=error.detail)
