"""The developer portal in a real Chromium: try-it, a killed gateway, commands as printed, keyboard, phone, dark.

Screenshots go to `$PENSTOCK_SCREENSHOTS` (default: the test's folder); the one in docs/images is made here.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from penstock_process import PenstockProcess, eventually
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip
expect.set_options(timeout=30_000)
APP = """\
CREATE TABLE readings (
  id STRING, sensor STRING, celsius DOUBLE, n BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'penstock', 'key' = 'sensor');
CREATE TABLE warm WITH ('connector' = 'penstock', 'key' = 'sensor')
AS SELECT sensor, celsius, n, ts FROM readings WHERE celsius > 20;
CREATE TABLE latest (sensor STRING, n BIGINT, PRIMARY KEY (sensor) NOT ENFORCED) WITH ('connector' = 'penstock');
CREATE TABLE brief WITH ('connector' = 'penstock', 'retention' = '1 s') AS SELECT n FROM readings;
INSERT INTO latest SELECT sensor, COUNT(*) FROM readings GROUP BY sensor;
SET 'table.exec.state.ttl' = '1 d';
"""
PAGES = ("/docs", "/docs/topics/warm", "/docs/relations/latest", "/docs/applications", "/docs/reference")
RESTARTING = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "WebSocket connection to",
              "ERR_INCOMPLETE_CHUNKED_ENCODING", "503 (Service Unavailable)")  # fmt: skip


@pytest.fixture(scope="module")
def browser(need) -> Iterator[Browser]:
    program = shutil.which("chromium")
    need("chromium", program is not None, "install chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def penstock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PenstockProcess]:
    folder = tmp_path_factory.mktemp("portal")
    (folder / "app").mkdir()
    (folder / "app" / "app.sql").write_text(APP)
    trimming = {"PENSTOCK_LOG__TRIM_INTERVAL_S": "0.5"}
    with PenstockProcess(folder / "data", folder / "app", env=trimming) as running:
        yield running


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("PENSTOCK_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Visit:
    """A page, with what went wrong in it and what it asked for."""

    def __init__(self, context: BrowserContext) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(30_000)
        self.problems: list[str] = []
        self.urls: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._said)
        self.page.on("request", lambda request: self.urls.append(request.url))
        self.page.on("websocket", lambda socket: self.urls.append(socket.url))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(message.text)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    made = Visit(context)
    yield made
    context.close()
    assert made.problems == []
    assert all(url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:")) for url in made.urls), "all from here"
    assert not any("access_token" in url or "eyJ" in url for url in made.urls), "no token in any URL"


class Sender:
    """Sends readings, numbered from 1 on, so that a gap would show."""

    def __init__(self, penstock: PenstockProcess) -> None:
        self._penstock = penstock
        self.sent = 0

    def send(self, count: int, *, celsius: float = 25.0) -> int:
        """The number of the last one."""
        now = subprocess.run(["date", "-u", "+%Y-%m-%dT%H:%M:%S"], capture_output=True, text=True).stdout.strip()
        first = self.sent + 1
        rows = [
            {"id": f"r{n}", "sensor": f"s{n % 3}", "celsius": celsius + n % 7, "n": n, "ts": now}
            for n in range(first, first + count)
        ]
        reply = self._penstock.post_events("readings", rows)
        assert reply.status == 200, reply.body
        self.sent += count
        return self.sent


@pytest.fixture(scope="module")
def sender(penstock: PenstockProcess) -> Sender:
    made = Sender(penstock)
    made.send(30)
    eventually(lambda: len(penstock.history("warm")[0]) == 30)
    return made


def connect(page: Page, *, after: str = "latest", filter_: str = "", format_: str = "envelope") -> None:
    page.locator("#try-after").fill(after)
    page.locator("#try-filter").fill(filter_)
    page.locator("#try-format").select_option(format_)
    page.get_by_role("button", name="Connect", exact=True).click()


def shown(page: Page) -> list[int]:
    """Column n of the events in the list, oldest first."""
    texts = page.locator("#try-events code").all_inner_texts()
    return [int(re.search(r'"n": (\d+)', text).group(1)) for text in reversed(texts)]


def test_a_topic_is_found_and_tried_with_filter_column_and_pause(visit, penstock, sender, screenshots):
    page = visit.page
    page.goto(penstock.url + "/docs")
    page.keyboard.press("/")
    page.keyboard.type("celsius warm")
    expect(page.locator("#search-found")).to_have_text("2 found")  # the topic and the relation
    page.locator("#topics").get_by_role("link", name="warm").click()
    expect(page.locator("#sample-kind")).to_have_text("The newest one.")
    connect(page, filter_="n % 2 = 0")
    expect(page.locator("#try-state-text")).to_have_text("live")
    sender.send(20)
    expect(page.locator("#try-count")).to_have_text("10")
    assert all(n % 2 == 0 for n in shown(page))
    page.locator("#try-column").select_option("n")
    last = sender.send(20)
    expect(page.locator("#try-value")).to_have_text(str(last))
    expect(page.locator("#try-column-chart path.line")).to_have_attribute("d", re.compile(r"M .* L "))
    expect(page.locator("#try-rate-chart path.line")).to_have_attribute("d", re.compile(r"M .* L "))
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#try-state-text")).to_have_text("paused")
    sender.send(10)
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#try-count")).to_have_text("25")
    assert shown(page) == [n for n in range(31, 81) if n % 2 == 0], "nothing is missing after a pause"
    page.screenshot(path=screenshots / "portal-topic.png", full_page=True)


def test_what_the_server_refuses_is_said_in_words(visit, penstock, sender):
    page = visit.page
    page.goto(penstock.url + "/docs/topics/warm")
    connect(page, filter_="fahrenheit > 3")
    expect(page.locator("#try-problem")).to_contain_text("fahrenheit")
    expect(page.locator("#try-state-text")).to_have_text("not connected")
    connect(page, after="latest", format_="raw")
    expect(page.locator("#try-state-text")).to_have_text("live")
    expect(page.locator("#try-problem")).to_be_hidden()
    last = sender.send(1)
    expect(page.locator("#try-events code")).to_have_text(re.compile(rf'^{{ "sensor":.*"n": {last},'))
    visit.problems[:] = [text for text in visit.problems if "400 (Bad Request)" not in text]  # it was asked for


def until_in_page(page: Page, holds: str, argument: object = None) -> None:
    """Until the function is true in the page. Playwright's own wait evaluates text there at each further look,
    which the page's Content-Security-Policy forbids.
    """
    for _ in range(600):
        if page.evaluate(holds, argument):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true in the page: {holds}")


def test_sockets_and_event_sources_of_a_page_go_on_without_loss_after_the_gateway_is_killed(visit, penstock, sender):
    page = visit.page
    page.goto(penstock.url + "/docs/topics/warm")
    connect(page)
    expect(page.locator("#try-state-text")).to_have_text("live")
    page.evaluate(
        """() => { window.seen = []; window.opened = 0;
          const source = new EventSource("/v1/topics/warm?after=latest");
          source.addEventListener("sys", () => { window.opened += 1; });
          source.onmessage = ({ data }) => window.seen.push(JSON.parse(data).d.n); }"""
    )
    until_in_page(page, "() => window.opened > 0")
    first = sender.sent + 1
    sender.send(7)
    expect(page.locator("#try-count")).to_have_text("7")
    penstock.kill()
    expect(page.locator("#try-state-text")).to_have_text("reconnecting…")
    expect(page.locator("#try-notice")).to_contain_text("Connection lost")
    penstock.start()
    last = sender.send(7)  # before anybody is back, most likely
    expect(page.locator("#try-notice")).to_have_text(re.compile(r"^Back after [\d.]+ s\. .* nothing is missing\.$"))
    expect(page.locator("#try-count")).to_have_text("14")
    assert shown(page) == list(range(first, last + 1))
    until_in_page(page, "last => window.seen.includes(last)", last)
    assert page.evaluate("window.seen") == list(range(first, last + 1))
    visit.problems[:] = [text for text in visit.problems if not any(known in text for known in RESTARTING)]


def test_a_gap_is_said_where_events_are_no_longer_kept(visit, penstock, sender):
    def kept() -> list[dict[str, object]]:
        sender.send(1)
        return penstock.history("brief")[0]

    first = eventually(kept)[0]
    sender.send(3)
    path = f"/v1/topics/brief?after={first['c']}"
    eventually(lambda: "gap" in penstock.get(path))
    page = visit.page
    page.goto(penstock.url + "/docs/topics/brief")
    connect(page, after=first["c"])
    expect(page.locator("#try-notice")).to_have_text(re.compile(r"^Gap: .* no longer kept and were left out\.$"))
    expect(page.locator("#try-state-text")).to_have_text("live")


def test_a_plan_that_is_used_up_for_a_second_is_said_and_nothing_is_lost(visit, penstock, sender):
    asked = b'{"name":"Small","plan":"bronze","scope":"warm:read"}'
    made = penstock.call("POST", "/v1/applications", asked, headers={"Content-Type": "application/json"}).json()
    credentials = {name: made[name] for name in ("client_id", "client_secret")}
    page = visit.page
    assert page.context.request.post(penstock.url + "/session", data=credentials).status == 200
    page.goto(penstock.url + "/docs/topics/warm")
    expect(page.locator(".who")).to_contain_text(made["client_id"])
    connect(page)
    expect(page.locator("#try-state-text")).to_have_text("live")
    for _ in range(8):
        last = sender.send(10)  # 50 at once are within the burst of 5 s
    expect(page.locator("#try-notice")).to_have_text(re.compile(r"^The plan lets nothing through .* without loss\.$"))
    expect(page.locator("#try-count")).to_have_text("80")
    assert shown(page) == list(range(last - 49, last + 1)), "the list holds 50"
    assert penstock.call("DELETE", f"/v1/applications/{made['client_id']}").status == 204


def commands_of(penstock: PenstockProcess, path: str) -> dict[str, str]:
    """The commands of a page, as whoever copies them gets them."""
    text = penstock.call("GET", path).body.decode()
    found = re.findall(r'id="command-(\w+)".*?<pre data-copy><code>(.*?)</code></pre>', text, re.DOTALL)
    return {name: html.unescape(command) for name, command in found}


def first_line(script: str, environment: dict[str, str], pattern: str) -> str:
    """Run a script in a shell until a line of its output matches; what it said otherwise."""
    with subprocess.Popen(
        ["bash", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        start_new_session=True,
    ) as running:
        limit = threading.Timer(30, lambda: os.killpg(running.pid, 9))
        limit.start()
        try:
            said = []
            for line in running.stdout:
                said.append(line)
                if re.search(pattern, line):
                    return line
            raise AssertionError("".join(said))
        finally:
            limit.cancel()
            if running.poll() is None:
                os.killpg(running.pid, 9)


@pytest.mark.parametrize(
    "name", ["page", "sse", "websocat", "python", "javascript", "python_client", "javascript_client"]
)
def test_a_command_of_a_topic_works_as_printed(penstock, sender, need, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    programs = {"websocat": "websocat", "javascript": "node", "javascript_client": "node"}
    need(programs.get(name, "curl"), shutil.which(programs.get(name, "curl")) is not None, "install it")
    commands = commands_of(penstock, "/docs/topics/warm")
    line = first_line(commands["token"] + "\n" + commands[name], credentials(penstock), "celsius")
    assert "celsius" in line


@pytest.mark.parametrize("name", ["rows", "python", "javascript"])
def test_a_command_of_a_relation_works_as_printed(penstock, sender, need, name):
    need("node", name != "javascript" or shutil.which("node") is not None, "install Node.js")
    commands = commands_of(penstock, "/docs/relations/warm")
    line = first_line(commands["token"] + "\n" + commands[name], credentials(penstock), "celsius")
    assert "sensor" in line


def credentials(penstock: PenstockProcess) -> dict[str, str]:
    client = penstock.client
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "CLIENT_ID": client["client_id"], "CLIENT_SECRET": client["client_secret"]}


def test_everything_can_be_done_with_the_keyboard(visit, penstock, sender):
    page = visit.page
    page.goto(penstock.url + "/docs/topics/warm")

    def tab_to(name: str, limit: int = 60) -> None:
        for _ in range(limit):
            page.keyboard.press("Tab")
            found = page.evaluate("document.activeElement.textContent.trim() || document.activeElement.name || ''")
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle !== 'none'"), found
            if found == name:
                return
        raise AssertionError(f"no way to {name} with the Tab key")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    tab_to("filter")
    page.keyboard.type("celsius > 0")
    tab_to("Connect")
    page.keyboard.press("Enter")
    expect(page.locator("#try-state-text")).to_have_text("live")
    sender.send(1)
    expect(page.locator("#try-count")).to_have_text("1")
    tab_to("Token")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#command-page")).to_be_visible()
    expect(page.locator("#command-token")).to_be_hidden()
    page.keyboard.press("End")
    expect(page.locator("#command-javascript_client")).to_be_visible()
    assert page.evaluate("document.activeElement.id") == "tab-javascript_client"


def test_documents_are_shown_and_can_be_downloaded(visit, penstock, sender):
    page = visit.page
    page.goto(penstock.url + "/docs/topics/warm")
    page.locator("#documents").scroll_into_view_if_needed()
    expect(page.locator("#asyncapi pre code")).to_contain_text('"asyncapi": "3.0.0"')
    page.get_by_role("tab", name="OpenAPI 3.1").click()
    expect(page.locator("#openapi pre code")).to_contain_text('"/v1/topics/warm"')
    with page.expect_download() as download:
        page.locator("#openapi").get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "warm.openapi.json"


def test_a_topic_can_be_deprecated_in_its_page(visit, penstock, sender):
    page = visit.page
    page.goto(penstock.url + "/docs/topics/latest")
    form = page.locator("#lifecycle-form")
    form.get_by_label("State").select_option("deprecated")
    form.get_by_label("Successor").select_option("warm")
    form.get_by_label("Description").fill("How many readings a sensor sent.")
    form.get_by_role("button", name="Save").click()
    expect(page.locator(".banner")).to_contain_text("Use warm instead")
    expect(page.locator(".lead")).to_have_text("How many readings a sensor sent.")
    connect(page)
    expect(page.locator("#try-notice")).to_contain_text("This topic is deprecated. Use warm")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_pages_read_well_on_a_desk_and_on_a_phone_light_and_dark(
    browser, penstock, sender, screenshots, width, scheme
):
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    visit = Visit(context)
    for path in PAGES:
        visit.page.goto(penstock.url + path, wait_until="networkidle")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} scrolls sideways"
        background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        dark = sum(int(part) for part in re.findall(r"\d+", background)[:3]) < 150
        assert dark == (scheme == "dark"), background
        name = path.removeprefix("/docs").strip("/").replace("/", "-") or "home"
        visit.page.screenshot(path=screenshots / f"portal-{name}-{width}-{scheme}.png", full_page=True)
    visit.page.goto(penstock.url + "/docs/reference#lines")
    target, header = visit.page.locator("#lines").bounding_box(), visit.page.locator("header.top").bounding_box()
    assert target is not None and header is not None
    assert target["y"] >= header["y"] + header["height"], "hidden behind the header"
    context.close()
    assert visit.problems == []


def test_the_tour_register_token_live_chart_usage(visit, penstock, sender, screenshots):
    page = visit.page
    page.goto(penstock.url + "/docs/applications")
    expect(page.locator("#applications-count")).to_have_text("None yet; register one below.")
    form = page.locator("#register-form")
    form.get_by_label("Name").fill("Back office")
    form.get_by_role("radio", name="silver").check()
    form.get_by_role("button", name="Register").click()
    expect(page.locator("#credentials-name")).to_have_text("Back office")
    secret = page.locator("#credentials-secret").inner_text()
    command = page.locator("#credentials-command").inner_text()
    page.screenshot(path=screenshots / "portal-credentials.png", full_page=True)
    page.get_by_role("button", name="I have kept it").click()
    expect(page.locator("#credentials")).to_be_hidden()
    assert secret not in page.content()

    page.goto(penstock.url + "/docs/topics/warm")
    connect(page)
    expect(page.locator("#try-state-text")).to_have_text("live")
    sender.send(5)
    expect(page.locator("#try-count")).to_have_text("5")
    expect(page.locator("#try-rate-chart path.line")).to_have_attribute("d", re.compile(r"M .* L "))

    read = commands_of(penstock, "/docs/topics/warm")["page"]
    assert "celsius" in first_line(f"{command}\n{read}", {"PATH": os.environ["PATH"]}, "celsius")
    page.goto(penstock.url + "/docs/applications")
    page.get_by_role("button", name="Usage").click()
    today = page.locator(".usage tbody tr").last
    page.locator(".usage summary").click()
    expect(today.locator("td").nth(4)).to_have_text("1")  # one page was read
    expect(page.locator(".usage-chart rect.bar")).to_have_count(7)
    page.screenshot(path=screenshots / "portal-applications.png", full_page=True)

    page.get_by_role("button", name="New secret").click()
    page.locator("#confirm-yes").click()
    expect(page.locator("#credentials-secret")).not_to_have_text(secret)
    expect(page.locator("#credentials-secret")).not_to_be_empty()
    page.get_by_role("button", name="Delete").click()
    page.keyboard.press("Escape")
    expect(page.locator(".application")).to_have_count(1)
    page.get_by_role("button", name="Delete").click()
    page.locator("#confirm-yes").click()
    expect(page.locator(".application")).to_have_count(0)
