"""The examples of docs/clients.md and docs/protocol.md, run as they are printed, against the starter app."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import pytest
from penstock_process import PROGRAM, ROOT, PenstockProcess, eventually
from playwright.sync_api import sync_playwright

EXAMPLES = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs/clients.md").read_text(), re.S)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PenstockProcess]:
    folder = tmp_path_factory.mktemp("guide")
    subprocess.run([PROGRAM, "init", folder / "shop"], check=True, capture_output=True)
    with PenstockProcess(folder / "penstock-data", folder / "shop") as running:
        yield running


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def examples(language: str) -> list[str]:
    return [text for found, text in EXAMPLES if found == language]


def test_the_python_examples_publish_and_follow(shop: PenstockProcess):
    asynchronous, synchronous, streaming = examples("python")
    said = run([sys.executable, "-c", asynchronous], shop.data.parent)
    assert "1 accepted ()" in said
    assert "'customer': 'ann'" in said
    said = run([sys.executable, "-c", synchronous], shop.data.parent)
    assert "Event(topic='large_orders'" in said
    assert "'customer': 'ben'" in said
    assert "1000 accepted one by one" in run([sys.executable, "-c", streaming], shop.data.parent)


def test_the_node_example_publishes_and_follows(shop: PenstockProcess, need):
    need("node", shutil.which("node") is not None, "install Node 20 or newer")
    [script] = examples("js")
    [fetch] = re.findall(r"`(curl -s http[^`]*client\.mjs)`", (ROOT / "docs/clients.md").read_text())
    folder = shop.data.parent
    run(["bash", "-c", fetch.replace("http://127.0.0.1:8080", shop.url)], folder)
    (folder / "example.mjs").write_text(script.replace("http://127.0.0.1:8080", shop.url))
    said = run(["node", "example.mjs"], folder)
    assert "accepted: 1" in said
    assert "customer:" in said


def test_the_websocat_commands_of_the_protocol_show_whole_events(shop: PenstockProcess, need):
    need("websocat", shutil.which("websocat") is not None, "cargo install websocat")
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/protocol.md").read_text(), re.S)
    token, *commands = "".join(blocks).replace("http://127.0.0.1:8080", shop.url).splitlines()
    assert len(commands) == 2
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for number, command in enumerate(commands):
        script = f"{token}\nexec {command.replace('127.0.0.1:8080', shop.url.removeprefix('http://'))}"
        with subprocess.Popen(
            ["bash", "-c", script],
            cwd=shop.data.parent,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as running:
            limit = threading.Timer(30, running.kill)
            limit.start()
            try:
                assert json.loads(running.stdout.readline())["sys"] == "open"
                now = datetime.now(UTC).isoformat()
                order = {"id": f"long-{number}", "customer": "z" * 200_000, "amount": 500, "ts": now}
                assert shop.post_events("orders", [order]).status == 200
                events = (json.loads(line) for line in running.stdout)
                assert next(event["d"]["customer"] for event in events if "d" in event) == "z" * 200_000
            finally:
                limit.cancel()
                running.kill()


def test_the_websocat_command_for_streams_sends_a_line_a_message(shop: PenstockProcess, need):
    need("websocat", shutil.which("websocat") is not None, "cargo install websocat")
    [block] = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/streams.md").read_text(), re.S)
    now = datetime.now(UTC).isoformat()
    orders = [{"id": f"w{n}", "customer": "z" * 100_000, "amount": n, "ts": now} for n in range(3)]
    (shop.data.parent / "orders.ndjson").write_text("".join(f"{json.dumps(order)}\n" for order in orders))
    script = block.replace("penstock token", f"{PROGRAM} token").replace(":8080", f":{shop.port}")
    replies = [json.loads(line) for line in run(["bash", "-c", script], shop.data.parent).splitlines()]
    assert [(reply["n"], reply["accepted"]) for reply in replies] == [(1, 1), (2, 1), (3, 1)]


def test_the_page_example_follows_with_a_ticket_of_its_own_server(shop: PenstockProcess, need):
    program = shutil.which("chromium")
    need("chromium", program is not None, "install chromium")
    [page_text] = [text.replace("http://127.0.0.1:8080", shop.url) for text in examples("html")]

    class Own(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = self.ticket() if self.path.startswith("/ticket") else page_text
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def ticket(self) -> str:
            body = json.dumps({"topic": "large_orders", "origin": f"http://{self.headers['Host']}"}).encode()
            reply = shop.call("POST", "/v1/tickets", body, headers={"Content-Type": "application/json"})
            return str(reply.json()["ticket"])

        def log_message(self, *_: object) -> None:
            """Nothing."""

    said: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server, sync_playwright() as playwright:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        browser = playwright.chromium.launch(executable_path=program, args=["--headless", "--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.goto(f"http://127.0.0.1:{server.server_address[1]}")
        numbers = count()

        def seen() -> bool:  # the page begins with what comes once it is there
            now = datetime.now(UTC).isoformat()
            order = {"id": f"page-{next(numbers)}", "customer": "zoe", "amount": 500, "ts": now}
            assert shop.post_events("orders", [order]).status == 200
            page.wait_for_timeout(200)
            return any("zoe" in line for line in said)

        eventually(seen)
        browser.close()
        server.shutdown()
        serving.join()
