from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.runtime.bundle import OperatingPoint, PointTable
from isthmus.runtime.control import make_policy
from isthmus.runtime.events import STAGES, EndEvent, FrameEvent, LinkEvent
from isthmus.runtime.links import RateTrace
from isthmus.runtime.simulation import Constant, DeviceWorld, Lognormal, run_device

NARROW, WIDE = OperatingPoint(width_index=0, channels=4), OperatingPoint(width_index=1, channels=8)


def test_a_frame_takes_what_its_steps_take(make_world, always):
    run = run_device(make_world(), always(NARROW))
    # Head 5 ms, encode 1 ms, 1,000 B at 100 kB/s 10 ms, 10 ms there, tail 4 ms, 10 ms back.
    assert [event.latency_s for event in run.frames] == pytest.approx([0.040] * 20)
    first = run.frames[0]
    assert (first.outcome, first.point, first.payload_bytes) == ("remote", NARROW, 1000)
    assert first.remote_s == pytest.approx(0.034)
    assert (first.head_s, first.encode_s) == (0.005, 0.001)
    assert (first.server_queue_s, first.server_compute_s) == (pytest.approx(0.0), 0.004)
    assert (run.hit_share, run.remote_share, run.utility) == (1.0, 1.0, pytest.approx(0.8))
    assert (run.payload_bytes, run.wire_bytes) == (20_000, 20_000)
    assert run.energy_j == pytest.approx(2.0)


def test_the_stages_of_every_simulated_frame_fill_its_latency(make_world, points):
    world = make_world(
        trace=RateTrace([(2.0, 60_000.0), (1.0, 0.0), (1.0, 3_000.0)]),
        wake_s=Constant(0.0002),
        duration_s=12.0,
        busy=((5.0, 6.0),),
    )
    for policy in ("expected-utility", "fixed:0,4", "local"):
        run = run_device(world, make_policy(policy, points))
        answered = [event for event in run.frames if event.latency_s is not None]
        assert len(answered) > 50
        for event in answered:
            total_s = sum(stage.seconds(event) or 0.0 for stage in STAGES)
            assert total_s == pytest.approx(event.latency_s, abs=1e-9), event


def test_frames_wait_for_one_another_on_the_link(make_world, always):
    # 2,000 B take 133 ms at 15 kB/s, a frame comes every 50 ms: the backlog grows until the credit is spent.
    world = make_world(trace=RateTrace([(1.0, 15_000.0)]), fps=20.0, deadline_s=1.0, duration_s=1.0)
    run = run_device(world, always(WIDE))
    remote = sorted(event.at_s for event in run.frames if event.outcome == "remote")
    spacing = [remote[number + 1] - remote[number] for number in range(len(remote) - 1)]
    assert spacing == pytest.approx([2000 / 15_000] * len(spacing))


def test_the_device_answers_at_the_guard_instant(make_world, always):
    run = run_device(make_world(trace=RateTrace([(1.0, 0.0)])), always(WIDE))
    # Deadline 100 ms, less margin 2 + 2 ms and the fallback's 2 ms: begun at 94 ms, done at 96 ms.
    assert run.frames[0].outcome == "exit"
    assert run.frames[0].latency_s == pytest.approx(0.096)
    assert run.frames[0].payload_bytes == 2000
    assert (run.hit_share, run.remote_share, run.utility) == (1.0, 0.0, pytest.approx(0.6))


def test_a_policy_may_rather_wait_than_answer_on_the_device(make_world, always, points):
    # 2,000 B at 10 kB/s: 200 ms, after the deadline of 100 ms, but before the session gives up.
    no_exit = msgspec.structs.replace(points, exits=())
    world = make_world(trace=RateTrace([(1.0, 10_000.0)]), duration_s=0.1, points=no_exit)
    run = run_device(world, always(WIDE, fallback=None))
    assert [(event.outcome, event.reason) for event in run.frames] == [("late", "always")]
    assert run.utility == 0.0
    assert run.frames[0].latency_s == pytest.approx(0.011 + 0.2 + 0.02 + 0.004)


