"""Whole runs in one process: a real bundle, real sessions, a real server on loopback that behaves as told."""

import asyncio
import dataclasses
import random
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from isthmus.device_agents.agent import AgentRun
from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.sources import ImageSource, open_source
from isthmus.runtime.errors import InputError, NetworkError
from isthmus.runtime.events import EndEvent, EventLog, FrameEvent, LinkEvent, RunEvent, read_events


@pytest.fixture(scope="module")
def banks(tiny, exit_only, serverless_mute):
    return {bundle.root: WidthBank(bundle) for bundle in (tiny, exit_only, serverless_mute)}


@pytest.fixture
async def launch(banks, tiny_npz, watcher, tmp_path):
    """Return `launch(bundle, server, **settings) -> (agent, task, log path)`."""
    tasks, logs = [], []

    def start(bundle, server, *, source=None, events=None, **settings):
        path = Path(events) if events else tmp_path / "events.jsonl"
        merged = {
            "source": f"npz:{tiny_npz}",
            "fps": 50.0,
            "deadline_s": 0.2,
            "policy": "fixed:3,4",
            **settings,
        }
        config = AgentConfig(server=server, events=path, retry_cap_s=0.05, **merged)
        log = EventLog(path)
        logs.append(log)
        agent = AgentRun(
            config,
            bundle,
            bank=banks[bundle.root],
            source=source or open_source(config.source, bundle.manifest),
            log=log,
            observer=watcher,
        )
        task = asyncio.ensure_future(agent.run())
        tasks.append(task)
        return agent, task, path

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for log in logs:
        log.close()


@pytest.fixture
def account():
    """Return `account(path)`: the events of a log that accounts for every frame exactly once."""

    def check(path):
        events = list(read_events(path))
        frames = [event for event in events if isinstance(event, FrameEvent)]
        assert isinstance(events[0], RunEvent)
        end = events[-1]
        assert isinstance(end, EndEvent)
        assert sorted(event.frame for event in frames) == list(range(end.captured))
        assert sum(end.outcomes.values()) == end.captured
        for outcome, count in end.outcomes.items():
            assert count == sum(event.outcome == outcome for event in frames)
        return events[0], frames, [event for event in events if isinstance(event, LinkEvent)], end

    return check


def _closed_port():
    return "127.0.0.1:1"


async def test_a_run_with_a_good_server(launch, account, scripted_server, tiny):
    server = await scripted_server()
    _, task, path = launch(tiny, server.address, frames=60)
    report = await asyncio.wait_for(task, 10)
    run, frames, links, end = account(path)
    assert (run.bundle, run.policy, run.deadline_s, run.fps) == ("tiny", "fixed:3,4", 0.2, 50.0)
    assert run.bundle_digest == tiny.digest
    assert run.widths == tiny.manifest.widths
    remote = [event for event in frames if event.outcome == "remote"]
    assert len(remote) >= 40
    assert end.captured == report.summary.captured == 60
    for event in remote:
        assert event.payload_bytes > 28
        assert event.answer == 1
        assert event.truth in (0, 1, 2)
        assert 0 < event.head_s + event.encode_s + event.remote_s <= event.latency_s < 0.2
        assert event.server_queue_s == pytest.approx(0.0005)
    assert report.summary.accuracy_by_outcome["remote"] == pytest.approx(1 / 3, abs=0.1)
    assert links[-1].connected
    assert report.reconnects == 0


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


async def test_stopping_ends_frames_in_flight_before_the_run_does(
    launch, account, scripted_server, replies, eventually, exit_only
):
    server = await scripted_server(reply=replies["silent"])
    agent, task, path = launch(exit_only, server.address, deadline_s=0.4, fps=50.0)
    await eventually(lambda: len(server.requests) >= 5)
    agent.stop()
    await asyncio.wait_for(task, 5)
    _, frames, _, end = account(path)
    assert not any("the run ended" in event.reason for event in frames)
    assert end.outcomes["exit"] >= 5


