"""Many sockets: what an idle one costs, how old events are at a steady load, a stalled one, a rush of reconnects."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from loadtests import apps
from loadtests.fanout_rig import SERVER_CORE, CrowdProcess, FanoutBench, Producer
from loadtests.machine import measure_fsync, resident_bytes
from loadtests.sections import Figure, spread
from loadtests.system import System, running

__all__ = ["idle", "posted", "reconnect", "stalled", "steady", "where_wso2_fails"]

IDLE_SOCKETS, STEADY_SOCKETS, STALLED_SOCKETS, RECONNECTING_SOCKETS, WSO2_SOCKETS = 50_000, 10_000, 200, 5_000, 1_000
STALLED_PER_S = 50.0
#: 5,000 events a second: batches a second, and events of each.
POSTED_SOCKETS, POSTS_PER_S, ROWS_A_POST = 1_000, 100.0, 50
#: Every so manieth of the subscribers of everything measures: reading each time of 5,000,000 a second takes a core.
POSTED_TIMED_EVERY = 100
#: So many different filters, each with its share of the events and of the subscribers.
FILTERS = 20
WARM_SOCKETS = 50
SETTLE_S = 1.5
#: Bytes of a note that make an envelope of about 500.
WSO2_NOTE_BYTES = 400


def idle(bench: FanoutBench) -> Sequence[Figure]:
    """Resident memory of the server for each idle subscriber, plain and with compression agreed on."""
    sockets, note = bench.crowd_of(IDLE_SOCKETS)
    figures = []
    for name, extensions in (("plain", ""), ("compressed", "permessage-deflate")):
        with running(bench.folder / f"idle-{name}", apps.ECHO, core=SERVER_CORE) as system:
            warm = CrowdProcess.of(system, "pongs", WARM_SOCKETS, extensions=extensions)
            time.sleep(SETTLE_S)
            before = resident_bytes(system.pid)
            crowd = CrowdProcess.of(system, "pongs", sockets - WARM_SOCKETS, extensions=extensions)
            time.sleep(SETTLE_S)
            each = (resident_bytes(system.pid) - before) / crowd.sockets / 1024
            figures.append(
                Figure(f"memory of an idle subscriber, {name}, {sockets:,}", each, "KiB", "<= 16", None, note)
            )
            rate = crowd.sockets / crowd.connect_s
            figures.append(Figure(f"connects, {name}", rate, "connects/s", "", None, f"{crowd.refused} refused"))
            crowd.close()
            warm.close()
    return figures


def steady(bench: FanoutBench) -> Sequence[Figure]:
    """10,000 subscribers at one message a second each."""
    return _at_a_pace(bench, "1 a second", STEADY_SOCKETS, per_s=1.0, note_bytes=24)


def where_wso2_fails(bench: FanoutBench) -> Sequence[Figure]:
    """1,000 subscribers at 10 a second of 500 bytes each, where WSO2's own test begins to fail on 2 cores."""
    return _at_a_pace(bench, "10 a second of 500 B", WSO2_SOCKETS, per_s=10.0, note_bytes=WSO2_NOTE_BYTES)


def stalled(bench: FanoutBench) -> Sequence[Figure]:
    """What one subscriber that does not read does to the p99 of the others: without and with it, alternating."""
    sockets, note = bench.crowd_of(STALLED_SOCKETS)
    alone: list[float] = []
    beside: list[float] = []
    with running(bench.folder / "stalled", apps.ECHO, core=SERVER_CORE) as system:
        for _ in range(bench.rounds):
            for found, count in ((alone, 0), (beside, 1)):
                crowd = CrowdProcess.of(system, "pongs", sockets, timed_every=1, stalled=count)
                figures = _paced(system, crowd, per_s=STALLED_PER_S, seconds=bench.seconds, note_bytes=4_000)
                found.append(figures["p99_ms"])
                crowd.close()
    ratio = statistics.median(beside) / statistics.median(alone)
    what = f"p99 of {sockets} subscribers, {STALLED_PER_S:g} a second of 4 KB"
    return [
        Figure(what, statistics.median(alone), "ms", "", spread(alone), note),
        Figure(f"{what}, beside a stalled one", statistics.median(beside), "ms", "", spread(beside)),
        Figure("with / without a stalled subscriber", ratio, "ratio", "< 1.1", max(spread(alone), spread(beside))),
    ]