def test_the_newest_frame_wins(make_world, always):
    # A head of 250 ms at 10 fps: two of three frames are superseded.
    world = make_world(head_s={0: Constant(0.25)}, deadline_s=1.0, duration_s=3.0)
    run = run_device(world, always(NARROW))
    reasons = Counter(event.reason for event in run.frames if event.outcome == "dropped")
    assert set(reasons) == {"superseded by a newer frame"}
    computed = sorted(event.frame for event in run.frames if event.head_s is not None)
    assert computed[:4] == [0, 2, 5, 7]


def test_a_credit_bounds_what_is_unanswered(make_world, always):
    world = make_world(trace=RateTrace([(1.0, 0.0)]), deadline_s=0.3, duration_s=2.0)
    policy = always(NARROW)
    run = run_device(world, policy)
    # 10 fps and 300 ms: four frames; the dead link never answers one, and nothing more is sent.
    assert sum(event.payload_bytes > 0 for event in run.frames) == 4
    assert max(link.in_flight for link, *_ in policy.asked) == 4
    assert any("4 frames (4000 B) are unanswered" in event.reason for event in run.frames)


def test_a_lost_connection_recalls_what_is_in_flight_and_comes_back(make_world, points):
    world = make_world(duration_s=12.0, outages=((3.02, 6.0),))
    run = run_device(world, make_policy("fixed:0,4", points))
    recalled = [event for event in run.frames if "the connection was lost" in event.reason]
    # Frame 30 was captured at 3.0 s and in flight when the server died at 3.02 s: answered at once.
    assert [(event.frame, event.outcome) for event in recalled] == [(30, "exit")]
    assert recalled[0].latency_s == pytest.approx(0.022)
    assert run.reconnects == 1
    ends = {event.frame: event.outcome for event in run.frames}
    assert {ends[frame] for frame in range(30)} == {"remote"}
    assert {ends[frame] for frame in range(30, 60)} == {"exit"}
    assert ends[119] == "remote"


def test_a_link_that_stands_still_is_noticed_by_a_ping_and_connected_anew(make_world, points):
    trace = RateTrace([(5.0, 100_000.0), (30.0, 0.0), (100.0, 100_000.0)])
    world = make_world(trace=trace, duration_s=50.0)
    run = run_device(world, make_policy("fixed:0,4", points))
    assert run.reconnects == 1
    late = [event.outcome for event in run.frames if event.captured_s > 42.0]
    assert set(late) == {"remote"}


def test_a_busy_server_is_left_alone_for_a_while(make_world, points):
    world = make_world(duration_s=4.0, busy=((1.0, 3.0),))
    run = run_device(world, make_policy("fixed:0,4", points))
    refused = [event for event in run.frames if "the server says busy" in event.reason]
    spared = [event for event in run.frames if event.reason.startswith("not connected")]
    assert refused
    assert spared
    assert all(1.0 <= event.at_s < 3.2 for event in refused)
    assert run.hit_share == 1.0


def test_a_frame_that_waits_too_long_at_the_server_expires_there(make_world, always):
    run = run_device(make_world(server_queue_s=Constant(0.2)), always(NARROW, fallback="exit"))
    assert {event.outcome for event in run.frames} == {"exit"}
    late = run_device(
        make_world(server_queue_s=Constant(0.2), deadline_s=0.15), always(NARROW, fallback=None)
    )
    assert {event.outcome for event in late.frames} == {"exit"}


def test_answers_are_right_as_often_as_was_measured(make_world, always):
    run = run_device(make_world(duration_s=400.0), always(WIDE))
    assert run.summary.accuracy == pytest.approx(0.9, abs=0.02)


def test_the_same_seed_gives_the_same_run_and_another_one_another(make_world, points):
    def ends(seed: int) -> list[FrameEvent]:
        world = make_world(seed=seed, jitter_s=Lognormal(0.01, 1.0), duration_s=20.0)
        return run_device(world, make_policy("expected-utility", points)).frames

    assert ends(1) == ends(1)
    assert ends(1) != ends(2)


