"""Tables on a terminal of 80 columns: every verb that prints one, with cells as long as they get."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from isthmus.cli import run
from isthmus.cli._common import out
from isthmus.runtime.bundle import OperatingPoint, load_bundle

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """Return `lines()`, what stands on standard output; each call checks that rows of tables fit 80 columns.

    Sentences may be longer: the terminal wraps them, and a pipe gets them whole. They have no double spaces.
    """
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()

    def lines() -> list[str]:
        found = capsys.readouterr().out.splitlines()
        assert found
        assert not [line for line in found if "  " in line.strip() and cell_len(line) > 80]
        return found

    return lines


@pytest.fixture
def long_names(tmp_path: Path) -> Path:
    """Return an ONNX network whose tensors have names that no table has room for."""
    onnx = pytest.importorskip("onnx", reason="needs the extra 'partition'")
    helper, rng = onnx.helper, np.random.default_rng(0)
    kernel = onnx.numpy_helper.from_array(rng.standard_normal((2, 1, 3, 3)).astype(np.float32), "w")
    dense = onnx.numpy_helper.from_array(rng.standard_normal((2, 3)).astype(np.float32), "fc")
    name = "/backbone/encoder/stages.3/blocks.11/attention/projection"
    nodes = [
        helper.make_node("Conv", ["image", "w"], [f"{name}/Conv_output_0"]),
        helper.make_node("Relu", [f"{name}/Conv_output_0"], [f"{name}/Relu_output_0"]),
        helper.make_node("ReduceMean", [f"{name}/Relu_output_0"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "fc"], ["logits"]),
    ]
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", kind, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", kind, ["n", 3])],
        initializer=[kernel, dense],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "long.onnx")
    return tmp_path / "long.onnx"


def test_agent(printed: Callable[[], list[str]]) -> None:
    from isthmus.cli._agent_table import _COLUMNS, AgentView

    view = AgentView(out, out, widths=(0.25, 1.0), table=True, notes=False)
    cells = ("86400 s", "15.7 kB/s", "0.25×128", "99999", "39.3 ms", "dropped", "120", "99", "99", "9", "120")
    assert len(cells) == len(_COLUMNS)
    view._line(tuple(_COLUMNS))
    view._line(cells)
    head, row = printed()
    assert head.split() == list(_COLUMNS)
    assert row.split() == " ".join(cells).split()
    view._rows.append(cells)
    out.print(view._render())
    live = printed()
    assert any(line.split() == " ".join(cells).split() for line in live)


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.json")), ids=lambda file: file.stem)
def test_bench_shows_every_stored_result_whole(file: Path, printed: Callable[[], list[str]]) -> None:
    from isthmus.cli._figures import figure_table

    record = json.loads(file.read_text())
    out.print(figure_table(f"{record['name']}: figures", record["figures"]))
    out.print(figure_table(f"{record['name']}: ratios", record["ratios"]))
    assert not any("…" in line for line in printed())


def test_export_and_eval(tiny_bundle: Path, printed: Callable[[], list[str]]) -> None:
    from isthmus.cli.eval import _print as print_evaluation
    from isthmus.cli.export import _print as print_bundle
    from isthmus.device_agents.evaluate import Evaluation, PointScore, share_of

    bundle = load_bundle(tiny_bundle)
    print_bundle(bundle, 123.4)
    assert not any("…" in line for line in printed())
    share = share_of(4321, 10_000)
    score = PointScore(
        point=OperatingPoint(width_index=0, channels=128),
        accuracy=share,
        bytes_mean=12_345.6,
        bytes_p95=23_456.7,
        bytes_max=123_456,
        head_s=1.23456,
        agreement=share,
        answers=np.zeros(1, np.int64),
    )
    print_evaluation(
        bundle,
        Evaluation(
            images="photos (test)",
            count=10_000,
            server="isthmus 0.1.0",
            points=(score,),
            exits=(share,),
            local=share,
            codec="rans",
        ),
    )
    rows = printed()
    assert not any("…" in line for line in rows)
    assert "123456" in rows[1]


def test_train(printed: Callable[[], list[str]]) -> None:
    pytest.importorskip("torch", reason="needs the extra 'train'")
    from isthmus.cli._train_output import _print_points
    from isthmus.models.evaluate import Evaluation
    from isthmus.runtime.datasets import ImageSet

    images = ImageSet(
        name="a-data-set-with-a-name-of-some-length (test)",
        images=np.zeros((1, 4, 4, 1), np.uint8),
        labels=np.zeros(1, np.int64),
        classes=("a",),
    )
    row = {"width": 0.123, "channels": 128, "accuracy": 0.999, "agreement": 1.0, "entropy_bytes": 123_456.7}
    _print_points(Evaluation(teacher=0.987, points=(), exits=(0.1, 0.2, 0.3, 0.4)), images, [row])
    rows = printed()
    assert any("123457" in line for line in rows)
    assert not any("…" in line for line in rows)


def test_partition_and_profile(long_names: Path, tmp_path: Path, printed: Callable[[], list[str]]) -> None:
    plan, machine = str(tmp_path / "plan.json"), str(tmp_path / "machine.json")
    quick = ["--budget", "50ms", "--dim", "n=1"]
    assert run(["partition", str(long_names), *quick, "--measured-cuts", "1", "--out", plan]) == 0
    rows = [line for line in printed() if "MB" in line or "split" in line]
    assert rows
    assert rows[0].split()[-1] == "MB"
    assert run(["partition", "profile", str(long_names), *quick, "--out", machine]) == 0
    assert any(line.split()[-1] == "Mflop" for line in printed())


def test_simulate(tiny_bundle: Path, tmp_path: Path, printed: Callable[[], list[str]]) -> None:
    trace = tmp_path / "a-recorded-trace-with-a-long-name-2026-11-21.up"
    trace.write_text("".join(f"{ms}\n" for ms in range(1, 2000, 9)))
    policies = ["--policy", "expected-utility", "--policy", "slimmable-loop"]
    run_once = ["--duration", "2s", "--fps", "10", "--seeds", "2", "--jobs", "1"]
    assert run(["simulate", str(tiny_bundle), "--trace", str(trace), *policies, *run_once]) == 0
    rows = printed()
    assert rows[0].split() == ["trace", "policy", "deadline", "utility", "regret", "hits", "server", "sent"]
    told = [line for line in rows if "expected-utility" in line or "slimmable-loop" in line]
    assert len(told) == 2
    assert not any("…" in line for line in rows)


def test_simulate_fleet(tiny_bundle: Path, printed: Callable[[], list[str]]) -> None:
    tail = ["--tail-frame", "1ms", "--tail-batch", "4ms"]
    fleet = ["simulate", "fleet", str(tiny_bundle), "--devices", "1000", *tail]
    assert run([*fleet, "--duration", "1s", "--jobs", "1"]) == 0
    rows = printed()
    assert rows[0].split()[:4] == ["devices", "a", "server", "servers"]
    assert not any("…" in line for line in rows)


def test_profile(tiny_bundle: Path, synthetic_run: Any, printed: Callable[[], list[str]]) -> None:
    short = ["--duration", "100ms", "--warm-up", "100ms", "--energy", "none"]
    assert run(["profile", str(tiny_bundle), "--point", "3,4", *short]) == 0
    rows = printed()
    assert any({"head", "total"} <= set(line.split()) for line in rows)
    assert not any("…" in line for line in rows if "  " in line)
    assert run(["profile", "events", str(synthetic_run.folder / "events.jsonl")]) == 0
    assert any("head" in line.split() for line in printed())
