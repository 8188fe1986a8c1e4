"""Feeds the samples of the example apps on a moved clock, through the same HTTP door as everybody.

The newest day of the sample becomes today: past days are loaded at once (their summaries become final), today's rows
are spread from midnight to now, and then rows keep arriving with the present as their event time and fresh ids, for
ever. What is there already after a restart is not sent again. A load of the past that was cut off (nothing but the
past is there) goes on: it is sent again with the same ids and times, and deduplication drops what is there.
"""

from __future__ import annotations

import asyncio
import csv
import itertools
import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock_app.api import Api
from penstock_app.sample_settings import SampleSettings

__all__ = ["feed_samples", "past_day", "past_lots", "past_shift_ms", "present_lots", "read_lots"]

Row = dict[str, Any]
FEEDER_RESTART_S = 2.0
FARMERS = ("Asha", "Balwant", "Chandra", "Devika", "Farhan", "Gurpreet", "Harini", "Imran", "Jyoti", "Kiran")
_PAST = re.compile(r"past-(\d{8})-\d+")
_NEWEST_ROWS = 1_000
_NUMBERS = ("arrivals_tonnes", "min_price", "max_price", "modal_price")

log = structlog.get_logger()


async def feed_samples(api: Api, folders: list[Path], settings: SampleSettings, *, clock: Clock) -> None:
    """Feed every folder that holds a known sample until cancelled."""
    feeders: list[Callable[[], Awaitable[None]]] = []
    for folder in folders:
        if (folder / "arrivals.csv").exists():
            lots = read_lots(folder / "arrivals.csv")
            feeders.append(partial(_feed_lots, api, lots, settings, clock))
            feeders.append(partial(_feed_reports, api, lots, settings, clock))
        if (folder / "quakes.ndjson").exists():
            quakes = [msgspec.json.decode(line) for line in (folder / "quakes.ndjson").read_bytes().splitlines()]
            feeders.append(partial(_feed_quakes, api, quakes, settings, clock))
    async with asyncio.TaskGroup() as group:
        for feeder in feeders:
            group.create_task(_kept_going(feeder, clock))


def read_lots(path: Path) -> list[Row]:
    """Rows of the arrivals sample, numbers as numbers, empty fields as None; `date` is still text."""
    with path.open(newline="") as file:
        rows: list[Row] = list(csv.DictReader(file))
    for row in rows:
        for name in _NUMBERS:
            row[name] = float(row[name]) if row[name] else None
    return rows


def past_lots(lots: list[Row], now: datetime, loop_id: str) -> Iterator[Row]:
    """The whole sample, moved so that its newest day is today and spread from midnight to `now`."""
    newest = date.fromisoformat(lots[-1]["date"])
    shift = now.date() - newest
    for day, group in itertools.groupby(enumerate(lots), key=lambda pair: pair[1]["date"]):
        rows = list(group)
        start = datetime.combine(date.fromisoformat(day) + shift, datetime.min.time(), tzinfo=UTC)
        span = min(timedelta(days=1), now - start)
        for place, (number, row) in enumerate(rows):
            moment = start + span * (place / len(rows))
            yield {"id": f"{loop_id}-{number}", **row, "date": iso(moment)}


