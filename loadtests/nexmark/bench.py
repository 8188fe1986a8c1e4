"""`make bench-nexmark`: events a second and core of Nexmark, in Penstock and in Apache Flink, and the ratio.

    PYTHONPATH=tests python -m loadtests.nexmark.bench [QUERY ...] [--seconds 60] [--rounds 2] [--events FEWER MORE]

Both read the same NDJSON files and forget what they give. Both have one core (`taskset`), the same for both, and take
turns. A rate is the slope between two sizes of files, (more - fewer events) / (longer - shorter time), so that
start-up is taken out; a job over the smaller files warms Flink's JVM before. The larger files of a query are the
least power of two of half a million events over which Flink runs `--seconds` (a short job tells how fast it is), at
most `--events-max`; the smaller ones have an eighth of that. The spread is of a system against itself over the
rounds. Flink is the one of the goldens (`make golden` installs it), in one JVM, with mini-batches and object reuse as
its own Nexmark suite sets them. Results go to loadtests/results/nexmark.json as well.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from golden.regenerate import flink_python

from loadtests.machine import describe_machine, pinned
from loadtests.nexmark.events import Files, write_files
from loadtests.nexmark.suite import NexmarkQuery, queries
from loadtests.sections import slope, spread
from loadtests.system import PROGRAM

RESULTS = Path(__file__).parents[1] / "results" / "nexmark.json"
_ROOT = Path(__file__).parents[2]
_CORE = 0
_TARGET = 3.0
_EVENTS_MIN = 500_000  # of the larger files, and of the job that tells how fast Flink is
_PROBE_S = 0.5  # so much longer the larger files of that job take at least
_SMALLER = 8  # the smaller files have one event of so many


def main() -> int:
    """Measure the queries asked for and print a line each, then the mean of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {query.name: query for query in queries()}
    parser.add_argument("query", nargs="*", choices=[*known, []], help="default: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long Flink runs over the larger files")
    parser.add_argument("--events-max", type=int, default=64_000_000, help="largest files (about 200 bytes an event)")
    parser.add_argument(
        "--events", nargs=2, type=int, metavar=("FEWER", "MORE"), help="the same files for all queries"
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--without-flink", action="store_true")
    chosen = parser.parse_args()
    rows = []
    print(f"machine: {json.dumps(describe_machine())}; {chosen.rounds} rounds")
    with tempfile.TemporaryDirectory(prefix="penstock-nexmark-") as folder:
        files = _Written(Path(folder))
        for name in chosen.query or list(known):
            query = known[name]
            more = chosen.events[1] if chosen.events else _enough(query, files, chosen.seconds, chosen.events_max)
            sizes = [files.of(chosen.events[0] if chosen.events else more // _SMALLER), files.of(more)]
            row = _measured(query, sizes, rounds=chosen.rounds, flink=not chosen.without_flink)
            rows.append(row)
            print(_line(row), flush=True)
    ratios = [row["ratio"] for row in rows if "ratio" in row]
    if ratios:
        print(f"geometric mean of the ratios: {statistics.geometric_mean(ratios):.2f} (target: each >= {_TARGET})")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"machine": describe_machine(), "rounds": chosen.rounds, "rows": rows}, indent=1) + "\n"
    )
    return 0


class _Written:
    """Files by their number of events, each written once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, Files] = {}

    def of(self, events: int) -> Files:
        """The files with the first `events` events."""
        if events not in self._files:
            self._files[events] = write_files(self._folder / str(events), events)
        return self._files[events]


def _enough(query: NexmarkQuery, files: _Written, seconds: float, events_max: int) -> int:
    """Events over which Flink runs at least so many seconds, or the largest number allowed."""
    probe = _EVENTS_MIN
    while True:
        shorter, longer = _flink(query, [files.of(probe // _SMALLER), files.of(probe)])
        if longer - shorter >= _PROBE_S or probe * 4 > events_max:
            break
        probe *= 4  # the noise of a start is as long as the job: a larger one
    rate = probe * (1 - 1 / _SMALLER) / max(longer - shorter, _PROBE_S / 10)
    events = _EVENTS_MIN
    while events < rate * seconds and events * 2 <= events_max:
        events *= 2
    return events


def _measured(query: NexmarkQuery, sizes: list[Files], *, rounds: int, flink: bool) -> dict[str, Any]:
    """Median rates of the rounds, in turns."""
    ours, theirs = [], []
    more = sizes[1].events - sizes[0].events
    flink_s = []
    for _ in range(rounds):
        ours.append(more / slope([_penstock(query, files) for files in sizes]))
        if flink:
            took_s = _flink(query, sizes)
            theirs.append(more / slope(took_s))
            flink_s.append(took_s[-1])
    row: dict[str, Any] = {"query": query.name, "penstock": statistics.median(ours), "penstock_spread": spread(ours)}
    row["events"] = sizes[1].events
    if theirs:
        row |= {"flink": statistics.median(theirs), "flink_spread": spread(theirs), "flink_s": min(flink_s)}
        row["ratio"] = row["penstock"] / row["flink"]
    return row


def _penstock(query: NexmarkQuery, files: Files) -> float:
    """Seconds of `penstock eval`, as it measures itself: from the first byte read to the end."""
    options = "'connector' = 'penstock', 'dedupe' = 'none'"
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as app:
        app.write(query.text(sources=dict.fromkeys(query.sources, options), sink="'connector' = 'penstock'"))
        app.flush()
        inputs = [part for name in query.sources for part in ("--input", f"{name}={files.of(name)}")]
        command = [
            *pinned(_CORE),
            str(PROGRAM),
            "eval",
            app.name,
            *inputs,
            "--output",
            f"answers={os.devnull}",
            "--stats",
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "POLARS_MAX_THREADS": "1"}
        )
    return float(json.loads(done.stderr.strip().splitlines()[-1])["seconds"])


def _flink(query: NexmarkQuery, sizes: list[Files]) -> list[float]:
    """Seconds of the job over each size, in one JVM that an earlier job has warmed."""
    folders = [str(files.bid.parent) for files in (sizes[0], *sizes)]
    command = [*pinned(_CORE), str(flink_python()), "-m", "loadtests.nexmark.on_flink", query.name, *folders]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=_ROOT, env={**os.environ, "PYTHONPATH": str(_ROOT)}
    )
    if done.returncode:
        sys.exit(f"{query.name} in Flink: {done.stderr[-2000:]}")
    return [json.loads(line)["seconds"] for line in done.stdout.splitlines() if line.startswith("{")][1:]


def _line(row: dict[str, Any]) -> str:
    line = f"{row['query']:4} Penstock {row['penstock']:>12,.0f} events/s ± {row['penstock_spread']:.0%} A/A"
    if "ratio" in row:
        line += f"   Flink {row['flink']:>10,.0f} ± {row['flink_spread']:.0%}   ratio {row['ratio']:.2f}"
        line += f"   ({row['events'] / 1e6:g} M events, Flink {row['flink_s']:.0f} s)"
    return line


if __name__ == "__main__":
    sys.exit(main())
