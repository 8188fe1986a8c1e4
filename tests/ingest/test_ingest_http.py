"""The ingest routes over a real socket: replies, codes, limits, positions."""

from __future__ import annotations

from ingest_edge import Edge

GOOD = {"id": "1", "market": "Bagepalli", "price": 385.5, "lots": 3, "ts": "2018-01-01 00:00:00"}


async def test_an_object_is_accepted_and_stored_as_received(edge: Edge) -> None:
    body = b'{"id":"1", "price": 1.50e0, "x": 12345678901234567890, "x": 2, "ts":"2018-01-01"}'
    status, reply = await edge.post(body)
    assert (status, reply["accepted"], reply["duplicate"], reply["rejected"]) == (200, 1, 0, 0)
    assert reply["errors"] == [] and len(reply["positions"]) == 1
    assert await edge.stored() == [body]