async def test_stopping_twice_does_not_wait(launch, account, scripted_server, replies, eventually, exit_only):
    server = await scripted_server(reply=replies["silent"])
    agent, task, path = launch(exit_only, server.address, deadline_s=30.0, fps=20.0)
    await eventually(lambda: len(server.requests) >= 3)
    agent.stop()
    agent.stop()
    await asyncio.wait_for(task, 3)
    _, frames, _, end = account(path)
    assert end.outcomes["dropped"] >= 3
    assert "the run ended" in frames[-1].reason


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
async def test_a_full_disk_is_said_once_and_the_run_goes_on(launch, tiny, watcher):
    _, task, _ = launch(tiny, _closed_port(), frames=20, policy="local", events="/dev/full")
    report = await asyncio.wait_for(task, 5)
    assert report.summary.captured == 20
    assert report.events_lost >= 20
    assert [note for note in watcher.notes if "/dev/full" in note] == [
        "event log: /dev/full: No space left on device; the run goes on without it"
    ]


async def test_a_slow_head_drops_the_older_of_two_waiting_frames(launch, account, tiny, banks, monkeypatch):
    bank = banks[tiny.root]
    quick = bank.local

    def slow(image):
        time.sleep(0.05)
        return quick(image)

    monkeypatch.setattr(bank, "local", slow)
    _, task, path = launch(tiny, _closed_port(), frames=40, policy="local", deadline_s=0.3)
    await asyncio.wait_for(task, 10)
    _, frames, _, end = account(path)
    assert end.outcomes["dropped"] > 20
    assert end.outcomes["local"] >= 7
    assert all(
        event.reason == "superseded by a newer frame" for event in frames if event.outcome == "dropped"
    )
    # The newest wins: what is answered was captured at most two periods before its head began.
    assert all(event.latency_s < 0.15 for event in frames if event.outcome == "local")


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


@pytest.mark.parametrize("extensions", [("isthmus_payload",), ()])
async def test_other_servers_of_the_protocol_answer_too(launch, account, scripted_server, tiny, extensions):
    server = await scripted_server(extensions=extensions)
    _, task, path = launch(tiny, server.address, frames=40)
    await asyncio.wait_for(task, 10)
    _, frames, _, end = account(path)
    assert end.outcomes["remote"] >= 20
    assert server.streams == 0
    plain = extensions == ()
    sizes = {event.payload_bytes for event in frames if event.outcome == "remote"}
    assert (sizes == {64}) is plain


async def test_the_exit_answers_when_the_policy_says_so(launch, account, exit_only):
    _, task, path = launch(exit_only, _closed_port(), frames=30, policy="local", source=None)
    report = await asyncio.wait_for(task, 5)
    _, frames, _, end = account(path)
    assert end.outcomes["exit"] >= 20
    assert all(
        event.head_s > 0 and event.point.width_index <= 3 for event in frames if event.answer is not None
    )
    assert report.connections == 0
    # The exit's measured accuracy on other images of the same task, not a coin's.
    assert report.summary.accuracy > 0.6


async def test_a_duration_bounds_a_run(launch, account, tiny):
    started = time.monotonic()
    _, task, path = launch(tiny, _closed_port(), duration_s=0.5, fps=40.0, policy="local")
    await asyncio.wait_for(task, 5)
    _, _, _, end = account(path)
    assert end.captured == 20
    assert time.monotonic() - started < 2


async def test_the_state_is_shown_and_logged_every_second(launch, account, tiny, watcher):
    _, task, path = launch(tiny, _closed_port(), duration_s=1.2, policy="local")
    await asyncio.wait_for(task, 5)
    _, _, links, _ = account(path)
    assert len(links) == 2
    assert [moment.link.connected for moment in watcher.moments] == [False, False]
    assert watcher.moments[-1].summary.captured >= 50
    assert watcher.moments[0].elapsed_s == pytest.approx(1.0, abs=0.3)


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


async def test_a_source_slower_than_its_rate_leaves_the_loop_its_turns(launch, account, tiny):
    turns, seen = 0, []

    class Slow:
        name = "slow"

        def frame(self):
            seen.append(turns)
            time.sleep(0.004)
            return np.zeros((16, 16, 1), np.uint8), None

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    try:
        _, task, path = launch(tiny, _closed_port(), source=Slow(), frames=40, fps=500.0, policy="local")
        await asyncio.wait_for(task, 10)
    finally:
        counting.cancel()
    account(path)
    assert len(seen) == len(set(seen)) == 40
