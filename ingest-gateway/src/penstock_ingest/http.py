"""HTTP of the gateway: thin handlers over `Gateway`. Bodies are bounded before and after decompression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from aiohttp import web

from penstock.codecs.json_values import read_timestamp_ms, write_timestamp
from penstock.errors import PenstockError
from penstock.http.access import Access
from penstock.http.problem import Handler, guarded, problem
from penstock.http.traced import traced
from penstock.model.stream import Relation, StreamSpec
from penstock.observe.traces import Traces, current_trace
from penstock.ports.log import Log, RejectedFilter
from penstock_ingest import metrics
from penstock_ingest.body import decompress, form_of
from penstock_ingest.gateway import Accepted, Gateway
from penstock_ingest.in_flight import InFlight
from penstock_ingest.spans import describe_accepted, name_of
from penstock_ingest.streams import source_of

__all__ = ["IngestHttp"]

_JSON = {"Content-Type": "application/json"}
_encode = msgspec.json.Encoder().encode
_WRITE = "ingest:write"
_READ = "data:read"
_ADMIN = "apps:admin"
_REPLAY_HEAD_BYTES = 4096
_WATERMARK_MAX_BYTES = 4096


class _Through(msgspec.Struct, forbid_unknown_fields=True):
    through: int | str


class _Replay(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    raw: bytes  # base64 in JSON


class IngestHttp:
    """The routes. `in_flight`: bytes of bodies, shared with the other edges of this process."""

    def __init__(self, gateway: Gateway, in_flight: InFlight, *, log: Log, access: Access, traces: Traces) -> None:
        self._gateway = gateway
        self._settings = gateway.settings
        self._log = log
        self._access = access
        self._traces = traces
        self._in_flight = in_flight
        self.requests = 0  # being answered
        self.draining = False
        metrics.IN_FLIGHT_BYTES.set_function(lambda: in_flight.size_bytes)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """As in the table of the HTTP interface."""
        return [
            web.post("/v1/streams/{stream}/events", traced(self._counted(self._events), self._traces, name_of)),
            web.post("/v1/streams/{stream}/watermark", self._counted(self._watermark)),
            web.post("/internal/replays", self._counted(self._replay)),
            web.get("/v1/streams", guarded(self._streams)),
            web.get("/v1/streams/{stream}", guarded(self._stream)),
        ]

    @contextmanager
    def answering(self, size_bytes: int) -> Iterator[None]:
        """Count what is admitted without being a request of its own; `draining`, `too_many_requests`."""
        if self.draining:
            raise PenstockError("draining", "this gateway is stopping; send again", retry_after_s=1.0)
        self._in_flight.hold(size_bytes)
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1
            self._in_flight.release(size_bytes)

    def _counted(self, handler: Handler) -> Handler:
        async def reply(request: web.Request) -> web.StreamResponse:
            self.requests += 1
            try:
                if self.draining:
                    raise PenstockError("draining", "this gateway is stopping; send again", retry_after_s=1.0)
                return await handler(request)
            except PenstockError as error:
                metrics.REFUSED_REQUESTS.labels(error.code).inc()
                return problem(error)
            finally:
                self.requests -= 1

        return reply

    async def _events(self, request: web.Request) -> web.StreamResponse:
        await self._access.require(request, _WRITE, writes=request.match_info["stream"])
        headers = request.headers
        held_bytes = self._in_flight.hold(request.content_length or 0)
        try:
            body = await self._body(request, self._settings.body_max_bytes)
            encoding = headers.get("Content-Encoding")
            if encoding is not None:
                body = decompress(body, encoding, self._settings.body_max_bytes)
            if len(body) != held_bytes:
                held_bytes = self._in_flight.hold(len(body), held_bytes)
            form = form_of(body, headers.get("Content-Type", ""))
            stream, trace = request.match_info["stream"], current_trace()
            accepted = await self._gateway.accept(stream, body, form, trace=trace)
            if trace:
                describe_accepted(accepted, stream=stream, trace=trace)
        finally:
            self._in_flight.release(held_bytes)
        return _reply(accepted)

    async def _watermark(self, request: web.Request) -> web.StreamResponse:
        await self._access.require(request, _WRITE, writes=request.match_info["stream"])
        body = await self._body(request, _WATERMARK_MAX_BYTES)
        try:
            through_ms = read_timestamp_ms(msgspec.json.decode(body, type=_Through).through)
        except (msgspec.MsgspecError, ValueError) as error:
            raise PenstockError("bad_request", f'send {{"through": timestamp}}: {error}') from None
        positions = await self._gateway.complete(request.match_info["stream"], through_ms)
        return _json({"through": write_timestamp(through_ms), "positions": positions})

    async def _replay(self, request: web.Request) -> web.StreamResponse:
        """For the processor in another process, on behalf of its caller: `{"id", "raw": base64}`, then as `_events`.

        The event itself is read from the log, so that nobody can have another one marked as replayed.
        """
        await self._access.require(request, _ADMIN)
        body = await self._body(request, _REPLAY_HEAD_BYTES + 2 * self._settings.event_max_bytes)
        try:
            wanted = msgspec.json.decode(body, type=_Replay)
        except msgspec.MsgspecError as error:
            raise PenstockError("bad_request", f'send {{"id", "raw": base64}}: {error}') from None
        where = RejectedFilter(ids=(wanted.id,), include_replayed=True, limit=1)
        for event in await self._log.rejected(where):
            return _json(await self._gateway.replay_admission(event, wanted.raw))
        raise PenstockError("not_found", f"there is no rejected event '{wanted.id[:80]}'")

    async def _streams(self, request: web.Request) -> web.StreamResponse:
        await self._require_any(request)
        catalog = await self._log.catalog()
        sources = [spec for spec in catalog.streams.values() if spec.relation is Relation.SOURCE]
        return _json({"streams": [_describe(spec) for spec in sorted(sources, key=lambda spec: spec.name)]})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        await self._require_any(request)
        return _json(_describe(source_of((await self._log.catalog()).streams, request.match_info["stream"])))

    async def _require_any(self, request: web.Request) -> None:
        try:
            await self._access.require(request, _WRITE)
        except PenstockError as error:
            if error.code != "insufficient_scope":
                raise
            await self._access.require(request, _READ)

    async def _body(self, request: web.Request, max_bytes: int) -> bytes:
        """The body, read no further than `max_bytes`; the application's own limit does not matter here."""
        announced_bytes = request.content_length
        if announced_bytes is not None and announced_bytes > max_bytes:
            raise _too_large(max_bytes)
        parts: list[bytes] = []
        size_bytes = 0
        try:
            while part := await request.content.readany():
                size_bytes += len(part)
                if size_bytes > max_bytes:
                    raise _too_large(max_bytes)
                parts.append(part)
                if size_bytes == announced_bytes:
                    break
        except (web.RequestPayloadError, web.HTTPException) as error:
            raise PenstockError("bad_request", f"the body cannot be read: {error}") from None
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _reply(accepted: Accepted) -> web.Response:
    """200 if all went well, 207 if some events were rejected, 422 problem details with the same members if all."""
    refusal = accepted.refusal()
    if refusal is not None:
        return problem(refusal)
    return _json(accepted.as_json(), status=207 if accepted.rejected else 200)


def _json(body: object, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encode(body), headers=_JSON)


def _too_large(max_bytes: int) -> PenstockError:
    return PenstockError("too_large", f"the body is longer than {max_bytes} bytes; send fewer events a request")


def _describe(spec: StreamSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "app": spec.app,
        "columns": [
            {"name": column.name, "type": str(column.type), "nullable": column.nullable} for column in spec.columns
        ],
        "primary_key": spec.primary_key,
        "time_column": spec.time_column,
        "key": spec.key,
        "partitions": spec.partitions,
        "dedupe": spec.dedupe,
        "unknown": spec.unknown,
    }
