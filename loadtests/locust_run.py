"""One Locust scenario against a Penstock of its own (or one that runs already), with its plot written as a file.

`make load-ingest`, `make load-subscribe`, `make load-query` call it; `URL=` and `CLIENT=` name a running system.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from loadtests.apps import ECHO, WHOLE
from loadtests.system import running

SCENARIOS = Path(__file__).parent / "scenarios"
APPS = {"ingest": WHOLE.format(dedupe=""), "query": WHOLE.format(dedupe=""), "subscribe": ECHO}


def main() -> int:
    """Exit code 0 if no request failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=sorted(APPS))
    parser.add_argument("--locust", required=True, type=Path, help="the program `locust` of the load environment")
    parser.add_argument("--url", help="a running system whose app has the streams of loadtests/apps.py")
    parser.add_argument("--client", type=Path, help="its client.json")
    parser.add_argument("--users", type=int, default=51)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("loadtests/results"))
    options = parser.parse_args()
    if (options.url is None) != (options.client is None):
        parser.error("--url and --client belong together")
    with ExitStack() as stack:
        url, client = options.url, options.client
        if url is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-load-")))
            system = stack.enter_context(running(folder, APPS[options.scenario]))
            url, client = f"http://127.0.0.1:{system.port}", system.data / "client.json"
        return drive(options, url=url, client=client)


def drive(options: argparse.Namespace, *, url: str, client: Path) -> int:
    """Run Locust, then the plot."""
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"locust-{options.scenario}"
    script = SCENARIOS / f"{options.scenario}.py"
    command = [options.locust, "-f", script, "--headless", "--host", url, "--only-summary", "-u", options.users,
               "-r", options.users, "-t", f"{options.seconds}s",
               "--csv", stem, "--csv-full-history", "--html", stem.with_suffix(".html")]  # fmt: skip
    env = {**os.environ, "PENSTOCK_CLIENT": str(client)}
    failed = subprocess.run([str(part) for part in command], env=env).returncode
    title = f"{options.scenario}: {options.users} users, {options.seconds} s"
    plotter = [options.locust.with_name("python"), SCENARIOS / "plots.py", f"{stem}_stats_history.csv",
               stem.with_suffix(".svg"), title]  # fmt: skip
    drawn = subprocess.run([str(part) for part in plotter]).returncode
    print(f"written: {stem.with_suffix('.svg')}, {stem.with_suffix('.html')}, {stem}_stats.csv")
    return failed or drawn


if __name__ == "__main__":
    sys.exit(main())
