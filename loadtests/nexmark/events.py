"""Events of Nexmark for a seed: of 50 events in a row one is a person, three are auctions, 46 are bids.

Proportions, identifiers, hot auctions, bidders and sellers, and the columns follow the Nexmark suite of Apache Beam
and of Flink; the random numbers are NumPy's, so the values are this generator's own. Event times are `interval_ms`
apart, one event each: ties in time do not occur.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["Files", "write_files"]

_START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
_CYCLE, _PERSONS, _AUCTIONS = 50, 1, 3
_FIRST_PERSON, _FIRST_AUCTION, _FIRST_CATEGORY, _CATEGORIES = 1000, 1100, 10, 5
_HOT_EVERY = 100  # of 100 auctions (persons) in a row one is the hot one
_IN_FLIGHT, _ACTIVE = 100, 1000  # auctions that bids go to, persons that bid and sell
_CHUNK = 500_000
_STATES = ["AZ", "CA", "ID", "OR", "WA", "WY"]
_CITIES = ["Phoenix", "Los Angeles", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"]
_FIRST = ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"]
_LAST = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"]
_CHANNELS = ["Google", "Facebook", "Baidu", "Apple"]
_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Files:
    """One NDJSON file for each source."""

    person: Path
    auction: Path
    bid: Path
    events: int

    def of(self, name: str) -> Path:
        """The file of a source by its name."""
        return {"person": self.person, "auction": self.auction, "bid": self.bid}[name]


def write_files(folder: Path, events: int, *, seed: int = 7, interval_ms: int = 1) -> Files:
    """Write the first `events` events into `folder`. The same arguments give the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Files(folder / "person.ndjson", folder / "auction.ndjson", folder / "bid.ndjson", events)
    with files.person.open("wb") as persons, files.auction.open("wb") as auctions, files.bid.open("wb") as bids:
        for numbers in _chunks(events):
            random = np.random.default_rng([seed, int(numbers[0])])
            place = numbers % _CYCLE
            person, bid = place < _PERSONS, place >= _PERSONS + _AUCTIONS
            _persons(numbers[person], random, interval_ms).write_ndjson(persons)
            _auctions(numbers[~person & ~bid], random, interval_ms).write_ndjson(auctions)
            _bids(numbers[bid], random, interval_ms).write_ndjson(bids)
    return files


def _chunks(events: int) -> Iterator[Integers]:
    for first in range(0, events, _CHUNK):
        yield np.arange(first, min(first + _CHUNK, events), dtype=np.int64)


def _persons(numbers: Integers, random: np.random.Generator, interval_ms: int) -> pl.DataFrame:
    count = len(numbers)
    first, last = _picked(_FIRST, count, random), _picked(_LAST, count, random)
    mails = [f"{mail}@{b.lower()}.com" for mail, b in zip(_texts(count, 7, random), last, strict=True)]
    cards = [" ".join(f"{part:04d}" for part in card) for card in random.integers(0, 10_000, (count, 4)).tolist()]
    return pl.DataFrame(
        {
            "id": _FIRST_PERSON + numbers // _CYCLE,
            "name": [f"{a} {b}" for a, b in zip(first, last, strict=True)],
            "emailAddress": mails,
            "creditCard": cards,
            "city": _picked(_CITIES, count, random),
            "state": _picked(_STATES, count, random),
            "dateTime": _times(numbers, interval_ms),
            "extra": _texts(count, 40, random),
        }
    )


def _auctions(numbers: Integers, random: np.random.Generator, interval_ms: int) -> pl.DataFrame:
    count = len(numbers)
    ids = _auction_ids(numbers)
    started = _START_MS + numbers * interval_ms
    lasting = 1 + random.integers(0, 2 * _IN_FLIGHT * _CYCLE // _AUCTIONS * interval_ms, count)
    first_bid = _prices(count, random)
    return pl.DataFrame(
        {
            "id": ids,
            "itemName": _texts(count, 20, random),
            "description": _texts(count, 100, random),
            "initialBid": first_bid,
            "reserve": first_bid + _prices(count, random),
            "dateTime": _texts_of(started),
            "expires": _texts_of(started + lasting),
            "seller": _people(numbers, random),
            "category": _FIRST_CATEGORY + random.integers(0, _CATEGORIES, count),
            "extra": _texts(count, 40, random),
        }
    )


def _bids(numbers: Integers, random: np.random.Generator, interval_ms: int) -> pl.DataFrame:
    count = len(numbers)
    newest = _auction_ids(numbers)
    usual = newest - random.integers(0, np.minimum(_IN_FLIGHT, newest - _FIRST_AUCTION + 1))
    hot = np.maximum(newest // _HOT_EVERY * _HOT_EVERY, _FIRST_AUCTION)
    known = random.integers(0, 2, count) > 0  # of two bids one comes through a channel that everybody knows
    others = random.integers(0, 10_000, count)
    names = _picked(_CHANNELS, count, random)
    names = [a if own else f"channel-{n}" for a, own, n in zip(names, known.tolist(), others.tolist(), strict=True)]
    pages = _texts(count * 3, 5, random)
    urls = [
        f"https://www.nexmark.com/{a}/{b}/{c}/item.htm?query=1{'' if own else f'&channel_id={n}'}"
        for a, b, c, own, n in zip(pages[::3], pages[1::3], pages[2::3], known.tolist(), others.tolist(), strict=True)
    ]
    return pl.DataFrame(
        {
            "auction": np.where(random.integers(0, 2, count) > 0, hot, usual),
            "bidder": _people(numbers, random),
            "price": _prices(count, random),
            "channel": names,
            "url": urls,
            "dateTime": _times(numbers, interval_ms),
            "extra": _texts(count, 40, random),
        }
    )


def _auction_ids(numbers: Integers) -> Integers:
    """The newest auction at each event."""
    inside = np.clip(numbers % _CYCLE - _PERSONS, 0, _AUCTIONS - 1)
    found: Integers = _FIRST_AUCTION + numbers // _CYCLE * _AUCTIONS + inside
    return found


def _people(numbers: Integers, random: np.random.Generator) -> Integers:
    """Three of four are the hot person, the others one of the last thousand."""
    newest = _FIRST_PERSON + numbers // _CYCLE
    usual = newest - random.integers(0, np.minimum(_ACTIVE, newest - _FIRST_PERSON + 1))
    hot = np.maximum(newest // _HOT_EVERY * _HOT_EVERY, _FIRST_PERSON)
    return np.where(random.integers(0, 4, len(numbers)) > 0, hot, usual)


def _prices(count: int, random: np.random.Generator) -> Integers:
    """In cents, from 100 to 100,000,000, evenly over the logarithm."""
    return np.round(10.0 ** (random.random(count) * 6.0) * 100.0).astype(np.int64)


def _times(numbers: Integers, interval_ms: int) -> pl.Series:
    return _texts_of(_START_MS + numbers * interval_ms)


def _texts_of(times_ms: Integers) -> pl.Series:
    """As Flink's JSON format reads TIMESTAMP(3): `2026-01-01 00:00:00.000`."""
    return pl.Series(times_ms).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%d %H:%M:%S%.3f")


def _picked(words: list[str], count: int, random: np.random.Generator) -> list[str]:
    return [words[n] for n in random.integers(0, len(words), count).tolist()]


def _texts(count: int, length: int, random: np.random.Generator) -> list[Any]:
    """Random lower-case words of this length."""
    letters = _LETTERS[random.integers(0, len(_LETTERS), (count, length))]
    found: list[Any] = np.ascontiguousarray(letters).view(f"<U{length}").ravel().tolist()
    return found
