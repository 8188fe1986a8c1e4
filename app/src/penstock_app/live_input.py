"""Standard input for `penstock send STREAM -`: lines go on as they come, so a live pipe is never held back."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncIterator

from penstock.errors import PenstockError
from penstock_app.rows_from_files import Numbered, json_rows

__all__ = ["live_batches"]

CHUNK_BYTES = 1 << 20
LINE_BYTES_MAX = 16 * 1024 * 1024


async def live_batches(descriptor: int, rows_max: int) -> AsyncIterator[list[Numbered]]:
    """Batches of at most `rows_max` NDJSON lines from a pipe, terminal or file.

    A batch is cut when it is full or when nothing more is there just now. `too_large` for a line without an end.
    """
    lines: list[bytes] = []
    rest = b""
    taken = 0
    ended = False
    while not ended:
        chunk = await _next_chunk(descriptor)
        ended = not chunk
        *whole, rest = (rest + chunk).split(b"\n")
        if ended and rest:
            whole.append(rest)
        elif len(rest) > LINE_BYTES_MAX:
            raise PenstockError("too_large", f"line {taken + len(lines) + 1} has more than {LINE_BYTES_MAX} bytes")
        lines += whole
        while len(lines) >= rows_max or (lines and (ended or not _more_is_there(descriptor))):
            batch = list(json_rows(lines[:rows_max], first=taken))
            taken += len(lines[:rows_max])
            del lines[:rows_max]
            if batch:
                yield batch


async def _next_chunk(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(descriptor, readable.set)
    except PermissionError:  # a regular file (`< events.ndjson`): it never makes anyone wait
        return await asyncio.to_thread(os.read, descriptor, CHUNK_BYTES)
    try:
        await readable.wait()  # a thread that waits in read() could not be woken by Ctrl-C
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, CHUNK_BYTES)


def _more_is_there(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])
