import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from isthmus.cli import run
from isthmus.runtime.machines import load_machine


def make_network(path: Path, width: int) -> Path:
    """Two convolutions on 8x8 grey images, mean, dense: 3 classes."""
    rng = np.random.default_rng(width)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["first"], pads=[1] * 4),
        helper.make_node("Relu", ["first"], ["bent"]),
        helper.make_node("Conv", ["bent", "w1"], ["second"], pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["second"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "fc"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        initializer=[weight("w0", width, 1, 3, 3), weight("w1", 4, width, 3, 3), weight("fc", 4, 3)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    return make_network(tmp_path / "grey.onnx", 8)


@pytest.fixture
def profiled(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return `profiled(*arguments)`, which succeeds and returns what is on standard output."""

    def check(*arguments: object) -> str:
        assert run(["partition", "profile", *map(str, arguments), "--budget", "100ms"]) == 0
        return capfd.readouterr().out

    return check


def test_profile_writes_a_machine(profiled: Callable[..., str], grey: Path, tmp_path: Path) -> None:
    file = tmp_path / "laptop.json"
    said = profiled(grey, "--out", file, "--name", "laptop")
    machine = load_machine(file)
    (costs,) = machine.networks.values()
    assert machine.name == "laptop"
    assert set(costs.node_s) == {"first", "bent", "second", "pooled", "flat", "logits"}
    assert "1 thread, cpu clock" in said
    assert "second" in said
    assert said.splitlines()[-1].endswith("laptop.json: laptop, 1 network")
    assert max(map(len, said.splitlines()[:-1])) <= 80


def test_profile_adds_to_the_machine(profiled: Callable[..., str], grey: Path, tmp_path: Path) -> None:
    file = tmp_path / "laptop.json"
    profiled(grey, "--out", file)
    wide = make_network(tmp_path / "wide.onnx", 16)
    assert "2 networks" in profiled(wide, "--out", file)
    profiled(wide, "--out", file)  # again: its costs are replaced, not added
    assert sorted(costs.model for costs in load_machine(file).networks.values()) == ["grey.onnx", "wide.onnx"]


def test_json_is_the_profile(profiled: Callable[..., str], grey: Path, tmp_path: Path) -> None:
    file = tmp_path / "laptop.json"
    assert json.loads(profiled(grey, "--out", file, "--json")) == json.loads(file.read_text())


def test_the_default_command_is_the_plan(grey: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    assert run(["partition", str(grey), "--measured-cuts", "0", "--budget", "100ms", "--out", str(plan)]) == 0
    assert json.loads(plan.read_text())["model"] == "grey.onnx"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--threads", "2"), "laptop.json: was made with threads 1, this would be 2; choose another --out"),
        (("--provider", "tensorrt"), "provider 'tensorrt': this ONNX Runtime has "),
        (("--budget", "9"), "duration '9' is not a number with a unit"),
        (("--model", "digits-cnn"), "give either MODEL.onnx or --model NAME, one of them"),
    ],
)
def test_wrong_use_is_one_line(
    profiled: Callable[..., str],
    grey: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    says: str,
) -> None:
    file = tmp_path / "laptop.json"
    profiled(grey, "--out", file)
    before = file.read_bytes()
    assert run(["partition", "profile", str(grey), "--out", str(file), *arguments]) in (3, 4)
    (line,) = capfd.readouterr().err.splitlines()
    assert says in line
    assert file.read_bytes() == before


def test_a_file_that_is_no_profile_is_kept(
    grey: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "notes.json"
    file.write_text('{"schema_version": 7}')
    assert run(["partition", "profile", str(grey), "--out", str(file)]) == 4
    assert "machine profile version 7" in capfd.readouterr().err
    assert file.read_text() == '{"schema_version": 7}'
