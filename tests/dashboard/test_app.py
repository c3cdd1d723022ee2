"""A real dashboard over HTTP: who may do what, what is refused, and what a page is told."""

import json
import time

import pytest

pytest.importorskip("starlette", reason="needs the extra 'dashboard'")

from isthmus.dashboard.app import LARGEST_POST
from isthmus.runtime.steering import Knob, SteeringSocket

NDJSON = {"Content_Type": "application/x-ndjson", "Isthmus_Run": "ab" * 8}


@pytest.fixture
def posted(events):
    """Return the keyword arguments of a good post."""

    def headers(**changed):
        good = {**NDJSON, "Isthmus_Now_S": f"{time.monotonic()}", "Authorization": f"Bearer {events.token}"}
        return {name: value for name, value in {**good, **changed}.items() if value is not None}

    return headers


def test_every_answer_is_safe_and_the_page_asks_for_nothing_elsewhere(dashboard, log):
    with dashboard(paths=(log.parent,)) as running:
        for path in (
            "/",
            "/static/main.js",
            "/static/dashboard.css",
            "/api/access",
            "/nowhere",
            "/api/devices/x",
        ):
            _, headers, body = running.ask("GET", path)
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert "server" not in headers
            assert b"http://" not in body.replace(b"http://www.w3.org/", b"")
            assert b"https://" not in body
        status, headers, body = running.ask("GET", "/")
        assert status == 200
        assert headers["content-type"].startswith("text/html")
        assert b"style=" not in body
        assert b"<script>" not in body
        assert running.ask("GET", "/static/%2e%2e%2fapp.py")[0] == 404


