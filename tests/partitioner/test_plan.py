from pathlib import Path

import msgspec
import pytest

from isthmus.partitioner import (
    Asked,
    BottleneckAssumption,
    BottleneckRules,
    Candidate,
    Choice,
    CostTable,
    Figures,
    LinkProfile,
    MachineFacts,
    Objective,
    Plan,
    StageTimes,
    TensorFact,
    read_plan,
    write_plan,
)
from isthmus.partitioner.plan import Searched
from isthmus.runtime.errors import ArtifactError, InputError


def machine_facts(name: str, **changes: object) -> MachineFacts:
    fields = {"source": "measured", "origin": "measured here", "processor": "a", "backend": "b", "threads": 1}
    return MachineFacts(name=name, here=True, **{**fields, **changes})


@pytest.fixture
def plan() -> Plan:
    tensor = TensorFact(name="b0", dtype="float32", shape=(1, 8, 8, 8), nbytes=2048)
    costs = CostTable(
        host="a processor",
        backend="ONNX Runtime",
        clock="cpu",
        threads=1,
        rounds=9,
        whole_s=0.01,
        whole_spread_s=0.001,
        kernel_sum_s=0.009,
        node_s={"b0": 0.004, "y": 0.006},
    )
    local = Candidate(
        kind="local",
        frontier=(),
        encoding="nothing",
        payload_bytes=0,
        head_share=1.0,
        predicted=StageTimes(device_s=0.1, link_s=0.0, server_s=0.0),
        figures=Figures(energy_j=None, period_s=0.1, on_time=1.0),
    )
    bottleneck = Candidate(
        kind="bottleneck",
        frontier=(tensor,),
        encoding="assumed latent",
        payload_bytes=32,
        head_share=0.4,
        module="layer1",
        predicted=StageTimes(device_s=0.013, link_s=0.02, server_s=0.008),
        measured=StageTimes(device_s=0.012, link_s=0.02, server_s=0.008),
        figures=Figures(energy_j=0.1, period_s=0.02, on_time=0.9, quantiles_s=((0.5, 0.04), (0.9, 0.05))),
        spread_s=0.001,
        max_rel_diff=1e-7,
    )
    return Plan(
        model="m.onnx",
        model_digest="0" * 64,
        device=machine_facts("device", source="scaled", speed=0.1),
        server=machine_facts("server"),
        link=LinkProfile(rate_bytes_per_s=125e3, rtt_s=0.02),
        asked=Asked(objective=Objective(kind="weighted", alpha=1.0, beta=2.0), deadline_s=0.1),
        device_costs=costs,
        server_costs=costs,
        energy="board",
        searched=Searched(how="weighed 2", considered=2, proven=True),
        assumption=BottleneckAssumption(),
        rules=BottleneckRules(),
        candidates=(local, bottleneck),
        pareto=(0, 1),
        choice=Choice(
            kind="bottleneck",
            cut="b0",
            module="layer1",
            candidate=1,
            total_s=0.04,
            gain=2.5,
            deadline_met=True,
            reason="because",
        ),
    )


def test_a_plan_reads_back_as_it_was(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_plan(path, plan)
    assert read_plan(path) == plan
    assert read_plan(path).candidates[1].cut == "b0"
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


def test_measured_times_come_before_predicted_ones(plan: Plan) -> None:
    assert plan.candidates[0].times.device_s == 0.1
    assert plan.candidates[1].times.total_s == pytest.approx(0.04)
    assert StageTimes(device_s=1.0, link_s=None, server_s=1.0).total_s is None


def test_a_cut_is_named_by_its_tensors(plan: Plan) -> None:
    local, bottleneck = plan.candidates
    assert (local.cut, bottleneck.cut, bottleneck.assumed) == (None, "b0", True)
    two = msgspec.structs.replace(bottleneck, kind="split", frontier=bottleneck.frontier * 2)
    assert (two.cut, two.assumed) == ("b0+b0", False)


def refused(path: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        read_plan(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_a_missing_plan(tmp_path: Path) -> None:
    assert "make one with 'isthmus partition'" in refused(tmp_path / "plan.json")


def test_a_plan_cut_short_anywhere(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_plan(path, plan)
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        assert "not a valid plan" in refused(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 1}, "plan version 1, this Isthmus reads 2; run 'isthmus partition' again"),
        ({"pareto": [7]}, "the Pareto set names a candidate beyond 2"),
        ({"model_digest": "abc"}, "not a valid plan"),
        ({"unknown": 1}, "not a valid plan"),
        ({"link": {"rate_bytes_per_s": -1.0, "rtt_s": 0.0}}, "not a valid plan"),
        ({"asked": {"objective": {"kind": "beauty"}}}, "not a valid plan"),
    ],
)
def test_a_damaged_plan(plan: Plan, tmp_path: Path, change: dict[str, object], reason: str) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(msgspec.json.encode({**msgspec.to_builtins(plan), **change}))
    assert reason in refused(path)


def test_a_choice_that_is_not_its_candidate(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_plan(path, msgspec.structs.replace(plan, choice=msgspec.structs.replace(plan.choice, candidate=0)))
    assert "the choice (bottleneck at b0) is not its candidate (local at None)" in refused(path)
    write_plan(path, msgspec.structs.replace(plan, choice=msgspec.structs.replace(plan.choice, candidate=2)))
    assert "the choice is candidate 2 of 2" in refused(path)
    empty = msgspec.structs.replace(plan.candidates[1], frontier=())
    write_plan(path, msgspec.structs.replace(plan, candidates=(plan.candidates[0], empty)))
    assert "a bottleneck candidate has 0 tensors" in refused(path)


def test_a_plan_that_cannot_be_written(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose another file for the plan"):
        write_plan(tmp_path / "no" / "plan.json", plan)
