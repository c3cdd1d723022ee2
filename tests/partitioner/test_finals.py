from collections.abc import Callable
from pathlib import Path

import pytest

from isthmus.partitioner import DeviceProfile, LinkProfile, partition
from isthmus.runtime.machines import MachineProfile

LINK = LinkProfile(rate_bytes_per_s=20e3, rtt_s=0.01)


def test_a_machine_that_is_not_here_keeps_its_predictions(
    residual_file: Path, machine: Callable[..., MachineProfile]
) -> None:
    """Device by its profile, server measured: each stage is what its own machine says."""
    plan = partition(
        residual_file,
        link=LINK,
        device=machine("board", 1e8),
        server=DeviceProfile(name="server", speed=0.1),
        measured_cuts=2,
        budget_s=0.4,
    )
    local, offload = plan.candidates[:2]
    assert local.measured is None
    assert offload.measured is not None
    assert offload.measured.link_s == pytest.approx(192 / 20e3 + 0.01)
    rebuilt = [item for item in plan.candidates if item.cut and item.max_rel_diff is not None]
    assert len({item.cut for item in rebuilt}) == 2
    for item in rebuilt:
        assert item.measured is not None
        assert item.measured.device_s == pytest.approx(item.predicted.device_s)
        assert item.measured.server_s != item.predicted.server_s
        assert item.measured.link_s == item.predicted.link_s
        assert item.figures.period_s == pytest.approx(
            max(item.measured.device_s, item.measured.link_s - 0.01, item.measured.server_s)
        )
        if item.kind == "split":
            assert item.server_memory_bytes is not None
            assert item.server_memory_bytes > 0
        else:
            assert item.server_memory_bytes is None


def test_an_assumed_bottleneck_is_a_fraction_of_the_measured_head(residual_file: Path) -> None:
    plan = partition(
        residual_file, link=LINK, device=DeviceProfile(speed=0.01), measured_cuts=3, budget_s=0.4
    )
    split = {item.cut: item.measured for item in plan.candidates if item.kind == "split" and item.measured}
    assumed = [item for item in plan.candidates if item.assumed and item.measured]
    assert assumed
    for item in assumed:
        whole = split[item.cut]
        assert item.measured.device_s == pytest.approx(whole.device_s / 3)
        # Half of the head at the server's speed, a hundred times the device's, and then the tail.
        assert item.measured.server_s == pytest.approx(0.5 * whole.device_s / 100 + whole.server_s)
