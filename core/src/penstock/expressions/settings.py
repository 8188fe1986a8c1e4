"""Limits of the SQL front: how large and how deep a text may be before it is refused."""

from __future__ import annotations

from pydantic import BaseModel, Field

__all__ = ["DEFAULT_LIMITS", "ExpressionSettings"]


class ExpressionSettings(BaseModel, frozen=True):
    """Limits on SQL text. Texts come from callers, so each is bounded before it is parsed."""

    text_chars_max: int = Field(
        default=262_144, description="Longest SQL text of an app, in characters.", ge=1, le=16_777_216
    )
    predicate_chars_max: int = Field(
        default=4_096, description="Longest filter predicate of a subscriber, in characters.", ge=1, le=65_536
    )
    depth_max: int = Field(
        default=32,
        description="Deepest nesting of parentheses, CASE and prefix operators in one statement.",
        ge=1,
        le=40,
    )
    terms_max: int = Field(
        default=1_000, description="Most operators and functions in one expression.", ge=1, le=10_000
    )


DEFAULT_LIMITS = ExpressionSettings()
