"""Single events over one WebSocket into a stream against a POST for each, on the same server."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from loadtests import apps
from loadtests.sections import CLIENT_CORE, CONNECTIONS, SERVER_CORE, Bench, Figure, spread
from loadtests.system import post_load, running, stream_load

__all__ = ["single_by_socket"]

#: Messages without a reply at once; the gateway's own limit (ingest.socket.in_flight_max) is 256.
WINDOW = 200


def single_by_socket(bench: Bench) -> Sequence[Figure]:
    """Durable single events: pipelined over one socket, and as POSTs on 16 connections, alternating."""
    with running(bench.folder / "socket", apps.INGEST.format(dedupe=""), core=SERVER_CORE) as system:
        piped, posted = [], []
        for turn in range(bench.rounds):
            job = {"port": system.port, "token": system.token, "stream": "readings", "rows": 1}
            job |= {"seconds": bench.seconds}
            piped.append(stream_load(job | {"window": WINDOW, "run": f"s{turn}"}, core=CLIENT_CORE)["requests_per_s"])
            post = job | {"connections": CONNECTIONS, "run": f"p{turn}"}
            posted.append(post_load(post, core=CLIENT_CORE)["requests_per_s"])
        settings = system.settings()
    ratio = statistics.median(piped) / statistics.median(posted)
    found = max(spread(piped), spread(posted))
    return [
        Figure("single events over one socket", statistics.median(piped), "events/s", "", spread(piped), settings),
        Figure("the same as single POSTs", statistics.median(posted), "events/s", "", spread(posted)),
        Figure("one socket / single POSTs", ratio, "ratio", "", found, f"{WINDOW} under way"),
    ]
