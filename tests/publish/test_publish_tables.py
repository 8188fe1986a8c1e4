"""Table topics: current rows first, then changes, without a hole; deletions, open windows, filters."""

import asyncio
import json

import pytest
from publish.conftest import Gateway, events, receive, totals_batch

from penstock.model.batch import Op
from penstock.model.position import Cursor

DAY, NEXT = "2018-01-01", "2018-01-02"
PUT, UPD, DEL = Op.INSERT, Op.UPDATE_AFTER, Op.DELETE


async def three_changes(gateway: Gateway) -> None:
    """Offsets 0 to 3 are in the store, 4 only in the log."""
    first = totals_batch([("north", DAY, 1, PUT, True), ("south", DAY, 2, PUT, False), ("north", DAY, 5, UPD, False)])
    second = totals_batch([("south", DAY, None, DEL, False)])
    third = totals_batch([("west", NEXT, 7, PUT, True)])
    await gateway.commit(first)
    await gateway.commit(second)
    await gateway.apply(0, first)
    await gateway.apply(3, second)
    await gateway.commit(third)


def row(offset: int, region: str, day: str, total: int | None, *, op: str, complete: bool) -> dict[str, object]:
    columns: dict[str, object] = {"region": region, "day": day}
    if op != "-D":
        columns["sum_n"] = total
    key = json.dumps([region, day], separators=(",", ":"))
    cursor = Cursor("totals", 1, (offset,)).text()
    return {"t": "totals", "c": cursor, "k": key, "op": op, "complete": complete, "d": columns}


async def test_changes_carry_op_complete_and_a_composite_key(gateway):
    async with gateway.subscribe("totals") as ws:
        await three_changes(gateway)
        assert await events(ws, 5) == [
            row(1, "north", DAY, 1, op="+I", complete=False),
            row(2, "south", DAY, 2, op="+I", complete=True),
            row(3, "north", DAY, 5, op="+U", complete=True),
            row(4, "south", DAY, None, op="-D", complete=True),
            row(5, "west", NEXT, 7, op="+I", complete=False),
        ]


async def test_earliest_starts_with_the_current_rows_then_the_changes_that_they_do_not_hold(gateway):
    await three_changes(gateway)
    async with gateway.subscribe("totals", after="earliest") as ws:
        assert await events(ws, 2) == [
            row(4, "north", DAY, 5, op="+I", complete=True),
            row(5, "west", NEXT, 7, op="+I", complete=False),
        ]
        await gateway.commit(totals_batch([("west", NEXT, 9, UPD, False)]))
        assert await events(ws, 1) == [row(6, "west", NEXT, 9, op="+U", complete=True)]


async def test_a_table_that_is_not_in_the_store_yet_starts_with_the_log(gateway):
    await gateway.commit(totals_batch([("north", DAY, 1, PUT, True)]))
    async with gateway.subscribe("totals", after="earliest") as ws:
        assert await events(ws, 1) == [row(1, "north", DAY, 1, op="+I", complete=False)]


async def many_rows(gateway: Gateway, count: int) -> None:
    batch = totals_batch([(f"r{n}", DAY, n, PUT, False) for n in range(count)])
    await gateway.commit(batch)
    await gateway.apply(0, batch)


@pytest.mark.parametrize("stop_at", [1, 700, 1_000, 1_001, 2_499])
async def test_whoever_leaves_in_the_middle_of_the_rows_gets_the_others_and_every_change(gateway, stop_at):
    await many_rows(gateway, 2_500)
    async with gateway.subscribe("totals", after="earliest") as ws:
        got = await events(ws, stop_at)
    await gateway.commit(totals_batch([("r1", DAY, 100, UPD, False), ("r2", DAY, None, DEL, False)]))
    await gateway.commit(totals_batch([("new", DAY, 5, PUT, False)]))
    async with gateway.subscribe("totals", after=got[-1]["c"]) as ws:
        got += await events(ws, 2_500 - stop_at + 3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ws.recv(), 0.05)
    table: dict[str, object] = {}
    for event in got:
        if event["op"] == "-D":
            table.pop(event["k"], None)
        else:
            table[event["k"]] = event["d"]["sum_n"]
    expected = {json.dumps([f"r{n}", DAY], separators=(",", ":")): n for n in range(2_500) if n != 2}
    expected |= {f'["r1","{DAY}"]': 100, f'["new","{DAY}"]': 5}
    assert table == expected


async def test_a_page_of_current_rows_leads_to_the_next_and_then_to_the_changes(gateway, http):
    await many_rows(gateway, 250)
    await gateway.commit(totals_batch([("r0", DAY, 9, UPD, True)]))
    url, after, pages = f"{gateway.url}/v1/topics/totals", "earliest", []
    for _ in range(5):
        async with http.get(url, params={"after": after, "limit": "100"}, headers=gateway.headers()) as reply:
            page = await reply.json()
        pages.append(page["events"])
        after = page["next"]
    assert [len(page) for page in pages] == [100, 100, 51, 0, 0]
    assert len({event["k"] for page in pages for event in page}) == 250
    assert pages[2][-1] == row(251, "r0", DAY, 9, op="+U", complete=False)


async def test_a_filter_selects_rows_and_changes_and_lets_bare_deletions_pass(gateway):
    await many_rows(gateway, 10)
    async with gateway.subscribe("totals", after="earliest", filter="sum_n >= 8") as ws:
        assert {event["d"]["region"] for event in await events(ws, 2)} == {"r8", "r9"}
        changes = [("r8", DAY, 3, UPD, False), ("r9", DAY, 20, UPD, False), ("r8", DAY, None, DEL, False)]
        await gateway.commit(totals_batch(changes))
        assert [(e["op"], e["d"]["region"]) for e in await events(ws, 2)] == [("+U", "r9"), ("-D", "r8")]


async def test_whoever_has_seen_the_open_notice_only_can_resume_from_it(gateway):
    await three_changes(gateway)
    async with gateway.subscribe("totals", after="earliest") as ws:
        [opened] = await receive(ws, 1)
    assert (opened["sys"], opened["t"]) == ("open", "totals")
    current = [
        row(4, "north", DAY, 5, op="+I", complete=True),
        row(5, "west", NEXT, 7, op="+I", complete=False),
    ]
    for _ in range(2):
        async with gateway.subscribe("totals", after=opened["c"]) as ws:
            assert await receive(ws, 1) == [opened]
            assert await events(ws, 2) == current


async def test_the_open_notice_of_who_resumes_in_the_middle_of_the_rows_is_that_place(gateway):
    await many_rows(gateway, 1_500)
    async with gateway.subscribe("totals", after="earliest") as ws:
        got = await events(ws, 900)
    async with gateway.subscribe("totals", after=got[-1]["c"]) as ws:
        [opened] = await receive(ws, 1)
    async with gateway.subscribe("totals", after=opened["c"]) as ws:
        got += await events(ws, 600)
    assert len({event["k"] for event in got}) == 1_500


async def test_the_end_of_a_gap_that_rows_follow_is_before_them(gateway):
    await three_changes(gateway)
    old = Cursor("totals", 0, (2,)).text()
    async with gateway.subscribe("totals", after=old) as ws:
        _, gap = await receive(ws, 2)
    assert (gap["sys"], gap["from"]) == ("gap", old)
    async with gateway.subscribe("totals", after=gap["to"]) as ws:
        assert [event["k"] for event in await events(ws, 2)] == [f'["north","{DAY}"]', f'["west","{NEXT}"]']
