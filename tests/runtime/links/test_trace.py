import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.errors import InputError
from isthmus.runtime.links import RateTrace

# 2 s of 100 bytes/s, 1 s of nothing, 1 s of 300 bytes/s: 500 bytes in 4 s.
STEPS = [(2.0, 100.0), (1.0, 0.0), (1.0, 300.0)]


def test_the_rate_follows_the_segments_and_repeats():
    trace = RateTrace(STEPS)
    assert [trace.rate_at(t) for t in (0.0, 1.9, 2.0, 2.9, 3.5, 4.0, 6.5)] == [100, 100, 0, 0, 300, 100, 0]
    assert (trace.duration_s, trace.bytes_per_loop, trace.mean_rate, trace.peak_rate) == (4.0, 500, 125, 300)


def test_bytes_are_integrated_across_changes_and_loops():
    trace = RateTrace(STEPS)
    assert trace.bytes_between(0.0, 4.0) == 500
    assert trace.bytes_between(1.0, 3.5) == 100 + 0 + 150
    assert trace.bytes_between(2.0, 3.0) == 0
    assert trace.bytes_between(3.5, 5.0) == 150 + 100
    assert trace.bytes_between(0.0, 40.0) == 5000


def test_a_message_ends_after_the_zeros_it_meets():
    trace = RateTrace(STEPS)
    assert trace.finish(0.0, 100) == 1.0
    assert trace.finish(1.0, 100) == 2.0  # with the last byte before the zeros, not after them
    assert trace.finish(1.5, 110) == pytest.approx(3.2)
    assert trace.finish(2.5, 300) == 4.0
    assert trace.finish(3.0, 300 + 5000) == 44.0
    assert trace.finish(2.5, 0) == 2.5


def test_a_dead_link_never_ends_anything():
    dead = RateTrace([(1.0, 0.0)])
    assert dead.finish(3.0, 1) == math.inf
    assert dead.bytes_between(0.0, 1e6) == 0
    assert dead.next_change(0.0) == math.inf


def test_next_change():
    trace = RateTrace(STEPS)
    assert [trace.next_change(t) for t in (0.0, 2.0, 2.5, 3.9, 4.0, 5.9)] == [2.0, 3.0, 3.0, 4.0, 6.0, 6.0]


def test_equal_neighbours_are_no_change():
    assert RateTrace([(1.0, 5.0), (2.0, 5.0)]).next_change(0.0) == math.inf
    wrapped = RateTrace([(1.0, 5.0), (1.0, 9.0), (1.0, 5.0)])
    assert wrapped.next_change(2.5) == 4.0  # the last segment runs on into the first
    assert wrapped.segments() == [(0.0, 5.0), (1.0, 9.0), (2.0, 5.0)]


@pytest.mark.parametrize(
    ("segments", "what"),
    [
        ([], "no rate"),
        ([(0.0, 1.0)], "duration"),
        ([(1.0, -1.0)], "rate"),
        ([(1.0, math.nan)], "rate"),
        ([(math.inf, 1.0)], "lasts"),
    ],
)
def test_impossible_segments_are_refused(segments, what):
    with pytest.raises(InputError, match=f"my-trace.*{what}"):
        RateTrace(segments, name="my-trace")


traces = st.lists(
    st.tuples(
        st.floats(min_value=0.01, max_value=5.0),
        st.one_of(st.just(0.0), st.floats(min_value=1.0, max_value=1e6)),
    ),
    min_size=1,
    max_size=8,
).map(RateTrace)
instants = st.floats(min_value=0.0, max_value=100.0)


@given(traces, instants, st.floats(min_value=1.0, max_value=1e6))
def test_finish_inverts_bytes_between(trace, t0_s, nbytes):
    end_s = trace.finish(t0_s, nbytes)
    if trace.bytes_per_loop == 0:
        assert end_s == math.inf
        return
    assert end_s >= t0_s
    assert trace.bytes_between(t0_s, end_s) == pytest.approx(nbytes, rel=1e-6, abs=1e-6 * trace.peak_rate)


@given(traces, st.lists(instants, min_size=3, max_size=3))
def test_bytes_add_up_and_never_fall(trace, between):
    a, b, c = sorted(between)
    assert trace.bytes_between(a, b) >= -1e-6
    assert trace.bytes_between(a, c) == pytest.approx(
        trace.bytes_between(a, b) + trace.bytes_between(b, c), rel=1e-6, abs=1e-3
    )


@given(traces, instants)
def test_the_rate_is_constant_until_the_next_change(trace, t_s):
    change_s = trace.next_change(t_s)
    if change_s == math.inf:
        assert len({rate for _, rate in trace.segments()}) == 1
    else:
        assert change_s > t_s
        assert trace.rate_at(t_s + (change_s - t_s) * 0.5) == trace.rate_at(t_s)
