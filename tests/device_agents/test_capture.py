"""The capture clock: which frames exist, and when they were captured."""

import asyncio
import time

import numpy as np
import pytest

from isthmus.device_agents.capture import capture_frames
from isthmus.device_agents.clock import run_exactly
from isthmus.device_agents.sources import NoNewFrame, SourceEnded
from isthmus.runtime.errors import InputError

BLANK = np.zeros((2, 2, 1), np.uint8)


class Recorder:
    """Takes frames as the pipeline does."""

    def __init__(self):
        self.captured, self.advanced, self.prepared = [], 0, []

    def prepare(self, due_s):
        self.prepared.append(due_s)

    def capture(self, image, captured_s, truth):
        self.captured.append((captured_s, time.monotonic()))

    def advance(self):
        self.advanced += 1


class Script:
    """A source that does as told, then ends."""

    name = "script"

    def __init__(self, *steps):
        self.steps = list(steps)

    def frame(self):
        if not self.steps:
            raise SourceEnded
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if callable(step):
            step()
        return BLANK, None


async def test_frames_are_captured_at_their_instants_and_the_end_of_the_source_is_the_end():
    recorder = Recorder()
    started = time.monotonic()
    await asyncio.wait_for(capture_frames(Script(*[None] * 30), recorder, fps=100.0), 5)
    assert len(recorder.captured) == 30
    assert time.monotonic() - started == pytest.approx(0.30, abs=0.1)
    assert recorder.advanced >= 20
    # Decided about before they are due, each for its own instant.
    prepared = set(recorder.prepared)
    assert sum(captured_s in prepared for captured_s, _ in recorder.captured) > 10
    # Never said to be captured after the image was there.
    assert all(captured_s <= now_s for captured_s, now_s in recorder.captured)


def test_a_timer_that_fires_late_is_set_earlier():
    recorder = Recorder()
    run_exactly(capture_frames(Script(*[None] * 60), recorder, fps=100.0))
    first_s = recorder.captured[0][0]
    lateness = [now_s - (first_s + 0.01 * number) for number, (_, now_s) in enumerate(recorder.captured)]
    # As often early as late, once it is known how late timers fire; without that, every one is late.
    assert np.median(lateness[20:]) < 1e-4


async def test_nothing_is_captured_where_there_is_no_new_frame():
    recorder = Recorder()
    source = Script(None, NoNewFrame(), None, NoNewFrame(), NoNewFrame(), None)
    await capture_frames(source, recorder, fps=200.0)
    assert len(recorder.captured) == 3
    # Nor is a choice made for frames that may not come.
    assert len(recorder.prepared) == 1


async def test_a_limit_counts_frames_and_not_ticks():
    recorder = Recorder()
    await capture_frames(Script(None, NoNewFrame(), None, None), recorder, fps=200.0, frames=2)
    assert len(recorder.captured) == 2


async def test_frames_due_meanwhile_are_captured_in_one_go_before_any_is_computed():
    recorder = Recorder()
    source = Script(None, lambda: time.sleep(0.055), *[None] * 8)
    await capture_frames(source, recorder, fps=100.0)
    advanced_at = recorder.advanced
    assert advanced_at < 10
    assert len(recorder.captured) == 10


async def test_a_process_that_was_stopped_captures_nothing_for_that_time():
    recorder = Recorder()
    await capture_frames(Script(None, lambda: time.sleep(1.1), None, None), recorder, fps=100.0)
    captured = [captured_s for captured_s, _ in recorder.captured]
    assert len(captured) == 4
    assert captured[2] - captured[1] > 1.0


async def test_what_a_source_raises_ends_the_capture():
    with pytest.raises(InputError, match="unplugged"):
        await capture_frames(Script(None, InputError("camera: unplugged")), Recorder(), fps=100.0)
