"""The whole year of arrivals through `penstock send --complete`, against the csv module and Decimal."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from penstock_process import ROOT, PenstockProcess, eventually
from reference_produce import assert_days_equal, cheap_lots, daily_arrivals, price_alerts, read_lots

FILE = "mandi_arrivals_2018.csv.gz"


@pytest.fixture(scope="module")
def year(shared_data: Path, tmp_path_factory: pytest.TempPathFactory):
    with PenstockProcess(tmp_path_factory.mktemp("year") / "data", ROOT / "examples/produce-markets") as penstock:
        done = penstock.run("send", "arrivals", str(shared_data / FILE), "--complete", "--json")
        sent = json.loads(done.stdout.splitlines()[-1])
        lots = read_lots(shared_data / FILE)
        assert (sent["sent"], sent["accepted"], sent["rejected"]) == (len(lots), len(lots), 0)
        last = f"{lots[-1]['date']}T00:00:00.000"

        def complete() -> bool:
            rows = penstock.get("/v1/data/daily_arrivals?order=day_start.desc&limit=1")["rows"]
            return bool(rows) and rows[0]["day_start"] == last and rows[0]["complete"]

        eventually(complete, 120)
        yield penstock, lots


@pytest.mark.timeout(300)
def test_stored_summaries_equal_the_reference(year):
    penstock, lots = year
    rows = penstock.rows("daily_arrivals")
    assert all(row["complete"] for row in rows)
    assert_days_equal(daily_arrivals(lots), rows)


@pytest.mark.timeout(300)
def test_pushed_rows_equal_the_reference_in_order_per_market(year):
    penstock, lots = year
    events, _ = penstock.history("cheap_lots")
    columns = ("state", "market", "commodity", "modal_price", "arrivals_tonnes", "date")
    pushed = [tuple(event["d"][column] for column in columns) for event in events]
    assert _by_market(cheap_lots(lots)) == _by_market(pushed)


@pytest.mark.timeout(300)
def test_alerts_equal_the_reference(year):
    penstock, lots = year
    events, _ = penstock.history("price_alerts")
    rows = [event["d"] for event in events]
    pushed = Counter((row["market"], row["commodity"], row["at_time"], row["modal_price"]) for row in rows)
    expected, ties = price_alerts(lots)
    different = {key for key in pushed.keys() | expected.keys() if pushed[key] != expected.get(key, 0)}
    assert different <= ties
    assert len(expected) > 1000


@pytest.mark.timeout(300)
def test_raw_rows_are_what_was_sent_once_and_in_order(year):
    penstock, lots = year
    rows = penstock.rows("raw.arrivals", select="_body")
    bodies = [json.loads(row["_body"]) for row in rows]
    assert len({body["id"] for body in bodies}) == len(lots)
    assert [_as_text(body) for body in bodies] == [_lot_as_text(lot) for lot in lots]


@pytest.mark.timeout(300)
def test_sending_the_file_again_adds_nothing(year, shared_data: Path):
    penstock, lots = year
    done = penstock.run("send", "arrivals", str(shared_data / FILE), "--json")
    again = json.loads(done.stdout.splitlines()[-1])
    assert (again["accepted"], again["duplicate"]) == (0, len(lots))


def _by_market(rows: list[tuple]) -> dict[str, list[tuple]]:
    found = defaultdict(list)
    for row in rows:
        found[row[1]].append(row)
    return dict(found)


def _as_text(body: dict) -> tuple:
    numbers = ("arrivals_tonnes", "min_price", "max_price", "modal_price")
    return (
        *(body[name] for name in ("date", "state", "market", "commodity", "variety")),
        *(body[name] if body[name] is None else float(body[name]) for name in numbers),
    )


def _lot_as_text(lot: dict[str, str]) -> tuple:
    numbers = ("arrivals_tonnes", "min_price", "max_price", "modal_price")
    return (
        *(lot[name] for name in ("date", "state", "market", "commodity")),
        lot["variety"] or None,
        *(float(lot[name]) if lot[name] else None for name in numbers),
    )
