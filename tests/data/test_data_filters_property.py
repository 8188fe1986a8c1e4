"""Filters mean the same in the store, over raw events and read plainly in Python."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.codecs.frames import polars_schema
from penstock.model.batch import Op
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import (
    BIGINT,
    BOOLEAN,
    BYTES,
    DATE,
    DOUBLE,
    FLOAT,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMP_LTZ,
    decimal,
)
from penstock.ports.clock import SystemClock
from penstock.ports.store import Apply
from penstock.stores.open import open_database, open_store
from penstock.stores.settings import StoreSettings
from penstock.testing.store_contract import changes_frame
from penstock_data.predicates import predicates
from penstock_data.query import Condition, Operator, parse_conditions
from penstock_data.settings import QuerySettings
from penstock_data.statements import columns_of, order_of, page_statement

_EPOCH = dt.datetime(1970, 1, 1)
COLUMNS = (
    Column("n", BIGINT),
    Column("s", STRING),
    Column("z", STRING),  # with NUL, at which LIKE of SQLite ends
    Column("d", DOUBLE),
    Column("f", FLOAT),
    Column("p", decimal(5, 2)),
    Column("b", BOOLEAN),
    Column("x", BYTES),
    Column("day", DATE),
    Column("at", TIME),
    Column("ts", TIMESTAMP),
    Column("ltz", TIMESTAMP_LTZ),
)
SPEC = StreamSpec("every", "demo", Relation.STREAM, (Column("row", BIGINT), *COLUMNS), store=True)

VALUES: dict[str, list[Any]] = {
    "n": [-(2**63), -1, 0, 1, 7, 2**63 - 1, None],
    "s": [
        "",
        "a",
        "A",
        "B",
        "ab",
        "a%b",
        "a_b",
        "a\\b",
        "b'; DROP TABLE r_every; --",
        "ä",
        "日本",
        "a\nb",
        "[x]*",
        None,
    ],
    "z": ["a\0b", "a\1b", "a\1\1b", "a\2", "a", "\0", None],
    "d": [-1.5, -0.0, 0.1, 0.3, 1e300, 5e-324, None],
    "f": [-1.5, 0.10000000149011612, 2.0, None],
    "p": [Decimal("-999.99"), Decimal("-1.01"), Decimal("0.00"), Decimal("1.00"), Decimal("999.99"), None],
    "b": [True, False, None],
    "x": [b"", b"\x00", b"\xff", b"ab", None],
    "day": [dt.date(1969, 12, 31), dt.date(1970, 1, 1), dt.date(2018, 1, 1), None],
    "at": [dt.time(0, 0), dt.time(12, 0, 0, 1000), dt.time(23, 59, 59), None],
    "ts": [dt.datetime(1969, 12, 31, 23, 59, 59, 999_000), dt.datetime(2018, 1, 1), None],
    "ltz": [dt.datetime(2018, 1, 1, tzinfo=dt.UTC), dt.datetime(2018, 6, 1, tzinfo=dt.UTC), None],
}
TEXTS: dict[str, list[str]] = {
    "n": ["-9223372036854775808", "-1", "0", "3", "7", "9223372036854775807"],
    "s": ["", "a", "A", "a%b", "b'; DROP TABLE r_every; --", "ä", "zz", "' OR '1'='1"],
    "z": ["a\0b", "a\1b", "a\1", "a", "\0", "a\1\1b"],
    "d": ["-1.5", "0", "0.1", "0.30000000000000004", "1e300", "-1e308"],
    "f": ["-1.5", "0.1", "2", "1e39"],
    "p": ["-1000", "-1.01", "-1.005", "0", "1", "0.999", "1e2", "12345"],
    "b": ["true", "false"],
    "x": ["", "AA==", "/w==", "YWI="],
    "day": ["1969-12-31", "1970-01-01", "2018-01-01", "2020-02-29"],
    "at": ["00:00", "12:00:00.001", "23:59:59"],
    "ts": ["1969-12-31T23:59:59.999", "2018-01-01", "0"],
    "ltz": ["2018-01-01T05:30:00+05:30", "2018-03-01"],
}
PATTERNS = ["%", "a%", "%b", "_", "a_b", "a\\_b", "a\\%b", "A*", "%DROP%", "ä", "%\\\\%", "", "[x]\\*", "a%b", "%本"]
ROW_COUNT = max(len(values) for values in VALUES.values()) * 2


def _rows() -> list[tuple[Any, ...]]:
    """Every value appears; columns go round at different paces."""
    return [(i, *(VALUES[c.name][i % len(VALUES[c.name])] for c in COLUMNS)) for i in range(ROW_COUNT)]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def selected(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., list[int]]]:
    """Numbers of the rows that the store gives for these conditions."""
    url = f"sqlite:///{tmp_path_factory.mktemp('filters')}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").database("filters")
    store = open_store(url, clock=SystemClock())

    async def fill() -> None:
        await store.prepare([SPEC], 1)
        frame = changes_frame(SPEC, [(*row, Op.INSERT) for row in _rows()])
        await store.apply([Apply("every", 0, 1, None, 0, ROW_COUNT, frame, None)])

    asyncio.run(fill())
    engine = open_database(url, StoreSettings()).reading_engine()

    def run(conditions: tuple[Condition, ...]) -> list[int]:
        column = SPEC.column("row")
        statement, _ = page_statement(
            SPEC, [column], conditions, order=order_of(SPEC, ()), after=None, limit=ROW_COUNT
        )
        with engine.connect() as connection:
            return [row[0] for row in connection.execute(statement)]

    yield run
    engine.dispose()
    asyncio.run(store.close())
    if request.param == "postgres":
        request.getfixturevalue("postgres_server").drop("filters")


_OPERATORS = ["eq", "neq", "lt", "lte", "gt", "gte"]


@st.composite
def _filters(draw: st.DrawFn) -> tuple[str, str]:
    name = draw(st.sampled_from([column.name for column in COLUMNS]))
    choices = ["compare", "in", "null"] + (["like"] if name == "s" else []) + (["bool"] if name == "b" else [])
    kind = draw(st.sampled_from(choices))
    if kind == "null":
        text = "is.null"
    elif kind == "bool":
        text = draw(st.sampled_from(["is.true", "is.false"]))
    elif kind == "like":
        text = "like." + draw(st.sampled_from(PATTERNS))
    elif kind == "in":
        items = draw(st.lists(st.sampled_from(TEXTS[name]), max_size=3))
        text = "in.(" + ",".join('"' + i.replace("\\", "\\\\").replace('"', '\\"') + '"' for i in items) + ")"
    else:
        operators = ["eq", "neq"] if name == "b" else _OPERATORS
        text = f"{draw(st.sampled_from(operators))}.{draw(st.sampled_from(TEXTS[name]))}"
    return name, draw(st.sampled_from(["", "not."])) + text


@given(st.lists(_filters(), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_filter_means_the_same_everywhere(selected: Callable[..., list[int]], pairs: list[tuple[str, str]]) -> None:
    conditions = parse_conditions(pairs, columns_of(SPEC), QuerySettings())
    expected = [row[0] for row in _rows() if all(_plain(row, condition) is True for condition in conditions)]
    assert selected(conditions) == expected
    frame = pl.DataFrame(_rows(), schema=polars_schema(SPEC.columns), orient="row")
    where = predicates(conditions, partition=0)
    assert where is not None
    assert frame.filter(where)["row"].to_list() == expected


def _plain(row: tuple[Any, ...], condition: Condition) -> bool | None:
    """The condition read by hand: True, False or unknown."""
    index = [column.name for column in SPEC.columns].index(condition.column.name)
    found = _compare(_plain_value(row[index]), condition)
    return None if found is None else found is not condition.negated


def _compare(left: Any, condition: Condition) -> bool | None:
    value: Any = condition.value
    if condition.operator is Operator.IS:
        return left is value
    if condition.operator is Operator.IN and not value:
        return False
    if left is None:
        return None
    match condition.operator:
        case Operator.IN:
            return left in value
        case Operator.LIKE:
            parts = [{"%": ".*", "_": "."}.get(wild) or re.escape(text) for wild, text in value.parts]
            return re.fullmatch("".join(parts), left, re.DOTALL) is not None
        case Operator.EQ:
            return bool(left == value)
        case Operator.NEQ:
            return bool(left != value)
        case Operator.LT:
            return bool(left < value)
        case Operator.LTE:
            return bool(left <= value)
        case Operator.GT:
            return bool(left > value)
        case _:
            return bool(left >= value)


def _plain_value(value: Any) -> Any:
    match value:
        case dt.datetime():
            return round((value.replace(tzinfo=None) - _EPOCH) / dt.timedelta(milliseconds=1))
        case dt.date():
            return (value - _EPOCH.date()).days
        case dt.time():
            return round((dt.datetime.combine(_EPOCH, value) - _EPOCH) / dt.timedelta(milliseconds=1))
        case float():
            assert not math.isnan(value)
            return value
        case _:
            return value
