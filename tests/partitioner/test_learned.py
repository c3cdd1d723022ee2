from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from isthmus.partitioner import DeviceProfile, LinkProfile, Plan, partition
from isthmus.partitioner.network.model import load_network
from isthmus.runtime.bundle import TAIL, Bundle, head_name, load_bundle
from isthmus.runtime.errors import InputError, PlanError
from isthmus.runtime.machines import MachineProfile, NetworkCosts

LINK = LinkProfile(rate_bytes_per_s=20e3, rtt_s=0.01)
Machine = Callable[..., MachineProfile]


@pytest.fixture(scope="module")
def network_file(make_onnx: Callable[..., ModelProto], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of the tiny bundle's images, 16x16 grey, with a feature map `features`."""
    rng = np.random.default_rng(0)
    kernels = {"w0": (8, 1, 3, 3), "w1": (4, 8, 3, 3)}
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in kernels.items()
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["features"], pads=[1] * 4),
        helper.make_node("Relu", ["features"], ["rectified"]),
        helper.make_node("Conv", ["rectified", "w1"], ["late"], pads=[1] * 4),
        helper.make_node("ReduceMean", ["late"], ["answer"], axes=[2, 3], keepdims=0),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 16, 16])
    answer = helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["n", 4])
    path = tmp_path_factory.mktemp("models") / "grey16.onnx"
    onnx.save(make_onnx(nodes, [image], [answer], weights), path)
    return path


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


def trained(plan: Plan) -> list[tuple[float, int]]:
    return [(item.learned.width, item.learned.channels) for item in plan.candidates if item.learned]


def test_every_operating_point_is_a_candidate(network_file: Path, bundle: Bundle, machine: Machine) -> None:
    slow, fast = machine("slow", 1e8), machine("fast", 1e11)
    plan = partition(
        network_file, link=LINK, device=slow, server=fast, bundle=bundle, bundle_cut="rectified",
        measured_cuts=0,
    )  # fmt: skip
    widths = bundle.manifest.widths
    assert trained(plan) == [
        (widths[record.point.width_index], record.point.channels) for record in bundle.points.records
    ]
    items = [item for item in plan.candidates if item.learned]
    for item, record in zip(items, bundle.points.records, strict=True):
        assert (item.kind, item.cut, item.encoding) == ("bottleneck", "rectified", "latent")
        assert item.payload_bytes == round(record.bytes_mean)
        assert item.accuracy == record.utility
        assert item.predicted.device_s > 0
        assert item.memory_bytes is not None
        assert item.memory_bytes > 0
        assert item.measured is None
    assert plan.bundle is not None
    assert (plan.bundle.cut, plan.bundle.digest) == ("rectified", bundle.digest)
    assert plan.accuracy == bundle.points.teacher_utility
    assert plan.candidates[0].accuracy == plan.accuracy
    # A wider head takes longer on the same machine.
    seconds = {item.learned.width: item.predicted.device_s for item in items if item.learned}
    assert [seconds[width] for width in widths] == sorted(seconds.values())


def test_a_head_that_was_profiled_takes_what_was_measured(
    network_file: Path, bundle: Bundle, machine: Machine
) -> None:
    name = head_name(bundle.manifest.widths[0])
    nodes = load_network(bundle.root / name).graph.nodes
    costs = NetworkCosts(
        host="pi", backend="none", clock="cpu", threads=1, rounds=9, whole_s=0.5, whole_spread_s=0.0,
        kernel_sum_s=0.5, node_s={node.key: 0.5 / len(nodes) for node in nodes},
    )  # fmt: skip
    slow = machine("slow", 1e8, networks={bundle.manifest.files[name]: costs})
    plan = partition(
        network_file, link=LINK, device=slow, server=machine("fast", 1e11), bundle=bundle.root,
        bundle_cut="rectified", measured_cuts=0,
    )  # fmt: skip
    first = next(item for item in plan.candidates if item.learned)
    assert first.predicted.device_s == pytest.approx(0.5)


def test_on_this_machine_heads_and_tail_are_measured(network_file: Path, bundle: Bundle) -> None:
    plan = partition(
        network_file, link=LINK, device=DeviceProfile(name="pi", speed=0.01), bundle=bundle,
        modules={"rectified": "stage"}, bundle_cut="stage", measured_cuts=0, budget_s=0.4,
    )  # fmt: skip
    items = [item for item in plan.candidates if item.learned]
    assert all(item.measured == item.predicted and item.spread_s is not None for item in items)
    assert items[0].module == "stage"
    # A hundred times slower than here: a head that takes microseconds takes a millisecond or so.
    assert 1e-5 < items[0].times.device_s < 1


def test_accuracy_decides_which_point_may_be_chosen(
    network_file: Path, bundle: Bundle, machine: Machine
) -> None:
    best = max(record.utility for record in bundle.points.records)
    loss = max(0.0, bundle.points.teacher_utility - best)
    ask = {
        "link": LINK, "device": machine("slow", 1e5), "server": machine("fast", 1e11), "bundle": bundle,
        "bundle_cut": "rectified", "measured_cuts": 0, "allowed": ["rectified"],
    }  # fmt: skip
    plan = partition(network_file, max_accuracy_loss=1.0, **ask)
    anything = plan.candidates[plan.choice.candidate]
    strict = partition(network_file, max_accuracy_loss=loss, **ask)
    chosen = strict.candidates[strict.choice.candidate]
    assert strict.asked.least_accuracy == pytest.approx(bundle.points.teacher_utility - loss)
    if chosen.learned is not None:
        assert chosen.learned.accuracy >= best - 1e-9
    assert chosen.times.total_s >= anything.times.total_s
    front = [strict.candidates[index] for index in strict.pareto]
    assert any(item.learned and item.learned.accuracy == best for item in front)


def test_a_bundle_of_another_network_or_cut(
    network_file: Path, residual_file: Path, bundle: Bundle, machine: Machine
) -> None:
    slow = machine("slow", 1e8)
    ask = {"link": LINK, "device": slow, "server": slow, "measured_cuts": 0}
    with pytest.raises(PlanError) as caught:
        partition(residual_file, bundle=bundle, bundle_cut="b0", **ask)
    assert str(caught.value) == (
        f"{bundle.root}: takes images of 16x16x1, residual.onnx takes [1, 3, 8, 8]; "
        "give the bundle of this network"
    )
    with pytest.raises(
        PlanError, match="was trained at 'nowhere', which is no tensor or known module of grey16"
    ):
        partition(network_file, bundle=bundle, bundle_cut="nowhere", **ask)
    with pytest.raises(InputError):
        partition(network_file, bundle=bundle, bundle_cut="rectified", max_accuracy_loss=-1.0, **ask)
    speechless = msgspec.structs.replace(slow, operators=())
    assert (bundle.root / TAIL).is_file()
    with pytest.raises(Exception, match="has no speed of"):
        partition(network_file, bundle=bundle, bundle_cut="rectified", **{**ask, "server": speechless})
