"""The two rules: when measuring begins, and when a figure is not to be trusted."""

import numpy as np
import pytest

from isthmus.device_agents.profiling.conditions import Conditions
from isthmus.device_agents.profiling.steadiness import Evidence, WarmUp, doubts

CALM = np.random.default_rng(0).normal(0.010, 0.0004, 400).tolist()


def warm_after(latencies_s, interval_s=0.02):
    rule = WarmUp()
    for number, latency_s in enumerate(latencies_s):
        if rule.add(latency_s, number * interval_s):
            return number
    return None


def test_what_never_changes_is_warm_after_three_windows():
    # 0.25 s are 13 queries at 20 ms; the windows end with the 14th, 27th and 40th.
    assert warm_after([0.01] * 100) == 39


def test_what_still_becomes_quicker_is_not_warm_yet():
    falling = [0.010 + 0.020 * 0.97**number for number in range(400)]
    found = warm_after(falling)
    assert found > 60
    assert falling[found] < 0.0115


def test_what_jumps_about_never_is():
    assert warm_after(([0.01] * 13 + [0.02] * 13) * 30) is None


def test_a_window_has_at_least_ten_queries():
    assert warm_after([0.01] * 29, interval_s=1.0) is None
    assert warm_after([0.01] * 31, interval_s=1.0) is not None


@pytest.fixture
def judge():
    """Return `judge(**changes)`: the rules broken by an otherwise faultless measurement."""

    def rules(latencies_s=CALM, warm=True, astray=0, turned_away=0, sum_over_latency=1.0, **conditions):
        evidence = Evidence(
            latencies_s=latencies_s,
            warm=warm,
            conditions=Conditions(**conditions),
            astray=astray,
            turned_away=turned_away,
            sum_over_latency=sum_over_latency,
        )
        return {doubt.rule: doubt.detail for doubt in doubts(evidence)}

    return rules


def test_a_calm_measurement_is_trusted(judge):
    assert judge() == {}
    assert (
        judge(
            throttled=False,
            frequency_min_hz=1.75e9,
            frequency_max_hz=1.8e9,
            busy_share=0.99,
            others_share=0.05,
            sum_over_latency=0.98,
        )
        == {}
    )
    assert judge(busy_share=0.7, others_share=0.6) == {}  # there is room left


def test_each_rule_by_itself(judge):
    assert list(judge(warm=False)) == ["did not settle before it was measured"]
    assert judge(latencies_s=CALM[:99]) == {"fewer than 100 queries": "99"}
    assert judge(frequency_min_hz=0.6e9, frequency_max_hz=1.5e9) == {
        "the frequency moved": "0.60 to 1.50 GHz"
    }
    assert judge(throttled=True, causes=("frequency capped",)) == {"throttled": "frequency capped"}
    assert judge(busy_share=0.99, others_share=0.5) == {"others kept the processors busy": "50%"}
    assert judge(astray=3) == {"frames were not answered as asked": "3"}
    assert list(judge(turned_away=7).values()) == ["7"]
    assert judge(sum_over_latency=0.96) == {"the stages do not add up to the latency": "96.0%"}


def test_halves_that_differ(judge):
    slower = [*CALM[:200], *(latency_s * 1.1 for latency_s in CALM[200:])]
    assert list(judge(latencies_s=slower)) == ["the second half differs from the first"]
    assert "slower" in judge(latencies_s=slower)["the second half differs from the first"]
    assert "quicker" in judge(latencies_s=slower[::-1])["the second half differs from the first"]
    slightly = [*CALM[:200], *(latency_s * 1.03 for latency_s in CALM[200:])]
    assert judge(latencies_s=slightly) == {}


def test_scatter_alone_is_no_difference(judge):
    # Latencies that spread by a factor of several: halves of a hundred differ by more than 5 % by chance.
    rng = np.random.default_rng(4)
    blamed = sum(
        "the second half differs from the first" in judge(latencies_s=rng.lognormal(-4.0, 0.8, 120).tolist())
        for _ in range(100)
    )
    assert blamed <= 3
