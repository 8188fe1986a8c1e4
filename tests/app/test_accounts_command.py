"""`penstock accounts`: people are added, listed, given a new password and removed, with the password from input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from penstock.errors import PenstockError
from penstock_app.commands_accounts import register
from penstock_publish.oauth.accounts import open_accounts
from penstock_publish.oauth.settings import LoginSettings

FIRST, SECOND = "correct horse battery", "staple battery horse"


def accounts(folder: Path, *arguments: str, password: str = "") -> str:
    """What the command says; its errors are raised."""
    program = typer.Typer()
    register(program)
    program.command()(lambda: None)  # with one command alone, its name would not be one
    done = CliRunner().invoke(
        program, ["accounts", *arguments, "--data", str(folder)], input=password + "\n", catch_exceptions=False
    )
    return done.stdout


def test_an_account_is_added_changed_and_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("PENSTOCK_AUTH__LOGIN__SCRYPT_LOG2_N", "14")
    folder = tmp_path / "data"
    added = accounts(folder, "add", "Ann@example.org", "--scope", "orders:read", password=FIRST)
    assert "ann@example.org may use orders:read" in added
    [listed] = json.loads(accounts(folder, "list", "--json"))
    assert (listed["name"], listed["scope"]) == ("ann@example.org", "orders:read")
    with pytest.raises(PenstockError, match="name_taken"):
        accounts(folder, "add", "ann@example.org", password=FIRST)
    with pytest.raises(PenstockError, match="12 to 256 characters"):
        accounts(folder, "password", "ann@example.org", password="short")
    accounts(folder, "password", "ANN@example.org", password=SECOND)
    opened, close = open_accounts(folder, LoginSettings(scrypt_log2_n=14), None)
    entered = [opened.enter("ann@example.org", tried, "127.0.0.1", now_s=0.0) for tried in (FIRST, SECOND)]
    close()
    assert [found is not None for found in entered] == [False, True]
    accounts(folder, "scope", "ann@example.org", "orders:read  data:read")
    assert json.loads(accounts(folder, "list", "--json"))[0]["scope"] == "orders:read data:read"
    for wrong in ("", 'a"b'):
        with pytest.raises(PenstockError, match="bad_request"):
            accounts(folder, "scope", "ann@example.org", wrong)
    accounts(folder, "remove", "ann@example.org")
    with pytest.raises(PenstockError, match="no account"):
        accounts(folder, "remove", "ann@example.org")
    assert "no accounts" in accounts(folder, "list")
