import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from isthmus.partitioner import (
    BottleneckAssumption,
    BottleneckRules,
    DeviceProfile,
    LinkProfile,
    Objective,
    TraceLink,
    input_image_shape,
    list_cuts,
    partition,
    read_plan,
    write_plan,
)
from isthmus.runtime.errors import ArtifactError, InputError, PlanError
from isthmus.runtime.links import RateTrace
from isthmus.runtime.machines import MachineProfile, Power, write_machine

SLOW_LINK = LinkProfile(rate_bytes_per_s=20e3, rtt_s=0.01)
WATTS = Power(idle_w=1.0, compute_w=2.0, transmit_w=1.0, source="published", origin="a test")
Machine = Callable[..., MachineProfile]
ANYWHERE = BottleneckRules(min_head_share=0.0, min_tail_share=0.0)


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
    assert (plan.device.source, plan.device.here, plan.server.source) == ("scaled", True, "measured")
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan


def test_several_tensors_that_win_are_rebuilt_and_proven(
    residual_file: Path, machine: Machine, tmp_path: Path
) -> None:
    """Inside a block, the skip has to cross beside the branch; nothing here can time these machines."""
    plan = partition(
        residual_file,
        link=SLOW_LINK,
        device=machine("slow", 1e9),
        server=machine("fast", 1e11),
        pins={"b0.a.relu": "device", "b0.c": "server"},
        allowed=["stem.relu+b0.a.relu"],
        measured_cuts=2,
        budget_s=0.2,
        halves_folder=tmp_path,
    )
    chosen = plan.candidates[plan.choice.candidate]
    assert (chosen.kind, set(chosen.cut.split("+"))) == ("split", {"stem.relu", "b0.a.relu"})
    assert chosen.payload_bytes == 2 * 8 * 8 * 8 * 4
    assert set(chosen.nodes) == {"stem", "stem.relu", "b0.a", "b0.a.relu"}
    assert chosen.measured is None
    assert chosen.max_rel_diff is not None
    assert chosen.max_rel_diff < 1e-5
    assert (tmp_path / "stem.relu_b0.a.relu" / "tail.onnx").is_file()
    assert all(item.refused for item in plan.candidates if item is not chosen)
    assert plan.candidates[0].refused == "b0.c has to run on the server"


def test_predictions_alone_and_their_endpoints(residual_file: Path, machine: Machine) -> None:
    slow = machine("slow", 1e9)
    plan = partition(residual_file, link=SLOW_LINK, device=slow, server=slow, measured_cuts=0)
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
    assert (plan.device.name, plan.device.source, plan.device.here) == ("slow", "scaled", False)
    assert plan.device.origin.startswith("estimated from its speeds by class of operators; A test.")