def posted(bench: FanoutBench) -> Sequence[Figure]:
    """From a POST to 1,000 sockets at 5,000 events a second (100 POSTs of 50): each gets its share by one of 20
    filters (250,000 deliveries a second), then each gets everything (5,000,000).
    """
    sockets, note = bench.crowd_of(POSTED_SOCKETS)
    fsync = measure_fsync(bench.folder)
    note = "; ".join(filter(None, (f"fsync p99 {fsync.p99_ms} ms", note)))
    by_filter: dict[str, Any] = {"query": f"&filter=MOD(n,{FILTERS})={{share}}", "shares": FILTERS, "timed_every": 1}
    figures: list[Figure] = []
    everything: dict[str, Any] = {"timed_every": POSTED_TIMED_EVERY}
    for name, options in (("a share each", by_filter), ("all to each", everything)):
        rounds: list[dict[str, Any]] = []
        shares = int(options.get("shares", 1))
        with running(bench.folder / f"posted-{shares}", apps.ECHO, core=SERVER_CORE) as system:
            crowd = CrowdProcess.of(system, "pongs", sockets, **options)
            for _ in range(bench.rounds):
                found = _paced(system, crowd, per_s=POSTS_PER_S, seconds=bench.seconds, rows=ROWS_A_POST)
                found["missed"] = found["sent"] // shares - found["least"] + found["lost"]
                rounds.append(found)
            crowd.close()
        what = f"{sockets:,} subscribers, {POSTS_PER_S * ROWS_A_POST:,.0f} events a second, {name}"
        rates = [found["sent"] / bench.seconds for found in rounds]
        p50, p99 = ([found[percentile] for found in rounds] for percentile in ("p50_ms", "p99_ms"))
        limit = f"< {3 * fsync.p99_ms + 15:.1f}"
        figures += [
            Figure(f"{what}: accepted", statistics.median(rates), "events/s", "", spread(rates)),
            Figure(f"{what}: missed or late", max(found["missed"] for found in rounds), "events", "0", None),
            Figure(f"{what}: p50", statistics.median(p50), "ms", "< 5", spread(p50)),
            Figure(f"{what}: p99", statistics.median(p99), "ms", limit, spread(p99), note),
        ]
    return figures


def reconnect(bench: FanoutBench) -> Sequence[Figure]:
    """All subscribers drop their connections and come back at once: seconds until the last one is back."""
    sockets, note = bench.crowd_of(RECONNECTING_SOCKETS)
    seconds: list[float] = []
    with running(bench.folder / "reconnect", apps.ECHO, core=SERVER_CORE) as system:
        crowd = CrowdProcess.of(system, "pongs", sockets)
        refused = 0
        for _ in range(bench.rounds):
            found = crowd.ask("reconnect")
            seconds.append(found["seconds"])
            refused = max(refused, found["refused"])
            Producer(system).post(1)
            time.sleep(SETTLE_S)
            if crowd.report()["least"] < 1:
                raise RuntimeError("a subscriber that came back got nothing")
        crowd.close()
    note = "; ".join(filter(None, (f"{refused} refused and tried again", note)))
    return [Figure(f"{sockets:,} reconnect", statistics.median(seconds), "s", "< 5", spread(seconds), note)]


def _at_a_pace(bench: FanoutBench, name: str, wanted: int, *, per_s: float, note_bytes: int) -> Sequence[Figure]:
    sockets, note = bench.crowd_of(wanted)
    rounds: list[dict[str, Any]] = []
    with running(bench.folder / f"paced-{wanted}", apps.ECHO, core=SERVER_CORE) as system:
        crowd = CrowdProcess.of(system, "pongs", sockets, timed_every=1)
        for _ in range(bench.rounds):
            rounds.append(_paced(system, crowd, per_s=per_s, seconds=bench.seconds, note_bytes=note_bytes))
        crowd.close()
    what = f"{sockets:,} subscribers, {name}"
    missed = sum(found["missed"] for found in rounds)
    size_bytes = rounds[0]["bytes"] / max(1, rounds[0]["events"])
    note = "; ".join(filter(None, (f"{size_bytes:.0f} bytes an event", note)))
    figures = [Figure(f"{what}: missed or lost", missed, "events", "0", None, note)]
    for percentile in ("p50_ms", "p99_ms", "max_ms"):
        values = [found[percentile] for found in rounds]
        figures.append(
            Figure(f"{what}: {percentile[:-3]} POST to socket", statistics.median(values), "ms", "", spread(values))
        )
    return figures


def _paced(
    system: System, crowd: CrowdProcess, *, per_s: float, seconds: float, note_bytes: int = 24, rows: int = 1
) -> dict[str, Any]:
    """Post at a pace; the crowd's report with how many events were sent and how many are missing."""
    crowd.report()
    sent = Producer(system, note_bytes=note_bytes).pace(per_s, seconds, rows=rows)
    time.sleep(SETTLE_S)
    found = crowd.report()
    found["sent"] = sent
    found["missed"] = sent - found["least"] + found["lost"]
    return found
