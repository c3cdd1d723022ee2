from collections.abc import Callable
from pathlib import Path

import pytest

from isthmus.partitioner.energy import EnergyModel
from isthmus.partitioner.network.model import Network, load_network
from isthmus.partitioner.network.work import node_work
from isthmus.partitioner.question import resolve_cuts, resolve_pins, search_graph
from isthmus.partitioner.sides import SideMaker
from isthmus.runtime.errors import InputError, PlanError
from isthmus.runtime.machines import MachineProfile, Power


@pytest.fixture(scope="module")
def network(residual_file: Path) -> Network:
    return load_network(residual_file)


def test_the_graph_has_the_networks_costs(network: Network, machine: Callable[..., MachineProfile]) -> None:
    maker = SideMaker(network, budget_s=1.0)
    device, server = maker.make(machine("slow", 1e9)), maker.make(machine("fast", 1e10))
    watts = Power(idle_w=1.0, compute_w=2.0, transmit_w=1.0, source="published", origin="a test")
    graph = search_graph(network, device, server, EnergyModel.of(watts), {"stem": "device"})
    work = node_work(network)
    for node in graph.nodes:
        assert node.device_s == pytest.approx(work[node.key].flops / 1e9)
        assert node.server_s == pytest.approx(node.device_s / 10)
        assert node.device_j == pytest.approx(3 * node.device_s)
        assert node.weight_bytes == work[node.key].weight_bytes
        assert node.pin == ("device" if node.key == "stem" else None)
    tensors = {tensor.name: tensor for tensor in graph.tensors}
    assert tensors["image"].producer is None
    assert tensors["image"].nbytes == 4 * 3 * 8 * 8
    assert len(tensors["stem.relu"].consumers) == 2
    assert tensors["logits"].is_output
    assert sum(node.device_s for node in graph.nodes) == pytest.approx(device.whole_s)


def test_a_pin_names_a_tensor_or_an_operator_type(network: Network) -> None:
    assert resolve_pins(network, {"stem.relu": "device"}) == {"stem.relu": "device"}
    convolutions = resolve_pins(network, {"Conv": "server"})
    assert len(convolutions) == sum(node.op == "Conv" for node in network.graph.nodes)
    assert set(convolutions.values()) == {"server"}


def test_wrong_pins(network: Network) -> None:
    with pytest.raises(PlanError) as caught:
        resolve_pins(network, {"sten": "device"})
    assert str(caught.value).startswith(
        "residual.onnx: no node makes 'sten' and none is of that operator type"
    )
    assert "pin e.g. stem" in str(caught.value)
    with pytest.raises(InputError, match="pin stem=cloud: give 'device' or 'server'"):
        resolve_pins(network, {"stem": "cloud"})
    with pytest.raises(PlanError, match="node 'stem' is pinned to the device and to the server"):
        resolve_pins(network, {"stem": "device", "Conv": "server"})


def test_a_cut_is_named_by_tensors_or_modules(network: Network) -> None:
    assert resolve_cuts(network, ["b0"], {}) == (("b0",),)
    assert resolve_cuts(network, ["layer1", "b1"], {"b0": "layer1"}) == (("b0",), ("b1",))
    both = resolve_cuts(network, ["b0.a+stem.relu", ["stem.relu", "b0.a"]], {})
    assert both == (("stem.relu", "b0.a"),)
    with pytest.raises(PlanError, match="no tensor 'b9'"):
        resolve_cuts(network, ["b9"], {})
    with pytest.raises(PlanError, match=r"leaves a way around it through 'stem\.relu'"):
        resolve_cuts(network, ["b0.a"], {})
