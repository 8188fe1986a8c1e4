"""The README's tour as steps, and what it takes to walk one: for every way to start the system."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from penstock_process import ROOT


@dataclass
class Step:
    """A block of commands of the tour and the sample of its output."""

    commands: str
    sample: str | None


def tour() -> list[Step]:
    """Every block of the tour, in order."""
    section = (ROOT / "README.md").read_text().split("## A tour of two minutes", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"```(sh|json)\n(.*?)```", section, re.S)
    steps: list[Step] = []
    for kind, text in blocks:
        if kind == "sh":
            steps.append(Step(text, None))
        else:
            steps[-1].sample = text.strip()
    return steps


def run_step(step: Step, folder: Path, *, port: int, before: str) -> None:
    """Run a step in `folder` after the shell line `before`; what it prints has the shape of its sample."""
    shutil.rmtree("/tmp/penstock-tour-app", ignore_errors=True)
    commands = before + "\n" + step.commands.replace(":8080", f":{port}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=folder, capture_output=True, text=True, timeout=180
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
