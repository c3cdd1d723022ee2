"""A namespace behind a shaped link: real kernels, real TCP. Needs root; skips with the reason."""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import isthmus
from isthmus.runtime.errors import InputError
from isthmus.runtime.events import EventLog, ShapeEvent, read_events
from isthmus.runtime.links import RateTrace, tun
from isthmus.runtime.links.netns import NamespaceLink, _addresses


@pytest.fixture
def root_only():
    try:
        tun.check_supported()
    except InputError as error:
        pytest.skip(str(error))


def test_addresses_are_unique_and_kept_for_benchmarks():
    pairs = [_addresses(f"isth{number}") for number in range(4096)]
    assert len({address for pair in pairs for address in pair}) == 2 * 4096
    assert pairs[0] == ("198.18.0.1", "198.18.0.2")
    assert all(address.startswith(("198.18.", "198.19.")) for pair in pairs for address in pair)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("geteuid", lambda: 1000, "needs root"),
        ("which", lambda name: None, "install iproute2"),
        ("tun", Path("/nonexistent/tun"), "modprobe tun"),
    ],
)
def test_what_is_missing_is_one_line(monkeypatch, attribute, value, message):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(tun, "_TUN", Path("/dev/null"))
    monkeypatch.setattr(shutil, "which", lambda name: "/sbin/ip")
    target = {"geteuid": (os, "geteuid"), "which": (shutil, "which"), "tun": (tun, "_TUN")}[attribute]
    monkeypatch.setattr(*target, value)
    with pytest.raises(InputError, match=message) as caught, NamespaceLink(None):
        pass
    assert "\n" not in str(caught.value)


def _connected(link, server):
    inside = link.call(lambda: socket.create_connection(server.getsockname()[:2], timeout=5))
    outside, _ = server.accept()
    outside.settimeout(5)
    return inside, outside


def _send(connection, nbytes):
    with contextlib.suppress(OSError):  # the test has read enough
        connection.sendall(b"x" * nbytes)


@pytest.mark.netns
@pytest.mark.usefixtures("root_only")
def test_tcp_is_carried_at_the_traces_rate_across_its_changes():
    trace = RateTrace([(0.1, 100_000.0), (0.1, 300_000.0)])
    with NamespaceLink(trace, delay_s=0.01) as link:
        with socket.create_server((link.host, 0)) as server:
            inside, outside = _connected(link, server)
        with inside, outside:
            writer = threading.Thread(target=_send, args=(inside, 260_000))
            writer.start()
            first_s = received = None
            while received is None or received < 150_000:
                got = len(outside.recv(65_536))
                if first_s is None:
                    first_s, received = time.monotonic(), 0
                else:
                    received += got
            last_s = time.monotonic()
            inside.shutdown(socket.SHUT_RDWR)
            outside.close()
            writer.join(5)
        begun_s = link.up.begun_s + 0.01
        carried = trace.bytes_between(first_s - begun_s, last_s - begun_s)
    # 1,448 of a packet's 1,500 bytes are the stream's.
    assert received == pytest.approx(carried * 1448 / 1500, rel=0.03)


@pytest.mark.netns
@pytest.mark.usefixtures("root_only")
def test_delay_applies_each_way_and_the_rate_is_logged(tmp_path):
    file = tmp_path / "link.jsonl"
    log = EventLog(file)
    with NamespaceLink(RateTrace([(1.0, 1e6)]), delay_s=0.03, events=log) as link:
        with socket.create_server((link.host, 0)) as server:
            inside, outside = _connected(link, server)
        with inside, outside:
            sent_s = time.monotonic()
            inside.sendall(b"ping")
            outside.sendall(outside.recv(10))
            assert inside.recv(10) == b"ping"
            took_s = time.monotonic() - sent_s
    log.close()
    assert 0.06 <= took_s < 0.09
    assert [event.rate_bytes_per_s for event in read_events(file) if isinstance(event, ShapeEvent)] == [1e6]


@pytest.mark.netns
@pytest.mark.usefixtures("root_only")
def test_lost_packets_are_sent_again_by_tcp():
    with NamespaceLink(RateTrace([(1.0, 2e6)]), loss=0.05) as link:
        with socket.create_server((link.host, 0)) as server:
            inside, outside = _connected(link, server)
        with inside, outside:
            writer = threading.Thread(target=inside.sendall, args=(b"x" * 150_000,))
            writer.start()
            received = 0
            while received < 150_000:
                received += len(outside.recv(65_536))
            writer.join(5)
        assert link.up.lost > 0


@pytest.mark.netns
@pytest.mark.usefixtures("root_only")
def test_a_killed_link_leaves_neither_device_nor_command():
    script = (
        "import sys; from isthmus.runtime.links.netns import NamespaceLink\n"
        "with NamespaceLink(None) as link:\n"
        "    process = link.start(['sleep', '60'])\n"
        "    print(process.pid, link.host, flush=True)\n"
        "    process.wait()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(isthmus.__file__).resolve().parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        pid, host = process.stdout.readline().split()
        assert host in subprocess.run(["ip", "addr"], capture_output=True, text=True, check=True).stdout
        process.send_signal(signal.SIGKILL)
        process.wait(5)
    assert host not in subprocess.run(["ip", "addr"], capture_output=True, text=True, check=True).stdout
    end_s = time.monotonic() + 5
    while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < end_s, "the command outlived the link"
        threading.Event().wait(0.01)


def test_a_command_whose_parent_was_killed_before_it_could_ask_does_not_start():
    orphan = shlex.join(tun.dying_with_parent(["echo", "started"]))
    ended = subprocess.run(["sh", "-c", f"{orphan}; echo $?"], capture_output=True, text=True, check=True)
    assert ended.stdout == "1\n"
