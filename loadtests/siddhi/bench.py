"""`make bench-siddhi`: events a second and core of a filter, a window and a pattern, in Penstock and in Siddhi.

    python -m loadtests.siddhi.bench [QUERY ...] [--events 1000000 3000000] [--rounds 2]

Both read the same NDJSON file of bids of Nexmark (Siddhi through Jackson's streaming parser, in arrays of 1,000
events) on one core (`taskset`), in turns, and count what comes out: the counts must be equal. A rate is the slope
between two sizes of files, so that start-up is taken out. Needs a JDK 17 and Maven; Siddhi comes from Maven Central,
once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from loadtests.machine import describe_machine, pinned
from loadtests.nexmark.events import Files, write_files
from loadtests.nexmark.suite import SOURCES
from loadtests.sections import slope, spread
from loadtests.system import PROGRAM

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "siddhi.json"
_QUERIES = ("filter", "window", "pattern")
_CORE = 0


def main() -> int:
    """Measure the queries asked for and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("query", nargs="*", choices=[*_QUERIES, []], help="default: all")
    parser.add_argument("--events", nargs=2, type=int, default=(1_000_000, 3_000_000), metavar=("FEWER", "MORE"))
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    jars = _jars()
    rows = []
    print(f"machine: {json.dumps(describe_machine())}; events: {chosen.events[0]:,} and {chosen.events[1]:,}")
    with tempfile.TemporaryDirectory(prefix="penstock-siddhi-") as folder:
        sizes = [write_files(Path(folder) / str(count), count) for count in chosen.events]
        for name in chosen.query or _QUERIES:
            row = _measured(name, sizes, jars, rounds=chosen.rounds)
            rows.append(row)
            print(_line(row), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    document = {"machine": describe_machine(), "events": chosen.events, "rows": rows}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _jars() -> Path:
    """The folder with Siddhi and what it needs, from Maven Central; under another name until it is whole."""
    for program in ("javac", "mvn"):
        if shutil.which(program) is None:
            sys.exit(f"'{program}' is missing: install a JDK 17 and Maven")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = Path(os.environ.get("PENSTOCK_TEST_CACHE", cache / "penstock-tests")) / "siddhi-5.1.30"
    if not folder.exists():
        half = folder.with_name(f"{folder.name}.{os.getpid()}")
        command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        subprocess.run([*command, f"-DoutputDirectory={half}"], check=True)
        half.rename(folder)
    return folder


def _measured(name: str, sizes: list[Files], jars: Path, *, rounds: int) -> dict[str, Any]:
    """Median rates of the rounds, in turns. The number of rows is the same on both sides, or this ends the bench."""
    ours, theirs, counts = [], [], set()
    bids = [sum(1 for _ in files.bid.open("rb")) for files in sizes]
    for _ in range(rounds):
        one = [_penstock(name, files) for files in sizes]
        other = [_siddhi(name, files, jars) for files in sizes]
        ours.append((bids[1] - bids[0]) / slope([seconds for seconds, _ in one]))
        theirs.append((bids[1] - bids[0]) / slope([seconds for seconds, _ in other]))
        counts |= {(one[1][1], other[1][1])}
    if any(penstock != siddhi for penstock, siddhi in counts):
        sys.exit(f"{name}: rows of Penstock and of Siddhi differ: {counts}")
    row: dict[str, Any] = {"query": name, "rows": counts.pop()[0]}
    row |= {"penstock": statistics.median(ours), "penstock_spread": spread(ours)}
    row |= {"siddhi": statistics.median(theirs), "siddhi_spread": spread(theirs)}
    return row | {"ratio": row["penstock"] / row["siddhi"]}


def _penstock(name: str, files: Files) -> tuple[float, int]:
    """Seconds as `penstock eval` measures itself, and rows. They are counted in a run apart from the clock's."""
    options = "'connector' = 'penstock', 'dedupe' = 'none'"
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "app.sql"
        query = (HERE / f"{name}.sql").read_text().replace("{sink}", "'connector' = 'penstock'")
        app.write_text(f"CREATE TABLE bid ({SOURCES['bid']}) WITH ({options});\n{query}")
        found = Path(folder) / "rows.ndjson"
        alone = {**os.environ, "POLARS_MAX_THREADS": "1"}
        command = [*pinned(_CORE), str(PROGRAM), "eval", str(app), "--input", f"bid={files.bid}", "--stats"]
        said = []
        for place in (os.devnull, found):
            output = ["--output", f"answers={place}"]
            done = subprocess.run([*command, *output], capture_output=True, text=True, check=True, env=alone)
            said.append(done.stderr)
        rows = sum(1 for _ in found.open("rb"))
    return float(json.loads(said[0].strip().splitlines()[-1])["seconds"]), rows


def _siddhi(name: str, files: Files, jars: Path) -> tuple[float, int]:
    """Seconds from the first byte read to the last event taken, and rows."""
    arguments = ["-cp", f"{jars}/*", str(HERE / "SiddhiBench.java"), str(HERE / f"{name}.siddhi"), str(files.bid)]
    done = subprocess.run([*pinned(_CORE), "java", *arguments], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return float(said["seconds"]), int(said["rows"])


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['query']:8} Penstock {row['penstock']:>12,.0f} events/s ± {row['penstock_spread']:.0%} A/A   "
        f"Siddhi {row['siddhi']:>10,.0f} ± {row['siddhi_spread']:.0%}   ratio {row['ratio']:.2f}   "
        f"rows {row['rows']:,}"
    )


if __name__ == "__main__":
    sys.exit(main())
