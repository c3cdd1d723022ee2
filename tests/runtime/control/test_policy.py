import pytest

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.control import ExpectedUtilityPolicy, FixedPolicy, LinkEstimate, LocalPolicy, make_policy
from isthmus.runtime.errors import InputError


def link(**changes):
    facts = {
        "connected": True,
        "rate_bytes_per_s": 1e5,
        "rtt_s": 0.02,
        "backlog_bytes": 0,
        "in_flight": 0,
        "oldest_age_s": None,
        "residuals": (0.0,),
        "idle_s": 0.05,
    }
    return LinkEstimate(**{**facts, **changes})


def test_policies_by_name(ladder):
    assert isinstance(make_policy("expected-utility", ladder), ExpectedUtilityPolicy)
    assert isinstance(make_policy("local", ladder), LocalPolicy)
    fixed = make_policy("fixed:2,16", ladder)
    assert isinstance(fixed, FixedPolicy)
    for name in ("expected-utility", "local", "fixed:2,16"):
        assert make_policy(name, ladder).name == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "greedy",
            "'greedy' is not known; choose one of expected-utility, robust, .*, fixed:WIDTHINDEX,CHANNELS",
        ),
        ("fixed:", "is not known"),
        ("fixed:1", "is not known"),
        ("fixed:-1,4", "is not known"),
        ("fixed:9,4", "no such point; it has 0,4, 0,8, 1,8"),
        ("", "'' is not known"),
    ],
)
def test_unknown_policies_are_refused_with_what_there_is(ladder, name, message):
    with pytest.raises(InputError, match=message):
        make_policy(name, ladder)


def test_local_needs_an_answer_of_the_devices_own(loop):
    points = loop.make_points([(0, 4, 100, 0.8)], exit_utility=None)
    with pytest.raises(InputError, match=r"neither local\.onnx nor exit\.onnx"):
        make_policy("local", points)


def test_local_never_sends(loop, ladder):
    decision = make_policy("local", ladder).decide(link(), loop.make_device(ladder), budget_s=0.15, now_s=0.0)
    assert (decision.action, decision.reason) == ("exit", "policy local: exit answer on the device")


def test_fixed_sends_its_point_whatever_the_link_does(loop, ladder):
    policy, device = make_policy("fixed:3,32", ladder), loop.make_device(ladder)
    for rate in (None, 0.0, 1e6):
        decision = policy.decide(link(rate_bytes_per_s=rate), device, budget_s=0.15, now_s=0.0)
        assert (decision.action, decision.point) == ("send", OperatingPoint(3, 32))
        assert (decision.fallback, decision.fallback_s) == ("exit", 0.001)


def test_fixed_answers_on_the_device_without_connection_or_with_too_much_in_flight(loop, ladder):
    policy, device = make_policy("fixed:3,32", ladder), loop.make_device(ladder)
    for changes in ({"connected": False}, {"in_flight": 64}):
        assert policy.decide(link(**changes), device, budget_s=0.15, now_s=0.0).action == "exit"


def test_fixed_falls_back_to_the_more_useful_answer(loop):
    points = loop.make_points([(0, 4, 100, 0.8)], exit_utility=0.6, local_utility=0.7)
    policy = make_policy("fixed:0,4", points)
    decision = policy.decide(link(), loop.make_device(points), budget_s=0.15, now_s=0.0)
    assert (decision.fallback, decision.fallback_s) == ("local", 0.02)
    nothing = loop.make_device(points, exit_s=None, local_s=None)
    assert policy.decide(link(), nothing, budget_s=0.15, now_s=0.0).fallback is None
