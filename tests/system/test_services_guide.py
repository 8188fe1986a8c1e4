"""The guide to four services: its commands are extracted and run, in its order."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from penstock_process import PROGRAM, ROOT, free_port

PORTS = {"publish": 8080, "ingest": 8081, "processor": 8082, "data": 8083}


@pytest.mark.timeout(240)
def test_the_commands_of_the_guide_do_what_it_says(tmp_path: Path):
    text = (ROOT / "docs/guides/run-as-services.md").read_text()
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.S))
    assert commands.count("penstock run --role") == 4
    env = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    for role, usual in PORTS.items():
        port = free_port()
        commands = commands.replace(f"--role {role}", f"--role {role} --port {port}").replace(str(usual), str(port))
        env[f"PENSTOCK_SERVICES__{role.upper()}_URL"] = f"http://127.0.0.1:{port}"
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = f"set -euo pipefail\ntrap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT\n{commands}\necho drained\n"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert '"state":"running"' in done.stdout
    assert done.stdout.rstrip().endswith("drained")
    assert "Traceback" not in done.stderr
