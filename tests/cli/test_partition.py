import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from isthmus.cli import run
from isthmus.partitioner import read_plan

QUICK = ("--budget", "200ms")


@pytest.fixture(scope="module")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three convolutions on 8x8 grey images, mean, dense: 3 classes."""
    rng = np.random.default_rng(0)
    nodes, weights, x, inside = [], [], "image", 1
    for index, outside in enumerate((8, 8, 4)):
        kernel = rng.standard_normal((outside, inside, 3, 3)).astype(np.float32) * 0.5
        weights.append(numpy_helper.from_array(kernel, f"w{index}"))
        nodes += [
            helper.make_node("Conv", [x, f"w{index}"], [f"conv{index}"], pads=[1] * 4),
            helper.make_node("Relu", [f"conv{index}"], [f"relu{index}"]),
        ]
        x, inside = f"relu{index}", outside
    weights.append(numpy_helper.from_array(rng.standard_normal((4, 3)).astype(np.float32), "fc"))
    nodes += [
        helper.make_node("ReduceMean", [x], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "fc"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        initializer=weights,
    )
    path = tmp_path_factory.mktemp("models") / "grey.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def fails(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return `fails(*arguments)`, which demands exit code 3 and returns the one line on standard error."""

    def check(*arguments: str) -> str:
        assert run(["partition", *arguments]) == 3
        captured = capfd.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    return check


def test_a_table_a_sentence_and_a_plan(
    network_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan_file = tmp_path / "plan.json"
    arguments = ["--rate", "1Mbit", "--rtt", "20ms", "--device-speed", "0.1", "--deadline", "100ms"]
    folder = tmp_path / "halves"
    files = ["--out", str(plan_file), "--heads-and-tails", str(folder)]
    assert run(["partition", str(network_file), *arguments, *files, *QUICK, "--measured-cuts", "2"]) == 0
    text = capfd.readouterr().out
    assert all(len(line) <= 80 for line in text.splitlines() if str(plan_file) not in line)
    assert "grey.onnx: 7 cuts; device = this machine at 0.1x its speed (scaled), 1 thread" in text
    for title in ("bytes", "head ms", "link ms", "tail ms", "total ms"):
        assert title in text
    assert "Do not split: run all of it on the device" in text
    plan = read_plan(plan_file)
    assert plan.choice.kind == "local"
    assert plan.device.source == "scaled"
    assert plan.link.rate_bytes_per_s == 125e3
    measured = {item.cut for item in plan.candidates if item.measured is not None and item.cut is not None}
    assert len(measured) == 2
    assert {entry.name for entry in folder.iterdir()} == measured


def test_json_is_the_plan(network_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plan_file = tmp_path / "plan.json"
    arguments = ["--measured-cuts", "0", "--json", "--out", str(plan_file), "--rate", "0bit"]
    assert run(["partition", str(network_file), *arguments, *QUICK]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result == json.loads(plan_file.read_text())
    assert result["candidates"][1]["predicted"]["link_s"] is None
    assert result["choice"]["kind"] == "local"


def test_real_images_tell_what_jpeg_takes(
    network_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(5) % 2)
    arguments = [
        "--dataset",
        f"npz:{tmp_path / 'images.npz'}",
        "--jpeg-quality",
        "50",
        "--measured-cuts",
        "1",
    ]
    assert run(["partition", str(network_file), *arguments, *QUICK, "--out", str(tmp_path / "p.json")]) == 0
    assert "jpeg q50" in capfd.readouterr().out


def test_a_torch_network_gets_module_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    plan_file, onnx_file = tmp_path / "plan.json", tmp_path / "kept.onnx"
    arguments = ["--model", "digits-cnn", "--classes", "10", "--image", "32x32x1", "--choose", "bottleneck"]
    files = ["--out", str(plan_file), "--keep-onnx", str(onnx_file)]
    assert run(["partition", *arguments, *files, *QUICK, "--measured-cuts", "1"]) == 0
    plan = read_plan(plan_file)
    assert plan.choice.kind == "bottleneck"
    from isthmus.models.backbones import make_model
    from isthmus.models.cutting import split_at

    assert plan.choice.module is not None
    split_at(make_model("digits-cnn", 10, 1), plan.choice.module)
    assert f"(module {plan.choice.module})" in capfd.readouterr().out.replace("\n", "")
    assert plan.choice.cut in {name for node in onnx.load(onnx_file).graph.node for name in node.output}


def test_wrong_input_is_one_line(network_file: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    file, out = str(network_file), ("--out", str(tmp_path / "plan.json"))
    missing, text = tmp_path / "none.onnx", tmp_path / "text.onnx"
    text.write_text("not a model\n")
    short = tmp_path / "short.onnx"
    short.write_bytes(network_file.read_bytes()[:300])
    assert fails(str(missing), *out) == f"{missing}: No such file or directory; give an ONNX file"
    assert fails(str(text), *out).startswith(f"{text}: not an ONNX model, or cut short")
    assert fails(str(short), *out).startswith(f"{short}: not an ONNX model, or cut short")
    assert fails(file, "--rate", "-1Mbit").startswith("rate '-1Mbit' is not a number with a unit")
    assert fails(file, "--rtt", "20").startswith("duration '20' is not a number with a unit")
    assert (
        fails(file, "--device-speed", "-2") == "device: speed -2.0 is not above 0; 0.1 means ten times slower"
    )
    assert fails(file, "--allow", "relu9", *out) == (
        "grey.onnx: no tensor 'relu9' in its data flow; it can be cut at e.g. relu2, relu1, relu0"
    )
    assert fails(file, "--bottleneck-bytes", "0").endswith("0 payload bytes; give at least 1")
    assert fails(file, "--weights", "w.pt") == (
        "--weights, --classes, --image and --keep-onnx belong to --model, not to an ONNX file"
    )
    assert fails() == "give either MODEL.onnx or --model NAME, one of them"
    assert fails("--model", "digits-cnn") == "--model needs --dataset, or --classes N with --image HxWxC"
    assert fails("--model", "digits-cnn", "--classes", "3", "--image", "32") == (
        "--image '32': give height, width and channels, e.g. 32x32x3"
    )
    assert fails(file, *QUICK, "--measured-cuts", "0", "--out", str(tmp_path / "no" / "plan.json")).endswith(
        "No such file or directory; choose another file for the plan"
    )
