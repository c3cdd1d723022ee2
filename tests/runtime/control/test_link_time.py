import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.control.link_time import LinkTime

BYTES = (100.0, 200.0, 400.0, 800.0)
UTILITY = (0.6, 0.7, 0.75, 0.9)


@pytest.fixture
def link_time():
    # The third point lies under the line from the second to the fourth: not on the hull.
    return LinkTime(BYTES, UTILITY, 0.5)


def price(link_time, rate, *, queued_bytes=0.0, serving_s=0.0, interval_s=0.1, frames=1.0, ready_s=0.0):
    return link_time.price(
        np.array([rate]),
        np.full(4, ready_s),
        queued_bytes=queued_bytes,
        serving_s=serving_s,
        interval_s=interval_s,
        frames=frames,
    )


def test_a_link_that_is_free_again_costs_nothing(link_time):
    assert price(link_time, 8_000.0) == pytest.approx([0.0] * 4)
    assert price(link_time, 1_000.0)[0] == pytest.approx(0.0)  # 100 bytes take just the 100 ms


def test_bytes_too_many_cost_what_they_are_worth_to_the_next_frame(link_time):
    # At 2 kB/s 200 bytes fit into 100 ms. 400 bytes take all of the next frame's time.
    assert price(link_time, 2_000.0)[2] == pytest.approx(0.7 - 0.5)
    # Shared by four frames, each has 150 bytes instead of 200.
    assert price(link_time, 2_000.0, frames=4.0)[2] == pytest.approx(4 * (0.7 - 0.65))


def test_the_hull_leaves_out_what_a_mixture_beats(link_time):
    # At 4 kB/s 400 bytes fit: worth 0.7 + 200/600 * 0.2 as a mixture, not the third point's 0.75.
    assert price(link_time, 4_000.0)[3] == pytest.approx(0.7 + 0.2 / 3 - 0.5)


def test_what_waits_in_front_counts_less_the_time_it_had(link_time):
    free = price(link_time, 2_000.0)[1]
    behind = price(link_time, 2_000.0, queued_bytes=200)[1]
    half_done = price(link_time, 2_000.0, queued_bytes=200, serving_s=0.05)[1]
    while_computing = price(link_time, 2_000.0, queued_bytes=200, ready_s=0.1)[1]
    assert free == while_computing == pytest.approx(0.0)
    assert behind == pytest.approx(0.2)
    assert half_done == pytest.approx(0.1)


@given(
    st.floats(10.0, 1e6),
    st.floats(0.0, 5_000.0),
    st.floats(0.005, 2.0),
    st.floats(1.0, 20.0),
    st.floats(0.0, 0.1),
)
def test_it_is_never_negative_rises_with_bytes_and_with_what_waits(rate, queued, interval_s, frames, ready_s):
    link_time = LinkTime(BYTES, UTILITY, 0.5)
    free = price(link_time, rate, interval_s=interval_s, frames=frames, ready_s=ready_s)
    behind = price(
        link_time, rate, queued_bytes=queued, interval_s=interval_s, frames=frames, ready_s=ready_s
    )
    assert (free >= -1e-12).all()
    assert (np.diff(free) >= -1e-12).all()
    assert (behind >= free - 1e-12).all()
    assert (behind <= frames * 0.4 + 1e-9).all()  # no more than everything the link adds