def test_every_policy_meets_the_same_images(make_world):
    assert make_world(seed=3).luck() == make_world(seed=3, fps=10.0, deadline_s=0.3).luck()
    assert make_world(seed=3).luck() != make_world(seed=4).luck()


def test_a_sink_gets_the_log_of_a_live_run(make_world, points):
    events: list[object] = []
    run = run_device(make_world(), make_policy("fixed:0,4", points), sink=events.append)
    assert [event for event in events if isinstance(event, FrameEvent)] == run.frames
    assert sum(isinstance(event, LinkEvent) for event in events) == 2
    assert isinstance(events[-1], EndEvent)
    assert events[-1].captured == 20


SECONDS = st.floats(0.0, 0.4)
INTERVALS = st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.05, 3.0)), max_size=2)


@settings(max_examples=60)
@given(
    rates=st.lists(st.tuples(st.floats(0.1, 3.0), st.sampled_from([0.0, 800.0, 20_000.0, 1e6])), min_size=1),
    head_s=SECONDS,
    jitter_s=st.floats(0.001, 0.3),
    outages=INTERVALS,
    busy=INTERVALS,
    deadline_s=st.sampled_from([0.02, 0.1, 0.5]),
    policy=st.sampled_from(["expected-utility", "fixed:1,8", "local"]),
    exits=st.booleans(),
    seed=st.integers(0, 9),
)
def test_every_frame_ends_once(
    points: PointTable, rates, head_s, jitter_s, outages, busy, deadline_s, policy, exits, seed
):
    table = points if exits or policy == "local" else msgspec.structs.replace(points, exits=())
    world = DeviceWorld(
        trace=RateTrace(rates),
        points=table,
        fps=10.0,
        deadline_s=deadline_s,
        duration_s=6.0,
        head_s={0: Constant(head_s), 1: Lognormal(head_s + 0.001, 0.5)},
        jitter_s=Lognormal(jitter_s, 0.7),
        outages=tuple((begin, begin + length) for begin, length in outages),
        busy=tuple((begin, begin + length) for begin, length in busy),
        seed=seed,
    )
    run = run_device(world, make_policy(policy, table))
    assert run.summary.captured == world.frames == 60
    assert sorted(event.frame for event in run.frames) == list(range(60))
    assert all(event.latency_s is None or event.latency_s >= 0 for event in run.frames)
    late = [event for event in run.frames if event.latency_s is not None and event.latency_s > deadline_s]
    assert len(late) == run.summary.outcomes["late"]


def test_in_queue_mode_the_oldest_frame_is_computed_first(make_world, always):
    world = make_world(head_s={0: Constant(0.25)}, deadline_s=3.0, duration_s=3.0, queue_limit=2)
    run = run_device(world, always(NARROW))
    computed = sorted(event.frame for event in run.frames if event.head_s is not None)
    # 4 and 5 wait when 1 is done at 0.5 s; 2 and 3 have had to go.
    assert computed[:4] == [0, 1, 4, 6]
    assert {event.reason for event in run.frames if event.outcome == "dropped"} == {
        "2 newer frames were waiting"
    }


def test_the_policy_is_told_what_the_live_agent_tells_it(make_world, always):
    policy = always(NARROW)
    run_device(make_world(server_load=0.4), policy)
    link, device, budget_s, now_s = policy.asked[10]
    assert (device.interval_s, device.server_load) == (0.1, 0.4)
    assert (device.head_s, device.exit_s, device.local_s) == ({0: 0.005, 1: 0.01}, 0.002, None)
    assert (device.encode_s, device.server_s) == (0.001, pytest.approx(0.004))
    # The deadline less the guard's margin of 2 + 2 ms.
    assert (budget_s, now_s) == (pytest.approx(0.096), pytest.approx(1.0))
    assert link.connected
