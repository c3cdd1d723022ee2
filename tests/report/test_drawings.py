"""What drawings compute before they draw."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.report.moments import merge_spans
from isthmus.report.timeline import bin_width_s
from isthmus.report.tradeoff import round_ticks, spread

LEVELS = st.lists(st.floats(0, 300, allow_nan=False), min_size=1, max_size=9)


def test_neighbouring_frames_share_a_bar() -> None:
    assert merge_spans(np.array([0.0, 0.1, 0.2, 0.9]), 0.1) == [
        (0.0, pytest.approx(0.3)),
        (0.9, pytest.approx(0.1)),
    ]
    assert merge_spans(np.array([]), 0.1) == []


@given(st.lists(st.integers(0, 200), min_size=1, max_size=50, unique=True))
def test_bars_cover_exactly_the_frames(numbers: list[int]) -> None:
    at_s = np.sort(np.array(numbers, dtype=np.float64))
    spans = merge_spans(at_s, 1.0)
    covered = {second for start, length in spans for second in range(round(start), round(start + length))}
    assert covered == set(numbers)


@pytest.mark.parametrize(
    ("duration_s", "bins", "width_s"), [(40.0, 90, 0.5), (40.0, 40, 1.0), (3600.0, 90, 50.0), (0.9, 90, 0.01)]
)
def test_bins_have_round_widths(duration_s: float, bins: int, width_s: float) -> None:
    assert bin_width_s(duration_s, bins=bins) == pytest.approx(width_s)


@given(st.floats(1e-3, 1e6), st.integers(10, 200))
def test_there_are_never_more_bins_than_asked_for(duration_s: float, bins: int) -> None:
    assert duration_s / bin_width_s(duration_s, bins=bins) <= bins * (1 + 1e-6)


def test_labels_that_fit_stay_where_they_belong() -> None:
    assert spread([10.0, 60.0, 30.0], gap=14.0) == [10.0, 60.0, 30.0]


@given(LEVELS)
def test_labels_never_overlap_and_keep_their_order(levels: list[float]) -> None:
    places = spread(levels, gap=14.0)
    ordered = sorted(places)
    assert all(high - low >= 14.0 - 1e-6 for low, high in itertools.pairwise(ordered))
    assert [levels[i] for i in np.argsort(places, kind="stable")] == sorted(levels)


@given(st.floats(1, 1e5), st.floats(1.2, 1e3), st.floats(150, 800))
def test_axis_labels_are_round_and_apart(low: float, factor: float, width_px: float) -> None:
    high = low * factor
    ticks = round_ticks(low, high, width_px=width_px, gap_px=40.0)
    per_decade = width_px / np.log10(factor)
    assert all(low <= tick <= high for tick in ticks)
    assert all(np.log10(b / a) * per_decade >= 40.0 - 1e-6 for a, b in itertools.pairwise(ticks))


def test_a_decade_of_bytes_has_several_labels() -> None:
    assert round_ticks(60, 600, width_px=700) == [70, 100, 150, 200, 300, 500]
    assert round_ticks(38, 85, width_px=700) == [40, 50, 60, 70, 80]
