"""The shipped profiles are what their script derives from the measured table."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from isthmus.runtime.machines import MachineProfile, load_machine, reference_machines

ROOT = Path(__file__).resolve().parents[3]


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up while the file runs.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return _load("reference_machines")


@pytest.fixture(scope="module")
def published() -> ModuleType:
    return _load("published_machines")


def _same(derived: MachineProfile, shipped: MachineProfile) -> None:
    # The last digits belong to the linear algebra of the machine that derives.
    for one, other in zip(derived.operators, shipped.operators, strict=True):
        for field in ("flops_per_s", "bytes_per_s", "overhead_s"):
            assert (getattr(one, field) or 0) == pytest.approx(getattr(other, field) or 0, rel=2e-3)
    bare = {"operators": ()}
    assert msgspec.structs.replace(derived, **bare) == msgspec.structs.replace(shipped, **bare)


@pytest.mark.data
def test_references_are_derived_from_the_table(script: ModuleType) -> None:
    folder = Path(os.environ.get("ISTHMUS_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / script.TABLE).is_file():
        pytest.skip(f"{folder / script.TABLE} is not there")
    derived = script.derive()
    for name, profile in derived.items():
        _same(profile, load_machine(name))


def test_references_of_whole_networks_are_derived_again(published: ModuleType) -> None:
    derived = published.derive()
    scission = {"pi4", "edge-2500", "cloud-6700k"}
    assert set(derived) | scission == set(reference_machines())
    for name, profile in derived.items():
        _same(profile, load_machine(name))


@pytest.mark.parametrize(
    ("machine", "network", "published_ms", "within"),
    [
        # Not fitted: what a profile says of networks that it has not seen.
        ("jetson-nano", "resnet34", 19.52, 0.05),
        ("orin-nano", "resnet34", 3.484, 0.15),
        ("laptop", "resnet18", 16.99, 0.25),
        ("server-gpu", "resnet18", 2.24, 0.3),
    ],
)
def test_networks_that_were_not_fitted(
    published: ModuleType, machine: str, network: str, published_ms: float, within: float
) -> None:
    profile = load_machine(machine)
    seconds = 0.0
    for layer in published.WHOLE[network]():
        if layer.operator is not None:
            speed = profile.speed(layer.operator)
            assert speed is not None
            seconds += speed.seconds(layer.flops, layer.nbytes)
    assert seconds * 1e3 == pytest.approx(published_ms, rel=within)


def test_operations_of_networks_of_the_other_tables(published: ModuleType) -> None:
    """Multiply-adds as published: ResNet-18 1.82 G, ResNet-34 3.67 G, MobileNetV3-Large 219 M."""
    for name, multiply_adds in {"resnet18": 1.82e9, "resnet34": 3.67e9, "mobilenetv3-large": 219e6}.items():
        products = ("conv", "depthwise", "matmul")
        flops = sum(layer.flops for layer in published.WHOLE[name]() if layer.operator in products)
        assert flops / 2 == pytest.approx(multiply_adds, rel=0.03), name


def test_layers_of_published_networks(script: ModuleType) -> None:
    """Multiply-adds as published: VGG-16 15.5 G, ResNet-50 3.9 G, MobileNet 569 M, DenseNet-121 2.9 G."""
    published = {"vgg16": 15.5e9, "resnet50": 3.86e9, "mobilenet": 569e6, "mobilenetv2": 300e6,
                 "densenet121": 2.85e9}  # fmt: skip
    for name, multiply_adds in published.items():
        products = ("conv", "depthwise", "matmul")
        flops = sum(layer.flops for layer in script.NETWORKS[name]() if layer.operator in products)
        assert flops / 2 == pytest.approx(multiply_adds, rel=0.03), name
