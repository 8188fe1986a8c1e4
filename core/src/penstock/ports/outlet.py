"""The outlet port: a system of others that rows of one stream or table are delivered to, in order, from the log.

What a statement writes to a table with a foreign connector is an ordinary derived stream in the log, written exactly
once. From there one *delivery* a partition brings it to an outlet: it holds a position of its own, moves it after the
outlet has taken a batch, and never the other way round. So nothing is lost, and what is taken again after a crash is
what the outlet's guarantee is about:

- EXACTLY_ONCE: the outlet keeps how far it was brought together with the rows, all or nothing (`reached`), so that
  nothing is taken twice;
- EFFECTIVELY_ONCE: taking a batch again ends in the same state, row by row, by the table's primary key;
- AT_LEAST_ONCE: it may arrive again; every batch carries its positions, by which a receiver can tell.

The delivery owns retries, waits, the division of batches and the rejected events. An outlet only delivers and says
what happened: OutletUnavailable (nothing is wrong with the rows), BatchRefused (something in the batch is, it does
not say what: the delivery halves the batch until single rows are proven), or the rows that it refused one by one.
Success is never inferred from silence.
Adapters: one file each in `penstock.outlets`; `outlets.open` maps connectors to them. One contract suite
(`testing.outlet_contract`) holds them all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import polars as pl

from penstock.errors import PenstockError

__all__ = ["BatchRefused", "Guarantee", "OutBatch", "Outlet", "OutletUnavailable", "Reached", "RefusedRow"]


class Guarantee(StrEnum):
    """What a reader of the other system may rely on, whatever is killed; see the module."""

    EXACTLY_ONCE = "exactly-once"
    EFFECTIVELY_ONCE = "effectively-once"
    AT_LEAST_ONCE = "at-least-once"


@dataclass(frozen=True, slots=True)
class Reached:
    """How far an outlet says that it has been brought: everything of `epoch` below `next`."""

    epoch: int
    next: int


@dataclass(frozen=True, slots=True)
class OutBatch:
    """Rows of one partition, in order: whoever is at `first` has all of them at `next`. `first` equal to `next`: rows
    that were refused before and are delivered anew, outside the order; the position stays where it is.

    `frame`: the declared columns and `$op` (`penstock.model.batch.OP_COLUMN`); tables with `'emit' = 'early'` also
    have `$pending`. A row with DELETE has values in the key columns only. `offsets`: each row's own, ascending; gaps
    are possible.
    """

    stream: str
    partition: int
    epoch: int
    first: int
    next: int
    frame: pl.DataFrame
    offsets: Sequence[int]

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.frame.height

    def before(self, offset: int) -> OutBatch:
        """The rows below an offset, up to it; all of them if it lies at the end or beyond it, or at the beginning."""
        rows = bisect_left(self.offsets, offset)
        return replace(self.part(0, rows), next=offset) if rows and offset < self.next else self

    def part(self, begin: int, end: int) -> OutBatch:
        """Rows `[begin, end)` by index; the parts of a batch one behind the other cover the same positions."""
        first = self.first if begin == 0 else self.offsets[begin] if begin < self.count else self.next
        after = self.next if end >= self.count else self.offsets[end]
        return OutBatch(
            self.stream, self.partition, self.epoch, first, after,
            self.frame.slice(begin, end - begin), self.offsets[begin:end],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row, by its index in the batch, that the other side will never take as it is. `detail`: in its words."""

    row: int
    detail: str


class OutletUnavailable(PenstockError):
    """The other side does not answer, is busy, or does not know us. `detail` names the place and the remedy."""

    def __init__(self, detail: str, retry_after_s: float = 0.0) -> None:
        super().__init__("outlet_unavailable", detail, retry_after_s=retry_after_s)


class BatchRefused(PenstockError):
    """The other side refused the batch for what is in it, and took nothing of it."""

    def __init__(self, detail: str) -> None:
        super().__init__("delivery_refused", detail)


class Outlet(Protocol):
    """One partition's way out. For one caller at a time. Errors: OutletUnavailable, BatchRefused.

    A call may be cancelled at any await; the outlet is closed then and another one opened.
    """

    @property
    def guarantee(self) -> Guarantee:
        """What it keeps, with its options as they are."""
        ...

    async def open(self) -> Reached | None:
        """Connect, and say how far the other side knows to be; None where it keeps no positions, or has none yet."""
        ...

    async def deliver(self, batch: OutBatch) -> Sequence[RefusedRow]:
        """Bring the rows over. Durable there, as far as the other side can promise it, when this returns.

        Returns the rows that were refused for good, one by one; all others have been taken.
        """
        ...

    async def close(self) -> None:
        """Let go of connections. Nothing that was delivered depends on it."""
        ...
