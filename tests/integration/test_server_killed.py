"""Kill the server in the middle of a run and start it again; stop the agent in the middle of one.

Real processes, synchronised by what they write: the server's ready line and the agent's event log.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

import isthmus
from isthmus.runtime.bundle import LOCAL, POINTS, load_bundle, write_manifest
from isthmus.runtime.events import EndEvent, FrameEvent, LinkEvent, read_events

REPOSITORY = Path(isthmus.__file__).resolve().parents[1]
PATIENCE_S = 30


@pytest.fixture(scope="module")
def split_bundle(make_tiny_bundle, tmp_path_factory):
    """A bundle without local.onnx, with which the device would be as good as the server and send nothing."""
    root = make_tiny_bundle(tmp_path_factory.mktemp("split") / "tiny")
    bundle = load_bundle(root)
    (root / LOCAL).unlink()
    table = msgspec.structs.replace(bundle.points, local=None)
    (root / POINTS).write_bytes(msgspec.json.encode(table))
    write_manifest(root, bundle.manifest)
    return root


@pytest.fixture(scope="module")
def frames_npz(tiny_images, tmp_path_factory):
    images, labels = tiny_images
    path = tmp_path_factory.mktemp("frames") / "frames.npz"
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture
def start(tmp_path):
    """Return `start(*arguments)`, which runs `isthmus ...`; what still runs at the end is killed."""
    running = []

    def launch(*arguments):
        path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        process = subprocess.Popen(
            [sys.executable, "-m", "isthmus", *(str(argument) for argument in arguments)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield launch
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE_S)


def _ready_port(server):
    line = server.stdout.readline()
    assert line, server.stderr.read()
    return json.loads(line)["port"]


def _frames(path):
    """Return the frames ended so far; the log is being written."""
    if not path.exists():
        return []
    return [event for event in read_events(path) if isinstance(event, FrameEvent)]


def _wait(condition, agent):
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert agent.poll() is None, agent.stderr.read()
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.02)


def _count(path, outcomes, *, after=-1):
    return sum(event.outcome in outcomes and event.frame > after for event in _frames(path))


def _account(path):
    """Check that every captured frame ended exactly once, and return the frames in order and the end."""
    events = list(read_events(path))
    frames = sorted(
        (event for event in events if isinstance(event, FrameEvent)), key=lambda event: event.frame
    )
    end = events[-1]
    assert isinstance(end, EndEvent)
    assert [event.frame for event in frames] == list(range(end.captured))
    assert Counter(event.outcome for event in frames) == Counter(end.outcomes)
    assert sum(end.outcomes.values()) == end.captured
    return frames, end


def test_the_agent_outlives_its_server_and_finds_it_again(start, split_bundle, frames_npz, tmp_path):
    log = tmp_path / "events.jsonl"
    server = start("serve", split_bundle, "--port", 0, "--threads", 1, "--json")
    port = _ready_port(server)
    agent = start(
        *(
            "agent",
            split_bundle,
            "--server",
            f"127.0.0.1:{port}",
            "--source",
            f"npz:{frames_npz}",
            "--fps",
            20,
        ),
        *("--deadline", "200ms", "--events", log, "--json"),
    )
    _wait(lambda: _count(log, {"remote"}) >= 15, agent)

    server.kill()
    server.wait(PATIENCE_S)
    last_before = _frames(log)[-1].frame
    _wait(lambda: _count(log, {"exit"}, after=last_before) >= 20, agent)
    # What the device answered meanwhile came in time, although frames were in flight when the server died.
    assert _count(log, {"late", "dropped"}, after=last_before) <= 1

    again = start("serve", split_bundle, "--port", port, "--threads", 1, "--json")
    assert _ready_port(again) == port
    last_without = _frames(log)[-1].frame
    _wait(lambda: _count(log, {"remote"}, after=last_without) >= 15, agent)

    agent.send_signal(signal.SIGINT)
    output, errors = agent.communicate(timeout=PATIENCE_S)
    assert agent.returncode == 0, errors
    frames, end = _account(log)
    result = json.loads(output)
    assert result["captured"] == end.captured
    assert result["outcomes"] == end.outcomes
    assert result["reconnects"] == end.reconnects == 1
    assert "no connection" in errors
    gap = [event for event in frames if last_before < event.frame <= last_without]
    assert all(event.outcome in ("exit", "dropped", "late", "remote") for event in gap)
    assert sum(event.outcome == "exit" for event in gap) >= 20
    links = [event for event in read_events(log) if isinstance(event, LinkEvent)]
    assert {event.connected for event in links} == {True, False}
    assert links[-1].connected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_agent_accounts_for_every_frame(start, split_bundle, frames_npz, tmp_path, number):
    log = tmp_path / "events.jsonl"
    agent = start(
        *("agent", split_bundle, "--server", "127.0.0.1:1", "--source", f"npz:{frames_npz}", "--fps", 50),
        *("--events", log, "--quiet"),
    )
    _wait(lambda: len(_frames(log)) >= 10, agent)
    agent.send_signal(number)
    output, errors = agent.communicate(timeout=PATIENCE_S)
    assert agent.returncode == 0
    assert errors == ""
    frames, end = _account(log)
    assert f"{end.captured} frames: " in output
    assert all(event.outcome == "exit" for event in frames[-5:])


@pytest.mark.slow
def test_a_server_that_hangs_costs_no_frame(start, split_bundle, frames_npz, tmp_path):
    """A stopped process keeps its sockets: only pings tell, after 5 to 15 s. Until then the guard answers."""
    log = tmp_path / "events.jsonl"
    server = start("serve", split_bundle, "--port", 0, "--threads", 1, "--json")
    port = _ready_port(server)
    agent = start(
        *(
            "agent",
            split_bundle,
            "--server",
            f"127.0.0.1:{port}",
            "--source",
            f"npz:{frames_npz}",
            "--fps",
            20,
        ),
        *("--deadline", "200ms", "--events", log, "--json"),
    )
    _wait(lambda: _count(log, {"remote"}) >= 15, agent)
    server.send_signal(signal.SIGSTOP)
    try:
        last_before = _frames(log)[-1].frame

        def lost():
            links = [event.connected for event in read_events(log) if isinstance(event, LinkEvent)]
            return True in links and not links[-1]

        _wait(lost, agent)
        assert _count(log, {"dropped"}, after=last_before) == 0
        assert _count(log, {"late"}, after=last_before) <= 3
    finally:
        server.send_signal(signal.SIGCONT)
    last_without = _frames(log)[-1].frame
    _wait(lambda: _count(log, {"remote"}, after=last_without) >= 10, agent)
    agent.send_signal(signal.SIGTERM)
    agent.communicate(timeout=PATIENCE_S)
    _account(log)
