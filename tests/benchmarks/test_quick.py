"""Every benchmark runs, quickly, and its figures are what its docstring says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.cli import run


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


def _networks(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for value in result["figures"].values() if isinstance(value, dict)]


def test_accuracy(bench: Any, tiny_bundle: Path, image_file: str) -> None:
    figures = bench("accuracy", bundle=tiny_bundle, dataset=image_file)["figures"]
    assert figures["images"] == 48
    widest = figures["points"]["width 1, 4 channels"]
    assert widest["accuracy_low"] < widest["accuracy"] <= widest["accuracy_high"]
    assert widest["accuracy"] > 0.5


@pytest.mark.parametrize("arguments", [["accuracy"], ["codec", "--option", "bundle=x"]])
def test_options_that_belong_together(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", *arguments, "--quick"]) == 3
    assert "--option bundle=DIR" in capsys.readouterr().err
