"""`isthmus serve` as a user runs it: its own process, its lines, its exit codes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest

import isthmus
from isthmus.runtime.wire import InferenceStub, latent_request, oip, parse_stream_answer

REPOSITORY = Path(isthmus.__file__).resolve().parents[1]

PATIENCE_S = 60


def _command(*arguments):
    return [sys.executable, "-m", "isthmus", "serve", *(str(argument) for argument in arguments)]


def _environment():
    # One thread, and our source tree wherever the test runs from.
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def _run(*arguments):
    return subprocess.run(
        _command(*arguments),
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture
def serve():
    """Return `serve(*arguments)`, which starts a server and returns it with its ready line, parsed."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            _command(*arguments, "--port", "0", "--threads", "1", "--json"),
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        line = process.stdout.readline()
        assert line, process.stderr.read()
        return process, json.loads(line)

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_is_ready_answers_and_drains_on_a_signal(serve, tiny_bundle, number):
    process, ready = serve(tiny_bundle)
    assert ready == {
        "event": "ready",
        "port": ready["port"],
        "models": ["tiny"],
        "provider": "CPUExecutionProvider",
        "providers": {"tiny": "CPUExecutionProvider"},
    }
    latent = np.full((1, 4, 4, 4), 100, np.uint8)
    frames = 40
    with grpc.insecure_channel(f"127.0.0.1:{ready['port']}") as channel:
        stub = InferenceStub(channel)
        requests = (
            latent_request(model="tiny", frame_id=str(frame), latent_nchw=latent, budget_us=60_000_000)
            for frame in range(frames)
        )
        answers = [parse_stream_answer(message) for message in stub.ModelStreamInfer(requests)]
    assert sorted(int(answer.frame_id) for answer in answers) == list(range(frames))
    assert {answer.outcome for answer in answers} == {"ok"}
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    stopped = json.loads(out)
    assert (stopped["event"], stopped["outcomes"], stopped["complete"]) == ("stopped", {"ok": frames}, True)
    assert "CPUExecutionProvider" in err
    assert "Traceback" not in err


def test_a_stop_in_mid_stream_answers_what_was_accepted(serve, tiny_bundle):
    process, ready = serve(tiny_bundle)
    latent = np.full((1, 4, 4, 4), 100, np.uint8)
    answered = []
    with grpc.insecure_channel(f"127.0.0.1:{ready['port']}") as channel:
        sent = 0

        def endless():
            nonlocal sent
            while True:
                yield latent_request(model="tiny", frame_id=str(sent), latent_nchw=latent, budget_us=None)
                sent += 1

        call = InferenceStub(channel).ModelStreamInfer(endless())

        def read_all():
            for message in call:
                answer = parse_stream_answer(message)
                assert answer.outcome == "ok", answer
                answered.append(int(answer.frame_id))
                if len(answered) == 20:
                    process.send_signal(signal.SIGTERM)

        with pytest.raises(grpc.RpcError):
            read_all()
    assert (call.code(), call.details()) == (
        grpc.StatusCode.UNAVAILABLE,
        "the server is draining; connect to another",
    )
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    # Every frame that the server counts has reached us, and those are the first ones sent, without a gap.
    assert json.loads(out)["outcomes"] == {"ok": len(answered)}
    assert sorted(answered) == list(range(len(answered)))


def test_several_bundles_in_one_process(serve, tiny_bundle, make_tiny_bundle, tmp_path):
    other = make_tiny_bundle(tmp_path / "other", name="other", seed=3)
    _, ready = serve(tiny_bundle, other)
    assert ready["models"] == ["tiny", "other"]
    with grpc.insecure_channel(f"127.0.0.1:{ready['port']}") as channel:
        stub = InferenceStub(channel)
        assert all(stub.ModelReady(oip.ModelReadyRequest(name=name)).ready for name in ready["models"])


def test_without_json_the_lines_are_for_people(tiny_bundle):
    with subprocess.Popen(
        _command(tiny_bundle, "--port", "0", "--threads", "1"),
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        ready = process.stdout.readline()
        process.terminate()
        stopped = process.stdout.read()
    assert ready.startswith("ready on 127.0.0.1:")
    assert ready.endswith(": tiny (CPUExecutionProvider)\n")
    assert stopped.startswith("stopped after ")
    assert stopped.endswith("frames: none\n")
    assert process.returncode == 0


def _one_line(result, code):
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_a_taken_port_is_exit_5_and_one_line(tiny_bundle):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = _run(tiny_bundle, "--port", port)
    assert _one_line(result, 5) == (
        f"error: 127.0.0.1:{port}: cannot be bound: Address already in use; "
        "stop what uses it, or give another --host or --port (0 = any free one)"
    )


def test_a_flipped_byte_is_exit_4_and_one_line(tiny_bundle, tmp_path):
    altered = shutil.copytree(tiny_bundle, tmp_path / "altered")
    head = bytearray((altered / "heads/w050.onnx").read_bytes())
    head[10] ^= 1
    (altered / "heads/w050.onnx").write_bytes(head)
    line = _one_line(_run(altered, "--port", 0), 4)
    assert line.startswith(f"error: {altered / 'heads/w050.onnx'}: SHA-256 differs from manifest.json")


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["nowhere"], 4, "error: nowhere: no such bundle directory; make one with 'isthmus export'"),
        (["nowhere", "--host", "0.0.0.0"], 3, "error: --host 0.0.0.0 is reachable from other hosts"),
        (["nowhere", "--grace", "5"], 3, "error: duration '5' is not a number with a unit"),
        (["nowhere", "--threads", "0"], 3, "error: --threads 0 is out of range; give 1 to 1024"),
        (["nowhere", "--host", "300.1.1.1"], 5, "error: --host 300.1.1.1: "),
    ],
)
def test_a_users_mistake_is_one_line_and_its_exit_code(arguments, code, line, tmp_path):
    assert _one_line(_run(*arguments), code).startswith(line)
