"""`make bench-nexmark`: events a second and core of Nexmark, in Penstock and in Apache Flink, and the ratio.

    PYTHONPATH=tests python -m loadtests.nexmark.bench [QUERY ...] [--events 1000000 4000000] [--rounds 2]

Both read the same NDJSON files and forget what they give. Both have one core (`taskset`), the same for both, and take
turns. A rate is the slope between two sizes of files, (more - fewer events) / (longer - shorter time), so that
start-up is taken out; a job over the smaller files warms Flink's JVM before. The spread is of a system against itself
over the rounds. Flink is the one of the goldens (`make golden` installs it), in one JVM, with mini-batches and object
reuse as its own Nexmark suite sets them. Results go to loadtests/results/nexmark.json as well.
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


def main() -> int:
    """Measure the queries asked for and print a line each, then the mean of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {query.name: query for query in queries()}
    parser.add_argument("query", nargs="*", choices=[*known, []], help="default: all")
    parser.add_argument("--events", nargs=2, type=int, default=(1_000_000, 4_000_000), metavar=("FEWER", "MORE"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--without-flink", action="store_true")
    chosen = parser.parse_args()
    rows = []
    print(f"machine: {json.dumps(describe_machine())}; events: {chosen.events[0]:,} and {chosen.events[1]:,}")
    with tempfile.TemporaryDirectory(prefix="penstock-nexmark-") as folder:
        sizes = [write_files(Path(folder) / str(count), count) for count in chosen.events]
        for name in chosen.query or list(known):
            row = _measured(known[name], sizes, rounds=chosen.rounds, flink=not chosen.without_flink)
            rows.append(row)
            print(_line(row), flush=True)
    ratios = [row["ratio"] for row in rows if "ratio" in row]
    if ratios:
        print(f"geometric mean of the ratios: {statistics.geometric_mean(ratios):.2f} (target: each >= {_TARGET})")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"machine": describe_machine(), "events": chosen.events, "rows": rows}, indent=1) + "\n"
    )
    return 0


def _measured(query: NexmarkQuery, sizes: list[Files], *, rounds: int, flink: bool) -> dict[str, Any]:
    """Median rates of the rounds, in turns."""
    ours, theirs = [], []
    more = sizes[1].events - sizes[0].events
    for _ in range(rounds):
        ours.append(more / slope([_penstock(query, files) for files in sizes]))
        if flink:
            theirs.append(more / slope(_flink(query, sizes)))
    row: dict[str, Any] = {"query": query.name, "penstock": statistics.median(ours), "penstock_spread": spread(ours)}
    if theirs:
        row |= {"flink": statistics.median(theirs), "flink_spread": spread(theirs)}
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
    return line


if __name__ == "__main__":
    sys.exit(main())
