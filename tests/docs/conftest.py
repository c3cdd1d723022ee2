"""The convention of command blocks in README.md and docs/, and what its tests share.

A block is a fence of the language `bash`, `python` or `toml`. An HTML comment right before it says what its
test needs to know; directives are separated by semicolons:

    <!-- test: given bundle, photos -->     files that the page's folder has from here on: see `givens`
    <!-- test: exit 7 -->                   exit code of the block's last command (0 unless said)
    <!-- test: background -->               services: started, awaited until ready, stopped with the page
    <!-- test: file agent.toml -->          the block's text becomes this file
    <!-- test: slow: REASON -->             run by scripts/test-slow only
    <!-- test: not run: REASON -->          never run

The blocks of a page run in order, in one temporary folder; ports become free ones. Every `isthmus` command,
run or not, is parsed by the command line itself, so that a verb or flag that is gone fails a fast test.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image


def _sibling(name: str) -> ModuleType:
    """Load a module beside this file: under pytest's importlib mode tests cannot import it by name."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def blocks() -> ModuleType:
    """Return the module `tests/docs/blocks.py`, which reads pages."""
    return _sibling("blocks")


@pytest.fixture(scope="session")
def runner() -> ModuleType:
    """Return the module `tests/docs/runner.py`, which runs their blocks."""
    _sibling("blocks")
    return _sibling("runner")


@pytest.fixture(scope="session")
def givens(
    make_tiny_bundle: Callable[..., Path],
    tiny_bundle_module: ModuleType,
    write_synthetic_run: Callable[..., Any],
) -> dict[str, Callable[[Path], object]]:
    """Return what a page may be given, by name: functions that write it at a path."""

    def images(count: int) -> tuple[Any, Any]:
        return tiny_bundle_module.draw_images(np.random.default_rng(7), count)

    def photos(folder: Path) -> None:
        pictures, labels = images(120)
        for part, chosen in (("train", range(90)), ("test", range(90, 120))):
            for index in chosen:
                file = folder / part / f"class-{labels[index]}" / f"{index}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pictures[index][..., 0], "L").save(file)

    def arrays(file: Path) -> None:
        pictures, labels = images(48)
        np.savez(file, images=pictures, labels=labels)

    return {
        "bundle": lambda folder: make_tiny_bundle(folder),
        "photos": photos,
        "images.npz": arrays,
        "network.onnx": _write_network,
        "my.trace": lambda file: file.write_text("0 1.5\n4 0.2\n6 0\n7 1.5\n10 1.5\n"),
        "run": lambda folder: write_synthetic_run(folder, deadline_s=0.09),
        "logs": lambda folder: write_synthetic_run(folder, deadline_s=0.09),
    }


def _write_network(file: Path) -> None:
    """Write two convolutions on 16×16 grey images, mean, dense."""
    onnx = pytest.importorskip("onnx", reason="needs the extra 'partition'")
    helper, kind, rng = onnx.helper, onnx.TensorProto.FLOAT, np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("w0", (8, 1, 3, 3)), ("w1", (4, 8, 3, 3)), ("fc", (4, 3)))
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["first"], pads=[1] * 4),
        helper.make_node("Relu", ["first"], ["bent"]),
        helper.make_node("Conv", ["bent", "w1"], ["second"], pads=[1] * 4),
        helper.make_node("ReduceMean", ["second"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "fc"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", kind, [1, 1, 16, 16])],
        [helper.make_tensor_value_info("logits", kind, [1, 3])],
        initializer=weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)
