"""The image's own programs, without a container: secrets of the first start, the health check."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

IMAGE = Path(__file__).resolve().parents[2] / "image"


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(IMAGE / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


def make_secrets(folder: Path) -> dict[str, str]:
    done = run("make_secrets.py", str(folder), "penstock@postgres:5432/penstock")
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_first_start_makes_passwords_and_the_second_keeps_them(tmp_path: Path):
    made = make_secrets(tmp_path)
    assert set(made) == {"postgres-password", "postgres-url", "grafana-password"}
    assert len(made["postgres-password"]) >= 32
    assert made["postgres-password"] != made["grafana-password"]
    assert made["postgres-url"] == f"postgresql://penstock:{made['postgres-password']}@postgres:5432/penstock\n"
    assert make_secrets(tmp_path) == made


def test_a_password_of_ones_own_is_kept_and_written_into_the_url_as_urls_want_it(tmp_path: Path):
    (tmp_path / "postgres-password").write_text("p@ss/word\n")
    made = make_secrets(tmp_path)
    assert made["postgres-password"] == "p@ss/word\n"
    assert made["postgres-url"] == "postgresql://penstock:p%40ss%2Fword@postgres:5432/penstock\n"


class Readyz(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.end_headers()
        self.wfile.write(b'{"ready":true}' if self.status == 200 else b'{"ready":false}')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Readyz) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield str(server.server_port)
        server.shutdown()
        thread.join()


def test_the_health_check_says_what_readyz_says(port: str, monkeypatch: pytest.MonkeyPatch):
    healthy = run("probe.py", PENSTOCK_HTTP__PORT=port)
    assert (healthy.returncode, healthy.stdout) == (0, '{"ready":true}')
    monkeypatch.setattr(Readyz, "status", 503)
    unready = run("probe.py", PENSTOCK_HTTP__PORT=port)
    assert (unready.returncode, unready.stderr.strip()) == (1, '{"ready":false}')


def test_the_health_check_fails_where_nobody_listens():
    done = run("probe.py", PENSTOCK_HTTP__PORT="9")
    assert done.returncode == 1
    assert "http://127.0.0.1:9/readyz" in done.stderr
