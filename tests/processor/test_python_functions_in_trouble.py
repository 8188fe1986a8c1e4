"""Functions of an app's own that wait, fail in uncommon ways, or get no rows at all."""

from __future__ import annotations

import math
import os
import sys
import threading
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from penstock.errors import PenstockError
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
from penstock_processor.function_files import FunctionFiles


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
            raise failure("not\n a \ud800")
        return n

    @aggregate(arguments=["BIGINT"], returns="BIGINT")
    def total(n: pl.Series) -> object:
        return refusing(n).sum()

    expected = [(1, None), (None, f"function_failed: F: {failure.__name__}: not a ?"), (3, None)]
    assert pl.DataFrame({"n": [1, 2, 3]}).select(compiled(refusing)).rows() == expected
    assert pl.DataFrame({"n": [[1], [2], [3]]}).select(compiled(total)).rows() == expected


def test_an_error_without_words_of_its_own_is_named() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise ValueError

    @scalar(arguments=["BIGINT"], returns="BIGINT")
    def mute(n: pl.Series) -> pl.Series:
        raise Silent

    assert pl.DataFrame({"n": [1]}).select(compiled(mute)).rows() == [(None, "function_failed: F: Silent")]


def test_a_function_that_needs_a_row_fails_none_where_there_is_none() -> None:
    @scalar(arguments=["BIGINT"], returns="BIGINT")
    def since_first(n: pl.Series) -> pl.Series:
        first: int = n[0]
        return n - first

    assert pl.DataFrame({"n": [4, 6]}).select(compiled(since_first)).rows() == [(0, None), (2, None)]
    nothing = pl.DataFrame({"n": []}, schema={"n": pl.Int64}).select(compiled(since_first))
    assert nothing.schema == {"v": pl.Int64, "e": pl.String}
    assert nothing.rows() == []


ADDING = """from __future__ import annotations
from dataclasses import dataclass
import polars as pl
from penstock.python_functions import scalar

@dataclass
class Step:
    size: int

@scalar(arguments=["BIGINT"], returns="BIGINT")
def add(n: pl.Series) -> pl.Series:
    return n + Step(1).size
"""


def test_a_file_with_dataclasses_is_read_again_as_often_as_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file, source = tmp_path / "adding.py", FunctionFiles([tmp_path])
    found = []
    for step in (1, 2):
        file.write_text(ADDING.replace("Step(1)", f"Step({step})"))
        os.utime(file, ns=(10**18 + step, 10**18 + step))  # within one second
        found.append(source.load("adding.add")(pl.Series([0])))
    assert [each.to_list() for each in found if isinstance(each, pl.Series)] == [[1], [2]]


def test_a_file_that_ends_the_process_is_one_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "ending.py").write_text("raise SystemExit(2)\n")
    with pytest.raises(PenstockError, match=r"ending\.py:1 does not load: SystemExit\(2\)"):
        FunctionFiles([tmp_path]).load("ending.add")


@pytest.mark.parametrize(
    ("returns", "given", "expected"),
    [
        ("BIGINT", pl.Series([1.7, 2.0, None, -0.5, 1e30, math.nan]), [None, 2, None, None, None, None]),
        ("INT", pl.Series([Decimal("1.50"), Decimal("3.00")]), [None, 3]),
        ("TINYINT", pl.Series([127, 128]), [127, None]),
        ("ARRAY<INT>", pl.Series([[1.0, 2.0], [1.5], [], None]), [[1, 2], None, [], None]),
        ("ROW<a INT, b DOUBLE>", pl.Series([{"a": 1.0, "b": 1.5}, {"a": 1.5, "b": 1.0}]), [{"a": 1, "b": 1.5}, None]),
        ("DOUBLE", pl.Series([1.7]), [1.7]),
        ("DECIMAL(4, 1)", pl.Series([1.5]), [Decimal("1.5")]),
    ],
)
def test_a_number_with_a_fraction_is_no_integer_and_rejects_its_row(
    returns: str, given: pl.Series, expected: list[object]
) -> None:
    @scalar(arguments=["BIGINT"], returns=returns)
    def chosen(n: pl.Series) -> pl.Series:
        return given.gather(n)

    numbers = pl.DataFrame({"n": range(len(given))})
    values, errors = zip(*numbers.select(compiled(chosen)).rows(), strict=True)
    failed = [expected[n] is None and given[n] is not None for n in range(len(given))]
    assert [code is not None and code.startswith("function_failed: F: ") for code in errors] == failed
    assert [None if bad else value for value, bad in zip(values, failed, strict=True)] == expected
