"""Fixtures every room shares. Heavy imports happen on first use: a core install has no onnx."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

# How long a property takes says nothing where the processor is shared; a test that hangs has its time limit.
settings.register_profile("isthmus", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# What scripts/test judges a change by: the same examples every time. Otherwise they are drawn anew.
settings.register_profile("repeatable", settings.get_profile("isthmus"), derandomize=True, database=None)
settings.load_profile("isthmus")


def _sibling(name: str) -> ModuleType:
    """Load a module beside this file: under pytest's importlib mode tests cannot import it by name."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_bundle_module() -> ModuleType:
    """Return the module `tests/tiny_bundle.py`, which makes bundles with onnx."""
    return _sibling("tiny_bundle")


@pytest.fixture(scope="session")
def make_tiny_bundle(tiny_bundle_module: ModuleType) -> Callable[..., Path]:
    """Return `make(root, name="tiny", seed=0)`, which writes a bundle into the new directory `root`."""
    return tiny_bundle_module.make_bundle


@pytest.fixture(scope="session")
def tiny_bundle(make_tiny_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the bundle "tiny". The session shares it: copy it before you alter a file."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="session")
def tiny_images(tiny_bundle_module: ModuleType) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return 48 images uint8 [48,16,16,1] and their labels int64 [48], of the task the tiny bundle solves."""
    return tiny_bundle_module.draw_images(np.random.default_rng(7), 48)


@pytest.fixture(scope="session")
def synthetic_run_module() -> ModuleType:
    """Return the module `tests/synthetic_run.py`, which writes the logs of a made-up run."""
    return _sibling("synthetic_run")


@pytest.fixture(scope="session")
def write_synthetic_run(synthetic_run_module: ModuleType) -> Callable[..., Any]:
    """Return `write_run(folder, **options)`, which writes the folder of a made-up run."""
    return synthetic_run_module.write_run


@pytest.fixture(scope="session")
def synthetic_run(write_synthetic_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a made-up run with an outage: `folder`, `frames`, `outcomes`. The session shares it."""
    return write_synthetic_run(tmp_path_factory.mktemp("synthetic") / "run", deadline_s=0.09)


@pytest.fixture(scope="session")
def scripted_server_module() -> ModuleType:
    """Return the module `tests/scripted_server.py`: a server that answers as it is told."""
    return _sibling("scripted_server")


@pytest.fixture(scope="session")
def pki_module() -> ModuleType:
    """Return the module `tests/pki.py`; skips where the extra `certs` is not installed."""
    pytest.importorskip("cryptography", reason="needs the extra 'certs'")
    return _sibling("pki")


@pytest.fixture
def pki(pki_module: ModuleType, tmp_path: Path) -> Any:
    """Return a private authority of this test alone."""
    return pki_module.Pki(tmp_path / "pki")
