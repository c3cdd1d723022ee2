"""A real HTTP server on loopback whose answers a test decides."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from isthmus.device_agents.delivery.event_post import Dashboard, EventPost
from isthmus.runtime.errors import InputError
from isthmus.runtime.events import LinkEvent, RunEvent

RUN = RunEvent(
    at_s=1.0, unix_s=2.0, bundle="tiny", bundle_digest="ab", source="digits", policy="local", server="a:1",
    deadline_s=0.1, fps=10.0, widths=(1.0,), labels=("a",), teacher_utility=0.9, isthmus_version="0",
)  # fmt: skip


def link(at_s):
    return LinkEvent(at_s=at_s, connected=True, rate_bytes_per_s=1.0, rtt_s=0.1, backlog_bytes=0)


class Receiver:
    """Takes posts and answers with `status` and `body`."""

    def __init__(self, port=0):
        self.posts, self.status, self.body = [], 200, b'{"every_s": 0.2}'
        self.came = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.came:
                    receiver.posts.append((self.path, dict(self.headers), body))
                    receiver.came.notify_all()
                self.send_response(receiver.status)
                self.send_header("Content-Length", str(len(receiver.body)))
                self.end_headers()
                self.wfile.write(receiver.body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def events(self):
        return [json.loads(line) for _, _, body in list(self.posts) for line in body.splitlines()]

    def until(self, condition):
        with self.came:
            assert self.came.wait_for(condition, timeout=30)

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_events_come_in_order_with_the_token_and_behind_the_runs_first(receiver, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret\n")
    token.chmod(0o600)
    notes = []
    post = EventPost(Dashboard(url=receiver.url, name="cam-1", token_file=token), note=notes.append)
    post.write(RUN)
    for number in range(5):
        post.write(link(float(number)))
    receiver.until(lambda: len(receiver.posts) >= 2)
    post.close()
    path, headers, _ = receiver.posts[0]
    assert path == "/api/events/cam-1"
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Type"] == "application/x-ndjson"
    assert abs(float(headers["Isthmus-Now-S"]) - time.monotonic()) < 60
    assert {body.splitlines()[0] for _, _, body in receiver.posts} == {
        receiver.posts[0][2].splitlines()[0]
    }  # every batch says whose it is
    assert [event["at_s"] for event in receiver.events() if event["type"] == "link"] == [0, 1, 2, 3, 4]
    assert (post.lost, notes) == (0, [])


def test_what_was_not_taken_is_sent_again_when_the_dashboard_is_back():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    notes = []
    post = EventPost(Dashboard(url=f"http://127.0.0.1:{port}", name="cam-1"), note=notes.append)
    post.write(RUN)
    post.write(link(1.0))
    give_up_s = time.monotonic() + 30
    while not notes and time.monotonic() < give_up_s:
        time.sleep(0.02)
    receiver = Receiver(port)
    try:
        post.write(link(2.0))
        receiver.until(lambda: sum(event["type"] == "link" for event in receiver.events()) >= 2)
        post.close()
    finally:
        receiver.close()
    assert [event["at_s"] for event in receiver.events() if event["type"] == "link"] == [1, 2]
    assert "Connection refused" in notes[0]
    assert notes[-1].endswith("takes events again")


def test_a_refusal_is_said_once_in_the_dashboards_words(receiver):
    receiver.status, receiver.body = 401, b"give the token of --token-file"
    notes = []
    post = EventPost(Dashboard(url=receiver.url, name="cam-1"), note=notes.append)
    post.write(RUN)
    post.write(link(1.0))
    receiver.until(lambda: len(receiver.posts) >= 2)
    post.close()
    assert notes == [
        f"dashboard {receiver.url}: give the token of --token-file; the run goes on, events are kept"
    ]
    assert post.lost == 1


def test_a_full_buffer_loses_the_oldest_and_counts_them(monkeypatch):
    monkeypatch.setattr("isthmus.device_agents.delivery.event_post._MOST_BYTES", 1000)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never answers
        post = EventPost(
            Dashboard(url=f"http://127.0.0.1:{silent.getsockname()[1]}", name="a"), note=lambda _: None
        )
        began_s = time.perf_counter()
        for number in range(1000):
            post.write(link(float(number)))
        # Nobody who writes waits for the dashboard.
        assert time.perf_counter() - began_s < 2.0
        assert post.lost > 900
        post._closing.set()


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:80", "ftp://x", "http://", "http://h:99999", "http://h/path", "http://u:p@h", "http://h?q"],
)
def test_other_addresses_are_refused(url):
    with pytest.raises(InputError, match="give http://HOST:PORT"):
        Dashboard(url=url, name="a")


def test_a_token_does_not_cross_a_network_in_plain_text(tmp_path):
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o600)
    Dashboard(url="http://127.0.0.1:1", name="a", token_file=token)
    Dashboard(url="https://example.org:1", name="a", token_file=token)
    with pytest.raises(InputError, match="use https://"):
        Dashboard(url="http://example.org:1", name="a", token_file=token)
