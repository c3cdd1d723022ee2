import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.dashboard.history import BUCKETS, SECONDS, History, bucket, quantile_s


def test_frames_are_counted_in_their_second():
    history = History()
    row = history.add_row()
    history.advance(1000.0)
    for at_s, outcome, latency_s, payload in ((999.2, "remote", 0.05, 100), (999.9, "dropped", None, 0)):
        history.add_frame(row, history.slot(at_s), outcome, latency_s, payload)
    history.add_frame(row, history.slot(1000.1), "exit", 0.01, 0)
    history.settle()
    last = history.recent(1, 1000.5)
    assert history.outcomes[row, last].tolist() == [[1, 0, 0, 0, 1]]
    assert history.payload_bytes[row, last].tolist() == [100.0]
    assert history.sent[row, last].tolist() == [1]
    assert history.latencies[row, last].sum() == 1  # a frame without an answer has no latency
    assert history.outcomes[row].sum() == 3


def test_what_is_two_minutes_old_is_forgotten():
    history = History()
    row = history.add_row()
    history.advance(1000.0)
    history.add_frame(row, history.slot(1000.0), "remote", 0.05, 100)
    history.settle()
    history.rate[row, history.slot(1000.0)] = 5.0
    history.advance(1000.0 + SECONDS - 2)
    assert history.outcomes.sum() == 1
    history.advance(1000.0 + SECONDS)
    assert history.outcomes.sum() == 0
    assert np.isnan(history.rate).all()
    assert history.slot(1000.0) is None
    assert history.slot(1000.0 + SECONDS + 5) is None  # from a clock that runs ahead


def test_a_pause_of_hours_leaves_nothing_behind():
    history = History()
    history.add_row()
    history.advance(10.0)
    history.add_frame(0, history.slot(10.0), "remote", 0.05, 100)
    history.settle()
    history.advance(50_000.0)
    assert history.outcomes.sum() == 0


def test_more_devices_than_there_was_room_for():
    history = History()
    history.advance(50.0)
    rows = [history.add_row() for _ in range(40)]
    for row in rows:
        history.add_frame(row, history.slot(50.0), "remote", 0.05, row)
    history.settle()
    assert history.rows == 40
    assert history.payload_bytes[:, history.slot(50.0)].tolist()[:40] == [float(row) for row in rows]
    assert np.isnan(history.rate[39]).all()


@given(st.lists(st.floats(6e-4, 15.0), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_a_quantile_is_within_half_a_step(latencies_s, share):
    counts = np.bincount(bucket(np.array(latencies_s)), minlength=BUCKETS)
    exact = np.sort(latencies_s)[max(0, int(np.ceil(share * len(latencies_s))) - 1)]
    assert quantile_s(counts, share) == pytest.approx(exact, rel=0.045)


def test_no_frame_has_no_quantile():
    assert np.isnan(quantile_s(np.zeros((2, BUCKETS)), 0.5)).all()
