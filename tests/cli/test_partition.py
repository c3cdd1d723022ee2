import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from isthmus.cli import run
from isthmus.partitioner import Plan, read_plan
from isthmus.runtime.machines import MachineProfile, NetworkCosts, write_machine

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
    """Return `fails(*arguments, code=3)`, which demands that exit code and returns the one line of error."""

    def check(*arguments: str, code: int = 3) -> str:
        assert run(["partition", *arguments]) == code
        captured = capfd.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    return check


@pytest.fixture
def ways(network_file: Path, tmp_path: Path) -> Callable[..., Plan]:
    """Return `ways(*arguments)`, which plans for two reference machines and reads the plan back."""

    def check(*arguments: str) -> Plan:
        plan_file = tmp_path / "plan.json"
        machines = ["--device", "pi4", "--server", "cloud-6700k"]
        line = ["partition", str(network_file), *machines, "--measured-cuts", "0", "--out", str(plan_file)]
        assert run([*line, *arguments]) == 0
        return read_plan(plan_file)

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
    assert "grey.onnx: 7 single-tensor cuts; link 125 kB/s, RTT 20 ms" in text
    assert "device = this machine at 0.1x its speed (scaled), 1 thread\n" in text
    assert "server = this machine, 1 thread\n" in text
    for title in ("bytes", "head ms^", "link ms", "tail ms ", "total ms", " J ", " MB"):
        assert title in text
    assert "Do not split: run all of it on the device" in text
    assert "it meets the deadline of 100 ms" in " ".join(text.split())
    plan = read_plan(plan_file)
    assert plan.choice.kind == "local"
    assert plan.device.source == "scaled"
    assert plan.link.rate_bytes_per_s == 125e3
    measured = {item.cut for item in plan.candidates if item.measured is not None and item.cut is not None}
    assert len(measured) == 2
    assert {entry.name for entry in folder.iterdir()} == measured


def test_reference_machines_say_where_their_times_come_from(
    ways: Callable[..., Plan], capfd: pytest.CaptureFixture[str]
) -> None:
    plan = ways("--power", "2.7,3.7,0.8", "--objective", "energy", "--memory", "1MB", "--link", "8Mbit")
    text = capfd.readouterr().out
    assert "device = pi4 (scaled: estimated from its speeds by class of operators)" in text
    assert "~ predicted, not run on that machine" in " ".join(text.split())
    assert "^ scaled or published, not measured there" in " ".join(text.split())
    assert all(len(line) <= 80 for line in text.splitlines() if "plan.json" not in line)
    assert plan.asked.objective.kind == "energy"
    assert plan.asked.device_memory_bytes == 10**6
    assert plan.link.rate_bytes_per_s == 1e6
    assert plan.candidates[0].figures.energy_j == pytest.approx(6.4 * plan.candidates[0].times.device_s)
    assert f"{plan.candidates[0].figures.energy_j:.2g}" in text


def test_constraints_reach_the_plan(ways: Callable[..., Plan], capfd: pytest.CaptureFixture[str]) -> None:
    plan = ways("--no-raw-input", "--pin", "conv0=device", "--pin", "MatMul=server", "--allow", "relu1")
    assert plan.asked.no_raw_input
    assert plan.asked.pins == {"conv0": "device", "logits": "server"}
    assert plan.asked.allowed == (("relu1",),)
    assert plan.choice.cut == "relu1"
    text = " ".join(capfd.readouterr().out.split())
    assert "ruled out: local (logits has to run on the server)" in text
    assert "ruled out: uint8 (the input may not leave the device)" in text
    assert "neither end alone keeps the constraints" in text
    plan = ways("--objective", "weighted:2,0", "--choose", "bottleneck")
    assert (plan.asked.objective.alpha, plan.asked.choose) == (2.0, "bottleneck")
    assert plan.choice.kind == "bottleneck"


