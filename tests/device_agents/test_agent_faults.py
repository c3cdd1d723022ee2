"""Whole runs beside servers, disks and sources that fail: every frame ends once, and in time where it can."""

import asyncio
import dataclasses
import random
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from isthmus.device_agents.sources import ImageSource
from isthmus.runtime.errors import InputError, NetworkError

NOBODY = "127.0.0.1:1"


async def test_a_silent_server_is_answered_for_before_the_deadline(
    launch, account, scripted_server, replies, exit_only
):
    server = await scripted_server(reply=replies["silent"])
    _, task, path = launch(exit_only, server.address, frames=50)
    await asyncio.wait_for(task, 10)
    _, frames, _, end = account(path)
    assert set(end.outcomes) >= {"exit"}
    # A machine that is busy elsewhere may spoil a few.
    assert end.outcomes["exit"] >= 40
    assert end.outcomes["remote"] == end.outcomes["local"] == 0
    sent = [event for event in frames if event.payload_bytes]
    assert sent
    assert all(
        "unanswered" in event.reason for event in frames if not event.payload_bytes and event.frame > 20
    )
    # The credit: no more frames on their way than one deadline holds, although the policy would send each.
    assert len(server.requests) <= 50 * 0.2 + 1


async def test_without_a_device_answer_late_answers_count_as_late_and_lost_ones_as_dropped(
    launch, account, scripted_server, replies, serverless_mute
):
    server = await scripted_server(reply=replies["slow"])
    _, task, path = launch(serverless_mute, server.address, frames=40)
    report = await asyncio.wait_for(task, 10)
    _, frames, _, end = account(path)
    assert end.outcomes["exit"] == end.outcomes["local"] == 0
    assert end.outcomes["late"] >= 1
    assert end.outcomes["dropped"] >= 20
    for event in frames:
        if event.outcome == "late":
            assert event.latency_s > 0.2
            assert event.answer == 1
        if event.outcome == "dropped":
            assert event.answer is None
    assert end.outcomes["remote"] == 0
    assert report.summary.accuracy is None


async def test_the_agent_starts_without_a_server_and_finds_it_later(
    launch, account, scripted_server, eventually, tiny, watcher
):
    probe = await scripted_server()
    await probe.stop()
    agent, task, path = launch(tiny, probe.address)
    await eventually(lambda: watcher.notes)
    await asyncio.sleep(0.2)
    await scripted_server(port=probe.port)
    await eventually(lambda: any("connected to scripted" in note for note in watcher.notes))
    await asyncio.sleep(0.3)
    agent.stop()
    report = await asyncio.wait_for(task, 5)
    _, frames, _, end = account(path)
    assert frames[0].outcome == "local"
    assert frames[0].reason.startswith("not connected")
    assert end.outcomes["remote"] > 5
    assert report.connections == 1
    assert f"no connection to {probe.address} (UNAVAILABLE" in watcher.notes[0]


async def test_a_server_that_dies_and_returns_costs_no_frame(
    launch, account, scripted_server, eventually, exit_only, watcher
):
    server = await scripted_server()
    agent, task, path = launch(exit_only, server.address)
    await eventually(lambda: len(server.requests) > 20)
    await server.stop()
    await eventually(lambda: any("no connection" in note for note in watcher.notes))
    await asyncio.sleep(0.1)
    again = await scripted_server(port=server.port)
    await eventually(lambda: len(again.requests) > 20)
    agent.stop()
    report = await asyncio.wait_for(task, 5)
    _, frames, _, end = account(path)
    assert report.reconnects == end.reconnects == 1
    outcomes = [event.outcome for event in sorted(frames, key=lambda event: event.frame)]
    first_gap = outcomes.index("exit", 10)
    assert "remote" in outcomes[:first_gap]
    assert "remote" in outcomes[first_gap:]
    assert not any("the device has no answer" in event.reason for event in frames)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
async def test_a_full_disk_is_said_once_and_the_run_goes_on(launch, tiny, watcher):
    _, task, _ = launch(tiny, NOBODY, frames=20, policy="local", events="/dev/full")
    report = await asyncio.wait_for(task, 5)
    assert report.summary.captured == 20
    assert report.events_lost >= 20
    assert [note for note in watcher.notes if "/dev/full" in note] == [
        "event log: /dev/full: No space left on device; the run goes on without it"
    ]


async def test_a_refusal_ends_the_run_with_a_full_account(launch, account, scripted_server, tiny):
    server = await scripted_server(models={})
    _, task, path = launch(tiny, server.address)
    with pytest.raises(NetworkError, match="no model 'tiny'"):
        await asyncio.wait_for(task, 5)
    account(path)


async def test_a_failing_source_ends_the_run_with_a_full_account(launch, account, scripted_server, tiny):
    server = await scripted_server()

    class Broken:
        name = "broken"

        def __init__(self, inner):
            self.inner, self.count = inner, 0

        def frame(self):
            self.count += 1
            if self.count > 5:
                raise InputError("camera: unplugged; plug it in")
            return self.inner.frame()

    blank = ImageSource("blank", np.zeros((1, 16, 16, 1), np.uint8), [None])
    _, task, path = launch(tiny, server.address, source=Broken(blank))
    with pytest.raises(InputError, match="unplugged"):
        await asyncio.wait_for(task, 5)
    _, frames, _, end = account(path)
    assert end.captured == 5
    assert frames[0].truth is None


