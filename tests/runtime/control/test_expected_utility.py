import math
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.control import ExpectedUtilityPolicy, LinkEstimate
from isthmus.runtime.control.outlook import PRIOR_ERRORS

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
def decide(loop, ladder):
    """Return `decide(device=..., points=..., budget_s=..., **link)`, one decision of a fresh policy."""

    def once(*, points=ladder, budget_s=BUDGET_S, device=None, **changes):
        policy = ExpectedUtilityPolicy(points)
        device = device or loop.make_device(points)
        return policy.decide(link(**changes), device, budget_s=budget_s, now_s=0.0)

    return once


def test_a_good_link_takes_the_most_useful_point(decide):
    decision = decide()
    assert (decision.action, decision.point, decision.probe) == ("send", OperatingPoint(3, 32), False)
    assert decision.expected_utility == pytest.approx(0.95, abs=1e-3)
    assert (decision.fallback, decision.fallback_s) == ("exit", 0.001)
    assert decision.reason == "100% in time with 390 B at 100 kB/s, 0 B queued"


@pytest.mark.parametrize(
    ("rate", "point"),
    [
        # Of 150 ms the head, the round trip, the server and the fallback leave 119 to 122 for the payload.
        (4_000, OperatingPoint(3, 32)),  # 390 bytes: 98 ms
        (3_000, OperatingPoint(3, 24)),  # 310 bytes: 103 ms
        (2_000, OperatingPoint(2, 16)),  # 215 bytes: 108 ms
        (900, OperatingPoint(0, 4)),  # 70 bytes: 78 ms
    ],
)
def test_a_slower_link_takes_a_smaller_point(decide, rate, point):
    assert decide(rate_bytes_per_s=float(rate)).point == point


def test_the_queue_and_the_overhead_count(decide):
    free = decide(rate_bytes_per_s=5_000.0)
    queued = decide(rate_bytes_per_s=5_000.0, backlog_bytes=300)
    heavy = decide(rate_bytes_per_s=5_000.0, overhead_bytes=300)
    assert queued.point < free.point
    assert heavy.point < free.point


def test_the_heads_of_wide_encoders_and_the_server_take_their_time(loop, ladder, decide):
    slow_heads = loop.make_device(ladder, head_s={0: 0.01, 1: 0.05, 2: 0.2, 3: 0.3})
    assert decide(device=slow_heads).point.width_index == 1
    slow_server = loop.make_device(ladder, server_s=0.14)
    assert decide(device=slow_server).action == "exit" or decide(device=slow_server).probe


def test_a_width_that_costs_more_for_no_gain_is_not_taken(loop, decide):
    points = loop.make_points([(2, 8, 100, 0.9), (0, 8, 100, 0.9), (1, 8, 200, 0.9)])
    assert decide(points=points).point == OperatingPoint(0, 8)  # fewer bytes, then less compute


def test_past_errors_are_the_risk(decide):
    # At 4.9 kB/s the largest payload takes 80 ms of 119: a third of the time it was too slow for that.
    certain = decide(rate_bytes_per_s=4_900.0, residuals=(0.0,) * 9)
    risky = decide(rate_bytes_per_s=4_900.0, residuals=(-1.0,) * 3 + (0.0,) * 6)
    assert certain.point == OperatingPoint(3, 32)
    assert risky.point < certain.point
    assert risky.expected_utility < certain.expected_utility


@pytest.mark.parametrize("rate", [0.0, None])
def test_a_dead_link_is_answered_on_the_device(decide, rate):
    decision = decide(rate_bytes_per_s=rate, in_flight=1, oldest_age_s=1.5, idle_s=1.5)
    assert (decision.action, decision.expected_utility) == ("exit", 0.7)


def test_without_a_connection_nothing_is_sent_not_even_a_probe(decide):
    decision = decide(connected=False, rate_bytes_per_s=0.0, idle_s=60.0)
    assert (decision.action, decision.probe) == ("exit", False)
    assert decision.reason == "not connected: exit answer on the device"


