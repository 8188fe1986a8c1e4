"""Functions of an app's own that wait, fail in uncommon ways, or get no rows at all."""

from __future__ import annotations

import threading

import polars as pl
import pytest

from penstock.expressions.nodes import Call
from penstock.expressions.table import Compiled
from penstock.model.types import BIGINT
from penstock.python_functions import (
    AggregateFunction,
    ScalarFunction,
    aggregate,
    aggregate_entry_of,
    entry_of,
    scalar,
)


def compiled(function: ScalarFunction | AggregateFunction) -> list[pl.Expr]:
    """Value and error of the function over the column `n`."""
    entry_for = aggregate_entry_of if isinstance(function, AggregateFunction) else entry_of
    made = entry_for("F", function).build(Call(BIGINT, function="F"), [Compiled(pl.col("n"))])  # type: ignore[arg-type]  # each with its own
    assert made.error is not None
    return [made.value.alias("v"), made.error.alias("e")]


def test_who_asks_while_another_thread_is_at_it_does_not_wait_for_that() -> None:
    begun, released = threading.Event(), threading.Event()

    @scalar(arguments=["BIGINT"], returns="BIGINT")
    def slow(n: pl.Series) -> pl.Series:
        if not begun.is_set():
            begun.set()
            if not released.wait(5):
                raise TimeoutError("the other thread is held back by this one")
        return n + 1

    exprs = compiled(slow)
    found: list[list[tuple[object, ...]]] = []
    first = threading.Thread(target=lambda: found.append(pl.DataFrame({"n": [1]}).select(exprs).rows()))
    first.start()
    assert begun.wait(5)
    second = pl.DataFrame({"n": [2]}).select(exprs).rows()
    released.set()
    first.join()
    assert (second, found) == ([(3, None)], [[(2, None)]])


@pytest.mark.parametrize("failure", [ValueError, SystemExit, pl.exceptions.PanicException])
def test_whatever_a_function_ends_with_is_a_matter_of_its_rows(failure: type[BaseException]) -> None:
    @scalar(arguments=["BIGINT"], returns="BIGINT")
    def refusing(n: pl.Series) -> pl.Series:
        if (n == 2).any():
            raise failure("no")
        return n

    @aggregate(arguments=["BIGINT"], returns="BIGINT")
    def total(n: pl.Series) -> object:
        return refusing(n).sum()

    expected = [(1, None), (None, "function_failed"), (3, None)]
    assert pl.DataFrame({"n": [1, 2, 3]}).select(compiled(refusing)).rows() == expected
    assert pl.DataFrame({"n": [[1], [2], [3]]}).select(compiled(total)).rows() == expected


def test_a_function_that_needs_a_row_fails_none_where_there_is_none() -> None:
    @scalar(arguments=["BIGINT"], returns="BIGINT")
    def since_first(n: pl.Series) -> pl.Series:
        first: int = n[0]
        return n - first

    assert pl.DataFrame({"n": [4, 6]}).select(compiled(since_first)).rows() == [(0, None), (2, None)]
    nothing = pl.DataFrame({"n": []}, schema={"n": pl.Int64}).select(compiled(since_first))
    assert nothing.schema == {"v": pl.Int64, "e": pl.String}
    assert nothing.rows() == []
