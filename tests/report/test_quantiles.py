"""Quantiles: exact while values are few, within the stated error beyond, however they came together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.report.quantiles import EXACT_VALUES, RELATIVE_ERROR, Quantiles

SHARES = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)


def of(values, *, exact_values=EXACT_VALUES, parts=1):
    quantiles = Quantiles(exact_values=exact_values)
    for part in np.array_split(np.array(values, dtype=np.float64), parts):
        quantiles.add(part)
    return quantiles


def test_few_values_are_exact():
    values = np.random.default_rng(0).gamma(3.0, 0.02, 1000)
    found = of(values, parts=7)
    assert found.exact
    assert found.at(SHARES) == pytest.approx(np.quantile(values, SHARES), rel=1e-12)
    assert (found.count, found.most) == (1000, values.max())


@pytest.mark.parametrize("spread", [0.02, 1.0, 3.0])
def test_many_values_are_within_the_stated_error(spread):
    values = 0.05 * np.random.default_rng(1).lognormal(0.0, spread, 200_000)
    found = of(values, parts=9)
    assert not found.exact
    # A rank's value in a sample is one of its neighbours, which the error must hold against.
    ordered = np.sort(values)
    for share, value in zip(SHARES, found.at(SHARES), strict=True):
        rank = share * (len(values) - 1)
        low, high = ordered[int(np.floor(rank))], ordered[int(np.ceil(rank))]
        assert low * (1 - RELATIVE_ERROR * 1.001) <= value <= high * (1 + RELATIVE_ERROR * 1.001)
    assert found.mean == pytest.approx(values.mean())
    assert found.at((1.0,)) == [found.most] == [values.max()]


@settings(max_examples=60)
@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60), st.integers(0, 60), st.integers(1, 40))
def test_two_parts_added_up_are_the_whole(values, cut, exact_values):
    one, other = of(values[:cut], exact_values=exact_values), of(values[cut:], exact_values=exact_values)
    whole = of(values, exact_values=exact_values)
    one.merge(other)
    assert one.count == whole.count
    assert one.at(SHARES) == pytest.approx(whole.at(SHARES), rel=2.1 * RELATIVE_ERROR)
    assert (one.least, one.most) == (whole.least, whole.most)


def test_zero_and_what_is_beyond_all_bins_are_counted():
    found = of([0.0] * 3 + [1e9] * 3, exact_values=1)
    assert found.at((0.0, 1.0)) == [0.0, 1e9]
    assert found.at((0.2, 0.8)) == [pytest.approx(0.0, abs=1e-6), pytest.approx(1e6, rel=0.02)]


def test_the_distribution_ends_at_one_and_hits_the_median():
    x_s, y = of([0.3, 0.1, 0.2, 0.4]).cumulative()
    assert x_s.tolist() == [0.1, 0.1, 0.2, 0.3, 0.4]
    assert y.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("exact_values", [100_000, 1])
def test_a_long_distribution_is_thinned_without_moving_it(exact_values):
    values = np.random.default_rng(0).gamma(3.0, 0.02, 50_000)
    x_s, y = of(values, exact_values=exact_values).cumulative()
    assert len(x_s) <= 1_500
    for share in (0.1, 0.5, 0.99):
        assert np.interp(share, y, x_s) == pytest.approx(np.quantile(values, share), rel=0.02)
