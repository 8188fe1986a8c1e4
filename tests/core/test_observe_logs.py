"""What a line of the log may hold."""

from __future__ import annotations

from penstock.observe.logs import hide_secrets, leave_out_details


def test_values_under_names_of_credentials_are_hidden() -> None:
    event = {"event": "x", "access_token": "abc", "client_secret": "s", "stream": "orders"}
    shown = hide_secrets(None, "info", event)
    assert shown == {"event": "x", "access_token": "[hidden]", "client_secret": "[hidden]", "stream": "orders"}


def test_long_nested_values_are_left_out_on_a_terminal() -> None:
    files = {name: {"journal_mode": "wal", "synchronous": 2, "page_size": 4096} for name in ("ingest", "processor")}
    shown = leave_out_details(None, "info", {"event": "log opened", "files": files, "roles": ["ingest"]})
    assert shown == {"event": "log opened", "roles": ["ingest"]}
