"""UNION ALL: the rows of all inputs; the least of their watermarks."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock_processor.operators.changes import with_change
from penstock_processor.operators.step import Flow, Operator, Step
from penstock_processor.operators.watermarks import least

__all__ = ["UnionOperator"]


class UnionOperator:
    """Inputs have equal columns, in order. `updating`: rows of some can be taken back."""

    def __init__(self, sources: Sequence[Operator], *, updating: bool = False) -> None:
        self._sources = tuple(sources)
        self._updating = updating

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flows = [source.run(step) for source in self._sources]
        frames = [flow.frame for flow in flows if flow.frame is not None and flow.frame.height]
        if self._updating:
            frames = [with_change(frame) for frame in frames]
        frame = None if not frames else frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal")
        return Flow(frame, least(flow.before for flow in flows), least(flow.after for flow in flows))
