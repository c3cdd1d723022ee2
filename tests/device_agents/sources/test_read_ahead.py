"""Every frame in its order, none waited for on the caller's side."""

import threading

import numpy as np
import pytest

from isthmus.device_agents.sources import NoNewFrame, SourceEnded
from isthmus.device_agents.sources.read_ahead import ReadAhead
from isthmus.runtime.errors import InputError


def _numbered(count):
    def once():
        for index in range(count):
            yield np.full((1, 1, 1), index, np.uint8), index

    return once


def test_all_frames_come_in_order_and_then_it_ends(patiently):
    source = ReadAhead("x", _numbered(30), loop=False)
    assert [truth for _, truth in patiently(source)] == list(range(30))
    with pytest.raises(SourceEnded):
        source.frame()
    assert source.name == "x"


def test_a_loop_begins_again(patiently):
    source = ReadAhead("x", _numbered(3), loop=True)
    assert [truth for _, truth in patiently(source, 7)] == [0, 1, 2, 0, 1, 2, 0]
    source.close()
    with pytest.raises(SourceEnded):
        source.frame()


def test_a_frame_that_is_not_decoded_yet_is_not_waited_for():
    gate = threading.Event()

    def once():
        yield np.zeros((1, 1, 1), np.uint8), 0
        gate.wait(10)
        yield np.zeros((1, 1, 1), np.uint8), 1

    source = ReadAhead("x", once, loop=False)
    assert source.frame()[1] == 0
    with pytest.raises(NoNewFrame):
        source.frame()
    gate.set()
    source.close()


def test_what_the_first_frame_raises_is_raised_at_once():
    def once():
        raise InputError("no such clip")
        yield

    with pytest.raises(InputError, match="no such clip"):
        ReadAhead("x", once, loop=False)


@pytest.mark.parametrize("loop", [False, True])
def test_an_empty_source_is_refused(loop):
    with pytest.raises(InputError, match="holds no frame"):
        ReadAhead("x", _numbered(0), loop=loop)


def test_an_error_in_the_middle_comes_after_the_frames_before_it(patiently):
    def once():
        yield np.zeros((1, 1, 1), np.uint8), 0
        raise InputError("frame 1: damaged")

    source = ReadAhead("x", once, loop=False)
    assert source.frame()[1] == 0
    with pytest.raises(InputError, match="damaged"):
        patiently(source, 1)
