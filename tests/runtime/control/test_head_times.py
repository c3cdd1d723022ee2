import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.control.head_times import HeadTimes

TABLE = {0: 0.01, 1: 0.02, 2: 0.04}
WARM = {0: 0.02, 1: 0.04, 2: 0.08}  # this device is half as fast as the table's


def run(heads, measured, width, times):
    for _ in range(times):
        now = heads.now(measured, width)
    return now


def test_what_was_measured_counts_and_the_rest_is_the_tables():
    heads = HeadTimes(TABLE)
    assert heads.now(WARM, None) == WARM
    assert heads.now({0: 0.02}, None) == {0: 0.02, 1: 0.02, 2: 0.04}


def test_a_device_that_slows_down_slows_the_heads_it_does_not_use_as_well():
    heads = HeadTimes(TABLE)
    run(heads, WARM, 2, 20)
    hot = run(heads, WARM | {2: 0.16}, 2, 1)
    assert hot == pytest.approx({0: 0.04, 1: 0.08, 2: 0.16})
    assert heads.slowdown == pytest.approx(2.0)
    cool = run(heads, WARM, 2, 1)
    assert cool == pytest.approx(WARM)


def test_a_head_taken_into_use_again_is_believed_once_its_median_has_moved():
    heads = HeadTimes(TABLE)
    run(heads, WARM, 2, 20)
    hot = WARM | {2: 0.16}
    run(heads, hot, 2, 5)
    # Width 0 ran four times: its median is still that of cooler days.
    assert run(heads, hot, 0, 4)[0] == pytest.approx(0.04)
    # Then it shows that only the wide head was slow.
    settled = run(heads, hot, 0, 3)
    assert settled[0] == pytest.approx(0.02)
    assert settled[1] == pytest.approx(0.04)


def test_jitter_moves_nothing_else():
    heads = HeadTimes(TABLE)
    run(heads, WARM, 1, 10)
    assert heads.now(WARM | {1: 0.042}, 1) == {0: 0.02, 1: 0.042, 2: 0.08}


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(1e-4, 10.0)), max_size=60))
def test_times_stay_positive_and_finite(history):
    heads, measured = HeadTimes(TABLE), dict(WARM)
    for width, seconds in history:
        measured[width] = seconds
        now = heads.now(measured, width)
        assert set(now) == {0, 1, 2}
        assert all(0 < value < 1e6 for value in now.values())
