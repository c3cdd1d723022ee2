import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.models.rate import LatentPrior, RatePrice


def _prior(location: float = 0.0, spread: float = 1.0) -> LatentPrior:
    prior = LatentPrior(1, 1)
    with torch.no_grad():
        prior.location.fill_(location)
        prior.log_spread.fill_(math.log(spread))
    return prior


@pytest.mark.parametrize(("location", "spread"), [(0.0, 1.0), (3.4, 0.3), (-7.0, 6.0)])
def test_probabilities_sum_to_one(location: float, spread: float) -> None:
    levels = torch.arange(-400.0, 401.0).reshape(-1, 1, 1, 1)
    bits = _prior(location, spread).bits(levels, 0)
    # The floor adds at most 801e-9.
    assert (2.0**-bits).sum().item() == pytest.approx(1.0, abs=1e-4)


def test_bits_are_those_of_the_formula() -> None:
    def logistic(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    level, location, spread = 2.0, 0.5, 1.5
    wanted = -math.log2(
        logistic((level + 0.5 - location) / spread) - logistic((level - 0.5 - location) / spread)
    )
    found = _prior(location, spread).bits(torch.full((1, 1, 1, 1), level), 0)
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_bits_are_summed_over_the_plane_and_kept_per_channel() -> None:
    prior = LatentPrior(2, 3)
    levels = torch.randn(5, 3, 4, 4)
    bits = prior.bits(levels, 1)
    assert bits.shape == (5, 3)
    single = prior.bits(levels[:, :, :1, :1], 1)
    assert (bits > single).all()


def test_far_levels_cost_much_but_not_everything() -> None:
    bits = _prior().bits(torch.tensor([0.0, 10.0, 127.0]).reshape(3, 1, 1, 1), 0).flatten()
    assert bits[0] < bits[1] < bits[2] < 31


def test_the_prior_learns_the_entropy_of_what_it_sees() -> None:
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(1500, 1, 1, 1, generator=generator).clamp(1e-6, 1 - 1e-6)
    levels = (4.0 * torch.logit(uniform) + 3.0).round()
    prior = LatentPrior(1, 1)
    optimiser = torch.optim.Adam(prior.parameters(), lr=0.2)
    for _ in range(80):
        optimiser.zero_grad()
        prior.bits(levels, 0).mean().backward()
        optimiser.step()
    counts = levels.flatten().unique(return_counts=True)[1] / 1500
    entropy = -(counts * counts.log2()).sum().item()
    assert prior.bits(levels, 0).mean().item() == pytest.approx(entropy, rel=0.04)
    assert prior.location.item() == pytest.approx(3.0, abs=0.5)


@given(bits=st.floats(1, 1e6))
def test_the_price_moves_towards_the_target(bits: float) -> None:
    price = RatePrice([1e-5, 1e-5], (4,), [[1000.0]] * 2)
    price.update(1, [bits / 4] * 4)
    assert price.prices[0] == [1e-5]
    assert (price.prices[1][0] - 1e-5) * (bits - 1000) >= 0


def test_the_price_stays_within_its_limits_and_fixed_without_target() -> None:
    price = RatePrice([1e-5], (1,), [[1000.0]])
    for _ in range(2000):
        price.update(0, [1e9])
    assert price.prices[0][0] == RatePrice.HIGHEST
    for _ in range(3000):
        price.update(0, [0.0])
    assert price.prices[0][0] == RatePrice.LOWEST
    fixed = RatePrice([1e-5], (1,))
    fixed.update(0, [1e9])
    assert fixed.prices == [[1e-5]]


def test_the_price_finds_the_target_of_a_simple_world() -> None:
    # A world in which a dearer bit halves what is spent: bits = 1000 · (price / 1e-5)^-1/2.
    price = RatePrice([1e-3], (1,), [[500.0]])
    for _ in range(1500):
        price.update(0, [1000 * (price.prices[0][0] / 1e-5) ** -0.5])
    assert price.prices[0][0] == pytest.approx(4e-5, rel=0.01)


def test_channels_that_longer_prefixes_add_have_their_own_price() -> None:
    price = RatePrice([1e-5, 1e-5], (1, 4), [[100.0, 200.0], [100.0, 200.0]])
    price.update(0, [200.0, 0.0, 0.0, 0.0])  # the first channel is dear, the whole latent right
    per_channel = price.per_channel(0).tolist()
    assert per_channel[0] == pytest.approx(1e-5 * math.exp(RatePrice.SPEED * math.log(2.0)))
    assert per_channel[1:] == pytest.approx([1e-5] * 3)
    assert price.per_channel(1).tolist() == pytest.approx([1e-5] * 4)
