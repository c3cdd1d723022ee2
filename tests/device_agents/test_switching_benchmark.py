"""The benchmark of width switching runs on a bundle and on its own encoders, and its figures make sense."""

import importlib.util
from pathlib import Path

import pytest

import isthmus

FILE = Path(isthmus.__file__).resolve().parents[1] / "benchmarks" / "switching.py"


@pytest.fixture(scope="module")
def switching():
    if not FILE.exists():
        pytest.skip("benchmarks/ is part of the source checkout only")
    spec = importlib.util.spec_from_file_location("switching_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_warm_switch_is_cheaper_than_loading_a_session(switching, tiny_bundle):
    result = switching.run(quick=True, bundle=str(tiny_bundle))
    widths = result["ratios"]["tiny"]
    assert list(widths) == ["width_0.25", "width_0.5", "width_0.75", "width_1"]
    for name, ratios in widths.items():
        assert ratios["reload_over_switch"]["median"] > 2
        figures = result["figures"]["tiny"][name]
        assert 0 < figures["stay_s"]["median"] < figures["reload_s"]["median"]


def test_its_own_encoders_are_encoders(switching):
    with switching._synthetic("synthetic_32") as bundle:
        figures, _ = switching._measure(bundle, threads=1, rounds=3)
    sizes = [entry["file_bytes"] for entry in figures.values()]
    assert sizes == sorted(sizes)
    assert sizes[0] * 8 < sizes[-1]
