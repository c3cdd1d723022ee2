import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.control.blend import RateBlend


def feed(blend, rates, *, gap_s=0.05, start_s=0.0):
    now_s = start_s
    for rate in rates:
        now_s += gap_s
        if blend.rate is not None:
            blend.score(blend.rates, rate)
        blend.add(rate * 0.02, 0.02, now_s)
    return now_s


def test_nothing_is_known_before_a_delivery():
    assert (RateBlend().rate, RateBlend().rates) == (None, ())


def test_after_a_step_the_memory_that_follows_it_leads():
    blend = RateBlend()
    now_s = feed(blend, [1_000.0] * 100)
    assert blend.rate == pytest.approx(1_000.0)
    feed(blend, [5_000.0] * 10, start_s=now_s)
    quick, _, slow = blend.rates
    assert slow < 3_000 < 4_500 < quick
    assert blend.rate > 4_000


def test_on_a_link_that_only_flickers_the_longest_memory_leads():
    blend = RateBlend()
    feed(blend, [1_000.0, 3_000.0] * 100)
    quick, _, slow = blend.rates
    assert abs(math.log(blend.rate / slow)) < abs(math.log(quick / slow))


def test_what_is_forgotten_is_the_rate():
    blend = RateBlend()
    feed(blend, [1_000.0] * 5)
    blend.forget()
    assert (blend.rate, blend.rates) == (None, ())
    blend.add(100.0, 0.01, 9.0)
    assert blend.rate == pytest.approx(10_000.0)


samples = st.lists(st.tuples(st.floats(1.0, 1e6), st.floats(1e-3, 5.0)), min_size=1, max_size=30)


@given(samples)
def test_the_blend_lies_between_the_slowest_and_the_fastest(history):
    blend, now_s = RateBlend(), 0.0
    for rate, gap_s in history:
        now_s += gap_s
        blend.add(rate * 0.01, 0.01, now_s)
    slowest, fastest = min(rate for rate, _ in history), max(rate for rate, _ in history)
    assert slowest * (1 - 1e-6) <= blend.rate <= fastest * (1 + 1e-6)


@given(samples, st.floats(1.0, 100.0))
def test_more_bytes_in_the_same_time_never_mean_a_lower_rate(history, factor):
    low, high, now_s = RateBlend(), RateBlend(), 0.0
    for rate, gap_s in history:
        now_s += gap_s
        low.add(rate * 0.01, 0.01, now_s)
        high.add(rate * 0.01 * factor, 0.01, now_s)
        assert low.rate <= high.rate * (1 + 1e-9)