def past_day(newest: list[Row], now: datetime) -> datetime | None:
    """Up to when the past is to be loaded: `now` if nothing is there, within the day on which a load was begun that
    was cut off, None if the past is complete. `newest`: the newest events that are there.
    """
    if not newest:
        return now
    marks = [_PAST.fullmatch(str(row["id"])) for row in newest]
    if not all(marks):
        return None  # the present begins after the past
    begun = max(mark[1] for mark in marks if mark)
    midnight = datetime.strptime(begun, "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1)
    return min(now, midnight - timedelta(milliseconds=1))


def present_lots(lots: list[Row], loop_id: str) -> Iterator[Row]:
    """Lots for ever, newest day first, then the sample from its start; the caller sets `date` to the present."""
    newest = lots[-1]["date"]
    start = next(index for index, row in enumerate(lots) if row["date"] == newest)
    for number, index in enumerate(itertools.chain(range(start, len(lots)), itertools.cycle(range(len(lots))))):
        yield {**lots[index], "id": f"{loop_id}-{number}"}


def past_shift_ms(quakes: list[Row], newest: list[Row], *, now_ms: int) -> int | None:
    """By how much the sample's times are to be moved: to now if nothing is there, as before if a load was cut off,
    None if the past is complete.
    """
    if not newest:
        return now_ms - int(quakes[-1]["time"])
    times = {quake["id"]: int(quake["time"]) for quake in quakes}
    if not all(row["id"] in times for row in newest):
        return None
    moved = datetime.fromisoformat(newest[0]["time"]).replace(tzinfo=UTC)
    return round(moved.timestamp() * 1000) - times[newest[0]["id"]]


def iso(moment: datetime) -> str:
    """`2026-01-31T06:00:00.000`, the form in which Penstock writes a TIMESTAMP."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


async def _feed_lots(api: Api, lots: list[Row], settings: SampleSettings, clock: Clock) -> None:
    loop_id = f"{clock.now_ms():x}"
    until = past_day(await _newest(api, "arrivals", "id"), _now(clock))
    if until is not None:
        # The same ids for the whole day: killed on the way, the past goes on and is not there twice.
        rows = past_lots(lots, until, f"past-{until:%Y%m%d}")
        while chunk := list(itertools.islice(rows, settings.batch_rows)):
            await _send(api, "arrivals", chunk)
    per_send = max(1, round(settings.lots_per_s / 10))
    for chunk in _chunks(present_lots(lots, f"lot-{loop_id}"), per_send):
        now = iso(_now(clock))
        await _send(api, "arrivals", [{**row, "date": now} for row in chunk])
        await clock.sleep(per_send / settings.lots_per_s)


async def _feed_reports(api: Api, lots: list[Row], settings: SampleSettings, clock: Clock) -> None:
    loop_id = f"{clock.now_ms():x}"
    for number in itertools.count():
        lot = lots[(number * 7919) % len(lots)]
        report = {
            "id": f"report-{loop_id}-{number}",
            "ts": iso(_now(clock)),
            "farmer": FARMERS[number % len(FARMERS)],
            "phone": f"+91 98{(number * 104_729) % 100_000_000:08d}",
            "village": lot["market"],
            "state": lot["state"],
            "commodity": lot["commodity"],
            "tonnes": lot["arrivals_tonnes"],
        }
        await _send(api, "reports", [report])
        await clock.sleep(settings.report_every_s)


async def _feed_quakes(api: Api, quakes: list[Row], settings: SampleSettings, clock: Clock) -> None:
    loop_id = f"{clock.now_ms():x}"
    shift = past_shift_ms(quakes, await _newest(api, "quakes", "id,time"), now_ms=clock.now_ms())
    if shift is not None:
        moved = [{**q, "time": q["time"] + shift, "updated": q["time"] + shift} for q in quakes]
        for chunk in _chunks(iter(moved), settings.batch_rows):
            await _send(api, "quakes", chunk)
    for number, quake in enumerate(itertools.cycle(quakes)):
        now_ms = clock.now_ms()
        # The first record of a quake is a machine's estimate; a person revises it a little later under the same id.
        first = {**quake, "id": f"{quake['id']}-{loop_id}-{number}", "time": now_ms, "updated": now_ms}
        estimate = {**first, "status": "automatic", "mag": float(round(quake["mag"]))}
        await _send(api, "quakes", [estimate])
        wait_s = min(settings.revision_after_s, settings.quake_every_s)
        await clock.sleep(wait_s)
        await _send(api, "quakes", [{**first, "updated": clock.now_ms()}])
        await clock.sleep(max(0.0, settings.quake_every_s - wait_s))


async def _newest(api: Api, stream: str, columns: str) -> list[Row]:
    wanted = {"select": columns, "order": "_position.desc", "limit": str(_NEWEST_ROWS)}
    page = await api.call_until_taken("GET", f"/v1/data/raw.{stream}", params=wanted)
    rows: list[Row] = page["rows"]
    return rows


async def _send(api: Api, stream: str, rows: list[Row]) -> None:
    body = b"\n".join(msgspec.json.encode(row) for row in rows)
    await api.call_until_taken(
        "POST",
        f"/v1/streams/{stream}/events",
        body=body,
        content_type="application/x-ndjson",
        accept_status=(422,),
    )


async def _kept_going(feeder: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """A feeder that stumbles (an app was edited, the server drains) starts again."""
    while True:
        try:
            await feeder()
        except PenstockError as error:
            log.warning("sample_paused", code=error.code, detail=error.detail)
        await clock.sleep(FEEDER_RESTART_S)


def _chunks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while chunk := list(itertools.islice(rows, size)):
        yield chunk


def _now(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock.now_ms() / 1000, tz=UTC)
