"""Every benchmark runs, quickly, and its figures are what its docstring says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.cli import run

DATA = Path(os.environ.get("ISTHMUS_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    def call(name: str, **options: object) -> dict[str, Any]:
        file = tmp_path / "figures.json"
        given = [part for key, value in options.items() for part in ("--option", f"{key}={value}")]
        assert run(["bench", name, "--quick", *given, "--json", str(file)]) == 0
        result: dict[str, Any] = json.loads(file.read_text())
        assert {"name", "command", "host", "versions", "figures", "ratios"} <= set(result)
        return result

    return call


@pytest.fixture
def image_file(tiny_images: Any, tmp_path: Path) -> str:
    images, labels = tiny_images
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    return f"npz:{tmp_path / 'images.npz'}"


@pytest.mark.slow
def test_codec(bench: Any, tiny_bundle: Path, image_file: str) -> None:
    result = bench("codec", bundle=tiny_bundle, dataset=image_file)
    ratios = result["ratios"]
    assert result["figures"]["bundle"]["symbols"] == 4 * 4 * 4
    # Bytes do not depend on the machine's load: the coder's target holds in every run.
    assert 1.0 <= ratios["16x8x8"]["rans_body_over_table_entropy"] <= 1.02


def test_switching(bench: Any) -> None:
    ratios = bench("switching")["ratios"]
    assert all(
        width["reload_over_switch"]["median"] > 1.0 for case in ratios.values() for width in case.values()
    )


@pytest.mark.slow
def test_profiler(bench: Any, tiny_bundle: Path) -> None:
    result = bench("profiler", bundle=tiny_bundle)
    figures, ratios = result["figures"], result["ratios"]
    assert ratios["gap_over_target"] <= 1
    ahead_s = figures["breakdown"]["shifted_clock"]["clock_offset_s"]
    assert ahead_s == pytest.approx(86_400.25, abs=1.0)
    assert abs(figures["breakdown"]["same_clock"]["clock_offset_s"]) < 1.0
    assert 0 < figures["log_frame_s"]["median"] <= figures["log_frame_s"]["p99"]
    assert set(figures["frames_per_s"]) == {"bare", "profiled"}


@pytest.mark.slow
def test_cuts(bench: Any, tmp_path: Path) -> None:
    result = bench("cuts", folder=tmp_path)
    for ratios in result["ratios"].values():
        assert ratios["valid_over_cuts"] == 1
        assert ratios["worst_diff_over_target"] <= 1
        # Outputs that do not depend on the input, or on what crosses, would agree as well.
        assert ratios["change_by_input_over_target"] > 1000
        assert ratios["swaps_noticed_over_tried"] == 1
    assert any(figures["several_tensors"] for figures in _networks(result))
    assert all(figures["swaps_tried"] > 0 for figures in _networks(result))


def test_prediction(bench: Any, tmp_path: Path) -> None:
    result = bench("prediction", folder=tmp_path)
    (network,) = (name for name in result["figures"] if name != "all")
    figures, overall = result["figures"][network], result["figures"]["all"]
    assert overall["single_tensor_cuts"] == 2
    assert len(figures["cuts"]) == overall["single_tensor_cuts"] + overall["node_sets"]
    for cut in figures["cuts"].values():
        for part in ("head", "tail", "sum"):
            predicted, measured = cut[f"{part}_predicted_ms"], cut[f"{part}_measured_ms"]
            assert cut[f"{part}_error"] == pytest.approx(predicted / measured - 1)
        assert cut["sum_measured_ms"] == pytest.approx(cut["head_measured_ms"] + cut["tail_measured_ms"])
    pooled = overall["errors"]["pooled"]
    assert 0 <= pooled["median"] <= pooled["p90"] <= pooled["max"]
    # Two cuts on a busy machine prove no target, but a prediction is no guess either.
    assert overall["at_equal_speed"]["sum"]["median"] < 1


def _networks(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for value in result["figures"].values() if isinstance(value, dict)]


def test_accuracy(bench: Any, tiny_bundle: Path, image_file: str) -> None:
    figures = bench("accuracy", bundle=tiny_bundle, dataset=image_file)["figures"]
    assert figures["images"] == 48
    widest = figures["points"]["width 1, 4 channels"]
    assert widest["accuracy_low"] < widest["accuracy"] <= widest["accuracy_high"]
    assert widest["accuracy"] > 0.5


@pytest.mark.data
@pytest.mark.parametrize("split", ["report", "tune"])
def test_adaptation(bench: Any, split: str) -> None:
    if not (DATA / "traces" / "mahimahi").is_dir():
        pytest.skip("needs the recorded uplinks (ISTHMUS_DATA or ../shared/data)")
    figures = bench("adaptation", split=split)["figures"]
    if split == "tune":
        assert 0.0 < figures["expected_utility"]["defaults"]["mean_regret"] < 0.2
        return
    regrets = {policy: figure["mean_regret"] for policy, figure in figures["policies"].items()}
    # Five seconds are too short for targets, but not for a regret below 0, which no policy can have.
    assert all(0.0 <= regret < 0.5 for regret in regrets.values())
    assert regrets["expected-utility"] < 0.7 * min(regrets["slimmable-loop"], regrets["fixed:0,1"])
    hits = figures["published_points"]["deadline_hit_share"]["300 ms"]
    assert hits["slimmable-loop"]["all"] < hits["expected-utility"]["all"] <= hits["clairvoyant"]["all"]


def test_partition(bench: Any) -> None:
    result = bench("partition")
    figures = result["figures"]
    # Cut and enumeration agreed wherever both had an answer; the run would have failed otherwise.
    assert figures["cuts_that_equal_enumeration"] > 40
    assert figures["branches"]["64 nodes"]["everything"]["pareto_exact"] is True
    assert figures["tangle"]["64 nodes"]["latency_ms"]["median"] > 0
    assert figures["chain"]["64 nodes"]["latency_peak_mb"] < 5


@pytest.mark.slow
def test_agent(bench: Any, tiny_bundle: Path, image_file: str) -> None:
    result = bench("agent", bundle=tiny_bundle, source=image_file)
    table = result["figures"]["frames"]["100_fps"]["fixed"]
    # The parts make the whole, up to the median of a sum not being the sum of medians.
    parts = sum(table[part]["median"] for part in ("clock_s", "encode_s", "handling_s"))
    assert 0.3 < parts / table["overhead_s"]["median"] < 3
    assert table["frames"] > 30
    assert 0 < table["grpc_s"]["median"] < table["link_s"]["median"]
    processes = result["figures"]["processes"]["100_fps"]
    assert 0 < processes["agent"]["core_share"]["median"] < 2
    assert result["ratios"]["100_fps"]["agent_over_heads_rss"] > 1


@pytest.mark.parametrize("arguments", [["accuracy"], ["agent"]])
def test_options_that_belong_together(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", *arguments, "--quick"]) == 3
    assert "--option bundle=DIR" in capsys.readouterr().err


@pytest.mark.slow
def test_fleet(bench: Any, tiny_bundle: Path) -> None:
    result = bench("fleet", bundle=tiny_bundle, jobs=1)
    growth = result["figures"]["growth"]
    assert [run["frames"] for run in growth.values()] == [60_000, 600_000]
    for name, ratios in result["ratios"]["exact"].items():
        for figure, ratio in ratios.items():
            assert ratio == pytest.approx(1.0, abs=0.1), (name, figure)
    (live,) = (cell for name, cell in result["figures"]["live"].items() if name.endswith("_streams"))
    assert live["live"]["throughput_per_s"] > 0


def test_live_simulated(bench: Any, tiny_bundle: Path, image_file: str) -> None:
    link = {"traces": "constant:20kB", "policies": "fixed:3,4", "seconds": 2}
    result = bench("live_simulated", bundle=tiny_bundle, source=image_file, **link)
    (cell,) = result["figures"]["cells"].values()
    for side in ("live", "simulated"):
        assert sum(cell[side]["outcomes"].values()) == pytest.approx(1.0)
    # Nothing of how the machine fares, but a simulator that lost its thread would not come near.
    assert result["ratios"]["worst"]["hit_share_gap_points"] < 50


def test_faults(bench: Any) -> None:
    result = bench("faults")
    figures = result["figures"]
    assert figures["scenarios"] == figures["conserved"] == 3
    for row in figures["table"].values():
        counts = [int(part.split()[0]) for part in row["outcomes"].split(", ")]
        assert sum(counts) == row["captured"] > 30
    cut = figures["table"]["link cut for 3 s (virtual)"]
    assert cut["first_2_s"] <= cut["before"] == pytest.approx(cut["after"], rel=0.05)
    assert result["ratios"]["worst"] >= 0.95


def test_faults_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "faults", "--option", "only=no such thing"]) == 3
    assert "none of the" in capsys.readouterr().err


def test_report(bench: Any) -> None:
    result = bench("report", frames=2_000, formats="md")
    figures = result["figures"]
    # The benchmark itself refuses a report that miscounts or leaves something out.
    assert figures["frames"] == 2_000
    assert figures["log_bytes"] > 2_000 * 300
    assert figures["md"]["wall_s"]["median"] > 0
    assert figures["md"]["peak_mb"]["median"] > 20
    assert figures["md"]["report_bytes"]["min"] > 1_000
