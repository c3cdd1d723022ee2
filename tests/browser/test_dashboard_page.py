"""The dashboard in a real browser, over real logs and processes."""

import re

import pytest

pytest.importorskip("starlette", reason="needs the extra 'dashboard'")
pytest.importorskip("uvicorn", reason="needs the extra 'dashboard'")

TOKEN = "a-token-of-the-tests"


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(TOKEN)
    return path


def shown(watched):
    """Wait until the page shows a device's charts."""
    watched.page.wait_for_selector("body:not(.stale) #charts path.median", state="attached")
    return watched.page


def test_it_opens_shows_the_outage_and_fits(opened, processes, live_log, screenshots):
    ready = processes("dashboard", live_log(), "--port", "0", "--json")
    for size, scheme in (("wide", "light"), ("wide", "dark"), ("phone", "light"), ("phone", "dark")):
        watched = opened(ready["url"], size=size, scheme=scheme)
        page = shown(watched)
        assert page.inner_text("#device-title") == "cam"
        # Ten seconds in which the device answered by itself, between others.
        bars = page.locator("#charts .f-exit").first.get_attribute("d")
        assert 9 <= bars.count("M") <= 12
        watched.until("document.querySelector('#charts path.true').getAttribute('d').length > 20")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(253, 253, 252)") == (scheme == "light")
        assert watched.fits()
        page.screenshot(path=screenshots / f"dashboard-{size}-{scheme}.png", full_page=True)
        assert watched.errors == []


def test_an_outage_now_is_an_alarm(opened, processes, live_log, screenshots):
    ready = processes("dashboard", live_log(outage_s=(8.0, -1.0)), "--port", "0", "--json")
    watched = opened(ready["url"])
    page = shown(watched)
    page.wait_for_selector("#alarm-list li.serious")
    assert "Outage: cam" in page.inner_text("#alarm-list") or "Silent: cam" in page.inner_text("#alarm-list")
    assert re.match(r"\(\d\) Isthmus", page.title())
    page.screenshot(path=screenshots / "dashboard-alarm.png")
    assert watched.errors == []


def test_many_devices_by_keyboard(opened, processes, live_log, screenshots):
    for number in range(40):
        folder = live_log(f"cam-{number:02d}", shapes=False, seconds=12.0, outage_s=(-1.0, -1.0))
    ready = processes("dashboard", folder, "--port", "0", "--json")
    watched = opened(ready["url"])
    page = watched.page
    watched.until("document.querySelectorAll('#tiles [role=option]').length === 40")
    shown(watched)
    order = watched.focus_order(12)
    assert order[0] == "A#"  # skip to the content
    assert {"INPUT#find", "SELECT#show", "SELECT#colour", "DIV#charts"} <= set(order)
    page.focus("#tiles [tabindex='0']")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "cam-02" in page.inner_text("#peek")
    page.keyboard.press("Enter")
    assert page.inner_text("#device-title") == "cam-02"
    page.keyboard.press("End")
    page.keyboard.press("Space")
    assert page.inner_text("#device-title") == "cam-39"
    page.fill("#find", "cam-1")
    assert page.inner_text("#fleet-title") == "10 of 40 devices"
    page.fill("#find", "")
    page.select_option("#colour", "latency")
    page.focus("#charts")
    page.keyboard.press("ArrowLeft")
    assert "−1 s" in page.inner_text("#charts")
    page.screenshot(path=screenshots / "dashboard-fleet.png", full_page=True)
    assert watched.errors == []


def test_nothing_an_agent_says_becomes_markup(opened, processes, live_log):
    evil = "<img src=x onerror=\"document.title='owned'\">"
    ready = processes("dashboard", live_log(bundle=evil), "--port", "0", "--json")
    watched = opened(ready["url"])
    page = shown(watched)
    assert evil in page.inner_text("#device-facts")
    assert page.locator("main img").count() == 0
    assert "owned" not in page.title()
    assert watched.errors == []


def test_it_survives_a_dashboard_that_is_started_again(opened, live_log, tmp_path):
    from isthmus.cli._processes import Children

    folder = live_log()
    with Children() as first:
        ready = first.start_service(["dashboard", str(folder), "--port", "0", "--json"])
        watched = opened(ready["url"])
        page = shown(watched)
        assert page.inner_text("#status-text") == "live"
    page.wait_for_selector("body.stale .status.lost")
    assert "no connection for" in page.inner_text("#status-text")
    with Children() as second:
        second.start_service(["dashboard", str(folder), "--port", str(ready["port"]), "--json"])
        page.wait_for_selector("body:not(.stale) .status.live")
        page.wait_for_selector("#charts path.median", state="attached")
    # A connection that is refused is the browser's own line; the page itself has made no mistake.
    assert all("ERR_" in error for error in watched.errors)


def test_the_token_is_asked_for_and_a_wrong_one_refused(opened, processes, live_log, token_file):
    ready = processes("dashboard", live_log(), "--token-file", token_file, "--port", "0", "--json")
    watched = opened(ready["url"])
    page = shown(watched)
    page.click("#lock")
    page.fill("#token", "not the token")
    page.keyboard.press("Enter")
    watched.until("document.querySelector('#unlock-error').textContent !== ''")
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    watched.until("document.querySelector('#lock').textContent === 'Lock'")
    assert page.is_hidden("#unlock")
    page.click("#lock")
    watched.until("document.querySelector('#lock').textContent === 'Unlock'")
    assert watched.errors == []


