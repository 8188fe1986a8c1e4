"""`penstock keys`: keys are listed and rotated; a compromised one goes at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def keys(folder: Path, *arguments: str) -> list[dict[str, str]]:
    command = [sys.executable, "-m", "penstock_app", "keys", *arguments, "--json", "--data", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def test_a_rotation_publishes_a_key_that_signs_later_and_a_compromised_one_goes_at_once(tmp_path):
    [first] = keys(tmp_path, "list")
    rotated = keys(tmp_path, "rotate")
    assert rotated[0] == first and rotated[1]["signs_from"] > first["signs_from"]
    assert keys(tmp_path, "list") == rotated
    [fresh] = keys(tmp_path, "rotate", "--compromised")
    assert fresh["kid"] not in {key["kid"] for key in rotated} and keys(tmp_path, "list") == [fresh]
    assert (tmp_path / "signing-keys.json").stat().st_mode & 0o077 == 0
