"""Figures of traces whose figures are plain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.links import RateTrace, binned_rates, describe_trace, load_trace


def test_a_trace_with_two_silences():
    trace = RateTrace([(1.0, 1000.0), (0.25, 0.0), (0.75, 3000.0), (0.05, 0.0), (0.95, 2000.0)])
    facts = describe_trace(trace)
    assert (facts.duration_s, facts.peak_rate) == (3.0, 3000.0)
    assert facts.mean_rate == pytest.approx((1000 + 2250 + 1900) / 3)
    assert facts.longest_outage_s == pytest.approx(0.25)
    assert facts.outages == 1  # the short one fills no bin
    assert facts.empty_share == pytest.approx(2 / 30)
    assert list(facts.quantiles) == [0.05, 0.25, 0.5, 0.75, 0.95]
    assert facts.quantiles[0.95] == pytest.approx(3000)


def test_a_dead_and_a_constant_link():
    dead, constant = describe_trace(load_trace("constant:0B")), describe_trace(load_trace("constant:5kB"))
    assert (dead.empty_share, dead.longest_outage_s, dead.mean_rate) == (1.0, 1.0, 0.0)
    assert (constant.empty_share, constant.outages, constant.quantiles[0.05]) == (0.0, 0, pytest.approx(5000))


def test_a_trace_shorter_than_a_bin_is_one_bin():
    np.testing.assert_allclose(binned_rates(RateTrace([(0.03, 70.0)]), 0.1), [70.0])


@given(
    st.lists(st.tuples(st.floats(0.01, 2.0), st.sampled_from([0.0, 1e3, 7e6])), min_size=1, max_size=20),
    st.sampled_from([0.02, 0.1, 1.0]),
)
def test_bins_agree_with_the_traces_own_integral(segments, bin_s):
    trace = RateTrace(segments)
    for index, rate in enumerate(binned_rates(trace, bin_s)):
        if trace.duration_s >= bin_s:
            exact = trace.bytes_between(index * bin_s, (index + 1) * bin_s) / bin_s
            assert rate == pytest.approx(exact, rel=1e-6, abs=1e-6 * trace.peak_rate)


@pytest.mark.data
def test_recorded_uplinks_are_what_is_known_of_them(recorded_traces):
    facts = {
        file.name: describe_trace(load_trace(str(file)))
        for file in (recorded_traces / "mahimahi").glob("*.up")
    }
    assert len(facts) == 3
    assert all(0.005 <= fact.empty_share <= 0.15 for fact in facts.values())
    assert max(fact.longest_outage_s for fact in facts.values()) == pytest.approx(78, abs=0.5)
