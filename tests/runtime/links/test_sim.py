import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.links import RateTrace, SimLink

THOUSAND = RateTrace([(1.0, 1000.0)])


def test_messages_queue_behind_each_other():
    link = SimLink(THOUSAND, delay_s=0.01)
    assert link.send(100, 0.0) == pytest.approx(0.11)
    assert link.send(100, 0.05) == pytest.approx(0.21)  # waits until 0.1
    assert link.send(100, 0.5) == pytest.approx(0.61)  # the link was idle


def test_to_ask_is_not_to_send():
    link = SimLink(THOUSAND, delay_s=0.01)
    assert link.arrival(100, 0.0) == link.arrival(100, 0.0) == pytest.approx(0.11)
    assert link.send(100, 0.0) == pytest.approx(0.11)
    assert link.arrival(100, 0.0) == pytest.approx(0.21)


def test_an_outage_holds_everything_and_then_lets_it_go():
    link = SimLink(RateTrace([(1.0, 1000.0), (2.0, 0.0)]))
    assert link.send(100, 0.95) == pytest.approx(3.05)
    assert link.send(100, 2.0) == pytest.approx(3.15)


def test_a_dead_link_never_delivers():
    link = SimLink(RateTrace([(1.0, 0.0)]))
    assert link.send(1, 0.0) == math.inf
    assert link.send(1, 5.0) == math.inf


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 0.5)), min_size=1, max_size=30),
    st.lists(st.tuples(st.floats(0.05, 1.0), st.floats(0.0, 1e5).map(round)), min_size=1, max_size=5).map(
        RateTrace
    ),
)
def test_order_is_kept_and_no_byte_is_too_fast(messages, trace):
    link, now_s, last_s, total = SimLink(trace), 0.0, 0.0, 0
    for nbytes, gap_s in messages:
        now_s += gap_s
        arrival_s = link.send(nbytes, now_s)
        total += nbytes
        assert arrival_s >= max(now_s, last_s)
        last_s = arrival_s
        if arrival_s < math.inf:
            assert trace.bytes_between(0.0, arrival_s) >= total * (1 - 1e-6) - 1e-3
