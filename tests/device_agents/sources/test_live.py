"""The newest frame wins, each is given once, and a lost camera is opened again."""

import queue
import random
import threading

import numpy as np
import pytest

from isthmus.device_agents.sources import NoNewFrame, SourceEnded
from isthmus.device_agents.sources.live import LiveSource
from isthmus.runtime.errors import InputError, MissingExtraError
from isthmus.runtime.session import FullJitter


class ScriptedCamera:
    """Gives what is put into it; None: it is gone."""

    def __init__(self):
        self.frames = queue.Queue()
        self.read_all = threading.Semaphore(0)
        self.closed = threading.Event()

    def read(self):
        while not self.closed.is_set():
            try:
                level = self.frames.get(timeout=0.05)
            except queue.Empty:
                self.read_all.release()
                continue
            return None if level is None else np.full((2, 2, 3), level, np.uint8)
        return None

    def close(self):
        self.closed.set()


def _live(open_camera, **options):
    options.setdefault("backoff", FullJitter(base_s=0.01, cap_s=0.01, rng=random.Random(1)))
    return LiveSource("camera:0", open_camera, lambda image: image, **options)


@pytest.fixture
def camera():
    made = ScriptedCamera()
    made.frames.put(1)
    yield made
    made.close()


def _settle(camera):
    """Wait until the camera's thread has read all there is."""
    for _ in range(2):  # a release from before the last frame was put does not count
        assert camera.read_all.acquire(timeout=5)


def test_the_newest_wins_and_is_given_once(camera):
    source = _live(lambda: camera)
    for level in (2, 3, 4):
        camera.frames.put(level)
    _settle(camera)
    image, truth = source.frame()
    assert (int(image[0, 0, 0]), truth) == (4, None)
    with pytest.raises(NoNewFrame):
        source.frame()
    camera.frames.put(5)  # a real camera's read ends with its next frame
    source.close()
    assert camera.closed.is_set()
    with pytest.raises(SourceEnded):
        source.frame()


def test_a_lost_camera_is_opened_again_and_said_once_each_way(patiently):
    first, second = ScriptedCamera(), ScriptedCamera()
    first.frames.put(1)
    second.frames.put(9)
    answers = iter([first, None, None, None, second])
    notes = []
    source = _live(lambda: next(answers), note=notes.append)
    levels = [int(patiently(source, 1)[0][0][0, 0, 0])]
    first.frames.put(None)
    levels.append(int(patiently(source, 1)[0][0][0, 0, 0]))
    second.frames.put(10)
    source.close()
    assert levels == [1, 9]
    assert notes == [
        "camera:0: the camera is gone; opening it again until it is back",
        "camera:0: the camera is back",
    ]


def test_a_camera_that_never_comes_is_one_line():
    with pytest.raises(InputError, match=r"source camera:0: no frame within 0\.1 s; check"):
        _live(lambda: None, first_frame_s=0.1)


def test_a_missing_library_is_raised_where_the_source_is_opened():
    def open_camera():
        raise MissingExtraError("the source 'camera'", "camera")

    with pytest.raises(MissingExtraError, match=r"isthmus\[camera\]"):
        _live(open_camera)
