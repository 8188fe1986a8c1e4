"""`POST /internal/replays`: what the processor of another process calls on behalf of whoever may administer apps."""

from __future__ import annotations

import base64
import json
from typing import Any

from ingest_edge import Edge, MakeEdge

from penstock.errors import PenstockError
from penstock.ports.log import RejectedFilter

ROUTE = "/internal/replays"
BAD = b'{"id":"1","ts":"2018-01-01","price":"12.5"}'
GOOD = b'{"id":"1","ts":"2018-01-01","price":12.5}'


async def rejected(edge: Edge) -> str:
    async with edge.http.post("/v1/streams/arrivals/events", data=BAD) as reply:
        assert reply.status == 422
    (event,) = await edge.log.rejected(RejectedFilter())
    return str(event.id)


async def replay(edge: Edge, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    async with edge.http.post(ROUTE, data=json.dumps(body)) as reply:
        return reply.status, await reply.json(content_type=None)


def corrected(id_: str, raw: bytes = GOOD) -> dict[str, Any]:
    return {"id": id_, "raw": base64.b64encode(raw).decode()}


async def test_the_corrected_bytes_are_appended_and_the_event_is_marked_once(edge: Edge):
    id_ = await rejected(edge)
    status, reply = await replay(edge, corrected(id_, BAD))
    assert (status, reply["rejected"]) == (200, 1)
    status, reply = await replay(edge, corrected(id_))
    assert (status, reply["accepted"], reply["errors"]) == (200, 1, [])
    (event,) = await edge.log.rejected(RejectedFilter(include_replayed=True))
    assert event.replayed_at_ms is not None
    assert (await replay(edge, corrected(id_)))[0] == 409


async def test_an_event_that_is_not_in_the_log_cannot_be_invented(edge: Edge):
    status, problem = await replay(edge, corrected("nobody"))
    assert (status, problem["code"]) == (404, "not_found")
    for body in ({"id": "x"}, {"id": "x", "raw": "no base64!"}, {"id": "x", "raw": "", "stream": "arrivals"}):
        assert (await replay(edge, body))[0] == 400


async def test_the_caller_must_be_allowed_to_administer_apps(make_edge: MakeEdge):
    class OnlyWrites:
        async def require(self, request: object, scope: str) -> None:
            if scope != "ingest:write":
                raise PenstockError("insufficient_scope", scope)

    edge = await make_edge(access=OnlyWrites())  # type: ignore[arg-type]  # nobody looks at the principal
    status, problem = await replay(edge, corrected("x"))
    assert (status, problem["detail"]) == (403, "apps:admin")
