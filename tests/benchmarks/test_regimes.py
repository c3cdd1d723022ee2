"""The regimes benchmark runs, and its winners and gains are what its grids say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from isthmus.cli import run
from isthmus.cli.bench import benchmark_folder, load_benchmark


@pytest.fixture(scope="module")
def regimes() -> ModuleType:
    load_benchmark(benchmark_folder(), "regimes")
    return sys.modules["isthmus_benchmark_regimes"]


def test_a_quick_run(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    options = [f"folder={tmp_path}", f"plots={tmp_path}", "budget_s=0.3"]
    given = [part for option in options for part in ("--option", option)]
    assert run(["bench", "regimes", "--quick", *given, "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    (name,) = result["figures"]
    figures, ratios = result["figures"][name], result["ratios"][name]
    assert sum(figures["share_won"].values()) == pytest.approx(1)
    rows = figures["grid"]["winner_by_device_speed"]
    letters = "".join(rows.values())
    assert len(rows) == 3
    assert len(letters) == 12
    assert figures["share_won"]["local"] == pytest.approx(letters.count("L") / 12)
    for gains in ratios["gains"].values():
        assert gains["over_the_next_best"]["min"] >= 1
    base = ratios["sensitivity"]["as assumed"]
    assert base["bottleneck_share"] == pytest.approx(letters.count("B") / 12)
    # Fewer bytes never win less often.
    assert (
        ratios["sensitivity"]["payload at most 1/96 of raw"]["bottleneck_share"] >= base["bottleneck_share"]
    )
    assert (tmp_path / f"regimes-{name}.png").read_bytes().startswith(b"\x89PNG")


def test_winners_and_gains_follow_from_the_grids(regimes: ModuleType) -> None:
    grids = {
        "local": np.array([[4.0, 1.0]]),
        "offload": np.array([[6.0, 2.0]]),
        "split": np.array([[5.0, 9.0]]),
        "bottleneck": np.array([[2.0, 1.5]]),
    }
    assert regimes._winners(grids)["share_won"] == {"local": 0.5, "offload": 0, "split": 0, "bottleneck": 0.5}
    gains = regimes._gains(grids)
    assert set(gains) == {"local", "bottleneck"}
    assert gains["bottleneck"]["over_the_better_endpoint"]["max"] == 2.0
    assert gains["local"]["over_the_next_best"]["max"] == 1.5
    printed = regimes._printed(grids, np.array([0.1, 100.0]), np.array([0.5]))
    assert printed["winner_by_device_speed"] == {"0.5": "BL"}
