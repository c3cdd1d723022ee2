"""Write a bundle's tail for the torch backend: operators of ATen as data (see `runtime.bundle.aten_graph`).

Decides how an exported program becomes that data. A program that needs more than operators and tensors is not
written: ONNX Runtime computes such a tail.
"""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export.graph_signature import InputKind

from isthmus.runtime.bundle.aten_graph import PYTHON, TEXTS, build, pack
from isthmus.runtime.errors import GateError, InputError

_TOLERANCE = 1e-4


def write_tail(module: nn.Module, example: Tensor, path: Path) -> None:
    """Write `module`, which takes uint8 [n, C, H, W] and returns logits [n, classes], and compare it.

    Args:
        module: In evaluation mode, on the CPU.
        example: An input uint8 [n, C, H, W] of real latents.
        path: The file.

    Raises:
        InputError: If the module cannot be written as operators and tensors.
        GateError: If what was written computes something else.
    """
    batch = torch.cat([example[:1], example[:1]])
    name = type(module).__name__
    try:
        with torch.no_grad():
            program = torch.export.export(module, (batch,), dynamic_shapes=({0: torch.export.Dim("n")},))
        data = _Writer(program).data()
    except Exception as error:  # a user's module: whatever the exporter raises is about that module
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{name} cannot be exported for the torch backend ({reason})") from None
    _compare(module, build(data, where=str(path), device="cpu"), example, path)
    path.write_bytes(data)


def _compare(module: nn.Module, built: Any, example: Tensor, path: Path) -> None:
    with torch.no_grad():
        for count in sorted({1, len(example)}):
            expected, found = module(example[:count]), built(example[:count])
            span = float(expected.max() - expected.min()) or 1.0
            error = float((expected - found).abs().max()) / span
            if not error <= _TOLERANCE:
                raise GateError(
                    f"{path}: differs from torch by {error:.2g} of its range on a batch of {count}; "
                    "the export went wrong, report this"
                )


class _Writer:
    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self._program = program
        self._nodes: list[list[Any]] = []
        self._tensors: list[NDArray[Any]] = []
        self._index: dict[Any, dict[str, int]] = {}

    def data(self) -> bytes:
        """Return the file."""
        kinds = {spec.arg.name: spec for spec in self._program.graph_signature.input_specs}
        output = -1
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                self._index[node] = self._placeholder(kinds[node.name])
            elif node.op == "call_function":
                if not node.users:  # assertions about shapes
                    continue
                self._index[node] = {"node": len(self._nodes)}
                arguments = [self._value(value) for value in node.args]
                keywords = {key: self._value(value) for key, value in node.kwargs.items()}
                self._nodes.append([_name(node.target), arguments, keywords])
            elif node.op == "output":
                (results,) = node.args
                output = self._index[results[0]]["node"]
            else:
                raise ValueError(f"{node.op} {node.target}")
        return pack(self._nodes, output, self._tensors)

    def _placeholder(self, spec: Any) -> dict[str, int]:
        if spec.kind is InputKind.USER_INPUT:
            return {"node": -1}
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target in self._program.state_dict:
            value = self._program.state_dict[spec.target]
        else:
            value = self._program.constants[spec.target]
        self._tensors.append(np.asarray(value.detach().cpu().numpy()))
        return {"tensor": len(self._tensors) - 1}

    def _value(self, value: Any) -> Any:
        if isinstance(value, torch.fx.Node):
            return self._index[value]
        if isinstance(value, list | tuple):
            return [self._value(item) for item in value]
        for kind in (torch.dtype, torch.memory_format, torch.layout):
            if isinstance(value, kind):
                return {kind.__name__: str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"device": "run"}
        if value is None or isinstance(value, bool | int | float) or value in TEXTS:
            return value
        raise ValueError(f"argument {value!r}")


def _name(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload) and target.namespace == "aten":
        return str(target)
    name = getattr(target, "__name__", "")
    if name in PYTHON and getattr(operator, name) is target:
        return f"python.{name}"
    raise ValueError(f"operator {target}")
