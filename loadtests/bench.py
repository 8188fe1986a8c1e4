"""`make bench`: the rows of the design's speed table that apply, each with its spread against itself.

    python -m loadtests.bench [SECTION ...] [--seconds 4] [--rounds 3] [--whole-minutes 1]

A figure is the median of the rounds; the spread is (greatest - least) / median of the same thing measured again and
again (A/A). Ratios to a baseline (A/B) alternate A and B in one run. Servers run on core 0, generators on core 1,
unless a section says otherwise. Results go to loadtests/results/latest.json as well.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from loadtests import sections, stream_rows, whole_rows
from loadtests.machine import describe_machine, measure_fsync

RESULTS = Path(__file__).parent / "results" / "latest.json"
SECTIONS: dict[str, Callable[[sections.Bench], Sequence[sections.Figure]]] = {
    "post": sections.single_post,
    "socket": stream_rows.single_by_socket,
    "ndjson": sections.ndjson_post,
    "eval": sections.eval_against_polars,
    "fanout": sections.fan_out,
    "latency": sections.post_to_socket,
    "start": sections.start_and_memory,
    "whole": sections.whole_system,
    "arrangements": whole_rows.arrangements,
}
ONLY_IF_NAMED = {"arrangements"}  # starts a database and a broker


def main() -> int:
    """Run the sections asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="*", choices=[*SECTIONS, []], help="default: all but arrangements")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--whole-minutes", type=float, default=1.0, help="of the whole system, of each arrangement")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends with us
    figures: list[sections.Figure] = []
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        bench = sections.Bench(Path(folder), chosen.seconds, chosen.rounds, chosen.whole_minutes)
        fsync = measure_fsync(bench.folder)
        print(f"machine: {json.dumps(describe_machine())}")
        print(f"fsync of 4 KiB: p50 {fsync.p50_ms} ms, p99 {fsync.p99_ms} ms")
        for name in chosen.section or [name for name in SECTIONS if name not in ONLY_IF_NAMED]:
            found = SECTIONS[name](bench)
            for figure in found:
                print(row(figure), flush=True)
            figures += found
    document: dict[str, Any] = {
        "machine": describe_machine(),
        "fsync": {"p50_ms": fsync.p50_ms, "p99_ms": fsync.p99_ms},
        "figures": [figure.as_json() for figure in figures],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def row(figure: sections.Figure) -> str:
    """One line for a person."""
    spread = f"± {figure.spread:.0%} A/A" if figure.spread is not None else ""
    measured = f"{figure.name:58} {figure.value:>14,.4g} {figure.unit:12}"
    return f"{measured} target {figure.target:22} {spread:12} {figure.note}"


if __name__ == "__main__":
    sys.exit(main())
