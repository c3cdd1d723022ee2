import contextlib
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import isthmus
from isthmus.cli import run
from isthmus.runtime.events import ShapeEvent, read_events


@pytest.fixture
def upper_server():
    """A TCP server on a thread that answers each message in capitals; its port."""
    with _upper("127.0.0.1") as port:
        yield port


@pytest.fixture
def upper_server_anywhere():
    """The same on every address of this host."""
    with _upper("0.0.0.0") as port:
        yield port


@contextlib.contextmanager
def _upper(host):

    class Upper(socketserver.BaseRequestHandler):
        def handle(self):
            while data := self.request.recv(4096):
                self.request.sendall(data.upper())

    with socketserver.ThreadingTCPServer((host, 0), Upper) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_forwards_logs_and_ends_when_told(upper_server, tmp_path, number):
    events = tmp_path / "link.jsonl"
    arguments = ["--listen", "127.0.0.1:0", "--target", f"127.0.0.1:{upper_server}"]
    arguments += ["--trace", "constant:100kB", "--delay", "5ms", "--events", str(events), "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "isthmus", "link", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Our source tree, wherever the test runs from.
        env={**os.environ, "PYTHONPATH": str(Path(isthmus.__file__).resolve().parents[1])},
    ) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["event"] == "ready"
        with socket.create_connection(("127.0.0.1", ready["port"]), timeout=5) as client:
            client.sendall(b"hello")
            assert client.recv(4096) == b"HELLO"
        process.send_signal(number)
        rest, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors
    assert json.loads(rest) == {"event": "stopped", "connections": 1, "up_bytes": 5, "down_bytes": 5}
    assert errors == ""
    assert [type(event) for event in read_events(events)] == [ShapeEvent]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--target", "127.0.0.1:1", "--trace", "nosuch"], 3, "trace 'nosuch'"),
        (["--target", "127.0.0.1:1", "--trace", "constant:5"], 3, "rate '5'"),
        (["--target", "127.0.0.1:1", "--downlink", "constant:5"], 3, "rate '5'"),
        (["--target", "127.0.0.1:1", "--delay", "10"], 3, "duration '10'"),
        (["--target", "localhost"], 3, "--target 'localhost': give HOST:PORT"),
        (["--target", "127.0.0.1:0"], 3, "--target '127.0.0.1:0'"),
        (["--target", "127.0.0.1:1", "--listen", "127.0.0.1:99999"], 3, "--listen '127.0.0.1:99999'"),
        (["--target", "127.0.0.1:1", "--listen", "203.0.113.1:0"], 5, "203.0.113.1:0: "),
        (["--target", "127.0.0.1:1", "--events", "no/such/folder/x"], 4, "no/such/folder/x"),
        ([], 2, "--target"),
    ],
)
def test_bad_input_is_one_line_and_its_exit_code(arguments, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["link", *arguments]) == code
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    if code != 2:
        assert len(errors.strip().splitlines()) == 1


def test_a_port_in_use(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert run(["link", "--target", "127.0.0.1:1", "--listen", address]) == 5
    assert f"error: {address}: Address already in use" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_said_once_and_forwarding_goes_on(upper_server):
    arguments = ["--target", f"127.0.0.1:{upper_server}", "--trace", "step:100kB@20ms,200kB@20ms"]
    with subprocess.Popen(
        [sys.executable, "-m", "isthmus", "link", *arguments, "--events", "/dev/full", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(isthmus.__file__).resolve().parents[1])},
    ) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", ready["port"]), timeout=5) as client:
            for _ in range(20):  # 20 ms each: several changes of the rate
                client.sendall(b"hello")
                assert client.recv(4096) == b"HELLO"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert errors == ("event log: /dev/full: No space left on device; forwarding goes on without it\n")


@pytest.fixture
def root_only():
    from isthmus.runtime.errors import InputError
    from isthmus.runtime.links.tun import check_supported

    try:
        check_supported()
    except InputError as error:
        pytest.skip(str(error))


@pytest.mark.netns
@pytest.mark.usefixtures("root_only")
def test_a_command_in_a_namespace_reaches_this_host_and_its_exit_code_is_ours(upper_server_anywhere, capfd):
    script = (
        "import os, socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5);"
        "s.sendall(b'hello'); print(s.recv(9), sys.argv[1] == os.environ['ISTHMUS_LINK_HOST'])\n"
        "try: socket.create_connection(('192.0.2.1', 9), 1)\n"
        "except OSError: sys.exit(7)"
    )
    command = [sys.executable, "-c", script, "{host}", str(upper_server_anywhere)]
    arguments = ["--trace", "constant:1MB", "--delay", "1ms", "--json", "--", *command]
    assert run(["link", "netns", *arguments]) == 7
    captured = capfd.readouterr()
    assert captured.out == "b'HELLO' True\n"
    counts = json.loads(captured.err)
    assert (counts["backend"], counts["exit_code"], counts["up"]["lost"]) == ("netns", 7, 0)
    assert counts["up"]["bytes"] > 5


@pytest.mark.netns
@pytest.mark.usefixtures("root_only")
def test_a_program_that_is_none_is_one_line(capsys):
    assert run(["link", "netns", "--", "/no/such/program"]) == 3
    assert "error: /no/such/program: no such program" in capsys.readouterr().err


def test_the_rate_of_a_running_link_is_set_from_the_command_line(upper_server, tmp_path, capsys):
    control = tmp_path / "link.sock"
    arguments = ["--target", f"127.0.0.1:{upper_server}", "--trace", "constant:0B", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "isthmus", "link", *arguments, "--control", str(control)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(isthmus.__file__).resolve().parents[1])},
    ) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            with socket.create_connection(("127.0.0.1", ready["port"]), timeout=30) as client:
                client.sendall(b"hello")
                assert run(["link", "set", str(control)]) == 0
                assert capsys.readouterr().out == "0 B/s (by the trace constant:0B)\n"
                assert run(["link", "set", str(control), "--rate", "50kB", "--json"]) == 0
                said = json.loads(capsys.readouterr().out)
                assert said == {"name": "constant:0B", "rate_bytes_per_s": 50_000.0, "is_set": True}
                assert client.recv(4096) == b"HELLO"
            assert run(["link", "set", str(control), "--trace"]) == 0
            assert capsys.readouterr().out == "0 B/s (by the trace constant:0B)\n"
            assert run(["link", "set", str(control), "--rate", "1B", "--trace"]) == 3
            assert run(["link", "set", str(control), "--rate", "2000GB"]) == 3
        finally:
            process.terminate()
            process.wait(30)
    assert not control.exists()
    assert run(["link", "set", str(control)]) == 5
