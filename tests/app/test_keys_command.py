"""`penstock keys`: keys are listed and rotated; a compromised one goes at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from penstock_publish.oauth.keys import signing_keys_in


def keys(folder: Path, *arguments: str) -> list[dict[str, str]]:
    command = [sys.executable, "-m", "penstock_app", "keys", *arguments, "--json", "--data", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def test_a_rotation_publishes_a_key_that_signs_later_and_a_compromised_one_goes_at_once(tmp_path):
    first, second = keys(tmp_path, "rotate")
    assert second["signs_from"] > first["signs_from"]
    assert [key.kid for key in signing_keys_in(tmp_path)] == [first["kid"], second["kid"]]
    [fresh] = keys(tmp_path, "rotate", "--compromised")
    assert fresh["kid"] not in (first["kid"], second["kid"])
    assert [key.kid for key in signing_keys_in(tmp_path)] == [fresh["kid"]]
    assert (tmp_path / "signing-keys.json").stat().st_mode & 0o077 == 0
