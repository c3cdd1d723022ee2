import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.control.arrivals import SHORTEST_BUSY_S, Arrivals

# A link of 10 kB/s that arrives on a clock 1000 s ahead, after 20 ms of travel.
OFFSET_S = 1000.02
RATE = 10_000.0


def cross(arrivals, sends, *, rate=RATE, offset_s=OFFSET_S):
    """Send (time, bytes) over the link; return what `add` said."""
    told, free_s = [], 0.0
    for sent_s, nbytes in sends:
        free_s = max(free_s, sent_s) + nbytes / rate
        told.append(arrivals.add(sent_s, free_s + offset_s, nbytes))
    return told


def test_of_a_single_frame_nothing_can_be_told():
    arrivals = Arrivals()
    assert arrivals.offset_s is None
    assert cross(arrivals, [(0.0, 100)]) == [None]
    assert arrivals.offset_s == pytest.approx(OFFSET_S + 0.01)  # all of it, its transmission included


def test_two_sizes_on_an_idle_link_separate_travel_from_transmission():
    arrivals = Arrivals()
    told = cross(arrivals, [(0.0, 100), (1.0, 400), (2.0, 100)])
    assert arrivals.offset_s == pytest.approx(OFFSET_S)
    assert told[2] == (pytest.approx(0.01, rel=1e-3), False)


def test_frames_of_one_size_separate_once_one_has_to_wait():
    arrivals = Arrivals()
    burst = [(t + gap, 300) for t in (1.0, 2.0, 3.0, 4.0) for gap in (0.0, 0.001, 0.002)]
    told = cross(arrivals, [(0.0, 300), *burst])
    assert told[3] == (pytest.approx(0.03), True)
    assert arrivals.offset_s == pytest.approx(OFFSET_S)
    assert told[-3] == (pytest.approx(0.03), False)  # found the link idle, and is measured all the same


def test_frames_of_one_size_on_an_idle_link_cannot_be_separated():
    arrivals = Arrivals()
    told = cross(arrivals, [(0.0, 300), (1.0, 300), (2.0, 300)])
    assert told[2] == (SHORTEST_BUSY_S, False)  # "at least this fast"


def test_a_rate_that_jumps_within_some_pairs_does_not_move_the_median():
    arrivals = Arrivals()
    sends = [(float(t), 100 if t % 2 else 400) for t in range(30)]
    cross(arrivals, sends[:24])
    free_s = cross(arrivals, sends[24:27], rate=RATE / 5)
    assert free_s
    assert arrivals.offset_s == pytest.approx(OFFSET_S, abs=2e-3)


def test_a_longer_path_is_noticed():
    arrivals = Arrivals()
    cross(arrivals, [(float(t), 100 if t % 2 else 400) for t in range(20)])
    cross(arrivals, [(float(t), 100 if t % 2 else 400) for t in range(20, 60)], offset_s=OFFSET_S + 0.05)
    assert arrivals.offset_s == pytest.approx(OFFSET_S + 0.05, abs=2e-3)


@given(
    st.floats(1e3, 1e7),
    st.floats(-1e3, 1e3),
    st.lists(
        st.tuples(st.floats(0.001, 0.5), st.sampled_from([100, 200, 400, 900])), min_size=12, max_size=40
    ),
)
def test_a_constant_link_is_measured_exactly_once_sizes_differ(rate, offset_s, gaps):
    arrivals, sends, now_s = Arrivals(), [], 0.0
    for gap_s, nbytes in [(0.5, 100), (5.0, 900), *gaps]:
        now_s += gap_s
        sends.append((now_s, nbytes))
    told = cross(arrivals, sends, rate=rate, offset_s=offset_s)
    for answer, (_, nbytes) in list(zip(told, sends, strict=True))[2:]:
        busy_s, _ = answer
        assert busy_s == pytest.approx(max(SHORTEST_BUSY_S, nbytes / rate), rel=0.01, abs=1e-6)
