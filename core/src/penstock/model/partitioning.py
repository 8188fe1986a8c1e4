"""Which partition a key belongs to: Kafka's default, so that other producers of a topic put equal keys together.

Source: Apache Kafka, `org.apache.kafka.common.utils.Utils.murmur2` and `BuiltInPartitioner.partitionForKey`: 32-bit
murmur2 (Austin Appleby) over the key's bytes, made positive, modulo the number of partitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import unpack_from

__all__ = ["CACHED_KEYS_MAX", "murmur2", "partition_of", "partitions_of"]

#: Keys whose hash is remembered: streams have far fewer keys than events, and the hash costs 1 µs a key in Python.
CACHED_KEYS_MAX = 65_536

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def partition_of(key: bytes | None, partitions: int) -> int:
    """The partition of a key; 0 without a key (Kafka's producers would spread those: here the same event always goes
    to the same place)."""
    return 0 if key is None else _positive_hash(key) % partitions


def partitions_of(keys: Sequence[bytes | None], partitions: int) -> list[int]:
    """`partition_of` for each key of a batch: every distinct key is hashed once."""
    if partitions == 1:
        return [0] * len(keys)
    places = {key: partition_of(key, partitions) for key in set(keys)}
    return [places[key] for key in keys]


def murmur2(key: bytes) -> int:
    """32-bit murmur2 with Kafka's seed, unsigned."""
    size = len(key)
    h = _SEED ^ size
    whole = size & ~3
    for word in unpack_from(f"<{whole // 4}I", key):
        k = word * _M & _MASK
        k ^= k >> 24
        h = (h * _M & _MASK) ^ (k * _M & _MASK)
    if rest := key[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


@lru_cache(maxsize=CACHED_KEYS_MAX)
def _positive_hash(key: bytes) -> int:
    return murmur2(key) & 0x7FFFFFFF
