"""Fitting widths: networks where they earn their place, and tables for every context."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.runtime.codecs import FrequencyTables
from isthmus.runtime.codecs.contexts import pad
from isthmus.runtime.codecs.network_fitting import fit_network
from isthmus.runtime.codecs.width_fitting import _smoothed


@pytest.fixture(scope="module")
def mixed(draw_related, draw_latents) -> np.ndarray:
    """Return uint8 [1000, 4, 6, 6]: two related channels, an independent one, a constant one."""
    sample = np.full((1000, 4, 6, 6), 128, np.uint8)
    sample[:, :2] = draw_related(1000, 2, 6, 6, seed=1)
    sample[:, 2:3] = draw_latents(1000, 1, 6, 6, seed=2)
    return sample


def test_only_channels_that_gain_get_a_network(mixed: np.ndarray, draw_related) -> None:
    tables = FrequencyTables.fit([mixed])
    width = tables.width(0)
    assert [network is not None for network in width.networks] == [True, True, False, False]
    assert width.own_table[2:] == (4 * width.classes, 4 * width.classes + 1)
    assert len(width.first) == 4 * width.classes + 2
    unseen = np.full((100, 4, 6, 6), 128, np.uint8)
    unseen[:, :2] = draw_related(100, 2, 6, 6, seed=9)
    share = np.bincount(mixed[:, 1].reshape(-1)) / mixed[:, 1].size
    alone = -np.log2(share[share > 0]) @ share[share > 0] * 36
    own = [tables.ideal_bits(one[:2], 0) - tables.ideal_bits(one[:1], 0) for one in unseen]
    assert np.mean(own) < 0.9 * alone


def test_a_small_sample_gets_no_networks(mixed: np.ndarray) -> None:
    width = FrequencyTables.fit([mixed[:500]]).width(0)
    assert width.classes == 0
    assert width.networks == [None] * 4
    assert width.own_table == (0, 1, 2, 3)


def test_what_was_fitted_is_what_the_rounded_network_does(mixed: np.ndarray) -> None:
    padded = pad(mixed)
    network, bits = fit_network(padded, 1, None)
    share = np.bincount(mixed[:, 1].reshape(-1)) / mixed[:, 1].size
    assert 0 < bits < 0.95 * -np.log2(share[share > 0]) @ share[share > 0]
    again, same = fit_network(padded, 1, None)
    assert same == bits
    rounded = network.rounded()
    assert (rounded.hidden_weight == again.rounded().hidden_weight).all()
    inputs = np.random.default_rng(0).integers(-20, 20, (50, len(rounded.hidden_weight))).astype(np.int16)
    weight, bias, output, offset = network.parameters
    outputs = np.maximum(inputs / network.unit @ weight + bias, 0) @ output + offset
    expected, scale = rounded.outputs(inputs)
    assert np.abs(expected / 4 - (network.centre + outputs[:, 0] * network.spread)).max() < 0.3
    wanted = 3 * np.log2(network.spread * np.exp(outputs[:, 1]) / 0.03)
    assert np.abs(scale - wanted).max() < 0.7
    assert np.ptp(scale) > 3  # else the comparison could not fail


def test_smoothing_leaves_no_context_empty_and_counts_as_they_are() -> None:
    counts = np.zeros((5, 4, 256), np.int64)
    counts[0, 0, 3:5] = 1000
    counts[4, 2, :] = 1
    smoothed = _smoothed(counts)
    assert smoothed.sum(axis=2).min() >= 1
    assert (smoothed >= counts).all()
    assert smoothed[1, 0, 3] > smoothed[1, 0, 9]
    assert smoothed[0, 0, 3] <= 1008