def test_it_begins_with_the_smallest_point(decide):
    decision = decide(rate_bytes_per_s=None, rtt_s=None, residuals=(), idle_s=None)
    assert (decision.action, decision.point, decision.probe) == ("send", OperatingPoint(0, 4), True)
    assert decision.fallback == "exit"
    assert decision.reason == "probe with 70 B: rate unknown, never sent"


@pytest.mark.parametrize(
    ("changes", "probes"),
    [
        ({"idle_s": 0.1}, False),
        ({"idle_s": 0.2}, True),
        ({"idle_s": 0.5, "in_flight": 1, "oldest_age_s": 0.5}, False),
        ({"idle_s": 2.0, "in_flight": 1, "oldest_age_s": 2.0}, True),  # its answer may be lost for good
        ({"idle_s": 1.0, "in_flight": 2, "oldest_age_s": 5.0}, False),
    ],
)
def test_probes_keep_their_distance(decide, changes, probes):
    decision = decide(rate_bytes_per_s=100.0, **changes)
    assert decision.probe is probes
    assert decision.action == ("send" if probes else "exit")


def test_no_probe_where_the_server_could_not_help_anyway(loop, decide):
    better_alone = loop.make_points([(0, 4, 100, 0.8)], local_utility=0.9)
    assert decide(points=better_alone, idle_s=10.0).action == "local"
    points = loop.make_points([(0, 4, 100, 0.8)], local_utility=0.5)
    slow = loop.make_device(points, head_s={0: 0.2})
    decision = decide(points=points, device=slow, rate_bytes_per_s=1.0, idle_s=10.0)
    assert (decision.action, decision.probe) == ("local", False)


def test_without_an_answer_of_its_own_the_device_sends_or_drops(loop, decide):
    points = loop.make_points([(0, 4, 100, 0.8)], exit_utility=None)
    assert decide(points=points).fallback is None
    assert decide(points=points).expected_utility == pytest.approx(0.8, abs=1e-3)
    dropped = decide(points=points, rate_bytes_per_s=0.0, in_flight=1, oldest_age_s=1.5, idle_s=0.1)
    assert dropped.action == "drop"


def test_a_fallback_that_takes_long_leaves_less_time_to_wait(loop, decide):
    points = loop.make_points([(0, 4, 100, 0.8)], exit_utility=0.3, local_utility=0.7)
    # The whole network needs 100 ms: waiting for the server would leave no time for it.
    slow_local = loop.make_device(points, local_s=0.1)
    decision = decide(points=points, device=slow_local, rate_bytes_per_s=1_500.0)
    assert (decision.fallback, decision.fallback_s) == ("exit", 0.001)
    # On a quick link there is time for both.
    quick = decide(points=points, device=slow_local, rate_bytes_per_s=1e6)
    assert quick.fallback == "local"


def test_a_backlog_for_the_next_frame_has_its_price(loop, ladder):
    """At 5 kB/s the largest payload is in time, but not with the next frame 50 ms behind it."""
    device = loop.make_device(ladder)
    policy = ExpectedUtilityPolicy(ladder)
    alone = policy.decide(link(rate_bytes_per_s=5_000.0), device, budget_s=BUDGET_S, now_s=0.0)
    followed = policy.decide(link(rate_bytes_per_s=5_000.0), device, budget_s=BUDGET_S, now_s=0.05)
    rare = policy.decide(link(rate_bytes_per_s=5_000.0), device, budget_s=BUDGET_S, now_s=1.05)
    assert alone.point == rare.point == OperatingPoint(3, 32)
    assert followed.point < alone.point


links = st.builds(
    link,
    connected=st.booleans(),
    rate_bytes_per_s=st.one_of(st.none(), st.just(0.0), st.floats(1.0, 1e7)),
    rtt_s=st.one_of(st.none(), st.floats(0.0, 0.3)),
    backlog_bytes=st.integers(0, 20_000),
    in_flight=st.integers(0, 20),
    residuals=st.lists(st.floats(-1.5, 0.7), max_size=20).map(sorted).map(tuple),
    idle_s=st.one_of(st.none(), st.floats(0.0, 5.0)),
    overhead_bytes=st.integers(0, 200),
)


