"""Limits of rules."""

from __future__ import annotations

from pydantic import BaseModel, Field

__all__ = ["RulesSettings"]


class RulesSettings(BaseModel, frozen=True):
    """How many rules there may be, and what one request about them may ask for."""

    rules_max: int = Field(default=10_000, ge=1, description="Rules of all sources together.")
    targets_max: int = Field(default=100, ge=1, description="Streams that the rules of one source write.")
    put_max: int = Field(default=2_000, ge=1, description="Rules in one request.")
    body_max_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1024, description="Largest body of a request about rules."
    )
    cycle_rows: int = Field(
        default=20_000,
        ge=1,
        description="Events that a cycle of rules takes of one partition: each may hit every rule, so this bounds "
        "what a cycle writes.",
    )
    bound_max: int = Field(
        default=20_000, ge=1, description="Rules whose checked form is remembered, so that a change costs one rule."
    )
    select_lists_max: int = Field(
        default=1_000, ge=1, description="Select lists of rules that are remembered; many rules share one."
    )
    dry_run_events: int = Field(default=10_000, ge=1, description="Stored events of a dry run that says no number.")
    dry_run_events_max: int = Field(default=100_000, ge=1, description="Most stored events of one dry run.")
    dry_run_rows: int = Field(default=100, ge=1, description="Rows that a dry run shows if it says no number.")
    dry_run_rows_max: int = Field(default=1_000, ge=1, description="Most rows that a dry run shows.")
