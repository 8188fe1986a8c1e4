"""`penstock accounts`: people are added, listed, given a new password and removed, with the password from input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from penstock_publish.oauth.accounts import open_accounts
from penstock_publish.oauth.settings import LoginSettings

FIRST, SECOND = "correct horse battery", "staple battery horse"


def accounts(folder: Path, *arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock_app", "accounts", *arguments, "--data", str(folder)]
    return subprocess.run(command, input=password + "\n", capture_output=True, text=True, check=False, timeout=60)


def test_an_account_is_added_changed_and_removed(tmp_path):
    folder = tmp_path / "data"
    added = accounts(folder, "add", "Ann@example.org", "--scope", "orders:read", password=FIRST)
    assert (added.returncode, added.stderr) == (0, "") and "ann@example.org may use orders:read" in added.stdout
    [listed] = json.loads(accounts(folder, "list", "--json").stdout)
    assert (listed["name"], listed["scope"]) == ("ann@example.org", "orders:read")
    again = accounts(folder, "add", "ann@example.org", password=FIRST)
    assert again.returncode == 1 and "name_taken" in again.stderr
    short = accounts(folder, "password", "ann@example.org", password="short")
    assert short.returncode == 1 and "12 to 256 characters" in short.stderr
    assert accounts(folder, "password", "ann@example.org", password=SECOND).returncode == 0
    opened, close = open_accounts(folder, LoginSettings(), None)
    entered = [opened.enter("ann@example.org", tried, "127.0.0.1", now_s=0.0) for tried in (FIRST, SECOND)]
    close()
    assert [found is not None for found in entered] == [False, True]
    assert accounts(folder, "remove", "ann@example.org").returncode == 0
    gone = accounts(folder, "remove", "ann@example.org")
    assert gone.returncode == 1 and "no account" in gone.stderr
