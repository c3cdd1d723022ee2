import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.server.batch_plan import answered_s, batch_items
from isthmus.runtime.server.latency_model import LatencyModel


@pytest.fixture
def model():
    """One millisecond a latent and five a batch."""
    return _model(0.001, 0.005)


def _model(slope_s, base_s):
    model = LatencyModel()
    model.slope_s, model.base_s = slope_s, base_s
    return model


def test_everybody_goes_along_when_nobody_is_in_a_hurry(model):
    assert batch_items([(math.inf, 1)] * 8, now_s=0.0, model=model) == 8
    assert batch_items([(0.020, 1)] * 8, now_s=0.0, model=model) == 8


def test_a_smaller_batch_keeps_the_first_deadline_when_the_rest_can_wait(model):
    waiting = [(0.008, 1)] * 2 + [(1.0, 1)] * 20
    assert batch_items(waiting, now_s=0.0, model=model) == 3, "as many as the first deadline allows"


def test_a_first_frame_that_is_late_in_any_case_does_not_shrink_the_batch(model):
    assert batch_items([(0.001, 1)] + [(0.100, 1)] * 9, now_s=0.0, model=model) == 10


def test_one_frame_is_not_saved_at_the_cost_of_several(model):
    # Alone the first would be in time, but the nine behind it only if they go along.
    assert batch_items([(0.007, 1)] + [(0.0155, 1)] * 9, now_s=0.0, model=model) == 10


def test_a_newcomer_waits_for_the_running_batch_and_for_those_before_it(model):
    common = {"now_s": 10.0, "max_batch": 4, "model": model}
    idle = answered_s(rows=1, rows_before=0, busy_until_s=-math.inf, **common)
    assert idle == pytest.approx(10.006)
    assert answered_s(rows=1, rows_before=0, busy_until_s=10.1, **common) == pytest.approx(10.106)
    assert answered_s(rows=1, rows_before=2, busy_until_s=10.1, **common) == pytest.approx(10.108)
    assert answered_s(rows=1, rows_before=9, busy_until_s=10.1, **common) == pytest.approx(
        10.1 + 0.018 + 0.007
    )
    assert answered_s(rows=2, rows_before=3, busy_until_s=0.0, **common) == pytest.approx(
        10.0 + 0.008 + 0.007
    )


def _in_time(deadlines, items, model):
    """Frames in time when the first `items` go first and the rest right behind them."""
    first_s = model.predict_s(sum(rows for _, rows in deadlines[:items]))
    kept = sum(rows for deadline_s, rows in deadlines[:items] if deadline_s >= first_s)
    if items < len(deadlines):
        rest_s = first_s + model.predict_s(sum(rows for _, rows in deadlines[items:]))
        kept += sum(rows for deadline_s, rows in deadlines[items:] if deadline_s >= rest_s)
    return kept


@given(
    st.lists(st.tuples(st.floats(0.001, 0.2), st.integers(1, 4)), min_size=1, max_size=20),
    st.floats(0, 0.01),
    st.floats(0, 0.05),
)
def test_a_split_is_never_worse_than_one_batch(deadlines, slope_s, base_s):
    model, ordered = _model(slope_s, base_s), sorted(deadlines)
    items = batch_items(ordered, now_s=0.0, model=model)
    assert 1 <= items <= len(ordered)
    assert _in_time(ordered, items, model) >= _in_time(ordered, len(ordered), model)
