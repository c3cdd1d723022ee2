"""Events of made-up agents, and a dashboard that runs in this process on a port of its own."""

import asyncio
import http.client
import json
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.events import FrameEvent, LinkEvent, RunEvent

TOKEN = "a-token-of-the-tests"


def run_event(at_s=100.0, **fields):
    constant = {
        "unix_s": 1.76e9, "bundle": "tiny", "bundle_digest": "ab", "source": "digits",
        "policy": "expected-utility",
        "server": "a:1", "deadline_s": 0.1, "fps": 20.0, "widths": (0.5, 1.0), "labels": ("a",),
        "teacher_utility": 0.9, "isthmus_version": "0",
    }  # fmt: skip
    return RunEvent(at_s=at_s, **{**constant, **fields})


def frame_event(at_s, frame=0, outcome="remote", **fields):
    constant = {
        "captured_s": at_s - 0.04, "point": OperatingPoint(1, 8), "payload_bytes": 120, "answer": 1,
        "latency_s": 0.04,
        "head_s": 0.01, "encode_s": 0.001, "remote_s": 0.02, "server_queue_s": 0.005,
        "server_compute_s": 0.002,
        "reason": "fits",
    }  # fmt: skip
    return FrameEvent(at_s=at_s, frame=frame, outcome=outcome, **{**constant, **fields})


def link_event(at_s, *, connected=True, rate=2e4, **fields):
    known = {"rtt_s": 0.02, "backlog_bytes": 0, "server": "a:1"}
    return LinkEvent(at_s=at_s, connected=connected, rate_bytes_per_s=rate, **known, **fields)


def lines(*events):
    return b"".join(msgspec.json.encode(event) + b"\n" for event in events)


class Events:
    """What tests make events with."""

    run = staticmethod(run_event)
    frame = staticmethod(frame_event)
    link = staticmethod(link_event)
    lines = staticmethod(lines)
    token = TOKEN


@pytest.fixture(scope="session")
def events():
    return Events


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(TOKEN + "\n")
    return path


class Running:
    """A dashboard on a thread; `ask` is one request."""

    def __init__(self, port, collector, loop):
        self.port, self.collector, self.loop = port, collector, loop

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            said = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, said)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def messages(self, *, token=None):
        """Yield (kind, content) of the stream."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(
                "GET", "/api/stream", headers={"Authorization": f"Bearer {token}"} if token else {}
            )
            answer = connection.getresponse()
            assert answer.status == 200
            kind = ""
            while line := answer.readline():
                if line.startswith(b"event: "):
                    kind = line[7:].decode().strip()
                elif line.startswith(b"data: "):
                    yield kind, json.loads(line[6:])
        finally:
            connection.close()

    def until(self, condition, *, token=None):
        """Return the first message for which `condition(kind, content)` holds."""
        give_up_s = time.monotonic() + 30
        for kind, content in self.messages(token=token):
            if condition(kind, content):
                return content
            assert time.monotonic() < give_up_s, "the dashboard never said so"
        raise AssertionError("the stream ended")


@pytest.fixture
def dashboard():
    """Return `with dashboard(paths=…, token_file=…) as running`."""
    pytest.importorskip("starlette", reason="needs the extra 'dashboard'")
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra 'dashboard'")
    from isthmus.dashboard.app import Dashboard
    from isthmus.dashboard.running import _config, _listen
    from isthmus.dashboard.settings import DashboardSettings

    @contextmanager
    def start(**told):
        settings = DashboardSettings(port=0, **told)
        listener = _listen(settings.host, 0)
        ready, made = threading.Event(), {}

        async def serve():
            app = Dashboard(settings, on_ready=ready.set)
            server = uvicorn.Server(_config(app, settings))
            made.update(server=server, collector=app.collector, loop=asyncio.get_running_loop())
            await made["server"].serve(sockets=[listener])

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        try:
            assert ready.wait(30)
            yield Running(listener.getsockname()[1], made["collector"], made["loop"])
        finally:
            made["loop"].call_soon_threadsafe(made["collector"].release)
            made["server"].should_exit = True
            thread.join(30)
            listener.close()
            assert not thread.is_alive()

    return start


@pytest.fixture
def log(tmp_path):
    """Return the path of a log that does not exist yet, in a folder that does."""
    folder = Path(tmp_path / "logs")
    folder.mkdir()
    return folder / "cam.jsonl"
