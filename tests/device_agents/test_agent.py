"""Whole runs in one process: a real bundle, real sessions, a real server on loopback that behaves as told."""

import asyncio
import json
import socket
import statistics
import time

import numpy as np
import pytest

from isthmus.device_agents.operation.status import read_status
from isthmus.device_agents.sources import ImageSource
from isthmus.runtime.bundle import OperatingPoint

NOBODY = "127.0.0.1:1"


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


async def test_stopping_ends_frames_in_flight_before_the_run_does(
    launch, account, scripted_server, replies, eventually, exit_only
):
    server = await scripted_server(reply=replies["silent"])
    agent, task, path = launch(exit_only, server.address, deadline_s=1.5, fps=50.0)
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


async def test_a_slow_head_drops_the_older_of_two_waiting_frames(launch, account, tiny, banks, monkeypatch):
    bank = banks[tiny.root]
    quick = bank.local

    def slow(image):
        time.sleep(0.05)
        return quick(image)

    monkeypatch.setattr(bank, "local", slow)
    _, task, path = launch(tiny, NOBODY, frames=40, policy="local", deadline_s=0.3)
    await asyncio.wait_for(task, 10)
    _, frames, _, end = account(path)
    assert end.outcomes["dropped"] > 20
    assert end.outcomes["local"] >= 7
    assert all(
        event.reason == "superseded by a newer frame" for event in frames if event.outcome == "dropped"
    )
    # The newest wins: what is answered was captured at most two periods before its head began.
    assert all(event.latency_s < 0.15 for event in frames if event.outcome == "local")


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
    _, task, path = launch(exit_only, NOBODY, frames=30, policy="local", source=None)
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
    _, task, path = launch(tiny, NOBODY, duration_s=0.5, fps=40.0, policy="local")
    await asyncio.wait_for(task, 5)
    _, _, _, end = account(path)
    assert end.captured == 20
    assert time.monotonic() - started < 2


async def test_the_state_is_shown_and_logged_every_second(launch, account, tiny, watcher):
    _, task, path = launch(tiny, NOBODY, duration_s=1.2, policy="local")
    await asyncio.wait_for(task, 5)
    _, _, links, _ = account(path)
    assert len(links) == 2
    assert [moment.link.connected for moment in watcher.moments] == [False, False]
    assert watcher.moments[-1].summary.captured >= 50
    assert watcher.moments[0].elapsed_s == pytest.approx(1.0, abs=0.3)


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
        _, task, path = launch(tiny, NOBODY, source=Slow(), frames=40, fps=500.0, policy="local")
        await asyncio.wait_for(task, 10)
    finally:
        counting.cancel()
    account(path)
    assert len(seen) == len(set(seen)) == 40


async def test_a_source_that_ends_ends_the_run_and_every_frame(launch, account, scripted_server, tiny):
    server = await scripted_server()
    images = np.zeros((12, 16, 16, 1), np.uint8)
    source = ImageSource("short", images, [None] * 12, loop=False)
    _, task, path = launch(tiny, server.address, source=source)
    report = await asyncio.wait_for(task, 5)
    _, _, _, end = account(path)
    assert end.captured == report.summary.captured == 12


async def test_in_a_queue_a_burst_is_answered_in_order_and_what_is_too_much_is_dropped(
    launch, account, tiny, banks, monkeypatch
):
    bank = banks[tiny.root]
    quick = bank.local

    def slow(image):
        time.sleep(0.03)
        return quick(image)

    monkeypatch.setattr(bank, "local", slow)
    # As measured, so that the worker thread computes.
    monkeypatch.setattr(type(bank), "local_s", property(lambda self: 0.03))
    _, task, path = launch(tiny, NOBODY, frames=30, fps=100.0, policy="local", deadline_s=1.0, queue="fifo:5")
    await asyncio.wait_for(task, 10)
    _, frames, _, end = account(path)
    answered = [event.frame for event in frames if event.answer is not None]
    assert answered == sorted(answered)
    assert len(answered) >= 6 + 5
    dropped = [event for event in frames if event.outcome == "dropped"]
    assert dropped
    assert {event.reason for event in dropped} == {"5 newer frames were waiting"}
    # In a queue the newest waits longest: five others are computed before it.
    assert max(event.latency_s for event in frames if event.answer is not None) > 0.1
    assert end.outcomes["local"] == len(answered)


async def test_a_sure_exit_answers_at_once_and_the_link_stays_known(
    launch, account, scripted_server, exit_only
):
    server = await scripted_server()
    _, task, path = launch(
        exit_only, server.address, duration_s=2.5, fps=40.0, exit_confidence=0.01, frames=100
    )
    await asyncio.wait_for(task, 10)
    _, frames, links, end = account(path)
    at_once = [event for event in frames if "exit is" in event.reason]
    assert len(at_once) > 60
    assert {(event.outcome, event.payload_bytes) for event in at_once} == {("exit", 0)}
    assert statistics.median(event.latency_s for event in at_once) < 0.05
    # About one frame a second goes out all the same, and its answer counts.
    sent = [event for event in frames if event.payload_bytes]
    assert 2 <= len(sent) <= 5
    assert all(event.probe and "to keep the link known" in event.reason for event in sent)
    assert end.outcomes["remote"] >= 2
    assert len(server.requests) == len(sent)
    assert links[-1].rtt_s is not None


async def test_an_exit_that_is_not_sure_is_no_answer(launch, account, scripted_server, exit_only):
    server = await scripted_server()
    _, task, path = launch(exit_only, server.address, frames=40, exit_confidence=1.0)
    await asyncio.wait_for(task, 5)
    _, frames, _, end = account(path)
    assert end.outcomes["remote"] >= 25
    assert not any("exit is" in event.reason for event in frames)


async def test_a_run_states_itself_and_hands_out_results(launch, account, scripted_server, tiny, tmp_path):
    server = await scripted_server()
    status, results = tmp_path / "status.json", tmp_path / "results.jsonl"
    _, task, path = launch(
        tiny, server.address, duration_s=1.3, status=status, results=str(results), thermal="off"
    )
    await asyncio.sleep(1.2)
    running = read_status(status)
    assert (running.state, running.connected, running.server) == ("running", True, server.address)
    report = await asyncio.wait_for(task, 5)
    ended = read_status(status)
    assert (ended.state, ended.captured, ended.open) == ("ended", report.summary.captured, 0)
    assert sum(ended.outcomes.values()) == ended.captured
    assert ended.uptime_s == pytest.approx(1.3, abs=0.3)
    assert ended.point == OperatingPoint(3, 4)
    assert ended.rtt_s is not None
    assert ended.latency_p50_s == report.summary.latency_p50_s
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    _, frames, _, _ = account(path)
    assert [line["frame"] for line in lines] == [event.frame for event in frames]
    assert [line["outcome"] for line in lines] == [event.outcome for event in frames]
    remote = next(line for line in lines if line["outcome"] == "remote")
    assert remote["label"] == tiny.manifest.labels[1]
    assert sum(remote["probabilities"]) == pytest.approx(1.0)
    assert report.results_lost == 0


async def test_the_service_manager_is_told(launch, tiny, tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        _, task, _ = launch(tiny, NOBODY, duration_s=1.2, policy="local")
        await asyncio.wait_for(task, 5)
        said = [listener.recv(200).split(b"\n")[0] for _ in range(3)]
    assert said == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]
