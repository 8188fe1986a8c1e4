"""One run: start an arrangement, load it, do it harm, let it heal and drain, read every exit, judge."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ledger.calls import Tokens
from ledger.checker import check
from ledger.events import GOOD, REFUSED, is_large
from ledger.followers import Followers
from ledger.load import Load, LoadPlan
from ledger.nemesis import Arrangement, Mixture, Nemesis, plan
from ledger.reads import close_windows, drain, read_everything
from ledger.records import OK, Recorder, Records, load
from ledger.verdict import Goal, Verdict, judge

__all__ = ["APP", "Run", "run_ledger"]

APP = Path(__file__).with_name("ledger.sql")
#: Event time that closes every window: past the watermark's delay and the last hour.
_BEYOND_MS = 6 * 3_600_000


@dataclass(frozen=True, slots=True)
class Run:
    """What is done to an arrangement. `in_flight_share`: of the kills, how many must have met an open request."""

    seed: int
    load: LoadPlan
    mixture: Mixture = field(default_factory=lambda: Mixture(kills=0))
    in_flight_share: float = 0.75
    drain_s: float = 60.0

    def goal(self, arrangement: Arrangement) -> Goal:
        """What makes the verdict mean something."""
        mixture = self.mixture
        crashes = mixture.crashes * len(arrangement.servers)
        in_flight = round(mixture.kills * self.in_flight_share)
        return Goal(self.load.events, mixture.kills, in_flight, mixture.pauses, crashes)


def run_ledger(arrangement: Arrangement, run: Run, folder: Path) -> Verdict:
    """The verdict; its summary is printed with the seed that draws the same plan again."""
    started_s = time.monotonic()
    steps = plan(run.seed, arrangement.targets, arrangement.servers, run.mixture)
    recorder = Recorder(folder / "ledger")
    tokens = Tokens(arrangement.door, arrangement.client)
    followers = Followers(arrangement.follow_urls, tokens, recorder)
    traffic = Load(run.load, seed=run.seed, urls=arrangement.ingest_urls, tokens=tokens, recorder=recorder)
    arrangement.start()
    try:
        followers.start()
        traffic.start()
        Nemesis(
            arrangement,
            steps,
            seed=run.seed,
            recorder=recorder,
            events=run.load.events,
            release=traffic.release,
        ).run()
        traffic.finish()
        loaded_s = time.monotonic()
        close_windows(arrangement.door, tokens, traffic.last_ms() + _BEYOND_MS)
        drained_s = drain(arrangement.door, tokens, followers, _wanted(load(recorder.folder)), run.drain_s)
        followers.stop()
        read_everything(arrangement.door, tokens, recorder)
    except BaseException:
        print(arrangement.report(), file=sys.stderr, flush=True)
        traffic.abandon()
        followers.leave()
        raise
    finally:
        arrangement.stop()
        recorder.close()
    records = load(recorder.folder)
    verdict = judge(records, check(records), run.goal(arrangement))
    verdict.figures = {
        "arrangement": arrangement.name,
        "seed": run.seed,
        "seconds": round(time.monotonic() - started_s, 1),
        "of load": round(loaded_s - started_s, 1),
        "to drain": round(drained_s, 1),
        **verdict.figures,
    }
    print(verdict.summary(), file=sys.stderr, flush=True)
    return verdict


def _wanted(records: Records) -> Counter[str]:
    """Exit -> acknowledged events that belong there."""
    statuses = records.statuses()
    wanted: Counter[str] = Counter()
    for event in records.events.values():
        if statuses[event.id] == OK and event.kind != REFUSED:
            wanted["quotas"] += event.kind == GOOD
            wanted["large"] += is_large(event)
    doors = {"socket": ("large", "quotas"), "sse": ("large",), "store": ("large", "quotas")}
    return Counter({f"{door}.{name}": wanted[name] for door, names in doors.items() for name in names})
