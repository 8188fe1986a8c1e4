"""Limits of an app's text beyond those of single expressions (`penstock.expressions.settings`)."""

from __future__ import annotations

from pydantic import BaseModel, Field

__all__ = ["DEFAULT_LIMITS", "SqlLimits"]


class SqlLimits(BaseModel, frozen=True):
    """How large an app may be; a text beyond it is refused before it is bound."""

    statements_max: int = Field(default=1_000, description="Most statements in one app.", ge=1, le=100_000)
    syntax_depth_max: int = Field(
        default=1_200,
        description="Deepest nesting of one statement's syntax, chains of operators included.",
        ge=10,
        le=5_000,
    )
    columns_max: int = Field(default=500, description="Most columns of one table or query.", ge=1, le=10_000)
    nodes_max: int = Field(
        default=2_000, description="Most plan nodes of one statement, views written out.", ge=10, le=100_000
    )
    depth_max: int = Field(
        default=60, description="Deepest chain of views and subqueries, in plan nodes.", ge=5, le=120
    )
    windows_per_row_max: int = Field(
        default=1_000,
        description="Most windows of HOP and CUMULATE that one row may lie in (size / slide or step).",
        ge=1,
        le=100_000,
    )
    grouping_sets_max: int = Field(
        default=64, description="Most groupings of one GROUP BY with GROUPING SETS, ROLLUP or CUBE.", ge=1, le=1_024
    )
    pattern_matches_max: int = Field(
        default=1_000,
        description="Most matches of a pattern that go on at once in one key; the earliest are given up beyond that.",
        ge=1,
        le=1_000_000,
    )
    pattern_rows_max: int = Field(
        default=10_000, description="Most rows of one match of a pattern.", ge=1, le=10_000_000
    )
    over_rows_max: int = Field(
        default=10_000,
        description="Most rows before a row that a frame of OVER, or LAG, may reach.",
        ge=1,
        le=1_000_000,
    )


DEFAULT_LIMITS = SqlLimits()
