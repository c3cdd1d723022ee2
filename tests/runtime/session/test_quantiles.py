"""Quantiles in bounded memory, against the exact ones."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.session import Quantiles


def test_no_values_have_no_quantile():
    assert Quantiles().at(0.5) is None


def test_the_median_and_the_tail_of_a_known_set():
    quantiles = Quantiles()
    for milliseconds in range(1, 101):
        quantiles.add(milliseconds / 1000)
    assert quantiles.at(0.5) == pytest.approx(0.050, rel=0.006)
    assert quantiles.at(0.99) == pytest.approx(0.099, rel=0.006)
    assert quantiles.at(1.0) == pytest.approx(0.100, rel=0.006)


@given(
    st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=200),
    st.floats(0.001, 1.0),
)
def test_any_quantile_is_within_one_percent_of_the_nearest_rank(values, share):
    quantiles = Quantiles()
    for value in values:
        quantiles.add(value)
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert quantiles.at(share) == pytest.approx(exact, rel=0.01)


def test_memory_does_not_grow_with_the_run():
    quantiles = Quantiles()
    for count in range(50_000):
        quantiles.add(1e-6 * (1 + count))
    assert len(quantiles._buckets) < 1200
