"""Bring a teacher to the partitioner as ONNX, and bring the partitioner's answer back to torch.

The partitioner knows tensors of an ONNX graph, training knows modules; the exporter renames everything in
between. What both have in common is the numbers, so tensors and modules are matched by running both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.models.onnx_export import export_module
from isthmus.runtime.errors import InputError

INPUT, OUTPUT = "image", "logits"
_SEED = 20240229
# Two engines add in different orders; relative to the largest value of the tensor.
_TOLERANCE = 1e-3


def export_onnx(module: nn.Module, example_nchw: Tensor, path: str | os.PathLike[str]) -> None:
    """Write the uncut network `module` (float32 [n, c, h, w] → logits) as ONNX with a dynamic batch.

    Raises:
        InputError: If the module cannot be exported or the file cannot be written.
    """
    was_training = module.training
    module.eval()
    try:
        export_module(module, example_nchw, path, input_name=INPUT, output_name=OUTPUT)
    finally:
        module.train(was_training)


def match_cuts(
    module: nn.Module, onnx_path: str | os.PathLike[str], tensor_names: Sequence[str]
) -> dict[str, str]:
    """Return, for tensors of the ONNX graph of `module`, the path of the torch module that outputs the same.

    Both run on one random image. Several modules may output the same tensor (a ReLU, the block and the stage
    that it ends): the one that finishes last is returned, the outermost. Left out are tensors that no module
    outputs (a sum inside a forward) or whose values do not vary, modules that only pass their input on
    (an identity, a dropout), and modules that run more than once and thus name no single tensor.

    Raises:
        InputError: If the file is no ONNX graph of this module or has no tensor of a given name.
    """
    shape, outputs = _run_onnx(Path(onnx_path), tensor_names)
    captured = _run_torch(module, shape)
    matches: dict[str, str] = {}
    for name, expected in outputs.items():
        if np.ptp(expected) == 0:
            continue
        for path, value in captured:
            if value.shape == expected.shape and _equal(value, expected):
                matches[name] = path
    return matches


def _equal(value: NDArray[Any], expected: NDArray[Any]) -> bool:
    scale = max(float(np.abs(expected).max()), 1e-12)
    return bool(np.abs(value - expected).max() <= _TOLERANCE * scale)


def _random_image(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(_SEED).standard_normal(shape).astype(np.float32)


def _run_onnx(path: Path, names: Sequence[str]) -> tuple[tuple[int, ...], dict[str, NDArray[Any]]]:
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own errors share no base class with OSError
        raise InputError(f"{path}: not an ONNX file ({error}); export the model again") from None
    (graph_input,) = model.graph.input
    dims = graph_input.type.tensor_type.shape.dim
    shape = (1, *(dim.dim_value for dim in dims[1:]))
    known = {name for node in model.graph.node for name in node.output}
    present = {value.name for value in model.graph.output}
    for name in names:
        if name not in known:
            raise InputError(f"{path}: has no tensor {name!r}; take a name from the plan of this very file")
        if name not in present:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
            present.add(name)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = session.run(list(names), {graph_input.name: _random_image(shape)}) if names else []
    return shape, {name: np.asarray(value) for name, value in zip(names, values, strict=True)}


def _run_torch(module: nn.Module, shape: tuple[int, ...]) -> list[tuple[str, NDArray[Any]]]:
    """Return (path, output) of every module that ran exactly once, in the order in which they finished."""
    was_training = module.training
    module.eval()
    try:
        with _captured_outputs(module) as captured, torch.no_grad():
            module(torch.from_numpy(_random_image(shape)))
    except (RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{type(module).__name__} does not take images of {shape}: {reason}") from None
    finally:
        module.train(was_training)
    paths = [path for path, _ in captured]
    return [(path, value) for path, value in captured if paths.count(path) == 1]


def _passes_through(inputs: Any, output: Tensor) -> bool:
    # An identity shortcut outputs what the block before it made, on a branch where nothing can be cut.
    return any(
        isinstance(given, Tensor) and given.shape == output.shape and torch.equal(given, output)
        for given in inputs
    )


@contextmanager
def _captured_outputs(module: nn.Module) -> Iterator[list[tuple[str, NDArray[Any]]]]:
    captured: list[tuple[str, NDArray[Any]]] = []

    def remember(path: str) -> Any:
        def hook(_module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not _passes_through(inputs, output):
                # A copy: an in-place ReLU may overwrite the output of the module before it.
                captured.append((path, output.detach().clone().numpy()))

        return hook

    handles = [part.register_forward_hook(remember(path)) for path, part in module.named_modules() if path]
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()
