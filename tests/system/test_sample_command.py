"""`penstock sample`: the examples' data into a system that runs elsewhere."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from penstock_process import PROGRAM, ROOT, PenstockProcess, eventually


def test_it_feeds_a_running_system_by_another_address_until_it_is_stopped(tmp_path: Path):
    example = ROOT / "examples" / "produce-markets"
    with PenstockProcess(tmp_path / "data", example) as penstock:
        url = penstock.url.replace("127.0.0.1", "localhost")
        command = [str(PROGRAM), "sample", str(example), "--data", str(penstock.data), "--url", url]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as feeder:
            try:
                eventually(lambda: penstock.rows("raw.arrivals", limit="1", id="like.lot-*"))
            finally:
                feeder.send_signal(signal.SIGTERM)
            _, said = feeder.communicate(timeout=30)
        assert feeder.returncode == 0, said


def test_it_says_what_is_missing(tmp_path: Path):
    command = [str(PROGRAM), "sample", str(ROOT / "examples" / "earthquakes"), "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "client.json" in done.stderr