def test_assumed_bottlenecks_follow_the_assumption(residual_file: Path, machine: Machine) -> None:
    assumption = BottleneckAssumption(encoder_fraction=0.25, decoder_fraction=0.5)
    plan = partition(
        residual_file,
        link=SLOW_LINK,
        device=machine("slow", 1e9),
        server=machine("fast", 1e10),
        assumption=assumption,
        measured_cuts=0,
    )
    plain = {item.cut: item for item in plan.candidates if item.kind == "split"}
    assumed = [item for item in plan.candidates if item.kind == "bottleneck"]
    assert assumed
    for item in assumed:
        split = plain[item.cut]
        assert item.predicted.device_s == pytest.approx(0.25 * split.predicted.device_s)
        decoder_s = 0.5 * split.predicted.device_s / 10
        assert item.predicted.server_s == pytest.approx(decoder_s + split.predicted.server_s)
        # An element a byte, a sixteenth of that, and never more than a sixth of the 192 raw bytes.
        assert item.payload_bytes == min(split.frontier[0].elements // 16, 32)


def test_a_very_slow_device_offloads(residual_file: Path) -> None:
    plan = partition(
        residual_file,
        link=LinkProfile(rate_bytes_per_s=1e9, rtt_s=0.0),
        device=DeviceProfile(speed=1e-6),
        measured_cuts=0,
        budget_s=0.2,
    )
    assert plan.choice.kind == "offload"


def test_no_raw_input_keeps_the_input_on_the_device(residual_file: Path, machine: Machine) -> None:
    plan = partition(
        residual_file,
        link=LinkProfile(rate_bytes_per_s=1e9, rtt_s=0.0),
        device=machine("slow", 1e6),
        server=machine("fast", 1e12),
        no_raw_input=True,
        measured_cuts=0,
    )
    assert plan.candidates[1].refused == "the input may not leave the device"
    assert plan.choice.kind in ("split", "bottleneck")


def test_memory_of_the_device_is_kept(residual_file: Path, machine: Machine) -> None:
    small = machine("small", 1e12, memory_bytes=9_000)
    plan = partition(
        residual_file, link=SLOW_LINK, device=small, server=machine("slow", 1e9), measured_cuts=0
    )
    assert plan.asked.device_memory_bytes == 9_000
    local = plan.candidates[0]
    assert local.refused is not None
    assert local.refused.startswith("needs ")
    assert local.refused.endswith(" on the device, more than 9 kB")
    chosen = plan.candidates[plan.choice.candidate]
    assert chosen.memory_bytes is not None
    assert chosen.memory_bytes <= 9_000
    with pytest.raises(PlanError, match=r"nothing keeps the constraints: .* on the device, more than 10 B"):
        partition(
            residual_file,
            link=SLOW_LINK,
            device=small,
            server=small,
            device_memory_bytes=10,
            no_raw_input=True,
            measured_cuts=0,
        )


def test_energy_follows_the_watts(residual_file: Path, machine: Machine) -> None:
    device = machine("slow", 1e8, power=WATTS)
    ask = {"link": SLOW_LINK, "device": device, "server": machine("fast", 1e11), "measured_cuts": 0}
    plan = partition(residual_file, objective="energy", **ask)
    local, offload = plan.candidates[:2]
    assert plan.energy == "board"
    assert local.figures.energy_j == pytest.approx(3.0 * local.times.device_s)
    waiting_s = 0.01 + offload.times.server_s
    assert offload.figures.energy_j == pytest.approx(2.0 * 192 / 20e3 + 1.0 * waiting_s)
    weighted = partition(residual_file, objective=Objective(kind="weighted", alpha=1.0, beta=0.0), **ask)
    assert weighted.choice.candidate == partition(residual_file, **ask).choice.candidate
    without = msgspec.structs.replace(device, power=None)
    with pytest.raises(
        InputError, match="slow: its watts of computing are unknown, so energy is no objective"
    ):
        partition(residual_file, objective="energy", **{**ask, "device": without})
    given = partition(residual_file, objective="energy", power=WATTS, **{**ask, "device": without})
    assert given.candidates[0].figures == local.figures


def test_a_trace_gives_a_distribution(residual_file: Path, machine: Machine) -> None:
    trace = RateTrace([(1.0, 1e6), (1.0, 1e3)], name="two")
    ask = {"device": machine("slow", 1e7), "server": machine("fast", 1e11), "measured_cuts": 0}
    plan = partition(
        residual_file, link=TraceLink(trace=trace, rtt_s=0.01), deadline_s=0.1, objective="on-time", **ask
    )
    assert plan.link.trace is not None
    assert plan.link.trace.name == "two"
    local, offload = plan.candidates[:2]
    # 192 bytes take 0.2 s at the low rate, so that about half the frames are late.
    assert offload.figures.on_time == pytest.approx(0.5, abs=0.1)
    shares = dict(offload.figures.quantiles_s)
    assert shares[0.9] > 0.19 > shares[0.5]
    assert local.figures.quantiles_s == ()
    assert local.figures.on_time in (0.0, 1.0)
    with pytest.raises(InputError, match="objective 'on-time' needs a deadline"):
        partition(residual_file, link=SLOW_LINK, objective="on-time", **ask)


def test_machines_come_from_files_and_names(residual_file: Path, machine: Machine, tmp_path: Path) -> None:
    write_machine(tmp_path / "mine.json", machine("mine", 1e9))
    plan = partition(
        residual_file, link=SLOW_LINK, device="pi4", server=tmp_path / "mine.json", measured_cuts=0
    )
    assert (plan.device.name, plan.server.name) == ("pi4", "mine")
    with pytest.raises(ArtifactError) as caught:
        partition(residual_file, link=SLOW_LINK, device="pi9", measured_cuts=0)
    assert str(caught.value) == (
        "pi9: No such file or directory; give a file of 'isthmus partition profile', "
        "or one of: cloud-6700k, edge-2500, jetson-nano, laptop, orin-nano, pi4, pi5, server-gpu"
    )
    bare = msgspec.structs.replace(machine("bare", 1e9), operators=())
    with pytest.raises(ArtifactError) as caught:
        partition(residual_file, link=SLOW_LINK, device=bare, measured_cuts=0)
    assert str(caught.value) == (
        "bare: knows no network, not residual.onnx, and has no speed of 'conv' operators to estimate it; "
        "run 'isthmus partition profile residual.onnx' there"
    )


def test_a_bottleneck_stands_only_where_it_may(residual_file: Path, machine: Machine) -> None:
    slow = machine("slow", 1e9)
    wanted = {
        "link": SLOW_LINK, "choose": "bottleneck", "measured_cuts": 0, "device": slow, "server": slow,
        "rules": ANYWHERE,
    }  # fmt: skip
    plan = partition(residual_file, modules={"b1": "layer2"}, **wanted)
    assert (plan.choice.kind, plan.choice.cut, plan.choice.module) == ("bottleneck", "b1", "layer2")
    plan = partition(
        residual_file, allowed=["b0"], assumption=BottleneckAssumption(payload_bytes=7), **wanted
    )
    assert (plan.choice.cut, plan.choice.module) == ("b0", None)
    assert plan.candidates[plan.choice.candidate].payload_bytes == 7
    names = {"b0": "layer1", "b1": "layer2"}
    plan = partition(residual_file, allowed=["layer1"], modules=names, **wanted)
    assert (plan.choice.cut, plan.choice.module) == ("b0", "layer1")
    with pytest.raises(PlanError, match="no cut fits a bottleneck: no module of the network has this output"):
        partition(residual_file, modules={}, **wanted)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (BottleneckRules(min_head_share=0.9, min_tail_share=0.0), "head below 90% of the network's time"),
        (BottleneckRules(min_head_share=0.0, min_tail_share=1.0), "tail below 100% of the network's time"),
        (BottleneckRules(min_side=9), "feature map below 9x9"),
        (
            BottleneckRules(min_head_share=0.0, min_tail_share=0.0, encoder_budget_s=0.0),
            "encoder above its budget of 0 ms",
        ),
    ],
)
def test_rules_refuse_by_name(
    residual_file: Path, machine: Machine, rules: BottleneckRules, reason: str
) -> None:
    slow = machine("slow", 1e9)
    plan = partition(residual_file, link=SLOW_LINK, device=slow, server=slow, rules=rules, measured_cuts=0)
    (early,) = (item for item in plan.candidates if item.kind == "bottleneck" and item.cut == "stem.relu")
    assert early.refused == reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"allowed": ["layer9"]}, "no tensor 'layer9'"),
        ({"allowed": ["b0.sum", "b0.a.relu"]}, "leaves a way around it"),
        ({"deadline_s": -1.0}, "deadline -1.0 s is not above 0"),
        ({"deadline_s": math.inf}, "deadline inf s is not above 0"),
        ({"deadline_s": 1.0, "deadline_probability": 0.0}, r"deadline probability 0.0 is not in \(0, 1\]"),
        ({"measured_cuts": -1}, "-1 cuts to measure"),
        ({"budget_s": 0.0}, "measuring budget 0.0 s is not above 0"),
        ({"jpeg_quality": 0}, r"JPEG quality 0 is not in 1\.\.95"),
        ({"max_accuracy_loss": 2.0}, r"accuracy loss 2.0 is not in \[0, 1\]"),
        ({"device_memory_bytes": -1}, "device memory of -1 bytes"),
        ({"pins": {"stem": "moon"}}, "pin stem=moon: give 'device' or 'server'"),
        ({"images_nhwc": np.zeros((2, 9, 9, 3), np.uint8)}, "do not fit the network's input 'image'"),
    ],
)
def test_wrong_values_are_named(residual_file: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        partition(residual_file, link=SLOW_LINK, **change)
