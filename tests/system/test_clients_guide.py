"""The examples of docs/clients.md, run as they are printed, against the starter app."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from penstock_process import PROGRAM, ROOT, PenstockProcess

EXAMPLES = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs/clients.md").read_text(), re.S)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PenstockProcess]:
    folder = tmp_path_factory.mktemp("guide")
    subprocess.run([PROGRAM, "init", folder / "shop"], check=True, capture_output=True)
    with PenstockProcess(folder / "penstock-data", folder / "shop") as running:
        yield running


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def examples(language: str) -> list[str]:
    return [text for found, text in EXAMPLES if found == language]


def test_the_python_examples_publish_and_follow(shop: PenstockProcess):
    asynchronous, synchronous = examples("python")
    said = run([sys.executable, "-c", asynchronous], shop.data.parent)
    assert "1 accepted ()" in said
    assert "'customer': 'ann'" in said
    said = run([sys.executable, "-c", synchronous], shop.data.parent)
    assert "Event(topic='large_orders'" in said
    assert "'customer': 'ben'" in said


def test_the_node_example_publishes_and_follows(shop: PenstockProcess, need):
    need("node", shutil.which("node") is not None, "install Node 20 or newer")
    [script] = examples("js")
    [fetch] = re.findall(r"`(curl -s http[^`]*client\.mjs)`", (ROOT / "docs/clients.md").read_text())
    folder = shop.data.parent
    run(["bash", "-c", fetch.replace("http://127.0.0.1:8080", shop.url)], folder)
    (folder / "example.mjs").write_text(script.replace("http://127.0.0.1:8080", shop.url))
    said = run(["node", "example.mjs"], folder)
    assert "accepted: 1" in said
    assert "customer:" in said
