import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.server.latency_model import LatencyModel

SIZES = (1, 2, 4, 8, 16, 32)


def _fed(slope_s, base_s, *, batches=200, sizes=SIZES, stalls=0.0, seed=1):
    model, draw = LatencyModel(), random.Random(seed)
    for _ in range(batches):
        rows = draw.choice(sizes)
        seconds = (slope_s * rows + base_s) * (1 + draw.gauss(0, 0.02))
        model.observe(rows, seconds * (30 if draw.random() < stalls else 1))
    return model


def test_a_new_model_expects_nothing():
    assert LatencyModel().predict_s(8) == 0.0


def test_one_batch_is_split_between_slope_and_base():
    model = LatencyModel()
    model.observe(4, 0.008)
    assert model.predict_s(4) == pytest.approx(0.008)
    assert (model.slope_s, model.base_s) == pytest.approx((0.001, 0.004))


def test_the_warm_ups_sizes_give_the_line():
    model = LatencyModel()
    for rows in SIZES:
        model.observe(rows, 0.001 * rows + 0.005)
    assert (model.slope_s, model.base_s) == pytest.approx((0.001, 0.005), rel=0.01)


def test_a_stall_now_and_then_moves_little():
    model = _fed(0.001, 0.005, stalls=0.05)
    for rows in SIZES:
        assert model.predict_s(rows) == pytest.approx(0.001 * rows + 0.005, rel=0.25)


def test_batches_of_one_size_alone_do_not_forget_the_slope():
    model = _fed(0.001, 0.005)
    for _ in range(1000):
        model.observe(1, 0.006)
    assert model.predict_s(32) == pytest.approx(0.037, rel=0.3)


def test_a_device_that_became_slower_for_good_is_believed():
    model = _fed(0.001, 0.005)
    for rows in SIZES * 30:
        model.observe(rows, 3 * (0.001 * rows + 0.005))
    for rows in SIZES:
        assert model.predict_s(rows) == pytest.approx(3 * (0.001 * rows + 0.005), rel=0.2)


def test_the_largest_batch_for_a_time():
    model = LatencyModel()
    model.slope_s, model.base_s = 0.001, 0.005
    assert model.largest(0.0059, 32) == 0
    assert model.largest(0.0061, 32) == 1
    assert model.largest(0.0151, 32) == 10
    assert model.largest(1.0, 32) == 32


@given(st.floats(1e-6, 1e-2), st.floats(0, 1e-1), st.integers(0, 100))
def test_any_line_is_found_from_its_points(slope_s, base_s, seed):
    model = _fed(slope_s, base_s, batches=100, seed=seed)
    for rows in SIZES:
        assert model.predict_s(rows) == pytest.approx(slope_s * rows + base_s, rel=0.15)


@given(st.lists(st.tuples(st.integers(1, 4096), st.floats(0, 1e9)), max_size=60))
def test_whatever_is_measured_predictions_stay_finite_rise_with_rows_and_are_not_negative(seen):
    model = LatencyModel()
    for rows, seconds in seen:
        model.observe(rows, seconds)
    predicted = [model.predict_s(rows) for rows in (1, 2, 7, 4096)]
    assert all(math.isfinite(seconds) and seconds >= 0.0 for seconds in predicted)
    assert predicted == sorted(predicted)


@given(st.floats(0, 1e-2), st.floats(0, 1e-1), st.floats(0, 1), st.integers(1, 256))
def test_the_largest_batch_fits_and_one_more_would_not(slope_s, base_s, seconds, most):
    model = LatencyModel()
    model.slope_s, model.base_s = slope_s, base_s
    rows = model.largest(seconds, most)
    assert 0 <= rows <= most
    if rows > 1:
        assert model.predict_s(rows) <= seconds * (1 + 1e-9)
    if rows < most:
        assert model.predict_s(rows + 1) >= seconds * (1 - 1e-9) or rows == 0
