"""The stages of a frame add up to what it took: agent and server are processes, each with its own clock.

The server's clock is shifted in three ways: not at all; by a wrapper that moves Python's monotonic clock by a
day and lets it run 100 parts in a million faster; and, where kernel and root allow it, by a time namespace.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from statistics import median

import numpy as np
import pytest

from isthmus.cli import run as run_command
from isthmus.device_agents.profiling.clock_offset import FASTEST_DRIFT, estimate_offset
from isthmus.device_agents.profiling.trace import agent_slices, server_slices
from isthmus.runtime.events import STAGES, FrameEvent, RunEvent, read_events

_FRAMES = 60
_PATIENCE_S = 90
_AHEAD_S = 86_400.25
_FASTER = 100e-6
# Only what measures moves; an event loop whose timers ran 0.01 % fast would be no different.
_SHIFTED = f"""
import sys, time
seconds, nanoseconds = time.monotonic, time.monotonic_ns
began_ns = nanoseconds()
def monotonic_ns():
    now_ns = nanoseconds()
    return now_ns + {int(_AHEAD_S * 1e9)} + int((now_ns - began_ns) * {_FASTER})
time.monotonic_ns, time.monotonic = monotonic_ns, lambda: monotonic_ns() / 1e9
from isthmus.cli import main
main(sys.argv[1:])
"""
_NAMESPACE_S = 100_000


def _command(clock):
    plain = [sys.executable, "-m", "isthmus"]
    if clock == "shifted":
        return [sys.executable, "-c", _SHIFTED]
    if clock == "namespace":
        return ["unshare", "--time", "--monotonic", str(_NAMESPACE_S), "--fork", *plain]
    return plain


def _can_shift():
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "--time", "--monotonic", "1", "--fork", "true"], capture_output=True, check=False
    )
    return tried.returncode == 0


@pytest.fixture
def run_agent(tiny_bundle, tmp_path):
    """Return `run(clock)`: the events of an agent whose server has that clock; ends the server."""
    processes = []

    def run(clock):
        server = subprocess.Popen(
            [*_command(clock), "serve", str(tiny_bundle), "--port", "0", "--json"],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(server)
        port = json.loads(server.stdout.readline())["port"]
        images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 1), dtype=np.uint8)
        np.savez(tmp_path / "images.npz", images=images, labels=np.zeros(20, dtype=np.int64))
        log = tmp_path / "events.jsonl"
        arguments = ["agent", "run", str(tiny_bundle), "--server", f"127.0.0.1:{port}", "--quiet"]
        arguments += ["--source", f"npz:{tmp_path / 'images.npz'}", "--policy", "fixed:3,4"]
        arguments += ["--fps", "60", "--frames", str(_FRAMES), "--deadline", "5s", "--queue", "fifo:100"]
        arguments += ["--events", str(log)]
        subprocess.run(
            [sys.executable, "-m", "isthmus", *arguments],
            check=True,
            timeout=_PATIENCE_S,
            stdout=subprocess.DEVNULL,
        )
        return log

    yield run
    for process in processes:
        # `unshare` itself takes no notice of SIGTERM, but ends with its child.
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(_PATIENCE_S)
        process.stdout.close()


def _filled(event):
    return sum(stage.seconds(event) or 0.0 for stage in STAGES) / event.latency_s


def _check_sums(frames):
    remote = [event for event in frames if event.outcome == "remote"]
    assert len(remote) >= _FRAMES // 2
    assert median(map(_filled, remote)) == pytest.approx(1.0, abs=0.03)
    # Each by itself too: nothing cancels out.
    assert sum(abs(_filled(event) - 1.0) <= 0.03 for event in remote) >= 0.9 * len(remote)
    # And the check can fail: without the link, or without the device, it does.
    for left_out in ("link", "device"):
        rest = [
            sum(stage.seconds(event) or 0.0 for stage in STAGES if stage.where != left_out) / event.latency_s
            for event in remote
        ]
        assert median(rest) < 0.97
    return remote


def _check_axis(remote, offset):
    """Every frame was at the server between being sent and being answered, as far as the clock is known."""
    unsure_s = offset.uncertainty_s + 10 * FASTEST_DRIFT
    for event in remote:
        sent_s, there = event.at_s - event.remote_s, server_slices(event, offset)
        assert sent_s - unsure_s <= there[0][1] <= there[-1][2] <= event.at_s + unsure_s
        ways = [end_s - begin_s for name, begin_s, end_s in agent_slices(event, offset) if "network" in name]
        assert len(ways) == 2
        assert min(ways) >= -unsure_s


def _check_trace(log, trace):
    """The log becomes a trace with agent and server on one axis, which says how sure that is."""
    assert run_command(["profile", "events", str(log), "--trace", str(trace), "--json"]) == 0
    began_s = next(event.at_s for event in read_events(log) if isinstance(event, RunEvent))
    written = json.loads(trace.read_text())
    server = [event for event in written["traceEvents"] if event["pid"] == 2 and event["ph"] in "be"]
    span_us = max(event["ts"] for event in written["traceEvents"] if "ts" in event)
    # A server a day ahead would be far outside the run.
    assert len(server) >= 2 * 5 * _FRAMES // 2
    assert all(-1e6 < event["ts"] <= span_us for event in server)
    assert span_us < _PATIENCE_S * 1e6
    about = written["otherData"]
    assert about["origin_monotonic_s"] == pytest.approx(began_s, abs=30)
    assert about["clock_offset_s"] == pytest.approx(_AHEAD_S, abs=0.5)
    assert 0 < about["clock_offset_uncertainty_s"] <= about["clock_worst_uncertainty_s"]


# One clock is also what `isthmus profile --server` is tested with.
@pytest.mark.parametrize("clock", [pytest.param("same", marks=pytest.mark.slow), "shifted"])
def test_stages_add_up_across_processes_and_clocks(run_agent, tmp_path, capsys, clock):
    log = run_agent(clock)
    frames = [event for event in read_events(log) if isinstance(event, FrameEvent)]
    assert len(frames) == _FRAMES
    remote = _check_sums(frames)
    offset = estimate_offset(frames)
    assert len(offset.segments) == 1
    # Since it was started, seconds before, it gained a little; half a delay is the uncertainty.
    ahead_s = _AHEAD_S if clock == "shifted" else 0.0
    assert offset.surest.offset_s == pytest.approx(ahead_s, abs=offset.surest.delay_s / 2 + 60 * _FASTER)
    _check_axis(remote, offset)
    if clock == "shifted":
        # Instants of the server that are not moved would be a day off: the check above is one.
        assert min(event.server_received_s - event.at_s for event in remote) > 80_000
        _check_trace(log, tmp_path / "trace.json")
        said = json.loads(capsys.readouterr().out)
        assert said["frames"] == _FRAMES
        assert said["sum_over_latency"] == pytest.approx(1.0, abs=0.03)
        assert set(said["stages"]) >= {"wait", "head", "codec", "network", "tail", "total"}


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.skipif(not _can_shift(), reason="needs root and time namespaces")
def test_stages_add_up_with_the_server_in_a_time_namespace(run_agent):
    frames = [event for event in read_events(run_agent("namespace")) if isinstance(event, FrameEvent)]
    remote = _check_sums(frames)
    offset = estimate_offset(frames)
    assert offset.surest.offset_s == pytest.approx(_NAMESPACE_S, abs=offset.surest.delay_s / 2 + 1e-6)
    _check_axis(remote, offset)
