"""The page in a real Chromium: the board moves, the chart draws, an edit deploys, an assignment comes back.

Screenshots go to `$PENSTOCK_SCREENSHOTS` (default: the test's folder); the README's is made by this test.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from penstock_process import ROOT, PenstockProcess
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip
# What the page shows comes from a running system on a busy machine; farmers' reports come every eight seconds.
expect.set_options(timeout=30_000)
JWT = re.compile(r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}")


@pytest.fixture(scope="module")
def browser(need):
    program = shutil.which("chromium")
    need("chromium", program is not None, "install chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def penstock(tmp_path_factory: pytest.TempPathFactory):
    running = PenstockProcess(
        tmp_path_factory.mktemp("page") / "data", ROOT / "examples/produce-markets", ROOT / "examples/earthquakes"
    )
    running.flags = ["--sample"]
    with running:
        yield running


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("PENSTOCK_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(browser: Browser, penstock: PenstockProcess):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(30_000)
    problems: list[str] = []
    urls: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text) if is_a_problem(message) else None)
    opened.on("request", lambda request: urls.append(request.url))
    opened.on("websocket", lambda socket: urls.append(socket.url))
    opened.goto(penstock.url)
    yield opened
    context.close()
    assert problems == []
    assert all(url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:")) for url in urls), "nothing from the internet"
    assert not any(JWT.search(url) or "access_token" in url for url in urls), "no token in any URL"


def is_a_problem(message: ConsoleMessage) -> bool:
    # While an app is being replaced it is not ready for a moment, and the page asks just that.
    return message.type == "error" and "503 (Service Unavailable)" not in message.text


def wait_for_count(page: Page, selector: str, least: int) -> None:
    for _ in range(300):
        if page.locator(selector).count() >= least:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"fewer than {least} of {selector}")


def test_the_board_moves(page: Page, screenshots: Path):
    expect(page.locator(".tile")).to_have_count(6)
    expect(page.locator("#health-text")).to_contain_text("ready")
    before = page.locator("#tiles").inner_text()
    expect(page.locator("#tiles")).not_to_have_text(before)
    expect(page.locator(".tile .last").filter(has_text="₹").first).to_be_visible()
    expect(page.locator("#alerts li.alert, #alerts li.quake").first).to_be_visible()
    expect(page.locator("#quake-dots .fresh")).to_have_count(1)
    wait_for_count(page, "#quake-dots circle", 100)
    expect(page.locator("#reports button").first).to_be_visible()
    expect(page.locator("#board-rate")).to_have_text(re.compile(r"^\d\d? lots"), timeout=60_000)  # the past is loaded
    page.screenshot(path=screenshots / "board.png")


def test_the_chart_draws_what_the_summaries_say(page: Page, penstock: PenstockProcess):
    wait_for_count(page, "#chart rect", 5 * 28)
    wait_for_count(page, "#chart rect.running", 1)
    wait_for_count(page, "#chart rect:not(.running)", 5 * 25)
    bars = page.locator("#chart rect")
    heights = [float(bar.get_attribute("height") or 0) for bar in bars.all()[:50]]
    assert max(heights) > 5
    days = {row["day_start"] for row in penstock.rows("daily_arrivals")}
    assert page.locator("#chart-table tbody tr").count() == len(days)


def test_an_assignment_comes_back_as_a_pickup(page: Page, penstock: PenstockProcess, screenshots: Path):
    button = page.locator("#reports button").first
    button.click()
    done = page.locator("#reports li.done").first
    expect(done).to_be_visible()
    expect(done).to_contain_text(re.compile(r"with .* fetches .* back after \d+ ms"))
    report = done.get_attribute("data-report")
    pickups, _ = penstock.history("pickups")
    assert [event["d"]["report_id"] for event in pickups] == [report]
    assert pickups[0]["k"] == pickups[0]["d"]["driver"]
    page.locator("#farmers").screenshot(path=screenshots / "assignment.png")


def test_an_edit_is_checked_and_deployed(page: Page, penstock: PenstockProcess, screenshots: Path):
    area = page.locator("#app-sql")
    expect(page.locator("#app-name")).to_have_value("produce-markets")
    expect(page.locator("#app-hint")).to_be_visible()
    expect(area).to_have_value(re.compile("modal_price < 500"))
    sql = area.input_value()
    area.fill(sql.replace("modal_price < 500", "modal_prize < 800"))
    expect(page.locator("#app-errors li")).to_contain_text("modal_price")
    expect(page.locator("#app-gutter .bad")).to_have_count(1)
    expect(page.locator("#app-deploy")).to_be_disabled()
    page.locator("#app-errors button").click()
    assert page.evaluate("document.getElementById('app-sql').selectionStart") == sql.index("modal_price < 500")
    page.locator("#app").screenshot(path=screenshots / "edit-refused.png")
    area.fill(sql.replace("modal_price < 500", "modal_price < 800"))
    expect(page.locator("#app-status")).to_contain_text("Ready to deploy")
    _, cursor = penstock.history("cheap_lots")
    page.locator("#app-deploy").click()
    expect(page.locator("#app-status")).to_contain_text("Deployed as version 2")
    prices: list[float] = []
    for _ in range(100):
        events, cursor = penstock.history("cheap_lots", cursor)
        prices += [event["d"]["modal_price"] for event in events]
        if any(500 <= price < 800 for price in prices):
            break
        page.wait_for_timeout(100)
    assert any(500 <= price < 800 for price in prices)
    assert max(prices) < 800


def test_streams_show_rates_and_a_topic_can_be_watched(page: Page):
    row = page.locator("#stream-table tbody tr", has=page.locator("span", has_text=re.compile("^arrivals$")))
    expect(row.locator("td.num").first).to_have_text(re.compile(r"[1-9]"))
    page.get_by_role("button", name="clean_lots").click()
    expect(page.locator("#watch-lines")).to_contain_text('"t":"clean_lots"')


def test_a_rejected_event_is_shown_corrected_and_replayed(page: Page, penstock: PenstockProcess):
    bad = {"id": "page-bad", "date": "not a date", "state": "Punjab", "market": "Zira", "commodity": "Onion"}
    assert penstock.post_events("arrivals", [bad]).status == 422
    row = page.locator("#rejected-table tbody tr", has=page.locator("input[value*=page-bad]"))
    expect(row).to_be_visible()
    now = penstock.rows("clean_lots", order="date.desc", select="date")[0]["date"]
    row.locator("input").fill(row.locator("input").input_value().replace("not a date", now))
    row.get_by_role("button", name="Replay").click()
    expect(row.get_by_role("button")).to_have_text("Replayed")
    assert any(r["_id"] == "page-bad" for r in penstock.rows("raw.arrivals", select="_id", _id="eq.page-bad"))


def test_the_page_reads_well_on_a_phone_and_in_the_dark(
    browser: Browser, penstock: PenstockProcess, screenshots: Path
):
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme="dark", device_scale_factor=2, has_touch=True
    )
    phone = context.new_page()
    phone.goto(penstock.url)
    expect(phone.locator(".tile")).to_have_count(6)
    phone.wait_for_timeout(1500)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390, "no sideways scrolling"
    background = phone.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(int(part) for part in re.findall(r"\d+", background)[:3]) < 150, background
    phone.screenshot(path=screenshots / "phone-dark.png")
    phone.locator("#streams").scroll_into_view_if_needed()
    phone.screenshot(path=screenshots / "phone-dark-streams.png")
    context.close()


def test_the_log_holds_no_token(penstock: PenstockProcess):
    assert not JWT.search("\n".join([*penstock.stdout, *penstock.stderr]))
    secret = penstock.client["client_secret"]
    assert secret not in "\n".join([*penstock.stdout, *penstock.stderr])
