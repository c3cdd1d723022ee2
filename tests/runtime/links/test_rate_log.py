from itertools import islice

import pytest

from isthmus.runtime.links import RateTrace
from isthmus.runtime.links.rate_log import logged_rates


def test_changes_are_told_at_their_instants_and_repeat():
    rates = list(islice(logged_rates(RateTrace([(1.0, 5.0), (2.0, 0.0)])), 4))
    assert rates == [(0.0, 5.0), (1.0, 0.0), (3.0, 5.0), (4.0, 0.0)]


def test_changes_closer_than_100_ms_are_averaged():
    rates = list(islice(logged_rates(RateTrace([(0.02, 100.0), (0.03, 0.0), (1.0, 60.0)])), 2))
    assert rates[0] == (0.0, pytest.approx((0.02 * 100 + 0.05 * 60) / 0.1))
    assert rates[1] == (pytest.approx(0.1), pytest.approx(60.0))


def test_a_constant_rate_is_told_once():
    assert list(logged_rates(RateTrace([(1.0, 7.0)]))) == [(0.0, 7.0)]