def test_a_trace_prints_its_spread(ways: Callable[..., Plan], capfd: pytest.CaptureFixture[str]) -> None:
    plan = ways("--trace", "step:1Mbit@5s,20kbit@5s", "--deadline", "30ms", "--pin", "logits=server")
    text = capfd.readouterr().out
    assert "over the trace: 50% within" in text
    assert "on time" in text
    assert all(len(line) <= 80 for line in text.splitlines() if "plan.json" not in line)
    trace = plan.link.trace
    assert trace is not None
    assert trace.name.startswith("step:")
    assert 0 < plan.candidates[1].figures.on_time < 1


def test_json_is_the_plan(network_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plan_file = tmp_path / "plan.json"
    arguments = ["--measured-cuts", "0", "--json", "--out", str(plan_file), "--rate", "0bit"]
    assert run(["partition", str(network_file), *arguments, *QUICK]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result == json.loads(plan_file.read_text())
    assert result["schema_version"] == 2
    assert result["candidates"][1]["predicted"]["link_s"] is None
    assert result["choice"]["kind"] == "local"


def test_a_plot_is_a_picture(ways: Callable[..., Plan], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, start in (("plan.png", b"\x89PNG"), ("plan.svg", b"<?xml")):
        ways("--plot", str(tmp_path / name))
        assert (tmp_path / name).read_bytes().startswith(start)


def test_a_symbolic_dimension_gets_its_size(
    tmp_path: Path, fails: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Exp", ["a"], ["y"])],
            "words",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, "words"])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, "words"])],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    file, plan_file = tmp_path / "words.onnx", tmp_path / "plan.json"
    onnx.save(model, file)
    quick = [str(file), "--device", "pi4", "--server", "pi4", "--measured-cuts", "0", "--out", str(plan_file)]
    assert run(["partition", *quick, "--dim", "words=12"]) == 0
    assert read_plan(plan_file).candidates[1].payload_bytes == 4 * 4 * 12
    capfd.readouterr()
    assert fails(*quick, "--dim", "wurds=12") == (
        "words.onnx: no input has a dimension 'wurds'; symbolic are n, words"
    )
    assert fails(*quick, "--dim", "words") == (
        "--dim 'words': give NAME=N, a symbolic dimension and its size"
    )


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


