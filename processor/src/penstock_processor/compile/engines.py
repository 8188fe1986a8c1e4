"""The engine of any plan: of an app, or of the rules of a source."""

from __future__ import annotations

from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan import AppPlan
from penstock_processor.operators.interface import Engine
from penstock_processor.rules.engine import RulesEngine
from penstock_processor.rules.plan import RulesPlan

__all__ = ["engine_of"]


def engine_of(plan: AppPlan) -> Engine:
    """The plan's engine, empty; it makes state deltas."""
    return RulesEngine(plan) if isinstance(plan, RulesPlan) else build_engine(plan)
