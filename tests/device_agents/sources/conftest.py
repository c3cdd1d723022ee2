"""Reading a source to its end, though it says at some ticks that it has nothing yet."""

import threading
import time

import pytest

from isthmus.device_agents.sources import NoNewFrame, SourceEnded


@pytest.fixture
def patiently():
    """Return `frames(source, count=None)`: its next frames, or all of them until it ends."""

    def frames(source, count=None, within_s=10.0):
        given = []
        end_s = time.monotonic() + within_s
        while count is None or len(given) < count:
            assert time.monotonic() < end_s, f"only {len(given)} frames came in time"
            try:
                given.append(source.frame())
            except NoNewFrame:
                threading.Event().wait(0.001)
            except SourceEnded:
                assert count is None, f"it ended after {len(given)} frames"
                break
        return given

    return frames
