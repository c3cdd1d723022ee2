"""What a dashboard costs with many devices: its process, and the page in a real browser.

Options:
    agents: How many made-up agents stream their events.
    fps: Frames a second of each.
    seconds: How long each way is measured.

Two ways, one after the other: the agents' logs are followed, and the agents post their events. Another
process makes the events, in real time, as agents write them (`_dashboard_agents.py`); `isthmus dashboard` is
a process of its own and sees every one of them. `cpu_share` is its processor time over the wall time, of one
core; `event_us` the same per event. A headless Chromium, under Playwright, holds the page open meanwhile:
`frame_ms` are the times between its frames (16.7 is one at 60 Hz), `handling_ms` what the page's code needs
for the message of a second, style and layout not included, `long_tasks` the tasks over 50 ms. Without
Chromium (its path in ISTHMUS_CHROMIUM, else the one on PATH) these are None.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from isthmus.cli._processes import stop
from isthmus.runtime.errors import InputError

# Until every agent has been heard and the page's charts are there.
_WARM_S = 6.0
# A page whose frames come at 30 Hz does not feel slow.
_FRAME_MS = 1000 / 30

_WATCH = """() => {
  window.frames_ms = []; window.long_tasks = 0; performance.clearMeasures();
  let before = performance.now();
  const next = (now) => { frames_ms.push(now - before); before = now; requestAnimationFrame(next); };
  requestAnimationFrame((now) => { before = now; requestAnimationFrame(next); });
  const count = (list) => { long_tasks += list.getEntries().length; };
  new PerformanceObserver(count).observe({ type: 'longtask' });
}"""
_REPORT = """() => ({
  frames: frames_ms, long_tasks, tiles: document.querySelectorAll('#tiles [role=option]').length,
  handling: performance.getEntriesByName('tick').map((entry) => entry.duration),
})"""


def run(
    *, quick: bool = False, agents: int = 1000, fps: float = 20.0, seconds: float = 30.0
) -> dict[str, Any]:
    """Return the figures of both ways."""
    if quick:
        agents, seconds = 30, 3.0
    if agents < 2 or fps <= 0 or seconds <= 0:
        raise InputError("dashboard needs agents of 2 or more, fps and seconds above 0")
    figures = {way: _measure(way, agents=agents, fps=fps, seconds=seconds) for way in ("followed", "posted")}
    ratios = {
        way: {
            "cpu_of_a_core": found["cpu_share"],
            "page_p95_frame_over_30_hz": found["page"] and found["page"]["frame_ms"]["p95"] / _FRAME_MS,
            "page_slowest_handling_over_50_ms": found["page"] and found["page"]["handling_ms"]["max"] / 50.0,
        }
        for way, found in figures.items()
    }
    return {"figures": {"agents": agents, "fps": fps, "seconds": seconds, **figures}, "ratios": ratios}


def _measure(way: str, *, agents: int, fps: float, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        token, logs = Path(folder) / "token", Path(folder) / "logs"
        token.touch(mode=0o600)
        token.write_text("benchmark-token-0123456789")
        logs.mkdir()
        command = [sys.executable, "-m", "isthmus", "dashboard", str(logs), "--token-file", str(token)]
        dashboard = stack.enter_context(_child([*command, "--port", "0", "--json"]))
        url = json.loads(_line(dashboard))["url"]
        told = {"agents": agents, "fps": fps, "seconds": seconds + 60.0}
        told |= {"folder": str(logs)} if way == "followed" else {"url": url, "token_file": str(token)}
        streams = stack.enter_context(_child([sys.executable, "-m", "benchmarks._dashboard_agents"]))
        assert streams.stdin is not None
        streams.stdin.write(json.dumps(told).encode() + b"\n")
        streams.stdin.flush()
        assert _line(streams) == b"ready\n", "the made-up agents did not begin"
        process = psutil.Process(dashboard.pid)
        page = stack.enter_context(_page(url))
        _wait(page, _WARM_S)
        if page is not None:
            page.evaluate(_WATCH)
        before_s, began_s = _cpu_s(process), time.monotonic()
        _wait(page, seconds)
        cpu_s, wall_s = _cpu_s(process) - before_s, time.monotonic() - began_s
        seen = None if page is None else page.evaluate(_REPORT)
        live, tick_bytes = _one_tick(url)
        return {
            "cpu_share": cpu_s / wall_s,
            "event_us": 1e6 * cpu_s / (agents * (fps + 1) * wall_s),
            "rss_mb": process.memory_info().rss / 1e6,
            "tick_bytes": tick_bytes,
            "devices_live": live,
            "page": None if seen is None else _page_figures(seen),
        }


def _page_figures(seen: dict[str, Any]) -> dict[str, Any]:
    return {
        "tiles": seen["tiles"],
        "messages": len(seen["handling"]),
        "frame_ms": _spread(seen["frames"]),
        "handling_ms": _spread(seen["handling"]),
        "long_tasks": seen["long_tasks"],
    }


def _spread(values: list[float]) -> dict[str, float]:
    p50, p95, p99, most = np.percentile(values, (50, 95, 99, 100))
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(most)}


@contextmanager
def _child(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    root = Path(__file__).parents[1]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
    try:
        yield process
    finally:
        stop(process)
        assert process.stdin is not None
        process.stdin.close()


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


@contextmanager
def _page(url: str) -> Iterator[Any]:
    """Yield the dashboard's page in a headless Chromium; None without one."""
    chromium = os.environ.get("ISTHMUS_CHROMIUM") or shutil.which("chromium")
    if chromium is None or importlib.util.find_spec("playwright") is None:
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's own sandbox refuses to start as root; the page is ours.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url, timeout=120_000)
        page.wait_for_selector("#tiles [role=option]", state="attached", timeout=120_000)
        yield page
        browser.close()


def _wait(page: Any, seconds: float) -> None:
    if page is None:
        time.sleep(seconds)
    else:  # Playwright handles its messages only while it is called
        page.wait_for_timeout(seconds * 1000)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _one_tick(url: str) -> tuple[int, int]:
    """Return how many devices are live, and the size of the message of a second."""
    with urllib.request.urlopen(f"{url}api/stream", timeout=30) as stream:
        for line in stream:
            if line.startswith(b"data: ") and b'"totals"' in line:
                return json.loads(line[6:])["totals"]["live"], len(line)
    raise InputError(f"{url}: the stream ended; see what the dashboard said")
