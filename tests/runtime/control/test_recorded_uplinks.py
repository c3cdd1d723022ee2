"""Over recorded cellular uplinks, on which nothing was tuned."""

import os
from pathlib import Path

import pytest

from isthmus.runtime.control import make_policy
from isthmus.runtime.links import load_trace

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def regrets(loop):
    """Return the mean and the worst regret against a clairvoyant, per policy, over every uplink."""
    root = Path(os.environ.get("ISTHMUS_DATA", Path(__file__).parents[4] / "shared" / "data"))
    files = sorted(root.glob("traces/mahimahi/*.up"))
    if not files:
        pytest.skip("needs the recorded uplinks (ISTHMUS_DATA or ../shared/data)")
    found: dict[str, list[float]] = {
        "expected-utility": [],
        "fixed:0,1": [],
        "fixed:1,4": [],
        "fixed:3,12": [],
    }
    for trace in map(load_trace, map(str, files)):
        # The smallest payload is 6 % of what the link carries within a deadline, the largest about all of it.
        unit = trace.mean_rate * 0.2 * 0.06
        points = loop.make_points(
            [
                (0, 1, unit, 0.60),
                (1, 2, 2 * unit, 0.70),
                (1, 4, 4 * unit, 0.78),
                (2, 8, 8 * unit, 0.84),
                (3, 12, 16 * unit, 0.88),
            ],
            exit_utility=0.5,
        )
        world = loop.World(
            trace=trace,
            points=points,
            device=loop.make_device(points),
            deadline_s=0.2,
            duration_s=60.0,
            delay_s=0.02,
            jitter_s=0.002,
        )
        best = loop.clairvoyant(world)
        for name, values in found.items():
            values.append(1 - loop.simulate(world, make_policy(name, points)).utility / best)
    return found


def test_regret_is_small_and_far_below_any_fixed_point(regrets):
    mean = {name: sum(values) / len(values) for name, values in regrets.items()}
    assert mean["expected-utility"] < 0.08
    assert max(regrets["expected-utility"]) < 0.14
    assert mean["expected-utility"] < 0.5 * min(mean[name] for name in mean if name != "expected-utility")
