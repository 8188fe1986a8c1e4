"""The clients against a server that is killed in mid-stream: every event once, in order, in each of them.

Python with and without an event loop, JavaScript in Node (over an event stream) and in Chromium (over a WebSocket).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol

import pytest
from penstock_process import PROGRAM, PenstockProcess, eventually
from playwright.sync_api import Page, sync_playwright

from penstock.client import AsyncClient, Client, ClientLimits

QUICK = ClientLimits(attempts_max=1_000, backoff_first_s=0.05, backoff_max_s=0.2)
EVENTS = 3_000
BATCH = 50
START = datetime.now(UTC)


def order(n: int) -> dict[str, object]:
    return {"id": f"o{n}", "customer": "ann", "amount": 100.0 + n, "ts": START + timedelta(milliseconds=n)}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PenstockProcess]:
    folder = tmp_path_factory.mktemp("shop")
    subprocess.run([PROGRAM, "init", folder / "shop"], check=True, capture_output=True)
    with PenstockProcess(folder / "penstock-data", folder / "shop") as running:
        yield running


class Follower(Protocol):
    """What has been seen so far, and what ended it early."""

    error: BaseException | None

    @property
    def seen(self) -> list[int]:
        """Numbers of orders."""
        ...


class InThread(threading.Thread):
    """Follows `large_orders` in a thread; `seen` are the numbers of the orders, `error` is what ended it early."""

    def __init__(self, shop: PenstockProcess) -> None:
        super().__init__(daemon=True)
        self.file = shop.data / "client.json"
        self.seen: list[int] = []
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.follow()
        except BaseException as error:  # of another thread: the test raises it
            self.error = error

    def follow(self) -> None:
        raise NotImplementedError


class ByClient(InThread):
    def follow(self) -> None:
        with Client(client_file=self.file, limits=QUICK) as penstock:
            for event in penstock.subscribe("large_orders", after="earliest"):
                self.seen.append(round(event.data["amount"]) - 100)
                if len(self.seen) == EVENTS:
                    return


class ByAsyncClient(InThread):
    def follow(self) -> None:
        asyncio.run(self.follow_topic())

    async def follow_topic(self) -> None:
        async with AsyncClient(client_file=self.file, limits=QUICK) as penstock:
            async for event in penstock.subscribe("large_orders", after="earliest"):
                self.seen.append(round(event.data["amount"]) - 100)
                if len(self.seen) == EVENTS:
                    return


NODE_SCRIPT = """
import { connect } from "./client.mjs";
const [url, clientId, clientSecret, wanted] = process.argv.slice(2);
const penstock = connect(url, { clientId, clientSecret, limits: { backoffFirstMs: 50, backoffMaxMs: 200 } });
let seen = 0;
for await (const event of penstock.subscribe("large_orders", { after: "earliest" })) {
  console.log(Math.round(event.data.amount) - 100);
  if (++seen === Number(wanted)) break;
}
"""


class ByNode(InThread):
    def __init__(self, shop: PenstockProcess, folder: Path) -> None:
        self.folder = folder
        (folder / "client.mjs").write_bytes(shop.call("GET", "/client.js").body)
        (folder / "follow.mjs").write_text(NODE_SCRIPT)
        client = shop.client
        self.command = ["node", "follow.mjs", shop.url, client["client_id"], client["client_secret"], str(EVENTS)]
        super().__init__(shop)

    def follow(self) -> None:
        running = subprocess.Popen(self.command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert running.stdout is not None and running.stderr is not None
        for line in running.stdout:
            self.seen.append(int(line))
        assert running.wait(20) == 0, running.stderr.read().decode()
        running.stdout.close()
        running.stderr.close()


class Publisher(InThread):
    """Publishes the orders from `first` on, in order, however often the server is killed."""

    def __init__(self, shop: PenstockProcess, first: int) -> None:
        self.first = first
        super().__init__(shop)

    def follow(self) -> None:
        with Client(client_file=self.file, limits=QUICK) as penstock:
            for start in range(self.first, self.first + EVENTS, BATCH):
                published = penstock.publish("orders", [order(n) for n in range(start, start + BATCH)])
                assert published.rejected == 0, published
                self.seen += range(start, start + BATCH)


def kill_in_mid_stream(shop: PenstockProcess, followers: Sequence[Follower], *, first: int, kills: int) -> None:
    """Kill and start again when everybody is somewhere in the middle, then let them come to the end."""
    everybody = [*followers, Publisher(shop, first)]
    for kill in range(1, kills + 1):
        eventually(partial(all_have, everybody, EVENTS * kill // (kills + 2)))
        shop.kill()
        shop.start()
    eventually(partial(all_have, everybody, EVENTS))


def all_have(followers: Sequence[Follower], count: int) -> bool:
    for follower in followers:
        if follower.error is not None:
            raise follower.error
    return all(len(follower.seen) >= count for follower in followers)


def test_python_and_node_see_every_event_once_in_order_over_kills(shop: PenstockProcess, tmp_path: Path, need):
    need("node", shutil.which("node") is not None, "install Node 20 or newer")
    followers = [ByClient(shop), ByAsyncClient(shop), ByNode(shop, tmp_path)]
    kill_in_mid_stream(shop, followers, first=0, kills=2)
    for follower in followers:
        follower.join(20)
        assert follower.error is None
        assert follower.seen == list(range(EVENTS)), type(follower).__name__
    assert not [thread for thread in threading.enumerate() if thread.name == "penstock-client"]


class Dropping(threading.Thread):
    """A proxy before the server that swallows the first reply to a request for events and hangs up."""

    def __init__(self, shop: PenstockProcess) -> None:
        super().__init__(daemon=True)
        self.server = ("127.0.0.1", shop.port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.swallowed = b""
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                threading.Thread(target=self.carry, args=(self.listener.accept()[0],), daemon=True).start()

    def carry(self, caller: socket.socket) -> None:
        with caller, socket.create_connection(self.server) as server, contextlib.suppress(OSError):
            while request := caller.recv(1 << 20):
                server.sendall(request)
                reply = server.recv(1 << 20)
                if b"/events" in request and not self.swallowed:
                    self.swallowed = reply
                    return
                caller.sendall(reply)


def test_events_whose_reply_was_lost_are_sent_again_and_stored_once(shop: PenstockProcess):
    proxy = Dropping(shop)
    client = shop.client
    orders = [{"customer": "lost", "amount": 5.0 + n, "ts": START} for n in range(3)]
    with Client(
        proxy.url, client_id=client["client_id"], client_secret=client["client_secret"], limits=QUICK
    ) as penstock:
        published = penstock.publish("orders", orders)
    proxy.listener.close()
    assert b'"accepted":3' in proxy.swallowed
    assert (published.accepted, published.duplicate) == (0, 3), "the second time the server knew them"
    stored = [row for row in shop.rows("raw.orders", select="customer,amount") if row["customer"] == "lost"]
    assert [row["amount"] for row in stored] == [5.0, 6.0, 7.0]


FOLLOW = """async (ticket) => {
  const { connect } = await import("SERVER/client.js");
  window.seen = []; window.notices = [];
  const limits = { backoffFirstMs: 50, backoffMaxMs: 200 };
  const penstock = connect("SERVER", ticket ? { limits, ticket: window.ticketOf } : { limits });
  window.subscription = penstock.subscribe("large_orders", {
    after: "latest",
    onEvent: (event) => window.seen.push(Math.round(event.data.amount) - 100),
    onNotice: (notice) => window.notices.push(notice.sys),
  });
}"""


class OnPage:
    """A page that follows `large_orders` in Chromium."""

    error = None

    def __init__(self, page: Page, url: str, server: str) -> None:
        self.page = page
        page.goto(url)
        page.evaluate(FOLLOW.replace("SERVER", server), url != server)
        eventually(lambda: "open" in page.evaluate("window.notices"))

    @property
    def seen(self) -> list[int]:
        return self.page.evaluate("window.seen")


@pytest.fixture
def own_page(tmp_path: Path) -> Iterator[str]:
    """The address of a page on a server of its own, which is another origin."""
    (tmp_path / "index.html").write_text("<!doctype html>")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        serving.join()


def test_pages_of_this_and_of_another_origin_see_every_event_once_over_a_kill(
    shop: PenstockProcess, own_page: str, need
):
    program = shutil.which("chromium")
    need("chromium", program is not None, "install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--headless", "--no-sandbox"])
        foreign, ours = browser.new_page(), browser.new_page()

        def ticket_of(topic: str) -> str:
            body = json.dumps({"topic": topic, "origin": own_page}).encode()
            reply = shop.call("POST", "/v1/tickets", body, headers={"Content-Type": "application/json"})
            return str(reply.json()["ticket"])

        foreign.expose_function("ticketOf", ticket_of)
        pages = [OnPage(foreign, own_page, shop.url), OnPage(ours, shop.url, shop.url)]  # the second by its session
        kill_in_mid_stream(shop, pages, first=EVENTS, kills=1)
        for page in pages:
            assert page.seen == list(range(EVENTS, 2 * EVENTS))
            assert "closed" in page.page.evaluate("window.notices")
            page.page.evaluate("window.subscription.closed.then(() => { window.over = true; }); 0")
            page.page.evaluate("window.subscription.close()")
            eventually(partial(page.page.evaluate, "window.over === true"))
        browser.close()


SLOWLY = """async () => {
  const { connect } = await import("SERVER/client.js");
  const limits = { buffer: 300, backoffFirstMs: 10, backoffMaxMs: 20 };
  window.slow = []; window.breaks = 0;
  const penstock = connect("SERVER", { limits });
  const onNotice = (notice) => { window.breaks += notice.sys === "closed"; };
  for await (const event of penstock.subscribe("large_orders", { after: "earliest", onNotice })) {
    window.slow.push(Math.round(event.data.amount) - 100);
    if (window.slow.length === WANTED) break;
    if (window.slow.length % 100 === 0) await new Promise((done) => setTimeout(done, 5));
  }
  return [window.slow, window.breaks];
}"""


def test_a_page_that_is_slower_than_the_topic_keeps_a_bounded_buffer_and_misses_nothing(shop: PenstockProcess, need):
    program = shutil.which("chromium")
    need("chromium", program is not None, "install chromium")
    have = len(shop.history("large_orders")[0])
    if have < EVENTS:  # this test alone
        with Client(client_file=shop.data / "client.json") as penstock:
            penstock.publish("orders", [order(n) for n in range(EVENTS)])
        eventually(lambda: len(shop.history("large_orders")[0]) == EVENTS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--headless", "--no-sandbox"])
        page = browser.new_page()
        page.goto(shop.url)
        seen, breaks = page.evaluate(SLOWLY.replace("SERVER", shop.url).replace("WANTED", str(EVENTS)))
        browser.close()
    assert seen == list(range(EVENTS))
    assert breaks > 0, "a full buffer ends the connection, and it goes on from its cursor"
