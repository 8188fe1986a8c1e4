"""`penstock send`: events into a stream, strictly in order, one request after the other, repeated until taken."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from penstock.ports.clock import Clock
from penstock_app.api import Api
from penstock_app.rows_from_files import EventFile, Numbered, StreamShape

__all__ = ["Pace", "Sent", "cut_to_requests", "file_batches", "send_batches", "stream_shape"]

REQUEST_BYTES_MAX = 8 * 1024 * 1024
ERRORS_SHOWN_MAX = 20
PACED_REQUESTS_PER_S = 10


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

    @property
    def request_rows(self) -> int:
        """Rows a request: at a given rate so few that they flow evenly, not in one burst every now and then."""
        if self.rate_per_s is None:
            return self.batch_rows
        return min(self.batch_rows, max(1, math.ceil(self.rate_per_s / PACED_REQUESTS_PER_S)))


async def stream_shape(api: Api, stream: str) -> StreamShape:
    """Columns and dedupe columns of a source stream; `unknown_stream`."""
    answer = await api.call("GET", f"/v1/streams/{stream}")
    return StreamShape({c["name"]: c["type"] for c in answer["columns"]}, answer["dedupe"])


async def file_batches(file: EventFile, shape: StreamShape, rows_max: int) -> AsyncIterator[Sequence[Numbered]]:
    """The file's rows, read in a thread; where the stream dedupes by `id`, rows without one get one."""
    mark = await asyncio.to_thread(file.mark) if list(shape.dedupe) == ["id"] else None
    rows = file.rows(shape, mark=mark)
    while batch := await asyncio.to_thread(lambda: list(itertools.islice(rows, rows_max))):
        yield batch


async def send_batches(
    api: Api,
    stream: str,
    batches: AsyncIterator[Sequence[Numbered]],
    *,
    pace: Pace,
    clock: Clock,
    complete: bool = False,
    on_progress: Callable[[Sent], None],
    on_error: Callable[[dict[str, Any]], None],
) -> Sent:
    """Send every row; with `complete` say afterwards that the source is complete until now, so that windows close.

    A request that was answered 429 or 503, or not at all, is sent again with the same ids; streams that dedupe store
    each row once all the same. `on_error` gets the first `ERRORS_SHOWN_MAX` rejections with `row` and `place`.
    """
    total = Sent()
    started_s = clock.monotonic_s()
    shown = 0
    async for batch in batches:
        for request in cut_to_requests(batch, REQUEST_BYTES_MAX):
            if pace.rate_per_s is not None:
                await clock.sleep(max(0.0, started_s + total.sent / pace.rate_per_s - clock.monotonic_s()))
            reply = await api.call_until_taken(
                "POST",
                f"/v1/streams/{stream}/events",
                body=b"\n".join(row.line for row in request),
                content_type="application/x-ndjson",
                accept_status=(422,),
            )
            total.sent += len(request)
            total.accepted += reply["accepted"]
            total.duplicate += reply["duplicate"]
            total.rejected += reply["rejected"]
            total.seconds = clock.monotonic_s() - started_s
            for error in reply["errors"][: max(0, ERRORS_SHOWN_MAX - shown)]:
                row = request[error["index"]]
                on_error({**error, "row": row.row, "place": row.place})
                shown += 1
            on_progress(total)
    if complete:
        body = b'{"through": %d}' % clock.now_ms()
        await api.call_until_taken("POST", f"/v1/streams/{stream}/watermark", body=body)
    total.seconds = clock.monotonic_s() - started_s
    return total


def cut_to_requests(rows: Iterable[Numbered], body_max_bytes: int) -> Iterator[list[Numbered]]:
    """Cut so that no request passes `body_max_bytes`; a row that is longer by itself goes alone."""
    request: list[Numbered] = []
    size_bytes = 0
    for row in rows:
        row_bytes = len(row.line) + 1
        if request and size_bytes + row_bytes > body_max_bytes:
            yield request
            request, size_bytes = [], 0
        request.append(row)
        size_bytes += row_bytes
    if request:
        yield request
