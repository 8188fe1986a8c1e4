"""Lookup joins in a run over files: the places are asked as in a deployed app, with its caches and retries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from penstock.ports.clock import SystemClock
from penstock_processor.logical.plan import AppPlan
from penstock_processor.operators.interface import Engine, Found, LooksUp, SourceBlock
from penstock_processor.runtime.lookups import Lookups
from penstock_processor.settings import LookupSettings

__all__ = ["LookingUp"]


class LookingUp:
    """Gives an engine what its lookup joins need, before each step; nothing for an app without any.

    For a thread without an event loop: it runs one of its own. `secrets`: the folder of `${NAME}` in options.
    """

    def __init__(self, plan: AppPlan, engine: Engine, *, now_ms: int, secrets: Path | None) -> None:
        self._engine = engine if isinstance(engine, LooksUp) and engine.lookup_depth else None
        self._now_ms = now_ms
        self._loop = asyncio.Runner()
        self._lookups = Lookups(plan, settings=LookupSettings(), clock=SystemClock(), secrets=secrets)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._engine is not None:
            with self._loop:
                self._loop.run(self._lookups.close())

    def provide(self, blocks: Sequence[SourceBlock]) -> None:
        """Look up what a step over these blocks needs, one lookup after the other where one goes by another.

        Raises LookupFailed.
        """
        if self._engine is None:
            return
        found: dict[str, Found] = {}
        for depth in range(self._engine.lookup_depth):
            self._engine.provide(found)
            wanted = self._engine.wanted(blocks, now_ms=self._now_ms, depth=depth)
            found |= self._loop.run(self._lookups.find(wanted))
        self._engine.provide(found)
