"""Fitting a frequency table to a histogram."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from isthmus.runtime.codecs.fitting import fit_channel


def counts_of(values: dict[int, int]) -> NDArray[np.int64]:
    counts = np.zeros(256, np.int64)
    for value, count in values.items():
        counts[value] = count
    return counts


def fit(values: dict[int, int], total: int = 4096) -> tuple[int, list[int]]:
    first, frequency = fit_channel(counts_of(values), total=total, max_window=255)
    return first, frequency.tolist()


def test_a_constant_channel_costs_next_to_nothing() -> None:
    assert fit({128: 5000}) == (128, [4095, 1])


def test_frequencies_follow_the_sample() -> None:
    assert fit({10: 3000, 11: 1000, 12: 96}) == (10, [2999, 1000, 96, 1])


def test_a_gap_in_the_window_keeps_one_slot() -> None:
    assert fit({10: 2000, 12: 2000}) == (10, [2047, 1, 2047, 1])


def test_a_far_outlier_is_left_to_the_escape() -> None:
    first, frequency = fit({0: 1, 128: 50_000, 129: 50_000})
    assert first == 128
    assert len(frequency) == 3


def test_a_window_over_all_values_leaves_the_rarer_end_out() -> None:
    first, frequency = fit(dict.fromkeys(range(255), 20) | {255: 30})
    assert (first, len(frequency)) == (1, 256)


def test_the_escape_grows_with_what_the_window_leaves_out() -> None:
    _first, frequency = fit_channel(counts_of(dict.fromkeys(range(256), 100)), total=4096, max_window=255)
    assert frequency[-1] == pytest.approx(16, abs=1)


@given(
    st.dictionaries(st.integers(0, 255), st.integers(1, 10**9), min_size=1), st.sampled_from([4096, 65536])
)
def test_any_histogram_gives_a_valid_table(values: dict[int, int], total: int) -> None:
    first, frequency = fit(values, total)
    assert sum(frequency) == total
    assert min(frequency) >= 1
    assert 1 <= len(frequency) - 1 <= 255
    assert first >= 0
    assert first + len(frequency) - 1 <= 256


def test_close_to_the_entropy_of_the_sample() -> None:
    rng = np.random.default_rng(0)
    sample = np.clip(np.rint(128 + 3 * rng.laplace(size=100_000)), 0, 255).astype(np.int64)
    counts = np.bincount(sample, minlength=256)
    first, frequency = fit_channel(counts, total=4096, max_window=255)
    share = counts[counts > 0] / counts.sum()
    entropy = -(share * np.log2(share)).sum()
    inside = counts[first : first + len(frequency) - 1]
    bits = 12 - np.log2(frequency)
    cost = ((inside * bits[:-1]).sum() + (counts.sum() - inside.sum()) * (bits[-1] + 8)) / counts.sum()
    assert entropy < cost < 1.003 * entropy
