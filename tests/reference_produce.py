"""What the produce-markets app must say of a file of arrivals, by the csv module and Decimal alone.

Imports nothing of the product; numbers are exact decimals until the comparison.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

Lot = dict[str, str]
RELATIVE = 1e-12


@dataclass
class Day:
    """One row of daily_arrivals."""

    tonnes: Decimal
    lots: int
    average_price: Decimal | None


def read_lots(path: Path) -> list[Lot]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def daily_arrivals(lots: Iterable[Lot]) -> dict[tuple[str, str, str], Day]:
    """(state, commodity, day as `2018-01-01T00:00:00.000`) -> Day."""
    tonnes: dict[tuple[str, str, str], list[Decimal]] = defaultdict(list)
    prices: dict[tuple[str, str, str], list[Decimal]] = defaultdict(list)
    for lot in lots:
        key = (lot["state"], lot["commodity"], f"{lot['date'][:10]}T00:00:00.000")
        tonnes[key].append(Decimal(lot["arrivals_tonnes"]))
        if lot["modal_price"]:
            prices[key].append(Decimal(lot["modal_price"]))
    return {
        key: Day(sum(values, Decimal()), len(values), _mean(prices.get(key, []))) for key, values in tonnes.items()
    }


def cheap_lots(lots: Iterable[Lot]) -> list[tuple[str, str, str, float, float, str]]:
    """Rows of cheap_lots in order: state, market, commodity, modal_price, arrivals_tonnes, date."""
    return [
        (
            lot["state"],
            lot["market"],
            lot["commodity"],
            float(lot["modal_price"]),
            float(lot["arrivals_tonnes"]),
            f"{lot['date']}T00:00:00.000",
        )
        for lot in lots
        if lot["modal_price"] and Decimal(lot["modal_price"]) < 500
    ]


AlertKey = tuple[str, str, str, float]


def price_alerts(lots: list[Lot]) -> tuple[dict[AlertKey, int], set[AlertKey]]:
    """(market, commodity, day, modal_price) -> how often, for lots of days with a price in the seven days before.

    A lot alerts when its price is above 1.4 times the average of its market and commodity over those seven days. The
    second value are the ties: there the price is 1.4 times the average to the last digit, in exact fractions, and
    binary floating point may fall on either side.
    """
    by_day: dict[tuple[str, str], dict[date, list[Decimal]]] = defaultdict(lambda: defaultdict(list))
    for lot in lots:
        if lot["modal_price"]:
            by_day[lot["market"], lot["commodity"]][date.fromisoformat(lot["date"])].append(
                Decimal(lot["modal_price"])
            )
    found: dict[AlertKey, int] = defaultdict(int)
    ties: set[AlertKey] = set()
    for lot in lots:
        if not lot["modal_price"]:
            continue
        day = date.fromisoformat(lot["date"])
        days = by_day[lot["market"], lot["commodity"]]
        week = [price for back in range(1, 8) for price in days.get(day - timedelta(days=back), ())]
        if not week:
            continue
        key = (lot["market"], lot["commodity"], f"{lot['date']}T00:00:00.000", float(lot["modal_price"]))
        price, limit = Fraction(lot["modal_price"]), Fraction(14, 10) * Fraction(sum(week, Decimal())) / len(week)
        if price == limit:
            ties.add(key)
        found[key] += price > limit
    return {key: times for key, times in found.items() if times}, ties


def assert_days_equal(expected: dict[tuple[str, str, str], Day], rows: list[dict[str, object]]) -> None:
    """Stored rows of daily_arrivals against the reference; sums at 1e-12 relative, counts exactly."""
    stored = {(row["state"], row["commodity"], row["day_start"]): row for row in rows}
    assert len(stored) == len(rows), "a key is stored twice"
    assert stored.keys() == expected.keys()
    for key, day in expected.items():
        row = stored[key]
        assert row["lots"] == day.lots, key
        assert_close(day.tonnes, row["tonnes"], key)
        if day.average_price is None:
            assert row["average_price"] is None, key
        else:
            assert_close(day.average_price, row["average_price"], key)


def assert_close(expected: Decimal, actual: object, place: object) -> None:
    assert isinstance(actual, int | float), (place, actual)
    assert math.isclose(float(expected), actual, rel_tol=RELATIVE), (place, expected, actual)


def _mean(values: list[Decimal]) -> Decimal | None:
    return sum(values, Decimal()) / len(values) if values else None