def test_files_that_are_no_network(network_file: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    out = ("--out", str(tmp_path / "plan.json"))
    missing, text = tmp_path / "none.onnx", tmp_path / "text.onnx"
    text.write_text("not a model\n")
    short = tmp_path / "short.onnx"
    short.write_bytes(network_file.read_bytes()[:300])
    assert fails(str(missing), *out) == f"{missing}: No such file or directory; give an ONNX file"
    assert fails(str(text), *out).startswith(f"{text}: not an ONNX model, or cut short")
    assert fails(str(short), *out).startswith(f"{short}: not an ONNX model, or cut short")
    model = onnx.load(network_file)
    model.graph.node[0].input[0] = "relu2"
    cyclic = tmp_path / "cyclic.onnx"
    onnx.save(model, cyclic)
    line = fails(str(cyclic), *out)
    assert line.startswith(f"{cyclic}: its graph has a cycle, 'conv0' -> ")


def test_wrong_flags_are_one_line(network_file: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    file, out = str(network_file), ("--out", str(tmp_path / "plan.json"))
    assert fails(file, "--rate", "-1Mbit") == (
        "rate '-1Mbit' is not a number with a unit; write it as 1.5Mbit, 200kbit or 300kB (per second)"
    )
    assert fails(file, "--rtt", "20").startswith("duration '20' is not a number with a unit")
    assert (
        fails(file, "--device-speed", "-2") == "device: speed -2.0 is not above 0; 0.1 means ten times slower"
    )
    assert fails(file, "--allow", "relu9", *out) == (
        "grey.onnx: no tensor 'relu9' in its data flow; it can be cut at e.g. relu2, relu1, relu0"
    )
    assert fails(file, "--pin", "conv0") == "--pin 'conv0': give NAME=device or NAME=server"
    assert fails(file, "--pin", "conv9=device").startswith("grey.onnx: no node makes 'conv9'")
    assert fails(file, "--rate", "1Mbit", "--trace", "outage") == (
        "--rate and --trace: give one of them, the trace has its own rates"
    )
    assert fails(file, "--objective", "beauty") == (
        "--objective 'beauty': give latency, energy, throughput, on-time or weighted:ALPHA,BETA "
        "(ALPHA x seconds + BETA x joules)"
    )
    assert fails(file, "--objective", "energy") == (
        "device: its watts of computing are unknown, so energy is no objective; "
        "give --power IDLE,COMPUTE,TRANSMIT or add them to its profile"
    )
    assert fails(file, "--power", "3") == (
        "--power '3': give IDLE,COMPUTE,TRANSMIT in watts, the last two above idle, as 2.7,3.7,0.8"
    )
    assert fails(file, "--memory", "64") == (
        "size '64' is not a number with a unit; write it as 512kB, 64MB or 1.5GB"
    )
    assert fails(file, "--bottleneck-bytes", "0").endswith("0 payload bytes; give at least 1")
    picture = tmp_path / "plan.gif"
    assert fails(file, "--plot", str(picture)) == (
        f"--plot {picture}: give a file that ends in .png, .svg, .pdf"
    )
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


def test_machines_and_traces_that_cannot_be_used(
    network_file: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    file = str(network_file)
    assert fails(file, "--device", "pi9", code=4) == (
        "pi9: No such file or directory; give a file of 'isthmus partition profile', "
        "or one of: cloud-6700k, edge-2500, jetson-nano, laptop, orin-nano, pi4, pi5, server-gpu"
    )
    assert fails(file, "--device", "pi4", "--device-speed", "0.5") == (
        "--device-speed scales this machine; pi4 has its own times, leave it out"
    )
    profile = MachineProfile(
        name="board", origin="A test.", source="measured", processor="a", provider="b",
        backend="c", threads=1, networks={"0" * 64: NetworkCosts(
            host="a", backend="c", clock="cpu", threads=1, rounds=9, whole_s=1.0, whole_spread_s=0.0,
            kernel_sum_s=1.0, node_s={"y": 1.0}, model="other.onnx",
        )},
    )  # fmt: skip
    board = tmp_path / "board.json"
    write_machine(board, profile)
    assert fails(file, "--device", str(board), code=4) == (
        "board: knows other.onnx, not grey.onnx, and has no speed of 'conv' operators to estimate it; "
        "run 'isthmus partition profile grey.onnx' there"
    )
    assert fails(file, "--device", str(board), "--threads", "2") == (
        f"{board}: was measured with 1 threads, not 2; leave the flag out"
    )
    trace = tmp_path / "link.trace"
    trace.write_text("1.0 -3\n")
    assert fails(file, "--trace", str(trace)).startswith(f"{trace}")
    missing = tmp_path / "none.trace"
    assert fails(file, "--trace", str(missing)).startswith(f"trace '{missing}': No such file or directory; ")
    assert fails(file, "--bundle", str(tmp_path), code=4).startswith(f"{tmp_path}")


def test_an_old_plan_is_refused_with_the_remedy(
    ways: Callable[..., Plan], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ways()
    plan_file = tmp_path / "plan.json"
    old = {**json.loads(plan_file.read_text()), "schema_version": 1}
    plan_file.write_text(json.dumps(old))
    pytest.importorskip("torch")
    capfd.readouterr()
    arguments = ["--dataset", "digits", "--plan", str(plan_file), "--out", str(tmp_path / "train")]
    assert run(["train", *arguments]) == 4
    assert capfd.readouterr().err.splitlines() == [
        f"error: {plan_file}: plan version 1, this Isthmus reads 2; run 'isthmus partition' again"
    ]
