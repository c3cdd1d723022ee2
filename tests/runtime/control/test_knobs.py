"""Two knobs: channels follow the link, widths follow the device."""

import pytest

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.control import ExpectedUtilityPolicy, LinkEstimate

BUDGET_S = 0.15


def link(**changes):
    facts = {
        "connected": True,
        "rate_bytes_per_s": 1e5,
        "rtt_s": 0.02,
        "backlog_bytes": 0,
        "in_flight": 0,
        "oldest_age_s": None,
        "residuals": (0.0,) * 9,
        "idle_s": 0.05,
    }
    return LinkEstimate(**{**facts, **changes})


@pytest.fixture
def run(loop, ladder):
    """Return `run(policy, frames, ...)`: the last of so many decisions at 20 frames a second."""

    def many(policy, frames, *, budget_s=BUDGET_S, estimate=None, **changes):
        device = loop.make_device(ladder, **changes)
        for number in range(frames):
            now_s = number * 0.05
            decision = policy.decide(estimate or link(), device, budget_s=budget_s, now_s=now_s)
        return decision

    return many


def test_the_link_moves_channels_and_the_heads_move_widths(ladder, run):
    policy = ExpectedUtilityPolicy(ladder)
    assert run(policy, 5).point == OperatingPoint(3, 32)
    # A slow link, and a quick device: fewer channels.
    assert run(ExpectedUtilityPolicy(ladder), 5, estimate=link(rate_bytes_per_s=3e3)).point.channels < 32
    # A quick link, and heads that take long: a narrower one.
    heads = {0: 0.01, 1: 0.03, 2: 0.06, 3: 0.14}
    assert run(ExpectedUtilityPolicy(ladder), 5, head_s=heads).point.width_index in (1, 2)
    # A tighter deadline does the same.
    tight = run(ExpectedUtilityPolicy(ladder), 5, head_s=heads, budget_s=0.07)
    assert tight.point.width_index == 1


def test_a_throttled_device_goes_narrow_without_trying_every_head(ladder, run):
    """Heat makes all heads five times slower; only the one in use shows it."""
    cool = {0: 0.008, 1: 0.014, 2: 0.02, 3: 0.026}
    policy = ExpectedUtilityPolicy(ladder)
    assert run(policy, 20, head_s=cool).point.width_index == 3
    hot = run(policy, 1, head_s=cool | {3: 0.13})
    # 100 ms for width 2 and 70 ms for width 1, at 50 ms from frame to frame: believed without a try.
    assert hot.point.width_index == 0


def test_a_head_that_takes_longer_than_a_frame_costs_the_frames_it_misses(loop, ladder):
    heads = {0: 0.02, 1: 0.04, 2: 0.045, 3: 0.1}
    policy = ExpectedUtilityPolicy(ladder)
    seldom = loop.make_device(ladder, head_s=heads, interval_s=0.5)
    often = loop.make_device(ladder, head_s=heads, interval_s=0.05)
    for number in range(200):
        decision = policy.decide(link(), often, budget_s=0.25, now_s=0.05 * number)
    assert decision.point.width_index == 2
    assert policy.decide(link(), seldom, budget_s=0.25, now_s=20.0).point.width_index == 3


def test_a_server_that_is_nearly_full_is_given_more_time(loop, ladder):
    policy, tight = ExpectedUtilityPolicy(ladder), link(rate_bytes_per_s=4_900.0)
    idle = loop.make_device(ladder, server_s=0.03, server_load=0.5)
    full = loop.make_device(ladder, server_s=0.03, server_load=1.0)
    free = policy.decide(tight, idle, budget_s=BUDGET_S, now_s=0.0)
    crowded = ExpectedUtilityPolicy(ladder).decide(tight, full, budget_s=BUDGET_S, now_s=0.0)
    assert crowded.point < free.point
