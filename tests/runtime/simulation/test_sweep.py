from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from isthmus.report import load_runs, summarise
from isthmus.runtime.control import make_policy
from isthmus.runtime.errors import ArtifactError, InputError
from isthmus.runtime.events import FrameEvent, LinkEvent, RunEvent, ShapeEvent, read_events
from isthmus.runtime.links import RateTrace
from isthmus.runtime.simulation import (
    Constant,
    Lognormal,
    foresee,
    interval95,
    measured_times,
    rows,
    run_device,
    run_logged,
    seeded,
    sweep,
)


def test_the_clairvoyant_sends_what_is_in_time_and_no_more(make_world):
    # 100 kB/s: 2,000 B take 20 ms, a frame comes every 100 ms: the better point, always.
    assert foresee(make_world()).utility == pytest.approx(20 * 0.9)
    # 30 kB/s: 2,000 B are 67 ms, with 35 ms of all else too late for 100 ms; 1,000 B are in time.
    slow = make_world(trace=RateTrace([(1.0, 30_000.0)]))
    assert foresee(slow).utility == pytest.approx(20 * 0.8)
    dead = make_world(trace=RateTrace([(1.0, 0.0)]))
    assert foresee(dead).utility == pytest.approx(20 * 0.6)
    # Half of the frames fall into an outage of the server.
    assert foresee(make_world(outages=((0.95, 1.95),))).utility == pytest.approx(10 * 0.9 + 10 * 0.6)


@pytest.mark.parametrize("policy", ["expected-utility", "fixed:0,4", "fixed:1,8", "local"])
def test_no_policy_beats_the_clairvoyant(make_world, policy):
    world = make_world(
        trace=RateTrace([(2.0, 60_000.0), (1.0, 0.0), (2.0, 15_000.0)]), fps=15.0, duration_s=20.0
    )
    run = run_device(world, make_policy(policy, world.points))
    assert run.utility <= foresee(world).utility / world.frames + 1e-9


def test_a_sweep_has_every_cell_and_the_same_result_in_two_processes(make_world):
    worlds = [
        one
        for deadline_s in (0.1, 0.2)
        for one in seeded(make_world(deadline_s=deadline_s, jitter_s=Lognormal(0.01, 1.0)), 3)
    ]
    outcomes = sweep(worlds, ["fixed:1,8", "local"])
    assert outcomes == sweep(worlds, ["fixed:1,8", "local"], jobs=2)
    assert len(outcomes) == 12
    table = rows(outcomes)
    assert [(row.policy, row.deadline_s, row.seeds) for row in table] == [
        ("fixed:1,8", 0.1, 3),
        ("local", 0.1, 3),
        ("fixed:1,8", 0.2, 3),
        ("local", 0.2, 3),
    ]
    local = table[1]
    assert local.utility.mean == pytest.approx(0.6)
    assert local.regret.mean == pytest.approx(1 - 0.6 / 0.9)
    assert local.payload_bytes.mean == 0


def test_seeds_begin_at_even_distances_in_the_trace(make_world):
    world = make_world(trace=RateTrace([(6.0, 1.0), (3.0, 2.0)]))
    assert [(one.seed, one.start_s) for one in seeded(world, 3)] == [(0, 0.0), (1, 3.0), (2, 6.0)]


def test_an_unknown_policy_is_refused_before_anything_runs(make_world):
    with pytest.raises(InputError):
        sweep([make_world()], ["magic"])


def test_a_confidence_interval_by_hand():
    interval = interval95([1.0, 2.0, 3.0])
    assert interval.mean == 2.0
    assert interval.half_width == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert interval95([5.0]).half_width is None


@pytest.fixture
def logged(make_world, tmp_path: Path) -> Path:
    """Return the event log of a simulated run over a link that changes its rate."""
    world = make_world(
        trace=RateTrace([(3.0, 40_000.0), (3.0, 25_000.0)]),
        duration_s=30.0,
        deadline_s=0.5,
        wake_s=Constant(0.002),
        jitter_s=Lognormal(0.003, 0.5),
        server_queue_s=Constant(0.001),
    )
    file = tmp_path / "events.jsonl"
    run_logged(world, make_policy("fixed:1,8", world.points), file, bundle="tiny", widths=(0.5, 1.0))
    return file


