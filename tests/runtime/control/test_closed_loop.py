"""Estimator and policy together, over links on a virtual clock."""

import pytest

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.control import ExpectedUtilityPolicy, make_policy
from isthmus.runtime.links import load_trace

OUTAGE = (13.5, 17.0)
SMALLEST, LARGEST = "fixed:0,4", "fixed:3,32"


@pytest.fixture(scope="module")
def world(loop, ladder):
    """Return `world(spec, ...)`: the small ladder over a link."""

    def make(spec="outage", **changes):
        return loop.World(trace=load_trace(spec), points=ladder, device=loop.make_device(ladder), **changes)

    return make


@pytest.fixture(scope="module")
def outage_run(loop, world, ladder):
    return loop.simulate(world(), ExpectedUtilityPolicy(ladder))


def sent(frames):
    return [frame for frame in frames if frame.decision.action == "send"]


def test_at_least_three_points_are_used(outage_run):
    used = {point for point, count in outage_run.points().items() if count >= 5}
    assert len(used) >= 3


def test_points_follow_the_rate_down_and_up_again(outage_run, ladder):
    def mean_bytes(start_s, end_s):
        answered = [frame for frame in outage_run.between(start_s, end_s) if frame.remote]
        assert len(answered) > 10
        return sum(ladder.record(frame.decision.point).bytes_mean for frame in answered) / len(answered)

    good, slow, after = mean_bytes(1, 4), mean_bytes(9, 11.5), mean_bytes(19, 24)
    assert slow < 0.5 * good
    assert after > 0.95 * good


def test_the_outage_is_answered_on_the_device_without_a_storm(outage_run):
    during = outage_run.between(*OUTAGE)
    assert len(sent(during)) <= 6
    assert len(during) == 70
    # Every frame that was not sent, or was sent in vain, still has the device's answer.
    assert {frame.value for frame in during[4:]} == {0.7}


def test_it_is_back_within_half_a_second(outage_run):
    back = [frame.at_s for frame in outage_run.between(OUTAGE[1], 24) if frame.remote]
    assert back[0] < OUTAGE[1] + 0.5
    soon = outage_run.between(OUTAGE[1] + 0.5, OUTAGE[1] + 1.5)
    assert sum(frame.remote for frame in soon) >= 0.9 * len(soon)


def test_while_the_link_is_good_no_frame_is_late(outage_run):
    good = outage_run.between(0.5, 4) + outage_run.between(18, 24)
    assert all(frame.remote for frame in good)


def test_the_estimate_follows_the_truth(outage_run):
    trace = load_trace("outage")
    errors = [
        frame.estimate.rate_bytes_per_s / trace.rate_at(frame.at_s) - 1
        for frame in outage_run.between(1, 13)
        if frame.estimate.rate_bytes_per_s
    ]
    near = [abs(error) < 0.25 for error in errors]
    assert sum(near) >= 0.8 * len(near)
    assert outage_run.frames[-1].estimate.rtt_s == pytest.approx(0.022, abs=0.006)


@pytest.mark.parametrize("server_clock", [True, False])
@pytest.mark.parametrize(
    ("spec", "fps", "most"),
    [
        ("outage", 20.0, 0.02),
        ("outage", 30.0, 0.02),
        ("step:20kB@2s,2kB@2s", 20.0, 0.07),
        ("step:30kB@1s,5kB@500ms,0B@700ms", 25.0, 0.06),
        ("constant:6kB", 20.0, 0.04),
    ],
)
def test_it_loses_little_to_a_clairvoyant_and_far_less_than_a_fixed_point(
    loop, world, spec, fps, most, server_clock
):
    setting = world(spec, fps=fps, server_clock=server_clock)
    best = loop.clairvoyant(setting)

    def regret(name):
        return 1 - loop.simulate(setting, make_policy(name, setting.points)).utility / best

    ours = regret("expected-utility")
    assert ours < most
    assert ours < 0.5 * regret(SMALLEST)
    assert ours < 0.5 * regret(LARGEST)


def test_a_dead_link_costs_a_probe_now_and_then_and_no_frame(loop, world, ladder):
    run = loop.simulate(world("constant:0B"), ExpectedUtilityPolicy(ladder))
    assert run.utility == pytest.approx(0.7)
    assert 2 <= len(sent(run.frames)) <= 14
    assert all(frame.decision.probe for frame in sent(run.frames))


@pytest.mark.parametrize("outage_s", [0.4, 1.0, 3.0, 8.0])
def test_it_recovers_from_any_outage_within_half_a_second(loop, world, ladder, outage_s):
    run = loop.simulate(
        world(f"step:20kB@4s,0B@{outage_s}s,20kB@20s", duration_s=outage_s + 8), ExpectedUtilityPolicy(ladder)
    )
    after = run.between(4 + outage_s + 0.5, 4 + outage_s + 3)
    assert sum(frame.remote for frame in after) >= 0.9 * len(after)
    assert after[-1].decision.point == OperatingPoint(3, 32)


def test_a_device_without_an_answer_of_its_own_still_probes_and_recovers(loop):
    points = loop.make_points([(0, 4, 70, 0.8), (1, 8, 200, 0.9)], exit_utility=None)
    world = loop.World(trace=load_trace("outage"), points=points, device=loop.make_device(points))
    run = loop.simulate(world, ExpectedUtilityPolicy(points))
    assert len(sent(run.between(*OUTAGE))) <= 6
    assert {frame.decision.action for frame in run.frames} == {"send", "drop"}
    assert sum(frame.remote for frame in run.between(18, 24)) >= 0.95 * 120


def test_a_run_is_reproducible(loop, world, ladder, outage_run):
    again = loop.simulate(world(), ExpectedUtilityPolicy(ladder))
    assert [frame.decision for frame in again.frames] == [frame.decision for frame in outage_run.frames]
