"""Partitions by key: the values of Kafka's own Java client, and what is a key at the edge and in a frame."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest

from penstock.codecs.keys import frame_keys, key_bytes
from penstock.model.partitioning import murmur2, partition_of, partitions_of


@pytest.mark.parametrize(
    ("key", "hashed", "of_twelve"),
    [  # printed by org.apache.kafka.common.utils.Utils.murmur2 of kafka-clients 4.1.1, toPositive(...) % 12
        ("", 275646681, 9),
        ("a", -1563381124, 4),
        ("21", -973932308, 0),
        ("foobar", -790332482, 6),
        ("a-little-bit-long-string", -985981536, 8),
        ("a-little-bit-longer-string", -1486304829, 11),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971, 5),
        ("Chainpur", -655949591, 9),
        ("काली", -1158598288, 4),
    ],
)
def test_a_key_hashes_as_in_kafkas_java_client(key: str, hashed: int, of_twelve: int) -> None:
    assert murmur2(key.encode()) == hashed % 2**32
    assert partition_of(key.encode(), 12) == of_twelve
    assert partitions_of([key.encode(), None], 12) == [of_twelve, 0]


def test_a_key_is_its_text_or_the_json_of_its_values() -> None:
    assert key_bytes([["a", None, "b c"]]) == [b"a", None, b"b c"]
    assert key_bytes([[1, 2]]) == [b"1", b"2"]
    assert key_bytes([["a", None], [Decimal("1.50"), 2]]) == [b'["a","1.50"]', b"[null,2]"]


def test_a_frames_keys_are_those_of_the_edge() -> None:
    frame = pl.DataFrame(
        {"day": [date(1970, 1, 3)], "at": [datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)], "n": [Decimal("2.5")]},
        schema={"day": pl.Date, "at": pl.Datetime("ms", "UTC"), "n": pl.Decimal(4, 2)},
    )
    assert frame_keys(frame, ["day", "at", "n"]) == [b'[2,1000,"2.50"]']
    assert frame_keys(frame, ["at"]) == [b"1000"]
