"""Python functions by row: once for each distinct value of a batch, however often Polars asks."""

from __future__ import annotations

import polars as pl

from penstock.expressions.by_row import by_row, missing


def test_a_function_is_called_once_for_each_value_of_a_batch() -> None:
    asked: list[str] = []

    def shout(text: str) -> str | None:
        asked.append(text)
        return text.upper() if text != "none" else None

    value = by_row(shout, pl.String())(pl.col("s"))
    frame = pl.DataFrame({"s": ["a", "b", "a", None, "none"] * 3})
    made = frame.select(value.alias("v"), missing(value, [pl.col("s")]).alias("e"), (value + "!").alias("w"))
    assert made["v"].to_list() == ["A", "B", "A", None, None] * 3
    assert made["e"].to_list() == [False, False, False, False, True] * 3
    assert sorted(asked) == ["a", "b", "none"]
    assert frame.head(2).select(value.alias("v"))["v"].to_list() == ["A", "B"]
    assert sorted(asked) == ["a", "a", "b", "b", "none"]


def test_zeros_of_both_signs_are_two_values_of_two_batches() -> None:
    value = by_row(str, pl.String())(pl.col("x"))
    for zero, text in ((0.0, "0.0"), (-0.0, "-0.0")):
        assert pl.DataFrame({"x": [zero]}).select(value.alias("v"))["v"].to_list() == [text]


def test_several_arguments_null_and_halves_of_characters() -> None:
    joined = by_row(lambda a, b: f"{a}{b}\ud800", pl.String())(pl.col("a"), pl.col("b"))
    frame = pl.DataFrame({"a": ["x", None, "é"], "b": [1, 2, 3]})
    assert frame.select(joined.alias("v"))["v"].to_list() == ["x1?", None, "é3?"]
    with_nulls = by_row(lambda a, b: f"{a}{b}", pl.String(), nulls=True)(pl.col("a"), pl.col("b"))
    assert frame.select(with_nulls.alias("v"))["v"].to_list() == ["x1", "None2", "é3"]
    assert frame.clear().select(joined.alias("v"))["v"].to_list() == []
