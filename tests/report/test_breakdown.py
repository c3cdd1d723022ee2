from typing import Any

import pytest

from isthmus.report import Summary, load_runs, summarise
from isthmus.report.breakdown import UNEXPLAINED


@pytest.fixture(scope="module")
def run_summary(synthetic_run: Any) -> Summary:
    return summarise(load_runs([synthetic_run.folder])[0])


def test_every_frame_is_counted_at_exactly_one_point(run_summary: Summary) -> None:
    assert sum(use.frames for use in run_summary.points) == 1200
    assert len({use.point for use in run_summary.points}) == len(run_summary.points)
    assert run_summary.points[-1].point is None


def test_points_state_what_was_sent_and_what_the_bundle_promises(
    synthetic_run: Any, run_summary: Summary
) -> None:
    use = run_summary.points[0]
    assert use.point is not None
    mine = [event for event in synthetic_run.frames if event.point == use.point]
    answered = [event for event in mine if event.outcome == "remote"]
    assert (use.frames, use.remote) == (len(mine), len(answered))
    assert use.accuracy is not None
    assert use.accuracy.count == sum(event.answer == event.truth for event in answered)
    assert use.measured is not None
    assert use.measured.point == use.point
    assert use.width == 1.0


def test_probes_are_counted(synthetic_run: Any, run_summary: Summary) -> None:
    probes = sum(event.probe for event in synthetic_run.frames)
    assert probes > 0
    assert sum(use.probes for use in run_summary.points) == probes


def test_the_stages_of_a_row_add_up_to_its_latency(run_summary: Summary) -> None:
    for row in run_summary.stages:
        assert sum(row.mean_s.values()) == pytest.approx(row.total_s)
        assert list(row.mean_s)[-1] == UNEXPLAINED


def test_stages_are_the_means_of_the_logged_parts(synthetic_run: Any, run_summary: Summary) -> None:
    row = run_summary.stages[0]
    assert (row.outcome, row.point) == ("remote", None)
    remote = [event for event in synthetic_run.frames if event.outcome == "remote"]
    network = [e.remote_s - e.server_queue_s - e.server_compute_s for e in remote]
    assert row.frames == len(remote)
    assert row.mean_s["network"] == pytest.approx(sum(network) / len(network))
    assert row.mean_s[UNEXPLAINED] == pytest.approx(0.0006)  # what the made-up agent adds to its parts


def test_answers_of_the_device_have_no_network_time(run_summary: Summary) -> None:
    (exits,) = (row for row in run_summary.stages if row.outcome == "exit")
    assert exits.mean_s["network"] == exits.mean_s["server queue"] == exits.mean_s["tail"] == 0.0
    assert exits.mean_s["head"] > 0


def test_reasons_are_ordered_by_frequency_and_complete(run_summary: Summary) -> None:
    counts = [use.frames for use in run_summary.reasons]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == 1200
    assert run_summary.reasons[0].reason == "send: # expected, p=# at #"
    assert "#" not in run_summary.reasons[0].example
