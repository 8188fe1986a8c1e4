"""`penstock send`: a file into a stream, strictly in order, one request after the other, repeated until taken."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock.ports.clock import Clock
from penstock_app.api import Api
from penstock_app.rows_from_files import Numbered, StreamShape, file_mark, read_rows

__all__ = ["Sent", "send_file"]

REQUEST_BYTES_MAX = 8 * 1024 * 1024
ERRORS_SHOWN_MAX = 20


@dataclass(slots=True)
class Sent:
    """Totals; the last line of `--json`."""

    sent: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, object]:
        """`{"sent","accepted","duplicate","rejected","seconds"}`."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True)
class Pace:
    """How the rows are cut into requests and how fast they go (None: as fast as they are taken)."""

    batch_rows: int
    rate_per_s: float | None


async def send_file(
    api: Api,
    stream: str,
    path: Path | None,
    *,
    pace: Pace,
    complete: bool,
    clock: Clock,
    on_progress: Callable[[Sent], None],
    on_error: Callable[[dict[str, Any]], None],
) -> Sent:
    """Send every row; with `complete` say afterwards that the source is complete until now, so that windows close.

    A batch that was answered 429 or 503, or not at all, is sent again with the same ids; streams that dedupe store
    each row once all the same.
    """
    shape = await _shape(api, stream)
    mark = None
    if list(shape.dedupe) == ["id"] and path is not None:
        mark = await asyncio.to_thread(file_mark, path)
    total = Sent()
    shown = 0
    started_s = time.perf_counter()
    for batch in _batches(read_rows(path, shape, mark=mark), pace.batch_rows):
        reply = await api.call_until_taken(
            "POST",
            f"/v1/streams/{stream}/events",
            body=b"\n".join(row.line for row in batch),
            content_type="application/x-ndjson",
            accept_status=(422,),
        )
        total.sent += len(batch)
        for name in ("accepted", "duplicate", "rejected"):
            setattr(total, name, getattr(total, name) + reply[name])
        for error in reply["errors"][: max(0, ERRORS_SHOWN_MAX - shown)]:
            on_error({**error, "row": batch[error["index"]].row})
            shown += 1
        total.seconds = time.perf_counter() - started_s
        on_progress(total)
        if pace.rate_per_s is not None:
            await clock.sleep(max(0.0, total.sent / pace.rate_per_s - total.seconds))
    if complete:
        await api.call_until_taken(
            "POST", f"/v1/streams/{stream}/watermark", body=b'{"through": %d}' % clock.now_ms()
        )
    total.seconds = time.perf_counter() - started_s
    return total


async def _shape(api: Api, stream: str) -> StreamShape:
    answer = await api.call("GET", f"/v1/streams/{stream}")
    return StreamShape({c["name"]: c["type"] for c in answer["columns"]}, answer["dedupe"])


def _batches(rows: Iterator[Numbered], size: int) -> Iterator[list[Numbered]]:
    while batch := list(itertools.islice(rows, size)):
        while batch:
            # A batch of very long rows is cut so that no request passes the server's body limit.
            total_bytes = 0
            count = 0
            for row in batch:
                total_bytes += len(row.line) + 1
                if count and total_bytes > REQUEST_BYTES_MAX:
                    break
                count += 1
            yield batch[:count]
            batch = batch[count:]
