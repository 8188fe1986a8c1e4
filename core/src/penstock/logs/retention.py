"""Which batches may go: a decision without I/O, shared by all adapters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["expired", "floor_of"]

StreamPartition = tuple[str, int]


def floor_of(
    key: StreamPartition,
    *,
    floors: Mapping[StreamPartition, int],
    positions: Mapping[StreamPartition, int],
) -> int | None:
    """The offset below which nobody needs events: the least of the consumers' floors and the apps' positions.

    None: nobody holds anything.
    """
    return min((held[key] for held in (floors, positions) if key in held), default=None)


def expired(batches: Iterable[tuple[int, int]], *, floor: int | None, before_ms: int) -> list[int]:
    """The `next` offsets of the leading batches that may be deleted, of `(next, appended_at_ms)` in order.

    Stops at the first that must stay: a clock that went back makes no hole in the middle.
    """
    gone: list[int] = []
    for next_offset, appended_at_ms in batches:
        if (floor is not None and next_offset > floor) or appended_at_ms >= before_ms:
            break
        gone.append(next_offset)
    return gone
