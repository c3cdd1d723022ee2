"""The trace: agent and server on one axis, each slice where it happened, and how sure that is."""

import itertools
import json

import pytest

from isthmus.device_agents.operation.thermal import ThermalReading
from isthmus.device_agents.profiling.clock_offset import estimate_offset
from isthmus.device_agents.profiling.conditions import Moment
from isthmus.device_agents.profiling.trace import (
    Section,
    agent_slices,
    server_slices,
    trace_events,
    write_trace,
)
from isthmus.runtime.errors import ArtifactError
from isthmus.runtime.events import FrameEvent


@pytest.fixture
def run(remote_event):
    """Frames of one run whose server's clock is 5,000 s ahead."""
    return [
        remote_event(frame=i, captured_s=100 + i, offset_s=5000.0, out_s=0.003, back_s=0.003)
        for i in range(5)
    ]


def test_the_agents_slices_fill_the_frame_without_a_gap(run):
    offset = estimate_offset(run)
    slices = agent_slices(run[0], offset)
    assert [name for name, _, _ in slices] == [
        "wait",
        "handover",
        "head",
        "codec",
        "send",
        "network out",
        "network back",
    ]
    assert slices[0][1] == run[0].captured_s
    assert slices[-1][2] == run[0].at_s
    joints = [(before[2], after[1]) for before, after in itertools.pairwise(slices)]
    # Between the two ways the frame is at the server.
    *device, (arrived_s, left_s) = joints
    for ends_s, begins_s in device:
        assert begins_s == pytest.approx(ends_s, abs=1e-9)
    there = server_slices(run[0], offset)
    assert [name for name, _, _ in there] == ["server decode", "server queue", "tail", "server answer"]
    assert there[0][1] == pytest.approx(arrived_s, abs=1e-9)
    assert there[-1][2] == pytest.approx(left_s, abs=1e-9)


def test_the_servers_instants_are_moved_by_its_clock(run):
    sent_s = run[2].at_s - run[2].remote_s
    there = server_slices(run[2], estimate_offset(run))
    assert there[0][1] == pytest.approx(sent_s + 0.003, abs=1e-6)
    assert run[2].server_received_s > 5000


def test_without_its_clock_the_server_is_one_slice_on_the_link(remote_event):
    mute = remote_event(server_received_s=None)
    assert server_slices(mute, None) == []
    assert agent_slices(mute, None)[-1][0] == "remote"
    assert agent_slices(mute, None)[-1][2] == mute.at_s


def test_a_frame_the_device_answered_after_waiting_in_vain():
    event = FrameEvent(
        at_s=1.2,
        frame=3,
        captured_s=1.0,
        outcome="exit",
        latency_s=0.2,
        wait_s=0.01,
        handover_s=0.0,
        head_s=0.02,
        encode_s=0.01,
        send_s=0.01,
        vain_s=0.12,
        answer_s=0.03,
    )
    slices = agent_slices(event, None)
    assert [name for name, _, _ in slices] == [
        "wait",
        "handover",
        "head",
        "codec",
        "send",
        "in vain",
        "answer",
    ]
    assert slices[-1][2] == pytest.approx(1.2)


def test_the_whole_trace_is_what_perfetto_reads(run, tmp_path):
    moments = [
        Moment(
            at_s=99.5,
            rss_bytes=120_000_000,
            thermal=ThermalReading(temperature_c=51.0),
            frequency_hz=None,
            busy_s=1.0,
            total_s=2.0,
            own_s=0.5,
        )
    ]
    offset = estimate_offset(run)
    trace = trace_events(
        [Section(name="a", frames=run), Section(name="b", frames=run)], offset=offset, moments=moments
    )
    path = tmp_path / "trace.json"
    write_trace(path, trace)
    trace = json.loads(path.read_text())
    events = trace["traceEvents"]
    opened = {}
    for event in events:
        assert {"ph", "name", "pid"} <= set(event)
        if event["ph"] in "be":
            key = (event["pid"], event["cat"], event["id"], event["name"])
            if event["ph"] == "b":
                assert key not in opened
                opened[key] = event["ts"]
            else:
                assert event["ts"] >= opened.pop(key)
                assert event["ts"] >= 0
    assert opened == {}
    names = {(e["pid"], e["args"]["name"]) for e in events if e["name"] == "process_name"}
    assert {name for _, name in names} == {"agent", "server"}
    counters = {e["name"]: e["args"]["value"] for e in events if e["ph"] == "C"}
    assert counters == {"memory, MB": 120.0, "temperature, °C": 51.0}
    # The axis begins at the first instant of all.
    assert trace["otherData"]["origin_monotonic_s"] == 99.5
    assert trace["otherData"]["clock_offset_s"] == pytest.approx(5000.0)
    assert trace["otherData"]["clock_worst_uncertainty_s"] == pytest.approx(0.003)
    assert any("± 3.000 ms" in e["args"].get("labels", "") for e in events if e["ph"] == "M")


def test_a_long_section_is_cut_and_the_trace_says_so(run):
    trace = trace_events([Section(name="a", frames=run)], offset=None, most_frames=2)
    assert (trace["otherData"]["frames"], trace["otherData"]["frames_left_out"]) == (2, 3)
    assert "does not tell its clock" in trace["otherData"]["clock"]


def test_a_trace_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(ArtifactError, match=r"choose another --trace"):
        write_trace(tmp_path / "no" / "trace.json", trace_events([], offset=None))
