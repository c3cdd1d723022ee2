"""The server's clock from the frames' stamps: right within its stated uncertainty, whatever clocks do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.device_agents.profiling.clock_offset import OffsetPoint, estimate_offset, offset_point


def test_equal_ways_give_the_offset_itself(remote_event):
    point = offset_point(remote_event(offset_s=5.0, out_s=0.003, back_s=0.003))
    assert point.offset_s == pytest.approx(5.0)
    assert point.delay_s == pytest.approx(0.006)


def test_unequal_ways_are_off_by_half_their_difference_which_the_uncertainty_covers(remote_event):
    point = offset_point(remote_event(offset_s=-7.0, out_s=0.011, back_s=0.001))
    assert point.offset_s == pytest.approx(-7.0 + 0.005)
    assert abs(point.offset_s + 7.0) <= point.delay_s / 2


def test_a_frame_that_says_too_little_says_nothing(remote_event):
    assert offset_point(remote_event(server_received_s=None)) is None
    assert offset_point(remote_event(server_queue_s=None)) is None
    assert estimate_offset([remote_event(remote_s=None)]) is None


def test_the_frame_with_the_least_delay_is_believed(remote_event):
    slow = [remote_event(captured_s=100 + i / 10, out_s=0.2, offset_s=3.0) for i in range(20)]
    quick = remote_event(captured_s=100.55, out_s=0.001, back_s=0.001, offset_s=3.0)
    found = estimate_offset([*slow, quick])
    assert found.frames == 21
    assert found.surest.offset_s == pytest.approx(3.0, abs=1e-9)
    assert found.uncertainty_s == pytest.approx(0.001)
    assert found.drift is None


def test_a_clock_that_runs_faster_is_followed(remote_event):
    ahead = 50e-6
    events = [
        remote_event(captured_s=100 + i, offset_s=2.0 + ahead * i, out_s=1e-4, back_s=1e-4) for i in range(60)
    ]
    found = estimate_offset(events)
    assert len(found.segments) == 1
    assert found.drift == pytest.approx(ahead, rel=0.01)
    for i in (0, 17, 31, 59):
        assert found.at(100 + i) == pytest.approx(2.0 + ahead * i, abs=found.uncertainty_s + 10 * ahead)
    # A line through all of it would be wrong by this much at one end; the windows are not.
    assert abs(found.at(159) - found.at(100)) > 40 * ahead


def test_a_server_that_was_started_again_has_another_clock(remote_event):
    first = [remote_event(captured_s=100 + i / 10, offset_s=1000.0) for i in range(30)]
    second = [remote_event(captured_s=103 + i / 10, offset_s=-2.0) for i in range(30)]
    found = estimate_offset(first + second)
    assert len(found.segments) == 2
    assert found.at(101.0) == pytest.approx(1000.0, abs=0.003)
    assert found.at(104.0) == pytest.approx(-2.0, abs=0.003)


def test_two_readings_of_one_clock_contradict_each_other_only_beyond_their_uncertainty():
    here = OffsetPoint(at_s=0.0, offset_s=1.0, delay_s=0.010)
    near = OffsetPoint(at_s=0.0, offset_s=1.009, delay_s=0.010)
    far = OffsetPoint(at_s=0.0, offset_s=1.011, delay_s=0.010)
    later = OffsetPoint(at_s=10.0, offset_s=1.011, delay_s=0.010)
    assert not here.contradicts(near)
    assert here.contradicts(far)
    assert not here.contradicts(later)  # ten seconds of drift explain it


@given(
    offset_s=st.floats(-1e6, 1e6),
    ways=st.lists(st.tuples(st.floats(1e-5, 2.0), st.floats(1e-5, 2.0)), min_size=1, max_size=40),
)
def test_the_true_offset_is_always_within_the_uncertainty(offset_s, ways):
    events = [
        OffsetPoint(at_s=float(i), offset_s=offset_s + (out_s - back_s) / 2, delay_s=out_s + back_s)
        for i, (out_s, back_s) in enumerate(ways)
    ]
    # As frames, so that the arithmetic of `offset_point` is in it too.
    frames = [
        _frame(event, out_s, back_s, offset_s) for event, (out_s, back_s) in zip(events, ways, strict=True)
    ]
    found = estimate_offset(frames)
    assert len(found.segments) == 1
    assert abs(found.surest.offset_s - offset_s) <= found.surest.delay_s / 2 + 1e-6
    for i in range(len(ways)):
        assert abs(found.at(float(i)) - offset_s) <= found.uncertainty_s + 1e-6


def _frame(point, out_s, back_s, offset_s):
    from isthmus.runtime.events import FrameEvent

    sent_s, there_s = point.at_s, 0.004
    at_s = sent_s + out_s + there_s + back_s
    return FrameEvent(
        at_s=at_s,
        frame=0,
        captured_s=sent_s,
        outcome="remote",
        remote_s=at_s - sent_s,
        server_received_s=sent_s + out_s + offset_s,
        server_queue_s=0.001,
        server_compute_s=0.003,
    )