def by_hand(points, device, estimate, budget_s, record):
    """Return what sending `record` is worth, in plain arithmetic; before a second frame there is no price."""
    ready_s = device.head_s[record.point.width_index] + device.encode_s
    residuals = estimate.residuals
    if len(residuals) < 8:
        residuals += PRIOR_ERRORS
    own = [(0.0, 0.0)]
    if ready_s + device.exit_s <= budget_s:
        own.append((points.exits[0].utility, device.exit_s))
    best = -math.inf
    for utility, need_s in own:
        in_time = 0
        for residual in residuals:
            rate = (estimate.rate_bytes_per_s or 1e-12) * math.exp(residual)
            begin_s = max(ready_s, estimate.backlog_bytes / rate)
            sent_s = begin_s + (record.bytes_mean + estimate.overhead_bytes) / rate
            in_time += sent_s + (estimate.rtt_s or 0.0) + device.server_s <= budget_s - need_s
        p = min(in_time / len(residuals), 0.999)
        best = max(best, p * record.utility + (1 - p) * utility)
    return best


@given(links, st.floats(0.0, 0.5))
def test_no_other_choice_has_a_higher_expected_utility(loop, ladder, estimate, budget_s):
    device = loop.make_device(ladder)
    decision = ExpectedUtilityPolicy(ladder).decide(estimate, device, budget_s=budget_s, now_s=0.0)
    assert decision.reason
    assert 0.0 <= decision.expected_utility <= 1.0
    alone = 0.7 if budget_s >= device.head_s[0] + device.exit_s else 0.0
    if not estimate.connected:
        assert decision.action in ("exit", "drop")
    elif decision.probe:
        assert decision.point == OperatingPoint(0, 4)
    else:
        best = max(by_hand(ladder, device, estimate, budget_s, record) for record in ladder.records)
        assert decision.expected_utility == pytest.approx(max(alone, best), abs=1e-9)
    if decision.action == "exit":
        assert decision.expected_utility == alone
    if decision.action == "drop":
        assert alone == 0.0


@given(links, st.floats(0.01, 0.5), st.floats(1.01, 10.0))
def test_a_faster_link_is_never_worth_less(loop, ladder, estimate, budget_s, factor):
    if not estimate.rate_bytes_per_s:
        return
    device = loop.make_device(ladder)
    quick = replace(estimate, rate_bytes_per_s=estimate.rate_bytes_per_s * factor, idle_s=0.0)
    slow = replace(estimate, idle_s=0.0)
    worth = [
        ExpectedUtilityPolicy(ladder).decide(e, device, budget_s=budget_s, now_s=0.0).expected_utility
        for e in (slow, quick)
    ]
    assert worth[0] <= worth[1] + 1e-12


def test_a_decision_takes_tens_of_microseconds(loop):
    points = loop.make_points(
        [(i // 4, 8 + 8 * (i % 4), 50 + 40 * i, 0.7 + 0.015 * i) for i in range(16)], local_utility=0.65
    )
    device, policy = loop.make_device(points), ExpectedUtilityPolicy(points)
    estimate = link(residuals=tuple(0.01 * i - 0.3 for i in range(60)), overhead_bytes=112)
    fastest = math.inf
    for round_number in range(20):
        begin_s = time.perf_counter()
        for number in range(20):
            policy.decide(estimate, device, budget_s=BUDGET_S, now_s=round_number + number * 0.05)
        fastest = min(fastest, (time.perf_counter() - begin_s) / 20)
    assert fastest < 60e-6 * 4  # the target is 60 µs; the rest is for slow and busy test machines


def test_a_probe_is_the_smallest_point_whose_head_is_done_in_time(loop, decide):
    points = loop.make_points([(3, 4, 50, 0.8), (0, 4, 90, 0.75), (0, 32, 400, 0.9)])
    silent = {"rate_bytes_per_s": None, "rtt_s": None, "residuals": (), "idle_s": None}
    assert decide(points=points, **silent).point == OperatingPoint(3, 4)
    slow = loop.make_device(points, head_s={0: 0.001, 3: 0.2})
    decision = decide(points=points, device=slow, **silent)
    assert (decision.point, decision.probe) == (OperatingPoint(0, 4), True)
