"""The policies that comparisons need, each true to its source."""

import pytest

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.control import LinkEstimate, make_policy
from isthmus.runtime.control.ewma import Ewma
from isthmus.runtime.control.point_estimate import Samples
from isthmus.runtime.control.robust import RobustGuess
from isthmus.runtime.links import load_trace

BUDGET_S = 0.15


def link(*samples, **changes):
    facts = {
        "connected": True,
        "rate_bytes_per_s": 1e5,
        "rtt_s": 0.02,
        "backlog_bytes": 0,
        "in_flight": 0,
        "oldest_age_s": None,
        "residuals": (),
        "idle_s": 0.05,
        "samples": samples,
        "delivered": len(samples),
    }
    return LinkEstimate(**{**facts, **changes})


@pytest.fixture
def decide(loop, ladder):
    """Return `decide(name, link, ...)`, one decision of a fresh policy."""

    def once(name, estimate, *, points=ladder, budget_s=BUDGET_S, **changes):
        device = loop.make_device(points, **changes)
        return make_policy(name, points).decide(estimate, device, budget_s=budget_s, now_s=0.0)

    return once


def test_every_sample_is_handed_on_once():
    samples = Samples()
    assert samples.new(link(1.0, 2.0)) == (1.0, 2.0)
    assert samples.new(link(1.0, 2.0)) == ()
    assert samples.new(link(2.0, 3.0, delivered=3)) == (3.0,)
    # More were delivered than the estimate repeats; and a new connection begins anew.
    assert samples.new(link(8.0, 9.0, delivered=9)) == (8.0, 9.0)
    assert samples.new(link(4.0, delivered=1)) == (4.0,)


def test_the_average_moves_by_its_weight():
    ewma = Ewma(0.4)
    assert ewma(link()) is None
    assert ewma(link(100.0)) == 100.0
    assert ewma(link(100.0, 200.0)) == pytest.approx(140.0)


def test_the_robust_guess_is_discounted_by_its_worst_error():
    guess = RobustGuess()
    assert guess(link()) is None
    assert guess(link(100.0)) == 100.0
    # It had said 100 and 50 came: an error of 100 %; the harmonic mean of both is 66.7.
    assert guess(link(100.0, 50.0)) == pytest.approx(200 / 3 / 2)


@pytest.mark.parametrize("name", ["robust", "harmonic", "ewma", "spinn", "slimmable-loop"])
def test_a_slower_link_takes_a_smaller_point(decide, name):
    fast, slow = decide(name, link(*[1e5] * 5)), decide(name, link(*[2_000.0] * 5))
    assert fast.point == OperatingPoint(3, 32)
    assert slow.point < fast.point
    assert fast.action == slow.action == "send"
    assert fast.fallback == "exit"


@pytest.mark.parametrize("name", ["robust", "harmonic", "ewma"])
def test_what_waits_counts_for_a_point_estimate(decide, name):
    free = decide(name, link(*[5_000.0] * 5))
    behind = decide(name, link(*[5_000.0] * 5, backlog_bytes=300))
    assert behind.point < free.point


@pytest.mark.parametrize("name", ["spinn", "slimmable-loop"])
def test_what_waits_is_not_seen_by_the_published_ones(decide, name):
    assert (
        decide(name, link(*[5_000.0] * 5, backlog_bytes=300)).point
        == decide(name, link(*[5_000.0] * 5)).point
    )


def test_the_published_loop_ignores_the_server_and_live_head_times(loop, decide):
    slow = {"server_s": 0.14, "head_s": dict.fromkeys(range(4), 0.1)}
    assert decide("slimmable-loop", link(1e5), **slow).point == OperatingPoint(3, 32)
    assert decide("spinn", link(1e5), server_s=0.2).action == "exit"


def test_the_published_loop_keeps_a_fifth_of_the_deadline(decide):
    # 0.8 of 150 ms less 4 ms of head: 390 bytes need 3.36 kB/s.
    assert decide("slimmable-loop", link(3_400.0)).point == OperatingPoint(3, 32)
    assert decide("slimmable-loop", link(3_300.0)).point == OperatingPoint(3, 24)
    # When nothing fits it sends all the same.
    assert decide("slimmable-loop", link(10.0)).point == OperatingPoint(0, 4)


@pytest.mark.parametrize("name", ["robust", "harmonic", "ewma", "spinn"])
def test_a_link_where_nothing_fits_is_tried_now_and_then(decide, name):
    rested = decide(name, link(10.0, idle_s=1.5))
    assert (rested.action, rested.probe, rested.point) == ("send", True, OperatingPoint(0, 4))
    assert decide(name, link(10.0, idle_s=0.1)).action == "exit"


@pytest.mark.parametrize("name", ["robust", "harmonic", "ewma", "spinn", "slimmable-loop"])
def test_without_a_connection_the_device_answers(decide, name):
    assert decide(name, link(1e5, connected=False)).action == "exit"


@pytest.mark.parametrize("name", ["robust", "harmonic", "ewma", "spinn", "slimmable-loop"])
def test_none_of_them_comes_near_the_default_over_outages(loop, ladder, name):
    world = loop.World(trace=load_trace("outage"), points=ladder, device=loop.make_device(ladder), fps=30.0)
    best = loop.clairvoyant(world)
    regret = 1 - loop.simulate(world, make_policy(name, ladder)).utility / best
    default = 1 - loop.simulate(world, make_policy("expected-utility", ladder)).utility / best
    assert default < regret < 0.5
