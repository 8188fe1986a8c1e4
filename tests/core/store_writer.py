"""A process that applies numbered rows to a store until it is killed: `python store_writer.py URL`.

Each transaction writes five rows of a stream and the same five keys of a table; a line on standard output follows it.
"""

from __future__ import annotations

import asyncio
import sys

from penstock.model.batch import Op
from penstock.ports.clock import SystemClock
from penstock.ports.store import Apply
from penstock.stores.open import open_store
from penstock.testing.store_contract import changes_frame, stream_spec, table_spec

ROWS = 5


async def write(url: str) -> None:
    """From where the store is, on and on."""
    store = open_store(url, clock=SystemClock())
    stream, table = stream_spec(), table_spec()
    await store.prepare([stream, table], 1)
    applied = await store.applied(stream.name)
    position = None if applied is None else applied.next[0]
    while True:
        first = position or 0
        rows = [(f"k{i % 7}", i, Op.INSERT) for i in range(first, first + ROWS)]
        await store.apply(
            [
                Apply(spec.name, 0, 1, position, first, first + ROWS, changes_frame(spec, rows), first)
                for spec in (stream, table)
            ]
        )
        position = first + ROWS
        print(position, flush=True)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1]))
