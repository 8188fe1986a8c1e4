"""`penstock migrate`: says what would run, runs it, and runs nothing twice."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from penstock.stores.migrate import HEAD, REVISIONS, VERSION_TABLE
from penstock.stores.open import STORE_FILE


def migrate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock_app", "migrate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


def test_migrating_is_shown_done_and_not_repeated(url: str, tmp_path: Path) -> None:
    shown = migrate("--store", url, "--check")
    assert (shown.returncode, [revision for revision in REVISIONS if revision in shown.stdout]) == (
        1,
        list(REVISIONS),
    )
    assert not (tmp_path / STORE_FILE).exists()  # a look makes nothing
    assert migrate("--store", url, "--check").returncode == 1
    done = migrate("--store", url)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"none -> {HEAD}" in done.stdout
    for arguments in ((), ("--check",)):
        again = migrate("--store", url, *arguments)
        assert (again.returncode, "nothing to do" in again.stdout) == (0, True)


def test_a_newer_format_is_refused_with_what_to_do(url: str, tmp_path: Path) -> None:
    assert migrate("--store", url).returncode == 0
    if url.startswith("sqlite"):
        with sqlite3.connect(tmp_path / STORE_FILE) as file:
            file.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
        file.close()
    else:
        with psycopg.connect(url) as connection:
            connection.execute(f"UPDATE penstock_store.{VERSION_TABLE} SET version_num = '9999'".encode())
    for arguments in ((), ("--check",)):
        refused = migrate("--store", url, *arguments)
        assert refused.returncode == 1
        assert "store_too_new" in refused.stderr
        assert "newer penstock" in refused.stderr


def test_a_server_that_is_not_there_is_an_error_without_the_password() -> None:
    failed = migrate("--store", "postgresql://me:very-secret@127.0.0.1:1/db")
    assert failed.returncode == 1
    assert "store_unavailable" in failed.stderr
    assert "very-secret" not in failed.stdout + failed.stderr
