"""The guard: the device answers before the deadline, and never twice."""

import asyncio
import threading
import time

import numpy as np
import pytest

from isthmus.device_agents.crew import Crew
from isthmus.device_agents.guard import Guard, Standby
from isthmus.runtime.session import Session

DEADLINE_S = 0.3


class SlowDevice:
    """Answers after `gate` opens; counts."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.asked = []

    def answer(self, kind, image_hwc, latent_chw):
        self.asked.append(kind)
        assert self.gate.wait(5)
        return 2, 0.001


@pytest.fixture
async def guarded():
    session, crew, device, ended = Session(deadline_s=DEADLINE_S, give_up_s=0.5), Crew(), SlowDevice(), []
    guard = Guard(
        session=session, device=device, crew=crew, on_end=lambda event, scores_c: ended.append(event)
    )
    yield session, guard, device, ended
    device.gate.set()
    await crew.dismiss()
    guard.close()


def _standby(fallback="exit"):
    blank = np.zeros((1, 1, 1), np.uint8)
    return Standby(image_hwc=blank, latent_chw=blank, fallback=fallback, fallback_s=0.002)


def _queued(session, guard, fallback="exit"):
    frame, _ = session.capture(time.monotonic())
    session.take()
    assert guard.watch(frame, _standby(fallback))
    return frame


async def test_a_silent_server_is_answered_for_before_the_deadline(guarded, eventually):
    session, guard, _, ended = guarded
    frames = []
    for _ in range(3):
        frames.append(_queued(session, guard))
        session.sent(frames[-1], time.monotonic(), 10)
        await asyncio.sleep(0.01)
    assert ended == []
    await eventually(lambda: len(ended) == 3)
    assert [event.frame for event in ended] == frames
    assert [event.outcome for event in ended] == ["exit"] * 3
    # Not at once either: the server had most of the deadline to answer.
    assert all(DEADLINE_S / 2 < event.latency_s < DEADLINE_S for event in ended)


async def test_a_frame_answered_by_the_server_is_left_alone(guarded):
    session, guard, device, ended = guarded
    frame = _queued(session, guard)
    session.sent(frame, time.monotonic(), 10)
    guard.end(session.remote(frame, time.monotonic(), 1))
    await asyncio.sleep(DEADLINE_S * 1.5)
    assert [event.outcome for event in ended] == ["remote"]
    assert device.asked == []


async def test_a_recalled_frame_is_answered_at_once_and_once(guarded, eventually):
    session, guard, device, ended = guarded
    frame = _queued(session, guard, "local")
    started = time.monotonic()
    guard.recall(frame, "the connection was lost")
    guard.recall(frame, "again")
    await eventually(lambda: ended)
    assert time.monotonic() - started < DEADLINE_S / 2
    assert (ended[0].outcome, ended[0].reason) == ("local", "the connection was lost")
    await asyncio.sleep(DEADLINE_S)
    assert device.asked == ["local"]
    assert len(ended) == 1


async def test_without_a_fallback_a_recalled_frame_is_dropped_and_a_silent_one_in_the_end(
    guarded, eventually
):
    session, guard, device, ended = guarded
    recalled, silent = _queued(session, guard, None), _queued(session, guard, None)
    guard.recall(recalled, "the connection was lost")
    assert (ended[0].outcome, ended[0].frame) == ("dropped", recalled)
    await eventually(lambda: len(ended) == 2)
    assert (ended[1].outcome, ended[1].frame) == ("dropped", silent)
    assert device.asked == []


async def test_the_servers_answer_may_overtake_the_devices(guarded, eventually):
    session, guard, device, ended = guarded
    frame = _queued(session, guard)
    session.sent(frame, time.monotonic(), 10)
    device.gate.clear()
    guard.recall(frame, "")
    await eventually(lambda: device.asked)
    guard.end(session.remote(frame, time.monotonic(), 1))
    device.gate.set()
    await asyncio.sleep(0.02)
    assert [event.outcome for event in ended] == ["remote"]


async def test_a_surprise_widens_the_margin_within_bounds(guarded, eventually):
    session, guard, device, ended = guarded
    before_s = guard.margin_s
    device.gate.clear()
    frame = _queued(session, guard)
    guard.recall(frame, "")
    await asyncio.sleep(0.03)
    device.gate.set()
    await eventually(lambda: ended)
    assert before_s < guard.margin_s <= 0.002 + DEADLINE_S / 4


async def test_a_frame_that_ended_meanwhile_is_not_watched(guarded):
    session, guard, _, _ = guarded
    frame, _ = session.capture(time.monotonic())
    session.take()
    session.close(time.monotonic(), "the run ended")
    assert guard.watch(frame, _standby()) is False


async def test_an_untimed_answer_waits_for_certainty(guarded, eventually):
    session, guard, device, ended = guarded
    frame, _ = session.capture(time.monotonic())
    session.take()
    blank = np.zeros((1, 1, 1), np.uint8)
    standby = Standby(image_hwc=blank, latent_chw=blank, fallback="local", fallback_s=0.03, timed=False)
    assert guard.watch(frame, standby)
    await asyncio.sleep(DEADLINE_S)
    assert device.asked == []
    guard.recall(frame, "the server says failed")
    await eventually(lambda: ended)
    # Too late to count, but an answer all the same.
    assert (ended[0].outcome, ended[0].answer) == ("late", 2)
