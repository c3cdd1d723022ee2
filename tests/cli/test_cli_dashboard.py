"""`isthmus dashboard` and the commands that steer, as a user types them."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

import isthmus
from isthmus.cli import run

pytest.importorskip("starlette", reason="needs the extra 'dashboard'")
pytest.importorskip("uvicorn", reason="needs the extra 'dashboard'")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_told_and_ends_at_once_although_a_page_is_open(tmp_path, number):
    with subprocess.Popen(
        [sys.executable, "-m", "isthmus", "dashboard", str(tmp_path), "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(isthmus.__file__).resolve().parents[1])},
    ) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        with urllib.request.urlopen(ready["url"] + "api/stream", timeout=60) as stream:
            assert stream.readline() == b"event: roster\n"
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 3, "nothing to show"),
        (["no/such/folder"], 3, "no such file or folder"),
        ([".", "--host", "0.0.0.0"], 3, "--token-file, or --insecure"),
        ([".", "--metrics", "nowhere"], 3, "--metrics 'nowhere'"),
        ([".", "--token-file", "absent"], 3, "absent"),
        ([".", "--host", "203.0.113.1", "--insecure"], 5, "203.0.113.1:8050"),
    ],
)
def test_errors_are_one_line(arguments, code, message, capsys):
    assert run(["dashboard", *arguments]) == code
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert run(["dashboard", ".", "--port", str(taken.getsockname()[1])]) == 5
    assert "give another --port" in " ".join(capsys.readouterr().err.split())


@pytest.fixture
def steerable(tmp_path):
    """A process with a deadline, on a thread of this one; its socket file."""
    from isthmus.runtime.steering import Knob, SteeringSocket

    held, loop, ready = [None], asyncio.new_event_loop(), threading.Event()
    knob = Knob(
        name="deadline_s",
        low=0.005,
        high=1.0,
        read=lambda: (0.15 if held[0] is None else held[0], held[0] is not None),
        write=lambda value: held.__setitem__(0, value),
    )
    listener = SteeringSocket(tmp_path / "agent.sock", kind="agent", name="pi", knobs=[knob])

    def serve():
        loop.run_until_complete(listener.start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(listener.close())
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(30)
    yield str(tmp_path / "agent.sock")
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)


def test_a_deadline_is_set_from_the_command_line(steerable, capsys):
    for arguments, said in (
        ([], "pi: deadline 150 ms (as at the start)\n"),
        (["--deadline", "80ms"], "pi: deadline 80 ms (set)\n"),
        (["--deadline", "start"], "pi: deadline 150 ms (as at the start)\n"),
    ):
        assert run(["agent", "set", steerable, *arguments]) == 0
        assert capsys.readouterr().out == said
    assert run(["agent", "set", steerable, "--deadline", "5s"]) == 3
    assert "deadline_s 5: give 0.005 to 1" in " ".join(capsys.readouterr().err.split())
    assert run(["agent", "set", steerable, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "pi", "deadline_s": 0.15, "is_set": False}
