import math
from pathlib import Path

import numpy as np
import onnx
import pytest

from isthmus.partitioner import (
    BottleneckAssumption,
    BottleneckRules,
    DeviceProfile,
    LinkProfile,
    input_image_shape,
    list_cuts,
    partition,
    read_plan,
    write_plan,
)
from isthmus.runtime.errors import InputError, PlanError

SLOW_LINK = LinkProfile(rate_bytes_per_s=20e3, rtt_s=0.01)


def test_cuts_and_input_of_a_file(residual_file: Path) -> None:
    names = [fact.name for fact in list_cuts(residual_file)]
    assert names[:2] == ["stem", "stem.relu"]
    assert names[-2:] == ["pooled", "flat"]
    assert "b0.a.relu" not in names
    assert input_image_shape(residual_file) == (8, 8, 3)


def test_a_plan_from_file_to_file(residual_file: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    plan = partition(
        residual_file,
        link=SLOW_LINK,
        device=DeviceProfile(name="pi", speed=1e-3),
        images_nhwc=images,
        measured_cuts=3,
        budget_s=0.6,
        deadline_s=10.0,
        halves_folder=tmp_path / "halves",
    )
    kinds = [item.kind for item in plan.candidates]
    assert kinds[:3] == ["local", "offload", "offload"]
    assert [item.encoding for item in plan.candidates[1:3]] == ["uint8", "jpeg q90"]
    measured = [item for item in plan.candidates if item.measured is not None]
    cuts = {item.cut for item in measured if item.cut is not None}
    assert len(cuts) == 3
    for item in measured:
        assert item.spread_s is not None
        if item.cut is not None:
            assert item.max_rel_diff is not None
            assert item.max_rel_diff < 1e-5
            whole = plan.device_costs.whole_s
            # Scaled like the whole: within an order of magnitude of their share, even on a busy host.
            assert 0.1 < item.times.device_s / max(item.predicted.device_s, 1e-3 * whole) < 10
    for name in cuts:
        head = onnx.load(tmp_path / "halves" / str(name) / "head.onnx")
        assert [value.name for value in head.graph.output] == [name]
    assert plan.candidates[plan.choice.candidate].refused is None
    assert plan.choice.deadline_met is True
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan


def test_predictions_alone_and_their_endpoints(residual_file: Path) -> None:
    plan = partition(residual_file, link=SLOW_LINK, measured_cuts=0, budget_s=0.2)
    assert all(item.measured is None for item in plan.candidates)
    local, offload = plan.candidates[:2]
    assert local.predicted.total_s == pytest.approx(plan.device_costs.whole_s)
    assert offload.predicted.link_s == pytest.approx(192 / 20e3 + 0.01)
    for item in plan.candidates:
        if item.kind == "split":
            both = item.predicted.device_s + item.predicted.server_s
            assert both == pytest.approx(plan.device_costs.whole_s)
    # The whole takes well under a millisecond here; the link alone takes 10.
    assert plan.choice.kind == "local"
    assert plan.choice.reason.startswith("do not split: run all of it on the device")


def test_a_very_slow_device_offloads(residual_file: Path) -> None:
    plan = partition(
        residual_file,
        link=LinkProfile(rate_bytes_per_s=1e9, rtt_s=0.0),
        device=DeviceProfile(speed=1e-6),
        measured_cuts=0,
        budget_s=0.2,
    )
    assert plan.choice.kind == "offload"


def test_a_bottleneck_stands_only_where_it_may(residual_file: Path) -> None:
    wanted = {"link": SLOW_LINK, "choose": "bottleneck", "measured_cuts": 1, "budget_s": 0.15}
    rules = BottleneckRules(min_head_share=0.0, min_tail_share=0.0)
    plan = partition(residual_file, modules={"b1": "layer2"}, rules=rules, **wanted)
    assert (plan.choice.kind, plan.choice.cut, plan.choice.module) == ("bottleneck", "b1", "layer2")
    plan = partition(
        residual_file, allowed=["b0"], rules=rules, assumption=BottleneckAssumption(payload_bytes=7), **wanted
    )
    assert (plan.choice.cut, plan.choice.module) == ("b0", None)
    assert plan.candidates[plan.choice.candidate].payload_bytes == 7
    names = {"b0": "layer1", "b1": "layer2"}
    plan = partition(residual_file, allowed=["layer1"], modules=names, rules=rules, **wanted)
    assert (plan.choice.cut, plan.choice.module) == ("b0", "layer1")
    with pytest.raises(PlanError, match="no cut fits a bottleneck: no module of the network has this output"):
        partition(residual_file, modules={}, rules=rules, **wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"allowed": ["layer9"]}, "no tensor 'layer9'"),
        ({"allowed": ["b0.sum", "b0.a.relu"]}, "leaves a way around it"),
        ({"deadline_s": -1.0}, "deadline -1.0 s is not above 0"),
        ({"deadline_s": math.inf}, "deadline inf s is not above 0"),
        ({"measured_cuts": -1}, "-1 cuts to measure"),
        ({"budget_s": 0.0}, "measuring budget 0.0 s is not above 0"),
        ({"images_nhwc": np.zeros((2, 9, 9, 3), np.uint8)}, "do not fit the network's input 'image'"),
    ],
)
def test_wrong_values_are_named(residual_file: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        partition(residual_file, link=SLOW_LINK, **change)
