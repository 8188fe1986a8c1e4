"""Every golden gives what a real Apache Flink gave, also cut into batches at random and stopped and resumed.

What differs is in `exceptions.yml` with its reason, and really differs. `make golden` asks Flink for new cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from golden.golden_cases import (
    Functions,
    Query,
    fingerprint,
    function_files,
    query_files,
    read_exceptions,
    read_results,
)
from golden.golden_compare import function_differences, query_differences
from golden.golden_engine import WAYS, Given, run_functions, run_query

FUNCTIONS = {functions.file: functions for functions in function_files()}
QUERIES = {f"{query.file}: {query.name}": query for queries in query_files() for query in queries}
EXPRESSIONS = [(file, expression) for file, functions in FUNCTIONS.items() for expression in functions.expressions]


@cache
def results(file: str) -> dict[str, dict[str, Any]]:
    return read_results(file)


@cache
def exceptions() -> dict[tuple[str, str], list[str | int]]:
    """(file, case) -> places that differ."""
    found: dict[tuple[str, str], list[str | int]] = {}
    for exception in read_exceptions():
        assert exception["name"] and exception["why"]
        for file, cases in exception["cases"].items():
            for case, places in cases.items():
                found.setdefault((file, case), []).extend(places)
    return found


@cache
def given(file: str, way: str) -> dict[str, Given]:
    return run_functions(FUNCTIONS[file], way)


def flink_says(file: str, case: str, mark: str) -> dict[str, Any]:
    result = results(file).get(case)
    assert result is not None and result["of"] == mark, "Flink was not asked for this case: run `make golden`"
    return result


def assert_only_exceptions(file: str, case: str, found: Mapping[str | int, str]) -> None:
    named = exceptions().get((file, case), [])
    news = {place: text for place, text in found.items() if place not in named}
    assert not news, "\n".join(f"{place}: {text}" for place, text in news.items())
    gone = [place for place in named if place not in found]
    assert not gone, f"the same as in Flink now, take it from the exceptions: {gone}"


@pytest.mark.parametrize(("file", "expression"), EXPRESSIONS, ids=[f"{f}: {e}" for f, e in EXPRESSIONS])
def test_an_expression_has_the_type_and_the_values_that_flink_gives(file: str, expression: str) -> None:
    functions: Functions = FUNCTIONS[file]
    flink = flink_says(file, expression, fingerprint((functions.table,), expression))
    for way in WAYS:
        assert_only_exceptions(file, expression, function_differences(flink, given(file, way)[expression]))


@pytest.mark.parametrize("case", QUERIES)
def test_a_query_gives_the_rows_that_flink_gives(case: str) -> None:
    query: Query = QUERIES[case]
    flink = flink_says(query.file, query.name, fingerprint(query.tables, query.views, query.query, str(query.late)))
    for way in WAYS:
        found = run_query(query, flink.get("columns"), way)
        assert query.late or not found.late, "rows are late: set `late: true` if this is the point of the case"
        assert_only_exceptions(query.file, query.name, query_differences(flink, found))


def test_every_exception_is_of_a_case_that_exists() -> None:
    cases = {*EXPRESSIONS, *((query.file, query.name) for query in QUERIES.values())}
    assert exceptions().keys() <= cases
