"""The server that PostgreSQL's tests stand on: durable, and its crash is a crash."""

from __future__ import annotations

import psycopg
import pytest
from postgres_server import PostgresServer


@pytest.fixture
def own_server(need):
    need("postgres", PostgresServer.programs() is not None, "apt-get install postgresql")
    with PostgresServer() as server:
        yield server


def test_the_server_keeps_what_it_commits(postgres_url):
    with psycopg.connect(postgres_url) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {setting}").fetchone() == ("on",)


def test_every_database_is_fresh_and_its_owner_is_no_superuser(postgres_server):
    for _ in range(2):
        with psycopg.connect(postgres_server.database("again")) as connection:
            connection.execute("CREATE TABLE t (n int)")  # would fail over one that is still there
            assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = user").fetchone() == (False,)


def test_a_crash_keeps_what_was_committed_and_ends_sessions(own_server):
    url = own_server.database("crash")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (n int)")
        connection.execute("INSERT INTO t VALUES (1)")
        own_server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)
    own_server.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n FROM t").fetchall() == [(1,)]
    assert "was not properly shut down" in own_server.logged()
    own_server.restart()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n FROM t").fetchall() == [(1,)]
