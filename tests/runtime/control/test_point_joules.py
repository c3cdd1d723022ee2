"""Joules of operating points: measured by the profile, else modelled from its watts."""

import msgspec
import pytest

from isthmus.runtime.control import with_joules
from isthmus.runtime.machines import MachineProfile, NetworkCosts, Power

DIGESTS = {0: "a" * 64, 1: "b" * 64, 2: "c" * 64, 3: "d" * 64}
HEAD_S = {0: 0.01, 1: 0.02, 2: 0.04, 3: 0.08}


def measured(energy_j):
    return NetworkCosts(
        host="cpu",
        backend="ort",
        clock="wall",
        threads=1,
        rounds=5,
        whole_s=0.02,
        whole_spread_s=0.0,
        kernel_sum_s=0.02,
        node_s={"y": 0.02},
        energy_j=energy_j,
    )


@pytest.fixture
def profile():
    power = Power(
        idle_w=2.0, compute_w=4.0, transmit_w=None, source="scaled", origin="made up", compute_threads=4
    )
    return MachineProfile(
        name="board",
        origin="made up",
        source="scaled",
        processor="cpu",
        provider="CPUExecutionProvider",
        backend="ort",
        threads=1,
        power=power,
        networks={DIGESTS[1]: measured(0.5), DIGESTS[2]: measured(None)},
    )


def by_width(points):
    return {record.point.width_index: record.energy_j for record in points.records}


def test_watts_of_the_busy_threads_times_seconds_unless_a_meter_said_more(ladder, profile):
    found = by_width(with_joules(ladder, profile, head_s=HEAD_S, digests=DIGESTS, threads=1))
    # One of four threads: 1 W. The head of width 1 was measured.
    assert found == pytest.approx({0: 0.01, 1: 0.5, 2: 0.04, 3: 0.08})


def test_all_threads_draw_all_the_watts(ladder, profile):
    for threads in (None, 4, 8):
        found = by_width(with_joules(ladder, profile, head_s=HEAD_S, digests={}, threads=threads))
        assert found == pytest.approx({0: 0.04, 1: 0.08, 2: 0.16, 3: 0.32})


def test_what_the_profile_does_not_know_stays_as_it_was(ladder, profile):
    bare = msgspec.structs.replace(profile, power=None)
    assert by_width(with_joules(ladder, bare, head_s=HEAD_S, digests=DIGESTS)) == {
        0: None,
        1: 0.5,
        2: None,
        3: None,
    }
