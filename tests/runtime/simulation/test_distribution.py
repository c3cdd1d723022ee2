from __future__ import annotations

import math
import random
from statistics import fmean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.errors import InputError
from isthmus.runtime.simulation import Constant, Distribution, Empirical, Lognormal

EACH: list[Distribution] = [Constant(0.02), Empirical((0.01, 0.02, 0.06)), Lognormal(0.02, 0.5)]


@pytest.mark.parametrize("times", EACH, ids=lambda times: type(times).__name__)
def test_draws_have_the_mean_and_the_median_they_claim(times: Distribution) -> None:
    rng = random.Random(1)
    drawn = [times.draw(rng) for _ in range(40_000)]
    assert fmean(drawn) == pytest.approx(times.mean_s, rel=0.02)
    assert median(drawn) == pytest.approx(times.median_s, rel=0.02)
    double = times.scaled(2.0)
    assert (double.mean_s, double.median_s) == pytest.approx((2 * times.mean_s, 2 * times.median_s))


def test_a_fit_returns_what_was_drawn() -> None:
    rng = random.Random(2)
    fitted = Lognormal.fitted([Lognormal(0.005, 0.4).draw(rng) for _ in range(20_000)])
    assert fitted.median_s == pytest.approx(0.005, rel=0.02)
    assert fitted.sigma == pytest.approx(0.4, rel=0.02)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constant(-1.0),
        lambda: Constant(math.nan),
        lambda: Empirical(()),
        lambda: Empirical((0.1, math.inf)),
        lambda: Lognormal(0.0, 1.0),
        lambda: Lognormal(1.0, -0.1),
        lambda: Lognormal.fitted([0.1, 0.0]),
    ],
)
def test_what_cannot_be_a_time_is_refused(make) -> None:
    with pytest.raises(InputError):
        make()


@given(st.lists(st.floats(0, 1e3), min_size=1), st.integers(0, 99))
def test_an_empirical_draw_is_one_of_the_samples(samples: list[float], seed: int) -> None:
    assert Empirical(tuple(samples)).draw(random.Random(seed)) in samples