def test_a_report_reads_a_simulated_run_and_sees_that_it_is_one(logged: Path):
    (run,) = load_runs([logged])
    assert run.run is not None
    assert run.run.source == "simulated (seed 1)"
    assert run.run.server.startswith("simulated")
    summary = summarise(run)
    assert summary.accounting.balanced
    assert summary.accounting.captured == 300
    kinds = [type(event) for event in read_events(logged)]
    assert kinds[0] is RunEvent
    assert kinds.count(ShapeEvent) == 10
    assert kinds.count(LinkEvent) == 30


def test_a_runs_times_are_found_in_its_log(logged: Path, make_world):
    times = measured_times(read_events(logged), name="log", overhead_bytes=0)
    assert (times.fps, times.deadline_s) == (10.0, 0.5)
    assert times.head_s[1].median_s == pytest.approx(0.01)
    assert times.encode_s.median_s == pytest.approx(0.001)
    assert times.server_s.median_s == pytest.approx(0.004)
    assert times.server_queue_s.median_s == pytest.approx(0.001)
    assert times.wake_s.median_s == pytest.approx(0.002)
    # The path's floor holds the least jitter: together they are what was put in.
    assert times.delay_s + times.jitter_s.median_s == pytest.approx(0.013, rel=0.05)
    assert times.trace.bytes_between(0.0, 6.0) == pytest.approx(195_000, rel=0.01)


def test_a_run_is_simulated_again_from_its_own_log(logged: Path, make_world):
    times = measured_times(read_events(logged), name="log", overhead_bytes=0)
    world = make_world(
        trace=times.trace,
        start_s=times.first_s - times.trace_start_s,
        duration_s=30.0,
        deadline_s=0.5,
        delay_s=times.delay_s,
        head_s=times.head_s,
        encode_s=times.encode_s,
        server_s=times.server_s,
        server_queue_s=times.server_queue_s,
        wake_s=times.wake_s,
        jitter_s=times.jitter_s,
        seed=5,
    )
    again = run_device(world, make_policy("fixed:1,8", world.points))
    first = [event for event in read_events(logged) if isinstance(event, FrameEvent)]
    hits = sum(event.outcome == "remote" for event in first) / len(first)
    assert again.remote_share == pytest.approx(hits, abs=0.03)
    took_s = [fmean(event.latency_s or 0.0 for event in run) for run in (first, again.frames)]
    assert took_s[1] == pytest.approx(took_s[0], rel=0.03)


def test_without_an_answer_there_is_no_path_to_learn(make_world, tmp_path: Path):
    world = make_world(trace=RateTrace([(1.0, 0.0)]))
    file = tmp_path / "events.jsonl"
    run_logged(world, make_policy("fixed:1,8", world.points), file)
    with pytest.raises(ArtifactError, match="answered no frame"):
        measured_times(read_events(file), name="events.jsonl")


def test_without_the_links_own_log_its_estimated_rate_has_to_do(make_world, tmp_path: Path):
    # More than the link carries, so that the agent's estimate has something to go by.
    world = make_world(trace=RateTrace([(1.0, 30_000.0)]), fps=20.0, deadline_s=0.5, duration_s=20.0)
    file = tmp_path / "events.jsonl"
    run_logged(world, make_policy("fixed:1,8", world.points), file)
    events = [event for event in read_events(file) if not isinstance(event, ShapeEvent)]
    times = measured_times(events, name="log", overhead_bytes=0)
    assert times.trace.mean_rate == pytest.approx(30_000, rel=0.1)
    with pytest.raises(ArtifactError, match="rate"):
        measured_times(
            [event for event in events if not isinstance(event, LinkEvent)], name="log", overhead_bytes=0
        )


def test_what_cannot_be_a_world_is_refused(make_world):
    world = make_world()
    for changes in ({"fps": 0.0}, {"deadline_s": -1.0}, {"delay_s": -0.1}, {"outages": ((2.0, 1.0),)}):
        with pytest.raises(InputError):
            replace(world, **changes)
