import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.control import LinkEstimate
from isthmus.runtime.control.outlook import PRIOR_ERRORS, Outlook


def link(**changes):
    facts = {
        "connected": True,
        "rate_bytes_per_s": 1_000.0,
        "rtt_s": 0.02,
        "backlog_bytes": 0,
        "in_flight": 0,
        "oldest_age_s": None,
        "residuals": (-1.0, *(0.0,) * 8, 0.5),
        "idle_s": 0.05,
    }
    return LinkEstimate(**{**facts, **changes})


def test_past_errors_are_equally_likely():
    outlook = Outlook.of(link())
    assert outlook.probability(2_000) == 0.0
    assert outlook.probability(1_500) == pytest.approx(0.1)
    assert outlook.probability(999) == pytest.approx(0.9)
    assert outlook.probability(300) == 1.0


def test_a_few_errors_stand_beside_the_prior():
    assert Outlook.of(link(residuals=())).probability(1_000 * math.exp(0.01)) == pytest.approx(2 / 6)
    assert Outlook.of(link(residuals=(0.1,))).probability(1_000 * math.exp(0.01)) == pytest.approx(3 / 7)
    assert len(PRIOR_ERRORS) == 6


def test_nothing_is_known_of_a_dead_or_untried_link():
    assert Outlook.of(link(rate_bytes_per_s=0.0)) is None
    assert Outlook.of(link(rate_bytes_per_s=None)) is None


def test_silence_disproves_the_fast_ones_and_leaves_a_slow_tail():
    overdue = link(steady_rate_bytes_per_s=1_000.0, rate_bytes_per_s=500.0, ceiling_bytes_per_s=500.0)
    outlook = Outlook.of(overdue)
    assert outlook.probability(501) == 0.0
    # Of the errors only −1.0 remains; the tail's four halves lie 0.1 to 2 below the ceiling.
    assert outlook.probability(450) == pytest.approx(0.5 / 3)
    assert outlook.probability(360) == pytest.approx(1.5 / 3)
    assert outlook.probability(69) == pytest.approx(2.5 / 3)
    assert outlook.probability(67) == 1.0
    assert outlook.quantiles(3)[0] < 500


def test_what_waits_is_what_is_unanswered_or_else_the_backlog():
    assert Outlook.of(link(backlog_bytes=70)).queued_bytes == 70
    known = Outlook.of(link(backlog_bytes=70, unanswered_bytes=90, serving_s=0.02))
    assert (known.queued_bytes, known.serving_s) == (90, 0.02)


@given(
    st.lists(st.floats(-1.5, 0.7), max_size=30),
    st.floats(10.0, 1e6),
    st.floats(10.0, 1e6),
    st.one_of(st.just(math.inf), st.floats(1.0, 1e6)),
)
def test_a_higher_rate_is_never_more_likely(errors, rate_a, rate_b, ceiling):
    outlook = Outlook.of(link(residuals=tuple(sorted(errors)), ceiling_bytes_per_s=ceiling))
    low, high = sorted((rate_a, rate_b))
    assert 0.0 <= outlook.probability(high) <= outlook.probability(low) <= 1.0
    rates = outlook.quantiles(9)
    assert (rates > 0).all()
    assert (rates[1:] >= rates[:-1]).all()
