"""Replay of events that admission rejected."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ingest_edge import Edge

from penstock.errors import PenstockError
from penstock.ports.log import RejectedFilter

_BAD = b'{"id":"1","ts":"2018-01-01","price":"12.5"}'
_GOOD = b'{"id":"1",\n"ts":"2018-01-01","price":12.5}'


async def test_a_corrected_event_is_appended_and_marked_in_one_step(edge: Edge) -> None:
    await edge.lines(_BAD)
    (event,) = await edge.rejected()
    reply = await edge.role.replay_admission(event, _GOOD)
    assert (reply["accepted"], reply["duplicate"], reply["rejected"]) == (1, 0, 0)
    assert await edge.stored() == [_GOOD.replace(b"\n", b" ")]
    assert await edge.rejected() == []
    (event,) = await edge.log.rejected(RejectedFilter(include_replayed=True))
    assert event.replayed_at_ms == edge.clock.now_ms()
    with pytest.raises(PenstockError, match="replayed already"):
        await edge.role.replay_admission(event, _GOOD)
    assert len(await edge.stored()) == 1


async def test_an_event_that_is_still_bad_stays_as_it_was(edge: Edge) -> None:
    await edge.lines(_BAD)
    (event,) = await edge.rejected()
    reply = await edge.role.replay_admission(event, _BAD)
    assert (reply["accepted"], reply["rejected"]) == (0, 1)
    assert await edge.rejected() == [event] and await edge.stored() == []
    with pytest.raises(PenstockError, match="bad_json"):
        await edge.role.replay_admission(event, b"{")


async def test_an_event_whose_id_came_meanwhile_is_a_duplicate_and_done(edge: Edge) -> None:
    await edge.lines(_BAD)
    (event,) = await edge.rejected()
    await edge.post(_GOOD)
    reply = await edge.role.replay_admission(event, _GOOD)
    assert (reply["accepted"], reply["duplicate"]) == (0, 1)
    assert len(await edge.stored()) == 1 and await edge.rejected() == []


async def test_an_event_that_a_statement_rejected_is_not_replayed_here(edge: Edge) -> None:
    await edge.lines(_BAD)
    (event,) = await edge.rejected()
    with pytest.raises(PenstockError, match="not at admission"):
        await edge.role.replay_admission(replace(event, statement="cheap_lots"), _GOOD)
