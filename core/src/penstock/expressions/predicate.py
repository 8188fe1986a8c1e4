"""Predicates over the columns of one relation, compiled once: filters of subscribers, conditions of rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from penstock.errors import SqlError, SqlErrors
from penstock.expressions.bind import bind_text
from penstock.expressions.compile import compile_expression
from penstock.expressions.settings import DEFAULT_LIMITS, ExpressionSettings
from penstock.model.stream import Column
from penstock.model.types import Kind

__all__ = ["Predicate", "compile_predicate"]

#: Rows for which it is true, as a Boolean series without nulls, as long as the frame.
Predicate = Callable[[pl.DataFrame], pl.Series]

_HIT = "$hit"


def compile_predicate(
    text: str, columns: Sequence[Column], *, limits: ExpressionSettings = DEFAULT_LIMITS
) -> Predicate:
    """A function from a frame with `columns` to the rows that match. False where the predicate is NULL or fails.

    Raises SqlErrors with the place: too long, not SQL, unknown columns, or not a condition.
    """
    if len(text) > limits.predicate_chars_max:
        message = f"The predicate has {len(text):,} characters."
        remedy = f"At most {limits.predicate_chars_max:,} are read."
        raise SqlErrors([SqlError(1, 1, "text_too_long", message, remedy)])
    bound = bind_text(text, columns, limits=limits)
    if bound.type.kind is not Kind.BOOLEAN:
        message = f"A predicate is a condition; this is {bound.type}."
        raise SqlErrors([SqlError(bound.span.line, bound.span.column, "type_mismatch", message,
                                  "Write a comparison, for example: price > 10.")])  # fmt: skip
    made = compile_expression(bound)
    hit = made.value.fill_null(value=False)
    if made.error is not None:
        hit = hit & made.error.is_null()

    def matches(frame: pl.DataFrame) -> pl.Series:
        return frame.with_columns(hit.alias(_HIT)).get_column(_HIT)

    return matches
