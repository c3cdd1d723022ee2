"""The device profile of a bundle: in the one format, under the digests that the simulator looks for."""

import msgspec
import pytest

from isthmus.device_agents.profiling.conditions import Conditions
from isthmus.device_agents.profiling.figures import Energy, Quantiles, WayFigures
from isthmus.device_agents.profiling.machine_file import add_networks, bundle_machine
from isthmus.device_agents.profiling.ways import Way
from isthmus.runtime.bundle import EXIT, LOCAL, head_name
from isthmus.runtime.errors import ArtifactError
from isthmus.runtime.machines import load_machine, write_machine


def times(p50_s):
    return Quantiles(
        p25_s=0.9 * p50_s, p50_s=p50_s, p75_s=1.2 * p50_s, p90_s=2 * p50_s, p99_s=3 * p50_s, mean_s=p50_s
    )


def figures(kind, *, frames=200, energy=None, elapsed_s=2.0, width_index=None, width=None, **stages):
    return WayFigures(
        way=Way(kind=kind, width_index=width_index, width=width),
        scenario="SingleStream",
        queries=frames,
        frames=frames,
        rate_per_s=None,
        warm_up_s=1.0,
        elapsed_s=elapsed_s,
        throughput_per_s=frames / elapsed_s,
        payload_bytes=None,
        parts={},
        stages={name: times(seconds) for name, seconds in stages.items()},
        latency=times(0.1),
        query=times(0.1),
        sum_over_latency=1.0,
        energy=energy,
        conditions=Conditions(),
        doubts=(),
    )


@pytest.fixture
def make(tiny):
    def machine(found, **changes):
        facts = {
            "name": "board",
            "processor": "ARM, 4 cores, aarch64",
            "provider": "CPUExecutionProvider",
            "backend": "ONNX Runtime 1.2, CPUExecutionProvider",
            "threads": 1,
            "idle_w": None,
            "isthmus_version": "0",
        }
        return bundle_machine(tiny, found, **{**facts, **changes})

    return machine


def test_every_network_of_the_device_is_under_its_digest(make, tiny, tmp_path):
    found = [
        figures("payload", width_index=0, width=0.25, head=0.004, frames=100),
        figures("server", width_index=0, width=0.25, head=0.005, frames=300),
        figures("exit", width_index=1, width=0.5, head=0.006, answer=0.001),
        figures("uncut", answer=0.02),
    ]
    machine = make(found)
    write_machine(tmp_path / "machine.json", machine)
    machine = load_machine(tmp_path / "machine.json")
    files = tiny.manifest.files
    seconds = {
        name: machine.networks[files[name]].whole_s for name in (head_name(0.25), head_name(0.5), EXIT, LOCAL)
    }
    # Of two measurements of one head, the one of more frames counts.
    assert list(seconds.values()) == [0.005, 0.006, 0.001, 0.02]
    costs = machine.networks[files[LOCAL]]
    assert (costs.rounds, costs.clock, costs.model) == (200, "wall", "tiny/local.onnx")
    assert costs.whole_spread_s == pytest.approx(0.3 * 0.02)
    assert machine.power is None
    assert machine.source == "measured"


def test_watts_are_written_only_if_they_were_measured(make):
    def energy(source):
        return Energy(source=source, total_j=8.0, per_frame_j=0.04, idle_w=1.5, above_idle_per_frame_j=0.02)

    busy = figures("uncut", answer=0.02, energy=energy("rapl"))
    lazy = figures("uncut", answer=0.02, energy=energy("rapl"), elapsed_s=4.0)
    power = make([busy, lazy], idle_w=1.5).power
    assert (power.idle_w, power.compute_w, power.transmit_w) == (1.5, 2.5, None)
    assert power.source == "measured"
    assert "rapl" in power.origin
    assert make([busy], idle_w=None).power is None
    modelled = figures("uncut", answer=0.02, energy=energy("model:pi4"))
    assert make([modelled], idle_w=1.5).power is None


def test_a_profile_is_added_to_one_of_the_same_machine(make):
    first = make([figures("uncut", answer=0.02)], name="mine")
    second = make([figures("exit", width_index=1, width=0.5, head=0.006, answer=0.001)])
    both = add_networks(first, second, "machine.json")
    assert both.name == "mine"
    assert len(both.networks) == 3
    other = msgspec.structs.replace(second, threads=4)
    with pytest.raises(ArtifactError, match=r"machine\.json: it is of threads 1, this is 4; choose another"):
        add_networks(first, other, "machine.json")


def metered(source, above_idle_per_frame_j):
    return Energy(
        source=source,
        total_j=10.0,
        per_frame_j=0.05,
        idle_w=2.0,
        above_idle_per_frame_j=above_idle_per_frame_j,
    )


def test_joules_beyond_rest_are_shared_by_the_time_of_computing(make, tiny):
    found = [
        figures("payload", width_index=0, width=0.25, head=0.003, codec=0.001, energy=metered("rapl", 0.04)),
        figures("uncut", answer=0.02, energy=metered("rapl", 0.3)),
    ]
    networks = make(found, idle_w=2.0).networks
    files = tiny.manifest.files
    assert networks[files[head_name(0.25)]].energy_j == pytest.approx(0.03)  # 3 ms of 4 ms
    assert networks[files[LOCAL]].energy_j == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("kind", "energy"),
    [
        ("payload", None),
        ("payload", metered("model:pi4", 0.04)),  # never a measurement
        ("payload", metered("rapl", None)),
        ("payload", metered("rapl", -0.01)),  # rest was busier than the run
        ("server", metered("rapl", 0.04)),  # with the radio's
    ],
)
def test_joules_of_a_network_that_are_not_known_are_none(make, tiny, kind, energy):
    found = [figures(kind, width_index=0, width=0.25, head=0.003, codec=0.001, energy=energy)]
    assert make(found).networks[tiny.manifest.files[head_name(0.25)]].energy_j is None
