"""`penstock clients`: public clients are added, listed and removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from penstock.errors import PenstockError
from penstock_app.commands_clients import register
from penstock_publish.oauth.public_clients import public_client


def clients(folder: Path, *arguments: str) -> str:
    """What the command says; its errors are raised."""
    program = typer.Typer()
    register(program)
    program.command()(lambda: None)  # with one command alone, its name would not be one
    command = ["clients", *arguments, "--data", str(folder)]
    return CliRunner().invoke(program, command, catch_exceptions=False).stdout


def test_a_public_client_is_added_listed_and_removed(tmp_path):
    asked = ("--redirect-uri", "http://127.0.0.1/back", "--scope", "orders:read")
    client_id = clients(tmp_path, "add", "Terminal", *asked).strip()
    [listed] = json.loads(clients(tmp_path, "list", "--json"))
    assert listed == {
        "client_id": client_id, "name": "Terminal", "public": True, "scope": "orders:read",
        "grants": ["authorization_code", "refresh_token"], "redirect_uris": ["http://127.0.0.1/back"],
    }  # fmt: skip
    clients(tmp_path, "remove", client_id)
    with pytest.raises(PenstockError, match="no client"):
        clients(tmp_path, "remove", client_id)


@pytest.mark.parametrize(
    "uri",
    [
        "http://portal.example/back",
        "https://portal.example/back#x",
        "https://user@portal.example/back",
        "https:///back",
        "portal.example/back",
        "javascript:alert(1)",
        "https://portal.example/a b",
        "https://portal.example:99999/",
        "https://portal.example/" + "x" * 2_000,
    ],
)
def test_an_address_that_could_lead_astray_is_not_registered(uri):
    with pytest.raises(PenstockError, match="cannot be registered"):
        public_client("Terminal", scope="orders:read", redirect_uris=["https://portal.example/back", uri])


def test_https_loopback_and_schemes_of_ones_own_are_registered():
    uris = (
        "https://portal.example/back?x=1",
        "http://[::1]/back",
        "http://localhost:7/back",
        "com.example.app:/back",
    )
    assert public_client("Terminal", scope="orders:read", redirect_uris=uris).redirect_uris == uris


def test_the_name_of_a_client_is_shown_as_it_is(tmp_path):
    clients(tmp_path, "add", "[/b] [red]A", "--redirect-uri", "http://127.0.0.1/back")
    assert "[/b] [red]A" in " ".join(clients(tmp_path, "list").split())


@pytest.mark.parametrize(
    ("name", "scope", "redirect_uris"),
    [
        ("a\x00b", "orders:read", ["https://portal.example/back"]),
        ("Terminal", "orders:\x01read", ["https://portal.example/back"]),
        ("Terminal", " ", ["https://portal.example/back"]),
        ("Terminal", "orders:read", ["https://portal.example/\x7f"]),
        ("Terminal", "orders:read", []),
    ],
)
def test_a_public_client_has_a_name_scopes_and_addresses_that_can_be_kept(name, scope, redirect_uris):
    with pytest.raises(PenstockError, match="bad_request"):
        public_client(name, scope=scope, redirect_uris=redirect_uris)