@pytest.fixture
def better_by_server(tiny_bundle, tmp_path):
    """Return a bundle whose device alone is worse than the server: without its local network."""
    import shutil

    import msgspec

    from isthmus.runtime.bundle import LOCAL, POINTS, load_bundle, write_manifest

    root = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, root)
    bundle = load_bundle(root)
    (root / LOCAL).unlink()
    (root / POINTS).write_bytes(msgspec.json.encode(msgspec.structs.replace(bundle.points, local=None)))
    write_manifest(root, bundle.manifest)
    return root


@pytest.fixture
def playground(processes, better_by_server, token_file, tmp_path):
    """Return the address, with the token, of a dashboard over a real server, link and agent."""
    import subprocess
    import sys

    from isthmus.cli._processes import stop

    server = processes(
        "serve", better_by_server, "--port", "0", "--metrics-port", "0", "--threads", "1", "--json"
    )
    logs, sockets = tmp_path / "run", [tmp_path / "link.sock", tmp_path / "agent.sock"]
    logs.mkdir()
    link = processes(
        "link", "--target", f"127.0.0.1:{server['port']}", "--trace", "constant:100kB",
        "--events", logs / "link.jsonl", "--control", sockets[0], "--json",
    )  # fmt: skip
    ready = processes(
        "dashboard", logs, "--metrics", f"127.0.0.1:{server['metrics_port']}", "--control", sockets[0],
        "--control", sockets[1], "--token-file", token_file, "--port", "0", "--json",
    )  # fmt: skip
    agent = [
        "agent", str(better_by_server), "--name", "pi", "--server", f"127.0.0.1:{link['port']}", "--source",
        "synthetic", "--fps", "20", "--deadline", "250ms", "--events", str(logs / "events.jsonl"),
        "--control", str(sockets[1]), "--quiet",
    ]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "isthmus", *agent], stdout=subprocess.DEVNULL)
    yield f"{ready['url']}#token={TOKEN}"
    stop(process)


# Notes when the page shows another operating point, without asking from outside how it fares.
_STOPWATCH = """() => {
  const point = document.querySelector('#now-point');
  window.changes = [];
  new MutationObserver(() => changes.push([performance.now(), point.textContent]))
    .observe(point, { childList: true, characterData: true, subtree: true });
}"""
_MOVE = """([id, place]) => {
  const slider = document.querySelector(`input[id$=${id}]`);
  slider.value = place;
  window.moved = performance.now();
  slider.dispatchEvent(new Event('input', { bubbles: true }));
}"""


def until_sends(watched, *, sends):
    """Wait until the page says that the device sends (or does not)."""
    watched.until(f"/^width/.test(document.querySelector('#now-point').textContent) === {str(sends).lower()}")


@pytest.mark.slow
def test_the_sliders_change_the_operating_point_within_a_second(opened, playground, screenshots):
    watched = opened(playground)
    page = shown(watched)
    assert TOKEN not in page.url
    until_sends(watched, sends=True)
    page.wait_for_selector("#server-list dd")
    page.evaluate(_STOPWATCH)
    took_s = {}
    # (what is moved, where to, whether the device then still sends)
    moves = [
        ("rate_bytes_per_s", 0, False),
        ("rate_bytes_per_s", 700, True),
        ("deadline_s", 60, False),
        ("deadline_s", 800, True),
    ]
    for knob, place, sends in moves:
        page.evaluate("changes.length = 0")
        page.evaluate(_MOVE, [knob, str(place)])
        until_sends(watched, sends=sends)
        at_ms = page.evaluate(
            f"changes.find(([, text]) => /^width/.test(text) === {str(sends).lower()})[0] - moved"
        )
        took_s[f"{knob} to {place}"] = at_ms / 1e3
        page.wait_for_timeout(2500)  # the next move begins from a steady state
    print(took_s)
    page.screenshot(path=screenshots / "dashboard-sliders.png", full_page=True)
    assert max(took_s.values()) < 1.0, took_s
    assert watched.errors == []


def test_a_slider_moves_by_keyboard(opened, processes, live_log, token_file, tmp_path):
    control = tmp_path / "link.sock"
    processes("link", "--target", "127.0.0.1:9", "--trace", "constant:10kB", "--control", control, "--json")
    arguments = ["--control", control, "--token-file", token_file, "--port", "0", "--json"]
    watched = opened(processes("dashboard", live_log(), *arguments)["url"] + f"#token={TOKEN}")
    page = shown(watched)
    page.wait_for_selector("#knobs input:enabled")
    page.focus("#knobs input")
    before = page.get_attribute("#knobs input", "aria-valuetext")
    assert before == "10 kB/s"
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    watched.until("document.querySelector('.knob .origin').textContent === 'set here'")
    assert float(page.get_attribute("#knobs input", "aria-valuetext").split()[0]) > 10
    page.click("#knobs button")
    watched.until("document.querySelector('#knobs input').getAttribute('aria-valuetext') === '10 kB/s'")
    assert watched.errors == []
