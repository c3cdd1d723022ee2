"""A real headless Chromium; every page is watched for errors, and screenshots are kept for people."""

import contextlib
import os
import shutil
import time
from pathlib import Path

import pytest

SIZES = {"wide": (1280, 900), "phone": (390, 844)}
# A loaded machine takes its time.
PATIENCE_MS = 60_000


def _chromium():
    return os.environ.get("ISTHMUS_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def screenshots():
    """Return the folder that pictures go to: ISTHMUS_SCREENSHOTS, else build/screenshots."""
    root = Path(__file__).resolve().parents[2] / "build" / "screenshots"
    folder = Path(os.environ.get("ISTHMUS_SCREENSHOTS", root))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# While Playwright's synchronous interface is open, an event loop runs in this thread, and no other test could
# start its own.
@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra 'dev')")
    if _chromium() is None:
        pytest.skip("needs Chromium: install it, or name it in ISTHMUS_CHROMIUM")
    with playwright.sync_playwright() as started:
        # Chromium's own sandbox refuses to start as root; what it opens here is ours.
        browser = started.chromium.launch(
            executable_path=_chromium(), args=["--no-sandbox"], timeout=PATIENCE_MS
        )
        yield browser
        browser.close()


class Watched:
    """A page, and what went wrong on it."""

    def __init__(self, page):
        self.page = page
        self.errors = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def until(self, expression):
        """Wait until JavaScript's `expression` holds; the page's own policy forbids Playwright's way."""
        give_up_s = time.monotonic() + PATIENCE_MS / 1e3
        while not self.page.evaluate(expression):
            assert time.monotonic() < give_up_s, f"never became true: {expression}"
            self.page.wait_for_timeout(50)

    def fits(self):
        """Say whether nothing makes the page scroll sideways."""
        return self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def focus_order(self, presses):
        """Return what has the focus after each press of Tab: tag and id."""
        seen = []
        for _ in range(presses):
            self.page.keyboard.press("Tab")
            seen.append(
                self.page.evaluate("document.activeElement.tagName + '#' + document.activeElement.id")
            )
        return seen


@pytest.fixture
def opened(browser):
    """Return `opened(url, size="wide", scheme="light")`, a watched page; leaving it fails on any error."""
    with contextlib.ExitStack() as stack:

        def open_(url, *, size="wide", scheme="light"):
            width, height = SIZES[size]
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=1.5
            )
            stack.callback(context.close)
            watched = Watched(context.new_page())
            watched.page.goto(url, timeout=PATIENCE_MS)
            return watched

        yield open_


@pytest.fixture
def processes():
    """Return `start(*arguments)`, which starts a verb and returns its ready line; all end with the test."""
    from isthmus.cli._processes import Children

    with Children() as children:
        yield lambda *arguments: children.start_service([str(argument) for argument in arguments])


@pytest.fixture
def live_log(tmp_path):
    """Return `write(name, outage_s=…)`: the log of an agent that has run for 90 s until now."""
    from isthmus.runtime.bundle import OperatingPoint
    from isthmus.runtime.events import EventLog, FrameEvent, LinkEvent, RunEvent, ShapeEvent

    folder = tmp_path / "logs"
    folder.mkdir()

    def write(name="cam", *, outage_s=(60.0, 50.0), bundle="tiny", shapes=True, seconds=90.0):
        now_s = time.monotonic()
        log = EventLog(folder / f"{name}.jsonl")
        log.write(
            RunEvent(
                at_s=now_s - seconds, unix_s=time.time() - seconds, bundle=bundle, bundle_digest="ab",
                source="digits", policy="expected-utility",
                server="127.0.0.1:8001", deadline_s=0.15, fps=10.0,
                widths=(0.25, 0.5, 1.0), labels=("a",), teacher_utility=0.9, isthmus_version="0", agent=name,
            )
        )  # fmt: skip
        for number in range(int(seconds * 10)):
            before_s = seconds - number / 10
            out = outage_s[0] >= before_s > outage_s[1]
            at_s = now_s - before_s
            log.write(
                FrameEvent(
                    at_s=at_s, frame=number, captured_s=at_s - 0.04, outcome="exit" if out else "remote",
                    point=OperatingPoint(number // 300, 4 * (1 + number // 300)), payload_bytes=140, answer=0,
                    latency_s=0.14 if out else 0.04 + 0.01 * (number % 3), head_s=0.01, encode_s=0.001,
                    remote_s=None if out else 0.025, reason="because of the test",
                )
            )  # fmt: skip
            if number % 10 == 9:
                rate = 0.0 if out else 2e4
                log.write(
                    LinkEvent(at_s=at_s, connected=True, rate_bytes_per_s=rate, rtt_s=0.02, backlog_bytes=0)
                )
        log.close()
        if shapes:
            link = EventLog(folder / "link.jsonl")
            for before_s, rate in ((seconds, 2.2e4), (outage_s[0], 0.0), (outage_s[1], 2.4e4)):
                if before_s >= 0:
                    link.write(ShapeEvent(at_s=now_s - before_s, rate_bytes_per_s=rate))
            link.close()
        return folder

    return write
