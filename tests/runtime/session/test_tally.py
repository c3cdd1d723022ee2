"""What a run amounts to."""

import pytest

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.events import FrameEvent
from isthmus.runtime.session import PointUse, Tally


@pytest.fixture
def ended():
    def make(frame, outcome, **fields):
        return FrameEvent(at_s=1.0, frame=frame, captured_s=0.9, outcome=outcome, **fields)

    return make


def test_accuracy_counts_answers_in_time_whose_truth_is_known(ended):
    tally = Tally()
    tally.add(ended(0, "remote", answer=1, truth=1, latency_s=0.05))
    tally.add(ended(1, "remote", answer=1, truth=2, latency_s=0.05))
    tally.add(ended(2, "exit", answer=1, truth=1, latency_s=0.05))
    tally.add(ended(3, "local", answer=1, latency_s=0.05))
    tally.add(ended(4, "late", answer=1, truth=2, latency_s=0.5))
    tally.add(ended(5, "dropped", truth=2))
    summary = tally.summary()
    assert summary.captured == 6
    assert summary.outcomes == {"remote": 2, "exit": 1, "local": 1, "late": 1, "dropped": 1}
    assert summary.accuracy == pytest.approx(2 / 3)
    assert summary.accuracy_by_outcome == {"remote": 0.5, "exit": 1.0}
    assert summary.latency_p99_s == pytest.approx(0.5, rel=0.01)


def test_bytes_and_points_count_what_left_the_device(ended):
    tally = Tally()
    wide, narrow = OperatingPoint(3, 8), OperatingPoint(0, 2)
    for frame in range(3):
        tally.add(ended(frame, "remote", point=wide, payload_bytes=400))
    tally.add(ended(3, "exit", point=narrow, payload_bytes=100))
    tally.add(ended(4, "exit", point=narrow))
    summary = tally.summary()
    assert summary.sent == 4
    assert summary.mean_payload_bytes == pytest.approx(325.0)
    assert summary.points == (
        PointUse(width_index=3, channels=8, frames=3),
        PointUse(width_index=0, channels=2, frames=1),
    )


def test_an_empty_run_has_no_figures():
    summary = Tally().summary()
    assert summary.captured == 0
    assert summary.accuracy is None
    assert summary.latency_p50_s is None
    assert summary.mean_payload_bytes is None
