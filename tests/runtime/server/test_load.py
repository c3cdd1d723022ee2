from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.server.load import LoadMeter


def test_an_idle_tail_has_no_load():
    assert LoadMeter().percent(100.0) == 0


def test_the_load_is_the_busy_share_of_the_last_second():
    meter = LoadMeter()
    meter.add(10.0, 10.1)
    meter.add(10.5, 10.7)
    assert meter.percent(10.7) == 30
    assert meter.percent(11.05) == 25  # half of the first interval has left the window
    assert meter.percent(11.6) == 10
    assert meter.percent(12.0) == 0


def test_one_long_batch_is_full_load():
    meter = LoadMeter()
    meter.add(0.0, 5.0)
    assert meter.percent(5.0) == 100


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), max_size=30), st.floats(0, 3))
def test_the_load_is_what_the_whole_history_says(steps, later_s):
    meter, intervals, now_s = LoadMeter(), [], 0.0
    for idle_s, busy_s in steps:
        intervals.append((now_s + idle_s, now_s + idle_s + busy_s))
        meter.add(*intervals[-1])
        now_s = intervals[-1][1]
    now_s += later_s
    busy_s = sum(max(0.0, end - max(start, now_s - 1.0)) for start, end in intervals)
    assert abs(meter.percent(now_s) - 100 * busy_s) <= 0.5 + 1e-6
