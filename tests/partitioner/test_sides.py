from collections.abc import Callable
from pathlib import Path

import pytest

from isthmus.partitioner import DeviceProfile
from isthmus.partitioner.network.model import Network, load_network
from isthmus.partitioner.sides import SideMaker, resolve_profile
from isthmus.runtime.errors import ArtifactError
from isthmus.runtime.machines import MachineProfile, NetworkCosts, Power


@pytest.fixture(scope="module")
def network(residual_file: Path) -> Network:
    return load_network(residual_file)


def test_this_machine_is_measured_once_and_scaled(network: Network) -> None:
    maker = SideMaker(network, budget_s=0.2)
    here, slow = maker.make(DeviceProfile()), maker.make(DeviceProfile(name="pi", speed=0.1))
    assert here.costs is slow.costs
    assert slow.whole_s == pytest.approx(10 * here.whole_s)
    keys = [node.key for node in network.graph.nodes]
    assert slow.head_s(keys[:3]) == pytest.approx(10 * here.head_s(keys[:3]))
    assert slow.tail_s(keys[3:]) == pytest.approx(10 * here.tail_s(keys[3:]))
    assert sum(slow.nodes_s().values()) == pytest.approx(slow.whole_s)
    assert slow.here_s(0.2) == pytest.approx(2.0)
    assert (here.facts.source, slow.facts.source) == ("measured", "scaled")
    assert slow.facts.origin == "measured here and divided by 0.1"
    assert here.runner is not None


def test_another_machine_is_known_by_its_profile(
    network: Network, machine: Callable[..., MachineProfile]
) -> None:
    watts = Power(idle_w=1.0, compute_w=2.0, transmit_w=None, source="published", origin="a test")
    estimated = SideMaker(network, budget_s=9.0).make(machine("board", 1e9, power=watts))
    assert estimated.runner is None
    assert (estimated.facts.here, estimated.facts.source, estimated.facts.power) == (False, "scaled", watts)
    nodes = network.graph.nodes
    costs = NetworkCosts(
        host="board", backend="none", clock="cpu", threads=1, rounds=9, whole_s=1.0, whole_spread_s=0.0,
        kernel_sum_s=1.0, node_s={node.key: 1 / len(nodes) for node in nodes},
    )  # fmt: skip
    own = machine("board", 1e9, networks={network.digest: costs})
    known = SideMaker(network, budget_s=9.0).make(own)
    assert known.whole_s == 1.0
    assert (known.facts.source, known.facts.origin) == ("published", "A test.")


def test_what_names_a_machine(machine: Callable[..., MachineProfile]) -> None:
    assert resolve_profile("this", "device") == DeviceProfile(name="device")
    assert resolve_profile(None, "server") == DeviceProfile(name="server")
    assert resolve_profile(machine("board", 1e9), "device").name == "board"
    assert resolve_profile("pi4", "device").name == "pi4"
    with pytest.raises(ArtifactError, match="pi9: No such file or directory"):
        resolve_profile("pi9", "device")
