"""A stranger's path: clean clone, `make up`, the README's tour command by command, stop, start: nothing lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from penstock_process import ROOT, PenstockProcess, eventually, free_port

READY_S = 240


@dataclass
class Step:
    """A block of commands of the tour and the sample of its output."""

    commands: str
    sample: str | None


def tour() -> list[Step]:
    section = (ROOT / "README.md").read_text().split("## A tour of two minutes", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"```(sh|json)\n(.*?)```", section, re.S)
    steps: list[Step] = []
    for kind, text in blocks:
        if kind == "sh":
            steps.append(Step(text, None))
        else:
            steps[-1].sample = text.strip()
    return steps


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
        os.killpg(self.process.pid, signal.SIGINT)  # what Ctrl-C does
        self.code = self.process.wait(30)


@pytest.mark.timeout(600)
def test_clean_clone_tour_stop_start(tmp_path: Path):
    clone = tmp_path / "penstock"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    port = free_port()
    with Up(clone, port) as up:
        first_pushed_row(clone, port)
        for step in tour():
            run_step(step, clone, port)
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


def run_step(step: Step, clone: Path, port: int) -> None:
    shutil.rmtree("/tmp/penstock-tour-app", ignore_errors=True)
    commands = step.commands.replace(":8080", f":{port}")
    env = {**os.environ, "PATH": f"{clone / '.venv/bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=clone, capture_output=True, text=True, timeout=60, env=env
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    if step.sample is not None:
        printed = json.loads(done.stdout.strip().splitlines()[-1])
        assert shape(printed) == shape(json.loads(step.sample)), f"{commands}\nprinted {done.stdout}"


def shape(value: object) -> object:
    """Keys and kinds, without the values: what a sample of output promises."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, bool) or value is None:
        return None
    return "number" if isinstance(value, int | float) else "text"


def test_the_readme_is_short_and_shows_the_page():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") < 150
    assert (ROOT / "docs/images/board.png").stat().st_size > 20_000
