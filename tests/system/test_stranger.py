"""A stranger's path: clean clone, `make up`, the README's tour command by command, stop, start: nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from penstock_process import ROOT, PenstockProcess, eventually, free_port
from readme_tour import run_step, tour

READY_S = 240


class Up:
    """`make up` in a clone, as a person would run it."""

    def __init__(self, clone: Path, port: int) -> None:
        self.clone = clone
        self.port = port
        self.output = clone.parent / "make-up.txt"

    def __enter__(self) -> Up:
        self.started_s = time.monotonic()
        with self.output.open("w") as out:
            self.process = subprocess.Popen(
                ["make", "up", f"PORT={self.port}"],
                cwd=self.clone,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")},
            )
        eventually(self._ready, READY_S, 0.1)
        self.ready_after_s = time.monotonic() - self.started_s
        return self

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.output.read_text()
        return f"Ready: http://127.0.0.1:{self.port}" in self.output.read_text()

    def __exit__(self, *_: object) -> None:
        # Ctrl-C reaches the whole group; make then reports the signal, whatever its recipe says. What counts is the
        # program's own exit code, so only the program gets the signal here and make passes its code on.
        os.kill(int(children_of(self.process.pid)[0]), signal.SIGINT)
        self.code = self.process.wait(30)


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.timeout(600)
def test_clean_clone_tour_stop_start(tmp_path: Path):
    clone = tmp_path / "penstock"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    port = free_port()
    with Up(clone, port) as up:
        first_pushed_row(clone, port)
        for step in tour():
            run_step(step, clone, port=port, before=f"export PATH='{clone / '.venv/bin'}':$PATH")
        system = PenstockProcess(clone / "penstock-data", port=port)
        before = system.rows("raw.arrivals", select="_id")
        days = {(row["state"], row["commodity"], row["day_start"]) for row in system.rows("daily_arrivals")}
    assert up.code == 0, up.output.read_text()
    assert "Traceback" not in up.output.read_text()
    with Up(clone, port):
        after = [row["_id"] for row in system.rows("raw.arrivals", select="_id")]
        assert after[: len(before)] == [row["_id"] for row in before]
        assert days <= {(row["state"], row["commodity"], row["day_start"]) for row in system.rows("daily_arrivals")}
        app = system.get("/v1/apps/produce-markets")
        assert "modal_price < 800" in app["sql"], "an edit made while running survives the restart"
        count = len(after)
        eventually(lambda: len(system.rows("raw.arrivals", select="_id")) > count, 30, 0.5)
    print(f"ready {up.ready_after_s:.1f} s after `make up` in a clean clone")
    shutil.rmtree("/tmp/penstock-tour-app", ignore_errors=True)


def first_pushed_row(clone: Path, port: int) -> None:
    """A row is pushed, a summary is there and an alert fires, each soon after ready."""
    system = PenstockProcess(clone / "penstock-data", port=port)
    eventually(lambda: system.history("cheap_lots")[0], 30)
    eventually(lambda: system.get("/v1/data/daily_arrivals?limit=1")["rows"], 30)
    eventually(lambda: system.history("price_alerts")[0] or system.history("quake_alerts")[0], 60)


def test_the_readme_is_short_and_shows_the_page():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") < 150
    assert (ROOT / "docs/images/board.png").stat().st_size > 20_000
