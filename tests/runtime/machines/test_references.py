"""The shipped profiles are what their script derives from the measured table."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from isthmus.runtime.machines import load_machine, reference_machines

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "reference_machines", ROOT / "scripts" / "reference_machines.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up while the file runs.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.data
def test_references_are_derived_from_the_table(script: ModuleType) -> None:
    folder = Path(os.environ.get("ISTHMUS_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / script.TABLE).is_file():
        pytest.skip(f"{folder / script.TABLE} is not there")
    derived = script.derive()
    assert set(derived) == set(reference_machines())
    for name, profile in derived.items():
        shipped = load_machine(name)
        # The last digits belong to the linear algebra of the machine that derives.
        for one, other in zip(profile.operators, shipped.operators, strict=True):
            for field in ("flops_per_s", "bytes_per_s", "overhead_s"):
                assert (getattr(one, field) or 0) == pytest.approx(getattr(other, field) or 0, rel=2e-3)
        bare = {"operators": ()}
        assert msgspec.structs.replace(profile, **bare) == msgspec.structs.replace(shipped, **bare)


def test_layers_of_published_networks(script: ModuleType) -> None:
    """Multiply-adds as published: VGG-16 15.5 G, ResNet-50 3.9 G, MobileNet 569 M, DenseNet-121 2.9 G."""
    published = {"vgg16": 15.5e9, "resnet50": 3.86e9, "mobilenet": 569e6, "mobilenetv2": 300e6,
                 "densenet121": 2.85e9}  # fmt: skip
    for name, multiply_adds in published.items():
        products = ("conv", "depthwise", "matmul")
        flops = sum(layer.flops for layer in script.NETWORKS[name]() if layer.operator in products)
        assert flops / 2 == pytest.approx(multiply_adds, rel=0.03), name
