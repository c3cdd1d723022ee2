import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.report.quantiles import Quantiles
from isthmus.report.statistics import durations, share


def test_the_interval_is_wilsons() -> None:
    # Worked by hand from Wilson's formula with z = 1.96: centre 0.8632, half width 0.0674.
    found = share(90, 100)
    assert found is not None
    assert found.value == 0.9
    assert (found.low, found.high) == (pytest.approx(0.8256, abs=5e-4), pytest.approx(0.9448, abs=5e-4))


def test_a_perfect_score_has_an_honest_lower_bound() -> None:
    found = share(10, 10)
    assert found is not None
    assert found.high == 1.0
    assert found.low == pytest.approx(0.7225, abs=5e-4)


def test_nothing_counted_is_unknown_not_zero() -> None:
    assert share(0, 0) is None


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share(pair: tuple[int, int]) -> None:
    found = share(*pair)
    assert found is not None
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0


def test_more_frames_narrow_the_interval() -> None:
    few, many = share(9, 10), share(900, 1000)
    assert few is not None
    assert many is not None
    assert many.high - many.low < few.high - few.low


def test_durations_are_those_of_the_values() -> None:
    values_s = Quantiles()
    values_s.add(np.array([0.1, 0.3, 0.2]))
    found = durations(values_s)
    assert found is not None
    assert (found.count, found.p50_s, found.max_s) == (3, 0.2, 0.3)
    assert found.mean_s == pytest.approx(0.2)
    assert found.exact


def test_no_duration_is_unknown() -> None:
    assert durations(Quantiles()) is None
