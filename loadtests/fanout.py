"""`make bench-fanout`: what one publish gateway does for many WebSockets, section by section.

    python -m loadtests.fanout [SECTION ...] [--sockets N] [--seconds 10] [--rounds 3]

The server runs on core 0 with everything (ingest, processor, publish), the crowd on core 1; baselines take the
server's place in the same run. A figure is the median of the rounds, the spread is (greatest - least) / median.
Results are kept by section in loadtests/results/fanout.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from loadtests import fanout_rates, fanout_scale, fanout_workers
from loadtests.bench import row
from loadtests.fanout_rig import FanoutBench
from loadtests.machine import describe_machine
from loadtests.sections import Figure

RESULTS = Path(__file__).parent / "results" / "fanout.json"
SECTIONS: dict[str, Callable[[FanoutBench], Sequence[Figure]]] = {
    "batched": fanout_rates.batched,
    "single": fanout_rates.one_at_a_time,
    "idle": fanout_scale.idle,
    "workers": fanout_workers.workers,
    "steady": fanout_scale.steady,
    "stalled": fanout_scale.stalled,
    "reconnect": fanout_scale.reconnect,
    "posted": fanout_scale.posted,
    "wso2": fanout_scale.where_wso2_fails,
}
#: What the gateway is allowed here: the limits of the defaults are lower than these crowds.
ALLOWED = {"CONNECTIONS_MAX": 200_000, "SUBSCRIBERS_PER_TOPIC_MAX": 200_000, "CONNECTS_PER_S_MAX": 100_000}


def main() -> int:
    """Run the sections asked for and print one line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="*", choices=[*SECTIONS, []], help="default: all")
    parser.add_argument("--sockets", type=int, help="instead of the section's own number")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of one measurement of a steady load")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends with us
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    os.environ.update({f"PENSTOCK_PUBLISH__{name}": str(value) for name, value in ALLOWED.items()})
    ports = tuple(map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()))
    machine = {**describe_machine(), "open_files_max": files, "local_ports": ports}
    print(f"machine: {json.dumps(machine)}")
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory(prefix="penstock-fanout-") as folder:
        bench = FanoutBench(Path(folder), chosen.sockets, chosen.seconds, chosen.rounds, files - 200)
        for name in chosen.section or SECTIONS:
            figures = SECTIONS[name](bench)
            for figure in figures:
                print(row(figure), flush=True)
            kept[name] = {"machine": machine, "figures": [figure.as_json() for figure in figures]}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
