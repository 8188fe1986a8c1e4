"""What happens to windows while an app runs: late events, partitions out of step, silence, kills, edits.

The real engine under the real runner over the log in memory; time passes only when the test says so. Another case, a
thousand rules and one event, is in the tests of rules.
"""

from __future__ import annotations

from processor.live_rig import Live

APP = """CREATE TABLE readings (device STRING, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
WITH ('connector' = 'penstock', 'partitions' = '2', 'dedupe' = 'none', 'scan.watermark.idle-timeout' = '30 s');
CREATE TABLE minutes WITH ('connector' = 'penstock') AS
SELECT device, window_start AS w, SUM(n) AS total
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY device, window_start, window_end;
"""
EDITED = APP + "CREATE TABLE many WITH ('connector' = 'penstock') AS SELECT device, n FROM readings WHERE n > 99;\n"


async def test_a_late_event_is_rejected_with_its_text_and_changes_no_window() -> None:
    live = Live(APP)
    async with live.running():
        await live.send(0, ("a", 1, 10))
        await live.send(1, ("b", 1, 70))
        await live.send(0, ("a", 2, 70))
        assert await live.minutes() == [("a", 0, 1)]
        await live.send(0, ("a", 100, 59), ("a", 4, 61))
        await live.send(0, ("a", 8, 130))
        await live.send(1, ("b", 8, 130))
        assert sorted(await live.minutes()) == [("a", 0, 1), ("a", 1, 6), ("b", 1, 1)]
        [late] = await live.late()
        assert (late["device"], late["n"]) == ("a", 100)


async def test_partitions_out_of_step_close_windows_with_the_slower_one_and_nothing_is_late() -> None:
    live = Live(APP)
    async with live.running():
        await live.send(0, ("a", 1, 10), ("a", 2, 500))
        for second in (20, 61, 200):
            assert await live.minutes() == []
            await live.send(1, ("b", second, second))
        assert await live.minutes() == [("a", 0, 1), ("b", 0, 20), ("b", 1, 61)]
        assert await live.late() == []


async def test_a_silent_partition_holds_windows_until_it_is_idle_and_is_judged_by_the_others_when_it_wakes() -> None:
    live = Live(APP)
    async with live.running():
        await live.send(1, ("b", 1, 10))
        await live.send(0, ("a", 1, 10), ("a", 2, 90))
        await live.passes(20)
        assert await live.minutes() == []
        await live.send(0, ("a", 4, 100))
        await live.passes(20)
        await live.send(0, ("a", 8, 101))
        assert await live.minutes() == [("a", 0, 1), ("b", 0, 1)]
        await live.send(1, ("b", 100, 30), ("b", 2, 99))
        assert [event["n"] for event in await live.late()] == [100]
        await live.send(0, ("a", 0, 200))
        await live.send(1, ("b", 0, 200))
        assert (await live.minutes())[2:] == [("a", 1, 14), ("b", 1, 2)]


async def test_a_kill_in_mid_window_counts_each_event_once() -> None:
    live = Live(APP)
    async with live.running(killed=True):
        await live.send(0, ("a", 1, 10))
        await live.send(1, ("a", 2, 20))
    async with live.running(killed=True):
        await live.send(0, ("a", 4, 30))
    async with live.running():
        await live.send(0, ("a", 8, 70))
        assert await live.minutes() == []
        await live.send(1, ("a", 16, 70))
        assert await live.minutes() == [("a", 0, 7)]
        assert await live.late() == []


async def test_a_restart_needs_nothing_of_the_log_before_the_last_commit() -> None:
    live = Live(APP)
    app = APP.replace("'dedupe'", "'retention' = '1 min', 'dedupe'", 1)
    async with live.running(app, killed=True):
        await live.send(0, ("a", 1, 10), ("b", 2, 70))
        await live.send(1, ("a", 4, 20))
    await live.clock.advance(3600)
    assert await live.log.trim(await live.log.positions("live")) == 3
    assert [(await live.log.head("readings", partition)).first for partition in (0, 1)] == [2, 1]
    async with live.running(app):
        await live.send(1, ("a", 8, 70))
        assert await live.minutes() == [("a", 0, 5)]
        await live.send(0, ("b", 16, 130))
        await live.send(1, ("b", 32, 130))
        assert (await live.minutes())[1:] == [("a", 1, 8), ("b", 1, 2)]


async def test_an_app_edited_in_mid_window_keeps_what_its_unchanged_statements_know() -> None:
    live = Live(APP)
    async with live.running():
        await live.send(0, ("a", 1, 10))
    async with live.running(EDITED):
        await live.send(1, ("a", 200, 20))
    async with live.running(APP):
        await live.send(0, ("a", 4, 70))
        await live.send(1, ("a", 4, 70))
        assert await live.minutes() == [("a", 0, 201)]


async def test_a_statement_that_was_edited_in_mid_window_starts_anew() -> None:
    live = Live(APP)
    async with live.running():
        await live.send(0, ("a", 1, 10))
    async with live.running(APP.replace("SUM(n)", "SUM(n * 10)")):
        await live.send(1, ("a", 2, 20))
        await live.send(0, ("a", 4, 70))
        await live.send(1, ("a", 4, 70))
        assert await live.minutes() == [("a", 0, 20)]
