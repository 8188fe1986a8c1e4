"""The long run: `make soak ARRANGEMENT=sqlite|postgres|kafka`; its verdict goes into docs/soak.md with date and seed.

PYTHONPATH=tests python -m ledger.soak --arrangement postgres --events 1000000 --kills 300
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from ledger.arranged import NAMES, arranged, missing
from ledger.checker import COUNTS
from ledger.load import LoadPlan
from ledger.nemesis import Mixture
from ledger.run import APP, Run, run_ledger
from ledger.verdict import Verdict

PAGE = Path(__file__).resolve().parents[2] / "docs" / "soak.md"

_BOUND_MIN_KILLS = 20


def main() -> int:
    """0 if the verdict is pass."""
    asked = _arguments()
    if lacking := missing(asked.arrangement):
        print(f"{lacking[0]} is missing: {lacking[1]}", file=sys.stderr)
        return 1
    mixture = Mixture(asked.kills, pauses=max(1, asked.kills // 10), crashes=max(1, asked.kills // 30))
    run = Run(asked.seed, LoadPlan(asked.events), mixture, drain_s=300.0)
    started = dt.datetime.now(dt.UTC)
    folder = Path(tempfile.mkdtemp(prefix="penstock-soak-"))
    with arranged(asked.arrangement, folder, APP) as arrangement:
        verdict = run_ledger(arrangement, run, folder)
    if asked.keep:
        print(f"records: {folder}/ledger", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    with PAGE.open("a", encoding="utf-8") as page:
        page.write(section(verdict, started, asked.arrangement))
    return 0 if verdict.word == "pass" else 1


def section(verdict: Verdict, started: dt.datetime, arrangement: str) -> str:
    """What is appended to the page."""
    found = verdict.findings.counts
    kills = verdict.figures["kills"]
    reasons = f" ({'; '.join(verdict.reasons)})" if verdict.reasons else ""
    return "\n".join(
        [
            "",
            f"## {started:%Y-%m-%d %H:%M} UTC, {arrangement}: {verdict.word}{reasons}",
            "",
            f"Python {platform.python_version()}, {os.cpu_count()} cores. "
            + ", ".join(f"{name} {_plain(value)}" for name, value in verdict.figures.items())
            + ".",
            "",
            "Counts: " + ", ".join(f"{name} {found[name]}" for name in COUNTS) + ".",
            "",
            f"No loss in {kills} kills bounds the chance of one per kill below 3/{kills} (95 %)."
            if verdict.word == "pass" and isinstance(kills, int) and kills >= _BOUND_MIN_KILLS
            else "Not passed, or too few kills: no bound follows from it.",
            "",
        ]
    )


def _plain(value: object) -> str:
    return " + ".join(f"{n} {name}" for name, n in value.items()) if isinstance(value, dict) else str(value)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arrangement", choices=NAMES, default="sqlite")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(dt.datetime.now(dt.UTC).timestamp()))
    parser.add_argument("--keep", action="store_true", help="keep the folder with the records")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
