"""A marketer opens the Dagster UI, and the report, and finds what they look for."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import TestHome


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def served(
    demo_home: TestHome, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    port = free_port()
    home = tmp_path_factory.mktemp("ui") / "home"
    shutil.copytree(demo_home.settings.root, home)
    log = home / "dagster.log"
    with log.open("w") as stream:
        # as a script starts it in the background: interrupts are ignored
        ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
        rekindle = [sys.executable, "-m", "orchestration.cli"]
        server = subprocess.Popen(
            [*ignoring, *rekindle, "ui", "--port", str(port)],
            env={**os.environ, "REKINDLE_HOME": str(home)},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(address, server, log)
            yield address
        finally:
            started = psutil.Process(server.pid).children(recursive=True)
            server.terminate()
            server.wait(120)
    _, alive = psutil.wait_procs(started, 60)
    assert not [process for process in alive if process.status() != "zombie"]
    assert not re.findall(r"(?m)^.* (?:ERROR|CRITICAL) .*$", log.read_text())


def wait_for(address: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"the UI ended at once:\n{log.read_text()}")
        try:
            with urllib.request.urlopen(f"{address}/server_info", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the UI did not answer:\n{log.read_text()}")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        expect.set_options(timeout=60_000)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser: Browser, served: str) -> Page:
    page = browser.new_page(base_url=served, viewport={"width": 1500, "height": 1100})
    page.set_default_timeout(60_000)
    return page


CHARTED = (
    "attribution/channel_performance",
    *("identity/identity_map", "identity/identity_merges"),
    *("identity/identity_conflicts", "ml/calibration", "ml/drift", "ml/score_reasons"),
)


@pytest.mark.parametrize("asset", CHARTED)
def test_an_asset_says_what_it_is_and_shows_a_chart_and_a_table(
    page: Page, asset: str
) -> None:
    page.goto(f"/assets/{asset}")
    expect(page.get_by_text("One row per").first).to_be_visible()
    metadata = page.locator("tr")
    table = metadata.filter(has=page.get_by_text("table", exact=True)).first
    expect(table).to_be_visible()
    chart = metadata.filter(has=page.get_by_text("chart", exact=True)).first
    chart.get_by_text("Show Markdown").click()
    expect(page.locator("img[src^='data:image/svg+xml']").first).to_be_visible()


def test_the_attribution_table_tells_of_every_model(page: Page) -> None:
    page.goto("/assets/attribution/channel_performance")
    expect(page.locator("table", has_text="markov").first).to_be_visible()


def test_the_lineage_leads_from_touchpoints_to_channels(page: Page) -> None:
    page.goto("/assets/attribution/channel_performance?view=lineage")
    expect(page.get_by_text("credits").first).to_be_visible()
    expect(page.get_by_text("channel_performance").first).to_be_visible()


def test_the_overview_shows_the_runs_of_the_command_line(page: Page) -> None:
    page.goto("/overview/activity/timeline")
    expect(page.get_by_text("orchestration.definitions").first).to_be_visible()
    expect(page.get_by_role("link", name="loop").first).to_be_visible()


def test_the_page_of_the_job_lists_each_run_by_its_moment(
    page: Page, demo_home: TestHome
) -> None:
    moments = demo_home.read("select as_of from raw.runs")["as_of"]
    page.goto("/locations/orchestration.definitions/jobs/loop/runs")
    for moment in moments:
        tag = page.get_by_text(f"as_of: {moment.isoformat()}Z")
        expect(tag.first).to_be_visible()
    expect(page.get_by_text("Success", exact=True)).to_have_count(len(moments))


@pytest.fixture
def report(browser: Browser, demo_home: TestHome) -> Iterator[Page]:
    """The first page of the report on a phone in the dark; it must not complain."""
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "about:"))
            else complaints.append(request.url)
        ),
    )
    page.goto((demo_home.settings.report / "index.html").as_uri())
    yield page
    page.close()
    assert not complaints


def test_every_page_of_the_report_fits_a_phone(report: Page) -> None:
    names = report.get_by_role("navigation").get_by_role("link").all_inner_texts()
    assert len(names) == 13
    for name in names:
        report.get_by_role("navigation").get_by_role("link", name=name).click()
        expect(report.get_by_role("heading", level=1)).to_be_visible()
        assert report.evaluate("document.documentElement.scrollWidth") <= 390, name


def test_a_person_is_looked_up_by_keyboard_alone(
    report: Page, demo_home: TestHome
) -> None:
    first, last = demo_home.read("""
        select first_name, last_name from profiles.profiles
        where not is_hub and first_name is not null and last_name is not null
        and profile_id in (select profile_id from decisions.decisions)
        order by profile_id limit 1
    """).row(0)
    report.get_by_role("link", name="One person").first.click()
    report.get_by_label("Name, email, phone or id").fill(f"{last} {first}")
    report.keyboard.press("Enter")
    found = report.get_by_role("heading", level=2, name=f"{first} {last}")
    expect(found).to_be_focused()
    expect(report.get_by_role("table").first).to_be_visible()
