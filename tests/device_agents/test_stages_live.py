"""Each stage measures what it says: what is slowed down on purpose is found where it happened, all of it."""

import asyncio
import time
from statistics import median

import pytest

from isthmus.device_agents import device as device_module
from isthmus.device_agents.bank import WidthBank
from isthmus.runtime.events import STAGES

_SLOW_S = 0.03
_BY_NAME = {stage.name: stage for stage in STAGES}


def _medians(frames):
    """Return the median seconds of every stage over the frames that the server answered."""
    remote = [event for event in frames if event.outcome == "remote"]
    assert len(remote) >= 6
    found = {}
    for stage in STAGES:
        values = [seconds for event in remote if (seconds := stage.seconds(event)) is not None]
        if values:
            found[stage.name] = median(values)
    shares = [
        sum(stage.seconds(event) or 0.0 for stage in STAGES) / event.latency_s
        for event in remote
        if event.latency_s > 0.005
    ]
    assert median(shares) == pytest.approx(1.0, abs=0.03)
    return found


def _slowed(function, seconds=_SLOW_S):
    def slow(*args, **kwargs):
        time.sleep(seconds)
        return function(*args, **kwargs)

    return slow


@pytest.mark.parametrize("slow", ["codec", "handover", "network", "tail"])
async def test_what_is_slow_shows_in_its_stage(
    launch, account, scripted_server, replies, tiny, monkeypatch, slow
):
    reply = replies["right"]
    if slow == "codec":
        monkeypatch.setattr(device_module, "encode_payload", _slowed(device_module.encode_payload))
    if slow == "handover":
        # Neither head nor codec, but computing all the same: what lies between the parts.
        monkeypatch.setattr(WidthBank, "head", _slowed(WidthBank.head))
    if slow in ("network", "tail"):

        async def reply(request):
            await asyncio.sleep(_SLOW_S)
            message = replies["right"](request)
            if slow == "tail":  # a server that says that it computed for so long
                said = message.infer_response.isthmus
                said.queue_us, said.compute_us = 0, int(_SLOW_S * 1e6)
                for name, seconds in (("isthmus_queue_us", 0), ("isthmus_compute_us", _SLOW_S)):
                    message.infer_response.parameters[name].int64_param = int(seconds * 1e6)
                message.infer_response.ClearField("isthmus")
            return message

    server = await scripted_server(reply=reply)
    _, task, path = launch(tiny, server.address, frames=16, fps=25.0, deadline_s=2.0, queue="fifo:20")
    await asyncio.wait_for(task, 60)
    _, frames, _, _ = account(path)
    found = _medians(frames)
    assert found[slow] >= 0.9 * _SLOW_S
    others = {name: seconds for name, seconds in found.items() if name != slow}
    assert max(others.values()) < found[slow]


async def test_waiting_in_vain_and_the_devices_answer(launch, account, scripted_server, replies, exit_only):
    server = await scripted_server(reply=replies["silent"])
    _, task, path = launch(exit_only, server.address, frames=10, fps=20.0, deadline_s=0.4)
    await asyncio.wait_for(task, 60)
    _, frames, _, _ = account(path)
    waited = [event for event in frames if event.payload_bytes and event.latency_s is not None]
    assert len(waited) >= 3
    for event in waited:
        assert _BY_NAME["network"].seconds(event) is None
        assert event.vain_s > 0.2
        assert event.answer_s > 0
        total_s = sum(stage.seconds(event) or 0.0 for stage in STAGES)
        assert total_s == pytest.approx(event.latency_s, rel=0.03)


async def test_the_devices_own_choice_is_filled_too(launch, account, tiny):
    _, task, path = launch(tiny, "127.0.0.1:1", frames=20, policy="local")
    await asyncio.wait_for(task, 60)
    _, frames, _, _ = account(path)
    local = [event for event in frames if event.outcome == "local"]
    assert len(local) >= 10
    for event in local:
        total_s = sum(stage.seconds(event) or 0.0 for stage in STAGES)
        assert total_s == pytest.approx(event.latency_s, rel=0.03)
        assert event.answer_s > 0
        assert event.head_s is None