@pytest.mark.parametrize("way", ["busy", "failed", "expired"])
async def test_frames_a_server_does_not_serve_are_answered_here(
    launch, account, scripted_server, replies, exit_only, way
):
    server = await scripted_server(reply=replies[way])
    _, task, path = launch(exit_only, server.address, frames=20)
    await asyncio.wait_for(task, 5)
    _, frames, _, end = account(path)
    assert end.outcomes["exit"] >= 12
    assert any(f"the server says {way}" in event.reason for event in frames)
    # Answered when the refusal arrived, not at the deadline.
    assert min(event.latency_s for event in frames if event.outcome == "exit") < 0.1


@pytest.mark.parametrize("way", ["failed", "silent"])
async def test_a_device_that_can_answer_does_even_where_the_policy_names_no_fallback(
    launch, account, scripted_server, replies, exit_only, monkeypatch, way
):
    server = await scripted_server(reply=replies[way])
    agent, task, path = launch(exit_only, server.address, frames=20)
    decide = agent._pipeline.decide
    monkeypatch.setattr(
        agent._pipeline,
        "decide",
        lambda frame: dataclasses.replace(decide(frame), fallback=None, fallback_s=0.0),
    )
    await asyncio.wait_for(task, 5)
    _, frames, _, end = account(path)
    assert end.outcomes["exit"] >= 12
    assert all("superseded" in event.reason for event in frames if event.outcome == "dropped")


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_fault_loses_a_frame(launch, account, scripted_server, replies, exit_only, eventually, seed):
    rng = random.Random(seed)
    ways = ["right"] * 6 + ["silent", "busy", "failed", "expired", "malformed", "refused", "gone", "twice"]

    def reply(request):
        way = rng.choice(ways)
        if way == "refused":
            return (grpc.StatusCode.INVALID_ARGUMENT, "scripted")
        if way == "gone":
            return (grpc.StatusCode.UNAVAILABLE, "scripted")
        if way == "twice":
            return [replies["right"](request), replies["right"](request)]
        return replies[way](request)

    server = await scripted_server()
    agent, task, path = launch(exit_only, server.address, fps=100.0, deadline_s=0.1)
    await eventually(lambda: len(server.requests) > 5)
    server.reply = reply
    for _ in range(3):
        await asyncio.sleep(0.4)
        await server.stop()
        await asyncio.sleep(rng.uniform(0.0, 0.1))
        await server.start()
    agent.stop()
    report = await asyncio.wait_for(task, 5)
    _, frames, _, end = account(path)
    assert end.captured > 100
    assert report.reconnects >= 3
    assert {"remote", "exit"} <= {event.outcome for event in frames}
    assert all("superseded" in event.reason for event in frames if event.outcome == "dropped")


async def test_a_server_restarted_with_another_bundle_is_noted_and_the_device_answers(
    launch, account, scripted_server, eventually, exit_only, watcher
):
    server = await scripted_server()
    agent, task, path = launch(exit_only, server.address)
    await eventually(lambda: len(server.requests) > 10)
    await server.stop()
    # First one whose latents have another shape, then one with other tables, then another model altogether.
    other = await scripted_server(port=server.port, models={"tiny": (-1, 8, 2, 2)})
    await eventually(lambda: any("takes latents (8, 2, 2)" in note for note in watcher.notes))
    await other.stop()
    said = "payload: table id 00 is unknown, the tables here are 11; load one bundle on both ends"
    tables = await scripted_server(
        port=server.port, reply=lambda request: (grpc.StatusCode.INVALID_ARGUMENT, said)
    )
    await eventually(lambda: any(said in note for note in watcher.notes))
    await tables.stop()
    gone = await scripted_server(port=server.port, models={"large": (-1, 4, 4, 4)})
    await eventually(lambda: any("unknown model 'tiny'" in note for note in watcher.notes))
    await eventually(lambda: path.read_text().count('"outcome":"exit"') > 5)
    await gone.stop()
    before = len(watcher.notes)
    right = await scripted_server(port=server.port)
    await eventually(lambda: len(right.requests) > 5)
    agent.stop()
    await asyncio.wait_for(task, 5)
    _, frames, _, end = account(path)
    assert any("connected to scripted" in note for note in watcher.notes[before:])
    assert end.outcomes["dropped"] == sum("superseded" in event.reason for event in frames)
    assert end.outcomes["exit"] > 5
    assert end.outcomes["remote"] > 10


async def test_answers_out_of_order_twice_or_late_end_every_frame_once(
    launch, account, scripted_server, exit_only, replies
):
    held = []

    def reply(request):
        held.append(replies["right"](request))
        if len(held) < 4:
            return []
        out, held[:] = list(reversed(held)), []
        return out + out[:2]

    server = await scripted_server(reply=reply)
    _, task, path = launch(exit_only, server.address, frames=60, fps=100.0)
    await asyncio.wait_for(task, 10)
    _, _, _, end = account(path)
    assert end.captured == 60
    assert end.outcomes["remote"] > 30


async def test_a_clock_that_is_set_changes_nothing(launch, account, scripted_server, tiny, monkeypatch):
    server = await scripted_server()
    real, steps = time.time, iter([0.0, 3600.0, -86_400.0] * 1000)
    monkeypatch.setattr(time, "time", lambda: real() + next(steps))
    _, task, path = launch(tiny, server.address, frames=40)
    await asyncio.wait_for(task, 5)
    _, frames, _, end = account(path)
    assert end.outcomes["remote"] >= 25
    assert all(0 < event.latency_s < 1 for event in frames if event.answer is not None)