def test_other_sites_and_other_names_are_refused(dashboard, log):
    with dashboard(paths=(log.parent,), names=("lab.example",)) as running:
        assert running.ask("GET", "/", Host="evil.example")[0] == 403
        assert running.ask("GET", "/", Host="lab.example:8050")[0] == 200
        assert running.ask("GET", "/", Host="localhost:1")[0] == 200
        assert running.ask("GET", "/", Host="[::1]:8050")[0] == 200
        assert running.ask("GET", "/api/access", Origin="http://evil.example")[0] == 403
        assert running.ask("GET", "/api/access", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors")[0] == 403
        assert running.ask("GET", "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200


def test_a_log_that_grows_is_seen(dashboard, log, events):
    with dashboard(paths=(log.parent,)) as running:
        now_s = time.monotonic()
        log.write_bytes(
            events.lines(events.run(now_s, agent="pi"), events.frame(now_s + 0.1), events.link(now_s + 0.2))
        )
        roster = running.until(lambda kind, said: kind == "roster" and said["devices"])
        assert roster["devices"][0]["name"] == "pi"
        tick = running.until(lambda kind, said: kind == "tick" and said["devices"]["point"] == [[1, 8]])
        assert tick["devices"]["rate"] == [20_000]
        status, _, body = running.ask("GET", f"/api/devices/{log}")
        assert status == 200
        assert json.loads(body)["now"]["reason"] == "fits"
        assert running.ask("GET", "/api/devices/nobody")[0] == 404


def test_agents_post_with_the_token_and_only_with_it(dashboard, token_file, events, posted):
    body = events.lines(events.run(time.monotonic(), agent="cam"), events.link(time.monotonic()))
    with dashboard(token_file=token_file) as running:
        for wrong in (None, "Bearer wrong", "Bearer", events.token, "Basic " + events.token):
            status, _, said = running.ask("POST", "/api/events/cam", body, **posted(Authorization=wrong))
            assert (status, b"--events-token-file" in said) == (401, True)
        assert running.collector.fleet.devices == {}
        status, _, said = running.ask("POST", "/api/events/cam", body, **posted())
        assert status == 200
        assert json.loads(said)["every_s"] == 0.5
        tick = running.until(lambda kind, said: kind == "tick" and said["devices"]["state"])
        assert tick["devices"]["state"] == ["live"]


def test_a_reader_cannot_post_where_there_is_no_token(dashboard, log, events, posted):
    with dashboard(paths=(log.parent,)) as running:
        assert running.ask("POST", "/api/events/cam", events.lines(events.run()), **posted())[0] == 403


def test_an_agents_own_token_is_for_its_own_events_alone(dashboard, tmp_path, events, posted):
    agents = tmp_path / "agents"
    agents.touch(mode=0o600)
    agents.write_text("cam-1 0123456789abcdef01\ncam-2 fedcba9876543210fe\n")
    body = events.lines(events.run())
    with dashboard(agents_file=agents) as running:
        mine = posted(Authorization="Bearer 0123456789abcdef01")
        assert running.ask("POST", "/api/events/cam-1", body, **mine)[0] == 200
        assert running.ask("POST", "/api/events/cam-2", body, **mine)[0] == 401
        assert json.loads(running.ask("GET", "/api/access", **mine)[2]) == {
            "read": True,
            "steer": False,
            "token": False,
        }


@pytest.mark.parametrize(
    ("path", "changed", "body", "status"),
    [
        ("cam", {"Content_Type": "text/plain"}, b"", 415),
        ("cam", {"Isthmus_Run": "zz"}, b"", 400),
        ("cam", {"Isthmus_Now_S": "nan"}, b"", 400),
        ("cam", {"Isthmus_Now_S": None}, b"", 400),
        ("%3Cscript%3E", {}, b"", 400),
        ("x" * 65, {}, b"", 400),
        ("cam", {}, b'{"type":"frame"}\n', 400),
        ("cam", {}, b"\xff\n", 400),
        ("cam", {}, b" " * (LARGEST_POST + 1), 413),
    ],
)
def test_bad_posts_are_refused_in_one_line(dashboard, token_file, posted, path, changed, body, status):
    with dashboard(token_file=token_file) as running:
        found, _, said = running.ask("POST", f"/api/events/{path}", body, **posted(**changed))
        assert found == status
        assert said.count(b"\n") == 1
        assert running.collector.fleet.devices == {}


def test_two_agents_of_one_name_are_told_apart(dashboard, token_file, events, posted):
    body = events.lines(events.run(agent="cam"))
    with dashboard(token_file=token_file) as running:
        assert running.ask("POST", "/api/events/cam", body, **posted())[0] == 200
        status, _, said = running.ask("POST", "/api/events/cam", body, **posted(Isthmus_Run="cd" * 8))
        assert (status, b"--name" in said) == (409, True)
        assert running.ask("POST", "/api/events/cam", body, **posted())[0] == 200


class Link:
    """A process that can be steered, in this one."""

    def __init__(self, path):
        self.rates = []
        knob = Knob(
            name="rate_bytes_per_s",
            low=0.0,
            high=1e6,
            read=lambda: (5.0, bool(self.rates)),
            write=self.rates.append,
        )
        self.socket = SteeringSocket(path, kind="link", name="outage", knobs=[knob])


def test_only_the_token_turns_knobs(dashboard, token_file, log, events, tmp_path):
    import asyncio

    control = tmp_path / "link.sock"
    with dashboard(paths=(log.parent,), token_file=token_file, controls=(control,)) as running:
        link = Link(control)
        asyncio.run_coroutine_threadsafe(link.socket.start(), running.loop).result(30)
        tick = running.until(lambda kind, said: kind == "tick" and said["controls"])
        assert tick["controls"][0]["knobs"][0]["name"] == "rate_bytes_per_s"
        wish = json.dumps({"rate_bytes_per_s": 1000.0})
        assert running.ask("POST", "/api/controls/0", wish)[0] == 401
        bearer = {"Authorization": f"Bearer {events.token}"}
        assert running.ask("POST", "/api/controls/0", wish, **bearer)[0] == 200
        assert link.rates == [1000.0]
        for body, status in ((b"{", 400), (b'{"rate_bytes_per_s": 1e9}', 400), (b'{"other": 1}', 400)):
            assert running.ask("POST", "/api/controls/0", body, **bearer)[0] == status
        assert running.ask("POST", "/api/controls/7", wish, **bearer)[0] == 404
        asyncio.run_coroutine_threadsafe(link.socket.close(), running.loop).result(30)
        assert running.ask("POST", "/api/controls/0", wish, **bearer)[0] == 502
    assert link.rates == [1000.0]
